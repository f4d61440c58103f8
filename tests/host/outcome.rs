//! How work ended: what a guest says when it releases, and what its answer says of the lease of its request.

use std::time::Duration;
use weir_tests::{Host, get, get_as, guests, key, request, until};
use weir_wasm::{Call, HandleError, Runner};

/// How long a counter is closed yet, and how many leases at it failed.
fn state(host: &Host, counter: &str) -> (Option<Duration>, u64) {
    host.counter(counter).map_or((None, 0), |found| (found.pushed_back_for, found.failed))
}

#[tokio::test]
async fn a_pushback_closes_the_counter_for_a_while() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let path = "/release?key=k&outcome=pushed-back&pause_ms=30000";
    assert_eq!(get(&app, path).await.unwrap(), "released");
    let answer = get(&app, "/try?key=k").await.unwrap();
    assert!(answer.starts_with("pushed-back|pushed-back: "), "{answer}");
    let seconds = answer.rsplit_once("retry after ").unwrap().1.split('s').next().unwrap().parse::<u64>().unwrap();
    assert!((1..=30).contains(&seconds), "{answer}");
    assert!(get(&app, "/check?key=k").await.unwrap().starts_with("pushed-back|"));
    // Only what was named: neither the scope nor its other keys.
    assert_eq!(get(&app, "/try").await.unwrap(), "granted");
    assert_eq!(get(&app, "/try?key=other").await.unwrap(), "granted");
    host.settles().await;
}

#[tokio::test]
async fn who_waits_for_a_pushback_is_granted_after_it() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    get(&app, "/release?outcome=pushed-back&pause_ms=200").await.unwrap();
    let began = std::time::Instant::now();
    assert!(get(&app, "/acquire").await.unwrap().starts_with("granted|"));
    assert!(began.elapsed() >= Duration::from_millis(100), "never early");
    host.settles().await;
}

#[tokio::test]
async fn a_pause_is_a_second_if_unsaid_and_has_a_bound() {
    for (outcome, least, most) in [("pushed-back", 0, 1), ("pushed-back-forever", 50, 60)] {
        let host = Host::new(&[]);
        let app = host.run(guests::FLOW, |_| {});
        get(&app, &format!("/release?outcome={outcome}")).await.unwrap();
        let pause = state(&host, "app").0.expect("a pause");
        assert!((Duration::from_secs(least)..=Duration::from_secs(most)).contains(&pause), "{outcome}: {pause:?}");
    }
    // None at all closes nothing.
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    get(&app, "/release?outcome=pushed-back&pause_ms=0").await.unwrap();
    assert_eq!(get(&app, "/try").await.unwrap(), "granted");
}

#[tokio::test]
async fn a_failure_is_counted_and_closes_nothing() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    for outcome in ["ok", "failed"] {
        assert_eq!(get(&app, &format!("/release?outcome={outcome}")).await.unwrap(), "released");
    }
    assert_eq!(state(&host, "app"), (None, 1));
    host.settles().await;
}

#[tokio::test]
async fn an_outcome_of_a_lost_lease_does_nothing() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let path = "/release?lease_ms=100&ms=200&outcome=pushed-back&pause_ms=30000";
    assert_eq!(get(&app, path).await.unwrap(), "released");
    assert_eq!(state(&host, "app"), (None, 0));
    host.settles().await;
}

/// Calls with a lease under `in`, and answers what became of its counter.
async fn called(host: &Host, app: &Runner, path: &str) -> (Option<Duration>, u64) {
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let _answer = get_as(app, call, path).await;
    host.settles().await;
    state(host, "in")
}

#[tokio::test]
async fn the_answer_says_how_the_request_ended() {
    for (path, failed) in [
        ("/plain", 0),
        ("/status?status=404", 0),
        ("/status?status=429", 0),
        ("/status?status=500", 1),
        ("/status?status=500&retry-after=20", 1),
        ("/status?status=503", 1),
        ("/status?status=503&retry-after=soon", 1),
        ("/error", 1),
    ] {
        let host = Host::new(&[]);
        let app = host.run(guests::FLOW, |_| {});
        assert_eq!(called(&host, &app, path).await, (None, failed), "{path}");
    }
    for status in [429, 503] {
        let host = Host::new(&[]);
        let app = host.run(guests::FLOW, |_| {});
        let (pause, failed) = called(&host, &app, &format!("/status?status={status}&retry-after=20")).await;
        assert!(pause.is_some_and(|pause| pause <= Duration::from_secs(20)), "{status}: {pause:?}");
        assert_eq!(failed, 1);
    }
}

/// A limit in the guest must not close the scope that the guest was called by.
#[tokio::test]
async fn a_refusal_that_is_passed_on_pushes_nothing_back() {
    let host = Host::new(&[("app", "0")]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(called(&host, &app, "/status?status=429&retry-after=20&scope=app").await, (None, 0));
    assert_eq!(called(&host, &app, "/status?status=503&retry-after=20&scope=app").await, (None, 1));
}

#[tokio::test]
async fn a_trap_and_a_deadline_are_failures_and_a_client_that_leaves_is_none() {
    let host = Host::new(&[]);
    let bad = host.run(guests::HOSTILE, |_| {});
    assert_eq!(called(&host, &bad, "/trap").await, (None, 1));
    let flow = host.run(guests::FLOW, |_| {});
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let response = flow.handle(call, request("/trap-in-body")).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(body.is_err(), "not as if it were whole");
    host.settles().await;
    assert_eq!(state(&host, "in"), (None, 2));
    let late = host.run(guests::HOSTILE, |config| config.limits.deadline = Duration::from_millis(100));
    assert_eq!(called(&host, &late, "/sleep").await, (None, 3));

    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let leaving = tokio::spawn({
        let bad = bad.clone();
        async move { bad.handle(call, request("/sleep?scope=app")).await.map(drop) }
    });
    until("it runs", || host.usage("app").0 == 1).await;
    leaving.abort();
    host.settles().await;
    assert_eq!(state(&host, "in"), (None, 3));

    let sync = host.run(guests::SYNC, |_| {});
    let call = || Call { key: Some(key("sync")), lease: Some(host.take("sync")) };
    assert_eq!(get_as(&sync, call(), "/trap").await, Err(HandleError::Trapped));
    host.settles().await;
    assert_eq!(get_as(&sync, call(), "/silent").await, Err(HandleError::NoResponse));
    host.settles().await;
    assert_eq!(state(&host, "sync"), (None, 2));
}
