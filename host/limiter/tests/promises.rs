//! The promises of the limiter, one test each: what a request gets, when, and what it leaves behind.

use std::num::NonZeroU32;
use std::time::Duration;
use weir_limiter::{
    Change, ConstraintKind, Effect, Grant, IDLE_KEEP, Input, LeaseId, Limiter, Outcome, Output, Precondition, Reason,
    Refusal, Request, RuleBook, RulePatch, ScopedKey, ShardLimits, WaiterId,
};

const S: u64 = 1_000_000_000;

/// A limiter, its book and the effects of the last step.
struct Bench {
    limiter: Limiter,
    book: RuleBook,
    now: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(rules: &[(&str, &str, &[&str])]) -> Self {
        let mut bench = Self {
            limiter: Limiter::new(4, ShardLimits::default()),
            book: RuleBook::default(),
            now: 1_000 * S,
            effects: Vec::new(),
        };
        bench.set(rules);
        bench
    }

    /// Sets concurrency (empty: none) and rates of rules.
    fn set(&mut self, rules: &[(&str, &str, &[&str])]) {
        let changes: Vec<Change> = rules
            .iter()
            .map(|(pattern, concurrency, rates)| Change::Patch {
                pattern: pattern.parse().unwrap(),
                patch: RulePatch {
                    concurrency: Some((!concurrency.is_empty()).then(|| concurrency.parse().unwrap())),
                    rates: Some(rates.iter().map(|rate| rate.parse().unwrap()).collect()),
                    ..RulePatch::default()
                },
                when: Precondition::None,
            })
            .collect();
        self.change(&changes);
    }

    fn patch(&mut self, pattern: &str, patch: RulePatch) {
        self.change(&[Change::Patch { pattern: pattern.parse().unwrap(), patch, when: Precondition::None }]);
    }

    fn change(&mut self, changes: &[Change]) {
        self.book = self.book.apply(changes, 0).unwrap();
        let book = std::sync::Arc::new(self.book.clone());
        self.step(Input::SetBook { book });
    }

    fn step(&mut self, input: Input<'_>) -> Output {
        self.effects.clear();
        self.limiter.step(self.now, input, &mut self.effects)
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self.step(Input::Tick);
        self
    }

    fn try_acquire(&mut self, request: &Request) -> Result<Grant, Refusal> {
        match self.step(Input::Acquire { request, wait: false, secrets: &[] }) {
            Output::Granted(grant) => Ok(grant),
            Output::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, key: &str) -> Grant {
        self.try_acquire(&request(key)).unwrap()
    }

    fn wait(&mut self, request: &Request) -> WaiterId {
        match self.step(Input::Acquire { request, wait: true, secrets: &[] }) {
            Output::Waiting(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, grant: &Grant) {
        for part in &grant.parts {
            assert_eq!(self.step(Input::Release { lease: *part, outcome: Outcome::Ok }), Output::Done);
        }
    }

    fn granted(&self) -> Vec<(WaiterId, Grant)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Granted { waiter, grant } => Some((*waiter, grant.clone())),
                _ => None,
            })
            .collect()
    }

    fn refused(&self) -> Vec<(WaiterId, Refusal)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Refused { waiter, refusal } => Some((*waiter, refusal.clone())),
                _ => None,
            })
            .collect()
    }

    fn usage(&mut self, counter: &str) -> (u64, u64, usize) {
        let Output::Counters(counters) = self.step(Input::Counters { prefix: counter }) else { panic!() };
        counters
            .iter()
            .find(|snapshot| snapshot.counter == counter)
            .map_or((0, 0, 0), |snapshot| (snapshot.calls, snapshot.cost, snapshot.waiting))
    }

    fn assert_empty_when_idle(&mut self) {
        self.at(self.now + 400 * 24 * 3600 * S);
        while let Some(due) = self.limiter.next_due() {
            self.at(due);
        }
        assert!(self.limiter.shards().iter().all(weir_limiter::Shard::is_empty), "{:?}", self.limiter);
    }
}

fn key(text: &str) -> ScopedKey {
    text.parse().unwrap()
}

fn request(text: &str) -> Request {
    Request::new(key(text))
}

