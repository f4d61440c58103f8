//! Settling a lease, batches, and what the short answers say.

mod bench;

use bench::{Bench, S, costing, limits, request};
use std::num::NonZeroU32;
use std::time::Duration;
use weir_limiter::{Effect, Input, MAX_BATCH, Output, Reason, Request, RequestError, Settled};

fn batch(key: &str, count: u32, least: u32) -> Request {
    request(key).batch(NonZeroU32::new(count).unwrap(), NonZeroU32::new(least).unwrap()).unwrap()
}

fn used(bench: &mut Bench, counter: &str) -> u64 {
    bench.counter(counter).map_or(0, |snapshot| snapshot.rates[0].used)
}

#[test]
fn what_was_not_used_goes_back_to_the_start_it_was_booked_as() {
    let mut bench = Bench::new(&[("s", "5000:cost", &["4500/1m:cost"])]);
    let first = bench.try_acquire(&costing("s", 4_000)).unwrap();
    let waiter = bench.wait(&costing("s", 2_000));
    bench.at(1_030 * S);
    assert_eq!(bench.settle(&first, 1_250), Settled { refunded: 2_750, overrun: 0 });
    assert_eq!(bench.let_in(), [waiter], "it fits now, and is not kept waiting");
    assert_eq!((bench.held("s"), used(&mut bench, "s")), ((2, 3_250), 3_250));
    // What is left of the start leaves the window when the start does, not a minute after settling.
    bench.at(1_060 * S);
    assert_eq!(used(&mut bench, "s"), 2_000);
}

#[test]
fn settling_twice_is_settling_once() {
    let mut bench = Bench::new(&[("s", "", &["10/1m:cost"])]);
    let lease = bench.try_acquire(&costing("s", 8)).unwrap();
    assert_eq!(bench.settle(&lease, 3), Settled { refunded: 5, overrun: 0 });
    assert_eq!(bench.settle(&lease, 3), Settled::default());
    assert_eq!(used(&mut bench, "s"), 3);
}

#[test]
fn a_refund_is_nothing_once_the_start_has_left_the_window() {
    let mut bench = Bench::new(&[("s", "", &["10/1m:cost"])]);
    let old = bench.try_acquire(&costing("s", 8)).unwrap();
    bench.at(1_060 * S);
    bench.try_acquire(&costing("s", 9)).unwrap();
    bench.settle(&old, 0);
    assert_eq!(used(&mut bench, "s"), 9, "another's start is not refunded");
}

#[test]
fn a_refund_of_everything_leaves_a_fresh_counter() {
    for rate in ["10/1h:cost", "10/1h:smooth:burst=10:cost"] {
        let mut bench = Bench::new(&[("s", "", &[rate])]);
        let lease = bench.try_acquire(&costing("s", 10)).unwrap();
        bench.settle(&lease, 0);
        bench.release(&lease);
        assert!(bench.is_empty_after(11 * S), "{rate}: nothing is left to remember");
    }
}

#[test]
fn an_overrun_is_booked_when_it_is_known_and_admits_nothing_until_it_is_below() {
    let mut bench = Bench::new(&[("s", "3:cost", &["3/1m:cost"])]);
    let lease = bench.try_acquire(&costing("s", 2)).unwrap();
    bench.at(1_030 * S);
    assert_eq!(bench.settle(&lease, 5), Settled { refunded: 0, overrun: 3 });
    assert_eq!((bench.held("s"), used(&mut bench, "s")), ((1, 5), 5), "5/3, shown as it is");
    bench.release(&lease);
    let refusal = bench.try_acquire(&costing("s", 1)).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::Limited, Some(Duration::from_secs(60))));
    bench.at(1_060 * S);
    assert_eq!(used(&mut bench, "s"), 3, "what was asked for has left; the overrun began later");
    bench.at(1_090 * S);
    bench.try_acquire(&costing("s", 3)).unwrap();
}

