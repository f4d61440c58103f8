//! What the answer of a component says of the scope that it was called under.

use weir_tests::until;

use crate::Served;
use crate::client::get;

#[tokio::test]
async fn an_answer_that_asks_for_a_pause_closes_the_scope_for_so_long() {
    let served = Served::new(&[]);
    let path = "/weir/scope/s/call/app/status?status=503&retry-after=20";
    assert_eq!(get(served.ingress, path).header("weir-limit-key", "a").once().await.status, 503);
    served.host.settles().await;
    let plain = || get(served.ingress, "/weir/scope/s/call/app/plain").header("weir-max-wait", "0s");
    let answer = plain().header("weir-limit-key", "a").once().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (503, &"pushed-back".into()));
    let seconds: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((1..=20).contains(&seconds), "{seconds}");
    // Only what was named: not the whole scope.
    assert_eq!(plain().once().await.status, 200);
    assert_eq!(plain().header("weir-limit-key", "b").once().await.status, 200);
    served.host.settles().await;
}

#[tokio::test]
async fn failures_are_counted() {
    let served = Served::new(&[]);
    let mut failed = 0;
    for (path, status, fails) in
        [("plain", 200, 0), ("status?status=500", 500, 1), ("status?status=429", 429, 0), ("error", 502, 1)]
    {
        let answer = get(served.ingress, &format!("/weir/scope/s/call/app/{path}")).once().await;
        assert_eq!(answer.status, status, "{path}");
        failed += fails;
        until(path, || served.host.counter("s").is_some_and(|counter| counter.failed == failed)).await;
    }
    served.host.settles().await;
}
