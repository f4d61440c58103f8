//! Who cannot go for now is in nobody's way: not at its other counters, not with its barrier, not with its patience.

mod bench;

use bench::{Bench, S, costing, limits, request, total};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;
use weir_limiter::{Effect, Grant, Input, MAX_PASSES, Outcome, PATIENCE, Placement, Request, Verb, WaiterId};

fn share(key: &str, of: u16) -> Request {
    request("s").fairness(key, NonZeroU16::new(of).unwrap()).unwrap()
}
fn woken(bench: &Bench) -> Vec<(WaiterId, Grant)> {
    bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Granted { waiter, grant } => Some((*waiter, grant.clone())),
            _ => None,
        })
        .collect()
}
fn long(request: Request) -> Request {
    request.max_wait(Duration::from_secs(3_600))
}
fn also(request: Request, key: &str) -> Request {
    request.also(key.parse().unwrap()).unwrap()
}
fn passing() -> Request {
    also(request("s"), "free")
}
/// Newcomers come and go; after how many one is stopped.
fn pass(bench: &mut Bench, by: &Request, most: u32) -> u32 {
    for turn in 0..most {
        match bench.try_acquire(by) {
            Ok(grant) => bench.release(&grant),
            Err(_) => return turn,
        }
    }
    most
}

/// A pool is pinned, its rule is deleted: it binds nobody, yet who waits there waits on.
#[test]
fn who_waits_at_a_pinned_pool_goes_on_when_its_rule_is_deleted() {
    let mut bench = Bench::new(&[]);
    bench.put(&[("p/*", total("5", &[]))]);
    bench.operate("p/*", &Verb::Pin(limits("1", &[])));
    bench.take("p/a");
    let waiter = bench.wait(&long(request("p/b")));
    bench.remove("p/*");
    let granted = bench.let_in();
    assert!(bench.try_acquire(&request("p/c")).is_ok(), "nothing binds a newcomer");
    assert_eq!(granted, [waiter]);
}

/// A barrier stands at a concurrency though a rate elsewhere blocks its owner for an hour.
#[test]
fn a_barrier_keeps_no_concurrency_idle_while_its_owner_lacks_a_rate() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "", &["1/1h"])]);
    bench.take("t");
    bench.take("s");
    bench.wait(&long(also(costing("s", 3), "t")));
    assert_eq!(pass(&mut bench, &passing(), 1_000), 1_000, "its owner lacks a rate for an hour");
}

/// The same, where the pushback comes after the barrier.
#[test]
fn a_pushback_suspends_a_barrier() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "2", &[])]);
    let at_t = bench.take("t");
    bench.take("s");
    bench.wait(&long(also(costing("s", 3), "t")));
    assert_eq!(pass(&mut bench, &passing(), 1_000), MAX_PASSES);
    let outcome = Outcome::PushedBack(Duration::from_secs(50));
    bench.step(Input::Release { lease: at_t.parts[0], outcome });
    assert_eq!(pass(&mut bench, &passing(), 10), 10, "its owner is held by a pushback for 50 s");
}

/// Who brings a concurrency of 0 for an inline key is closed by its own word, and stops everybody else.
#[test]
fn who_brings_a_closed_limit_raises_no_barrier() {
    let mut bench = Bench::new(&[]);
    let bringing = |limit: &str| Request::unscoped().inline("s", "k", limits(limit, &[])).unwrap();
    bench.wait(&long(bringing("0")));
    assert_eq!(pass(&mut bench, &bringing("5"), 1_000), 1_000, "others at the key go on");
}

/// Who waits for what is paused is owed nothing elsewhere.
#[test]
fn nothing_is_owed_to_who_is_paused_elsewhere() {
    for (one, other) in [("s", "t"), ("t", "s")] {
        let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "9:cost", &[])]);
        bench.operate("t", &Verb::Pause);
        bench.take("s");
        let first = also(costing(one, 3), other).priority(200);
        bench.wait(&long(first));
        assert_eq!(
            pass(&mut bench, &request("s"), 10),
            10,
            "{one} {other}: two units are free and of no use to who waits"
        );
    }
}

