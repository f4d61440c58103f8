//! What becomes of a lease after its grant: it is extended, settled, and ends.

use crate::acquire::nanos;
use crate::barrier::ask_owners;
use crate::counter::Counter;
use crate::history::{Start, Taken};
use crate::journal::Record;
use crate::lease::{Hold, LeasePart, Rest};
use crate::limits::Limits;
use crate::name::CounterKind;
use crate::operator::Outcome;
use crate::pages::Pages;
use crate::planted::{self, Bug};
use crate::refusal::Ended;
use crate::request::{Caller, LeaseId, LeaseRef, MAX_LEASE_LIFE};
use crate::shard::{Shard, Timer, hold_is_measured};
use crate::step::{Effect, Output, Settled, ShardSet};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// So many starts of a lease at one counter can be refunded: the original ones, and those of the last overruns.
const MAX_STARTS: usize = 256;

impl ShardSet<'_, '_> {
    /// Ends one part of a lease: gives back what it holds, settles its loans, and serves who waits for it.
    #[inline]
    pub(crate) fn release(
        &mut self,
        at: usize,
        slot: u32,
        fence: u64,
        outcome: Outcome,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let lease = LeaseRef { shard: self.shards[at].index, slot, fence };
        let stale = |shard: &Shard| shard.leases.contains(slot) && planted::is(Bug::StaleReleaseEndsAnother);
        if self.part(lease).is_none() && !stale(self.shards[at]) {
            return false;
        }
        if outcome != Outcome::Ok {
            self.note_outcome(lease, outcome, now, effects);
        }
        // First: what was pushed back is closed at its pools too before anybody is served.
        let adopted = self.shards[at].leases.get_mut(slot).and_then(|part| part.rest.as_mut());
        for lease in adopted.map(|rest| std::mem::take(&mut rest.adopted)).unwrap_or_default() {
            match self.at(lease.shard) {
                Some(at) => drop(self.release(at, lease.slot, lease.fence, outcome, now, effects)),
                None => effects.push(Effect::Release { lease, outcome }),
            }
        }
        let shard = &mut *self.shards[at];
        let part = shard.leases.remove(slot);
        shard.uncount_lease(part.caller);
        if part.ends_at != 0 {
            shard.clear_timer(part.ends_at, Timer::Expiry { slot, fence });
        }
        if let Some(secret) = part.secret() {
            shard.ids.remove(&secret);
            // At its end it is over whoever says so: what is due comes first in every step.
            let how = if part.ends_at <= now { Ended::Expired } else { Ended::from(outcome) };
            shard.record(|| Record::Ended { secret, how, at: now });
        }
        let mut freed: SmallVec<[u32; 3]> = part.holds.iter().map(|hold| hold.counter).collect();
        let (lender, loan) = (part.lender(), part.loan());
        let mut holds = part.holds;
        let mut heir = None;
        if let Some((borrower, fence)) = loan
            && let Some(riding) = shard.leases.get_mut(borrower).filter(|riding| riding.fence == fence)
        {
            hand_over(&mut holds, riding, &mut shard.counters);
            // What it rode on itself carries its borrower from now on.
            heir = loan.filter(|_| riding.holds.iter().any(Hold::rides));
            riding.set_lender(lender.filter(|_| heir.is_some()));
        }
        if let Some((lender, fence)) = lender
            && let Some(lender) = shard.leases.get_mut(lender).filter(|lender| lender.fence == fence)
        {
            lender.set_loan(heir);
            if heir.is_none() {
                // Who waits to ride on the lender may do so at any of its counters now.
                freed.extend(lender.holds.iter().map(|hold| hold.counter));
            }
        }
        let (measured, held_for) = (hold_is_measured(fence), now.saturating_sub(part.granted_at));
        for hold in &holds {
            let counter = &mut shard.counters[hold.counter];
            counter.give_back(hold, now);
            if measured || counter.mean_hold() == 0 {
                counter.held_for(held_for);
            }
            shard.sweep_later(hold.counter, now);
        }
        shard.leases.shrink();
        // Serving one counter can move waiters to another, never drop it: it was held a moment ago, so a sweep is due.
        if self.shards[at].parked > 0 && !planted::is(Bug::ReleaseWakesNobody) {
            for counter in freed {
                self.serve(at, counter, now, effects);
            }
        }
        true
    }

