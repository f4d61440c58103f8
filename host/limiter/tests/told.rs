//! What refusals, snapshots and metrics say: numbers that let nobody in, and that people act on.

mod bench;

use bench::{Bench, S, costing, limits, request, rule, total};
use std::num::NonZeroU32;
use std::time::Duration;
use weir_limiter::{ConstraintKind, Effect, Input, Limits, Output, Reason, Refusal, Request, RuleSpec, Settled, Verb};

const SECOND: Duration = Duration::from_secs(1);

fn kinds(refusal: &Refusal) -> Vec<(ConstraintKind, &str, Option<Duration>)> {
    let constraints = refusal.blocked_on.iter();
    constraints.map(|found| (found.kind, found.counter.as_str(), found.frees_in)).collect()
}

fn refused(bench: &mut Bench, request: &Request) -> Refusal {
    bench.try_acquire(request).unwrap_err()
}

/// So many wait for `s`.
fn wait(bench: &mut Bench, many: usize) {
    for _ in 0..many {
        bench.wait(&request("s"));
    }
}

/// Holds `s` for so long, at an instant whose fencing number is one of those that are measured.
fn hold(bench: &mut Bench, nanos: u64) {
    bench.now = (bench.now + 8).next_multiple_of(8);
    let grant = bench.take("s");
    assert_eq!(grant.fence % 8, 0);
    bench.at(bench.now + nanos);
    bench.release(&grant);
}

#[test]
fn an_estimate_is_the_mean_hold_times_the_turns_before() {
    // Of such lengths the mean is exact.
    const HOLD: u64 = 1 << 33;
    let mean = Duration::from_nanos(HOLD / 8 * 9);
    let mut bench = Bench::new(&[("s", "1", &[])]);
    hold(&mut bench, HOLD);
    hold(&mut bench, 2 * HOLD);
    // Its own hold is none of those that are measured.
    bench.now += 1;
    bench.take("s");
    assert_eq!(refused(&mut bench, &request("s")).retry_after, Some(mean));
    // Each who waits is a turn.
    wait(&mut bench, 2);
    assert_eq!(refused(&mut bench, &request("s")).retry_after, Some(3 * mean));
    wait(&mut bench, 4);
    assert_eq!(refused(&mut bench, &request("s")).retry_after, Some(60 * SECOND), "no more than a minute");
    // Where two are served at a time, four who wait are two turns.
    let mut bench = Bench::new(&[("s", "2", &[])]);
    hold(&mut bench, HOLD);
    for _ in 0..2 {
        bench.now += 1;
        bench.take("s");
    }
    wait(&mut bench, 4);
    assert_eq!(refused(&mut bench, &request("s")).retry_after, Some(3 * Duration::from_nanos(HOLD)));
}

#[test]
fn an_estimate_of_next_to_nothing_is_a_second() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    hold(&mut bench, 16);
    bench.take("s");
    let refusal = refused(&mut bench, &request("s"));
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "s", Some(SECOND))]);
    assert!(refusal.blocked_on[0].estimated);
}

#[test]
fn what_is_closed_has_no_end_to_name() {
    let mut bench = Bench::new(&[("s", "0", &[])]);
    let refusal = refused(&mut bench, &request("s"));
    assert_eq!((kinds(&refusal), refusal.retry_after), (vec![(ConstraintKind::Closed, "s", None)], None));
    assert!(!refusal.blocked_on[0].estimated);
}

#[test]
fn what_is_too_large_names_only_what_it_is_too_large_for() {
    let mut bench = Bench::new(&[("a", "3:cost", &[]), ("b", "2:cost", &[]), ("c", "9", &["2/1m:cost"])]);
    let holder = bench.try_acquire(&costing("b", 2)).unwrap();
    let all = |cost| costing("a", cost).also("b".parse().unwrap()).unwrap().also("c".parse().unwrap()).unwrap();
    let refusal = refused(&mut bench, &all(3));
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::TooLarge, None));
    let named: Vec<_> = refusal.blocked_on.iter().map(|found| (found.kind, found.counter.as_str())).collect();
    assert_eq!(named, [(ConstraintKind::Concurrency, "b"), (ConstraintKind::Rate, "c")]);
    bench.release(&holder);
    bench.try_acquire(&all(2)).unwrap();
}

