//! Waiting: lines join, are looked at, move, and leave. Who is next, [`crate::order`] says; what happens to them is here.
//!
//! A waiter's record and its deadline lie in its *origin*, the lowest shard of its request, and so does the record of its
//! line (see [`crate::line`]). The line itself is parked in the waitlist of one counter, in any of the request's shards. So a step may meet a
//! line, or a deadline, without having all its shards at hand; it then answers [`Effect::Retry`], and the caller brings
//! them for [`crate::Input::Retry`]. Until then the line stays where it is.
//!
//! After every step, no waiter is eligible: each is blocked at the counter where its line is parked, or stands behind the
//! head of its line. Only what happens at that counter can change it, so only that counter's lines are looked at then.

use crate::acquire::{Placed, Site, Sites};
use crate::counter::Counter;
use crate::describe::Which;
use crate::lease::Hold;
use crate::line::{Left, Line, Place, Waiter};
use crate::name::CounterKind;
use crate::order::{MAX_PASSES, Parked, Waitlist};
use crate::planted::{self, Bug};
use crate::refusal::Reason;
use crate::request::{Inline, Request, WaiterId};
use crate::shard::Timer;
use crate::standing::{Standing, asked, lacks, named_by, stand};
use crate::step::{Effect, Output, ShardSet};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A counter, by its shard.
pub(crate) type Spot = (u16, u32);

/// Where a line is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parking {
    pub(crate) spot: Spot,
    /// In the waitlist there.
    pub(crate) place: u32,
}

impl Parking {
    /// Its place at a counter, if it is parked there.
    pub(crate) fn at(self, spot: Spot) -> Option<u32> {
        (self.spot == spot).then_some(self.place)
    }
}

/// The line of a newcomer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) parking: Parking,
    /// Where that is among the sites of the request.
    pub(crate) site: usize,
}

/// What came of looking at a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Its head is granted or refused.
    Done,
    /// It stays where it is; with the instant at which time alone may clear its way.
    Stays(Option<u64>),
    /// It is parked elsewhere now.
    Moved,
    /// Not all its shards are at hand.
    Away,
}

/// Counters that may have become free for somebody, to be served one after the other.
pub(crate) type Work = SmallVec<[Spot; 4]>;

impl ShardSet<'_, '_> {
    /// Where a shard stands in the set, if it does.
    pub(crate) fn at(&self, shard: u16) -> Option<usize> {
        self.shards.iter().position(|present| present.index == shard)
    }

    /// The line of a newcomer, if there is one. Looked for only where anybody waits.
    pub(crate) fn line_of(&self, request: &Request, sites: &Sites) -> Option<Found> {
        let nobody = |site: &Site| self.shards[site.at].counters[site.hold.counter].waiting() == 0;
        if !request.lend_from.is_empty() || sites.iter().all(nobody) {
            return None;
        }
        let origin = self.at(self.shards[0].placement.home_of(request))?;
        let number = self.shards[origin].line_of(request)?;
        let parking = self.shards[origin].lines[number].parking;
        let site = sites.iter().position(|site| self.spot(site) == parking.spot)?;
        Some(Found { number, parking, site })
    }

    pub(crate) fn spot(&self, site: &Site) -> Spot {
        (self.shards[site.at].index, site.hold.counter)
    }

    /// Writes a newcomer down: behind its line, or as the head of a new one at the site that is in its way.
    pub(crate) fn join(
        &mut self,
        now: u64,
        ticket: u64,
        waiter: Waiter,
        line: Option<u32>,
        site: Site,
        until: Option<u64>,
    ) -> WaiterId {
        let origin = self.at(self.shards[0].placement.home_of(&waiter.request)).unwrap_or(0);
        let shard = &mut *self.shards[origin];
        // It may be parked at a counter that is none of its own any more.
        let line = line.or_else(|| shard.line_of(&waiter.request));
        if let Some(line) = line {
            let Parking { spot, place } = shard.lines[line].parking;
            let id = shard.stand_behind(line, ticket, waiter, now);
            if let Some(at) = self.at(spot.0) {
                self.shards[at].counters[spot.1].queue().waitlist.joined(place);
            }
            return id;
        }
        let mut line = waiter.request.line(ticket);
        if let Some(alone) = &mut line.alone {
            alone.on = self.named_on(&waiter.request);
        }
        let line = Arc::new(line);
        let shard = &mut *self.shards[origin];
        let own = inline_of(&waiter.request, &site);
        let number = shard.new_line(&waiter.request, Arc::clone(&line));
        let head = shard.stand_behind(number, ticket, waiter, now);
        let (calls, cost) = needs(&line, &site.hold);
        let parked = Parked { line, number, head, calls, cost, waiters: 1, passes: 0, own };
        self.park(parked, self.spot(&site), until, now);
        head
    }

