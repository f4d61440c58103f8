//! Waiting: lines join, are looked at, move, and leave. Who is next, [`crate::order`] says; what happens to them is here.
//!
//! A waiter's record and its deadline lie in its *origin*, the lowest shard of its request, and so does the record of its
//! line. The line itself is parked in the waitlist of one counter, in any of the request's shards. So a step may meet a
//! line, or a deadline, without having all its shards at hand; it then answers [`Effect::Retry`], and the caller brings
//! them for [`crate::Input::Retry`]. Until then the line stays where it is.
//!
//! After every step, no waiter is eligible: each is blocked at the counter where its line is parked, or stands behind the
//! head of its line. Only what happens at that counter can change it, so only that counter's lines are looked at then.

use crate::acquire::{Placed, Site, Sites, Standing, own, stand};
use crate::counter::Counter;
use crate::describe::Which;
use crate::lease::Hold;
use crate::limits::Counts;
use crate::name::CounterKind;
use crate::order::{MAX_PASSES, Parked, Waitlist};
use crate::planted::{self, Bug};
use crate::refusal::Reason;
use crate::request::{Inline, Line, Request, WaiterId};
use crate::shard::{Timer, Waiter};
use crate::step::{Effect, Output, ShardSet};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A counter, by its shard.
pub(crate) type Spot = (u16, u32);

/// What the origin knows of a line.
#[derive(Debug, Clone)]
pub(crate) struct LineState {
    pub(crate) tickets: BTreeSet<u64>,
    /// Where it is parked.
    pub(crate) spot: Spot,
    /// Where the barrier of its head stands.
    pub(crate) barrier: SmallVec<[Spot; 3]>,
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
type Work = Vec<Spot>;

impl ShardSet<'_, '_> {
    /// Where a shard stands in the set, if it does.
    pub(crate) fn at(&self, shard: u16) -> Option<usize> {
        self.shards.iter().position(|present| present.index == shard)
    }

    /// The counter where the line of a newcomer waits, if it does. Looked for only where anybody waits.
    pub(crate) fn line_of(&self, request: &Request, sites: &Sites) -> Option<(Arc<Line>, usize)> {
        let nobody = |site: &Site| self.shards[site.at].counters[site.hold.counter].waiting() == 0;
        if request.lend_from.is_some() || sites.iter().all(nobody) {
            return None;
        }
        let origin = self.at(self.shards[0].placement.home_of(request))?;
        let (line, state) = self.shards[origin].lines.get_key_value(&request.line(u64::MAX))?;
        let site = sites.iter().position(|site| self.spot(site) == state.spot)?;
        Some((Arc::clone(line), site))
    }

    fn spot(&self, site: &Site) -> Spot {
        (self.shards[site.at].index, site.hold.counter)
    }

    /// Writes a newcomer down: behind its line, or as the head of a new one at the site that is in its way.
    pub(crate) fn join(&mut self, now: u64, ticket: u64, waiter: Waiter, site: Site, until: Option<u64>) -> WaiterId {
        let origin = self.at(self.shards[0].placement.home_of(&waiter.request)).unwrap_or(0);
        let id = WaiterId { ticket, shard: self.shards[origin].index };
        let line = Arc::clone(&waiter.line);
        let spot = self.spot(&site);
        let own = inline_of(&waiter.request, &site);
        let shard = &mut *self.shards[origin];
        shard.set_timer(waiter.deadline, Timer::Deadline { ticket });
        if waiter.request.caller.0 != 0 {
            shard.used_by(waiter.request.caller.0).waiters += 1;
        }
        shard.waiters.insert(ticket, waiter);
        if let Some(state) = shard.lines.get_mut(&line) {
            state.tickets.insert(ticket);
            let (parked, counter) = state.spot;
            if let Some(at) = self.at(parked) {
                self.shards[at].counters[counter].queue().waitlist.joined(&line);
            }
            return id;
        }
        let state = LineState { tickets: BTreeSet::from([ticket]), spot, barrier: SmallVec::new() };
        shard.lines.insert(Arc::clone(&line), state);
        let (calls, cost) = needs(&line, &site.hold);
        self.park(Parked { line, head: id, calls, cost, waiters: 1, passes: 0, own }, spot, until, now);
        id
    }

