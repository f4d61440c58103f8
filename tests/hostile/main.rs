//! Guests and clients that attack a server, and a neighbour who notices nothing of it.
//!
//! The server is a program of its own, so that its memory, its files and its log are its own. While an attack runs, a neighbour calls a
//! component and asks the admin API, again and again, each time on a new connection: every call must be answered. How long the
//! slowest took is printed, with the memory of the server after it, as lines `hostile_{attack}_call_ms`, `.._admin_ms` and `.._rss_mb`.
//! After each attack nothing is left of it: no lease, no waiter, no connection, no panic in the log. After those of guests and of leases
//! the server comes to forget every counter too.
//!
//! `WEIR_HOSTILE` says how many connections flood the server, and how many requests wait; without it they are few:
//!
//! ```text
//! WEIR_HOSTILE=10000 cargo test --workspace --test hostile -- --nocapture --test-threads=1
//! ```

mod bodies;
mod connections;
mod guests;
mod http1;
mod http2;
mod order;
mod server;
mod wire;

use std::fmt::Display;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Only a hang takes so long.
const HANG: Duration = Duration::from_secs(120);
/// Connections and requests without `WEIR_HOSTILE`.
const FEW: usize = 2_000;
/// Files beside those of an attack's connections.
const OTHER_FILES: u64 = 2_000;

/// How many connections or requests the largest attacks have.
fn many() -> usize {
    std::env::var("WEIR_HOSTILE").map_or(FEW, |text| text.parse().expect("WEIR_HOSTILE is a number"))
}

/// Prints a figure, on a line of its own: the name of the test may stand on this one.
#[expect(clippy::print_stdout, reason = "figures are collected from there")]
fn figure(name: &str, value: impl Display) {
    println!("\nhostile_{name} {value}");
}

/// Raises the limit on open files of this process as far as it goes, and answers how many of `connections` fit. Who says by
/// `WEIR_HOSTILE` how many there are to be gets no fewer.
fn room_for(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let Some(most) = limit.maximum else { return connections };
    // Where it cannot be raised there is what there was.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) });
    let files = if raised.is_ok() { most } else { limit.current.unwrap_or(most) };
    let room = usize::try_from(files.saturating_sub(OTHER_FILES)).expect("a number of files").max(1);
    assert!(
        room >= connections || std::env::var_os("WEIR_HOSTILE").is_none(),
        "{connections} connections need {OTHER_FILES} files more than that, and there are {files}: raise `ulimit -n`"
    );
    connections.min(room)
}
