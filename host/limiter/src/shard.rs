//! Shards: where the state lies.
//!
//! A counter's *root* (its scope) decides its shard, so a request under one scope touches one shard. A shard holds the
//! counters, the parts of leases at them, the waiters parked at them, and the timers of all three. It shares nothing
//! with another shard but the rule book, which is immutable.
//!
//! Every shard keeps a *sequence*: the number of its last grant or arrival. The next is one more, or the present time in
//! nanoseconds, whichever is larger; a step over several shards takes the largest of theirs and sets them all to it. So
//! fencing numbers and tickets grow with every grant and arrival wherever two of them can meet, across restarts too as
//! long as the clock does, without one number that all processors write.
//!
//! Timers are kept in a tree by their instant. Each kind has at most one timer for its owner: a lease that ends, a waiter
//! that gives up (most of them have none: `line`), a counter whose head waits for a refill, a counter that the sweep will
//! look at late (soon: `sweeps`).

use crate::book::RuleBook;
use crate::catching_up::Walk;
use crate::counter::Counter;
use crate::histogram::Histogram;
use crate::journal::Journal;
use crate::leases::Leases;
use crate::line::{LineState, Place};
use crate::name::CounterKind;
use crate::pages::Pages;
use crate::placement::Placement;
use crate::planted::{self, Bug};
use crate::refusal::Reason;
use crate::request::{Caller, LeaseRef};
use crate::shares::{Use, may_have};
use crate::sweeps::Sweeps;
use hashbrown::{HashMap, HashTable};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How long an idle counter is kept in case it is used again, in nanoseconds; up to 8.4 ms more. Making one costs about ten times a use; a second would
/// spend a timer a second on every busy counter.
pub const IDLE_KEEP: u64 = 10_000_000_000;

/// Every how many grants the time that a lease is held is measured; a mean needs no more.
const MEASURED_HOLDS: u64 = 8;

/// Whether the time that this lease is held goes into the mean of its counters.
#[inline]
pub(crate) fn hold_is_measured(fence: u64) -> bool {
    fence.is_multiple_of(MEASURED_HOLDS)
}

/// Named bounds of one shard. Past them new work is refused as `overloaded`, and nothing present is touched. Callers share them
/// out: see [`may_have`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLimits {
    /// Counters, about 180 bytes each; see docs/benchmarks.md.
    pub max_counters: usize,
    /// Leases that are waited for, of a batch all that it asks for: about 300 bytes a waiter, and 16 for each further lease of a batch.
    pub max_waiters: usize,
    /// Entries of all window logs, 16 bytes each, on the account of who made their counter. Past it no counter starts a log.
    pub max_log_entries: usize,
    /// Lease parts, about 170 bytes each.
    pub max_leases: usize,
}