fn cost(cost: u32) -> NonZeroU32 {
    NonZeroU32::new(cost).unwrap()
}

#[test]
fn every_depth_is_checked_and_charged_all_or_nothing() {
    let mut bench = Bench::new(&[("s", "10", &[]), ("s/*", "2", &[]), ("s/a/*", "1", &[])]);
    let first = bench.take("s/a/x");
    assert_eq!((bench.usage("s"), bench.usage("s/a"), bench.usage("s/a/x")), ((1, 1, 0), (1, 1, 0), (1, 1, 0)));
    let refusal = bench.try_acquire(&request("s/a/x")).unwrap_err();
    assert_eq!((refusal.reason, refusal.blocked_on.len()), (Reason::Limited, 1));
    assert_eq!(
        (refusal.blocked_on[0].counter.as_str(), refusal.blocked_on[0].used, refusal.blocked_on[0].limit),
        ("s/a/x", 1, 1)
    );
    assert_eq!((bench.usage("s"), bench.usage("s/a")), ((1, 1, 0), (1, 1, 0)), "a refused request leaves no trace");
    bench.release(&first);
    bench.take("s/a/x");
}

#[test]
fn a_scope_is_a_budget_and_a_star_is_no_pool() {
    let mut bench = Bench::new(&[("*", "1", &[])]);
    bench.take("a");
    bench.take("b");
    assert!(bench.try_acquire(&request("a")).is_err());
}

#[test]
fn unscoped_requests_are_free() {
    let mut bench = Bench::new(&[("*", "0", &[])]);
    for _ in 0..10 {
        assert!(bench.try_acquire(&Request::unscoped()).unwrap().parts.is_empty());
    }
}

#[test]
fn a_refused_request_never_consumes_a_rate_token() {
    let mut bench = Bench::new(&[("s", "1", &["3/1m"])]);
    let held = bench.take("s");
    for _ in 0..50 {
        assert_eq!(bench.try_acquire(&request("s")).unwrap_err().blocked_on[0].kind, ConstraintKind::Concurrency);
    }
    bench.release(&held);
    for _ in 0..2 {
        let grant = bench.take("s");
        bench.release(&grant);
    }
    assert_eq!(bench.try_acquire(&request("s")).unwrap_err().blocked_on[0].kind, ConstraintKind::Rate);
}

#[test]
fn a_rate_denies_until_and_admits_at_the_instant_it_names() {
    for rates in [&["3/1m"][..], &["3/1m:smooth:burst=3"], &["3/1m", "100/1h"], &["2/10s:smooth:burst=2", "3/1m"]] {
        let mut bench = Bench::new(&[("s", "", rates)]);
        let mut admitted = 0;
        while bench.try_acquire(&request("s")).is_ok() {
            admitted += 1;
        }
        assert!((2..=3).contains(&admitted), "{rates:?}");
        let refusal = bench.try_acquire(&request("s")).unwrap_err();
        let after = refusal.retry_after.unwrap().as_nanos() as u64;
        assert!(refusal.blocked_on.iter().all(|constraint| !constraint.estimated));
        let start = bench.now;
        assert!(bench.at(start + after - 1).try_acquire(&request("s")).is_err(), "{rates:?} denied until");
        assert!(bench.at(start + after).try_acquire(&request("s")).is_ok(), "{rates:?} admitted at");
    }
}

#[test]
fn limits_count_calls_or_cost() {
    let mut bench = Bench::new(&[("llm", "2", &["3/1m", "10000/1m:cost"])]);
    let big = bench.try_acquire(&request("llm").cost(cost(4_000))).unwrap();
    let bigger = bench.try_acquire(&request("llm").cost(cost(6_000))).unwrap();
    assert_eq!(bench.usage("llm"), (2, 10_000, 0), "a 4,000-token call is one call");
    bench.release(&big);
    bench.release(&bigger);
    let refusal = bench.try_acquire(&request("llm")).unwrap_err();
    assert_eq!(
        (refusal.blocked_on.len(), refusal.blocked_on[0].limit, refusal.blocked_on[0].used),
        (1, 10_000, 10_000)
    );
    let never = bench.try_acquire(&request("llm").cost(cost(10_001))).unwrap_err();
    assert_eq!((never.reason, never.retry_after, never.blocked_on.len()), (Reason::TooLarge, None, 1));
}

