//! Cases that Inngest tests its constraints with or has met in production, as Weir decides them: one test each.
//!
//! They are numbered A14.1 to A14.20, as in the list they come from. A14.6, many acquires under one idempotency key, is in
//! `engine/tests/keys.rs`: keys are the engine's.

mod bench;

use bench::{Bench, S, costing, request};
use std::time::Duration;
use weir_limiter::{
    Constraint, ConstraintKind, Effect, Grant, IDLE_KEEP, Input, LeaseId, LeaseIdError, LeaseRef, MAX_NAME_BYTES,
    NameError, Outcome, Output, Part, Reason, Refusal, Request, ScopedKey, Shard, WaiterId,
};

const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    fn refusal(&mut self, key: &str) -> Refusal {
        self.try_acquire(&request(key)).unwrap_err()
    }

    /// Those who waited and were granted by the last step.
    fn granted(&self) -> Vec<(WaiterId, Grant)> {
        let granted = self.effects.iter().map(|effect| match effect {
            Effect::Granted { waiter, grant } => (*waiter, grant.clone()),
            other => panic!("{other:?}"),
        });
        granted.collect()
    }
}

fn timed(key: &str, lease_time: Duration) -> Request {
    request(key).lease_time(lease_time)
}

fn extend(bench: &mut Bench, lease: LeaseRef, seconds: u32) -> Output {
    bench.step(Input::Extend { lease, lease_time: SECOND * seconds })
}

fn expired(bench: &Bench) -> u64 {
    bench.limiter.shards().iter().map(|shard| shard.metrics().expired).sum()
}

/// The counter, kind, usage and limit of each constraint.
fn shown(constraints: &[Constraint]) -> Vec<(&str, ConstraintKind, u64, u64)> {
    constraints.iter().map(|c| (c.counter.as_str(), c.kind, c.used, c.limit)).collect()
}

/// What each rate of a counter has used.
fn started(bench: &mut Bench, counter: &str) -> Vec<u64> {
    bench.counter(counter).map_or_else(Vec::new, |snapshot| snapshot.rates.iter().map(|rate| rate.used).collect())
}

/// Inngest A14.1: leases that have ended but that nobody has reclaimed yet do not keep new ones out.
#[test]
fn ended_leases_do_not_count_though_nothing_came_by_to_reclaim_them() {
    let mut bench = Bench::new(&[("s", "10", &[])]);
    let start = bench.now;
    for _ in 0..10 {
        bench.try_acquire(&timed("s", SECOND)).unwrap();
    }
    bench.now = start + S - 1;
    assert_eq!(shown(&bench.refusal("s").blocked_on), [("s", ConstraintKind::Concurrency, 10, 10)]);
    bench.now = start + S;
    for _ in 0..10 {
        bench.take("s");
    }
    assert_eq!(shown(&bench.refusal("s").blocked_on), [("s", ConstraintKind::Concurrency, 10, 10)]);
    assert_eq!(expired(&bench), 10);
}

/// Inngest A14.2: where less is free than was asked for, it writes down a part, and says another. Here a cost is granted whole or not
/// at all. Of a batch a part may be granted: what is written is what is said, by `settling.rs`,
/// `a_batch_gets_what_fits_and_never_less_than_its_minimum`.
#[test]
fn a_cost_is_granted_whole_or_not_at_all() {
    let mut bench = Bench::new(&[("s", "10:cost", &["20/1h:cost"])]);
    let six = bench.try_acquire(&costing("s", 6)).unwrap();
    assert!(bench.try_acquire(&costing("s", 5)).is_err());
    assert_eq!((bench.held("s"), started(&mut bench, "s")), ((1, 6), vec![6]));
    let waiter = bench.wait(&costing("s", 5));
    assert_eq!(
        (bench.held("s"), started(&mut bench, "s")),
        ((1, 6), vec![6]),
        "a waiter is not served in parts either"
    );
    bench.release(&six);
    assert_eq!(bench.granted().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [waiter]);
    assert_eq!((bench.held("s"), started(&mut bench, "s")), ((1, 5), vec![11]));
    bench.try_acquire(&costing("s", 5)).unwrap();
}

