//! What an operator does to one counter: each verb, seen by those who hold, wait and come.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use weir_engine::{Limits, Outcome, Reason, Request};
use weir_tests::{key, until};

use crate::Served;
use crate::client::{Answer, Asked, get};

fn post(admin: SocketAddr, counter: &str, body: &impl ToString) -> Asked {
    get(admin, &format!("/v1/counters/{counter}")).method(Method::POST).json(body.to_string())
}

async fn operate(served: &Served, counter: &str, body: Value) -> Value {
    let answer: Answer = post(served.admin, counter, &body).once().await;
    assert_eq!(answer.status, 200, "{counter} {body}: {}", answer.body);
    answer.json()
}

fn call(served: &Served, scope: &str) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(get(served.ingress, &format!("/weir/scope/{scope}/call/app/plain")).once())
}

#[tokio::test]
async fn a_pause_holds_a_call_and_resume_lets_it_go() {
    let served = Served::new(&[("s", "1")]);
    assert_eq!(operate(&served, "s", json!({"verb": "pause"})).await["paused"], true);
    assert_eq!(operate(&served, "s", json!({"verb": "pause"})).await["paused"], true, "twice is once");
    let waiting = call(&served, "s");
    served.host.shows("s", 0, 1).await;
    let refused = get(served.ingress, "/weir/scope/s/call/app/plain").header("weir-max-wait", "0s").once().await;
    assert_eq!((refused.status.as_u16(), &refused.json()["reason"]), (503, &json!("paused")));
    assert_eq!(refused.json()["constraints"][0]["kind"], "paused");
    assert!(!waiting.is_finished());
    assert_eq!(operate(&served, "s", json!({"verb": "resume"})).await["paused"], false);
    assert_eq!(waiting.await.unwrap().status, 200);
    served.host.settles().await;
}

#[tokio::test]
async fn a_pause_of_a_pool_holds_all_that_match() {
    let served = Served::new(&[]);
    let body = json!({"changes": [{"put": {"pattern": "s/*", "concurrency": 2, "total": true}}]});
    assert_eq!(get(served.admin, "/v1/rules").method(Method::PUT).json(body.to_string()).once().await.status, 200);
    for path in ["s/*", "s%2F%2A"] {
        assert_eq!(operate(&served, path, json!({"verb": "pause"})).await["kind"], "pool");
    }
    let refusal = served.host.flow.try_acquire(&Request::new(key("s/a"))).unwrap_err();
    assert_eq!((refusal.reason, refusal.blocked_on[0].counter.as_str()), (Reason::Paused, "s/*"));
    operate(&served, "s/*", json!({"verb": "resume"})).await;
    // The pool holds two of all keys together.
    let held = ["s/a", "s/b"].map(|name| served.host.flow.try_acquire(&Request::new(key(name))).unwrap());
    let refusal = served.host.flow.try_acquire(&Request::new(key("s/c"))).unwrap_err();
    assert_eq!((refusal.blocked_on[0].counter.as_str(), refusal.blocked_on[0].used), ("s/*", 2));
    let pool = get(served.admin, "/v1/counters/s/*").once().await.json();
    assert_eq!((&pool["kind"], &pool["calls"], &pool["pattern"]), (&json!("pool"), &json!(2), &json!("s/*")));
    drop(held);
    served.host.settles().await;
}

#[tokio::test]
async fn pinned_numbers_replace_the_rules_until_they_are_taken_back() {
    let served = Served::new(&[("s", "1")]);
    let pin = json!({"verb": "pin", "limits": {"concurrency": 2, "rates": ["9/1h"], "max-wait": "5s"}});
    let pinned = operate(&served, "s", pin).await;
    assert_eq!(pinned["pinned"], json!({"concurrency": 2, "rates": ["9/1h"], "max-wait": "5s"}));
    assert_eq!((pinned.get("pattern"), &pinned["concurrency"]), (None, &json!(2)));
    let leases = [served.host.take("s"), served.host.take("s")];
    let waiting = call(&served, "s");
    served.host.shows("s", 2, 1).await;
    operate(&served, "s", json!({"verb": "pin", "limits": {"concurrency": 3}})).await;
    assert_eq!(waiting.await.unwrap().status, 200, "a pin that leaves more room lets go who waits");
    let unpinned = operate(&served, "s", json!({"verb": "unpin"})).await;
    assert_eq!((&unpinned["pattern"], &unpinned["concurrency"]), (&json!("s"), &json!(1)));
    assert!(unpinned.get("pinned").is_none());
    drop(leases);
    served.host.settles().await;
}

