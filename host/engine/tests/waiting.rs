//! Waiting, cancelling and time, on a manual clock unless a test says otherwise.
#![cfg(not(feature = "shuttle"))]

use futures::task::noop_waker_ref;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use weir_engine::{
    Acquire, Change, Clock, CounterQuery, Engine, EngineConfig, IDLE_KEEP, Lease, LeaseError, Outcome, Precondition,
    Reason, Refusal, Request, RuleError, RulePatch, ScopedKey,
};

fn manual() -> Engine {
    let (clock, _) = Clock::manual();
    Engine::new(EngineConfig { clock, ..EngineConfig::default() })
}

fn rule(pattern: &str, concurrency: Option<u32>, rates: &[&str]) -> Change {
    let patch = RulePatch {
        concurrency: Some(concurrency.map(weir_engine::Concurrency::calls)),
        rates: Some(rates.iter().map(|rate| rate.parse().unwrap()).collect()),
        ..RulePatch::default()
    };
    Change::Patch { pattern: pattern.parse().unwrap(), patch, when: Precondition::None }
}

fn key(text: &str) -> ScopedKey {
    text.parse().unwrap()
}

fn request(text: &str) -> Request {
    Request::new(key(text))
}

fn poll(future: &mut Pin<Box<Acquire>>) -> Poll<Result<Lease, Refusal>> {
    future.as_mut().poll(&mut Context::from_waker(noop_waker_ref()))
}

fn waiting(engine: &Engine, request: Request) -> Pin<Box<Acquire>> {
    let mut future = Box::pin(engine.acquire(request));
    assert!(poll(&mut future).is_pending());
    future
}

fn granted(future: &mut Pin<Box<Acquire>>) -> Lease {
    match poll(future) {
        Poll::Ready(Ok(lease)) => lease,
        other => panic!("{other:?}"),
    }
}

fn calls(engine: &Engine, counter: &str) -> u64 {
    let query = CounterQuery { prefix: Some(counter.into()), limit: 0 };
    engine.counters(&query).iter().find(|snapshot| snapshot.counter == counter).map_or(0, |snapshot| snapshot.calls)
}

fn assert_empty_when_idle(engine: &Engine) {
    engine.advance(Duration::from_nanos(2 * IDLE_KEEP) + Duration::from_secs(3_600));
    assert!(engine.is_empty(), "{:?}", engine.metrics());
}

#[test]
fn a_lease_is_given_back_when_dropped_and_the_next_is_woken() {
    let engine = manual();
    engine.apply(&[rule("s", Some(1), &[])]).unwrap();
    let lease = engine.try_acquire(&request("s")).unwrap();
    let mut second = waiting(&engine, request("s"));
    drop(lease);
    let lease = granted(&mut second);
    assert_eq!(calls(&engine, "s"), 1);
    drop((lease, second));
    assert_eq!(calls(&engine, "s"), 0);
    assert_empty_when_idle(&engine);
}

#[test]
fn a_refill_a_deadline_and_an_end_come_with_nothing_arriving() {
    let engine = manual();
    engine.apply(&[rule("rate", None, &["1/10s"]), rule("s", Some(1), &[])]).unwrap();
    drop(engine.try_acquire(&request("rate")).unwrap());
    let mut refill = waiting(&engine, request("rate"));
    let timed = engine.try_acquire(&request("s").lease_time(Duration::from_secs(5))).unwrap();
    let mut gives_up = waiting(&engine, request("s").max_wait(Duration::from_secs(1)));
    let mut expiry = waiting(&engine, request("s"));
    engine.advance(Duration::from_millis(999));
    assert!(poll(&mut gives_up).is_pending());
    engine.advance(Duration::from_millis(1));
    assert!(matches!(poll(&mut gives_up), Poll::Ready(Err(Refusal { reason: Reason::TimedOut, .. }))));
    engine.advance(Duration::from_nanos(3_999_999_999));
    assert!(poll(&mut expiry).is_pending() && !timed.is_lost());
    engine.advance(Duration::from_nanos(1));
    assert!(timed.is_lost());
    assert_eq!(timed.extend(Duration::from_secs(1)), Err(LeaseError::Gone));
    drop((granted(&mut expiry), timed));
    engine.advance(Duration::from_nanos(4_999_999_999));
    assert!(poll(&mut refill).is_pending());
    engine.advance(Duration::from_nanos(1));
    assert_eq!(granted(&mut refill).waited(), Duration::from_secs(10));
    assert_empty_when_idle(&engine);
}

