//! Explain: which rules bind a request and why not the others, what is used, who stands before it, when it would be
//! admitted, and what would change that. With no effect.
//!
//! The time is not computed by a formula: the state is copied, the request joins the copy, and the copy is run forward,
//! from timer to timer, with everybody who waits in it, until the request is granted. What rates say is exact if nothing
//! else arrives. When a holder ends nobody knows: it is taken to hold as long as the mean at its counters, and the
//! answer says that it is an estimate. Whoever goes before it may need counters in other shards: the caller is asked for these, and the copy
//! is made anew with them.
//!
//! # Bounds
//! O(state of the shards that the request, and those before it, lie in), and not at all where that is more than [`MAX_STATE`] entries: an
//! operator's question must not hold up everybody else's.

use crate::acquire::{Arrival, Sites};
use crate::binding::RuleStanding;
use crate::book::Rule;
use crate::describe::{UNKNOWN_HOLD, Which};
use crate::lease::LeasePart;
use crate::name::CounterKind;
use crate::operator::Outcome;
use crate::refusal::{Constraint, Reason, Refusal};
use crate::request::{LeaseRef, Request};
use crate::shard::Shard;
use crate::snapshot::CounterSnapshot;
use crate::step::{Effect, Input, ShardSet};
use hashbrown::HashSet;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// The most counters, leases and waiters that are copied to look ahead, in all the shards together: a few milliseconds.
const MAX_STATE: usize = 10_000;
/// The most events that are looked ahead.
const MAX_EVENTS: usize = 20_000;

/// Why a request would be granted or not, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What it would get now if it did not wait: nothing in its way, or the refusal; `overloaded` where it could not wait either.
    pub refusal: Option<Refusal>,
    /// Its counters, in the order in which they are asked.
    pub counters: Vec<ExplainedCounter>,
    /// How many stand before it at the first counter that is in its way; absent when it need not wait.
    pub position: Option<usize>,
    /// When it would be admitted; absent when it never is, not within its wait, or too much would have to be looked at.
    pub forecast: Option<Forecast>,
    /// The version of the rule book that was asked.
    pub book_version: u64,
}

/// One counter of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedCounter {
    /// What is used there.
    pub counter: CounterSnapshot,
    /// Every rule that matches, best rank first, and how it stands.
    pub rules: Vec<(Arc<Rule>, RuleStanding)>,
    /// Every limit that holds for the request there.
    pub constraints: Vec<Constraint>,
}

/// When a request would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// From now.
    pub admitted_in: Duration,
    /// Whether it rests on how long leases were held so far. Else it is exact if nothing else arrives.
    pub estimated: bool,
}

/// Why a copy was not run forward to the end.
enum Outlook {
    /// The request could not even wait.
    Refused(Refusal),
    /// Somebody before it needs these shards too.
    Elsewhere(SmallVec<[u16; 4]>),
}

impl ShardSet<'_, '_> {
    /// Explains a request that may wait.
    ///
    /// # Errors
    /// The shards that are needed, where not all of them are at hand.
    pub(crate) fn explain(&mut self, request: &Request, now: u64) -> Result<Explanation, SmallVec<[u16; 4]>> {
        // Those of a pool too that binds only others: the copy is run with all of them.
        let needed = self.shards_of(request);
        if needed.iter().any(|shard| self.at(*shard).is_none()) {
            return Err(needed);
        }
        let mut refusal = self.check(now, request).ok_or(needed)?.err();
        let forecast = match refusal {
            None => Some(Forecast { admitted_in: Duration::ZERO, estimated: false }),
            // The copy writes nothing down.
            Some(ref refusal) if refusal.reason == Reason::Unavailable => None,
            Some(_) => match self.forecast(request, now) {
                Ok(forecast) => forecast,
                // It could not even wait.
                Err(Outlook::Refused(refused)) => {
                    refusal = Some(refused);
                    None
                }
                Err(Outlook::Elsewhere(shards)) => {
                    let mut shards: SmallVec<[u16; 4]> =
                        shards.into_iter().chain(self.shards.iter().map(|shard| shard.index)).collect();
                    shards.sort_unstable();
                    shards.dedup();
                    return Err(shards);
                }
            },
        };
        let mut sites = Sites::new();
        self.locate_for_show(request, &mut sites);
        let mut counters = Vec::new();
        for site in &sites {
            let one = Sites::from_slice(&[*site]);
            let constraints = self.describe(now, &one, request, None, Which::Binding);
            let shard = &mut *self.shards[site.at];
            let counter = &mut shard.counters[site.hold.counter];
            let rules = match counter.kind {
                CounterKind::Named => shard.book.matching(&counter.name),
                CounterKind::Pool => shard
                    .book
                    .pool(&counter.name)
                    .map(|rule| (Arc::clone(rule), RuleStanding::BindsPool))
                    .into_iter()
                    .collect(),
                CounterKind::Inline => Vec::new(),
            };
            counters.push(ExplainedCounter { counter: CounterSnapshot::of(counter, now), rules, constraints });
        }
        let position = refusal.as_ref().map(|_| self.position_of(request, &sites, now));
        self.leave_no_trace(&sites, now);
        Ok(Explanation { refusal, counters, position, forecast, book_version: self.shards[0].book.version() })
    }

    /// How many stand before a newcomer: in its line, or at the counter of its sites where most wait.
    fn position_of(&self, request: &Request, sites: &Sites, now: u64) -> usize {
        let parking = self.line_of(request, sites).map(|found| found.parking);
        let before = sites.iter().map(|site| {
            let counter = &self.shards[site.at].counters[site.hold.counter];
            let place = parking.and_then(|parking| parking.at(self.spot(site)));
            counter.waitlist().map_or(0, |waitlist| waitlist.before(place, true, request.rank(), now))
        });
        before.max().unwrap_or(0)
    }