#[test]
fn an_overrun_is_settled_down_again_before_what_was_asked_for() {
    let mut bench = Bench::new(&[("s", "", &["9/1m:cost"])]);
    let lease = bench.try_acquire(&costing("s", 2)).unwrap();
    bench.at(1_010 * S);
    bench.settle(&lease, 6);
    bench.settle(&lease, 3);
    bench.at(1_060 * S);
    assert_eq!(used(&mut bench, "s"), 1, "one of the overrun is left");
}

#[test]
fn only_limits_that_count_cost_are_settled() {
    let mut bench = Bench::new(&[("s", "1", &["2/1m"])]);
    let lease = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.settle(&lease, 0);
    assert_eq!((bench.held("s"), used(&mut bench, "s")), ((1, 0), 1));
    assert!(bench.try_acquire(&request("s")).is_err(), "a call is a call, whatever it cost");
}

#[test]
fn a_smooth_refund_never_forgives_what_others_have_started() {
    // A unit a second, ten at once.
    let mut bench = Bench::new(&[("s", "", &["60/1m:smooth:burst=10:cost"])]);
    let first = bench.try_acquire(&costing("s", 10)).unwrap();
    bench.at(1_012 * S);
    // The first has drained by itself; the second has not.
    bench.try_acquire(&costing("s", 10)).unwrap();
    bench.settle(&first, 0);
    assert!(bench.try_acquire(&costing("s", 1)).is_err());
    bench.at(1_013 * S);
    bench.try_acquire(&costing("s", 1)).unwrap();
}

#[test]
fn an_overrun_of_centuries_that_is_settled_down_again_leaves_the_rest() {
    let mut bench = Bench::new(&[("s", "", &["5/366d:smooth:burst=5:cost"])]);
    let lease = bench.try_acquire(&costing("s", 1)).unwrap();
    bench.settle(&lease, 2_341_178_251);
    assert_eq!(used(&mut bench, "s"), 2_341_178_251);
    bench.settle(&lease, 7);
    assert_eq!(used(&mut bench, "s"), 7);
    assert!(bench.try_acquire(&costing("s", 1)).is_err(), "two more than the burst are owed");
    bench.settle(&lease, 4);
    bench.try_acquire(&costing("s", 1)).unwrap();
}

#[test]
fn an_overrun_counts_under_the_rule_in_force_though_nobody_has_asked_since_it_changed() {
    let mut bench = Bench::new(&[("s", "", &["10/1m:cost"])]);
    let lease = bench.try_acquire(&costing("s", 1)).unwrap();
    bench.set(&[("s", "", &["10/1h:cost"])]);
    bench.settle(&lease, 11);
    assert!(bench.try_acquire(&costing("s", 10)).is_err(), "ten were started under this very rate");
}

#[test]
fn an_overrun_after_a_change_of_pace_is_not_taken_for_one_before_it() {
    let mut bench = Bench::new(&[("s", "", &["1/1h:smooth:burst=10:cost"])]);
    let lease = bench.try_acquire(&costing("s", 1)).unwrap();
    bench.at(bench.now + 7_200 * S);
    bench.set(&[("s", "", &["3600/1h:smooth:burst=10:cost"])]);
    bench.at(bench.now + 7_200 * S);
    bench.settle(&lease, 1_001);
    assert!(bench.try_acquire(&costing("s", 10)).is_err(), "a thousand were started at this instant");
}

#[test]
fn a_lease_that_is_settled_again_and_again_is_refunded_for_its_first_start_too() {
    let mut bench = Bench::new(&[("s", "", &["100000/1h:cost"])]);
    let lease = bench.try_acquire(&costing("s", 10)).unwrap();
    for up in 0..2_000 {
        bench.settle(&lease, 11 + up % 3);
        bench.settle(&lease, 10);
    }
    bench.settle(&lease, 3);
    assert_eq!(used(&mut bench, "s"), 3);
    bench.settle(&lease, 0);
    assert_eq!(used(&mut bench, "s"), 0);
}

