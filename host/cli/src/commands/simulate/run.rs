//! The run: the server's limiter, asked by a load, on a clock that jumps from one event to the next.
//!
//! Three things happen: somebody arrives, a lease is given back, or a timer of the limiter is due. The earliest of them is
//! next, and the limiter is asked at its very instant; at one instant timers go first, then releases, then arrivals. So
//! whoever waits is granted to the nanosecond that the rules allow, and a day without events takes no time.
//!
//! # Worked example
//! `a` has a concurrency of 1; two arrive at 0 s and 0.5 s and hold for a second each. At 0 s the first is granted and its
//! release is put down for 1 s. At 0.5 s the second waits. At 1 s the release grants it, after a wait of 0.5 s.
//!
//! # Deliberately not handled
//! One shard takes the place of the 64 of a server. What it may hold is multiplied by the number of scopes, so a cap that
//! one scope would hit is the same (of a trace, whose scopes are not known before, by 64); how scopes share shards by
//! chance is left out. Nobody retries.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

use foldhash::fast::FixedState;
use weir_limiter::{Effect, Grant, Input, LeaseRef, Limiter, Outcome, Output, RuleBook, ShardLimits, WaiterId};

use super::load::{LoadError, Next, Source};
use super::progress::Progress;
use super::tally::{Places, Tallies};

/// When a run begins. To the limiter an instant of 0 is one that never was.
const BEGIN: u64 = 1_000_000_000;
/// How many shards a server has.
const SHARDS: usize = 64;
/// After how many events somebody looks at the clock's progress, and whether it is to stop.
const LOOK: u64 = 1 << 14;

/// What somebody holds or waits for.
#[derive(Debug, Clone, Copy)]
struct Work {
    place: u32,
    cost: u32,
    hold: u64,
}

/// A lease that will be given back. Ordered by its instant; at one instant, first granted is first given back.
#[derive(Debug)]
struct Release {
    at: u64,
    fence: u64,
    lease: LeaseRef,
    place: u32,
    cost: u32,
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.fence).cmp(&(other.at, other.fence))
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Release {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Release {}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Somebody asked it to stop.
    #[error("interrupted at {} % of the time to simulate", .percent)]
    Interrupted { percent: u64 },
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) places: Places,
    pub(crate) tallies: Tallies,
    /// When the next of a trace would have arrived, in nanoseconds from the beginning.
    pub(crate) goes_on: Option<u64>,
    /// Grants that shadow limits would have refused.
    pub(crate) would_refuse: u64,
}

/// A simulation at one instant.
#[derive(Debug)]
pub(crate) struct Run {
    limiter: Limiter,
    now: u64,
    end: u64,
    sources: Vec<Source>,
    /// The next arrival of each source, and when it comes.
    next: Vec<Next>,
    arrivals: BinaryHeap<Reverse<(u64, u32)>>,
    releases: BinaryHeap<Reverse<Release>>,
    waiting: HashMap<WaiterId, Work, FixedState>,
    effects: Vec<Effect>,
    places: Places,
    tallies: Tallies,
}