    /// When a newcomer would be granted. It is exact where it is the same though no holder ends before its time.
    ///
    /// # Errors
    /// See [`Outlook`].
    fn forecast(&self, request: &Request, now: u64) -> Result<Option<Forecast>, Outlook> {
        let Some(expected) = self.run_forward(request, now, true)? else { return Ok(None) };
        let estimated = !expected.is_zero() && self.run_forward(request, now, false)? != Some(expected);
        Ok(Some(Forecast { admitted_in: expected, estimated }))
    }

    /// Runs a copy of the state forward until a newcomer is granted, in which holders end when they are expected to, or
    /// only when their leases do.
    ///
    /// # Errors
    /// See [`Outlook`].
    fn run_forward(&self, request: &Request, now: u64, holders_end: bool) -> Result<Option<Duration>, Outlook> {
        let size = |shard: &Shard| shard.counters.len() + shard.leases.len() + shard.places.len();
        if self.shards.iter().map(|shard| size(shard)).sum::<usize>() > MAX_STATE {
            return Ok(None);
        }
        let mut copies: Vec<Shard> = self.shards.iter().map(|shard| (**shard).clone()).collect();
        for copy in &mut copies {
            copy.journal = None;
            // Else the first that is expected to end would teach the rest.
            for (_, counter) in copy.counters.iter_mut().filter(|(_, counter)| counter.mean_hold() == 0) {
                counter.held_for(UNKNOWN_HOLD);
            }
        }
        let mut copies: Vec<&mut Shard> = copies.iter_mut().collect();
        let mut copy = ShardSet::new(&mut copies);
        let mut effects = Vec::new();
        let mut ends = if holders_end { copy.expected_ends(now) } else { BinaryHeap::new() };
        let waiter = match copy.arrive(now, request, true, &[], &mut effects) {
            Arrival::Granted(_) => return Ok(Some(Duration::ZERO)),
            Arrival::Waiting(waiter) => waiter,
            Arrival::Refused(refusal) => return Err(Outlook::Refused(refusal)),
            Arrival::Elsewhere => return Ok(None),
        };
        let place = copy.at(waiter.shard).and_then(|at| copy.shards[at].place(waiter));
        let latest = place.map_or(now, |place| place.waiter.deadline);
        let mut at = now;
        for _ in 0..MAX_EVENTS {
            let mut next = 0;
            while let Some(effect) = effects.get(next).cloned() {
                next += 1;
                match effect {
                    Effect::Granted { waiter: granted, .. } if granted == waiter => {
                        return Ok(Some(Duration::from_nanos(at - now)));
                    }
                    Effect::Refused { waiter: refused, .. } if refused == waiter => return Ok(None),
                    Effect::Granted { grant, .. } if holders_end => {
                        for lease in grant.more.iter().chain([&grant]).flat_map(|grant| &grant.parts) {
                            ends.push(copy.expected_end(*lease, at));
                        }
                    }
                    Effect::Granted { .. } | Effect::Refused { .. } => {}
                    // Of a part that is not at hand.
                    Effect::Release { lease, .. } => {
                        return Err(Outlook::Elsewhere(SmallVec::from_slice(&[lease.shard])));
                    }
                    Effect::Retry { waiter, shards } if shards.iter().all(|shard| copy.at(*shard).is_some()) => {
                        copy.step(at, Input::Retry { waiter }, &mut effects);
                    }
                    Effect::Retry { shards, .. } => return Err(Outlook::Elsewhere(shards)),
                }
            }
            let due = copy.shards.iter().filter_map(|shard| shard.next_due()).min().unwrap_or(u64::MAX);
            let end = ends.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            at = due.min(end);
            if at > latest {
                return Ok(None);
            }
            let input = match ends.peek() {
                Some(Reverse((_, shard, slot, fence))) if end <= due => {
                    let lease = LeaseRef { shard: *shard, slot: *slot, fence: *fence };
                    ends.pop();
                    Input::Release { lease, outcome: Outcome::Ok }
                }
                _ => Input::Tick,
            };
            effects.clear();
            copy.step(at, input, &mut effects);
        }
        Ok(None)
    }

    /// When everybody who holds anything is expected to end. What a lease was given since ends with its first part.
    fn expected_ends(&self, now: u64) -> BinaryHeap<Reverse<(u64, u16, u32, u64)>> {
        let rests = self.all_parts().filter_map(|(_, part)| part.rest.as_ref());
        let adopted: HashSet<LeaseRef> = rests.flat_map(|rest| rest.adopted.iter().copied()).collect();
        let own = self.all_parts().filter(|(lease, _)| !adopted.contains(lease));
        own.map(|(lease, _)| self.expected_end(lease, now)).collect()
    }

    fn expected_end(&self, lease: LeaseRef, now: u64) -> Reverse<(u64, u16, u32, u64)> {
        let shard = self.at(lease.shard).map(|at| &*self.shards[at]);
        let part = shard.and_then(|shard| Some((shard, shard.leases.get(lease.slot)?)));
        let at = part.map_or(now, |(shard, part)| now.max(expected_end(shard, part, now)));
        Reverse((at, lease.shard, lease.slot, lease.fence))
    }
}

fn expected_end(shard: &Shard, part: &LeasePart, now: u64) -> u64 {
    let means = part.holds.iter().map(|hold| shard.counters[hold.counter].mean_hold());
    let mean = means.filter(|mean| *mean > 0).max().unwrap_or(UNKNOWN_HOLD);
    let expected = part.granted_at.saturating_add(mean);
    // Who has held for longer than the mean has as long again before it.
    if expected > now { expected } else { now.saturating_add(mean) }
}
