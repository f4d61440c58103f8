//! Leases: what is held, until when, and what is lent.
//!
//! A lease has one *part* in each shard it touches; each part ends on its own (by its reference, or at its end), so that
//! giving back never needs more than one shard.
//!
//! # Lending
//! The lease that ingress took for a request is lent to a nested acquire on the identical counter, so that a component
//! called through its own scope, with a limit of 1, does not wait for itself. The borrower holds what exceeds the
//! lender's share, and notes what it rides on. A part has one loan at a time: a second nested acquire pays in full there.
//! When the borrower ends, the loan returns. When the lender ends first, the borrower takes over what it rode on; what the
//! lender rode on itself carries the borrower from then on, for a borrower lends on what it rides on, too.
//!
//! What is held is lent as often as borrowers follow each other, but the start that was made for it once: the first
//! borrower is the work that the lender was let in for. Those after it are starts of their own: rates count them whole, and
//! a pause or a pushback holds them. No barrier stops them: who has one may wait for their lender. So who has a
//! barrier waits until those who hold have ended, and no longer. A drain lets them in, since they belong to what is present.
//! What a start has paid for is not refunded: settling the lender takes back the rest at most.
//!
//! Worked example, concurrency 1 and 2 a minute: ingress holds 1/1, which is the first start. The guest acquires the same
//! key: it needs 0 more, and is granted; it gives that back and acquires again: 0 more to hold, but the second start. A
//! third time it waits for the rate. Its second lease is kept beyond the request; ingress gives its own back: the counter
//! stays at 1/1, now the guest's, until that ends too.

use crate::history::Start;
use crate::request::{Inline, LeaseRef};
use smallvec::SmallVec;
use std::sync::Arc;

/// What one lease part holds at one counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) counter: u32,
    pub(crate) calls: u32,
    pub(crate) cost: u32,
    /// The cost that it rides on instead of holding it.
    pub(crate) lent_cost: u32,
    /// One more than the cost that its start has paid for somebody else's work; 0: its start can be lent.
    pub(crate) spent: u32,
    /// Whether it rides on a call instead of holding one.
    pub(crate) lent_call: bool,
    /// The last part of what the request named, where a pushback belongs.
    pub(crate) leaf: bool,
    /// The shadow limits of the counter would have refused it.
    pub(crate) shadowed: bool,
    /// It is a start of its own, though it rides on another lease.
    pub(crate) anew: bool,
}

/// It is copied at every grant and release: 28 bytes took 5 % more time.
const _: () = assert!(size_of::<Hold>() == 24);

impl Hold {
    /// So much, on nobody's account.
    pub(crate) fn new(counter: u32, calls: u32, cost: u32) -> Self {
        Self {
            counter,
            calls,
            cost,
            lent_cost: 0,
            spent: 0,
            lent_call: false,
            leaf: false,
            shadowed: false,
            anew: false,
        }
    }

    /// Whether it takes anything for itself; else it rides on another lease whole.
    #[inline]
    pub(crate) fn takes_any(&self) -> bool {
        self.calls > 0 || self.cost > 0
    }

    /// Whether it rides on another lease, with a part or whole. Who rides with any of its cost rides with its call.
    #[inline]
    pub(crate) fn rides(&self) -> bool {
        debug_assert!(self.lent_call || self.lent_cost == 0);
        self.lent_call
    }

    /// Calls and cost of the start that its grant is.
    #[inline]
    pub(crate) fn starts(&self) -> (u32, u32) {
        if self.anew { self.whole() } else { (self.calls, self.cost) }
    }

    /// Whether its start has paid for somebody else's work, or somebody else's for its own: who rides on it is a start of its own.
    pub(crate) fn start_is_lent(&self) -> bool {
        self.spent > 0
    }

    /// Notes that its start has paid for so much of somebody else's work.
    pub(crate) fn spend(&mut self, cost: u32) {
        self.spent = cost.saturating_add(1);
    }