#[test]
fn of_a_lease_that_is_only_settled_up_the_last_starts_are_refunded() {
    for rate in ["100000/1h:cost", "100000/1h:smooth:burst=100000:cost"] {
        let mut bench = Bench::new(&[("s", "", &[rate])]);
        let lease = bench.try_acquire(&costing("s", 1)).unwrap();
        for cost in 2..=1_000 {
            bench.settle(&lease, cost);
        }
        assert_eq!(used(&mut bench, "s"), 1_000);
        bench.settle(&lease, 800);
        assert_eq!(used(&mut bench, "s"), 800);
        bench.settle(&lease, 0);
        assert_eq!(used(&mut bench, "s"), 1_000 - 256, "{rate}: strict, and bounded");
        bench.release(&lease);
    }
}

#[test]
fn what_is_lent_stays_when_the_lender_settles_for_less() {
    let mut bench = Bench::new(&[("s", "5:cost", &[])]);
    let lender = bench.try_acquire(&costing("s", 5)).unwrap();
    let borrower = bench.try_acquire(&costing("s", 3).lend_from(lender.parts[0])).unwrap();
    bench.settle(&lender, 1);
    assert_eq!(bench.held("s"), (1, 3), "the borrower rides on three of it");
    bench.release(&lender);
    assert_eq!(bench.held("s"), (1, 3));
    bench.release(&borrower);
    assert_eq!(bench.held("s"), (0, 0));
}

#[test]
fn what_a_borrower_has_settled_stays_settled_when_its_lender_ends() {
    let mut bench = Bench::new(&[("s", "9:cost", &["9/1m:cost"])]);
    let lender = bench.try_acquire(&costing("s", 5)).unwrap();
    let borrower = bench.try_acquire(&costing("s", 5).lend_from(lender.parts[0])).unwrap();
    bench.settle(&borrower, 1);
    bench.release(&lender);
    assert_eq!(bench.held("s"), (1, 1));
}

#[test]
fn a_lease_that_is_gone_is_settled_no_more() {
    let mut bench = Bench::new(&[("s", "5:cost", &[])]);
    let lease = bench.try_acquire(&costing("s", 5)).unwrap();
    bench.release(&lease);
    bench.try_acquire(&costing("s", 4)).unwrap();
    assert_eq!(bench.step(Input::Settle { lease: lease.parts[0], cost: 0 }), Output::Gone);
    assert_eq!(bench.held("s"), (1, 4));
}

#[test]
fn a_lease_over_several_scopes_is_settled_at_all_of_them() {
    let mut bench = Bench::new(&[("s", "9:cost", &[]), ("t", "9:cost", &[]), ("u", "9:cost", &[])]);
    let wide = costing("s", 6).also("t".parse().unwrap()).unwrap().also("u".parse().unwrap()).unwrap();
    let lease = bench.try_acquire(&wide).unwrap();
    assert_eq!(bench.settle(&lease, 2), Settled { refunded: 4, overrun: 0 });
    assert_eq!((bench.held("s"), bench.held("t"), bench.held("u")), ((1, 2), (1, 2), (1, 2)));
}

#[test]
fn a_batch_gets_what_fits_and_never_less_than_its_minimum() {
    let mut bench = Bench::new(&[("s", "5", &[])]);
    let grant = bench.try_acquire(&batch("s", 8, 2)).unwrap();
    assert_eq!((1 + grant.more.len(), bench.held("s")), (5, (5, 5)));
    let mut fences: Vec<u64> = grant.more.iter().map(|more| more.fence).collect();
    fences.insert(0, grant.fence);
    assert!(fences.is_sorted_by(|a, b| a < b), "each has a fence of its own");
    // Each ends on its own.
    bench.release(&grant.more[1]);
    assert!(bench.try_acquire(&batch("s", 8, 2)).is_err());
    assert_eq!(bench.held("s"), (4, 4), "nothing of a batch that does not fit");
    bench.release(&grant.more[2]);
    assert_eq!(bench.try_acquire(&batch("s", 8, 2)).unwrap().more.len(), 1);
}

