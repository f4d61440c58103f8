//! The engine: one handle on all shards.
//!
//! It has many doors; behind each is a step of the limiter and little else.

use crate::acquire::{Acquire, AcquireBatch, Begun, Pending, Secrets, Started, TimedLease, only};
use crate::callers::Callers;
use crate::cell::Cell;
use crate::clock::Clock;
use crate::core::Core;
use crate::keys::{AcquireTimed, AcquireTimedBatch, Keys};
use crate::lease::Lease;
use crate::store::{Entry, Saving, Store, StoreConfig, StoreError, Unsaved};
use crate::sync::Mutex;
use crate::timer::Timer;
use event_listener::{Event, EventListener};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    Caller, Change, Constraint, CounterName, CounterSnapshot, DEFAULT_LEASE_TIME, Ended, Histogram, Input, LimitError,
    Output, Placement, Reason, Refusal, Request, RuleBook, RuleError, Shard, ShardLimits, Verb,
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
    /// Grants that a shadow limit would have refused.
    pub shadow_refused: u64,
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

/// Why an operator's word was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperateError {
    /// The numbers to be pinned are not valid.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// There is no room for another counter.
    #[error(transparent)]
    Full(Refusal),
}

/// The limiter in time. A handle: cloning it is a reference count.
///
/// When the last handle is gone the timer thread ends; leases that are still held then end quietly.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

