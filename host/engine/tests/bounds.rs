//! Every number that a program can put into a request, a lease, a verb or a rule, at and past its bounds: a typed answer from every
//! way to ask, and an engine that is as it was.
//!
//! | Way in | Numbers |
//! |---|---|
//! | a request, however it is asked | `targets` and `inline` (how many), `cost`, `max_wait`, `lease_time`, `priority`, `weight`, `count`, `least`, `cost` times `count`, `caller`, and the limits of each inline key |
//! | a lease, by handle or id | the lease time of `extend`, the cost of `settle`, the pause of an outcome; ids |
//! | `operate` | the limits of a pin |
//! | `apply` | the limits and shadow limits of a rule, its description, versions |
//!
//! Texts become names by constructors that refuse (`ScopedKey`, `Pattern`, `CounterName`, `Request::fairness`), whose tables are in
//! `host/limiter/src/name.rs` and `pattern.rs`. Where a type has no number past a bound, the bound itself is tried.
#![cfg(not(feature = "shuttle"))]

use futures::task::noop_waker_ref;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;
use weir_engine::{
    Caller, Change, Clock, Concurrency, CounterQuery, Engine, EngineConfig, Inline, LeaseError, LeaseId, Limits,
    Outcome, Pattern, Precondition, Rate, Reason, Refusal, Request, RulePatch, RuleSpec, Verb,
};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_nanos(1);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// An engine that has been used: something is held, and something has started.
fn used() -> (Engine, weir_engine::Lease) {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let limits = Limits { rates: vec!["9/1h".parse().unwrap()], ..Limits::default() };
    let spec = RuleSpec { limits, ..RuleSpec::default() };
    engine.apply(&[Change::Put { pattern: "s".parse().unwrap(), spec, when: Precondition::None }]).unwrap();
    let lease = engine.try_acquire(&request()).unwrap();
    (engine, lease)
}

fn request() -> Request {
    Request::new("s".parse().unwrap())
}

fn state(engine: &Engine) -> String {
    let (metrics, counters) = (engine.metrics(), engine.counters(&CounterQuery::default()));
    format!("{metrics:?}\n{counters:?}\n{:?}", engine.book().rules().collect::<Vec<_>>())
}

fn polled<T>(future: impl Future<Output = Result<T, Refusal>>) -> Result<(), Refusal> {
    match pin!(future).poll(&mut Context::from_waker(noop_waker_ref())) {
        Poll::Ready(outcome) => outcome.map(|_| ()),
        Poll::Pending => panic!("it waits"),
    }
}

/// Asks in every way there is, a millisecond apart; the answers.
fn asked(engine: &Engine, request: &Request) -> Vec<(&'static str, Result<(), Refusal>)> {
    let apart = |outcome| {
        engine.advance(Duration::from_millis(1));
        outcome
    };
    vec![
        ("acquire", apart(polled(engine.acquire(request.clone())))),
        ("acquire_now", apart(engine.acquire_now(request).map(|_| ()))),
        ("acquire_batch", apart(polled(engine.acquire_batch(request.clone())))),
        ("try_acquire", apart(engine.try_acquire(request).map(|_| ()))),
        ("try_acquire_batch", apart(engine.try_acquire_batch(request).map(|_| ()))),
        ("check", apart(engine.check(request).map(|_| ()))),
        ("explain", apart(engine.explain(request).map(|_| ()))),
        ("acquire_timed", apart(polled(engine.acquire_timed(request.clone())))),
        ("acquire_timed_batch", apart(polled(engine.acquire_timed_batch(request.clone())))),
    ]
}

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = Request::new("free".parse().unwrap());
    change(&mut request);
    request
}

fn many(targets: usize, keys: usize) -> Request {
    with(|request| {
        request.targets = (0..targets).map(|n| format!("t{n}").parse().unwrap()).collect();
        for n in 0..keys {
            let keyed = Request::unscoped().inline("i", &format!("k{n}"), Limits::default()).unwrap();
            request.inline.extend(keyed.inline);
        }
    })
}

fn bringing(limits: Limits) -> Request {
    let mut request = Request::unscoped().inline("i", "k", Limits::default()).unwrap();
    let name = request.inline[0].name.clone();
    request.inline = vec![Inline { name, limits }.into()];
    request
}

/// Limits at their bounds.
fn good_limits() -> Vec<Limits> {
    let rate = |text: &str| Limits { rates: vec![text.parse().unwrap()], ..Limits::default() };
    vec![
        Limits::default(),
        Limits { concurrency: Some(Concurrency::calls(u32::MAX)), ..Limits::default() },
        rate("1/1ms"),
        rate("4294967295/366days"),
        rate("1/1s:smooth:burst=3162240000"),
        Limits {
            max_waiters: Some(1_000_000),
            max_wait: Some(24 * HOUR),
            max_pushback: Some(24 * HOUR),
            ..Limits::default()
        },
        Limits {
            max_waiters: Some(0),
            max_wait: Some(Duration::ZERO),
            max_pushback: Some(Duration::ZERO),
            ..Limits::default()
        },
    ]
}

