//! The body of a response from outside: how long it may pause, and what it holds.
//!
//! The lease of a call ends with its body, however that ends: read to its end, broken off, or dropped, by the guest or
//! with it. Where nothing is to come any more, it ends at once.

use crate::outcome;
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};
use weir_engine::{Lease, Outcome};

/// A body that errors when it pauses for too long.
pub(super) struct Timed {
    inner: Incoming,
    pause: Duration,
    /// Set while a frame is waited for.
    sleep: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Timed {
    pub(super) fn new(inner: Incoming, pause: Duration) -> Self {
        Self { inner, pause, sleep: None, waits: false }
    }

    fn late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if !std::mem::replace(&mut self.waits, true) {
            sleep.as_mut().reset(Instant::now() + pause);
        }
        sleep.as_mut().poll(cx)
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        ready!(self.late(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Puts the body of a response under the lease of its call. An upstream that asks for a pause gets it at once: nobody else is to
/// run into it while this body is read.
pub(crate) fn leased<B>(response: Response<B>, lease: Lease) -> Response<WasiBody>
where
    B: Body<Data = Bytes, Error = Error> + Unpin + Send + 'static,
{
    let (head, body) = response.into_parts();
    let body = match outcome::upstream(&head, SystemTime::now()) {
        pushed_back @ Outcome::PushedBack(_) => {
            lease.release(pushed_back);
            body.boxed_unsync()
        }
        outcome => Leased::new(body, lease, outcome).boxed_unsync(),
    };
    Response::from_parts(head, body)
}

/// A body under a lease.
struct Leased<B> {
    inner: B,
    lease: Option<Lease>,
    outcome: Outcome,
}

impl<B: Body> Leased<B> {
    fn new(inner: B, lease: Lease, outcome: Outcome) -> Self {
        let mut body = Self { inner, lease: Some(lease), outcome };
        if body.inner.is_end_stream() {
            body.end();
        }
        body
    }
}

impl<B> Leased<B> {
    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release(self.outcome);
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Leased<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            self.outcome = Outcome::Failed;
        }
        if !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream() {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Leased<B> {
    fn drop(&mut self) {
        self.end();
    }
}
