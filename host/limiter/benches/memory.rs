//! Bytes of memory a counter, live and idle, beside its peers.
//!
//! `cargo bench -p weir-limiter --bench memory`. Floor: a live counter under a concurrency limit and a smooth rate 200
//! bytes, an idle one none.
//!
//! Counted are the bytes that were asked of the allocator and not given back. It takes more for each allocation (glibc 8
//! bytes, rounded up to 16, and never less than 32 in all), so their number is printed too.
//!
//! There are a million counters, with names of 8 to 13 bytes. What grows by doubling is nearly full then, or half empty,
//! as it happens: `mean` is the mean over one doubling, from half a million on. *Live*: used, and not yet idle for
//! [`IDLE_KEEP`]. *Held*: with a lease besides.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use limitador::limit::{Context, Limit, Namespace};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_limiter::{
    Change, Concurrency, Effect, IDLE_KEEP, Input, LeaseRef, Limits, Outcome, Output, Placement, Precondition, Request,
    RuleBook, RuleSpec, Shard, ShardLimits, ShardSet,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const COUNTERS: usize = 1_000_000;
/// Where the mean is taken: evenly over one doubling.
const STEPS: usize = 16;

/// Bytes and allocations that are not given back.
fn in_use() -> (usize, usize) {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated - stats.bytes_deallocated, stats.allocations - stats.deallocations)
}

fn name(n: usize) -> String {
    format!("tenant-{n}")
}

/// Makes `count` counters one by one and prints what each takes. `before` is what was in use without any.
fn grow(figure: &str, count: usize, before: (usize, usize), mut make: impl FnMut(usize)) {
    let mut sum = 0.0;
    for n in 1..=count {
        make(n - 1);
        if n > count / 2 && n % (count / 2 / STEPS) == 0 {
            sum += (in_use().0 - before.0) as f64 / n as f64;
        }
    }
    let now = in_use();
    println!("memory_{figure}_bytes {:.0}", (now.0 - before.0) as f64 / count as f64);
    println!("memory_{figure}_mean_bytes {:.0}", sum / STEPS as f64);
    println!("memory_{figure}_allocations {:.2}", (now.1 - before.1) as f64 / count as f64);
}

/// A shard in virtual time: a microsecond a step.
struct Timed {
    shard: Shard,
    now: u64,
    effects: Vec<Effect>,
}

impl Timed {
    fn new(rates: &[&str]) -> Self {
        let all = u32::MAX as usize;
        let limits = ShardLimits { max_counters: all, max_waiters: all, max_log_entries: all, max_leases: all };
        let limits_of_rule = Limits {
            concurrency: Some(Concurrency::calls(5)),
            rates: rates.iter().map(|rate| rate.parse().expect("a rate")).collect(),
            ..Limits::default()
        };
        let change = Change::Put {
            pattern: "*".parse().expect("a pattern"),
            spec: RuleSpec { limits: limits_of_rule, ..RuleSpec::default() },
            when: Precondition::None,
        };
        let book = RuleBook::default().apply(&[change], 0).expect("a valid rule");
        let mut timed =
            Self { shard: Shard::new(0, Placement::new(1), limits), now: 1_000_000_000_000_000, effects: Vec::new() };
        timed.step(Input::SetBook { book: book.into() });
        timed
    }

    fn step(&mut self, input: Input<'_>) -> Output {
        self.now += 1_000;
        ShardSet::new(&mut [&mut self.shard]).step(self.now, input, &mut self.effects)
    }

    fn acquire(&mut self, n: usize) -> LeaseRef {
        let request = Request::new(name(n).parse().expect("a name"));
        match self.step(Input::Acquire { request: &request, wait: false, secrets: &[] }) {
            Output::Granted(grant) => grant.parts[0],
            other => panic!("not granted: {other:?}"),
        }
    }

    fn use_once(&mut self, n: usize) {
        let lease = self.acquire(n);
        self.step(Input::Release { lease, outcome: Outcome::Ok });
    }
}

/// Counters under a concurrency limit and these rates; they have been used and released once, so a sweep is due.
fn weir(figure: &str, rates: &[&str]) {
    let mut timed = Timed::new(rates);
    let before = in_use();
    grow(figure, COUNTERS, before, |n| timed.use_once(n));
    timed.now += IDLE_KEEP + 60_000_000_000;
    timed.step(Input::Tick);
    assert!(timed.shard.is_empty());
    println!("memory_{figure}_idle_bytes {:.0}", (in_use().0 - before.0) as f64 / COUNTERS as f64);

    let mut timed = Timed::new(rates);
    let mut held = Vec::with_capacity(COUNTERS);
    let before = in_use();
    grow(&format!("{figure}_held"), COUNTERS, before, |n| {
        timed.use_once(n);
        held.push(timed.acquire(n));
    });
}

/// One smooth rate a key. It keeps keys until it is told to look for old ones.
fn governor() {
    let clock = FakeRelativeClock::default();
    let quota = Quota::per_second(NonZeroU32::new(100).expect("not 0"));
    let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone());
    let before = in_use();
    grow("governor", COUNTERS, before, |n| limiter.check_key(&name(n)).expect("admitted"));
    clock.advance(Duration::from_nanos(IDLE_KEEP));
    println!("memory_governor_idle_bytes {:.0}", (in_use().0 - before.0) as f64 / COUNTERS as f64);
    limiter.retain_recent();
    limiter.shrink_to_fit();
    println!("memory_governor_idle_swept_bytes {:.0}", (in_use().0 - before.0) as f64 / COUNTERS as f64);
}

/// One fixed window a key. It keeps counters until its cache is full. Fewer of them: it is slow, and does not double.
fn limitador() {
    let limiter = limitador::RateLimiter::new(2 * COUNTERS as u64);
    limiter.add_limit(Limit::new("llm", 3, 60, [], ["tenant".try_into().expect("an expression")]));
    let namespace = Namespace::from("llm");
    let before = in_use();
    grow("limitador", COUNTERS / 5, before, |n| {
        let context = Context::from(HashMap::from([("tenant".to_owned(), name(n))]));
        let check = limiter.check_rate_limited_and_update(&namespace, &context, 1).expect("an answer");
        assert!(!check.limited);
    });
}

fn main() {
    weir("concurrency", &[]);
    weir("smooth", &["100/1s:smooth:burst=10"]);
    weir("window", &["3/1m"]);
    governor();
    limitador();
}
