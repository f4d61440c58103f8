//! Whether an acquire and its release cost the same however many counters live, rules are loaded and threads run.
//!
//! `cargo bench -p weir-engine --bench scaling`. Aims: the dearest size at most 1.5 times the cheapest; two threads under
//! different scopes 0.9 of the speed-up of a loop that shares nothing.
//!
//! With a million counters the state is many times the processor's cache, so every acquire waits for memory. A map with as
//! many names, asked for them in the same order, shows how much of it is that: it does nothing but add one. A processor
//! looks ahead, and waits for the memory of several such look-ups at once, which is not to be had for an acquire, ten
//! times as long. So there is a second map, where each look-up needs what the last one found; and an array of entries as
//! large as counters, each at a place that needs no search, which nothing that keeps counters in memory can undercut.
//!
//! Sizes take turns, so that what the machine does meanwhile falls on all of them alike; a figure is the median of its
//! turns, a ratio the median of the ratios within each round. Every counter is used in every round, and so stays.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use hashbrown::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{engine, put};
use weir_engine::{Change, Engine, Request};

mod support;

const COUNTERS: [usize; 4] = [1, 1_000, 100_000, 1_000_000];
const RULES: [usize; 3] = [10, 1_000, 100_000];
const ROUNDS: usize = 9;
/// The operations of a turn, at least; and at least every counter once.
const OPERATIONS: usize = 100_000;

/// Something to measure: answers the nanoseconds of one operation.
type Course = Box<dyn FnMut() -> f64>;

fn course<T: 'static>(sequence: Vec<T>, mut operation: impl FnMut(&T) + 'static) -> Course {
    let passes = OPERATIONS.div_ceil(sequence.len());
    Box::new(move || {
        let started = Instant::now();
        for _ in 0..passes {
            sequence.iter().for_each(&mut operation);
        }
        started.elapsed().as_nanos() as f64 / (passes * sequence.len()) as f64
    })
}

fn acquire_and_release(engine: Engine) -> impl FnMut(&Request) {
    move |request| drop(black_box(engine.try_acquire(request).expect("free")))
}

/// The numbers below `count` in an order without pattern (Fisher and Yates, with splitmix64).
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0u64;
    for at in (1..count).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        order.swap(at, ((mixed ^ (mixed >> 31)) % (at as u64 + 1)) as usize);
    }
    order
}

fn request(name: &str) -> Request {
    Request::new(name.parse().expect("a name"))
}

/// An order in which each of `counters` is used, at least a thousand times in all.
fn uses(counters: usize) -> impl Iterator<Item = usize> {
    let order = shuffled(counters);
    (0..counters.max(1_000)).map(move |at| order[at % counters])
}

/// Requests for each of `counters`, in random order. They lie in memory in that order: reading the next one costs
/// nothing, finding its counter does.
fn sequence(counters: usize) -> Vec<Request> {
    uses(counters).map(|n| request(&format!("tenant-{n}"))).collect()
}

fn ours(counters: usize) -> Course {
    let engine = engine(&[put("*", Some(5), &[])]);
    // Made in another order than they are used in, or they would lie in memory as they are used.
    for n in 0..counters {
        drop(engine.try_acquire(&request(&format!("tenant-{n}"))).expect("free"));
    }
    course(sequence(counters), acquire_and_release(engine))
}

fn names(counters: usize) -> HashMap<Box<str>, u64> {
    (0..counters).map(|n| (format!("tenant-{n}").into(), 0)).collect()
}

fn map(counters: usize) -> Course {
    let mut map = names(counters);
    course(sequence(counters), move |request| *map.get_mut(request.targets[0].as_str()).expect("present") += 1)
}

fn map_in_turn(counters: usize) -> Course {
    let map = names(counters);
    let mut last = 0;
    course(sequence(counters), move |request| {
        // What was found is 0, but the processor cannot know.
        last = *map.get(&request.targets[0].as_str()[last as usize..]).expect("present");
    })
}

