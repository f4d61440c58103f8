//! A future that is polled again at once, and whoever wakes it from elsewhere; `host/http/src/again.rs`.

use crate::again::at_once;
use crate::every_order;
use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A number that another thread raises, and who is to be woken then.
#[derive(Default)]
struct Shared {
    number: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Shared {
    fn raise(&self) {
        self.number.fetch_add(1, Ordering::Relaxed);
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Another thread wakes the future twice while it is polled, when it has been, or before; in the second model it wakes itself as well.
/// Only its first poll goes through a lock: later ones see what was done before a wake by the wake alone.
pub fn no_wake_is_lost() {
    for wakes_itself in [false, true] {
        every_order(3, move || {
            let shared = Arc::new(Shared::default());
            let other = Arc::clone(&shared);
            let raiser = thread::spawn(move || {
                other.raise();
                other.raise();
            });
            let mut first = true;
            block_on(at_once(poll_fn(|context| {
                if std::mem::take(&mut first) {
                    *shared.waker.lock().unwrap() = Some(context.waker().clone());
                    if wakes_itself {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                if shared.number.load(Ordering::Relaxed) == 2 { Poll::Ready(()) } else { Poll::Pending }
            })));
            raiser.join().unwrap();
        });
    }
}