    fn park(&mut self, parked: Parked, spot: Spot, until: Option<u64>, now: u64) {
        let (Some(at), Some(origin)) = (self.at(spot.0), self.at(parked.head.shard)) else { return };
        let number = parked.number;
        let shard = &mut *self.shards[at];
        shard.parked += 1;
        let place = shard.counters[spot.1].queue().waitlist.park(parked, now);
        if let Some(until) = until {
            shard.refill_by(spot.1, until);
        }
        self.shards[origin].lines[number].parking = Parking { spot, place };
    }

    /// Whether somebody is the first of several lines: what they were owed may be another's now, and more or less.
    pub(crate) fn leads(&self, site: &Site, head: WaiterId) -> bool {
        let counter = self.shards[site.at].counters.get(site.hold.counter);
        counter.and_then(Counter::waitlist).is_some_and(|waitlist| waitlist.is_led_by(head))
    }

    fn unpark(&mut self, Parking { spot, place }: Parking, now: u64) -> Option<Parked> {
        let at = self.at(spot.0)?;
        let shard = &mut *self.shards[at];
        // A shard that has been closed has let go of it.
        let queue = shard.counters.get_mut(spot.1)?.queue.as_mut()?;
        let parked = queue.waitlist.take(place)?;
        shard.parked -= 1;
        if queue.waitlist.is_empty() && queue.refill_at != 0 {
            let at = std::mem::take(&mut queue.refill_at);
            shard.clear_timer(at, Timer::Refill { counter: spot.1 });
        }
        shard.sweep_later(spot.1, now);
        Some(parked)
    }

    /// Serves the lines of a counter that may have become free, and whatever becomes free by that.
    pub(crate) fn serve(&mut self, at: usize, counter: u32, now: u64, effects: &mut Vec<Effect>) {
        let mut work = Work::from_slice(&[(self.shards[at].index, counter)]);
        self.work(&mut work, now, effects);
    }

    pub(crate) fn work(&mut self, work: &mut Work, now: u64, effects: &mut Vec<Effect>) {
        while let Some((shard, counter)) = work.pop() {
            // A counter elsewhere is served by the retry of whoever stands there.
            let Some(at) = self.at(shard) else { continue };
            self.serve_one(at, counter, now, effects, work);
        }
    }

    fn serve_one(&mut self, at: usize, counter: u32, now: u64, effects: &mut Vec<Effect>, work: &mut Work) {
        let mut tried: SmallVec<[WaiterId; 4]> = SmallVec::new();
        loop {
            let (next, until) = self.next(at, counter, &tried, now);
            if let Some(until) = until {
                self.shards[at].refill_by(counter, until);
            }
            let Some(parked) = next else { break };
            match self.look(&parked, now, effects, work) {
                Look::Done | Look::Moved => {}
                Look::Stays(until) => {
                    tried.push(parked.head);
                    if let Some(until) = until {
                        self.shards[at].refill_by(counter, until);
                    }
                }
                Look::Away => {
                    effects.push(retry(&parked, self.shards_of_line(&parked.line)));
                    return;
                }
            }
        }
        // It may have been dropped as unused only by a sweep, never here.
        if self.shards[at].counters.contains(counter) {
            self.shards[at].sweep_later(counter, now);
        }
    }