#[test]
fn who_rides_is_not_told_of_what_it_rides_on() {
    let mut bench = Bench::new(&[("s", "5:cost", &[]), ("t", "5:cost", &[])]);
    let outer = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.set(&[("s", "3:cost", &[]), ("t", "3:cost", &[])]);
    let nested = costing("s", 5).also("t".parse().unwrap()).unwrap().lend_from(outer.parts[0]);
    assert_eq!(kinds(&refused(&mut bench, &nested)), [(ConstraintKind::Concurrency, "t", None)], "too large");
    bench.set(&[("t", "5:cost", &[])]);
    let holder = bench.try_acquire(&costing("t", 1)).unwrap();
    let refusal = refused(&mut bench, &nested);
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "t", Some(SECOND))], "full");
    bench.release(&holder);
    bench.try_acquire(&nested).unwrap();
}

#[test]
fn too_many_at_once_are_too_large_and_what_is_closed_is_not() {
    let mut bench = Bench::new(&[("s", "2", &[]), ("t", "0", &[])]);
    let three = NonZeroU32::new(3).unwrap();
    let asked = request("s").also("t".parse().unwrap()).unwrap().batch(three, three).unwrap();
    let refusal = refused(&mut bench, &asked);
    assert_eq!(refusal.reason, Reason::TooLarge);
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "s", None)]);
}

#[test]
fn a_lease_that_lends_nothing_can_still_lend() {
    // In one shard: a part of a lease lends within its own.
    let mut bench = Bench::new(&[]);
    bench.limiter = weir_limiter::Limiter::new(1, weir_limiter::ShardLimits::default());
    bench.set(&[("s", "1", &[]), ("t", "9", &[])]);
    let outer = bench.take("s");
    bench.try_acquire(&request("t").lend_from(outer.parts[0])).unwrap();
    bench.try_acquire(&request("s").lend_from(outer.parts[0])).unwrap();
}

#[test]
fn only_those_who_waited_are_among_the_waits() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let first = bench.take("s");
    bench.wait(&request("s"));
    bench.at(bench.now + 2 * S);
    bench.release(&first);
    let Effect::Granted { grant, .. } = bench.effects[0].clone() else { panic!() };
    bench.release(&grant);
    for _ in 0..2 {
        let grant = bench.take("s");
        bench.release(&grant);
    }
    let seen = bench.counter("s").unwrap();
    assert_eq!((seen.granted, seen.wait_p50), (4, Duration::ZERO));
    assert!(seen.wait_p99 >= 2 * SECOND && seen.wait_p99 < 3 * SECOND, "{:?}", seen.wait_p99);
    let all: Vec<_> = bench.limiter.shards().iter().map(weir_limiter::Shard::metrics).collect();
    let sum = |of: fn(&weir_limiter::ShardMetrics) -> u64| all.iter().map(of).sum::<u64>();
    assert_eq!((sum(|m| m.granted), sum(|m| m.waited), sum(|m| m.waits.count())), (4, 1, 1));
    assert_eq!(sum(|m| m.waits.total()), 2 * S);
}

#[test]
fn a_counter_is_drained_when_nothing_is_held_and_nobody_waits() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let holder = bench.take("s");
    let waiter = bench.wait(&request("s"));
    let seen = bench.operate("s", &Verb::Drain);
    assert_eq!((seen.draining, seen.drained, seen.waiting), (true, false, 1));
    assert_eq!(bench.step(Input::Cancel { waiter }), Output::Done);
    bench.settle(&holder, 0);
    assert!(!bench.counter("s").unwrap().drained, "a lease is held, of no cost");
    bench.release(&holder);
    assert!(bench.counter("s").unwrap().drained);
    bench.operate("s", &Verb::Resume);
    let holder = bench.take("s");
    bench.operate("s", &Verb::Pause);
    bench.wait(&request("s"));
    bench.release(&holder);
    bench.operate("s", &Verb::Drain);
    assert!(!bench.counter("s").unwrap().drained, "somebody waits");
}

