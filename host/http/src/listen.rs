//! Listening: the bound ports, and the connections they let in.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::serve::{Phase, Phases, ServeError};

/// Connections that the kernel completes while the accept thread is busy: a burst of thousands is ordinary here.
const BACKLOG: i32 = 4_096;
/// How long to pause when accepting fails, as it does when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// File descriptors beside those of connections: files, wasm code, outbound connections.
const OTHER_FILES: u64 = 2_048;

/// Binds `address`. The port is not shared: taken is an error.
pub(crate) fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = || -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        // Listening again changes nothing but the backlog, which std does not let one choose.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bound().map_err(|source| ServeError::Bind { what, address, source })
}

/// Raises the limit on open files as far as this process may, and answers how many of `connections` there is room for.
///
/// Each connection needs two: its own and the one it is watched by. What there is no room for waits in the backlog,
/// instead of taking the files that components need.
pub(crate) fn make_room_for(connections: usize) -> usize {
    let wanted = (connections as u64).saturating_mul(2).saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return connections };
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let granted = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(%error, current, raised, "could not raise the limit on open files");
            current
        }
    };
    let room = granted.saturating_sub(OTHER_FILES.min(granted / 2)) / 2;
    let room = usize::try_from(room).unwrap_or(connections).clamp(1, connections.max(1));
    if room < connections {
        tracing::info!(room, connections, "the limit on open files (ulimit -n) leaves room for fewer connections");
    }
    room
}

/// An accepted connection, and the permit that it gives back when it ends.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Accepts until the server drains. What is above `permits` stays in the kernel's backlog.
///
/// # Cancel safety
/// A connection that was just accepted is closed.
pub(crate) async fn accept(
    listener: TcpListener,
    permits: Arc<Semaphore>,
    mut phases: Phases,
    until: Phase,
    mut take: impl FnMut(Accepted),
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let next = async {
            // There is room. Nobody else takes it, and it is not taken yet: what is left says how many connections are open.
            // Never closed, so this cannot fail; should it, there is nothing left to accept for.
            drop(permits.acquire().await.map_err(io::Error::other)?);
            let (stream, _) = listener.accept().await?;
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(Accepted { stream, permit })
        };
        tokio::select! {
            biased;
            () = phases.reached(until) => return Ok(()),
            accepted = next => match accepted {
                Ok(accepted) => take(accepted),
                // The connection ended before it was accepted: nothing of ours.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput) => {}
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_connections_always() {
        assert_eq!(make_room_for(1), 1);
        assert!((1..=1_000_000_000).contains(&make_room_for(1_000_000_000)));
    }
}