#[test]
fn zero_closes_and_is_never_too_large() {
    let mut bench = Bench::new(&[("s", "0", &[])]);
    let refusal = bench.try_acquire(&request("s").cost(cost(u32::MAX))).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.blocked_on[0].kind, refusal.retry_after),
        (Reason::Limited, ConstraintKind::Closed, None)
    );
    let waiter = bench.wait(&request("s"));
    bench.set(&[("s", "1", &[])]);
    assert_eq!(bench.granted()[0].0, waiter, "opening wakes who waits");
}

#[test]
fn waiters_are_served_in_order_of_arrival_and_a_large_one_holds_back_the_rest() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    let held = bench.try_acquire(&request("s").cost(cost(2))).unwrap();
    let large = bench.wait(&request("s").cost(cost(3)));
    let small = bench.wait(&request("s"));
    assert_eq!(
        bench.try_acquire(&request("s")).unwrap_err().blocked_on[0].kind,
        ConstraintKind::Waitlist,
        "a newcomer passes nobody"
    );
    bench.release(&held);
    let granted = bench.granted();
    assert_eq!(granted.iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), [large]);
    bench.release(&granted[0].1);
    assert_eq!(bench.granted()[0].0, small);
}

#[test]
fn a_waiter_that_leaves_lets_the_next_one_pass() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    bench.try_acquire(&request("s").cost(cost(2))).unwrap();
    let large = bench.wait(&request("s").cost(cost(2)));
    let small = bench.wait(&request("s"));
    assert_eq!(bench.step(Input::Cancel { waiter: large }), Output::Done);
    assert_eq!(bench.granted()[0].0, small);
    assert_eq!(bench.step(Input::Cancel { waiter: large }), Output::Gone);
}

#[test]
fn a_waiter_blocked_elsewhere_does_not_hold_back_others() {
    let mut bench = Bench::new(&[("s", "2", &[]), ("s/*", "1", &[])]);
    let a = bench.take("s/a");
    let b = bench.take("s/b");
    let second_a = bench.wait(&request("s/a"));
    let c = bench.wait(&request("s/c"));
    bench.release(&b);
    assert_eq!(bench.granted().iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), [c], "s/a is full, s/c is not");
    bench.release(&a);
    assert_eq!(bench.granted()[0].0, second_a);
}

#[test]
fn a_wait_ends_at_its_deadline_with_the_detail_of_a_refusal() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    bench.take("s");
    let waiter = bench.wait(&request("s").max_wait(Duration::from_secs(2)));
    let start = bench.now;
    assert!(bench.at(start + 2 * S - 1).refused().is_empty());
    let refused = bench.at(start + 2 * S).refused();
    assert_eq!((refused[0].0, refused[0].1.reason), (waiter, Reason::TimedOut));
    assert_eq!(
        (refused[0].1.blocked_on[0].kind, refused[0].1.blocked_on[0].estimated),
        (ConstraintKind::Concurrency, true)
    );
    assert_eq!(bench.usage("s"), (1, 1, 0));
}

#[test]
fn the_shortest_max_wait_holds() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    bench.take("s");
    let start = bench.now;
    bench.wait(&request("s"));
    assert_eq!(bench.limiter.next_due(), Some(start + 60 * S), "60 s where nobody says otherwise");
    bench.patch("s", RulePatch { max_wait: Some(Some(Duration::from_secs(5))), ..RulePatch::default() });
    bench.wait(&request("s").max_wait(Duration::from_secs(30)));
    assert_eq!(bench.limiter.next_due(), Some(start + 5 * S));
    bench.patch("s", RulePatch { max_wait: Some(Some(Duration::ZERO)), ..RulePatch::default() });
    let output = bench.step(Input::Acquire { request: &request("s"), wait: true, secrets: &[] });
    assert!(matches!(output, Output::Refused(Refusal { reason: Reason::Limited, .. })), "0 never waits: {output:?}");
}

