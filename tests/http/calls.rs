//! Calls: scoped, with a limit key, free, plain; HTTP/1.1 and HTTP/2.

use http::{Method, Version};
use http_body_util::BodyExt;
use weir_tests::within;

use crate::Served;
use crate::client::{get, http1, http2};

#[tokio::test]
async fn a_scoped_call_waits_for_its_slot() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let call = tokio::spawn(get(served.ingress, "/weir/scope/s/call/app/plain").once());
    served.host.shows("s", 1, 1).await;
    drop(lease);
    let answer = call.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "plain"));
    served.host.settles().await;
}

#[tokio::test]
async fn the_lease_is_held_until_the_body_ends() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let answer = get(served.ingress, "/weir/scope/s/call/stream/stream?chunks=3&ms=1").send(&client).await;
    assert!(answer.body.contains("chunk 2"), "{}", answer.body);
    served.host.settles().await;

    // A body that does not end by itself: the lease stays, whatever was read of it.
    let mut body =
        get(served.ingress, "/weir/scope/s/call/stream/stream?chunks=1000000&ms=1").head(&client).await.into_body();
    for _ in 0..3 {
        within("a chunk", body.frame()).await.expect("more").expect("a good chunk");
        assert_eq!(served.host.usage("s"), (1, 0));
    }
    drop(body);
    drop(client);
    served.host.settles().await;
}

#[tokio::test]
async fn what_comes_in_reaches_the_component_byte_for_byte() {
    let served = Served::new(&[("s", "1")]);
    let every_byte: Vec<u8> = (0..3 << 20).map(|n: u32| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let odd = http::HeaderValue::from_bytes(b"a, b;\"c\"\t\xe4\xff").unwrap();
    for client in [http1(), http2()] {
        for body in [&b""[..], b"x", &every_byte] {
            let request = http::Request::builder()
                .method("PATCH")
                .uri(format!("http://{}/weir/scope/s/call/stream/echo?q=%20a%2Fb&r=1;2", served.ingress))
                .header("x-odd", odd.clone())
                .header("x-twice", "1")
                .header("x-twice", "2")
                .header("x-empty", "")
                .body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body)))
                .unwrap();
            let (head, answer) = within("the head", client.request(request)).await.unwrap().into_parts();
            assert_eq!(head.status, 200);
            assert_eq!(head.headers["echo-target"], "/echo?q=%20a%2Fb&r=1;2");
            assert!(head.headers["echo-method"].to_str().unwrap().contains("Patch"), "{:?}", head.headers);
            assert_eq!(head.headers["x-odd"], odd);
            assert_eq!(head.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(head.headers["x-empty"], "");
            let answer = within("the body", answer.collect()).await.unwrap().to_bytes();
            assert!(answer == body, "{} bytes went in, {} came back, or others", body.len(), answer.len());
        }
    }
    served.host.settles().await;
}

#[tokio::test]
async fn the_lease_of_the_request_is_lent_to_its_handler() {
    let served = Served::new(&[("s", "1")]);
    // The guest acquires under its request's scope: at limit 1 it would wait for itself.
    let answer = get(served.ingress, "/weir/scope/s/call/app/hold?ms=1").once().await;
    assert_eq!(answer.body, "held");
    served.host.settles().await;
}

#[tokio::test]
async fn each_limit_key_has_its_own_budget() {
    let served = Served::new(&[("s/*", "1")]);
    let lease = served.host.take("s/a");
    let path = "/weir/scope/s/call/app/plain";
    let waiting = tokio::spawn(get(served.ingress, path).header("weir-limit-key", "a").once());
    served.host.shows("s/a", 1, 1).await;
    for key in ["b", "a2/x"] {
        assert_eq!(get(served.ingress, path).header("weir-limit-key", key).once().await.status, 200);
    }
    drop(lease);
    assert_eq!(waiting.await.unwrap().status, 200);
    served.host.settles().await;
}

#[tokio::test]
async fn unscoped_and_plain_calls_are_free() {
    // Every scope is closed.
    let served = Served::new(&[("*", "0")]);
    for path in ["/weir/call/app/plain", "/plain", "/weir/call/app/plain?x=1"] {
        assert_eq!(get(served.ingress, path).once().await.body, "plain", "{path}");
    }
    assert_eq!(served.host.flow.metrics().granted, 0);
}

#[tokio::test]
async fn plain_calls_are_under_the_ingress_scope_where_there_is_one() {
    let served = Served::with_ingress_scope(&[("in", "1")], Some("in"));
    let lease = served.host.take("in");
    let call = tokio::spawn(get(served.ingress, "/plain").once());
    served.host.shows("in", 1, 1).await;
    // The other component's route is free, and calls by name are too.
    assert_eq!(get(served.ingress, "/stream/x").once().await.body, "no such path");
    assert_eq!(get(served.ingress, "/weir/call/app/plain").once().await.body, "plain");
    drop(lease);
    assert_eq!(call.await.unwrap().body, "plain");
    served.host.settles().await;
}

#[tokio::test]
async fn any_method_and_a_body_reach_the_component() {
    let served = Served::new(&[]);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer =
            get(served.ingress, "/weir/scope/s/call/app/plain").method(method.clone()).body("hello").once().await;
        assert_eq!(answer.body, "plain", "{method}");
    }
    served.host.settles().await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let served = Served::new(&[("s", "1")]);
    let client = http2();
    for path in ["/weir/scope/s/call/app/plain", "/plain"] {
        let response = get(served.ingress, path).head(&client).await;
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.status(), 200);
        within("the body", response.into_body().collect()).await.unwrap();
    }
    served.host.settles().await;
}
