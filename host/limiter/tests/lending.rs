//! Lending: what a lease holds is lent to as many as follow each other, the start that was made for it once.

mod bench;

use bench::{Bench, S, costing, limits, request, rule, total};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Change, ConstraintKind, Effect, Grant, Input, Limiter, Outcome, Output, Placement, Precondition, Reason, Record,
    Request, RuleBook, RuleSpec, Shard, ShardLimits, ShardSet, Verb,
};

/// A request that rides on a lease.
fn on(lender: &Grant, request: Request) -> Request {
    lender.parts.iter().fold(request, |request, part| request.lend_from(*part))
}

/// Rides on a lease once, so that its start is lent.
fn ride_once(bench: &mut Bench, lender: &Grant, request: Request) {
    let first = bench.try_acquire(&on(lender, request)).unwrap();
    bench.release(&first);
}

/// Units that count under the first rate of a counter.
fn started(bench: &mut Bench, counter: &str) -> u64 {
    bench.counter(counter).unwrap().rates[0].used
}

#[test]
fn what_is_held_is_lent_to_one_at_a_time() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let outer = bench.take("s");
    let nested = on(&outer, request("s"));
    let inner = bench.try_acquire(&nested).unwrap();
    assert_eq!(bench.held("s"), (1, 1));
    assert!(bench.try_acquire(&nested).is_err(), "a second parallel one is new");
    bench.release(&inner);
    let again = bench.try_acquire(&nested).unwrap();
    bench.release(&outer);
    assert_eq!(bench.held("s"), (1, 1), "the borrower takes over what it rode on");
    bench.release(&again);
    assert_eq!(bench.held("s"), (0, 0));
}

#[test]
fn a_start_is_lent_once() {
    let mut bench = Bench::new(&[("s", "1", &["3/1m"])]);
    let outer = bench.take("s");
    for used in 1..=3 {
        let inner = bench.try_acquire(&on(&outer, request("s"))).unwrap();
        assert_eq!((started(&mut bench, "s"), bench.held("s")), (used, (1, 1)));
        bench.release(&inner);
    }
    let refusal = bench.try_acquire(&on(&outer, request("s"))).unwrap_err();
    let kinds: Vec<ConstraintKind> = refusal.blocked_on.iter().map(|constraint| constraint.kind).collect();
    assert_eq!((refusal.reason, kinds.as_slice()), (Reason::Limited, [ConstraintKind::Rate].as_slice()));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(60)));
    // It waits for the rate, while its lender holds on.
    let waiter = bench.wait(&on(&outer, request("s")).max_wait(Duration::from_secs(90)));
    bench.at(bench.now + 60 * S - 1);
    assert_eq!(bench.let_in(), []);
    bench.at(bench.now + 1);
    assert_eq!(bench.let_in(), [waiter]);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (1, (1, 1)));
}

#[test]
fn who_rides_and_times_out_hears_of_the_rate_alone() {
    let mut bench = Bench::new(&[("s", "1", &["1/1h"])]);
    let outer = bench.take("s");
    ride_once(&mut bench, &outer, request("s"));
    bench.wait(&on(&outer, request("s")).max_wait(Duration::from_secs(1)));
    bench.at(bench.now + S);
    let [Effect::Refused { refusal, .. }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    let kinds: Vec<ConstraintKind> = refusal.blocked_on.iter().map(|constraint| constraint.kind).collect();
    assert_eq!((refusal.reason, kinds.as_slice()), (Reason::TimedOut, [ConstraintKind::Rate].as_slice()));
}

#[test]
fn a_start_is_lent_once_at_each_counter() {
    let mut bench = Bench::new(&[("s", "9", &["9/1m"]), ("s/*", "9", &["9/1m"])]);
    let outer = bench.take("s/x");
    ride_once(&mut bench, &outer, request("s"));
    assert_eq!((started(&mut bench, "s"), started(&mut bench, "s/x")), (1, 1));
    ride_once(&mut bench, &outer, request("s/x"));
    assert_eq!((started(&mut bench, "s"), started(&mut bench, "s/x")), (2, 1), "at `s` it was lent before");
    ride_once(&mut bench, &outer, request("s/x"));
    assert_eq!((started(&mut bench, "s"), started(&mut bench, "s/x")), (3, 2));
}

#[test]
fn a_start_pays_for_two_whoever_ends_first() {
    let mut bench = Bench::new(&[("s", "1", &["9/1m"])]);
    let outer = bench.take("s");
    let first = bench.try_acquire(&on(&outer, request("s"))).unwrap();
    bench.release(&outer);
    // It holds by itself now, and its start was not its own.
    let second = bench.try_acquire(&on(&first, request("s"))).unwrap();
    assert_eq!(started(&mut bench, "s"), 2);
    bench.release(&first);
    // That one was: it lends it.
    let third = bench.try_acquire(&on(&second, request("s"))).unwrap();
    assert_eq!(started(&mut bench, "s"), 2);
    bench.release(&third);
    ride_once(&mut bench, &second, request("s"));
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (3, (1, 1)));
}

