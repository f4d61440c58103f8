//! `weir counters pause|resume|pin|unpin|reset|drain`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{HANG, Serving};

/// Waits until a counter shows so many held and waiting.
pub(crate) fn shows(serving: &Serving, counter: &str, held: u64, waiting: u64) {
    let began = Instant::now();
    loop {
        let all = serving.run(&["counters", counter, "--json"]).json();
        let found = all["counters"].as_array().unwrap().iter().find(|found| found["counter"] == counter).cloned();
        let found = found.unwrap_or(Value::Null);
        if found["calls"] == held && found["waiting"] == waiting {
            return;
        }
        assert!(began.elapsed() < HANG, "never {held} held and {waiting} waiting: {found}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn pause_holds_a_call_and_resume_lets_it_go() {
    let serving = Serving::demo();
    let paused = serving.run(&["counters", "pause", "s"]);
    assert!(paused.err.contains("no request has come to s lately"), "{paused:?}");
    assert_eq!(paused.ok(), "paused s: 0 held, 0 waiting\n");
    thread::scope(|scope| {
        let call = scope.spawn(|| serving.get("/weir/scope/s/call/weir_demo/work?ms=1"));
        shows(&serving, "s", 0, 1);
        let table = serving.run(&["counters", "s"]).ok();
        assert!(table.lines().next().is_some_and(|line| line.ends_with("STATE")), "{table}");
        assert!(table.trim_end().ends_with("paused"), "{table}");
        assert_eq!(serving.run(&["counters", "resume", "s", "--json"]).json()["paused"], false);
        assert_eq!(call.join().unwrap().0, 200);
    });
}

#[test]
fn pin_replaces_the_numbers_and_unpin_gives_them_back() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "s", "--rate", "1/1h", "--max-wait", "0s"]).ok();
    let call = || serving.get("/weir/scope/s/call/weir_demo/work?ms=1").0;
    assert_eq!((call(), call()), (200, 429));
    let pin = ["counters", "pin", "s", "--concurrency", "1", "--rate", "2/1h", "--max-wait", "0s"];
    assert_eq!(
        serving.run(&pin).ok(),
        "pinned s: 0/1 held, 0 waiting, pinned to concurrency 1, rates 2/1h, max-wait 0s\n"
    );
    assert_eq!((call(), call()), (200, 429));
    assert!(serving.run(&["counters"]).ok().contains("(pinned)"));
    assert_eq!(serving.run(&["counters", "unpin", "s"]).ok(), "unpinned s: 0 held, 0 waiting\n");
    assert_eq!(call(), 429);
    assert_eq!(serving.run(&["counters", "reset", "s"]).ok(), "reset s: 0 held, 0 waiting\n");
    assert_eq!((call(), call()), (200, 429));
}

#[test]
fn drain_waits_until_all_have_gone_or_its_time_is_over() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "s", "--concurrency", "1", "--max-wait", "0s"]).ok();
    thread::scope(|scope| {
        let call = scope.spawn(|| serving.get("/weir/scope/s/call/weir_demo/work?ms=5000"));
        shows(&serving, "s", 1, 0);
        assert_eq!(serving.run(&["counters", "drain", "s"]).ok(), "draining s: 1/1 held, 0 waiting\n");
        serving.run(&["counters", "drain", "s", "--wait", "--timeout", "1ms"]).fails(
            1,
            &["s: 1/1 held, 0 waiting\n", "s is not drained after 1ms", "the drain goes on", "weir counters resume s"],
        );
        let drained = serving.run(&["counters", "drain", "s", "--wait", "--timeout", "1m"]);
        assert!(drained.err.starts_with("s: 1/1 held, 0 waiting\n"), "{drained:?}");
        assert_eq!(drained.ok(), "drained s: 0/1 held, 0 waiting\n");
        assert_eq!(call.join().unwrap().0, 200);
    });
    assert_eq!(serving.get("/weir/scope/s/call/weir_demo/work?ms=1").0, 503);
    assert_eq!(serving.run(&["counters", "drain", "s", "--wait", "--json"]).json()["drained"], true);
    serving.run(&["counters", "resume", "s"]).ok();
    assert_eq!(serving.get("/weir/scope/s/call/weir_demo/work?ms=1").0, 200);
}

#[test]
fn a_pool_counts_all_that_match_and_shadow_limits_refuse_nothing() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "*", "--total", "--rate", "2/1h", "--max-wait", "0s"]).ok();
    serving.run(&["rules", "set", "a", "--shadow-rate", "1/1h"]).ok();
    let call = |scope: &str| serving.get(&format!("/weir/scope/{scope}/call/weir_demo/work?ms=1")).0;
    assert_eq!((call("a"), call("a"), call("b")), (200, 200, 429));
    let all = serving.run(&["counters", "--json"]).json();
    let find = |name: &str| all["counters"].as_array().unwrap().iter().find(|found| found["counter"] == name).cloned();
    let (pool, a) = (find("*").unwrap(), find("a").unwrap());
    assert_eq!((&pool["kind"], &pool["rates"][0]["used"]), (&json!("pool"), &json!(2)));
    assert_eq!(a["shadow"]["would-refuse"], 1);
    assert!(serving.run(&["counters", "a"]).ok().contains("1 would be refused"));
    assert_eq!(serving.run(&["counters", "reset", "*"]).ok(), "reset *: 0 held, 0 waiting\n");
    assert_eq!(call("b"), 200);
    serving.run(&["counters", "pause", "nowhere/*"]).fails(1, &["no pool `nowhere/*`", "weir rules list"]);
    serving.run(&["rules", "set", "idle/*", "--total", "--concurrency", "1"]).ok();
    for verb in ["resume", "unpin"] {
        serving.run(&["counters", verb, "idle/*"]).fails(1, &["the pool `idle/*` is idle: nothing is held"]);
    }
    serving.run(&["counters", "resume", "nowhere"]).fails(1, &["no counter `nowhere`", "weir counters"]);
}