    /// The first line in the order of a counter that fits there; or when time alone may let one fit.
    fn next(&mut self, at: usize, counter: u32, tried: &[WaiterId], now: u64) -> (Option<Parked>, Option<u64>) {
        let shard = &mut *self.shards[at];
        let Some(found) = shard.counters.get_mut(counter) else { return (None, None) };
        let Some((calls, cost)) = found.waitlist().and_then(Waitlist::least) else { return (None, None) };
        let least = Hold::new(counter, calls, cost);
        if let Standing::Blocked(until) = stand(found, &least, None, (Some(0), false), now) {
            return (None, until);
        }
        // Who rides is asked for what it lacks now: were it looked at in vain, two of them in different shards would send for each
        // other without end.
        let (spot, leases) = ((shard.index, counter), &shard.leases);
        // Mostly the first in the order fits.
        let first = found.waitlist().and_then(|waitlist| waitlist.first(now)).cloned();
        if let Some(parked) = first.filter(|parked| !tried.contains(&parked.head))
            && matches!(asked(found, spot, leases, &parked, (true, now)), Standing::Fits | Standing::Never)
        {
            return (Some(parked), None);
        }
        // Taken out while its counter is asked.
        let waitlist = std::mem::take(&mut found.queue().waitlist);
        let mut soonest: Option<u64> = None;
        let mut lacking = None;
        let holds_here = |parked: &Parked| named_by(parked, spot.0, leases).is_some_and(|named| named.is_on(counter));
        let next = waitlist.in_order(now).filter(|parked| !tried.contains(&parked.head)).find(|parked| {
            let until = match asked(found, spot, leases, parked, (true, now)) {
                Standing::Fits if !holds_here(parked) => {
                    let rank = (parked.line.priority, &*parked.line.share);
                    let Some((first, until)) = waitlist.owed(rank, found.counts_cost(parked.own.as_ref()), now) else {
                        return true;
                    };
                    if !*lacking.get_or_insert_with(|| lacks(found, spot, leases, first, now)) {
                        return true;
                    }
                    until
                }
                // What never fits is refused when it is looked at.
                Standing::Fits | Standing::Never => return true,
                Standing::Blocked(until) => until,
                Standing::Lent => None,
            };
            soonest = [soonest, until].into_iter().flatten().min();
            false
        });
        let next = next.cloned();
        found.queue().waitlist = waitlist;
        (next, soonest)
    }

    /// Looks at a line whole: grants or refuses its head, moves it, or leaves it.
    fn look(&mut self, parked: &Parked, now: u64, effects: &mut Vec<Effect>, work: &mut Work) -> Look {
        let shards = self.shards_of_line(&parked.line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            return Look::Away;
        }
        let head = parked.head;
        let Some(origin) = self.at(head.shard) else { return Look::Away };
        let found = self.shards[origin].place(head).map(|place| (Arc::clone(&place.waiter), place.line));
        let Some((waiter, line)) = found else {
            // Its origin has been closed.
            let parking = self.shards.iter().find_map(|shard| {
                shard.counters.iter().find_map(|(counter, found)| {
                    let place = found.waitlist()?.find(head)?;
                    Some(Parking { spot: (shard.index, counter), place })
                })
            });
            if let Some(parking) = parking {
                self.unpark(parking, now);
            }
            return Look::Done;
        };
        let mut sites = Sites::new();
        if waiter.deadline < self.as_of {
            // It has waited long enough before it could be served.
            self.dismiss(head, Reason::TimedOut, now, effects, work);
            return Look::Done;
        }
        let parking = self.shards[origin].lines[line].parking;
        let asks = (head.ticket, parking);
        match self.place(now, asks, (&waiter, &parked.line), &mut sites) {
            Placed::Granted(grant) => {
                self.charge_share(parking, &waiter.request, 1 + grant.more.len() as u32, now);
                self.take_off(origin, head.slot, now, work);
                let units = 1 + grant.more.len() as u32;
                effects.push(Effect::Granted { waiter: head, grant });
                self.count_passes(
                    &sites,
                    &waiter.request,
                    Some((head.ticket, parking.spot)),
                    units,
                    now,
                    (effects, work),
                );
                Look::Done
            }
            Placed::Unwritable => {
                self.leave_no_trace(&sites, now);
                self.dismiss(head, Reason::Unavailable, now, effects, work);
                Look::Done
            }
            Placed::Never => {
                let constraints = self.describe(now, &sites, &waiter.request, Some(asks), Which::TooLarge);
                self.leave_no_trace(&sites, now);
                let refusal = self.refuse(Reason::TooLarge, constraints);
                self.take_off(origin, head.slot, now, work);
                effects.push(Effect::Refused { waiter: head, refusal });
                Look::Done
            }
            Placed::Blocked { site, until } => {
                // What it leaves to others where it moves on is a pass too.
                let moves = sites.get(site).is_some_and(|site| self.spot(site) != parking.spot);
                if parked.passes.saturating_add(u32::from(moves)) >= MAX_PASSES {
                    self.raise((head, &parked.line), line, &waiter.request.inline, &sites, now, work);
                }
                let Some(&site) = sites.get(site) else { return Look::Stays(until) };
                let look = self.settle_in(inline_of(&waiter.request, &site), line, origin, site, until, now);
                self.leave_no_trace(&sites, now);
                if look == Look::Moved && self.leads(&site, head) {
                    work.push(self.spot(&site));
                }
                look
            }
        }
    }