impl Default for ShardLimits {
    /// Bounds for one of 64 shards: in all 1 M counters, 1 M waiters, 16 M log entries (256 MB), 1 M leases; each shard
    /// may hold four times its share, since scopes do not spread evenly.
    fn default() -> Self {
        Self { max_counters: 65_536, max_waiters: 65_536, max_log_entries: 1_048_576, max_leases: 65_536 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A lease part ends.
    Expiry { slot: u32, fence: u64 },
    /// Somebody in this counter's waitlist may fit.
    Refill { counter: u32 },
    /// A waiter gives up; by ticket, as all that is due at one instant.
    Deadline { ticket: u64, slot: u32 },
    /// This counter may equal a fresh one.
    Sweep { counter: u32 },
    /// The next page of counters is to come under the book in force.
    CatchUp,
}

/// What a shard has counted since it was made, and what it holds now.
#[derive(Debug, Clone, Default)]
pub struct ShardMetrics {
    /// Requests granted.
    pub granted: u64,
    /// Requests refused, in the order of [`Reason::ALL`].
    pub refused: [u64; Reason::ALL.len()],
    /// Requests that had to wait.
    pub waited: u64,
    /// Waits of those who were granted.
    pub waits: Histogram,
    /// Leases that ended by themselves.
    pub expired: u64,
    /// Grants that a shadow limit would have refused.
    pub shadow_refused: u64,
    /// Waiters now.
    pub waiting: u64,
    /// Lease parts now.
    pub leases: u64,
    /// Counters now.
    pub counters: u64,
    /// Window-log entries now.
    pub log_entries: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Shard {
    pub(crate) index: u16,
    pub(crate) placement: Placement,
    pub(crate) limits: ShardLimits,
    /// The latest time it has seen: a step never goes back.
    pub(crate) now: u64,
    pub(crate) sequence: u64,
    pub(crate) book: Arc<RuleBook>,
    /// The last books, and when they came into force: a counter in use again catches up with them.
    pub(crate) changes: VecDeque<(Arc<RuleBook>, u64)>,
    /// The version of the last one that is not among them any more.
    pub(crate) forgotten: u64,
    pub(crate) walk: Walk,
    pub(crate) closed: bool,
    table: HashTable<u32>,
    pub(crate) counters: Pages<Counter>,
    pub(crate) leases: Leases,
    /// Timed leases by their secret.
    pub(crate) ids: HashMap<u128, u32>,
    /// Who waits, and the lines that they stand in; see `line`.
    pub(crate) places: Pages<Place>,
    /// The leases that they ask for.
    pub(crate) waiting: usize,
    pub(crate) lines: Pages<LineState>,
    pub(crate) line_table: HashTable<u32>,
    /// Lines in the waitlists of its counters.
    pub(crate) parked: usize,
    timers: BTreeSet<(u64, Timer)>,
    sweeps: Sweeps,
    /// The instant of the first timer or sweep; the end of time when there is none.
    pub(crate) next_due: u64,
    pub(crate) log_entries: usize,
    /// Those of callers that have more than half of the cap, beyond that half.
    pub(crate) outgrown: usize,
    /// By the number of the caller; as long as the largest that ever came.
    pub(crate) callers: Vec<Use>,
    pub(crate) metrics: ShardMetrics,
    /// What must survive; none where nothing must.
    pub(crate) journal: Option<Box<Journal>>,
}

impl Shard {
    /// An empty shard under an empty book.
    #[must_use]
    pub fn new(index: u16, placement: Placement, limits: ShardLimits) -> Self {
        Self {
            index,
            placement,
            limits,
            now: 0,
            sequence: 0,
            book: Arc::default(),
            changes: VecDeque::new(),
            forgotten: 0,
            walk: Walk::default(),
            closed: false,
            table: HashTable::new(),
            counters: Pages::new(),
            leases: Leases::new(),
            ids: HashMap::new(),
            places: Pages::new(),
            waiting: 0,
            lines: Pages::new(),
            line_table: HashTable::new(),
            parked: 0,
            timers: BTreeSet::new(),
            sweeps: Sweeps::default(),
            next_due: u64::MAX,
            log_entries: 0,
            outgrown: 0,
            callers: Vec::new(),
            metrics: ShardMetrics::default(),
            journal: None,
        }
    }

    /// When the next timer is due, in the engine's nanoseconds.
    #[inline]
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        (self.next_due != u64::MAX).then_some(self.next_due)
    }

    /// What it has counted, and what it holds.
    #[must_use]
    pub fn metrics(&self) -> ShardMetrics {
        ShardMetrics {
            waiting: self.places.len() as u64,
            leases: self.leases.len() as u64,
            counters: self.counters.len() as u64,
            log_entries: self.log_entries as u64,
            ..self.metrics.clone()
        }
    }

    /// Nothing is held, nobody waits, no counter and no timer is left, and nothing is on anybody's account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
            && self.leases.is_empty()
            && self.ids.is_empty()
            && self.places.is_empty()
            && self.lines.is_empty()
            && self.line_table.is_empty()
            && self.parked == 0
            && self.timers.is_empty()
            && self.sweeps.is_empty()
            && self.log_entries == 0
            && self.callers.iter().all(|own| *own == Use::default())
    }

    /// Whether ending a part of a lease needs the present time: somebody waits here, or its hold is one that is measured, which the first
    /// at a counter is.
    ///
    /// Else any earlier time will do, and its caller may spare itself a look at the clock. The short way back does not ask
    /// whether it is the first.
    #[inline]
    #[must_use]
    pub fn release_needs_time(&self, lease: LeaseRef) -> bool {
        self.parked > 0
            || hold_is_measured(lease.fence)
            || self
                .leases
                .get(lease.slot)
                .is_some_and(|part| part.holds.iter().any(|hold| self.counters[hold.counter].mean_hold() == 0))
    }

    /// Whether anybody waits here. Else nobody sees when a timer is taken: the next step takes first what has come due.
    #[inline]
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.parked > 0 || !self.places.is_empty()
    }

    /// The rule book it decides by.
    #[must_use]
    pub fn book(&self) -> &Arc<RuleBook> {
        &self.book
    }

