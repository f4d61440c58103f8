//! Putting back what has survived a restart: before the first request, and in this order: the book, the sequence, what is
//! said of counters, what was started, what is held.
//!
//! Nothing is asked and nothing is started here: what was granted once stays granted, above a limit too if that was lowered
//! since. Caps are for newcomers.

use crate::acquire::{Site, Sites, own};
use crate::journal::{GrantedLease, RateKind, SmoothState};
use crate::lease::{Hold, LeasePart};
use crate::limits::Counts;
use crate::name::CounterName;
use crate::operator::HandState;
use crate::planted::{self, Bug};
use crate::request::{LeaseRef, Request};
use crate::shard::Timer;
use crate::step::{Output, ShardSet};
use smallvec::SmallVec;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Something that has survived.
#[derive(Debug, Clone)]
pub enum Restored<'a> {
    /// Fencing numbers and tickets are larger than this from now on.
    Sequence(u64),
    /// What an operator or a pushback had said of a counter.
    Hand {
        /// The counter.
        counter: &'a CounterName,
        /// What.
        hand: &'a HandState,
    },
    /// What a counter had started under one rate.
    Starts {
        /// The counter.
        counter: &'a CounterName,
        /// Under which rate.
        kind: RateKind,
        /// When, ascending, and how many units; of a window.
        starts: &'a [(u64, u64)],
        /// How it stands, if it is smooth.
        smooth: Option<SmoothState>,
        /// What was booked ahead when the process ended.
        booked: u32,
    },
    /// A timed lease that has not ended.
    Lease {
        /// As it was granted, its end as it was extended since.
        lease: &'a GrantedLease,
    },
}

impl ShardSet<'_, '_> {
    pub(crate) fn restore(&mut self, what: &Restored<'_>, now: u64) -> Output {
        match what {
            Restored::Sequence(sequence) => {
                for shard in self.shards.iter_mut().filter(|_| !planted::is(Bug::RestartRepeatsFence)) {
                    shard.sequence = shard.sequence.max(*sequence);
                }
            }
            Restored::Hand { counter, hand } => self.restore_hand(counter, hand, now),
            Restored::Starts { counter, kind, starts, smooth, booked } => {
                let Some((at, slot)) = self.restored_counter(counter) else { return Output::Done };
                let shard = &mut *self.shards[at];
                let booked = if planted::is(Bug::BookedForgotten) { 0 } else { *booked };
                let history = shard.counters[slot].histories.restore(*kind, starts, *smooth, booked, now);
                if let (Some(journal), Some(history), 1..) = (&mut shard.journal, history, booked) {
                    journal.reopened(slot, history, booked, now);
                }
                let counter = &mut shard.counters[slot];
                counter.last_used = now;
                // It was written down at the pace of a rule that may have changed since.
                if counter.at_pace_in_force(now) {
                    shard.record_paces(slot);
                }
                shard.book_log(slot);
                shard.sweep_later(slot, now);
            }
            Restored::Lease { lease } => self.restore_lease(lease, now),
        }
        Output::Done
    }

    fn restored_counter(&mut self, name: &CounterName) -> Option<(usize, u32)> {
        let at = self.position(self.shards[0].placement.shard_of(name.scope()));
        let slot = self.shards[at].counter(name.as_str(), name.kind(), 0, usize::MAX)?;
        Some((at, slot))
    }

    fn restore_hand(&mut self, name: &CounterName, state: &HandState, now: u64) {
        if state.is_empty(now) || planted::is(Bug::PauseForgotten) {
            return;
        }
        let Some((at, slot)) = self.restored_counter(name) else { return };
        let shard = &mut *self.shards[at];
        let book = Arc::clone(&shard.book);
        let counter = &mut shard.counters[slot];
        let hand = &mut counter.rare.get_or_insert_default().hand;
        (hand.paused, hand.draining) = (state.paused, state.draining);
        hand.pushed_back_until = state.pushed_back_until;
        if let Some(limits) = &state.pinned {
            hand.pin(name.as_str(), limits.clone());
        }
        counter.refresh(&book, now);
        counter.last_used = now;
        shard.sweep_later(slot, now);
    }

    fn restore_lease(&mut self, lease: &GrantedLease, now: u64) {
        // It holds what it has by itself: whom it has ridden on is not written down.
        let request = Request { least: NonZeroU32::MIN, lend_from: SmallVec::new(), ..lease.request.clone() };
        let mut sites = Sites::new();
        self.locate_for_show(&request, &mut sites);
        // The shard of its id first: there it is found, whatever pools have come and gone since.
        let first = self.position(lease.shard);
        let mut order: SmallVec<[usize; 4]> = SmallVec::from_slice(&[first]);
        order.extend(sites.iter().map(|site| site.at));
        let mut parts: SmallVec<[LeaseRef; 1]> = SmallVec::new();
        for (index, at) in order.iter().copied().enumerate() {
            if order[..index].contains(&at) {
                continue;
            }
            let mut part = LeasePart::held(lease.fence, lease.granted_at, request.caller.0);
            part.ends_at = lease.ends_at;
            let shard = &mut *self.shards[at];
            for site @ Site { hold, .. } in sites.iter().filter(|site| site.at == at) {
                let cost = lease.settled.unwrap_or(hold.cost);
                let hold = Hold { leaf: hold.leaf, ..Hold::new(hold.counter, hold.calls, cost) };
                shard.counters[hold.counter].hold(&hold, now);
                part.holds.push(hold);
                let counts_cost =
                    |limits: &crate::limits::Limits| limits.rates.iter().any(|rate| rate.counts == Counts::Cost);
                if let Some(own) = own(&request.inline, site).filter(|own| counts_cost(&own.limits)) {
                    part.rest.get_or_insert_default().inline.push((hold.counter, Arc::clone(own)));
                }
            }
            shard.count_lease(request.caller.0);
            let slot = shard.leases.insert(part);
            shard.set_timer(lease.ends_at, Timer::Expiry { slot, fence: lease.fence });
            parts.push(LeaseRef { shard: shard.index, slot, fence: lease.fence });
        }
        let shard = &mut *self.shards[first];
        let slot = parts[0].slot;
        shard.ids.insert(lease.secret, slot);
        let rest = shard.leases[slot].rest.get_or_insert_default();
        rest.secret = Some(lease.secret);
        if parts.len() > 1 {
            rest.parts = parts;
        }
    }
}
