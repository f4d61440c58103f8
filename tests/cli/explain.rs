//! `weir explain`.

use std::thread;

use crate::operate::shows;
use crate::{Serving, run};

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

#[test]
fn of_several_keys_each_counter_says_which_it_counts_for() {
    let serving = Serving::demo();
    let set = |arguments: &[&str]| serving.run(&[&["rules", "set"], arguments].concat()).ok();
    set(&["m/*", "--rate", "1/1h"]);
    set(&["t", "--concurrency", "0"]);
    set(&["*/*", "--total", "--concurrency", "50"]);
    let plan = ["--flow-control", "plan:concurrency=2"];
    let page = serving.run(&[&["explain", "m/gpt", "m/claude", "t/7"], &plan[..]].concat()).ok();
    let sections: Vec<&str> = page.split("\n\n").collect();
    let begins = [
        "m/gpt and m/claude and t/7 and m#plan, cost 1, priority 128: not now (limited)\n",
        "m\n  counts for m/gpt, m/claude\n",
        "m/gpt\n  counts for m/gpt\n  binds      m/*: ",
        "*/* (pool: all that match)\n  counts for m/gpt, m/claude, t/7\n",
        "m/claude\n  counts for m/claude\n",
        "t\n  counts for t/7\n  binds      t: ",
        "t/7\n  counts for t/7\n",
        "m#plan (inline: under the limits that it brings)\n  used       0 held, 0 waiting\n",
    ];
    assert_eq!(sections.len(), begins.len(), "{page}");
    for (section, begins) in sections.iter().zip(begins) {
        assert!(section.starts_with(begins), "`{begins}` is not where it should be in:\n{page}");
    }
    assert!(sections[5].contains("  in the way closed: give rule `t` a concurrency above 0"), "{page}");
    assert!(sections[7].contains("  fits       concurrency 0/2"), "{page}");

    let also = [&["explain", "m/gpt", "--also", "m/claude", "--also", "t/7"], &plan[..]].concat();
    assert_eq!(serving.run(&also).ok(), page, "as `weir lease acquire` takes them");
    let json = serving.run(&[&also[..], &["--json"]].concat()).json();
    assert_eq!((json["counters"].as_array().unwrap().len(), &json["counters"][6]["kind"]), (7, &"inline".into()));
    let one = serving.run(&["explain", "m/gpt"]).ok();
    assert!(!one.contains("counts for"), "{one}");
}

#[test]
fn a_batch_is_explained_by_its_least() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "s", "--concurrency", "5"]).ok();
    for (batch, says) in [
        (
            &["--count", "8", "--least", "2"][..],
            "s, batch of 8 (2 at least), cost 1, priority 128: would be granted now\n",
        ),
        (&["--count", "5"], "s, batch of 5, cost 1, priority 128: would be granted now\n"),
        (&["--count", "6"], "s, batch of 6, cost 1, priority 128: never (too-large)"),
    ] {
        let page = serving.run(&[&["explain", "s"], batch].concat()).ok();
        assert!(page.starts_with(says), "{page}");
    }
}

#[test]
fn what_is_said_wrongly_is_named_without_a_server() {
    for (arguments, part) in [
        (&[][..], "<SCOPE[/L1[/L2]]>"),
        (&["a", "b c"], "0x20"),
        (&["a", "--also", "b/*"], "`*`"),
        (&["a", "--count", "2", "--least", "3"], "least: a batch of 2, at least 3"),
        (&["a", "--least", "2"], "least: a batch of 1, at least 2"),
        (&["a", "--cost", "4294967295", "--count", "2"], "count: 2 times a cost of 4294967295"),
        (&["a", "--fairness-key", "b c"], "fairness-key: "),
        (&["a", "--flow-control", "plan"], "KEY:concurrency=N"),
        (&["a", "--flow-control", "k:concurrency=1", "--flow-control", "k:concurrency=2"], "comes twice"),
    ] {
        run(&[&["explain"], arguments].concat()).fails(2, &[part]);
    }
    let keys: Vec<String> = (0..17).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    run(&[&["explain"], &keys[..]].concat()).fails(2, &["16 further keys: at most 15"]);
}