#[test]
fn a_rate_that_counts_cost_counts_a_later_rider_whole() {
    let mut bench = Bench::new(&[("s", "9:cost", &["9/1m:cost"])]);
    let outer = bench.try_acquire(&costing("s", 3)).unwrap();
    let first = bench.try_acquire(&on(&outer, costing("s", 5))).unwrap();
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (5, (1, 5)), "three are ridden on");
    bench.release(&first);
    let second = bench.try_acquire(&on(&outer, costing("s", 4))).unwrap();
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (9, (1, 4)), "four started, one held");
    // All of it can be refunded, below what it rides on too.
    assert_eq!(bench.settle(&second, 1).refunded, 3);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (6, (1, 3)));
    assert_eq!(bench.settle(&second, 2).overrun, 1);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (7, (1, 4)));
    bench.release(&second);
    assert_eq!(bench.held("s"), (1, 3));
    let refusal = bench.try_acquire(&on(&outer, costing("s", 10))).unwrap_err();
    assert_eq!(refusal.reason, Reason::TooLarge);
}

#[test]
fn what_a_later_rider_does_not_need_goes_to_who_waits_for_the_rate() {
    let mut bench = Bench::new(&[("s", "", &["6/1m:cost"])]);
    let outer = bench.try_acquire(&costing("s", 3)).unwrap();
    ride_once(&mut bench, &outer, costing("s", 3));
    let second = bench.try_acquire(&on(&outer, costing("s", 3))).unwrap();
    let waiter = bench.wait(&costing("s", 2));
    bench.settle(&second, 1);
    assert_eq!(bench.let_in(), [waiter]);
}

#[test]
fn a_pause_and_a_pushback_hold_later_riders() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let outer = bench.take("s");
    bench.operate("s", &Verb::Pause);
    // What was let in before the pause may do what it was let in for, once.
    ride_once(&mut bench, &outer, request("s"));
    let refusal = bench.try_acquire(&on(&outer, request("s"))).unwrap_err();
    assert_eq!(refusal.reason, Reason::Paused);
    let waiter = bench.wait(&on(&outer, request("s")));
    bench.operate("s", &Verb::Resume);
    assert_eq!(bench.let_in(), [waiter]);
    bench.release(&outer);

    let mut bench = Bench::new(&[("s", "2", &[])]);
    let (outer, other) = (bench.take("s"), bench.take("s"));
    ride_once(&mut bench, &outer, request("s"));
    let pushed_back = Outcome::PushedBack(Duration::from_secs(7));
    bench.step(Input::Release { lease: other.parts[0], outcome: pushed_back });
    let refusal = bench.try_acquire(&on(&outer, request("s"))).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::PushedBack, Some(Duration::from_secs(7))));
    bench.at(bench.now + 7 * S);
    ride_once(&mut bench, &outer, request("s"));
}

#[test]
fn a_drain_lets_later_riders_in_since_they_are_present() {
    let mut bench = Bench::new(&[("s", "1", &["2/1m"])]);
    let outer = bench.take("s");
    bench.operate("s", &Verb::Drain);
    ride_once(&mut bench, &outer, request("s"));
    ride_once(&mut bench, &outer, request("s"));
    // The rate holds them as ever, and they may wait for it.
    let Output::Refused(refusal) = bench.step(Input::Check { request: &on(&outer, request("s")) }) else { panic!() };
    assert_eq!(refusal.reason, Reason::Limited);
    let waiter = bench.wait(&on(&outer, request("s")).max_wait(Duration::from_secs(90)));
    bench.at(bench.now + 60 * S);
    assert_eq!(bench.let_in(), [waiter]);
}

