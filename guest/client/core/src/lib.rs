//! The client of a Weir server's lease API, for components on somebody else's host: everything but the sending.
//!
//! A component that imports `weir:flow` runs on Weir's own host, which is the limiter. Elsewhere (`wasmtime serve`, Spin) its
//! import is met by composing a client component, which asks a Weir server over HTTP. There are two, because WASI 0.3 waits by
//! suspending a task and WASI 0.2 by blocking its instance; both are thin, and this crate is what they have in common. A
//! [`Host`] lends it a clock, random numbers and one HTTP exchange; the 0.2 one answers each of them at once, having blocked.
//!
//! # A worked example
//! `WEIR_URL=http://weir:8080`, `WEIR_ON_FAILURE="closed, model=budget:3/1m"`. A guest acquires `model` with a longest wait of 5 s:
//! one `POST /weir/v1/leases` with a random idempotency key. The connection is cut after the server has granted. 50 to 100 ms later
//! the same key is sent again with what is left of the 5 s, and the server answers with the lease it granted before: one slot is
//! taken, not two. Had all four attempts failed, the policy of `model` would decide: up to three times in any minute the guest gets
//! a lease whose id begins with `local-budget-`, and the fourth is refused as `limited`. The next request that the server sees says
//! `weir-client-failures: budget=4`.
//!
//! # Invariants
//! - One acquire has one idempotency key, however often it is sent: never two leases for one.
//! - A call ends at most [`GRACE`] after what it may wait.
//! - A policy decides only where no answer came. What the server refused stays refused.
//! - A budget grants at most N in any window of its period, in this instance. With M instances it is M times N.
//! - A lease is never believed to last longer than the server says: its time counts from before the answer came.
//!
//! # Not handled here
//! The server's own limits; TLS, which is the host's; and knowing who the caller is: the scope is named or configured, and the
//! token says what may be used.

mod answer;
mod attempts;
mod client;
mod config;
mod failures;
mod host;
mod lease;
mod policy;
mod refused;
mod request;
mod span;

#[cfg(test)]
mod fake;

pub use answer::Settled;
pub use client::{Client, GRACE};
pub use config::{Config, ConfigError};
pub use host::{Exchange, Host, Reply, at_once};
pub use lease::{Lease, Outcome};
pub use policy::PolicyError;
pub use refused::{Constraint, ConstraintKind, Reason, Refused};
pub use request::{Ask, FlowLimits, Options, Rate};
