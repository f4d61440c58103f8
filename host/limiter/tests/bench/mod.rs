//! A limiter on virtual time, taken one step at a time.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::num::NonZeroU32;
use std::sync::Arc;
use weir_limiter::{
    Change, CounterSnapshot, Effect, Explanation, Grant, Input, Limiter, Limits, Outcome, Output, Precondition,
    Refusal, Request, RuleBook, RulePatch, RuleSpec, Settled, ShardLimits, Verb, WaiterId,
};

/// A second, in nanoseconds.
pub(crate) const S: u64 = 1_000_000_000;

/// A rule: its pattern, its concurrency (empty: none) and its rates.
pub(crate) type RuleText<'a> = (&'a str, &'a str, &'a [&'a str]);

/// A limiter and its time.
pub(crate) struct Bench {
    pub(crate) limiter: Limiter,
    pub(crate) now: u64,
    /// That of the last timed lease.
    pub(crate) secret: u128,
    /// What the last step did to others.
    pub(crate) effects: Vec<Effect>,
    book: RuleBook,
}

impl Bench {
    pub(crate) fn new(rules: &[RuleText<'_>]) -> Self {
        Self::starting(1_000 * S, rules)
    }

    pub(crate) fn starting(now: u64, rules: &[RuleText<'_>]) -> Self {
        let limiter = Limiter::new(4, ShardLimits::default());
        let mut bench = Self { limiter, now, secret: 0, effects: Vec::new(), book: RuleBook::default() };
        bench.set(rules);
        bench
    }

    /// Changes the numbers of these rules and keeps the others.
    pub(crate) fn set(&mut self, rules: &[RuleText<'_>]) {
        let change = |(pattern, concurrency, rates): &RuleText<'_>| Change::Patch {
            pattern: pattern.parse().unwrap(),
            patch: RulePatch {
                concurrency: Some((!concurrency.is_empty()).then(|| concurrency.parse().unwrap())),
                rates: Some(rates.iter().map(|rate| rate.parse().unwrap()).collect()),
                ..RulePatch::default()
            },
            when: Precondition::None,
        };
        self.book = self.book.apply(&rules.iter().map(change).collect::<Vec<_>>(), 0).unwrap();
        self.step(Input::SetBook { book: Arc::new(self.book.clone()) });
    }

    /// Puts rules as they are.
    pub(crate) fn put(&mut self, rules: &[(&str, RuleSpec)]) {
        let change = |(pattern, spec): &(&str, RuleSpec)| Change::Put {
            pattern: pattern.parse().unwrap(),
            spec: spec.clone(),
            when: Precondition::None,
        };
        self.book = self.book.apply(&rules.iter().map(change).collect::<Vec<_>>(), 0).unwrap();
        self.step(Input::SetBook { book: Arc::new(self.book.clone()) });
    }

    pub(crate) fn remove(&mut self, pattern: &str) {
        let change = Change::Delete { pattern: pattern.parse().unwrap(), when: Precondition::None };
        self.book = self.book.apply(&[change], 0).unwrap();
        self.step(Input::SetBook { book: Arc::new(self.book.clone()) });
    }

    /// An operator's word.
    pub(crate) fn operate(&mut self, counter: &str, verb: &Verb) -> CounterSnapshot {
        match self.step(Input::Operate { counter: &counter.parse().unwrap(), verb }) {
            Output::Operated(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn settle(&mut self, grant: &Grant, cost: u32) -> Settled {
        match self.step(Input::Settle { lease: grant.parts[0], cost }) {
            Output::Settled(settled) => settled,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn explain(&mut self, request: &Request) -> Explanation {
        match self.step(Input::Explain { request }) {
            Output::Explained(explanation) => *explanation,
            other => panic!("{other:?}"),
        }
    }

    /// Who was granted by the last step.
    pub(crate) fn let_in(&self) -> Vec<WaiterId> {
        let granted = self.effects.iter().filter_map(|effect| match effect {
            Effect::Granted { waiter, .. } => Some(*waiter),
            _ => None,
        });
        granted.collect()
    }

    /// Whether nothing is left once all history has aged out.
    pub(crate) fn is_empty_after(&mut self, nanos: u64) -> bool {
        self.at(self.now + nanos);
        self.limiter.shards().iter().all(weir_limiter::Shard::is_empty)
    }

    pub(crate) fn step(&mut self, input: Input<'_>) -> Output {
        self.effects.clear();
        self.limiter.step(self.now, input, &mut self.effects)
    }

    /// Lets the time come, and what is due by then.
    pub(crate) fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self.step(Input::Tick);
        self
    }

    pub(crate) fn try_acquire(&mut self, request: &Request) -> Result<Grant, Refusal> {
        self.secret += u128::from(request.lease_time.is_some());
        let secret = request.lease_time.map(|_| self.secret);
        match self.step(Input::Acquire { request, wait: false, secrets: secret.as_slice() }) {
            Output::Granted(grant) => Ok(grant),
            Output::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn take(&mut self, key: &str) -> Grant {
        self.try_acquire(&request(key)).unwrap()
    }

    pub(crate) fn wait(&mut self, request: &Request) -> WaiterId {
        match self.step(Input::Acquire { request, wait: true, secrets: &[] }) {
            Output::Waiting(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn release(&mut self, grant: &Grant) {
        for part in &grant.parts {
            assert_eq!(self.step(Input::Release { lease: *part, outcome: Outcome::Ok }), Output::Done);
        }
    }

    pub(crate) fn counter(&mut self, name: &str) -> Option<CounterSnapshot> {
        let Output::Counters(counters) = self.step(Input::Counters { prefix: name }) else { panic!() };
        counters.into_iter().find(|snapshot| snapshot.counter == name)
    }

    /// Calls and cost held.
    pub(crate) fn held(&mut self, counter: &str) -> (u64, u64) {
        self.counter(counter).map_or((0, 0), |snapshot| (snapshot.calls, snapshot.cost))
    }
}

pub(crate) fn request(text: &str) -> Request {
    Request::new(text.parse().unwrap())
}

pub(crate) fn costing(text: &str, cost: u32) -> Request {
    request(text).cost(NonZeroU32::new(cost).unwrap())
}

/// Limits in short: a concurrency (empty: none) and rates.
pub(crate) fn limits(concurrency: &str, rates: &[&str]) -> Limits {
    Limits {
        concurrency: (!concurrency.is_empty()).then(|| concurrency.parse().unwrap()),
        rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
        ..Limits::default()
    }
}

/// A rule that enforces these.
pub(crate) fn rule(concurrency: &str, rates: &[&str]) -> RuleSpec {
    RuleSpec { limits: limits(concurrency, rates), ..RuleSpec::default() }
}

/// A pool of these.
pub(crate) fn total(concurrency: &str, rates: &[&str]) -> RuleSpec {
    RuleSpec { total: true, ..rule(concurrency, rates) }
}
