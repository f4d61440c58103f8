//! The model: who holds what and what has started, as lists that are added up anew at every question.
//!
//! It decides nothing. It is told what the limiter granted, and says whether that was within the limits in force.
//!
//! A lease that rides on another holds what exceeds its lender's share, and takes that share over when the lender ends
//! first. Worked example: a lender of cost 3 and a borrower of cost 5 hold 1 call and 5 units together; when the lender
//! ends, the borrower alone holds 1 call and 5 units. The start of a lender is lent once at each counter: the next borrower is a start
//! of all that it asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use weir_limiter::{
    Concurrency, Counts, Grant, LeaseId, LeaseRef, Limits, Mode, Outcome, Rate, Request, RuleBook, Verb,
};

/// Calls and cost.
pub type Units = (u64, u64);

fn units((calls, cost): Units, counts: Counts) -> u64 {
    if counts == Counts::Calls { calls } else { cost }
}

/// A lease that was granted and has not ended.
#[derive(Debug)]
pub struct Lease {
    /// Its parts, as they are released.
    pub parts: Vec<LeaseRef>,
    /// How it is found.
    pub id: Option<LeaseId>,
    /// When it was granted.
    pub granted_at: u64,
    /// When it ends by itself.
    pub ends_at: Option<u64>,
    /// Its own number: fencing numbers are unique within a shard only.
    number: u64,
    /// What it costs, as it was settled last.
    pub cost: u64,
    holds: BTreeMap<String, Units>,
    /// The counters at the last part of what it asked for: there a pushback belongs.
    leaves: Vec<String>,
    /// The limits that it brought.
    brought: BTreeMap<String, Limits>,
    rides: Option<(u64, BTreeMap<String, Units>)>,
    /// Where its start has paid for another, or another's for it.
    spent: BTreeSet<String>,
}

impl Lease {
    /// What it has at a counter: what it holds there, and what it rides on.
    fn whole(&self, counter: &str) -> Units {
        let rides = self.rides.as_ref().and_then(|(_, rides)| rides.get(counter));
        let parts = self.holds.get(counter).into_iter().chain(rides);
        parts.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}

#[derive(Debug)]
struct Start {
    /// Whose it is.
    lease: u64,
    counter: String,
    rate: Rate,
    at: u64,
    units: u64,
}

/// What an operator or a pushback has done to a counter.
#[derive(Debug, Default)]
struct Hand {
    paused: bool,
    draining: bool,
    pinned: Option<Limits>,
    pushed_back_until: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    /// The leases, oldest first.
    pub leases: Vec<Lease>,
    starts: Vec<Start>,
    hands: BTreeMap<String, Hand>,
    /// The last fencing number of each counter.
    fences: BTreeMap<String, u64>,
    numbers: u64,
}

/// The counters that a request needs, each once.
fn counters(request: &Request) -> Vec<String> {
    let mut all = Vec::new();
    for key in &request.targets {
        let parts: Vec<&str> = key.as_str().split('/').collect();
        for depth in 1..=parts.len() {
            let counter = parts[..depth].join("/");
            if !all.contains(&counter) {
                all.push(counter);
            }
        }
    }
    all.extend(request.inline.iter().map(|inline| inline.name.as_str().to_owned()));
    all
}

/// How long a pushback may close a counter where no rule says so: a minute.
const MAX_PUSHBACK: Duration = Duration::from_secs(60);

/// What the rule that binds a counter limits: of those that match, the one whose parts are exact the earliest.
fn limits(book: &RuleBook, counter: &str) -> Limits {
    let matches = |pattern: &str| {
        pattern.split('/').count() == counter.split('/').count()
            && pattern.split('/').zip(counter.split('/')).all(|(part, name)| part == "*" || part == name)
    };
    book.rules()
        // Shadow limits alone bind nothing.
        .filter(|rule| rule.spec.shadow_limits.is_none() || rule.spec.limits != Limits::default())
        .filter(|rule| !rule.spec.disabled && matches(rule.pattern.as_str()))
        .max_by_key(|rule| rule.pattern.as_str().split('/').map(|part| part != "*").collect::<Vec<bool>>())
        .map(|rule| rule.spec.limits.clone())
        .unwrap_or_default()
}

impl Model {
    /// What is held at a counter.
    pub fn held(&self, counter: &str) -> Units {
        let holds = self.leases.iter().filter_map(|lease| lease.holds.get(counter));
        holds.fold((0, 0), |sum, hold| (sum.0 + hold.0, sum.1 + hold.1))
    }

