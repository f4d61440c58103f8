//! Whose call is it? Many requests at once in few instances, with task ids that come round again.

use std::sync::Arc;
use weir_tests::{Host, get_as, guests, key};
use weir_wasm::Call;

const AT_ONCE: usize = 16;
const EACH: usize = 40;

/// `r/*` admits nothing of this size, so the refusal names the counter, and the counter names the request.
const RULE: (&str, &str) = ("r/*", "5:cost");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_seen_under_the_key_of_its_request() {
    let host = Host::new(&[RULE]);
    let app = host.run(guests::ATTRIBUTION, |config| config.max_instances = Some(2));
    let app = Arc::new(app);
    let mut tasks = Vec::new();
    for lane in 0..AT_ONCE {
        let app = app.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..EACH {
                let me = format!("r/{lane}-{round}");
                let call = Call { key: Some(key(&me)), lease: None };
                let seen = get_as(&app, call, &format!("/?ms={}", (lane + round) % 3)).await.unwrap();
                assert_eq!(seen, format!("{me} {me} {me}"));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    host.settles().await;
}

#[tokio::test]
async fn without_a_key_a_call_is_seen_under_the_component() {
    let host = Host::new(&[("app", "5:cost")]);
    let app = host.run(guests::ATTRIBUTION, |_| {});
    assert_eq!(get_as(&app, Call::default(), "/").await.unwrap(), "app app app");
    let isolated = host.run(guests::ATTRIBUTION, |config| config.isolate = true);
    assert_eq!(get_as(&isolated, Call::default(), "/").await.unwrap(), "app app app");
}