    /// One answer for every id that names no lease of the caller's.
    pub(crate) fn find(&self, id: LeaseId, caller: Option<Caller>) -> Output {
        let Some(shard) = self.shards.iter().find(|shard| shard.index == id.shard) else { return Output::Gone };
        let found = shard.ids.get(&id.secret).and_then(|slot| Some((*slot, shard.leases.get(*slot)?)));
        let found = found.filter(|(_, part)| {
            caller.is_none_or(|caller| part.caller == caller.0 || planted::is(Bug::ForeignLeaseFound))
        });
        match found {
            Some((slot, part)) => Output::Found(part.parts(LeaseRef { shard: id.shard, slot, fence: part.fence })),
            None => Output::Gone,
        }
    }

    /// Writes down how the work under a lease ended, at all of its parts that are at hand: before any of them is given
    /// back, or what was pushed back would be handed on.
    #[cold]
    fn note_outcome(&mut self, lease: LeaseRef, outcome: Outcome, now: u64, effects: &mut Vec<Effect>) {
        let parts = self.part(lease).map(|part| part.parts(lease)).unwrap_or_default();
        for part in parts {
            let Some(at) = self.at(part.shard) else { continue };
            if planted::is(Bug::PushbackOfOnePart) && part != lease {
                continue;
            }
            let shard = &mut *self.shards[at];
            let found = shard.leases.get(part.slot).filter(|found| found.fence == part.fence);
            let Some(holds) = found.map(|found| found.holds.clone()) else { continue };
            for hold in &holds {
                let counter = &mut shard.counters[hold.counter];
                counter.failed = counter.failed.saturating_add(1);
                if let Outcome::PushedBack(asked) = outcome {
                    shard.push_back(hold.counter, hold.leaf, asked, now);
                    if let Some(queue) = &shard.counters[hold.counter].queue {
                        ask_owners(queue, effects);
                    }
                }
            }
        }
    }

    /// All parts of a lease by its first, if all of them live.
    fn parts_of(&self, first: LeaseRef) -> Option<SmallVec<[LeaseRef; 1]>> {
        let parts = self.part(first)?.parts(first);
        parts.iter().all(|lease| self.part(*lease).is_some()).then_some(parts)
    }

    pub(crate) fn part(&self, lease: LeaseRef) -> Option<&LeasePart> {
        self.shards[self.position(lease.shard)].leases.living(lease)
    }

    /// Every part of every lease at hand.
    pub(crate) fn all_parts(&self) -> impl Iterator<Item = (LeaseRef, &LeasePart)> {
        self.shards.iter().flat_map(|shard| {
            let named = |(slot, part): (u32, &LeasePart)| LeaseRef { shard: shard.index, slot, fence: part.fence };
            shard.leases.iter().map(move |found| (named(found), found.1))
        })
    }

    pub(crate) fn extend(&mut self, lease: LeaseRef, lease_time: Duration, now: u64) -> Output {
        let (Some(first), Some(parts)) = (self.part(lease), self.parts_of(lease)) else { return Output::Gone };
        if first.ends_at == 0 {
            return Output::Extended(None);
        }
        let latest = first.granted_at.saturating_add(nanos(MAX_LEASE_LIFE));
        let end = now.saturating_add(nanos(lease_time)).min(latest).max(first.ends_at);
        for lease in parts {
            let at = self.position(lease.shard);
            let shard = &mut *self.shards[at];
            let before = std::mem::replace(&mut shard.leases[lease.slot].ends_at, end);
            let timer = Timer::Expiry { slot: lease.slot, fence: lease.fence };
            shard.clear_timer(before, timer);
            shard.set_timer(end, timer);
            // Every look at what remains is an extension by nothing.
            if end != before
                && !planted::is(Bug::ExtensionForgotten)
                && let Some(secret) = shard.leases[lease.slot].secret()
            {
                shard.record(|| Record::Extended { secret, ends_at: end });
            }
        }
        Output::Extended(Some(end))
    }

