//! A WASI 0.3 guest that calls plain functions: it may not wait where it would stall its neighbours.

use weir_tests::{Host, get, guests, within};

use crate::keeping;

#[tokio::test]
async fn what_is_free_is_granted() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::BLOCKING, |_| {});
    assert_eq!(get(&app, "/").await.unwrap(), "granted");
    host.settles().await;
}

#[tokio::test]
async fn a_wait_would_block_the_instance() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::BLOCKING, |_| {});
    let held = host.take("app");
    assert!(get(&app, "/").await.unwrap().starts_with("Reason::WouldBlock|"));
    host.shows("app", 1, 0).await;
    drop(held);
    host.settles().await;
}

/// With a data directory a start may wait for the disk. It is granted then, and waits for nobody.
#[tokio::test]
async fn what_is_only_being_written_down_is_granted() {
    let (_directory, host) = keeping();
    host.rule("app", None, &["1000/1h"]);
    let app = host.run(guests::BLOCKING, |_| {});
    for _ in 0..130 {
        assert_eq!(get(&app, "/").await.unwrap(), "granted");
    }
    host.settles().await;
}

#[tokio::test]
async fn an_isolated_instance_may_be_blocked() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::BLOCKING, |config| config.isolate = true);
    let held = host.take("app");
    let waiting = tokio::spawn(async move { get(&app, "/").await });
    host.shows("app", 1, 1).await;
    drop(held);
    assert_eq!(within("the wait", waiting).await.unwrap().unwrap(), "granted");
    host.settles().await;
}
