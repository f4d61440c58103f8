//! An answer of the middleware itself, as the host wants it.

use crate::bindings::wasi::http::types::{Fields, Response};
use crate::bindings::{wit_future, wit_stream};

/// Makes a response whose body a task of its own writes.
pub(crate) fn response(answer: http::Response<String>) -> Response {
    let (head, body) = answer.into_parts();
    let entries: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    // They are few and legal; without them the status still says most of it.
    let headers = Fields::from_list(&entries).unwrap_or_else(|_| Fields::new());
    let (mut writer, reader) = wit_stream::new();
    // Dropping the writer sends its default: no trailers.
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(reader), trailers);
    // A status between 100 and 999 is always taken.
    let _always = response.set_status_code(head.status.as_u16());
    wit_bindgen::spawn(async move {
        // What is left over, nobody reads.
        let _unread = writer.write_all(body.into_bytes()).await;
    });
    response
}
