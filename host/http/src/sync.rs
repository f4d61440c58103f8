//! What [`crate::again`] is made of: `tests/loom` compiles it with its own.

pub(crate) use futures::task::AtomicWaker;
pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
