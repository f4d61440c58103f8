//! A response on its way to its client, and whose turn it is.
//!
//! Until the head is there, and while the body is asked for more than it has, the server is at work. Between a piece of the
//! body and the next time that hyper asks for one, it is the client's turn: hyper asks as soon as there is room for
//! more. So a client that reads nothing can be told from a component that is slow, on HTTP/1.1 and on HTTP/2. And from one that
//! reads slowly: no piece is larger than [`PIECE`].

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::watch::InFlight;

/// The largest piece of a body, in bytes: a client that reads 2 kB a second takes one in half the time that it has.
const PIECE: usize = 32 * 1024;

pin_project! {
    /// The body of an answer; the request is in flight until it has ended.
    pub(crate) struct Answer<B> {
        #[pin]
        body: B,
        // What is left of a larger piece.
        rest: Bytes,
        in_flight: InFlight,
    }
}

impl<B> Answer<B> {
    /// The head is there: it is the client's turn.
    pub(crate) fn new(body: B, mut in_flight: InFlight) -> Self {
        in_flight.answered();
        Self { body, rest: Bytes::new(), in_flight }
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        this.in_flight.asked();
        if this.rest.is_empty() {
            let frame = match this.body.poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return Poll::Pending,
            };
            this.in_flight.answered();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *this.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        this.in_flight.answered();
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Watch;
    use http_body_util::{BodyExt as _, Full};
    use std::net::TcpListener;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_large_body_goes_out_in_pieces() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Watch::new(Arc::new(Semaphore::new(1))).add(&socket).unwrap();
        let whole = Bytes::from(vec![7; 2 * PIECE + 1]);
        let mut answer = Answer::new(Full::new(whole.clone()), place.watched().begin());
        let (mut sizes, mut left) = (Vec::new(), whole.len());
        assert_eq!(answer.size_hint().exact(), Some(left as u64));
        while let Some(frame) = answer.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert_eq!(piece, whole[..piece.len()]);
            left -= piece.len();
            sizes.push(piece.len());
            assert_eq!((answer.size_hint().exact(), answer.is_end_stream()), (Some(left as u64), left == 0));
        }
        assert_eq!(sizes, [PIECE, PIECE, 1]);
    }
}
