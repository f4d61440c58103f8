//! A pool that comes into force counts what is held already.
//!
//! Whoever is granted something takes it from every pool that its counters belong to at that moment. Those who hold something when a rule with
//! `total` is put in force, or enabled again, would be free of it until they end, and the pool would let in as many more. So each of them
//! is given what it would hold at the pool: in the part of its lease that lies in the pool's shard, or in one more part, which ends with the
//! first. Rates count from now on: what was started before is not known by pool.
//!
//! # Bounds
//! O(leases), all shards at hand, and only when a pool comes into force.

use crate::book::RuleBook;
use crate::lease::{Hold, LeasePart};
use crate::name::CounterKind;
use crate::pattern::Pattern;
use crate::request::LeaseRef;
use crate::step::ShardSet;
use crate::waiting::Spot;
use hashbrown::HashSet;
use smallvec::SmallVec;

impl ShardSet<'_, '_> {
    /// After a change of rules from `before`: every lease holds its share of the pools that are new.
    pub(crate) fn adopt(&mut self, before: &RuleBook, now: u64) {
        let is_new = |pattern: &Pattern| before.pool(pattern.as_str()).is_none();
        let book = &self.shards[0].book;
        if !book.rules().any(|rule| book.pool(rule.pattern.as_str()).is_some() && is_new(&rule.pattern)) {
            return;
        }
        let rests = self.shards.iter().flat_map(|shard| shard.leases.iter()).filter_map(|(_, part)| part.rest.as_ref());
        let later = rests.flat_map(|rest| rest.parts.iter().skip(1).chain(&rest.adopted));
        let later: HashSet<LeaseRef> = later.copied().collect();
        for at in 0..self.shards.len() {
            let shard = &*self.shards[at];
            let all = shard.leases.iter().map(|(slot, part)| LeaseRef { shard: shard.index, slot, fence: part.fence });
            let first: Vec<LeaseRef> = all.filter(|part| !later.contains(part)).collect();
            for part in first {
                self.adopt_lease(at, part, now);
            }
        }
    }

    /// `first`: the first part of a lease.
    fn adopt_lease(&mut self, at: usize, first: LeaseRef, now: u64) {
        let Some(part) = self.part(first) else { return };
        let (caller, granted_at) = (part.caller, part.granted_at);
        let parts = part.parts(first);
        let adopted = part.rest.as_ref().map(|rest| rest.adopted.clone()).unwrap_or_default();
        let mut has: SmallVec<[Spot; 4]> = SmallVec::new();
        let mut wanted: SmallVec<[(Pattern, u32, u32); 2]> = SmallVec::new();
        for part in parts.iter().chain(&adopted) {
            let Some(holds) = self.part(*part).map(|part| part.holds.clone()) else { continue };
            let at = self.position(part.shard);
            for hold in holds {
                let shard = &mut *self.shards[at];
                shard.refresh(hold.counter);
                let counter = &shard.counters[hold.counter];
                if counter.kind == CounterKind::Pool {
                    has.push((part.shard, hold.counter));
                }
                let totals = counter.rare.as_ref().map_or(&[][..], |rare| &rare.totals);
                for rule in totals.iter().filter(|_| hold.takes_any()) {
                    if !wanted.iter().any(|(pattern, ..)| *pattern == rule.pattern) {
                        wanted.push((rule.pattern.clone(), hold.calls, hold.cost));
                    }
                }
            }
        }
        for (pool, calls, cost) in wanted {
            let home = self.position(self.shards[0].placement.shard_of(pool.scope()));
            let shard = &mut *self.shards[home];
            let Some(counter) = shard.counter(pool.as_str(), CounterKind::Pool, 0, usize::MAX) else { continue };
            if has.contains(&(shard.index, counter)) {
                continue;
            }
            let hold = Hold::new(counter, calls, cost);
            shard.counters[counter].hold(&hold, now);
            if let Some(part) = parts.iter().find(|part| part.shard == shard.index) {
                shard.leases[part.slot].holds.push(hold);
                continue;
            }
            let mut part = LeasePart::held(first.fence, granted_at, caller);
            part.holds.push(hold);
            shard.count_lease(caller);
            let own = LeaseRef { shard: shard.index, slot: shard.leases.insert(part), fence: first.fence };
            self.shards[at].leases[first.slot].rest.get_or_insert_default().adopted.push(own);
        }
    }
}