#[tokio::test]
async fn pinned_numbers_replace_what_callers_of_an_inline_key_bring() {
    let served = Served::new(&[]);
    let bring = |most: &str| {
        let limits = Limits { concurrency: Some(most.parse().unwrap()), ..Limits::default() };
        Request::unscoped().inline("s", "k", limits).unwrap()
    };
    let _lease = served.host.flow.try_acquire(&bring("1")).unwrap();
    assert!(served.host.flow.try_acquire(&bring("1")).is_err());
    let pinned = operate(&served, "s%23k", json!({"verb": "pin", "limits": {"concurrency": 2}})).await;
    assert_eq!((&pinned["counter"], &pinned["kind"]), (&json!("s#k"), &json!("inline")));
    assert!(served.host.flow.try_acquire(&bring("1")).is_ok());
}

#[tokio::test]
async fn a_reset_frees_a_rate() {
    let served = Served::new(&[]);
    let body = json!({"changes": [{"put": {"pattern": "s", "rates": ["1/1h"], "max-wait": "0s"}}]});
    get(served.admin, "/v1/rules").method(Method::PUT).json(body.to_string()).once().await;
    assert_eq!(call(&served, "s").await.unwrap().status, 200);
    assert_eq!(call(&served, "s").await.unwrap().status, 429);
    assert_eq!(operate(&served, "s", json!({"verb": "reset"})).await["rates"][0]["used"], 0);
    assert_eq!(call(&served, "s").await.unwrap().status, 200);
    assert_eq!(call(&served, "s").await.unwrap().status, 429);
}

#[tokio::test]
async fn a_drain_refuses_newcomers_and_finishes_who_is_there() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let waiting = call(&served, "s");
    served.host.shows("s", 1, 1).await;
    let draining = operate(&served, "s", json!({"verb": "drain"})).await;
    assert_eq!((&draining["draining"], &draining["drained"]), (&json!(true), &json!(false)));
    let newcomer = served.host.flow.try_acquire(&Request::new(key("s"))).unwrap_err();
    assert_eq!(newcomer.blocked_on[0].kind.as_str(), "draining");
    drop(lease);
    assert_eq!(waiting.await.unwrap().status, 200, "who waited is served");
    served.host.settles().await;
    let drained = get(served.admin, "/v1/counters/s").once().await.json();
    assert_eq!((&drained["draining"], &drained["drained"]), (&json!(true), &json!(true)));
    let newcomer = get(served.ingress, "/weir/scope/s/call/app/plain").header("weir-max-wait", "0s").once().await;
    assert_eq!(newcomer.status, 503);
    operate(&served, "s", json!({"verb": "resume"})).await;
    assert_eq!(call(&served, "s").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_pushback_is_shown_and_ended_by_resume() {
    let served = Served::new(&[]);
    let body = json!({"changes": [{"put": {"pattern": "s", "max-pushback": "1h"}}]});
    get(served.admin, "/v1/rules").method(Method::PUT).json(body.to_string()).once().await;
    served.host.take("s").release(Outcome::PushedBack(Duration::from_secs(600)));
    let shown = get(served.admin, "/v1/counters/s").once().await.json();
    let left = weir_engine::parse_duration(shown["pushed-back-for"].as_str().unwrap()).unwrap();
    assert!((590..=600).contains(&left.as_secs()), "{shown}");
    assert_eq!(shown["failed"], 1);
    let refused = get(served.ingress, "/weir/scope/s/call/app/plain").header("weir-max-wait", "0s").once().await;
    assert_eq!((refused.status.as_u16(), &refused.json()["reason"]), (503, &json!("pushed-back")));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 590, "{}", refused.body);
    operate(&served, "s", json!({"verb": "resume"})).await;
    assert_eq!(call(&served, "s").await.unwrap().status, 200);
}

#[tokio::test]
async fn shadow_limits_count_and_refuse_nothing() {
    let served = Served::new(&[]);
    let body = json!({"changes": [{"put": {"pattern": "s", "shadow-limits": {"concurrency": 1}}}]});
    get(served.admin, "/v1/rules").method(Method::PUT).json(body.to_string()).once().await;
    let _leases = [served.host.take("s"), served.host.take("s"), served.host.take("s")];
    let shown = get(served.admin, "/v1/counters/s").once().await.json();
    let expected = json!({"pattern": "s", "limits": {"concurrency": 1}, "would-refuse": 2});
    assert_eq!((&shown["shadow"], shown.get("pattern")), (&expected, None));
    let metrics = get(served.admin, "/metrics").once().await.body;
    assert!(metrics.lines().any(|line| line == "weir_shadow_refused_total 2"), "{metrics}");
}

