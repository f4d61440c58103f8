//! Lines: who stands behind whom, and whose deadline is watched.
//!
//! A line and the records of its waiters lie in their origin, the lowest shard of their requests. Each waiter knows who
//! stands before it and behind it, so one joins, leaves and gives up in O(1), wherever it stands.
//!
//! # Deadlines
//! Those of a line mostly give up in the order in which they came. So a waiter has a timer only where the one before it
//! does not give up first: the head, and who has less patience than the one before it. When a timer goes off, or its
//! owner leaves, the one behind gets a timer, unless it has one. Ten thousand that wait a minute each are one timer.
//!
//! Worked example: `a` waits until 60 s, `b` until 70 s, `c` until 65 s. `a` and `c` have timers. At 40 s `a` is granted,
//! and `b` gets one.
//!
//! # Invariant
//! Who has no timer stands behind somebody who gives up no later. So the first of a line to give up has one.

use crate::name::ScopedKey;
use crate::pages::Pages;
use crate::request::{Inline, LeaseRef, Request, WaiterId};
use crate::shard::{Shard, Timer};
use crate::waiting::{Parking, Spot};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

/// What those who wait in one line have in common; see the module `order`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) targets: SmallVec<[ScopedKey; 1]>,
    pub(crate) inline: Vec<Arc<Inline>>,
    pub(crate) priority: u8,
    /// The fairness key.
    pub(crate) share: Arc<str>,
    pub(crate) weight: NonZeroU16,
    /// Of one who rides on a lease: it stands alone, because it may need less than others at any time.
    pub(crate) alone: Option<Box<Alone>>,
}

/// Who stands alone in its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alone {
    pub(crate) ticket: u64,
    /// The parts of the lease that it rides on, as long as they live and lend to nobody else.
    pub(crate) named: SmallVec<[LeaseRef; 1]>,
    /// The counters that this lease was on when it came: whoever lacks one of them has waited for its holder since.
    pub(crate) on: SmallVec<[Spot; 3]>,
    /// Calls and cost without it.
    pub(crate) need: (u32, u32),
}

impl Line {
    /// The counters that the lease is on which its waiter names, if it names one.
    #[inline]
    pub(crate) fn on(&self) -> &[Spot] {
        self.alone.as_ref().map_or(&[], |alone| &alone.on)
    }

    /// Whether a request that rides on no lease waits in it.
    #[inline]
    pub(crate) fn is_of(&self, request: &Request) -> bool {
        match (&*self.targets, &*request.targets, &*self.inline, &*request.inline) {
            ([own], [key], [], []) => {
                own == key
                    && self.priority == request.priority
                    && self.weight == request.weight
                    && *self.share == *request.share()
                    && self.alone.is_none()
            }
            _ => *self == request.line(u64::MAX),
        }
    }
}

/// Somebody who waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) request: Request,
    /// One for each timed lease that it asks for.
    pub(crate) secrets: SmallVec<[u128; 1]>,
    pub(crate) arrived: u64,
    pub(crate) deadline: u64,
}

impl Waiter {
    /// What it counts for under the cap of waiters: the leases that it asks for. Once it is granted it has them, whatever the cap of
    /// leases says then, and until then it has a secret for each.
    pub(crate) fn units(&self) -> usize {
        self.request.count.get() as usize
    }
}

/// Where somebody stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) ticket: u64,
    pub(crate) waiter: Arc<Waiter>,
    /// The line.
    pub(crate) line: u32,
    before: u32,
    behind: u32,
    /// Whether it has a timer.
    timed: bool,
}

/// Nobody.
const NONE: u32 = u32::MAX;

/// What the origin knows of a line. It has at least one waiter.
#[derive(Debug, Clone)]
pub(crate) struct LineState {
    pub(crate) line: Arc<Line>,
    hash: u64,
    first: u32,
    last: u32,
    /// Where it is parked.
    pub(crate) parking: Parking,
    /// Where the barrier of its head stands.
    pub(crate) barrier: SmallVec<[(u16, u32); 3]>,
}

