//! Defects that were seen in other limiters while they were measured, as Weir decides them: one test each.
//!
//! The limiters are throttlecrab 0.4.40, limitador 0.14, redis-cell 0.2.2 and, as the one that gets it right, governor
//! 0.10.4. What limitador calls a commit is a release or a settlement here: each has its test.

mod bench;

use bench::{Bench, S, costing, request};
use std::time::Duration;
use weir_limiter::{ConstraintKind, IDLE_KEEP, Input, Outcome, Output, Refusal, Request, Settled, Shard};

/// How many of a thousand calls are granted, `gap` apart and each ended at once.
fn granted_of_a_thousand(bench: &mut Bench, gap: u64) -> usize {
    let grants = (0..1_000).filter_map(|_| {
        bench.now += gap;
        let grant = bench.try_acquire(&request("s")).ok()?;
        bench.release(&grant);
        Some(())
    });
    grants.count()
}

fn counters(bench: &Bench) -> u64 {
    bench.limiter.shards().iter().map(|shard| shard.metrics().counters).sum()
}

/// throttlecrab: with a burst of 1 and one a minute, a thousand calls at one instant or 1 us apart were all allowed.
#[test]
fn one_a_minute_is_one_a_minute_however_fast_they_come() {
    for rate in ["1/1m", "1/1m:smooth", "1/1m:smooth:burst=1"] {
        for gap in [0, 1_000] {
            let mut bench = Bench::new(&[("s", "", &[rate])]);
            let first = bench.now + gap;
            assert_eq!(granted_of_a_thousand(&mut bench, gap), 1, "{rate}, {gap} ns apart");
            bench.now = first + 60 * S - 1;
            assert_eq!(granted_of_a_thousand(&mut bench, 0), 0, "{rate}, {gap} ns apart");
            bench.now = first + 60 * S;
            assert_eq!(granted_of_a_thousand(&mut bench, 0), 1, "{rate}, {gap} ns apart");
        }
    }
}

/// throttlecrab: a key that was drained and then idle for a while had up to twice its burst.
#[test]
fn an_idle_key_saves_up_its_burst_and_no_more() {
    for (burst, idle, expected) in [
        (10, 5_500, 5),
        (10, 9_999, 9),
        (10, 10_000, 10),
        (10, 17_000, 10),
        (10, 17_900, 10),
        (10, 19_999, 10),
        (100, 100_000, 100),
        (100, 197_000, 100),
        (100, 3_600_000, 100),
    ] {
        let mut bench = Bench::new(&[("s", "", &[&format!("1/1s:smooth:burst={burst}")])]);
        // Something is held all the time, so that no sweep makes a fresh counter of it.
        bench.take("s");
        assert_eq!(granted_of_a_thousand(&mut bench, 0), burst - 1);
        bench.now += idle * 1_000_000;
        assert_eq!(granted_of_a_thousand(&mut bench, 0), expected, "burst {burst}, idle for {idle} ms");
    }
}

/// throttlecrab: from 172,000 live keys on, every write looked at all of them again.
#[test]
fn a_sweep_takes_what_is_due_of_two_hundred_thousand_keys_and_no_more() {
    const KEYS: u64 = 200_000;
    const APART: u64 = 1_000;
    let mut bench = Bench::new(&[("*", "1", &[])]);
    let start = bench.now;
    for key in 0..KEYS {
        bench.now = start + key * APART;
        let grant = bench.take(&format!("k{key}"));
        bench.release(&grant);
    }
    assert_eq!(counters(&bench), KEYS);
    // Those that become due within 8.4 ms are looked at together, at the end of it.
    let late = (1 << 23) / APART + 1;
    for due in [1, 2, KEYS / 2, KEYS - 1] {
        bench.at(start + IDLE_KEEP + (due - 1) * APART);
        let gone = KEYS - counters(&bench);
        assert!(gone <= due && due <= gone + late, "{gone} of {due} are gone");
        let next = (bench.limiter.next_due().unwrap() - start - IDLE_KEEP) / APART;
        assert!(due <= next + 1 && next <= gone + late, "the next when {next} are due, of which {gone} are gone");
    }
    bench.at(start + IDLE_KEEP + (KEYS + late) * APART);
    assert!(bench.limiter.shards().iter().all(Shard::is_empty));
}

/// limitador: of callers that came at the same time, all had looked before any had taken, and one too many got in.
#[test]
fn to_have_looked_gives_no_right_to_take() {
    for callers in 2..=8 {
        let mut bench = Bench::new(&[("s", "3", &[]), ("rate", "", &["3/1m"])]);
        for scope in ["s", "rate"] {
            for _ in 0..callers {
                assert!(matches!(bench.step(Input::Check { request: &request(scope) }), Output::WouldGrant(_)));
            }
            let granted = (0..callers).filter(|_| bench.try_acquire(&request(scope)).is_ok()).count();
            assert_eq!(granted, callers.min(3), "{callers} callers at `{scope}`");
        }
    }
}