    /// The counters at which anything is held.
    pub fn held_counters(&self) -> impl Iterator<Item = &str> {
        self.leases.iter().flat_map(|lease| lease.holds.keys().map(String::as_str))
    }

    /// What holds at a counter: what is pinned, else what the request brings, else the rule.
    fn limits(&self, book: &RuleBook, counter: &str, brought: &BTreeMap<String, Limits>) -> Limits {
        let pinned = self.hands.get(counter).and_then(|hand| hand.pinned.as_ref());
        pinned.or_else(|| brought.get(counter)).cloned().unwrap_or_else(|| limits(book, counter))
    }

    /// Takes a grant in, and checks it. `waited`: it came before now.
    ///
    /// # Panics
    /// When it is above a limit or through a door that is shut, or its fencing number is not above the last one.
    pub fn grant(
        &mut self,
        now: u64,
        book: &RuleBook,
        request: &Request,
        grant: &Grant,
        secret: Option<u128>,
        waited: bool,
    ) {
        assert_eq!(grant.book_version, book.version());
        let brought: BTreeMap<String, Limits> =
            request.inline.iter().map(|inline| (inline.name.as_str().to_owned(), inline.limits.clone())).collect();
        let lender = request.lend_from.first().and_then(|part| self.lender(*part));
        let mut lent = BTreeMap::new();
        let mut holds = BTreeMap::new();
        let (mut starts, mut spent) = (BTreeMap::new(), BTreeSet::new());
        for counter in counters(request) {
            let whole = (1, u64::from(request.cost.get()));
            let share = lender.map_or((0, 0), |lender| lender.whole(&counter));
            let ride = (share.0.min(whole.0), share.1.min(whole.1));
            let hold = (whole.0 - ride.0, whole.1 - ride.1);
            let anew = ride != (0, 0) && lender.is_some_and(|lender| lender.spent.contains(&counter));
            starts.insert(counter.clone(), if anew { whole } else { hold });
            if ride != (0, 0) {
                lent.insert(counter.clone(), ride);
                if !anew {
                    spent.insert(counter.clone());
                }
            }
            holds.insert(counter, hold);
        }
        let lender = lender.map(|lender| lender.number);
        if let Some(lender) = self.leases.iter_mut().find(|lease| Some(lease.number) == lender) {
            lender.spent.extend(spent.iter().cloned());
        }
        self.numbers += 1;
        for (counter, need) in &holds {
            let start = starts[counter];
            self.check_door(now, counter, (*need, start), waited);
            self.check(now, &self.limits(book, counter, &brought), counter, (*need, start));
            let last = self.fences.insert(counter.clone(), grant.fence);
            assert!(last.is_none_or(|last| last < grant.fence), "{counter}: fence {} after {last:?}", grant.fence);
        }
        let leaves = request.targets.iter().map(|key| key.as_str().to_owned());
        let leaves = leaves.chain(brought.keys().cloned()).collect();
        self.leases.push(Lease {
            cost: request.cost.get().into(),
            leaves,
            brought,
            parts: grant.parts.to_vec(),
            id: secret.map(|secret| LeaseId { shard: grant.parts[0].shard, secret }),
            granted_at: now,
            ends_at: grant.ends_at,
            number: self.numbers,
            holds,
            rides: lender.filter(|_| !lent.is_empty()).map(|lender| (lender, lent)),
            spent,
        });
    }

    /// The lease of this part, unless it lends to another already.
    fn lender(&self, part: LeaseRef) -> Option<&Lease> {
        let lender = self.leases.iter().find(|lease| lease.parts.contains(&part))?;
        let lends = |lease: &Lease| lease.rides.as_ref().is_some_and(|(number, _)| *number == lender.number);
        (!self.leases.iter().any(lends)).then_some(lender)
    }

