//! What goes on for a lease after the call that took it has returned.
//!
//! The keeper is spawned by that call and runs in its task. The handle and the keeper share the lease; the handle holds the sending
//! half of a channel, and its end, or what was sent, is all that the keeper hears of it: the plain function that drops the handle
//! sends nothing over the network, it wakes the keeper's task. Where nobody ever drops it, the keeper ends with the lease: one that
//! the guest hides from one request to the next is extended for an hour and no more.

use crate::client;
use futures::channel::oneshot;
use futures::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use wasip3::clocks::monotonic_clock;
use weir_client_core::{Lease, Outcome};

/// The shortest pause between two extensions, in nanoseconds.
const SHORTEST_PAUSE: u64 = 10_000_000;

/// How a handle ended.
pub(crate) enum End {
    /// It was dropped, or released.
    Released(Outcome),
    /// It was left to end by its lease time.
    LetGo,
}

/// A lease in the hands of a guest.
pub(crate) struct Kept {
    lease: Rc<Lease>,
    ended: oneshot::Sender<End>,
}

impl Kept {
    /// Must be called in the task of the call that took the lease: its keeper runs there.
    pub(crate) fn new(lease: Lease) -> Self {
        let lease = Rc::new(lease);
        let (ended, end) = oneshot::channel();
        wit_bindgen::spawn_local(keep(lease.clone(), end));
        Self { lease, ended }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn end(self, end: End) {
        // The keeper may have left before: a lost lease has nobody to tell.
        let _ = self.ended.send(end);
    }
}

async fn keep(lease: Rc<Lease>, mut end: oneshot::Receiver<End>) {
    let client = client();
    let end = loop {
        let now = monotonic_clock::now();
        let remaining = lease.remaining(now);
        if remaining == 0 {
            // It is lost or has run out: there is nobody to tell.
            return;
        }
        let extend_in = lease.extend_in(now);
        let pause = extend_in.map_or(remaining, |pause| pause.max(SHORTEST_PAUSE));
        match select(&mut end, pin!(monotonic_clock::wait_for(pause))).await {
            Either::Left((end, _)) => break end,
            Either::Right(_) if extend_in.is_some() => {
                // No answer leaves it as it was, and half of the rest is waited then. A lost one shows above.
                let _ = client.extend(&lease, lease.lease_time()).await;
            }
            Either::Right(_) => {}
        }
    };
    match end {
        Ok(End::LetGo) => {}
        Ok(End::Released(outcome)) => client.release(&lease, outcome).await,
        Err(oneshot::Canceled) => client.release(&lease, Outcome::Ok).await,
    }
}