/// limitador: a commit sent again under the same id was applied twice.
#[test]
fn a_release_sent_again_gives_back_nothing_more() {
    let mut bench = Bench::new(&[("s", "10:cost", &[])]);
    for lease_time in [Some(Duration::from_secs(30)), None] {
        for _ in 0..20 {
            bench.now += 1;
            let four = Request { lease_time, ..costing("s", 4) };
            let sent_again = bench.try_acquire(&four).unwrap();
            let other = bench.try_acquire(&four).unwrap();
            let again =
                |bench: &mut Bench| bench.step(Input::Release { lease: sent_again.parts[0], outcome: Outcome::Ok });
            assert_eq!((again(&mut bench), again(&mut bench)), (Output::Done, Output::Gone));
            assert_eq!(bench.held("s"), (1, 4));
            let next = bench.try_acquire(&costing("s", 6)).unwrap();
            assert_eq!(again(&mut bench), Output::Gone, "its place is taken");
            assert_eq!(bench.held("s"), (2, 10));
            bench.release(&other);
            bench.release(&next);
        }
    }
    assert_eq!(bench.held("s"), (0, 0));
}

/// limitador: of ten units, two were committed twice under one id, and six were left.
#[test]
fn a_settlement_sent_again_is_applied_once() {
    for rate in ["10/1m:cost", "10/1m:smooth:burst=10:cost"] {
        for asked in [1, 2, 4] {
            let mut bench = Bench::new(&[("s", "10:cost", &[rate])]);
            let lease = bench.try_acquire(&costing("s", asked)).unwrap();
            let first = bench.settle(&lease, 2);
            assert_eq!(first, Settled { refunded: asked.saturating_sub(2), overrun: 2_u32.saturating_sub(asked) });
            assert_eq!((bench.settle(&lease, 2), bench.settle(&lease, 2)), (Settled::default(), Settled::default()));
            assert_eq!((bench.held("s"), bench.counter("s").unwrap().rates[0].used), ((1, 2), 2), "{rate}");
            assert!(bench.try_acquire(&costing("s", 9)).is_err(), "{rate}");
            let rest = bench.try_acquire(&costing("s", 8)).unwrap();
            bench.release(&rest);
            bench.release(&lease);
            let again = bench.step(Input::Settle { lease: lease.parts[0], cost: 1 });
            assert_eq!((again, bench.held("s")), (Output::Gone, (0, 0)), "{rate}");
        }
    }
}

/// redis-cell: a refund back to empty was an error, since its key had no time left to live.
#[test]
fn a_refund_back_to_empty_is_a_refund() {
    for rate in ["10/1h:cost", "10/1h:smooth:burst=10:cost"] {
        let mut bench = Bench::new(&[("s", "", &[rate])]);
        for _ in 0..3 {
            let lease = bench.try_acquire(&costing("s", 10)).unwrap();
            assert!(bench.try_acquire(&costing("s", 1)).is_err(), "{rate}");
            assert_eq!(bench.settle(&lease, 0), Settled { refunded: 10, overrun: 0 }, "{rate}");
            assert_eq!(bench.counter("s").unwrap().rates[0].used, 0, "{rate}");
            bench.release(&lease);
        }
        assert!(bench.is_empty_after(11 * S), "{rate}: nothing is left to remember");
    }
}

/// limitador: with all ten units reserved, a plain check of one more said yes.
#[test]
fn a_check_counts_what_is_held_started_and_waited_for() {
    let mut bench = Bench::new(&[("held", "10:cost", &[]), ("started", "", &["10/1m:cost"])]);
    let kinds = |bench: &mut Bench, scope: &str| match bench.step(Input::Check { request: &request(scope) }) {
        Output::Refused(Refusal { blocked_on, .. }) => blocked_on.iter().map(|constraint| constraint.kind).collect(),
        Output::WouldGrant(_) => Vec::new(),
        other => panic!("{other:?}"),
    };
    let reserved = bench.try_acquire(&costing("held", 10).lease_time(Duration::from_secs(30))).unwrap();
    let spent = bench.try_acquire(&costing("started", 10)).unwrap();
    bench.release(&spent);
    assert_eq!(kinds(&mut bench, "held"), [ConstraintKind::Concurrency]);
    assert_eq!(kinds(&mut bench, "started"), [ConstraintKind::Rate]);
    bench.release(&reserved);
    assert_eq!(kinds(&mut bench, "held"), []);
    bench.try_acquire(&costing("held", 5)).unwrap();
    bench.wait(&costing("held", 6));
    assert_eq!(kinds(&mut bench, "held"), [ConstraintKind::Waitlist], "five are free, and somebody stands before them");
}

/// governor, which gets it right since 0.8: a key that was forgotten in between comes back with its burst, and no more.
#[test]
fn a_key_drained_idle_and_forgotten_comes_back_with_its_burst_and_no_more() {
    let mut bench = Bench::new(&[("s", "", &["1/1s:smooth:burst=10"])]);
    assert_eq!(granted_of_a_thousand(&mut bench, 0), 10);
    for (idle, expected) in [(9_999, 9), (17_000, 10), (17_900, 10), (3_600_000, 10), (400 * 24 * 3_600_000, 10)] {
        let drained = bench.now;
        bench.at(drained + idle * 1_000_000);
        let forgotten = counters(&bench) == 0;
        assert_eq!(forgotten, idle >= 10_000, "swept once it owes nothing, {idle} ms");
        assert_eq!(granted_of_a_thousand(&mut bench, 0), expected, "idle for {idle} ms");
    }
}
