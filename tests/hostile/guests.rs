//! Guests that loop, bomb, hoard, flood and trap.

use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;

use crate::server::Server;
use crate::wire::{connect, get, head};

/// An attack: a name, how often it is tried at once, what is called, and how that ends.
const ATTACKS: &[(&str, usize, &str, u16, &str)] = &[
    ("loop", 8, "/weir/scope/in/call/bad/loop?scope=app", 502, ""),
    ("loop_past_the_deadline", 8, "/weir/scope/in/call/late/loop", 504, ""),
    ("memory_bomb", 16, "/weir/scope/in/call/bad/bomb?scope=app", 502, ""),
    ("memory_leak", 50, "/weir/scope/in/call/bad/leak?bytes=2000000", 200, ""),
    ("sleep", 50, "/weir/scope/in/call/late/sleep", 504, ""),
    ("trap", 50, "/weir/scope/in/call/bad/trap?scope=app", 502, ""),
    ("trap_while_waiting", 8, "/weir/call/bad/trap-waiting?scope=one", 502, ""),
    ("lease_hoarding", 8, "/weir/scope/in/call/bad/flood", 200, "1024|overloaded|"),
    ("handle_flood", 8, "/weir/scope/in/call/bad/options", 502, ""),
    ("huge_name", 8, "/weir/scope/in/call/bad/huge-name?bytes=1000000", 200, "invalid|"),
    ("larger_name", 8, "/weir/scope/in/call/bad/huge-name?bytes=10000000", 502, ""),
    ("many_targets", 8, "/weir/scope/in/call/bad/many-targets?targets=3000", 200, "invalid|"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_guests() {
    let server = Server::start();
    for (name, times, path, status, body) in ATTACKS {
        let calls = (0..*times).map(|_| get(server.ingress, path));
        for answer in server.under(&format!("guest_{name}"), join_all(calls)).await {
            // Whose deadline passes before there is an instance is told that instead.
            let queued = *status == 504 && answer.status == 503;
            assert!(answer.status == *status || queued, "{name}: {answer:?}");
            assert!(answer.body.contains(body), "{name}: {answer:?}");
        }
    }
    server.under("guest_waiter_flood", waiter_flood(&server)).await;
    server.end().await;
}

/// Calls that wait inside of a guest until their clients leave. What its component has no room for is told so.
async fn waiter_flood(server: &Server) {
    let mut sockets = Vec::new();
    for _ in 0..500 {
        let mut socket = connect(server.ingress).await;
        let call = head("GET", "/weir/call/waits/acquire?scope=shut", "", 0);
        socket.write_all(call.as_bytes()).await.expect("sent");
        sockets.push(socket);
    }
    while server.figure("weir_waiting").await == 0 {
        tokio::task::yield_now().await;
    }
}
