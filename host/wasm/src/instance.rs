//! One instance of a component, as seen from outside of its store.
//!
//! A store is locked into its worker's event loop, and a guest may hold that loop for as long as it likes. So what the
//! HTTP side has to tell an instance (this client is gone) and what the worker's expiry has to know (whom does it still
//! serve?) meets here, outside of the store.
//!
//! # When it is dropped
//! - when it serves abandoned requests and no others: at once. That is how a request is stopped, because wasmtime can
//!   not cancel one task of several. An instance that had to give one up takes no new requests (`retired`), so the
//!   others end sooner or later;
//! - when it is idle and retired, or idle for long enough;
//! - when a request is past its deadline, the request is abandoned, which leads to the first case.
//!
//! Post-return work of requests that have ended does not keep an instance alive that must stop.

use crate::gate::Gate;
use crate::request::RequestState;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// After so many leaked handles an instance is replaced: their shells fill its table.
const MAX_LEAKED: usize = 64;

/// What an instance and the outside tell each other.
pub(crate) struct InstanceState {
    /// Wakes the worker's expiry.
    waker: AtomicWaker,
    running: Mutex<Running>,
    /// Takes no new requests.
    retired: AtomicBool,
    idle: AtomicBool,
    /// It is idle after a request, so none is on its way to it that it was made for.
    spare: AtomicBool,
    /// It is being dropped by its expiry: not a failure of the guest.
    stopping: AtomicBool,
    leaked: AtomicUsize,
    background: Arc<RequestState>,
    gate: Arc<Gate>,
    /// Which runner's it is.
    runner: usize,
}

/// Signed: an abandonment may be told before the start it belongs to.
#[derive(Default)]
struct Running {
    requests: Vec<Arc<RequestState>>,
    open: isize,
    abandoned: isize,
}

impl InstanceState {
    pub(crate) fn new(gate: Arc<Gate>, runner: usize) -> Arc<Self> {
        let instance = Arc::new(Self {
            waker: AtomicWaker::new(),
            running: Mutex::default(),
            retired: AtomicBool::new(false),
            idle: AtomicBool::new(true),
            spare: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            leaked: AtomicUsize::new(0),
            background: RequestState::background(),
            gate,
            runner,
        });
        instance.gate.register(&instance);
        instance
    }

    pub(crate) fn background(&self) -> &Arc<RequestState> {
        &self.background
    }

    pub(crate) fn runner(&self) -> usize {
        self.runner
    }

    // What the HTTP side tells.

    /// The worker has taken a request. Answers false when it was given up before, and is a ghost.
    pub(crate) fn request_starts(self: &Arc<Self>, request: &Arc<RequestState>) -> bool {
        self.idle.store(false, Ordering::Relaxed);
        self.spare.store(false, Ordering::Relaxed);
        if request.start(self) {
            let mut running = self.running.lock();
            running.requests.push(request.clone());
            running.open += 1;
            true
        } else {
            self.running.lock().abandoned += 1;
            self.retire();
            false
        }
    }

    pub(crate) fn request_abandoned(&self) {
        {
            let mut running = self.running.lock();
            running.open -= 1;
            running.abandoned += 1;
        }
        self.retire();
    }

    pub(crate) fn request_ended(&self, request: &RequestState, was_abandoned: bool) {
        let must_stop = {
            let mut running = self.running.lock();
            let place = running.requests.iter().position(|other| std::ptr::eq(Arc::as_ptr(other), request));
            if let Some(place) = place {
                running.requests.swap_remove(place);
            }
            if was_abandoned {
                running.abandoned -= 1;
            } else {
                running.open -= 1;
            }
            running.must_stop()
        };
        if must_stop {
            self.waker.wake();
        }
        self.gate.room();
    }

    pub(crate) fn ghost_ended(&self) {
        self.running.lock().abandoned -= 1;
    }

    /// It takes no new requests, and ends when it is idle.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.waker.wake();
    }

    // What the worker asks.

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    pub(crate) fn is_spare(&self) -> bool {
        self.spare.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Whether only requests that nobody wants any more are left.
    pub(crate) fn must_stop(&self) -> bool {
        self.running.lock().must_stop()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.running
            .lock()
            .requests
            .iter()
            .filter(|request| !request.is_cancelled())
            .filter_map(|request| request.deadline())
            .min()
    }

    /// Gives up the requests whose deadline has passed.
    pub(crate) fn abandon_late(&self, now: Instant) {
        let late: Vec<_> = {
            let running = self.running.lock();
            let is_late = |request: &&Arc<RequestState>| {
                !request.is_cancelled() && request.deadline().is_some_and(|deadline| deadline <= now)
            };
            running.requests.iter().filter(is_late).cloned().collect()
        };
        for request in late {
            request.fail();
            request.abandon();
        }
    }

    /// All guest tasks have ended: what is still held, nobody can give back.
    pub(crate) fn became_idle(&self) {
        self.idle.store(true, Ordering::Relaxed);
        self.spare.store(true, Ordering::Relaxed);
        let requests: smallvec::SmallVec<[Arc<RequestState>; 4]> =
            self.running.lock().requests.iter().cloned().collect();
        let mut leaked = 0;
        for request in requests {
            if request.is_abandoned() {
                request.end();
            } else {
                leaked += request.sweep();
            }
        }
        leaked += self.background.clear();
        if leaked > 0 && self.leaked.fetch_add(leaked, Ordering::Relaxed) + leaked > MAX_LEAKED {
            self.retire();
        }
        self.gate.room();
    }

    /// Tells every request that the store is about to go because of a failure, so that no body ends as if it were whole.
    pub(crate) fn fail_requests(&self) {
        for request in &self.running.lock().requests {
            request.fail();
        }
    }

    /// The store is gone, and with it all work.
    pub(crate) fn gone(&self, failed: bool) {
        let requests = std::mem::take(&mut self.running.lock().requests);
        for request in requests {
            request.set_gone();
            if failed || request.is_abandoned() {
                request.end();
            } else {
                request.detach();
            }
        }
        self.background.clear();
    }
}

impl Running {
    fn must_stop(&self) -> bool {
        self.abandoned > 0 && self.open <= 0
    }
}