#[test]
fn a_pool_has_shadow_limits_too() {
    let mut bench = Bench::new(&[]);
    let spec = RuleSpec { shadow_limits: Some(limits("1", &[])), ..total("3", &[]) };
    bench.put(&[("s/*", spec)]);
    for key in ["s/a", "s/b", "s/c"] {
        bench.take(key);
    }
    assert_eq!(bench.counter("s/*").unwrap().shadow.unwrap().would_refuse, 2);
}

#[test]
fn a_sweep_forgets_what_has_left_the_windows_of_a_counter_in_use() {
    let mut bench = Bench::new(&[("s", "9", &["5/1s"])]);
    let entries = |bench: &Bench| bench.limiter.shards().iter().map(|shard| shard.metrics().log_entries).sum::<u64>();
    let first = bench.take("s");
    bench.release(&first);
    bench.take("s");
    assert_eq!(entries(&bench), 1, "two starts at one instant");
    bench.at(bench.now + 11 * S);
    assert_eq!(entries(&bench), 0);
}

#[test]
fn a_batch_takes_no_more_than_its_least_while_somebody_waits() {
    let mut bench = Bench::new(&[("s", "4:cost", &[])]);
    bench.take("s");
    bench.wait(&costing("s", 4));
    let (three, one) = (NonZeroU32::new(3).unwrap(), NonZeroU32::MIN);
    let taken =
        bench.try_acquire(&request("s").also("t".parse().unwrap()).unwrap().batch(three, one).unwrap()).unwrap();
    assert_eq!(taken.more.len(), 0, "what is left is for those who wait");
}

#[test]
fn an_overrun_at_an_inline_key_is_charged_to_the_rates_it_came_with() {
    let of = |rate: &str| {
        let own: Limits = limits("", &[rate]);
        Request::unscoped().inline("s", "k", own).unwrap().cost(NonZeroU32::new(4).unwrap())
    };
    let (minute, hour) = (of("9/1m:cost"), of("19/1h:cost"));
    let mut bench = Bench::new(&[]);
    let lease = bench.try_acquire(&minute).unwrap();
    assert_eq!(bench.settle(&lease, 6), Settled { refunded: 0, overrun: 2 });
    // 6 of 9 are used: 4 more do not fit.
    assert_eq!(kinds(&refused(&mut bench, &minute))[0].0, ConstraintKind::Rate);
    // A lease under other numbers is a start under these too, and so is what it gives back.
    bench.at(bench.now + 60 * S);
    let first = bench.try_acquire(&minute).unwrap();
    let other = bench.try_acquire(&hour).unwrap();
    refused(&mut bench, &minute);
    assert_eq!(bench.settle(&other, 0), Settled { refunded: 4, overrun: 0 });
    bench.try_acquire(&minute).unwrap();
    bench.release(&first);
}

/// A line that has been passed as often as it may be, before two counters of which one was always taken: parked at `t`,
/// whose holder it answers, while `s` is free.
fn passed_over(bench: &mut Bench) -> weir_limiter::Grant {
    let mut holder = bench.take("s");
    bench.wait(&request("s").also("t".parse().unwrap()).unwrap());
    for next in ["t", "s"].into_iter().cycle().take(weir_limiter::MAX_PASSES as usize - 1) {
        let taken = bench.take(next);
        bench.release(&holder);
        holder = taken;
    }
    holder
}

#[test]
fn a_closed_counter_raises_no_barrier_elsewhere() {
    let close: [fn(&mut Bench); 3] =
        [|_| (), |bench| drop(bench.operate("s", &Verb::Pause)), |bench| bench.set(&[("s", "0", &[])])];
    for (case, close) in close.into_iter().enumerate() {
        let mut bench = Bench::new(&[("s", "1", &[]), ("t", "1", &[])]);
        let holder = passed_over(&mut bench);
        let other = bench.take("s");
        close(&mut bench);
        bench.release(&holder);
        let barred = |bench: &mut Bench| ["s", "t"].map(|name| bench.counter(name).unwrap().barrier.is_some());
        assert_eq!(barred(&mut bench), [case == 0; 2], "case {case}");
        bench.release(&other);
        assert_eq!(bench.let_in().len(), usize::from(case == 0));
    }
}

