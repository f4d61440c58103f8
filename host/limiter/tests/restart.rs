//! What a journal says of starts, put back: never less than has started, and less than two blocks more.

mod bench;

use bench::{S, costing, limits, request, rule};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Change, CounterName, Effect, Grant, HandState, Input, LeaseId, LeaseRef, Outcome, Output, Placement, Precondition,
    Rate, RateKind, Reason, Record, Refusal, Request, Restored, RuleBook, Shard, ShardLimits, ShardSet, SmoothState,
};

fn kind(rate: &str) -> RateKind {
    let rate: Rate = rate.parse().unwrap();
    RateKind { mode: rate.mode, period: rate.period.as_nanos() as u64, counts: rate.counts, pace: 0 }
}

/// One shard that keeps a journal.
struct Process {
    shard: Shard,
    now: u64,
    book: RuleBook,
}

impl Process {
    fn new(now: u64, rate: &str) -> Self {
        let mut shard = Shard::new(0, Placement::fixed(1), ShardLimits::default());
        shard.keep_journal();
        let mut process = Self { shard, now, book: RuleBook::default() };
        process.set(rate);
        process
    }

    fn step(&mut self, input: Input<'_>) -> Output {
        ShardSet::new(&mut [&mut self.shard]).step(self.now, input, &mut Vec::new())
    }

    fn set(&mut self, rate: &str) {
        let put = Change::Put { pattern: "s".parse().unwrap(), spec: rule("", &[rate]), when: Precondition::None };
        self.book = self.book.apply(&[put], 0).unwrap();
        let book = Arc::new(self.book.clone());
        self.step(Input::SetBook { book });
    }