/// Limits past them, and what is said.
fn bad_limits() -> Vec<(Limits, &'static str)> {
    let rates = |rates: Vec<Rate>| Limits { rates, ..Limits::default() };
    let window = |period| Rate::window(number(1), period);
    let smooth = |limit: u32, burst: Option<u32>| Rate {
        mode: weir_engine::Mode::Smooth,
        burst: burst.map(number),
        ..Rate::window(number(limit), Duration::from_secs(1))
    };
    vec![
        (rates(vec![window(Duration::ZERO)]), "a period of 0s is out of bounds"),
        (rates(vec![window(Duration::from_nanos(999_999))]), "is out of bounds: 1ms to 366days"),
        (rates(vec![window(366 * 24 * HOUR + MOMENT)]), "is out of bounds: 1ms to 366days"),
        (rates(vec![window(Duration::MAX)]), "is out of bounds: 1ms to 366days"),
        (rates(vec![smooth(1, Some(3_162_240_001))]), "over 100 years"),
        (rates(vec![smooth(u32::MAX, None)]), "cannot be spread evenly"),
        (rates(vec![window(HOUR), window(HOUR)]), "two rates with the same"),
        (rates((1..=5).map(|n| window(n * HOUR)).collect()), "5 rates: a rule has at most 4"),
        (rates(vec![Rate { burst: Some(number(1)), ..window(HOUR) }]), "burst belongs to smooth rates only"),
        (Limits { max_waiters: Some(1_000_001), ..Limits::default() }, "max-waiters 1000001 is too many"),
        (Limits { max_waiters: Some(u32::MAX), ..Limits::default() }, "is too many: at most 1000000"),
        (Limits { max_wait: Some(24 * HOUR + MOMENT), ..Limits::default() }, "is too long: at most 1day"),
        (Limits { max_wait: Some(Duration::MAX), ..Limits::default() }, "is too long: at most 1day"),
        (Limits { max_pushback: Some(24 * HOUR + MOMENT), ..Limits::default() }, "is too long: at most 1day"),
        (Limits { max_pushback: Some(Duration::MAX), ..Limits::default() }, "is too long: at most 1day"),
    ]
}

#[test]
fn requests_within_bounds_are_granted_in_every_way() {
    let good = [
        with(|request| request.cost = number(u32::MAX)),
        with(|request| request.max_wait = Some(Duration::ZERO)),
        with(|request| request.max_wait = Some(Duration::MAX)),
        with(|request| request.lease_time = Some(Duration::from_millis(100))),
        with(|request| request.lease_time = Some(HOUR)),
        with(|request| request.priority = 0),
        with(|request| request.priority = 255),
        with(|request| request.weight = NonZeroU16::new(1_000).unwrap()),
        with(|request| (request.count, request.least) = (number(1_000), number(1_000))),
        with(|request| (request.count, request.cost) = (number(2), number(u32::MAX / 2))),
        with(|request| request.caller = Caller::numbered(0)),
        with(|request| request.caller = Caller::numbered(u32::MAX)),
        many(16, 0),
        many(8, 8),
        many(0, 16),
    ];
    for request in good.into_iter().chain(good_limits().into_iter().map(bringing)) {
        let (engine, _lease) = used();
        for (way, answer) in asked(&engine, &request) {
            // A batch wants more than one answer.
            let fits = request.count == NonZeroU32::MIN || way.ends_with("batch") || matches!(way, "check" | "explain");
            assert_eq!(answer.is_ok(), fits, "{way}: {request:?}: {answer:?}");
        }
        engine.advance(2 * HOUR);
        assert_eq!(engine.metrics().leases, 1, "{request:?}");
    }
}

#[test]
fn requests_past_bounds_are_invalid_in_every_way_and_change_nothing() {
    let (engine, _lease) = used();
    let bad = [
        with(|request| request.lease_time = Some(Duration::ZERO)),
        with(|request| request.lease_time = Some(Duration::from_millis(100) - MOMENT)),
        with(|request| request.lease_time = Some(HOUR + MOMENT)),
        with(|request| request.lease_time = Some(Duration::MAX)),
        with(|request| request.weight = NonZeroU16::new(1_001).unwrap()),
        with(|request| request.weight = NonZeroU16::MAX),
        with(|request| (request.count, request.least) = (number(1), number(2))),
        with(|request| (request.count, request.least) = (number(1_001), number(1))),
        with(|request| (request.count, request.least) = (number(u32::MAX), number(u32::MAX))),
        with(|request| (request.count, request.cost) = (number(2), number(u32::MAX / 2 + 1))),
        many(17, 0),
        many(8, 9),
        many(0, 17),
        many(100_000, 0),
    ];
    let before = state(&engine);
    for request in bad.into_iter().chain(bad_limits().into_iter().map(|(limits, _)| bringing(limits))) {
        for (way, answer) in asked(&engine, &request) {
            assert_eq!(answer.map_err(|refusal| refusal.reason), Err(Reason::Invalid), "{way}: {request:?}");
        }
        assert_eq!(state(&engine), before, "{request:?}");
    }
    // A key that nobody could use again.
    let keyed = request().idempotency_key("k").unwrap();
    assert_eq!(engine.try_acquire(&keyed).unwrap_err().reason, Reason::Invalid);
    assert_eq!(state(&engine), before);
}

