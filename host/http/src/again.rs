//! A future that wakes itself is polled again at once, not behind all others.
//!
//! An HTTP/1.1 connection wakes its own task for each request with a body: the body of a request goes through a channel whose two ends
//! are polled in one task. The executor sees a task that was woken while it ran and puts it at the end of its queue, where all that it
//! finds is nothing to do. Under load half of the queue is such tasks; and since the executor looks for input each time that it has polled
//! so many, whoever stands among them when it does so waits a whole round longer than the rest.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::{AtomicU8, AtomicWaker, Ordering};

/// How often in a row, before others have their turn.
const MOST: u32 = 4;

/// Not being polled: a wake goes to the task.
const IDLE: u8 = 0;
/// Being polled, and not woken since that began.
const POLLED: u8 = 1;
/// Woken, and not polled since.
const WOKEN: u8 = 2;

/// What the future is polled with, in the place of its task's waker.
#[derive(Debug, Default)]
struct Own {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

/// Drives `future`, and polls it again at once, a few times, when it was woken while it was polled.
///
/// # Cancel safety
/// As that of `future`.
pub(crate) async fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let own = Arc::new(Own::default());
    let waker = Waker::from(Arc::clone(&own));
    poll_fn(|cx| {
        own.task.register(cx.waker());
        for _ in 0..MOST {
            // Not a store: what was done before a wake that this overwrites is to be seen by the poll.
            own.state.swap(POLLED, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if own.state.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        // Woken again and again. It stays so, and its task is woken for it.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once; how often the inner future was polled by then, and its task woken.
    fn poll_once(
        future: &mut std::pin::Pin<&mut impl Future>,
        polls: &AtomicUsize,
        count: &Arc<Count>,
    ) -> (usize, usize) {
        let _ = future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))));
        (polls.load(Ordering::SeqCst), count.0.load(Ordering::SeqCst))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_and_its_task_left_alone() {
        let (polls, count) = (AtomicUsize::new(0), Arc::new(Count::default()));
        let mut future = pin!(at_once(poll_fn(|cx| {
            if polls.fetch_add(1, Ordering::SeqCst) % 3 < 2 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })));
        assert_eq!(poll_once(&mut future, &polls, &count), (3, 0));
        assert_eq!(poll_once(&mut future, &polls, &count), (6, 0));
    }

    #[test]
    fn who_never_stops_gives_way_and_is_not_forgotten() {
        let (polls, count) = (AtomicUsize::new(0), Arc::new(Count::default()));
        let mut future = pin!(at_once(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        assert_eq!(poll_once(&mut future, &polls, &count), (4, 1));
        assert_eq!(poll_once(&mut future, &polls, &count), (8, 2));
    }

    #[test]
    fn a_wake_from_elsewhere_wakes_the_task_once() {
        let (polls, count) = (AtomicUsize::new(0), Arc::new(Count::default()));
        let inner = std::cell::RefCell::new(None);
        let mut future = pin!(at_once(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            inner.replace(Some(cx.waker().clone()));
            Poll::<()>::Pending
        })));
        assert_eq!(poll_once(&mut future, &polls, &count), (1, 0));
        let waker = inner.take().unwrap();
        waker.wake_by_ref();
        waker.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    /// Two threads hand a turn to each other ten thousand times: were one wake lost, this would hang.
    #[test]
    fn no_wake_is_lost_between_threads() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let (to, mut from) = tokio::sync::mpsc::channel(1);
            let (back, mut answers) = tokio::sync::mpsc::channel(1);
            let other = tokio::spawn(at_once(async move {
                while let Some(number) = from.recv().await {
                    back.send(number).await.unwrap();
                }
            }));
            at_once(async {
                for number in 0..10_000 {
                    to.send(number).await.unwrap();
                    assert_eq!(answers.recv().await, Some(number));
                }
                drop(to);
            })
            .await;
            other.await.unwrap();
        });
    }
}
