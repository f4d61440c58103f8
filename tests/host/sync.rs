//! WASI 0.2: one request per instance, plain functions that may wait.

use std::time::Duration;
use weir_tests::{Host, get, get_as, guests, key, request, within};
use weir_wasm::{Call, HandleError};

#[tokio::test]
async fn it_acquires_and_gives_back() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::SYNC, |_| {});
    assert!(get(&app, "/acquire").await.unwrap().starts_with("granted|"));
    assert_eq!(get(&app, "/keep").await.unwrap(), "kept");
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
    host.settles().await;
}

#[tokio::test]
async fn it_waits_for_its_turn() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::SYNC, |_| {});
    let held = host.take("app");
    let waiting = tokio::spawn(async move { get(&app, "/acquire").await });
    host.shows("app", 1, 1).await;
    drop(held);
    assert!(within("the wait", waiting).await.unwrap().unwrap().starts_with("granted|"));
    host.settles().await;
}

#[tokio::test]
async fn the_lease_of_its_request_is_lent_to_it() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::SYNC, |_| {});
    let call = Call { key: Some(key("app")), lease: Some(host.take("app")) };
    assert!(get_as(&app, call, "/acquire").await.unwrap().starts_with("granted|"));
    host.settles().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_wait() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::SYNC, |_| {});
    let held = host.take("app");
    let call = Call { key: Some(key("other")), lease: Some(host.take("other")) };
    let waiting = tokio::spawn(async move { app.handle(call, request("/acquire")).await.map(|_| ()) });
    // It asks for the scope of its request, which it holds already: so another wait has to be found.
    let _ = within("an answer", waiting).await;
    let app = host.run(guests::SYNC, |_| {});
    let waiting = tokio::spawn(async move { app.handle(Call::default(), request("/acquire")).await.map(|_| ()) });
    host.shows("app", 1, 1).await;
    waiting.abort();
    host.shows("app", 1, 0).await;
    drop(held);
    host.settles().await;
}

#[tokio::test]
async fn a_trap_and_a_loop_end_it() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::SYNC, |config| config.limits.cpu = Duration::from_millis(50));
    assert_eq!(get(&app, "/trap").await, Err(HandleError::Trapped));
    host.settles().await;
    assert_eq!(get(&app, "/loop").await, Err(HandleError::Trapped));
    host.settles().await;
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
}

#[tokio::test]
async fn an_error_is_an_error_and_silence_is_no_response() {
    let host = Host::new(&[]);
    let app = host.run(guests::SYNC, |_| {});
    assert!(matches!(get(&app, "/error").await, Err(HandleError::Guest(_))));
    assert_eq!(get(&app, "/silent").await, Err(HandleError::NoResponse));
    host.settles().await;
}

#[tokio::test]
async fn it_settles_batches_and_says_how_it_ended() {
    let host = Host::new(&[("app", "10:cost")]);
    let app = host.run(guests::SYNC, |_| {});
    assert_eq!(get(&app, "/options").await.unwrap(), "1 bind");
    assert_eq!(get(&app, "/settle").await.unwrap(), "-6 +0|-0 +8");
    host.settles().await;
    assert!(host.counter("app").unwrap().pushed_back_for.is_some_and(|pause| pause <= Duration::from_secs(1)));
    // It waits until the pause is over.
    assert!(["2", "5"].contains(&get(&app, "/batch").await.unwrap().as_str()));
    assert_eq!(get(&app, "/batch").await.unwrap(), "5");
    let held: Vec<_> = (0..9).map(|_| host.take("app")).collect();
    let waiting = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/batch").await }
    });
    host.shows("app", 9, 1).await;
    drop(held);
    assert_eq!(within("the batch", waiting).await.unwrap().unwrap(), "2", "as soon as so many fit");
    host.settles().await;
}
