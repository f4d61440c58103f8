//! One connection: the protocol's settings, and its end.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge (h2c) on the same port, told apart by the first bytes. What a client may make
//! the server wait for is in [`crate::watch`].

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use crate::again;
use crate::answer::Answer;
use crate::watch::{InFlight, Watch};

/// The most fields of a head: browsers and proxies send 10 to 40.
const MAX_FIELDS: usize = 100;
/// The largest head of HTTP/2. Servers commonly accept 8 to 16 KiB.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// The largest head of HTTP/1.1. It is also hyper's read and write buffer, so it is no smaller: large bodies would crawl.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection, the least that RFC 9113 recommends.
const MAX_STREAMS: u32 = 100;
/// Requests that an HTTP/2 client has reset before anybody looked at them, past which its connection is closed. One that gives up a few
/// at a time gets nowhere near: they are looked at whenever there is time.
const MAX_UNSEEN_RESETS: usize = 20;
/// Requests of one HTTP/2 connection that were reset because they broke the protocol, past which it is closed: a client that is right
/// has none.
const MAX_BROKEN: usize = 100;
/// Bytes of one HTTP/2 response that are kept for a client that does not read its connection. A hundred of them are 6 MiB.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
/// An HTTP/2 client that is silent this long is asked whether it is still there, and given as long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);

pub(crate) type Builder = auto::Builder<TokioExecutor>;

/// The settings that every connection has.
pub(crate) fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `crate::watch` has bounds for that, which set no timer for each request.
        .header_read_timeout(None)
        .max_headers(MAX_FIELDS)
        // Head and body leave in one buffer: less work than gathering them in the kernel. Not by `pipeline_flush`, which
        // implies it: that keeps back the answer to what is no HTTP.
        .writev(false)
        .max_buf_size(MAX_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_BROKEN)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_UNSENT_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

/// Serves one connection until it ends, `watch` ends it, or, once `graceful` shuts down, its last request is answered.
///
/// # Cancel safety
/// Dropping it drops the connection and every request on it.
pub(crate) async fn serve<A, F, B>(builder: &Builder, stream: TcpStream, watch: &Watch, graceful: Watcher, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let place = match watch.add(&stream) {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(%error, "could not serve a connection");
            return;
        }
    };
    let watched = place.watched();
    let service = service_fn(move |request| Answering {
        in_flight: Some(watched.begin()),
        answer: answer(request),
        begun: false,
    });
    let connection = pin!(graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()));
    again::at_once(async {
        tokio::select! {
            biased;
            ended = connection => {
                if let Err(error) = ended {
                    // A client's fault, or its end: of no concern to anybody but the one who looks for it.
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = place.over() => tracing::debug!("the client left with a request in flight, or kept the server waiting"),
        }
    })
    .await;
}

pin_project! {
    /// A request that is being answered. Not an async block: that would have the future which it awaits in it twice, and each request is
    /// moved a few times before it is polled.
    struct Answering<F> {
        #[pin]
        answer: F,
        in_flight: Option<InFlight>,
        begun: bool,
    }
}

impl<F: Future<Output = Response<B>>, B: Body<Data = Bytes>> Future for Answering<F> {
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !std::mem::replace(this.begun, true)
            && let Some(in_flight) = this.in_flight
        {
            in_flight.asked();
        }
        let response = ready!(this.answer.poll(context));
        match this.in_flight.take() {
            Some(in_flight) => Poll::Ready(Ok(response.map(|body| Answer::new(body, in_flight)))),
            // Never: it is polled no more once it has answered.
            None => Poll::Pending,
        }
    }
}