/// Inngest A14.3: an account and a function both limit a call, and one of them alone is used up.
#[test]
fn every_limit_binds_and_only_the_one_used_up_is_in_the_way() {
    use ConstraintKind::Concurrency;
    let mut bench = Bench::new(&[("acme", "3", &[]), ("acme/*", "2", &[])]);
    bench.take("acme/f");
    let Output::WouldGrant(binding) = bench.step(Input::Check { request: &request("acme/f") }) else { panic!() };
    assert_eq!(shown(&binding), [("acme", Concurrency, 1, 3), ("acme/f", Concurrency, 1, 2)]);
    bench.take("acme/f");
    assert_eq!(shown(&bench.refusal("acme/f").blocked_on), [("acme/f", Concurrency, 2, 2)]);
    bench.take("acme/g");
    assert_eq!(shown(&bench.refusal("acme/g").blocked_on), [("acme", Concurrency, 3, 3)]);
    assert_eq!(
        shown(&bench.refusal("acme/f").blocked_on),
        [("acme", Concurrency, 3, 3), ("acme/f", Concurrency, 2, 2)]
    );
}

/// Inngest A14.4: the time to come back is the latest of the limits used up, whatever the others would say.
#[test]
fn retry_after_is_the_latest_of_those_in_the_way_and_of_no_other() {
    let mut bench = Bench::new(&[("s", "", &["2/10s", "3/1h"])]);
    let start = bench.now;
    bench.take("s");
    bench.now = start + S;
    bench.take("s");
    let refusal = bench.refusal("s");
    assert_eq!(shown(&refusal.blocked_on), [("s", ConstraintKind::Rate, 2, 2)]);
    assert_eq!(refusal.retry_after, Some(SECOND * 9), "the hour has one left, so it has no say");
    bench.now = start + 10 * S;
    bench.take("s");
    let refusal = bench.refusal("s");
    assert_eq!(shown(&refusal.blocked_on), [("s", ConstraintKind::Rate, 2, 2), ("s", ConstraintKind::Rate, 3, 3)]);
    assert_eq!(refusal.retry_after, Some(SECOND * 3_590), "both are used up, the hour for longer");
    assert!(bench.at(start + 3_600 * S - 1).try_acquire(&request("s")).is_err());
    bench.at(start + 3_600 * S).take("s");
}

/// Inngest A14.5: the constraint that is looked at last is used up, and the rates before it must not be charged.
#[test]
fn no_rate_is_charged_where_the_last_counter_is_in_the_way() {
    let rates: &[&str] = &["3/1h", "3/1h:smooth:burst=3"];
    let mut bench = Bench::new(&[("s", "", rates), ("s/f/*", "1", &[]), ("full", "0", &[])]);
    bench.take("s/f/k");
    let blocked = [
        request("s/f/k"),
        request("s/g").also("full".parse().unwrap()).unwrap(),
        request("full").also("s/g".parse().unwrap()).unwrap(),
    ];
    for wanted in &blocked {
        for _ in 0..20 {
            bench.try_acquire(wanted).unwrap_err();
            let waiter = bench.wait(wanted);
            assert_eq!(bench.step(Input::Cancel { waiter }), Output::Done);
        }
        assert_eq!((started(&mut bench, "s"), bench.held("s")), (vec![1, 1], (1, 1)));
    }
    bench.take("s/g");
    bench.take("s/g");
    assert_eq!(bench.refusal("s/g").blocked_on.len(), 2, "three in all: both rates are used up by grants alone");
}

/// Inngest A14.7: an extension and a release of one lease race, and another lease shares its counters.
#[test]
fn extend_and_release_touch_their_own_lease_only_whichever_comes_first() {
    for release_first in [false, true] {
        let mut bench = Bench::new(&[("s", "2", &[]), ("s/*", "2", &[])]);
        let start = bench.now;
        let lease = bench.try_acquire(&timed("s/k", SECOND)).unwrap().parts[0];
        let other = bench.try_acquire(&timed("s/k", SECOND * 2)).unwrap().parts[0];
        if release_first {
            assert_eq!(bench.step(Input::Release { lease, outcome: Outcome::Ok }), Output::Done);
            assert_eq!(extend(&mut bench, lease, 100), Output::Gone);
        } else {
            assert_eq!(extend(&mut bench, lease, 100), Output::Extended(Some(start + 100 * S)));
            assert_eq!(bench.step(Input::Release { lease, outcome: Outcome::Ok }), Output::Done);
        }
        assert_eq!((bench.held("s"), bench.held("s/k")), ((1, 1), (1, 1)));
        let next = bench.take("s/k");
        bench.now = start + 2 * S;
        assert_eq!(extend(&mut bench, other, 1), Output::Gone, "it ends in its own time");
        assert_eq!((bench.limiter.next_due(), expired(&bench)), (None, 1), "and no other end is left");
        bench.at(start + 101 * S);
        assert_eq!((bench.held("s"), bench.held("s/k")), ((1, 1), (1, 1)));
        bench.release(&next);
    }
}

