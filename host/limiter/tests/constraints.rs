//! Pools, inline keys, shadow limits, and what an operator says of a counter.

mod bench;

use bench::{Bench, S, costing, limits, request, rule, total};
use std::time::Duration;
use weir_limiter::{
    ConstraintKind, Counts, Effect, Input, Limits, MAX_KINDS, Mode, Outcome, Output, Rate, Reason, Request, RuleSpec,
    Verb,
};

fn inline(key: &str, limits: Limits) -> Request {
    Request::unscoped().inline("s", key, limits).unwrap()
}

fn kinds(refusal: &weir_limiter::Refusal) -> Vec<(ConstraintKind, &str)> {
    refusal.blocked_on.iter().map(|constraint| (constraint.kind, constraint.counter.as_str())).collect()
}

#[test]
fn a_pool_is_one_counter_for_all_that_match_and_binds_beside_the_best_rule() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s/*", total("3", &[])), ("s/a", rule("2", &[]))]);
    let first = bench.take("s/a");
    bench.take("s/a");
    let refusal = bench.try_acquire(&request("s/a")).unwrap_err();
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "s/a")]);
    // No rule of its own: the pool alone.
    bench.take("s/b");
    let refusal = bench.try_acquire(&request("s/c")).unwrap_err();
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "s/*")]);
    assert_eq!((bench.held("s/*"), bench.held("s/a"), bench.held("s/c")), ((3, 3), (2, 2), (0, 0)));
    bench.release(&first);
    assert_eq!(bench.held("s/*"), (2, 2));
    // A deeper request is one of the pool's depth too.
    bench.take("s/c/x");
    assert_eq!((bench.held("s/*"), bench.held("s")), ((3, 3), (3, 3)));
}

#[test]
fn a_pool_over_scopes_lets_waiters_of_all_of_them_in_by_arrival() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("*", total("1", &[]))]);
    let holder = bench.take("s");
    let waiters: Vec<_> = ["t", "u", "s", "v"].into_iter().map(|scope| bench.wait(&request(scope))).collect();
    let refusal = bench.try_acquire(&request("w")).unwrap_err();
    assert_eq!(kinds(&refusal), [(ConstraintKind::Concurrency, "*")]);
    let mut lease = holder;
    for waiter in waiters {
        bench.release(&lease);
        let [Effect::Granted { waiter: granted, grant }] = bench.effects.as_slice() else {
            panic!("{:?}", bench.effects)
        };
        assert_eq!(*granted, waiter);
        lease = grant.clone();
    }
    bench.release(&lease);
    assert!(bench.is_empty_after(3_600 * S));
}

#[test]
fn a_pool_that_ends_lets_go_of_who_waits_there() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("*", total("1", &[])), ("t", rule("1", &[]))]);
    bench.take("s");
    let (first, second) = (bench.wait(&request("t")), bench.wait(&request("t")));
    bench.remove("*");
    assert_eq!(bench.let_in(), [first]);
    // The second waits at its own scope now.
    let Effect::Granted { grant, .. } = bench.effects[0].clone() else { panic!() };
    bench.release(&grant);
    assert_eq!(bench.let_in(), [second]);
}

#[test]
fn a_pool_needs_a_star() {
    let book = weir_limiter::RuleBook::default();
    let put = |pattern: &str| weir_limiter::Change::Put {
        pattern: pattern.parse().unwrap(),
        spec: total("1", &[]),
        when: weir_limiter::Precondition::None,
    };
    assert!(book.apply(&[put("s/*")], 0).is_ok());
    let error = book.apply(&[put("s/a")], 0).unwrap_err().to_string();
    assert!(error.contains("`total` belongs to patterns with `*`"), "{error}");
}

#[test]
fn each_is_admitted_by_the_numbers_that_it_brings() {
    let mut bench = Bench::new(&[]);
    let (old, new) = (inline("k", limits("3", &[])), inline("k", limits("1", &[])));
    let first = bench.try_acquire(&old).unwrap();
    bench.try_acquire(&old).unwrap();
    // Of the new configuration none fits beside two of the old one, and the old one goes on until it has drained.
    let refusal = bench.try_acquire(&new).unwrap_err();
    assert_eq!((kinds(&refusal), refusal.blocked_on[0].used), (vec![(ConstraintKind::Concurrency, "s#k")], 2));
    let waiter = bench.wait(&new);
    bench.try_acquire(&old).unwrap();
    bench.release(&first);
    assert_eq!(bench.let_in(), [], "two are still held");
    assert_eq!(bench.held("s#k"), (2, 2));
    assert_eq!(bench.held("s"), (0, 0), "an inline key is no part of its scope's counter");
    bench.step(Input::Cancel { waiter });
}

#[test]
fn a_rate_that_another_brings_sees_what_all_have_started() {
    let mut bench = Bench::new(&[]);
    let (minute, hour) = (inline("k", limits("", &["3/1m"])), inline("k", limits("", &["5/1h"])));
    for _ in 0..2 {
        bench.try_acquire(&minute).unwrap();
        bench.try_acquire(&hour).unwrap();
    }
    // Four have started in the minute, two of them before anybody spoke of hours.
    let refusal = bench.try_acquire(&minute).unwrap_err();
    assert_eq!((refusal.retry_after, refusal.blocked_on[0].used), (Some(Duration::from_secs(60)), 4));
    bench.try_acquire(&hour).unwrap();
    bench.at(1_060 * S);
    bench.try_acquire(&minute).unwrap();
}

#[test]
fn a_ninth_kind_of_rate_is_refused_until_one_has_aged_out() {
    let mut bench = Bench::new(&[]);
    for seconds in 1..=MAX_KINDS {
        bench.try_acquire(&inline("k", limits("", &[&format!("9/{seconds}h")]))).unwrap();
    }
    let ninth = inline("k", limits("", &["9/10h"]));
    let refusal = bench.try_acquire(&ninth).unwrap_err();
    assert_eq!((refusal.reason, kinds(&refusal)), (Reason::Overloaded, vec![(ConstraintKind::Cap, "s#k")]));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(3_600)));
    bench.try_acquire(&inline("k", limits("", &["9/2h"]))).unwrap();
    bench.at(1_000 * S + 3_600 * S);
    bench.try_acquire(&ninth).unwrap();
}

#[test]
fn pinned_numbers_take_the_place_of_what_callers_bring_and_of_the_rule() {
    let mut bench = Bench::new(&[("s", "5", &[])]);
    bench.operate("s#k", &Verb::Pin(limits("1", &[])));
    let wide = inline("k", limits("9", &[]));
    let held = bench.try_acquire(&wide).unwrap();
    let refusal = bench.try_acquire(&wide).unwrap_err();
    assert_eq!((refusal.blocked_on[0].limit, refusal.blocked_on[0].used), (1, 1));
    let waiter = bench.wait(&wide);
    let snapshot = bench.operate("s#k", &Verb::Unpin);
    assert_eq!((bench.let_in(), snapshot.pinned), (vec![waiter], None));
    bench.operate("s", &Verb::Pin(limits("0", &[])));
    let snapshot = bench.counter("s").unwrap();
    assert_eq!((snapshot.pinned.is_some(), snapshot.pattern), (true, None));
    assert_eq!(bench.try_acquire(&request("s")).unwrap_err().blocked_on[0].kind, ConstraintKind::Closed);
    // It outlives a change of the rule, and idleness.
    bench.release(&held);
    bench.set(&[("s", "7", &[])]);
    bench.at(bench.now + 3_600 * S);
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.operate("s", &Verb::Unpin);
    assert!(bench.try_acquire(&request("s")).is_ok());
}

#[test]
fn a_pin_under_which_a_waiter_can_never_fit_ends_it() {
    let mut bench = Bench::new(&[("s", "4:cost", &[])]);
    bench.try_acquire(&costing("s", 4)).unwrap();
    let waiter = bench.wait(&costing("s", 3));
    bench.operate("s", &Verb::Pin(limits("2:cost", &[])));
    let [Effect::Refused { waiter: ended, refusal }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!((*ended, refusal.reason), (waiter, Reason::TooLarge));
}

#[test]
fn a_pause_holds_admissions_and_keeps_who_waits() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let held = bench.take("s");
    let waiter = bench.wait(&request("s"));
    assert!(bench.operate("s", &Verb::Pause).paused);
    bench.release(&held);
    assert_eq!(bench.let_in(), []);
    let refusal = bench.try_acquire(&request("s")).unwrap_err();
    assert_eq!(refusal.reason, Reason::Paused);
    assert!(refusal.to_string().contains("`s` is paused"), "{refusal}");
    assert!(!bench.operate("s", &Verb::Resume).paused);
    assert_eq!(bench.let_in(), [waiter]);
    assert_eq!(bench.operate("s", &Verb::Resume).calls, 1, "twice is once");
}

#[test]
fn a_pause_survives_idleness_and_nobody_hangs_past_a_deadline() {
    let mut bench = Bench::new(&[]);
    bench.operate("s", &Verb::Pause);
    bench.at(bench.now + 86_400 * S);
    let waiter = bench.wait(&request("s").max_wait(Duration::from_secs(5)));
    bench.at(bench.now + 5 * S);
    let [Effect::Refused { waiter: ended, refusal }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!((*ended, refusal.reason), (waiter, Reason::TimedOut));
    assert_eq!(kinds(refusal), [(ConstraintKind::Paused, "s")]);
    bench.operate("s", &Verb::Resume);
    assert!(bench.is_empty_after(60 * S));
}

#[test]
fn a_drain_serves_those_present_and_says_when_it_is_empty() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let first = bench.take("s");
    let waiter = bench.wait(&request("s"));
    assert!(!bench.operate("s", &Verb::Drain).drained);
    match bench.step(Input::Acquire { request: &request("s"), wait: true, secrets: &[] }) {
        Output::Refused(refusal) => assert_eq!(kinds(&refusal)[0], (ConstraintKind::Draining, "s")),
        other => panic!("{other:?}"),
    }
    bench.release(&first);
    let [Effect::Granted { waiter: granted, grant }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!(*granted, waiter);
    let last = grant.clone();
    bench.release(&last);
    let snapshot = bench.counter("s").unwrap();
    assert!(snapshot.draining && snapshot.drained);
    assert_eq!(bench.try_acquire(&request("s")).unwrap_err().reason, Reason::Paused);
    bench.operate("s", &Verb::Resume);
    bench.take("s");
}

#[test]
fn a_reset_forgets_what_was_started_and_nothing_that_is_held() {
    let mut bench = Bench::new(&[("s", "9", &["2/1h"])]);
    bench.take("s");
    bench.take("s");
    let waiter = bench.wait(&request("s"));
    let snapshot = bench.operate("s", &Verb::Reset);
    assert_eq!((bench.let_in(), snapshot.calls, snapshot.rates[0].used), (vec![waiter], 3, 1));
}

#[test]
fn a_pushback_closes_the_last_part_that_was_named_until_then() {
    let mut bench = Bench::new(&[]);
    let lease = bench.take("s/a");
    let outcome = Outcome::PushedBack(Duration::from_secs(7));
    bench.step(Input::Release { lease: lease.parts[0], outcome });
    let refusal = bench.try_acquire(&request("s/a")).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::PushedBack, Some(Duration::from_secs(7))));
    bench.take("s/b");
    let waiter = bench.wait(&request("s/a"));
    bench.at(1_007 * S - 1);
    assert_eq!(bench.let_in(), []);
    bench.at(1_007 * S);
    assert_eq!(bench.let_in(), [waiter]);
    assert_eq!(bench.counter("s/a").unwrap().failed, 1);
}

#[test]
fn a_rule_bounds_a_pushback_or_takes_it_to_a_wider_counter() {
    let mut bench = Bench::new(&[]);
    let within = |max: u64| RuleSpec {
        limits: Limits { max_pushback: Some(Duration::from_secs(max)), ..Limits::default() },
        ..RuleSpec::default()
    };
    bench.put(&[("s", within(3)), ("s/a", within(0))]);
    let lease = bench.take("s/a");
    bench.step(Input::Release { lease: lease.parts[0], outcome: Outcome::PushedBack(Duration::from_secs(7)) });
    let refusal = bench.try_acquire(&request("s/b")).unwrap_err();
    assert_eq!(
        (kinds(&refusal), refusal.retry_after),
        (vec![(ConstraintKind::PushedBack, "s")], Some(Duration::from_secs(3)))
    );
    bench.operate("s", &Verb::Resume);
    bench.take("s/a");
}

#[test]
fn a_shadow_counts_what_it_would_have_refused_and_refuses_nothing() {
    let mut bench = Bench::new(&[]);
    let shadow = RuleSpec { shadow_limits: Some(limits("1", &["3/1m"])), ..RuleSpec::default() };
    bench.put(&[("s", shadow), ("*", rule("4", &[]))]);
    let leases: Vec<_> = (0..4).map(|_| bench.take("s")).collect();
    let seen = |bench: &mut Bench| bench.counter("s").unwrap().shadow.unwrap().would_refuse;
    assert_eq!(seen(&mut bench), 3, "one at a time");
    assert!(bench.try_acquire(&request("s")).is_err(), "the rule of stars enforces: a shadow does not compete");
    for lease in &leases {
        bench.release(lease);
    }
    // What it would have refused has taken none of its rate: two more of three.
    for expected in [3, 3, 4] {
        let lease = bench.take("s");
        assert_eq!(seen(&mut bench), expected);
        bench.release(&lease);
    }
    let total: u64 = bench.limiter.shards().iter().map(|shard| shard.metrics().shadow_refused).sum();
    assert_eq!(total, 4);
}

#[test]
fn a_request_names_sixteen_scopes_and_inline_keys_at_most() {
    let mut wide = request("s0");
    for i in 1..12 {
        wide = wide.also(format!("s{i}").parse().unwrap()).unwrap();
    }
    for i in 0..4 {
        wide = wide.inline("s", &format!("k{i}"), limits("1", &[])).unwrap();
    }
    assert!(wide.clone().also("s99".parse().unwrap()).is_err());
    assert!(wide.clone().inline("s", "k99", limits("1", &[])).is_err());
    assert!(wide.clone().inline("s", "k0", limits("2", &[])).is_err(), "one key with two sets of numbers");
    let mut bench = Bench::new(&[("s11", "1", &[])]);
    let blocker = bench.take("s11");
    assert!(bench.try_acquire(&wide).is_err());
    assert_eq!((bench.held("s0"), bench.held("s#k0")), ((0, 0), (0, 0)), "all or nothing");
    bench.release(&blocker);
    let lease = bench.try_acquire(&wide).unwrap();
    assert_eq!((bench.held("s0"), bench.held("s#k3")), ((1, 1), (1, 1)));
    bench.release(&lease);
    assert!(bench.is_empty_after(60 * S));
}

#[test]
fn limits_that_a_caller_brings_are_checked_like_a_rules() {
    let rate = |limit: u32, period: Duration, mode| Rate {
        limit: limit.try_into().unwrap(),
        period,
        mode,
        burst: None,
        counts: Counts::Calls,
    };
    let with = |rates: Vec<Rate>| Request::unscoped().inline("s", "k", Limits { rates, ..Limits::default() });
    let ok = rate(1, Duration::from_millis(1), Mode::Window);
    assert!(with(vec![ok.clone()]).is_ok());
    assert!(with(vec![rate(1, Duration::from_nanos(999_999), Mode::Window)]).is_err());
    assert!(with(vec![rate(1, Duration::from_secs(366 * 86_400 + 1), Mode::Window)]).is_err());
    assert!(with(vec![rate(u32::MAX, Duration::from_secs(1), Mode::Smooth)]).is_err());
    assert!(with(vec![ok.clone(), ok]).is_err());
    for (scope, key) in [("", "k"), ("s", ""), ("s", "k/l"), ("s", "k#l"), ("s", "*"), ("s", "\u{fc}"), ("s", "\0")] {
        assert!(Request::unscoped().inline(scope, key, limits("1", &[])).is_err(), "{scope:?} {key:?}");
    }
    let long = "k".repeat(128);
    assert!(Request::unscoped().inline("s", &long, limits("1", &[])).is_ok());
    assert!(Request::unscoped().inline("s", &format!("{long}k"), limits("1", &[])).is_err());
}

#[test]
fn room_for_kinds_is_promised_for_when_there_is() {
    let brings = |rates: &[&str]| Request::unscoped().inline("s", "k", limits("", rates)).unwrap();
    let mut bench = Bench::new(&[]);
    // Eight kinds; the first to age out is one that the newcomer brings along again.
    for seconds in 1..=8 {
        bench.try_acquire(&brings(&[&format!("9/{}s:cost", seconds * 10)])).unwrap();
    }
    let asked = brings(&["9/10s:cost", "9/1h:cost"]);
    let retry = bench.try_acquire(&asked).unwrap_err().retry_after.unwrap();
    assert_eq!(retry, Duration::from_secs(20));
    bench.at(bench.now + 20 * S);
    bench.try_acquire(&asked).unwrap();
}

/// The place of a kind is free, and what others have started since counts under it: who brings it again beside a new one keeps that.
#[test]
fn a_kind_that_is_brought_again_makes_no_room_for_another_of_the_same_request() {
    let brings = |rates: &[&str]| Request::unscoped().inline("s", "k", limits("", rates)).unwrap();
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&brings(&["99/50s"])).unwrap();
    bench.try_acquire(&brings(&["99/1m"])).unwrap();
    bench.at(bench.now + 30 * S);
    for hours in 1..=6 {
        bench.try_acquire(&brings(&[&format!("99/{hours}h")])).unwrap();
    }
    // Those of the first two have aged out; six have started since.
    bench.at(bench.now + 31 * S);
    bench.try_acquire(&brings(&["99/9h", "99/1m"])).unwrap();
    assert!(bench.try_acquire(&brings(&["7/1m"])).is_err(), "seven have started within a minute");
    bench.try_acquire(&brings(&["8/1m"])).unwrap();
}

/// So many changes of the book are known, and what a rate drains in the time of each.
#[test]
fn a_rate_drains_through_sixteen_changes_that_nobody_looks_at() {
    let mut bench = Bench::new(&[("s", "", &["1/1m:smooth:burst=10:cost"])]);
    bench.try_acquire(&costing("s", 10)).unwrap();
    bench.at(bench.now + 540 * S);
    for change in 1..=16 {
        bench.set(&[("t", &change.to_string(), &[])]);
    }
    assert_eq!(bench.counter("s").unwrap().rates[0].used, 1);
}

/// Nobody looks at the counter between the change of its rule and its sweep.
#[test]
fn a_slower_pace_is_not_forgotten_when_nobody_looks() {
    let mut bench = Bench::new(&[("s", "", &["60/1h:smooth:burst=10:cost"])]);
    let lease = bench.try_acquire(&costing("s", 10)).unwrap();
    bench.release(&lease);
    bench.at(bench.now + S);
    bench.set(&[("s", "", &["1/1h:smooth:burst=10:cost"])]);
    bench.at(bench.now + 700 * S);
    assert!(bench.try_acquire(&costing("s", 10)).is_err(), "nearly all are still to drain, one an hour");
    bench.at(bench.now + 36_000 * S);
    assert!(bench.try_acquire(&costing("s", 10)).is_ok());
}

#[test]
fn a_pushback_is_bounded_by_the_rule_in_force_though_nobody_has_asked_since_it_changed() {
    let mut bench = Bench::new(&[("s", "5", &[])]);
    let lease = bench.take("s");
    let bounded = Limits { max_pushback: Some(Duration::ZERO), ..limits("5", &[]) };
    bench.put(&[("s", RuleSpec { limits: bounded, ..RuleSpec::default() })]);
    let outcome = Outcome::PushedBack(Duration::from_secs(30));
    bench.step(Input::Release { lease: lease.parts[0], outcome });
    assert!(bench.try_acquire(&request("s")).is_ok(), "the rule allows none");
}

/// What is held when a pool comes into force counts in it, wherever that lies, until it ends: as under any other rule.
#[test]
fn a_pool_that_comes_into_force_counts_what_is_held() {
    for pattern in ["pool/*", "*/*", "*"] {
        let mut bench = Bench::new(&[]);
        let held: Vec<_> = ["pool/a", "pool/b", "pool/c"].iter().map(|key| bench.take(key)).collect();
        let inner = bench.try_acquire(&request("pool/a").lend_from(held[0].parts[0])).unwrap();
        bench.put(&[(pattern, total("2", &[]))]);
        assert_eq!(bench.held(pattern), (3, 3), "{pattern}: who rides holds nothing");
        assert!(bench.try_acquire(&request("pool/d")).is_err());
        let waiter = bench.wait(&request("pool/d"));
        // Off and on again, and a lease that was granted meanwhile.
        let mut off = total("2", &[]);
        off.disabled = true;
        bench.put(&[(pattern, off)]);
        assert_eq!(bench.let_in(), [waiter]);
        let Some(Effect::Granted { grant, .. }) = bench.effects.last().cloned() else { panic!("it is let in") };
        bench.put(&[(pattern, total("2", &[]))]);
        assert_eq!(bench.held(pattern), (4, 4), "{pattern}: nobody counts twice");
        bench.release(&inner);
        for lease in &held {
            assert!(bench.try_acquire(&request("pool/d")).is_err());
            bench.release(lease);
        }
        assert_eq!(bench.held(pattern), (1, 1), "{pattern}");
        let last = bench.take("pool/e");
        assert!(bench.try_acquire(&request("pool/f")).is_err());
        bench.release(&last);
        bench.release(&grant);
        assert_eq!(bench.held(pattern), (0, 0));
        assert!(bench.is_empty_after(60 * S));
    }
}