#[test]
fn a_full_waitlist_is_overloaded_and_zero_waiters_is_limited() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    bench.patch("s", RulePatch { max_waiters: Some(Some(2)), ..RulePatch::default() });
    bench.take("s");
    bench.wait(&request("s"));
    bench.wait(&request("s"));
    let refused =
        |bench: &mut Bench| match bench.step(Input::Acquire { request: &request("s"), wait: true, secrets: &[] }) {
            Output::Refused(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        };
    assert_eq!(refused(&mut bench), Reason::Overloaded);
    bench.patch("s", RulePatch { max_waiters: Some(Some(0)), ..RulePatch::default() });
    assert_eq!(refused(&mut bench), Reason::Limited);
}

#[test]
fn a_waiter_at_a_rate_is_granted_at_the_refill() {
    let mut bench = Bench::new(&[("s", "", &["1/10s"])]);
    bench.take("s");
    let start = bench.now;
    let first = bench.wait(&request("s"));
    let second = bench.wait(&request("s"));
    assert!(bench.at(start + 10 * S - 1).granted().is_empty());
    let granted = bench.at(start + 10 * S).granted();
    assert_eq!((granted[0].0, granted[0].1.waited, granted.len()), (first, 10 * S, 1));
    assert_eq!(bench.limiter.next_due(), Some(start + 20 * S));
    assert_eq!(bench.at(start + 20 * S).granted()[0].0, second);
}

#[test]
fn lowering_is_soft_and_raising_wakes_no_more_than_fit() {
    let mut bench = Bench::new(&[("s", "3", &[])]);
    let held: Vec<Grant> = (0..3).map(|_| bench.take("s")).collect();
    bench.set(&[("s", "2", &[])]);
    assert_eq!(bench.usage("s"), (3, 3, 0), "holders keep what they have");
    let waiters: Vec<WaiterId> = (0..4).map(|_| bench.wait(&request("s"))).collect();
    bench.release(&held[0]);
    assert!(bench.granted().is_empty());
    bench.set(&[("s", "4", &[])]);
    assert_eq!(bench.granted().iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), waiters[..2]);
    assert_eq!(bench.granted()[0].1.book_version, bench.book.version());
}

#[test]
fn a_waiter_above_a_lowered_limit_ends_at_once() {
    let mut bench = Bench::new(&[("s", "5:cost", &[])]);
    bench.try_acquire(&request("s").cost(cost(5))).unwrap();
    let large = bench.wait(&request("s").cost(cost(4)));
    bench.set(&[("s", "3:cost", &[])]);
    let refused = bench.refused();
    assert_eq!((refused[0].0, refused[0].1.reason), (large, Reason::TooLarge));
}

/// Found by the reference: a rule that goes away let a later waiter take what an earlier one, parked there, needed too.
#[test]
fn a_deleted_rule_does_not_let_a_later_waiter_pass() {
    let mut bench = Bench::new(&[("s", "2", &[]), ("s/a", "1", &[])]);
    bench.take("s/a");
    let earlier = bench.wait(&request("s/a"));
    bench.take("s/b");
    bench.wait(&request("s/a/x"));
    // One more fits under `s`, and `s/a` is unlimited, in one step.
    let raise = RulePatch { concurrency: Some(Some("3".parse().unwrap())), ..RulePatch::default() };
    bench.change(&[
        Change::Patch { pattern: "s".parse().unwrap(), patch: raise, when: Precondition::None },
        Change::Delete { pattern: "s/a".parse().unwrap(), when: Precondition::None },
    ]);
    assert_eq!(bench.granted().iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), [earlier]);
}

#[test]
fn rate_history_survives_edits_disable_and_delete_until_it_ages_out() {
    let mut bench = Bench::new(&[("s", "", &["2/1m"])]);
    bench.take("s");
    bench.take("s");
    let start = bench.now;
    bench.set(&[("s", "", &["3/1m"])]);
    bench.take("s");
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.patch("s", RulePatch { disabled: Some(true), ..RulePatch::default() });
    bench.take("s");
    bench.patch("s", RulePatch { disabled: Some(false), ..RulePatch::default() });
    assert!(bench.try_acquire(&request("s")).is_err(), "the three that counted still do");
    bench.set(&[("s", "", &["1/30s"])]);
    bench.take("s");
    bench.set(&[("s", "", &["3/1m"])]);
    assert!(bench.at(start + 59 * S).try_acquire(&request("s")).is_err());
    assert!(bench.at(start + 60 * S).try_acquire(&request("s")).is_ok());
}