/// What a waiter that left has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its line has another head.
    Head(WaiterId),
    /// It was the last of its line.
    Nobody,
    /// It stood behind the head.
    Behind,
}

impl Shard {
    /// Somebody, if it still waits.
    #[inline]
    pub(crate) fn place(&self, waiter: WaiterId) -> Option<&Place> {
        self.places.get(waiter.slot).filter(|place| place.ticket == waiter.ticket)
    }

    /// The shards of a line, ascending, each once.
    pub(crate) fn shards_of_line(&self, line: &Line) -> SmallVec<[u16; 4]> {
        let scopes = line.targets.iter().map(|key| key.scope());
        let inline = line.inline.iter().map(|inline| inline.name.scope());
        self.placement.all_shards_of(scopes.chain(inline), &self.book)
    }

    /// The shards of those lines that lie in several, and whose record lies here.
    ///
    /// O(lines).
    #[must_use]
    pub fn spans(&self) -> BTreeSet<SmallVec<[u16; 4]>> {
        let all = self.lines.iter().map(|(_, state)| self.shards_of_line(&state.line));
        all.filter(|shards| shards.len() > 1).collect()
    }

    /// The line of a request, if there is one. Who rides on a lease stands alone.
    #[inline]
    pub(crate) fn line_of(&self, request: &Request) -> Option<u32> {
        if !request.lend_from.is_empty() {
            return None;
        }
        let hash = self.placement.hash_of_line(request);
        self.line_table.find(hash, |line| self.lines[*line].line.is_of(request)).copied()
    }

    /// A new line behind nobody, parked nowhere. The next thing is that somebody joins it.
    pub(crate) fn new_line(&mut self, request: &Request, line: Arc<Line>) -> u32 {
        let hash = self.placement.hash_of_line(request);
        let parking = Parking { spot: (self.index, NONE), place: NONE };
        let state = LineState { line, hash, first: NONE, last: NONE, parking, barrier: SmallVec::new() };
        let joined = state.line.alone.is_none();
        let line = self.lines.insert(state);
        // Nobody looks for one who stands alone.
        if joined {
            let lines = &self.lines;
            self.line_table.insert_unique(hash, line, |line| lines[*line].hash);
        }
        line
    }

    /// The first of a line.
    pub(crate) fn head_of(&self, line: u32) -> Option<WaiterId> {
        self.id_of(self.lines.get(line)?.first)
    }

    fn id_of(&self, slot: u32) -> Option<WaiterId> {
        self.places.get(slot).map(|place| WaiterId { ticket: place.ticket, shard: self.index, slot })
    }

    /// Everybody, by arrival.
    pub(crate) fn everybody(&self) -> Vec<WaiterId> {
        let id = |(slot, place): (u32, &Place)| WaiterId { ticket: place.ticket, shard: self.index, slot };
        let mut all: Vec<WaiterId> = self.places.iter().map(id).collect();
        all.sort_unstable();
        all
    }

    /// Puts a newcomer at the end of a line.
    pub(crate) fn stand_behind(&mut self, line: u32, ticket: u64, waiter: Waiter, now: u64) -> WaiterId {
        let before = self.lines[line].last;
        let deadline = waiter.deadline;
        // Whose deadline has passed may have no timer any more.
        let covers = |before: &Place| before.waiter.deadline > now && before.waiter.deadline <= deadline;
        let covered = self.places.get(before).is_some_and(covers);
        self.waiting += waiter.units();
        if waiter.request.caller.number() != 0 {
            self.used_by(waiter.request.caller.number()).waiters += waiter.units();
        }
        let place = Place { ticket, waiter: Arc::new(waiter), line, before, behind: NONE, timed: !covered };
        let slot = self.places.insert(place);
        match self.places.get_mut(before) {
            Some(before) => before.behind = slot,
            None => self.lines[line].first = slot,
        }
        self.lines[line].last = slot;
        if !covered {
            self.set_timer(deadline, Timer::Deadline { ticket, slot });
        }
        WaiterId { ticket, shard: self.index, slot }
    }

