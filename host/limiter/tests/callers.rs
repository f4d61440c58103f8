//! Caps, shared out between callers, and what a shard says of what it has.

mod bench;

use bench::{Bench, S, costing, request, rule};
use std::time::Duration;
use weir_limiter::{
    Caller, Effect, Grant, Input, LeaseId, Limiter, Outcome, Output, Reason, Request, Shard, ShardLimits, ShardMetrics,
    Verb,
};

/// One shard with these caps, where `s` is full and `free` is not.
fn capped(caps: ShardLimits) -> Bench {
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, caps);
    bench.put(&[("s", rule("1", &[])), ("logged", rule("", &["9/1m"]))]);
    bench
}

fn of(caller: u32, key: &str) -> Request {
    request(key).caller(Caller::numbered(caller))
}

fn taken(bench: &mut Bench, caller: u32, key: &str) -> Result<Grant, Reason> {
    bench.try_acquire(&of(caller, key)).map_err(|refusal| refusal.reason)
}

fn shard(bench: &Bench) -> &Shard {
    &bench.limiter.shards()[0]
}

/// As many of 8 as `take` gets.
fn until_full(mut take: impl FnMut(usize) -> bool) -> usize {
    (0..8).take_while(|n| take(*n)).count()
}

#[test]
fn leases_are_shared_out_and_come_back() {
    let mut bench = capped(ShardLimits { max_leases: 6, ..ShardLimits::default() });
    for _ in 0..3 {
        // One alone: half of six. The next: half of what is left, and so on; whoever is nobody in particular: the rest.
        let mut held: Vec<Grant> = Vec::new();
        for (caller, expected) in [(1, 3), (2, 2), (3, 1), (0, 0)] {
            let got = until_full(|_| taken(&mut bench, caller, "free").map(|grant| held.push(grant)).is_ok());
            assert_eq!(got, expected, "caller {caller}");
            assert_eq!(taken(&mut bench, caller, "free").unwrap_err(), Reason::Overloaded);
        }
        held.iter().for_each(|grant| bench.release(grant));
        assert_eq!(until_full(|_| taken(&mut bench, 0, "free").map(|grant| held.push(grant)).is_ok()), 6);
        held[6..].iter().for_each(|grant| bench.release(grant));
    }
    assert!(bench.is_empty_after(60 * S));
}

#[test]
fn counters_are_shared_out_and_come_back() {
    let mut bench = capped(ShardLimits { max_counters: 6, ..ShardLimits::default() });
    for round in 0..3 {
        for (caller, expected) in [(1, 3), (2, 2), (3, 1), (0, 0)] {
            let got = until_full(|n| {
                let grant = taken(&mut bench, caller, &format!("c{round}-{caller}-{n}"));
                grant.map(|grant| bench.release(&grant)).is_ok()
            });
            assert_eq!(got, expected, "caller {caller}");
        }
        assert_eq!(shard(&bench).metrics().counters, 6);
        assert!(bench.is_empty_after(60 * S), "they are nobody's once they are idle");
    }
}

#[test]
fn logs_are_shared_out_and_come_back() {
    let mut bench = capped(ShardLimits { max_log_entries: 6, ..ShardLimits::default() });
    bench.put(&[("l/*", rule("", &["9/1m"]))]);
    let mut held = Vec::new();
    for round in 0..4 {
        let mut started = Vec::new();
        for (caller, expected) in [(1, 3), (2, 2), (3, 1), (0, 0)] {
            let key = |n: usize| format!("l/{round}-{caller}-{n}");
            let got = until_full(|n| {
                let grant = taken(&mut bench, caller, &key(n));
                grant.map(|grant| started.push((key(n), grant))).is_ok()
            });
            assert_eq!(got, expected, "caller {caller}");
            assert_eq!(taken(&mut bench, caller, &key(got)).unwrap_err(), Reason::Overloaded);
        }
        assert_eq!(shard(&bench).metrics().log_entries, 6);
        match round {
            // They are reset, age out while they are in use, or go with their counters.
            0 | 3 => started.iter().for_each(|(key, _)| drop(bench.operate(key, &Verb::Reset))),
            1 => {
                for (key, grant) in &mut started {
                    bench.release(grant);
                    // A log that is there goes on.
                    *grant = taken(&mut bench, 1, key).unwrap();
                }
                bench.at(bench.now + 60 * S);
            }
            _ => {
                held.extend(started.drain(..).map(|(_, grant)| grant));
                held.drain(..).for_each(|grant| bench.release(&grant));
                bench.at(bench.now + 61 * S);
                assert_eq!(shard(&bench).metrics().counters, 0);
            }
        }
        assert_eq!(shard(&bench).metrics().log_entries, 0, "round {round}");
        held.extend(started.into_iter().map(|(_, grant)| grant));
    }
    held.iter().for_each(|grant| bench.release(grant));
    assert!(bench.is_empty_after(120 * S));
}