/// A class that is stuck keeps a lower one from its turn after ten seconds.
#[test]
fn a_class_that_is_stuck_takes_nobodys_patience() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "1", &[])]);
    bench.operate("t", &Verb::Pause);
    let mut held: VecDeque<Grant> = (0..3).map(|_| bench.take("s")).collect();
    let middle = also(costing("s", 3), "t").priority(100);
    bench.wait(&long(middle));
    let low = bench.wait(&long(request("s").priority(1)));
    for _ in 0..200 {
        bench.wait(&long(request("s").priority(200)));
    }
    let start = bench.now;
    for _ in 0..120 {
        bench.at(bench.now + S);
        let first = held.pop_front().unwrap();
        bench.release(&first);
        let woken = woken(&bench);
        if woken.iter().any(|(waiter, _)| *waiter == low) {
            assert!(bench.now - start <= 2 * PATIENCE, "served after {} s", (bench.now - start) / S);
            return;
        }
        held.extend(woken.into_iter().map(|(_, grant)| grant));
    }
    panic!("the low one was not served in {} s", (bench.now - start) / S);
}

/// A lease that ends at the very instant of a deadline: one shard lets in, two do not.
#[test]
fn a_lease_that_ends_when_a_wait_does_ends_first() {
    let placement = Placement::fixed(4);
    let in_shard =
        |wanted: u16| (0..).map(|n| format!("x{n}")).find(|name| placement.shard_of(name) == wanted).unwrap();
    let (low, high) = (in_shard(0), in_shard(3));
    for (free, busy) in [(&low, &high), (&high, &low)] {
        let mut bench = Bench::new(&[("*", "1", &[])]);
        bench.try_acquire(&request(busy).lease_time(Duration::from_secs(5))).unwrap();
        let waiter = bench.wait(&also(request(free), busy).max_wait(Duration::from_secs(5)));
        bench.at(bench.now + 5 * S);
        assert_eq!(bench.let_in(), [waiter], "free {free}, busy {busy}");
    }
}

/// Nested calls of one key run ahead; a key that joins afterwards pays for them.
#[test]
fn who_joins_does_not_pay_for_who_rode() {
    let mut bench = Bench::new(&[("s", "2", &["100000/1h"])]);
    let outer = bench.try_acquire(&share("a", 1)).unwrap();
    let mut held = bench.try_acquire(&share("h", 1)).unwrap();
    let mut names: Vec<(WaiterId, char)> = (0..100).map(|_| (bench.wait(&long(share("w", 1))), 'w')).collect();
    for _ in 0..50 {
        let nested = bench.try_acquire(&share("a", 1).lend_from(outer.parts[0])).unwrap();
        bench.release(&nested);
    }
    names.extend((0..10).map(|_| (bench.wait(&long(share("n", 1))), 'n')));
    let mut order = String::new();
    for _ in 0..20 {
        bench.release(&held);
        let (waiter, grant) = woken(&bench).remove(0);
        order.push(names.iter().find(|(other, _)| *other == waiter).unwrap().1);
        held = grant;
    }
    assert!(order.matches('n').count() >= 9, "{order}");
}

/// A pool that comes into force while a borrower waits: the barrier of who lacks the lender's share of it stops that borrower.
#[test]
fn who_waits_for_an_adopted_share_stops_no_borrower() {
    for pool_first in [true, false] {
        let mut bench = Bench::new(&[("d", "9:cost", &[])]);
        if pool_first {
            bench.put(&[("s/*", total("3:cost", &[]))]);
        }
        let outer = bench.take("s/x");
        let at_d = bench.try_acquire(&costing("d", 8)).unwrap();
        let key = |request: Request| long(request.fairness("k", NonZeroU16::MIN).unwrap());
        bench.wait(&key(also(costing("d", 3), "s/y")));
        // What is held for a request waits for something nested.
        let nested = bench.wait(&key(costing("d", 2).lend_from(outer.parts[0])));
        if !pool_first {
            bench.put(&[("s/*", total("3:cost", &[]))]);
        }
        assert_eq!(bench.held("s/*"), (1, 1));
        assert_eq!(pass(&mut bench, &key(also(request("d"), "free")), 1_000), MAX_PASSES);
        bench.release(&at_d);
        assert_eq!(
            bench.let_in(),
            [nested],
            "pool first: {pool_first}; nine are free, and the wide one waits for the lender"
        );
    }
}

#[test]
fn nor_where_the_rate_is_named_first() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "", &["1/1h"])]);
    bench.take("t");
    bench.take("s");
    bench.wait(&long(also(also(request("x"), "t"), "s").cost(3.try_into().unwrap())));
    assert_eq!(pass(&mut bench, &passing(), 1_000), 1_000);
}

