//! Ends connections whose client is gone, or keeps the server waiting.
//!
//! Once every [`INTERVAL`] all connections of a worker are looked at. One is dropped, and everything that its requests
//! hold with it,
//! - when its client has left with a request in flight. hyper 1 reads a connection only as far as the request's body is
//!   asked for: a client that sends half a body to a component that does not read it, and then leaves, would keep its lease
//!   until the deadline. So the sockets are asked, all in one system call, whether the other side has closed. A client that
//!   closes only its sending side is treated as gone, as hyper does by default;
//! - when it has been the client's turn for too long. It is the server's turn from when a request's head is there until its response
//!   is, and while more of that is asked for than there is (see [`crate::answer`]): a call that waits for its turn and
//!   a stream that is silent for hours are the server's turn, and are never dropped here. Otherwise it is the client's: to ask for
//!   something at first within [`FIRST_REQUEST`], and later to ask for more or to take what it was sent within [`NEXT_MOVE`].
//!
//! When the listener has no connection left to give, who asks for nothing has only [`PATIENCE_WHEN_FULL`]: so a flood of idle
//! connections keeps others out for seconds, and not for as long as it likes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slab::Slab;
use tokio::sync::{Notify, Semaphore};

/// How often the connections are looked at. A quarter of a second is soon enough for cases this rare, and costs nothing.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long a client may take from connecting to the end of its first request's head. hyper waits without end while the protocol
/// is still to be told from the first bytes.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a client may then do nothing at all, neither ask for more nor take anything of an answer: longer than a network pauses, and
/// long enough for a connection to be used again.
const NEXT_MOVE: Duration = Duration::from_secs(30);
/// How long a connection with nothing in flight is kept when there is none left for others: enough to send a head over a
/// slow network.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(2);

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOSED: PollFlags = PollFlags::RDHUP;
// Elsewhere only a connection that is closed both ways can be told without reading.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOSED: PollFlags = PollFlags::empty();

/// The connections of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    // Bounded by the connections that the listener admits.
    connections: Arc<Mutex<Slab<Arc<Watched>>>>,
    /// The connections that the listener may still let in.
    room: Arc<Semaphore>,
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: OwnedFd,
    in_flight: AtomicUsize,
    /// Those requests in flight for which it is the server's turn.
    owed: AtomicUsize,
    /// Counts what the client does, so that it can be seen whether it does anything.
    moves: AtomicUsize,
    /// The moves when it was looked at last, and how often they were the same since.
    seen: AtomicUsize,
    quiet: AtomicU32,
    /// Its client has left with a request in flight.
    gone: AtomicBool,
    over: Notify,
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub(crate) struct InFlight {
    watched: Arc<Watched>,
    /// Whether it is the server's turn.
    owed: bool,
}

/// A connection's place among the watched; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    watch: Watch,
    key: usize,
    watched: Arc<Watched>,
}

impl Watch {
    /// Watches nothing yet; `room` is what its listener has left.
    pub(crate) fn new(room: Arc<Semaphore>) -> Self {
        Self { connections: Arc::default(), room }
    }

