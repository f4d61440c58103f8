//! One shard behind its lock, and those who wait in it.

use crate::acquire::Leases;
use crate::clock::Clock;
use crate::core::Core;
use crate::lease::Lease;
use crate::sleep::Due;
use crate::store::{Entry, Store};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use weir_limiter::planted::{self, Bug};
use weir_limiter::{Effect, Input, LeaseRef, Outcome, Output, Refusal, Shard, ShardSet};

/// What a waiter's future and the shard share: the outcome, once there is one, and who to wake.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    state: Mutex<WaitState>,
}

#[derive(Debug, Default)]
struct WaitState {
    outcome: Option<Result<Leases, Refusal>>,
    waker: Option<Waker>,
}

impl Wait {
    fn complete(&self, outcome: Result<Leases, Refusal>) {
        let waker = {
            let mut state = self.state.lock();
            state.outcome = Some(outcome);
            state.waker.take()
        };
        if let Some(waker) = waker.filter(|_| !planted::is(Bug::LostWake)) {
            waker.wake();
        }
    }

    /// Takes the outcome, or leaves a waker for it.
    pub(crate) fn ready(&self, waker: &Waker) -> Poll<Result<Leases, Refusal>> {
        let mut state = self.state.lock();
        let outcome = state.outcome.take();
        if outcome.is_none() && !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}

/// When no timer is set.
pub(crate) const NEVER: u64 = u64::MAX;

/// How late the timer thread may come to a shard in which nobody waits, in nanoseconds: less than 16.8 ms. What has come due there is
/// seen by nobody until the next step, which takes it first. All ones: the rest of a division by a power of two.
const QUIET_GRAIN: u64 = (1 << 24) - 1;

/// See the module. Aligned so that two cells never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cell {
    shard: Mutex<Shard>,
    /// The shard's earliest timer, where nobody waits up to `quiet_grain` later; written under its lock, read by the timer thread without.
    due: Due,
    quiet_grain: u64,
    /// The waiters whose lowest shard this is, by ticket. Its lock is taken inside the shard's, never around it.
    waits: Mutex<HashMap<u64, Arc<Wait>>>,
    pub(crate) clock: Clock,
    core: Weak<Core>,
    store: Option<Arc<Store>>,
    /// What the store calls the last that was handed over; written and read under the shard's lock.
    booked: AtomicU64,
}

impl Cell {
    pub(crate) fn new(shard: Shard, clock: Clock, core: Weak<Core>, store: Option<Arc<Store>>) -> Self {
        Self {
            shard: Mutex::new(shard),
            due: Due::new(NEVER),
            // Whoever moves a clock by hand stops at each timer.
            quiet_grain: if clock.is_manual() { 0 } else { QUIET_GRAIN },
            waits: Mutex::new(HashMap::new()),
            clock,
            core,
            store,
            booked: AtomicU64::new(0),
        }
    }

    /// Hands what a step has recorded over to be written, under the shard's lock, so that the order is kept; says whether what it has
    /// granted is to be told to nobody before that is written, or what an earlier step has booked ahead.
    #[inline]
    pub(crate) fn hand_over(&self, shard: &mut Shard) -> bool {
        let Some(store) = &self.store else { return false };
        let drawn = shard.take_drawn();
        if shard.has_records() {
            let mark = store.push(shard.take_records().into_iter().map(Entry::Record));
            self.booked.store(mark, Ordering::Relaxed);
            return true;
        }
        drawn && !planted::is(Bug::BlockNotAwaited) && !store.has_written(self.booked.load(Ordering::Relaxed))
    }

    /// One step of this shard alone, and its effects.
    #[inline]
    pub(crate) fn step(self: &Arc<Self>, input: Input<'_>) -> Output {
        self.step_then(|_| self.clock.now(), input, |_, _| {})
    }

    /// The same, with the time by which to take it, and something to do under the lock.
    #[inline]
    pub(crate) fn step_then(
        self: &Arc<Self>,
        now: impl FnOnce(&Shard) -> u64,
        input: Input<'_>,
        then: impl FnOnce(&Self, &Output),
    ) -> Output {
        let shard = self.lock();
        let now = now(&shard);
        self.step_locked(shard, now, input, then)
    }

