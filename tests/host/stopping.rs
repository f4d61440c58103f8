//! We own the guest: capacity is handed on when the work has really stopped, and the host makes it stop.

use std::time::Duration;
use tokio::task::JoinHandle;
use weir_tests::{Host, get, guests, key, request, text, within};
use weir_wasm::{Call, HandleError, Runner};

/// A client that can leave: aborting the task drops the future of `handle`.
fn client(runner: &Runner, call: Call, path: &str) -> JoinHandle<Result<String, HandleError>> {
    let (runner, request) = (runner.clone(), request(path));
    tokio::spawn(async move { Ok(text(runner.handle(call, request).await?).await) })
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_stops_its_request() {
    let host = Host::new(&[("app", "1"), ("in", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let client = client(&app, call, "/hold?scope=app&ms=3600000");
    host.shows("app", 1, 0).await;
    assert_eq!(host.usage("in"), (1, 0));
    client.abort();
    host.settles().await;
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
}

#[tokio::test]
async fn a_client_that_leaves_while_the_guest_waits_stops_its_request() {
    let host = Host::new(&[("app", "1"), ("in", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let held = host.take("app");
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let client = client(&app, call, "/acquire?scope=app");
    host.shows("app", 1, 1).await;
    client.abort();
    host.shows("app", 1, 0).await;
    host.shows("in", 0, 0).await;
    drop(held);
    host.settles().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_looping_guest_stops_it() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::HOSTILE, |config| config.limits.cpu = Duration::from_secs(3600));
    let client = client(&app, Call::default(), "/loop?scope=app");
    host.shows("app", 1, 0).await;
    client.abort();
    host.settles().await;
}

#[tokio::test]
async fn a_deadline_stops_a_request() {
    let host = Host::new(&[("app", "1"), ("in", "1")]);
    let app = host.run(guests::FLOW, |config| config.limits.deadline = Duration::from_millis(150));
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    assert_eq!(client(&app, call, "/hold?scope=app&ms=3600000").await.unwrap(), Err(HandleError::Deadline));
    host.settles().await;
}

/// In a shared instance one request cannot be stopped: it keeps what it holds until the others have ended.
#[tokio::test]
async fn an_abandoned_request_beside_others_keeps_its_lease_until_they_end() {
    let host = Host::new(&[("a", "1"), ("b", "1"), ("in", "1")]);
    let app = host.run(guests::FLOW, |config| {
        config.allow_scopes = vec!["*".into()];
        config.max_instances = Some(1);
    });
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let leaving = client(&app, call, "/hold?scope=a&ms=3600000");
    host.shows("a", 1, 0).await;
    let staying = client(&app, Call::default(), "/hold?scope=b&ms=300");
    host.shows("b", 1, 0).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!staying.is_finished(), "the machine is too slow for this test");
    assert_eq!((host.usage("a"), host.usage("in")), ((1, 0), (1, 0)), "its work still runs");
    assert_eq!(within("the neighbour", staying).await.unwrap().unwrap(), "held");
    host.settles().await;
    // The instance took no new requests; a new one does.
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
}

/// A wait is no work: it ends at once, whoever shares the instance.
#[tokio::test]
async fn an_abandoned_wait_beside_others_ends_at_once() {
    let host = Host::new(&[("a", "0"), ("b", "1")]);
    let app = host.run(guests::FLOW, |config| {
        config.allow_scopes = vec!["*".into()];
        config.max_instances = Some(1);
    });
    let staying = client(&app, Call::default(), "/hold?scope=b&ms=1000");
    host.shows("b", 1, 0).await;
    let leaving = client(&app, Call::default(), "/acquire?scope=a");
    host.shows("a", 0, 1).await;
    leaving.abort();
    host.shows("a", 0, 0).await;
    assert!(!staying.is_finished(), "the machine is too slow for this test");
    assert_eq!(within("the neighbour", staying).await.unwrap().unwrap(), "held");
    host.settles().await;
}

/// An abandoned request that returns by itself ends then, and not with its neighbours.
#[tokio::test]
async fn an_abandoned_request_that_returns_ends_then() {
    let host = Host::new(&[("a", "1"), ("b", "1")]);
    let app = host.run(guests::FLOW, |config| {
        config.allow_scopes = vec!["*".into()];
        config.max_instances = Some(1);
    });
    let leaving = client(&app, Call { key: Some(key("a")), lease: Some(host.take("a")) }, "/hold?scope=c&ms=300");
    host.shows("c", 1, 0).await;
    let staying = client(&app, Call::default(), "/hold?scope=b&ms=3000");
    host.shows("b", 1, 0).await;
    leaving.abort();
    host.shows("a", 0, 0).await;
    host.shows("c", 0, 0).await;
    assert!(!staying.is_finished(), "the machine is too slow for this test");
    staying.abort();
    host.settles().await;
}

#[tokio::test]
async fn an_isolated_request_stops_at_once_beside_others() {
    let host = Host::new(&[("a", "1"), ("b", "1")]);
    let app = host.run(guests::FLOW, |config| {
        config.allow_scopes = vec!["*".into()];
        config.isolate = true;
    });
    let leaving = client(&app, Call::default(), "/hold?scope=a&ms=3600000");
    host.shows("a", 1, 0).await;
    let staying = client(&app, Call::default(), "/hold?scope=b&ms=2000");
    host.shows("b", 1, 0).await;
    leaving.abort();
    host.shows("a", 0, 0).await;
    assert!(!staying.is_finished(), "the machine is too slow for this test");
    staying.abort();
    host.settles().await;
}

#[tokio::test]
async fn many_clients_come_and_go_and_nothing_is_lost() {
    let host = Host::new(&[("app", "3")]);
    let app = host.run(guests::FLOW, |config| config.max_instances = Some(3));
    let mut clients = Vec::new();
    for round in 0..200 {
        clients.push(client(&app, Call::default(), &format!("/hold?ms={}", round % 7)));
        if round % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            clients.swap_remove(round % clients.len()).abort();
        }
    }
    for client in clients {
        // Some shared an instance with one that was dropped; none may hang.
        let _ = within("a client", client).await;
    }
    host.settles().await;
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
}

/// Prints how long it takes from a client's leaving to the end of its guest's lease; a figure, not a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_disconnect_to_lease_end() {
    const ROUNDS: usize = 51;
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let client = client(&app, Call::default(), "/hold?ms=3600000");
        host.shows("app", 1, 0).await;
        let began = std::time::Instant::now();
        client.abort();
        while host.usage("app").0 > 0 {
            assert!(began.elapsed() < weir_tests::HANG, "the lease never ends");
            tokio::task::yield_now().await;
        }
        took.push(began.elapsed());
    }
    took.sort();
    println!("disconnect_to_lease_end_us_p50 {}", took[ROUNDS / 2].as_micros());
    println!("disconnect_to_lease_end_us_max {}", took[ROUNDS - 1].as_micros());
    host.settles().await;
}