/// Who stands behind those who wait for its lender waits for itself: whatever it takes besides.
#[test]
fn no_barrier_stops_a_later_rider() {
    let mut bench = Bench::new(&[("s", "3:cost", &["200/1m"])]);
    let outer = bench.take("s");
    let large = bench.wait(&costing("s", 3));
    // Others pass it, until it has a barrier.
    let mut passed = 0;
    // In another line than its own.
    let other = request("s").also("free".parse().unwrap()).unwrap();
    while let Ok(passing) = bench.try_acquire(&other) {
        bench.release(&passing);
        passed += 1;
    }
    assert_eq!(passed, 64);
    ride_once(&mut bench, &outer, request("s"));
    ride_once(&mut bench, &outer, request("s"));
    let more = bench.try_acquire(&on(&outer, costing("s", 2))).unwrap();
    assert_eq!(bench.held("s"), (1, 2));
    bench.release(&more);
    assert!(bench.try_acquire(&other).is_err(), "who does not ride stands behind it");
    bench.release(&outer);
    assert_eq!(bench.let_in(), [large]);
}

#[test]
fn a_shadow_rate_counts_later_riders() {
    let mut bench = Bench::new(&[]);
    let shadow_limits = Some(limits("1", &["2/1m"]));
    bench.put(&[("s", RuleSpec { shadow_limits, ..RuleSpec::default() })]);
    let would_refuse = |bench: &mut Bench| bench.counter("s").unwrap().shadow.unwrap().would_refuse;
    let outer = bench.take("s");
    ride_once(&mut bench, &outer, request("s"));
    ride_once(&mut bench, &outer, request("s"));
    assert_eq!(would_refuse(&mut bench), 0, "two starts");
    ride_once(&mut bench, &outer, request("s"));
    assert_eq!(would_refuse(&mut bench), 1);
    bench.release(&outer);
    assert_eq!(bench.held("s"), (0, 0));
}

#[test]
fn a_full_log_and_the_kinds_of_an_inline_key_hold_later_riders() {
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, ShardLimits { max_log_entries: 1, ..ShardLimits::default() });
    bench.put(&[("full", rule("", &["2/1h"])), ("plain", rule("9", &[]))]);
    let outer = bench.take("plain");
    bench.put(&[("plain", rule("9", &["5/1h"]))]);
    bench.take("full");
    ride_once(&mut bench, &outer, request("plain"));
    let refusal = bench.try_acquire(&on(&outer, request("plain"))).unwrap_err();
    assert_eq!(refusal.reason, Reason::Overloaded);

    let inline = |rate: &str| Request::unscoped().inline("s", "k", limits("", &[rate])).unwrap();
    let mut bench = Bench::new(&[]);
    let outer = bench.try_acquire(&inline("9/1h")).unwrap();
    for kind in 2..=8 {
        bench.try_acquire(&inline(&format!("9/{kind}h"))).unwrap();
    }
    ride_once(&mut bench, &outer, inline("9/9h"));
    let refusal = bench.try_acquire(&on(&outer, inline("9/9h"))).unwrap_err();
    assert_eq!((refusal.reason, refusal.blocked_on[0].kind), (Reason::Overloaded, ConstraintKind::Cap));
    ride_once(&mut bench, &outer, inline("9/8h"));
}

/// Takes a timed lease, and answers how many units are written down as started.
fn recorded(shard: &mut Shard, request: Request, secret: u128) -> (Grant, u64) {
    let request = Request { lease_time: Some(Duration::from_secs(60)), ..request };
    let input = Input::Acquire { request: &request, wait: false, secrets: &[secret] };
    let output = ShardSet::new(&mut [&mut *shard]).step(1_000 * S, input, &mut Vec::new());
    let Output::Granted(grant) = output else { panic!("{output:?}") };
    let started = shard.take_records().into_iter().filter_map(|record| match record {
        Record::Started { units, .. } => Some(units),
        _ => None,
    });
    (grant, started.sum())
}

