//! Clients that leave: while they wait, while they are answered, in the middle of their request.

use weir_tests::HANG;

use crate::Served;
use crate::client::{get, http2, raw};

const GET: &str = "HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn leaving_while_waiting_leaves_no_trace() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let sockets: Vec<_> =
        (0..10).map(|_| raw(served.ingress, &format!("GET /weir/scope/s/call/app/plain {GET}"))).collect();
    served.host.shows("s", 1, 10).await;
    drop(sockets);
    served.host.shows("s", 1, 0).await;
    drop(lease);
    served.host.settles().await;
    // Only the lease that was taken here was ever granted.
    assert_eq!(served.host.flow.metrics().granted, 1);
}

#[tokio::test]
async fn leaving_while_waiting_with_a_body_unread_leaves_no_trace() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let socket = raw(
        served.ingress,
        "POST /weir/scope/s/call/app/plain HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nten bytes.",
    );
    served.host.shows("s", 1, 1).await;
    drop(socket);
    served.host.shows("s", 1, 0).await;
    drop(lease);
    served.host.settles().await;
}

#[tokio::test]
async fn leaving_while_the_handler_works_gives_the_lease_back() {
    let served = Served::new(&[("s", "1")]);
    let socket = raw(served.ingress, &format!("GET /weir/scope/s/call/app/hold?ms=3600000 {GET}"));
    served.host.shows("s", 1, 0).await;
    drop(socket);
    served.host.settles().await;
}

#[tokio::test]
async fn leaving_while_the_body_streams_gives_the_lease_back() {
    let served = Served::new(&[("s", "1")]);
    let socket = raw(served.ingress, &format!("GET /weir/scope/s/call/stream/stream?chunks=1000000&ms=1 {GET}"));
    served.host.shows("s", 1, 0).await;
    drop(socket);
    served.host.settles().await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_gives_up_its_place_alone() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let client = http2();
    let call = || {
        let client = client.clone();
        let asked = get(served.ingress, "/weir/scope/s/call/app/plain");
        tokio::spawn(async move { asked.send(&client).await })
    };
    let (first, second) = (call(), call());
    served.host.shows("s", 1, 2).await;
    first.abort();
    served.host.shows("s", 1, 1).await;
    drop(lease);
    assert_eq!(second.await.unwrap().status, 200);
    served.host.settles().await;
}

#[tokio::test]
async fn a_client_that_never_finishes_asking_is_dropped() {
    let served = Served::new(&[]);
    // Nothing at all; the beginning of what may become HTTP/2; half a head.
    let sockets = ["", "PRI * ", "GET /plain HTTP/1.1\r\nhost:"].map(|bytes| raw(served.ingress, bytes));
    for mut socket in sockets {
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        let ended = tokio::task::spawn_blocking(move || std::io::copy(&mut socket, &mut std::io::sink()));
        // Ended, or reset: both are an end.
        if let Err(error) = ended.await.unwrap() {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}