#[test]
fn a_batch_waits_until_its_minimum_fits_at_once() {
    let mut bench = Bench::new(&[("s", "3", &[])]);
    let held: Vec<_> = (0..3).map(|_| bench.take("s")).collect();
    let waiter = bench.wait(&batch("s", 3, 2));
    let behind = bench.wait(&request("s"));
    bench.release(&held[0]);
    assert_eq!(bench.let_in(), [], "one is not two, and nobody passes in its line");
    bench.release(&held[1]);
    let [Effect::Granted { waiter: granted, grant }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!((*granted, grant.more.len()), (waiter, 1), "no more than its minimum while somebody waits");
    bench.release(&held[2]);
    assert_eq!(bench.let_in(), [behind]);
}

#[test]
fn a_batch_that_waits_alone_takes_what_there_is_when_its_turn_comes() {
    let mut bench = Bench::new(&[("s", "2", &[])]);
    let held = bench.take("s");
    let waiter = bench.wait(&batch("s", 5, 2));
    bench.set(&[("s", "5", &[])]);
    let [Effect::Granted { waiter: granted, grant }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!((*granted, 1 + grant.more.len()), (waiter, 4));
    bench.release(&held);
}

#[test]
fn a_batch_is_charged_by_unit_at_every_limit() {
    let mut bench = Bench::new(&[("s", "100:cost", &["7/1m"]), ("s/a", "", &["20/1m:smooth:burst=4"])]);
    let grant = bench.try_acquire(&batch("s/a", 10, 1).cost(NonZeroU32::new(3).unwrap())).unwrap();
    assert_eq!((1 + grant.more.len(), bench.held("s")), (4, (4, 12)), "the burst of four is the narrowest");
    assert_eq!(used(&mut bench, "s"), 4);
    let refusal = bench.try_acquire(&batch("s/a", 5, 5)).unwrap_err();
    assert_eq!(refusal.reason, Reason::TooLarge, "five at once never fit a burst of four");
}

#[test]
fn a_timed_batch_has_an_id_for_each() {
    let mut bench = Bench::new(&[("s", "9", &[])]);
    let request = batch("s", 3, 3).lease_time(Duration::from_secs(1));
    let Output::Granted(grant) = bench.step(Input::Acquire { request: &request, wait: false, secrets: &[11, 12, 13] })
    else {
        panic!()
    };
    for secret in [11, 12, 13] {
        let id = weir_limiter::LeaseId { shard: grant.parts[0].shard, secret };
        assert!(matches!(bench.step(Input::Find { id, caller: None }), Output::Found(_)));
    }
    bench.at(1_001 * S);
    assert_eq!(bench.held("s"), (0, 0));
}

#[test]
fn batches_have_bounds() {
    let number = |number: u32| NonZeroU32::new(number).unwrap();
    assert!(request("s").batch(number(MAX_BATCH), number(MAX_BATCH)).is_ok());
    assert_eq!(
        request("s").batch(number(MAX_BATCH + 1), number(1)).unwrap_err(),
        RequestError::Batch { count: MAX_BATCH + 1, least: 1 }
    );
    assert_eq!(request("s").batch(number(2), number(3)).unwrap_err(), RequestError::Batch { count: 2, least: 3 });
    assert!(costing("s", u32::MAX).batch(number(2), number(1)).is_err());
    assert!(costing("s", u32::MAX / 2).batch(number(2), number(1)).is_ok());
}

#[test]
fn an_explanation_names_the_losers_and_the_time() {
    let mut bench = Bench::new(&[("llm/*", "", &["2/1m"]), ("*/gpt", "9", &[]), ("llm", "5", &[])]);
    bench.take("llm/gpt");
    bench.at(1_010 * S);
    bench.take("llm/gpt");
    let before = bench.counter("llm/gpt");
    let explanation = bench.explain(&request("llm/gpt"));
    assert_eq!(bench.counter("llm/gpt"), before, "a question changes nothing");
    let forecast = explanation.forecast.unwrap();
    assert_eq!((forecast.admitted_in, forecast.estimated), (Duration::from_secs(50), false));
    assert_eq!(explanation.position, Some(0));
    let deep = &explanation.counters[1];
    let rules: Vec<_> = deep.rules.iter().map(|(rule, standing)| (rule.pattern.as_str(), standing.as_str())).collect();
    assert_eq!((deep.counter.counter.as_str(), rules), ("llm/gpt", vec![("llm/*", "binds"), ("*/gpt", "outranked")]));
    assert!(deep.constraints[0].remedy().contains("raise rule `llm/*`"), "{}", deep.constraints[0].remedy());
    // It comes true.
    let waiter = bench.wait(&request("llm/gpt"));
    assert_eq!(bench.explain(&request("llm/gpt")).forecast.unwrap().admitted_in, Duration::from_secs(60));
    bench.at(1_060 * S - 1);
    assert_eq!(bench.let_in(), []);
    bench.at(1_060 * S);
    assert_eq!(bench.let_in(), [waiter]);
}

#[test]
fn a_forecast_counts_who_waits_and_says_when_it_is_an_estimate() {
    let mut bench = Bench::new(&[("s", "1", &[])]);
    // Holders last two seconds, as far as anybody knows.
    for _ in 0..32 {
        let lease = bench.take("s");
        bench.at(bench.now + 2 * S);
        bench.release(&lease);
    }
    bench.take("s");
    let _waiter = bench.wait(&request("s"));
    let explanation = bench.explain(&request("s").priority(1));
    let forecast = explanation.forecast.unwrap();
    assert!(forecast.estimated);
    assert_eq!((forecast.admitted_in, explanation.position), (Duration::from_secs(4), Some(1)));
    let never = bench.explain(&request("s").max_wait(Duration::from_secs(3)));
    assert_eq!(never.forecast, None, "not within its wait");
    let free = bench.explain(&request("t"));
    assert_eq!((free.refusal, free.forecast.unwrap().admitted_in), (None, Duration::ZERO));
}

#[test]
fn an_explanation_shows_pools_inline_keys_and_pins() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("s/*", bench::total("1", &[]))]);
    bench.take("s/a");
    let asked = request("s/b").inline("s", "k", limits("2", &[])).unwrap();
    let explanation = bench.explain(&asked);
    let names: Vec<&str> = explanation.counters.iter().map(|counter| counter.counter.counter.as_str()).collect();
    assert_eq!(names, ["s", "s/b", "s/*", "s#k"]);
    assert_eq!(explanation.counters[2].rules[0].1.as_str(), "binds-pool");
    assert_eq!(explanation.refusal.unwrap().blocked_on[0].counter, "s/*");
}