#[test]
fn however_many_kinds_of_rates_a_rule_has_had_what_started_under_each_counts() {
    let rates: Vec<String> = (1..=9).map(|hours| format!("1/{hours}h")).collect();
    let mut bench = Bench::new(&[]);
    for rate in &rates {
        bench.set(&[("s", "", &[rate])]);
        bench.take("s");
    }
    for rate in &rates {
        bench.set(&[("s", "", &[rate])]);
        assert!(bench.try_acquire(&request("s")).is_err(), "{rate}");
    }
}

#[test]
fn a_timed_lease_stops_counting_at_its_very_nanosecond() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let start = bench.now;
    let timed = request("s").lease_time(Duration::from_secs(1));
    let Output::Granted(grant) = bench.step(Input::Acquire { request: &timed, wait: false, secrets: &[7] }) else {
        panic!()
    };
    assert_eq!(grant.ends_at, Some(start + S));
    bench.now = start + S - 1;
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.now = start + S;
    bench.take("s");
    assert_eq!(
        bench.step(Input::Extend { lease: grant.parts[0], lease_time: Duration::from_secs(1) }),
        Output::Gone,
        "no resurrection"
    );
    assert_eq!(
        bench.step(Input::Find { id: LeaseId { shard: grant.parts[0].shard, secret: 7 }, caller: None }),
        Output::Gone
    );
    assert_eq!(bench.limiter.shards().iter().map(|shard| shard.metrics().expired).sum::<u64>(), 1);
}

#[test]
fn extend_moves_the_end_and_never_back_nor_past_the_longest_life() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let start = bench.now;
    let timed = request("s").lease_time(Duration::from_secs(10));
    let Output::Granted(grant) = bench.step(Input::Acquire { request: &timed, wait: false, secrets: &[7] }) else {
        panic!()
    };
    let lease = grant.parts[0];
    assert_eq!(
        bench.step(Input::Extend { lease, lease_time: Duration::from_secs(1) }),
        Output::Extended(Some(start + 10 * S))
    );
    bench.now = start + 9 * S;
    assert_eq!(
        bench.step(Input::Extend { lease, lease_time: Duration::from_secs(20) }),
        Output::Extended(Some(start + 29 * S))
    );
    assert_eq!(
        bench.step(Input::Extend { lease, lease_time: Duration::from_secs(20) }),
        Output::Extended(Some(start + 29 * S))
    );
    for hour in 1..30 {
        bench.now = start + hour * 3_500 * S;
        bench.step(Input::Extend { lease, lease_time: Duration::from_secs(3_600) });
    }
    assert_eq!(bench.usage("s").0, 0, "24 h is the longest life");
}

#[test]
fn fences_grow_with_every_grant_and_a_stale_reference_finds_nothing() {
    let mut bench = Bench::new(&[]);
    let mut last = 0;
    for round in 0..100 {
        bench.now += 1;
        let grant = bench.take(["a", "b/c", "d/e/f"][round % 3]);
        assert!(grant.fence > last);
        last = grant.fence;
        bench.release(&grant);
        assert_eq!(bench.step(Input::Release { lease: grant.parts[0], outcome: Outcome::Ok }), Output::Gone);
    }
    let first = bench.take("a");
    bench.release(&first);
    let second = bench.take("a");
    assert!(second.fence > first.fence);
    assert_eq!(
        bench.step(Input::Release { lease: first.parts[0], outcome: Outcome::Ok }),
        Output::Gone,
        "the slot has a new tenant"
    );
    assert_eq!(bench.usage("a").0, 1);
}

