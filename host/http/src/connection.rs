//! One connection: the protocol's settings, and its end.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge (h2c) on the same port, told apart by the first bytes.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;

/// How long a client may take to send a request's head; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most fields of a head: browsers and proxies send 10 to 40.
const MAX_FIELDS: usize = 100;
/// The largest head of HTTP/2. Servers commonly accept 8 to 16 KiB.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// The largest head of HTTP/1.1. It is also hyper's read and write buffer, so it is no smaller: large bodies would crawl.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection, the least that RFC 9113 recommends.
const MAX_STREAMS: u32 = 100;
/// An HTTP/2 client that is silent this long is asked whether it is still there, and given as long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);

pub(crate) type Builder = auto::Builder<TokioExecutor>;

/// The settings that every connection has.
pub(crate) fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_FIELDS)
        // Head and body leave in one buffer: less work than gathering them in the kernel. Not by `pipeline_flush`, which
        // implies it: that keeps back the answer to what is no HTTP.
        .writev(false)
        .max_buf_size(MAX_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

/// Serves one connection until it ends, `gone` does, or, once `graceful` shuts down, its last request is answered.
///
/// A client that connects and asks for nothing is dropped after [`HEAD_TIMEOUT`]: while the protocol is still to be told
/// from the first bytes, hyper waits for them without end.
///
/// # Cancel safety
/// Dropping it drops the connection and every request on it.
pub(crate) async fn serve<A, F, B>(
    builder: &Builder,
    stream: TcpStream,
    graceful: Watcher,
    gone: impl Future<Output = ()>,
    answer: A,
) where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = service_fn(move |request| {
        asks.store(true, Ordering::Relaxed);
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let connection = pin!(graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()));
    tokio::select! {
        biased;
        ended = connection => {
            if let Err(error) = ended {
                // A client's fault, or its end: of no concern to anybody but the one who looks for it.
                tracing::debug!(%error, "connection ended");
            }
        }
        () = gone => tracing::debug!("client left with a request in flight"),
        () = silent => tracing::debug!("client asked for nothing"),
    }
}
