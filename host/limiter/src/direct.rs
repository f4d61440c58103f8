//! The short way: most requests name one scope, find room, and end before anybody has to wait for them.
//!
//! Such a grant needs no list of shards, no effects and no refusal, so it is decided here with the same questions
//! ([`stand`]) and the same bookings ([`charge`]) as everywhere else, and nothing around them. Whatever is out of the
//! ordinary (a counter that is not there yet, a limit in the way, a timer that is due, a cap) is no answer: the caller
//! then goes the whole way, by [`crate::ShardSet::step`], which decides the same from the start.

use crate::acquire::{Standing, stand};
use crate::commit::charge;
use crate::lease::{Hold, LeasePart};
use crate::name::ScopedKey;
use crate::request::{Caller, Grant, LeaseRef, MAX_WEIGHT, Request};
use crate::shard::{Shard, hold_is_measured};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// What was granted the short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lease: a single part.
    pub lease: LeaseRef,
    /// The fencing number.
    pub fence: u64,
    /// The version of the rule book that decided.
    pub book_version: u64,
}

impl From<Taken> for Grant {
    fn from(taken: Taken) -> Self {
        Self {
            parts: SmallVec::from_buf([taken.lease]),
            fence: taken.fence,
            book_version: taken.book_version,
            ends_at: None,
            waited: 0,
            more: Vec::new(),
        }
    }
}

impl Request {
    /// The key and cost of a valid request that can go the short way: one scope, no loan, no end, no batch.
    #[inline]
    #[must_use]
    pub fn direct(&self) -> Option<(&ScopedKey, NonZeroU32)> {
        match self.targets.as_slice() {
            [key]
                if self.inline.is_empty()
                    && self.lend_from.is_none()
                    && self.lease_time.is_none()
                    && self.idempotency_key.is_none()
                    && self.count == NonZeroU32::MIN
                    && self.least == NonZeroU32::MIN
                    && self.weight.get() <= MAX_WEIGHT =>
            {
                Some((key, self.cost))
            }
            _ => None,
        }
    }
}

impl Shard {
    /// Grants a held lease on the spot if nothing is out of the ordinary. `scope_hash` is [`crate::Placement::hash`] of
    /// the key's scope, which its caller has made to find this shard.
    #[inline]
    pub fn take(
        &mut self,
        now: u64,
        key: &ScopedKey,
        scope_hash: u64,
        cost: NonZeroU32,
        caller: Caller,
    ) -> Option<Taken> {
        let now = now.max(self.now);
        // From half of the cap on, it is shared out between callers.
        if self.closed || self.next_due <= now || self.leases.len() >= self.limits.max_leases / 2 {
            return None;
        }
        let mut holds: SmallVec<[Hold; 3]> = SmallVec::new();
        for depth in 1..=key.depth() {
            let name = key.prefix(depth);
            let hash = if depth == 1 { scope_hash } else { self.placement.hash(name) };
            let counter = self.present(hash, name)?;
            let hold = Hold { leaf: depth == key.depth(), ..Hold::new(counter, 1, cost.get()) };
            let found = &mut self.counters[counter];
            if found.waiting() > 0
                || found.rare.is_some()
                || found.starts_a_log() && self.log_entries >= self.limits.max_log_entries
                || stand(found, &hold, None, None, now) != Standing::Fits
            {
                return None;
            }
            holds.push(hold);
        }
        self.now = now;
        let fence = now.max(self.sequence + 1);
        self.sequence = fence;
        let mut part = LeasePart::held(fence, holds, now, caller.0);
        for hold in &part.holds {
            charge(self, hold, None, now, 0, &mut part.rest);
        }
        self.metrics.granted += 1;
        self.count_lease(caller.0);
        let book_version = self.book.version();
        let slot = self.leases.insert(part) as u32;
        Some(Taken { lease: LeaseRef { shard: self.index, slot, fence }, fence, book_version })
    }

    /// Ends a lease part on the spot if nobody waits and nothing rides on it; false: not done, go the whole way.
    ///
    /// Needs no time: where it would matter, it does not answer.
    #[inline]
    pub fn give_back(&mut self, lease: LeaseRef) -> bool {
        if self.parked > 0 || hold_is_measured(lease.fence) {
            return false;
        }
        match self.leases.get(lease.slot as usize) {
            Some(part) if part.fence == lease.fence && part.is_plain() => {}
            _ => return false,
        }
        let part = self.leases.remove(lease.slot as usize);
        self.uncount_lease(part.caller);
        let now = self.now;
        for hold in &part.holds {
            self.counters[hold.counter].give_back(hold, now);
            self.sweep_later(hold.counter, now);
        }
        true
    }
}
