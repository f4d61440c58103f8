//! How many instances a component may have, and who gets the next one.
//!
//! A component's instances are bounded over all its runners (one per thread), so that one component cannot use up the
//! pool. A request that finds none queues here, first come first served: only the one at the head tries, each time that
//! something frees up, and hands its turn on when an instance has taken it.
//!
//! An instance belongs to the runner that made it. When the head's runner has no idle one, an idle instance of another
//! runner ends for it, also one that becomes idle while the head waits: of two instances none stands by while requests
//! queue. When nothing is idle and the head's runner has no instance at all, one of another runner takes no new requests
//! from then on.

use crate::instance::InstanceState;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard};

/// How many requests of one component may queue for an instance. Each holds its head and a task, some 10 KiB.
const MAX_QUEUE: usize = 10_000;

/// An instance can accept again slightly after it said that there is room: the head looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

pub(crate) struct Gate {
    free: AtomicUsize,
    queued: AtomicUsize,
    freed: Notify,
    turnstile: Arc<tokio::sync::Mutex<()>>,
    instances: Mutex<Vec<Weak<InstanceState>>>,
}

/// The right to one instance.
pub(crate) struct InstancePermit(Arc<Gate>);

impl Drop for InstancePermit {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::AcqRel);
        self.0.room();
    }
}

/// There is no right to one more instance.
#[derive(Debug, thiserror::Error)]
#[error("the component has as many instances as it may have")]
pub(crate) struct NoInstance;

/// A request's place in the queue.
pub(crate) struct Queued<'a>(&'a Gate);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    pub(crate) fn new(max_instances: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(max_instances),
            queued: AtomicUsize::new(0),
            freed: Notify::new(),
            turnstile: Arc::default(),
            instances: Mutex::default(),
        })
    }

    pub(crate) fn instance(self: &Arc<Self>) -> Result<InstancePermit, NoInstance> {
        match self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1)) {
            Ok(_) => Ok(InstancePermit(self.clone())),
            Err(_) => Err(NoInstance),
        }
    }

    pub(crate) fn register(&self, instance: &Arc<InstanceState>) {
        let mut instances = self.instances.lock();
        instances.retain(|instance| instance.strong_count() > 0);
        instances.push(Arc::downgrade(instance));
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0
    }

    /// Takes a place in the queue; none when it is full.
    pub(crate) fn queue(&self) -> Option<Queued<'_>> {
        let place = Queued(self);
        if self.queued.fetch_add(1, Ordering::AcqRel) < MAX_QUEUE { Some(place) } else { None }
    }

    /// Waits to be the head of the queue.
    ///
    /// # Cancel safety
    /// The place in the queue is lost.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turnstile.clone().lock_owned().await
    }

    /// Something may have freed up.
    pub(crate) fn room(&self) {
        if self.is_queued() {
            self.freed.notify_one();
        }
    }

    /// Waits until something may have freed up.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn freed(&self) {
        // Timing out is as good as being told.
        let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
    }

    /// Sees to it that an instance of another runner ends when `runner` has none that is idle. One at a time: as long as
    /// one is on its way out, nothing more is asked. To be called each time that the head has found no room.
    pub(crate) fn make_room_for(&self, runner: usize) {
        let all = self.instances.lock().iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        let (retired, serving): (Vec<_>, Vec<_>) = all.into_iter().partition(|instance| instance.is_retired());
        let (own, others): (Vec<_>, Vec<_>) = serving.into_iter().partition(|instance| instance.runner() == runner);
        if retired.iter().chain(&own).any(|instance| instance.is_idle()) {
            return;
        }
        let idle = others.iter().find(|instance| instance.is_spare());
        // A busy one is asked only by who has nothing else to wait for, and never one that waits for its first request.
        let busy = || others.iter().find(|instance| own.is_empty() && retired.is_empty() && !instance.is_idle());
        if let Some(instance) = idle.or_else(busy) {
            instance.retire();
        }
    }
}