#[test]
fn what_goes_back_is_taken_from_the_latest_starts_first() {
    let mut bench = Bench::new(&[("s", "", &["20/1m:cost", "99/1h:cost"])]);
    let start = bench.now;
    let lease = bench.try_acquire(&costing("s", 4)).unwrap();
    bench.at(start + 30 * S);
    assert_eq!(bench.settle(&lease, 10), Settled { refunded: 0, overrun: 6 });
    let both = |bench: &mut Bench| bench.counter("s").unwrap().rates.iter().map(|rate| rate.used).collect::<Vec<_>>();
    assert_eq!(both(&mut bench), [10, 10]);
    // All of the overrun, and 2 of the 4: what is left leaves the minute with the first start.
    assert_eq!(bench.settle(&lease, 2), Settled { refunded: 8, overrun: 0 });
    assert_eq!(both(&mut bench), [2, 2]);
    assert_eq!(bench.settle(&lease, 1), Settled { refunded: 1, overrun: 0 });
    assert_eq!(both(&mut bench), [1, 1]);
    bench.at(start + 60 * S);
    assert_eq!(both(&mut bench), [0, 1]);
}

#[test]
fn an_overrun_of_two_inline_keys_goes_to_each_under_its_own_numbers() {
    let asked = Request::unscoped()
        .inline("s", "a", limits("", &["20/1m:cost"]))
        .and_then(|asked| asked.inline("s", "b", limits("", &["9/1m:cost"])))
        .unwrap()
        .cost(NonZeroU32::new(4).unwrap());
    let mut bench = Bench::new(&[]);
    let lease = bench.try_acquire(&asked).unwrap();
    // Another kind at `a` sees what starts there, an overrun too.
    let day = Request::unscoped().inline("s", "a", limits("", &["30/1day:cost"])).unwrap();
    bench.try_acquire(&day).unwrap();
    assert_eq!(bench.settle(&lease, 9), Settled { refunded: 0, overrun: 5 });
    let fits = |bench: &mut Bench, key: &str, rate: &str, cost: u32| {
        let asked = Request::unscoped().inline("s", key, limits("", &[rate])).unwrap();
        let check = bench.step(Input::Check { request: &asked.cost(NonZeroU32::new(cost).unwrap()) });
        matches!(check, Output::WouldGrant(_))
    };
    // `a`: 4 + 1 + 5 of 20; `b`: 4 + 5 of 9, and nothing of it is kept under a kind that `b` never had.
    assert!(fits(&mut bench, "a", "20/1m:cost", 10) && !fits(&mut bench, "a", "20/1m:cost", 11));
    assert!(!fits(&mut bench, "b", "9/1m:cost", 1));
    assert!(fits(&mut bench, "a", "30/1day:cost", 24) && !fits(&mut bench, "a", "30/1day:cost", 25));
    assert!(fits(&mut bench, "b", "30/1day:cost", 30));
}

