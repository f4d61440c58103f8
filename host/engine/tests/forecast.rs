//! A forecast of rates comes true when nothing else arrives, whatever shards those before it lie in.
//!
//! The programs are always the same: of some forty thousand others one was granted before its forecast, behind nine who need several
//! shards, and why is not known. A copy looks at these at once, where the server has to bring their shards first.
#![cfg(not(feature = "shuttle"))]

use futures::task::noop_waker_ref;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use weir_engine::{Acquire, Change, Clock, Engine, EngineConfig, Lease, Precondition, Refusal, Request, RuleSpec};

/// Periods of which no few add up to the same: where two counters in different shards have room at one instant, either may be first.
const SCOPES: [(&str, &str); 3] = [("a", "1/1009ms"), ("b", "2/1499ms"), ("c", "1/701ms:smooth")];
const POOL: (&str, &str) = ("*", "3/1103ms");
/// Longer than anybody waits here for long.
const WAIT: Duration = Duration::from_secs(20);
const MS: u64 = 1_000_000;

/// One or two scopes, a priority, and how long it may wait.
#[derive(Debug, Clone)]
struct Ask {
    scopes: (usize, Option<usize>),
    priority: u8,
    wait: Duration,
}

impl Ask {
    fn request(&self) -> Request {
        let key = |scope: usize| SCOPES[scope].0.parse().unwrap();
        let request = Request::new(key(self.scopes.0)).priority(self.priority).max_wait(self.wait);
        match self.scopes.1.filter(|other| *other != self.scopes.0) {
            Some(other) => request.also(key(other)).unwrap(),
            None => request,
        }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let scopes = (0..SCOPES.len(), of(0..SCOPES.len()));
    let priority = prop_oneof![3 => Just(100u8), 1 => Just(200)];
    let wait = (500 * MS..20_000 * MS).prop_map(Duration::from_nanos);
    (scopes, priority, wait).prop_map(|(scopes, priority, wait)| Ask { scopes, priority, wait })
}

fn engine(pool: bool) -> Engine {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let put = |(pattern, rate): (&str, &str), total| {
        let mut spec = RuleSpec { total, ..RuleSpec::default() };
        spec.limits.rates.push(rate.parse().unwrap());
        Change::Put { pattern: pattern.parse().unwrap(), spec, when: Precondition::None }
    };
    let rules = SCOPES.iter().map(|rule| put(*rule, false)).chain(pool.then(|| put(POOL, true)));
    engine.apply(&rules.collect::<Vec<_>>()).unwrap();
    engine
}

fn poll(future: &mut Pin<Box<Acquire>>) -> Poll<Result<Lease, Refusal>> {
    future.as_mut().poll(&mut Context::from_waker(noop_waker_ref()))
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(1_000) })]
    #[test]
    fn a_forecast_of_rates_comes_true(
        before in vec((ask(), 0..800 * MS), 1..14),
        asked in ask(),
        pool: bool,
    ) {
        let engine = engine(pool);
        let (mut leases, mut waiting) = (Vec::new(), Vec::new());
        for (ask, gap) in before {
            let mut future = Box::pin(engine.acquire(ask.request()));
            match poll(&mut future) {
                Poll::Ready(answer) => leases.extend(answer),
                Poll::Pending => waiting.push(future),
            }
            engine.advance(Duration::from_nanos(gap));
        }
        let asked = asked.request().max_wait(WAIT);
        let forecast = engine.explain(&asked).unwrap().forecast;
        let mut future = Box::pin(engine.acquire(asked));
        let mut answer = poll(&mut future);
        let Some(forecast) = forecast else {
            prop_assert!(answer.is_pending());
            engine.advance(WAIT);
            prop_assert!(matches!(poll(&mut future), Poll::Ready(Err(_))), "not within its wait");
            return Ok(());
        };
        prop_assert!(!forecast.estimated);
        if !forecast.admitted_in.is_zero() {
            prop_assert!(answer.is_pending());
            engine.advance(forecast.admitted_in - Duration::from_nanos(1));
            prop_assert!(poll(&mut future).is_pending(), "before {:?}", forecast.admitted_in);
            engine.advance(Duration::from_nanos(1));
            answer = poll(&mut future);
        }
        prop_assert!(matches!(answer, Poll::Ready(Ok(_))), "in {:?}: {answer:?}", forecast.admitted_in);
    }
}