    /// Parks a line where it belongs, without granting anything.
    fn move_on(&mut self, origin: usize, line: u32, now: u64) {
        let shard = &self.shards[origin];
        let Some(head) = shard.head_of(line) else { return };
        let Some(waiter) = shard.place(head).map(|place| Arc::clone(&place.waiter)) else { return };
        let asks = Arc::clone(&shard.lines[line].line);
        let mut sites = Sites::new();
        if let Some((site, until)) = self.in_the_way(now, head.ticket, (&waiter.request, &asks), &mut sites) {
            self.settle_in(inline_of(&waiter.request, &site), line, origin, site, until, now);
        }
        self.leave_no_trace(&sites, now);
    }

    /// Parks a line at the site that blocks its head, with the numbers that it has brought along for it, unless it is
    /// parked there.
    fn settle_in(
        &mut self,
        own: Option<Arc<Inline>>,
        line: u32,
        origin: usize,
        site: Site,
        until: Option<u64>,
        now: u64,
    ) -> Look {
        let spot = self.spot(&site);
        let before = self.shards[origin].lines[line].parking;
        if before.spot == spot {
            return Look::Stays(until);
        }
        if let Some(before) = self.parking_of(origin, line)
            && let Some(parked) = self.unpark(before, now)
        {
            // What it found free here goes to somebody behind it: that is a pass too, or two counters that are never free
            // at the same time would keep it forever.
            let passes = parked.passes.saturating_add(1);
            self.park(Parked { passes, own, ..parked }, spot, until, now);
        }
        Look::Moved
    }

    /// Moves the share of a line on at the counter that it was parked at.
    fn charge_share(&mut self, Parking { spot, place }: Parking, request: &Request, units: u32, now: u64) {
        let Some(at) = self.at(spot.0) else { return };
        let counter = &mut self.shards[at].counters[spot.1];
        let own = counter.parked(place).and_then(|parked| parked.own.as_ref());
        let cost = if counter.counts_cost(own) { request.cost.get() } else { 1 };
        counter.queue().waitlist.served(place, cost.saturating_mul(units), now);
    }

    /// Where a line is parked; none: in a shard that was closed since, which has let go of it.
    fn parking_of(&self, origin: usize, line: u32) -> Option<Parking> {
        let parking = self.shards[origin].lines.get(line)?.parking;
        let (shard, counter) = parking.spot;
        let parked = self.shards[self.at(shard)?].counters.get(counter)?.parked(parking.place)?;
        (parked.number == line && parked.head.shard == self.shards[origin].index).then_some(parking)
    }

    /// Takes a waiter out of its line; the next head takes its place. All the line's shards are at hand.
    fn take_off(&mut self, origin: usize, slot: u32, now: u64, work: &mut Work) {
        let shard = &mut *self.shards[origin];
        let Some(Place { ticket, line, .. }) = shard.places.get(slot).cloned() else { return };
        let owner = WaiterId { ticket, shard: shard.index, slot };
        let left = shard.leave_line(slot);
        let parking = self.parking_of(origin, line);
        let shard = &mut *self.shards[origin];
        let state = &mut shard.lines[line];
        let spot = state.parking.spot;
        let fallen = if left == Left::Behind { SmallVec::new() } else { std::mem::take(&mut state.barrier) };
        let needs = match left {
            Left::Head(head) => shard.place(head).map_or((0, 0), |head| head.waiter.request.need()),
            _ => (0, 0),
        };
        if left == Left::Nobody {
            shard.drop_line(line);
        }
        for spot in fallen {
            self.lower(owner, spot, now, work);
        }
        if let Some(parking) = parking
            && let Some(at) = self.at(spot.0)
        {
            let waitlist = &mut self.shards[at].counters[spot.1].queue().waitlist;
            match left {
                Left::Behind => waitlist.left(parking.place),
                Left::Head(head) => waitlist.advance(parking.place, head, needs),
                Left::Nobody => drop(self.unpark(parking, now)),
            }
        }
        if left != Left::Behind {
            work.push(spot);
        }
    }

