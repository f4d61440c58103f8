//! The locks, and the atomics of what goes without. Feature `shuttle` swaps the locks for ones whose interleavings a test scheduler
//! chooses; `tests/loom` compiles modules that use the atomics with such of its own.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
pub(crate) use under_test::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
mod under_test {
    pub(crate) use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // A panic under the lock fails the test anyway.
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}
