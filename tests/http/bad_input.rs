//! Bad input: one clear error, and nothing lost.

use std::io::Read;
use std::time::Duration;

use weir_http::{ServeError, Server, ServerConfig};
use weir_tests::{Host, until};

use crate::client::{get, raw};
use crate::{Served, free_ports};

/// One byte more than a name can have.
const LONG: &str = match str::from_utf8(&[b'x'; 129]) {
    Ok(text) => text,
    Err(_) => "",
};

#[tokio::test]
async fn bad_names_say_which_byte_and_where() {
    let served = Served::new(&[("*", "1")]);
    let good = "/weir/scope/s/call/app/plain";
    for (path, header, field, detail) in [
        ("/weir/scope/a%2Fb/call/app/plain", None, "path", "`%` (0x25) at position 1"),
        ("/weir/scope//call/app/plain", None, "path", "empty"),
        (good, Some(("weir-limit-key", "a b")), "weir-limit-key", "0x20 at position 1"),
        (good, Some(("weir-limit-key", "a/b/c")), "weir-limit-key", "parts"),
        (good, Some(("weir-limit-key", "a//")), "weir-limit-key", ""),
        (good, Some(("weir-max-wait", "soon")), "weir-max-wait", "`soon` is not a duration"),
        (good, Some(("weir-priority", "256")), "weir-priority", "write a number from 0 to 255"),
        (good, Some(("weir-priority", "-1")), "weir-priority", "`-1` is not a priority"),
        (good, Some(("weir-fairness-key", "a/b")), "weir-fairness-key", "`/` (0x2f) at position 1"),
        (good, Some(("weir-fairness-key", LONG)), "weir-fairness-key", "129 bytes long: the most is 128"),
        (good, Some(("weir-weight", "0")), "weir-weight", "write a number from 1 to 1000"),
        (good, Some(("weir-weight", "1001")), "weir-weight", "`1001` is not a weight"),
        ("/weir/call/app/plain", Some(("weir-limit-key", "a")), "weir-limit-key", "needs a scope"),
    ] {
        let mut asked = get(served.ingress, path);
        if let Some((name, value)) = header {
            asked = asked.header(name, value);
        }
        let answer = asked.once().await;
        assert_eq!(answer.status, 400, "{path} {header:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    assert_eq!(served.host.flow.metrics().granted, 0);
    served.host.settles().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_with_what_is() {
    let served = Served::new(&[]);
    let answer = get(served.ingress, "/weir/scope/s/call/nobody/plain").once().await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["known"], serde_json::json!(["app", "stream"]));
    for path in ["/weir", "/weir/", "/weir/scope/s", "/weir/scope/s/send/app/x", "/weir/call/", "/weir/scope/s/call/"] {
        let answer = get(served.ingress, path).once().await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["reason"], "unknown-call", "{path}");
    }
    served.host.settles().await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_loses_nothing() {
    let served = Served::new(&[("s", "1")]);
    let socket = raw(
        served.ingress,
        "POST /weir/scope/s/call/app/hold?ms=3600000 HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nten bytes.",
    );
    served.host.shows("s", 1, 0).await;
    drop(socket);
    served.host.settles().await;
    assert_eq!(get(served.ingress, "/weir/scope/s/call/app/plain").once().await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_forgotten() {
    let served = Served::new(&[]);
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), "400"),
        (format!("GET /plain HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(100_000)), "431"),
    ] {
        let answer = tokio::task::spawn_blocking(move || {
            let mut socket = std::net::TcpStream::connect(served.ingress).expect("a server");
            socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
            // The server may answer before it has all of it.
            let _cut = std::io::Write::write_all(&mut socket, bytes.as_bytes());
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
        })
        .await
        .unwrap();
        assert!(answer.as_ref().is_ok_and(|answer| answer.ends_with(status)), "{answer:?}");
    }
    assert_eq!(get(served.ingress, "/plain").once().await.status, 200);
}

#[tokio::test]
async fn a_handler_that_is_no_path_is_400() {
    let served = Served::new(&[("s", "1")]);
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket =
            raw(served.ingress, "GET /weir/scope/s/call/app/plain HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).map(|_| answer)
    })
    .await
    .unwrap()
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("\"field\":\"host\""), "{answer}");
    served.host.settles().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let served = Served::new(&[]);
    for (config, part) in [
        (
            ServerConfig { ingress: served.ingress, ..free_ports() },
            format!("cannot listen for ingress on {}: another program has this port", served.ingress),
        ),
        (
            ServerConfig { admin: served.admin, ..free_ports() },
            format!("cannot listen for admin on {}: another program has this port", served.admin),
        ),
    ] {
        let error = Server::start(&config, Host::new(&[]).flow, Vec::new()).expect_err("the port is taken");
        assert!(matches!(error, ServeError::Bind { .. }));
        assert_eq!(error.to_string(), part);
    }
    until("it still answers", || std::net::TcpStream::connect(served.ingress).is_ok()).await;
}
