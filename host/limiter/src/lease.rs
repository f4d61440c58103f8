//! Leases: what is held, until when, and what is lent.
//!
//! A lease has one *part* in each shard it touches; each part ends on its own (by its reference, or at its end), so that
//! giving back never needs more than one shard.
//!
//! # Lending
//! The lease that ingress took for a request is lent to a nested acquire on the identical counter, so that a component
//! called through its own scope, with a limit of 1, does not wait for itself. The borrower holds what exceeds the
//! lender's share, and notes what it rides on. A lender has one loan at a time: a second nested acquire pays in full.
//! When the borrower ends, the loan returns. When the lender ends first, the borrower takes over what it rode on.
//!
//! Worked example, concurrency 1: ingress holds 1/1. The guest acquires the same key: it needs 0 more, and is granted.
//! The guest's lease is kept beyond the request; ingress gives its own back: the counter stays at 1/1, now the guest's,
//! until that ends too.

use crate::request::LeaseRef;
use smallvec::SmallVec;

/// What one lease part holds at one counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) counter: u32,
    pub(crate) calls: u32,
    pub(crate) cost: u32,
    /// What it rides on instead of holding it.
    pub(crate) lent_calls: u32,
    pub(crate) lent_cost: u32,
}

/// One shard's share of a lease.
#[derive(Debug)]
pub(crate) struct LeasePart {
    pub(crate) fence: u64,
    pub(crate) holds: SmallVec<[Hold; 3]>,
    pub(crate) granted_at: u64,
    /// When it ends by itself; 0: never.
    pub(crate) ends_at: u64,
    /// Boxed: only timed leases and those over several shards have one.
    pub(crate) identity: Option<Box<Identity>>,
    /// The slot of the lease it rides on, in this shard.
    pub(crate) lender: Option<(u32, u64)>,
    /// The slot of the lease that rides on it, in this shard.
    pub(crate) loan: Option<(u32, u64)>,
}

impl LeasePart {
    /// A part that stands alone: no end, no loan.
    #[inline]
    pub(crate) fn held(fence: u64, holds: SmallVec<[Hold; 3]>, granted_at: u64) -> Self {
        Self { fence, holds, granted_at, ends_at: 0, identity: None, lender: None, loan: None }
    }

    /// Whether its end concerns nothing but its counters.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.ends_at == 0 && self.identity.is_none() && self.lender.is_none() && self.loan.is_none()
    }
}

/// What the first part of a lease knows of the whole.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Of a timed lease.
    pub(crate) secret: Option<u128>,
    /// All parts, this one included.
    pub(crate) parts: SmallVec<[LeaseRef; 1]>,
}
