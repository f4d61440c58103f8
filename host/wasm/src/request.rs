//! One inbound request as the host sees it, and the home of every lease taken for it.
//!
//! # Who knows it
//! The HTTP side (it waits for the head and wraps the body), the instance that runs the guest, and each lease handle
//! in the guest's resource table. All share one `Arc`, and the leases lie here, so that each side can end them.
//!
//! # Life
//! ```text
//! Queued ──start──> Running ──body ended──────────────> Ended
//!    │                 └──client gone, deadline──> Abandoned ──work stopped──> Ended
//!    └──client gone, deadline──────────────────────────> Ended
//! ```
//! Leases (the one that ingress took, the guest's, the kept ones) are given back on the way into `Ended`, all at once,
//! never earlier: **capacity is handed on when the work has really stopped**. An abandoned request still runs; only its
//! waits end at once, because a wait is no work.
//!
//! The lease that ingress took, and what is kept, say how the request ended: `failed` when the guest trapped, was late or answered 5xx,
//! `pushed-back` when it answered 429 or 503 with `Retry-After`, which closes the counter for as long. A guest that only
//! passes a refusal of this host on pushes nothing back: else a limit in the guest would close the scope it was called by.
//!
//! A lease that is acquired after the end (post-return work), or outside of any request, lies with the *background* of
//! its instance, which is emptied when the instance is idle or gone. In somebody else's store there is only background,
//! and leases end by drop.

use crate::instance::InstanceState;
use crate::lease::Place;
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::{Notify, OwnedMutexGuard};
use wasmtime::component::GuestTaskId;
use weir_engine::planted::{self, Bug};
use weir_engine::{Lease, LeaseRef, Outcome, Request, ScopedKey};

/// The most leases that one request can hold at once: a quarter of an instance's resources by default, so that there is
/// room left to answer with.
pub(crate) const MAX_LEASES: usize = 1024;

/// The parts of a lease to ride on; none: of no lease.
type Parts = SmallVec<[LeaseRef; 1]>;

/// A request, from the moment the runner takes it until its work has stopped.
pub(crate) struct RequestState {
    key: Option<ScopedKey>,
    lend: Parts,
    deadline: Option<Instant>,
    /// Its client is gone or its deadline has passed: waits end.
    cancelled: AtomicBool,
    /// Its instance failed: what looks like the end of the body is none.
    failed: AtomicBool,
    /// Its instance is gone.
    gone: AtomicBool,
    /// The host refused it something.
    refused: AtomicBool,
    /// Wakes whoever waits for one of these.
    changed: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Running,
    Abandoned,
    Ended,
    Background,
}

struct Inner {
    phase: Phase,
    leases: Leases,
    /// How the work under the call's lease and the kept ones ended, as far as it is known.
    outcome: Outcome,
    instance: Option<Arc<InstanceState>>,
    /// The head of the queue for an instance; handed on when the request has found one.
    turn: Option<OwnedMutexGuard<()>>,
}

/// The order of fields is the order of release: what rides on the call's lease goes first.
#[derive(Default)]
struct Leases {
    held: Slab<Held>,
    serial: u64,
    call: Option<Lease>,
}

impl Leases {
    /// The lease that a request rides on best, of these and the call's. One that carries another of these comes last: it gets
    /// its loan back only when that ends. Of the others the one that holds most of the request's counters, lends to nobody
    /// now, and was taken last.
    fn best(&self, request: &Request, may: impl Fn(&Held) -> bool) -> Option<Parts> {
        let held = self.held.iter().filter(|(_, held)| may(held)).map(|(_, held)| (held.serial, &held.lease));
        let call = self.call.as_ref().map(|lease| (0, lease));
        let offers = held.chain(call).filter_map(|(serial, lease)| Some((lease.offer(request)?, serial, lease)));
        let carries = |fence: u64| self.held.iter().any(|(_, held)| held.lease.fence() == fence);
        let best = offers.max_by_key(|(offer, serial, _)| {
            (!offer.lent_to.iter().any(|fence| carries(*fence)), offer.counters, offer.lent_to.is_empty(), *serial)
        });
        best.map(|(.., lease)| lease.parts().into())
    }

    fn end(self, outcome: Outcome) {
        for (_, held) in self.held {
            // What the guest left behind says nothing.
            held.lease.release(if held.kept { outcome } else { Outcome::Ok });
        }
        if let Some(call) = self.call {
            call.release(outcome);
        }
    }
}

struct Held {
    serial: u64,
    kept: bool,
    /// The task that acquired it; none where there is but one component.
    holder: Option<GuestTaskId>,
    lease: Lease,
}