#[test]
fn an_overrun_after_its_start_has_aged_out_begins_a_history_anew() {
    let asked = Request::unscoped()
        .inline("s", "a", limits("", &["9/1s:cost"]))
        .and_then(|asked| asked.inline("s", "b", limits("", &["9/2s:cost"])))
        .unwrap();
    let mut bench = Bench::new(&[]);
    let lease = bench.try_acquire(&asked).unwrap();
    bench.at(bench.now + 5 * S);
    assert_eq!(bench.settle(&lease, 6), Settled { refunded: 0, overrun: 5 });
    for (key, rate) in [("a", "9/1s:cost"), ("b", "9/2s:cost")] {
        let asked = |cost| {
            let one = Request::unscoped().inline("s", key, limits("", &[rate])).unwrap();
            one.cost(NonZeroU32::new(cost).unwrap())
        };
        assert!(bench.try_acquire(&asked(5)).is_err() && bench.try_acquire(&asked(4)).is_ok(), "{key}");
    }
}

#[test]
fn an_overrun_of_any_size_is_an_overrun() {
    for rate in ["255/366days:smooth:burst=255:cost", "255/366days:cost"] {
        let mut bench = Bench::new(&[("a", "", &[rate])]);
        let lease = bench.try_acquire(&costing("a", 5)).unwrap();
        assert_eq!(bench.settle(&lease, u32::MAX), Settled { refunded: 0, overrun: u32::MAX - 5 });
        for cost in [1, 255] {
            let refusal = bench.try_acquire(&costing("a", cost)).unwrap_err();
            assert_eq!(refusal.reason, Reason::Limited, "{rate}");
        }
        bench.settle(&lease, 0);
        bench.release(&lease);
    }
}

/// Its first start is forgotten: the overrun is one under the numbers that it has brought along all the same.
#[test]
fn an_overrun_counts_under_the_callers_numbers_after_a_reset() {
    let own = |cost| {
        let request = Request::unscoped().inline("s", "k", bench::limits("", &["10/1m:cost"])).unwrap();
        request.cost(std::num::NonZeroU32::new(cost).unwrap())
    };
    let mut bench = Bench::new(&[]);
    let lease = bench.try_acquire(&own(1)).unwrap();
    bench.operate("s#k", &weir_limiter::Verb::Reset);
    bench.settle(&lease, 4);
    assert!(bench.try_acquire(&own(8)).is_err(), "three have just started");
    bench.try_acquire(&own(7)).unwrap();
}