impl Run {
    /// A run of `width` nanoseconds, with every source at its first arrival.
    pub(crate) fn new(
        book: &Arc<RuleBook>,
        sources: Vec<Source>,
        places: Places,
        width: u64,
        charted: bool,
    ) -> Result<Self, LoadError> {
        let mut scopes: Vec<&str> = places.get().iter().map(|place| place.key.scope()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        // A trace has not told its scopes yet: it may have any number.
        let shards = if scopes.is_empty() { SHARDS } else { scopes.len().min(SHARDS) };
        let mut limits = ShardLimits::default();
        limits.max_counters *= shards;
        limits.max_waiters *= shards;
        limits.max_log_entries *= shards;
        limits.max_leases *= shards;
        let mut run = Self {
            limiter: Limiter::new(1, limits),
            now: BEGIN,
            end: BEGIN + width,
            next: Vec::new(),
            arrivals: BinaryHeap::new(),
            releases: BinaryHeap::new(),
            waiting: HashMap::default(),
            effects: Vec::new(),
            sources,
            places,
            tallies: Tallies::new(BEGIN, width, charted),
        };
        run.limiter.step(BEGIN, Input::SetBook { book: Arc::clone(book) }, &mut run.effects);
        for index in 0..run.sources.len() {
            run.next.push(Next { at: 0, hold: 0, place: 0 });
            if let Some(next) = run.advance(index)? {
                run.arrivals.push(Reverse((next, index as u32)));
            }
        }
        Ok(run)
    }

    /// Goes on to the end.
    pub(crate) fn finish(mut self, progress: &mut Progress, stop: &AtomicBool) -> Result<Finished, RunError> {
        let mut events: u64 = 0;
        while let Some(event) = self.event() {
            if self.now >= self.tallies.slice_end {
                self.tallies.turn(self.now, &self.places);
            }
            match event {
                Event::Due => {
                    self.limiter.step(self.now, Input::Tick, &mut self.effects);
                }
                Event::Release => self.release(),
                Event::Arrival => self.arrive()?,
            }
            if !self.effects.is_empty() {
                self.deliver();
            }
            events += 1;
            if events.is_multiple_of(LOOK) {
                let percent = (u128::from(self.now - BEGIN) * 100 / u128::from(self.end - BEGIN)) as u64;
                if stop.load(Memory::Relaxed) {
                    return Err(RunError::Interrupted { percent });
                }
                progress.at(events, percent);
            }
        }
        self.tallies.turn(self.end, &self.places);
        for work in self.waiting.values() {
            self.tallies.waiting(work.place);
        }
        // What is still to arrive lies after the end. Chance never ends, and nobody misses what it would have brought.
        let next = self.arrivals.peek().map(|Reverse((at, index))| (at - BEGIN, &self.sources[*index as usize]));
        let goes_on = next.and_then(|(at, source)| matches!(source, Source::Trace(_)).then_some(at));
        // Counters forget it when they are idle for long; their shard does not.
        let would_refuse = self.limiter.shards().iter().map(|shard| shard.metrics().shadow_refused).sum();
        Ok(Finished { places: self.places, tallies: self.tallies, goes_on, would_refuse })
    }

    /// Moves the clock to the next event before the end.
    fn event(&mut self) -> Option<Event> {
        const NEVER: u64 = u64::MAX;
        let due = self.limiter.next_due().unwrap_or(NEVER);
        let release = self.releases.peek().map_or(NEVER, |Reverse(release)| release.at);
        let arrival = self.arrivals.peek().map_or(NEVER, |Reverse((at, _))| *at);
        let (at, event) = if due < release.min(arrival) {
            (due, Event::Due)
        } else if release <= arrival {
            (release, Event::Release)
        } else {
            (arrival, Event::Arrival)
        };
        self.now = at.max(self.now);
        (at < self.end).then_some(event)
    }

    fn release(&mut self) {
        let Some(Reverse(release)) = self.releases.pop() else { return };
        self.tallies.released(release.place, self.now, release.cost);
        self.limiter.step(self.now, Input::Release { lease: release.lease, outcome: Outcome::Ok }, &mut self.effects);
    }

    fn arrive(&mut self) -> Result<(), LoadError> {
        let Some(&Reverse((_, index))) = self.arrivals.peek() else { return Ok(()) };
        let index = index as usize;
        let Next { hold, place, .. } = self.next[index];
        let request = self.sources[index].request();
        let work = Work { place, cost: request.cost.get(), hold };
        self.tallies.arrived(place);
        let input = Input::Acquire { request, wait: true, secrets: &[] };
        match self.limiter.step(self.now, input, &mut self.effects) {
            Output::Granted(grant) => self.granted(work, &grant),
            Output::Waiting(waiter) => {
                self.waiting.insert(waiter, work);
            }
            Output::Refused(refusal) => self.tallies.refused(place, refusal.reason),
            other => unreachable!("an acquire is granted, waits or is refused, but not {other:?}"),
        }
        let next = self.advance(index)?;
        if let Some(mut top) = self.arrivals.peek_mut() {
            match next {
                Some(at) => top.0.0 = at,
                None => {
                    std::collections::binary_heap::PeekMut::pop(top);
                }
            }
        }
        Ok(())
    }

    /// Asks a source for its next arrival, and answers when it comes.
    fn advance(&mut self, index: usize) -> Result<Option<u64>, LoadError> {
        let next = self.sources[index].next(&mut self.places)?;
        if let Some(next) = next {
            self.next[index] = next;
        }
        Ok(next.map(|next| next.at.saturating_add(BEGIN)))
    }

    fn granted(&mut self, work: Work, grant: &Grant) {
        let Work { place, cost, hold } = work;
        self.tallies.granted(place, self.now, cost, grant.waited);
        let at = self.now.saturating_add(hold);
        // One limiter of one shard: a lease is one part.
        if let Some(lease) = grant.parts.first().filter(|_| at < self.end) {
            self.releases.push(Reverse(Release { at, fence: grant.fence, lease: *lease, place, cost }));
        }
    }

    /// Tells those who waited.
    fn deliver(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Granted { waiter, grant } => {
                    if let Some(work) = self.waiting.remove(&waiter) {
                        self.granted(work, &grant);
                    }
                }
                Effect::Refused { waiter, refusal } => {
                    if let Some(work) = self.waiting.remove(&waiter) {
                        self.tallies.refused(work.place, refusal.reason);
                    }
                }
                // The limiter retries by itself: it has its only shard at hand.
                Effect::Retry { .. } | Effect::Release { .. } => {}
            }
        }
        self.effects = effects;
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Due,
    Release,
    Arrival,
}
