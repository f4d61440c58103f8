//! The data directory: how soon many leases are back, and what an acquire costs with it and without.
//!
//! Prints `name value` lines. The acquires are those of timed leases at one scope each, by fifty that take turns on one thread, as
//! connections of a server do: half of what they cost is the commit that they share.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use futures::executor::block_on;
use futures::future::join_all;
use std::time::{Duration, Instant};
use weir_engine::{Durability, Engine, EngineConfig, Outcome, Request, StoreConfig};

mod support;

const LEASES: u32 = 100_000;
const TASKS: u32 = 50;
const ROUNDS: u32 = 400;

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = |name: &str| StoreConfig { directory: directory.path().join(name), durability: Durability::Process };

    let engine = Engine::open(EngineConfig::default(), &store("many")).expect("a new directory");
    let began = Instant::now();
    let acquire = |index: u32| {
        let key = format!("scope{}/tenant{}/user{index}", index % 97, index % 1_009).parse().expect("a key");
        engine.acquire_timed(Request::new(key).lease_time(Duration::from_secs(3_600)))
    };
    for thousand in 0..LEASES / 1_000 {
        let granted = block_on(join_all((0..1_000).map(|index| acquire(1_000 * thousand + index))));
        assert!(granted.iter().all(Result::is_ok), "no limit");
    }
    drop(engine);
    println!("store_write_100000_ms {}", began.elapsed().as_millis());
    let began = Instant::now();
    let engine = Engine::open(EngineConfig::default(), &store("many")).expect("what was written");
    let ready = began.elapsed();
    assert_eq!(engine.metrics().leases, u64::from(LEASES), "each scope is one shard");
    println!("store_ready_100000_ms {}", ready.as_millis());
    drop(engine);

    let rules = [support::put("s/*", Some(1_000), &["1000000/1s:smooth:burst=1000000"])];
    let memory = support::engine(&rules);
    let data = Engine::open(EngineConfig::default(), &store("few")).expect("a new directory");
    data.apply(&rules).expect("valid rules");
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let (without, with) = (pairs(&memory), pairs(&data));
        ratios.push((with.as_secs_f64() / without.as_secs_f64(), without, with));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, without, with) = ratios[2];
    let each = |time: Duration| time.as_nanos() / u128::from(TASKS * ROUNDS);
    println!("store_timed_memory_ns {}", each(without));
    println!("store_timed_data_ns {}", each(with));
    println!("store_timed_ratio {ratio:.2}");
}

/// Acquire and release of timed leases, by fifty at once.
fn pairs(engine: &Engine) -> Duration {
    let began = Instant::now();
    let task = |index: u32| async move {
        for round in 0..ROUNDS {
            let key = format!("s/k{}", (index * 31 + round) % 1_000).parse().expect("a key");
            let request = Request::new(key).lease_time(Duration::from_secs(10));
            let lease = engine.acquire_timed(request).await.expect("room for all");
            engine.release(lease.id, Outcome::Ok).expect("it lives");
        }
    };
    block_on(join_all((0..TASKS).map(task)));
    began.elapsed()
}
