//! Smooth rates that callers bring to one key: each pace has a history of its own.

mod bench;

use bench::{Bench, S, limits};
use std::num::NonZeroU32;
use weir_limiter::{Limiter, Request, ShardLimits, Verb};

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
fn a_number_counts_from_its_first_start_on() {
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
fn two_that_drain_in_turn_see_each_other() {
    let (one, other) = ("60/1h:smooth:burst=10:cost", "61/1h:smooth:burst=10:cost");
    let mut bench = Bench::new(&[]);
    for rate in [one, other] {
        bench.try_acquire(&inline(rate, 10)).unwrap();
    }
    for _ in 0..5 {
        bench.at(bench.now + H);
        bench.try_acquire(&inline(other, 10)).unwrap();
        assert!(bench.try_acquire(&inline(one, 1)).is_err(), "ten have just started");
        bench.at(bench.now + H);
        bench.try_acquire(&inline(one, 10)).unwrap();
        assert!(bench.try_acquire(&inline(other, 1)).is_err(), "ten have just started");
    }
    // Windows too.
    let (one, other) = ("10/1m:cost", "10/2m:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(one, 10)).unwrap();
    bench.at(bench.now + 200 * S);
    bench.try_acquire(&inline(other, 10)).unwrap();
    assert!(bench.try_acquire(&inline(one, 1)).is_err(), "ten have just started");
}

#[test]
fn a_high_number_is_not_held_up_by_what_a_low_one_owes() {
    let (slow, fast) = ("10/1m:smooth:burst=10:cost", "600/1m:smooth:burst=10:cost");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(slow, 1)).unwrap();
    bench.try_acquire(&inline(fast, 1)).unwrap();
    for _ in 0..200 {
        bench.at(bench.now + S / 2);
        bench.try_acquire(&inline("1000/1m:cost", 1)).unwrap();
        bench.try_acquire(&inline(fast, 1)).unwrap();
    }
    assert!(bench.try_acquire(&inline(slow, 1)).is_err());
}

#[test]
fn a_key_whose_numbers_change_all_the_time_stays_open() {
    let mut bench = Bench::new(&[]);
    for limit in 100..160u64 {
        // More is started than the first of them allow: their histories never drain.
        let rate = format!("{limit}/1h:smooth:burst=2:cost");
        bench.try_acquire(&inline(&rate, 1)).unwrap();
        bench.at(bench.now + 30 * S);
        bench.try_acquire(&inline("1000/1h:cost", 1)).unwrap();
        bench.at(bench.now + 30 * S);
    }
}

#[test]
fn changes_of_the_book_do_not_concern_it() {
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline("1/1h:smooth:burst=1:cost", 1)).unwrap();
    for n in 1..60u32 {
        bench.at(bench.now + 60 * S);
        bench.set(&[("t", &n.to_string(), &[])]);
    }
    bench.at(bench.now + 60 * S);
    bench.try_acquire(&inline("1/1h:smooth:burst=1:cost", 1)).unwrap();
}

#[test]
fn a_log_that_nobody_asks_does_not_grow() {
    let caps = ShardLimits { max_log_entries: 64, ..ShardLimits::default() };
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, caps);
    bench.set(&[("t", "", &["3/1m"])]);
    bench.try_acquire(&inline("5/1s:cost", 1)).unwrap();
    // All of them are held, so that nothing is swept.
    for _ in 0..1_000 {
        bench.at(bench.now + S / 10);
        bench.try_acquire(&inline("100000/1h:smooth:burst=100:cost", 1)).unwrap();
    }
    bench.take("t");
}

#[test]
fn what_is_settled_down_gives_its_place_back() {
    let mut bench = Bench::new(&[]);
    let leases: Vec<_> =
        (1..=8).map(|hours| bench.try_acquire(&inline(&format!("100/{hours}h:cost"), 10)).unwrap()).collect();
    let ninth = inline("100/9h:cost", 1);
    for lease in &leases {
        assert!(bench.try_acquire(&ninth).is_err(), "what others have started counts");
        bench.settle(lease, 0);
    }
    bench.try_acquire(&ninth).unwrap();
}

#[test]
fn who_waits_under_another_number_is_looked_at_when_it_is_time() {
    let (slow, fast) = ("1/366d:smooth", "4294967295/366d:smooth");
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline(fast, 1)).unwrap();
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
fn callers_numbers_go_on_where_a_pin_was() {
    let mut bench = Bench::new(&[]);
    bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 1)).unwrap();
    bench.operate("s#k", &Verb::Pin(limits("", &["20/1h:smooth:burst=10:cost"])));
    bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 9)).unwrap();
    bench.operate("s#k", &Verb::Unpin);
    let refusal = bench.try_acquire(&inline("10/1h:smooth:burst=10:cost", 1)).unwrap_err();
    assert_eq!(refusal.retry_after.unwrap().as_nanos() as u64, 360 * S);
}
