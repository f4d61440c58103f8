//! A future that is dropped after any number of polls, for every reason to wait: beside an engine to which it never came.
#![cfg(not(feature = "shuttle"))]

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::task::noop_waker_ref;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tempfile::TempDir;
use weir_engine::{
    AcquireBatch, Change, Clock, CounterQuery, CounterSnapshot, Durability, Engine, EngineConfig, IDLE_KEEP, Lease,
    Limits, Outcome, Precondition, Reason, Refusal, Request, RuleSpec, StoreConfig, Verb,
};

const S: Duration = Duration::from_secs(1);
/// How often the first in line is passed before it raises a barrier, as the limiter says.
const MAX_PASSES: u32 = 64;

fn limits(concurrency: &str, rates: &[&str]) -> Limits {
    Limits {
        concurrency: (!concurrency.is_empty()).then(|| concurrency.parse().unwrap()),
        rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
        ..Limits::default()
    }
}

fn put(engine: &Engine, pattern: &str, spec: RuleSpec) {
    engine.apply(&[Change::Put { pattern: pattern.parse().unwrap(), spec, when: Precondition::None }]).unwrap();
}

fn rule(engine: &Engine, pattern: &str, concurrency: &str, rates: &[&str]) {
    put(engine, pattern, RuleSpec { limits: limits(concurrency, rates), ..RuleSpec::default() });
}

