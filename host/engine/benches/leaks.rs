//! Ten million requests of every kind on one engine, and nothing is left of them: no capacity, no entry, no byte.
//!
//! `cargo bench -p weir-engine --bench leaks`; without `--bench` (`cargo test --benches`) a hundredth of it.
//!
//! A cycle is one of [`CYCLES`] under one of a few thousand names, a millisecond of a manual clock apart. After each half the clock
//! is moved past everything that is kept for a while (idle counters 10 s, histories of rates, idempotency keys 5 min). Then the engine
//! must be empty, and after the second half as many bytes must be in use as after the first, but for [`SLACK`]: tables that grow by
//! doubling are as large as they were needed, and the second half may need one entry more.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use std::alloc::System;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use weir_engine::{
    Caller, Change, Clock, Concurrency, CounterQuery, Engine, EngineConfig, KEPT, Lease, Limits, Outcome, Precondition,
    Request, RuleSpec, Verb,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CYCLES_IN_ALL: u64 = 10_000_000;
/// Scopes, each with [`KEYS`] limit keys.
const SCOPES: u64 = 97;
const KEYS: u64 = 41;
/// Bytes that the second half may leave more in use than the first.
const SLACK: usize = 4 << 10;

/// Longer than anything that a cycle starts is kept.
const AGED: Duration = Duration::from_secs(2 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Bytes that are not given back.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Counts how often anybody is woken: a wake that is lost would leave a waiter behind.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    engine: Engine,
    callers: Vec<Caller>,
    waker: Waker,
    /// Which cycle it is: all that differs between two of a kind comes from it.
    n: u64,
}

/// Every kind of cycle; each leaves nothing held and nobody waiting, but for what ends by itself.
const CYCLES: [fn(&World); 14] = [
    World::holds,
    World::is_refused,
    World::cancels,
    World::is_handed_over,
    World::is_given_up_when_granted,
    World::waits_in_vain,
    World::expires,
    World::repeats_under_a_key,
    World::takes_a_batch,
    World::takes_over_shards_and_settles,
    World::brings_its_limits,
    World::lends,
    World::is_operated,
    World::changes_rules,
];

impl World {
    fn new() -> Self {
        let (clock, _) = Clock::manual();
        let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
        let put = |pattern: &str, concurrency, rates: &[&str], shadow_limits, total| Change::Put {
            pattern: pattern.parse().expect("a pattern"),
            spec: RuleSpec { limits: limits(concurrency, rates), shadow_limits, total, ..RuleSpec::default() },
            when: Precondition::None,
        };
        let rules = [
            put("*", Some(1_000), &["1000000/1m:cost"], None, false),
            put("*/*", Some(1), &[], None, false),
            put("*/*/smooth", None, &["100/1s:smooth:burst=10"], Some(limits(Some(0), &[])), false),
            put("*/*/window", None, &["2/1s", "9/1m"], None, false),
            put("*/*/*", Some(100_000), &[], None, true),
        ];
        engine.apply(&rules).expect("valid rules");
        let callers = (0..5).map(|n| engine.caller(&format!("caller-{n}"))).collect();
        Self { engine, callers, waker: Waker::from(Arc::new(Woken::default())), n: 0 }
    }

    fn scope(&self) -> String {
        format!("scope-{}", self.n % SCOPES)
    }

    fn key(&self) -> String {
        format!("{}/key-{}", self.scope(), self.n / SCOPES % KEYS)
    }

    fn request(&self, key: &str) -> Request {
        let caller = self.callers[(self.n % 5) as usize];
        Request::new(key.parse().expect("a key")).caller(caller).priority((self.n % 3) as u8)
    }

    fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }

    fn now<F: Future + Unpin>(&self, mut future: F) -> F::Output {
        match self.poll(&mut future) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("cycle {} waits", self.n),
        }
    }

    /// Takes the only place at its key.
    fn held(&self) -> Lease {
        self.now(self.engine.acquire(self.request(&self.key()))).expect("room")
    }

    fn holds(&self) {
        let outcome = match self.n % 3 {
            0 => Outcome::Ok,
            1 => Outcome::Failed,
            _ => Outcome::PushedBack(Duration::from_nanos(1)),
        };
        self.held().release(outcome);
    }

    fn is_refused(&self) {
        let held = self.held();
        self.engine.try_acquire(&self.request(&self.key())).expect_err("it is full");
        self.engine.explain(&self.request(&self.key())).expect("an explanation");
        drop(held);
    }

    fn cancels(&self) {
        let held = self.held();
        let fair = |n: u16| {
            let weight = NonZeroU16::new(n + 1).expect("not 0");
            self.request(&self.key()).fairness(&format!("share-{n}"), weight).expect("a name")
        };
        let mut waiters: Vec<_> = (0..3).map(|n| self.engine.acquire(fair(n))).collect();
        for waiter in &mut waiters {
            assert!(self.poll(waiter).is_pending());
        }
        drop(waiters.remove((self.n % 3) as usize));
        drop(self.engine.acquire(self.request(&self.key())));
        drop(waiters);
        drop(held);
    }

    fn is_handed_over(&self) {
        let held = self.held();
        let mut waiter = self.engine.acquire(self.request(&self.key()));
        assert!(self.poll(&mut waiter).is_pending());
        drop(held);
        drop(self.now(waiter).expect("its turn"));
    }

    fn is_given_up_when_granted(&self) {
        let held = self.held();
        let mut waiter = self.engine.acquire(self.request(&self.key()));
        assert!(self.poll(&mut waiter).is_pending());
        drop(held);
        drop(waiter);
    }

    fn waits_in_vain(&self) {
        let held = self.held();
        let mut waiter = self.engine.acquire(self.request(&self.key()).max_wait(MILLISECOND));
        assert!(self.poll(&mut waiter).is_pending());
        self.engine.advance(MILLISECOND);
        self.now(waiter).expect_err("its time is over");
        drop(held);
    }

    /// Nobody gives it back: it ends by itself.
    fn expires(&self) {
        let timed = self.request(&self.scope()).lease_time(Duration::from_millis(100));
        self.now(self.engine.acquire_timed(timed)).expect("room");
    }

    fn repeats_under_a_key(&self) {
        let request = || {
            let request = self.request(&self.scope()).lease_time(Duration::from_secs(1));
            request.idempotency_key(&format!("once-{}", self.n)).expect("a name")
        };
        let first = self.now(self.engine.acquire_timed(request())).expect("room");
        let again = self.now(self.engine.acquire_timed(request())).expect("the same");
        assert_eq!(first.id, again.id);
        if self.n.is_multiple_of(2) {
            self.engine.release(first.id, Outcome::Ok).expect("it lives");
            self.now(self.engine.acquire_timed(request())).expect_err("it has ended");
        }
    }

    fn takes_a_batch(&self) {
        let batch = self.request(&self.scope()).batch(number(5), number(2)).expect("in bounds");
        let mut leases = self.now(self.engine.acquire_batch(batch)).expect("room");
        drop(leases.remove((self.n % 5) as usize));
        drop(leases);
    }

    fn takes_over_shards_and_settles(&self) {
        let other = format!("scope-{}", (self.n + 31) % SCOPES);
        let request = self.request(&self.scope()).cost(number(100)).also(other.parse().expect("a key"));
        let lease = self.now(self.engine.acquire(request.expect("room"))).expect("room");
        lease.settle((self.n % 200) as u32).expect("it lives");
        drop(lease);
    }

    fn brings_its_limits(&self) {
        let limits = || limits(Some(1), &["1000/1s", "3/1ms:smooth:burst=3"]);
        let request =
            || self.request(&self.scope()).inline(&self.scope(), &format!("plan-{}", self.n % KEYS), limits());
        let held = self.now(self.engine.acquire(request().expect("valid"))).expect("room");
        let mut waiter = self.engine.acquire(request().expect("valid"));
        assert!(self.poll(&mut waiter).is_pending());
        drop(held);
        self.engine.advance(MILLISECOND);
        drop(self.now(waiter).expect("its turn"));
    }

    fn lends(&self) {
        let lender = self.held();
        let nested = self.request(&self.key()).lend_from(lender.parts()[0]);
        let borrower = self.now(self.engine.acquire(nested)).expect("it rides");
        if self.n.is_multiple_of(2) { drop((lender, borrower)) } else { drop((borrower, lender)) }
    }

    fn is_operated(&self) {
        let key = self.key();
        let counter = key.parse().expect("a counter");
        let operate = |verb: &Verb| drop(self.engine.operate(&counter, verb).expect("room"));
        operate(&Verb::Pause);
        let mut waiter = self.engine.acquire(self.request(&key));
        assert!(self.poll(&mut waiter).is_pending());
        operate(&Verb::Pin(limits(Some(2), &["5/1s"])));
        operate(&Verb::Resume);
        drop(self.now(waiter).expect("its turn"));
        operate(&Verb::Drain);
        operate(&Verb::Reset);
        operate(&Verb::Unpin);
        operate(&Verb::Resume);
    }

    fn changes_rules(&self) {
        let pattern = || "*/*/window".parse().expect("a pattern");
        let spec = RuleSpec { limits: limits(None, &[["2/1s", "3/1s"][(self.n % 2) as usize]]), ..RuleSpec::default() };
        for key in ["window", "smooth"] {
            drop(self.engine.try_acquire(&self.request(&format!("{}/rated-{}/{key}", self.scope(), self.n % KEYS))));
        }
        // All waitlists are looked at: not every time.
        if self.n.is_multiple_of(64) {
            self.engine.apply(&[Change::Put { pattern: pattern(), spec, when: Precondition::None }]).expect("valid");
        }
    }

    /// Runs so many cycles, and answers the bytes in use when everything has aged.
    fn run(&mut self, cycles: u64) -> usize {
        for _ in 0..cycles {
            // Which kind it is must not go with the name.
            let kind = self.n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            CYCLES[(kind % CYCLES.len() as u64) as usize](self);
            self.n += 1;
            self.engine.advance(MILLISECOND);
        }
        self.engine.advance(AGED.max(KEPT));
        let (metrics, counters) = (self.engine.metrics(), self.engine.counters(&CounterQuery::default()));
        assert_eq!((metrics.leases, metrics.waiting, metrics.log_entries), (0, 0, 0), "{counters:?}");
        assert!(self.engine.is_empty(), "something is left: {counters:?}");
        drop((metrics, counters));
        in_use()
    }
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not 0")
}

fn limits(concurrency: Option<u32>, rates: &[&str]) -> Limits {
    let rates = rates.iter().map(|rate| rate.parse().expect("a rate")).collect();
    Limits { concurrency: concurrency.map(Concurrency::calls), rates, ..Limits::default() }
}

fn main() {
    let cycles =
        if std::env::args().any(|argument| argument == "--bench") { CYCLES_IN_ALL } else { CYCLES_IN_ALL / 100 };
    let mut world = World::new();
    let fresh = in_use();
    let first = world.run(cycles / 2);
    let second = world.run(cycles / 2);
    println!("leak_engine_cycles {cycles}");
    println!("leak_engine_granted {}", world.engine.metrics().granted);
    println!("leak_engine_fresh_bytes {fresh}");
    println!("leak_engine_first_half_bytes {first}");
    println!("leak_engine_second_half_bytes {second}");
    assert!(second <= first + SLACK, "{second} bytes are in use, and were {first} after the first half");
}
