//! What a component lends to the client: time, chance, and one HTTP exchange.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// One HTTP request to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `https`, and not `http`.
    pub https: bool,
    /// `host[:port]`.
    pub authority: String,
    /// `GET`, `POST` or `DELETE`.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, or empty.
    pub body: Vec<u8>,
    /// Nanoseconds until the head of the answer has to be there.
    pub timeout: u64,
}

/// The server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// How large a body is read: a batch of 1,000 leases is some 100 KiB.
    pub const MAX_BODY: usize = 1 << 20;
}

/// What the client needs of its component.
pub trait Host {
    /// A monotonic clock, in nanoseconds.
    fn now(&self) -> u64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Waits so many nanoseconds.
    fn sleep(&self, nanoseconds: u64) -> impl Future<Output = ()>;

    /// Sends one request on a connection of the host's choosing.
    ///
    /// # Errors
    /// There was no whole answer in time; the text says why, to follow "the Weir server did not answer: ".
    ///
    /// # Cancel safety
    /// The server may have got the request or not.
    fn send(&self, exchange: Exchange) -> impl Future<Output = Result<Reply, String>>;
}

/// The output of a future over a host whose `sleep` and `send` block: it is ready at once. None if it is not.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