#[tokio::test]
async fn bad_verbs_and_names_are_refused_by_field() {
    let served = Served::new(&[("s", "1")]);
    let (fits, long) = ("x".repeat(128), "x".repeat(129));
    let pause = r#"{"verb":"pause"}"#;
    for (counter, body, status, field, detail) in [
        ("s", "", 400, "body", "EOF"),
        ("s", "{}", 400, "body", "missing field `verb`"),
        ("s", r#"{"verb":"stop"}"#, 400, "verb", "unknown variant `stop`, expected one of `pause`"),
        ("s", r#"{"verb":"pause","for":"1s"}"#, 400, "for", "unknown field `for`"),
        ("s", r#"{"verb":"pin"}"#, 400, "limits", "pin needs limits"),
        ("s", r#"{"verb":"pin","limits":{}}"#, 400, "limits", "pin needs limits"),
        ("s", r#"{"verb":"pause","limits":{"concurrency":1}}"#, 400, "limits", "belong to the verb pin"),
        ("s", r#"{"verb":"pin","limits":{"concurrency":-1}}"#, 400, "limits.concurrency", "the least is 0"),
        ("s", r#"{"verb":"pin","limits":{"concurrency":4294967296}}"#, 400, "limits.concurrency", "the most is"),
        ("s", r#"{"verb":"pin","limits":{"rates":["3/1m","0/1m"]}}"#, 400, "limits.rates[1]", "`0` is not a number"),
        ("s", r#"{"verb":"pin","limits":{"rates":["3/1m","4/1m"]}}"#, 400, "limits", "two rates"),
        ("s", r#"{"verb":"pin","limits":{"rates":["1/1s","1/2s","1/3s","1/4s","1/5s"]}}"#, 400, "limits", "at most 4"),
        ("s", r#"{"verb":"pin","limits":{"max-waiters":1000001}}"#, 400, "limits", "too many"),
        ("s", r#"{"verb":"pin","limits":{"max-wait":"86401s"}}"#, 400, "limits", "at most 1day"),
        ("s", r#"{"verb":"pin","limits":{"max-pushback":"86401s"}}"#, 400, "limits", "at most 1day"),
        ("s", r#"{"verb":"pin","limits":{"max-pushback":"soon"}}"#, 400, "limits.max-pushback", "not a duration"),
        ("a%20b", pause, 400, "counter", "0x20 at position 1"),
        ("caf%C3%A9", pause, 400, "counter", "0xc3 at position 3"),
        ("a%00", pause, 400, "counter", "0x00 at position 1"),
        ("%FF", pause, 400, "counter", "UTF-8"),
        ("a//b", pause, 400, "counter", "empty"),
        ("a/b/c/d", pause, 400, "counter", "parts"),
        ("s%23", pause, 400, "counter", "empty"),
        ("s%23a/b", pause, 400, "counter", "`/` (0x2f)"),
        (&long, pause, 400, "counter", "129 bytes"),
        (&format!("{long}%23k"), pause, 400, "counter", "129 bytes"),
        ("s/*", pause, 404, "counter", "no pool `s/*`"),
        ("nowhere", r#"{"verb":"resume"}"#, 404, "counter", "no counter `nowhere`"),
        ("nowhere", r#"{"verb":"reset"}"#, 404, "counter", "no counter `nowhere`"),
        ("nowhere", r#"{"verb":"unpin"}"#, 404, "counter", "no counter `nowhere`"),
    ] {
        let answer = post(served.admin, counter, &body).once().await;
        assert_eq!(answer.status, status, "{counter} {body}: {}", answer.body);
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{counter} {body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{counter} {body}: {problem}");
    }
    for (counter, body) in [
        (&*fits, pause),
        (&format!("{fits}/{fits}/{fits}"), pause),
        (&format!("{fits}%23{fits}"), pause),
        ("s", r#"{"verb":"pin","limits":{"concurrency":0,"max-waiters":1000000}}"#),
        ("s", r#"{"verb":"pin","limits":{"concurrency":4294967295,"max-wait":"1day","max-pushback":"0s"}}"#),
    ] {
        assert_eq!(post(served.admin, counter, &body).once().await.status, 200, "{counter} {body}");
    }
    assert_eq!(post(served.admin, "", &pause).once().await.status, 404);
    assert_eq!(get(served.admin, "/v1/counters/nowhere").once().await.json()["reason"], "not-found");
    assert_eq!(get(served.admin, "/v1/counters/s").method(Method::PUT).once().await.status, 405);
    until("nothing is left but what was paused and pinned", || served.host.flow.metrics().counters == 4).await;
}
