//! Held leases: capacity that is given back when the guard is dropped.

use crate::acquire::Leases;
use crate::cell::Cell;
use crate::clock::nanos;
use crate::core::Core;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{
    Caller, Grant, Input, LeaseId, LeaseRef, Offer, Outcome, Output, Request, RequestError, Settled, Taken,
    check_lease_time,
};

/// Why a lease cannot be extended or released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// It has ended, or never was. One answer for all: it does not tell which ids exist.
    #[error("the lease is gone: it expired, was released, or never was")]
    Gone,
    /// The lease time is out of bounds.
    #[error(transparent)]
    LeaseTime(#[from] RequestError),
    /// It would have to be written down, and the data directory cannot be written. Nothing has changed.
    #[error("the data directory cannot be written")]
    Unavailable,
}

/// Capacity that is held. Dropping it gives it back and wakes who waits for it.
#[must_use = "dropping a lease gives its capacity back"]
#[derive(Debug)]
pub struct Lease {
    /// The shard of the first part; none for an unscoped request.
    home: Option<Arc<Cell>>,
    parts: SmallVec<[LeaseRef; 1]>,
    fence: u64,
    book_version: u64,
    ends_at: u64,
    waited: u64,
    /// It is told to nobody before what was recorded with it is written.
    pub(crate) recorded: bool,
}

impl Lease {
    pub(crate) fn new(core: &Arc<Core>, grant: Grant) -> Self {
        let home = grant.parts.first().map(|part| Arc::clone(&core.cells[usize::from(part.shard)]));
        Self::in_cell(home, grant)
    }

    /// The leases of a grant.
    pub(crate) fn all(core: &Arc<Core>, mut grant: Grant) -> Leases {
        let more = std::mem::take(&mut grant.more);
        let more = if planted::is(Bug::BatchLosesRest) { Vec::new() } else { more };
        std::iter::once(grant).chain(more).map(|grant| Self::new(core, grant)).collect()
    }

    #[inline]
    pub(crate) fn in_cell(home: Option<Arc<Cell>>, grant: Grant) -> Self {
        Self {
            home,
            fence: grant.fence,
            book_version: grant.book_version,
            ends_at: grant.ends_at.unwrap_or(0),
            waited: grant.waited,
            recorded: grant.recorded,
            parts: grant.parts,
        }
    }

    #[inline]
    pub(crate) fn taken(home: Arc<Cell>, taken: Taken, recorded: bool) -> Self {
        Self {
            home: Some(home),
            parts: SmallVec::from_buf([taken.lease]),
            fence: taken.fence,
            book_version: taken.book_version,
            ends_at: 0,
            waited: 0,
            recorded,
        }
    }

    /// The fencing number: grows with every grant of the same counter, across restarts too.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// A name for logs. A held lease cannot be reached by it.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        LeaseId { shard: self.parts.first().map_or(0, |part| part.shard), secret: u128::from(self.fence) }
    }

    /// What a nested request names in [`weir_limiter::Request::lend_from`] to ride on this lease: all of it, or it pays for itself
    /// where the others lie.
    #[must_use]
    pub fn parts(&self) -> &[LeaseRef] {
        &self.parts
    }

    /// What this lease has for a request that would ride on it; `None`: it is on none of its counters.
    ///
    /// It tells which of several leases to name in [`Request::lend_from`]. A moment later it may have ended, or be lent: the
    /// request then pays for itself, or waits until the loan is back.
    ///
    /// O(parts of the lease).
    #[must_use]
    pub fn offer(&self, request: &Request) -> Option<Offer> {
        let core = self.home.as_ref()?.core()?;
        let offers =
            self.parts.iter().filter_map(|part| core.cells[usize::from(part.shard)].lock().offer(*part, request));
        offers.reduce(|mut all, one| {
            all.counters += one.counters;
            all.lent_to.extend(one.lent_to);
            all
        })
    }

    /// The version of the rule book that granted it.
    #[must_use]
    pub fn book_version(&self) -> u64 {
        self.book_version
    }

    /// How long the request waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited)
    }

    /// How long it still lasts. `None`: until it is dropped. Zero: it is lost.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        // An extension by nothing never moves the end: it tells where it is.
        self.move_end(Duration::ZERO).unwrap_or(Some(Duration::ZERO))
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.ends_at != 0 && self.remaining() == Some(Duration::ZERO)
    }

    /// Moves the end to `lease_time` from now, never back, and says how long it lasts; `None`: until it is dropped.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] when it has ended; [`LeaseError::LeaseTime`] outside 100 ms to 1 h.
    pub fn extend(&self, lease_time: Duration) -> Result<Option<Duration>, LeaseError> {
        check_lease_time(lease_time)?;
        self.move_end(lease_time)
    }

    /// Says what the work has really cost: only limits that count cost change. Doing it again with the same cost changes
    /// nothing.
    ///
    /// # Errors
    /// [`LeaseError::Gone`] when it has ended; [`LeaseError::Unavailable`] when it could not be written down.
    pub fn settle(&self, cost: u32) -> Result<Settled, LeaseError> {
        let Some(home) = &self.home else { return Ok(Settled::default()) };
        home.core().ok_or(LeaseError::Gone)?.settle_parts(&self.parts, cost)
    }

    /// Gives it back and says how the work ended. Dropping it says that it succeeded.
    pub fn release(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn move_end(&self, lease_time: Duration) -> Result<Option<Duration>, LeaseError> {
        let Some(home) = self.home.as_ref().filter(|_| self.ends_at != 0) else { return Ok(None) };
        let core = home.core().ok_or(LeaseError::Gone)?;
        core.extend_parts(&self.parts, lease_time)
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(home) = self.home.take() else { return };
        match self.parts.as_slice() {
            [part] => {
                home.release(*part, outcome);
            }
            parts => {
                if let Some(core) = home.core() {
                    core.release_parts(parts, outcome);
                }
            }
        }
    }

    /// Leaves the lease to its id: dropping this no longer ends it.
    pub(crate) fn into_timed(mut self) -> (u64, u64) {
        self.home = None;
        (self.fence, self.ends_at)
    }

    pub(crate) fn home_shard(&self) -> u16 {
        self.parts.first().map_or(0, |part| part.shard)
    }
}

