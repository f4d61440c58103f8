//! Waiting for leases, as futures.

use crate::cell::Wait;
use crate::engine::Engine;
use crate::lease::{Lease, remaining};
use crate::store::{Saving, Unsaved};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use weir_limiter::{LeaseId, Reason, Refusal, Request, WaiterId};

/// What a request gets: a lease, and the further ones of a batch.
pub(crate) type Leases = SmallVec<[Lease; 1]>;
/// 128 bits for each timed lease.
pub(crate) type Secrets = SmallVec<[u128; 1]>;

/// The future of [`Engine::acquire`].
///
/// It takes its place in line when it is first polled.
///
/// # Cancel safety
/// Dropping it at any time leaves the limiter as if the request had never come: a waiter leaves its waitlist, and a grant
/// that was on its way goes to the next in line; only what it has started under rates stays counted.
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct Acquire {
    inner: Pending,
}

/// The future of [`Engine::acquire_batch`].
///
/// # Cancel safety
/// As [`Acquire`].
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct AcquireBatch {
    pub(crate) inner: Pending,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Pending {
    engine: Engine,
    state: State,
}

#[derive(Debug)]
enum State {
    New {
        request: Box<Request>,
        secrets: Secrets,
    },
    Waiting {
        waiter: WaiterId,
        shards: SmallVec<[u16; 4]>,
        wait: Arc<Wait>,
    },
    /// Granted; what was recorded with it is being written.
    Saving {
        leases: Leases,
        saving: Saving,
    },
    Done,
}

/// What became of a request that was not refused at once.
#[derive(Debug)]
pub enum Started {
    /// It is granted.
    Granted(Lease),
    /// It waits.
    Waiting(Acquire),
}

/// What became of a request at once.
pub(crate) enum Begun {
    /// It is granted, and asked for one lease.
    Granted(Lease),
    Ended(Result<Leases, Refusal>),
    Waiting {
        waiter: WaiterId,
        shards: SmallVec<[u16; 4]>,
        wait: Arc<Wait>,
    },
}

impl Pending {
    pub(crate) fn new(engine: Engine, request: Request, secrets: Secrets) -> Self {
        Self { engine, state: State::New { request: Box::new(request), secrets } }
    }

    fn ticket(&self) -> Option<u64> {
        if let State::Waiting { waiter, .. } = &self.state { Some(waiter.ticket) } else { None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Leases, Refusal>> {
        if let State::New { request, secrets } = &self.state {
            match self.engine.begin(request, true, secrets) {
                Begun::Granted(lease) => return self.granted(Leases::from_buf([lease]), context),
                Begun::Ended(Ok(leases)) => return self.granted(leases, context),
                Begun::Ended(Err(refusal)) => {
                    self.state = State::Done;
                    return Poll::Ready(Err(refusal));
                }
                Begun::Waiting { waiter, shards, wait } => self.state = State::Waiting { waiter, shards, wait },
            }
        }
        match &self.state {
            State::Waiting { wait, .. } => match std::task::ready!(wait.ready(context.waker())) {
                Ok(leases) => self.granted(leases, context),
                Err(refusal) => {
                    self.state = State::Done;
                    Poll::Ready(Err(refusal))
                }
            },
            State::Saving { .. } => self.save(context),
            // Polled again after its end: a future may answer anything then, but it must not panic in a host.
            State::New { .. } | State::Done => Poll::Ready(Err(Refusal::new(Reason::Ended))),
        }
    }

    fn granted(&mut self, leases: Leases, context: &mut Context<'_>) -> Poll<Result<Leases, Refusal>> {
        if leases.iter().any(|lease| lease.recorded) {
            self.state = State::Saving { leases, saving: self.engine.saved() };
            return self.save(context);
        }
        self.state = State::Done;
        Poll::Ready(Ok(leases))
    }

    fn save(&mut self, context: &mut Context<'_>) -> Poll<Result<Leases, Refusal>> {
        let State::Saving { saving, .. } = &mut self.state else { return Poll::Pending };
        let saved = std::task::ready!(Pin::new(saving).poll(context));
        let State::Saving { leases, .. } = std::mem::replace(&mut self.state, State::Done) else {
            return Poll::Pending;
        };
        // Where it could not be written, dropping the leases gives them back.
        Poll::Ready(saved.map(|()| leases).map_err(|Unsaved| Refusal::new(Reason::Unavailable)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let State::Waiting { waiter, shards, wait } = std::mem::replace(&mut self.state, State::Done) {
            self.engine.cancel(waiter, shards);
            // A lease that has arrived meanwhile goes back here.
            drop(wait);
        }
    }
}

/// The one lease of a request that asked for one.
pub(crate) fn only(outcome: Result<Leases, Refusal>) -> Result<Lease, Refusal> {
    outcome.and_then(|leases| leases.into_iter().next().ok_or_else(|| Refusal::new(Reason::Unavailable)))
}

impl Acquire {
    pub(crate) fn new(engine: Engine, request: Request) -> Self {
        Self { inner: Pending::new(engine, request, Secrets::new()) }
    }

    pub(crate) fn waiting(engine: Engine, waiter: WaiterId, shards: SmallVec<[u16; 4]>, wait: Arc<Wait>) -> Self {
        Self { inner: Pending { engine, state: State::Waiting { waiter, shards, wait } } }
    }

    /// A lease that is granted, and not written down yet.
    pub(crate) fn saving(engine: Engine, lease: Lease) -> Self {
        let state = State::Saving { leases: Leases::from_buf([lease]), saving: engine.saved() };
        Self { inner: Pending { engine, state } }
    }

    /// Its place in line while it waits: of two that meet at a counter, the lower came first.
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        self.inner.ticket()
    }
}

impl AcquireBatch {
    /// As [`Acquire::ticket`].
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        self.inner.ticket()
    }
}

impl Future for Acquire {
    type Output = Result<Lease, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New { request, .. } = &self.inner.state
            && request.count.get() > 1
        {
            // The further leases would have no owner.
            self.inner.state = State::Done;
            return Poll::Ready(Err(Refusal::new(Reason::Invalid)));
        }
        self.inner.poll(context).map(only)
    }
}

impl Future for AcquireBatch {
    type Output = Result<Vec<Lease>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(context).map_ok(SmallVec::into_vec)
    }
}

/// A lease owned by somebody elsewhere: it ends when released by its id, or at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedLease {
    /// Its name: who knows it can extend and release it.
    pub id: LeaseId,
    /// The fencing number.
    pub fence: u64,
    /// How long it lasts unless it is extended. Zero: it has ended, where others of its batch have not.
    pub remaining: Duration,
    /// How long the request waited.
    pub waited: Duration,
    /// The version of the rule book that granted it.
    pub book_version: u64,
}

/// Timed leases on their way, under no idempotency key.
#[derive(Debug)]
pub(crate) struct PendingTimed {
    inner: Pending,
    secrets: Secrets,
}

impl PendingTimed {
    pub(crate) fn new(engine: Engine, request: Request, secrets: Secrets) -> Self {
        Self { inner: Pending::new(engine, request, secrets.clone()), secrets }
    }
}

impl Future for PendingTimed {
    type Output = Result<Vec<TimedLease>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let leases = std::task::ready!(self.inner.poll(context));
        let now = self.inner.engine.now();
        let timed = |(lease, secret): (Lease, &u128)| {
            let id = LeaseId { shard: lease.home_shard(), secret: *secret };
            let (waited, book_version) = (lease.waited(), lease.book_version());
            let (fence, ends_at) = lease.into_timed();
            TimedLease { id, fence, remaining: remaining(now, ends_at), waited, book_version }
        };
        Poll::Ready(leases.map(|leases| leases.into_iter().zip(&self.secrets).map(timed).collect()))
    }
}