impl Engine {
    /// An engine under an empty rule book, which limits nothing.
    ///
    /// # Panics
    /// When the operating system refuses a thread for the timers.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let EngineConfig { shards, limits, clock } = config;
        let shards = shards.clamp(1, 1_024);
        // What runs on a manual clock is to run again in the same way.
        let manual = clock.manual_hand().is_some();
        let placement = if manual { Placement::fixed(shards) } else { Placement::new(shards) };
        Self::build(limits, &clock, &placement, Arc::default(), None)
    }

    /// An engine that keeps in a directory what must survive, and begins with what has survived there: timed leases and
    /// their idempotency keys, what was started under rates, what operators have said, the rule book.
    ///
    /// The number of shards is that of the first engine there.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be used. It is left as it is.
    ///
    /// # Panics
    /// When the operating system refuses a thread for the timers.
    pub fn open(config: EngineConfig, store: &StoreConfig) -> Result<Self, StoreError> {
        let callers = Arc::<Callers>::default();
        let (files, saved) = Store::open(store, &callers, config.shards.clamp(1, 1_024), &config.clock)?;
        let clock = config.clock.not_before(saved.time);
        let placement = Placement::seeded(saved.shards, saved.seed);
        let store = Store::start(files, Arc::clone(&callers), clock.clone())?;
        let engine = Self::build(config.limits, &clock, &placement, callers, Some(&Arc::new(store)));
        engine.restore(saved);
        Ok(engine)
    }

    fn build(
        limits: ShardLimits,
        clock: &Clock,
        placement: &Placement,
        callers: Arc<Callers>,
        store: Option<&Arc<Store>>,
    ) -> Self {
        let shard = |index| {
            let mut shard = Shard::new(index, placement.clone(), limits);
            if store.is_some() {
                shard.keep_journal();
            }
            shard
        };
        let core = Arc::new_cyclic(|core| Core {
            cells: (0..placement.shards())
                .map(|index| Arc::new(Cell::new(shard(index), clock.clone(), core.clone(), store.cloned())))
                .collect(),
            timer: Arc::new(Timer::new()),
            placement: placement.clone(),
            clock: clock.clone(),
            book: Mutex::new(Arc::default()),
            changed: Event::new(),
            keys: Arc::default(),
            callers,
            store: store.cloned(),
            file_rules: Mutex::default(),
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
        Acquire::new(self.clone(), request)
    }

    /// As [`Self::acquire`] for a batch: as many leases as fit now, up to its count, once its minimum fits.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    /// As [`Self::acquire`].
    pub fn acquire_batch(&self, request: Request) -> AcquireBatch {
        AcquireBatch { inner: Pending::new(self.clone(), request, Secrets::new()) }
    }

    /// Who asks under this name: caps are shared out between callers, and idempotency keys and timed leases are theirs.
    ///
    /// Past [`weir_limiter::MAX_CALLERS`] names, all further ones are nobody in particular.
    #[must_use]
    pub fn caller(&self, name: &str) -> Caller {
        self.core.callers.caller(name)
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
        if request.count.get() > 1 {
            return Err(Refusal::new(Reason::Invalid));
        }
        let granted = match self.begin(request, true, &[]) {
            Begun::Granted(lease) => lease,
            Begun::Ended(outcome) => only(outcome)?,
            Begun::Waiting { waiter, shards, wait } => {
                return Ok(Started::Waiting(Acquire::waiting(self.clone(), waiter, shards, wait)));
            }
        };
        if granted.recorded {
            Ok(Started::Waiting(Acquire::saving(self.clone(), granted)))
        } else {
            Ok(Started::Granted(granted))
        }
    }

    /// As [`Self::acquire`], but never waits: what does not fit now is refused as `limited`.
    ///
    /// With a data directory, a start under a rate may take a commit: some tens of microseconds of this thread.
    ///
    /// # Errors
    /// A [`Refusal`].
    #[inline]
    pub fn try_acquire(&self, request: &Request) -> Result<Lease, Refusal> {
        if request.count.get() > 1 {
            return Err(Refusal::new(Reason::Invalid));
        }
        let lease = match self.begin(request, false, &[]) {
            Begun::Granted(lease) => lease,
            Begun::Ended(outcome) => only(outcome)?,
            // Never: it was not to wait.
            Begun::Waiting { .. } => return Err(Refusal::new(Reason::Limited)),
        };
        self.wait_saved(lease.recorded)?;
        Ok(lease)
    }

    /// As [`Self::try_acquire`] for a batch.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn try_acquire_batch(&self, request: &Request) -> Result<Vec<Lease>, Refusal> {
        let leases = match self.begin(request, false, &[]) {
            Begun::Granted(lease) => vec![lease],
            Begun::Ended(outcome) => outcome?.into_vec(),
            // Never: it was not to wait.
            Begun::Waiting { .. } => return Err(Refusal::new(Reason::Limited)),
        };
        self.wait_saved(leases.iter().any(|lease| lease.recorded))?;
        Ok(leases)
    }

    /// The decision that [`Self::try_acquire`] would take now, with no effect.
    ///
    /// # Errors
    /// The refusal it would get; else what binds it.
    pub fn check(&self, request: &Request) -> Result<Vec<Constraint>, Refusal> {
        request.validate().map_err(|_| Refusal::new(Reason::Invalid))?;
        if request.is_unscoped() {
            return Ok(Vec::new());
        }
        match self.ask(request, &Input::Check { request }) {
            Output::WouldGrant(constraints) => Ok(constraints),
            Output::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::new(Reason::Unavailable)),
        }
    }

    /// A question about a request, asked with all its shards at hand.
    fn ask(&self, request: &Request, input: &Input<'_>) -> Output {
        self.core.step_where_needed(self.core.placement.shards_of(request), input)
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
        if request.count.get() > 1 {
            // More leases than it could answer: refused as not valid, like a count out of bounds.
            request.least = request.count.saturating_add(1);
        }
        AcquireTimed { inner: self.acquire_timed_batch(request) }
    }

    /// As [`Self::acquire_timed`] for a batch.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    /// As [`Self::acquire`].
    pub fn acquire_timed_batch(&self, mut request: Request) -> AcquireTimedBatch {
        request.lease_time.get_or_insert(DEFAULT_LEASE_TIME);
        AcquireTimedBatch::new(self.clone(), request)
    }

    /// What a repeated request gets: its leases as they are now, or that they have ended.
    pub(crate) fn again(&self, leases: &[TimedLease], how: Ended) -> Result<Arc<[TimedLease]>, Refusal> {
        let now = |lease: &TimedLease| {
            let remaining = self.move_end(lease.id, None, Duration::ZERO).unwrap_or_default();
            TimedLease { remaining, ..*lease }
        };
        let leases: Arc<[TimedLease]> = leases.iter().map(now).collect();
        if leases.iter().all(|lease| lease.remaining.is_zero()) {
            return Err(Refusal { ended: Some(how), ..Refusal::new(Reason::Ended) });
        }
        Ok(leases)
    }

    /// Does what an operator asks of one counter, which is made if need be, and answers how it is now.
    ///
    /// # Errors
    /// [`OperateError`] when the numbers to be pinned are not valid, or there is no room for another counter.
    ///
    /// # Complexity
    /// O(waiters), with every shard locked.
    pub fn operate(&self, counter: &CounterName, verb: &Verb) -> Result<CounterSnapshot, OperateError> {
        if let Verb::Pin(limits) = verb {
            limits.validate()?;
        }
        match self.core.step_many(&self.core.all_shards(), Input::Operate { counter, verb }, |_| {}) {
            Output::Operated(snapshot) => Ok(*snapshot),
            Output::Refused(refusal) => Err(OperateError::Full(refusal)),
            _ => Err(OperateError::Full(Refusal::new(Reason::Unavailable))),
        }
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
        self.change(None, changes)
    }

    /// As [`Self::apply`], if the rule book still has this version.
    ///
    /// # Errors
    /// As [`Self::apply`], and [`RuleError::BookVersionMismatch`].
    pub fn apply_to(&self, version: u64, changes: &[Change]) -> Result<Arc<RuleBook>, RuleError> {
        self.change(Some(version), changes)
    }

    fn change(&self, version: Option<u64>, changes: &[Change]) -> Result<Arc<RuleBook>, RuleError> {
        let mut current = self.core.book.lock();
        version.map_or(Ok(()), |version| current.expect_version(version))?;
        let next = Arc::new(current.apply(changes, self.core.clock.unix_millis())?);
        if next.version() == current.version() {
            return Ok(next);
        }
        if let Some(store) = &self.core.store {
            store.push([Entry::book(&current, &next)]);
        }
        *current = Arc::clone(&next);
        // The effects run with the writers' lock held; they take shards' locks, and no step ever takes this one.
        self.core.step_many(&self.core.all_shards(), Input::SetBook { book: Arc::clone(&next) }, |_| {});
        drop(current);
        self.core.changed.notify(usize::MAX);
        Ok(next)
    }

    /// Waits until the rule book has another version than `version`, and answers it.
    ///
    /// # Cancel safety
    /// Cancelling it costs nothing.
    pub async fn book_after(&self, version: u64) -> Arc<RuleBook> {
        loop {
            let listener: EventListener = self.core.changed.listen();
            let book = self.book();
            if book.version() != version {
                return book;
            }
            listener.await;
        }
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
            // What has come due is not counted as held.
            cell.step(Input::Tick);
            let shard = cell.lock().metrics();
            sum.granted += shard.granted;
            sum.waited += shard.waited;
            sum.waits.add(&shard.waits);
            sum.expired += shard.expired;
            sum.shadow_refused += shard.shadow_refused;
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

    /// Ends when everything that has happened before this call would survive: an extension, a change of a rule, an operator's
    /// word. At once where there is no data directory.
    ///
    /// # Errors
    /// [`Unsaved`] when the data directory cannot be written. What has happened stands all the same, in memory.
    ///
    /// # Cancel safety
    /// Cancelling it costs nothing.
    pub fn saved(&self) -> Saving {
        Saving::new(self.core.store.as_ref())
    }

    /// Whether what must survive can be written down, as far as is known. At once; always where there is no data directory.
    ///
    /// Acquires look by themselves. Whoever changes something else asks first, so that nothing is changed that could not be kept.
    ///
    /// # Errors
    /// [`Unsaved`] since the data directory could not be written, until it is written again.
    pub fn can_save(&self) -> Result<(), Unsaved> {
        match &self.core.store {
            Some(store) if store.is_failing() => Err(Unsaved),
            _ => Ok(()),
        }
    }

    /// The same as [`Self::saved`] on this thread, if anything was recorded.
    #[inline]
    fn wait_saved(&self, recorded: bool) -> Result<(), Refusal> {
        match &self.core.store {
            Some(store) if recorded => store.wait_saved().map_err(|Unsaved| Refusal::new(Reason::Unavailable)),
            _ => Ok(()),
        }
    }

    /// Whether nothing at all is left: no counter, lease, waiter, timer or future to wake.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.cells.iter().all(|cell| cell.lock().is_empty() && cell.expected() == 0) && self.core.keys.is_empty()
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

    /// The time as the engine has it, in milliseconds of Unix time.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        self.core.clock.unix_millis()
    }

    /// The engine's time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.core.clock.now()
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.core.keys)
    }

    /// There may be something to do earlier than the timer knows.
    pub(crate) fn sooner(&self, due: u64) {
        self.core.timer.sooner(due);
    }
}
