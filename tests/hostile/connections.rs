//! Clients that connect and then do little, slowly, or nothing.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::wire::{HEADERS, SETTINGS, connect, frame, get, get_frame, head, http2, to_the_end};
use crate::{figure, many, room_for};

/// How often a slow client sends a byte.
const DRIP: Duration = Duration::from_secs(1);

/// Sends `byte` now and then until the server closes the connection, and answers what it said.
async fn drip(mut socket: TcpStream, byte: u8) -> Vec<u8> {
    let mut said = Vec::new();
    let mut part = [0; 1024];
    loop {
        match tokio::time::timeout(DRIP, socket.read(&mut part)).await {
            // Reset is an end too.
            Ok(Ok(0) | Err(_)) => return said,
            Ok(Ok(read)) => said.extend_from_slice(&part[..read]),
            // Whether it still arrives is seen by reading.
            Err(_elapsed) => drop(socket.write_all(&[byte]).await),
        }
    }
}

/// So many clients that begin like this and go on slowly; answers what each was told.
async fn slowly(address: SocketAddr, clients: usize, beginning: &[u8], byte: u8) -> Vec<String> {
    let mut sockets = Vec::new();
    for _ in 0..clients {
        let mut socket = connect(address).await;
        socket.write_all(beginning).await.expect("sent");
        sockets.push(socket);
    }
    let said = join_all(sockets.into_iter().map(|socket| drip(socket, byte))).await;
    said.into_iter().map(|said| String::from_utf8_lossy(&said).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients() {
    // 2,000 of them, always.
    room_for(2_000);
    let server = Server::start();
    let heads = b"GET /weir/call/good/plain HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    let body = head("POST", "/weir/v1/leases", "content-type: application/json\r\n", 60_000);
    let absurd = head("POST", "/weir/v1/leases", "content-type: application/json\r\n", 9_000_000_000_000_000_000);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // A settings frame, and a head that is said to have 100 bytes.
    let http2 = [preface.as_slice(), &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 1, &[0x82; 100])[..9]].concat();
    let attack = async {
        tokio::join!(
            slowly(server.ingress, 900, heads, b'a'),
            slowly(server.ingress, 800, body.as_bytes(), b' '),
            slowly(server.ingress, 100, absurd.as_bytes(), b' '),
            slowly(server.ingress, 100, &http2, 0x82),
            slowly(server.admin, 100, heads, b'a'),
        )
    };
    let (_, bodies, absurd, _, _) = server.under("slowloris", attack).await;
    for said in bodies.iter().chain(&absurd) {
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("did not arrive within 10s"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections() {
    let connections = room_for(many());
    figure("connection_flood_connections", connections);
    let server = Server::start();
    let attack = async {
        let mut sockets = Vec::new();
        for _ in 0..connections {
            sockets.push(connect(server.ingress).await);
        }
        // Nothing is sent. The server closes each.
        join_all(sockets.iter_mut().map(to_the_end)).await;
    };
    server.under("connection_flood", attack).await;
    // The rest of them waits in the kernel until there is room.
    figure("connection_flood_room", server.room().map_or(connections, |room| room.min(connections)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing() {
    let server = Server::start();
    let attack = async {
        let mut sockets = Vec::new();
        // 200 answers of 40 kB, asked for at once.
        let pipelined = "GET /weir/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
        for _ in 0..100 {
            let mut socket = connect(server.ingress).await;
            socket.write_all(pipelined.as_bytes()).await.expect("sent");
            sockets.push(socket);
        }
        // A window of 0 bytes for every stream, of which there are 100.
        let streams: Vec<u8> = (0..100).flat_map(|n| get_frame(2 * n + 1, "/weir/openapi.json")).collect();
        for _ in 0..20 {
            let mut socket = http2(server.ingress, &[0, 4, 0, 0, 0, 0]).await.expect("sent");
            socket.write_all(&streams).await.expect("sent");
            sockets.push(socket);
        }
        server.shows(&["weir_http_connections 0"]).await;
        drop(sockets);
    };
    // The neighbour is a connection too: looked at between its calls, there is none.
    server.under("never_reads", attack).await;
}

/// With no file left there is nobody who could be answered. Afterwards everybody is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_files_used_up() {
    let server = Server::with_files(150);
    let mut sockets = Vec::new();
    for address in [server.ingress, server.admin] {
        for _ in 0..150 {
            sockets.push(connect(address).await);
        }
    }
    join_all(sockets.iter_mut().map(to_the_end)).await;
    drop(sockets);
    assert_eq!(get(server.ingress, "/weir/call/good/plain").await.status, 200);
    assert_eq!(get(server.admin, "/healthz").await.status, 200);
    let failed = server.logged("could not accept a connection") + server.logged("could not serve a connection");
    figure("files_used_up_failed", failed);
    assert!((1..2_000).contains(&failed), "it was without files {failed} times");
    server.shows(&["weir_http_connections 0"]).await;
}
