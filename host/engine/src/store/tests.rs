//! What an engine does while its store cannot write, and what it says to disk by itself.

use super::*;
use crate::engine::{Engine, EngineConfig};
use crate::lease::LeaseError;
use futures::executor::block_on;
use std::num::NonZeroU32;
use weir_limiter::{Change, Precondition, Request, RulePatch, Settled};

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
