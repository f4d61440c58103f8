//! `weir counters`.

use crate::Serving;

#[test]
fn counters_show_usage_by_prefix() {
    let serving = Serving::demo();
    let nothing = serving.run(&["counters"]);
    assert!(nothing.err.contains("no counters"), "{nothing:?}");
    assert_eq!(nothing.ok(), "");

    serving.run(&["rules", "set", "*", "--rate", "1/1h", "--max-wait", "0s"]).ok();
    for scope in ["one", "two", "one"] {
        serving.get(&format!("/weir/scope/{scope}/call/weir_demo/work?ms=1"));
    }
    let text = serving.run(&["counters"]).ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["COUNTER", "RULE", "HELD"]);
    assert_eq!(lines[1][..9], ["one", "*", "0", "1", "of", "1/1h", "0", "1", "1"], "{text}");
    let json = serving.run(&["counters", "tw", "--json"]).json();
    assert_eq!(json["counters"].as_array().unwrap().len(), 1);
    assert_eq!((&json["counters"][0]["counter"], &json["counters"][0]["granted"]), (&"two".into(), &1.into()));
    // `list` is no subcommand but a prefix, as good as any.
    for prefix in ["zzz", "list"] {
        let none = serving.run(&["counters", prefix]);
        assert_eq!(none.err, format!("no counter's name begins with `{prefix}`\n"), "others have some: {text}");
        assert_eq!(none.ok(), "");
    }
    let cut = serving.run(&["counters", "--limit", "1"]);
    assert!(cut.err.contains("more than 1"), "{cut:?}");
}