    #[inline]
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.placement.hash(name);
        self.table.find(hash, |slot| self.counters[*slot].name == name).copied()
    }

    /// The counter of this name, made for `caller` if need be. `None`: there are as many as `limit` allows it already.
    #[inline]
    pub(crate) fn counter(&mut self, name: &str, kind: CounterKind, caller: u32, limit: usize) -> Option<u32> {
        let hash = self.placement.hash(name);
        self.present(hash, name).or_else(|| self.make_counter(hash, name, kind, caller, limit))
    }

    /// The counter of this name, if there is one, under the rule that binds it now.
    #[inline]
    pub(crate) fn present(&mut self, hash: u64, name: &str) -> Option<u32> {
        let slot = *self.table.find(hash, |slot| self.counters[*slot].name == name)?;
        self.refresh(slot);
        Some(slot)
    }

    #[cold]
    fn make_counter(&mut self, hash: u64, name: &str, kind: CounterKind, caller: u32, limit: usize) -> Option<u32> {
        if !may_have(limit, self.counters.len(), Caller(caller), self.use_of(caller).counters, 1) {
            return None;
        }
        if caller != 0 {
            self.used_by(caller).counters += 1;
        }
        let slot = self.counters.insert(Counter::new(name, kind, caller, &self.book));
        let (counters, placement) = (&self.counters, &self.placement);
        self.table.insert_unique(hash, slot, |slot| placement.hash(&counters[*slot].name));
        Some(slot)
    }

    /// Takes a counter off that equals a fresh one.
    pub(crate) fn drop_counter(&mut self, slot: u32) {
        if self.journal.is_some() {
            self.record_forgotten(slot);
        }
        self.book_entries(slot, 0);
        let counter = self.counters.remove(slot);
        if counter.caller != 0 {
            self.used_by(counter.caller).counters -= 1;
        }
        let hash = self.placement.hash(&counter.name);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        if let Some(queue) = counter.queue.filter(|queue| queue.refill_at != 0) {
            self.clear_timer(queue.refill_at, Timer::Refill { counter: slot });
        }
        // Memory returns to the floor in halves: shrinking on every drop would copy the table again and again.
        if self.counters.is_empty() {
            self.table = HashTable::new();
        } else if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 4 {
            let (counters, placement) = (&self.counters, &self.placement);
            self.table.shrink_to(self.table.len() * 2, |slot| placement.hash(&counters[*slot].name));
        }
    }

    pub(crate) fn set_timer(&mut self, at: u64, timer: Timer) {
        self.timers.insert((at, timer));
        self.next_due = self.next_due.min(at);
    }

    pub(crate) fn clear_timer(&mut self, at: u64, timer: Timer) {
        self.timers.remove(&(at, timer));
        self.note_first();
    }

    fn note_first(&mut self) {
        let timer = self.timers.first().map_or(u64::MAX, |(at, _)| *at);
        self.next_due = timer.min(self.sweeps.first().unwrap_or(u64::MAX));
    }

    /// Sees to it that the waitlist of a counter is looked at by this instant.
    pub(crate) fn refill_by(&mut self, counter: u32, until: u64) {
        let queue = self.counters[counter].queue();
        let before = queue.refill_at;
        if before != 0 && (before <= until || planted::is(Bug::SoonerRefillLost)) {
            return;
        }
        queue.refill_at = until;
        if before != 0 {
            self.clear_timer(before, Timer::Refill { counter });
        }
        self.set_timer(until, Timer::Refill { counter });
    }

    /// The instant of its first timer or sweep, and which timer is first: at one instant leases end before waits do, in all shards.
    pub(crate) fn next_timer(&self) -> (u64, Option<Timer>) {
        (self.next_due, self.timers.first().map(|(_, timer)| *timer))
    }

    /// Takes the earliest timer that is due.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Timer> {
        if self.next_due > now {
            return None;
        }
        let first = if self.timers.first().is_some_and(|(at, _)| *at == self.next_due) {
            self.timers.pop_first().map(|(_, timer)| timer)
        } else {
            self.sweeps.pop(&self.counters).map(|counter| Timer::Sweep { counter })
        };
        self.note_first();
        first
    }

    /// Sees to it that the sweep will look at a counter that has become idle.
    #[inline]
    pub(crate) fn sweep_later(&mut self, slot: u32, now: u64) {
        let counter = &mut self.counters[slot];
        if !counter.swept_later && counter.is_idle() {
            let history = if planted::is(Bug::EvictionForgivesQuota) { 0 } else { counter.history_ends_at() };
            self.sweep_at(slot, now.saturating_add(IDLE_KEEP).max(history), now);
        }
    }

    /// The same for a counter whose history is gone, for which the sweep may have been going to wait.
    ///
    /// O(timers): for what operators do.
    #[cold]
    pub(crate) fn sweep_anew(&mut self, slot: u32, now: u64) {
        let sweep = Timer::Sweep { counter: slot };
        let late = self.timers.iter().find(|(_, timer)| *timer == sweep).map(|(at, _)| *at);
        if let Some(at) = late {
            self.clear_timer(at, sweep);
            self.counters[slot].swept_later = false;
        }
        self.sweep_later(slot, now);
    }

    fn sweep_at(&mut self, slot: u32, at: u64, now: u64) {
        self.counters[slot].swept_later = true;
        if at <= now.saturating_add(IDLE_KEEP) {
            let due = self.sweeps.add(&mut self.counters, slot, at);
            self.next_due = self.next_due.min(due);
        } else {
            self.set_timer(at, Timer::Sweep { counter: slot });
        }
    }

    /// Looks at a counter whose sweep is due: drops it, looks again later, or leaves it to its next release.
    pub(crate) fn sweep(&mut self, slot: u32, now: u64) {
        // At a slower pace than it knows of yet, more is left to drain.
        self.refresh(slot);
        let counter = &mut self.counters[slot];
        counter.swept_later = false;
        counter.forget(now);
        self.book_log(slot);
        let counter = &mut self.counters[slot];
        if !counter.is_idle() {
            return;
        }
        let at = counter.history_ends_at().max(counter.last_used.saturating_add(IDLE_KEEP));
        if at <= now || planted::is(Bug::EvictionForgivesQuota) {
            self.drop_counter(slot);
        } else {
            self.sweep_at(slot, at, now);
        }
    }

    pub(crate) fn count_refusal(&mut self, reason: Reason) {
        self.metrics.refused[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    #[test]
    fn the_shards_of_a_request_are_those_of_its_scopes_ascending_and_each_once() {
        let placement = Placement::fixed(8);
        let own = crate::Limits::default();
        let mut request = Request::new("s0/a".parse().unwrap()).inline("i", "k", own).unwrap();
        for key in ["s1", "s0/b", "s2"] {
            request = request.also(key.parse().unwrap()).unwrap();
        }
        let mut expected = ["s0", "s1", "s2", "i"].map(|scope| placement.shard_of(scope)).to_vec();
        expected.sort_unstable();
        expected.dedup();
        assert!(expected.len() > 1, "they lie apart");
        assert_eq!(placement.shards_of(&request).to_vec(), expected);
        assert_eq!(placement.all_shards_of(request.scopes(), &RuleBook::default()).to_vec(), expected);
        assert_eq!(placement.home_of(&request), expected[0]);
        assert!(placement.shards_of(&Request::unscoped()).is_empty());
    }

    #[test]
    fn who_waited_when_it_closed_is_counted_no_more() {
        use crate::step::{Input, ShardSet};
        let mut shard = Shard::new(0, Placement::fixed(1), ShardLimits::default());
        let mut step = |input: Input<'_>| drop(ShardSet::new(&mut [&mut shard]).step(1, input, &mut Vec::new()));
        step(Input::Operate { counter: &"s".parse().unwrap(), verb: &crate::Verb::Pause });
        let request = Request::new("s".parse().unwrap()).caller(Caller(2));
        step(Input::Acquire { request: &request, wait: true, secrets: &[] });
        step(Input::Acquire { request: &request, wait: true, secrets: &[] });
        step(Input::Close);
        assert_eq!((shard.use_of(2).waiters, shard.places.len(), shard.parked), (0, 0, 0));
    }

    #[test]
    fn memory_comes_back_in_halves() {
        use crate::step::{Input, Output, ShardSet};
        let mut shard = Shard::new(0, Placement::fixed(1), ShardLimits::default());
        let mut now = 1_000_000_000_000;
        let step = |shard: &mut Shard, now: u64, input: Input<'_>| {
            ShardSet::new(&mut [shard]).step(now, input, &mut Vec::new())
        };
        let take = |shard: &mut Shard, now: u64, n: usize| {
            let request = Request::new(format!("s{n}").parse().unwrap());
            match step(shard, now, Input::Acquire { request: &request, wait: false, secrets: &[] }) {
                Output::Granted(grant) => grant.parts[0],
                other => panic!("{other:?}"),
            }
        };
        let mut leases: Vec<LeaseRef> = (0..1_000).map(|n| take(&mut shard, now, n)).collect();
        let full = shard.table.capacity();
        // A third of the room is no reason to copy; less than a quarter of it is.
        for (left, capacity) in
            [(full / 3, full - full / 10..=full), (full / 5, 1..=full / 2), (10, 1..=64), (0, 0..=0)]
        {
            for lease in leases.drain(left..) {
                now += 1;
                step(&mut shard, now, Input::Release { lease, outcome: crate::Outcome::Ok });
            }
            now += IDLE_KEEP * 2;
            step(&mut shard, now, Input::Tick);
            assert_eq!(shard.counters.len(), left);
            assert!(capacity.contains(&shard.table.capacity()), "{left}: {}", shard.table.capacity());
            for n in 0..left {
                assert!(shard.find(&format!("s{n}")).is_some());
            }
        }
        assert!(shard.leases.capacity() <= 64 && shard.is_empty());
    }
}
