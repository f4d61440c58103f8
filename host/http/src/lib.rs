//! The network face of Weir: ingress, and the admin API.
//!
//! Two listeners. **Ingress** (127.0.0.1:8080) carries the calls: a request that comes under a scope first waits for its
//! slot, then takes an instance of its component, and gives the slot back when the body of its answer has ended. The wait
//! stands before the instance, so 5,000 callers waiting for one component cost 5,000 small futures, and the component beside
//! it answers as ever. **Admin** (127.0.0.1:9070) shows and changes the rule book, on a thread of its own, so that it
//! answers while ingress is flooded.
//!
//! ```text
//!              accept thread ── round robin ──┬── worker 0: one current-thread runtime, one runner per component
//! 127.0.0.1:8080 ─┘                           └── worker 1: ...
//! 127.0.0.1:9070 ─── admin thread
//! ```
//!
//! One runtime per core, with nothing stolen between them, is the one lever on throughput that is clearly above the noise.
//! The listener is not shared by `SO_REUSEPORT`: then a port that is taken would not be an error.
//!
//! # What ends what
//! - The client leaves: the future that waits or the body that streams is dropped, and with it place or lease. hyper does not
//!   notice it while the request's body is unread; [`Server`] asks the sockets themselves, four times a second.
//! - The client keeps the server waiting, for a head, a body or an answer to be taken: the connection is dropped after a while, and
//!   sooner if there is none left for others. A call that waits for its turn, and a stream that is silent, live on.
//! - The server shuts down: nothing new is accepted, what waits is sent away with 503, what runs has
//!   [`ServerConfig::shutdown_timeout`] to finish, the rest is dropped.
//!
//! # Who may ask
//! Calls of components are open to whoever reaches ingress. The lease API and the admin API are for this machine, and for
//! whoever shows a [token](tokens).
//!
//! # Not handled here
//! TLS, HTTP/3, upgrades and compression: put a proxy in front.

mod access;
mod admin;
mod again;
mod answer;
pub mod api;
mod body;
mod client_failures;
mod connection;
mod ingress;
mod json;
mod leases;
mod listen;
mod metrics;
mod problem;
mod query;
mod route;
mod serve;
mod sync;
pub mod tokens;
mod watch;
mod words;
mod worker;

pub use access::is_this_machine;
pub use problem::{ConstraintBody, Problem, RATE_LIMIT_DRAFT};
pub use route::{Route, RouteError};
pub use serve::{
    DEFAULT_ADMIN, DEFAULT_INGRESS, MAX_CONNECTIONS, MAX_WORKERS, ServeError, Server, ServerConfig, Service, Stop,
};
pub use words::plainly;
