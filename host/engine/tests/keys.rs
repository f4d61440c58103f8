//! Idempotency keys, batches of timed leases, and caps that are shared out between callers.
#![cfg(not(feature = "shuttle"))]

use futures::task::noop_waker_ref;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;
use weir_engine::{
    AcquireTimed, Caller, Change, Clock, CounterQuery, Ended, Engine, EngineConfig, KEPT, LeaseError, Limits, Outcome,
    Precondition, Reason, Refusal, Request, RulePatch, Settled, ShardLimits, TimedLease,
};

const LEASE: Duration = Duration::from_secs(10);

fn engine(concurrency: u32) -> Engine {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let patch = RulePatch { concurrency: Some(Some(concurrency.to_string().parse().unwrap())), ..RulePatch::default() };
    let change = Change::Patch { pattern: "*".parse().unwrap(), patch, when: Precondition::None };
    engine.apply(&[change]).unwrap();
    engine
}

fn keyed(key: &str) -> Request {
    Request::new("s/a".parse().unwrap()).lease_time(LEASE).idempotency_key(key).unwrap()
}

fn poll(future: &mut AcquireTimed) -> Poll<Result<TimedLease, Refusal>> {
    Pin::new(future).poll(&mut Context::from_waker(noop_waker_ref()))
}

