//! Notices a client that left while hyper is not reading from it.
//!
//! hyper 1 reads a connection only as far as the request's body is asked for. A client that sends half a body to a
//! component that does not read it, and then leaves, would keep its lease until the deadline. So once every
//! [`INTERVAL`] all sockets with a request in flight are asked at once, in one system call, whether the other side has
//! closed; those connections are dropped, and everything that their requests hold with them.
//!
//! A client that closes only its sending side is treated as gone, as hyper does by default.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slab::Slab;
use tokio::sync::Notify;

/// How often the sockets are asked. A quarter of a second is soon enough for a case this rare, and costs nothing.
const INTERVAL: Duration = Duration::from_millis(250);

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOSED: PollFlags = PollFlags::RDHUP;
// Elsewhere only a connection that is closed both ways can be told without reading.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOSED: PollFlags = PollFlags::empty();

/// The connections of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    // Bounded by the connections that the listener admits.
    connections: Arc<Mutex<Slab<Arc<Watched>>>>,
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: OwnedFd,
    in_flight: AtomicUsize,
    gone: Notify,
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Watched>);

/// A connection's place among the watched; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    watch: Watch,
    key: usize,
    watched: Arc<Watched>,
}

impl Watch {
    /// Watches a socket from now on.
    ///
    /// # Errors
    /// The process is out of file descriptors: the socket is watched through a second one.
    pub(crate) fn add(&self, socket: &impl AsFd) -> io::Result<Place> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let watched = Arc::new(Watched { socket, in_flight: AtomicUsize::new(0), gone: Notify::new() });
        let key = self.lock().insert(Arc::clone(&watched));
        Ok(Place { watch: self.clone(), key, watched })
    }

    /// Asks the sockets again and again, for as long as the worker lives.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.ask();
        }
    }

    fn ask(&self) {
        let connections = self.lock();
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
                        watched.gone.notify_one();
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

    /// Ends when the client has left with a request in flight.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn gone(&self) {
        self.watched.gone.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watch.lock().try_remove(self.key);
    }
}

impl Watched {
    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[tokio::test]
    async fn only_a_client_that_left_in_flight_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let watch = Watch::default();
        let place = watch.add(&server).unwrap();
        let told = async |place: &Place| tokio::time::timeout(Duration::from_millis(1), place.gone()).await.is_ok();

        let request = place.watched().begin();
        watch.ask();
        assert!(!told(&place).await, "the client is still there");
        drop(request);

        client.shutdown(Shutdown::Write).unwrap();
        watch.ask();
        assert!(!told(&place).await, "nothing is in flight");

        let _request = place.watched().begin();
        // The close travels through the kernel: ask until it has arrived.
        tokio::time::timeout(Duration::from_secs(10), async {
            while !told(&place).await {
                watch.ask();
            }
        })
        .await
        .expect("the client's leaving is noticed");
        drop(place);
        assert!(watch.lock().is_empty());
    }
}
