//! How the host functions reach into a store, in wasmtime's own terms: `FlowView` gives a `FlowCtxView`, and the marker
//! `Flow` names it to the linker.

use crate::bindings::weir::flow;
use crate::ctx::FlowCtx;
use crate::request::RequestState;
use smallvec::SmallVec;
use std::ops::Deref;
use std::sync::Arc;
use wasmtime::AsContextMut;
use wasmtime::component::{Access, GuestTaskId, HasData, Linker, ResourceTable};

/// A store's data that has flow control.
pub trait FlowView: Send {
    /// Its flow control and the table that its resources lie in.
    fn flow(&mut self) -> FlowCtxView<'_>;
}

/// What the host functions of `weir:flow` work on.
#[derive(Debug)]
pub struct FlowCtxView<'a> {
    /// The store's flow control.
    pub ctx: &'a mut FlowCtx,
    /// The table for leases and request options: the one that WASI uses too.
    pub table: &'a mut ResourceTable,
}

/// Names [`FlowCtxView`] to generated code; see [`HasData`].
#[derive(Debug, Clone, Copy)]
pub struct Flow;

impl HasData for Flow {
    type Data<'a> = FlowCtxView<'a>;
}

/// Adds `weir:flow/types`, `leases` and `leases-sync` to a linker.
///
/// `weir:calls` needs `wasi:http` besides; see [`add_calls_to_linker`](crate::add_calls_to_linker).
///
/// # Errors
/// When one of them is defined already.
pub fn add_to_linker<T: FlowView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    flow::types::add_to_linker::<T, Flow>(linker, T::flow)?;
    flow::leases::add_to_linker::<T, Flow>(linker, T::flow)?;
    flow::leases_sync::add_to_linker::<T, Flow>(linker, T::flow)
}

/// The tasks of the components that have called each other, youngest first. Empty: not read.
pub(crate) type Stack = SmallVec<[GuestTaskId; 2]>;

/// Where a call belongs: to a request, and to one of the components that have called each other in it.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) request: Arc<RequestState>,
    pub(crate) stack: Stack,
}

impl Deref for Home {
    type Target = RequestState;

    fn deref(&self) -> &RequestState {
        &self.request
    }
}

/// The home of a call. To be asked first thing: after a suspension the call stack is empty.
pub(crate) fn home_of<T: 'static>(access: &mut Access<'_, T, Flow>) -> wasmtime::Result<Home> {
    match access.get().ctx.known_home() {
        Some(home) => Ok(home),
        None => {
            let stack = access.as_context_mut().async_call_stack()?.collect();
            Ok(access.get().ctx.home(stack))
        }
    }
}
