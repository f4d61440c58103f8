//! HTTP/2 of clients that only want to make work.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, fields, frame, get_frame,
    http2,
};
use crate::{figure, many, room_for};

/// Connections that attack at once.
const CONNECTIONS: usize = 20;
/// Streams of one connection: what the server allows.
const STREAMS: usize = 100;
/// Requests of one connection with a head that is too large once it is unpacked.
const BOMBS: usize = 50;
/// What a server does not take within this it does not read.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends all of it on so many connections, reading what comes, and then says that this was all: the server reads it to its end, or
/// closes the connection before. Answers how many it closed for what was sent.
async fn flood(address: SocketAddr, bytes: &[u8]) -> usize {
    let one = async |_| {
        let (mut from, mut to) = http2(address, &[]).await.expect("sent").into_split();
        let mut said = Vec::new();
        let read = async {
            // Reset is an end too.
            drop(from.read_to_end(&mut said).await);
        };
        let write = async {
            // Not taken at all is as good as closed.
            let sent = tokio::time::timeout(PATIENCE, to.write_all(bytes)).await.is_ok_and(|sent| sent.is_ok());
            let _closed = to.shutdown().await;
            sent
        };
        let ((), sent) = tokio::join!(read, write);
        !sent || was_sent_away(&said)
    };
    join_all((0..CONNECTIONS).map(one)).await.into_iter().filter(|closed| *closed).count()
}

/// A frame that a server has sent.
struct Said<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// The whole frames of what a server has sent.
fn frames(mut said: &[u8]) -> impl Iterator<Item = Said<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = said.split_first_chunk::<9>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let (payload, next) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        said = next;
        Some(Said { kind, flags, stream: u32::from_be_bytes(stream), payload })
    })
}

/// Whether a server said that it closes the connection for an error.
fn was_sent_away(said: &[u8]) -> bool {
    frames(said).any(|frame| frame.kind == GOAWAY && frame.payload.get(4..8).is_some_and(|code| code != [0; 4]))
}

/// Sends requests on so many connections, and reads until each request or its connection has ended. None may be let in: what is, is
/// answered with a body. Answers how many requests were refused one by one, and how many connections were closed instead.
async fn all_are_refused(address: SocketAddr, requests: &[u8], streams: usize) -> (usize, usize) {
    let one = async |_| {
        let (mut from, mut to) = http2(address, &[]).await.expect("sent").into_split();
        let (mut said, mut ended) = (Vec::<u8>::new(), BTreeSet::<u32>::new());
        let read = async {
            // Reset is an end too.
            while from.read_buf(&mut said).await.is_ok_and(|read| read > 0) {
                assert!(!frames(&said).any(|frame| frame.kind == DATA), "one of them was let in");
                let last = |frame: &Said<'_>| {
                    frame.kind == RST_STREAM || (frame.kind == HEADERS && frame.flags & END_STREAM != 0)
                };
                ended.extend(frames(&said).filter(last).map(|frame| frame.stream));
                if ended.len() == streams || was_sent_away(&said) {
                    break;
                }
            }
        };
        let write = async {
            // Not taken at all is as good as closed.
            drop(tokio::time::timeout(PATIENCE, to.write_all(requests)).await);
        };
        let ((), ()) = tokio::join!(read, write);
        ended.len()
    };
    let refused = join_all((0..CONNECTIONS).map(one)).await;
    (refused.iter().sum(), refused.iter().filter(|ended| **ended < streams).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_http2() {
    let server = Server::start();
    let waits = "/weir/scope/shut/call/good/plain";

    let reset: Vec<u8> = (0..5_000)
        .flat_map(|n| [get_frame(2 * n + 1, waits), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    let closed = server.under("rapid_reset", flood(server.ingress, &reset)).await;
    assert_eq!(closed, CONNECTIONS, "who resets what nobody has looked at is sent away");

    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(20_000);
    server.under("settings_flood", flood(server.ingress, &settings)).await;

    let pings = frame(PING, 0, 0, &[7; 8]).repeat(20_000);
    server.under("ping_flood", flood(server.ingress, &pings)).await;

    // A head without an end.
    let more = frame(CONTINUATION, 0, 1, &[0x82; 1_000]).repeat(10_000);
    let endless = [frame(HEADERS, END_STREAM, 1, &fields("/weir/call/good/plain")), more].concat();
    let closed = server.under("continuation_flood", flood(server.ingress, &endless)).await;
    assert_eq!(closed, CONNECTIONS, "a head without an end is read no further");

    // A field of 4,000 bytes, entered into the table once and named 10,000 times: 40 MB in 14 kB.
    let field = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
    let bomb = [fields("/weir/call/good/plain"), field, vec![0xbe; 10_000]].concat();
    let bombs: Vec<u8> =
        (0..BOMBS as u32).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &bomb)).collect();
    let (refused, closed) = server.under("header_bomb", all_are_refused(server.ingress, &bombs, BOMBS)).await;
    assert!(refused == BOMBS * CONNECTIONS || closed > 0, "{refused} refused, {closed} closed");
    figure("header_bomb_refused", refused);
}

/// Ten thousand requests of one client that wait, and then it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_with_all_its_waiters() {
    let waiters = many() / STREAMS * STREAMS;
    room_for(waiters / STREAMS);
    let server = Server::start();
    let attack = async {
        let mut sockets: Vec<TcpStream> = Vec::new();
        let streams: Vec<u8> =
            (0..STREAMS as u32).flat_map(|n| get_frame(2 * n + 1, "/weir/scope/shut/call/good/plain")).collect();
        for _ in 0..waiters / STREAMS {
            let mut socket = http2(server.ingress, &[]).await.expect("sent");
            socket.write_all(&streams).await.expect("sent");
            sockets.push(socket);
        }
        server.shows(&[&format!("weir_waiting {waiters}")]).await;
        drop(sockets);
        server.shows(&["weir_waiting 0"]).await;
    };
    server.under("waiters_leave", attack).await;
    figure("waiters_leave_waiters", waiters);
}
