//! The engine: one handle on all shards.

use crate::acquire::{Acquire, AcquireTimed, Begun, Started};
use crate::cell::{Cell, NEVER, Wait};
use crate::clock::Clock;
use crate::lease::{Lease, LeaseError};
use crate::sync::{Mutex, MutexGuard};
use crate::timer::Timer;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Change, Constraint, CounterSnapshot, DEFAULT_LEASE_TIME, Effect, Histogram, Input, LeaseId, Output, Placement,
    Reason, Refusal, Request, RuleBook, RuleError, Shard, ShardLimits, ShardSet, WaiterId, check_lease_time,
};

/// How an engine is made.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Shards, 1 to 1,024: more than processors, so that two requests under different scopes rarely meet.
    pub shards: u16,
    /// Bounds of each shard.
    pub limits: ShardLimits,
    /// Where time comes from.
    pub clock: Clock,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { shards: 64, limits: ShardLimits::default(), clock: Clock::system() }
    }
}

/// Which counters to show.
#[derive(Debug, Clone, Default)]
pub struct CounterQuery {
    /// Only those whose names begin with this.
    pub prefix: Option<String>,
    /// At most so many, in the order of their names; 0: all.
    pub limit: usize,
}

/// What an engine has counted since it was made, and what it holds now.
#[derive(Debug, Clone, Default)]
pub struct MetricsSnapshot {
    /// Requests granted.
    pub granted: u64,
    /// Requests refused, by reason; reasons that never came are left out.
    pub refused: Vec<(Reason, u64)>,
    /// Requests that had to wait.
    pub waited: u64,
    /// Waits of those who were granted after one.
    pub waits: Histogram,
    /// Leases that ended by themselves.
    pub expired: u64,
    /// Waiters now.
    pub waiting: u64,
    /// Leases now; one over several shards counts in each.
    pub leases: u64,
    /// Counters now.
    pub counters: u64,
    /// Window-log entries now.
    pub log_entries: u64,
    /// The version of the rule book.
    pub book_version: u64,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) cells: Box<[Arc<Cell>]>,
    pub(crate) timer: Arc<Timer>,
    placement: Placement,
    clock: Clock,
    /// The book in force. Its lock serialises writers, and is taken around the shards' locks.
    book: Mutex<Arc<RuleBook>>,
}

/// The limiter in time. A handle: cloning it is a reference count.
///
/// When the last handle is gone the timer thread ends; leases that are still held then end quietly.
#[derive(Debug, Clone)]
pub struct Engine {
    core: Arc<Core>,
}

