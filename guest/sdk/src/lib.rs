//! Flow control for WebAssembly guests written in Rust: acquire, hold, drop.
//!
//! A whole Spin component that never has more in flight than its rule allows (`examples/hello` is this file):
//!
//! ```rust,ignore
//! use spin_sdk::http::{IntoResponse, Request, Response};
//! use spin_sdk::http_service;
//! use weir_guest::Refused;
//!
//! #[http_service]
//! async fn hello(_request: Request) -> impl IntoResponse {
//!     let greet = async { Response::new("hello\n".to_owned()) };
//!     weir_guest::under("hello", greet).await.unwrap_or_else(Refused::into_http)
//! }
//! ```
//!
//! Call number N + 1 does not fail: it waits its turn, and while it waits the instance serves its other requests. When the
//! wait ends first, [`Refused`] says why, what stands in the way and when a retry is useful, and it turns into a 429 or 503
//! answer by itself. How many N is stands in the rule book of the server, where it can be changed while all of this runs.
//!
//! # More control
//! ```rust,ignore
//! let lease = weir_guest::acquire("payments")      // the scope; `here()` for the request's own
//!     .limit_key(limit_key(&[region, card]))       // whose share of it
//!     .cost(3)                                     // how much of it
//!     .priority(200)                               // before the usual 128, of those who wait
//!     .fairness(tenant, 1)                         // tenants take turns, however many wait for each
//!     .max_wait(Duration::from_secs(5))            // and no longer
//!     .await?;
//! call_the_bank(lease.fence()).await;
//! lease.keep();                                    // until the response body ends; or just drop it
//! ```
//!
//! What costs more or less than was thought is settled, and what stands behind the limit can ask for a pause:
//!
//! ```rust,ignore
//! let lease = weir_guest::acquire("model").limit_key("gpt").cost(4_000).await?;
//! match ask_the_model().await {
//!     // 1,250 used: 2,750 are free at once.
//!     Ok(answer) => lease.settle(answer.tokens).await.map(drop)?,
//!     // Those who wait stay, and nobody else runs into it.
//!     Err(Busy { retry_after }) => lease.release(Outcome::PushedBack(retry_after)),
//! }
//! ```
//!
//! # One call out
//! A provider with limits of its own is called under a key of its own, whatever scope the handler came under:
//!
//! ```rust,ignore
//! let response = weir_guest::call(request.into_request()?)
//!     .key("provider").rate(3, MINUTE).parallelism(2).retries(3)
//!     .await?;
//! ```
//!
//! # How a lease ends
//! By drop, by `Lease::release` with how the work ended, or by the host: when the instance traps, when a deadline or a client that left stops it,
//! at its lease time, and at the latest when the request has ended. Nothing a guest forgets stays taken.
//!
//! # Targets
//! What talks to the host exists on `wasm32-wasip2` only, where this crate brings `wit-bindgen` in the version of spin-sdk 7 and
//! wasip3 0.7. All else, [`Refused`] and its HTTP form among it, builds and is tested on every target. WASI 0.2 components use
//! the module `sync`.
//!
//! # Not handled here
//! Limits: they are the operator's, in the rule book; only those of a [`FlowLimits`] are the guest's own. Retries of an acquire: a refusal says when, the caller decides whether.

mod call;
mod flow_limits;
mod key;
mod problem;
mod refused;
mod request;

pub use call::{Call, RetryDelay, call};
pub use flow_limits::{FlowLimits, Rate};
pub use key::{escape, limit_key};
pub use refused::{Constraint, ConstraintKind, Reason, Refused};
pub use request::{Acquire, acquire, here};

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod bindings;
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod called;
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod convert;
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod lease;
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub mod sync;

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub use called::CallError;
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub use lease::{Lease, Outcome, Settled, under};