#[test]
fn a_later_rider_is_written_down_as_a_start() {
    let mut shard = Shard::new(0, Placement::fixed(1), ShardLimits::default());
    shard.keep_journal();
    let put = Change::Put { pattern: "s".parse().unwrap(), spec: rule("1", &["9/1m"]), when: Precondition::None };
    let book = Arc::new(RuleBook::default().apply(&[put], 0).unwrap());
    ShardSet::new(&mut [&mut shard]).step(1_000 * S, Input::SetBook { book }, &mut Vec::new());
    let (outer, own) = recorded(&mut shard, request("s"), 1);
    let (first, lent) = recorded(&mut shard, on(&outer, request("s")), 2);
    let end = Input::Release { lease: first.parts[0], outcome: Outcome::Ok };
    ShardSet::new(&mut [&mut shard]).step(1_000 * S, end, &mut Vec::new());
    let (_, later) = recorded(&mut shard, on(&outer, request("s")), 3);
    assert_eq!((own, lent, later), (1, 0, 1));
}

/// Else who settles for nothing after each call could call without end.
#[test]
fn what_a_start_has_paid_for_is_not_refunded() {
    let mut bench = Bench::new(&[("s", "9:cost", &["9/1m:cost"])]);
    let outer = bench.try_acquire(&costing("s", 5)).unwrap();
    ride_once(&mut bench, &outer, costing("s", 3));
    assert_eq!(bench.settle(&outer, 0).refunded, 5);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (3, (1, 0)), "three were worked off by another");
    // What it is settled up to later has been started as far as that.
    assert_eq!(bench.settle(&outer, 2).overrun, 2);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (3, (1, 2)));
    assert_eq!(bench.settle(&outer, 4).overrun, 2);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (4, (1, 4)));
    // A later rider's start is its own, and so is its refund.
    let second = bench.try_acquire(&on(&outer, costing("s", 4))).unwrap();
    assert_eq!(started(&mut bench, "s"), 8);
    bench.settle(&second, 0);
    bench.release(&second);
    bench.settle(&outer, 0);
    assert_eq!((started(&mut bench, "s"), bench.held("s")), (3, (1, 0)));
}

/// Ingress, a component, and a call of its: each holds, or rides on who does.
#[test]
fn who_rides_lends_on_what_it_rides_on() {
    let three = |bench: &mut Bench| {
        let outer = bench.try_acquire(&costing("s", 2)).unwrap();
        let inner = bench.try_acquire(&on(&outer, costing("s", 5))).unwrap();
        let call = bench.try_acquire(&on(&inner, costing("s", 4))).unwrap();
        assert_eq!((started(bench, "s"), bench.held("s")), (9, (1, 5)), "the call is a start of its own");
        [outer, inner, call]
    };
    // In whichever order they end, each is carried by those that are left.
    for (order, held) in [
        ([0, 1, 2], [(1, 5), (1, 4)]),
        ([0, 2, 1], [(1, 5), (1, 5)]),
        ([1, 0, 2], [(1, 5), (1, 4)]),
        ([1, 2, 0], [(1, 5), (1, 2)]),
        ([2, 0, 1], [(1, 5), (1, 5)]),
        ([2, 1, 0], [(1, 5), (1, 2)]),
    ] {
        let mut bench = Bench::new(&[("s", "5:cost", &["100/1m:cost"])]);
        let leases = three(&mut bench);
        for (ended, held) in order.into_iter().zip(held) {
            bench.release(&leases[ended]);
            assert_eq!(bench.held("s"), held, "{order:?}");
        }
        bench.release(&leases[order[2]]);
        assert_eq!(bench.held("s"), (0, 0), "{order:?}");
    }
    // The loan of the outer one comes back when the last that it carries has ended.
    let mut bench = Bench::new(&[("s", "5:cost", &["100/1m:cost"])]);
    let [outer, inner, call] = three(&mut bench);
    bench.release(&inner);
    assert!(bench.try_acquire(&on(&outer, costing("s", 2))).is_err(), "it carries the call");
    let waiter = bench.wait(&on(&outer, costing("s", 2)));
    bench.release(&call);
    assert_eq!(bench.let_in(), [waiter]);
}