impl Engine {
    /// An engine under an empty rule book, which limits nothing.
    ///
    /// # Panics
    /// When the operating system refuses a thread for the timers.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let placement = Placement::new(config.shards.clamp(1, 1_024));
        let clock = config.clock;
        let core = Arc::new_cyclic(|core| Core {
            cells: (0..placement.shards())
                .map(|index| {
                    Arc::new(Cell::new(
                        Shard::new(index, placement.clone(), config.limits),
                        clock.clone(),
                        core.clone(),
                    ))
                })
                .collect(),
            timer: Arc::new(Timer::new()),
            placement,
            clock: clock.clone(),
            book: Mutex::new(Arc::default()),
        });
        if clock.manual_hand().is_none() {
            Timer::start(&core.timer, Arc::downgrade(&core))
                .expect("the operating system gives a thread for the timers");
        }
        Self { core }
    }

    /// Waits until every constraint on the request admits it, then takes it, all or nothing.
    ///
    /// Waiters with equal targets, priority and fairness key are served in arrival order; see `weir_limiter` for the rest.
    ///
    /// # Errors
    /// A [`Refusal`] with its reason: `timed-out` after the longest wait, `too-large` when waiting would never help,
    /// `overloaded` when there is no place to wait, `limited` when it was not to wait, `invalid` or `unavailable`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no trace; the place in line is lost.
    ///
    /// # Complexity
    /// O(counters) when admitted at once, at most 3 a scope; joining a waitlist is O(log waiters).
    pub fn acquire(&self, request: Request) -> Acquire {
        Acquire::new(self.clone(), request, None)
    }

    /// As [`Self::acquire`], decided on the spot: the outcome, or the future of a request that has to wait and has its
    /// place in line already.
    ///
    /// Spares those who are admitted at once the future.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    #[inline]
    pub fn acquire_now(&self, request: &Request) -> Result<Started, Refusal> {
        match self.begin(request, true, None) {
            Begun::Ended(outcome) => outcome.map(Started::Granted),
            Begun::Waiting { waiter, shards, wait } => {
                Ok(Started::Waiting(Acquire::waiting(self.clone(), waiter, shards, wait)))
            }
        }
    }

    /// As [`Self::acquire`], but never waits: what does not fit now is refused as `limited`.
    ///
    /// # Errors
    /// A [`Refusal`].
    #[inline]
    pub fn try_acquire(&self, request: &Request) -> Result<Lease, Refusal> {
        match self.begin(request, false, None) {
            Begun::Ended(outcome) => outcome,
            // Never: it was not to wait.
            Begun::Waiting { .. } => Err(Refusal::new(Reason::Limited)),
        }
    }

    /// The decision that [`Self::try_acquire`] would take now, with no effect.
    ///
    /// # Errors
    /// The refusal it would get; else what binds it.
    pub fn check(&self, request: &Request) -> Result<Vec<Constraint>, Refusal> {
        request.validate().map_err(|_| Refusal::new(Reason::Invalid))?;
        let shards = self.core.placement.shards_of(request);
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        match self.core.step_many(&shards, Input::Check { request }, |_| {}) {
            Output::WouldGrant(constraints) => Ok(constraints),
            Output::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::new(Reason::Unavailable)),
        }
    }

    /// Waits for a lease that lives on under its id after the future is gone: for owners elsewhere.
    ///
    /// Without a lease time it is 30 s.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    /// As [`Self::acquire`].
    pub fn acquire_timed(&self, mut request: Request) -> AcquireTimed {
        request.lease_time.get_or_insert(DEFAULT_LEASE_TIME);
        let secret = unguessable();
        AcquireTimed { inner: Acquire::new(self.clone(), request, Some(secret)), secret }
    }

    /// Moves the end of a timed lease to `lease_time` from now, never back, and says how long it lasts.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] for any id that names no living lease; [`LeaseError::LeaseTime`] outside 100 ms to 1 h.
    pub fn extend(&self, id: LeaseId, lease_time: Duration) -> Result<Duration, LeaseError> {
        check_lease_time(lease_time)?;
        let parts = self.core.parts_of(id)?;
        self.core.extend_parts(&parts, lease_time)?.ok_or(LeaseError::Gone)
    }

    /// Ends a timed lease.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] for any id that names no living lease.
    pub fn release(&self, id: LeaseId) -> Result<(), LeaseError> {
        let parts = self.core.parts_of(id)?;
        for part in parts {
            self.core.cells[usize::from(part.shard)].release(part);
        }
        Ok(())
    }

    /// Changes the rule book: a whole batch, live, or nothing.
    ///
    /// When it returns, no decision is made by an earlier book any more.
    ///
    /// # Errors
    /// The first change that is not valid or whose precondition does not hold.
    ///
    /// # Complexity
    /// O(rules + waiters), with every shard locked for O(waiters).
    pub fn apply(&self, changes: &[Change]) -> Result<Arc<RuleBook>, RuleError> {
        let mut current = self.core.book.lock();
        let next = Arc::new(current.apply(changes, self.core.clock.unix_millis())?);
        if next.version() == current.version() {
            return Ok(next);
        }
        let all: SmallVec<[u16; 4]> = (0..self.core.placement.shards()).collect();
        *current = Arc::clone(&next);
        // The effects run with the writers' lock held; they take shards' locks, and no step ever takes this one.
        self.core.step_many(&all, Input::SetBook { book: Arc::clone(&next) }, |_| {});
        Ok(next)
    }

    /// The rule book in force.
    #[must_use]
    pub fn book(&self) -> Arc<RuleBook> {
        Arc::clone(&self.core.book.lock())
    }

    /// The live counters, in the order of their names. Each shard is seen at one instant, not all at the same.
    #[must_use]
    pub fn counters(&self, query: &CounterQuery) -> Vec<CounterSnapshot> {
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let mut counters = Vec::new();
        for cell in &self.core.cells {
            if let Output::Counters(mut found) = cell.step(Input::Counters { prefix }) {
                counters.append(&mut found);
            }
        }
        counters.sort_by(|a, b| a.counter.cmp(&b.counter));
        if query.limit > 0 {
            counters.truncate(query.limit);
        }
        counters
    }

    /// What was counted, and what is held.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        let mut sum = MetricsSnapshot { book_version: self.book().version(), ..MetricsSnapshot::default() };
        let mut refused = [0; Reason::ALL.len()];
        for cell in &self.core.cells {
            let shard = cell.lock().metrics();
            sum.granted += shard.granted;
            sum.waited += shard.waited;
            sum.waits.add(&shard.waits);
            sum.expired += shard.expired;
            sum.waiting += shard.waiting;
            sum.leases += shard.leases;
            sum.counters += shard.counters;
            sum.log_entries += shard.log_entries;
            for (sum, count) in refused.iter_mut().zip(shard.refused) {
                *sum += count;
            }
        }
        sum.refused = Reason::ALL.into_iter().zip(refused).filter(|(_, count)| *count > 0).collect();
        sum
    }

    /// Ends every waiter as `unavailable` and refuses every request from now on. Leases stay until they are dropped.
    pub fn shut_down(&self) {
        for cell in &self.core.cells {
            cell.step(Input::Close);
        }
    }

    /// Whether nothing at all is left: no counter, lease, waiter, timer or future to wake.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.cells.iter().all(|cell| cell.lock().is_empty() && cell.expected() == 0)
    }

    /// Moves a manual clock on, stopping at every timer on the way. Does nothing under the machine's clock.
    pub fn advance(&self, by: Duration) {
        let Some(hand) = self.core.clock.manual_hand() else { return };
        let target = self.core.clock.now().saturating_add(crate::clock::nanos(by));
        loop {
            let due = self.core.next_due();
            if due > target {
                break;
            }
            hand.set(due);
            self.core.tick();
        }
        hand.set(target);
    }

    /// The engine's time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.core.clock.now()
    }

    /// Decides a request: at once, or by writing it down to wait.
    #[inline]
    pub(crate) fn begin(&self, request: &Request, wait: bool, secret: Option<u128>) -> Begun {
        if request.validate().is_err() {
            return Begun::Ended(Err(Refusal::new(Reason::Invalid)));
        }
        let input = Input::Acquire { request, wait, secret };
        let mut waiting = None;
        if let [key] = request.targets.as_slice() {
            // One scope, one shard, one lock.
            let hash = self.core.placement.hash(key.scope());
            let index = self.core.placement.shard_of_hash(hash);
            let cell = &self.core.cells[usize::from(index)];
            let mut shard = cell.lock();
            let now = self.core.clock.now();
            if secret.is_none()
                && let Some((key, cost)) = request.direct()
                && let Some(taken) = shard.take(now, key, hash, cost)
            {
                drop(shard);
                return Begun::Ended(Ok(Lease::taken(Arc::clone(cell), taken)));
            }
            let output = cell.step_locked(shard, now, input, |cell, output| {
                if let Output::Waiting(waiter) = output {
                    let wait = Arc::<Wait>::default();
                    cell.expect(waiter.ticket, Arc::clone(&wait));
                    waiting = Some((*waiter, wait));
                }
            });
            return match (output, waiting) {
                (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::in_cell(Some(Arc::clone(cell)), grant))),
                (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards: SmallVec::from_slice(&[index]), wait },
                (output, None) => Begun::Ended(Err(refused(output))),
            };
        }
        let shards = self.core.placement.shards_of(request);
        if shards.is_empty() {
            let grant = weir_limiter::Grant {
                parts: SmallVec::new(),
                fence: self.now(),
                book_version: 0,
                ends_at: None,
                waited: 0,
            };
            return Begun::Ended(Ok(Lease::in_cell(None, grant)));
        }
        let output = self.core.step_many(&shards, input, |output| {
            if let Output::Waiting(waiter) = output {
                let wait = Arc::<Wait>::default();
                self.core.cells[usize::from(waiter.shard)].expect(waiter.ticket, Arc::clone(&wait));
                waiting = Some((*waiter, wait));
            }
        });
        match (output, waiting) {
            (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::new(&self.core, grant))),
            (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards, wait },
            (output, None) => Begun::Ended(Err(refused(output))),
        }
    }

    pub(crate) fn cancel(&self, waiter: WaiterId, shards: &[u16]) {
        // First: a grant that is decided from here on finds nobody and goes back by itself.
        self.core.cells[usize::from(waiter.shard)].forget(waiter.ticket);
        self.core.step_many(shards, Input::Cancel { waiter }, |_| {});
    }
}

