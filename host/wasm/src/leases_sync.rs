//! `weir:flow/leases-sync`: the same calls as plain functions.
//!
//! A plain function that waits holds the whole store: nothing else in the instance runs meanwhile. That is fine where
//! the instance serves one request at a time (every WASI 0.2 component, and those with `isolate`), and answers
//! `would-block` where it would stall neighbours.

use crate::acquire::{Answer, Ask, given_up, too_many_waiting};
use crate::bindings::weir::flow::{leases_sync, types as wit};
use crate::convert::refused;
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::view::{Flow, FlowCtxView, request_of};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use wasmtime::component::{Access, Resource};
use weir_engine::Reason;

impl<T: Send + 'static> leases_sync::HostWithStore<T> for Flow {
    // Cancel safety: as `leases.acquire`.
    async fn acquire(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        let home = request_of(&mut access)?;
        let mut view = access.get();
        let request = match view.request(&home, Ask { scope, limit_key, cost, more })? {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut acquire = pin!(view.ctx.engine.acquire(request));
        if let Poll::Ready(outcome) = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return view.answer(home, outcome);
        }
        if !view.ctx.may_block {
            return Ok(Err(refused(
                Reason::WouldBlock,
                "would-block: a wait here would stall other requests of this instance; use the interface `leases`",
            )));
        }
        let Some(_room) = view.ctx.identity.wait() else {
            return Ok(Err(too_many_waiting(view.ctx.identity.max_waiting())));
        };
        let cancelled = pin!(home.cancelled());
        match futures::future::select(acquire, cancelled).await {
            futures::future::Either::Left((outcome, _)) => access.get().answer(home.clone(), outcome),
            futures::future::Either::Right(((), _)) => Ok(Err(given_up())),
        }
    }

    fn try_acquire(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        let home = request_of(&mut access)?;
        access.get().try_acquire(home, Ask { scope, limit_key, cost, more })
    }

    fn check(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Result<Vec<wit::Constraint>, wit::Refusal>> {
        let home = request_of(&mut access)?;
        access.get().check(&home, Ask { scope, limit_key, cost, more })
    }
}

impl leases_sync::Host for FlowCtxView<'_> {
    fn extend(
        &mut self,
        lease: Resource<LeaseEntry>,
        lease_time: u64,
    ) -> wasmtime::Result<Result<Option<u64>, wit::Refusal>> {
        self.extend(&lease, lease_time)
    }

    fn release(&mut self, lease: Resource<LeaseEntry>, outcome: wit::Outcome) -> wasmtime::Result<()> {
        self.release(lease, outcome)
    }

    fn keep(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.keep(lease)
    }
}
