//! A stub of a model provider: it works for a while, answers, and counts who overran it.
//!
//! `GET /v1/chat/{model}` answers after some work. `GET /stats` shows the count: see `count.rs`. It refuses nothing, so that what
//! arrives is what was sent. The limits are over all models together.
//!
//! The first line on stdout is its URL: with `--port 0` that is how one learns it.

mod count;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::count::{Allowed, Count, Stats};

/// A stub of a model provider that counts violations of its own limits.
#[derive(Debug, Parser)]
struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 9321)]
    port: u16,
    /// The requests it allows in any window.
    #[arg(long, default_value_t = 3)]
    per_window: usize,
    /// The length of the window.
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    window: Duration,
    /// The requests it allows at once.
    #[arg(long, default_value_t = 2)]
    in_parallel: usize,
    /// How long it works for a request.
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    work: Duration,
}

struct Provider {
    count: Mutex<Count>,
    work: Duration,
}

/// Ends a request's run also when its client leaves.
struct Running<'a>(&'a Mutex<Count>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().answered();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let allowed = Allowed { per_window: options.per_window, window: options.window, in_parallel: options.in_parallel };
    let provider = Arc::new(Provider { count: Mutex::new(Count::new(allowed)), work: options.work });
    let router = Router::new().route("/v1/chat/{model}", get(chat)).route("/stats", get(stats)).with_state(provider);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn chat(State(provider): State<Arc<Provider>>, Path(model): Path<String>) -> String {
    provider.count.lock().arrived(Instant::now());
    let running = Running(&provider.count);
    tokio::time::sleep(provider.work).await;
    drop(running);
    format!("{model} has thought about it\n")
}

async fn stats(State(provider): State<Arc<Provider>>) -> Json<Stats> {
    Json(provider.count.lock().stats())
}
