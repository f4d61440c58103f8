//! A shadow counts what enforcing its limits would have refused to callers that do not wait: so the two are run beside
//! each other.

mod bench;

use bench::{Bench, S, costing, limits, request, rule};
use proptest::prelude::*;
use weir_limiter::{Grant, Limiter, Limits, RuleSpec, ShardLimits};

fn shadowed(limits: Limits) -> RuleSpec {
    RuleSpec { shadow_limits: Some(limits), ..RuleSpec::default() }
}

fn would_refuse(bench: &mut Bench) -> u64 {
    bench.counter("s").unwrap().shadow.unwrap().would_refuse
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(u32),
    Release(usize),
    Settle(usize, u32),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1u32..4).prop_map(Op::Acquire),
        3 => any::<prop::sample::Index>().prop_map(|of| Op::Release(of.index(1 << 16))),
        1 => (any::<prop::sample::Index>(), 0u32..6).prop_map(|(of, cost)| Op::Settle(of.index(1 << 16), cost)),
        2 => (0..40 * S).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn it_counts_what_enforcing_refuses(
        limits in prop::sample::select(vec![
            limits("2", &[]), limits("4:cost", &[]), limits("", &["3/1m"]), limits("", &["5/1m:cost"]),
            limits("", &["3/1m:smooth:burst=2"]), limits("3", &["4/1m", "9/1h:cost"]), limits("0", &[]),
        ]),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let rated = !limits.rates.is_empty();
        let (mut shadow, mut enforcing) = (Bench::new(&[]), Bench::new(&[]));
        shadow.put(&[("s", shadowed(limits.clone()))]);
        enforcing.put(&[("s", RuleSpec { limits, ..RuleSpec::default() })]);
        let mut held: Vec<(Grant, Option<Grant>)> = Vec::new();
        let mut refused = 0;
        for op in ops {
            match op {
                Op::Acquire(cost) => {
                    let other = enforcing.try_acquire(&costing("s", cost)).ok();
                    refused += u64::from(other.is_none());
                    held.push((shadow.try_acquire(&costing("s", cost)).unwrap(), other));
                }
                Op::Release(of) if !held.is_empty() => {
                    let (one, other) = held.swap_remove(of % held.len());
                    shadow.release(&one);
                    other.iter().for_each(|other| enforcing.release(other));
                }
                Op::Settle(of, cost) if !held.is_empty() => {
                    let (one, other) = &held[of % held.len()];
                    // What was never started is refunded nowhere, and overruns nothing that is enforced.
                    let Some(other) = other else { continue };
                    let settled = enforcing.settle(other, cost);
                    prop_assert_eq!(shadow.settle(one, cost), settled);
                    // A shadow's rates keep what was booked: only what is held follows.
                    if rated && settled != weir_limiter::Settled::default() {
                        return Ok(());
                    }
                }
                Op::Pass(nanos) => {
                    let now = shadow.now + nanos;
                    shadow.at(now);
                    enforcing.at(now);
                }
                Op::Release(_) | Op::Settle(..) => {}
            }
            if let Some(seen) = shadow.counter("s") {
                prop_assert_eq!(seen.shadow.unwrap().would_refuse, refused);
            } else {
                refused = 0;
            }
        }
        held.iter().for_each(|(one, _)| shadow.release(one));
        prop_assert!(shadow.is_empty_after(7_200 * S));
    }
}

#[test]
fn what_is_held_beyond_it_goes_with_its_cost() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", shadowed(limits("4:cost", &[])))]);
    let fits = bench.try_acquire(&costing("s", 3)).unwrap();
    let beyond = bench.try_acquire(&costing("s", 2)).unwrap();
    assert_eq!(would_refuse(&mut bench), 1);
    // Of the 8 held now, 3 count; another 1 fits.
    bench.settle(&beyond, 5);
    bench.try_acquire(&costing("s", 1)).unwrap();
    assert_eq!(would_refuse(&mut bench), 1);
    bench.settle(&beyond, 1);
    bench.try_acquire(&costing("s", 1)).unwrap();
    assert_eq!(would_refuse(&mut bench), 2, "4 of 4 are held that fitted");
    bench.release(&fits);
    bench.try_acquire(&costing("s", 3)).unwrap();
    assert_eq!(would_refuse(&mut bench), 2);
}

#[test]
fn a_loan_that_is_handed_over_leaves_it_as_it_was() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", shadowed(limits("1", &[])))]);
    let first = bench.take("s");
    let lender = bench.take("s");
    assert_eq!(would_refuse(&mut bench), 1);
    let borrower = bench.try_acquire(&request("s").lend_from(lender.parts[0])).unwrap();
    for lease in [&lender, &borrower, &first] {
        bench.release(lease);
    }
    bench.take("s");
    bench.take("s");
    assert_eq!(would_refuse(&mut bench), 2, "one of two overlaps");
}

