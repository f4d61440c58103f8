//! What the modules under test call `crate::sync`.

use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::sync::PoisonError;
use std::task::Waker;

/// As that of `futures`: a wake that meets a registration wakes the waker of before or that of after.
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }

    pub(crate) fn register(&self, waker: &Waker) {
        drop(self.replace(Some(waker.clone())));
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.replace(None) {
            waker.wake();
        }
    }
}
