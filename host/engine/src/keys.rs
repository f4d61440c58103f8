//! Idempotency keys: a request for a timed lease that is repeated answers as the first did.
//!
//! A key belongs to its caller, and remembers the whole request but for its wait. While the first waits, a repetition
//! waits with it, as one waiter; while the lease lives, it gets the same lease; afterwards, for [`KEPT`], it learns that
//! the lease has ended. Another request under the key is a conflict. A refusal is not remembered.
//!
//! Each waits as long as it said itself. Whose wait is over is refused while the first goes on; whoever may wait longer than the
//! first takes its place anew, for the rest of its time. Worked example: one waits 6 s, a repetition 1 s and another 10 s. The second is
//! `timed-out` after 1 s; after 6 s the first is, and the third waits 4 s more, behind those who have come meanwhile. What says
//! nothing of its wait waits as long as the first if that says nothing, else for the default.
//!
//! Callers that wait together share one future; whoever is dropped leaves the others waiting, and the last one leaves the
//! waitlist. A lease is found by its id, so that a release and an extension reach the key.
//!
//! With a data directory, a lease whose callers are all gone before it is answered is written down as such: after a restart its key
//! is free, as it was.
//!
//! # Bounds
//! At most [`MAX_KEYS`] keys, shared out between callers. Each is dropped by the engine's timer.

use crate::acquire::{PendingTimed, Secrets, TimedLease};
use crate::cell::NEVER;
use crate::engine::Engine;
use crate::joiners::{Alarm, Joiners};
use crate::store::Store;
use crate::sync::Mutex;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{
    Caller, Constraint, ConstraintKind, DEFAULT_MAX_WAIT, Ended, LeaseId, Outcome, Reason, Refusal, Request, may_have,
};

/// How long a key is kept after its lease has ended.
pub const KEPT: Duration = Duration::from_secs(5 * 60);
/// The most keys at a time, some 500 bytes each; its own tests have fewer.
pub const MAX_KEYS: usize = if cfg!(test) { 100 } else { 1_000_000 };

pub(crate) type Name = (Caller, Arc<str>);
type Answer = Result<Arc<[TimedLease]>, Refusal>;
type Waiting = Shared<BoxFuture<'static, Answer>>;

/// The keys of an engine.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    table: Mutex<Table>,
    pub(crate) joiners: Joiners,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Name, Entry>,
    by_lease: HashMap<LeaseId, Name>,
    /// When each is dropped.
    until: BTreeSet<(u64, Name)>,
    by_caller: HashMap<Caller, usize>,
}

#[derive(Debug)]
struct Entry {
    /// The request, in the form in which repetitions are equal.
    request: Request,
    state: State,
    /// How its lease has ended, if that was said.
    how: Option<Ended>,
    /// When it is dropped; never while it waits.
    until: u64,
}

#[derive(Debug)]
enum State {
    Waiting { weak: WeakShared<BoxFuture<'static, Answer>>, first: Arc<Progress> },
    Granted(Arc<[TimedLease]>),
}

/// What a key says to a request.
enum Found {
    Answer(Answer),
    /// It is the first.
    First(Waiting),
    Join(Waiting, Joined),
}

/// The first request under a key, as others see it.
#[derive(Debug)]
struct Progress {
    /// Since when, and how long it said that it would wait.
    since: u64,
    max_wait: Option<Duration>,
    stage: AtomicU8,
}

/// Nobody has looked yet whether it is granted at once.
const NEW: u8 = 0;
const IN_LINE: u8 = 1;
/// What it was granted is being written.
const SAVING: u8 = 2;

/// Who waits with the first.
#[derive(Debug)]
struct Joined {
    first: Arc<Progress>,
    came: u64,
    /// When its own wait is over. [`NEVER`]: with that of the first, or as much later as it came.
    deadline: u64,
    alarm: Alarm,
}

impl Joined {
    fn new(engine: &Engine, request: &Request, first: &Arc<Progress>) -> Self {
        let came = engine.now();
        let wait = request.max_wait.or(first.max_wait.map(|_| DEFAULT_MAX_WAIT));
        let deadline = wait.map_or(NEVER, |wait| came.saturating_add(crate::clock::nanos(wait)));
        Self { first: Arc::clone(first), came, deadline, alarm: Alarm::new(engine.keys()) }
    }

    /// The first still waits: whether this one's own wait is over. Otherwise it is woken when it is.
    fn is_over(&mut self, engine: &Engine, waker: &Waker) -> bool {
        let stage = self.first.stage.load(Ordering::SeqCst);
        if self.deadline == NEVER || stage == SAVING {
            return false;
        }
        if stage == IN_LINE && self.deadline <= engine.now() {
            return true;
        }
        self.alarm.set(self.deadline, waker);
        engine.sooner(self.deadline);
        false
    }

