//! Random operations against a naive reference: lists that are searched, windows that are counted, no counters at all.
//!
//! After every step: nobody is over a concurrency limit or over a rate in any window at the moment of a grant; what
//! counters show is the sum of what is held; nobody overtakes in a line; a newcomer that fits is granted unless its line
//! waits or an earlier waiter's barrier stands in its way; no head of a line fits that no barrier stops; a barrier stands
//! only for somebody who waits and has seen others served often enough; and at the end, nothing is left.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Change, Concurrency, Counts, Effect, Grant, Input, LeaseRef, Limiter, Limits, MAX_PASSES, Mode, Outcome, Output,
    Precondition, Rate, Reason, Request, RuleBook, RuleSpec, ScopedKey, ShardLimits, WaiterId,
};

#[derive(Debug, Clone)]
enum Op {
    Acquire { keys: Vec<usize>, cost: u32, wait: Option<u64>, lease: Option<u64>, lend: bool, priority: u8, share: u8 },
    Release(usize),
    Cancel(usize),
    Extend(usize, u64),
    Pass(u64),
    Rule { pattern: usize, concurrency: Option<(u32, bool)>, rates: Vec<(u32, u64, bool)>, disabled: bool },
}

const KEYS: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x", "a/x/1", "a/x/2", "c/z/9"];
const PATTERNS: [&str; 8] = ["*", "a", "b", "*/*", "a/*", "*/x", "*/*/*", "a/x/1"];

/// One or several; mostly few different ones, so that they meet.
fn keys() -> impl Strategy<Value = Vec<usize>> {
    let key = || prop_oneof![2 => Just(0usize), 1 => Just(5), 2 => 0..KEYS.len()];
    prop_oneof![3 => prop::collection::vec(key(), 1), 2 => prop::collection::vec(key(), 2..4)]
}

/// Mostly 0: most of those who wait stand in a line with others.
fn few() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0u8), 1 => Just(1), 1 => Just(2)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (keys(), 1u32..5, prop::option::of(0u64..3_000), prop::option::of(100u64..2_000), any::<bool>(), few(), few())
            .prop_map(|(keys, cost, wait, lease, lend, priority, share)| Op::Acquire { keys, cost, wait, lease, lend, priority, share }),
        6 => any::<usize>().prop_map(Op::Release),
        2 => any::<usize>().prop_map(Op::Cancel),
        1 => (any::<usize>(), 100u64..3_000).prop_map(|(lease, time)| Op::Extend(lease, time)),
        4 => (0u64..800).prop_map(Op::Pass),
        2 => (0..PATTERNS.len(), prop::option::of((0u32..7, any::<bool>())), prop::collection::vec((1u32..5, prop::sample::select(vec![500u64, 1_300]), any::<bool>()), 0..3), prop::bool::weighted(0.1))
            .prop_map(|(pattern, concurrency, rates, disabled)| Op::Rule { pattern, concurrency, rates, disabled }),
    ]
}

/// Calls and cost.
type Units = (u64, u64);

/// What somebody needs at a counter.
struct Need {
    counter: String,
    holds: Units,
    /// What it rides on instead.
    rides: Units,
    /// What starts with it.
    starts: Units,
}

#[derive(Debug)]
struct Holder {
    parts: Vec<LeaseRef>,
    /// What it holds at each counter: calls, cost.
    holds: BTreeMap<String, Units>,
    /// What it rides on instead, and whose it is.
    rides: Option<(LeaseRef, BTreeMap<String, Units>)>,
    /// Where its start has paid for another, or another's for it.
    spent: BTreeSet<String>,
    ends_at: Option<u64>,
    granted_at: u64,
}

