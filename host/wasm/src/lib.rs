//! The component-model face of Weir: the WIT package `weir:flow` for any wasmtime embedder, and a runner for HTTP
//! components.
//!
//! # In your own host
//! Put a [`FlowCtx`] into the data of your stores, answer it from [`FlowView::flow`], and call [`add_to_linker`]. A
//! guest's lease ends when the guest drops it, and when your store is dropped.
//!
//! ```
//! use wasmtime::component::{Component, Linker, ResourceTable};
//! use wasmtime::{Config, Engine, Store};
//! use weir_wasm::{FlowCtx, FlowCtxView, FlowView};
//!
//! struct Data {
//!     table: ResourceTable,
//!     flow: FlowCtx,
//! }
//!
//! impl FlowView for Data {
//!     fn flow(&mut self) -> FlowCtxView<'_> {
//!         FlowCtxView { ctx: &mut self.flow, table: &mut self.table }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One limiter for the whole process.
//! let limiter = weir_engine::Engine::new(weir_engine::EngineConfig::default());
//! // One builder for each component: it says who the component is.
//! let shop = FlowCtx::builder(limiter, "shop").allow_scope("payments");
//!
//! let engine = Engine::new(&Config::new())?;
//! let mut linker = Linker::<Data>::new(&engine);
//! weir_wasm::add_to_linker(&mut linker)?;
//!
//! // One context for each store.
//! let mut store = Store::new(&engine, Data { table: ResourceTable::new(), flow: shop.build()? });
//! let component = Component::new(&engine, b"\0asm\x0d\0\x01\0")?; // the empty component
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! linker.instantiate_async(&mut store, &component).await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # With the runner
//! [`Runtime`] loads [`Component`]s, and a [`Runner`] runs HTTP requests in their instances, WASI 0.3
//! (`wasi:http/handler`) and 0.2 (`wasi:http/incoming-handler`) alike. Because the host owns the guest here, it does
//! more than release on drop:
//!
//! | What happens | What the guest's leases do |
//! |---|---|
//! | the guest drops or releases one | it ends, and a release says how the work ended |
//! | the guest hands it over with `keep` | it ends with the response body of its request |
//! | the response body ends | all leases of the request end; a later use answers `lost` |
//! | the guest traps, or uses up its CPU time or memory | all leases of the instance end, once its store is gone |
//! | the client leaves, or the deadline passes | waits end at once; leases when the work has stopped |
//!
//! **The work has stopped** when the instance is gone, if it serves only that request: it is dropped within about half a
//! millisecond. If it serves others too, it takes no new ones, and the abandoned request keeps its leases until it
//! returns or the others have ended, because one guest task of several cannot be cancelled. With
//! [`isolate`](ComponentConfig::isolate) there are no others.
//!
//! # A worked example
//! Rule: `llm` concurrency 1. Ingress takes a lease under `llm` for request A, and hands it to [`Runner::handle`] in a
//! [`Call`]. The guest acquires with no scope: the request's, `llm`. It is lent the slot that ingress holds, so it does
//! not wait for itself. Request B waits, in ingress, before any instance. The client of A leaves: the runner's future is
//! dropped, the expiry of A's instance wakes and drops the store, and then both leases of A end, and B starts.
//!
//! # Invariants
//! - A lease is given back exactly once, after the work that it was taken for has stopped.
//! - A guest's mistake is a typed answer; no guest can make the host panic, and none can use another's scope.
//! - Requests that do not end by themselves end by their deadline, whatever the guest does.
//!
//! # What a guest sends out
//! goes through [`ComponentConfig::allow_outbound`] and the rules in [`ComponentConfig::egress`], over connections that all
//! components of a [`Runtime`] share. One request under a key of its own, with retries, is `weir:calls`: in your own host,
//! [`add_calls_to_linker`].
//!
//! # Not handled here
//! Waiting for the limit of a route is done before an instance is taken, by `weir-http`. Leases that a guest wants to
//! hold beyond its request are timed leases, over the HTTP API.

mod acquire;
mod batch;
mod bindings;
mod body;
mod calls;
mod component;
mod convert;
mod cpu;
mod ctx;
mod egress;
mod gate;
mod instance;
mod lease;
mod leases;
mod leases_sync;
mod limits;
mod load;
mod options;
mod outcome;
mod output;
mod request;
mod runner;
mod runtime;
mod store;
mod types;
mod view;
mod waiting;
mod worker;

pub use calls::add_calls_to_linker;
pub use component::Component;
pub use ctx::{FlowCtx, FlowCtxBuilder};
pub use egress::{Egress, EgressError, EgressRule, OutboundCounts, OutboundRuleError, check_outbound};
pub use limits::{ComponentConfig, GuestLimits};
pub use load::{Compiled, LoadError, check_component};
pub use runner::{Call, HandleError, Runner};
pub use runtime::{Runtime, RuntimeConfig, RuntimeError};
pub use view::{Flow, FlowCtxView, FlowView, add_to_linker};
pub use wasmtime_wasi_http::{Error as BodyError, WasiBody};
