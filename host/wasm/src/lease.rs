//! The resource table entry behind a guest's lease handle.
//!
//! It is a shell: the lease itself lies with the request that acquired it (see [`crate::request`]), where the host can
//! take it away from outside of the store: at the end of the response body, when the instance is idle, when the
//! instance is gone. A guest that uses a handle after that gets `lost`.
//!
//! Release is the Rust `Drop` of the shell, because the WIT destructor does not run on a trap or when a store is
//! dropped, and the drop of a table entry does.

use crate::request::RequestState;
use std::fmt;
use std::sync::Arc;
use weir_engine::planted::{self, Bug};
use weir_engine::{Lease, LeaseId, Outcome};

/// A guest's lease handle. Dropping it gives the lease back.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct LeaseEntry {
    home: Arc<RequestState>,
    place: Place,
    id: LeaseId,
    fence: u64,
}

/// Where a lease lies with its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    /// Tells the present lease of a slot from an earlier one.
    pub(crate) serial: u64,
}

impl LeaseEntry {
    pub(crate) fn new(home: Arc<RequestState>, place: Place, id: LeaseId, fence: u64) -> Self {
        Self { home, place, id, fence }
    }

    /// The id of the lease, also after it is lost.
    pub(crate) fn id(&self) -> LeaseId {
        self.id
    }

    /// The fencing number, also after the lease is lost.
    pub(crate) fn fence(&self) -> u64 {
        self.fence
    }

    /// Uses the lease, unless the host took it away or it expired.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Lease) -> R) -> Option<R> {
        self.home.with_lease(self.place, |lease| if lease.is_lost() { None } else { Some(f(lease)) }).flatten()
    }

    /// Gives the lease back and says how the work ended; does nothing when the host took it away.
    pub(crate) fn release(self, outcome: Outcome) {
        self.home.release(self.place, outcome);
        // The drop of the shell finds nothing any more.
    }

    /// Leaves the lease with the host until the response body of its request has ended.
    pub(crate) fn keep(self) {
        if planted::is(Bug::KeptEndsWithHead) {
            return;
        }
        self.home.keep(self.place);
        // The drop of the shell gives nothing back: what it names is kept, and so no longer the guest's.
    }
}

impl Drop for LeaseEntry {
    fn drop(&mut self) {
        if planted::is(Bug::DropKeepsLease) {
            return;
        }
        // Dropped with its store, where the guest failed. The lease of its call says so for itself, where there is one.
        let failed = self.home.has_failed() && !self.home.has_lease();
        self.home.release(self.place, if failed { Outcome::Failed } else { Outcome::Ok });
    }
}

impl fmt::Debug for LeaseEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseEntry").field("id", &self.id).field("fence", &self.fence).finish_non_exhaustive()
    }
}