/// As many bytes as a counter has, at a place that is known beforehand.
fn array_in_turn(counters: usize) -> Course {
    let mut array = vec![[0u64; 21]; counters];
    let mut last = 0;
    course(uses(counters).collect(), move |at: &usize| {
        let counter = &mut array[at + last as usize];
        last = black_box(counter[20]);
        counter[0] = last;
    })
}

fn rules(count: usize) -> Engine {
    let mut changes: Vec<Change> =
        vec![put("*", Some(100), &[]), put("*/*", Some(50), &[]), put("*/*/*", Some(10), &["1000000000/1s"])];
    changes.extend((changes.len()..count).map(|n| put(&format!("other-{n}/*/x"), Some(1), &["5/1m"])));
    engine(&changes)
}

fn three_depths() -> Vec<Request> {
    (0..1_000).map(|n| request(&format!("tenant-{n}/model/user-{n}"))).collect()
}

fn under_rules(count: usize) -> Course {
    course(three_depths(), acquire_and_release(rules(count)))
}

/// Counters that are not there look their rules up; a check makes three and lets them go.
fn fresh_under_rules(count: usize) -> Course {
    let engine = rules(count);
    course(three_depths(), move |request| drop(black_box(engine.check(request).expect("free"))))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is measured at several sizes.
struct Family<'a> {
    name: &'a str,
    sizes: &'a [usize],
    make: fn(usize) -> Course,
}

/// Measures all sizes in turns and prints what each costs, and the ratio of the dearest to the cheapest.
fn compare(families: &[Family<'_>]) {
    let mut courses: Vec<Vec<Course>> =
        families.iter().map(|family| family.sizes.iter().map(|size| (family.make)(*size)).collect()).collect();
    let mut round =
        || -> Vec<Vec<f64>> { courses.iter_mut().map(|sizes| sizes.iter_mut().map(|run| run()).collect()).collect() };
    round();
    let rounds: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    for (at, Family { name, sizes, .. }) in families.iter().enumerate() {
        for (index, size) in sizes.iter().enumerate() {
            println!("scaling_{name}_{size}_ns {:.1}", median(rounds.iter().map(|round| round[at][index])));
        }
        let ratio = |turns: &[f64]| {
            turns.iter().copied().fold(0.0, f64::max) / turns.iter().copied().fold(f64::INFINITY, f64::min)
        };
        println!("scaling_{name}_ratio {:.2}", median(rounds.iter().map(|round| ratio(&round[at]))));
    }
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

/// A ratio of ratios, so both are taken in turns in the same seconds.
fn two_threads() {
    let engine = engine(&[put("*", Some(5), &[])]);
    // Scopes in different shards, as nearly all are.
    let first = request("a");
    let shard = engine.try_acquire(&first).expect("free").id().shard;
    let second = (0..)
        .map(|n| request(&format!("b{n}")))
        .find(|request| engine.try_acquire(request).expect("free").id().shard != shard)
        .expect("another shard");
    let requests = Arc::new([first, second]);
    let ours = move |thread: usize| drop(black_box(engine.try_acquire(&requests[thread]).expect("free")));
    // The control shares nothing at all: the same kind of work (hash, map, clock) in a map of the thread's own.
    let control = |thread: usize| {
        thread_local!(static MAP: std::cell::RefCell<HashMap<String, u64>> = std::cell::RefCell::default());
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
    println!("two_threads_speed_up {:.2}", median(ours_up.into_iter()));
    println!("two_threads_speed_up_unshared {:.2}", median(control_up.into_iter()));
    println!("two_threads_ratio {:.2}", median(ratios.into_iter()));
}

fn main() {
    compare(&[
        Family { name: "counters", sizes: &COUNTERS, make: ours },
        Family { name: "map", sizes: &COUNTERS, make: map },
        Family { name: "map_in_turn", sizes: &COUNTERS, make: map_in_turn },
        Family { name: "array_in_turn", sizes: &COUNTERS, make: array_in_turn },
    ]);
    compare(&[
        Family { name: "rules", sizes: &RULES, make: under_rules },
        Family { name: "rules_fresh", sizes: &RULES, make: fresh_under_rules },
    ]);
    two_threads();
}