    fn acquire(&mut self, request: &Request, secrets: &[u128]) -> Result<Grant, Refusal> {
        match self.step(Input::Acquire { request, wait: false, secrets }) {
            Output::Granted(grant) => Ok(grant),
            Output::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn used(&mut self) -> u64 {
        let Output::Counters(counters) = self.step(Input::Counters { prefix: "s" }) else { panic!() };
        counters.into_iter().find(|found| found.counter == "s").map_or(0, |found| found.rates[0].used)
    }
}

/// What a store keeps of the history of one kind: of a window its starts in 1,024 sub-periods.
#[derive(Default)]
struct Store {
    starts: BTreeMap<u64, (u64, u64)>,
    smooth: Option<SmoothState>,
    booked: u32,
}

impl Store {
    fn fold(&mut self, records: &[Record], of: RateKind) {
        let width = (of.period / 1_024).max(1);
        for record in records {
            match record {
                Record::Started { kind, at, units, smooth, booked, .. } if *kind == of => {
                    let entry = self.starts.entry(at / width).or_default();
                    *entry = (entry.0.max(*at), entry.1 + units);
                    self.booked = booked.unwrap_or(self.booked);
                    self.smooth = smooth.or(self.smooth);
                }
                Record::Refunded { kind, at, units, smooth, .. } if *kind == of => {
                    self.smooth = *smooth;
                    if let Some(entry) = self.starts.get_mut(&(at / width)) {
                        entry.1 = entry.1.saturating_sub(*units);
                    }
                }
                Record::Forgotten { .. } => *self = Self::default(),
                _ => {}
            }
        }
    }

    /// A process that begins at `now` with what is kept.
    fn restart(&mut self, before: &mut Process, rate: &str) -> Process {
        let of = kind(rate);
        self.fold(&before.shard.take_records(), of);
        let mut after = Process::new(before.now, rate);
        let living = self.starts.values().copied().filter(|(at, units)| *units > 0 && at + of.period > after.now);
        let starts: Vec<(u64, u64)> = living.collect();
        let counter: CounterName = "s".parse().unwrap();
        let what =
            Restored::Starts { counter: &counter, kind: of, starts: &starts, smooth: self.smooth, booked: self.booked };
        after.step(Input::Restore { what: &what });
        after
    }
}

#[test]
fn a_change_of_pace_survives() {
    let (fast, slow) = ("60/1h:smooth:burst=10:cost", "1/1h:smooth:burst=10:cost");
    let mut one = Process::new(1_000 * S, fast);
    one.acquire(&costing("s", 10).lease_time(Duration::from_secs(3_000)), &[1]).unwrap();
    one.now += S;
    one.set(slow);
    one.now += 700 * S;
    assert_eq!(one.used(), 10);
    let mut other = Store::default().restart(&mut one, slow);
    assert_eq!(other.used(), 10);
    assert!(other.acquire(&costing("s", 10), &[]).is_err());
}

impl Process {
    /// Puts one rule beside the others.
    fn put(&mut self, pattern: &str, rate: &str) {
        let put = Change::Put { pattern: pattern.parse().unwrap(), spec: rule("", &[rate]), when: Precondition::None };
        self.book = self.book.apply(&[put], 0).unwrap();
        let book = Arc::new(self.book.clone());
        self.step(Input::SetBook { book });
    }

    /// Ten units each at `t/{key}`.
    fn start_at(&mut self, keys: std::ops::Range<u128>) {
        for key in keys {
            let request = costing(&format!("t/{key}"), 10).lease_time(Duration::from_secs(3_000));
            self.acquire(&request, &[1_000 + key]).unwrap();
        }
    }

    /// A millisecond passes; which counters are written down then.
    fn written_next(&mut self) -> Vec<String> {
        self.now += S / 1_000;
        self.step(Input::Tick);
        let records = self.shard.take_records().into_iter().map(|record| match record {
            Record::Refunded { counter, .. } => counter,
            other => panic!("{other:?}"),
        });
        records.collect()
    }
}

const FAST: &str = "60/1h:smooth:burst=10:cost";
const SLOW: &str = "1/1h:smooth:burst=10:cost";

/// Nobody looks at the counters after the change: they come under it by themselves, one page after the other.
#[test]
fn a_change_of_pace_is_written_down_soon_by_itself() {
    let mut one = Process::new(1_000 * S, FAST);
    one.put("t/*", FAST);
    one.start_at(0..600);
    one.acquire(&costing("s", 10).lease_time(Duration::from_secs(3_000)), &[1]).unwrap();
    let mut kept = Store::default();
    let records = one.shard.take_records();
    let of_s = |record: &&Record| matches!(record, Record::Started { counter, .. } if counter == "s");
    kept.fold(&records.iter().filter(of_s).cloned().collect::<Vec<_>>(), kind(FAST));
    one.now += S;
    one.put("s", SLOW);
    let written: Vec<String> = (0..10).flat_map(|_| one.written_next()).collect();
    assert_eq!(written, ["s"], "the others go on as they were");
    assert!(one.shard.next_due().unwrap() > one.now + S, "the walk is over");
    // As it is written down by then.
    one.put("s", FAST);
    one.put("s", SLOW);
    for _ in 0..3 {
        one.now += S / 1_000;
        one.step(Input::Tick);
    }
    one.now += 700 * S;
    let mut other = kept.restart(&mut one, SLOW);
    assert_eq!((one.used(), other.used()), (10, 10));
}

#[test]
fn changes_and_counters_that_come_meanwhile_leave_none_behind() {
    let mut one = Process::new(1_000 * S, FAST);
    one.put("t/*", FAST);
    one.start_at(0..600);
    one.shard.take_records();
    for _ in 0..4 {
        one.written_next();
    }
    one.put("t/*", SLOW);
    let mut written = one.written_next();
    assert_eq!(written.len(), 255, "a page, with `t` itself");
    one.start_at(600..1_000);
    one.shard.take_records();
    one.put("s", SLOW);
    written.extend(one.written_next());
    one.put("t/*", FAST);
    for _ in 0..12 {
        written.extend(one.written_next());
    }
    let times = |key: u32| written.iter().filter(|name| **name == format!("t/{key}")).count();
    assert!((0..1_000).all(|key| times(key) == if key < 511 { 2 } else { 1 }), "{written:?}");
    assert!(one.written_next().is_empty());
}

/// What has drained before the last look has drained, however many changes come after it.
#[test]
fn a_walk_is_a_look() {
    let mut one = Process::new(1_000 * S, "1/1m:smooth:burst=10:cost");
    one.acquire(&costing("s", 10).lease_time(Duration::from_secs(3_000)), &[1]).unwrap();
    one.shard.take_records();
    one.now += 540 * S;
    one.set("10/1m:smooth:burst=10:cost");
    assert_eq!(one.written_next(), ["s"]);
    for change in 0..20 {
        one.put("other", &format!("{}/1h", 1 + change));
    }
    assert_eq!(one.used(), 1);
}

#[test]
fn a_debt_of_centuries_survives() {
    let (slow, fast) = ("5/366d:smooth:burst=5:cost", "5000000/366d:smooth:burst=5:cost");
    let mut one = Process::new(1_000 * S, slow);
    let lease = one.acquire(&costing("s", 1).lease_time(Duration::from_secs(3_000)), &[1]).unwrap();
    one.step(Input::Settle { lease: lease.parts[0], cost: 2_341_178_251 });
    let mut other = Store::default().restart(&mut one, slow);
    for process in [&mut one, &mut other] {
        process.set(fast);
        assert_eq!(process.used(), 2_341_178_251);
    }
}

#[test]
fn a_block_that_has_left_the_window_is_not_charged_again() {
    let rate = "160/1m";
    let mut one = Process::new(1_000 * S, rate);
    for _ in 0..10 {
        one.acquire(&request("s"), &[]).unwrap();
    }
    one.now += 600 * S;
    one.acquire(&request("s"), &[]).unwrap();
    let mut other = Store::default().restart(&mut one, rate);
    assert_eq!((one.used(), other.used()), (1, 10), "what is booked ahead counts as used, and no more");
}

/// Out of the block that a held lease has booked, and one by one for a timed one.
#[test]
fn an_overrun_is_written_down_as_the_starts_of_its_lease_are() {
    const RATE: &str = "160/1m:cost";
    let inline = Request::unscoped().inline("s", "k", limits("", &[RATE])).unwrap();
    for asked in [request("s"), inline] {
        let mut one = Process::new(1_000 * S, RATE);
        let started = |one: &mut Process| -> Vec<(u64, Option<u32>)> {
            let started = one.shard.take_records().into_iter().filter_map(|record| match record {
                Record::Started { units, booked, .. } => Some((units, booked)),
                _ => None,
            });
            started.collect()
        };
        let held = one.acquire(&asked, &[]).unwrap();
        assert_eq!(started(&mut one), [(1, Some(9))]);
        one.step(Input::Settle { lease: held.parts[0], cost: 3 });
        assert_eq!(started(&mut one), [], "nine are booked ahead");
        let timed = one.acquire(&asked.lease_time(Duration::from_secs(60)), &[1]).unwrap();
        one.step(Input::Settle { lease: timed.parts[0], cost: 3 });
        assert_eq!(started(&mut one), [(1, None), (2, None)]);
    }
}

#[test]
fn a_settling_is_written_down_where_it_changes_anything() {
    let mut one = Process::new(1_000 * S, "1000/1m:cost");
    let settled = |one: &mut Process, lease: &Grant, to| -> Vec<(u128, u32)> {
        one.step(Input::Settle { lease: lease.parts[0], cost: to });
        let settled = one.shard.take_records().into_iter().filter_map(|record| match record {
            Record::Settled { secret, cost } => Some((secret, cost)),
            _ => None,
        });
        settled.collect()
    };
    let timed = |cost| costing("s", cost).lease_time(Duration::from_secs(60));
    let outer = one.acquire(&timed(5), &[1]).unwrap();
    assert_eq!(settled(&mut one, &outer, 3), [(1, 3)]);
    assert_eq!(settled(&mut one, &outer, 3), []);
    // Who rides holds nothing, and started nothing: it rides on less, and would come back with more.
    let inner = one.acquire(&timed(3).lend_from(outer.parts[0]), &[2]).unwrap();
    assert_eq!(settled(&mut one, &inner, 1), [(2, 1)]);
    assert_eq!(settled(&mut one, &inner, 1), []);
}

#[test]
fn what_is_started_beside_others_numbers_is_written_down() {
    let mut one = Process::new(1_000 * S, "1000/1m");
    let bring = |rates: &[&str], concurrency: &str| {
        let request = Request::unscoped().inline("s", "k", limits(concurrency, rates)).unwrap();
        request.cost(NonZeroU32::new(5).unwrap()).lease_time(Duration::from_secs(60))
    };
    one.acquire(&bring(&["10/1h:cost"], ""), &[1]).unwrap();
    one.shard.take_records();
    one.acquire(&bring(&[], "100"), &[2]).unwrap();
    let started: Vec<u64> = (one.shard.take_records().iter())
        .filter_map(|record| match record {
            Record::Started { counter, units, .. } if counter == "s#k" => Some(*units),
            _ => None,
        })
        .collect();
    assert_eq!(started, [5], "it counts under the rate that the other has brought");
}

/// A pace that only books something ahead takes no place.
#[test]
fn paces_that_are_over_leave_the_key_open_after_a_restart() {
    let counter: CounterName = "s#k".parse().unwrap();
    let mut one = Process::new(1_000 * S, "1000/1m");
    for limit in 100..120 {
        let of = kind(&format!("{limit}/1d:smooth:burst=10:cost"));
        let smooth = Some(SmoothState { arrival: 900 * S, interval: of.period / limit, beyond: 0 });
        let what = Restored::Starts {
            counter: &counter,
            kind: RateKind { pace: of.period / limit, ..of },
            starts: &[],
            smooth,
            booked: 5,
        };
        one.step(Input::Restore { what: &what });
    }
    let own = limits("", &["7/1d:smooth:burst=10:cost"]);
    one.acquire(&Request::unscoped().inline("s", "k", own).unwrap(), &[]).unwrap();
}

/// A rate whose starts have survived has its place at an inline key, smooth or not.
#[test]
fn kinds_that_count_have_their_places_after_a_restart() {
    let counter: CounterName = "s#k".parse().unwrap();
    let mut one = Process::new(1_000 * S, "1000/1m");
    for hours in 1..=8u64 {
        let window = kind(&format!("9/{hours}h"));
        let smooth = SmoothState { arrival: 2_000 * S, interval: window.period / 9, beyond: 0 };
        let (kind, starts, smooth) = if hours % 2 == 0 {
            (window, [(999 * S, 1)].as_slice(), None)
        } else {
            (RateKind { pace: smooth.interval, ..kind(&format!("9/{hours}h:smooth")) }, [].as_slice(), Some(smooth))
        };
        let what = Restored::Starts { counter: &counter, kind, starts, smooth, booked: 0 };
        one.step(Input::Restore { what: &what });
    }
    let bring = |rate| Request::unscoped().inline("s", "k", limits("", &[rate])).unwrap();
    one.acquire(&bring("9/2h"), &[]).unwrap();
    let refusal = one.acquire(&bring("9/9h"), &[]).unwrap_err();
    assert_eq!(refusal.reason, Reason::Overloaded, "there are eight");
}

/// A process in which one lease has survived, and where that is.
fn with_lease(request: Request) -> (Process, LeaseRef) {
    let mut before = Process::new(1_000 * S, "1000/1m");
    before.acquire(&request.lease_time(Duration::from_secs(60)), &[7]).unwrap();
    let granted = before.shard.take_records().into_iter().find_map(|record| match record {
        Record::Granted(lease) => Some(lease),
        _ => None,
    });
    let mut after = Process::new(before.now + S, "1000/1m");
    after.step(Input::Restore { what: &Restored::Lease { lease: &granted.unwrap() } });
    match after.step(Input::Find { id: LeaseId { shard: 0, secret: 7 }, caller: None }) {
        Output::Found(parts) => (after, parts[0]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_that_has_survived_pushes_back_at_the_last_part_of_what_it_had_named() {
    let (mut process, lease) = with_lease(request("t/a"));
    let outcome = Outcome::PushedBack(Duration::from_secs(5));
    assert_eq!(process.step(Input::Release { lease, outcome }), Output::Done);
    let refusal = process.acquire(&request("t/a"), &[]).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::PushedBack, Some(Duration::from_secs(5))));
    process.acquire(&request("t/b"), &[]).unwrap();
}

#[test]
fn a_lease_that_has_survived_is_settled_under_the_numbers_that_it_had_brought() {
    let own = |cost| {
        let request = Request::unscoped().inline("s", "k", limits("", &["10/1m:cost"])).unwrap();
        request.cost(NonZeroU32::new(cost).unwrap())
    };
    let (mut process, lease) = with_lease(own(1));
    process.step(Input::Settle { lease, cost: 4 });
    assert!(process.acquire(&own(8), &[]).is_err(), "three have just started");
    process.acquire(&own(7), &[]).unwrap();
}

/// Whom it has ridden on is not known any more.
#[test]
fn who_rode_on_a_lease_holds_by_itself_after_a_restart() {
    let mut before = Process::new(1_000 * S, "1000/1m");
    let timed = |request: Request| request.lease_time(Duration::from_secs(60));
    let outer = before.acquire(&timed(request("t")), &[7]).unwrap();
    before.acquire(&timed(request("t").lend_from(outer.parts[0])), &[8]).unwrap();
    let mut after = Process::new(before.now + S, "1000/1m");
    for record in before.shard.take_records() {
        if let Record::Granted(lease) = record {
            after.step(Input::Restore { what: &Restored::Lease { lease: &lease } });
        }
    }
    for (secret, calls) in [(7, 1), (8, 0)] {
        let found = after.step(Input::Find { id: LeaseId { shard: 0, secret }, caller: None });
        let Output::Found(parts) = found else { panic!("{found:?}") };
        after.step(Input::Release { lease: parts[0], outcome: Outcome::Ok });
        let Output::Counters(found) = after.step(Input::Counters { prefix: "t" }) else { panic!() };
        assert_eq!(found[0].calls, calls);
    }
}

/// A timed lease must be written down, whether it waited or not, and the first start of a rate.
#[test]
fn what_cannot_be_written_down_is_not_let_in() {
    let request = Request::unscoped().inline("u", "k", limits("1", &[])).unwrap();
    for secrets in [&[][..], &[1][..]] {
        let mut one = Process::new(1_000 * S, "1000/1m");
        let holder = one.acquire(&request, &[]).unwrap();
        let waiter = request.clone().lease_time(Duration::from_secs(60));
        one.step(Input::Acquire { request: &waiter, wait: true, secrets });
        one.shard.set_unwritable(true);
        let mut effects = Vec::new();
        let release = Input::Release { lease: holder.parts[0], outcome: Outcome::Ok };
        ShardSet::new(&mut [&mut one.shard]).step(one.now, release, &mut effects);
        match &effects[..] {
            [Effect::Granted { .. }] => assert!(secrets.is_empty()),
            [Effect::Refused { refusal, .. }] => assert_eq!((refusal.reason, secrets), (Reason::Unavailable, &[1][..])),
            other => panic!("{other:?}"),
        }
        let refusal = one.acquire(&self::request("s"), &[]).unwrap_err();
        assert_eq!((refusal.reason, one.used()), (Reason::Unavailable, 0));
    }
}

#[test]
fn a_pushback_that_is_over_makes_no_counter() {
    let mut one = Process::new(1_000 * S, "1000/1m");
    let counter: CounterName = "t".parse().unwrap();
    for (until, counters) in [(1_000 * S, 0), (1_000 * S + 1, 1)] {
        let hand = HandState { pushed_back_until: until, ..HandState::default() };
        one.step(Input::Restore { what: &Restored::Hand { counter: &counter, hand: &hand } });
        let Output::Counters(found) = one.step(Input::Counters { prefix: "t" }) else { panic!() };
        assert_eq!(found.len(), counters);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Acquire { cost: u32, timed: bool },
    Settle { which: usize, cost: u32 },
    Release { which: usize },
    Advance { nanos: u64 },
    Restart { nanos: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let few = prop_oneof![0..1_000_000u64, 0..S / 20, 0..S / 3, 0..3 * S, 0..30 * S];
    prop_oneof![
        8 => (1..10u32, any::<bool>()).prop_map(|(cost, timed)| Act::Acquire { cost, timed }),
        5 => (any::<usize>(), 0..14u32).prop_map(|(which, cost)| Act::Settle { which, cost }),
        1 => any::<usize>().prop_map(|which| Act::Release { which }),
        5 => few.prop_map(|nanos| Act::Advance { nanos }),
        1 => (0..S / 4).prop_map(|nanos| Act::Restart { nanos }),
    ]
}

/// A lease, its cost, and what it has started that was not taken back.
type Lease = (Grant, u32, Vec<(u64, u32)>);

/// By its definition: what goes back is taken from the latest starts.
fn settle((_, cost, starts): &mut Lease, to: u32, now: u64) {
    starts.extend((to > *cost).then(|| (now, to - *cost)));
    let mut back = cost.saturating_sub(to);
    for (_, left) in starts.iter_mut().rev() {
        let take = back.min(*left);
        (*left, back) = (*left - take, back - take);
    }
    *cost = to;
}

proptest! {
    #[test]
    fn no_restart_forgives(smooth in any::<bool>(), acts in prop::collection::vec(act(), 1..200), looks in any::<bool>()) {
        let rate = if smooth { "200/1s:smooth:burst=100:cost" } else { "200/1s:cost" };
        let of = kind(rate);
        let (mut one, mut store, mut secret) = (Process::new(1_000 * S, rate), Store::default(), 0);
        let (mut held, mut gone): (Vec<Lease>, Vec<(u64, u32)>) = Default::default();
        let count = acts.len();
        for (index, act) in acts.into_iter().enumerate() {
            match act {
                Act::Acquire { cost, timed } => {
                    secret += 1;
                    let request = costing("s", cost);
                    let lease = if timed {
                        one.acquire(&request.lease_time(Duration::from_secs(3_000)), &[secret])
                    } else {
                        one.acquire(&request, &[])
                    };
                    held.extend(lease.map(|lease| (lease, cost, vec![(one.now, cost)])));
                }
                Act::Settle { which, cost } if !held.is_empty() => {
                    let which = which % held.len();
                    one.step(Input::Settle { lease: held[which].0.parts[0], cost });
                    settle(&mut held[which], cost, one.now);
                }
                Act::Release { which } if !held.is_empty() => {
                    let (lease, _, starts) = held.swap_remove(which % held.len());
                    one.step(Input::Release { lease: lease.parts[0], outcome: Outcome::Ok });
                    gone.extend(starts);
                }
                Act::Settle { .. } | Act::Release { .. } => {}
                Act::Advance { nanos } => one.now += nanos,
                Act::Restart { nanos } => {
                    one.now += nanos;
                    one = store.restart(&mut one, rate);
                    gone.extend(held.drain(..).flat_map(|(_, _, starts)| starts));
                }
            }
            if !looks && index + 1 < count {
                continue;
            }
            let mut all: Vec<(u64, u32)> = held.iter().flat_map(|(_, _, starts)| starts).chain(&gone).copied().collect();
            all.sort_unstable();
            let real = if smooth {
                let interval = of.period / 200;
                let (mut debt, mut at) = (0u64, 0u64);
                for (then, left) in all.into_iter().chain([(one.now, 0)]) {
                    debt = debt.saturating_sub(then - at) + u64::from(left) * interval;
                    at = then;
                }
                debt.div_ceil(interval)
            } else {
                all.iter().filter(|(at, _)| at + of.period > one.now).map(|(_, left)| u64::from(*left)).sum()
            };
            let used = one.used();
            prop_assert!(used >= real, "{rate}: {used} of {real}");
        }
    }
}
