//! What an engine does while its store cannot write, and what it says to disk by itself.

use super::*;
use crate::engine::{Engine, EngineConfig};
use crate::lease::LeaseError;
use futures::executor::block_on;
use std::future::Future as _;
use std::num::NonZeroU32;
use weir_limiter::{Change, Precondition, Reason, Refusal, Request, RulePatch, Settled};

fn open(directory: &tempfile::TempDir) -> Engine {
    let (clock, _) = Clock::manual();
    let store = StoreConfig { directory: directory.path().to_owned(), durability: Durability::Process };
    Engine::open(EngineConfig { clock, ..EngineConfig::default() }, &store).unwrap()
}

fn shared(engine: &Engine) -> &Shared {
    &engine.core.store.as_ref().unwrap().shared
}

#[test]
fn while_nothing_more_can_be_kept_back_nothing_is_settled() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(&directory);
    let patch = RulePatch { rates: Some(vec!["100/1m:cost".parse().unwrap()]), ..RulePatch::default() };
    engine.apply(&[Change::Patch { pattern: "s".parse().unwrap(), patch, when: Precondition::None }]).unwrap();
    let cost = NonZeroU32::new(10).unwrap();
    let held = engine.try_acquire(&Request::new("s".parse().unwrap()).cost(cost)).unwrap();
    block_on(engine.saved()).unwrap();

    let shared = shared(&engine);
    shared.failing.store(true, Ordering::SeqCst);
    shared.clogged.store(true, Ordering::SeqCst);
    let pushed = shared.pending.lock().pushed;
    assert_eq!(held.settle(3), Err(LeaseError::Unavailable));
    assert_eq!(shared.pending.lock().pushed, pushed, "nothing is added to what waits");
    shared.clogged.store(false, Ordering::SeqCst);
    assert_eq!(held.settle(3), Ok(Settled { refunded: 7, ..Settled::default() }), "it only fails so far");
    shared.failing.store(false, Ordering::SeqCst);
}

/// What would have to be written starts nothing while that cannot be done, for who comes and for who waits; what a block has still
/// starts.
#[test]
fn while_nothing_can_be_written_nothing_starts_that_would_have_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(&directory);
    let rule = |pattern: &str, rate: &str| {
        let patch = RulePatch {
            concurrency: Some(Some(weir_limiter::Concurrency::calls(1))),
            rates: Some(vec![rate.parse().unwrap()]),
            ..RulePatch::default()
        };
        engine.apply(&[Change::Patch { pattern: pattern.parse().unwrap(), patch, when: Precondition::None }]).unwrap();
    };
    rule("s", "10/1h");
    rule("t", "160/1h");
    let ask = |scope: &str| Request::new(scope.parse().unwrap());
    drop(engine.try_acquire(&ask("t")).unwrap());
    let held = engine.try_acquire(&ask("s")).unwrap();
    let mut waiting = Box::pin(engine.acquire(ask("s")));
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    block_on(engine.saved()).unwrap();

    shared(&engine).failing.store(true, Ordering::SeqCst);
    let pushed = shared(&engine).pending.lock().pushed;
    let unavailable = |outcome: Result<crate::Lease, Refusal>| outcome.unwrap_err().reason == Reason::Unavailable;
    drop(held);
    assert!(unavailable(block_on(waiting)), "who waited");
    for _ in 0..20 {
        assert!(unavailable(engine.try_acquire(&ask("s"))) && engine.check(&ask("s")).is_err(), "who comes");
    }
    for _ in 0..9 {
        drop(engine.try_acquire(&ask("t")).expect("nine are left of the block"));
    }
    assert!(unavailable(engine.try_acquire(&ask("t"))));
    assert_eq!(shared(&engine).pending.lock().pushed, pushed, "nothing is added to what waits");

    shared(&engine).failing.store(false, Ordering::SeqCst);
    for _ in 0..9 {
        drop(engine.try_acquire(&ask("s")).expect("one of ten has started"));
    }
    assert_eq!(engine.try_acquire(&ask("s")).unwrap_err().reason, Reason::Limited);
}