/// A rate that earlier ones use up after the barrier was raised.
#[test]
fn a_rate_that_others_use_up_suspends_a_barrier() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "1", &["2/1h"])]);
    let at_t = bench.take("t");
    bench.take("s");
    // Earlier, and waits for t alone.
    let earlier = bench.wait(&long(request("t")));
    bench.wait(&long(also(costing("s", 3), "t")));
    assert_eq!(pass(&mut bench, &passing(), 1_000), MAX_PASSES);
    bench.release(&at_t);
    assert_eq!(bench.let_in(), [earlier], "that was the second start of the hour");
    assert_eq!(pass(&mut bench, &passing(), 10), 10, "its owner lacks a rate for an hour");
}

/// A closed limit of one's own holds lower priorities back.
#[test]
fn who_brings_a_closed_limit_is_owed_nothing() {
    let mut bench = Bench::new(&[]);
    let bringing = |limit: &str| Request::unscoped().inline("s", "k", limits(limit, &[])).unwrap();
    bench.wait(&long(bringing("0").priority(255)));
    assert_eq!(pass(&mut bench, &bringing("5"), 1_000), 1_000, "nothing is held, five are free");
}

/// Nothing is owed at one counter to who lacks a rate for an hour at another, nor to who waits behind a closed one.
#[test]
fn nothing_is_owed_to_who_is_closed_or_lacks_a_rate_elsewhere() {
    let rates: &[&str] = &["1/1h"];
    for (concurrency, rates) in [("0", &[][..]), ("", rates)] {
        let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", concurrency, rates)]);
        let _ = bench.try_acquire(&request("t"));
        bench.take("s");
        bench.wait(&long(also(costing("s", 3), "t")));
        let other = request("s").fairness("other", NonZeroU16::MIN).unwrap();
        assert_eq!(pass(&mut bench, &other, 100), 100, "{concurrency} {rates:?}");
    }
}

/// The same through a lower class, for as long as the other waits.
#[test]
fn nothing_is_owed_to_it_for_an_hour_either() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "0", &[])]);
    bench.take("s");
    bench.wait(&long(also(costing("s", 3), "t").priority(129)));
    let mut served = 0;
    let start = bench.now;
    for _ in 0..600 {
        bench.at(bench.now + S);
        served += pass(&mut bench, &request("s"), 1);
    }
    assert_eq!(served, 600, "in {} s", (bench.now - start) / S);
}

/// Anybody who may use `s` can close it to all others for an hour, by asking for a closed key of its own besides.
#[test]
fn nothing_is_owed_to_who_closes_its_own_way() {
    let mut bench = Bench::new(&[("s", "3:cost", &[])]);
    bench.take("s");
    let hostile = costing("s", 3).inline("s", "mine", limits("0", &[])).unwrap();
    bench.wait(&long(hostile.priority(255)));
    assert_eq!(pass(&mut bench, &request("s"), 100), 100, "two of three are free");
}

/// The same, where the pause comes later.
#[test]
fn nothing_is_owed_to_who_is_paused_elsewhere_later() {
    let mut bench = Bench::new(&[("s", "3:cost", &[]), ("t", "9:cost", &[])]);
    bench.take("s");
    bench.wait(&long(also(costing("s", 3), "t").priority(200)));
    bench.operate("t", &Verb::Pause);
    assert_eq!(pass(&mut bench, &request("s"), 10), 10);
}

/// Nothing is kept for who waits for a loan to come back, and it raises no barrier: that may last.
#[test]
fn who_waits_for_a_loan_to_come_back_is_in_nobodys_way() {
    let mut bench = Bench::new(&[("s", "", &["5/1m:cost"])]);
    let elsewhere = || Request::unscoped().inline("s", "k", limits("1", &[])).unwrap();
    let outer = bench.try_acquire(&costing("s", 2).inline("s", "k", limits("1", &[])).unwrap()).unwrap();
    let inner = bench.try_acquire(&elsewhere().lend_from(outer.parts[0])).unwrap();
    let waiter = bench.wait(&long(costing("s", 6).lend_from(outer.parts[0]).priority(200)));
    for _ in 0..100 {
        bench.at(bench.now + 30 * S);
        bench.try_acquire(&request("s").priority(1)).unwrap();
    }
    bench.at(bench.now + 60 * S);
    bench.release(&inner);
    assert_eq!(bench.let_in(), [waiter]);
}
