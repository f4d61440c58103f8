//! `weir:flow/leases`: the asynchronous flavour. A call that waits suspends the one guest task that made it.
//!
//! An acquire is decided on the spot, in the same access to the store that found its request: where there is
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
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{Accessor, Resource};
use weir_engine::{Acquire, Lease, Reason, Refusal, Started};

type Constraints = Result<Vec<wit::Constraint>, wit::Refusal>;

enum First {
    Answer(Answer),
    Wait(Box<Waiting>),
}

/// An acquire that waits, with its room.
struct Waiting {
    home: Arc<RequestState>,
    acquire: Acquire,
    _room: WaitingRoom,
}

impl Waiting {
    /// Waits for the outcome; there is none when the request is given up first.
    ///
    /// # Cancel safety
    /// As the acquire: it leaves no trace.
    async fn outcome(self: Box<Self>) -> (Arc<RequestState>, Option<Result<Lease, Refusal>>) {
        let Self { home, acquire, _room } = *self;
        let outcome = match futures::future::select(acquire, pin!(home.cancelled())).await {
            futures::future::Either::Left((outcome, _)) => Some(outcome),
            futures::future::Either::Right(((), _)) => None,
        };
        (home, outcome)
    }
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
            let home = request_of(&mut access)?;
            let mut view = access.get();
            let request = match view.request(&home, Ask { scope, limit_key, cost, more })? {
                Ok(request) => request,
                Err(refusal) => return Ok(First::Answer(Err(refusal))),
            };
            match view.ctx.engine.acquire_now(&request) {
                Ok(Started::Granted(lease)) => Ok(First::Answer(view.answer(home, Ok(lease))?)),
                Ok(Started::Waiting(acquire)) => match view.ctx.identity.wait() {
                    Some(_room) => Ok(First::Wait(Box::new(Waiting { home, acquire, _room }))),
                    None => Ok(First::Answer(Err(too_many_waiting(view.ctx.identity.max_waiting())))),
                },
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
