//! A response on its way to its client, and whose turn it is.
//!
//! Until the head is there, and while the body is asked for more than it has, the server is at work. Between a piece of the
//! body and the next time that hyper asks for one, it is the client's turn: hyper asks as soon as there is room for
//! more. So a client that reads nothing can be told from a component that is slow, on HTTP/1.1 and on HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::watch::InFlight;

pin_project! {
    /// The body of an answer; the request is in flight until it has ended.
    pub(crate) struct Answer<B> {
        #[pin]
        body: B,
        in_flight: InFlight,
    }
}

impl<B> Answer<B> {
    /// The head is there: it is the client's turn.
    pub(crate) fn new(body: B, mut in_flight: InFlight) -> Self {
        in_flight.answered();
        Self { body, in_flight }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.in_flight.asked();
        let frame = this.body.poll_frame(context);
        if frame.is_ready() {
            this.in_flight.answered();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