    /// The same, with the lock in hand.
    pub(crate) fn step_locked(
        self: &Arc<Self>,
        mut shard: MutexGuard<'_, Shard>,
        now: u64,
        input: Input<'_>,
        then: impl FnOnce(&Self, &Output),
    ) -> Output {
        let mut effects = Vec::new();
        let (output, sooner) = {
            let mut output = ShardSet::new(&mut [&mut shard]).step(now, input, &mut effects);
            if self.hand_over(&mut shard) {
                tell_later(&mut output, &mut effects);
            }
            then(self, &output);
            let sooner = self.note_due(&shard);
            drop(shard);
            (output, sooner)
        };
        if (sooner || !effects.is_empty())
            && let Some(core) = self.core.upgrade()
        {
            core.after(sooner.then(|| self.due()), effects);
        }
        output
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shard> {
        let mut shard = self.shard.lock();
        if let Some(store) = &self.store {
            shard.set_unwritable(store.is_failing());
        }
        shard
    }

    /// Notes by when the timer thread must look at the shard; true when that has become earlier.
    #[inline]
    pub(crate) fn note_due(&self, shard: &Shard) -> bool {
        let due = match shard.next_due() {
            None => NEVER,
            Some(due) if shard.has_waiters() => due,
            Some(due) => due.saturating_add(self.quiet_grain) & !self.quiet_grain,
        };
        let before = self.due.get();
        if due == before || due < before && before != NEVER && planted::is(Bug::EarlierTimerLost) {
            return false;
        }
        self.due.set(due);
        due < before
    }

    pub(crate) fn due(&self) -> u64 {
        self.due.get()
    }

    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.upgrade()
    }

    /// Writes a waiter down. Called under the lock that parked it.
    pub(crate) fn expect(&self, ticket: u64, wait: Arc<Wait>) {
        self.waits.lock().insert(ticket, wait);
    }

    /// Crosses a waiter off.
    pub(crate) fn forget(&self, ticket: u64) -> Option<Arc<Wait>> {
        let mut waits = self.waits.lock();
        let wait = waits.remove(&ticket);
        if waits.is_empty() && waits.capacity() > 64 {
            waits.shrink_to_fit();
        }
        wait
    }

    /// How many futures it would wake.
    pub(crate) fn expected(&self) -> usize {
        self.waits.lock().len()
    }

    /// Ends one part of a lease; whether it was this call that has ended it.
    #[inline]
    pub(crate) fn release(self: &Arc<Self>, lease: LeaseRef, outcome: Outcome) -> bool {
        let mut shard = self.lock();
        if outcome == Outcome::Ok && shard.give_back(lease, || self.clock.now()) {
            let sooner = self.note_due(&shard);
            drop(shard);
            if sooner && let Some(core) = self.core.upgrade() {
                core.timer.sooner(self.due());
            }
            return true;
        }
        // A look at the clock costs more than a lock; many releases need none.
        let timeless = outcome == Outcome::Ok && !shard.release_needs_time(lease);
        let now = if timeless { 0 } else { self.clock.now() };
        self.step_locked(shard, now, Input::Release { lease, outcome }, |_, _| {}) == Output::Done
    }
}

/// What was granted waits until all is written that was handed over by now.
pub(crate) fn tell_later(output: &mut Output, effects: &mut [Effect]) {
    let granted = effects.iter_mut().filter_map(|effect| match effect {
        Effect::Granted { grant, .. } => Some(grant),
        _ => None,
    });
    let own = match output {
        Output::Granted(grant) => Some(grant),
        _ => None,
    };
    for grant in granted.chain(own) {
        grant.recorded = true;
        grant.more.iter_mut().for_each(|more| more.recorded = true);
    }
}

impl Core {
    /// Delivers what a step did to others, with no lock held.
    ///
    /// A queue, not recursion: a retried waiter may be granted and make the next one due for a retry, ten thousand times.
    pub(crate) fn after(self: &Arc<Self>, sooner: Option<u64>, effects: Vec<Effect>) {
        if let Some(due) = sooner {
            self.timer.sooner(due);
        }
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let (waiter, outcome) = match effect {
                Effect::Granted { waiter, grant } => (waiter, Ok(Lease::all(self, grant))),
                Effect::Refused { waiter, refusal } => (waiter, Err(refusal)),
                Effect::Release { lease, outcome } => {
                    self.cells[usize::from(lease.shard)].release(lease, outcome);
                    continue;
                }
                Effect::Retry { .. } if planted::is(Bug::RetryDropped) => continue,
                Effect::Retry { waiter, shards } => {
                    // Where the book has changed since, it answers with another retry.
                    let (_, sooner, effects) = self.step_locked(&shards, Input::Retry { waiter }, |_| {});
                    if let Some(due) = sooner {
                        self.timer.sooner(due);
                    }
                    queue.extend(effects);
                    continue;
                }
            };
            // Nobody there: the future is gone, and dropping the lease gives it back.
            if let Some(wait) = self.cells[usize::from(waiter.shard)].forget(waiter.ticket) {
                wait.complete(outcome);
            } else if planted::is(Bug::GrantWithoutOwnerLeaks) {
                let _never_given_back = Box::leak(Box::new(outcome));
            }
        }
    }
}