#[test]
fn who_lacks_a_rate_raises_its_barrier_there_alone() {
    let mut bench = Bench::new(&[("s", "1", &[]), ("t", "1", &[])]);
    let holder = passed_over(&mut bench);
    bench.set(&[("s", "1", &["1/1h"])]);
    let started = bench.take("s");
    bench.release(&started);
    bench.release(&holder);
    assert_eq!(bench.let_in(), []);
    assert_eq!(["s", "t"].map(|name| bench.counter(name).unwrap().barrier.is_some()), [true, false]);
    bench.take("t");
}

#[test]
fn a_forecast_looks_as_far_ahead_as_the_request_would_wait() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    // Its hold is none of those that are measured.
    bench.now += 1;
    let start = bench.now;
    bench.take("s");
    let asked = |seconds| request("s").max_wait(Duration::from_secs(seconds));
    let forecast = |bench: &mut Bench, request: &Request| {
        let forecast = bench.explain(request).forecast;
        forecast.map(|forecast| (forecast.admitted_in, forecast.estimated))
    };
    // Nothing is known of holds: a second is assumed, and another when that is over.
    assert_eq!(forecast(&mut bench, &asked(5)), Some((SECOND, true)));
    bench.now = start + S / 4;
    assert_eq!(forecast(&mut bench, &asked(5)), Some((SECOND * 3 / 4, true)));
    bench.now = start + S;
    assert_eq!(forecast(&mut bench, &asked(5)), Some((SECOND, true)), "it has held for as long as expected");
    // Those before it take a second each; the third is past its wait.
    bench.wait(&asked(9));
    bench.wait(&asked(9));
    assert_eq!(forecast(&mut bench, &asked(4)), Some((3 * SECOND, true)));
    assert_eq!(forecast(&mut bench, &asked(3)), None, "at one instant, who gives up goes first");
}

#[test]
fn a_forecast_counts_on_the_ends_of_leases_and_of_waits() {
    let mut bench = Bench::new(&[("s", "1", &["3/1m"])]);
    let mut timed = request("s");
    timed.lease_time = Some(8 * SECOND);
    bench.try_acquire(&timed).unwrap();
    // Held for a second as far as is known; its lease ends in eight at the latest.
    let forecast = bench.explain(&request("s")).forecast.unwrap();
    assert_eq!((forecast.admitted_in, forecast.estimated), (SECOND, true));
    // Two that give up before their turn leave the rate to those behind.
    bench.wait(&request("s").max_wait(SECOND / 2));
    bench.wait(&request("s").max_wait(SECOND / 2));
    let forecast = bench.explain(&request("s").max_wait(Duration::from_secs(120))).forecast.unwrap();
    assert_eq!(forecast.admitted_in, SECOND);
    // Where a start is what is missing, the end of a holder does not matter.
    let mut bench = Bench::new(&[("s", "9", &["1/1m"])]);
    bench.take("s");
    let forecast = bench.explain(&request("s").max_wait(Duration::from_secs(120))).forecast.unwrap();
    assert_eq!((forecast.admitted_in, forecast.estimated), (60 * SECOND, false));
}

#[test]
fn a_forecast_is_an_estimate_where_one_who_goes_before_has_to_end() {
    let mut bench = Bench::new(&[("s", "1", &["1/1m"])]);
    let started = bench.take("s");
    bench.release(&started);
    let patient = request("s").max_wait(Duration::from_secs(600));
    bench.wait(&patient);
    // It is let in after a minute, at the latest; the next start is a minute later, if it has ended by then.
    let forecast = bench.explain(&patient).forecast.unwrap();
    assert_eq!((forecast.admitted_in, forecast.estimated), (120 * SECOND, true));
}

#[test]
fn too_much_state_is_not_run_forward() {
    let mut bench = Bench::new(&[]);
    bench.limiter = weir_limiter::Limiter::new(1, weir_limiter::ShardLimits::default());
    bench.set(&[("s", "1", &[]), ("t", "", &[])]);
    bench.take("s");
    // 1 counter and 1 lease, then 1 counter and 4,998 leases, 4,999 waiters: exactly as much as is looked at.
    (0..4_998).for_each(|_| drop(bench.take("t")));
    (0..4_999).for_each(|_| assert_eq!(bench.wait(&request("s")).shard, 0));
    assert!(bench.explain(&request("s").max_wait(Duration::from_secs(7_200))).forecast.is_some());
    bench.take("t");
    let explained = bench.explain(&request("s").max_wait(Duration::from_secs(7_200)));
    assert_eq!((explained.forecast, explained.position), (None, Some(4_999)));
}

