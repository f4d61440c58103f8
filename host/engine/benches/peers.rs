//! What an acquire costs, beside its peers, in one run.
//!
//! `cargo bench -p weir-engine --bench peers`. Floors: one constraint 150 ns; three depths and a window rate 500 ns, the
//! same at 10 rules and at 10,000. Every request is admitted, everywhere: nobody is timed while refusing.
//!
//! The peers do less. A tokio semaphore has one counter and no key. governor keeps one smooth rate a key, leaky-bucket one
//! and no key; neither gives anything back. limitador stacks limits as we do, but they are rates in fixed windows, checked
//! and then charged one after the other; what a request is about is made ready for it before the clock starts, as for us.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use limitador::limit::{Context, Limit, Namespace};
use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;
use support::{engine, put};
use weir_engine::{Request, ScopedKey};

mod support;

const KEYS: usize = 1_000;
/// A rate that admits one every nanosecond.
const NEVER_REACHED: u32 = 1_000_000_000;

fn requests(of: impl Fn(usize) -> String) -> Vec<Request> {
    (0..KEYS).map(|n| Request::new(of(n).parse::<ScopedKey>().expect("a name"))).collect()
}

/// Measures `operation` on one key after the other.
fn each_key(bench: &mut criterion::Bencher<'_>, mut operation: impl FnMut(usize)) {
    let mut turn = 0;
    bench.iter(|| {
        turn = (turn + 1) % KEYS;
        operation(turn);
    });
}

fn one_constraint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire+release");
    group.throughput(Throughput::Elements(1));

    let engine = engine(&[put("*", Some(5), &[])]);
    let requests = requests(|n| format!("tenant-{n}"));
    group.bench_function("weir, concurrency, 1k keys", |bench| {
        each_key(bench, |key| drop(black_box(engine.try_acquire(&requests[key]).expect("free"))));
    });

    let semaphores: Vec<tokio::sync::Semaphore> = (0..KEYS).map(|_| tokio::sync::Semaphore::new(5)).collect();
    group.bench_function("tokio Semaphore, 1k of them", |bench| {
        each_key(bench, |key| drop(black_box(semaphores[key].try_acquire().expect("free"))));
    });
    group.finish();
}

/// One smooth rate a key, one every nanosecond at most.
fn smooth_rate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smooth rate");
    group.throughput(Throughput::Elements(1));

    let rate = format!("{NEVER_REACHED}/1s:smooth:burst={NEVER_REACHED}");
    let engine = engine(&[put("*", None, &[&rate])]);
    let requests = requests(|n| format!("tenant-{n}"));
    group.bench_function("weir, acquire+release, 1k keys", |bench| {
        each_key(bench, |key| drop(black_box(engine.try_acquire(&requests[key]).expect("free"))));
    });

    let quota = governor::Quota::per_second(NonZeroU32::new(NEVER_REACHED).expect("not 0"));
    let governor = governor::RateLimiter::keyed(quota);
    let names: Vec<String> = (0..KEYS).map(|n| format!("tenant-{n}")).collect();
    group.bench_function("governor keyed, 1k keys", |bench| {
        each_key(bench, |key| black_box(governor.check_key(&names[key])).expect("free"));
    });

    let buckets: Vec<leaky_bucket::RateLimiter> = (0..KEYS)
        .map(|_| {
            let (max, each) = (NEVER_REACHED as usize, Duration::from_millis(1));
            leaky_bucket::RateLimiter::builder().max(max).initial(max).refill(max / 1_000).interval(each).build()
        })
        .collect();
    group.bench_function("leaky-bucket, 1k of them", |bench| {
        each_key(bench, |key| assert!(black_box(buckets[key].try_acquire(1))));
    });
    group.finish();
}

fn three_depths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire+release, 3 depths + window rate");
    group.throughput(Throughput::Elements(1));
    let requests = requests(|n| format!("tenant-{n}/model/user-{n}"));
    for rules in [10, 10_000] {
        let mut changes =
            vec![put("*", Some(100), &[]), put("*/*", Some(50), &[]), put("*/*/*", Some(10), &["1000000000/1s"])];
        changes.extend((changes.len()..rules).map(|n| put(&format!("other-{n}/*/x"), Some(1), &["5/1m"])));
        let engine = engine(&changes);
        group.bench_function(BenchmarkId::new("rules", rules), |bench| {
            each_key(bench, |key| drop(black_box(engine.try_acquire(&requests[key]).expect("free"))));
        });
    }
    group.finish();
}

/// A rate of 1,000,000,000 a minute at each of three depths: what limitador is made for.
fn three_rates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("3 stacked rates");
    group.throughput(Throughput::Elements(1));

    let rate = format!("{NEVER_REACHED}/1m");
    let engine = engine(&[put("*", None, &[&rate]), put("*/*", None, &[&rate]), put("*/*/*", None, &[&rate])]);
    let requests = requests(|n| format!("tenant-{n}/model/user-{n}"));
    group.bench_function("weir, acquire+release", |bench| {
        each_key(bench, |key| drop(black_box(engine.try_acquire(&requests[key]).expect("free"))));
    });

    let limiter = limitador::RateLimiter::new(100_000);
    for variables in [&["tenant"][..], &["tenant", "model"], &["tenant", "model", "user"]] {
        let variables = variables.iter().map(|name| name.to_string().try_into().expect("an expression"));
        limiter.add_limit(Limit::new("llm", u64::from(NEVER_REACHED), 60, [], variables.collect::<Vec<_>>()));
    }
    let namespace = Namespace::from("llm");
    let contexts: Vec<Context<'_>> = (0..KEYS)
        .map(|n| {
            let names = [("tenant", format!("tenant-{n}")), ("model", "model".into()), ("user", format!("user-{n}"))];
            names.into_iter().map(|(name, value)| (name.into(), value)).collect::<HashMap<String, String>>().into()
        })
        .collect();
    let first = limiter.check_rate_limited_and_update(&namespace, &contexts[0], 1).expect("an answer");
    assert_eq!((first.limited, first.counters.len()), (false, 3));
    group.bench_function("limitador, check and update", |bench| {
        each_key(bench, |key| {
            let check = limiter.check_rate_limited_and_update(&namespace, &contexts[key], 1).expect("an answer");
            assert!(!black_box(check).limited);
        });
    });
    group.bench_function("limitador, check, then report", |bench| {
        each_key(bench, |key| {
            let check = limiter.is_rate_limited(&namespace, &contexts[key], 1).expect("an answer");
            assert!(!black_box(check).limited);
            limiter.update_counters(&namespace, &contexts[key], 1).expect("an answer");
        });
    });
    group.bench_function("limitador, reserve and commit", |bench| {
        each_key(bench, |key| {
            let held = limiter.reserve(&namespace, &contexts[key], 1, None).expect("an answer");
            let commit = limiter.commit_reservation(&namespace, &contexts[key], held.reservation_id.as_ref(), 1);
            assert!(black_box(commit).expect("an answer").reservation_released);
        });
    });
    group.finish();
}

criterion_group!(benches, one_constraint, smooth_rate, three_depths, three_rates);
criterion_main!(benches);
