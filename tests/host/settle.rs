//! Settling: what the work really cost; and batches.

use weir_tests::{Host, get, guests, within};

#[tokio::test]
async fn what_is_settled_shows_on_the_counter() {
    let host = Host::new(&[]);
    host.rule("app", Some("5000:cost"), &["10000/1h:cost", "9/1h"]);
    let app = host.run(guests::FLOW, |_| {});
    // Reserve 4,000 and use 1,250; say so again; then find out that it was more than there is.
    let answer = get(&app, "/settle?cost=4000&to=1250&to=1250&to=6000").await.unwrap();
    assert_eq!(
        answer,
        "-2750 +0 app 1250/5000,app 1250/10000,app 1/9|-0 +0 app 1250/5000,app 1250/10000,app 1/9|-0 +4750 app 6000/5000"
    );
    host.settles().await;
    let counter = host.counter("app").unwrap();
    let used: Vec<u64> = counter.rates.iter().map(|rate| rate.used).collect();
    assert_eq!((used, counter.cost), (vec![6000, 1], 0), "what was used stays in the window");
}

#[tokio::test]
async fn a_refund_serves_who_waits() {
    let host = Host::new(&[("app", "10:cost")]);
    let app = host.run(guests::FLOW, |_| {});
    let settling = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/settle?cost=10&ms=100&to=4").await }
    });
    host.shows("app", 1, 0).await;
    let answer = within("the refund", get(&app, "/acquire?cost=6")).await.unwrap();
    assert!(answer.starts_with("granted|"), "{answer}");
    assert!(settling.await.unwrap().unwrap().starts_with("-6 +0"));
    host.settles().await;
}

#[tokio::test]
async fn nothing_is_settled_where_nothing_counts_cost_or_the_lease_is_lost() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    // Cost is counted where no limit asks for it too, and shown to operators.
    assert_eq!(get(&app, "/settle?cost=3&to=0&to=4294967295").await.unwrap(), "-3 +0 app 1/1|-0 +4294967295 app 1/1");
    host.settles().await;
    assert_eq!(get(&app, "/settle?cost=3&lease_ms=100&ms=200&to=1").await.unwrap(), "lost app 0/1");
    host.settles().await;
}

#[tokio::test]
async fn a_batch_takes_what_fits() {
    let host = Host::new(&[]);
    host.rule("app", Some("5"), &["100/1h:cost"]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/batch?count=3&least=1&cost=10").await.unwrap(), "3 3 app 3/5,app 30/100");
    host.settles().await;
    assert_eq!(get(&app, "/batch?count=9&least=2&cost=1").await.unwrap(), "5 5 app 5/5", "a part of it");
    host.settles().await;
    // 65 units are left of the rate, and so room for three of 20.
    assert_eq!(get(&app, "/batch?count=5&least=3&cost=20").await.unwrap(), "3 3 app 3/5,app 95/100");
    host.settles().await;
    host.limit("app", "5");
    let held = host.take("app");
    let short = get(&app, "/batch?count=5&least=5&wait_ms=0").await.unwrap();
    assert!(short.starts_with("limited|"), "{short}");
    assert!(get(&app, "/batch?count=6&least=6").await.unwrap().starts_with("too-large|"));
    assert_eq!(host.usage("app"), (1, 0), "all that it is content with, or nothing");
    let waiting = tokio::spawn(async move { get(&app, "/batch?count=5&least=5").await });
    host.shows("app", 1, 1).await;
    drop(held);
    assert_eq!(within("the batch", waiting).await.unwrap().unwrap(), "5 5 app 5/5");
    host.settles().await;
}

#[tokio::test]
async fn a_batch_that_is_not_one_is_invalid() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    for (query, says) in [
        ("count=0&least=0", "a batch of 0, at least 0"),
        ("count=1&least=0", "a batch of 1, at least 0"),
        ("count=2&least=3", "a batch of 2, at least 3"),
        ("count=1001", "a batch of 1001"),
        ("count=4294967295&least=4294967295", "a batch of 4294967295"),
        ("count=1000&cost=4294968", "is more than 4294967295"),
        ("count=1&cost=0", "the cost is 0"),
    ] {
        let answer = get(&app, &format!("/batch?{query}")).await.unwrap();
        assert!(answer.starts_with("invalid|invalid: ") && answer.contains(says), "{query}: {answer}");
    }
    assert_eq!(host.flow.metrics().granted, 0);
    assert_eq!(get(&app, "/batch?count=1000&least=1000").await.unwrap(), "1000 1000 ");
    host.settles().await;
    // Two of these would be more than a request may hold, and the second is not even asked for.
    let answer = get(&app, "/batch?count=1000&least=1000&twice=1").await.unwrap();
    assert!(answer.starts_with("overloaded|overloaded: this request holds 1024 leases"), "{answer}");
    assert_eq!(host.flow.metrics().granted, 2_000);
    host.settles().await;
    assert_eq!(get(&app, "/batch?count=1000&least=1&twice=1").await.unwrap(), "24 24 ");
    host.settles().await;
}