#[test]
fn who_waits_takes_what_a_rate_frees_first() {
    let mut bench = Bench::new(&[("s", "", &["2/1m"])]);
    bench.take("s");
    bench.take("s");
    bench.wait(&request("s"));
    bench.wait(&request("s"));
    let refusal = refused(&mut bench, &request("s"));
    // Two before it, half a minute each, after the first frees.
    let expected =
        [(ConstraintKind::Rate, "s", Some(60 * SECOND)), (ConstraintKind::Waitlist, "s", Some(120 * SECOND))];
    assert_eq!((kinds(&refusal).as_slice(), refusal.retry_after), (expected.as_slice(), Some(120 * SECOND)));
    assert_eq!((refusal.blocked_on[1].used, refusal.blocked_on[1].limit), (2, 10_000));
}

#[test]
fn what_an_operator_pins_is_shown_and_a_pushback_of_nothing_is_nothing() {
    let mut bench = Bench::new(&[("s", "9", &[])]);
    let seen = bench.operate("s", &Verb::Pin(limits("3", &[])));
    assert_eq!(seen.pinned, Some(limits("3", &[])));
    let explained = bench.explain(&request("s"));
    assert_eq!(explained.counters[0].counter.pinned, Some(limits("3", &[])));
    bench.operate("s", &Verb::Unpin);
    let lease = bench.take("s");
    let pushed = Input::Release { lease: lease.parts[0], outcome: weir_limiter::Outcome::PushedBack(Duration::ZERO) };
    bench.step(pushed);
    let seen = bench.counter("s").unwrap();
    assert_eq!((seen.pushed_back_for, seen.failed), (None, 1));
    bench.take("s");
}

#[test]
fn a_snapshot_says_when_a_rate_and_a_pause_end() {
    let mut bench = Bench::new(&[("s", "", &["1/1m"])]);
    let lease = bench.take("s");
    assert_eq!(bench.counter("s").unwrap().rates[0].frees_in, Some(60 * SECOND));
    let asked = weir_limiter::Outcome::PushedBack(10 * SECOND);
    bench.step(Input::Release { lease: lease.parts[0], outcome: asked });
    bench.at(bench.now + 4 * S);
    assert_eq!(bench.counter("s").unwrap().pushed_back_for, Some(6 * SECOND));
    bench.at(bench.now + 6 * S);
    assert_eq!(bench.counter("s").unwrap().pushed_back_for, None);
    bench.at(bench.now + 50 * S);
    let free = bench.counter("s").map(|seen| seen.rates[0].frees_in);
    assert!(free.is_none_or(|frees_in| frees_in.is_none()));
}

#[test]
fn refusals_are_counted_by_their_reason() {
    let mut bench = Bench::new(&[("s", "1:cost", &[]), ("p", "", &[])]);
    bench.take("s");
    refused(&mut bench, &request("s"));
    refused(&mut bench, &request("s"));
    refused(&mut bench, &costing("s", 2));
    bench.operate("p", &Verb::Pause);
    refused(&mut bench, &request("p"));
    let sum = |reason: Reason| -> u64 {
        bench.limiter.shards().iter().map(|shard| shard.metrics().refused[reason as usize]).sum()
    };
    let counted = [Reason::Limited, Reason::TooLarge, Reason::Paused, Reason::TimedOut].map(sum);
    assert_eq!(counted, [2, 1, 1, 0]);
}

