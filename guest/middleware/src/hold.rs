//! A lease that its holder has to give back itself, because no host sees the end of the response for it.
//!
//! Weir's own host does, and is told with `keep`. Behind a client component there is a server that knows of no response. So
//! the body goes through here, chunk by chunk, and the lease is released when the last one has been handed over, or nobody
//! takes them any more.
//!
//! The standard has a future that says when a response has been transmitted, and with it a body could pass as a handle.
//! wasmtime 48 resolves it with the head, where the response has no `content-length`; a lease that waited for it alone would
//! end while the body still streams. It is waited for besides: on a host that keeps it, the lease ends no earlier than that.
//!
//! A client that leaves is noticed when the next chunk is handed on.

use std::time::Duration;

use weir_guest::{Lease, Outcome};
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

use crate::bindings::wasi::http::types::Response;
use crate::bindings::{wit_future, wit_stream};

/// What is taken at once. Hosts hand on less.
const CHUNK: usize = 64 << 10;

/// Holds a lease until the body of a response has been handed over. `head`: the request was a `HEAD`.
pub(crate) fn until_sent(response: Response, lease: Lease, head: bool) -> Response {
    let status = response.get_status_code();
    let outcome = outcome(status, &response.get_headers().get("retry-after"));
    if head || matches!(status, 100..200 | 204 | 304) {
        // There is no body to wait for, and one that is made here would not have the length that the headers say.
        lease.release(outcome);
        return response;
    }
    let headers = response.get_headers().clone();
    let (told, transmitted) = wit_future::new(|| Ok(()));
    let (source, trailers) = Response::consume_body(response, transmitted);
    let (sink, body) = wit_stream::new();
    let (response, sent) = Response::new(headers, Some(body), trailers);
    // It was one before.
    let _always = response.set_status_code(status);
    wit_bindgen::spawn(async move {
        pass(source, sink).await;
        let sent = sent.await;
        lease.release(outcome);
        // Whoever made the response may have stopped listening.
        let _heard = told.write(sent).await;
    });
    response
}

/// Hands on what is read until either side ends. Both ends are dropped then: each side hears of the other.
async fn pass(mut source: StreamReader<u8>, mut sink: StreamWriter<u8>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let (result, mut read) = source.read(chunk).await;
        if !matches!(result, StreamResult::Complete(_)) {
            return;
        }
        if !read.is_empty() {
            read = sink.write_all(read).await;
        }
        if !read.is_empty() {
            return;
        }
        chunk = read;
        chunk.reserve(CHUNK);
    }
}

/// Digits and nothing else; more than fit are as many as fit.
fn seconds(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// As the contract has it for `keep`.
fn outcome(status: u16, retry_after: &[Vec<u8>]) -> Outcome {
    match (status, retry_after.first().and_then(|value| seconds(value))) {
        (429 | 503, Some(seconds)) => Outcome::PushedBack(Some(Duration::from_secs(seconds))),
        (500.., _) => Outcome::Failed,
        _ => Outcome::Ok,
    }
}