#[test]
fn what_a_rider_carries_stays_when_it_settles_for_less() {
    let mut bench = Bench::new(&[("s", "9:cost", &[])]);
    let outer = bench.try_acquire(&costing("s", 2)).unwrap();
    let inner = bench.try_acquire(&on(&outer, costing("s", 5))).unwrap();
    let call = bench.try_acquire(&on(&inner, costing("s", 4))).unwrap();
    bench.settle(&inner, 1);
    assert_eq!(bench.held("s"), (1, 4), "four are ridden on: two here, two further on");
    bench.release(&outer);
    assert_eq!(bench.held("s"), (1, 4));
    bench.release(&inner);
    assert_eq!(bench.held("s"), (1, 4));
    bench.release(&call);
    assert_eq!(bench.held("s"), (0, 0));
}

/// Found by the reference: a rate lowered below what was started refused even those who need nothing of it.
#[test]
fn who_rides_on_a_start_needs_nothing_of_a_rate_that_was_lowered() {
    let mut bench = Bench::new(&[("s", "", &["2/1m"])]);
    let first = bench.take("s");
    bench.take("s");
    bench.set(&[("s", "", &["1/1m"])]);
    ride_once(&mut bench, &first, costing("s", 2));
    assert!(bench.try_acquire(&on(&first, request("s"))).is_err(), "it is lent");
}

#[test]
fn a_loan_covers_the_lenders_cost_and_deeper_counters_are_new() {
    let mut bench = Bench::new(&[("s", "5:cost", &[]), ("s/*", "5:cost", &[])]);
    let outer = bench.try_acquire(&costing("s", 3)).unwrap();
    let inner = bench.try_acquire(&on(&outer, costing("s/a", 5))).unwrap();
    assert_eq!((bench.held("s"), bench.held("s/a")), ((1, 5), (1, 5)));
    bench.release(&outer);
    assert_eq!(bench.held("s"), (1, 5));
    bench.release(&inner);
    assert_eq!(bench.held("s"), (0, 0));
}

#[test]
fn a_loan_that_returns_lets_the_next_ride_at_any_counter_of_the_lender() {
    let mut bench = Bench::new(&[("s/*", "1", &[])]);
    let lender = bench.take("s/x");
    // It rides at `s` alone, and gives nothing back at `s/x`, where the other waits for the loan.
    let borrower = bench.try_acquire(&on(&lender, request("s"))).unwrap();
    let waiter = bench.wait(&on(&lender, request("s/x")));
    bench.release(&borrower);
    assert_eq!(bench.let_in(), [waiter]);
}

/// A pool over all scopes lies in a shard of its own: who is called by who holds it rides there too.
#[test]
fn what_is_held_of_a_pool_elsewhere_is_lent() {
    for inner_first in [true, false] {
        let mut bench = Bench::new(&[]);
        bench.put(&[("*", total("1", &[]))]);
        let outer = bench.take("s/x");
        assert_eq!(outer.parts.len(), 2, "the pool is in another shard");
        let nested = on(&outer, request("s/y"));
        let inner = bench.try_acquire(&nested).unwrap();
        assert_eq!((bench.held("*"), bench.held("s"), bench.held("s/y")), ((1, 1), (1, 1), (1, 1)));
        assert!(bench.try_acquire(&nested).is_err(), "it is lent");
        let waiter = bench.wait(&nested);
        let (first, last) = if inner_first { (inner, outer) } else { (outer, inner) };
        bench.release(&first);
        let granted = bench.let_in();
        assert_eq!(bench.held("*"), (1, 1));
        assert_eq!(granted.len(), usize::from(inner_first), "who ends last holds it alone, and lends nothing");
        bench.release(&last);
        let granted = if inner_first { granted } else { bench.let_in() };
        assert_eq!((granted, bench.held("*")), (vec![waiter], (1, 1)));
    }
}

/// A pool that comes into force later is lent as well, though who holds the lease knows nothing of its part there.
#[test]
fn what_is_held_of_a_pool_since_it_came_into_force_is_lent() {
    let mut bench = Bench::new(&[]);
    let outer = bench.take("s/x");
    bench.put(&[("*", total("1", &[]))]);
    let nested = on(&outer, request("s/y"));
    let inner = bench.try_acquire(&nested).unwrap();
    assert_eq!(bench.held("*"), (1, 1));
    assert!(bench.try_acquire(&nested).is_err(), "it is lent");
    bench.release(&outer);
    assert_eq!(bench.held("*"), (1, 1));
    bench.release(&inner);
    assert_eq!(bench.held("*"), (0, 0));
    assert!(bench.try_acquire(&nested).is_ok(), "and ends");
}

