//! The locks. Feature `shuttle` swaps them for ones whose interleavings a test scheduler chooses.

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
