//! The order in which waiters are served. This file, and no other, decides who is next.
//!
//! One order for now: arrival. Every waiter has a ticket; at each counter the lowest ticket is served first, and a
//! waiter that does not fit holds back all behind it there. A waiter is *parked* at one counter that stands in its way:
//! while that one does, no other matters. When it frees up, the waiter at its head is looked at whole: it is granted,
//! stays (still blocked here), or moves to another counter that blocks it, where its ticket puts it in its place.
//!
//! Bounds: at one counter nobody is overtaken (0 overtakes among waiters parked there); joining, leaving and moving are
//! O(log waiters). A request that needs several counters can be passed by others while it is parked at one of them and
//! the rest fill up again.
//!
//! Deliberately not here yet: lines, priorities, weights between fairness keys, and barriers against endless passing.

use std::collections::BTreeSet;

/// The waiters parked at one counter. Empty, it takes no memory of its own.
#[derive(Debug, Default)]
pub(crate) struct Waitlist {
    tickets: BTreeSet<u64>,
}

impl Waitlist {
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn join(&mut self, ticket: u64) {
        self.tickets.insert(ticket);
    }

    pub(crate) fn leave(&mut self, ticket: u64) {
        self.tickets.remove(&ticket);
    }

    /// Who is served next.
    pub(crate) fn head(&self) -> Option<u64> {
        self.tickets.first().copied()
    }

    /// Whether somebody stands before this ticket; `None` is a newcomer, who stands behind all.
    pub(crate) fn stands_before(&self, ticket: Option<u64>) -> bool {
        match (self.head(), ticket) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(head), Some(ticket)) => head < ticket,
        }
    }

    /// How many stand before this ticket. O(waiters before it): for those that leave, who stand near the head.
    pub(crate) fn before(&self, ticket: Option<u64>) -> usize {
        ticket.map_or(self.tickets.len(), |ticket| self.tickets.range(..ticket).count())
    }
}
