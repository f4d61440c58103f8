//! Until when the timer thread sleeps, as those see it who may have to wake it; no lock is in between.
//!
//! Two sides each write one number and then read the other's. Whoever sets an earlier timer writes [`Due`] and reads [`Sleep`]: does
//! the thread sleep past it? The thread writes [`Sleep`] and reads every [`Due`]: is one earlier than that? A fence on each side
//! between the two sees to it that at least one of them reads what the other has written, so that no timer is slept past. `tests/loom`
//! tries every order.

use crate::sync::{AtomicU64, Ordering, fence};

/// When something is due: written under a lock, and read without it.
#[derive(Debug)]
pub(crate) struct Due(AtomicU64);

impl Due {
    pub(crate) fn new(at: u64) -> Self {
        Self(AtomicU64::new(at))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// To be told to [`Sleep::is_past`] when that is earlier than before.
    pub(crate) fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }
}

/// Until when the thread sleeps; 0 while it is awake and will look at everything by itself.
#[derive(Debug)]
pub(crate) struct Sleep(AtomicU64);

impl Sleep {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether the thread sleeps past `due`, which has been set before, and must be woken. Otherwise it will see it by itself.
    pub(crate) fn is_past(&self, due: u64) -> bool {
        fence(Ordering::SeqCst);
        due < self.0.load(Ordering::Relaxed)
    }

    /// The thread is awake.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The thread is about to sleep until then. What is due earlier has been set before this, and is to be looked for now, or will wake it.
    pub(crate) fn begin(&self, until: u64) {
        self.0.store(until, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}
