//! Steps that have some of the shards at hand and not all: what they do not decide, and in which order it is made up for.

use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Change, Effect, Grant, Input, Outcome, Output, Placement, Precondition, Request, RuleBook, RuleSpec, Shard,
    ShardLimits, ShardSet, WaiterId,
};

/// Two shards, and a scope in each; the first admits one at a time.
struct Apart {
    shards: Vec<Shard>,
    scopes: [String; 2],
    effects: Vec<Effect>,
}

impl Apart {
    fn new() -> Self {
        let placement = Placement::fixed(2);
        let scope = |shard| (0..).map(|n| format!("s{n}")).find(|scope| placement.shard_of(scope) == shard).unwrap();
        let scopes = [scope(0), scope(1)];
        let shards = (0..2).map(|index| Shard::new(index, placement.clone(), ShardLimits::default())).collect();
        let mut apart = Self { shards, scopes, effects: Vec::new() };
        let mut spec = RuleSpec::default();
        spec.limits.concurrency = Some("1".parse().unwrap());
        let change = Change::Put { pattern: apart.scopes[0].parse().unwrap(), spec, when: Precondition::None };
        let book = Arc::new(RuleBook::default().apply(&[change], 0).unwrap());
        assert_eq!(apart.step(0..2, Input::SetBook { book }), Output::Done);
        apart
    }

    /// A step over these shards.
    fn step(&mut self, shards: std::ops::Range<usize>, input: Input<'_>) -> Output {
        self.effects.clear();
        let mut shards: Vec<&mut Shard> = self.shards[shards].iter_mut().collect();
        ShardSet::new(&mut shards).step(1, input, &mut self.effects)
    }

    fn first(&self) -> Request {
        Request::new(self.scopes[0].parse().unwrap())
    }

    fn both(&self) -> Request {
        self.first().also(self.scopes[1].parse().unwrap()).unwrap()
    }

    fn hold(&mut self) -> Grant {
        match self.step(0..1, Input::Acquire { request: &self.first(), wait: false, secrets: &[] }) {
            Output::Granted(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, request: &Request) -> WaiterId {
        match self.step(0..2, Input::Acquire { request, wait: true, secrets: &[] }) {
            Output::Waiting(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_retry_serves_in_order_whoever_it_names() {
    let mut apart = Apart::new();
    let held = apart.hold();
    let low = apart.wait(&apart.both().priority(1));
    let high = apart.wait(&apart.both().priority(2));
    apart.step(0..1, Input::Release { lease: held.parts[0], outcome: Outcome::Ok });
    assert!(matches!(&*apart.effects, [Effect::Retry { waiter, .. }] if *waiter == high), "{:?}", apart.effects);
    apart.step(0..2, Input::Retry { waiter: low });
    assert!(matches!(&*apart.effects, [Effect::Granted { waiter, .. }] if *waiter == high), "{:?}", apart.effects);
}

#[test]
fn a_forecast_says_nothing_where_it_would_need_a_shard_that_is_not_at_hand() {
    let mut apart = Apart::new();
    apart.hold();
    let asked = apart.first().max_wait(Duration::from_secs(600));
    let forecast = |apart: &mut Apart, shards| match apart.step(shards, Input::Explain { request: &asked }) {
        Output::Explained(explained) => explained.forecast.map(|forecast| forecast.admitted_in),
        other => panic!("{other:?}"),
    };
    assert_eq!(forecast(&mut apart, 0..1), Some(Duration::from_secs(1)));
    apart.wait(&apart.both());
    assert_eq!(forecast(&mut apart, 0..1), None, "what becomes of who stands before it is not known");
    assert_eq!(forecast(&mut apart, 0..2), Some(Duration::from_secs(2)));
}
