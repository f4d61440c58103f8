//! The model: who holds what and what has started, as lists that are added up anew at every question.
//!
//! It decides nothing. It is told what the limiter granted, and says whether that was within the limits in force.
//!
//! A lease that rides on another holds what exceeds its lender's share, and takes that share over when the lender ends
//! first. Worked example: a lender of cost 3 and a borrower of cost 5 hold 1 call and 5 units together; when the lender
//! ends, the borrower alone holds 1 call and 5 units.

use std::collections::BTreeMap;
use weir_limiter::{Concurrency, Counts, Grant, LeaseId, LeaseRef, Limits, Mode, Rate, Request, RuleBook};

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
    holds: BTreeMap<String, Units>,
    rides: Option<(u64, BTreeMap<String, Units>)>,
}

#[derive(Debug)]
struct Start {
    counter: String,
    rate: Rate,
    at: u64,
    units: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    /// The leases, oldest first.
    pub leases: Vec<Lease>,
    starts: Vec<Start>,
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
    all
}

/// What the rule that binds a counter limits: of those that match, the one whose parts are exact the earliest.
fn limits(book: &RuleBook, counter: &str) -> Limits {
    let matches = |pattern: &str| {
        pattern.split('/').count() == counter.split('/').count()
            && pattern.split('/').zip(counter.split('/')).all(|(part, name)| part == "*" || part == name)
    };
    book.rules()
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

    /// Takes a grant in, and checks it.
    ///
    /// # Panics
    /// When it is above a limit, or its fencing number is not above the last one.
    pub fn grant(&mut self, now: u64, book: &RuleBook, request: &Request, grant: &Grant, secret: Option<u128>) {
        assert_eq!(grant.book_version, book.version());
        let lender = request.lend_from.and_then(|part| self.lender(part));
        let mut lent = BTreeMap::new();
        let mut holds = BTreeMap::new();
        for counter in counters(request) {
            let whole = (1, u64::from(request.cost.get()));
            let share = lender.and_then(|lender| lender.holds.get(&counter)).copied().unwrap_or_default();
            let ride = (share.0.min(whole.0), share.1.min(whole.1));
            if ride != (0, 0) {
                lent.insert(counter.clone(), ride);
            }
            holds.insert(counter, (whole.0 - ride.0, whole.1 - ride.1));
        }
        let lender = lender.map(|lender| lender.number);
        for (counter, need) in &holds {
            self.check(now, book, counter, *need);
            let last = self.fences.insert(counter.clone(), grant.fence);
            assert!(last.is_none_or(|last| last < grant.fence), "{counter}: fence {} after {last:?}", grant.fence);
        }
        self.numbers += 1;
        self.leases.push(Lease {
            parts: grant.parts.to_vec(),
            id: secret.map(|secret| LeaseId { shard: grant.parts[0].shard, secret }),
            granted_at: now,
            ends_at: grant.ends_at,
            number: self.numbers,
            holds,
            rides: lender.filter(|_| !lent.is_empty()).map(|lender| (lender, lent)),
        });
    }

    /// The lease of this part, unless it lends to another already.
    fn lender(&self, part: LeaseRef) -> Option<&Lease> {
        let lender = self.leases.iter().find(|lease| lease.parts.contains(&part))?;
        let lends = |lease: &Lease| lease.rides.as_ref().is_some_and(|(number, _)| *number == lender.number);
        (!self.leases.iter().any(lends)).then_some(lender)
    }

    /// Checks what a grant takes at one counter, and writes down what it starts.
    fn check(&mut self, now: u64, book: &RuleBook, counter: &str, need: Units) {
        let limits = limits(book, counter);
        if let Some(Concurrency { limit, counts }) = limits.concurrency
            && units(need, counts) > 0
        {
            let after = units(self.held(counter), counts) + units(need, counts);
            assert!(after <= u64::from(limit), "{counter}: {after}/{limit} {counts:?} at once");
        }
        for rate in limits.rates {
            let units = units(need, rate.counts);
            if units > 0 {
                self.starts.push(Start { counter: counter.to_owned(), rate: rate.clone(), at: now, units });
                self.check_rate(counter, &rate);
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

    /// Takes a lease off; whoever rides on it holds its share from now on.
    pub fn end(&mut self, index: usize) -> Lease {
        let ended = self.leases.remove(index);
        for lease in &mut self.leases {
            if let Some((_, lent)) = lease.rides.take_if(|(lender, _)| *lender == ended.number) {
                for (counter, (calls, cost)) in lent {
                    let hold = lease.holds.get_mut(&counter).expect("it rides where it holds");
                    *hold = (hold.0 + calls, hold.1 + cost);
                }
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
