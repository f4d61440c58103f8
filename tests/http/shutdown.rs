//! The end: what runs finishes, what waits is sent away, what hangs is dropped.

use std::net::TcpStream;
use std::time::Duration;

use http_body_util::BodyExt;
use weir_http::{Route, Server, ServerConfig, Service};
use weir_tests::{Host, guests, until, within};

use crate::client::{get, http1, raw};
use crate::{Served, free_ports};

#[tokio::test]
async fn what_runs_finishes_and_what_waits_is_sent_away() {
    let mut served = Served::new(&[("s", "1")]);
    let client = http1();
    let running = get(served.ingress, "/weir/scope/s/call/stream/stream?chunks=5&ms=100").head(&client).await;
    let waiting = tokio::spawn(get(served.ingress, "/weir/scope/s/call/app/plain").once());
    served.host.shows("s", 1, 1).await;

    let server = served.server.take().unwrap();
    server.stop_handle().stop();
    let ended = tokio::task::spawn_blocking(move || server.wait());

    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    let body = within("the body", running.into_body().collect()).await.expect("a whole body").to_bytes();
    assert!(body.ends_with(b"chunk 4\n"), "{body:?}");

    within("the server's end", ended).await.unwrap();
    assert!(TcpStream::connect(served.ingress).is_err());
    assert!(TcpStream::connect(served.admin).is_err());
    served.host.settles().await;
}

#[tokio::test]
async fn what_hangs_is_dropped_in_the_end() {
    let host = Host::new(&[("s", "1")]);
    let component = host.try_load(guests::FLOW, |_| {}).unwrap();
    let config = ServerConfig { shutdown_timeout: Duration::from_millis(50), ..free_ports() };
    let server = Server::start(
        &config,
        host.flow.clone(),
        vec![Service { component, route: Route::all(), ingress_scope: None }],
    )
    .unwrap();
    let _socket = raw(server.ingress(), "GET /weir/scope/s/call/app/hold?ms=3600000 HTTP/1.1\r\nhost: a\r\n\r\n");
    host.shows("s", 1, 0).await;
    within("the server's end", tokio::task::spawn_blocking(move || server.shut_down())).await.unwrap();
    host.settles().await;
}

#[tokio::test]
async fn health_says_that_it_ends() {
    let served = Served::new(&[("s", "1")]);
    let _running =
        raw(served.ingress, "GET /weir/scope/s/call/stream/stream?chunks=1000000&ms=1 HTTP/1.1\r\nhost: a\r\n\r\n");
    served.host.shows("s", 1, 0).await;
    served.server.as_ref().unwrap().stop_handle().stop();
    let answer = get(served.admin, "/healthz").once().await;
    assert_eq!(answer.status, 503);
    drop(_running);
    until("ingress is closed", || TcpStream::connect(served.ingress).is_err()).await;
}
