//! The engine's locks under a scheduler that chooses every interleaving: no deadlock, no lost wake-up, nothing left.
//!
//! `cargo test -p weir-engine --features shuttle --release --test shuttle`
#![cfg(feature = "shuttle")]

use shuttle::{check_random, future, thread};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use weir_engine::{Change, Clock, Concurrency, Engine, EngineConfig, Precondition, Request, RulePatch, ScopedKey};

const SCHEDULES: usize = 20_000;

fn engine(shards: u16) -> Engine {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, shards, ..EngineConfig::default() });
    let patch = RulePatch { concurrency: Some(Some(Concurrency::calls(1))), ..RulePatch::default() };
    engine.apply(&[Change::Patch { pattern: "*".parse().unwrap(), patch, when: Precondition::None }]).unwrap();
    engine
}

fn key(text: &str) -> ScopedKey {
    text.parse().unwrap()
}

/// Two scopes that lie in different shards.
fn two_scopes(engine: &Engine) -> (String, String) {
    let first = engine.try_acquire(&Request::new(key("s0"))).unwrap().id().shard;
    let other = (1..)
        .map(|n| format!("s{n}"))
        .find(|scope| engine.try_acquire(&Request::new(key(scope))).unwrap().id().shard != first);
    ("s0".into(), other.unwrap())
}

fn assert_nothing_is_held(engine: &Engine) {
    let metrics = engine.metrics();
    assert_eq!((metrics.leases, metrics.waiting), (0, 0));
    for scope in engine.counters(&weir_engine::CounterQuery::default()) {
        assert_eq!((scope.calls, scope.waiting), (0, 0), "{scope:?}");
    }
}

#[test]
fn two_shards_taken_in_opposite_orders() {
    check_random(
        || {
            let engine = engine(4);
            let (a, b) = two_scopes(&engine);
            let running = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = [(a.clone(), b.clone()), (b, a)]
                .into_iter()
                .map(|(first, second)| {
                    let (engine, running) = (engine.clone(), Arc::clone(&running));
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let both = Request::new(key(&first)).also(key(&second)).unwrap();
                            let lease = future::block_on(engine.acquire(both)).unwrap();
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "limit 1");
                            thread::yield_now();
                            running.fetch_sub(1, Ordering::SeqCst);
                            drop(lease);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_nothing_is_held(&engine);
        },
        SCHEDULES,
    );
}

#[test]
fn one_shard_waiters_beside_a_two_shard_waiter() {
    check_random(
        || {
            let engine = engine(4);
            let (a, b) = two_scopes(&engine);
            let wanted = [vec![a.clone()], vec![b.clone()], vec![a, b]];
            let threads: Vec<_> = wanted
                .into_iter()
                .map(|scopes| {
                    let engine = engine.clone();
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let mut request = Request::new(key(&scopes[0]));
                            if let Some(second) = scopes.get(1) {
                                request = request.also(key(second)).unwrap();
                            }
                            drop(future::block_on(engine.acquire(request)).unwrap());
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_nothing_is_held(&engine);
        },
        SCHEDULES,
    );
}

#[test]
fn a_grant_races_a_cancel() {
    check_random(
        || {
            let engine = engine(2);
            let holder = engine.try_acquire(&Request::new(key("s"))).unwrap();
            let canceller = {
                let engine = engine.clone();
                thread::spawn(move || {
                    let mut acquire = Box::pin(engine.acquire(Request::new(key("s"))));
                    future::block_on(async {
                        // One poll, then gone, whatever came of it.
                        std::future::poll_fn(|context| {
                            let _ = acquire.as_mut().poll(context);
                            std::task::Poll::Ready(())
                        })
                        .await;
                    });
                    thread::yield_now();
                    drop(acquire);
                })
            };
            let waiter = {
                let engine = engine.clone();
                thread::spawn(move || drop(future::block_on(engine.acquire(Request::new(key("s")))).unwrap()))
            };
            drop(holder);
            canceller.join().unwrap();
            waiter.join().unwrap();
            assert_nothing_is_held(&engine);
        },
        SCHEDULES,
    );
}

#[test]
fn a_rule_change_races_acquires() {
    check_random(
        || {
            let engine = engine(3);
            let acquirers: Vec<_> = ["a", "b"]
                .into_iter()
                .map(|scope| {
                    let engine = engine.clone();
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let before = engine.book().version();
                            let lease = future::block_on(engine.acquire(Request::new(key(scope)))).unwrap();
                            assert!(lease.book_version() >= before, "an acknowledged book is never undone");
                        }
                    })
                })
                .collect();
            for limit in [0, 2, 1] {
                let patch = RulePatch { concurrency: Some(Some(Concurrency::calls(limit))), ..RulePatch::default() };
                engine
                    .apply(&[Change::Patch { pattern: "*".parse().unwrap(), patch, when: Precondition::None }])
                    .unwrap();
            }
            for thread in acquirers {
                thread.join().unwrap();
            }
            assert_nothing_is_held(&engine);
        },
        SCHEDULES,
    );
}
