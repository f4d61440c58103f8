//! A pool that comes into force counts what is held already.
//!
//! Whoever is granted something takes it from every pool that its counters belong to at that moment. Those who hold something when a rule with
//! `total` is put in force, or enabled again, would be free of it until they end, and the pool would let in as many more. So each of them
//! is given what it would hold at the pool: in the part of its lease that lies in the pool's shard, or in one more part, which ends with the
//! first. Who rides on another lease rides on its share, as if both had been granted under the pool. Rates count from now on: what was
//! started before is not known by pool.
//!
//! # Bounds
//! O(leases), all shards at hand, and only when a pool comes into force.

use crate::book::RuleBook;
use crate::lease::{Hold, LeasePart};
use crate::lending::ride;
use crate::line::Line;
use crate::name::CounterKind;
use crate::pattern::Pattern;
use crate::request::LeaseRef;
use crate::step::ShardSet;
use crate::waiting::Parking;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;

impl ShardSet<'_, '_> {
    /// After a change of rules from `before`: every lease holds its share of the pools that are new.
    pub(crate) fn adopt(&mut self, before: &RuleBook, now: u64) {
        let is_new = |pattern: &Pattern| before.pool(pattern.as_str()).is_none();
        let book = &self.shards[0].book;
        if !book.rules().any(|rule| book.pool(rule.pattern.as_str()).is_some() && is_new(&rule.pattern)) {
            return;
        }
        let mut first_of: HashMap<LeaseRef, LeaseRef> = HashMap::new();
        for (first, part) in self.all_parts() {
            let rest = part.rest.iter();
            let later = rest.flat_map(|rest| rest.parts.iter().skip(1).chain(&rest.adopted));
            first_of.extend(later.map(|part| (*part, first)));
        }
        let all = self.all_parts().map(|(part, _)| part);
        let mut firsts: Vec<LeaseRef> = all.filter(|part| !first_of.contains_key(part)).collect();
        // Who lends was granted before who rides on it.
        firsts.sort_unstable_by_key(|part| part.fence);
        for first in firsts {
            self.adopt_lease(first, &first_of, now);
        }
        self.note_given();
    }

    /// Who waits and names a lease that was given a share just now stands by that: whoever lacks the pool waits for the lease's holder.
    fn note_given(&mut self) {
        for at in 0..self.shards.len() {
            let shard = &self.shards[at];
            let naming = shard.lines.iter().filter(|(_, state)| state.line.alone.is_some()).map(|(line, _)| line);
            for line in naming.collect::<Vec<_>>() {
                let shard = &self.shards[at];
                let Some(head) = shard.head_of(line).and_then(|head| shard.place(head)) else { continue };
                let on = self.named_on(&head.waiter.request);
                let state = &mut self.shards[at].lines[line];
                let mut changed = Line::clone(&state.line);
                let Some(alone) = &mut changed.alone else { continue };
                let before = alone.on.len();
                alone.on.extend(on);
                alone.on.sort_unstable();
                alone.on.dedup();
                if alone.on.len() == before {
                    continue;
                }
                state.line = Arc::new(changed);
                let (line, Parking { spot, place }) = (Arc::clone(&state.line), state.parking);
                if let Some(at) = self.at(spot.0)
                    && let Some(counter) = self.shards[at].counters.get_mut(spot.1)
                {
                    counter.queue().waitlist.renew(place, line);
                }
            }
        }
    }

    /// The parts of a lease that live, by its first, with those that it was given since.
    fn living_parts(&self, first: LeaseRef) -> SmallVec<[LeaseRef; 2]> {
        let Some(part) = self.part(first) else { return SmallVec::new() };
        let adopted = part.rest.iter().flat_map(|rest| rest.adopted.iter().copied());
        part.parts(first).into_iter().chain(adopted).filter(|part| self.part(*part).is_some()).collect()
    }

    fn adopt_lease(&mut self, first: LeaseRef, first_of: &HashMap<LeaseRef, LeaseRef>, now: u64) {
        let parts = self.living_parts(first);
        let mut wanted: SmallVec<[(Pattern, u32, u32); 2]> = SmallVec::new();
        let mut lender = None;
        for part in &parts {
            let at = self.position(part.shard);
            let Some((holds, rides)) = self.part(*part).map(|part| (part.holds.clone(), part.lender())) else {
                continue;
            };
            let ridden = rides.map(|(slot, fence)| LeaseRef { shard: part.shard, slot, fence });
            lender = lender.or(ridden.map(|part| first_of.get(&part).copied().unwrap_or(part)));
            for hold in holds {
                let shard = &mut *self.shards[at];
                shard.refresh(hold.counter);
                let ((calls, cost), counter) = (hold.whole(), &shard.counters[hold.counter]);
                let totals = counter.rare.as_ref().map_or(&[][..], |rare| &rare.totals);
                for rule in totals.iter().filter(|_| (calls, cost) != (0, 0)) {
                    match wanted.iter_mut().find(|(pattern, ..)| *pattern == rule.pattern) {
                        // Of what was settled, the most.
                        Some((_, most_calls, most)) => (*most_calls, *most) = (calls.max(*most_calls), cost.max(*most)),
                        None => wanted.push((rule.pattern.clone(), calls, cost)),
                    }
                }
            }
        }
        for (pool, calls, cost) in wanted {
            self.take_share(first, lender, &pool, (calls, cost), now);
        }
    }

    /// A lease holds so much of a pool, unless it does already.
    fn take_share(&mut self, first: LeaseRef, lender: Option<LeaseRef>, pool: &Pattern, need: (u32, u32), now: u64) {
        let home = self.position(self.shards[0].placement.shard_of(pool.scope()));
        let Some(counter) = self.shards[home].counter(pool.as_str(), CounterKind::Pool, 0, usize::MAX) else { return };
        let index = self.shards[home].index;
        let mut here = self.living_parts(first);
        here.retain(|part| part.shard == index);
        let is_on = |lease: LeaseRef| self.part(lease).is_some_and(|part| part.is_on(counter));
        if here.iter().any(|part| is_on(*part)) {
            return;
        }
        let ridden = lender.map_or_else(SmallVec::new, |lender| self.living_parts(lender));
        let ridden = ridden.into_iter().find(|part| part.shard == index && is_on(*part));
        let Some(granted) = self.part(first).map(|part| (part.granted_at, part.caller)) else { return };
        let shard = &mut *self.shards[home];
        let slot = match here.first() {
            Some(part) => part.slot,
            None => {
                shard.count_lease(granted.1);
                shard.leases.give(first, LeasePart::held(first.fence, granted.0, granted.1))
            }
        };
        let mut hold = Hold::new(counter, need.0, need.1);
        if let Some(ridden) = ridden {
            let rides = shard.leases[slot].lender();
            let lends = shard.leases[ridden.slot].loan().is_some();
            // It may ride on another lease here, or that may lend to another.
            if rides == Some((ridden.slot, ridden.fence)) || rides.is_none() && !lends {
                ride(&shard.leases[ridden.slot], &mut hold);
            }
        }
        shard.counters[counter].hold(&hold, now);
        shard.leases[slot].holds.push(hold);
        if let Some(ridden) = ridden.filter(|_| hold.rides()) {
            shard.leases[slot].set_lender(Some((ridden.slot, ridden.fence)));
            shard.lend_hold(ridden.slot, slot, shard.leases[slot].holds.len() - 1);
        }
        if here.is_empty() {
            let own = LeaseRef { shard: index, slot, fence: first.fence };
            let at = self.position(first.shard);
            self.shards[at].leases[first.slot].rest.get_or_insert_default().adopted.push(own);
        }
    }
}