#[test]
fn leases_are_extended_settled_and_released_within_bounds() {
    let (engine, lease) = used();
    let timed = match pin!(engine.acquire_timed(request())).poll(&mut Context::from_waker(noop_waker_ref())) {
        Poll::Ready(Ok(timed)) => timed,
        other => panic!("{other:?}"),
    };
    let before = state(&engine);
    for time in [Duration::ZERO, MOMENT, Duration::from_millis(100) - MOMENT, HOUR + MOMENT, Duration::MAX] {
        assert!(matches!(lease.extend(time), Err(LeaseError::LeaseTime(_))), "{time:?}");
        assert!(matches!(engine.extend(timed.id, time), Err(LeaseError::LeaseTime(_))), "{time:?}");
    }
    for id in [
        LeaseId { secret: 0, ..timed.id },
        LeaseId { secret: u128::MAX, ..timed.id },
        LeaseId { shard: timed.id.shard ^ 1, ..timed.id },
        LeaseId { shard: u16::MAX, ..timed.id },
        lease.id(),
    ] {
        assert_eq!(engine.extend(id, HOUR), Err(LeaseError::Gone));
        assert_eq!(engine.settle(id, 1), Err(LeaseError::Gone));
        assert_eq!(engine.release(id, Outcome::Ok), Err(LeaseError::Gone));
    }
    assert_eq!(state(&engine), before);
    for cost in [0, 1, u32::MAX, 0] {
        lease.settle(cost).unwrap();
        engine.settle(timed.id, cost).unwrap();
    }
    engine.release(timed.id, Outcome::PushedBack(Duration::MAX)).unwrap();
    lease.release(Outcome::PushedBack(Duration::ZERO));
    let closed = engine.counters(&CounterQuery::default())[0].pushed_back_for;
    assert_eq!(closed, Some(Duration::from_secs(60)));
    engine.advance(2 * HOUR);
    assert!(engine.is_empty());
}

#[test]
fn rules_and_pins_are_taken_up_to_their_bounds_and_refused_past_them() {
    let (engine, _lease) = used();
    let put = |spec| engine.apply(&[Change::Put { pattern: "p".parse().unwrap(), spec, when: Precondition::None }]);
    let pin = |limits| engine.operate(&"s".parse().unwrap(), &Verb::Pin(limits)).map(|_| ());
    for limits in good_limits() {
        put(RuleSpec { limits: limits.clone(), ..RuleSpec::default() }).unwrap();
        put(RuleSpec { shadow_limits: Some(limits.clone()), ..RuleSpec::default() }).unwrap();
        pin(limits).unwrap();
    }
    let before = state(&engine);
    for (limits, says) in bad_limits() {
        let shadow = Some(limits.clone());
        for error in [
            put(RuleSpec { limits: limits.clone(), ..RuleSpec::default() }).unwrap_err().to_string(),
            put(RuleSpec { shadow_limits: shadow.clone(), ..RuleSpec::default() }).unwrap_err().to_string(),
            patched(&engine, RulePatch { shadow_limits: Some(shadow), ..RulePatch::default() }),
            pin(limits).unwrap_err().to_string(),
        ] {
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(state(&engine), before, "{says}");
    }
    put(RuleSpec { description: "x".repeat(1_024), ..RuleSpec::default() }).unwrap();
    let before = state(&engine);
    let long = put(RuleSpec { description: "x".repeat(1_025), ..RuleSpec::default() }).unwrap_err();
    assert!(long.to_string().contains("1025 bytes long"), "{long}");
    for version in [0, u64::MAX] {
        let pattern: Pattern = "p".parse().unwrap();
        engine.apply(&[Change::Delete { pattern, when: Precondition::Version(version) }]).unwrap_err();
    }
    assert_eq!(state(&engine), before);
}

fn patched(engine: &Engine, patch: RulePatch) -> String {
    let change = Change::Patch { pattern: "p".parse().unwrap(), patch, when: Precondition::None };
    engine.apply(&[change]).unwrap_err().to_string()
}