#[test]
fn a_request_over_several_scopes_is_one_step() {
    let mut bench = Bench::new(&[("a", "1", &[]), ("b", "1", &[])]);
    let b = bench.take("b");
    let both = request("a").also(key("b")).unwrap();
    assert!(bench.try_acquire(&both).is_err());
    assert_eq!(bench.usage("a"), (0, 0, 0));
    let waiter = bench.wait(&both);
    assert_eq!(bench.usage("a"), (0, 0, 0), "a waiter holds nothing");
    let a = bench.take("a");
    bench.release(&b);
    assert!(bench.granted().is_empty());
    bench.release(&a);
    let granted = bench.granted();
    assert_eq!((granted[0].0, bench.usage("a").0, bench.usage("b").0), (waiter, 1, 1));
    bench.release(&granted[0].1);
    assert_eq!((bench.usage("a").0, bench.usage("b").0), (0, 0));
    bench.assert_empty_when_idle();
}

#[test]
fn a_shared_counter_of_two_targets_is_charged_once() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    bench.try_acquire(&request("s/a").also(key("s/b")).unwrap()).unwrap();
    assert_eq!((bench.usage("s"), bench.usage("s/a").0, bench.usage("s/b").0), ((1, 1, 0), 1, 1));
}

#[test]
fn check_says_what_acquire_would_and_changes_nothing() {
    let mut bench = Bench::new(&[("s", "1", &["5/1m"]), ("s/*", "1", &[])]);
    let Output::WouldGrant(binding) = bench.step(Input::Check { request: &request("s/a") }) else { panic!() };
    assert_eq!(
        binding.iter().map(|constraint| (constraint.counter.as_str(), constraint.kind)).collect::<Vec<_>>(),
        [("s", ConstraintKind::Concurrency), ("s", ConstraintKind::Rate), ("s/a", ConstraintKind::Concurrency)]
    );
    assert!(bench.limiter.shards().iter().all(weir_limiter::Shard::is_empty));
    bench.take("s/a");
    assert!(matches!(
        bench.step(Input::Check { request: &request("s/b") }),
        Output::Refused(Refusal { reason: Reason::Limited, .. })
    ));
    assert!(matches!(bench.step(Input::Check { request: &Request::unscoped() }), Output::WouldGrant(_)));
}

#[test]
fn idle_counters_vanish_but_never_their_quota() {
    let mut bench = Bench::new(&[("s/*", "", &["1/1h"])]);
    let start = bench.now;
    for n in 0..100 {
        let grant = bench.take(&format!("s/k{n}"));
        bench.release(&grant);
    }
    bench.at(start + IDLE_KEEP * 2);
    assert!(bench.try_acquire(&request("s/k7")).is_err(), "a sweep does not forgive");
    bench.at(start + 3_600 * S);
    let counters: u64 = bench.limiter.shards().iter().map(|shard| shard.metrics().counters).sum();
    assert!(counters <= 1, "{counters}");
    bench.assert_empty_when_idle();
}

#[test]
fn named_caps_refuse_the_new_and_keep_the_present() {
    let limits = ShardLimits { max_counters: 4, max_waiters: 1, max_log_entries: 2, max_leases: 3 };
    let mut bench = Bench::new(&[("*", "1", &[]), ("r", "", &["9/1h"]), ("q", "", &["9/1h"])]);
    bench.limiter = Limiter::new(1, limits);
    bench.set(&[]);
    let reason = |bench: &mut Bench, key: &str| match bench.step(Input::Acquire {
        request: &request(key),
        wait: true,
        secrets: &[],
    }) {
        Output::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    };
    let a = bench.take("a");
    bench.wait(&request("a"));
    assert_eq!(reason(&mut bench, "a"), Reason::Overloaded, "one waiter in all");
    bench.take("b");
    let r = bench.take("r");
    assert_eq!(reason(&mut bench, "c"), Reason::Overloaded, "three leases in all");
    bench.release(&r);
    let second = bench.try_acquire(&request("r")).unwrap();
    bench.release(&second);
    bench.now += 1;
    assert_eq!(
        bench.try_acquire(&request("r")).map(|grant| bench.release(&grant)),
        Ok(()),
        "a counter with a log goes on"
    );
    bench.now += 1;
    assert_eq!(reason(&mut bench, "q"), Reason::Overloaded, "two log entries in all");
    bench.take("c");
    assert_eq!(reason(&mut bench, "d"), Reason::Overloaded, "four counters in all");
    bench.release(&a);
}

