//! What an acquire costs, beside its peers, in one run.
//!
//! `cargo bench -p weir-engine`. Floors: one constraint 150 ns; three depths and a window rate 500 ns, the same at 10
//! rules and at 10,000. The peers do less: a tokio semaphore has one counter and no key, governor keeps rates and gives
//! nothing back.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{engine, put};
use weir_engine::{Request, ScopedKey};

mod support;

const KEYS: usize = 1_000;

fn requests(of: impl Fn(usize) -> String) -> Vec<Request> {
    (0..KEYS).map(|n| Request::new(of(n).parse::<ScopedKey>().expect("a name"))).collect()
}

fn one_constraint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire+release");
    group.throughput(Throughput::Elements(1));

    let engine = engine(&[put("*", Some(5), &[])]);
    let requests = requests(|n| format!("tenant-{n}"));
    let mut turn = 0;
    group.bench_function("weir, concurrency, 1k keys", |bench| {
        bench.iter(|| {
            turn = (turn + 1) % KEYS;
            drop(black_box(engine.try_acquire(&requests[turn]).expect("free")));
        });
    });

    let semaphores: Vec<tokio::sync::Semaphore> = (0..KEYS).map(|_| tokio::sync::Semaphore::new(5)).collect();
    group.bench_function("tokio Semaphore, 1k of them", |bench| {
        bench.iter(|| {
            turn = (turn + 1) % KEYS;
            drop(black_box(semaphores[turn].try_acquire().expect("free")));
        });
    });

    let governor = governor::RateLimiter::keyed(governor::Quota::per_second(NonZeroU32::MAX));
    let names: Vec<String> = (0..KEYS).map(|n| format!("tenant-{n}")).collect();
    group.bench_function("governor keyed, rate only, 1k keys", |bench| {
        bench.iter(|| {
            turn = (turn + 1) % KEYS;
            black_box(governor.check_key(&names[turn])).expect("free");
        });
    });
    group.finish();
}

fn three_depths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire+release, 3 depths + window rate");
    group.throughput(Throughput::Elements(1));
    for rules in [10, 10_000] {
        let mut changes =
            vec![put("*", Some(100), &[]), put("*/*", Some(50), &[]), put("*/*/*", Some(10), &["1000000000/1s"])];
        changes.extend((changes.len()..rules).map(|n| put(&format!("other-{n}/*/x"), Some(1), &["5/1m"])));
        let engine = engine(&changes);
        let requests = requests(|n| format!("tenant-{n}/model/user-{n}"));
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("rules", rules), |bench| {
            bench.iter(|| {
                turn = (turn + 1) % KEYS;
                drop(black_box(engine.try_acquire(&requests[turn]).expect("free")));
            });
        });
    }
    group.finish();
}

/// Release to the next grant with 10,000 waiting, in process: the thread that releases runs it all.
fn hand_over(criterion: &mut Criterion) {
    use futures::FutureExt;
    let mut group = criterion.benchmark_group("release to next grant, 10,000 waiters");
    let engine = engine(&[put("s", Some(1), &[])]);
    let request = Request::new("s".parse().expect("a name")).max_wait(Duration::from_secs(3_600));
    group.bench_function("weir", |bench| {
        bench.iter_custom(|rounds| {
            let mut held = Some(engine.try_acquire(&request).expect("free"));
            let waiters: u64 = 10_000;
            let mut line: std::collections::VecDeque<_> =
                (0..waiters).map(|_| Box::pin(engine.acquire(request.clone()))).collect();
            for waiter in &mut line {
                assert!(waiter.as_mut().now_or_never().is_none());
            }
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let started = Instant::now();
                held = None;
                let mut next = line.pop_front().expect("a waiter");
                held.replace(next.as_mut().now_or_never().expect("granted").expect("a lease"));
                spent += started.elapsed();
                line.push_back(Box::pin(engine.acquire(request.clone())));
                assert!(line.back_mut().expect("a waiter").as_mut().now_or_never().is_none());
            }
            drop(line);
            drop(held);
            spent
        });
    });
    group.bench_function("tokio Semaphore", |bench| {
        bench.iter_custom(|rounds| {
            let semaphore = Arc::new(tokio::sync::Semaphore::new(1));
            let mut held = Some(Arc::clone(&semaphore).try_acquire_owned().expect("free"));
            let mut line: std::collections::VecDeque<_> =
                (0..10_000).map(|_| Box::pin(Arc::clone(&semaphore).acquire_owned())).collect();
            for waiter in &mut line {
                assert!(waiter.as_mut().now_or_never().is_none());
            }
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let started = Instant::now();
                held = None;
                let mut next = line.pop_front().expect("a waiter");
                held.replace(next.as_mut().now_or_never().expect("granted").expect("a permit"));
                spent += started.elapsed();
                line.push_back(Box::pin(Arc::clone(&semaphore).acquire_owned()));
                assert!(line.back_mut().expect("a waiter").as_mut().now_or_never().is_none());
            }
            drop(line);
            drop(held);
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, one_constraint, three_depths, hand_over);
criterion_main!(benches);
