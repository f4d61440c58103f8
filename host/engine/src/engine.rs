//! The engine: one handle on all shards.
//!
//! Over 600 lines, because the handle has many doors; behind each is a step of the limiter and little else.

use crate::acquire::{Acquire, AcquireBatch, Begun, Pending, Secrets, Started, TimedLease, only};
use crate::callers::Callers;
use crate::cell::{Cell, NEVER, Wait};
use crate::clock::Clock;
use crate::keys::{AcquireTimed, AcquireTimedBatch, Keys};
use crate::lease::Lease;
use crate::secret::unguessable;
use crate::store::{Entry, Saving, Store, StoreConfig, StoreError, Unsaved};
use crate::sync::{Mutex, MutexGuard};
use crate::timer::Timer;
use event_listener::{Event, EventListener};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{
    Caller, Change, Constraint, CounterName, CounterSnapshot, DEFAULT_LEASE_TIME, Effect, Ended, Explanation, Grant,
    Histogram, Input, LimitError, Output, Pattern, Placement, Reason, Refusal, Request, RuleBook, RuleError, RuleSpec,
    Shard, ShardLimits, ShardSet, Verb, WaiterId,
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

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) cells: Box<[Arc<Cell>]>,
    pub(crate) timer: Arc<Timer>,
    placement: Placement,
    clock: Clock,
    /// The book in force. Its lock serialises writers, and is taken around the shards' locks.
    book: Mutex<Arc<RuleBook>>,
    /// Told of every new book.
    changed: Event,
    pub(crate) keys: Arc<Keys>,
    callers: Arc<Callers>,
    /// Where what must survive is written; none: nothing must.
    pub(crate) store: Option<Arc<Store>>,
    /// The rules that the configuration named last, as far as that has survived.
    file_rules: Mutex<HashMap<Pattern, RuleSpec>>,
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
        let (database, saved) = Store::open(store, &callers, config.shards.clamp(1, 1_024), &config.clock)?;
        let clock = config.clock.not_before(saved.time);
        let placement = Placement::seeded(saved.shards, saved.seed);
        let store = Store::start(database, Arc::clone(&callers), clock.clone())?;
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

    /// Why a request would be granted or not, who stands before it, and when its turn would come; with no effect.
    ///
    /// # Errors
    /// A refusal as `invalid`.
    ///
    /// # Complexity
    /// O(state of the shards that the request lies in), which are locked meanwhile: for people, not for guests.
    pub fn explain(&self, request: &Request) -> Result<Explanation, Refusal> {
        request.validate().map_err(|_| Refusal::new(Reason::Invalid))?;
        if request.is_unscoped() {
            return Err(Refusal::new(Reason::Invalid));
        }
        match self.ask(request, &Input::Explain { request }) {
            Output::Explained(explanation) => Ok(*explanation),
            _ => Err(Refusal::new(Reason::Unavailable)),
        }
    }

    /// A question about a request, asked with all its shards at hand.
    fn ask(&self, request: &Request, input: &Input<'_>) -> Output {
        let mut shards = self.core.placement.shards_of(request);
        loop {
            match self.core.step_many(&shards, input.clone(), |_| {}) {
                Output::Elsewhere(needed) => shards = needed,
                output => return output,
            }
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
            store.push([book_entry(&current, &next)]);
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

    /// The same on this thread, if anything was recorded.
    fn wait_saved(&self, recorded: bool) -> Result<(), Refusal> {
        match self.core.store.as_ref().filter(|_| recorded) {
            Some(store) => store.wait_saved().map_err(|Unsaved| Refusal::new(Reason::Unavailable)),
            None => Ok(()),
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

    /// A step of restoring.
    pub(crate) fn put_back(&self, input: Input<'_>) {
        self.core.step_many(&self.core.all_shards(), input, |_| {});
    }

    pub(crate) fn set_restored_book(&self, book: RuleBook) -> Arc<RuleBook> {
        let book = Arc::new(book);
        *self.core.book.lock() = Arc::clone(&book);
        book
    }

    pub(crate) fn file_rules(&self) -> HashMap<Pattern, RuleSpec> {
        self.core.file_rules.lock().clone()
    }

    pub(crate) fn set_file_rules(&self, rules: HashMap<Pattern, RuleSpec>) {
        *self.core.file_rules.lock() = rules;
    }

    /// Writes something down, where that is done.
    pub(crate) fn push(&self, entry: Entry) {
        if let Some(store) = &self.core.store {
            store.push([entry]);
        }
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

    /// 128 unguessable bits for each lease that a request may get.
    pub(crate) fn secrets(&self, request: &Request) -> Secrets {
        (0..request.count.get().min(weir_limiter::MAX_BATCH)).map(|_| unguessable()).collect()
    }

    /// Decides a request: at once, or by writing it down to wait.
    #[inline]
    pub(crate) fn begin(&self, request: &Request, wait: bool, secrets: &[u128]) -> Begun {
        if let Some(store) = &self.core.store
            && (store.is_clogged() || store.is_failing() && !secrets.is_empty())
        {
            return Begun::Ended(Err(Refusal::new(Reason::Unavailable)));
        }
        let direct = if secrets.is_empty() { request.direct() } else { None };
        if direct.is_none() && (request.validate().is_err() || request.idempotency_key.is_some() && secrets.is_empty())
        {
            return Begun::Ended(Err(Refusal::new(Reason::Invalid)));
        }
        let input = Input::Acquire { request, wait, secrets };
        let mut waiting = None;
        if let [key] = request.targets.as_slice()
            && request.inline.is_empty()
        {
            // One scope, one shard, one lock.
            let hash = self.core.placement.hash(key.scope());
            let index = self.core.placement.shard_of_hash(hash);
            let cell = &self.core.cells[usize::from(index)];
            let mut shard = cell.lock();
            let now = self.core.clock.now();
            if let Some((key, cost)) = direct
                && let Some(taken) = shard.take(now, key, hash, cost, request.caller)
            {
                let recorded = cell.hand_over(&mut shard);
                drop(shard);
                return Begun::Granted(Lease::taken(Arc::clone(cell), taken, recorded));
            }
            let output = cell.step_locked(shard, now, input.clone(), |cell, output| {
                if let Output::Waiting(waiter) = output {
                    let wait = Arc::<Wait>::default();
                    cell.expect(waiter.ticket, Arc::clone(&wait));
                    waiting = Some((*waiter, wait));
                }
            });
            return match (output, waiting) {
                (Output::Granted(grant), _) if grant.more.is_empty() => {
                    Begun::Granted(Lease::in_cell(Some(Arc::clone(cell)), grant))
                }
                (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::all(&self.core, grant))),
                (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards: SmallVec::from_slice(&[index]), wait },
                (Output::Elsewhere(shards), None) => self.begin_many(shards, request, &input),
                (output, None) => Begun::Ended(Err(refused(output))),
            };
        }
        if request.is_unscoped() {
            return Begun::Ended(Ok(Lease::all(&self.core, Grant::unscoped(request, self.now()))));
        }
        self.begin_many(self.core.placement.shards_of(request), request, &input)
    }

    /// The same over several shards; more are taken where a step asks for them.
    fn begin_many(&self, mut shards: SmallVec<[u16; 4]>, request: &Request, input: &Input<'_>) -> Begun {
        debug_assert!(!request.is_unscoped());
        loop {
            let mut waiting = None;
            let output = self.core.step_many(&shards, input.clone(), |output| {
                if let Output::Waiting(waiter) = output {
                    let wait = Arc::<Wait>::default();
                    self.core.cells[usize::from(waiter.shard)].expect(waiter.ticket, Arc::clone(&wait));
                    waiting = Some((*waiter, wait));
                }
            });
            return match (output, waiting) {
                (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::all(&self.core, grant))),
                (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards, wait },
                (Output::Elsewhere(needed), None) => {
                    shards = needed;
                    continue;
                }
                (output, None) => Begun::Ended(Err(refused(output))),
            };
        }
    }

    pub(crate) fn cancel(&self, waiter: WaiterId, mut shards: SmallVec<[u16; 4]>) {
        // First: a grant that is decided from here on finds nobody and goes back by itself.
        self.core.cells[usize::from(waiter.shard)].forget(waiter.ticket);
        if planted::is(Bug::CancelLeavesWaiter) {
            return;
        }
        while let Output::Elsewhere(needed) = self.core.step_many(&shards, Input::Cancel { waiter }, |_| {}) {
            shards = needed;
        }
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
            for (index, guard) in shards.iter().zip(&mut guards) {
                self.cells[usize::from(*index)].hand_over(guard);
            }
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
        self.keys.sweep(now);
    }

    /// Every shard, for what concerns all of them.
    fn all_shards(&self) -> SmallVec<[u16; 4]> {
        (0..self.placement.shards()).collect()
    }

    /// The earliest timer of all shards.
    pub(crate) fn next_due(&self) -> u64 {
        self.cells.iter().map(|cell| cell.due()).min().unwrap_or(NEVER).min(self.keys.next_due())
    }
}

impl Drop for Core {
    /// With a data directory it waits until all is written.
    fn drop(&mut self) {
        self.timer.stop();
        if let Some(store) = &self.store {
            store.stop();
        }
    }
}

/// What changes from one rule book to the next.
fn book_entry(current: &RuleBook, next: &RuleBook) -> Entry {
    let changed: Vec<Pattern> = next.diff(current).into_iter().map(|difference| difference.pattern).collect();
    let put = changed.iter().filter_map(|pattern| next.get(pattern).cloned()).collect();
    let deleted = changed.into_iter().filter(|pattern| next.get(pattern).is_none()).collect();
    Entry::Book { version: next.version(), put, deleted }
}

fn refused(output: Output) -> Refusal {
    match output {
        Output::Refused(refusal) => refusal,
        _ => Refusal::new(Reason::Unavailable),
    }
}
