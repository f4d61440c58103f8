//! Who is served first of those who wait: priority, fair shares, arrival; and shares of the host's own bounds.

use tokio::task::JoinHandle;
use weir_engine::{Engine, EngineConfig, ShardLimits};
use weir_tests::{Host, get, guests, within};
use weir_wasm::Runner;

/// Lets guests wait one after the other, and answers in which order they were granted.
async fn order<'a>(host: &Host, app: &Runner, queries: &[&'a str]) -> Vec<&'a str> {
    let held = host.take("app");
    let mut waiting: Vec<(&str, JoinHandle<_>)> = Vec::new();
    for query in queries {
        let (app, path) = (app.clone(), format!("/acquire?{query}"));
        waiting.push((query, tokio::spawn(async move { get(&app, &path).await })));
        host.shows("app", 1, waiting.len() as u64).await;
    }
    drop(held);
    let mut granted = Vec::new();
    for (query, waiting) in waiting {
        let answer = within("the wait", waiting).await.unwrap().unwrap();
        // Fencing numbers grow with every grant of a counter.
        let fence: u64 = answer.strip_prefix("granted|").unwrap().rsplit('|').next().unwrap().parse().unwrap();
        granted.push((fence, query));
    }
    host.settles().await;
    granted.sort_unstable();
    granted.into_iter().map(|(_, query)| query).collect()
}

#[tokio::test]
async fn a_higher_priority_is_served_first() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let order = order(&host, &app, &["priority=0", "priority=127", "", "priority=129", "priority=255"]).await;
    assert_eq!(order, ["priority=255", "priority=129", "", "priority=127", "priority=0"]);
}

#[tokio::test]
async fn fairness_keys_take_turns_by_weight() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let (a, b) = ("fairness=a", "fairness=b");
    assert_eq!(order(&host, &app, &[a, a, a, b, b]).await, [a, b, a, b, a]);
    // Twice the weight is twice the share.
    let b = "fairness=b&weight=2";
    let granted = order(&host, &app, &[a, a, a, b, b, b, b]).await;
    assert_eq!(granted[..6].iter().filter(|query| **query == b).count(), 4, "{granted:?}");
    // Where nobody says anything, the limit key is the fairness key.
    let (a, b) = ("key=a", "key=b");
    assert_eq!(order(&host, &app, &[a, a, a, b, b]).await, [a, b, a, b, a]);
}

/// A component that hoards room for waiters, a bound of the host, leaves room for the others.
#[tokio::test]
async fn a_component_takes_no_more_than_its_share_of_a_cap() {
    let limits = ShardLimits { max_waiters: 12, ..ShardLimits::default() };
    let host = Host { flow: Engine::new(EngineConfig { shards: 1, limits, ..EngineConfig::default() }) };
    host.limit("app", "0");
    host.limit("other", "0");
    let hoarder = host.run(guests::FLOW, |_| {});
    let other = host.run(guests::FLOW, |config| {
        config.name = "other".into();
        config.scope = "other".into();
    });
    let wait = |runner: &Runner| {
        let runner = runner.clone();
        tokio::spawn(async move { get(&runner, "/acquire").await })
    };
    // One alone gets half of it.
    let mut waiting: Vec<_> = (0..6).map(|_| wait(&hoarder)).collect();
    host.shows("app", 0, 6).await;
    for _ in 0..6 {
        let answer = get(&hoarder, "/acquire").await.unwrap();
        assert!(answer.starts_with("overloaded|"), "{answer}");
    }
    assert_eq!(host.usage("app"), (0, 6));
    // And a newcomer finds room.
    waiting.extend((0..3).map(|_| wait(&other)));
    host.shows("other", 0, 3).await;
    host.limit("app", "10");
    host.limit("other", "10");
    for waiting in waiting {
        assert!(within("the wait", waiting).await.unwrap().unwrap().starts_with("granted|"));
    }
    host.settles().await;
}