fn ask(key: &str) -> Request {
    Request::new(key.parse().unwrap())
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn fair(request: Request, key: &str, weight: u16) -> Request {
    request.fairness(key, NonZeroU16::new(weight).unwrap()).unwrap()
}

type Pending = Pin<Box<AcquireBatch>>;

fn poll(future: &mut Pending) -> Poll<Result<Vec<Lease>, Refusal>> {
    future.as_mut().poll(&mut Context::from_waker(noop_waker_ref()))
}

/// An engine, what is held of it, and who else waits.
struct World {
    engine: Engine,
    held: Vec<Lease>,
    others: Vec<Pending>,
}

impl World {
    fn hold(&mut self, request: &Request) {
        self.held.push(self.engine.try_acquire(request).unwrap());
    }

    fn wait(&mut self, request: Request) {
        let mut future = Box::pin(self.engine.acquire_batch(request));
        assert!(poll(&mut future).is_pending());
        self.others.push(future);
    }

    fn operate(&self, verb: &Verb) {
        self.engine.operate(&"s".parse().unwrap(), verb).unwrap();
    }

    /// As many newcomers pass the first in line as may, and raise its barrier.
    fn pass(&mut self) {
        for _ in 0..MAX_PASSES {
            drop(self.engine.try_acquire(&fair(ask("s"), "passing", 1).priority(200)).unwrap());
        }
    }

    /// The counters at which anything is so or was so, but for the numbers of those who wait.
    fn counters(&self) -> Vec<CounterSnapshot> {
        let mut all = self.engine.counters(&CounterQuery::default());
        all.retain(|counter| counter.calls + counter.granted + counter.refused > 0 || counter.waiting > 0);
        all.sort_by(|a, b| a.counter.cmp(&b.counter));
        for counter in &mut all {
            counter.barrier = counter.barrier.map(|_| 0);
        }
        all
    }

    /// What is held and who waits, at each counter and in all.
    fn shape(&self) -> String {
        let counters = self.counters().into_iter().filter(|counter| counter.calls > 0 || counter.waiting > 0);
        let counters: Vec<_> = counters.map(|of| (of.counter, of.calls, of.cost, of.waiting, of.barrier)).collect();
        let metrics = self.engine.metrics();
        format!("{counters:?}, {} leases, {} wait", metrics.leases, metrics.waiting)
    }

    /// Ends what is held, one after the other, until all who wait have had their turn; answers in which order they had it.
    fn finish(&mut self) -> Vec<(usize, usize)> {
        let mut others: Vec<_> = self.others.drain(..).enumerate().collect();
        let mut order = Vec::new();
        for _ in 0..50 {
            others.retain_mut(|(index, future)| match poll(future) {
                Poll::Pending => true,
                Poll::Ready(leases) => {
                    let leases = leases.unwrap();
                    order.push((*index, leases.len()));
                    self.held.extend(leases);
                    false
                }
            });
            if self.held.is_empty() {
                self.engine.advance(10 * S);
            } else {
                drop(self.held.remove(0));
            }
        }
        assert!(others.is_empty() && self.held.is_empty(), "{:?}", self.engine.counters(&CounterQuery::default()));
        self.engine.advance(Duration::from_nanos(2 * IDLE_KEEP) + 3_600 * S);
        assert!(self.engine.is_empty(), "{:?}", self.engine.metrics());
        order
    }
}

/// A reason to wait.
struct Case {
    reason: &'static str,
    /// What is so before the request comes, and the request.
    before: fn(&mut World) -> Request,
    /// What happens while it waits.
    meanwhile: fn(&mut World),
    /// What lets it in, if nobody is before it.
    then: fn(&mut World),
}

fn nothing(_: &mut World) {}

fn first_ends(world: &mut World) {
    drop(world.held.remove(0));
}

fn cases() -> Vec<Case> {
    let case = |reason, before, then| Case { reason, before, meanwhile: nothing, then };
    vec![
        case(
            "concurrency",
            |world| {
                rule(&world.engine, "s", "1", &[]);
                world.hold(&ask("s"));
                ask("s")
            },
            first_ends,
        ),
        case(
            "a window",
            |world| {
                rule(&world.engine, "s", "", &["2/10s"]);
                world.hold(&ask("s"));
                world.hold(&ask("s"));
                ask("s")
            },
            |world| world.engine.advance(10 * S),
        ),
        case(
            "a smooth rate",
            |world| {
                rule(&world.engine, "s", "", &["1/10s:smooth"]);
                world.hold(&ask("s"));
                ask("s")
            },
            |world| world.engine.advance(10 * S),
        ),
        case(
            "a closed counter",
            |world| {
                rule(&world.engine, "s", "0", &[]);
                ask("s")
            },
            |world| rule(&world.engine, "s", "1", &[]),
        ),
        case(
            "a pause",
            |world| {
                world.operate(&Verb::Pause);
                ask("s")
            },
            |world| world.operate(&Verb::Resume),
        ),
        case(
            "a pushback",
            |world| {
                rule(&world.engine, "s", "2", &[]);
                world.engine.try_acquire(&ask("s")).unwrap().release(Outcome::PushedBack(5 * S));
                ask("s")
            },
            |world| world.engine.advance(5 * S),
        ),
        case(
            "a pool",
            |world| {
                put(&world.engine, "*/x", RuleSpec { limits: limits("1", &[]), total: true, ..RuleSpec::default() });
                world.hold(&ask("s/x"));
                world.hold(&ask("t"));
                ask("t/x")
            },
            first_ends,
        ),
        case(
            "numbers brought along",
            |world| {
                let asked = || Request::unscoped().inline("s", "k", limits("1", &["9/1h"])).unwrap();
                world.hold(&asked());
                asked()
            },
            first_ends,
        ),
        case(
            "the head of its line",
            |world| {
                rule(&world.engine, "s", "3:cost", &[]);
                world.hold(&ask("s").cost(number(2)));
                world.wait(ask("s").cost(number(2)));
                ask("s")
            },
            first_ends,
        ),
        Case {
            reason: "what is behind its own barrier",
            before: |world| {
                rule(&world.engine, "s", "3:cost", &[]);
                world.hold(&ask("s"));
                fair(ask("s"), "large", 1).cost(number(3))
            },
            meanwhile: World::pass,
            then: first_ends,
        },
        case(
            "the barrier of another",
            |world| {
                rule(&world.engine, "s", "3:cost", &[]);
                world.hold(&ask("s"));
                world.wait(fair(ask("s"), "large", 1).cost(number(3)));
                world.pass();
                fair(ask("s"), "passing", 1).priority(200)
            },
            first_ends,
        ),
        case(
            "the minimum of a batch",
            |world| {
                rule(&world.engine, "s", "3", &[]);
                world.hold(&ask("s"));
                world.hold(&ask("s"));
                ask("s").batch(number(3), number(2)).unwrap()
            },
            first_ends,
        ),
        case(
            "a lease that it is to ride on",
            |world| {
                rule(&world.engine, "s", "1", &["9/1h"]);
                world.hold(&ask("s"));
                let lender = world.held[0].parts()[0];
                world.hold(&ask("s").lend_from(lender));
                ask("s").lend_from(lender)
            },
            |world| drop(world.held.pop()),
        ),
        case(
            "a higher priority",
            |world| {
                rule(&world.engine, "s", "1", &[]);
                world.hold(&ask("s"));
                world.wait(ask("s").priority(200));
                ask("s").priority(1)
            },
            first_ends,
        ),
        case(
            "a lower priority that is not passed by it",
            |world| {
                rule(&world.engine, "s", "1", &[]);
                world.hold(&ask("s"));
                world.wait(ask("s").priority(1));
                ask("s").priority(200)
            },
            first_ends,
        ),
        case(
            "the shares of others",
            |world| {
                rule(&world.engine, "s", "1", &[]);
                world.hold(&ask("s"));
                for key in ["a", "a", "b", "a", "b"] {
                    world.wait(fair(ask("s"), key, if key == "a" { 3 } else { 1 }));
                }
                fair(ask("s"), "c", 2)
            },
            first_ends,
        ),
        case(
            "another scope, which may lie elsewhere",
            |world| {
                rule(&world.engine, "*", "1", &["9/1h"]);
                world.hold(&ask("s"));
                world.hold(&ask("t"));
                drop(world.engine.try_acquire(&ask("u")).unwrap());
                ask("u").also("t/x/y".parse().unwrap()).unwrap().also("s".parse().unwrap()).unwrap()
            },
            |world| world.held.clear(),
        ),
    ]
}

fn begin(case: &Case) -> (World, Request) {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let mut world = World { engine, held: Vec::new(), others: Vec::new() };
    let request = (case.before)(&mut world);
    (world, request)
}

#[test]
fn who_leaves_has_never_come_whatever_it_waited_for() {
    for case in cases() {
        for polls in 0..4 {
            // Behind it, others of its kind may wait.
            for behind in [0, 2] {
                let name = format!("{}: {polls} polls, {behind} behind", case.reason);
                let ((mut with, request), (mut without, _)) = (begin(&case), begin(&case));
                let mut future = Box::pin(with.engine.acquire_batch(request.clone()));
                for _ in 0..polls {
                    assert!(poll(&mut future).is_pending(), "{name}");
                }
                for world in [&mut with, &mut without] {
                    (case.meanwhile)(world);
                    for _ in 0..behind {
                        world.wait(request.clone());
                    }
                }
                if polls > 1 {
                    assert!(poll(&mut future).is_pending(), "{name}, and one");
                }
                drop(future);
                assert_eq!(with.counters(), without.counters(), "{name}");
                assert_eq!(with.engine.metrics().waiting, without.engine.metrics().waiting, "{name}");
                for world in [&mut with, &mut without] {
                    (case.then)(world);
                }
                assert_eq!(with.counters(), without.counters(), "{name}, later");
                assert_eq!(with.finish(), without.finish(), "{name}: in what order the others are served");
            }
        }
    }
}

#[test]
fn a_grant_that_nobody_takes_is_given_back_whatever_it_waited_for() {
    for case in cases() {
        for polls in 1..4 {
            let name = format!("{}: {polls} polls", case.reason);
            let ((mut with, request), (mut without, _)) = (begin(&case), begin(&case));
            let mut future = Box::pin(with.engine.acquire_batch(request));
            for _ in 0..polls {
                assert!(poll(&mut future).is_pending(), "{name}");
            }
            for world in [&mut with, &mut without] {
                (case.meanwhile)(world);
                (case.then)(world);
            }
            let waits = with.engine.metrics().waiting;
            assert!(waits == 0 || !with.others.is_empty(), "{name}: nobody is before it");
            drop(future);
            assert_eq!(with.shape(), without.shape(), "{name}");
            with.finish();
        }
    }
}

/// A grant that is being written down, and has been answered to nobody.
#[test]
fn a_grant_that_is_dropped_while_it_is_written_is_given_back() {
    let directory = TempDir::new().unwrap();
    let open = || {
        let (clock, _) = Clock::manual();
        let store = StoreConfig { directory: directory.path().to_owned(), durability: Durability::Power };
        Engine::open(EngineConfig { clock, ..EngineConfig::default() }, &store).unwrap()
    };
    let engine = open();
    rule(&engine, "*", "5:cost", &["1000000/1h:cost"]);
    rule(&engine, "*/*", "", &["9/1h"]);
    let timed = || ask("s").lease_time(10 * S).cost(number(2));
    type Begin = fn(&Engine, Request) -> Pin<Box<dyn Future<Output = bool>>>;
    let held: Begin = |engine, request| Box::pin(engine.acquire_batch(request).map(|leases| leases.is_ok()));
    let timed_: Begin = |engine, request| Box::pin(engine.acquire_timed_batch(request).map(|leases| leases.is_ok()));
    let kinds: Vec<(&str, Begin, Request)> = vec![
        ("held", held, ask("s")),
        ("a batch", held, ask("s").batch(number(3), number(2)).unwrap()),
        ("timed", timed_, timed()),
        ("timed, over several scopes", timed_, timed().also("t".parse().unwrap()).unwrap()),
        ("a timed batch", timed_, timed().batch(number(2), number(1)).unwrap()),
        ("under a key", timed_, timed().idempotency_key("k").unwrap()),
        ("a batch under a key", timed_, timed().batch(number(2), number(2)).unwrap().idempotency_key("k").unwrap()),
    ];
    for (kind, begin, request) in kinds {
        for polls in 1..4 {
            let mut dropped = 0;
            for round in 0..200 {
                let mut request = request.clone();
                if request.idempotency_key.is_none() {
                    // The first start of a counter is always written; later ones may have been booked ahead.
                    request = request.also(format!("s/{polls}-{round}").parse().unwrap()).unwrap();
                }
                let mut future = begin(&engine, request);
                let mut context = Context::from_waker(noop_waker_ref());
                let ready = (0..polls).any(|_| future.as_mut().poll(&mut context).is_ready());
                let was_held: u64 = engine.counters(&CounterQuery::default()).iter().map(|counter| counter.calls).sum();
                assert!(was_held > 0 || ready, "{kind}: it is taken at once");
                drop(future);
                if ready {
                    // Written sooner than it was looked at: it was answered, and a timed one lives on.
                    engine.advance(400 * S);
                } else {
                    dropped += 1;
                }
                let counters = engine.counters(&CounterQuery::default());
                let left = counters.iter().find(|counter| (counter.calls, counter.cost, counter.waiting) != (0, 0, 0));
                assert_eq!((left, engine.metrics().leases), (None, 0), "{kind} after {polls} polls");
                if dropped == 10 {
                    break;
                }
            }
            assert_eq!(dropped, 10, "{kind}: it was never being written when it was looked at");
            // The key is free: another request may have it.
            if request.idempotency_key.is_some() {
                let other = block_on(engine.acquire_timed(timed().priority(9).idempotency_key("k").unwrap())).unwrap();
                engine.release(other.id, Outcome::Ok).unwrap();
                engine.advance(400 * S);
            }
        }
    }
    block_on(engine.saved()).unwrap();
    drop(engine);
    // Nor does a restart know of any.
    let engine = open();
    assert_eq!(engine.metrics().leases, 0);
    assert!(engine.counters(&CounterQuery::default()).iter().all(|counter| counter.calls == 0));
    for request in [ask("s").cost(number(5)), timed().idempotency_key("k").unwrap().cost(number(5))] {
        let again = block_on(engine.acquire_timed(request.max_wait(Duration::ZERO))).map_err(|refusal| refusal.reason);
        assert_ne!(again.as_ref().err(), Some(&Reason::Limited));
        engine.release(again.unwrap().id, Outcome::Ok).unwrap();
    }
}
