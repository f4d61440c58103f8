//! What goes on for a lease after the call that took it has returned.
//!
//! The keeper is spawned by that call and runs in its task. The handle and the keeper share the lease; the handle holds the sending
//! half of a channel, and its end, or what was sent, is all that the keeper hears of it. A guest that hides a handle from one
//! request to the next would keep capacity for as long as its instance lives: so the keeper extends for [`LONGEST`] and no more.

use crate::client;
use futures::channel::oneshot;
use futures::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use wasip3::clocks::monotonic_clock;
use weir_client_core::{Lease, Outcome, Reason};

/// How long a lease is extended without the guest's asking, in nanoseconds.
const LONGEST: u64 = 3600 * 1_000_000_000;

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
        wit_bindgen::spawn(keep(lease.clone(), end));
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
    let until = monotonic_clock::now().saturating_add(LONGEST);
    let end = loop {
        let now = monotonic_clock::now();
        let pause = lease.extend_in(now).filter(|_| now < until).map(|pause| pause.max(SHORTEST_PAUSE));
        let Some(pause) = pause else { break end.await };
        match select(&mut end, pin!(monotonic_clock::wait_for(pause))).await {
            Either::Left((end, _)) => break end,
            Either::Right(_) => {
                // No answer leaves it as it was, and half of the rest is waited then.
                let extended = client.extend(&lease, lease.lease_time()).await;
                if extended.is_err_and(|refused| refused.reason == Reason::Lost) {
                    return;
                }
            }
        }
    };
    match end {
        Ok(End::LetGo) => {}
        Ok(End::Released(outcome)) => client.release(&lease, outcome).await,
        Err(oneshot::Canceled) => client.release(&lease, Outcome::Ok).await,
    }
}