    /// A waiter gives up, or its shards are at hand at last.
    pub(crate) fn deadline(&mut self, ticket: u64, slot: u32, at: usize, now: u64, effects: &mut Vec<Effect>) {
        let id = WaiterId { ticket, shard: self.shards[at].index, slot };
        let Some(line) = self.shards[at].place(id).map(|place| place.line) else { return };
        self.shards[at].deadline_passed(slot);
        let shards = self.shards_of_line(&self.shards[at].lines[line].line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            effects.push(Effect::Retry { waiter: id, shards });
            return;
        }
        self.end(id, Reason::TimedOut, now, effects);
    }

    pub(crate) fn retry(&mut self, waiter: WaiterId, now: u64, effects: &mut Vec<Effect>) -> Output {
        let Some(origin) = self.at(waiter.shard) else { return Output::Gone };
        let Some(found) = self.shards[origin].place(waiter) else { return Output::Gone };
        let (deadline, state) = (found.waiter.deadline, &self.shards[origin].lines[found.line]);
        let Parking { spot, place } = state.parking;
        let shards = self.shards_of_line(&state.line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            // The book has changed since they were asked for.
            effects.push(Effect::Retry { waiter, shards });
            return Output::Done;
        }
        if deadline <= now {
            self.end(waiter, Reason::TimedOut, now, effects);
            return Output::Done;
        }
        let Some(at) = self.at(spot.0) else { return Output::Gone };
        let parked = self.shards[at].counters[spot.1].parked(place).cloned();
        let mut work = Work::new();
        // Looked at first, fitting or not: it may be about to raise its barrier.
        if let Some(parked) = parked.filter(|parked| parked.head == waiter && parked.passes >= MAX_PASSES) {
            self.look(&parked, now, effects, &mut work);
        }
        work.push(spot);
        self.work(&mut work, now, effects);
        Output::Done
    }

    pub(crate) fn cancel(&mut self, waiter: WaiterId, now: u64, effects: &mut Vec<Effect>) -> Output {
        let Some(at) = self.at(waiter.shard) else { return Output::Gone };
        let Some(place) = self.shards[at].place(waiter) else { return Output::Gone };
        let shards = self.shards_of_line(&self.shards[at].lines[place.line].line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            return Output::Elsewhere(shards);
        }
        let mut work = Work::new();
        self.take_off(at, waiter.slot, now, &mut work);
        if planted::is(Bug::CancelWakesNobody) {
            return Output::Done;
        }
        self.work(&mut work, now, effects);
        Output::Done
    }

    /// Refuses a waiter, with the same detail as a newcomer, and serves who stood behind it.
    pub(crate) fn end(&mut self, waiter: WaiterId, reason: Reason, now: u64, effects: &mut Vec<Effect>) {
        let mut work = Work::new();
        self.dismiss(waiter, reason, now, effects, &mut work);
        self.work(&mut work, now, effects);
    }

    /// The same, leaving what may have become free to the caller: were it served here, a step that comes late would stand one call
    /// deeper for each waiter that it finds overdue.
    fn dismiss(&mut self, waiter: WaiterId, reason: Reason, now: u64, effects: &mut Vec<Effect>, work: &mut Work) {
        let Some(at) = self.at(waiter.shard) else { return };
        let Some(place) = self.shards[at].place(waiter) else { return };
        let (found, parking) = (Arc::clone(&place.waiter), self.shards[at].lines[place.line].parking);
        let sites = self.sites_at_hand(&found.request);
        let which = if reason == Reason::TooLarge { Which::TooLarge } else { Which::InTheWay };
        let constraints = self.describe(now, &sites, &found.request, Some((waiter.ticket, parking)), which);
        if let Some(at) = self.at(parking.spot.0) {
            let counter = &mut self.shards[at].counters[parking.spot.1];
            counter.refused = counter.refused.saturating_add(1);
        }
        let refusal = self.refuse(reason, constraints);
        effects.push(Effect::Refused { waiter, refusal });
        self.take_off(at, waiter.slot, now, work);
    }