    /// Takes somebody out of its line. A line that nobody stands in any more is gone.
    pub(crate) fn leave_line(&mut self, slot: u32) -> Left {
        let Place { ticket, waiter, line, before, behind, timed } = self.places.remove(slot);
        if timed {
            self.clear_timer(waiter.deadline, Timer::Deadline { ticket, slot });
            self.watch(behind);
        }
        self.waiting -= waiter.units();
        if waiter.request.caller.number() != 0 {
            self.used_by(waiter.request.caller.number()).waiters -= waiter.units();
        }
        if let Some(behind) = self.places.get_mut(behind) {
            behind.before = before;
        }
        if let Some(before) = self.places.get_mut(before) {
            before.behind = behind;
        }
        let state = &mut self.lines[line];
        if state.last == slot {
            state.last = before;
        }
        if state.first != slot {
            return Left::Behind;
        }
        state.first = behind;
        self.id_of(behind).map_or(Left::Nobody, Left::Head)
    }

    /// Lets go of a line that nobody stands in.
    pub(crate) fn drop_line(&mut self, line: u32) {
        let hash = self.lines.remove(line).hash;
        if let Ok(entry) = self.line_table.find_entry(hash, |other| *other == line) {
            entry.remove();
        }
        if self.lines.is_empty() {
            self.line_table = HashTable::new();
        }
    }

    /// The timer of somebody has gone off: who stands behind it is watched next.
    pub(crate) fn deadline_passed(&mut self, slot: u32) {
        if let Some(place) = self.places.get_mut(slot) {
            place.timed = false;
            let behind = place.behind;
            self.watch(behind);
        }
    }

    /// Sees to it that somebody has a timer.
    fn watch(&mut self, slot: u32) {
        if let Some(place) = self.places.get_mut(slot).filter(|place| !place.timed) {
            place.timed = true;
            let (at, ticket) = (place.waiter.deadline, place.ticket);
            self.set_timer(at, Timer::Deadline { ticket, slot });
        }
    }

