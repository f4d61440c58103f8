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

/// Of another line and the same key as who waits for `s` alone.
fn passing() -> Request {
    request("s").also("free".parse().unwrap()).unwrap()
}

/// Newcomers with one unit each keep two of three units busy; answers after how many of them one had to wait.
fn stream(bench: &mut Bench, newcomer: &Request, most: u32) -> Option<u32> {
    let mut held: VecDeque<Grant> = VecDeque::new();
    let mut stopped = None;
    for turn in 0..most {
        match bench.step(Input::Acquire { request: newcomer, wait: false, secrets: &[] }) {
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

/// Another key passes a head that lacks more by as much as a turn of that head is, and a lower priority not at all.
#[test]
fn who_lacks_more_than_there_is_is_passed_by_a_turn_and_no_more() {
    for (weights, passed) in [((1, 1), 3), ((1, 4), 12), ((3, 1), 1), ((100, 1), 1)] {
        let mut bench = Bench::new(&[("s", "3:cost", &[])]);
        let small = bench.try_acquire(&share("holder", 1)).unwrap();
        let large = bench.wait(&share("large", weights.0).cost(NonZeroU32::new(3).unwrap()));
        assert_eq!(stream(&mut bench, &share("stream", weights.1), 1_000), Some(passed), "{weights:?}");
        let refusal = bench.try_acquire(&share("stream", weights.1)).unwrap_err();
        assert_eq!(refusal.blocked_on[0].kind, weir_limiter::ConstraintKind::Waitlist);
        assert_eq!(stream(&mut bench, &share("large", 1).priority(127), 1_000), Some(0), "of a lower priority nobody");
        let higher = stream(&mut bench, &share("stream", 1).priority(129), 1_000);
        assert_eq!(higher.map(|more| passed + more), Some(MAX_PASSES), "of a higher one everybody, up to its barrier");
        bench.release(&small);
        assert_eq!(woken(&bench)[0].0, large);
    }
}

/// What a lower priority may not take is its own again after ten seconds, though nothing else happens.
#[test]
fn who_is_held_back_by_a_higher_priority_is_let_in_by_patience() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    bench.take("s");
    bench.wait(&costing("s", 3));
    let low = bench.wait(&request("s").priority(1));
    let start = bench.now;
    while let Some(due) = bench.limiter.next_due().filter(|due| *due <= start + PATIENCE) {
        bench.at(due);
    }
    assert_eq!(
        (woken(&bench).iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), bench.now),
        (vec![low], start + PATIENCE)
    );
}

/// A lower priority has ten seconds' patience whoever of it is let in then: one, not all of them.
#[test]
fn patience_lets_one_newcomer_in() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    bench.take("s");
    bench.wait(&costing("s", 3));
    let low = |key, cost| share(key, 1).priority(1).cost(NonZeroU32::new(cost).unwrap());
    bench.wait(&low("low", 3));
    for _ in 0..3 {
        assert!(bench.try_acquire(&low("other", 1)).is_err());
        bench.now += PATIENCE;
        let passing = bench.try_acquire(&low("other", 1)).unwrap();
        bench.release(&passing);
    }
}

/// Who waits for what is paused is passed by nobody elsewhere, and has its barrier once it is passed after that.
#[test]
fn a_barrier_comes_when_what_was_paused_goes_on() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "1", &[])]);
    bench.take("s");
    let large = bench.wait(&costing("s", 3).also("t".parse().unwrap()).unwrap());
    let barrier = |bench: &mut Bench| bench.counter("s").unwrap().barrier;
    let pass = |bench: &mut Bench, times| {
        for passes in 0..times {
            assert_eq!(barrier(bench), None, "after {passes}");
            let other = bench.try_acquire(&passing()).unwrap();
            bench.release(&other);
        }
    };
    bench.operate("t", &weir_limiter::Verb::Pause);
    pass(&mut bench, 2 * MAX_PASSES);
    bench.operate("t", &weir_limiter::Verb::Resume);
    // That it moved to where the pause was, and back, were passes too.
    pass(&mut bench, MAX_PASSES - 2);
    assert_eq!(barrier(&mut bench), Some(large.ticket));
}

