//! `weir rules`.

use crate::Serving;

#[test]
fn set_creates_changes_and_keeps_what_it_does_not_name() {
    let serving = Serving::demo();
    let set = |arguments: &[&str]| serving.run(&[&["rules", "set", "tenant/*"], arguments].concat()).ok();
    assert_eq!(
        set(&["--concurrency", "5", "--rate", "3/1m", "--rate", "100/1m:cost", "--description", "each tenant"]),
        "created tenant/*: concurrency 5, rates 3/1m 100/1m:cost\n"
    );
    assert_eq!(set(&["--concurrency", "5"]), "unchanged tenant/*: concurrency 5, rates 3/1m 100/1m:cost\n");
    assert_eq!(
        set(&["--max-wait", "30s", "--max-waiters", "9"]),
        "changed tenant/*: concurrency 5, rates 3/1m 100/1m:cost, max-waiters 9, max-wait 30s\n"
    );
    assert_eq!(
        set(&["--unlimited", "--no-rates"]),
        "changed tenant/*: concurrency unlimited, max-waiters 9, max-wait 30s\n"
    );
    let rule = serving.run(&["rules", "set", "tenant/*", "--rate", "5/1s:smooth:burst=2", "--json"]).json();
    assert_eq!(rule["outcome"], "changed");
    assert_eq!(rule["rule"]["description"], "each tenant");
    assert_eq!(rule["rule"]["rates"], serde_json::json!(["5/1s:smooth:burst=2"]));
}

#[test]
fn set_knows_pools_shadow_limits_and_pushbacks() {
    let serving = Serving::demo();
    let set = |arguments: &[&str]| serving.run(&[&["rules", "set", "t/*"], arguments].concat()).ok();
    assert_eq!(
        set(&["--total", "--shadow-concurrency", "2", "--shadow-rate", "3/1m", "--max-pushback", "30s"]),
        "created t/*: concurrency unlimited, max-pushback 30s, shadow (concurrency 2, rates 3/1m), total\n"
    );
    let list = serving.run(&["rules", "list"]).ok();
    assert!(list.contains("30s           concurrency 2, rates 3/1m  total  enabled"), "{list}");
    // The shadow options replace all shadow limits, and nothing else.
    assert_eq!(
        set(&["--shadow-concurrency", "1"]),
        "changed t/*: concurrency unlimited, max-pushback 30s, shadow (concurrency 1), total\n"
    );
    assert_eq!(set(&["--no-shadow", "--no-total"]), "changed t/*: concurrency unlimited, max-pushback 30s\n");
    serving.run(&["rules", "set", "t", "--total"]).fails(2, &["patterns with `*`"]);
}

#[test]
fn set_says_that_a_pool_takes_the_place_of_a_rule_for_each() {
    let serving = Serving::demo();
    let set = |arguments: &[&str]| {
        let set = serving.run(&[&["rules", "set", "t/*"], arguments].concat());
        assert_eq!(set.code, Some(0), "{set:?}");
        set.err
    };
    assert_eq!(set(&["--concurrency", "5"]), "");
    let note = "note: a pattern has one rule: the limits of t/* were for ";
    assert_eq!(
        set(&["--total", "--concurrency", "50"]),
        format!("{note}each that matches, and are for all together now\n")
    );
    assert_eq!(set(&["--total"]), "");
    assert_eq!(set(&["--no-total"]), format!("{note}all that match together, and are for each now\n"));
    assert_eq!(serving.run(&["rules", "set", "u/*", "--total", "--concurrency", "1"]).err, "");
}

#[test]
fn list_shows_the_rules_sorted() {
    let serving = Serving::demo();
    let nothing = serving.run(&["rules", "list"]);
    assert!(nothing.err.contains("no rules"), "{nothing:?}");
    assert_eq!(nothing.ok(), "");
    serving.run(&["rules", "set", "b", "--concurrency", "0", "--description", "closed for now"]).ok();
    serving.run(&["rules", "set", "a", "--rate", "3/1m"]).ok();
    let list = serving.run(&["rules", "list"]).ok();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["PATTERN", "CONCURRENCY", "RATES"]);
    assert_eq!(lines[1], ["a", "unlimited", "3/1m", "-", "-", "-", "-", "-", "enabled"]);
    assert_eq!(lines[2], ["b", "0", "-", "-", "-", "-", "-", "-", "enabled"]);
    assert!(!list.contains("closed for now"));

    assert_eq!(serving.get("/weir/scope/a/call/weir_demo/work?ms=1").0, 200);
    let extra = serving.run(&["rules", "list", "--extra"]).ok();
    for part in ["VERSION", "LAST MODIFIED", "USAGE", "closed for now", "0 held, 0 waiting, 1 counters"] {
        assert!(extra.contains(part), "`{part}` is missing in:\n{extra}");
    }
    let json = serving.run(&["rules", "list", "--extra", "--json"]).json();
    assert_eq!(json["rules"][0]["usage"]["counters"], 1);
    assert_eq!(json["rules"][1]["usage"]["counters"], 0);
}

#[test]
fn disable_keeps_the_rule_and_enable_lets_it_bind_again() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "s", "--concurrency", "0", "--max-wait", "0s"]).ok();
    let call = || serving.get("/weir/scope/s/call/weir_demo/work?ms=1").0;
    assert_eq!(call(), 503);
    assert_eq!(serving.run(&["rules", "disable", "s"]).ok(), "disabled s: concurrency 0, max-wait 0s, disabled\n");
    assert_eq!(call(), 200);
    assert_eq!(serving.run(&["rules", "disable", "s"]).ok(), "unchanged s: concurrency 0, max-wait 0s, disabled\n");
    assert_eq!(serving.run(&["rules", "enable", "s", "--json"]).json()["outcome"], "enabled");
    assert_eq!(call(), 503);
    for verb in ["enable", "disable"] {
        serving.run(&["rules", verb, "nowhere"]).fails(1, &["there is no rule for nowhere", "weir rules list"]);
    }
}

#[test]
fn delete_removes_it_once_and_only_in_its_version() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "a/*", "--concurrency", "1"]).ok();
    serving.run(&["rules", "delete", "a/*", "--if-version", "99999"]).fails(1, &["version", "try again"]);
    assert_eq!(serving.run(&["rules", "delete", "a/*"]).ok(), "deleted a/*\n");
    serving.run(&["rules", "delete", "a/*"]).fails(1, &["a/*", "weir rules list"]);
}
