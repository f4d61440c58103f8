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
        apart.limit("1");
        apart
    }

    /// The concurrency of the first scope.
    fn limit(&mut self, concurrency: &str) {
        let mut spec = RuleSpec::default();
        spec.limits.concurrency = Some(concurrency.parse().unwrap());
        let change = Change::Put { pattern: self.scopes[0].parse().unwrap(), spec, when: Precondition::None };
        let book = Arc::new(RuleBook::default().apply(&[change], 0).unwrap());
        assert_eq!(self.step(0..2, Input::SetBook { book }), Output::Done);
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

/// Who names a lease is let by who waits for it wherever the lease lies, though its own counters are all in another shard.
#[test]
fn who_waits_for_a_lease_elsewhere_stops_nobody_who_names_it() {
    let mut apart = Apart::new();
    apart.limit("2:cost");
    let held = apart.hold();
    let wide = apart.wait(&apart.both().cost(2.try_into().unwrap()));
    let passing = apart.first().priority(255);
    for _ in 0..weir_limiter::MAX_PASSES {
        let acquire = Input::Acquire { request: &passing, wait: false, secrets: &[] };
        let Output::Granted(grant) = apart.step(0..1, acquire) else { panic!("it is stopped too early") };
        let raised = apart.effects.clone();
        apart.step(0..1, Input::Release { lease: grant.parts[0], outcome: Outcome::Ok });
        for effect in raised {
            assert!(matches!(effect, Effect::Retry { waiter, .. } if waiter == wide));
            apart.step(0..2, Input::Retry { waiter: wide });
        }
    }
    let second: Request = Request::new(apart.scopes[1].parse().unwrap());
    let acquire = |request| Input::Acquire { request, wait: false, secrets: &[] };
    assert!(matches!(apart.step(1..2, acquire(&second)), Output::Refused(_)), "there is a barrier");
    let nested = second.clone().lend_from(held.parts[0]);
    assert_eq!(apart.step(1..2, Input::Check { request: &nested }), Output::Elsewhere([0, 1].as_slice().into()));
    assert_eq!(apart.step(1..2, acquire(&nested)), Output::Elsewhere([0, 1].as_slice().into()));
    assert!(matches!(apart.step(0..2, acquire(&nested)), Output::Granted(_)));
}

#[test]
fn a_forecast_asks_for_the_shards_of_those_before_it() {
    let mut apart = Apart::new();
    apart.hold();
    let asked = apart.first().max_wait(Duration::from_secs(600));
    let forecast = |apart: &mut Apart, shards| match apart.step(shards, Input::Explain { request: &asked }) {
        Output::Explained(explained) => Ok(explained.forecast.map(|forecast| forecast.admitted_in)),
        Output::Elsewhere(shards) => Err(shards.to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(forecast(&mut apart, 0..1), Ok(Some(Duration::from_secs(1))));
    apart.wait(&apart.both());
    assert_eq!(forecast(&mut apart, 0..1), Err(vec![0, 1]), "what becomes of who stands before it is not known");
    assert_eq!(forecast(&mut apart, 0..2), Ok(Some(Duration::from_secs(2))));
}

/// Pools over all scopes lie in one more shard. A rule of the same pattern that is no pool, or is disabled, and a pool of one scope need none.
#[test]
fn only_a_pool_over_all_scopes_needs_another_shard() {
    let mut apart = Apart::new();
    let wide = usize::from(Placement::fixed(2).shard_of("*"));
    let own = Request::new(apart.scopes[1 - wide].parse().unwrap());
    let pool = || RuleSpec { total: true, ..RuleSpec::default() };
    let cases = [
        ("*", RuleSpec::default(), false),
        ("*", RuleSpec { disabled: true, ..pool() }, false),
        ("x/*", pool(), false),
        ("*", pool(), true),
    ];
    for (pattern, spec, elsewhere) in cases {
        let change = Change::Put { pattern: pattern.parse().unwrap(), spec: spec.clone(), when: Precondition::None };
        let book = Arc::new(RuleBook::default().apply(&[change], 0).unwrap());
        apart.step(0..2, Input::SetBook { book });
        let answer = apart.step(1 - wide..2 - wide, Input::Explain { request: &own });
        assert_eq!(matches!(answer, Output::Elsewhere(_)), elsewhere, "{pattern} {spec:?}");
    }
}

/// A shard that was closed has let go of those who wait there, and others may have come to stand in their places.
#[test]
fn who_leaves_what_a_closed_shard_has_let_go_of_takes_nobody_else_along() {
    let mut apart = Apart::new();
    let mut spec = RuleSpec::default();
    spec.limits.concurrency = Some("1".parse().unwrap());
    let change = Change::Put { pattern: "*".parse().unwrap(), spec, when: Precondition::None };
    let book = Arc::new(RuleBook::default().apply(&[change], 0).unwrap());
    apart.step(0..2, Input::SetBook { book });
    let first = apart.hold();
    let second = Request::new(apart.scopes[1].parse().unwrap());
    let acquire = Input::Acquire { request: &second, wait: false, secrets: &[] };
    let Output::Granted(held) = apart.step(1..2, acquire) else { panic!() };
    // One waits in the second shard, the other in the first; both belong to the first.
    let placement = Placement::fixed(2);
    let free = (0..).map(|n| format!("f{n}")).find(|scope| placement.shard_of(scope) == 0).unwrap();
    let leaving = apart.wait(&Request::new(free.parse().unwrap()).also(apart.scopes[1].parse().unwrap()).unwrap());
    let staying = apart.wait(&apart.both());
    apart.step(1..2, Input::Close);
    apart.step(0..2, Input::Release { lease: first.parts[0], outcome: Outcome::Ok });
    assert_eq!(apart.step(0..2, Input::Cancel { waiter: leaving }), Output::Done);
    apart.step(0..2, Input::Release { lease: held.parts[0], outcome: Outcome::Ok });
    assert!(matches!(&*apart.effects, [Effect::Granted { waiter, .. }] if *waiter == staying), "{:?}", apart.effects);
}

/// Else two lines that wait in different shards would send for each other without end.
#[test]
fn who_does_not_fit_where_it_waits_sends_for_nobody() {
    let mut apart = Apart::new();
    apart.limit("2:cost");
    let held = [apart.hold(), apart.hold()];
    let wide = apart.wait(&apart.both().cost(2.try_into().unwrap()));
    apart.wait(&apart.first().priority(1));
    apart.step(0..1, Input::Release { lease: held[0].parts[0], outcome: Outcome::Ok });
    assert_eq!(apart.effects, [], "one of two is free, and kept for who needs both");
    apart.step(0..1, Input::Release { lease: held[1].parts[0], outcome: Outcome::Ok });
    assert!(matches!(&*apart.effects, [Effect::Retry { waiter, .. }] if *waiter == wide), "{:?}", apart.effects);
}
