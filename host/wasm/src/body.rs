//! The response body on its way to the client: where a request ends.
//!
//! Its end gives back what the request holds. Dropping it before its end means that the client is gone. A body that its
//! instance left unfinished (a trap next to it, a deadline) ends as an error, never as if it were whole.

use crate::request::RequestState;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use wasmtime_wasi_http::{Error, WasiBody};

pub(crate) struct ResponseBody {
    inner: WasiBody,
    request: Arc<RequestState>,
    /// How many bytes are to come, if that is known: a server stops polling there.
    remaining: Option<u64>,
    ended: bool,
}

impl ResponseBody {
    pub(crate) fn new(inner: WasiBody, request: Arc<RequestState>, remaining: Option<u64>) -> Self {
        let remaining = remaining.or_else(|| inner.size_hint().exact());
        Self { inner, request, remaining, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        self.request.end();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
                    *remaining = remaining.saturating_sub(data.len() as u64);
                }
            }
            None if self.request.has_failed() => {
                // The instance gives back what the request holds once it is gone.
                self.ended = true;
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
            // A guest that traps breaks its body off before its instance is known to have failed.
            Some(Err(_)) => {
                self.request.break_off();
                self.end();
            }
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.inner.is_end_stream() && !self.request.has_failed())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.remaining == Some(0) || self.inner.is_end_stream() {
            self.request.end();
        } else {
            self.request.abandon();
        }
    }
}