impl Drop for Lease {
    /// Gives everything back. Never waits for more than a shard's lock.
    fn drop(&mut self) {
        self.end(Outcome::Ok);
    }
}

impl Core {
    pub(crate) fn extend_parts(
        self: &Arc<Self>,
        parts: &[LeaseRef],
        lease_time: Duration,
    ) -> Result<Option<Duration>, LeaseError> {
        let Some(first) = parts.first() else { return Ok(None) };
        match self.step_parts(parts, Input::Extend { lease: *first, lease_time }) {
            Output::Extended(end) => Ok(end.map(|end| Duration::from_nanos(end.saturating_sub(self.clock().now())))),
            _ => Err(LeaseError::Gone),
        }
    }

    pub(crate) fn settle_parts(self: &Arc<Self>, parts: &[LeaseRef], cost: u32) -> Result<Settled, LeaseError> {
        let Some(first) = parts.first() else { return Ok(Settled::default()) };
        self.can_record()?;
        let settle = Input::Settle { lease: *first, cost };
        let output = match self.step_parts(parts, settle.clone()) {
            // It was given more parts since.
            Output::Elsewhere(shards) => self.step_where_needed(shards, &settle),
            output => output,
        };
        match output {
            Output::Settled(settled) => Ok(settled),
            _ => Err(LeaseError::Gone),
        }
    }

    /// Ends the parts of a lease, each on its own; an outcome that concerns all of them is said before. Whether it was this call
    /// that has ended the first: of several at once, one.
    pub(crate) fn release_parts(self: &Arc<Self>, parts: &[LeaseRef], outcome: Outcome) -> bool {
        let mut ended = false;
        let mut rest = parts;
        if let [first, others @ ..] = parts
            && outcome != Outcome::Ok
        {
            ended = self.step_parts(parts, Input::Release { lease: *first, outcome }) == Output::Done;
            rest = others;
        }
        for part in rest {
            if planted::is(Bug::OtherPartsLeak) && *part != parts[0] {
                continue;
            }
            let released = self.cells[usize::from(part.shard)].release(*part, Outcome::Ok);
            ended |= released && *part == parts[0];
        }
        ended
    }

    /// A step over the shards of a lease.
    fn step_parts(self: &Arc<Self>, parts: &[LeaseRef], input: Input<'_>) -> Output {
        match parts {
            [part] => self.cells[usize::from(part.shard)].step(input),
            _ => {
                let mut shards: SmallVec<[u16; 4]> = parts.iter().map(|part| part.shard).collect();
                shards.sort_unstable();
                self.step_many(&shards, input, |_| {})
            }
        }
    }

    /// The parts of a timed lease, of this caller if one is named.
    pub(crate) fn parts_of(
        self: &Arc<Self>,
        id: LeaseId,
        caller: Option<Caller>,
    ) -> Result<SmallVec<[LeaseRef; 1]>, LeaseError> {
        let cell = self.cells.get(usize::from(id.shard)).ok_or(LeaseError::Gone)?;
        match cell.step(Input::Find { id, caller }) {
            Output::Found(parts) => Ok(parts),
            _ => Err(LeaseError::Gone),
        }
    }
}

/// How long a lease lasts from `now`, within the longest life.
pub(crate) fn remaining(now: u64, ends_at: u64) -> Duration {
    Duration::from_nanos(ends_at.saturating_sub(now).min(nanos(weir_limiter::MAX_LEASE_LIFE)))
}
