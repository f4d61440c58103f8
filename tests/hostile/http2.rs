//! HTTP/2 of clients that only want to make work.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::wire::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, fields, frame, get_frame, http2,
};
use crate::{figure, many, room_for};

/// Connections that attack at once.
const CONNECTIONS: usize = 20;
/// Streams of one connection: what the server allows.
const STREAMS: usize = 100;
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

/// Whether a server said that it closes the connection for an error.
fn was_sent_away(mut said: &[u8]) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = said {
        let Some((payload, next)) = rest.split_at_checked(u32::from_be_bytes([0, *a, *b, *c]) as usize) else { break };
        if *kind == GOAWAY && payload.get(4..8).is_some_and(|code| code != [0; 4]) {
            return true;
        }
        said = next;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_http2() {
    let server = Server::start();
    let waits = "/weir/scope/shut/call/good/plain";

    let reset: Vec<u8> = (0..5_000)
        .flat_map(|n| [get_frame(2 * n + 1, waits), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    let closed = server.under("rapid_reset", flood(server.ingress, &reset)).await;
    figure("rapid_reset_closed", closed);

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
    let bombs: Vec<u8> = (0..50).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &bomb)).collect();
    server.under("header_bomb", flood(server.ingress, &bombs)).await;
}

/// Ten thousand requests of one client that wait, and then it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_with_all_its_waiters() {
    let waiters = many() / STREAMS * STREAMS;
    room_for(waiters);
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
