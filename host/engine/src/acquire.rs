//! Waiting for a lease, as a future.

use crate::cell::Wait;
use crate::engine::Engine;
use crate::lease::{Lease, remaining};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use weir_limiter::{LeaseId, Reason, Refusal, Request, WaiterId};

/// The future of [`Engine::acquire`].
///
/// It takes its place in line when it is first polled.
///
/// # Cancel safety
/// Dropping it at any time leaves the limiter as if the request had never come: a waiter leaves its waitlist, and a grant
/// that was on its way goes to the next in line.
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct Acquire {
    engine: Engine,
    state: State,
}

#[derive(Debug)]
enum State {
    New { request: Request, secret: Option<u128> },
    Waiting { waiter: WaiterId, shards: SmallVec<[u16; 4]>, wait: Arc<Wait> },
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
    Ended(Result<Lease, Refusal>),
    Waiting { waiter: WaiterId, shards: SmallVec<[u16; 4]>, wait: Arc<Wait> },
}

impl Acquire {
    pub(crate) fn new(engine: Engine, request: Request, secret: Option<u128>) -> Self {
        Self { engine, state: State::New { request, secret } }
    }

    pub(crate) fn waiting(engine: Engine, waiter: WaiterId, shards: SmallVec<[u16; 4]>, wait: Arc<Wait>) -> Self {
        Self { engine, state: State::Waiting { waiter, shards, wait } }
    }
}

impl Future for Acquire {
    type Output = Result<Lease, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New { request, secret } = &self.state {
            match self.engine.begin(request, true, *secret) {
                Begun::Ended(outcome) => {
                    self.state = State::Done;
                    return Poll::Ready(outcome);
                }
                Begun::Waiting { waiter, shards, wait } => self.state = State::Waiting { waiter, shards, wait },
            }
        }
        let State::Waiting { wait, .. } = &self.state else {
            // Polled again after its end: a future may answer anything then, but it must not panic in a host.
            return Poll::Ready(Err(Refusal::new(Reason::Ended)));
        };
        match wait.poll(context.waker()) {
            None => Poll::Pending,
            Some(outcome) => {
                self.state = State::Done;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let State::Waiting { waiter, shards, wait } = std::mem::replace(&mut self.state, State::Done) {
            self.engine.cancel(waiter, &shards);
            // A lease that has arrived meanwhile goes back here.
            drop(wait);
        }
    }
}

/// The future of [`Engine::acquire_timed`].
///
/// # Cancel safety
/// As [`Acquire`]: until the answer is taken, dropping it gives a lease back.
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct AcquireTimed {
    pub(crate) inner: Acquire,
    pub(crate) secret: u128,
}

/// A lease owned by somebody elsewhere: it ends when released by its id, or at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedLease {
    /// Its name: who knows it can extend and release it.
    pub id: LeaseId,
    /// The fencing number.
    pub fence: u64,
    /// How long it lasts unless it is extended.
    pub remaining: Duration,
}

impl Future for AcquireTimed {
    type Output = Result<TimedLease, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.inner).poll(context).map_ok(|lease| {
            let id = LeaseId { shard: lease.home_shard(), secret: self.secret };
            let now = self.inner.engine.now();
            let (fence, ends_at) = lease.into_timed();
            TimedLease { id, fence, remaining: remaining(now, ends_at) }
        })
    }
}
