//! Leases and the response body: until when a request holds what it holds.

use http_body_util::BodyExt as _;
use std::time::Duration;
use weir_tests::{Host, guests, key, request, text, within};
use weir_wasm::{Call, Runner, WasiBody};

async fn open(runner: &Runner, call: Call, path: &str) -> http::Response<WasiBody> {
    within(path, runner.handle(call, request(path))).await.unwrap()
}

async fn first_chunk(response: &mut http::Response<WasiBody>) {
    let frame = within("a chunk", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(&frame.into_data().unwrap()[..], b"chunk 0\n");
}

#[tokio::test]
async fn a_kept_lease_ends_with_the_body() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::STREAM, |_| {});
    let mut response = open(&app, Call::default(), "/keep?chunks=3&ms=20").await;
    assert_eq!(host.usage("app"), (1, 0));
    first_chunk(&mut response).await;
    assert_eq!(host.usage("app"), (1, 0));
    assert_eq!(text(response).await, "chunk 1\nchunk 2\n");
    assert_eq!(host.usage("app"), (0, 0), "at the very end of the body");
    host.settles().await;
}

#[tokio::test]
async fn the_lease_of_the_call_ends_with_the_body() {
    let host = Host::new(&[("in", "1")]);
    let app = host.run(guests::STREAM, |_| {});
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let mut response = open(&app, call, "/stream?chunks=2&ms=20").await;
    first_chunk(&mut response).await;
    assert_eq!(host.usage("in"), (1, 0));
    text(response).await;
    assert_eq!(host.usage("in"), (0, 0));
}

/// Keep, and lending: what rode on the call's lease stays counted until the body has ended.
#[tokio::test]
async fn a_lent_lease_can_be_kept() {
    let host = Host::new(&[("in", "1")]);
    let app = host.run(guests::STREAM, |_| {});
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let mut response = open(&app, call, "/keep?chunks=2&ms=10").await;
    first_chunk(&mut response).await;
    assert_eq!(host.usage("in"), (1, 0));
    text(response).await;
    host.settles().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_the_body_ends_it() {
    for path in ["/keep?chunks=1000&ms=20", "/held?chunks=1000&ms=20", "/keep?chunks=2&ms=3600000"] {
        let host = Host::new(&[("app", "1"), ("in", "1")]);
        let app = host.run(guests::STREAM, |_| {});
        // The scope is named, so that the guest does not ride on the lease of its call.
        let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
        let mut response = open(&app, call, &format!("{path}&scope=app")).await;
        first_chunk(&mut response).await;
        assert_eq!((host.usage("app"), host.usage("in")), ((1, 0), (1, 0)));
        drop(response);
        host.settles().await;
    }
}

#[tokio::test]
async fn a_response_that_is_never_read_ends_when_it_is_dropped() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::STREAM, |_| {});
    let response = open(&app, Call::default(), "/keep?chunks=3&ms=1").await;
    drop(response);
    host.settles().await;
}

#[tokio::test]
async fn a_body_that_is_not_wanted_is_no_departure() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::STREAM, |config| config.max_instances = Some(1));
    let mut head = request("/keep?chunks=1&ms=1");
    *head.method_mut() = http::Method::HEAD;
    drop(within("the head", app.handle(Call::default(), head)).await.unwrap());
    assert_eq!(host.usage("app"), (0, 0));
    host.settles().await;
}

/// The guest that traps takes its instance along: its neighbour's body must not look whole.
#[tokio::test]
async fn a_body_cut_by_a_neighbours_trap_ends_as_an_error() {
    let host = Host::new(&[("app", "2")]);
    let app = host.run(guests::STREAM, |config| config.max_instances = Some(1));
    let mut response = open(&app, Call::default(), "/keep?chunks=1000&ms=10").await;
    first_chunk(&mut response).await;
    assert_eq!(
        within("the trap", app.handle(Call::default(), request("/trap?ms=30"))).await.unwrap_err(),
        weir_wasm::HandleError::Trapped
    );
    let body = within("the rest", response.into_body().collect()).await;
    assert!(body.is_err(), "a cut body ended as if it were whole");
    host.settles().await;
}

#[tokio::test]
async fn a_body_past_the_deadline_ends_as_an_error() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::STREAM, |config| config.limits.deadline = Duration::from_millis(300));
    let mut response = open(&app, Call::default(), "/keep?chunks=1000&ms=50").await;
    first_chunk(&mut response).await;
    assert!(within("the rest", response.into_body().collect()).await.is_err());
    host.settles().await;
}

#[tokio::test]
async fn many_bodies_end_whole() {
    let host = Host::new(&[("app", "100")]);
    let app = host.run(guests::STREAM, |config| config.max_instances = Some(2));
    let mut bodies = Vec::new();
    for _ in 0..30 {
        let app = app.clone();
        bodies.push(tokio::spawn(async move {
            text(app.handle(Call::default(), request("/keep?chunks=5&ms=3")).await.unwrap()).await
        }));
    }
    for body in bodies {
        assert_eq!(within("a body", body).await.unwrap(), "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n");
    }
    host.settles().await;
}
