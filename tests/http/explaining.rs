//! Explanations: winners and losers, usage, position, time, and what would change it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use weir_engine::{Limits, Request};
use weir_tests::key;

use crate::Served;
use crate::client::{Asked, get};

async fn put(served: &Served, rules: Value) {
    let changes: Vec<Value> = rules.as_array().unwrap().iter().map(|rule| json!({"put": rule})).collect();
    let body = json!({"changes": changes}).to_string();
    let answer = get(served.admin, "/v1/rules").method(Method::PUT).json(body).once().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn explain(served: &Served, query: &str) -> Value {
    let answer = get(served.admin, &format!("/v1/explain?{query}")).once().await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.json()
}

fn post(served: &Served, body: &str) -> Asked {
    get(served.admin, "/v1/explain").method(Method::POST).json(body.to_owned())
}

/// The same of a request in a body, which must change nothing.
async fn explain_body(served: &Served, body: &Value) -> Value {
    let before = served.host.state();
    let answer = post(served, &body.to_string()).once().await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    assert_eq!(served.host.state(), before, "{body}");
    answer.json()
}

fn names(explanation: &Value) -> Vec<&str> {
    let counters = explanation["counters"].as_array().unwrap();
    counters.iter().map(|counter| counter["counter"].as_str().unwrap()).collect()
}

fn duration(value: &Value) -> Duration {
    weir_engine::parse_duration(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn every_rule_that_matches_is_shown_with_its_standing() {
    let served = Served::new(&[]);
    put(
        &served,
        json!([
            {"pattern": "m/gpt", "concurrency": 2},
            {"pattern": "m/*", "concurrency": 5},
            {"pattern": "*/gpt", "concurrency": 9, "disabled": true},
            {"pattern": "*/*", "concurrency": 50, "total": true},
            {"pattern": "m", "shadow-limits": {"rates": ["3/1m"]}},
        ]),
    )
    .await;
    let shown = explain(&served, "scope=m&limit-key=gpt").await;
    assert!(shown.get("refusal").is_none() && shown.get("position").is_none(), "{shown}");
    assert_eq!(shown["forecast"], json!({"admitted-in": "0s", "estimated": false}));
    assert_eq!(shown["book-version"], get(served.admin, "/v1/rules").once().await.json()["version"]);
    let standings = |counter: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rules = counter["rules"].as_array().unwrap().iter();
        rules.map(|rule| (text(&rule["rule"]["pattern"]), text(&rule["standing"]))).collect()
    };
    let found: Vec<_> =
        shown["counters"].as_array().unwrap().iter().map(|c| (c["counter"].clone(), standings(c))).collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        found,
        [
            (json!("m"), vec![pair("m", "shadow")]),
            (
                json!("m/gpt"),
                vec![
                    pair("m/gpt", "binds"),
                    pair("m/*", "outranked"),
                    pair("*/gpt", "disabled"),
                    pair("*/*", "binds-pool")
                ]
            ),
            (json!("*/*"), vec![pair("*/*", "binds-pool")]),
        ]
    );
    let constraint = &shown["counters"][1]["constraints"][0];
    assert_eq!((&constraint["kind"], &constraint["in-the-way"]), (&json!("concurrency"), &json!(false)));
    assert!(constraint.get("remedy").is_none());
    served.host.settles().await;
}

#[tokio::test]
async fn what_is_in_the_way_has_a_place_a_time_and_a_remedy() {
    let served = Served::new(&[("s", "1")]);
    let _lease = served.host.take("s");
    let waiting = tokio::spawn(get(served.ingress, "/weir/scope/s/call/app/plain").once());
    served.host.shows("s", 1, 1).await;
    let shown = explain(&served, "scope=s&max-wait=1h").await;
    assert_eq!((&shown["refusal"]["reason"], &shown["refusal"]["status"]), (&json!("limited"), &json!(503)));
    assert_eq!((&shown["position"], &shown["forecast"]["estimated"]), (&json!(1), &json!(true)));
    // It goes before who waits by its priority.
    let first = explain(&served, "scope=s&max-wait=1h&priority=255").await;
    assert!(duration(&first["forecast"]["admitted-in"]) <= duration(&shown["forecast"]["admitted-in"]), "{first}");
    let counter = &shown["counters"][0];
    assert_eq!((&counter["calls"], &counter["waiting"]), (&json!(1), &json!(1)));
    let constraint = &counter["constraints"][0];
    assert_eq!(
        (&constraint["in-the-way"], &constraint["used"], &constraint["limit"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let remedy = constraint["remedy"].as_str().unwrap();
    assert!(remedy.contains("a lease ends in about") && remedy.contains("raise rule `s` above 1"), "{remedy}");
    waiting.abort();
}

#[tokio::test]
async fn the_time_of_a_rate_is_exact() {
    let served = Served::new(&[]);
    put(&served, json!([{"pattern": "s", "rates": ["1/30s"]}])).await;
    drop(served.host.take("s"));
    let shown = explain(&served, "scope=s").await;
    assert_eq!((&shown["refusal"]["status"], &shown["position"]), (&json!(429), &json!(0)));
    assert_eq!(shown["forecast"]["estimated"], false);
    let after = duration(&shown["forecast"]["admitted-in"]);
    assert!(after > Duration::ZERO && after <= Duration::from_secs(30), "{after:?}");
    // Not within its wait: no time at all.
    assert!(explain(&served, "scope=s&max-wait=1ms").await.get("forecast").is_none());
}

#[tokio::test]
async fn never_says_what_would_fit() {
    let served = Served::new(&[("s", "3:cost")]);
    let shown = explain(&served, "scope=s&cost=4").await;
    assert_eq!((&shown["refusal"]["reason"], &shown["refusal"]["status"]), (&json!("too-large"), &json!(422)));
    assert!(shown.get("forecast").is_none());
    let remedy = &shown["counters"][0]["constraints"][0]["remedy"];
    assert_eq!(remedy, "ask for 3 at most; or raise rule `s` above 3");
}

#[tokio::test]
async fn an_operators_hand_is_named() {
    let served = Served::new(&[("s", "1")]);
    let post = |body: &'static str| get(served.admin, "/v1/counters/s").method(Method::POST).json(body).once();
    post(r#"{"verb":"pin","limits":{"concurrency":2}}"#).await;
    let _leases = [served.host.take("s"), served.host.take("s")];
    let shown = explain(&served, "scope=s").await;
    assert_eq!(shown["counters"][0]["pinned"], json!({"concurrency": 2}));
    let remedy = shown["counters"][0]["constraints"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("raise the pin of `s` above 2"), "{remedy}");
    post(r#"{"verb":"pause"}"#).await;
    let shown = explain(&served, "scope=s").await;
    assert_eq!(shown["refusal"]["reason"], "paused");
    assert_eq!(shown["counters"][0]["constraints"][0]["remedy"], "resume `s`");
    assert!(shown.get("forecast").is_none());
}

#[tokio::test]
async fn asking_takes_nothing() {
    let served = Served::new(&[("s", "1")]);
    for _ in 0..3 {
        explain(&served, "scope=s&limit-key=a/b&cost=1&priority=0&fairness-key=f&weight=1000").await;
    }
    assert_eq!(served.host.flow.metrics().granted, 0);
    assert!(served.host.flow.try_acquire(&Request::new(key("s/a/b"))).is_ok());
    served.host.settles().await;
}

#[tokio::test]
async fn bad_questions_name_their_field() {
    let served = Served::new(&[]);
    let long = format!("scope={}", "x".repeat(129));
    for (query, field, detail) in [
        ("", "scope", "missing"),
        ("scope=", "scope", "empty"),
        ("scope=a%20b", "scope", "0x20"),
        ("scope=%FF", "scope", "0xff"),
        ("scope=a/b", "scope", "`/`"),
        (&long, "scope", "129 bytes"),
        ("scope=s&limit-key=", "limit-key", "empty"),
        ("scope=s&limit-key=a/b/c", "limit-key", "parts"),
        ("scope=s&limit-key=a/*", "limit-key", "`*`"),
        ("scope=s&cost=0", "cost", "cost=0: expected a number from 1 to 4294967295"),
        ("scope=s&cost=4294967296", "cost", "from 1 to 4294967295"),
        ("scope=s&cost=1.5", "cost", "cost=1.5: expected a number from 1 to 4294967295"),
        ("scope=s&priority=256", "priority", "from 0 to 255"),
        ("scope=s&priority=-1", "priority", "from 0 to 255"),
        ("scope=s&max-wait=soon", "max-wait", "soon"),
        ("scope=s&fairness-key=a%20b", "fairness-key", "0x20"),
        ("scope=s&fairness-key=f&weight=1001", "weight", "from 1 to 1000"),
        ("scope=s&weight=1001", "weight", "from 1 to 1000"),
        ("scope=s&weight=0", "weight", "weight=0: expected a number from 1 to 1000"),
        ("scope=s&colour=red", "query", "unknown field `colour`"),
    ] {
        let answer = get(served.admin, &format!("/v1/explain?{query}")).once().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!(field)), "{query}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{query}: {}", answer.body);
    }
    for query in ["scope=s&cost=4294967295", "scope=s&priority=0", "scope=s&priority=255", "scope=s&max-wait=0s"] {
        explain(&served, query).await;
    }
}

#[tokio::test]
async fn a_body_is_answered_as_a_query_is() {
    let served = Served::new(&[("m", "3:cost"), ("m/*", "1")]);
    for (query, body) in [
        ("scope=m", json!({"scope": "m"})),
        (
            "scope=m&limit-key=gpt&cost=2&priority=9&max-wait=5s&fairness-key=f&weight=3",
            json!({"scope": "m", "limit-key": "gpt", "cost": 2, "priority": 9, "max-wait": "5s", "fairness-key": "f",
                "weight": 3}),
        ),
        ("scope=m&cost=4", json!({"scope": "m", "cost": 4, "lease-time": "1h", "idempotency-key": "k"})),
    ] {
        assert_eq!(explain_body(&served, &body).await, explain(&served, query).await, "{body}");
    }
}

#[tokio::test]
async fn several_keys_are_one_request() {
    let served = Served::new(&[("a", "1"), ("b/x", "1")]);
    let _held = served.host.take("b/x");
    let body = json!({"scope": "a", "targets": [{"scope": "b", "limit-key": "x"}, {"scope": "b", "limit-key": "y"}],
        "flow-controls": [{"key": "plan", "concurrency": 2, "rates": ["5/1m"]}], "max-wait": "1h"});
    let shown = explain_body(&served, &body).await;
    assert_eq!(names(&shown), ["a", "b", "b/x", "b/y", "a#plan"], "each once, those of a key together");
    assert_eq!((&shown["refusal"]["reason"], &shown["position"]), (&json!("limited"), &json!(0)));
    assert_eq!(shown["forecast"]["estimated"], true);
    let counters = shown["counters"].as_array().unwrap();
    let in_the_way = |counter: &Value| -> Vec<bool> {
        let constraints = counter["constraints"].as_array().unwrap();
        constraints.iter().map(|constraint| constraint["in-the-way"].as_bool().unwrap()).collect()
    };
    let found: Vec<Vec<bool>> = counters.iter().map(in_the_way).collect();
    assert_eq!(found, [vec![false], vec![], vec![true], vec![], vec![false, false]]);
    assert_eq!((&counters[4]["kind"], &counters[4]["rules"]), (&json!("inline"), &json!([])));
}

#[tokio::test]
async fn limits_that_a_request_brings_are_explained() {
    let served = Served::new(&[]);
    let one = Limits { concurrency: Some("1".parse().unwrap()), ..Limits::default() };
    let holder = Request::new(key("s")).inline("s", "plan", one).unwrap();
    let _held = served.host.flow.try_acquire(&holder).unwrap();
    let asked =
        |concurrency: u32| json!({"scope": "s", "flow-controls": [{"key": "plan", "concurrency": concurrency}]});
    let shown = explain_body(&served, &asked(1)).await;
    let constraint = &shown["counters"][1]["constraints"][0];
    assert_eq!((&constraint["counter"], &constraint["in-the-way"]), (&json!("s#plan"), &json!(true)), "{shown}");
    let remedy = constraint["remedy"].as_str().unwrap();
    assert!(remedy.contains("raise the numbers it brings above 1"), "{remedy}");
    assert!(explain_body(&served, &asked(2)).await.get("refusal").is_none());
}

#[tokio::test]
async fn a_batch_is_explained_by_its_least() {
    let served = Served::new(&[("s", "5")]);
    let _held = ["s"; 3].map(|scope| served.host.take(scope));
    let some = explain_body(&served, &json!({"scope": "s", "count": 4, "least": 2})).await;
    assert!(some.get("refusal").is_none(), "{some}");
    let all = explain_body(&served, &json!({"scope": "s", "count": 4})).await;
    let constraint = &all["counters"][0]["constraints"][0];
    assert_eq!(
        (&all["refusal"]["reason"], &constraint["used"], &constraint["limit"]),
        (&json!("limited"), &json!(3), &json!(5))
    );
    let never = explain_body(&served, &json!({"scope": "s", "count": 6})).await;
    assert_eq!(never["refusal"]["reason"], "too-large");
    let remedy = &never["counters"][0]["constraints"][0]["remedy"];
    assert_eq!(remedy, "ask for 5 at most; or raise rule `s` above 5");
}

#[tokio::test]
async fn bad_bodies_name_their_field() {
    let served = Served::new(&[("s", "1")]);
    let before = served.host.state();
    let further: Vec<Value> = (0..16).map(|n| json!({"scope": format!("t{n}")})).collect();
    let seventeen = json!({"scope": "s", "targets": further}).to_string();
    for (body, field, detail) in [
        ("", "body", "EOF"),
        ("{", "body", "EOF"),
        ("scope=s", "body", "no JSON object"),
        ("[]", "body", "no JSON object"),
        ("{}", "body", "missing field `scope`"),
        (r#"{"scope":"s"} x"#, "body", "trailing characters"),
        (r#"{"scope":"s","speed":1}"#, "speed", "unknown field `speed`"),
        (r#"{"scope":1}"#, "scope", "invalid type"),
        (r#"{"scope":"s","cost":"1"}"#, "cost", "invalid type"),
        (r#"{"scope":"s","targets":[["t",null]]}"#, "targets[0]", "expected an object"),
        (&seventeen, "targets", "16 further keys: at most 15"),
        (r#"{"scope":"a b"}"#, "scope", "0x20"),
        (r#"{"scope":"s","targets":[{"scope":"t","limit-key":"a*"}]}"#, "targets[0].limit-key", "`*`"),
        (r#"{"scope":"s","flow-controls":[{"key":"a/b"}]}"#, "flow-controls[0]", "`/`"),
        (r#"{"scope":"s","count":2,"least":3}"#, "least", "a batch of 2, at least 3"),
    ] {
        let answer = post(&served, body).once().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!(field)), "{body}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{body}: {}", answer.body);
    }
    let good = || get(served.admin, "/v1/explain").body(r#"{"scope":"s"}"#);
    let large = format!(r#"{{"scope":"{}"}}"#, "a".repeat(70_000));
    let put = good().method(Method::PUT).once().await;
    assert!(put.header("allow").contains("POST"), "{put:?}");
    let query = get(served.admin, "/v1/explain?cost=1").method(Method::POST).body(r#"{"scope":"s"}"#);
    for (answer, status, part) in [
        (
            good().method(Method::POST).header("content-type", "text/plain").once().await,
            415,
            "content-type: application/json",
        ),
        (post(&served, &large).once().await, 413, "65536 bytes"),
        (query.header("content-type", "application/json").once().await, 400, "`cost=1`"),
        (put, 405, "method-not-allowed"),
    ] {
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
        assert!(answer.body.contains(part), "`{part}` is missing in {}", answer.body);
    }
    assert_eq!(served.host.state(), before);
}