#[test]
fn logs_that_outgrow_a_share_leave_others_theirs() {
    let mut bench = capped(ShardLimits { max_log_entries: 6, ..ShardLimits::default() });
    bench.put(&[("l/*", rule("", &["9/1m"]))]);
    for _ in 0..9 {
        bench.now += 1;
        taken(&mut bench, 1, "l/busy").unwrap();
    }
    // More than all there is; to others it is half.
    for (caller, expected) in [(1, 0), (2, 2), (3, 1), (0, 0)] {
        let got = until_full(|n| taken(&mut bench, caller, &format!("l/{caller}-{n}")).is_ok());
        assert_eq!(got, expected, "caller {caller}");
    }
    assert_eq!(shard(&bench).metrics().log_entries, 12);
    bench.operate("l/busy", &Verb::Reset);
    assert_eq!(until_full(|n| taken(&mut bench, 1, &format!("l/1-{n}")).is_ok()), 2);
}

#[test]
fn a_log_is_on_the_account_of_who_made_its_counter() {
    let mut bench = capped(ShardLimits { max_log_entries: 4, ..ShardLimits::default() });
    for key in ["a", "b", "c"] {
        taken(&mut bench, 1, key).unwrap();
    }
    bench.put(&[("*", rule("", &["9/1m"]))]);
    // Half of four, and whoever asks, for the third there is no room.
    assert!(taken(&mut bench, 2, "a").is_ok() && taken(&mut bench, 0, "b").is_ok());
    for caller in 0..3 {
        assert_eq!(taken(&mut bench, caller, "c").unwrap_err(), Reason::Overloaded, "caller {caller}");
    }
    // What is another's does not count for who has asked there.
    assert!(taken(&mut bench, 2, "d").is_ok());
    assert_eq!(taken(&mut bench, 2, "e").unwrap_err(), Reason::Overloaded);
    assert!(taken(&mut bench, 1, "d").is_ok(), "a log that is there goes on");
    assert!(taken(&mut bench, 3, "f").is_ok(), "a newcomer finds room");
}

#[test]
fn places_to_wait_are_shared_out_and_come_back() {
    let mut bench = capped(ShardLimits { max_waiters: 6, ..ShardLimits::default() });
    for ends in 0..3 {
        let mut holder = bench.take("s");
        let mut waiters = Vec::new();
        for (caller, expected) in [(1, 3), (2, 2), (3, 1), (0, 0)] {
            let got = until_full(|_| {
                let output = bench.step(Input::Acquire { request: &of(caller, "s"), wait: true, secrets: &[] });
                if let Output::Waiting(waiter) = output {
                    waiters.push(waiter);
                    return true;
                }
                assert!(matches!(output, Output::Refused(refusal) if refusal.reason == Reason::Overloaded));
                false
            });
            assert_eq!(got, expected, "caller {caller}");
        }
        assert_eq!(shard(&bench).metrics().waiting, 6);
        match ends {
            // They give up, are let in one after the other, or run out of time.
            0 => waiters
                .iter()
                .for_each(|waiter| assert_eq!(bench.step(Input::Cancel { waiter: *waiter }), Output::Done)),
            1 => {
                for _ in &waiters {
                    bench.release(&holder);
                    let [Effect::Granted { grant, .. }] = bench.effects.as_slice() else { panic!() };
                    holder = grant.clone();
                }
            }
            _ => drop(bench.at(bench.now + 60 * S)),
        }
        assert_eq!(shard(&bench).metrics().waiting, 0);
        bench.release(&holder);
    }
    assert!(bench.is_empty_after(60 * S));
}

#[test]
fn a_shard_is_empty_when_nothing_at_all_is_left() {
    let mut bench = capped(ShardLimits::default());
    assert!(shard(&bench).is_empty());
    bench.operate("s", &Verb::Pause);
    assert!(!shard(&bench).is_empty(), "a paused counter");
    bench.operate("s", &Verb::Resume);
    assert!(bench.is_empty_after(60 * S));
    let lease = bench.take("free");
    assert!(!shard(&bench).is_empty(), "a lease");
    bench.release(&lease);
    assert!(!shard(&bench).is_empty(), "a counter to be swept");
    assert!(bench.is_empty_after(60 * S));
}