/// Why a lease could not be put with a request; it comes back.
pub(crate) enum NoPlace {
    /// The request has ended.
    Ended(Lease),
    /// It holds [`MAX_LEASES`] already.
    Full,
}

impl RequestState {
    pub(crate) fn new(key: Option<ScopedKey>, lease: Option<Lease>, deadline: Instant) -> Arc<Self> {
        let lend = lease.as_ref().map(|lease| lease.parts().into()).unwrap_or_default();
        Arc::new(Self::build(key, lend, Some(deadline), Phase::Queued, Leases { call: lease, ..Leases::default() }))
    }

    /// The home of leases that belong to no request.
    pub(crate) fn background() -> Arc<Self> {
        Arc::new(Self::build(None, Parts::new(), None, Phase::Background, Leases::default()))
    }

    fn build(key: Option<ScopedKey>, lend: Parts, deadline: Option<Instant>, phase: Phase, leases: Leases) -> Self {
        Self {
            key,
            lend,
            deadline,
            cancelled: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            changed: Notify::new(),
            inner: Mutex::new(Inner { phase, leases, outcome: Outcome::Ok, instance: None, turn: None }),
        }
    }

    /// The scope and limit key under which it came.
    pub(crate) fn key(&self) -> Option<&ScopedKey> {
        self.key.as_ref()
    }

    /// Whether it came with a lease.
    pub(crate) fn has_lease(&self) -> bool {
        !self.lend.is_empty()
    }

    /// The lease that an acquire may ride on: one that a component around the caller holds for the request, or the one that
    /// ingress took. `stack` is the caller's, youngest first. A stale lease finds nothing, so it needs no guard.
    #[inline]
    pub(crate) fn lend(&self, request: &Request, stack: &[GuestTaskId]) -> Parts {
        let outer = match stack {
            [_, around @ ..] if !around.is_empty() => {
                let is_around = |held: &Held| held.holder.is_some_and(|holder| around.contains(&holder));
                self.inner.lock().leases.best(request, is_around)
            }
            _ => None,
        };
        if planted::is(Bug::NeverLent) { Parts::new() } else { outer.unwrap_or_else(|| self.lend.clone()) }
    }

    /// The lease that a call to outside may ride on: one that the caller or a component around it holds for the request, or the one
    /// that ingress took, if any of them is on a counter of the call.
    pub(crate) fn lend_to_call(&self, request: &Request, stack: &[GuestTaskId]) -> Parts {
        let inner = self.inner.lock();
        // What belongs to no request may be anybody's.
        if inner.phase == Phase::Background || planted::is(Bug::NeverLent) {
            return Parts::new();
        }
        let is_around = |held: &Held| held.holder.is_none_or(|holder| stack.contains(&holder));
        inner.leases.best(request, is_around).unwrap_or_default()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Resolves when its client is gone or its deadline has passed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn cancelled(&self) {
        self.becomes(&self.cancelled).await;
    }

    /// Resolves when its instance is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn instance_gone(&self) {
        self.becomes(&self.gone).await;
    }

    async fn becomes(&self, flag: &AtomicBool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if flag.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }

    // Leases.

    /// Puts a granted lease with this request.
    pub(crate) fn hold(&self, lease: Lease, holder: Option<GuestTaskId>) -> Result<Place, NoPlace> {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Ended {
            return Err(NoPlace::Ended(lease));
        }
        let leases = &mut inner.leases;
        if leases.held.len() >= MAX_LEASES {
            drop(inner);
            drop(lease);
            return Err(NoPlace::Full);
        }
        leases.serial += 1;
        let serial = leases.serial;
        let slot = leases.held.insert(Held { serial, kept: false, holder, lease });
        Ok(Place { slot, serial })
    }

    pub(crate) fn with_lease<R>(&self, place: Place, f: impl FnOnce(&Lease) -> R) -> Option<R> {
        let inner = self.inner.lock();
        inner.leases.held.get(place.slot).filter(|held| held.serial == place.serial).map(|held| f(&held.lease))
    }

    /// How many more leases it may hold.
    pub(crate) fn room(&self) -> usize {
        MAX_LEASES.saturating_sub(self.inner.lock().leases.held.len())
    }

    /// Gives back what the guest holds there. Does nothing for a lease that is kept, or gone.
    pub(crate) fn release(&self, place: Place, outcome: Outcome) {
        let mut inner = self.inner.lock();
        let held = inner.leases.held.get(place.slot).is_some_and(|held| held.serial == place.serial && !held.kept);
        let held = held || planted::is(Bug::StaleHandleEndsAnother) && inner.leases.held.contains(place.slot);
        let lease = if held { Some(inner.leases.held.remove(place.slot)) } else { None };
        // Giving back wakes waiters: not under this lock.
        drop(inner);
        if let Some(held) = lease {
            held.lease.release(outcome);
        }
    }