    /// Checks that nobody gets in where an operator or a pushback has shut the door.
    fn check_door(&self, now: u64, counter: &str, (need, start): (Units, Units), waited: bool) {
        let Some(hand) = self.hands.get(counter).filter(|_| start != (0, 0)) else { return };
        assert!(!hand.paused, "{counter}: admitted while it is paused");
        // Who only rides is there already.
        assert!(!hand.draining || waited || need == (0, 0), "{counter}: a newcomer is admitted while it drains");
        assert!(hand.pushed_back_until <= now, "{counter}: admitted while it is pushed back");
    }

    /// Checks what a grant takes at one counter, and writes down what it starts.
    fn check(&mut self, now: u64, limits: &Limits, counter: &str, (need, start): (Units, Units)) {
        if let Some(Concurrency { limit, counts }) = limits.concurrency
            && units(need, counts) > 0
        {
            let after = units(self.held(counter), counts) + units(need, counts);
            assert!(after <= u64::from(limit), "{counter}: {after}/{limit} {counts:?} at once");
        }
        for rate in &limits.rates {
            let units = units(start, rate.counts);
            if units > 0 {
                let (lease, counter) = (self.numbers, counter.to_owned());
                self.starts.push(Start { lease, counter: counter.clone(), rate: rate.clone(), at: now, units });
                self.check_rate(&counter, rate);
            }
        }
    }

    /// Counts every window that ends with the last start.
    fn check_rate(&self, counter: &str, rate: &Rate) {
        let same = |other: &Rate| match rate.mode {
            // Its history survives a change of the limit.
            Mode::Window => (other.mode, other.period, other.counts) == (rate.mode, rate.period, rate.counts),
            Mode::Smooth => other == rate,
        };
        let starts = self.starts.iter().rev().filter(|start| start.counter == counter && same(&start.rate));
        let (period, limit) = (rate.period.as_nanos(), u128::from(rate.limit.get()));
        let (mut last, mut sum) = (None, 0u128);
        for start in starts {
            let length = u128::from(*last.get_or_insert(start.at) - start.at);
            sum += u128::from(start.units);
            match rate.mode {
                Mode::Window if length >= period => break,
                Mode::Window => assert!(sum <= limit, "{counter}: {sum} units of {rate} in {length} ns"),
                Mode::Smooth => {
                    let burst = rate.burst.map_or(1, |burst| u128::from(burst.get()));
                    assert!(
                        sum * period <= burst * period + limit * length,
                        "{counter}: {sum} units of {rate} in {length} ns"
                    );
                }
            }
        }
    }

    /// Whether a lease shares what it holds with another.
    fn shares(&self, lease: &Lease) -> bool {
        lease.rides.is_some()
            || self.leases.iter().any(|other| other.rides.as_ref().is_some_and(|(lender, _)| *lender == lease.number))
    }

    /// Settles a lease that shares nothing; what it comes to as (refunded, overrun).
    pub fn settle(&mut self, now: u64, book: &RuleBook, index: usize, cost: u32) -> Option<(u64, u64)> {
        let lease = &self.leases[index];
        if self.shares(lease) {
            return None;
        }
        let (number, before, after) = (lease.number, lease.cost, u64::from(cost));
        let (refunded, overrun) = (before.saturating_sub(after), after.saturating_sub(before));
        let (held, brought) = (lease.holds.keys().cloned().collect::<Vec<_>>(), lease.brought.clone());
        for counter in held {
            // A refund comes off the last of its starts first: the limiter may refund less, and is then the stricter.
            let mut left = refunded;
            let own = |start: &&mut Start| {
                start.lease == number && start.counter == counter && start.rate.counts == Counts::Cost
            };
            let mut kinds: Vec<(Rate, u64)> = Vec::new();
            for start in self.starts.iter_mut().rev().filter(own) {
                let same =
                    |(rate, _): &&mut (Rate, u64)| (rate.mode, rate.period) == (start.rate.mode, start.rate.period);
                let left = match kinds.iter_mut().find(same) {
                    Some((_, left)) => left,
                    None => {
                        kinds.push((start.rate.clone(), left));
                        &mut kinds.last_mut().expect("just put there").1
                    }
                };
                let taken = start.units.min(*left);
                (start.units, *left) = (start.units - taken, *left - taken);
            }
            left = overrun;
            if left > 0 {
                for rate in self.limits(book, &counter, &brought).rates {
                    if rate.counts == Counts::Cost {
                        self.starts.push(Start { lease: number, counter: counter.clone(), rate, at: now, units: left });
                    }
                }
            }
        }
        let lease = &mut self.leases[index];
        lease.cost = after;
        for hold in lease.holds.values_mut() {
            hold.1 = after;
        }
        Some((refunded, overrun))
    }

