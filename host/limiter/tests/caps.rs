//! Caps, large costs, and questions: what a full or closed limiter says, and to whom.

use std::num::NonZeroU32;
use std::sync::Arc;
use weir_limiter::*;

fn book(pattern: &str, limits: Limits) -> Arc<RuleBook> {
    let spec = RuleSpec { limits, ..RuleSpec::default() };
    let put = Change::Put { pattern: pattern.parse().unwrap(), spec, when: Precondition::None };
    Arc::new(RuleBook::default().apply(&[put], 0).unwrap())
}

fn step(limiter: &mut Limiter, input: Input<'_>) -> (Output, Vec<Effect>) {
    let mut effects = Vec::new();
    let output = limiter.step(1, input, &mut effects);
    (output, effects)
}

fn acquire(request: &Request, wait: bool) -> Input<'_> {
    Input::Acquire { request, wait, secrets: &[] }
}

#[test]
fn a_cost_above_the_burst_is_too_large_however_large() {
    for (rate, cost) in [("1/1h:smooth:burst=2:cost", 5_124_097), ("10/1m:smooth:burst=10:cost", 3_074_457_347)] {
        let limits = Limits { rates: vec![rate.parse().unwrap()], ..Limits::default() };
        let mut limiter = Limiter::new(1, ShardLimits::default());
        step(&mut limiter, Input::SetBook { book: book("s", limits) });
        let request = Request::new("s".parse().unwrap()).cost(NonZeroU32::new(cost).unwrap());
        let (output, _) = step(&mut limiter, acquire(&request, false));
        assert!(matches!(&output, Output::Refused(r) if r.reason == Reason::TooLarge), "{rate}, {cost}: {output:?}");
    }
}

#[test]
fn a_cap_that_is_reached_touches_no_waiter() {
    let caps = ShardLimits { max_leases: 1, ..ShardLimits::default() };
    let mut limiter = Limiter::new(1, caps);
    let closed = Limits { concurrency: Some(Concurrency::calls(0)), ..Limits::default() };
    let book = book("s", closed);
    step(&mut limiter, Input::SetBook { book: Arc::clone(&book) });
    let (waits, other) = (Request::new("s".parse().unwrap()), Request::new("free".parse().unwrap()));
    assert!(matches!(step(&mut limiter, acquire(&waits, true)).0, Output::Waiting(_)));
    assert!(matches!(step(&mut limiter, acquire(&other, false)).0, Output::Granted(_)));
    // The same book again: nothing has changed for the waiter.
    let (_, effects) = step(&mut limiter, Input::SetBook { book });
    assert_eq!(effects, [], "a waiter is touched");
}

#[test]
fn a_counter_cap_that_is_reached_touches_no_waiter() {
    let caps = ShardLimits { max_counters: 2, ..ShardLimits::default() };
    let mut limiter = Limiter::new(1, caps);
    let closed = Limits { concurrency: Some(Concurrency::calls(0)), ..Limits::default() };
    let book = book("s", closed);
    step(&mut limiter, Input::SetBook { book: Arc::clone(&book) });
    // It needs `s` and `s/a`; only `s`, where it is parked, outlives the question.
    let (waits, other) = (Request::new("s/a".parse().unwrap()), Request::new("free".parse().unwrap()));
    assert!(matches!(step(&mut limiter, acquire(&waits, true)).0, Output::Waiting(_)));
    assert!(matches!(step(&mut limiter, acquire(&other, false)).0, Output::Granted(_)));
    let (_, effects) = step(&mut limiter, Input::SetBook { book });
    assert_eq!(effects, [], "a waiter is touched");
}

#[test]
fn a_cap_is_shown_as_it_stood_in_the_way() {
    let mut limiter = Limiter::new(1, ShardLimits { max_counters: 2, ..ShardLimits::default() });
    let request = Request::new("s/a/b".parse().unwrap());
    let (output, _) = step(&mut limiter, acquire(&request, false));
    let Output::Refused(refusal) = output else { panic!("{output:?}") };
    assert_eq!((refusal.blocked_on[0].used, refusal.blocked_on[0].limit), (2, 2), "{refusal}");
}

#[test]
fn a_check_at_a_cap_counts_no_refusal() {
    let mut limiter = Limiter::new(1, ShardLimits { max_counters: 2, ..ShardLimits::default() });
    let request = Request::new("s/a/b".parse().unwrap());
    step(&mut limiter, Input::Check { request: &request });
    assert_eq!(limiter.shards()[0].metrics().refused, [0; Reason::ALL.len()]);
}

#[test]
fn a_check_of_a_closed_limiter_says_so() {
    let mut limiter = Limiter::new(1, ShardLimits::default());
    step(&mut limiter, Input::Close);
    let request = Request::new("s".parse().unwrap());
    let (foreseen, _) = step(&mut limiter, Input::Check { request: &request });
    assert_eq!(foreseen, step(&mut limiter, acquire(&request, false)).0);
}
