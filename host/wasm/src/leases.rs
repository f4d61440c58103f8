//! `weir:flow/leases`: the asynchronous flavour. A call that waits suspends the one guest task that made it.
//!
//! An acquire is decided on the spot, in the same access to the store that found its request: where there is
//! capacity, that is all, without an await. Only one that really has to wait takes room (see [`crate::waiting`]).

use crate::acquire::{Answer, Ask, given_up, told};
use crate::batch::{BatchAnswer, BatchBegun};
use crate::bindings::weir::flow::{leases, types as wit};
use crate::convert::{self, constraint, nanoseconds, refused};
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::view::{Flow, FlowCtxView, Home, home_of};
use crate::waiting::Waiting;
use std::time::Duration;
use wasmtime::component::{Accessor, Resource};
use weir_engine::{Acquire, LeaseError, Reason, Started};

type Constraints = Result<Vec<wit::Constraint>, wit::Refusal>;

enum First {
    Answer(Answer),
    Wait(Box<Waiting<Acquire>>),
}

impl<T: Send + 'static> leases::HostWithStore<T> for Flow {
    // Cancel safety: the pending acquire is a guard in this future; dropped at any point, it leaves no trace.
    async fn acquire(
        accessor: &Accessor<T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        let first = accessor.with(|mut access| -> wasmtime::Result<First> {
            let home = home_of(&mut access)?;
            let mut view = access.get();
            let request = match view.request(&home, Ask { scope, limit_key, cost, more })? {
                Ok(request) => request,
                Err(refusal) => return Ok(First::Answer(Err(refusal))),
            };
            match view.ctx.engine.acquire_now(&request) {
                Ok(Started::Granted(lease)) => Ok(First::Answer(view.answer(home, Ok(lease))?)),
                Ok(Started::Waiting(acquire)) => {
                    let ticket = acquire.ticket();
                    match Waiting::new(view.ctx, home, acquire, ticket) {
                        Ok(waiting) => Ok(First::Wait(Box::new(waiting))),
                        Err(refusal) => Ok(First::Answer(Err(refusal))),
                    }
                }
                Err(refusal) => Ok(First::Answer(view.answer(home, Err(refusal))?)),
            }
        })?;
        match first {
            First::Answer(answer) => Ok(answer),
            // In a box of its own: the future of a call that need not wait stays small.
            First::Wait(waiting) => match Box::pin(waiting.outcome()).await {
                (home, Some(outcome)) => accessor.with(|mut access| access.get().answer(home, outcome)),
                (_, None) => Ok(Err(given_up())),
            },
        }
    }

    async fn try_acquire(
        accessor: &Accessor<T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Answer> {
        accessor.with(|mut access| {
            let home = home_of(&mut access)?;
            access.get().try_acquire(home, Ask { scope, limit_key, cost, more })
        })
    }

    // Cancel safety: as `acquire`.
    async fn acquire_batch(
        accessor: &Accessor<T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        count: u32,
        least: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<BatchAnswer> {
        let begun = accessor.with(|mut access| {
            let home = home_of(&mut access)?;
            access.get().begin_batch(home, Ask { scope, limit_key, cost, more }, (count, least), false)
        })?;
        match begun {
            BatchBegun::Answer(answer) => Ok(answer),
            BatchBegun::Wait(waiting) => match waiting.outcome().await {
                (home, Some(outcome)) => accessor.with(|mut access| access.get().answer_batch(&home, outcome)),
                (_, None) => Ok(Err(given_up())),
            },
        }
    }

    async fn check(
        accessor: &Accessor<T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Constraints> {
        accessor.with(|mut access| {
            let home = home_of(&mut access)?;
            access.get().check(&home, Ask { scope, limit_key, cost, more })
        })
    }

    async fn extend(
        accessor: &Accessor<T, Self>,
        lease: Resource<LeaseEntry>,
        lease_time: u64,
    ) -> wasmtime::Result<Result<Option<u64>, wit::Refusal>> {
        accessor.with(|mut access| access.get().extend(&lease, lease_time))
    }

    async fn settle(
        accessor: &Accessor<T, Self>,
        lease: Resource<LeaseEntry>,
        cost: u32,
    ) -> wasmtime::Result<Result<wit::Settled, wit::Refusal>> {
        accessor.with(|mut access| access.get().settle(&lease, cost))
    }
}

impl leases::Host for FlowCtxView<'_> {
    fn release(&mut self, lease: Resource<LeaseEntry>, outcome: wit::Outcome) -> wasmtime::Result<()> {
        self.release(lease, outcome)
    }

    fn keep(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.keep(lease)
    }
}

/// What both flavours share.
impl FlowCtxView<'_> {
    pub(crate) fn try_acquire(&mut self, home: Home, ask: Ask) -> wasmtime::Result<Answer> {
        match self.request(&home, ask)? {
            Ok(request) => {
                let outcome = self.ctx.engine.try_acquire(&request);
                self.answer(home, outcome)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    pub(crate) fn check(&mut self, home: &Home, ask: Ask) -> wasmtime::Result<Constraints> {
        Ok(match self.request(home, ask)? {
            Ok(request) => match self.ctx.engine.check(&request) {
                Ok(binding) => Ok(binding.iter().map(constraint).collect()),
                Err(why) => Err(told(home, &why)),
            },
            Err(refusal) => Err(refusal),
        })
    }

    pub(crate) fn extend(
        &mut self,
        lease: &Resource<LeaseEntry>,
        lease_time: u64,
    ) -> wasmtime::Result<Result<Option<u64>, wit::Refusal>> {
        let time = Duration::from_nanos(lease_time);
        if let Err(error) = weir_engine::check_lease_time(time) {
            return Ok(Err(refused(Reason::Invalid, format!("invalid: {error}"))));
        }
        Ok(match self.table.get(lease)?.with(|lease| lease.extend(time)) {
            Some(Ok(remaining)) => Ok(remaining.map(nanoseconds)),
            Some(Err(_)) | None => Err(lost()),
        })
    }

    pub(crate) fn settle(
        &mut self,
        lease: &Resource<LeaseEntry>,
        cost: u32,
    ) -> wasmtime::Result<Result<wit::Settled, wit::Refusal>> {
        Ok(match self.table.get(lease)?.with(|lease| lease.settle(cost)) {
            Some(Ok(settled)) => Ok(wit::Settled { refunded: settled.refunded, overrun: settled.overrun }),
            Some(Err(error @ LeaseError::Unavailable)) => {
                Err(refused(Reason::Unavailable, format!("unavailable: {error}, so nothing was changed")))
            }
            Some(Err(_)) | None => Err(lost()),
        })
    }

    pub(crate) fn release(&mut self, lease: Resource<LeaseEntry>, outcome: wit::Outcome) -> wasmtime::Result<()> {
        self.table.delete(lease)?.release(convert::outcome(outcome));
        Ok(())
    }

    pub(crate) fn keep(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.table.delete(lease)?.keep();
        Ok(())
    }
}

fn lost() -> wit::Refusal {
    refused(Reason::Lost, "lost: the lease is gone: it expired, or the host took it back")
}