/// Every wait state a future can be dropped in, and what must be as if it had never come.
#[test]
fn a_future_may_be_dropped_at_any_poll_in_any_state() {
    for polls in 0..4 {
        for grant_first in [false, true] {
            for keys in [&["a"][..], &["a/x"], &["a", "b"], &["b", "a/x/y"]] {
                let engine = manual();
                engine.apply(&[rule("*", Some(1), &["100/1h"])]).unwrap();
                let holder = engine.try_acquire(&request("a")).unwrap();
                let mut wanted = request(keys[0]);
                for other in &keys[1..] {
                    wanted = wanted.also(key(other)).unwrap();
                }
                let mut future = Box::pin(engine.acquire(wanted));
                for _ in 0..polls {
                    assert!(poll(&mut future).is_pending());
                }
                let mut behind = waiting(&engine, request("a"));
                if grant_first {
                    drop(holder);
                    drop(future);
                } else {
                    drop(future);
                    drop(holder);
                }
                let lease = granted(&mut behind);
                assert_eq!((calls(&engine, "a"), calls(&engine, "b")), (1, 0), "{polls} polls, {keys:?}");
                drop((lease, behind));
                assert_empty_when_idle(&engine);
            }
        }
    }
}

#[test]
fn a_waiter_over_two_shards_is_granted_when_its_last_shard_frees_up() {
    let engine = manual();
    engine.apply(&[rule("*", Some(1), &[])]).unwrap();
    let scopes: Vec<String> = (0..16).map(|n| format!("scope-{n}")).collect();
    let mut all = request(&scopes[0]);
    for scope in &scopes[1..] {
        all = all.also(key(scope)).unwrap();
    }
    let holders: Vec<Lease> = scopes.iter().map(|scope| engine.try_acquire(&request(scope)).unwrap()).collect();
    let mut waiter = waiting(&engine, all);
    for (index, holder) in holders.into_iter().rev().enumerate() {
        assert!(poll(&mut waiter).is_pending(), "{index} free");
        drop(holder);
    }
    let lease = granted(&mut waiter);
    assert!(scopes.iter().all(|scope| calls(&engine, scope) == 1));
    drop(lease);
    assert!(scopes.iter().all(|scope| calls(&engine, scope) == 0));
    drop(waiter);
    assert_empty_when_idle(&engine);
}

#[test]
fn rules_change_live_and_a_decision_names_its_book() {
    let engine = manual();
    let first = engine.apply(&[rule("s", Some(1), &[])]).unwrap();
    let lease = engine.try_acquire(&request("s")).unwrap();
    assert_eq!(lease.book_version(), first.version());
    let mut second = waiting(&engine, request("s"));
    let book = engine.apply(&[rule("s", Some(2), &[])]).unwrap();
    assert_eq!(granted(&mut second).book_version(), book.version());
    assert_eq!(engine.book().version(), book.version());
    assert_eq!(engine.apply(&[rule("s", Some(2), &[])]).unwrap().version(), book.version(), "a change of nothing");
}

#[test]
fn a_batch_for_another_book_changes_nothing() {
    let engine = Engine::new(EngineConfig::default());
    let book = engine.apply_to(engine.book().version(), &[rule("s", Some(1), &[])]).unwrap();
    for version in [0, book.version() - 1, book.version() + 1, u64::MAX] {
        let error = engine.apply_to(version, &[rule("t", Some(1), &[])]).unwrap_err();
        assert_eq!(error, RuleError::BookVersionMismatch { expected: version, found: book.version() });
    }
    assert_eq!((engine.book().version(), engine.book().len()), (book.version(), 1));
    assert_eq!(engine.apply_to(book.version(), &[rule("t", Some(1), &[])]).unwrap().len(), 2);
}

