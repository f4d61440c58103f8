//! What a client sends, byte by byte. A client that attacks needs more freedom than a library gives.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::HANG;

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0: there was none.
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Self { status, body }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a server")
}

/// Sends bytes on a connection of their own, and answers all that comes until it is closed. The server may answer and close before
/// it has all of them.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut socket = connect(address).await;
    let _cut = socket.write_all(bytes.as_ref()).await;
    to_the_end(&mut socket).await
}

/// All that comes until the server closes the connection, which it must.
pub(crate) async fn to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // Reset is an end too.
    let _reset = tokio::time::timeout(HANG, socket.read_to_end(&mut answer)).await.expect("it is closed");
    answer
}

/// Sends a request of HTTP/1.1, and answers what there is to it.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
    Answer::of(&exchange(address, [head(method, path, fields, body.len()).as_bytes(), body].concat()).await)
}

/// The head of a request on a connection of its own.
pub(crate) fn head(method: &str, path: &str, fields: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n"
    )
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "", b"").await
}

/// A request of the lease API.
pub(crate) async fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Answer {
    ask(address, "POST", path, "content-type: application/json\r\n", body.as_ref()).await
}

/// Asks until the body is as it should be.
pub(crate) async fn get_until(address: SocketAddr, path: &str, so: impl Fn(&str) -> bool) {
    let mut answer = get(address, path).await;
    let asking = async {
        while !so(&answer.body) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer = get(address, path).await;
        }
    };
    if tokio::time::timeout(HANG, asking).await.is_err() {
        panic!("never so: {path}");
    }
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A text as HPACK writes it, which is shorter than 127 bytes.
fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 127, "a longer text has a longer length");
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// The fields of a GET.
pub(crate) fn fields(path: &str) -> Vec<u8> {
    // From the table of RFC 7541: the method GET, the scheme http, a path, an authority.
    [&[0x82, 0x86, 0x04][..], &text(path), &[0x01], &text("localhost")].concat()
}

/// A GET on a stream: its whole frame.
pub(crate) fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(path))
}

/// A connection of HTTP/2 with these settings.
pub(crate) async fn http2(address: SocketAddr, settings: &[u8]) -> io::Result<TcpStream> {
    let mut socket = connect(address).await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    socket.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
    Ok(socket)
}