    /// The first has waited in vain: how long this one may still wait.
    fn rest(&self, now: u64) -> Option<Duration> {
        let waited = now.saturating_sub(self.first.since);
        let end = if self.deadline == NEVER { self.came.saturating_add(waited) } else { self.deadline };
        end.checked_sub(now).filter(|rest| *rest > 0).map(Duration::from_nanos)
    }
}

/// Everything but the wait, which may differ between repetitions.
fn fingerprint(request: &Request) -> Request {
    let mut request = request.clone();
    request.max_wait = None;
    request.targets.sort_unstable();
    request.inline.sort_unstable_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    request
}

impl Keys {
    /// The earliest instant at which a key is dropped, or one who waits with another is woken.
    pub(crate) fn next_due(&self) -> u64 {
        self.table.lock().until.first().map_or(NEVER, |(at, _)| *at).min(self.joiners.next_due())
    }

    /// Drops keys whose time has come, and wakes those whose wait is over.
    pub(crate) fn sweep(&self, now: u64) {
        self.joiners.wake(now);
        let mut table = self.table.lock();
        while let Some((at, name)) = table.until.first().filter(|(at, _)| *at <= now).cloned() {
            if planted::is(Bug::KeysPileUp) {
                table.until.remove(&(at, name));
                continue;
            }
            table.remove(&name);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let table = self.table.lock();
        table.entries.is_empty() && table.by_lease.is_empty() && table.until.is_empty() && self.joiners.is_empty()
    }

    /// Puts a key back that has survived, with the leases it got.
    pub(crate) fn restore(
        &self,
        name: Name,
        request: &Request,
        leases: Arc<[TimedLease]>,
        how: Option<Ended>,
        until: u64,
    ) {
        let mut table = self.table.lock();
        for lease in leases.iter() {
            table.by_lease.insert(lease.id, name.clone());
        }
        let entry = Entry { request: fingerprint(request), state: State::Granted(leases), how, until };
        table.until.insert((until, name.clone()));
        *table.by_caller.entry(name.0).or_default() += 1;
        table.entries.insert(name, entry);
    }

    /// A lease that may have a key lasts until `ends_at` from now on.
    pub(crate) fn lasts(&self, id: LeaseId, ends_at: u64) {
        let mut table = self.table.lock();
        if let Some(name) = table.by_lease.get(&id).cloned() {
            let until = ends_at.saturating_add(crate::clock::nanos(KEPT));
            table.keep(&name, |before| before.max(until));
        }
    }

    /// A lease that may have a key has ended at `now`.
    pub(crate) fn ended(&self, id: LeaseId, outcome: Outcome, now: u64) {
        let mut table = self.table.lock();
        let Some(name) = table.by_lease.get(&id).cloned() else { return };
        let Some(Entry { state: State::Granted(leases), how, .. }) = table.entries.get_mut(&name) else { return };
        *how = Some(Ended::from(outcome));
        if planted::is(Bug::KeyEndsWithLease) {
            table.remove(&name);
            return;
        }
        // Of a batch, the last to end counts: until then it is kept as long as the lease times say.
        if leases.len() == 1 {
            let until = now.saturating_add(crate::clock::nanos(KEPT));
            table.keep(&name, |_| until);
        }
    }

    fn find(&self, engine: &Engine, name: &Name, request: &Request) -> Found {
        let wanted = fingerprint(request);
        let mut table = self.table.lock();
        if let Some(entry) = table.entries.get(name) {
            if entry.request != wanted && !planted::is(Bug::KeyIgnoresRequest) {
                return Found::Answer(Err(Refusal::new(Reason::Conflict)));
            }
            match &entry.state {
                State::Waiting { weak, first } => {
                    if let Some(waiting) = weak.upgrade() {
                        return Found::Join(waiting, Joined::new(engine, request, first));
                    }
                    // All who waited are gone: as if it had never come.
                    table.remove(name);
                }
                State::Granted(leases) => {
                    let (leases, how) = (Arc::clone(leases), entry.how.unwrap_or(Ended::Expired));
                    drop(table);
                    return Found::Answer(engine.again(&leases, how));
                }
            }
        }
        let own = table.by_caller.get(&name.0).copied().unwrap_or(0);
        if !may_have(MAX_KEYS, table.entries.len(), name.0, own, 1) {
            let used = table.entries.len() as u64;
            return Found::Answer(Err(full(used)));
        }
        let first = First::new(engine, name, request);
        let progress = Arc::clone(&first.progress);
        let waiting = first.boxed().shared();
        if let Some(weak) = waiting.downgrade() {
            let state = State::Waiting { weak, first: progress };
            table.entries.insert(name.clone(), Entry { request: wanted, state, how: None, until: NEVER });
            *table.by_caller.entry(name.0).or_default() += 1;
        }
        Found::First(waiting)
    }

    /// The first request under a key has its answer.
    fn note(&self, engine: &Engine, name: &Name, answer: &Answer) {
        let now = engine.now();
        let mut table = self.table.lock();
        let Ok(leases) = answer else {
            table.remove(name);
            return;
        };
        let last = leases.iter().map(|lease| lease.remaining).max().unwrap_or_default();
        for lease in leases.iter() {
            table.by_lease.insert(lease.id, name.clone());
        }
        if let Some(entry) = table.entries.get_mut(name) {
            entry.state = State::Granted(Arc::clone(leases));
        }
        let until = now.saturating_add(crate::clock::nanos(last + KEPT));
        table.keep(name, |_| until);
        drop(table);
        engine.sooner(until);
    }

    /// Forgets a key whose callers are all gone while it waited.
    fn abandon(&self, name: &Name) {
        let mut table = self.table.lock();
        let gone = |entry: &Entry| matches!(&entry.state, State::Waiting { weak, .. } if weak.upgrade().is_none());
        if table.entries.get(name).is_some_and(gone) {
            table.remove(name);
        }
    }
}

/// The first request under a key, which all who repeat it wait for.
struct First {
    // First: once it is dropped, none of its leases is granted any more.
    inner: PendingTimed,
    due: AnswerDue,
    progress: Arc<Progress>,
    engine: Engine,
    name: Name,
}

impl First {
    fn new(engine: &Engine, name: &Name, request: &Request) -> Self {
        let secrets = engine.secrets(request);
        let due = AnswerDue::new(engine, secrets.clone());
        let inner = PendingTimed::new(engine.clone(), request.clone(), secrets);
        let (since, max_wait) = (engine.now(), request.max_wait);
        let progress = Arc::new(Progress { since, max_wait, stage: AtomicU8::new(NEW) });
        Self { inner, due, progress, engine: engine.clone(), name: name.clone() }
    }
}

impl Future for First {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Poll::Ready(answer) = Pin::new(&mut self.inner).poll(context) else {
            let stage = if self.due.is_granted() { SAVING } else { IN_LINE };
            self.progress.stage.store(stage, Ordering::SeqCst);
            return Poll::Pending;
        };
        let answer = answer.map(Arc::<[TimedLease]>::from);
        if answer.is_ok() {
            self.due.answered();
        }
        self.engine.keys().note(&self.engine, &self.name, &answer);
        Poll::Ready(answer)
    }
}

/// What the data directory is told of leases that are still to be answered: dropped before that, it says that they will not be.
struct AnswerDue {
    store: Option<Arc<Store>>,
    secrets: Secrets,
}

impl AnswerDue {
    fn new(engine: &Engine, secrets: Secrets) -> Self {
        let store = engine.core.store.clone();
        if let Some(store) = &store {
            store.expect_answer(&secrets);
        }
        Self { store, secrets }
    }

