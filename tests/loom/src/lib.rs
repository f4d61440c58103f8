//! Every order in which threads may meet where there is no lock, and every value that a relaxed read may then see.
//!
//! The modules under test are those of the engine and of the server, compiled here with atomics whose orders `loom` chooses. An order
//! in which a wake is lost ends in threads that all wait, which `loom` takes for a deadlock.

// The modules under test bring unit tests, which want real atomics: what is built of this for tests of its own is empty.
#![cfg(not(test))]

#[path = "../../../host/http/src/again.rs"]
mod again;
#[path = "../../../host/engine/src/sleep.rs"]
mod sleep;
mod sync;

pub mod timer;
pub mod wakes;

/// Runs `model` in every order with at most so many preemptions.
pub(crate) fn every_order(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
