//! Who is served first of the calls that wait: `weir-priority`, `weir-fairness-key`, `weir-weight`.

use crate::Served;
use crate::client::get;

/// The component acquires what its call holds: each answers with a greater fencing number than the one before.
const PATH: &str = "/weir/scope/s/call/app/acquire";

/// Lets calls wait one after the other, and answers in which order they were let in.
async fn order(served: &Served, calls: &[&[(&'static str, &str)]]) -> Vec<usize> {
    let lease = served.host.take("s");
    let mut waiting = Vec::new();
    for (index, headers) in calls.iter().enumerate() {
        let asked = headers.iter().fold(get(served.ingress, PATH), |asked, (name, value)| asked.header(name, value));
        waiting.push(tokio::spawn(asked.once()));
        served.host.shows("s", 1, index as u64 + 1).await;
    }
    drop(lease);
    let mut order = Vec::new();
    for (index, waiting) in waiting.into_iter().enumerate() {
        let body = waiting.await.unwrap().body;
        let fence = body.strip_prefix("granted|").and_then(|body| body.rsplit('|').next()?.parse::<u64>().ok());
        order.push((fence.unwrap_or_else(|| panic!("{body}")), index));
    }
    served.host.settles().await;
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

#[tokio::test]
async fn a_higher_priority_is_called_first() {
    let served = Served::new(&[("s", "1")]);
    let calls: &[&[_]] = &[&[("weir-priority", "0")], &[], &[("weir-priority", "255")], &[("weir-priority", "129")]];
    assert_eq!(order(&served, calls).await, [2, 3, 1, 0]);
}

#[tokio::test]
async fn fairness_keys_take_turns_and_a_weight_is_a_share() {
    let served = Served::new(&[("s", "1")]);
    let (a, b): (&[_], &[_]) = (&[("weir-fairness-key", "a")], &[("weir-fairness-key", "b")]);
    assert_eq!(order(&served, &[a, a, a, b, b]).await, [0, 3, 1, 4, 2]);
    let b: &[_] = &[("weir-fairness-key", "b"), ("weir-weight", "1000")];
    let granted = order(&served, &[a, a, a, b, b, b]).await;
    assert_eq!(granted.iter().take(4).filter(|index| **index >= 3).count(), 3, "{granted:?}");
}

#[tokio::test]
async fn a_free_call_carries_the_headers_on() {
    let served = Served::new(&[]);
    let answer = get(served.ingress, "/weir/call/app/plain").header("weir-priority", "high").once().await;
    assert_eq!(answer.body, "plain", "nobody reads it");
}
