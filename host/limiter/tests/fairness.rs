//! Who is served first: lines, priorities, shares, barriers.

mod bench;

use bench::{Bench, S, costing, request};
use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};
use weir_limiter::{Effect, Grant, Input, MAX_PASSES, Output, PATIENCE, Request, WaiterId};

fn weight(weight: u16) -> NonZeroU16 {
    NonZeroU16::new(weight).unwrap()
}

fn share(key: &str, of: u16) -> Request {
    request("s").fairness(key, weight(of)).unwrap()
}

fn woken(bench: &Bench) -> Vec<(WaiterId, Grant)> {
    let granted = |effect: &Effect| match effect {
        Effect::Granted { waiter, grant } => Some((*waiter, grant.clone())),
        _ => None,
    };
    bench.effects.iter().filter_map(granted).collect()
}

/// Releases a grant again and again, and names who gets it next, in turn.
fn turns(bench: &mut Bench, mut held: Grant, names: &[(WaiterId, char)], turns: usize) -> String {
    let mut order = String::new();
    for _ in 0..turns {
        bench.release(&held);
        let [(waiter, grant)] = woken(bench).try_into().expect("one is next");
        order.push(names.iter().find(|(other, _)| *other == waiter).expect("somebody who waits").1);
        held = grant;
    }
    order
}

#[test]
fn in_a_line_nobody_overtakes_and_another_line_may_pass() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    let held = bench.try_acquire(&costing("s", 2)).unwrap();
    let large = bench.wait(&costing("s", 2));
    // One unit is free: behind the large one in its line it is not for a small one, newcomer or not.
    let small = bench.wait(&request("s"));
    // In another line it is.
    let other = bench.try_acquire(&share("other", 1)).unwrap();
    bench.release(&other);
    assert_eq!(woken(&bench), [], "still held back by the head of its line");
    bench.release(&held);
    assert_eq!(woken(&bench).iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), [large, small]);
}

#[test]
fn shares_are_by_weight_and_in_turn() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let held = bench.try_acquire(&request("s")).unwrap();
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push((bench.wait(&share("a", 3)), 'a'));
    }
    for _ in 0..4 {
        names.push((bench.wait(&share("b", 1)), 'b'));
    }
    assert_eq!(turns(&mut bench, held, &names, 16), "abaaabaaabaaabaa");
}

#[test]
fn a_share_counts_cost_where_a_limit_does() {
    let mut bench = Bench::new(&[("s", "10:cost", &[])]);
    let held = bench.try_acquire(&costing("s", 10)).unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push((bench.wait(&share("large", 1).cost(NonZeroU32::new(10).unwrap())), 'L'));
    }
    for _ in 0..30 {
        names.push((bench.wait(&share("small", 1).cost(NonZeroU32::new(6).unwrap())), 's'));
    }
    // Of cost 10 and 6, one fits at a time: three large for five small, never further apart than one large.
    let order = turns(&mut bench, held, &names, 8);
    assert_eq!(order.matches('L').count(), 3, "{order}");
    let (mut large, mut small) = (0i64, 0i64);
    for one in order.chars() {
        if one == 'L' {
            large += 10
        } else {
            small += 6
        }
        assert!((large - small).abs() <= 10, "{order}");
    }
}

#[test]
fn a_share_moves_on_by_cost_under_any_limit_that_counts_it() {
    let cases: [(&str, &[&str], &str); 4] = [
        ("1", &[], "abab"),
        ("1", &["99/1h"], "abab"),
        ("1", &["99/1h", "99/1h:cost"], "abba"),
        ("3:cost", &[], "abba"),
    ];
    for (concurrency, rates, expected) in cases {
        // Whether the numbers are a rule's, brought along, or brought along to where the line has moved.
        for place in 0..3 {
            let mut bench = Bench::new(&[]);
            let of = |cost, key: &str| {
                let asked = if place == 0 { request("s") } else { Request::unscoped() };
                let asked = if place == 2 { asked.also("t".parse().unwrap()).unwrap() } else { asked };
                let numbers = bench::limits(concurrency, rates);
                let asked = if place == 0 { asked } else { asked.inline("s", "k", numbers).unwrap() };
                asked.cost(NonZeroU32::new(cost).unwrap()).fairness(key, weight(1)).unwrap()
            };
            if place == 0 {
                bench.set(&[("s", concurrency, rates)]);
            }
            let held = bench.try_acquire(&of(3, "holder")).unwrap();
            if place == 2 {
                bench.operate("t", &weir_limiter::Verb::Pause);
            }
            let mut names = Vec::new();
            for (cost, name) in [(3, 'a'), (3, 'a'), (2, 'b'), (2, 'b')] {
                names.push((bench.wait(&of(cost, &name.to_string())), name));
            }
            if place == 2 {
                bench.operate("t", &weir_limiter::Verb::Resume);
            }
            assert_eq!(turns(&mut bench, held, &names, 4), expected, "{concurrency} {rates:?} at {place}");
        }
    }
}

#[test]
fn who_joins_late_owes_nothing_and_owns_nothing() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let mut held = bench.try_acquire(&request("s")).unwrap();
    let mut names: Vec<_> = (0..20).map(|_| (bench.wait(&share("a", 1)), 'a')).collect();
    for _ in 0..10 {
        bench.release(&held);
        held = woken(&bench)[0].1.clone();
    }
    names.extend((0..5).map(|_| (bench.wait(&share("b", 1)), 'b')));
    let order = turns(&mut bench, held, &names, 10);
    assert!(order == "abababababab"[..10] || order == "bababababab"[..10], "{order}");
}

