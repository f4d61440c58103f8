//! A defect that was seen in another limiter and that takes threads to show; the others stand in `weir-limiter`.
#![cfg(not(feature = "shuttle"))]

use std::sync::Barrier;
use weir_engine::{Change, Clock, Concurrency, Engine, EngineConfig, Lease, Precondition, Request, RulePatch};

/// limitador 0.14: of threads that came at the same time, one more than the limit got in, in about one round of a hundred.
#[test]
fn threads_that_come_together_get_exactly_the_limit() {
    const ROUNDS: usize = 3_000;
    const LIMIT: usize = 3;
    let concurrency = RulePatch { concurrency: Some(Some(Concurrency::calls(3))), ..RulePatch::default() };
    let rate = RulePatch { rates: Some(vec!["3/1h".parse().unwrap()]), ..RulePatch::default() };
    for (threads, patch) in [(2, &concurrency), (4, &concurrency), (2, &rate), (4, &rate)] {
        let (clock, _) = Clock::manual();
        let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
        let change = Change::Patch { pattern: "*".parse().unwrap(), patch: patch.clone(), when: Precondition::None };
        engine.apply(&[change]).unwrap();
        let together = Barrier::new(threads);
        let caller = || -> Vec<usize> {
            let rounds = (0..ROUNDS).map(|round| {
                let wanted = Request::new(format!("round-{round}").parse().unwrap());
                together.wait();
                let leases: Vec<Lease> = (0..LIMIT).filter_map(|_| engine.try_acquire(&wanted).ok()).collect();
                // Nobody gives back before all have asked.
                together.wait();
                leases.len()
            });
            rounds.collect()
        };
        let granted: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..threads).map(|_| scope.spawn(caller)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        for round in 0..ROUNDS {
            let in_all: usize = granted.iter().map(|caller| caller[round]).sum();
            assert_eq!(in_all, LIMIT, "{threads} threads, {patch:?}, round {round}");
        }
    }
}
