//! How wasmtime's `ProxyHandler` runs our instances: when one takes a request, what a request's start sets up, and when
//! an instance is dropped.
//!
//! The expiry is polled by the worker's task from outside of the store's event loop, also while a guest computes (it
//! yields at every epoch tick) or blocks in a plain function. So it can always stop a guest: that is where deadlines and
//! departed clients end.

use crate::component::Component;
use crate::gate::{InstancePermit, NoInstance};
use crate::instance::InstanceState;
use crate::request::RequestState;
use crate::store::{GuestData, new_store};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{HandlerState, Instance, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus};

/// When nothing is due: far enough that it never comes, near enough that adding to it does not overflow.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Makes the instances of one runner.
pub(crate) struct Handler {
    component: Arc<Component>,
    runner: usize,
}

impl Handler {
    pub(crate) fn new(component: Arc<Component>, runner: usize) -> Self {
        Self { component, runner }
    }
}

impl HandlerState for Handler {
    type StoreData = GuestData;
    type WorkerExpiration = Expiry;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<GuestData, Expiry, Worker>> {
        let permit = self.component.gate().instance()?;
        let instance = InstanceState::new(self.component.gate().clone(), self.runner);
        let mut store = new_store(&self.component, &instance);
        let proxy = self.component.pre().instantiate_async(&mut store).await?;
        let limits = self.component.limits();
        Ok(Instance {
            store,
            proxy,
            view: GuestData::http,
            expiration: Expiry {
                instance: instance.clone(),
                idle_time: limits.idle_time.min(NEVER),
                deadline: limits.deadline.min(NEVER),
                isolated: self.component.is_isolated(),
                seen: None,
                armed: None,
                sleep: Box::pin(tokio::time::sleep(NEVER)),
            },
            state: Worker { component: self.component.clone(), instance, _permit: permit },
        })
    }
}

/// Whether an error of `instantiate` passes when an instance ends.
pub(crate) fn is_out_of_room(error: &wasmtime::Error) -> bool {
    error.is::<NoInstance>() || error.is::<wasmtime::PoolConcurrencyLimitError>()
}

/// One instance, seen by its worker.
pub(crate) struct Worker {
    component: Arc<Component>,
    instance: Arc<InstanceState>,
    /// Goes back after the store is gone.
    _permit: InstancePermit,
}

impl WorkerState for Worker {
    type StoreData = GuestData;
    type RequestData = Arc<RequestState>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        let (at_once, in_all) = self.component.reuse();
        if total >= in_all || self.instance.is_retired() {
            ShouldAccept::Never
        } else if concurrent >= at_once || (self.component.is_isolated() && !self.instance.is_idle()) {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, GuestData>,
        request: Arc<RequestState>,
        task: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        let ghost = !self.instance.request_starts(&request);
        store.set_epoch_deadline(1);
        let data = store.data_mut();
        data.cpu.restart();
        data.flow.request_starts(task, request.clone());
        Box::pin(Head { request, instance: self.instance.clone(), ghost })
    }

    fn drop(&self, store: Store<GuestData>, result: Result<(), wasmtime::Error>) {
        let failed = result.is_err();
        if failed {
            // Before the store goes: what ends with it must not look like the end of a response.
            self.instance.fail_requests();
        }
        if let Err(error) = result
            && !self.instance.is_stopping()
        {
            // The handler says so of every worker whose task is dropped: that is a panic, or the end of the runtime.
            let runtime_ends = error.to_string() == "worker panicked" && !std::thread::panicking();
            if !runtime_ends {
                self.component.log().failure("the instance failed", &format!("{error:?}"));
            }
        }
        drop(store);
        // Only now has the work stopped, and capacity may be handed on.
        self.instance.gone(failed);
    }
}

/// Lives until the guest has returned the head of a response. Never expires by itself: [`Expiry`] does that.
struct Head {
    request: Arc<RequestState>,
    instance: Arc<InstanceState>,
    /// It was given up before it started.
    ghost: bool,
}

impl Future for Head {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // While the instance is being dropped nothing is handed on yet.
        if self.instance.is_stopping() {
            return;
        }
        if self.ghost {
            self.instance.ghost_ended();
        } else {
            self.request.head_returned();
        }
    }
}

/// Says when an instance is to be dropped.
pub(crate) struct Expiry {
    instance: Arc<InstanceState>,
    idle_time: Duration,
    deadline: Duration,
    isolated: bool,
    /// The last status and its start: work is done on a change only.
    seen: Option<(WorkerStatus, Instant)>,
    /// When the timer goes off, if it is set. It is never set later, only earlier: at its time the next one is worked out.
    armed: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiry {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        let me = self.get_mut();
        me.instance.register(cx.waker());
        if me.seen != Some((status, start)) {
            let first = me.seen.is_none();
            me.seen = Some((status, start));
            if status == WorkerStatus::Idle && !first {
                me.instance.became_idle();
                if me.isolated {
                    // Only now may it take the next request: the worker asks again.
                    cx.waker().wake_by_ref();
                }
            }
            me.arm(me.next(status, start));
        }
        if me.must_stop(status) {
            return me.stop();
        }
        while me.sleep.as_mut().poll(cx).is_ready() {
            me.armed = None;
            let now = Instant::now();
            me.instance.abandon_late(now);
            let over = match status {
                WorkerStatus::Idle => now >= start + me.idle_time,
                WorkerStatus::PostReturn => now >= start + me.deadline,
                WorkerStatus::Requests => false,
            };
            if over || me.must_stop(status) {
                return me.stop();
            }
            // At least a little ahead: a request that is late and cannot be stopped yet must not spin.
            me.arm(me.next(status, start).max(now + Duration::from_millis(1)));
        }
        Poll::Pending
    }
}

impl Expiry {
    fn must_stop(&self, status: WorkerStatus) -> bool {
        self.instance.must_stop() || (status == WorkerStatus::Idle && self.instance.is_retired())
    }

    fn stop(&self) -> Poll<()> {
        self.instance.set_stopping();
        Poll::Ready(())
    }

    /// When to look again.
    fn next(&self, status: WorkerStatus, start: Instant) -> Instant {
        let own = start + if status == WorkerStatus::Idle { self.idle_time } else { self.deadline };
        self.instance.next_deadline().map_or(own, |deadline| deadline.min(own))
    }

    fn arm(&mut self, at: Instant) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.sleep.as_mut().reset(at.into());
        }
    }
}