/// Inngest A14.8: leases run out while others arrive, and the limit holds at every instant. The oracle is a list of ends.
#[test]
fn a_slot_is_freed_once_however_its_lease_ends() {
    const LIMIT: usize = 4;
    let mut bench = Bench::new(&[("s", "4", &[])]);
    // Newest first: each lease, and when it ends or has ended.
    let mut leases: Vec<(LeaseRef, u64)> = Vec::new();
    let mut refused = 0;
    for step in 0..2_000usize {
        bench.now += [0, 1, 50_000_000, 0, 99_999_999][step % 5];
        let now = bench.now;
        // Every third step gives a recent lease back, which may have run out or been given back before.
        if step % 3 == 0
            && let Some((lease, end)) = leases.get_mut(step * 31 % 7)
        {
            let expected = if *end > now { Output::Done } else { Output::Gone };
            assert_eq!(bench.step(Input::Release { lease: *lease, outcome: Outcome::Ok }), expected, "step {step}");
            *end = now.min(*end);
        }
        let live = leases.iter().filter(|(_, end)| *end > now).count();
        assert_eq!(bench.held("s").0, live as u64, "step {step}");
        match bench.try_acquire(&timed("s", Duration::from_millis(100 + step as u64 * 50 % 650))) {
            Ok(grant) => {
                assert!(live < LIMIT, "step {step}");
                leases.insert(0, (grant.parts[0], grant.ends_at.unwrap()));
            }
            Err(_) => {
                assert_eq!(live, LIMIT, "step {step}: a free slot is never withheld");
                refused += 1;
            }
        }
    }
    assert!((200..1_800).contains(&refused), "{refused} of 2,000 were refused: the limit was not tried");
}

/// Inngest A14.9: clocks run up to 5 s behind and 4 s ahead, start at the epoch, or jump a century.
///
/// A caller's clock has no say, since leases are asked for by their length; this is the clock of the host.
#[test]
fn a_host_clock_that_jumps_takes_no_promise_with_it() {
    let mut bench = Bench::new(&[("s", "", &["3/1m"])]);
    let start = bench.now;
    let mut latest = start;
    let mut starts: Vec<u64> = Vec::new();
    for step in 0..3_000 {
        bench.now = start + step * S / 2 - 5 * S + step * 7_919 % 10 * S;
        latest = latest.max(bench.now);
        let in_window = starts.iter().filter(|at| **at + 60 * S > latest).count();
        assert_eq!(bench.try_acquire(&request("s")).is_ok(), in_window < 3, "step {step}");
        if in_window < 3 {
            starts.push(latest);
        }
    }

    let year = 366 * 24 * 3_600 * S;
    for rate in ["1/366days", "1/366days:smooth"] {
        let mut bench = Bench::starting(0, &[("s", "", &[rate]), ("lease", "1", &[])]);
        for (now, granted) in [(0, true), (100 * year, true), (0, false), (101 * year, true)] {
            bench.now = now;
            assert_eq!(bench.try_acquire(&request("s")).is_ok(), granted, "{rate} at {now}");
        }
        let lease = bench.try_acquire(&timed("lease", SECOND)).unwrap();
        bench.now = 0;
        assert_eq!((bench.held("lease"), lease.ends_at), ((1, 1), Some(101 * year + S)), "its time never goes back");
        bench.now = 101 * year + S;
        assert_eq!(bench.held("lease"), (0, 0));
    }
}