    pub(crate) fn keep(&self, place: Place) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.leases.held.get_mut(place.slot).filter(|held| held.serial == place.serial) {
            held.kept = true;
        }
    }

    /// Takes away what the guest left behind, keeps what is kept. Answers how many leases that were.
    pub(crate) fn sweep(&self) -> usize {
        let mut inner = self.inner.lock();
        if inner.leases.held.is_empty() {
            return 0;
        }
        let mut swept = Vec::new();
        for slot in 0..inner.leases.held.capacity() {
            if inner.leases.held.get(slot).is_some_and(|held| !held.kept) {
                swept.push(inner.leases.held.remove(slot));
            }
        }
        drop(inner);
        swept.len()
    }

    /// Gives back everything, kept or not, and answers how many leases that were. For the background of an instance that is idle or gone.
    pub(crate) fn clear(&self) -> usize {
        let mut inner = self.inner.lock();
        if inner.leases.held.is_empty() {
            return 0;
        }
        let leases = std::mem::take(&mut inner.leases.held);
        drop(inner);
        leases.len()
    }

    // Life.

    /// Notes that it is next in the queue for an instance.
    pub(crate) fn set_turn(&self, turn: OwnedMutexGuard<()>) {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Queued {
            inner.turn = Some(turn);
        }
    }

    /// An instance has taken it. Answers false when it was given up before.
    pub(crate) fn start(&self, instance: &Arc<InstanceState>) -> bool {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Queued {
            return false;
        }
        inner.phase = Phase::Running;
        inner.instance = Some(instance.clone());
        let turn = inner.turn.take();
        drop(inner);
        drop(turn);
        true
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.inner.lock().phase == Phase::Queued
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.inner.lock().phase == Phase::Ended
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.inner.lock().phase == Phase::Abandoned
    }

    /// Nobody wants its response any more. What waits ends now; what runs is made to stop by its instance.
    pub(crate) fn abandon(&self) {
        let mut inner = self.inner.lock();
        match inner.phase {
            Phase::Queued => {
                drop(inner);
                self.end();
            }
            Phase::Running => {
                let Some(instance) = inner.instance.clone() else {
                    // Its instance is gone already: nothing runs.
                    drop(inner);
                    self.end();
                    return;
                };
                inner.phase = Phase::Abandoned;
                drop(inner);
                self.cancelled.store(!planted::is(Bug::LeavingWaiterStays), Ordering::Release);
                self.changed.notify_waiters();
                instance.request_abandoned();
            }
            Phase::Abandoned | Phase::Ended | Phase::Background => {}
        }
    }

    /// The guest has returned the head. For an abandoned request that is the end: its body has nobody to read it.
    pub(crate) fn head_returned(&self) {
        if self.is_abandoned() {
            self.end();
        }
    }

    /// The host has refused its guest something.
    pub(crate) fn note_refusal(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// What its response says of the work, or its want of one.
    pub(crate) fn say(&self, outcome: Outcome) {
        self.inner.lock().outcome = outcome;
    }

    /// Its instance failed, or it is late. An abandoned one has not failed: nobody waited for it.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.break_off();
    }

    /// Its body has not come to its end: whatever the head said, the work failed.
    pub(crate) fn break_off(&self) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Abandoned && inner.outcome == Outcome::Ok {
            inner.outcome = Outcome::Failed;
        }
    }

    /// Its instance is gone, and with it all work.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Its instance ended well; the body may still be on its way to the client.
    pub(crate) fn detach(&self) {
        self.inner.lock().instance = None;
    }

    /// Its work has stopped: everything taken for it goes back.
    pub(crate) fn end(&self) {
        let mut inner = self.inner.lock();
        let was = inner.phase;
        if matches!(was, Phase::Ended | Phase::Background) {
            return;
        }
        inner.phase = Phase::Ended;
        let mut leases = std::mem::take(&mut inner.leases);
        if planted::is(Bug::EndedRequestKeepsLeases) {
            let _never_given_back = Box::leak(Box::new(std::mem::take(&mut leases.held)));
        }
        let outcome = inner.outcome;
        let instance = inner.instance.take();
        let turn = inner.turn.take();
        drop(inner);
        leases.end(outcome);
        drop(turn);
        if let Some(instance) = instance {
            instance.request_ended(self, was == Phase::Abandoned);
        }
    }
}