#[test]
fn a_limiter_that_closes_lets_go_of_whoever_waits_for_a_rate() {
    let mut bench = Bench::new(&[("s", "", &["1/1h"])]);
    bench.take("s");
    bench.wait(&request("s").max_wait(Duration::from_secs(7_200)));
    bench.step(Input::Close);
    let [Effect::Refused { refusal, .. }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!(refusal.reason, Reason::Unavailable);
    assert_eq!(bench.limiter.next_due(), None, "what it waited for is looked at no more");
    bench.at(bench.now + 7_200 * S);
    assert_eq!((bench.effects.len(), bench.limiter.next_due()), (0, None));
}

#[test]
fn a_rate_that_has_drained_goes_on_at_its_new_pace() {
    let mut bench = Bench::new(&[("s", "", &["60/1m:smooth:burst=1"])]);
    bench.take("s");
    bench.at(bench.now + 5 * S);
    bench.set(&[("s", "", &["600/1m:smooth:burst=1"])]);
    bench.take("s");
    assert_eq!(refused(&mut bench, &request("s")).retry_after, Some(SECOND / 10));
    bench.at(bench.now + S / 10);
    bench.take("s");
}

/// Who waits behind a newcomer does not make it wait.
#[test]
fn a_place_is_that_of_ones_priority_and_fairness_key() {
    let mut bench = Bench::new(&[("s", "", &["1/4s"])]);
    bench.take("s");
    for priority in [100, 200] {
        bench.wait(&request("s").priority(priority));
    }
    let seconds = |retry: Option<Duration>| retry.map(|retry| retry.as_secs());
    for (priority, before) in [(0, 2), (99, 2), (100, 2), (101, 1), (199, 1), (200, 1), (201, 0), (255, 0)] {
        let asked = request("s").priority(priority);
        let explained = bench.explain(&asked);
        assert_eq!(explained.position, Some(before), "{priority}");
        let waitlist = explained.counters[0].constraints.iter().find(|found| found.kind == ConstraintKind::Waitlist);
        assert_eq!(waitlist.map_or(0, |found| found.used), before as u64, "{priority}");
        let forecast = explained.forecast.map(|forecast| forecast.admitted_in.as_secs());
        assert_eq!(forecast, Some(4 * (before as u64 + 1)), "{priority}: where it stands is when it is served");
        let refused = bench.try_acquire(&asked).unwrap_err();
        assert_eq!(
            seconds(refused.retry_after),
            Some(12),
            "{priority}: who is refused stands nowhere, and both go first"
        );
    }
}

/// Of those of other keys, as many stand before a newcomer as their weights let before it, and not their whole lines.
#[test]
fn a_place_among_fairness_keys_is_when_it_is_served() {
    let weight = |weight| std::num::NonZeroU16::new(weight).unwrap();
    let asked = |key: &str, share| request("s").fairness(key, weight(share)).unwrap();
    for (share, own, expected) in [(1, 1, 1), (1, 3, 1), (3, 1, 1)] {
        let mut bench = Bench::new(&[("s", "", &["1/1s"])]);
        bench.take("s");
        for _ in 0..8 {
            bench.wait(&asked("a", share));
        }
        let newcomer = asked("b", own);
        let explained = bench.explain(&newcomer);
        assert_eq!(explained.position, Some(expected), "{share}:{own}");
        let forecast = explained.forecast.map(|forecast| forecast.admitted_in);
        assert_eq!(forecast, Some(SECOND * (expected as u32 + 1)), "{share}:{own}");
        // Behind another of its key it waits for that, and for what of `a` comes before it.
        bench.wait(&newcomer);
        let explained = bench.explain(&newcomer);
        let before = explained.position.unwrap() as u32;
        assert_eq!(
            explained.forecast.map(|forecast| forecast.admitted_in),
            Some(SECOND * (before + 1)),
            "{share}:{own}"
        );
    }
}

#[test]
fn a_full_waitlist_is_named_and_explained() {
    let mut limited = rule("1", &[]);
    limited.limits.max_waiters = Some(2);
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", limited)]);
    bench.take("s");
    for _ in 0..2 {
        bench.wait(&request("s"));
    }
    let Output::Refused(refusal) = bench.step(Input::Acquire { request: &request("s"), wait: true, secrets: &[] })
    else {
        panic!("there is no room")
    };
    assert_eq!(refusal.reason, Reason::Overloaded);
    let kinds: Vec<_> = refusal.blocked_on.iter().map(|found| (found.kind, found.used, found.limit)).collect();
    assert_eq!(kinds, [(ConstraintKind::Concurrency, 1, 1), (ConstraintKind::Waitlist, 2, 2)]);
    assert!(refusal.blocked_on[1].estimated && refusal.blocked_on[1].frees_in.is_some(), "{refusal:?}");
    assert!(refusal.to_string().contains("the waitlist of `s` is full (2/2)"), "{refusal}");
    // Whoever asks why is told the same, though who does not wait is refused for the limit.
    assert_eq!(bench.try_acquire(&request("s")).unwrap_err().reason, Reason::Limited);
    let explained = bench.explain(&request("s"));
    let why = explained.refusal.unwrap();
    assert_eq!((why.reason, explained.forecast), (Reason::Overloaded, None));
    assert!(why.blocked_on[1].remedy().contains("raise the `max-waiters` of rule `s` above 2"), "{why:?}");
}

#[test]
fn who_stands_behind_others_is_told_to_wait_for_them_and_not_to_raise_what_is_not_full() {
    let mut bench = Bench::new(&[("s", "", &["1/1m"])]);
    bench.take("s");
    wait(&mut bench, 2);
    let refusal = refused(&mut bench, &request("s"));
    let remedy = refusal.blocked_on[1].remedy();
    assert_eq!(remedy, "the 2 that wait before it at `s` are served in about 3m");
}

/// The rule says how long it may wait, and that is longer than where nothing is said.
#[test]
fn a_forecast_goes_by_the_wait_of_the_rule() {
    let mut slow = rule("", &["1/2m"]);
    slow.limits.max_wait = Some(Duration::from_secs(3_600));
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", slow)]);
    bench.take("s");
    let forecast = bench.explain(&request("s")).forecast.map(|forecast| forecast.admitted_in);
    assert_eq!(forecast, Some(120 * SECOND));
}

/// A pool over several scopes lies in a shard of its own, and every request of one of these scopes is decided with that shard at hand.
#[test]
fn a_forecast_beside_a_pool_of_others_is_the_same() {
    let mut bench = Bench::new(&[("s", "", &["1/5s"])]);
    bench.put(&[("*/*", total("1000", &[]))]);
    bench.take("s");
    let forecast = bench.explain(&request("s")).forecast.map(|forecast| forecast.admitted_in);
    assert_eq!(forecast, Some(5 * SECOND));
}

/// Nobody has ended here yet: a second each is assumed, as a forecast does.
#[test]
fn an_estimate_where_nothing_is_known_counts_those_before_it() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let holder = bench.take("s");
    for _ in 0..3 {
        bench.wait(&request("s"));
    }
    let retry = |bench: &mut Bench| bench.try_acquire(&request("s")).unwrap_err().retry_after;
    assert_eq!(retry(&mut bench), Some(4 * SECOND));
    // The first that ends is measured, whatever its number.
    bench.now += 3 * S;
    bench.release(&holder);
    assert_eq!(retry(&mut bench), Some(9 * SECOND));
}