#[test]
fn closing_ends_every_waiter_and_refuses_the_rest() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    bench.take("s");
    let waiter = bench.wait(&request("s"));
    bench.step(Input::Close);
    assert_eq!(bench.refused()[0].0, waiter);
    assert_eq!(bench.try_acquire(&request("s")).unwrap_err().reason, Reason::Unavailable);
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::new(&[("s", "", &["1/1m"])]);
    bench.take("s");
    bench.now -= 500 * S;
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.take("t");
}

#[test]
fn a_lowered_smooth_rate_keeps_its_history() {
    let mut bench = Bench::new(&[("s", "", &["60/1m:smooth:burst=60"])]);
    let start = bench.now;
    for _ in 0..30 {
        bench.take("s");
    }
    bench.set(&[("s", "", &["1/1m:smooth:burst=1"])]);
    // 30 units are to drain, one a minute: the next is on time after 29 of them and its own.
    bench.at(start + 30 * S);
    let refusal = bench.try_acquire(&request("s")).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(30 * 60 - 30)));
    bench.at(start + 30 * 60 * S - 1);
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.at(start + 30 * 60 * S).take("s");
}

#[test]
fn a_raised_smooth_rate_wakes_who_fits_now() {
    let mut bench = Bench::new(&[("s", "", &["1/1m:smooth:burst=1"])]);
    bench.take("s");
    let waiters: Vec<_> = (0..10).map(|_| bench.wait(&request("s"))).collect();
    bench.set(&[("s", "", &["60/1m:smooth:burst=6"])]);
    // One of six is in use.
    assert_eq!(bench.granted().iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), waiters[..5]);
}

#[test]
fn a_lease_over_several_shards_is_extended_whole_or_not_at_all() {
    let mut bench = Bench::new(&[]);
    let start = bench.now;
    let mut wide = request("a0").lease_time(Duration::from_secs(1));
    for n in 1..12 {
        wide = wide.also(key(&format!("a{n}"))).unwrap();
    }
    let grant = bench.try_acquire(&wide).unwrap();
    assert!(grant.parts.len() > 1, "four shards, twelve scopes");
    bench.now = start + S - 1;
    let extend = Input::Extend { lease: grant.parts[0], lease_time: Duration::from_secs(60) };
    assert_eq!(bench.step(extend.clone()), Output::Extended(Some(start + 61 * S - 1)));
    bench.at(start + 61 * S - 2);
    assert!((0..12).all(|n| bench.usage(&format!("a{n}")).0 == 1), "all of it lives");
    bench.at(start + 61 * S - 1);
    assert!((0..12).all(|n| bench.usage(&format!("a{n}")).0 == 0), "all of it has ended");
    assert_eq!(bench.step(extend), Output::Gone);
}

#[test]
fn a_late_tick_takes_what_is_due_in_the_order_of_time() {
    // Whatever shards the two scopes lie in: the second is free too late.
    for n in 0..40 {
        let (x, y) = (format!("x{n}"), format!("y{n}"));
        let mut bench = Bench::new(&[("*", "1", &[])]);
        let start = bench.now;
        bench.try_acquire(&request(&x).lease_time(Duration::from_secs(4))).unwrap();
        bench.try_acquire(&request(&y).lease_time(Duration::from_secs(2))).unwrap();
        let both = request(&y).also(key(&x)).unwrap().max_wait(Duration::from_secs(3));
        let waiter = bench.wait(&both);
        bench.at(start + 10 * S);
        let refused = bench.refused();
        assert_eq!(
            refused.iter().map(|(other, why)| (*other, why.reason)).collect::<Vec<_>>(),
            [(waiter, Reason::TimedOut)]
        );
    }
}

#[test]
fn a_rates_retry_after_is_an_estimate_where_others_wait() {
    let mut bench = Bench::new(&[("s", "", &["1/10s"])]);
    let start = bench.now;
    bench.take("s");
    bench.wait(&request("s"));
    let refusal = bench.try_acquire(&request("s")).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(20)));
    assert!(
        refusal.blocked_on.iter().any(|constraint| constraint.kind == ConstraintKind::Waitlist && constraint.estimated)
    );
    assert!(bench.at(start + 10 * S).try_acquire(&request("s")).is_err(), "the waiter took it");
    bench.at(start + 20 * S).take("s");
}