/// Inngest A14.10: leases whose state is missing, and ids that are corrupt, are extended, released and looked for.
#[test]
fn what_is_gone_or_never_was_is_gone_and_changes_nothing() {
    for text in ["", "null", "0000", "{\"id\":1}", &"\u{0}".repeat(36), &"z".repeat(36), &"0".repeat(400)] {
        assert_eq!(text.parse::<LeaseId>(), Err(LeaseIdError), "{text:?}");
    }
    let mut bench = Bench::new(&[("s", "2", &["9/1h"])]);
    let start = bench.now;
    let released = bench.try_acquire(&timed("s", SECOND)).unwrap().parts[0];
    bench.step(Input::Release { lease: released, outcome: Outcome::Ok });
    let ended = bench.try_acquire(&timed("s", SECOND)).unwrap().parts[0];
    bench.at(start + S);
    let living = bench.try_acquire(&timed("s", SECOND)).unwrap().parts[0];
    let secret = bench.secret;
    let state = |bench: &mut Bench| (bench.counter("s"), bench.limiter.next_due(), expired(bench));
    let before = state(&mut bench);
    for lease in [released, ended] {
        assert_eq!(extend(&mut bench, lease, 9), Output::Gone);
        assert_eq!(bench.step(Input::Release { lease, outcome: Outcome::Ok }), Output::Gone);
    }
    let shard = living.shard;
    let forged = [(shard, secret ^ 1), (shard, secret - 1), (shard, 0), (shard ^ 1, secret), (u16::MAX, secret)];
    for (shard, secret) in forged {
        assert_eq!(
            bench.step(Input::Find { id: LeaseId { shard, secret }, caller: None }),
            Output::Gone,
            "{shard} {secret}"
        );
    }
    assert_eq!(state(&mut bench), before);
    let Output::Found(parts) = bench.step(Input::Find { id: LeaseId { shard, secret }, caller: None }) else {
        panic!()
    };
    assert_eq!(
        (parts.as_slice(), extend(&mut bench, living, 9)),
        (&[living][..], Output::Extended(Some(start + 10 * S)))
    );
}

/// Inngest A14.11: under a lowered limit nothing is granted, usage shows above the limit, and holders go on extending.
#[test]
fn a_lowered_limit_is_shown_as_exceeded_and_holders_extend_all_the_same() {
    let mut bench = Bench::new(&[("s", "3", &["3/1h"])]);
    let start = bench.now;
    let holders: Vec<Grant> = (0..3).map(|_| bench.try_acquire(&timed("s", SECOND)).unwrap()).collect();
    bench.set(&[("s", "2", &["2/1h"])]);
    let exceeded = [("s", ConstraintKind::Concurrency, 3, 2), ("s", ConstraintKind::Rate, 3, 2)];
    assert_eq!(shown(&bench.refusal("s").blocked_on), exceeded);
    for holder in &holders {
        assert_eq!(extend(&mut bench, holder.parts[0], 7_200), Output::Extended(Some(start + 7_200 * S)));
    }
    bench.at(start + 3_600 * S);
    bench.release(&holders[0]);
    assert_eq!(shown(&bench.refusal("s").blocked_on), [("s", ConstraintKind::Concurrency, 2, 2)], "2/2 is still full");
    bench.release(&holders[1]);
    bench.take("s");
}

/// Inngest A14.12: an environment that nobody configured has no capacity there; here no rule is no limit, but counted.
#[test]
fn a_scope_without_a_rule_is_unlimited_counted_and_hides_no_deeper_rule() {
    let mut bench = Bench::new(&[("other", "1", &["1/1h"]), ("env/f/*", "1", &[])]);
    for _ in 0..100 {
        bench.take("env/f");
    }
    bench.take("env/f/k");
    assert_eq!(shown(&bench.refusal("env/f/k").blocked_on), [("env/f/k", ConstraintKind::Concurrency, 1, 1)]);
    let scope = bench.counter("env").unwrap();
    assert_eq!((scope.calls, scope.granted, scope.pattern, scope.concurrency), (101, 101, None, None));
}

/// Inngest A14.13: a lease taken when work is queued runs out before the work first renews it, at a limit of 1.
#[test]
fn work_that_starts_after_its_lease_has_ended_learns_so_before_it_overlaps() {
    let day = Duration::from_secs(24 * 3_600);
    let mut bench = Bench::new(&[("s", "1", &[])]);
    let start = bench.now;
    let queued = bench.try_acquire(&timed("s", SECOND * 2)).unwrap();
    let next = bench.wait(&request("s").max_wait(day));
    bench.now = start + 2 * S - 1;
    assert_eq!(extend(&mut bench, queued.parts[0], 2), Output::Extended(Some(start + 4 * S - 1)));
    assert!(bench.at(start + 4 * S - 2).granted().is_empty(), "a lease renewed in time is nobody else's");
    bench.now = start + 4 * S - 1;
    assert_eq!(extend(&mut bench, queued.parts[0], 2), Output::Gone, "it must not start");
    let granted = bench.granted();
    assert_eq!(granted.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [next]);
    let held = &granted[0].1;
    assert!(held.fence > queued.fence, "what the work guards can tell it from the next");
    assert_eq!(
        bench.step(Input::Release { lease: queued.parts[0], outcome: Outcome::Ok }),
        Output::Gone,
        "nor end the next one's lease"
    );
    let patient = bench.wait(&request("s").max_wait(day));
    assert!(bench.at(start + 23 * 3_600 * S).granted().is_empty(), "a held lease has no end to miss");
    bench.release(held);
    assert_eq!(bench.granted()[0].0, patient);
}

