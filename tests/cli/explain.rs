//! `weir explain`.

use std::thread;

use crate::Serving;
use crate::operate::shows;

#[test]
fn a_page_says_who_binds_what_is_in_the_way_and_when() {
    let serving = Serving::demo();
    let set = |arguments: &[&str]| serving.run(&[&["rules", "set"], arguments].concat()).ok();
    set(&["m/gpt", "--rate", "1/1h", "--shadow-concurrency", "1"]);
    set(&["m/*", "--concurrency", "5"]);
    set(&["*/gpt", "--concurrency", "9"]);
    serving.run(&["rules", "disable", "*/gpt"]).ok();
    set(&["*", "--total", "--concurrency", "50"]);

    let free = serving.run(&["explain", "m/gpt"]).ok();
    assert!(free.starts_with("m/gpt, cost 1, priority 128: would be granted now\nturn       now\n"), "{free}");
    for line in [
        "m",
        "  binds-pool *: concurrency 50, total (all that match together, besides)",
        "  rule       none binds: unlimited",
        "* (pool: all that match)",
        "m/gpt",
        "  binds      m/gpt: concurrency unlimited, rates 1/1h, shadow (concurrency 1)",
        "  outranked  m/*: concurrency 5 (m/gpt is more exact)",
        "  disabled   */gpt: concurrency 9, disabled (`weir rules enable` lets it bind)",
        "  used       0 held, 0 of 1/1h, 0 waiting",
        "  fits       rate 1/1h, 0 used",
    ] {
        assert!(free.lines().any(|found| found == line), "`{line}` is missing in:\n{free}");
    }

    let agent = ureq::Agent::new_with_defaults();
    let call = agent.get(format!("{}/weir/scope/m/call/weir_demo/work?ms=1", serving.ingress));
    assert_eq!(call.header("weir-limit-key", "gpt").call().unwrap().status(), 200);
    let late = serving.run(&["explain", "m/gpt", "--max-wait", "2h"]).ok();
    for part in [
        ": not now (limited)\nturn       59m 5",
        ", if nothing else arrives; nobody waits before it\n",
        "  in the way rate 1/1h, 1 used: earlier starts leave the window in 59m 5",
        "; or raise rule `m/gpt` above 1\n",
        "  shadow     m/gpt would have refused 0\n",
    ] {
        assert!(late.contains(part), "`{part}` is missing in:\n{late}");
    }
    let never = serving.run(&["explain", "m/gpt"]).ok();
    assert!(never.contains("turn       not within its wait"), "{never}");

    let json = serving.run(&["explain", "m/gpt", "--max-wait", "2h", "--priority", "255", "--json"]).json();
    assert_eq!((&json["refusal"]["reason"], &json["forecast"]["estimated"]), (&"limited".into(), &false.into()));
    assert_eq!(json["counters"][2]["rules"][1]["standing"], "outranked");

    serving.run(&["counters", "pin", "m/gpt", "--concurrency", "0"]).ok();
    serving.run(&["counters", "drain", "m/gpt"]).ok();
    let held = serving.run(&["explain", "m/gpt"]).ok();
    for part in [
        "not now (paused)",
        "  pinned     concurrency 0, in the place of any rule's",
        "  state      drained",
        "in the way draining: resume `m/gpt`",
        "in the way closed: give the pin of `m/gpt` a concurrency above 0",
    ] {
        assert!(held.contains(part), "`{part}` is missing in:\n{held}");
    }
    let large = serving.run(&["explain", "m/gpt", "--cost", "4294967295"]).ok();
    assert!(large.contains("cost 4294967295"), "{large}");
}

#[test]
fn a_time_that_rests_on_how_long_leases_are_held_is_about() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "s", "--concurrency", "1"]).ok();
    thread::scope(|scope| {
        let calls = [(1, 0), (1, 1)].map(|(held, waiting)| {
            let call = scope.spawn(|| serving.get("/weir/scope/s/call/weir_demo/work?ms=3000").0);
            shows(&serving, "s", held, waiting);
            call
        });
        let page = serving.run(&["explain", "s"]).ok();
        for part in ["turn       about ", "; 1 waits before it\n", "in the way concurrency 1/1: a lease ends in about "]
        {
            assert!(page.contains(part), "`{part}` is missing in:\n{page}");
        }
        assert_eq!(serving.run(&["explain", "s", "--json"]).json()["position"], 1);
        let first = serving.run(&["explain", "s", "--priority", "255"]).ok();
        assert!(first.starts_with("s, cost 1, priority 255: not now (limited)\nturn       about "), "{first}");
        for call in calls {
            assert_eq!(call.join().unwrap(), 200);
        }
    });
}