impl Holder {
    /// What it has at a counter: what it holds there, and what it rides on.
    fn whole(&self, counter: &str) -> Units {
        let rides = self.rides.as_ref().and_then(|(_, rides)| rides.get(counter));
        let parts = self.holds.get(counter).into_iter().chain(rides);
        parts.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}

#[derive(Debug)]
struct Start {
    counter: String,
    at: u64,
    units: u64,
    period: u64,
    counts: Counts,
}

struct World {
    limiter: Limiter,
    book: RuleBook,
    now: u64,
    holders: Vec<Holder>,
    waiters: Vec<(WaiterId, Request, u64)>,
    starts: Vec<Start>,
    /// How many grants each waiter has seen at a counter that it needs.
    passes: BTreeMap<u64, u32>,
    seen: Seen,
}

/// Equal targets, priority, fairness key and weight, and nobody rides on a lease.
fn same_line(one: &Request, other: &Request) -> bool {
    let sorted = |request: &Request| {
        let mut names: Vec<String> = request.targets.iter().map(|key| key.as_str().to_owned()).collect();
        names.sort();
        names
    };
    let rest = |request: &Request| (request.priority, share(request), request.weight);
    let alone = !(one.lend_from.is_empty() && other.lend_from.is_empty());
    !alone && sorted(one) == sorted(other) && rest(one) == rest(other)
}

fn share(request: &Request) -> String {
    let default = || request.targets[0].limit_key().unwrap_or_default().to_owned();
    request.fairness_key.as_ref().map_or_else(default, |key| key.to_string())
}

fn counters(request: &Request) -> Vec<String> {
    let mut all = Vec::new();
    for key in &request.targets {
        for depth in 1..=key.depth() {
            let name = key.prefix(depth).to_owned();
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all
}

impl World {
    fn new(shards: u16) -> Self {
        Self {
            limiter: Limiter::new(shards, ShardLimits::default()),
            book: RuleBook::default(),
            now: 1_000_000_000_000,
            holders: Vec::new(),
            waiters: Vec::new(),
            starts: Vec::new(),
            passes: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// The rule that binds, found by reading them all.
    fn limits(&self, counter: &str) -> Limits {
        let matching = self.book.rules().filter(|rule| !rule.spec.disabled && rule.pattern.matches_counter(counter));
        matching.max_by_key(|rule| rule.pattern.rank()).map(|rule| rule.spec.limits.clone()).unwrap_or_default()
    }

    fn held(&self, counter: &str, counts: Counts) -> u64 {
        let at = self.holders.iter().filter_map(|holder| holder.holds.get(counter));
        at.map(|(calls, cost)| if counts == Counts::Calls { *calls } else { *cost }).sum()
    }

    fn started(&self, counter: &str, rate: &Rate) -> u64 {
        let period = rate.period.as_nanos() as u64;
        let same = self
            .starts
            .iter()
            .filter(|start| start.counter == counter && start.period == period && start.counts == rate.counts);
        same.filter(|start| start.at + period > self.now).map(|start| start.units).sum()
    }

    fn lender(&self, request: &Request) -> Option<&Holder> {
        let wanted = *request.lend_from.first()?;
        let lender = self.holders.iter().find(|holder| holder.parts.contains(&wanted))?;
        let lent = self.holders.iter().any(|holder| holder.rides.as_ref().is_some_and(|(ridden, _)| *ridden == wanted));
        (!lent).then_some(lender)
    }

    /// What a request needs at each of its counters.
    fn needs(&self, request: &Request) -> Vec<Need> {
        let cost = u64::from(request.cost.get());
        let lender = self.lender(request);
        counters(request)
            .into_iter()
            .map(|counter| {
                let (calls, lent) = lender.map_or((0, 0), |lender| lender.whole(&counter));
                let rides = (calls.min(1), lent.min(cost));
                let holds = (1 - rides.0, cost - rides.1);
                let spent = lender.is_some_and(|lender| lender.spent.contains(&counter));
                let starts = if spent && rides != (0, 0) { (1, cost) } else { holds };
                Need { counter, holds, rides, starts }
            })
            .collect()
    }

    /// `Some(true)`: fits now; `Some(false)`: not now; `None`: never.
    fn fits(&self, request: &Request) -> Option<bool> {
        let mut fits = true;
        for Need { counter, holds, rides, starts } in self.needs(request) {
            let limits = self.limits(&counter);
            let of = |counts, units: Units| if counts == Counts::Calls { units.0 } else { units.1 };
            let need = |counts| of(counts, holds);
            let whole = |counts| need(counts) + of(counts, rides);
            if let Some(Concurrency { limit, counts }) = limits.concurrency
                && need(counts) > 0
            {
                if limit > 0 && whole(counts) > u64::from(limit) {
                    return None;
                }
                fits &= self.held(&counter, counts) + need(counts) <= u64::from(limit);
            }
            for rate in &limits.rates {
                let start = of(rate.counts, starts);
                if start > u64::from(rate.limit.get()) {
                    return None;
                }
                fits &= start == 0 || self.started(&counter, rate) + start <= u64::from(rate.limit.get());
            }
        }
        Some(fits)
    }

    /// Whether somebody in the line of a request came before this ticket.
    fn stands_behind(&self, request: &Request, before: u64) -> bool {
        self.waiters.iter().any(|(waiter, other, _)| waiter.ticket < before && same_line(request, other))
    }

    /// Whether the barrier of somebody who came earlier stands at a counter of a request.
    fn barred(&mut self, request: &Request, ticket: u64) -> bool {
        let Output::Counters(shown) = self.limiter.step(self.now, Input::Counters { prefix: "" }, &mut Vec::new())
        else {
            panic!()
        };
        let mine = counters(request);
        let at_mine = shown.iter().filter(|snapshot| mine.contains(&snapshot.counter));
        at_mine.filter_map(|snapshot| snapshot.barrier).any(|barrier| barrier < ticket)
    }

    /// Whether somebody of another line and of no lower priority waits for what it needs, and lacks more than there is: what is free
    /// may be owed to that one. How much, `fairness.rs` says.
    fn may_be_owed(&self, request: &Request) -> bool {
        let mine = counters(request);
        self.waiters.iter().any(|(_, other, _)| {
            !same_line(request, other)
                && other.priority >= request.priority
                && counters(other).iter().any(|counter| mine.contains(counter))
                && match self.fits(other) {
                    Some(fits) => !fits,
                    // What never fits without the lease that it names is seen to be so when it is looked at.
                    None => !other.lend_from.is_empty(),
                }
        })
    }

    /// Counts a grant against those who wait and share a counter with it.
    fn count_passes(&mut self, request: &Request) {
        let mine = counters(request);
        for (waiter, other, _) in &self.waiters {
            if counters(other).iter().any(|counter| mine.contains(counter)) {
                *self.passes.entry(waiter.ticket).or_default() += 1;
            }
        }
    }

    /// Takes a grant into the lists, checking that the reference admits it at this very moment.
    fn book_grant(&mut self, request: &Request, grant: &Grant) {
        let rides = |need: &Need| need.rides != (0, 0);
        self.seen.lent += usize::from(self.needs(request).iter().any(rides));
        self.seen.lent_again +=
            usize::from(self.needs(request).iter().any(|need| rides(need) && need.starts != need.holds));
        self.seen.several_shards += usize::from(grant.parts.len() > 1);
        assert_eq!(self.fits(request), Some(true), "granted what does not fit: {request:?}");
        assert_eq!(grant.book_version, self.book.version());
        let needs = self.needs(request);
        let lender = self.lender(request).map(|lender| lender.parts[0]);
        for need in &needs {
            for rate in self.limits(&need.counter).rates {
                let units = if rate.counts == Counts::Calls { need.starts.0 } else { need.starts.1 };
                self.starts.push(Start {
                    counter: need.counter.clone(),
                    at: self.now,
                    units,
                    period: rate.period.as_nanos() as u64,
                    counts: rate.counts,
                });
            }
        }
        // A start pays for who was let in by it, and for the first that rides on that.
        let spent = needs.iter().filter(|need| rides(need) && need.starts == need.holds);
        let spent: BTreeSet<String> = spent.map(|need| need.counter.clone()).collect();
        if let Some(lender) = self.holders.iter_mut().find(|holder| lender.is_some_and(|it| holder.parts.contains(&it)))
        {
            lender.spent.extend(spent.iter().cloned());
        }
        let rides: BTreeMap<String, Units> =
            needs.iter().filter(|need| rides(need)).map(|need| (need.counter.clone(), need.rides)).collect();
        self.holders.push(Holder {
            parts: grant.parts.to_vec(),
            holds: needs.into_iter().map(|need| (need.counter, need.holds)).collect(),
            rides: lender.filter(|_| !rides.is_empty()).map(|lender| (lender, rides)),
            spent,
            ends_at: grant.ends_at,
            granted_at: self.now,
        });
    }

    /// Takes a holder off; whoever rides on it takes over what it held.
    fn book_end(&mut self, index: usize) {
        let ended = self.holders.remove(index);
        if let Some(borrower) = self
            .holders
            .iter_mut()
            .find(|holder| holder.rides.as_ref().is_some_and(|(ridden, _)| ended.parts.contains(ridden)))
        {
            let mut left = BTreeMap::new();
            for (counter, (calls, cost)) in borrower.rides.take().unwrap().1 {
                let own = ended.holds[&counter];
                let taken = (calls.min(own.0), cost.min(own.1));
                let hold = borrower.holds.get_mut(&counter).unwrap();
                *hold = (hold.0 + taken.0, hold.1 + taken.1);
                if taken != (calls, cost) {
                    left.insert(counter, (calls - taken.0, cost - taken.1));
                }
            }
            // It rides on what the one that ended rode on.
            borrower.rides = ended.rides.filter(|_| !left.is_empty()).map(|(ridden, _)| (ridden, left));
        }
    }

    fn step(&mut self, input: Input<'_>) -> Output {
        let (output, effects) = self.decide(input);
        self.take_effects(effects);
        output
    }

    /// A step, and what it did to others afterwards.
    fn decide(&mut self, input: Input<'_>) -> (Output, Vec<Effect>) {
        let mut effects = Vec::new();
        // What has come due ends first, in its own order.
        let now = self.now;
        while let Some(index) = self.holders.iter().position(|holder| holder.ends_at.is_some_and(|end| end <= now)) {
            self.seen.expired += 1;
            self.book_end(index);
        }
        let output = self.limiter.step(self.now, input, &mut effects);
        (output, effects)
    }

    fn take_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Granted { waiter, grant } => {
                    let index = self
                        .waiters
                        .iter()
                        .position(|(other, ..)| *other == waiter)
                        .expect("a grant for somebody who waits");
                    let (_, request, deadline) = self.waiters.remove(index);
                    self.seen.woken += 1;
                    assert!(self.now <= deadline, "granted after its deadline");
                    assert!(!self.stands_behind(&request, waiter.ticket), "overtook in its line");
                    self.count_passes(&request);
                    self.book_grant(&request, &grant);
                }
                Effect::Refused { waiter, refusal } => {
                    let index = self
                        .waiters
                        .iter()
                        .position(|(other, ..)| *other == waiter)
                        .expect("a refusal for somebody who waits");
                    let (_, request, deadline) = self.waiters.remove(index);
                    self.seen.timed_out += usize::from(refusal.reason == Reason::TimedOut);
                    match refusal.reason {
                        Reason::TimedOut => assert_eq!(self.now, deadline),
                        Reason::TooLarge => assert_eq!(self.fits(&request), None),
                        other => panic!("{other:?}"),
                    }
                }
                Effect::Retry { .. } | Effect::Release { .. } => panic!("all shards are at hand"),
            }
        }
    }

    fn check(&mut self) {
        let Output::Counters(shown) = self.step(Input::Counters { prefix: "" }) else { panic!() };
        let mut names: Vec<String> = self.holders.iter().flat_map(|holder| holder.holds.keys().cloned()).collect();
        names.extend(shown.iter().map(|snapshot| snapshot.counter.clone()));
        for name in names {
            let (calls, cost) = shown
                .iter()
                .find(|snapshot| snapshot.counter == name)
                .map_or((0, 0), |snapshot| (snapshot.calls, snapshot.cost));
            assert_eq!((calls, cost), (self.held(&name, Counts::Calls), self.held(&name, Counts::Cost)), "{name}");
        }
        assert_eq!(shown.iter().map(|snapshot| snapshot.waiting).sum::<usize>(), self.waiters.len());
        for (waiter, request, deadline) in self.waiters.clone() {
            assert!(deadline > self.now, "waits past its deadline");
            if !self.stands_behind(&request, waiter.ticket) && self.fits(&request) == Some(true) {
                let (barred, owed) = (self.barred(&request, waiter.ticket), self.may_be_owed(&request));
                assert!(barred || owed, "idle capacity beside {waiter:?} {request:?}");
                self.seen.barred += usize::from(barred);
                self.seen.owed += usize::from(!barred);
            }
        }
        for barrier in shown.iter().filter_map(|snapshot| snapshot.barrier) {
            assert!(self.waiters.iter().any(|(waiter, ..)| waiter.ticket == barrier), "a barrier of nobody who waits");
            // A line that leaves free capacity to others counts that too, and comes back only if somebody took it.
            assert!(self.passes.get(&barrier).is_some_and(|passes| 2 * passes >= MAX_PASSES), "raised too early");
        }
    }

    fn pass(&mut self, until: u64) {
        while let Some(due) = self.limiter.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.step(Input::Tick);
            self.check();
        }
        self.now = until;
        self.step(Input::Tick);
    }

    fn run(&mut self, op: Op) {
        const MS: u64 = 1_000_000;
        match op {
            Op::Acquire { keys, cost, wait, lease, lend, priority, share } => {
                let mut request =
                    Request::new(KEYS[keys[0]].parse::<ScopedKey>().unwrap()).cost(NonZeroU32::new(cost).unwrap());
                for key in &keys[1..] {
                    request = request.also(KEYS[*key].parse().unwrap()).unwrap();
                }
                if let Some(wait) = wait {
                    request = request.max_wait(Duration::from_millis(wait));
                }
                request = request.priority(100 + priority);
                if share > 0 {
                    request =
                        request.fairness(&format!("share-{share}"), NonZeroU16::new(share.into()).unwrap()).unwrap();
                }
                if let Some(lease) = lease {
                    request = request.lease_time(Duration::from_millis(lease));
                }
                // As ingress lends: one scope, one part.
                if lend
                    && keys.len() == 1
                    && let Some(lender) = self.holders.iter().rev().find(|holder| holder.parts.len() == 1)
                {
                    request = request.lend_from(lender.parts[0]);
                }
                self.step(Input::Tick);
                let (expected, behind) = (self.fits(&request), self.stands_behind(&request, u64::MAX));
                let barred = self.barred(&request, u64::MAX);
                let owed = self.may_be_owed(&request);
                self.seen.behind += usize::from(behind && expected == Some(true));
                self.seen.barred += usize::from(barred && expected == Some(true));
                self.seen.contended += usize::from(expected == Some(false));
                self.seen.never += usize::from(expected.is_none());
                let (output, effects) =
                    self.decide(Input::Acquire { request: &request, wait: wait.is_some(), secrets: &[] });
                match output {
                    Output::Granted(grant) => {
                        assert!(!behind, "a newcomer overtook in its line");
                        self.count_passes(&request);
                        self.book_grant(&request, &grant);
                    }
                    Output::Waiting(waiter) => {
                        assert!(
                            expected == Some(false) || behind || barred || owed,
                            "waits though it fits or never will"
                        );
                        let deadline = self.now + wait.unwrap() * MS;
                        self.waiters.push((waiter, request, deadline));
                    }
                    Output::Refused(refusal) => match refusal.reason {
                        Reason::TooLarge => assert_eq!(expected, None),
                        Reason::Limited => {
                            assert!(expected == Some(false) || ((behind || barred || owed) && expected == Some(true)));
                            assert!(!refusal.blocked_on.is_empty());
                        }
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                }
                self.take_effects(effects);
            }
            Op::Release(index) if !self.holders.is_empty() => {
                let index = index % self.holders.len();
                self.step(Input::Tick);
                if let Some(holder) = self.holders.get(index) {
                    let parts = holder.parts.clone();
                    let mut effects = Vec::new();
                    self.book_end(index);
                    // The parts end one by one, as in the engine; between them the reference is already ahead, which only frees.
                    for lease in parts {
                        assert_eq!(
                            self.limiter.step(self.now, Input::Release { lease, outcome: Outcome::Ok }, &mut effects),
                            Output::Done
                        );
                    }
                    self.take_effects(effects);
                }
            }
            Op::Cancel(index) if !self.waiters.is_empty() => {
                self.step(Input::Tick);
                if let Some((waiter, ..)) = self.waiters.get(index % self.waiters.len().max(1)).cloned() {
                    self.waiters.retain(|(other, ..)| *other != waiter);
                    assert_eq!(self.step(Input::Cancel { waiter }), Output::Done);
                }
            }
            Op::Extend(index, time) if !self.holders.is_empty() => {
                self.step(Input::Tick);
                let now = self.now;
                if self.holders.is_empty() {
                    return;
                }
                let index = index % self.holders.len();
                let (parts, end, born) =
                    (self.holders[index].parts.clone(), self.holders[index].ends_at, self.holders[index].granted_at);
                let expected = end.map(|end| end.max((now + time * MS).min(born + 86_400_000 * MS)));
                for lease in parts {
                    assert_eq!(
                        self.step(Input::Extend { lease, lease_time: Duration::from_millis(time) }),
                        Output::Extended(expected)
                    );
                }
                self.holders[index].ends_at = expected;
            }
            Op::Pass(millis) => self.pass(self.now + millis * MS),
            Op::Rule { pattern, concurrency, rates, disabled } => {
                let mut limits = Limits {
                    concurrency: concurrency.map(|(limit, cost)| Concurrency {
                        limit,
                        counts: if cost { Counts::Cost } else { Counts::Calls },
                    }),
                    ..Limits::default()
                };
                for (limit, period, cost) in rates {
                    let rate = Rate {
                        counts: if cost { Counts::Cost } else { Counts::Calls },
                        mode: Mode::Window,
                        ..Rate::window(NonZeroU32::new(limit).unwrap(), Duration::from_millis(period))
                    };
                    if limits.rates.iter().all(|other| (other.period, other.counts) != (rate.period, rate.counts)) {
                        limits.rates.push(rate);
                    }
                }
                let change = Change::Put {
                    pattern: PATTERNS[pattern].parse().unwrap(),
                    spec: RuleSpec { limits, disabled, ..RuleSpec::default() },
                    when: Precondition::None,
                };
                self.step(Input::Tick);
                self.book = self.book.apply(&[change], 0).unwrap();
                self.step(Input::SetBook { book: Arc::new(self.book.clone()) });
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        while !self.waiters.is_empty() {
            self.run(Op::Cancel(0));
        }
        while !self.holders.is_empty() {
            self.run(Op::Release(0));
            while !self.waiters.is_empty() {
                self.run(Op::Cancel(0));
            }
        }
        while let Some(due) = self.limiter.next_due() {
            self.now = self.now.max(due);
            self.step(Input::Tick);
        }
        assert!(
            self.limiter.shards().iter().all(weir_limiter::Shard::is_empty),
            "something is left: {:?}",
            self.limiter
        );
    }
}

/// What a run must have met, or it proves nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    contended: usize,
    woken: usize,
    timed_out: usize,
    never: usize,
    expired: usize,
    lent: usize,
    lent_again: usize,
    several_shards: usize,
    behind: usize,
    barred: usize,
    owed: usize,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.contended += other.contended;
        self.woken += other.woken;
        self.timed_out += other.timed_out;
        self.never += other.never;
        self.expired += other.expired;
        self.lent += other.lent;
        self.lent_again += other.lent_again;
        self.several_shards += other.several_shards;
        self.behind += other.behind;
        self.barred += other.barred;
        self.owed += other.owed;
    }
}

/// Runs sequences of operations, and answers what they met.
fn run(cases: u32, prelude: &[Op], ops: impl Strategy<Value = Vec<Op>>) -> Seen {
    let seen = std::cell::Cell::new(Seen::default());
    let mut runner = TestRunner::new(ProptestConfig { cases, max_shrink_iters: 500, ..ProptestConfig::default() });
    runner
        .run(&(1u16..8, ops), |(shards, ops)| {
            let mut world = World::new(shards);
            for op in prelude.iter().cloned().chain(ops) {
                world.run(op);
                world.check();
            }
            world.drain();
            let mut sum = seen.get();
            sum.add(world.seen);
            seen.set(sum);
            Ok(())
        })
        .unwrap();
    seen.get()
}

fn visited(classes: &[(&str, usize)]) {
    for (class, count) in classes {
        assert!(*count > 100, "the state class `{class}` was visited {count} times only");
    }
}

#[test]
fn decides_as_the_reference_does() {
    let seen = run(1_500, &[], prop::collection::vec(op(), 1..160));
    visited(&[
        ("contended", seen.contended),
        ("woken", seen.woken),
        ("timed out", seen.timed_out),
        ("never fits", seen.never),
        ("expired", seen.expired),
        ("lent", seen.lent),
        ("lent again", seen.lent_again),
        ("several shards", seen.several_shards),
    ]);
}

/// A crowd at few counters: small requests pass large and wide ones until a barrier stops them.
#[test]
fn a_crowd_is_served_as_the_reference_does() {
    // Mostly one key: what is owed to another is bounded by turns, and only its own lines pass until a barrier stops them.
    let share = prop_oneof![12 => Just(1u8), 1 => few()];
    let acquire = (prop::sample::select(vec![vec![0], vec![0], vec![1], vec![2], vec![0, 1], vec![2, 1]]), share)
        .prop_flat_map(|(keys, share)| {
            (
                Just(keys),
                Just(share),
                prop_oneof![20 => Just(1u32), 1 => 5u32..7],
                prop_oneof![20 => Just(0u8), 1 => Just(1)],
            )
        })
        .prop_map(|(keys, share, cost, priority)| Op::Acquire {
            keys,
            cost,
            wait: Some(100_000),
            lease: None,
            lend: false,
            priority,
            share,
        });
    let op = prop_oneof![
        20 => acquire,
        20 => any::<usize>().prop_map(Op::Release),
        1 => any::<usize>().prop_map(Op::Cancel),
        2 => (0u64..300).prop_map(Op::Pass),
    ];
    let limit = |pattern, limit| Op::Rule { pattern, concurrency: Some((limit, true)), rates: vec![], disabled: false };
    let seen = run(80, &[limit(1, 7), limit(2, 6), limit(4, 6)], prop::collection::vec(op, 1_500));
    visited(&[
        ("woken", seen.woken),
        ("behind its line", seen.behind),
        ("stopped by a barrier", seen.barred),
        ("held back", seen.owed),
    ]);
}
