//! The same for WASI 0.2 components: plain calls that block the instance while they wait.
//!
//! ```rust,ignore
//! fn main() {
//!     let lease = weir_guest::sync::acquire(&weir_guest::here()).expect("granted");
//!     println!("my turn, number {}", lease.fence());
//! }
//! ```
//!
//! Where the instance may serve other requests meanwhile, the host does not wait: it answers
//! [`Reason::WouldBlock`](crate::Reason::WouldBlock).

use std::fmt;
use std::time::Duration;

use crate::bindings::weir::flow::{leases_sync, types};
use crate::request::nanoseconds;
use crate::{Constraint, Outcome, Refused, Settled};

/// Capacity that is held. Dropping it gives it back.
#[must_use = "dropping a lease gives it back at once"]
pub struct Lease(types::Lease);

/// Waits until everything asked for fits, then takes it.
///
/// # Errors
/// The refusal, when the wait ended first.
pub fn acquire(request: &crate::Acquire) -> Result<Lease, Refused> {
    let options = request.options();
    let lease = leases_sync::acquire(request.scope.as_deref(), request.limit_key.as_deref(), request.cost, options)?;
    Ok(Lease(lease))
}

/// Takes the lease if it fits now, and never waits.
///
/// # Errors
/// The refusal; [`Reason::Limited`](crate::Reason::Limited) when it does not fit now.
pub fn try_acquire(request: &crate::Acquire) -> Result<Lease, Refused> {
    let options = request.options();
    let lease =
        leases_sync::try_acquire(request.scope.as_deref(), request.limit_key.as_deref(), request.cost, options)?;
    Ok(Lease(lease))
}

/// Waits until `least` leases fit at once, then takes them, and more up to `count` if they fit and nobody else waits.
///
/// # Errors
/// The refusal, when the wait ended first; [`Reason::Invalid`](crate::Reason::Invalid) unless `1 <= least <= count <= 1000`.
pub fn acquire_batch(request: &crate::Acquire, count: u32, least: u32) -> Result<Vec<Lease>, Refused> {
    let options = request.options();
    let (scope, limit_key) = (request.scope.as_deref(), request.limit_key.as_deref());
    let batch = leases_sync::acquire_batch(scope, limit_key, request.cost, count, least, options)?;
    Ok(batch.into_iter().map(Lease).collect())
}

/// Says whether [`try_acquire`] would be granted, and takes nothing. Granted: the constraints that bind it.
///
/// # Errors
/// The refusal that [`try_acquire`] would get.
pub fn check(request: &crate::Acquire) -> Result<Vec<Constraint>, Refused> {
    let options = request.options();
    let constraints =
        leases_sync::check(request.scope.as_deref(), request.limit_key.as_deref(), request.cost, options)?;
    Ok(constraints.into_iter().map(Constraint::from).collect())
}

/// Runs `work` under one unit of `scope`, and gives the unit back.
///
/// # Errors
/// The refusal, when the wait ended first. Then `work` was not called.
pub fn under<T>(scope: impl Into<String>, work: impl FnOnce() -> T) -> Result<T, Refused> {
    let _lease = acquire(&crate::acquire(scope))?;
    Ok(work())
}

impl Lease {
    /// The id of this lease, unique in its host.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// The fencing number: grows with every grant. Hand it to whatever the lease protects.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.0.fence()
    }

    /// How long it still lasts. `None`: until it is dropped. Zero: it is lost.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0.remaining().map(Duration::from_nanos)
    }

    /// Moves its end to `lease_time` from now and says how long it lasts. Never shortens, never checks limits again.
    ///
    /// # Errors
    /// [`Reason::Lost`](crate::Reason::Lost) when it has ended.
    pub fn extend(&self, lease_time: Duration) -> Result<Option<Duration>, Refused> {
        let remaining = leases_sync::extend(&self.0, nanoseconds(lease_time))?;
        Ok(remaining.map(Duration::from_nanos))
    }

    /// Says what the work has really cost. Only limits that count cost change; what is refunded is free at once.
    ///
    /// # Errors
    /// [`Reason::Lost`](crate::Reason::Lost) when it has ended.
    pub fn settle(&self, cost: u32) -> Result<Settled, Refused> {
        Ok(leases_sync::settle(&self.0, cost)?.into())
    }

    /// Gives it back and says how the work ended. Dropping it says that it succeeded.
    pub fn release(self, outcome: Outcome) {
        leases_sync::release(self.0, outcome.into());
    }

    /// Hands it to the host, which gives it back when the body of this request's response has ended.
    pub fn keep(self) {
        leases_sync::keep(self.0);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lease").field("fence", &self.fence()).finish_non_exhaustive()
    }
}
