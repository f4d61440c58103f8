//! The lease, and the ways to one that suspend only the task that waits.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::bindings::weir::flow::{leases, types};
use crate::request::nanoseconds;
use crate::{Acquire, Constraint, Refused, acquire};

/// Capacity that is held. Dropping it gives it back.
#[must_use = "dropping a lease gives it back at once"]
pub struct Lease(types::Lease);

/// How the work under a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It failed.
    Failed,
    /// What stands behind the limit asked for a pause this long; `None`: it did not say, and 1 s is taken.
    ///
    /// Until then nothing is admitted at the counters that were asked for; who waits there stays. How long at most, the
    /// rule says, else 60 s.
    PushedBack(Option<Duration>),
}

/// What settling came to, in units of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// What is held less than before.
    pub refunded: u32,
    /// What was used beyond what was asked for. It is booked, and may show usage above a limit.
    pub overrun: u32,
}

/// Runs `work` under one unit of `scope`: waits, runs it, and gives the unit back when it is done or dropped.
///
/// For a response that streams take a [`Lease`] and [`keep`](Lease::keep) it: `work` is done when the response's head is.
///
/// # Errors
/// The refusal, when the wait ended first. Then `work` was never polled.
///
/// # Cancel safety
/// Dropping the future leaves the waitlist, or drops `work` and gives the unit back.
pub async fn under<T>(scope: impl Into<String>, work: impl Future<Output = T>) -> Result<T, Refused> {
    acquire(scope).run(work).await
}

impl Acquire {
    /// Takes the lease if it fits now, and never waits.
    ///
    /// # Errors
    /// The refusal; [`Reason::Limited`](crate::Reason::Limited) when it does not fit now.
    pub async fn try_acquire(self) -> Result<Lease, Refused> {
        let options = self.options();
        Ok(Lease(leases::try_acquire(self.scope, self.limit_key, self.cost, options).await?))
    }

    /// Waits until `least` leases fit at once, then takes them, and more up to `count` if they fit and nobody else waits.
    ///
    /// Each has the cost of the request, and ends on its own. `count` is at most 1,000. A batch that had to wait may get
    /// `least` only.
    ///
    /// # Errors
    /// The refusal, when the wait ended first; [`Reason::Invalid`](crate::Reason::Invalid) unless `1 <= least <= count`.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing; the place in line is lost.
    pub async fn acquire_batch(self, count: u32, least: u32) -> Result<Vec<Lease>, Refused> {
        let options = self.options();
        let batch = leases::acquire_batch(self.scope, self.limit_key, self.cost, count, least, options).await?;
        Ok(batch.into_iter().map(Lease).collect())
    }

    /// Says whether `try_acquire` would be granted, and takes nothing. Granted: the constraints that bind it.
    ///
    /// # Errors
    /// The refusal that `try_acquire` would get.
    pub async fn check(self) -> Result<Vec<Constraint>, Refused> {
        let options = self.options();
        let constraints = leases::check(self.scope, self.limit_key, self.cost, options).await?;
        Ok(constraints.into_iter().map(Constraint::from).collect())
    }

    /// Waits for the lease, runs `work` under it, and gives it back.
    ///
    /// # Errors
    /// The refusal, when the wait ended first. Then `work` was never polled.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the waitlist, or drops `work` and gives the lease back.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Refused> {
        let _lease = self.await?;
        Ok(work.await)
    }

    async fn wait(self) -> Result<Lease, Refused> {
        let options = self.options();
        Ok(Lease(leases::acquire(self.scope, self.limit_key, self.cost, options).await?))
    }
}

/// Waits until everything asked for fits, then takes it.
///
/// # Cancel safety
/// Dropping the future takes nothing; the place in line is lost.
impl IntoFuture for Acquire {
    type Output = Result<Lease, Refused>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
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
    pub async fn extend(&self, lease_time: Duration) -> Result<Option<Duration>, Refused> {
        let remaining = leases::extend(&self.0, nanoseconds(lease_time)).await?;
        Ok(remaining.map(Duration::from_nanos))
    }

    /// Says what the work has really cost. Only limits that count cost change; what is refunded is free at once.
    ///
    /// # Errors
    /// [`Reason::Lost`](crate::Reason::Lost) when it has ended.
    pub async fn settle(&self, cost: u32) -> Result<Settled, Refused> {
        Ok(leases::settle(&self.0, cost).await?.into())
    }

    /// Gives it back and says how the work ended. Dropping it says that it succeeded.
    pub fn release(self, outcome: Outcome) {
        leases::release(self.0, outcome.into());
    }

    /// Hands it to the host, which gives it back when the body of this request's response has ended, as failed or
    /// pushed back where the response says so.
    pub fn keep(self) {
        leases::keep(self.0);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lease").field("fence", &self.fence()).finish_non_exhaustive()
    }
}
