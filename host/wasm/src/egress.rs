//! What guests send to others: whom they may reach, what they wait for, and the connections that all of them share.
//!
//! ```text
//! guest ── allow (may it?) ── rule (which counter?) ── send (its turn) ── client (a connection) ── upstream
//!                                                        lease <──────── body: ends with the response
//! ```
//! A guest knows nothing of it: its call takes a little longer, or has the answer of a server that is busy.
//!
//! # Invariants
//! - A component reaches the hosts in its `allow-outbound` and nobody else; an address that is not open to the whole world
//!   only if that is named itself, whatever name leads there. Sockets and name look-ups are closed to guests altogether.
//! - A call holds its lease until the response body has ended, broken off or been dropped; one that waits leaves its
//!   waitlist when its future is dropped, which is when the guest gives it up or is gone.
//! - A call rides on a lease that is held for its request on a counter of the rule, the guest's or that of ingress: who acquires
//!   what its call comes under does not wait for itself. One call at a time, and the lease is the start of the first.
//! - Waiting for egress holds no other capacity than that of the requests which wait for it, and egress never waits for
//!   ingress. Their scopes differ by default, so neither can lock the other up.
//!
//! # Not handled here
//! A key of the guest's own for one call: that is `weir:calls`, which asks for it and for the rule in one step; see `calls`.

mod address;
mod allow;
mod attribute;
mod body;
mod client;
mod count;
mod rule;
mod send;

pub(crate) use allow::{Destination, Outbound};
pub use allow::{OutboundRuleError, check_outbound};
pub(crate) use attribute::add_http_to_linker;
pub(crate) use body::leased;
pub(crate) use client::Clients;
pub(crate) use count::Counts;
pub use count::OutboundCounts;
pub use rule::{Egress, EgressError, EgressRule};
pub(crate) use send::{Barred, Hooks, Outgoing, REFUSED, Ruled};