/// Who is refused stands in no line, so whoever waits takes what time frees, also of a lower priority.
#[test]
fn a_retry_after_is_an_estimate_also_before_others_of_lower_priority() {
    let mut bench = Bench::new(&[("s", "", &["1/10s"])]);
    let first = bench.take("s");
    bench.release(&first);
    let begun = bench.now;
    bench.at(begun + S);
    bench.wait(&request("s").max_wait(Duration::from_secs(50)));
    let refusal = refused(&mut bench, &request("s").priority(200));
    assert!(refusal.blocked_on.iter().any(|constraint| constraint.estimated), "{refusal:?}");
    assert_eq!(refusal.retry_after, Some(19 * SECOND), "one waits before it");
}

#[test]
fn a_counter_that_was_reset_goes_soon() {
    for held in [false, true] {
        let mut bench = Bench::new(&[("s", "", &["10/366days"])]);
        let lease = bench.take("s");
        bench.release(&lease);
        let other = held.then(|| bench.take("s"));
        bench.operate("s", &Verb::Reset);
        if let Some(other) = other {
            bench.release(&other);
        }
        assert!(bench.is_empty_after(11 * S), "held {held}");
    }
}

/// What names the number that is in the way names it whole; what an operator says is no number of a rule's.
#[test]
fn a_constraint_has_the_rate_that_it_is_of_and_a_pause_no_rule() {
    let mut bench = Bench::new(&[("s", "5", &["1/1m", "2/1h"])]);
    bench.take("s");
    let refusal = refused(&mut bench, &request("s"));
    let rates: Vec<_> = refusal.blocked_on.iter().map(|found| found.rate.as_ref().map(ToString::to_string)).collect();
    assert_eq!(rates, [Some("1/1m".to_owned())]);
    bench.operate("s", &Verb::Pause);
    let refusal = refused(&mut bench, &request("s"));
    assert_eq!((refusal.blocked_on[0].kind, &refusal.blocked_on[0].pattern), (ConstraintKind::Paused, &None));
}

