//! What an acquire costs, beside its peers, in one run.
//!
//! `cargo bench -p weir-engine`. Floors: one constraint 150 ns; three depths and a window rate 500 ns, the same at 10
//! rules and at 10,000; two threads under different scopes 0.9 of the speed-up of a loop that shares nothing. The peers
//! do less: a tokio semaphore has one counter and no key, governor keeps rates and gives nothing back.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weir_engine::{Change, Concurrency, Engine, EngineConfig, Limits, Precondition, Request, RuleSpec, ScopedKey};

const KEYS: usize = 1_000;

fn put(pattern: &str, concurrency: Option<u32>, rates: &[&str]) -> Change {
    let limits = Limits {
        concurrency: concurrency.map(Concurrency::calls),
        rates: rates.iter().map(|rate| rate.parse().expect("a rate")).collect(),
        ..Limits::default()
    };
    Change::Put {
        pattern: pattern.parse().expect("a pattern"),
        spec: RuleSpec { limits, ..RuleSpec::default() },
        when: Precondition::None,
    }
}

fn engine(rules: &[Change]) -> Engine {
    let engine = Engine::new(EngineConfig::default());
    engine.apply(rules).expect("valid rules");
    engine
}

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

/// Operations a second of `work` on one thread and on two, at the same time.
fn speed_up(work: impl Fn(usize) + Send + Sync + Clone + 'static) -> (f64, f64) {
    let run = |threads: usize| {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (work, stop) = (work.clone(), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut count = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..100 {
                            work(thread);
                        }
                        count += 100;
                    }
                    count
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Relaxed);
        let total: u64 = handles.into_iter().map(|handle| handle.join().expect("a thread")).sum();
        total as f64 / started.elapsed().as_secs_f64()
    };
    (run(1), run(2))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Not a criterion loop: a ratio of ratios, so both are taken in turns in the same seconds.
fn two_threads(_: &mut Criterion) {
    let engine = engine(&[put("*", Some(5), &[])]);
    // Scopes in different shards, as nearly all are.
    let first = Request::new("a".parse().expect("a name"));
    let shard = engine.try_acquire(&first).expect("free").id().shard;
    let second = (0..)
        .map(|n| Request::new(format!("b{n}").parse().expect("a name")))
        .find(|request| engine.try_acquire(request).expect("free").id().shard != shard)
        .expect("another shard");
    let requests = Arc::new([first, second]);
    let ours = move |thread: usize| drop(black_box(engine.try_acquire(&requests[thread]).expect("free")));
    // The control shares nothing at all: the same kind of work (hash, map, clock) in a map of the thread's own.
    let control = |thread: usize| {
        thread_local!(static MAP: std::cell::RefCell<std::collections::HashMap<String, u64>> = std::cell::RefCell::default());
        MAP.with_borrow_mut(|map| {
            for name in ["a", "b", "c"] {
                *map.entry(name.into()).or_default() += black_box(thread as u64);
            }
        });
        black_box(Instant::now());
    };
    let (mut ratios, mut ours_up, mut control_up) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..9 {
        let (one, two) = speed_up(ours.clone());
        let (control_one, control_two) = speed_up(control);
        ours_up.push(two / one);
        control_up.push(control_two / control_one);
        ratios.push((two / one) / (control_two / control_one));
    }
    println!("two_threads_speed_up {:.2}", median(ours_up));
    println!("two_threads_speed_up_unshared {:.2}", median(control_up));
    println!("two_threads_ratio {:.2}", median(ratios));
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

criterion_group!(benches, one_constraint, three_depths, hand_over, two_threads);
criterion_main!(benches);
