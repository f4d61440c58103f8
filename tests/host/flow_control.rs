//! Inline flow control: a key under the scope of the call, with the limits that the request brings.

use weir_engine::{Limits, Verb};
use weir_tests::{Host, get, get_as, guests, key};
use weir_wasm::Call;

#[tokio::test]
async fn each_request_is_admitted_under_its_own_numbers() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let holding = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/hold?flow=k;c:1&ms=3600000").await }
    });
    host.shows("app#k", 1, 0).await;
    // One is held: too many for who brings 1, and not for who brings 2, or another key.
    let answer = get(&app, "/try?flow=k;c:1").await.unwrap();
    assert!(answer.starts_with("limited|") && answer.contains("`app#k` (1/1)"), "{answer}");
    assert_eq!(get(&app, "/try?flow=k;c:2").await.unwrap(), "granted");
    assert_eq!(get(&app, "/try?flow=other;c:1").await.unwrap(), "granted");
    assert_eq!(get(&app, "/check?flow=k;c:2").await.unwrap(), "would be granted|app#k 1/2");
    assert!(get(&app, "/try?flow=k;c:0").await.unwrap().contains("`app#k` is closed"));
    holding.abort();
    host.settles().await;
}

#[tokio::test]
async fn rates_and_cost_are_counted_under_every_set_of_numbers() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/try?flow=k;w:2/3600000").await.unwrap(), "granted");
    assert!(get(&app, "/try?flow=k;w:1/3600000").await.unwrap().starts_with("limited|"));
    assert_eq!(get(&app, "/try?flow=k;w:2/3600000").await.unwrap(), "granted");
    assert!(get(&app, "/try?flow=k;w:2/3600000").await.unwrap().starts_with("limited|"));
    assert_eq!(get(&app, "/try?flow=k;w:3/3600000").await.unwrap(), "granted", "the highest wins meanwhile");
    // Two kinds at one key, and two keys in one step.
    assert_eq!(
        get(&app, "/check?flow=a;c:2;cost:9;s:9/1000/5$&flow=b;c:1").await.unwrap(),
        "would be granted|app#a 0/9,app#a 0/5,app#b 0/1"
    );
    assert!(get(&app, "/acquire?cost=6&flow=a;s:9/1000/5$").await.unwrap().starts_with("too-large|"));
    assert!(get(&app, "/acquire?cost=5&flow=a;s:9/1000/5$").await.unwrap().starts_with("granted|"));
    host.settles().await;
}

#[tokio::test]
async fn it_is_under_the_scope_of_the_call() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["mine".into()]);
    let shown = "would be granted|mine#k 0/1";
    assert_eq!(get(&app, "/check?scope=mine&flow=k;c:1").await.unwrap(), shown);
    assert!(get(&app, "/check?scope=theirs&flow=k;c:1").await.unwrap().starts_with("denied|"));
    let call = Call { key: Some(key("tenant/a")), lease: None };
    assert_eq!(get_as(&app, call, "/check?flow=k;c:1").await.unwrap(), "would be granted|tenant#k 0/1");
}

#[tokio::test]
async fn numbers_that_an_operator_has_pinned_hold() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let pin = Verb::Pin(Limits { concurrency: Some("0".parse().unwrap()), ..Limits::default() });
    let counter = "app#k".parse().unwrap();
    host.flow.operate(&counter, &pin).unwrap();
    assert!(get(&app, "/try?flow=k;c:9").await.unwrap().starts_with("limited|"));
    host.flow.operate(&counter, &Verb::Unpin).unwrap();
    assert_eq!(get(&app, "/try?flow=k;c:9").await.unwrap(), "granted");
    host.settles().await;
}