    /// Puts the cost that was really used in the place of what was asked for. Only limits that count cost change.
    ///
    /// A refund gives held cost back, and takes it out of the start that it was booked as, as far as that still counts.
    /// An overrun is held from now on, and booked as a start of its own; of more than [`MAX_STARTS`] at one counter the first
    /// are not refunded.
    pub(crate) fn settle(&mut self, lease: LeaseRef, cost: u32, now: u64, effects: &mut Vec<Effect>) -> Output {
        let Some(mut parts) = self.parts_of(lease) else { return Output::Gone };
        let rest = self.part(lease).and_then(|part| part.rest.as_ref());
        parts.extend(rest.into_iter().flat_map(|rest| rest.adopted.iter().copied()));
        if parts.iter().any(|part| self.at(part.shard).is_none()) {
            let mut shards: SmallVec<[u16; 4]> = parts.iter().map(|part| part.shard).collect();
            shards.sort_unstable();
            shards.dedup();
            return Output::Elsewhere(shards);
        }
        let (mut settled, mut rides_on_less) = (Settled::default(), false);
        let mut freed: SmallVec<[(u16, u32); 4]> = SmallVec::new();
        for part in parts {
            let at = self.position(part.shard);
            let shard = &mut *self.shards[at];
            let slot = part.slot;
            // Taken out while its counters change.
            let part = &mut shard.leases[slot];
            let (loan, mut holds) = (part.loan(), std::mem::take(&mut part.holds));
            let mut rest = part.rest.take();
            let timed = part.ends_at != 0;
            let borrower = loan.and_then(|(slot, _)| shard.leases.get(slot));
            let lent: SmallVec<[(u32, u32); 3]> = borrower.map_or_else(SmallVec::new, |borrower| {
                borrower.holds.iter().map(|hold| (hold.counter, hold.lent_cost)).collect()
            });
            for hold in &mut holds {
                if !planted::is(Bug::SettleByOldRule) {
                    shard.refresh(hold.counter);
                }
                // What somebody rides on stays until that one has ended.
                let lent = lent.iter().find(|(counter, _)| *counter == hold.counter).map_or(0, |(_, cost)| *cost);
                let kept = cost.max(lent);
                let less_ridden = hold.lent_cost.saturating_sub(kept);
                rides_on_less |= less_ridden > 0;
                let before = *hold;
                hold.lent_cost -= less_ridden;
                hold.cost = kept - hold.lent_cost;
                let changed = shard.settle_hold(&before, hold, timed, &mut rest, now);
                settled.refunded = settled.refunded.max(changed.refunded);
                settled.overrun = settled.overrun.max(changed.overrun);
                shard.book_log(hold.counter);
                freed.push((shard.index, hold.counter));
            }
            let part = &mut shard.leases[slot];
            (part.holds, part.rest) = (holds, rest);
        }
        if (settled != Settled::default() || rides_on_less)
            && let Some(secret) = self.part(lease).and_then(LeasePart::secret)
        {
            let at = self.position(lease.shard);
            self.shards[at].record(|| Record::Settled { secret, cost });
        }
        // An overrun too: whoever waits to ride on the lease may ride on more of it now.
        if settled != Settled::default() {
            for (shard, counter) in freed {
                self.serve(self.position(shard), counter, now, effects);
            }
        }
        Output::Settled(settled)
    }
}

impl Shard {
    /// A hold has another cost: at its counter and in its histories, and records that.
    fn settle_hold(
        &mut self,
        before: &Hold,
        hold: &Hold,
        timed: bool,
        rest: &mut Option<Box<Rest>>,
        now: u64,
    ) -> Settled {
        let mut taken = Taken::new();
        let settled = self.counters[hold.counter].settle(before, hold, rest, now, &mut taken);
        if self.journal.is_some() {
            self.record_refunds(hold.counter, &taken);
            let started = hold.started_cost().saturating_sub(before.started_cost());
            if started > 0 {
                let own = rest.iter().flat_map(|rest| &rest.inline).find(|(counter, _)| *counter == hold.counter);
                let own = own.map(|(_, inline)| inline);
                self.record_starts(hold.counter, own, (0, started), now, timed);
            }
        }
        settled
    }
}