impl Core {
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// One step over several shards: locks in ascending order, so that no two steps wait for each other.
    pub(crate) fn step_many(self: &Arc<Self>, shards: &[u16], input: Input<'_>, then: impl FnOnce(&Output)) -> Output {
        let (output, sooner, effects) = self.step_locked(shards, input, then);
        self.after(sooner, effects);
        output
    }

    /// The same, leaving the effects and the news of an earlier timer to the caller.
    pub(crate) fn step_locked(
        &self,
        shards: &[u16],
        input: Input<'_>,
        then: impl FnOnce(&Output),
    ) -> (Output, Option<u64>, Vec<Effect>) {
        debug_assert!(shards.is_sorted_by(|a, b| a < b));
        let mut effects: Vec<Effect> = Vec::new();
        let mut sooner = NEVER;
        let output = {
            let mut guards: SmallVec<[MutexGuard<'_, Shard>; 4]> =
                shards.iter().map(|index| self.cells[usize::from(*index)].lock()).collect();
            let mut locked: SmallVec<[&mut Shard; 4]> = guards.iter_mut().map(|guard| &mut **guard).collect();
            let output = ShardSet::new(&mut locked).step(self.clock.now(), input, &mut effects);
            drop(locked);
            then(&output);
            for (index, guard) in shards.iter().zip(&guards) {
                let cell = &self.cells[usize::from(*index)];
                if cell.note_due(guard) {
                    sooner = sooner.min(cell.due());
                }
            }
            output
        };
        (output, (sooner != NEVER).then_some(sooner), effects)
    }

    /// Takes what is due in every shard.
    pub(crate) fn tick(self: &Arc<Self>) {
        let now = self.clock.now();
        for cell in &self.cells {
            if cell.due() <= now {
                cell.step(Input::Tick);
            }
        }
    }

    /// The earliest timer of all shards.
    pub(crate) fn next_due(&self) -> u64 {
        self.cells.iter().map(|cell| cell.due()).min().unwrap_or(NEVER)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.timer.stop();
    }
}

fn refused(output: Output) -> Refusal {
    match output {
        Output::Refused(refusal) => refusal,
        _ => Refusal::new(Reason::Unavailable),
    }
}

/// 128 bits from the operating system.
fn unguessable() -> u128 {
    let mut bytes = [0; 16];
    // Without randomness there are no safe ids: better no answer than a guessable one.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u128::from_ne_bytes(bytes)
}