/// Whoever becomes the first while a barrier is before it lacks nothing: what was kept for the one before it is free.
#[test]
fn nobody_is_held_back_for_one_that_comes_first_behind_a_barrier() {
    for moves in [false, true] {
        let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "1", &[])]);
        let held = [bench.take("s"), bench.take("s"), bench.take("s")];
        let low = bench.wait(&request("s").priority(100));
        bench.wait(&costing("s", 3).priority(200));
        bench.release(&held[0]);
        bench.release(&held[1]);
        assert_eq!(woken(&bench), [], "what is free is kept for the large one");
        assert_eq!(stream(&mut bench, &request("s").priority(255), 1_000), Some(MAX_PASSES));
        if moves {
            // It comes to where the barrier is when it has what it waited for elsewhere.
            let elsewhere = bench.take("t");
            bench.wait(&request("t").also("s".parse().unwrap()).unwrap().priority(255));
            assert_eq!(bench.let_in(), []);
            bench.release(&elsewhere);
        } else {
            bench.wait(&request("s").priority(255));
        }
        assert_eq!(bench.let_in(), [low], "moves: {moves}");
    }
}

/// What a key is let in to after it has waited elsewhere is its own here too.
#[test]
fn a_share_moves_on_where_its_line_was_not_parked() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "1", &[])]);
    bench.try_acquire(&share("holder", 1)).unwrap();
    bench.wait(&share("large", 1).cost(NonZeroU32::new(3).unwrap()));
    for _ in 0..3 {
        let elsewhere = bench.take("t");
        let waiter = bench.wait(&share("stream", 1).also("t".parse().unwrap()).unwrap());
        bench.release(&elsewhere);
        let [(granted, grant)] = woken(&bench).try_into().expect("it passes who lacks more");
        assert_eq!(granted, waiter);
        bench.release(&grant);
    }
    assert!(bench.try_acquire(&share("stream", 1)).is_err(), "it has had a turn of the large one");
}

/// Two keys that always have somebody waiting, of any costs and weights, under a limit that counts cost: neither is ever further behind
/// its share than a turn of each.
#[test]
fn shares_hold_for_any_costs_and_weights() {
    for limits in [("", "600/1m:smooth:burst=10:cost"), ("10:cost", "")] {
        for (costs, weights) in [
            ((7, 1), (1, 1)),
            ((7, 1), (100, 1)),
            ((10, 1), (1, 1)),
            ((10, 1), (1, 3)),
            ((3, 10), (2, 5)),
            ((1, 1), (1, 9)),
        ] {
            let rates: &[&str] = if limits.1.is_empty() { &[] } else { &[limits.1] };
            let mut bench = Bench::new(&[("s", limits.0, rates)]);
            let asked = [("a", costs.0, weights.0), ("b", costs.1, weights.1)];
            let asked = asked.map(|(key, cost, of)| {
                let long = Request { max_wait: Some(std::time::Duration::from_secs(80_000)), ..share(key, of) };
                long.cost(NonZeroU32::new(cost).unwrap())
            });
            let first = bench.try_acquire(&share("holder", 1).cost(NonZeroU32::new(10).unwrap())).unwrap();
            let mut waiting: Vec<(WaiterId, usize)> = Vec::new();
            // More than are ever let in at once: nobody's line is ever empty.
            for key in [0, 1].repeat(15) {
                waiting.push((bench.wait(&asked[key]), key));
            }
            let (mut held, mut had) = (VecDeque::from([(bench.now + S, first)]), [0u64; 2]);
            let mut served = 0;
            while served < 2_000 {
                // Each is held for a second.
                let due = bench.limiter.next_due().unwrap_or(u64::MAX);
                let mut granted = Vec::new();
                if held.front().is_some_and(|(end, _)| *end <= due) {
                    let (end, grant) = held.pop_front().unwrap();
                    bench.at(bench.now.max(end));
                    granted.extend(woken(&bench));
                    bench.release(&grant);
                } else {
                    bench.at(due);
                }
                granted.extend(woken(&bench));
                for (waiter, grant) in granted {
                    let index = waiting.iter().position(|(other, _)| *other == waiter).expect("it waits");
                    let (_, key) = waiting.swap_remove(index);
                    had[key] += u64::from(asked[key].cost.get());
                    held.push_back((bench.now + S, grant));
                    served += 1;
                    waiting.push((bench.wait(&asked[key]), key));
                    let [a, b] = [0, 1].map(|key| had[key] as f64 / f64::from(asked[key].weight.get()));
                    let turns = [0, 1].map(|key| f64::from(asked[key].cost.get()) / f64::from(asked[key].weight.get()));
                    assert!((a - b).abs() <= turns[0] + turns[1] + 0.01, "{limits:?} {costs:?} {weights:?}: {had:?}");
                }
            }
        }
    }
}

