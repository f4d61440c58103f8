//! Steps that come late: a thread woke up after its time, or the machine stood still. What is granted, refused and charged then.

mod bench;

use bench::{Bench, S, request, rule};
use std::time::Duration;
use weir_limiter::{Effect, Input, Limiter, Output, Reason, Request, ShardLimits};

fn waits(key: &str, wait: Duration) -> Request {
    Request { max_wait: Some(wait), ..request(key) }
}

/// Who was granted and who was sent away, by the order in which they came.
fn outcomes(bench: &Bench) -> (Vec<u64>, Vec<u64>) {
    let (mut granted, mut refused) = (Vec::new(), Vec::new());
    for effect in &bench.effects {
        match effect {
            Effect::Granted { waiter, .. } => granted.push(waiter.ticket),
            Effect::Refused { waiter, refusal } => {
                assert_eq!(refusal.reason, Reason::TimedOut);
                refused.push(waiter.ticket);
            }
            Effect::Retry { .. } | Effect::Release { .. } => panic!("one shard has it all"),
        }
    }
    (granted, refused)
}

/// The turn of the fourth to sixth comes when the first minute is over, as their time to wait ends, and the timer comes 80 us later.
#[test]
fn a_timer_that_comes_late_gives_each_what_one_on_time_would() {
    let mut bench = Bench::new(&[("s", "", &["3/1m"])]);
    let start = bench.now;
    let mut tickets = Vec::new();
    for caller in 0..10 {
        bench.now = start + caller * 5_000;
        match bench.step(Input::Acquire { request: &waits("s", Duration::from_secs(60)), wait: true, secrets: &[] }) {
            Output::Granted(_) => assert!(caller < 3),
            Output::Waiting(waiter) => tickets.push(waiter.ticket),
            other => panic!("{other:?}"),
        }
    }
    let late = start + 60 * S + 80_000;
    bench.at(late);
    assert_eq!(outcomes(&bench), (tickets[..3].to_vec(), tickets[3..].to_vec()));
    // They count from when they were let go, and not from when it was their turn.
    bench.now = late + 60 * S - 1;
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.now = late + 60 * S;
    bench.take("s");
}

/// The machine stood still until everybody had waited too long. A call for each of them, one within the other, would be the end of the
/// thread.
#[test]
fn many_who_are_overdue_are_sent_away_one_after_the_other() {
    const MANY: u64 = 50_000;
    let mut bench = Bench::new(&[("s", "", &["1/1s"])]);
    let mut many = rule("", &["1/1s"]);
    many.limits.max_waiters = Some(100_000);
    bench.put(&[("s", many)]);
    let start = bench.now;
    bench.take("s");
    for caller in 0..MANY {
        bench.now = start + 1 + caller;
        bench.wait(&waits("s", Duration::from_millis(999)));
    }
    let held = bench.try_acquire(&request("t")).unwrap();
    bench.at(start + 10 * S);
    let (granted, refused) = outcomes(&bench);
    // When the first of them is sent away there has been room for long: it is for the next, whose time is not up then.
    assert_eq!((granted.len(), refused.len() as u64), (1, MANY - 1));
    assert!(refused.is_sorted());
    bench.release(&held);
}

/// Who waits for a batch has all of it once it is granted, so it counts as so many under the cap of those who wait.
#[test]
fn a_batch_that_waits_counts_whole() {
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, ShardLimits { max_waiters: 50, ..ShardLimits::default() });
    bench.set(&[("s", "1000", &[])]);
    let batch = |count: u32, least: u32| {
        let number = |n| std::num::NonZeroU32::new(n).unwrap();
        request("s").batch(number(count), number(least)).unwrap()
    };
    let all = bench.try_acquire(&batch(1_000, 1_000)).unwrap();
    let first = bench.wait(&batch(40, 1));
    for (count, fits) in [(11, false), (10, true), (1, false)] {
        let output = bench.step(Input::Acquire { request: &batch(count, 1), wait: true, secrets: &[] });
        match output {
            Output::Waiting(_) => assert!(fits, "{count}"),
            Output::Refused(refusal) => assert_eq!((refusal.reason, fits), (Reason::Overloaded, false), "{count}"),
            other => panic!("{other:?}"),
        }
    }
    // Its place is somebody else's when it has left.
    assert_eq!(bench.step(Input::Cancel { waiter: first }), Output::Done);
    bench.wait(&batch(40, 40));
    for grant in std::iter::once(&all).chain(&all.more) {
        bench.release(grant);
    }
}