    fn is_granted(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_granted(&self.secrets))
    }

    fn answered(&mut self) {
        if let Some(store) = self.store.take() {
            store.answered(&self.secrets);
        }
    }
}

impl Drop for AnswerDue {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            store.gave_up(&self.secrets);
        }
    }
}

impl Table {
    fn keep(&mut self, name: &Name, until: impl FnOnce(u64) -> u64) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.until.remove(&(entry.until, name.clone()));
        entry.until = until(if entry.until == NEVER { 0 } else { entry.until });
        self.until.insert((entry.until, name.clone()));
    }

    fn remove(&mut self, name: &Name) {
        let Some(entry) = self.entries.remove(name) else { return };
        self.until.remove(&(entry.until, name.clone()));
        if let State::Granted(leases) = &entry.state {
            for lease in leases.iter() {
                self.by_lease.remove(&lease.id);
            }
        }
        if let Some(own) = self.by_caller.get_mut(&name.0) {
            *own -= 1;
            if *own == 0 {
                self.by_caller.remove(&name.0);
            }
        }
        if self.entries.is_empty() {
            *self = Self::default();
        }
    }
}

fn full(used: u64) -> Refusal {
    let constraint = Constraint {
        kind: ConstraintKind::Cap,
        counter: "idempotency keys".to_owned(),
        pattern: None,
        limit: MAX_KEYS as u64,
        used,
        frees_in: None,
        estimated: false,
        rate: None,
    };
    Refusal { blocked_on: vec![constraint], ..Refusal::new(Reason::Overloaded) }
}