/// Who is stopped by a barrier and lacks nothing has none of its own: it would stop whom the other lets by.
#[test]
fn a_barrier_that_waits_for_another_is_put_off() {
    let mut bench = Bench::new(&[("c", "2:cost", &[]), ("d", "9", &[])]);
    let outer = bench.take("c");
    let wide = bench.wait(&costing("c", 2).also("d".parse().unwrap()).unwrap());
    let passing = |bench: &mut Bench, request: &Request| {
        let passing = bench.try_acquire(request)?;
        bench.release(&passing);
        Ok::<_, weir_limiter::Refusal>(())
    };
    while passing(&mut bench, &request("c").priority(255)).is_ok() {}
    let barriers = |bench: &mut Bench| ["c", "d"].map(|name| bench.counter(name).unwrap().barrier);
    assert_eq!(barriers(&mut bench), [Some(wide.ticket); 2]);
    let stopped = bench.wait(&request("d"));
    for _ in 0..3 * weir_limiter::MAX_PASSES {
        passing(&mut bench, &on(&outer, request("d"))).unwrap();
    }
    bench.release(&outer);
    let granted = bench.let_in();
    assert!(granted.contains(&wide) && granted.contains(&stopped), "{granted:?}");
}

/// A lease that is lent is waited for all the same: what is owed to who waits, and its barrier, stop nobody who names that lease.
#[test]
fn who_waits_for_a_lease_that_is_lent_stops_nobody_who_names_it() {
    let small = |key| request("s").fairness(key, std::num::NonZeroU16::MIN).unwrap();
    let mut bench = Bench::new(&[("s", "10:cost", &[])]);
    let outer = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.wait(&costing("s", 8).fairness("large", std::num::NonZeroU16::MIN).unwrap());
    while let Ok(passing) = bench.try_acquire(&small("small")) {
        bench.release(&passing);
    }
    // What is free is owed by now.
    let first = bench.try_acquire(&on(&outer, small("small"))).unwrap();
    let second = bench.try_acquire(&on(&outer, small("small"))).unwrap();
    assert_eq!(bench.held("s"), (2, 6), "the second one pays for itself");
    assert!(bench.try_acquire(&small("small")).is_err());
    bench.release(&second);
    // And a barrier.
    while let Ok(passing) = bench.try_acquire(&small("small").priority(200)) {
        bench.release(&passing);
    }
    assert!(bench.counter("s").unwrap().barrier.is_some());
    let second = bench.try_acquire(&on(&outer, small("small"))).unwrap();
    bench.release(&second);
    bench.release(&first);
}

/// The same, of one who waits itself: what comes free is not kept for who waits for its lender.
#[test]
fn who_waits_for_a_lease_that_is_lent_is_passed_by_a_waiter_that_names_it() {
    let mut bench = Bench::new(&[("s", "10:cost", &[])]);
    let outer = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.try_acquire(&on(&outer, request("s"))).unwrap();
    let other = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.wait(&costing("s", 8).priority(200));
    let stranger = bench.wait(&costing("s", 2));
    let nested = bench.wait(&on(&outer, costing("s", 2)));
    bench.release(&other);
    assert_eq!(bench.let_in(), [nested], "and the other is held back: {stranger:?}");
}

/// Alone it would be too large, and while its lender is lent to another it is alone; but that ends.
#[test]
fn who_waits_to_ride_is_not_too_large_because_others_come_while_its_lender_is_lent() {
    for moves in [false, true] {
        let mut bench = Bench::new(&[("s", "", &["5/1m:cost"]), ("t", "1", &[])]);
        let nested = Request::unscoped().inline("s", "k", limits("1", &[])).unwrap();
        let outer = bench.try_acquire(&costing("s", 2).inline("s", "k", limits("1", &[])).unwrap()).unwrap();
        bench.try_acquire(&costing("s", 2)).unwrap();
        let at_t = bench.take("t");
        let waiter = bench.wait(&on(&outer, costing("s", 6)).max_wait(Duration::from_secs(90)));
        let both = request("t").also("s".parse().unwrap()).unwrap().priority(1);
        if moves {
            bench.wait(&both);
        }
        bench.take("s");
        // It rides elsewhere, and leaves the start at `s` to who waits.
        let inner = bench.try_acquire(&on(&outer, nested)).unwrap();
        // Whether it arrives at `s` or comes there from `t`, it is not the first, and frees nothing.
        if moves {
            bench.release(&at_t);
        } else {
            bench.wait(&request("s").priority(1));
        }
        assert_eq!(bench.effects, [], "moves: {moves}");
        bench.release(&inner);
        bench.at(1_060 * S);
        assert!(bench.let_in().contains(&waiter), "moves: {moves}: {:?}", bench.effects);
    }
}