/// Inngest A14.14: a remembered refusal dropped the retries of what it had refused.
#[test]
fn a_retry_is_decided_by_what_is_so_now() {
    let mut bench = Bench::new(&[("s", "1", &["3/1m"])]);
    let start = bench.now;
    let held = bench.take("s");
    assert_eq!(bench.refusal("s").retry_after, Some(SECOND), "an estimate");
    bench.release(&held);
    let held = bench.take("s");
    assert!(bench.try_acquire(&request("s")).is_err());
    bench.set(&[("s", "2", &["3/1m"])]);
    bench.take("s");
    bench.release(&held);
    for _ in 0..100 {
        let refusal = bench.refusal("s");
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::Limited, Some(SECOND * 60)));
    }
    bench.now = start + 60 * S;
    bench.take("s");
}

/// Inngest A14.15: a key of its cache lacked a part, and all custom keys shared one limit.
#[test]
fn one_rule_of_stars_keeps_every_counter_apart() {
    let mut bench = Bench::new(&[("*/*/*", "1", &[]), ("*/*", "", &["2/1h"])]);
    let keys =
        ["a/b/c", "a/b/d", "a/d/c", "d/b/c", "b/a/c", "c/b/a", "a/b.c/d", "a.b/c/d", "a/bc/d", "ab/c/d", "A/b/c"];
    for key in keys {
        bench.take(key);
    }
    for key in keys {
        let mut expected = vec![(key, ConstraintKind::Concurrency, 1, 1)];
        if key.starts_with("a/b/") {
            expected.insert(0, ("a/b", ConstraintKind::Rate, 2, 2));
        }
        assert_eq!(shown(&bench.refusal(key).blocked_on), expected);
    }
}

/// Inngest A14.16: a release makes concurrency free at once, and no rate.
#[test]
fn a_release_frees_concurrency_and_no_rate() {
    for rate in ["2/1m", "2/2m:smooth:burst=2"] {
        let mut bench = Bench::new(&[("s", "1", &[rate])]);
        let start = bench.now;
        for _ in 0..2 {
            let held = bench.take("s");
            bench.now += S;
            bench.release(&held);
        }
        let refusal = bench.refusal("s");
        assert_eq!(shown(&refusal.blocked_on), [("s", ConstraintKind::Rate, 2, 2)], "{rate}");
        assert_eq!(refusal.retry_after, Some(SECOND * 58), "{rate}");
        bench.now = start + 60 * S;
        bench.take("s");
    }
}

/// Inngest A14.17: of two requests of weight 3 at a capacity of 5, the second is refused.
#[test]
fn a_cost_of_three_fits_into_five_once() {
    let mut bench = Bench::new(&[("s", "5:cost", &[])]);
    let three = bench.try_acquire(&costing("s", 3)).unwrap();
    let refusal = bench.try_acquire(&costing("s", 3)).unwrap_err();
    assert_eq!(
        (refusal.reason, shown(&refusal.blocked_on)),
        (Reason::Limited, vec![("s", ConstraintKind::Concurrency, 3, 5)])
    );
    bench.try_acquire(&costing("s", 2)).unwrap();
    bench.release(&three);
    bench.try_acquire(&costing("s", 3)).unwrap();
}