/// The future of [`Engine::acquire_timed_batch`]; see [`Engine::acquire_timed`] for one lease.
///
/// # Cancel safety
/// Until the answer is taken, dropping it leaves the waitlist, unless another caller waits under the same key.
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct AcquireTimedBatch {
    engine: Engine,
    state: TimedState,
}

#[derive(Debug)]
enum TimedState {
    New(Box<Request>),
    Alone(PendingTimed),
    Shared { request: Box<Request>, name: Name, waiting: Option<Waiting>, joined: Option<Joined> },
    Done,
}

impl AcquireTimedBatch {
    pub(crate) fn new(engine: Engine, request: Request) -> Self {
        Self { engine, state: TimedState::New(Box::new(request)) }
    }

    fn begin(&mut self, request: Request) -> Option<Answer> {
        if request.validate().is_err() {
            return Some(Err(Refusal::new(Reason::Invalid)));
        }
        let Some(key) = request.idempotency_key.clone() else {
            let secrets = self.engine.secrets(&request);
            self.state = TimedState::Alone(PendingTimed::new(self.engine.clone(), request, secrets));
            return None;
        };
        let name = (request.caller, key);
        let (waiting, joined) = match self.engine.keys().find(&self.engine, &name, &request) {
            Found::Answer(answer) => return Some(answer),
            Found::First(waiting) => (waiting, None),
            Found::Join(waiting, joined) => (waiting, Some(joined)),
        };
        self.state = TimedState::Shared { request: Box::new(request), name, waiting: Some(waiting), joined };
        None
    }

    /// Leaves those who wait together.
    fn leave(&mut self) {
        if let TimedState::Shared { name, waiting, .. } = &mut self.state {
            // First: the last one out takes the waiter with it.
            drop(waiting.take());
            self.engine.keys().abandon(name);
        }
        self.state = TimedState::Done;
    }
}

impl Future for AcquireTimedBatch {
    type Output = Result<Arc<[TimedLease]>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let TimedState::New(request) = &this.state {
                let request = (**request).clone();
                if let Some(answer) = this.begin(request) {
                    this.state = TimedState::Done;
                    return Poll::Ready(answer);
                }
            }
            let answer = match &mut this.state {
                TimedState::Alone(inner) => std::task::ready!(Pin::new(inner).poll(context)).map(Arc::from),
                TimedState::Shared { request, waiting: Some(waiting), joined, .. } => {
                    match (waiting.poll_unpin(context), joined) {
                        (Poll::Ready(Err(refusal)), Some(joined))
                            if matches!(refusal.reason, Reason::TimedOut | Reason::Limited)
                                && let Some(rest) = joined.rest(this.engine.now()) =>
                        {
                            this.state = TimedState::New(Box::new((**request).clone().max_wait(rest)));
                            continue;
                        }
                        (Poll::Ready(answer), _) => answer,
                        (Poll::Pending, Some(joined)) => {
                            if !joined.is_over(&this.engine, context.waker()) {
                                return Poll::Pending;
                            }
                            let refusal = over(&this.engine, request);
                            this.leave();
                            return Poll::Ready(Err(refusal));
                        }
                        (Poll::Pending, None) => return Poll::Pending,
                    }
                }
                _ => Err(Refusal::new(Reason::Ended)),
            };
            this.state = TimedState::Done;
            return Poll::Ready(answer);
        }
    }
}

/// The refusal of one who has waited with another as long as it would.
fn over(engine: &Engine, request: &Request) -> Refusal {
    let reason = if request.max_wait == Some(Duration::ZERO) { Reason::Limited } else { Reason::TimedOut };
    match engine.check(request) {
        Err(refusal) if refusal.reason == Reason::Limited => Refusal { reason, ..refusal },
        _ => Refusal::new(reason),
    }
}

impl Drop for AcquireTimedBatch {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The future of [`Engine::acquire_timed`].
///
/// # Cancel safety
/// As [`AcquireTimedBatch`].
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct AcquireTimed {
    pub(crate) inner: AcquireTimedBatch,
}

impl Future for AcquireTimed {
    type Output = Result<TimedLease, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let leases = std::task::ready!(Pin::new(&mut self.inner).poll(context));
        Poll::Ready(leases.and_then(|leases| leases.first().copied().ok_or_else(|| Refusal::new(Reason::Unavailable))))
    }
}

#[cfg(test)]
mod tests;