    /// Watches a socket from now on.
    ///
    /// # Errors
    /// The process is out of file descriptors: the socket is watched through a second one.
    pub(crate) fn add(&self, socket: &impl AsFd) -> io::Result<Place> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let watched = Arc::new(Watched {
            socket,
            in_flight: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            moves: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            quiet: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            over: Notify::new(),
        });
        let key = self.lock().insert(Arc::clone(&watched));
        Ok(Place { watch: self.clone(), key, watched })
    }

    /// Looks at the connections again and again, for as long as the worker lives.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look();
        }
    }

    fn look(&self) {
        let full = self.room.available_permits() == 0;
        let connections = self.lock();
        for (_, watched) in connections.iter() {
            if watched.keeps_waiting(full) {
                watched.over.notify_one();
            }
        }
        let busy: Vec<&Arc<Watched>> = connections
            .iter()
            .map(|(_, watched)| watched)
            .filter(|watched| watched.in_flight.load(Ordering::Relaxed) > 0)
            .collect();
        if busy.is_empty() {
            return;
        }
        let mut asked: Vec<PollFd<'_>> =
            busy.iter().map(|watched| PollFd::from_borrowed_fd(watched.socket.as_fd(), CLOSED)).collect();
        match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(0) => {}
            Ok(_) => {
                for (watched, asked) in busy.iter().zip(&asked) {
                    if !asked.revents().is_empty() {
                        watched.gone.store(true, Ordering::Relaxed);
                        watched.over.notify_one();
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "could not ask the connections whether their clients are still there"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slab<Arc<Watched>>> {
        // Nothing panics while it holds the lock; should it ever, the list is still a list.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What the requests of this connection are counted by.
    pub(crate) fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    /// Ends when the connection is to be dropped.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn over(&self) {
        loop {
            self.watched.over.notified().await;
            // Since it was looked at, the client may have made its move.
            if self.watched.gone.load(Ordering::Relaxed) || self.watched.is_quiet() {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watch.lock().try_remove(self.key);
    }
}

impl Watched {
    /// A request's head is there. hyper may not begin with it before its client has taken earlier answers: it is not the server's
    /// turn yet.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
        InFlight { watched: Arc::clone(self), owed: false }
    }

    /// Whether the client has done nothing since it was looked at, and nothing is done for it.
    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) > 0
            && self.moves.load(Ordering::Relaxed) == self.seen.load(Ordering::Relaxed)
            && self.owed.load(Ordering::Relaxed) == 0
    }

    /// Whether it has been the client's turn for too long. To be asked once every [`INTERVAL`].
    fn keeps_waiting(&self, full: bool) -> bool {
        let moves = self.moves.load(Ordering::Relaxed);
        let moved = self.seen.swap(moves, Ordering::Relaxed) != moves;
        if moved || self.owed.load(Ordering::Relaxed) > 0 {
            self.quiet.store(0, Ordering::Relaxed);
            return false;
        }
        let quiet = self.quiet.fetch_add(1, Ordering::Relaxed) + 1;
        let patience = match self.in_flight.load(Ordering::Relaxed) {
            0 if full => PATIENCE_WHEN_FULL,
            0 if moves == 0 => FIRST_REQUEST,
            _ => NEXT_MOVE,
        };
        INTERVAL * quiet >= patience
    }
}

impl InFlight {
    /// The client wants more than it has: it is the server's turn.
    pub(crate) fn asked(&mut self) {
        self.watched.moves.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.owed, true) {
            self.watched.owed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client has something to take: it is its turn.
    pub(crate) fn answered(&mut self) {
        if std::mem::take(&mut self.owed) {
            self.watched.owed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.answered();
        self.watched.moves.fetch_add(1, Ordering::Relaxed);
        self.watched.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// A watch over one connection, and the client's side of it.
    fn watched(room: usize) -> (Watch, Place, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let watch = Watch::new(Arc::new(Semaphore::new(room)));
        let place = watch.add(&server).unwrap();
        (watch, place, client)
    }

    fn is_over(place: &Place) -> bool {
        place.over().now_or_never().is_some()
    }

    /// How long it is the client's turn until the connection is dropped; none: longer than there is a bound for.
    fn lasts(watch: &Watch, place: &Place) -> Option<Duration> {
        for looked in 1..=300 {
            watch.look();
            if is_over(place) {
                return Some(INTERVAL * looked);
            }
        }
        None
    }

    #[test]
    fn a_client_keeps_the_server_waiting_for_so_long_and_no_longer() {
        let (watch, place, _client) = watched(1);
        assert_eq!(lasts(&watch, &place), Some(FIRST_REQUEST), "it asks for nothing");
        let mut request = place.watched().begin();
        // The first look sees that it has moved.
        assert_eq!(lasts(&watch, &place), Some(NEXT_MOVE + INTERVAL), "it takes nothing of what was before");
        request.asked();
        assert_eq!(lasts(&watch, &place), None, "a call that waits for its turn");
        request.answered();
        assert_eq!(lasts(&watch, &place), Some(NEXT_MOVE), "it takes nothing");
        request.asked();
        assert_eq!(lasts(&watch, &place), None, "a stream that is silent");
        request.answered();
        let mut other = place.watched().begin();
        other.asked();
        assert_eq!(lasts(&watch, &place), None, "another request waits");
        drop((request, other));
        assert_eq!(lasts(&watch, &place), Some(NEXT_MOVE + INTERVAL), "it asks for nothing more");
    }

    /// It is told from the outside, and a head may have come before that is heard.
    #[test]
    fn who_makes_a_move_at_the_last_moment_stays() {
        let (watch, place, _client) = watched(1);
        let looks = (FIRST_REQUEST.as_millis() / INTERVAL.as_millis()) as u32;
        (0..looks).for_each(|_| watch.look());
        let mut request = place.watched().begin();
        request.asked();
        assert!(!is_over(&place));
        drop(request);
        (0..looks).for_each(|_| watch.look());
        assert!(!is_over(&place), "it has asked for something once");
    }

    #[test]
    fn who_asks_for_nothing_makes_room() {
        let (watch, place, _client) = watched(0);
        assert_eq!(lasts(&watch, &place), Some(PATIENCE_WHEN_FULL));
        let mut request = place.watched().begin();
        request.asked();
        assert_eq!(lasts(&watch, &place), None, "a call that waits for its turn");
        request.answered();
        assert_eq!(lasts(&watch, &place), Some(NEXT_MOVE));
        drop(request);
        assert_eq!(lasts(&watch, &place), Some(PATIENCE_WHEN_FULL + INTERVAL));
    }

    #[tokio::test]
    async fn only_a_client_that_left_in_flight_is_gone() {
        let (watch, place, client) = watched(1);
        let request = place.watched().begin();
        watch.look();
        assert!(!is_over(&place), "the client is still there");
        drop(request);

        client.shutdown(Shutdown::Write).unwrap();
        watch.look();
        assert!(!is_over(&place), "nothing is in flight");

        let _request = place.watched().begin();
        // The close travels through the kernel: ask until it has arrived.
        tokio::time::timeout(Duration::from_secs(10), async {
            while !is_over(&place) {
                tokio::task::yield_now().await;
                watch.look();
            }
        })
        .await
        .expect("the client's leaving is noticed");
        drop(place);
        assert!(watch.lock().is_empty());
    }
}