/// Where the others have been served for a while, and several of one's own wait already.
#[test]
fn a_place_behind_several_of_ones_own_key_is_when_it_is_served() {
    let weight = |weight| std::num::NonZeroU16::new(weight).unwrap();
    for (share, own) in [(1, 1), (2, 3), (5, 1)] {
        let asked = |key: &str, share| request("s").fairness(key, weight(share)).unwrap();
        let mut bench = Bench::new(&[("s", "", &["1/1s"])]);
        bench.take("s");
        for _ in 0..12 {
            bench.wait(&asked("a", share));
        }
        bench.wait(&asked("b", own));
        let refills: Vec<u64> = (1..=4).map(|second| bench.now + second * S).collect();
        for refill in refills {
            bench.at(refill);
        }
        for own_waiting in 0..4 {
            let explained = bench.explain(&asked("b", own));
            let forecast = explained.forecast.map(|forecast| forecast.admitted_in);
            let served = SECOND * (explained.position.unwrap() as u32 + 1);
            assert_eq!(forecast, Some(served), "{share}:{own}, behind {own_waiting}");
            bench.wait(&asked("b", own));
        }
    }
}

/// Each lower priority that was passed over for long comes first once.
#[test]
fn a_place_counts_those_below_whose_patience_has_ended() {
    let mut bench = Bench::new(&[("s", "", &["1/60s"])]);
    bench.take("s");
    for priority in [200, 100, 50] {
        bench.wait(&request("s").priority(priority).max_wait(Duration::from_secs(3_600)));
    }
    let position = |bench: &mut Bench, priority| bench.explain(&request("s").priority(priority)).position;
    assert_eq!([200, 100, 50, 150].map(|of| position(&mut bench, of)), [1, 2, 3, 1].map(Some));
    bench.at(bench.now + 11 * S);
    assert_eq!((position(&mut bench, 250), position(&mut bench, 150)), (Some(3), Some(3)));
}

#[test]
fn a_remedy_names_the_number_that_is_in_the_way() {
    let mut bench = Bench::new(&[("s", "", &["5/1s:smooth:burst=2:cost"]), ("t", "", &["1/1s:smooth"])]);
    let refusal = refused(&mut bench, &costing("s", 3));
    assert_eq!(refusal.blocked_on[0].remedy_of_size(), "ask for 2 at most; or raise the burst of rule `s` above 2");
    bench.take("t");
    let refusal = refused(&mut bench, &request("t"));
    assert_eq!(
        refusal.blocked_on[0].remedy(),
        "it has room for that again in 1s; or raise the rate or the burst of rule `t`"
    );
    let bring = |minutes: u32| Request::unscoped().inline("s", "k", limits("", &[&format!("5/{minutes}m")])).unwrap();
    for minutes in 1..=8 {
        bench.try_acquire(&bring(minutes)).unwrap();
    }
    let kinds = &refused(&mut bench, &bring(20)).blocked_on[0];
    assert_eq!(kinds.to_string(), "kinds of rates (mode, period, counts) at `s#k` (8/8)");
    assert_eq!(kinds.remedy(), "one of these kinds is over in 1m; or bring one of the kinds that count there");
}

/// A class that was passed over for long has its turn before a newcomer of a higher priority, alone or not.
#[test]
fn who_was_passed_over_for_long_stands_before_a_newcomer() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let holder = bench.take("s");
    let low = bench.wait(&request("s").priority(100).max_wait(Duration::from_secs(60)));
    bench.at(bench.now + 11 * S);
    let high = request("s").priority(200);
    assert_eq!(bench.explain(&high).position, Some(1));
    bench.wait(&high);
    bench.release(&holder);
    assert_eq!(bench.let_in(), [low]);
}