#[test]
fn a_barrier_stops_those_who_pass_too_often() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    let small = bench.try_acquire(&request("s")).unwrap();
    let large = bench.wait(&costing("s", 3));
    assert_eq!(stream(&mut bench, &passing(), 1_000), Some(MAX_PASSES));
    // What waits behind the barrier is served as soon as it has gone.
    let behind = bench.wait(&passing());
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
        assert_eq!(stream(&mut bench, &passing(), 1_000), Some(MAX_PASSES));
        let behind = bench.wait(&passing());
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

/// A key whose waiters give up all the time is owed as much as if they had more patience.
#[test]
fn who_gives_up_costs_its_key_nothing() {
    let mut bench = Bench::new(&[("s", "", &["600/1m:smooth:burst=10:cost"])]);
    let mut had = [0u64; 2];
    let asked = [("large", 7), ("small", 1)].map(|(key, cost)| {
        let request = Request { max_wait: Some(std::time::Duration::from_secs(2)), ..share(key, 1) };
        request.cost(NonZeroU32::new(cost).unwrap())
    });
    let start = bench.now;
    let mut waiting: Vec<(WaiterId, usize)> = Vec::new();
    let mut gave_up = 0;
    for tick in 0..6_000 {
        // Every 50 ms one of each key comes, which is more than are let in, and some 40 of each wait until their time is over.
        let until = start + tick * S / 20;
        loop {
            let due = bench.limiter.next_due().filter(|due| *due <= until);
            bench.at(due.unwrap_or(until));
            for effect in std::mem::take(&mut bench.effects) {
                let (Effect::Granted { waiter, .. } | Effect::Refused { waiter, .. }) = &effect else { panic!() };
                let index = waiting.iter().position(|(other, _)| other == waiter).expect("it waits");
                let (_, key) = waiting.swap_remove(index);
                if let Effect::Granted { grant, .. } = effect {
                    had[key] += u64::from(asked[key].cost.get());
                    bench.release(&grant);
                } else {
                    gave_up += 1;
                }
            }
            if due.is_none() {
                break;
            }
        }
        for (key, request) in asked.iter().enumerate() {
            match bench.step(Input::Acquire { request, wait: true, secrets: &[] }) {
                Output::Granted(grant) => bench.release(&grant),
                Output::Waiting(waiter) => waiting.push((waiter, key)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(gave_up > 1_000, "{gave_up}");
    let part = had[0] as f64 / (had[0] + had[1]) as f64;
    assert!((0.45..0.55).contains(&part), "{had:?}");
}

/// A change of rules may close what its owner needs: from then on it stops nobody.
#[test]
fn a_barrier_is_put_anew_after_a_change_of_rules() {
    let mut bench = Bench::new(&[("c", "4:cost", &[]), ("d", "1", &[])]);
    bench.take("c");
    bench.wait(&request("c").cost(NonZeroU32::new(4).unwrap()).also("d".parse().unwrap()).unwrap());
    assert_eq!(stream(&mut bench, &request("c").priority(255), 1_000), Some(MAX_PASSES));
    assert!(bench.try_acquire(&request("d")).is_err(), "its barrier stands here too");
    bench.set(&[("c", "0", &[]), ("d", "1", &[])]);
    bench.try_acquire(&request("d")).unwrap();
}