    /// The cost that has to count as started by it: no settling takes back what its start has paid for.
    pub(crate) fn started_cost(&self) -> u32 {
        self.starts().1.max(self.spent.saturating_sub(1))
    }

    /// Calls and cost of what was asked for: what it takes and what it rides on.
    #[inline]
    pub(crate) fn whole(&self) -> (u32, u32) {
        (self.calls + u32::from(self.lent_call), self.cost.saturating_add(self.lent_cost))
    }
}

/// One shard's share of a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeasePart {
    pub(crate) fence: u64,
    pub(crate) holds: SmallVec<[Hold; 3]>,
    pub(crate) granted_at: u64,
    /// When it ends by itself; 0: never.
    pub(crate) ends_at: u64,
    /// Boxed: only timed leases, those over several shards and those at rates that count cost have one.
    pub(crate) rest: Option<Box<Rest>>,
    /// The slot of the lease it rides on, in this shard, and its fence; 0: none.
    lender: (u32, u64),
    /// The slot of the lease that rides on it, in this shard, and its fence; 0: none.
    loan: (u32, u64),
    /// Whose it is, of those who share the host; 0: nobody's in particular.
    pub(crate) caller: u32,
}

impl LeasePart {
    /// A part that stands alone and holds nothing yet: no end, no loan.
    #[inline]
    pub(crate) fn held(fence: u64, granted_at: u64, caller: u32) -> Self {
        Self { fence, holds: SmallVec::new(), granted_at, ends_at: 0, rest: None, lender: (0, 0), loan: (0, 0), caller }
    }

    /// Whether its end concerns nothing but its counters.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.ends_at == 0 && self.rest.is_none() && self.lender.1 == 0 && self.loan.1 == 0
    }

    /// Whether it holds, or rides on, anything at a counter.
    pub(crate) fn is_on(&self, counter: u32) -> bool {
        self.holds.iter().any(|hold| hold.counter == counter)
    }

    /// The lease it rides on.
    pub(crate) fn lender(&self) -> Option<(u32, u64)> {
        (self.lender.1 != 0).then_some(self.lender)
    }

    pub(crate) fn set_lender(&mut self, lender: Option<(u32, u64)>) {
        self.lender = lender.unwrap_or_default();
    }

    /// The lease that rides on it.
    pub(crate) fn loan(&self) -> Option<(u32, u64)> {
        (self.loan.1 != 0).then_some(self.loan)
    }

    pub(crate) fn set_loan(&mut self, loan: Option<(u32, u64)>) {
        self.loan = loan.unwrap_or_default();
    }

    /// All parts of the lease, this one being the first.
    pub(crate) fn parts(&self, own: LeaseRef) -> SmallVec<[LeaseRef; 1]> {
        match &self.rest {
            Some(rest) if !rest.parts.is_empty() => rest.parts.clone(),
            _ => SmallVec::from_buf([own]),
        }
    }

    /// Of a timed lease.
    pub(crate) fn secret(&self) -> Option<u128> {
        self.rest.as_ref().and_then(|rest| rest.secret)
    }
}

/// What a lease, or a part of one, has for a request that would ride on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// How many of the request's counters it holds, pools aside.
    pub counters: usize,
    /// The fencing numbers of the leases that ride on it now, one for each part at most.
    pub lent_to: SmallVec<[u64; 1]>,
}

/// What few parts have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rest {
    /// Of a timed lease; in its first part.
    pub(crate) secret: Option<u128>,
    /// All parts, this one included, where there are several; in the first.
    pub(crate) parts: SmallVec<[LeaseRef; 1]>,
    /// Parts that it was given since, at pools; in the first.
    pub(crate) adopted: SmallVec<[LeaseRef; 1]>,
    /// The first part, in one that was given since.
    pub(crate) given_to: Option<LeaseRef>,
    /// Its starts under rates that count cost, by counter, in the order in which they were made.
    pub(crate) starts: Vec<(u32, Start)>,
    /// The inline keys with such rates, by counter.
    pub(crate) inline: Vec<(u32, Arc<Inline>)>,
}
