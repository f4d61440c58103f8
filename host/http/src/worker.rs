//! A worker: one thread, one runtime, one runner per component.
//!
//! A runner belongs to the runtime it was made on, so it is made here and nothing of it leaves the thread. The limiter
//! alone is shared.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::connection;
use crate::ingress::{Ingress, Shared};
use crate::listen::Accepted;
use crate::serve::{Phase, Phases};
use crate::watch::Watch;

/// An accepted connection on its way to its worker: no longer part of the accept thread's runtime, not yet of this one's.
pub(crate) struct Handed {
    stream: std::net::TcpStream,
    permit: tokio::sync::OwnedSemaphorePermit,
}

impl TryFrom<Accepted> for Handed {
    type Error = std::io::Error;

    fn try_from(accepted: Accepted) -> Result<Self, Self::Error> {
        Ok(Self { stream: accepted.stream.into_std()?, permit: accepted.permit })
    }
}

/// Serves what comes through `connections` until the server drains, then waits for what runs, at most `shutdown_timeout`.
///
/// # Cancel safety
/// Dropping it drops every connection of the worker.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut connections: Receiver<Handed>,
    permits: Arc<Semaphore>,
    mut phases: Phases,
    shutdown_timeout: Duration,
) {
    let ingress = Arc::new(Ingress::new(shared, phases.clone()));
    let builder = Arc::new(connection::builder());
    let graceful = GracefulShutdown::new();
    let watch = Watch::new(permits);
    let watching = tokio::spawn(watch.clone().run());
    loop {
        let handed = tokio::select! {
            biased;
            () = phases.reached(Phase::Draining) => break,
            handed = connections.recv() => match handed {
                Some(handed) => handed,
                None => break,
            },
        };
        let stream = match TcpStream::from_std(handed.stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not serve a connection");
                continue;
            }
        };
        let (ingress, builder, watch, watcher) =
            (Arc::clone(&ingress), Arc::clone(&builder), watch.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = handed.permit;
            let answer = |request| Arc::clone(&ingress).answer(request);
            connection::serve(&builder, stream, &watch, watcher, answer).await;
        });
    }
    drop(connections);
    let open = graceful.count();
    if tokio::time::timeout(shutdown_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = open, after = %weir_engine::format_duration(shutdown_timeout), "requests still run; they are dropped");
    }
    watching.abort();
}
