//! What a request names to ride on, and what is noted where it does. The rules are those of [`crate::lease`].
//!
//! A request names all parts of a lease. Of each it rides on what that holds, unless it is lent to another; and whoever waits for what the
//! lease is on lets the request by, lent or not: see the module `order`.

use crate::lease::{Hold, LeasePart, Offer};
use crate::planted::{self, Bug};
use crate::request::{LeaseRef, Request};
use crate::shard::Shard;
use crate::step::ShardSet;
use crate::waiting::Spot;
use smallvec::SmallVec;

/// Takes off what is needed at a counter and can be ridden on.
#[cold]
pub(crate) fn ride(lender: &LeasePart, hold: &mut Hold) {
    if let Some(lent) = lender.holds.iter().find(|lent| lent.counter == hold.counter) {
        let (calls, cost) = lent.whole();
        hold.lent_call = calls > 0;
        hold.lent_cost = cost.min(hold.cost);
        hold.calls -= u32::from(hold.lent_call);
        hold.cost -= hold.lent_cost;
        hold.anew = lent.start_is_lent() && hold.rides() && !planted::is(Bug::StartLentAgain);
    }
}

impl ShardSet<'_, '_> {
    /// The part in a shard of the lease that a request names, if it lives, by its slot.
    #[inline]
    pub(crate) fn named_in(&self, at: usize, request: &Request) -> Option<u32> {
        let named = request.rides_on();
        if named.is_empty() { None } else { self.shards[at].leases.named(self.shards[at].index, named) }
    }

    /// The counters at hand that the lease is on which a request names.
    pub(crate) fn named_on(&self, request: &Request) -> SmallVec<[Spot; 3]> {
        if request.rides_on().is_empty() {
            return SmallVec::new();
        }
        let here = (0..self.shards.len()).filter_map(|at| Some((&self.shards[at], self.named_in(at, request)?)));
        here.flat_map(|(shard, slot)| shard.leases[slot].holds.iter().map(|hold| (shard.index, hold.counter))).collect()
    }

    /// Whether a part of the lease that it names is not at hand: somebody may wait for what that holds.
    #[inline]
    pub(crate) fn names_others(&self, request: &Request) -> bool {
        request
            .rides_on()
            .iter()
            .any(|part| part.shard < self.shards[0].placement.shards() && self.at(part.shard).is_none())
    }
}

impl Shard {
    /// What a part of a lease has for a request that would ride on it; `None`: it is on none of its counters, or has ended.
    #[must_use]
    pub fn offer(&self, part: LeaseRef, request: &Request) -> Option<Offer> {
        let part = self.leases.living(part)?;
        let named = request.targets.iter().flat_map(|key| (1..=key.depth()).map(|depth| key.prefix(depth)));
        let names = named.chain(request.inline.iter().map(|inline| inline.name.as_str()));
        let held = |name: &str| {
            let mut holds = part.holds.iter().filter(|hold| hold.whole() != (0, 0));
            holds.any(|hold| self.counters[hold.counter].name.as_str() == name)
        };
        let counters = names.filter(|name| held(name)).count();
        (counters > 0).then_some(Offer { counters, lent_to: part.loan().map(|(_, fence)| fence).into_iter().collect() })
    }

    /// Notes at a lender that a lease rides on it, and on its starts where that is none of its own.
    #[cold]
    pub(crate) fn lend(&mut self, lender: u32, borrower: u32) {
        for index in 0..self.leases[borrower].holds.len() {
            self.lend_hold(lender, borrower, index);
        }
    }

    /// The same, of one of its holds.
    pub(crate) fn lend_hold(&mut self, lender: u32, borrower: u32, index: usize) {
        let fence = self.leases[borrower].fence;
        self.leases[lender].set_loan(Some((borrower, fence)));
        let hold = &mut self.leases[borrower].holds[index];
        if hold.rides() && !hold.anew {
            hold.spend(0);
            let (counter, cost) = (hold.counter, hold.lent_cost);
            if let Some(lent) = self.leases[lender].holds.iter_mut().find(|lent| lent.counter == counter) {
                lent.spend(cost);
            }
        }
    }
}
