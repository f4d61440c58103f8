//! `weir rules apply`: the difference, and the change.

use serde_json::json;

use crate::{Serving, file, run};

const RULES: &str = r#"
[[rule]]
pattern = "a"
concurrency = 2

[[rule]]
pattern = "pool/*"
rates = ["3/1m"]
total = true
max-pushback = "30s"
shadow-limits = { concurrency = 1 }
"#;

/// A server with the rules `a` and `old`, and a file.
fn scene() -> (Serving, tempfile::TempDir, String) {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "a", "--concurrency", "1", "--max-wait", "5s"]).ok();
    serving.run(&["rules", "set", "old", "--concurrency", "9"]).ok();
    let folder = tempfile::tempdir().unwrap();
    let rules = file(folder.path(), "rules.toml", RULES);
    (serving, folder, rules)
}

#[test]
fn without_yes_it_only_shows_the_difference() {
    let (serving, _folder, rules) = scene();
    let before = serving.run(&["rules", "list", "--json"]).ok();
    let shown = serving.run(&["rules", "apply", &rules]);
    for part in ["kept without --prune: old", "2 differences from book version 2", "nothing was changed: --yes"] {
        assert!(shown.err.contains(part), "`{part}` is missing in:\n{}", shown.err);
    }
    let same = "~ a: concurrency 1 -> 2, max-wait 5s -> -\n";
    let pool = "+ pool/*: concurrency unlimited, rates 3/1m, max-pushback 30s, shadow (concurrency 1), total\n";
    assert_eq!(shown.ok(), format!("{same}{pool}"));
    let pruned = serving.run(&["rules", "apply", &rules, "--prune", "--dry-run"]).ok();
    assert_eq!(pruned, format!("{same}- old: concurrency 9\n{pool}"));
    assert_eq!(serving.run(&["rules", "apply", &rules, "--exit-code"]).code, Some(3));
    let coded = serving.run(&["rules", "apply", &rules, "--dry-run", "--exit-code"]);
    assert_eq!((coded.code, coded.err.contains("error")), (Some(3), false), "{coded:?}");
    let json = serving.run(&["rules", "apply", &rules, "--json"]).json();
    assert_eq!((&json["applied"], &json["kept"]), (&json!(false), &json!(["old"])));
    assert_eq!(json["differences"][0]["kind"], "changed");
    assert_eq!(json["differences"][0]["before"]["concurrency"], 1);
    assert_eq!(json["differences"][0]["after"]["concurrency"], 2);
    assert_eq!(serving.run(&["rules", "list", "--json"]).ok(), before);
}

#[test]
fn yes_applies_all_of_it_and_a_second_time_nothing() {
    let (serving, _folder, rules) = scene();
    let applied = serving.run(&["rules", "apply", &rules, "--yes", "--prune"]);
    assert!(applied.err.contains("applied 3 differences: the book has version 3"), "{applied:?}");
    assert_eq!(applied.ok().lines().count(), 3);
    let list = serving.run(&["rules", "list", "--json"]).json();
    let patterns: Vec<_> = list["rules"].as_array().unwrap().iter().map(|rule| rule["pattern"].clone()).collect();
    assert_eq!(patterns, ["a", "pool/*"]);
    let again = serving.run(&["rules", "apply", &rules, "--yes", "--prune"]);
    assert!(again.err.contains("no differences: the book stays at version 3"), "{again:?}");
    assert_eq!(again.ok(), "");
    assert_eq!(serving.run(&["rules", "apply", &rules, "--dry-run", "--exit-code"]).code, Some(0));
}

#[test]
fn what_was_shown_is_applied_or_nothing_is() {
    let (serving, _folder, rules) = scene();
    let version = serving.run(&["rules", "apply", &rules, "--json"]).json()["book-version"].to_string();
    serving.run(&["rules", "set", "new", "--concurrency", "1"]).ok();
    let before = serving.run(&["rules", "list", "--json"]).ok();
    for how in ["--yes", "--dry-run"] {
        serving
            .run(&["rules", "apply", &rules, "--prune", how, "--if-book-version", &version])
            .fails(1, &["the rule book has version 3, not 2", "nothing was changed"]);
    }
    assert_eq!(serving.run(&["rules", "list", "--json"]).ok(), before);
    serving.run(&["rules", "apply", &rules, "--yes", "--if-book-version", "3"]).ok();
}

#[test]
fn a_whole_configuration_will_do() {
    let (serving, folder, _rules) = scene();
    let config =
        "[server]\nworkers = 1\n[[component]]\nname = \"a\"\npath = \"none.wasm\"\n[[rule]]\npattern = \"c\"\n";
    let config = file(folder.path(), "weir.toml", config);
    assert_eq!(serving.run(&["rules", "apply", &config]).ok(), "+ c: concurrency unlimited\n");
}

#[test]
fn a_bad_file_says_where_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("[[rule]]\npattern = \"a b\"\n", &["rules.toml:2:11: ", "0x20"][..]),
        ("[[rule]]\n", &["rules.toml:1:1: ", "missing field `pattern`"]),
        ("[[rules]]\npattern = \"a\"\n", &["rules.toml:1:3: ", "unknown field `rules`"]),
        ("[[rule]]\npattern = \"a\"\ntotal = true\n", &["rules.toml:3:9: ", "patterns with `*`"]),
        (
            "[[rule]]\npattern = \"a\"\nshadow-limits = { rates = [\"0/1m\"] }\n",
            &["rules.toml:3:", "`0` is not a number"],
        ),
        ("[[rule]]\npattern = \"a\"\nmax-pushback = \"2days\"\n", &["rules.toml:3:16: ", "at most 1day"]),
        ("[[rule]]\npattern = \"a\"\n[[rule]]\npattern = \"a\"\n", &["rules.toml:4:11: ", "another rule for `a`"]),
        ("rule = 3", &["rules.toml:1:8: "]),
        ("[rule]\npattern = \"a\"\n", &["rules.toml:1:2: ", "write [[rule]]"]),
        ("# nothing\n", &["no [[rule]]", "--prune would delete every rule"]),
    ] {
        let rules = file(folder.path(), "rules.toml", text);
        run(&["rules", "apply", &rules, "--prune", "--admin", "http://127.0.0.1:1"]).fails(2, parts);
    }
    let bytes = file(folder.path(), "bin.toml", b"a = 1\n\xff");
    run(&["rules", "apply", &bytes]).fails(2, &["bin.toml:2:1: it is not UTF-8 text: it has the byte 0xff"]);
    run(&["rules", "apply", "none.toml"]).fails(2, &["none.toml: cannot read the rules", "No such file"]);
}