    /// Takes everybody out, and answers who that was, by arrival.
    pub(crate) fn clear_lines(&mut self) -> Vec<WaiterId> {
        let all = self.everybody();
        for waiter in &all {
            let place = self.places.remove(waiter.slot);
            if place.timed {
                self.clear_timer(place.waiter.deadline, Timer::Deadline { ticket: waiter.ticket, slot: waiter.slot });
            }
            if place.waiter.request.caller.number() != 0 {
                self.used_by(place.waiter.request.caller.number()).waiters -= place.waiter.units();
            }
        }
        self.waiting = 0;
        self.lines = Pages::new();
        self.line_table = HashTable::new();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placement;
    use crate::shard::ShardLimits;
    use proptest::prelude::*;

    fn waiter(request: &Request, deadline: u64) -> Waiter {
        Waiter { request: request.clone(), secrets: SmallVec::new(), arrived: 0, deadline }
    }

    fn shard() -> Shard {
        Shard::new(0, Placement::fixed(1), ShardLimits::default())
    }

    #[test]
    fn the_worked_example() {
        let (mut shard, request) = (shard(), Request::new("s".parse().unwrap()));
        let line = shard.new_line(&request, Arc::new(request.line(1)));
        let [a, b, c] = [(1, 60), (2, 70), (3, 65)]
            .map(|(ticket, deadline)| shard.stand_behind(line, ticket, waiter(&request, deadline), 0));
        let timed = |shard: &Shard| [a, b, c].map(|id| shard.place(id).is_some_and(|place| place.timed));
        assert_eq!((shard.line_of(&request), timed(&shard)), (Some(line), [true, false, true]));
        assert_eq!(shard.leave_line(a.slot), Left::Head(b));
        assert_eq!((shard.place(a).is_none(), timed(&shard)), (true, [false, true, true]));
        assert_eq!((shard.leave_line(c.slot), shard.leave_line(b.slot)), (Left::Behind, Left::Nobody));
        shard.drop_line(line);
        assert!(shard.line_of(&request).is_none() && shard.is_empty());
        assert_eq!(shard.next_due(), None);
    }

    proptest! {
        #[test]
        fn the_first_to_give_up_has_a_timer_and_nobody_gives_up_unwatched(
            moves in proptest::collection::vec((0u8..8, any::<u16>(), 0u64..50), 1..300)
        ) {
            let mut shard = shard();
            let requests = ["s", "s/a", "t"].map(|key| Request::new(key.parse().unwrap()));
            let mut lines: [Vec<(WaiterId, u64)>; 3] = Default::default();
            let (mut now, mut ticket) = (1, 0);
            for (what, which, by) in moves {
                let index = usize::from(which) % 3;
                let (request, queue) = (&requests[index], &mut lines[index]);
                match what {
                    // Somebody comes.
                    0..=3 => {
                        ticket += 1;
                        let line = shard.line_of(request);
                        prop_assert_eq!(line.is_some(), !queue.is_empty());
                        let line = line.unwrap_or_else(|| shard.new_line(request, Arc::new(request.line(ticket))));
                        let id = shard.stand_behind(line, ticket, waiter(request, now + 1 + by), now);
                        queue.push((id, now + 1 + by));
                    }
                    // Somebody leaves, mostly the head.
                    4..=6 if !queue.is_empty() => {
                        let at = if what == 4 { usize::from(which / 3) % queue.len() } else { 0 };
                        let line = shard.line_of(request).unwrap();
                        prop_assert_eq!(shard.head_of(line), Some(queue[0].0));
                        let (id, _) = queue.remove(at);
                        let left = match queue.first() {
                            None => Left::Nobody,
                            Some((head, _)) if at == 0 => Left::Head(*head),
                            Some(_) => Left::Behind,
                        };
                        prop_assert_eq!(shard.leave_line(id.slot), left);
                        if left == Left::Nobody {
                            shard.drop_line(line);
                        }
                    }
                    // Time passes: who is due goes, by deadline and then by arrival.
                    _ => {
                        now += by;
                        let mut due: Vec<(u64, WaiterId)> =
                            lines.iter().flatten().map(|(id, deadline)| (*deadline, *id)).filter(|(at, _)| *at <= now).collect();
                        due.sort_unstable();
                        let mut found = Vec::new();
                        while let Some(timer) = shard.pop_due(now) {
                            let Timer::Deadline { ticket, slot } = timer else { panic!("{timer:?}") };
                            let id = WaiterId { ticket, shard: 0, slot };
                            found.push((shard.place(id).unwrap().waiter.deadline, id));
                            shard.deadline_passed(slot);
                            let queue = lines.iter_mut().find(|queue| queue.iter().any(|(other, _)| *other == id)).unwrap();
                            let line = shard.place(id).unwrap().line;
                            queue.retain(|(other, _)| *other != id);
                            if shard.leave_line(slot) == Left::Nobody {
                                shard.drop_line(line);
                            }
                        }
                        prop_assert_eq!(found, due);
                    }
                }
                let first = lines.iter().flatten().map(|(_, deadline)| *deadline).min();
                prop_assert_eq!(shard.next_due(), first);
                let mut all: Vec<WaiterId> = lines.iter().flatten().map(|(id, _)| *id).collect();
                all.sort_unstable();
                prop_assert_eq!(shard.everybody(), all);
            }
            shard.clear_lines();
            prop_assert!(shard.is_empty());
        }
    }

    #[test]
    fn who_comes_behind_one_that_is_overdue_is_watched() {
        let (mut shard, request) = (shard(), Request::new("s".parse().unwrap()));
        let line = shard.new_line(&request, Arc::new(request.line(1)));
        let first = shard.stand_behind(line, 1, waiter(&request, 10), 0);
        assert!(shard.pop_due(10).is_some());
        // Not all its shards are at hand: it stays for now.
        shard.deadline_passed(first.slot);
        let second = shard.stand_behind(line, 2, waiter(&request, 20), 10);
        assert_eq!(shard.next_due(), Some(20));
        assert_eq!((shard.leave_line(first.slot), shard.next_due()), (Left::Head(second), Some(20)));
    }
}
