//! Asks a server as fast as it answers: so many connections, one request at a time on each, all on one thread.
//!
//! It speaks HTTP/1.1 to the lease API of Weir and RESP to Redis, and everything else is the same for both: when a clock is read, how
//! events are taken, in which order connections are served. Two clients, each the usual one of its server, differ in their tails by more
//! than the servers do.

#![allow(clippy::print_stdout, reason = "what it measured is its output")]

mod target;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use target::Target;

/// How long the server may be silent altogether.
const SILENCE: Duration = Duration::from_secs(10);

/// Measures how fast a server answers, and prints `name value` lines.
#[derive(Debug, Parser)]
struct Options {
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// For how long.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The address and port of the server.
    address: SocketAddr,
    #[command(subcommand)]
    target: Target,
}

/// One connection, and the request that is under way on it.
struct Connection {
    stream: TcpStream,
    asked: Instant,
    received: Vec<u8>,
}

impl Connection {
    /// Sends a request whole: it is smaller than what the kernel takes at once, and the one before has been answered.
    fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.received.clear();
        self.asked = Instant::now();
        self.stream.write_all(request).context("a request could not be sent")
    }

    /// Takes what has come; true once nothing more is there.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        match self.stream.read(buffer) {
            Ok(0) => bail!("the server has closed a connection"),
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(length < buffer.len())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error).context("an answer could not be read"),
        }
    }
}

fn connect(options: &Options, poll: &Poll) -> anyhow::Result<Vec<Connection>> {
    (0..options.connections)
        .map(|index| {
            let stream = std::net::TcpStream::connect(options.address)
                .with_context(|| format!("no connection to {}", options.address))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index.into()), Interest::READABLE)?;
            Ok(Connection { stream, asked: Instant::now(), received: Vec::new() })
        })
        .collect()
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let requests = options.target.requests();
    let mut requests = requests.iter().cycle();
    let mut next = move || requests.next().expect("there are some");
    let mut poll = Poll::new()?;
    let mut connections = connect(&options, &poll)?;
    // Up to a minute, to a tenth of a per cent, in microseconds.
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;

    let began = Instant::now();
    let end = began + Duration::from_secs(options.seconds);
    for connection in &mut connections {
        connection.ask(next())?;
    }
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 64 * 1024]);
    let elapsed = 'all: loop {
        poll.poll(&mut events, Some(SILENCE))?;
        ensure!(!events.is_empty(), "no answer for {} s", SILENCE.as_secs());
        for event in &events {
            let connection = &mut connections[event.token().0];
            while !connection.receive(&mut buffer)? {}
            if !options.target.is_answered(&connection.received)? {
                continue;
            }
            let now = Instant::now();
            if now >= end {
                break 'all now - began;
            }
            let latency = now - connection.asked;
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
            connection.ask(next())?;
        }
    };
    println!("requests {}", latencies.len());
    println!("requests_per_second {:.0}", latencies.len() as f64 / elapsed.as_secs_f64());
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
        println!("{name}_ms {:.3}", latencies.value_at_quantile(quantile) as f64 / 1e3);
    }
    Ok(())
}
