//! A server that answers by a script, and what it sees of those who call it.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What comes of a request; without a step it is 200.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A status.
    Status(u16),
    /// 429, and how many seconds to wait.
    Later(u64),
    /// Nothing, ever.
    Silence,
}

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    script: Mutex<VecDeque<Step>>,
    /// The sizes of the bodies, in the order in which they ended.
    bodies: Mutex<Vec<usize>>,
    /// When each request came.
    arrivals: Mutex<Vec<Instant>>,
    requests: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// Each permit answers one request for `/gated`.
    gate: Semaphore,
}

impl Upstream {
    pub(super) async fn start(script: &[Step]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen {
            script: Mutex::new(script.iter().copied().collect()),
            bodies: Mutex::default(),
            arrivals: Mutex::default(),
            requests: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = all.clone();
                let answer = service_fn(move |request| answer(seen.clone(), request));
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(async move { drop(serve.await) });
            }
        });
        Self { address, seen }
    }

    /// What a guest is told to call.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Requests for anything but `/gated`.
    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// How many of these are being answered.
    pub(super) fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    pub(super) fn most_running(&self) -> usize {
        self.seen.most_running.load(Ordering::SeqCst)
    }

    pub(super) fn bodies(&self) -> Vec<usize> {
        self.seen.bodies.lock().expect("no panic").clone()
    }

    /// How long after the one before it each request came.
    pub(super) fn pauses(&self) -> Vec<Duration> {
        self.seen.arrivals.lock().expect("no panic").windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    pub(super) fn open_gate(&self) {
        self.seen.gate.add_permits(1);
    }
}

/// One request that is being answered, or was given up.
struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    if request.uri().path() == "/gated" {
        seen.gate.acquire().await.expect("it stays open").forget();
        return Ok(Response::new(ok()));
    }
    seen.arrivals.lock().expect("no panic").push(Instant::now());
    let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    let _running = Running(seen.clone());
    seen.most_running.fetch_max(running, Ordering::SeqCst);
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if request.uri().path() == "/echo" {
        return Ok(Response::new(request.into_body().boxed()));
    }
    if request.uri().path() == "/endless" {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
        return Ok(Response::new(BoxBody::new(StreamBody::new(first.chain(stream::pending())))));
    }
    let step = seen.script.lock().expect("no panic").pop_front();
    if let Ok(body) = request.into_body().collect().await {
        seen.bodies.lock().expect("no panic").push(body.to_bytes().len());
    }
    // Whoever is let in beside it shows by now.
    tokio::task::yield_now().await;
    let response = match step {
        None => Response::builder(),
        Some(Step::Status(status)) => Response::builder().status(status),
        Some(Step::Later(seconds)) => Response::builder().status(429).header("retry-after", seconds),
        Some(Step::Silence) => std::future::pending().await,
    };
    Ok(response.body(ok()).expect("a good response"))
}

fn ok() -> BoxBody<Bytes, hyper::Error> {
    Full::new(Bytes::from_static(b"ok")).map_err(|never| match never {}).boxed()
}