fn now(engine: &Engine, request: Request) -> Result<TimedLease, Refusal> {
    match poll(&mut engine.acquire_timed(request)) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

/// The same of all that a batch asks for.
fn all(engine: &Engine, request: Request) -> Result<Arc<[TimedLease]>, Refusal> {
    let mut future = engine.acquire_timed_batch(request);
    match Pin::new(&mut future).poll(&mut Context::from_waker(noop_waker_ref())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

fn held(engine: &Engine) -> u64 {
    engine
        .counters(&CounterQuery::default())
        .iter()
        .find(|counter| counter.counter == "s")
        .map_or(0, |counter| counter.calls)
}

/// Inngest A14.6: twenty at once with the same key and constraints answer with identical leases.
#[test]
fn twenty_acquires_under_one_key_are_one_lease() {
    let engine = engine(5);
    let leases: Vec<TimedLease> = (0..20).map(|_| now(&engine, keyed("k")).unwrap()).collect();
    assert!(leases.iter().all(|lease| lease.id == leases[0].id && lease.fence == leases[0].fence));
    assert_eq!(held(&engine), 1);
    now(&engine, keyed("other")).unwrap();
    assert_eq!(held(&engine), 2);
}

#[test]
fn another_request_under_a_key_is_a_conflict_whatever_differs() {
    let engine = engine(5);
    let fair = |key: &str, weight| keyed("k").fairness(key, NonZeroU16::new(weight).unwrap()).unwrap();
    let inline = |key: &str, concurrency: &str| {
        let limits = Limits { concurrency: Some(concurrency.parse().unwrap()), ..Limits::default() };
        keyed("k").inline("s", key, limits).unwrap()
    };
    let batch =
        |count, least| keyed("k").batch(NonZeroU32::new(count).unwrap(), NonZeroU32::new(least).unwrap()).unwrap();
    now(&engine, keyed("k")).unwrap();
    let others = [
        Request::new("s/b".parse().unwrap()).lease_time(LEASE).idempotency_key("k").unwrap(),
        Request::new("t".parse().unwrap()).lease_time(LEASE).idempotency_key("k").unwrap(),
        keyed("k").cost(NonZeroU32::new(2).unwrap()),
        keyed("k").priority(1),
        keyed("k").lease_time(Duration::from_secs(11)),
        keyed("k").also("u".parse().unwrap()).unwrap(),
        fair("f", 1),
        inline("i", "5"),
        batch(2, 1),
    ];
    let conflicts = |engine: &Engine, request: &Request| {
        let answer = all(engine, request.clone());
        assert_eq!(answer.unwrap_err().reason, Reason::Conflict, "{request:?}");
    };
    others.iter().for_each(|other| conflicts(&engine, other));
    assert!(now(&engine, keyed("k").max_wait(Duration::from_secs(3))).is_ok(), "its wait may differ");
    assert_eq!(held(&engine), 1);
    // Of what that request has none of: the key or the weight differs, the name or the numbers, how many or how few.
    for (first, others) in [
        (fair("f", 2), [fair("g", 2), fair("f", 3)]),
        (inline("i", "5"), [inline("j", "5"), inline("i", "6")]),
        (batch(3, 2), [batch(4, 2), batch(3, 1)]),
    ] {
        let engine = self::engine(5);
        let leases = all(&engine, first.clone()).unwrap();
        others.iter().chain([&keyed("k")]).for_each(|other| conflicts(&engine, other));
        assert_eq!(all(&engine, first).unwrap()[0].id, leases[0].id);
        assert_eq!(held(&engine), leases.len() as u64);
    }
}

#[test]
fn a_repetition_joins_who_waits_and_any_of_them_may_leave() {
    let engine = engine(1);
    let blocker = now(&engine, keyed("blocker")).unwrap();
    let (mut first, mut second, mut third) =
        (engine.acquire_timed(keyed("k")), engine.acquire_timed(keyed("k")), engine.acquire_timed(keyed("k")));
    for future in [&mut first, &mut second, &mut third] {
        assert!(poll(future).is_pending());
    }
    assert_eq!(engine.metrics().waiting, 1, "one waiter");
    drop(first);
    assert_eq!(engine.metrics().waiting, 1);
    engine.release(blocker.id, Outcome::Ok).unwrap();
    let (Poll::Ready(Ok(second)), Poll::Ready(Ok(third))) = (poll(&mut second), poll(&mut third)) else { panic!() };
    assert_eq!((second.id, held(&engine)), (third.id, 1));
}

#[test]
fn the_last_who_leaves_takes_the_waiter_along_and_the_key_is_free() {
    let engine = engine(1);
    let blocker = now(&engine, keyed("blocker")).unwrap();
    let mut futures: Vec<AcquireTimed> = (0..3).map(|_| engine.acquire_timed(keyed("k"))).collect();
    for future in &mut futures {
        assert!(poll(future).is_pending());
    }
    futures.clear();
    assert_eq!(engine.metrics().waiting, 0);
    engine.release(blocker.id, Outcome::Ok).unwrap();
    assert_eq!(held(&engine), 0);
    // It never came: another request may take the key.
    now(&engine, keyed("k").priority(3)).unwrap();
}

/// Dropped after the k-th poll, alone or joined, granted meanwhile or not: nothing is held that nobody can find.
#[test]
fn a_keyed_future_may_be_dropped_at_any_poll() {
    for joined in [false, true] {
        for granted in [false, true] {
            for polls in 0..3 {
                let engine = engine(1);
                let blocker = now(&engine, keyed("blocker")).unwrap();
                let mut future = engine.acquire_timed(keyed("k"));
                let mut other = engine.acquire_timed(keyed("k"));
                for _ in 0..polls {
                    let _ = poll(&mut future);
                }
                if joined {
                    let _ = poll(&mut other);
                }
                if granted {
                    engine.release(blocker.id, Outcome::Ok).unwrap();
                }
                drop(future);
                drop(other);
                let left = u64::from(!granted);
                assert_eq!((held(&engine), engine.metrics().waiting), (left, 0), "{joined} {granted} {polls}");
                engine.advance(LEASE + KEPT + Duration::from_secs(60));
                assert!(engine.is_empty(), "{joined} {granted} {polls}");
            }
        }
    }
}

const S: Duration = Duration::from_secs(1);

/// A future, and whether it was woken since it was last polled.
struct Watched {
    future: AcquireTimed,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Watched {
    fn new(engine: &Engine, request: Request) -> Self {
        let mut watched = Self { future: engine.acquire_timed(request), woken: Arc::default() };
        assert!(watched.poll().is_pending());
        watched
    }

    fn poll(&mut self) -> Poll<Result<TimedLease, Refusal>> {
        self.woken.0.store(false, Ordering::SeqCst);
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&self.woken.clone().into()))
    }

    /// What it got, if it was woken; as a task would have it.
    fn got(&mut self) -> Option<Result<TimedLease, Reason>> {
        if !self.woken.0.load(Ordering::SeqCst) {
            return None;
        }
        match self.poll() {
            Poll::Ready(outcome) => Some(outcome.map_err(|refusal| refusal.reason)),
            Poll::Pending => None,
        }
    }
}

#[test]
fn whoever_joins_waits_as_long_as_it_said_itself() {
    let engine = engine(1);
    let blocker = now(&engine, keyed("blocker").lease_time(600 * S)).unwrap();
    let mut first = Watched::new(&engine, keyed("k").max_wait(6 * S));
    let at_once = now(&engine, keyed("k").max_wait(Duration::ZERO)).unwrap_err();
    assert_eq!((at_once.reason, at_once.blocked_on.len()), (Reason::Limited, 1));
    let mut short = Watched::new(&engine, keyed("k").max_wait(S));
    let mut long = Watched::new(&engine, keyed("k").max_wait(10 * S));
    let mut longest = Watched::new(&engine, keyed("k").max_wait(20 * S));
    assert_eq!(engine.metrics().waiting, 1, "one waiter");
    engine.advance(S - Duration::from_nanos(1));
    assert_eq!((first.got(), short.got(), long.got()), (None, None, None));
    engine.advance(Duration::from_nanos(1));
    assert_eq!((first.got(), short.got(), long.got()), (None, Some(Err(Reason::TimedOut)), None));
    engine.advance(5 * S);
    assert_eq!((first.got(), long.got(), longest.got()), (Some(Err(Reason::TimedOut)), None, None));
    assert_eq!(engine.metrics().waiting, 1, "those who are left wait together again");
    engine.advance(4 * S - Duration::from_nanos(1));
    assert_eq!(long.got(), None);
    engine.advance(Duration::from_nanos(1));
    assert_eq!((long.got(), longest.got()), (Some(Err(Reason::TimedOut)), None));
    engine.release(blocker.id, Outcome::Ok).unwrap();
    let Some(Ok(lease)) = longest.got() else { panic!("it was its turn") };
    assert_eq!((now(&engine, keyed("k")).unwrap().id, held(&engine)), (lease.id, 1));
    drop((first, short, long, longest));
    engine.advance(LEASE + KEPT + 60 * S);
    assert!(engine.is_empty());
}

#[test]
fn the_last_whose_wait_is_over_takes_the_waiter_along() {
    let engine = engine(1);
    let blocker = now(&engine, keyed("blocker").lease_time(600 * S)).unwrap();
    let first = Watched::new(&engine, keyed("k").max_wait(6 * S));
    let mut second = Watched::new(&engine, keyed("k").max_wait(S));
    drop(first);
    assert_eq!(engine.metrics().waiting, 1);
    engine.advance(S);
    assert_eq!(second.got(), Some(Err(Reason::TimedOut)));
    assert_eq!(engine.metrics().waiting, 0);
    engine.release(blocker.id, Outcome::Ok).unwrap();
    now(&engine, keyed("k").priority(3)).unwrap();
}

/// Where nothing is said: as long as the first, from its own arrival on; or the default, beside one that has said.
#[test]
fn who_says_nothing_of_its_wait_waits_for_the_default() {
    for said in [None, Some(600 * S), Some(30 * S)] {
        let engine = engine(1);
        let _blocker = now(&engine, keyed("blocker").lease_time(3_600 * S)).unwrap();
        let request = |wait: Option<Duration>| match wait {
            Some(wait) => keyed("k").max_wait(wait),
            None => keyed("k"),
        };
        let _first = Watched::new(&engine, request(said));
        engine.advance(20 * S);
        let mut second = Watched::new(&engine, request(None));
        engine.advance(10 * S);
        assert_eq!(second.got(), None);
        engine.advance(30 * S);
        assert_eq!(second.got(), None, "{said:?}");
        engine.advance(20 * S - Duration::from_nanos(1));
        assert_eq!(second.got(), None, "{said:?}");
        engine.advance(Duration::from_nanos(1));
        assert_eq!(second.got(), Some(Err(Reason::TimedOut)), "{said:?}");
    }
}

#[test]
fn after_its_end_a_key_says_how_it_ended_and_grants_nothing() {
    let ends: [(&str, Ended); 4] = [
        ("released", Ended::Released),
        ("failed", Ended::Failed),
        ("pushed-back", Ended::PushedBack),
        ("expired", Ended::Expired),
    ];
    for (name, how) in ends {
        let engine = engine(5);
        let lease = now(&engine, keyed("k")).unwrap();
        match how {
            Ended::Released => engine.release(lease.id, Outcome::Ok).unwrap(),
            Ended::Failed => engine.release(lease.id, Outcome::Failed).unwrap(),
            Ended::PushedBack => engine.release(lease.id, Outcome::PushedBack(Duration::from_millis(1))).unwrap(),
            Ended::Expired => engine.advance(LEASE),
        }
        let end = if how == Ended::Expired { LEASE } else { Duration::ZERO };
        let refusal = now(&engine, keyed("k")).unwrap_err();
        assert_eq!((refusal.reason, refusal.ended), (Reason::Ended, Some(how)));
        assert!(refusal.to_string().contains(&format!("({name})")), "{refusal}");
        assert_eq!((held(&engine), engine.release(lease.id, Outcome::Ok)), (0, Err(LeaseError::Gone)));
        // Five minutes after the end, to the nanosecond.
        engine.advance(KEPT - Duration::from_nanos(1));
        assert_eq!(now(&engine, keyed("k")).unwrap_err().reason, Reason::Ended, "{name} {end:?}");
        engine.advance(Duration::from_nanos(1));
        assert!(now(&engine, keyed("k")).is_ok(), "{name}");
    }
}

#[test]
fn an_extended_lease_keeps_its_key() {
    let engine = engine(5);
    let lease = now(&engine, keyed("k")).unwrap();
    for _ in 0..60 {
        engine.advance(LEASE / 2);
        engine.extend(lease.id, LEASE).unwrap();
    }
    assert_eq!(now(&engine, keyed("k")).unwrap().id, lease.id);
    engine.advance(LEASE + KEPT - Duration::from_nanos(1));
    assert_eq!(now(&engine, keyed("k")).unwrap_err().reason, Reason::Ended);
}

#[test]
fn a_refusal_is_not_remembered() {
    let engine = engine(1);
    let blocker = now(&engine, keyed("blocker")).unwrap();
    let refused = now(&engine, keyed("k").max_wait(Duration::ZERO)).unwrap_err();
    assert_eq!(refused.reason, Reason::Limited);
    engine.release(blocker.id, Outcome::Ok).unwrap();
    assert!(now(&engine, keyed("k")).is_ok());
}

#[test]
fn callers_have_keys_of_their_own() {
    let engine = engine(5);
    let (one, two) = (engine.caller("one"), engine.caller("two"));
    assert_eq!(engine.caller("one"), one);
    let first = now(&engine, keyed("k").caller(one)).unwrap();
    let second = now(&engine, keyed("k").caller(two).priority(7)).unwrap();
    assert_ne!(first.id, second.id);
}

#[test]
fn a_held_lease_has_no_key_and_bad_keys_are_refused_by_name() {
    let engine = engine(5);
    let held = Request::new("s".parse().unwrap()).idempotency_key("k").unwrap();
    assert_eq!(engine.try_acquire(&held).unwrap_err().reason, Reason::Invalid);
    let with = |key: &str| Request::new("s".parse().unwrap()).idempotency_key(key);
    for key in ["", " ", "a/b", "\u{fc}", "\0", &"k".repeat(129)] {
        assert!(with(key).is_err(), "{key:?}");
    }
    assert!(with(&"k".repeat(128)).is_ok());
}

#[test]
fn a_batch_of_timed_leases_is_repeated_as_a_whole() {
    let engine = engine(5);
    let number = |number: u32| NonZeroU32::new(number).unwrap();
    let request = keyed("k").batch(number(8), number(2)).unwrap();
    let all = |engine: &Engine| all(engine, request.clone());
    let first = all(&engine).unwrap();
    assert_eq!((first.len(), held(&engine)), (5, 5));
    engine.release(first[1].id, Outcome::Ok).unwrap();
    let again = all(&engine).unwrap();
    assert!(again.iter().zip(first.iter()).all(|(again, first)| again.id == first.id));
    assert_eq!((again[1].remaining, again[0].remaining), (Duration::ZERO, LEASE));
    for lease in first.iter() {
        let _ = engine.release(lease.id, Outcome::Ok);
    }
    assert_eq!(all(&engine).unwrap_err().reason, Reason::Ended);
    assert_eq!(
        poll(&mut engine.acquire_timed(request)).map(|outcome| outcome.unwrap_err().reason),
        Poll::Ready(Reason::Invalid)
    );
}

/// Who takes all there is of a cap leaves room for others; alone, it gets half.
#[test]
fn no_caller_takes_the_whole_of_a_cap() {
    let (clock, _) = Clock::manual();
    let limits = ShardLimits { max_counters: 100, max_waiters: 12, max_log_entries: 100, max_leases: 12 };
    let engine = Engine::new(EngineConfig { shards: 1, limits, clock });
    let (greedy, other) = (engine.caller("greedy"), engine.caller("other"));
    let take = |caller, scope: &str| engine.try_acquire(&Request::new(scope.parse().unwrap()).caller(caller));
    let hoard: Vec<_> = std::iter::from_fn(|| take(greedy, "s").ok()).collect();
    assert_eq!(hoard.len(), 6, "half");
    assert_eq!(take(greedy, "s").unwrap_err().reason, Reason::Overloaded);
    let others: Vec<_> = std::iter::from_fn(|| take(other, "s").ok()).collect();
    assert_eq!(others.len(), 3, "half of what is left");
    assert!(take(engine.caller("third"), "s").is_ok(), "a newcomer finds room");
    drop(hoard);
    drop(others);

    let change = |concurrency: &str| Change::Patch {
        pattern: "w".parse().unwrap(),
        patch: RulePatch { concurrency: Some(Some(concurrency.parse().unwrap())), ..RulePatch::default() },
        when: Precondition::None,
    };
    engine.apply(&[change("0")]).unwrap();
    let wait = |caller| {
        let mut future = Box::pin(engine.acquire(Request::new("w".parse().unwrap()).caller(caller)));
        match future.as_mut().poll(&mut Context::from_waker(noop_waker_ref())) {
            Poll::Pending => Ok(future),
            Poll::Ready(outcome) => Err(outcome.unwrap_err().reason),
        }
    };
    let flood: Vec<_> = std::iter::from_fn(|| wait(greedy).ok()).collect();
    assert_eq!((flood.len(), wait(greedy).unwrap_err()), (6, Reason::Overloaded));
    assert!(wait(other).is_ok());
    drop(flood);
    assert!(wait(greedy).is_ok(), "what it gave back is its own again");
}

#[test]
fn a_callers_counters_are_a_share_of_the_cap_too() {
    let (clock, _) = Clock::manual();
    let limits = ShardLimits { max_counters: 10, ..ShardLimits::default() };
    let engine = Engine::new(EngineConfig { shards: 1, limits, clock });
    let greedy = engine.caller("greedy");
    let names = (0..20).map(|i| Request::new(format!("s{i}").parse().unwrap()).caller(greedy));
    let made: Vec<_> = names.map_while(|request| engine.try_acquire(&request).ok()).collect();
    assert_eq!(made.len(), 5);
    assert!(engine.try_acquire(&Request::new("other".parse().unwrap()).caller(engine.caller("other"))).is_ok());
}

/// Whoever waits for a book is told of the next one, and of none twice.
#[test]
fn the_book_can_be_watched() {
    let engine = engine(1);
    let version = engine.book().version();
    let mut context = Context::from_waker(noop_waker_ref());
    let mut next = Box::pin(engine.book_after(version));
    assert!(next.as_mut().poll(&mut context).is_pending());
    engine.apply(&[Change::Delete { pattern: "*".parse().unwrap(), when: Precondition::None }]).unwrap();
    let Poll::Ready(book) = next.as_mut().poll(&mut context) else { panic!("nobody told it") };
    assert_eq!((book.version(), book.len()), (version + 1, 0));
    assert!(
        Box::pin(engine.book_after(0)).as_mut().poll(&mut context).is_ready(),
        "what it does not know yet comes at once"
    );
}

/// A lease is its taker's: to others its id is like a forged one, and nothing changes.
#[test]
fn the_lease_of_another_is_gone() {
    let engine = engine(1);
    let [one, other] = ["one", "other"].map(|name| engine.caller(name));
    for request in [keyed("k"), keyed("l").also("t".parse().unwrap()).unwrap()] {
        let lease = now(&engine, request.clone().caller(one)).unwrap();
        for stranger in [other, Caller::default()].map(|caller| engine.leases_of(caller)) {
            assert_eq!(stranger.extend(lease.id, LEASE * 2), Err(LeaseError::Gone));
            assert_eq!(stranger.settle(lease.id, 1), Err(LeaseError::Gone));
            assert_eq!(stranger.release(lease.id, Outcome::Failed), Err(LeaseError::Gone));
            assert_eq!(stranger.release(lease.id, Outcome::PushedBack(LEASE)), Err(LeaseError::Gone));
        }
        let again = now(&engine, request.caller(one)).unwrap();
        assert_eq!((again.id, again.remaining, held(&engine)), (lease.id, LEASE, 1), "as it was");
        let own = engine.leases_of(one);
        assert_eq!(own.extend(lease.id, LEASE * 2), Ok(LEASE * 2));
        assert_eq!(own.settle(lease.id, 1), Ok(Settled::default()));
        assert_eq!((own.release(lease.id, Outcome::Ok), held(&engine)), (Ok(()), 0));
        assert_eq!(own.release(lease.id, Outcome::Ok), Err(LeaseError::Gone));
    }
}

/// Of several who release one lease at once, one has ended it.
#[test]
fn a_lease_is_released_once_whoever_comes_together() {
    let engine = engine(5);
    for _ in 0..200 {
        let lease = now(&engine, Request::new("s/a".parse().unwrap()).lease_time(LEASE)).unwrap();
        let together = std::sync::Barrier::new(4);
        let ended: usize = std::thread::scope(|scope| {
            let release = || {
                together.wait();
                usize::from(engine.release(lease.id, Outcome::Ok).is_ok())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(release)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((ended, held(&engine)), (1, 0));
    }
}
