//! Timed leases, found by their ids: extended, settled and released by whoever owns them.
//!
//! The engine itself goes by the id alone. A server that tells its clients apart asks as one of them, with
//! [`Engine::leases_of`]: a lease is its taker's, and to everybody else it is gone, as if it had never been. So an id that has
//! leaked is of no use to others, and asking does not tell which ids exist.

use crate::engine::Engine;
use crate::lease::LeaseError;
use std::time::Duration;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{Caller, LeaseId, Outcome, Settled, check_lease_time};

/// The timed leases that one caller has taken.
#[derive(Debug, Clone, Copy)]
pub struct LeasesOf<'a> {
    engine: &'a Engine,
    caller: Caller,
}

impl Engine {
    /// The timed leases that `caller` has taken.
    #[must_use]
    pub fn leases_of(&self, caller: Caller) -> LeasesOf<'_> {
        LeasesOf { engine: self, caller }
    }

    /// Moves the end of a timed lease to `lease_time` from now, never back, and says how long it lasts.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] for any id that names no living lease; [`LeaseError::LeaseTime`] outside 100 ms to 1 h.
    pub fn extend(&self, id: LeaseId, lease_time: Duration) -> Result<Duration, LeaseError> {
        self.extend_for(id, None, lease_time)
    }

    /// Says what the work under a timed lease has really cost; see [`crate::Lease::settle`].
    ///
    /// # Errors
    /// [`LeaseError::Gone`] for any id that names no living lease; [`LeaseError::Unavailable`] when it could not be written down.
    pub fn settle(&self, id: LeaseId, cost: u32) -> Result<Settled, LeaseError> {
        self.settle_for(id, None, cost)
    }

    /// Ends a timed lease, and says how the work ended.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] for any id that names no living lease.
    pub fn release(&self, id: LeaseId, outcome: Outcome) -> Result<(), LeaseError> {
        self.release_for(id, None, outcome)
    }

    fn extend_for(&self, id: LeaseId, caller: Option<Caller>, lease_time: Duration) -> Result<Duration, LeaseError> {
        check_lease_time(lease_time)?;
        let remaining = match self.move_end(id, caller, lease_time) {
            Err(LeaseError::Gone) if planted::is(Bug::ExtendRevives) => lease_time,
            moved => moved?,
        };
        self.core.keys.lasts(id, self.now().saturating_add(crate::clock::nanos(remaining)));
        Ok(remaining)
    }

    pub(crate) fn move_end(
        &self,
        id: LeaseId,
        caller: Option<Caller>,
        lease_time: Duration,
    ) -> Result<Duration, LeaseError> {
        let parts = self.core.parts_of(id, caller)?;
        self.core.extend_parts(&parts, lease_time)?.ok_or(LeaseError::Gone)
    }

    fn settle_for(&self, id: LeaseId, caller: Option<Caller>, cost: u32) -> Result<Settled, LeaseError> {
        let parts = self.core.parts_of(id, caller)?;
        self.core.settle_parts(&parts, cost)
    }

    fn release_for(&self, id: LeaseId, caller: Option<Caller>, outcome: Outcome) -> Result<(), LeaseError> {
        let parts = self.core.parts_of(id, caller)?;
        // First: whoever repeats the request from here on learns that it has ended.
        self.core.keys.ended(id, outcome, self.now());
        // Somebody else may have ended it since it was found.
        if self.core.release_parts(&parts, outcome) { Ok(()) } else { Err(LeaseError::Gone) }
    }
}

impl LeasesOf<'_> {
    /// As [`Engine::extend`].
    ///
    /// # Errors
    /// As there, and [`LeaseError::Gone`] for the lease of another.
    pub fn extend(&self, id: LeaseId, lease_time: Duration) -> Result<Duration, LeaseError> {
        self.engine.extend_for(id, Some(self.caller), lease_time)
    }

    /// As [`Engine::settle`].
    ///
    /// # Errors
    /// As there, and [`LeaseError::Gone`] for the lease of another.
    pub fn settle(&self, id: LeaseId, cost: u32) -> Result<Settled, LeaseError> {
        self.engine.settle_for(id, Some(self.caller), cost)
    }

    /// As [`Engine::release`].
    ///
    /// # Errors
    /// As there, and [`LeaseError::Gone`] for the lease of another.
    pub fn release(&self, id: LeaseId, outcome: Outcome) -> Result<(), LeaseError> {
        self.engine.release_for(id, Some(self.caller), outcome)
    }
}
