//! `weir:flow/leases`: the asynchronous flavour. A call that waits suspends the one guest task that made it.
//!
//! An acquire is polled once on the spot, in the same access to the store that found its request: where there is
//! capacity, that is all, without an await. Only one that really has to wait takes room in the waiting room of its
//! component, which is smaller than the component's slots: a component can never wait with all of them.

use crate::acquire::{Answer, Ask, given_up, too_many_waiting};
use crate::bindings::weir::flow::{leases, types as wit};
use crate::convert::{constraint, nanoseconds, refusal, refused};
use crate::ctx::WaitingRoom;
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::request::RequestState;
use crate::view::{Flow, FlowCtxView, request_of};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wasmtime::component::{Accessor, Resource};
use weir_engine::Reason;

type Constraints = Result<Vec<wit::Constraint>, wit::Refusal>;

enum First {
    Answer(Answer),
    Wait(Arc<RequestState>, WaitingRoom),
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
        let mut pending = pin!(None);
        let first = accessor.with(|mut access| -> wasmtime::Result<First> {
            let home = request_of(&mut access)?;
            let mut view = access.get();
            let request = match view.request(&home, Ask { scope, limit_key, cost, more })? {
                Ok(request) => request,
                Err(refusal) => return Ok(First::Answer(Err(refusal))),
            };
            pending.set(Some(view.ctx.engine.acquire(request)));
            let poll = match pending.as_mut().as_pin_mut() {
                Some(acquire) => acquire.poll(&mut Context::from_waker(Waker::noop())),
                None => Poll::Pending,
            };
            match poll {
                Poll::Ready(outcome) => Ok(First::Answer(view.answer(home, outcome)?)),
                Poll::Pending => match view.ctx.identity.wait() {
                    Some(room) => Ok(First::Wait(home, room)),
                    None => Ok(First::Answer(Err(too_many_waiting(view.ctx.identity.max_waiting())))),
                },
            }
        })?;
        let (home, room) = match first {
            First::Answer(answer) => return Ok(answer),
            First::Wait(home, room) => (home, room),
        };
        let outcome = {
            let cancelled = pin!(home.cancelled());
            match pending.as_mut().as_pin_mut() {
                Some(acquire) => match futures::future::select(acquire, cancelled).await {
                    futures::future::Either::Left((outcome, _)) => Some(outcome),
                    futures::future::Either::Right(((), _)) => None,
                },
                None => None,
            }
        };
        pending.set(None);
        drop(room);
        match outcome {
            Some(outcome) => accessor.with(|mut access| access.get().answer(home, outcome)),
            None => Ok(Err(given_up())),
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
            let home = request_of(&mut access)?;
            access.get().try_acquire(home, Ask { scope, limit_key, cost, more })
        })
    }

    async fn check(
        accessor: &Accessor<T, Self>,
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<Resource<OptionsEntry>>,
    ) -> wasmtime::Result<Constraints> {
        accessor.with(|mut access| {
            let home = request_of(&mut access)?;
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
    pub(crate) fn try_acquire(&mut self, home: Arc<RequestState>, ask: Ask) -> wasmtime::Result<Answer> {
        match self.request(&home, ask)? {
            Ok(request) => {
                let outcome = self.ctx.engine.try_acquire(&request);
                self.answer(home, outcome)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    pub(crate) fn check(&mut self, home: &RequestState, ask: Ask) -> wasmtime::Result<Constraints> {
        Ok(match self.request(home, ask)? {
            Ok(request) => match self.ctx.engine.check(&request) {
                Ok(binding) => Ok(binding.iter().map(constraint).collect()),
                Err(why) => Err(refusal(&why)),
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
            Some(Err(_)) | None => {
                Err(refused(Reason::Lost, "lost: the lease is gone: it expired, or the host took it back"))
            }
        })
    }

    /// The outcome is for later: nothing learns from it yet.
    pub(crate) fn release(&mut self, lease: Resource<LeaseEntry>, _outcome: wit::Outcome) -> wasmtime::Result<()> {
        self.table.delete(lease)?;
        Ok(())
    }

    pub(crate) fn keep(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.table.delete(lease)?.keep();
        Ok(())
    }
}