#[test]
fn leaving_and_coming_back_gains_nothing() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let mut held = bench.try_acquire(&request("s")).unwrap();
    for _ in 0..40 {
        bench.wait(&share("steady", 1));
    }
    // The other has one waiter at a time, and a new one as soon as that is served.
    let mut visitor = bench.wait(&share("visitor", 1));
    let mut served = 0;
    for _ in 0..30 {
        bench.release(&held);
        let (waiter, grant) = woken(&bench).remove(0);
        held = grant;
        if waiter == visitor {
            served += 1;
            visitor = bench.wait(&share("visitor", 1));
        }
    }
    assert_eq!(served, 15);
}

#[test]
fn priority_comes_first_and_patience_ends() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let mut held = bench.try_acquire(&request("s")).unwrap();
    let low: Vec<_> = (0..2).map(|_| bench.wait(&request("s").priority(1))).collect();
    let mut high: VecDeque<_> = (0..30).map(|_| bench.wait(&request("s").priority(200))).collect();
    let (mut waited, mut low_at) = (0, Vec::new());
    for _ in 0..24 {
        bench.at(bench.now + S);
        waited += 1;
        bench.release(&held);
        let (waiter, grant) = woken(&bench).remove(0);
        held = grant;
        if low.contains(&waiter) {
            low_at.push(waited);
        } else {
            assert_eq!(Some(waiter), high.pop_front());
        }
    }
    assert_eq!(low_at, [PATIENCE / S, 2 * PATIENCE / S]);
}

/// Newcomers with one unit each keep two of three units busy; answers after how many of them one had to wait.
fn stream(bench: &mut Bench, most: u32) -> Option<u32> {
    let mut held: VecDeque<Grant> = VecDeque::new();
    let mut stopped = None;
    for turn in 0..most {
        match bench.step(Input::Acquire { request: &share("stream", 1), wait: false, secrets: &[] }) {
            Output::Granted(grant) => held.push_back(grant),
            Output::Refused(refusal) => {
                assert_eq!(refusal.blocked_on.len(), 1, "{refusal:?}");
                stopped = Some(turn);
                break;
            }
            other => panic!("{other:?}"),
        }
        if held.len() == 2 {
            let first = held.pop_front().unwrap();
            bench.release(&first);
            assert!(woken(bench).is_empty());
        }
    }
    for grant in held {
        bench.release(&grant);
    }
    stopped
}

#[test]
fn a_barrier_stops_those_who_pass_too_often() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    let small = bench.try_acquire(&request("s")).unwrap();
    let large = bench.wait(&costing("s", 3));
    assert_eq!(stream(&mut bench, 1_000), Some(MAX_PASSES));
    // What waits behind the barrier is served as soon as it has gone.
    let behind = bench.wait(&share("stream", 1));
    bench.release(&small);
    let [(waiter, grant)] = woken(&bench).try_into().expect("the large one alone");
    assert_eq!(waiter, large);
    bench.release(&grant);
    assert_eq!(woken(&bench)[0].0, behind);
}

#[test]
fn a_barrier_falls_with_its_owner() {
    for cancelled in [true, false] {
        let mut bench = Bench::new(&[("s", "3:cost", &[])]);
        let small = bench.try_acquire(&request("s")).unwrap();
        let large = bench.wait(&costing("s", 3).max_wait(std::time::Duration::from_secs(5)));
        assert_eq!(stream(&mut bench, 1_000), Some(MAX_PASSES));
        let behind = bench.wait(&share("stream", 1));
        if cancelled {
            assert_eq!(bench.step(Input::Cancel { waiter: large }), Output::Done);
        } else {
            bench.at(bench.now + 5 * S);
        }
        assert_eq!(woken(&bench)[0].0, behind);
        let grant = woken(&bench)[0].1.clone();
        bench.release(&grant);
        bench.release(&small);
        assert_eq!((bench.held("s"), bench.counter("s").unwrap().barrier), ((0, 0), None));
    }
}

#[test]
fn a_wide_request_is_not_passed_forever() {
    // Both are busy by turns, and never free at the same time, but for the barrier.
    let mut bench = Bench::new(&[("a", "1", &[]), ("b", "1", &[])]);
    let one = |scope: &str| request(scope);
    let mut held = VecDeque::from([bench.take("a"), bench.take("b")]);
    let wide = bench.wait(&one("a").also("b".parse().unwrap()).unwrap());
    let mut passes = 0;
    loop {
        // Somebody waits at both, always: whoever frees up is taken again, as long as that may pass.
        for scope in ["a", "b"] {
            bench.step(Input::Acquire { request: &one(scope), wait: true, secrets: &[] });
        }
        let Some(first) = held.pop_front() else { panic!("the wide one was never served") };
        bench.release(&first);
        let woken = woken(&bench);
        if woken.iter().any(|(waiter, _)| *waiter == wide) {
            break;
        }
        passes += woken.len();
        held.extend(woken.into_iter().map(|(_, grant)| grant));
        assert!(passes < 1_000, "passed {passes} times");
    }
    // Each of its two counters counts for itself.
    assert!(passes as u32 <= 2 * MAX_PASSES + 2, "passed {passes} times");
}