/// The same, where something does look at it meanwhile: one that comes first, an operator elsewhere, or time.
#[test]
fn who_waits_to_ride_is_not_too_large_while_its_lender_is_lent() {
    for by in 0..3 {
        let mut bench = Bench::new(&[("s", "", &["5/1m:cost"])]);
        let nested = Request::unscoped().inline("s", "k", limits("1", &[])).unwrap();
        let outer = bench.try_acquire(&costing("s", 2).inline("s", "k", limits("1", &[])).unwrap()).unwrap();
        bench.try_acquire(&costing("s", 3)).unwrap();
        let waiter = bench.wait(&on(&outer, costing("s", 6)).max_wait(Duration::from_secs(200)));
        let inner = bench.try_acquire(&on(&outer, nested)).unwrap();
        let refusal = bench.try_acquire(&on(&outer, costing("s", 6))).unwrap_err();
        assert_eq!((refusal.reason, refusal.blocked_on[0].kind), (Reason::Limited, ConstraintKind::Rate));
        match by {
            0 => drop(bench.wait(&request("s").priority(255))),
            1 => drop(bench.operate("elsewhere", &Verb::Pause)),
            _ => drop(bench.at(1_060 * S)),
        }
        assert_eq!(bench.effects, [], "by: {by}");
        bench.release(&inner);
        let mut granted = bench.let_in();
        bench.at(1_060 * S);
        granted.extend(bench.let_in());
        assert!(granted.contains(&waiter), "by: {by}: {granted:?}");
    }
}

/// Who rides when a pool comes into force rides on its lender's share of that, and has it when the lender ends first.
#[test]
fn a_pool_that_comes_into_force_counts_who_rides() {
    for pattern in ["pool/*", "*/*", "*"] {
        let mut bench = Bench::new(&[("pool/a", "2:cost", &[])]);
        let outer = bench.take("pool/a");
        let inner = bench.try_acquire(&on(&outer, costing("pool/a", 2))).unwrap();
        let innermost = bench.try_acquire(&on(&inner, request("pool/a"))).unwrap();
        bench.put(&[(pattern, total("5", &[]))]);
        assert_eq!(bench.held(pattern), (1, 2), "{pattern}");
        bench.release(&outer);
        assert_eq!(bench.held(pattern), (1, 2), "{pattern}");
        bench.release(&inner);
        assert_eq!((bench.held(pattern), bench.held("pool/a")), ((1, 1), (1, 1)), "{pattern}");
        bench.release(&innermost);
        assert_eq!(bench.held(pattern), (0, 0), "{pattern}");
        assert!(bench.is_empty_after(60 * S));
    }
}

/// Somebody waits for what a lease holds, and has a barrier at what its borrowers take below: they go on, or each would wait for the other.
#[test]
fn who_waits_for_a_lender_stops_none_of_its_borrowers() {
    let mut bench = Bench::new(&[("app", "2:cost", &[]), ("app/db", "1", &[])]);
    let outer = bench.take("app");
    let wide = bench.wait(&costing("app/db", 2));
    // What takes nothing at `app` passes nobody there.
    for _ in 0..200 {
        let inner = bench.try_acquire(&on(&outer, request("app/db"))).unwrap();
        bench.release(&inner);
    }
    assert_eq!(bench.counter("app/db").map(|counter| counter.barrier), Some(None));
    // Others do.
    let other = request("app").fairness("db", std::num::NonZeroU16::MIN).unwrap();
    while let Ok(passing) = bench.try_acquire(&other) {
        bench.release(&passing);
    }
    let barrier = bench.counter("app/db").unwrap().barrier;
    assert_eq!(barrier, Some(wide.ticket));
    let inner = bench.try_acquire(&on(&outer, request("app/db"))).unwrap();
    bench.release(&inner);
    // Who has something else stands behind the barrier, as everybody does.
    let elsewhere = bench.take("other");
    assert!(bench.try_acquire(&on(&elsewhere, request("app/db"))).is_err());
    bench.release(&outer);
    assert_eq!(bench.let_in(), [wide]);
}

