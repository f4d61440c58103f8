//! A client: one request on one connection, HTTP/1.1 or HTTP/2.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use weir_tests::within;

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

/// A client that opens connections as it needs them.
pub(crate) fn http1() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A client that speaks HTTP/2 from the first byte, all on one connection.
pub(crate) fn http2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    method: Method,
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Asked {
    Asked { method: Method::GET, uri: format!("http://{address}{path}"), headers: Vec::new(), body: Bytes::new() }
}

impl Asked {
    pub(crate) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The same, and says that it is JSON.
    pub(crate) fn json(self, body: impl Into<Bytes>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sends it, and answers when the head is there.
    pub(crate) async fn head(self, client: &Http) -> Response<Incoming> {
        let mut request = Request::builder().method(self.method).uri(&self.uri);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body)).expect("a good request");
        within(&self.uri, client.request(request)).await.unwrap_or_else(|error| panic!("{}: {error:?}", self.uri))
    }

    /// Sends it, and reads the answer to its end.
    pub(crate) async fn send(self, client: &Http) -> Answer {
        let (parts, body) = self.head(client).await.into_parts();
        let body = within("the body", body.collect()).await.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).expect("text") }
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn once(self) -> Answer {
        self.send(&http1()).await
    }
}

/// Sends bytes as they are, and hands over the socket.
pub(crate) fn raw(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("a server");
    socket.write_all(bytes.as_bytes()).expect("sent");
    socket
}
