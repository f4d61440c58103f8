//! What handing over costs when many wait, beside a semaphore's.
//!
//! `cargo bench -p weir-engine --bench waiting`. Floor: a release to the next grant in 100 us, with 10,000 waiting.

use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{engine, put};
use weir_engine::Request;

mod support;

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

criterion_group!(benches, hand_over);
criterion_main!(benches);