/// What a lease has for a request, by which whoever holds several chooses.
#[test]
fn an_offer_counts_the_counters_and_names_who_rides() {
    let mut bench = Bench::new(&[("s", "5", &[]), ("s/*", "5", &[])]);
    let outer = bench.try_acquire(&request("s/a")).unwrap();
    let offered = |bench: &Bench, asked: &Request| {
        let offer = bench.limiter.shards()[usize::from(outer.parts[0].shard)].offer(outer.parts[0], asked);
        offer.map(|offer| (offer.counters, offer.lent_to.to_vec()))
    };
    assert_eq!(offered(&bench, &request("s/a")), Some((2, vec![])));
    assert_eq!(offered(&bench, &request("s/b")), Some((1, vec![])));
    assert_eq!(offered(&bench, &request("t")), None);
    let nested = bench.try_acquire(&request("s").lend_from(outer.parts[0])).unwrap();
    assert_eq!(offered(&bench, &request("s/b")), Some((1, vec![nested.fence])));
    bench.release(&nested);
    assert_eq!(offered(&bench, &request("s/b")), Some((1, vec![])));
    bench.release(&outer);
    assert_eq!(offered(&bench, &request("s/a")), None, "it has ended");
}

/// Two ride on one lease in different shards when a pool over both comes into force: its share of that is lent to the first of them, as
/// if they had been granted under the pool.
#[test]
fn a_share_of_a_new_pool_is_lent_to_one() {
    let placement = Placement::fixed(4);
    let scope = |shard| (0..).map(|n| format!("s{n}")).find(|scope| placement.shard_of(scope) == shard).unwrap();
    let (x, y) = (scope(0), scope(1));
    let mut bench = Bench::new(&[]);
    let outer = bench.try_acquire(&request(&x).also(y.parse().unwrap()).unwrap()).unwrap();
    let first = bench.try_acquire(&on(&outer, request(&x))).unwrap();
    let second = bench.try_acquire(&on(&outer, request(&y))).unwrap();
    assert_eq!((bench.held(&x), bench.held(&y)), ((1, 1), (1, 1)));
    bench.put(&[("*", total("9", &[]))]);
    assert_eq!(bench.held("*"), (2, 2), "the second pays for itself");
    for (lease, left) in [(outer, (2, 2)), (second, (1, 1)), (first, (0, 0))] {
        bench.release(&lease);
        assert_eq!(bench.held("*"), left);
    }
}

/// What a barrier lets by depends on what its owner lacks: when that changes, who stands behind it is looked at.
#[test]
fn who_a_barrier_lets_by_now_is_served() {
    let mut bench = Bench::new(&[("c", "4:cost", &[]), ("d", "10:cost", &[])]);
    let (holder, outer) = (bench.take("c"), bench.try_acquire(&costing("d", 5)).unwrap());
    let wide = bench.wait(&costing("c", 4).also("d".parse().unwrap()).unwrap());
    while let Ok(passing) = bench.try_acquire(&request("c").priority(255)) {
        bench.release(&passing);
    }
    let nested = bench.wait(&on(&outer, costing("d", 8)).priority(255));
    assert_eq!(bench.counter("d").unwrap().barrier, Some(wide.ticket), "who lacks `c` does not wait for the lease");
    bench.settle(&outer, 7);
    assert_eq!(bench.let_in(), []);
    bench.release(&holder);
    assert_eq!(bench.let_in(), [nested], "from now on it lacks `d`, and waits for the lease");
}

#[test]
fn a_drain_lets_nobody_in_who_takes_more_than_it_rides_on() {
    let mut bench = Bench::new(&[("s", "9:cost", &[])]);
    let outer = bench.take("s");
    bench.operate("s", &Verb::Drain);
    let refusal = bench.try_acquire(&on(&outer, costing("s", 2))).unwrap_err();
    assert_eq!((refusal.reason, bench.held("s")), (Reason::Paused, (1, 1)));
    ride_once(&mut bench, &outer, request("s"));
}
