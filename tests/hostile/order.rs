//! Requests of the lease API that lie, come twice, come in another order, or whose answers nobody gets: nothing is lost, and nothing
//! is done twice.

use futures::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::figure;
use crate::server::Server;
use crate::wire::{Answer, ask, connect, head, post};

const LEASES: &str = "/weir/v1/leases";

fn id(granted: &Answer) -> String {
    assert_eq!(granted.status, 201, "{granted:?}");
    granted.json()["leases"][0]["id"].as_str().expect("an id").to_owned()
}

async fn acquire(server: &Server, body: serde_json::Value) -> Answer {
    post(server.ingress, LEASES, body.to_string()).await
}

async fn extend(server: &Server, id: &str) -> u16 {
    post(server.ingress, &format!("{LEASES}/{id}/extend"), r#"{"lease-time":"1h"}"#).await.status
}

/// Whether it ended now.
async fn release(server: &Server, id: &str) -> bool {
    let answer = ask(server.ingress, "DELETE", &format!("{LEASES}/{id}"), "", b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["released"].as_bool().expect("yes or no")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_orders() {
    let server = Server::start();
    server.under("forged_ids", forged_ids(&server)).await;
    server.under("expired_ids", expired_ids(&server)).await;
    server.under("other_clocks", other_clocks(&server)).await;
    server.under("reordered", reordered(&server)).await;
    server.under("one_key_at_once", one_key_at_once(&server)).await;
    server.under("cut_after_the_grant", cut_after_the_grant(&server)).await;
    server.end().await;
}

/// Ids near a real one, and others.
async fn forged_ids(server: &Server) {
    let held = id(&acquire(server, json!({"scope": "s"})).await);
    let mut forged: Vec<String> = (0..held.len() * 15)
        .map(|n| {
            let (at, by) = (n / 15, n % 15 + 1);
            let digit = held[at..=at].chars().next().and_then(|digit| digit.to_digit(16)).expect("a digit");
            let other = char::from_digit((digit + by as u32) % 16, 16).expect("a digit");
            format!("{}{other}{}", &held[..at], &held[at + 1..])
        })
        .collect();
    forged.extend(["0", "%00", "..", "nonsense", "-1", &"f".repeat(36), &"9".repeat(8_000)].map(str::to_owned));
    for some in forged.chunks(50) {
        for (id, (status, released)) in some
            .iter()
            .zip(join_all(some.iter().map(async |id| (extend(server, id).await, release(server, id).await))).await)
        {
            assert_eq!((status, released), (410, false), "{id}");
        }
    }
    figure("forged_ids_tried", forged.len());
    assert_eq!(server.held("s").await, 1, "the real one is held");
    assert!(release(server, &held).await);
}

/// Leases that have ended by themselves come back for nobody.
async fn expired_ids(server: &Server) {
    let granted = join_all((0..50).map(|_| acquire(server, json!({"scope": "s", "lease-time": "100ms"})))).await;
    let ids: Vec<String> = granted.iter().map(id).collect();
    while server.held("s").await > 0 {
        tokio::task::yield_now().await;
    }
    for id in &ids {
        assert_eq!((extend(server, id).await, release(server, id).await), (410, false));
    }
}

/// What a client's clock says is of no interest.
async fn other_clocks(server: &Server) {
    let body = br#"{"scope":"s","lease-time":"30s","max-wait":"0s"}"#;
    for fields in [
        "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "date: Fri, 31 Dec 9999 23:59:59 GMT\r\nage: 99999999999\r\n",
        "if-modified-since: Fri, 31 Dec 9999 23:59:59 GMT\r\nif-none-match: *\r\nexpires: 0\r\n",
    ] {
        let fields = format!("content-type: application/json\r\n{fields}");
        let granted = ask(server.ingress, "POST", LEASES, &fields, body).await;
        let remaining = granted.json()["leases"][0]["remaining"].as_str().expect("a time").to_owned();
        assert!(remaining.starts_with("29s") || remaining == "30s", "{remaining}");
        assert!(release(server, &id(&granted)).await);
    }
}

/// A release before the extension that was sent before it, and everything twice.
async fn reordered(server: &Server) {
    let granted = join_all((0..50).map(|_| acquire(server, json!({"scope": "s"})))).await;
    let ids: Vec<String> = granted.iter().map(id).collect();
    for id in &ids {
        assert_eq!(extend(server, id).await, 200);
        assert_eq!(extend(server, id).await, 200);
        assert!(release(server, id).await);
        assert_eq!(extend(server, id).await, 410, "never again");
        assert!(!release(server, id).await, "only once");
    }
    // All at once: each ends once, whatever comes first.
    let granted = join_all((0..20).map(|_| acquire(server, json!({"scope": "s"})))).await;
    for id in granted.iter().map(id) {
        let releases = join_all((0..10).map(|_| release(server, &id)));
        let extensions = join_all((0..10).map(|_| extend(server, &id)));
        let (released, extended) = tokio::join!(releases, extensions);
        assert_eq!(released.into_iter().filter(|ended| *ended).count(), 1);
        assert!(extended.into_iter().all(|status| [200, 410].contains(&status)));
        assert_eq!(extend(server, &id).await, 410);
    }
}

/// A hundred requests under one key are one lease.
async fn one_key_at_once(server: &Server) {
    for key in 0..5 {
        let body = json!({"scope": "one", "lease-time": "1h", "idempotency-key": format!("same-{key}")});
        let granted = join_all((0..100).map(|_| acquire(server, body.clone()))).await;
        let first = id(&granted[0]);
        assert!(granted.iter().all(|granted| id(granted) == first));
        assert_eq!(server.held("one").await, 1);
        assert!(release(server, &first).await);
        let ended = acquire(server, body).await;
        assert_eq!(ended.status, 410, "{ended:?}");
    }
}

/// Clients that are gone before their answer comes, and ask again.
async fn cut_after_the_grant(server: &Server) {
    let bodies: Vec<String> = (0..100)
        .map(|n| json!({"scope": "s", "lease-time": "1h", "idempotency-key": format!("cut-{n}")}).to_string())
        .collect();
    let mut sockets = Vec::new();
    for body in &bodies {
        let mut socket = connect(server.ingress).await;
        let head = head("POST", LEASES, "content-type: application/json\r\n", body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
        sockets.push(socket);
    }
    while server.held("s").await < 100 {
        tokio::task::yield_now().await;
    }
    drop(sockets);
    for (given_back, body) in bodies.iter().enumerate() {
        let first = id(&post(server.ingress, LEASES, body).await);
        let again = id(&post(server.ingress, LEASES, body).await);
        assert_eq!(first, again, "the same lease");
        assert_eq!(server.held("s").await, 100 - given_back as u64, "and no other");
        assert!(release(server, &first).await);
    }
}