/// Inngest A14.18: keys of Unicode and of 256 characters; here they are refused by name, and the longest that is not is
/// a key like any other.
#[test]
fn names_are_told_apart_to_the_last_byte_or_refused_at_the_first_bad_one() {
    let longest = |last: char| {
        let part = "x".repeat(MAX_NAME_BYTES - 1);
        format!("{part}s/{part}a/{part}{last}")
    };
    let mut bench = Bench::new(&[("*/*/*", "1", &[])]);
    for last in ['1', '2'] {
        bench.take(&longest(last));
        assert_eq!(shown(&bench.refusal(&longest(last)).blocked_on)[0].0, longest(last));
    }
    let byte = |what, byte, at| NameError::Byte { what, byte, at };
    for (scope, key, expected) in [
        ("s", "k".repeat(256), NameError::TooLong { what: Part::FirstKey, bytes: 256 }),
        ("s", format!("k/{}", "k".repeat(256)), NameError::TooLong { what: Part::SecondKey, bytes: 256 }),
        ("s", "z\u{fc}rich".into(), byte(Part::FirstKey, 0xc3, 1)),
        ("s", "zu\u{308}rich".into(), byte(Part::FirstKey, 0xcc, 2)),
        ("s", "k/\u{65e5}\u{672c}".into(), byte(Part::SecondKey, 0xe6, 0)),
        ("\u{1f980}", "k".into(), byte(Part::Scope, 0xf0, 0)),
    ] {
        assert_eq!(ScopedKey::new(scope, Some(&key)), Err(expected), "{scope} {key}");
    }
}

/// Inngest A14.19: a rate limit, a throttle and a concurrency limit in one request.
#[test]
fn a_window_a_smooth_rate_and_concurrency_hold_in_one_request() {
    use ConstraintKind::{Concurrency, Rate};
    let mut bench =
        Bench::new(&[("acme", "", &["4/1m"]), ("acme/*", "", &["2/10s:smooth:burst=2"]), ("acme/*/*", "1", &[])]);
    let start = bench.now;
    let held = bench.take("acme/f/k");
    assert_eq!(shown(&bench.refusal("acme/f/k").blocked_on), [("acme/f/k", Concurrency, 1, 1)]);
    bench.release(&held);
    let held = bench.take("acme/f/k");
    bench.release(&held);
    let refusal = bench.refusal("acme/f/k");
    assert_eq!((shown(&refusal.blocked_on), refusal.retry_after), (vec![("acme/f", Rate, 2, 2)], Some(SECOND * 5)));
    bench.now = start + 5 * S;
    let held = bench.take("acme/f/k");
    bench.release(&held);
    bench.now = start + 10 * S;
    let held = bench.take("acme/f/k");
    let every = [("acme", Rate, 4, 4), ("acme/f", Rate, 2, 2), ("acme/f/k", Concurrency, 1, 1)];
    assert_eq!(shown(&bench.refusal("acme/f/k").blocked_on), every);
    bench.release(&held);
    bench.now = start + 30 * S;
    let refusal = bench.refusal("acme/f/k");
    assert_eq!((shown(&refusal.blocked_on), refusal.retry_after), (vec![("acme", Rate, 4, 4)], Some(SECOND * 30)));
    bench.now = start + 60 * S;
    bench.take("acme/f/k");
}

/// Inngest A14.20: the state of a request with several leases goes with the last of them, and not before.
#[test]
fn counters_stay_until_the_last_lease_at_them_has_ended() {
    let mut bench = Bench::new(&[]);
    let start = bench.now;
    let scopes = ["a", "b", "c", "d", "e", "f"];
    let all = scopes.iter().skip(1).fold(request("a/k"), |all, scope| all.also(scope.parse().unwrap()).unwrap());
    // The sweep that this one leaves behind finds the counters in use again.
    let earlier = bench.try_acquire(&all).unwrap();
    bench.release(&earlier);
    let first = bench.try_acquire(&all).unwrap();
    let second = bench.try_acquire(&all).unwrap();
    bench.release(&first);
    let (last, others) = second.parts.split_last().unwrap();
    for part in others {
        bench.step(Input::Release { lease: *part, outcome: Outcome::Ok });
    }
    // Long after every sweep, what the last part holds is there, and nothing else.
    bench.at(start + 100 * IDLE_KEEP);
    let held: Vec<&str> = scopes.into_iter().filter(|scope| bench.held(scope) == (1, 1)).collect();
    let kept: Vec<&str> = scopes.into_iter().filter(|scope| bench.counter(scope).is_some()).collect();
    assert!(!held.is_empty() && held == kept, "{held:?} of {kept:?}");
    bench.step(Input::Release { lease: *last, outcome: Outcome::Ok });
    bench.at(bench.now + 2 * IDLE_KEEP);
    assert!(bench.limiter.shards().iter().all(Shard::is_empty), "{:?}", bench.limiter);
}
