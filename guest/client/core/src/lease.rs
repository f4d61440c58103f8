//! A lease as its component knows it.

use crate::span::SECOND;
use std::cell::Cell;

/// How long a lease is extended without the guest's asking, in nanoseconds.
pub(crate) const LONGEST: u64 = 3600 * SECOND;

/// What was granted, by the server or by a policy.
#[derive(Debug)]
pub struct Lease {
    pub(crate) id: String,
    pub(crate) fence: u64,
    /// Granted by a policy: the server knows nothing of it.
    pub(crate) local: bool,
    /// When it ends, on the host's clock.
    pub(crate) ends: Cell<u64>,
    /// What it is extended to.
    pub(crate) lease_time: u64,
    /// The guest gave it no lease time: it is to last until it is dropped, but is extended no later than `until`.
    pub(crate) endless: bool,
    /// [`LONGEST`] after it was granted, on the host's clock.
    pub(crate) until: u64,
}

/// How the work under a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It failed.
    Failed,
    /// What stands behind the limit asked for a pause, of so many nanoseconds if it said.
    PushedBack(Option<u64>),
}

impl Lease {
    /// Its id. That of a lease that a policy granted begins with `local-`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The fencing number. 0 where a policy granted it: nothing can be fenced without the server.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// How long it still lasts unless it is extended; 0 when it is lost.
    #[must_use]
    pub fn remaining(&self, now: u64) -> u64 {
        self.ends.get().saturating_sub(now)
    }

    /// When it should be extended next, if it lasts until it is dropped: half of what remains from now.
    ///
    /// None where its end is the guest's to move, where the server does not know it, and an hour after it was granted: one that is
    /// forgotten is not held for ever.
    #[must_use]
    pub fn extend_in(&self, now: u64) -> Option<u64> {
        (self.endless && !self.local && now < self.until).then(|| self.remaining(now) / 2)
    }

    /// What it is extended to, in nanoseconds.
    #[must_use]
    pub fn lease_time(&self) -> u64 {
        self.lease_time
    }

    /// The server does not know it any more.
    pub(crate) fn lose(&self) {
        self.ends.set(0);
    }
}