    fn park(&mut self, parked: Parked, spot: Spot, until: Option<u64>, now: u64) {
        let Some(at) = self.at(spot.0) else { return };
        let shard = &mut *self.shards[at];
        shard.parked += 1;
        shard.counters[spot.1].queue().waitlist.park(parked, now);
        if let Some(until) = until {
            shard.refill_by(spot.1, until);
        }
    }

    fn unpark(&mut self, line: &Line, spot: Spot, now: u64) -> Option<Parked> {
        let at = self.at(spot.0)?;
        let shard = &mut *self.shards[at];
        // A shard that has been closed has let go of it.
        let queue = shard.counters.get_mut(spot.1)?.queue.as_mut()?;
        let parked = queue.waitlist.take(line)?;
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
        let mut work: Work = vec![(self.shards[at].index, counter)];
        self.work(&mut work, now, effects);
    }

    fn work(&mut self, work: &mut Work, now: u64, effects: &mut Vec<Effect>) {
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
        let Some(found) = self.shards[at].counters.get_mut(counter) else { return (None, None) };
        let Some((calls, cost)) = found.waitlist().and_then(Waitlist::least) else { return (None, None) };
        let least = Hold::new(counter, calls, cost);
        if let Standing::Blocked(until) = stand(found, &least, None, Some(0), now) {
            return (None, until);
        }
        // Taken out while its counter is asked.
        let waitlist = std::mem::take(&mut found.queue().waitlist);
        let mut soonest: Option<u64> = None;
        let next = waitlist.in_order(now).filter(|parked| !tried.contains(&parked.head)).find(|parked| {
            let hold = Hold::new(counter, parked.calls, parked.cost);
            match stand(found, &hold, parked.own.as_ref(), Some(parked.head.ticket), now) {
                // What never fits is refused when it is looked at.
                Standing::Fits | Standing::Never => true,
                Standing::Blocked(until) => {
                    soonest = [soonest, until].into_iter().flatten().min();
                    false
                }
            }
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
        let ticket = parked.head.ticket;
        let Some(origin) = self.at(parked.head.shard) else { return Look::Away };
        let Some(waiter) = self.shards[origin].waiters.remove(&ticket) else {
            // Its origin has been closed.
            let spot = self.shards.iter().enumerate().find_map(|(at, shard)| {
                let counter = shard.counters.iter().find(|(_, counter)| counter.parked(&parked.line).is_some());
                counter.map(|(counter, _)| (self.shards[at].index, counter))
            });
            if let Some(spot) = spot {
                self.unpark(&parked.line, spot, now);
            }
            return Look::Done;
        };
        let mut sites = Sites::new();
        if waiter.deadline < now {
            // A step that comes late: it has waited long enough before it could be served.
            self.shards[origin].waiters.insert(ticket, waiter);
            self.end(parked.head, Reason::TimedOut, now, effects);
            return Look::Done;
        }
        match self.place(now, ticket, &waiter, &mut sites) {
            Placed::Granted(grant) => {
                let units = 1 + grant.more.len() as u32;
                self.charge_share(&parked.line, &waiter.request, units, now);
                self.take_off(origin, ticket, &waiter, now, work);
                effects.push(Effect::Granted { waiter: parked.head, grant });
                self.count_passes(&sites, Some(ticket), now, effects);
                Look::Done
            }
            Placed::Never => {
                let inline = &waiter.request.inline;
                let constraints = self.describe(now, &sites, inline, Some((ticket, &parked.line)), Which::TooLarge);
                self.leave_no_trace(&sites, now);
                let refusal = self.refuse(Reason::TooLarge, constraints);
                self.take_off(origin, ticket, &waiter, now, work);
                effects.push(Effect::Refused { waiter: parked.head, refusal });
                Look::Done
            }
            Placed::Blocked { site, until } => {
                let line = Arc::clone(&waiter.line);
                let inline = waiter.request.inline.clone();
                let own = sites.get(site).and_then(|site| inline_of(&waiter.request, site));
                self.shards[origin].waiters.insert(ticket, waiter);
                if parked.passes >= MAX_PASSES {
                    self.raise(&line, &inline, origin, ticket, &sites, now, work);
                }
                let Some(&site) = sites.get(site) else { return Look::Stays(until) };
                let look = self.settle_in(&Parked { own, ..parked.clone() }, origin, site, until, now);
                self.leave_no_trace(&sites, now);
                look
            }
        }
    }

    /// Parks a line at the site that blocks its head, unless it is parked there.
    fn settle_in(&mut self, wanted: &Parked, origin: usize, site: Site, until: Option<u64>, now: u64) -> Look {
        let spot = self.spot(&site);
        let Some(state) = self.shards[origin].lines.get_mut(&wanted.line) else { return Look::Done };
        let before = std::mem::replace(&mut state.spot, spot);
        if before == spot {
            return Look::Stays(until);
        }
        if let Some(parked) = self.unpark(&wanted.line, before, now) {
            let own = wanted.own.clone();
            // What it found free here goes to somebody behind it: that is a pass too, or two counters that are never free
            // at the same time would keep it forever.
            let passes = parked.passes.saturating_add(1);
            self.park(Parked { passes, own, ..parked }, spot, until, now);
        }
        Look::Moved
    }

    /// Moves the share of a line on at the counter that it was parked at.
    fn charge_share(&mut self, line: &Arc<Line>, request: &Request, units: u32, now: u64) {
        let Some((at, counter)) = self.place_of(line) else { return };
        let counter = &mut self.shards[at].counters[counter];
        let own = counter.parked(line).and_then(|parked| parked.own.as_ref());
        let counts_cost = Counter::limits(counter.rule.as_ref(), own).is_some_and(|limits| {
            limits.concurrency.is_some_and(|concurrency| concurrency.counts == Counts::Cost)
                || limits.rates.iter().any(|rate| rate.counts == Counts::Cost)
        });
        let cost = if counts_cost { request.cost.get() } else { 1 };
        counter.queue().waitlist.served(line, cost.saturating_mul(units), now);
    }

    fn place_of(&self, line: &Line) -> Option<(usize, u32)> {
        let origin = self.shards.iter().find_map(|shard| shard.lines.get(line))?;
        Some((self.at(origin.spot.0)?, origin.spot.1))
    }

    /// Takes a waiter, whose record is in the caller's hand, out of its line; the next head takes its place. All the
    /// line's shards are at hand.
    fn take_off(&mut self, origin: usize, ticket: u64, waiter: &Waiter, now: u64, work: &mut Work) {
        let shard = &mut *self.shards[origin];
        let index = shard.index;
        shard.clear_timer(waiter.deadline, Timer::Deadline { ticket });
        if waiter.request.caller.0 != 0 {
            shard.used_by(waiter.request.caller.0).waiters -= 1;
        }
        if shard.waiters.is_empty() {
            shard.waiters.shrink_to_fit();
        }
        let Some(state) = shard.lines.get_mut(&waiter.line) else { return };
        let spot = state.spot;
        let was_head = state.tickets.first() == Some(&ticket);
        state.tickets.remove(&ticket);
        let next = state.tickets.first().copied();
        if !was_head {
            if let Some(at) = self.at(spot.0)
                && let Some(counter) = self.shards[at].counters.get_mut(spot.1)
            {
                counter.queue().waitlist.left(&waiter.line);
            }
            return;
        }
        let fallen = std::mem::take(&mut state.barrier);
        let head = next.and_then(|ticket| shard.waiters.get(&ticket)).map(|head| head.request.need());
        if head.is_none() {
            shard.lines.remove(&waiter.line);
            if shard.lines.is_empty() {
                shard.lines.shrink_to_fit();
            }
        }
        for spot in fallen {
            self.lower(WaiterId { ticket, shard: index }, spot, now, work);
        }
        let parked = self.unpark(&waiter.line, spot, now);
        if let (Some(parked), Some(ticket), Some((calls, cost))) = (parked, next, head) {
            let head = WaiterId { ticket, shard: index };
            let parked = Parked { head, calls, cost, waiters: parked.waiters - 1, passes: 0, ..parked };
            self.park(parked, spot, None, now);
        }
        work.push(spot);
    }

    fn lower(&mut self, owner: WaiterId, spot: Spot, now: u64, work: &mut Work) {
        let Some(at) = self.at(spot.0) else { return };
        let Some(counter) = self.shards[at].counters.get_mut(spot.1) else { return };
        counter.queue().barriers.remove(&owner);
        self.shards[at].sweep_later(spot.1, now);
        work.push(spot);
    }

    /// Puts the barrier of a head where it belongs: at all its counters when all it lacks is concurrency; only at those
    /// whose rate it lacks when it lacks a rate; nowhere when one is closed, because that may last.
    #[expect(clippy::too_many_arguments, reason = "the one place that asks for all of a waiter's standing")]
    fn raise(
        &mut self,
        line: &Line,
        inline: &[Arc<Inline>],
        origin: usize,
        ticket: u64,
        sites: &Sites,
        now: u64,
        work: &mut Work,
    ) {
        let mut wanted: SmallVec<[Spot; 3]> = SmallVec::new();
        let (mut rate, mut closed) = (false, false);
        for site in sites {
            let counter = &mut self.shards[site.at].counters[site.hold.counter];
            let standing = stand(counter, &site.hold, own(inline, site), Some(ticket), now);
            closed |= standing != Standing::Fits && counter.is_closed();
            rate |= matches!(standing, Standing::Blocked(Some(_)));
        }
        if !closed {
            for site in sites {
                let counter = &mut self.shards[site.at].counters[site.hold.counter];
                if !rate || stand(counter, &site.hold, own(inline, site), Some(ticket), now) != Standing::Fits {
                    wanted.push(self.spot(site));
                }
            }
        }
        let owner = WaiterId { ticket, shard: self.shards[origin].index };
        let Some(state) = self.shards[origin].lines.get_mut(line) else { return };
        let before = std::mem::replace(&mut state.barrier, wanted.clone());
        for spot in &wanted {
            if let Some(at) = self.at(spot.0) {
                self.shards[at].counters[spot.1].queue().barriers.insert(owner);
            }
        }
        for spot in before.into_iter().filter(|spot| !wanted.contains(spot)) {
            self.lower(owner, spot, now, work);
        }
    }

    /// Counts a grant at each of its counters against who is first in order there and came earlier.
    pub(crate) fn count_passes(&mut self, sites: &Sites, ticket: Option<u64>, now: u64, effects: &mut Vec<Effect>) {
        for site in sites {
            let counter = &mut self.shards[site.at].counters[site.hold.counter];
            let Some(queue) = &mut counter.queue else { continue };
            if let Some(parked) = queue.waitlist.passed(ticket.unwrap_or(u64::MAX), now) {
                let shards = self.shards_of_line(&parked.line);
                effects.push(retry(&parked, shards));
            }
        }
    }

    /// A waiter gives up, or its shards are at hand at last.
    pub(crate) fn deadline(&mut self, ticket: u64, at: usize, now: u64, effects: &mut Vec<Effect>) {
        let Some(waiter) = self.shards[at].waiters.get(&ticket) else { return };
        let id = WaiterId { ticket, shard: self.shards[at].index };
        let shards = self.shards_of_line(&waiter.line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            effects.push(Effect::Retry { waiter: id, shards });
            return;
        }
        self.end(id, Reason::TimedOut, now, effects);
    }

    pub(crate) fn retry(&mut self, waiter: WaiterId, now: u64, effects: &mut Vec<Effect>) -> Output {
        let found = self.at(waiter.shard).and_then(|at| self.shards[at].waiters.get(&waiter.ticket));
        let Some((line, deadline)) = found.map(|found| (Arc::clone(&found.line), found.deadline)) else {
            return Output::Gone;
        };
        if deadline <= now {
            self.end(waiter, Reason::TimedOut, now, effects);
            return Output::Done;
        }
        let Some((at, counter)) = self.place_of(&line) else { return Output::Gone };
        let parked = self.shards[at].counters[counter].parked(&line).cloned();
        let mut work = Work::new();
        // Looked at first, fitting or not: it may be about to raise its barrier.
        if let Some(parked) = parked.filter(|parked| parked.head == waiter && parked.passes >= MAX_PASSES) {
            self.look(&parked, now, effects, &mut work);
        }
        work.push((self.shards[at].index, counter));
        self.work(&mut work, now, effects);
        Output::Done
    }

    pub(crate) fn cancel(&mut self, waiter: WaiterId, now: u64, effects: &mut Vec<Effect>) -> Output {
        let Some(at) = self.at(waiter.shard) else { return Output::Gone };
        let Some(found) = self.shards[at].waiters.get(&waiter.ticket) else { return Output::Gone };
        let shards = self.shards_of_line(&found.line);
        if shards.iter().any(|shard| self.at(*shard).is_none()) {
            return Output::Elsewhere(shards);
        }
        let Some(found) = self.shards[at].waiters.remove(&waiter.ticket) else { return Output::Gone };
        let mut work = Work::new();
        self.take_off(at, waiter.ticket, &found, now, &mut work);
        if planted::is(Bug::CancelWakesNobody) {
            return Output::Done;
        }
        self.work(&mut work, now, effects);
        Output::Done
    }

    /// Refuses a waiter, with the same detail as a newcomer, and serves who stood behind it.
    pub(crate) fn end(&mut self, waiter: WaiterId, reason: Reason, now: u64, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(waiter.shard) else { return };
        let Some(found) = self.shards[at].waiters.remove(&waiter.ticket) else { return };
        let sites = self.sites_at_hand(&found.request);
        let which = if reason == Reason::TooLarge { Which::TooLarge } else { Which::InTheWay };
        let inline = &found.request.inline;
        let constraints = self.describe(now, &sites, inline, Some((waiter.ticket, &found.line)), which);
        if let Some((at, counter)) = self.place_of(&found.line) {
            let counter = &mut self.shards[at].counters[counter];
            counter.refused = counter.refused.saturating_add(1);
        }
        let refusal = self.refuse(reason, constraints);
        effects.push(Effect::Refused { waiter, refusal });
        let mut work = Work::new();
        self.take_off(at, waiter.ticket, &found, now, &mut work);
        self.work(&mut work, now, effects);
    }

    /// After a change of rules: who can never fit any more ends, barriers are put anew, and who fits now is granted.
    pub(crate) fn look_at_all(&mut self, now: u64, effects: &mut Vec<Effect>) {
        let mut tickets: Vec<WaiterId> = Vec::new();
        for shard in self.shards.iter() {
            tickets.extend(shard.waiters.keys().map(|ticket| WaiterId { ticket: *ticket, shard: shard.index }));
        }
        tickets.sort_unstable();
        for id in tickets {
            // One may have been granted by the serving of an earlier one.
            let found = self.at(id.shard).and_then(|at| self.shards[at].waiters.get(&id.ticket));
            let Some(request) = found.map(|found| found.request.clone()) else { continue };
            if !planted::is(Bug::NeverFitsWaitsOn) && self.can_never_fit(&request, id.ticket, now) {
                self.end(id, Reason::TooLarge, now, effects);
            }
        }
        let mut spots: BTreeSet<Spot> = BTreeSet::new();
        let mut work = Work::new();
        for at in 0..self.shards.len() {
            let mut barred: Vec<(Option<u64>, Arc<Line>)> = self.shards[at]
                .lines
                .iter()
                .filter(|(_, state)| !state.barrier.is_empty())
                .map(|(line, state)| (state.tickets.first().copied(), Arc::clone(line)))
                .collect();
            barred.sort_unstable_by_key(|(ticket, _)| *ticket);
            for (_, line) in barred {
                let parked = self
                    .place_of(&line)
                    .and_then(|(at, counter)| self.shards[at].counters[counter].parked(&line).cloned());
                if let Some(parked) = parked {
                    self.look(&parked, now, effects, &mut work);
                }
            }
            spots.extend(self.shards[at].lines.values().map(|state| state.spot));
        }
        // Whose pool is no longer one may be parked at a counter that is none of its own.
        for (shard, counter) in spots.iter().copied().collect::<Vec<_>>() {
            let Some(at) = self.at(shard).filter(|at| self.shards[*at].counters.contains(counter)) else {
                continue;
            };
            self.shards[at].refresh(counter);
            let found = &self.shards[at].counters[counter];
            if found.kind != CounterKind::Pool || found.rule.is_some() {
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
    fn shards_of_line(&self, line: &Line) -> SmallVec<[u16; 4]> {
        let scopes = line.targets.iter().map(|key| key.scope());
        let inline = line.inline.iter().map(|inline| inline.name.scope());
        self.shards[0].placement.all_shards_of(scopes.chain(inline), &self.shards[0].book)
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

fn retry(parked: &Parked, shards: SmallVec<[u16; 4]>) -> Effect {
    Effect::Retry { waiter: parked.head, shards }
}
