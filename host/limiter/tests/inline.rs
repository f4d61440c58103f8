//! Smooth rates that callers bring to one key: each pace has a history of its own.

mod bench;

use bench::{Bench, S, limits};
use std::num::NonZeroU32;
use weir_limiter::{Request, Verb};

const H: u64 = 3_600 * S;

fn inline(rate: &str, cost: u32) -> Request {
    Request::unscoped().inline("s", "k", limits("", &[rate])).unwrap().cost(NonZeroU32::new(cost).unwrap())
}

#[test]
fn who_brings_a_low_number_is_admitted_under_it_whatever_others_bring() {
    let (slow, fast) = ("1/1h:smooth:burst=10:cost", "3600/1h:smooth:burst=20:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(slow, 10)).unwrap();
    bench.try_acquire(&inline(fast, 1)).unwrap();
    bench.at(bench.now + 12 * S);
    let refusal = bench.try_acquire(&inline(slow, 1)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 2 * H - 12 * S, "11 have started: 10 and one an hour");
}

#[test]
fn what_others_start_counts_under_every_number() {
    let (slow, fast) = ("10/1h:smooth:burst=10:cost", "20/1h:smooth:burst=10:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(slow, 1)).unwrap();
    bench.try_acquire(&inline(fast, 8)).unwrap();
    assert!(bench.try_acquire(&inline(slow, 2)).is_err());
    bench.try_acquire(&inline(slow, 1)).unwrap();
}

#[test]
fn a_new_number_begins_with_what_the_next_slower_one_knows() {
    let (slow, slower) = ("60/1h:smooth:burst=10:cost", "1/1h:smooth:burst=10:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(slower, 1)).unwrap();
    bench.at(bench.now + 30 * 60 * S);
    bench.try_acquire(&inline(slow, 9)).unwrap();
    // Nine and a half are to drain at the slower pace. At this one they take as many half minutes, from the last start on.
    let refusal = bench.try_acquire(&inline("120/1h:smooth:burst=10:cost", 10)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 9 * 30 * S);
    bench.at(bench.now + 9 * 30 * S - 1);
    assert!(bench.try_acquire(&inline("120/1h:smooth:burst=10:cost", 10)).is_err());
    bench.at(bench.now + 1);
    bench.try_acquire(&inline("120/1h:smooth:burst=10:cost", 10)).unwrap();
}

#[test]
fn a_lower_number_counts_from_its_first_start_on() {
    let (fast, lower) = ("60/1h:smooth:burst=10:cost", "1/1h:smooth:burst=10:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(fast, 10)).unwrap();
    bench.try_acquire(&inline(lower, 1)).unwrap();
    bench.try_acquire(&inline(lower, 9)).unwrap();
    bench.at(bench.now + 1_200 * S);
    bench.try_acquire(&inline(fast, 10)).unwrap();
    let refusal = bench.try_acquire(&inline(lower, 1)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 11 * H - 1_200 * S, "20 have started since it came");
}

#[test]
fn a_history_that_had_drained_before_others_started_does_not_forget_them() {
    let (slow, fast) = ("1/1h:smooth:burst=9:cost", "3600/1h:smooth:burst=9:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(fast, 1)).unwrap();
    bench.at(bench.now + 10 * S);
    bench.try_acquire(&inline(slow, 9)).unwrap();
    assert!(bench.try_acquire(&inline(fast, 9)).is_err(), "nine have just started");
    bench.at(bench.now + 9 * S);
    bench.try_acquire(&inline(fast, 9)).unwrap();
}

#[test]
fn who_waits_under_another_number_is_looked_at_when_it_is_time() {
    let (slow, fast) = ("1/366d:smooth", "4294967295/366d:smooth");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(slow, 1)).unwrap();
    let (start, waiter) = (bench.now, bench.wait(&inline(fast, 1)));
    let mut looks = 0;
    while let Some(due) = bench.limiter.next_due().filter(|due| *due < start + S) {
        bench.at(due);
        looks += 1;
    }
    assert!(looks < 3, "{looks} timers within a second, for {waiter:?}");
}

#[test]
fn a_pin_goes_on_where_callers_numbers_were() {
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 10)).unwrap();
    bench.operate("s#k", &Verb::Pin(limits("", &["20/1h:smooth:burst=10:cost"])));
    let refusal = bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 1)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 180 * S);
    bench.operate("s#k", &Verb::Unpin);
    let refusal = bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 1)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 360 * S);
}