impl Counter {
    /// A hold has another cost: here and in the histories. What is taken back from starts is noted in `taken`.
    fn settle(
        &mut self,
        before: &Hold,
        hold: &Hold,
        rest: &mut Option<Box<Rest>>,
        now: u64,
        taken: &mut Taken,
    ) -> Settled {
        let change = |before: u32, after: u32| (before.saturating_sub(after), after.saturating_sub(before));
        let (refunded, overrun) = change(before.cost, hold.cost);
        let kept = if planted::is(Bug::SettleKeepsHeld) { refunded } else { 0 };
        self.cost = self.cost + u64::from(overrun) + u64::from(kept) - u64::from(refunded);
        self.last_used = now;
        if hold.shadowed
            && let Some(rare) = &mut self.rare
        {
            rare.shadow.settle(before.cost, hold.cost);
        }
        let (unstarted, started) = change(before.started_cost(), hold.started_cost());
        if let Some(rest) = rest.as_mut().filter(|_| unstarted > 0) {
            let starts = rest.starts.iter_mut().filter(|(counter, _)| *counter == hold.counter);
            self.histories.refund(starts.map(|(_, start)| start), unstarted, now, taken);
            rest.starts.retain(|(_, start)| start.is_left());
        }
        if started > 0 {
            let rule = self.rule.take();
            let own = rest.iter().flat_map(|rest| &rest.inline).find(|(counter, _)| *counter == hold.counter);
            let own = own.map(|(_, inline)| Arc::clone(inline));
            let none = Limits::default();
            let limits = Self::limits(rule.as_ref(), own.as_ref()).unwrap_or(&none);
            self.histories.start_all(limits, self.kind == CounterKind::Inline, now, (0, started), |start| {
                rest.get_or_insert_default().starts.push((hold.counter, start));
            });
            self.rule = rule;
            if let Some(rest) = rest {
                forget_first_starts(&mut rest.starts, hold.counter);
            }
        }
        Settled { refunded: refunded.max(unstarted), overrun: overrun.max(started) }
    }
}

/// Lets go of the first starts of a lease at a counter, where it was settled up too often: they can be refunded no more.
fn forget_first_starts(starts: &mut Vec<(u32, Start)>, counter: u32) {
    let here = starts.iter().filter(|(at, _)| *at == counter).count();
    for _ in MAX_STARTS..here {
        if let Some(first) = starts.iter().position(|(at, _)| *at == counter) {
            starts.remove(first);
        }
    }
}

/// Moves what a borrower rode on from the lender that ends to the borrower, which holds it from now on, but for what the
/// lender rode on itself.
fn hand_over(holds: &mut SmallVec<[Hold; 3]>, borrower: &mut LeasePart, counters: &mut Pages<Counter>) {
    for borrowed in &mut borrower.holds {
        if let Some(own) = holds.iter_mut().find(|own| own.counter == borrowed.counter) {
            let takes_call = borrowed.lent_call && own.calls > 0;
            let (calls, cost) = (u32::from(takes_call), borrowed.lent_cost.min(own.cost));
            borrowed.lent_call &= !takes_call;
            borrowed.lent_cost -= cost;
            // The shadow goes on with what it has said of each; who held nothing comes into what it said of the lender.
            if !borrowed.takes_any() {
                borrowed.shadowed = own.shadowed;
            }
            if let Some(rare) = counters[own.counter].rare.as_mut().filter(|_| own.shadowed != borrowed.shadowed) {
                rare.shadow.hand_over((calls, cost), borrowed.shadowed);
            }
            own.calls -= calls;
            own.cost -= cost;
            borrowed.calls += calls;
            borrowed.cost += cost;
        }
    }
}