#[test]
fn a_shard_says_what_it_has() {
    let mut bench = capped(ShardLimits::default());
    assert_eq!(shard(&bench).book().version(), 1);
    assert!(shard(&bench).book().get(&"logged".parse().unwrap()).is_some());
    bench.now += 1;
    for counter in ["s", "free"] {
        let first = bench.take(counter);
        assert!(shard(&bench).release_needs_time(first.parts[0]), "nobody knows how long a lease is held here");
        bench.now += 1;
        bench.step(Input::Release { lease: first.parts[0], outcome: Outcome::Failed });
    }
    bench.now = (bench.now + 8).next_multiple_of(8) + 1;
    let holder = bench.take("s");
    assert!(!shard(&bench).release_needs_time(holder.parts[0]), "nobody waits, and its hold is not measured");
    bench.now = (bench.now + 8).next_multiple_of(8);
    let measured = bench.take("logged");
    assert!(shard(&bench).release_needs_time(measured.parts[0]));
    bench.now += 1;
    let other = bench.take("free");
    let waiter = bench.wait(&request("s"));
    assert!(shard(&bench).release_needs_time(other.parts[0]), "somebody waits");
    let ShardMetrics { granted, waited, waiting, leases, counters, log_entries, expired, .. } = shard(&bench).metrics();
    assert_eq!((granted, waited, expired), (5, 1, 0));
    assert_eq!((waiting, leases, counters, log_entries), (1, 3, 3, 1));
    bench.step(Input::Cancel { waiter });
    for lease in [holder, measured, other] {
        bench.step(Input::Release { lease: lease.parts[0], outcome: Outcome::Failed });
    }
    assert_eq!((shard(&bench).metrics().leases, bench.counter("s").unwrap().failed), (0, 2));
}

#[test]
fn a_counter_that_slept_through_changes_goes_at_each_pace_for_its_time() {
    let mut bench = Bench::new(&[("s", "", &["60/1m:smooth:burst=10"])]);
    let start = bench.now;
    (0..10).for_each(|_| drop(bench.take("s")));
    // Six are left then. From there on ten drain in a second, and not in ten.
    bench.at(start + 4 * S);
    bench.set(&[("s", "", &["600/1m:smooth:burst=10"])]);
    bench.at(start + 4 * S + S / 5);
    bench.put(&[("other", rule("1", &[]))]);
    bench.at(start + 4 * S + S / 2);
    assert_eq!((0..20).take_while(|_| bench.try_acquire(&request("s")).is_ok()).count(), 9);
}

/// What a counter at this rate owes, of ten units started at once, when another rule changes after a second or a minute, its own does an
/// hour later, and only then anybody looks.
fn owed_after_an_hour(rate: &str, other_changes_after: u64, then: &str) -> u64 {
    let mut bench = Bench::new(&[("s", "", &[rate]), ("t", "1", &[])]);
    bench.try_acquire(&costing("s", 10)).unwrap();
    bench.at(bench.now + other_changes_after);
    bench.set(&[("t", "2", &[])]);
    bench.at(bench.now + 3_600 * S);
    bench.set(&[("s", "", &[then])]);
    bench.counter("s").map_or(0, |found| found.rates[0].used)
}

#[test]
fn a_pace_holds_from_its_own_change_and_not_from_that_of_another_rule() {
    let (slow, fast) = ("1/1h:smooth:burst=10:cost", "3600/1h:smooth:burst=10:cost");
    assert_eq!(owed_after_an_hour(slow, 60 * S, fast), 9, "one has drained");
    assert_eq!(owed_after_an_hour(fast, S, slow), 0, "all had drained before");
}

#[test]
fn a_lowered_pace_is_not_lost_among_many_changes() {
    let mut bench = Bench::new(&[("s", "", &["3600/1h:smooth:burst=10:cost"]), ("t", "1", &[])]);
    bench.try_acquire(&costing("s", 10)).unwrap();
    bench.set(&[("s", "", &["1/1h:smooth:burst=10:cost"])]);
    for change in 0..40 {
        bench.at(bench.now + S);
        bench.set(&[("t", &(change + 2).to_string(), &[])]);
    }
    assert!(bench.try_acquire(&costing("s", 1)).is_err(), "ten are owed, one an hour");
}

/// A lease is found by its id, by whoever has taken it or by whoever asks for nobody in particular.
#[test]
fn a_timed_lease_is_found_by_its_taker() {
    let mut bench = capped(ShardLimits::default());
    for (secret, taker) in [(7, 2), (8, 0)] {
        let request = of(taker, "free").lease_time(Duration::from_secs(1));
        let taken = bench.step(Input::Acquire { request: &request, wait: false, secrets: &[secret] });
        assert!(matches!(taken, Output::Granted(_)), "{taken:?}");
        let id = LeaseId { shard: 0, secret };
        let mut found = |caller| matches!(bench.step(Input::Find { id, caller }), Output::Found(_));
        assert!(found(None));
        for asker in 0..4 {
            assert_eq!(found(Some(Caller::numbered(asker))), asker == taker, "{asker} of {taker}");
        }
    }
    bench.at(bench.now + 2 * S);
    assert!(bench.is_empty_after(60 * S));
    let id = LeaseId { shard: 0, secret: 7 };
    assert_eq!(bench.step(Input::Find { id, caller: Some(Caller::numbered(2)) }), Output::Gone, "it has ended");
}
