//! `weir demo`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;

use crate::{run, signal, weir};

#[test]
fn the_demo_shows_waiting_and_refusals_and_ends_with_a_summary() {
    let run = run(&["demo", "--seconds", "3"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.err.contains("curl -i"), "{}", run.err);
    let summary = run.out.split("summary\n").nth(1).expect("a summary");
    for scope in ["acme", "globex", "initech", "umbrella/ann", "umbrella/bob", "provider/large"] {
        assert!(summary.lines().any(|line| line.starts_with(scope)), "{scope} is missing in:\n{summary}");
    }
    assert!(summary.trim_end().ends_with(", 0 failed"), "{summary}");
}

#[test]
fn the_summary_is_json_too() {
    let summary = run(&["demo", "--seconds", "2", "--json"]).json();
    let counters = summary["counters"].as_array().unwrap();
    let of = |name: &str| {
        counters.iter().find(|counter| counter["counter"] == name).unwrap_or_else(|| panic!("no {name}: {summary}"))
    };
    assert!(of("acme")["granted"].as_u64().unwrap() > 0);
    assert!(of("initech")["refused"].as_u64().unwrap() > 0);
    assert!(of("provider/large")["granted"].as_u64().unwrap() > 0);
}

#[test]
fn a_signal_ends_the_demo_with_its_summary() {
    let mut child = weir(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // The first table is there: it runs.
    assert!(lines.next().expect("a line").expect("text").starts_with("SCOPE"));
    signal(child.id(), Signal::INT);
    assert!(lines.any(|line| line.expect("text") == "summary"));
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}