/// The lender would not have been admitted, and who rode on it holds no more than that.
#[test]
fn who_takes_over_what_would_not_have_been_admitted_is_beyond_it_too() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", shadowed(limits("1", &[])))]);
    let first = bench.take("s");
    let lender = bench.take("s");
    bench.try_acquire(&request("s").lend_from(lender.parts[0])).unwrap();
    bench.release(&lender);
    bench.release(&first);
    assert_eq!((bench.held("s"), would_refuse(&mut bench)), ((1, 1), 1));
    bench.take("s");
    assert_eq!(would_refuse(&mut bench), 1, "nothing is held that would have been admitted");
}

#[test]
fn other_limits_are_counted_anew_and_another_rule_has_another_history() {
    let of = |rate: &str| shadowed(limits("", &[rate]));
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", of("1/1h"))]);
    let take = |bench: &mut Bench| {
        bench.take("s");
        would_refuse(bench)
    };
    assert_eq!([take(&mut bench), take(&mut bench)], [0, 1]);
    bench.put(&[("s", RuleSpec { description: "said otherwise".into(), ..of("1/1h") })]);
    assert_eq!(take(&mut bench), 2, "the same limits");
    bench.put(&[("s", of("2/1h"))]);
    assert_eq!([take(&mut bench), take(&mut bench)], [0, 1], "one of two was started");
    bench.put(&[("*", of("2/1h"))]);
    bench.remove("s");
    assert_eq!(
        [take(&mut bench), take(&mut bench), take(&mut bench)],
        [1, 1, 2],
        "the same limits, counted on, afresh"
    );
}

#[test]
fn its_logs_are_counted_and_forgotten_with_the_others() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s", RuleSpec { shadow_limits: Some(limits("", &["9/1m"])), ..rule("5", &[]) })]);
    let entries = |bench: &Bench| bench.limiter.shards().iter().map(|shard| shard.metrics().log_entries).sum::<u64>();
    let lease = bench.take("s");
    bench.release(&lease);
    bench.now += 1;
    let lease = bench.take("s");
    assert_eq!(entries(&bench), 2);
    bench.release(&lease);
    // Kept until its history has aged out, and not for longer.
    bench.at(bench.now + 59 * S);
    assert_eq!((entries(&bench), bench.counter("s").is_some()), (2, true));
    bench.at(bench.now + 2 * S);
    assert_eq!((entries(&bench), bench.counter("s").is_some()), (0, false));
    bench.take("s");
    bench.at(bench.now + 1);
    let lease = bench.take("s");
    bench.release(&lease);
    bench.take("s");
    bench.at(bench.now + 61 * S);
    bench.take("s");
    assert_eq!(entries(&bench), 1, "those of a minute ago are gone");
}

/// What a lender holds in the shadow goes to who rides on it when it ends first.
#[test]
fn a_borrower_that_outlives_its_lender_is_counted_in_the_shadow() {
    for (limit, free) in [("1", false), ("2", true), ("3:cost", false), ("4:cost", true)] {
        let mut bench = Bench::new(&[]);
        bench.put(&[("s", shadowed(limits(limit, &[])))]);
        let outer = bench.try_acquire(&costing("s", 3)).unwrap();
        let nested = bench.try_acquire(&costing("s", 3).lend_from(outer.parts[0])).unwrap();
        bench.release(&outer);
        assert_eq!(would_refuse(&mut bench), 0, "{limit}");
        let other = bench.take("s");
        assert_eq!(would_refuse(&mut bench), u64::from(!free), "{limit}");
        bench.release(&nested);
        bench.release(&other);
        bench.take("s");
        assert_eq!(would_refuse(&mut bench), u64::from(!free), "{limit}: nothing is left of them");
    }
}

/// Who rides on a lease at one counter, and holds what it has at another for itself, keeps what the shadow has said of that.
#[test]
fn what_is_held_beside_a_loan_stays_as_it_is_when_the_lender_ends() {
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, ShardLimits::default());
    bench.put(&[("s", shadowed(limits("1", &[])))]);
    let both = || request("s").also("t".parse().unwrap()).unwrap();
    let outer = bench.try_acquire(&both()).unwrap();
    let inner = bench.try_acquire(&request("t").lend_from(outer.parts[0])).unwrap();
    let innermost = bench.try_acquire(&both().lend_from(inner.parts[0])).unwrap();
    assert_eq!((would_refuse(&mut bench), bench.held("s"), bench.held("t")), (1, (2, 2), (1, 1)));
    // A call of no cost is a call.
    bench.settle(&innermost, 0);
    // From now on the innermost rides on the outer one.
    bench.release(&inner);
    bench.release(&outer);
    assert_eq!((bench.held("s"), bench.held("t")), ((1, 0), (1, 0)));
    bench.release(&innermost);
    bench.take("s");
    bench.take("s");
    assert_eq!(would_refuse(&mut bench), 2, "one of two overlaps");
}
