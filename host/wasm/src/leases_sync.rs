//! `weir:flow/leases-sync`: the same calls as plain functions.
//!
//! A plain function that waits holds the whole store: nothing else in the instance runs meanwhile. That is fine where
//! the instance serves one request at a time (every WASI 0.2 component, and those with `isolate`), and answers
//! `would-block` where it would stall neighbours.

use crate::acquire::{Answer, Ask, given_up};
use crate::batch::{BatchAnswer, BatchBegun, would_block};
use crate::bindings::weir::flow::{leases_sync, types as wit};
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::view::{Flow, FlowCtxView, home_of};
use crate::waiting::Waiting;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasmtime::component::{Access, Resource};

impl<T: Send + 'static> leases_sync::HostWithStore<T> for Flow {
    // Cancel safety: as `leases.acquire`.
    async fn acquire(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        let home = home_of(&mut access)?;
        let mut view = access.get();
        let request = match view.request(&home, Ask { scope, limit_key, cost, more })? {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut acquire = view.ctx.engine.acquire(request);
        if let Poll::Ready(outcome) = Pin::new(&mut acquire).poll(&mut Context::from_waker(Waker::noop())) {
            return view.answer(home, outcome);
        }
        // What is granted, and only being written down, stalls nobody for long.
        let ticket = acquire.ticket();
        if ticket.is_some() && !view.ctx.may_block {
            return Ok(Err(would_block()));
        }
        let waiting = match Waiting::new(view.ctx, home, acquire, ticket) {
            Ok(waiting) => waiting,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match waiting.outcome().await {
            (home, Some(outcome)) => access.get().answer(home, outcome),
            (_, None) => Ok(Err(given_up())),
        }
    }

    // Cancel safety: as `leases.acquire`.
    async fn acquire_batch(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        count: u32,
        least: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<BatchAnswer> {
        let home = home_of(&mut access)?;
        match access.get().begin_batch(home, Ask { scope, limit_key, cost, more }, (count, least), true)? {
            BatchBegun::Answer(answer) => Ok(answer),
            BatchBegun::Wait(waiting) => match waiting.outcome().await {
                (home, Some(outcome)) => access.get().answer_batch(&home, outcome),
                (_, None) => Ok(Err(given_up())),
            },
        }
    }

    fn try_acquire(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        let home = home_of(&mut access)?;
        access.get().try_acquire(home, Ask { scope, limit_key, cost, more })
    }

    fn check(
        mut access: Access<'_, T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Result<Vec<wit::Constraint>, wit::Refusal>> {
        let home = home_of(&mut access)?;
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

    fn settle(
        &mut self,
        lease: Resource<LeaseEntry>,
        cost: u32,
    ) -> wasmtime::Result<Result<wit::Settled, wit::Refusal>> {
        self.settle(&lease, cost)
    }

    fn release(&mut self, lease: Resource<LeaseEntry>, outcome: wit::Outcome) -> wasmtime::Result<()> {
        self.release(lease, outcome)
    }

    fn keep(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.keep(lease)
    }
}
