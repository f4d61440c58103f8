//! A server that guests call, and what it sees of them.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// Each permit answers one request for `/gated`.
    gate: Semaphore,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.connections.fetch_add(1, Ordering::SeqCst);
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

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub(super) fn most_running(&self) -> usize {
        self.seen.most_running.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self, requests: usize) {
        self.seen.gate.add_permits(requests);
    }
}

async fn answer(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_running.fetch_max(running, Ordering::SeqCst);
    let mut response = Response::builder();
    let mut body = Full::new(Bytes::from_static(b"ok")).boxed();
    match request.uri().path() {
        "/gated" => seen.gate.acquire().await.expect("it stays open").forget(),
        "/pause" => response = response.status(429).header("retry-after", "30"),
        "/used-up" => response = response.status(503).header("ratelimit", "\"a\";r=0;t=30"),
        "/busy" => response = response.status(503),
        "/liar" => response = response.header("weir-refused", "limited"),
        "/endless" => {
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            body = BoxBody::new(StreamBody::new(first.chain(stream::pending())));
        }
        _ => {}
    }
    seen.running.fetch_sub(1, Ordering::SeqCst);
    Ok(response.body(body).expect("a good response"))
}