#[test]
fn timed_leases_live_by_their_id() {
    let engine = manual();
    engine.apply(&[rule("*", Some(1), &[])]).unwrap();
    let wanted = request("a").also(key("b")).unwrap();
    let mut future = pin!(engine.acquire_timed(wanted.clone()));
    let Poll::Ready(Ok(timed)) = future.as_mut().poll(&mut Context::from_waker(noop_waker_ref())) else { panic!() };
    assert_eq!((timed.remaining, calls(&engine, "a"), calls(&engine, "b")), (Duration::from_secs(30), 1, 1));
    assert_eq!(engine.extend(timed.id, Duration::from_secs(60)), Ok(Duration::from_secs(60)));
    assert!(matches!(engine.extend(timed.id, Duration::from_millis(99)), Err(LeaseError::LeaseTime(_))));
    let mut forged = timed.id;
    forged.secret ^= 1;
    assert_eq!(engine.release(forged, Outcome::Ok), Err(LeaseError::Gone));
    forged.shard = u16::MAX;
    assert_eq!(engine.release(forged, Outcome::Ok), Err(LeaseError::Gone));
    assert_eq!(engine.release(timed.id, Outcome::Ok), Ok(()));
    assert_eq!(engine.release(timed.id, Outcome::Ok), Err(LeaseError::Gone));
    let mut dropped = Box::pin(engine.acquire_timed(wanted));
    drop(engine.try_acquire(&request("a")).unwrap());
    let _ = dropped.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
    engine.advance(Duration::from_secs(30));
    assert_eq!((calls(&engine, "a"), calls(&engine, "b")), (0, 0), "it ends by itself");
    drop(dropped);
    assert_empty_when_idle(&engine);
}

#[test]
fn a_nested_acquire_rides_on_the_lease_around_it() {
    let engine = manual();
    engine.apply(&[rule("s", Some(1), &["1/1m"])]).unwrap();
    let outer = engine.try_acquire(&request("s")).unwrap();
    let inner = engine.try_acquire(&request("s").lend_from(outer.parts()[0])).unwrap();
    drop(outer);
    assert_eq!(calls(&engine, "s"), 1);
    drop(inner);
    assert_eq!(calls(&engine, "s"), 0);
}

/// Found by the simulator, when it began to lend over several shards: each of two that ride and wait at one counter, and have other
/// shards besides, was looked at in vain and sent for the other, without end.
#[test]
fn those_who_ride_and_wait_for_several_scopes_do_not_send_for_each_other() {
    let engine = manual();
    engine.apply(&[rule("s", Some(1), &[])]).unwrap();
    let outer = engine.try_acquire(&request("s")).unwrap();
    let lender = outer.parts()[0];
    let inner = engine.try_acquire(&request("s").lend_from(lender)).unwrap();
    let riding = |index: u32| request("s").also(key(&format!("other-{index}"))).unwrap().lend_from(lender);
    let mut riders: Vec<_> = (0..8).map(|index| waiting(&engine, riding(index))).collect();
    // Who leaves and who comes makes the counter look at them all.
    drop(waiting(&engine, request("s")));
    drop(riders.pop());
    assert_eq!(calls(&engine, "s"), 1);
    // Each rides in its turn.
    drop(inner);
    for mut rider in riders {
        drop(granted(&mut rider));
    }
    drop(outer);
    assert_empty_when_idle(&engine);
}

#[test]
fn bad_requests_are_refused_typed() {
    let engine = manual();
    let refusal = engine.try_acquire(&request("s").lease_time(Duration::from_nanos(1))).unwrap_err();
    assert_eq!(refusal.reason, Reason::Invalid);
    engine.apply(&[rule("s", Some(1), &[])]).unwrap();
    assert!(engine.try_acquire(&request("s").cost(NonZeroU32::MAX)).is_ok(), "calls are counted, not cost");
    engine.shut_down();
    assert_eq!(engine.try_acquire(&request("s")).unwrap_err().reason, Reason::Unavailable);
    assert_eq!(engine.metrics().leases, 0);
}

#[test]
fn the_engine_may_go_before_its_leases() {
    let engine = manual();
    engine.apply(&[rule("*", Some(1), &[])]).unwrap();
    let one = engine.try_acquire(&request("a")).unwrap();
    let two = engine.try_acquire(&request("b").also(key("c")).unwrap()).unwrap();
    drop(engine);
    assert_eq!(two.extend(Duration::from_secs(1)), Ok(None));
    drop((one, two));
}

