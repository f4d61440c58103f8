//! Barriers: who is passed too often stops those who came later; see [`crate::order`] for when and why.
//!
//! A barrier stands at counters, and its owner's line knows at which. It falls with its owner, whatever becomes of that.

use crate::acquire::{Sites, own};
use crate::counter::Queue;
use crate::line::Line;
use crate::request::{Inline, Request, WaiterId};
use crate::standing::{Standing, stand};
use crate::step::{Effect, ShardSet};
use crate::waiting::{Spot, Work, retry};
use smallvec::SmallVec;
use std::sync::Arc;

impl ShardSet<'_, '_> {
    pub(crate) fn lower(&mut self, owner: WaiterId, spot: Spot, now: u64, work: &mut Work) {
        let Some(at) = self.at(spot.0) else { return };
        let Some(counter) = self.shards[at].counters.get_mut(spot.1) else { return };
        counter.queue().barriers.remove(&owner);
        self.shards[at].sweep_later(spot.1, now);
        work.push(spot);
    }

    /// Puts the barrier of a head where it belongs: at all its counters when all it lacks is concurrency; only at those
    /// whose rate it lacks when it lacks a rate; nowhere when one is closed or it waits for a loan, because that may last, or while another's barrier
    /// stops it: whom that lets by, it would stop.
    pub(crate) fn raise(
        &mut self,
        (owner, asks): (WaiterId, &Line),
        line: u32,
        inline: &[Arc<Inline>],
        sites: &Sites,
        now: u64,
        work: &mut Work,
    ) {
        let ticket = Some(owner.ticket);
        let mut wanted: SmallVec<[Spot; 3]> = SmallVec::new();
        let mut lacks: SmallVec<[Spot; 1]> = SmallVec::new();
        let mut rated: SmallVec<[Spot; 1]> = SmallVec::new();
        let mut put_off = false;
        for site in sites {
            let (barred, spot) = (self.is_barred(site, (ticket, asks.on())), self.spot(site));
            let counter = &mut self.shards[site.at].counters[site.hold.counter];
            let standing = stand(counter, &site.hold, own(inline, site), (ticket, false), now);
            // What is too much waits for a loan to come back, or is refused before long.
            put_off |= barred && site.hold.takes_any()
                || standing == Standing::Never
                || standing != Standing::Fits && counter.is_closed(own(inline, site));
            if matches!(standing, Standing::Blocked(Some(_))) {
                rated.push(spot);
            }
            if standing != Standing::Fits {
                lacks.push(spot);
            }
        }
        if !put_off {
            let spots = sites.iter().map(|site| self.spot(site));
            wanted.extend(spots.filter(|spot| rated.is_empty() || rated.contains(spot)));
        }
        let Some(origin) = self.at(owner.shard) else { return };
        let Some(state) = self.shards[origin].lines.get_mut(line) else { return };
        let before = std::mem::replace(&mut state.barrier, wanted.clone());
        for spot in &wanted {
            if let Some(at) = self.at(spot.0) {
                let before = self.shards[at].counters[spot.1].queue().barriers.insert(owner, lacks.clone());
                // Whom it lets by is another now.
                if before.is_some_and(|before| before != lacks) {
                    work.push(*spot);
                }
            }
        }
        for spot in before.into_iter().filter(|spot| !wanted.contains(spot)) {
            self.lower(owner, spot, now, work);
        }
    }

    /// Counts a grant at each of its counters against who is first in order there and came earlier. Where it takes nothing that anybody
    /// could lack, because it rides on who has it, it passes nobody.
    ///
    /// What its key has had of it is noted too, but where that was done because its line was parked there. Where it is the key of the
    /// first, another may be first then, so these counters are to be served.
    pub(crate) fn count_passes(
        &mut self,
        sites: &Sites,
        request: &Request,
        waiter: Option<(u64, Spot)>,
        units: u32,
        now: u64,
        (effects, work): (&mut Vec<Effect>, &mut Work),
    ) {
        for site in sites {
            let spot = self.spot(site);
            let counter = &mut self.shards[site.at].counters[site.hold.counter];
            let starts = site.hold.starts() != (0, 0) && !counter.histories.is_empty();
            let Some(queue) = counter.queue.as_ref().filter(|_| starts || site.hold.takes_any()) else { continue };
            if starts {
                // It may lack a rate now, and then belongs elsewhere.
                ask_owners(queue, effects);
            }
            if queue.waitlist.is_empty() {
                continue;
            }
            let cost = if counter.counts_cost(own(&request.inline, site)) { request.cost.get() } else { 1 };
            let waitlist = &mut counter.queue().waitlist;
            if waiter.is_none_or(|(_, parked)| parked != spot)
                && waitlist.charge(request.rank(), request.weight, cost.saturating_mul(units), now)
            {
                work.push(spot);
            }
            if let Some(parked) = waitlist.passed(waiter.map_or(u64::MAX, |(ticket, _)| ticket), now) {
                let shards = self.shards_of_line(&parked.line);
                effects.push(retry(&parked, shards));
            }
        }
    }
}

/// Has the owners of the barriers at a counter asked where these belong now.
pub(crate) fn ask_owners(queue: &Queue, effects: &mut Vec<Effect>) {
    // Its own shard knows which others it needs.
    let ask = |owner: &WaiterId| Effect::Retry { waiter: *owner, shards: SmallVec::from_slice(&[owner.shard]) };
    effects.extend(queue.barriers.keys().map(ask));
}