    /// After a change of rules: who can never fit any more ends, barriers are put anew, and who fits now is granted.
    pub(crate) fn look_at_all(&mut self, now: u64, effects: &mut Vec<Effect>) {
        let mut tickets: Vec<WaiterId> = Vec::new();
        for shard in self.shards.iter() {
            tickets.extend(shard.everybody());
        }
        tickets.sort_unstable();
        for id in tickets {
            // One may have been granted by the serving of an earlier one.
            let found = self.at(id.shard).and_then(|at| self.shards[at].place(id));
            let Some(waiter) = found.map(|found| Arc::clone(&found.waiter)) else { continue };
            if !planted::is(Bug::NeverFitsWaitsOn) && self.can_never_fit(&waiter.request, id.ticket, now) {
                self.end(id, Reason::TooLarge, now, effects);
            }
        }
        let mut spots: BTreeSet<Spot> = BTreeSet::new();
        let mut work = Work::new();
        for at in 0..self.shards.len() {
            // What lasts longest may be another counter now.
            for line in self.shards[at].lines.iter().map(|(line, _)| line).collect::<Vec<_>>() {
                spots.insert(self.shards[at].lines[line].parking.spot);
                self.move_on(at, line, now);
            }
        }
        for at in 0..self.shards.len() {
            let shard = &self.shards[at];
            let barred = shard.lines.iter().filter(|(_, state)| !state.barrier.is_empty());
            let mut barred: Vec<(Option<WaiterId>, u32)> =
                barred.map(|(line, _)| (shard.head_of(line), line)).collect();
            barred.sort_unstable();
            for (_, line) in barred {
                let parking = self.shards[at].lines.get(line).map(|state| state.parking);
                let parked = parking.and_then(|Parking { spot, place }| {
                    self.shards[self.at(spot.0)?].counters[spot.1].parked(place).cloned()
                });
                if let Some(parked) = parked {
                    self.look(&parked, now, effects, &mut work);
                }
            }
            spots.extend(self.shards[at].lines.iter().map(|(_, state)| state.parking.spot));
        }
        // Whose pool is no longer one may be parked at a counter that is none of its own.
        for (shard, counter) in spots.iter().copied().collect::<Vec<_>>() {
            let Some(at) = self.at(shard).filter(|at| self.shards[*at].counters.contains(counter)) else {
                continue;
            };
            self.shards[at].refresh(counter);
            let found = &self.shards[at].counters[counter];
            if found.kind != CounterKind::Pool || self.shards[at].book.pool(&found.name).is_some() {
                continue;
            }
            // Each look ends a head or moves its line to a counter that is its own.
            for _ in 0..found.waiting() {
                let waitlist = self.shards[at].counters[counter].waitlist();
                let Some(parked) = waitlist.and_then(|waitlist| waitlist.in_order(now).next()).cloned() else { break };
                self.look(&parked, now, effects, &mut work);
            }
        }
        work.extend(spots);
        self.work(&mut work, now, effects);
    }

    /// The shards of a line, ascending, each once.
    pub(crate) fn shards_of_line(&self, line: &Line) -> SmallVec<[u16; 4]> {
        self.shards[0].shards_of_line(line)
    }
}

/// What the head of a line is known to need at a counter. Who rides on a lease may need less at any time, so nothing is.
fn needs(line: &Line, hold: &Hold) -> (u32, u32) {
    if line.alone.is_some() { (0, 0) } else { (hold.calls, hold.cost) }
}

/// The numbers that a request has brought along for a site.
fn inline_of(request: &Request, site: &Site) -> Option<Arc<Inline>> {
    site.inline().and_then(|index| request.inline.get(index)).cloned()
}

pub(crate) fn retry(parked: &Parked, shards: SmallVec<[u16; 4]>) -> Effect {
    Effect::Retry { waiter: parked.head, shards }
}
