//! What a client holds in its hands: futures, wakers that remember, and leases of either kind.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use weir_engine::{
    Acquire, AcquireBatch, AcquireTimedBatch, Engine, Lease, LeaseId, LeaseRef, Outcome, Refusal, Settled, TimedLease,
};

/// Whether somebody was woken since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Any way to ask for leases.
#[derive(Debug)]
pub(crate) enum Future {
    One(Acquire),
    Batch(AcquireBatch),
    Timed(AcquireTimedBatch),
}

impl Future {
    pub(crate) fn poll(&mut self, flag: &Arc<Flag>) -> Option<Result<Vec<Got>, Refusal>> {
        let waker = Waker::from(Arc::clone(flag));
        let mut context = Context::from_waker(&waker);
        use std::future::Future as _;
        let outcome = match self {
            Self::One(future) => Pin::new(future).poll(&mut context).map_ok(|lease| vec![Got::Held(Box::new(lease))]),
            Self::Batch(future) => Pin::new(future)
                .poll(&mut context)
                .map_ok(|leases| leases.into_iter().map(|lease| Got::Held(Box::new(lease))).collect()),
            Self::Timed(future) => {
                Pin::new(future).poll(&mut context).map_ok(|leases| leases.iter().copied().map(Got::Timed).collect())
            }
        };
        match outcome {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    pub(crate) fn ticket(&self) -> Option<u64> {
        match self {
            Self::One(future) => future.ticket(),
            Self::Batch(future) => future.ticket(),
            Self::Timed(_) => None,
        }
    }
}

/// A lease of either kind.
#[derive(Debug)]
pub(crate) enum Got {
    Held(Box<Lease>),
    Timed(TimedLease),
}

impl Got {
    pub(crate) fn fence(&self) -> u64 {
        match self {
            Self::Held(lease) => lease.fence(),
            Self::Timed(lease) => lease.fence,
        }
    }

    pub(crate) fn book_version(&self) -> u64 {
        match self {
            Self::Held(lease) => lease.book_version(),
            Self::Timed(lease) => lease.book_version,
        }
    }

    pub(crate) fn waited(&self) -> u64 {
        let waited = match self {
            Self::Held(lease) => lease.waited(),
            Self::Timed(lease) => lease.waited,
        };
        crate::naive::nanos(waited)
    }

    /// The id of a timed lease.
    pub(crate) fn timed(&self) -> Option<LeaseId> {
        match self {
            Self::Held(_) => None,
            Self::Timed(lease) => Some(lease.id),
        }
    }

    /// What a nested request rides on.
    pub(crate) fn reference(&self) -> Option<LeaseRef> {
        match self {
            Self::Held(lease) => lease.parts().first().copied(),
            Self::Timed(_) => None,
        }
    }

    pub(crate) fn settle(&self, engine: &Engine, cost: u32) -> Option<Settled> {
        match self {
            Self::Held(lease) => lease.settle(cost).ok(),
            Self::Timed(lease) => engine.settle(lease.id, cost).ok(),
        }
    }

    pub(crate) fn release(self, outcome: Outcome) {
        if let Self::Held(lease) = self {
            lease.release(outcome);
        }
    }

    /// Lets go of what somebody else owns.
    pub(crate) fn leave(self) {
        debug_assert!(matches!(self, Self::Timed(_)));
    }
}

/// A lease that somebody owns.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) got: Got,
    /// Its number in the naive limiter.
    pub(crate) id: u64,
    pub(crate) granted_at: u64,
    /// What it costs by now.
    pub(crate) cost: u32,
    pub(crate) key: Option<String>,
}
