//! Thousands who wait for one scope, and the others who notice nothing of it.

use tokio::task::JoinSet;

use crate::Served;
use crate::client::{get, http2};

/// How many wait.
const WAITING: usize = 5_000;
/// How many of them on one connection: what the server allows.
const STREAMS: usize = 100;

#[tokio::test]
async fn with_five_thousand_waiting_on_a_b_still_answers() {
    let served = Served::new(&[("a", "1"), ("b", "1")]);
    let lease = served.host.take("a");
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING / STREAMS {
        let client = http2();
        for _ in 0..STREAMS {
            let (client, asked) = (client.clone(), get(served.ingress, "/weir/scope/a/call/app/plain"));
            waiting.spawn(async move { asked.send(&client).await.status });
        }
    }
    served.host.shows("a", 1, WAITING as u64).await;

    for _ in 0..20 {
        assert_eq!(get(served.ingress, "/weir/scope/b/call/app/plain").once().await.body, "plain");
        assert_eq!(get(served.admin, "/healthz").once().await.status, 200);
    }
    let counters = get(served.admin, "/v1/counters?prefix=a").once().await.json();
    assert_eq!(counters["counters"][0]["waiting"], WAITING);

    // Some get their turn, the others leave.
    drop(lease);
    for _ in 0..50 {
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), 200);
    }
    waiting.shutdown().await;
    served.host.settles().await;
}