/// On the machine's clock: the thread wakes for refills, deadlines and ends, and is woken for earlier ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timer_thread_wakes_by_itself() {
    let engine = Engine::new(EngineConfig::default());
    engine.apply(&[rule("r", None, &["1/50ms"]), rule("s", Some(1), &[])]).unwrap();
    let started = std::time::Instant::now();
    for _ in 0..4 {
        drop(engine.acquire(request("r")).await.unwrap());
    }
    assert!(started.elapsed() >= Duration::from_millis(150), "never early");
    let forgotten = engine.try_acquire(&request("s").lease_time(Duration::from_millis(100))).unwrap();
    let late = engine.acquire(request("s").max_wait(Duration::from_millis(20))).await;
    assert_eq!(late.unwrap_err().reason, Reason::TimedOut);
    drop(engine.acquire(request("s")).await.unwrap());
    assert!(forgotten.is_lost());
    assert_eq!(engine.metrics().expired, 1);
}

/// The timer thread comes late to where nobody waits; whoever looks does not notice.
#[test]
fn what_has_ended_is_seen_to_have_ended_at_once() {
    let engine = Engine::new(EngineConfig::default());
    engine.apply(&[rule("s", Some(1), &[])]).unwrap();
    for round in 1..=10 {
        let forgotten = engine.try_acquire(&request("s").lease_time(Duration::from_millis(100))).unwrap();
        while !forgotten.is_lost() {
            std::thread::yield_now();
        }
        if round % 2 == 0 {
            let metrics = engine.metrics();
            assert_eq!((metrics.leases, metrics.expired), (0, round));
        }
        assert_eq!(calls(&engine, "s"), 0);
        assert!(engine.try_acquire(&request("s")).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_never_exceed_the_limit_and_leave_nothing() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let engine = Engine::new(EngineConfig::default());
    engine.apply(&[rule("s", Some(3), &[]), rule("t", Some(2), &[])]).unwrap();
    let running = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (engine, running) = (engine.clone(), Arc::clone(&running));
            tokio::spawn(async move {
                for round in 0..20 {
                    let scopes: &[&str] = [&["s"][..], &["t"], &["s", "t"], &["t", "s"]][(n + round) % 4];
                    let mut wanted = request(scopes[0]);
                    if let Some(other) = scopes.get(1) {
                        wanted = wanted.also(key(other)).unwrap();
                    }
                    let acquired = engine.acquire(wanted);
                    let lease = if (n * 7 + round) % 5 == 0 {
                        match tokio::time::timeout(Duration::from_micros(300), acquired).await {
                            Ok(lease) => lease.unwrap(),
                            Err(_) => continue,
                        }
                    } else {
                        acquired.await.unwrap()
                    };
                    for (index, (scope, limit)) in [("s", 3), ("t", 2)].into_iter().enumerate() {
                        if scopes.contains(&scope) {
                            assert!(running[index].fetch_add(1, Ordering::SeqCst) < limit, "over the limit of {scope}");
                        }
                    }
                    tokio::task::yield_now().await;
                    for (index, scope) in ["s", "t"].into_iter().enumerate() {
                        if scopes.contains(&scope) {
                            running[index].fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    drop(lease);
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("nobody is forgotten").unwrap();
    }
    let metrics = engine.metrics();
    assert_eq!((metrics.leases, metrics.waiting, calls(&engine, "s"), calls(&engine, "t")), (0, 0, 0, 0));
}

/// Every pair of twelve scopes, so that the two lie in one shard, in two, and parked in either.
fn pairs() -> impl Iterator<Item = (String, String)> {
    (0..12).flat_map(|a| (0..12).filter(move |b| *b != a).map(move |b| (format!("s{a}"), format!("s{b}"))))
}

#[test]
fn a_waiter_over_two_scopes_times_out_wherever_it_is_parked() {
    for (free, busy) in pairs() {
        let engine = manual();
        engine.apply(&[rule("*", Some(1), &[])]).unwrap();
        let held = engine.try_acquire(&request(&busy)).unwrap();
        let both = request(&free).also(key(&busy)).unwrap().max_wait(Duration::from_secs(5));
        let mut first = waiting(&engine, both.clone());
        let mut second = waiting(&engine, both.max_wait(Duration::from_secs(7)));
        engine.advance(Duration::from_nanos(4_999_999_999));
        assert!(poll(&mut first).is_pending());
        engine.advance(Duration::from_nanos(1));
        assert!(matches!(poll(&mut first), Poll::Ready(Err(refusal)) if refusal.reason == Reason::TimedOut));
        assert!(poll(&mut second).is_pending(), "the next in its line waits on");
        drop(held);
        drop(granted(&mut second));
        assert_empty_when_idle(&engine);
    }
}

#[test]
fn a_barrier_over_two_scopes_rises_and_falls_wherever_it_is_parked() {
    for (a, b) in pairs() {
        let engine = manual();
        engine.apply(&[rule("*", Some(1), &[])]).unwrap();
        let mut held = [engine.try_acquire(&request(&a)).unwrap(), engine.try_acquire(&request(&b)).unwrap()];
        let mut wide = waiting(&engine, request(&a).also(key(&b)).unwrap());
        let mut passed = 0;
        // Never free at the same time: each is taken again before the other frees up.
        let stopped = 'passing: loop {
            for (scope, held) in [&a, &b].into_iter().zip(&mut held) {
                let mut next = waiting(&engine, request(scope));
                let before = std::mem::replace(held, engine.try_acquire(&Request::unscoped()).unwrap());
                drop(before);
                match poll(&mut next) {
                    Poll::Ready(lease) => *held = lease.unwrap(),
                    Poll::Pending => break 'passing next,
                }
                passed += 1;
                assert!(passed < 1_000, "passed {passed} times");
            }
        };
        // One of the two is free now, and kept free for the wide one.
        drop(held);
        let lease = granted(&mut wide);
        let mut stopped = stopped;
        assert!(poll(&mut stopped).is_pending());
        drop(lease);
        drop(granted(&mut stopped));
        assert_empty_when_idle(&engine);
    }
}

/// Who stands before it may need counters in other shards than it does: a forecast knows what becomes of them too.
#[test]
fn a_forecast_comes_true_behind_who_needs_more_shards() {
    let engine = manual();
    engine.apply(&[rule("q", None, &["1/1s"]), rule("p", None, &["1/1500ms"])]).unwrap();
    let _held = [engine.try_acquire(&request("q")).unwrap(), engine.try_acquire(&request("p")).unwrap()];
    let mut both = waiting(&engine, Request::new(key("p")).also(key("q")).unwrap());
    let mut before = waiting(&engine, request("q"));
    let asked = request("q").max_wait(Duration::from_secs(60));
    let forecast = engine.explain(&asked).unwrap().forecast.unwrap();
    let mut last = waiting(&engine, asked);
    assert!(!forecast.estimated, "rates say so");
    let after = (1..=10_000).find(|_| {
        engine.advance(Duration::from_millis(1));
        for earlier in [&mut both, &mut before] {
            drop(poll(earlier));
        }
        poll(&mut last).is_ready()
    });
    assert_eq!(after.map(Duration::from_millis), Some(forecast.admitted_in));
}

/// Every pool over all scopes lies in one shard, and those who wait for it in any.
#[test]
fn a_forecast_at_a_pool_knows_all_who_wait_for_it() {
    let engine = manual();
    let mut spec = weir_engine::RuleSpec { total: true, ..weir_engine::RuleSpec::default() };
    spec.limits.rates.push("1/1s".parse().unwrap());
    engine.apply(&[Change::Put { pattern: "*".parse().unwrap(), spec, when: Precondition::None }]).unwrap();
    let _held = engine.try_acquire(&request("x")).unwrap();
    let _others = [waiting(&engine, request("y")), waiting(&engine, request("z"))];
    let forecast = engine.explain(&request("x").max_wait(Duration::from_secs(20))).unwrap().forecast.unwrap();
    assert_eq!((forecast.admitted_in, forecast.estimated), (Duration::from_secs(3), false));
}