    /// What the end of a lease that shares nothing says of its counters.
    pub fn ends(&mut self, now: u64, book: &RuleBook, index: usize, outcome: Outcome) {
        let lease = &self.leases[index];
        let Outcome::PushedBack(pause) = outcome else { return };
        if self.shares(lease) {
            return;
        }
        let closed: Vec<(String, u64)> = lease
            .holds
            .keys()
            .filter_map(|counter| {
                // The numbers that a request brings say nothing of pushbacks.
                let rule = self.limits(book, counter, &BTreeMap::new()).max_pushback;
                let most = rule.or(lease.leaves.contains(counter).then_some(MAX_PUSHBACK))?;
                Some((counter.clone(), now + pause.min(most).as_nanos() as u64))
            })
            .collect();
        for (counter, until) in closed {
            let hand = self.hands.entry(counter).or_default();
            hand.pushed_back_until = hand.pushed_back_until.max(until);
        }
    }

    /// What an operator has done.
    pub fn operate(&mut self, counter: &str, verb: &Verb) {
        let hand = self.hands.entry(counter.to_owned()).or_default();
        match verb {
            Verb::Pause => hand.paused = true,
            Verb::Drain => hand.draining = true,
            Verb::Resume => (hand.paused, hand.draining, hand.pushed_back_until) = (false, false, 0),
            Verb::Pin(limits) => hand.pinned = Some(limits.clone()),
            Verb::Unpin => hand.pinned = None,
            Verb::Reset => self.starts.retain(|start| start.counter != counter),
        }
    }

    /// The counters that an operator has to do with still.
    pub fn operated(&self) -> Vec<String> {
        let lasts = |hand: &Hand| hand.paused || hand.draining || hand.pinned.is_some();
        self.hands.iter().filter(|(_, hand)| lasts(hand)).map(|(counter, _)| counter.clone()).collect()
    }

    /// Takes a lease off; whoever rides on it holds its share from now on.
    pub fn end(&mut self, index: usize) -> Lease {
        let ended = self.leases.remove(index);
        for lease in &mut self.leases {
            if let Some((_, lent)) = lease.rides.take_if(|(lender, _)| *lender == ended.number) {
                let mut left = BTreeMap::new();
                for (counter, (calls, cost)) in lent {
                    let own = ended.holds.get(&counter).copied().unwrap_or_default();
                    let taken = (calls.min(own.0), cost.min(own.1));
                    let hold = lease.holds.get_mut(&counter).expect("it rides where it holds");
                    *hold = (hold.0 + taken.0, hold.1 + taken.1);
                    if taken != (calls, cost) {
                        left.insert(counter, (calls - taken.0, cost - taken.1));
                    }
                }
                // It rides on what the one that ended rode on.
                let further = ended.rides.as_ref().filter(|_| !left.is_empty());
                lease.rides = further.map(|(lender, _)| (*lender, left));
            }
        }
        ended
    }

    /// Takes off a lease that has ended by itself.
    pub fn expire(&mut self, now: u64) -> Option<Lease> {
        let index = self.leases.iter().position(|lease| lease.ends_at.is_some_and(|end| end <= now))?;
        Some(self.end(index))
    }
}
