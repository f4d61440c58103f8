//! The admin API: rules, counters, components, health, metrics.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::Served;
use crate::client::{Answer, get};

async fn put(admin: SocketAddr, batch: &Value) -> Answer {
    get(admin, "/v1/rules").method(Method::PUT).json(batch.to_string()).once().await
}

#[tokio::test]
async fn rules_go_round() {
    let served = Served::new(&[]);
    let rule = json!({"pattern": "tenant/*", "concurrency": 5, "rates": ["3/1m", "10000/1m:cost"], "max-waiters": 7, "max-wait": "30s", "description": "each tenant"});
    let answer = put(served.admin, &json!({"changes": [{"put": rule, "if-absent": true}]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["differences"], json!([{"pattern": "tenant/*", "kind": "added"}]));

    let book = get(served.admin, "/v1/rules").once().await;
    assert_eq!(book.header("etag"), format!("\"{}\"", book.json()["version"]));
    let shown = &book.json()["rules"][0];
    for (field, value) in rule.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(shown["disabled"], false);
    assert!(shown["last-modified"].as_str().unwrap().starts_with("20"));
    assert_eq!(get(served.admin, "/v1/rules").header("if-none-match", book.header("etag")).once().await.status, 304);

    // The same again changes nothing; a patch keeps what it does not name.
    let again = put(served.admin, &json!({"changes": [{"put": rule}]})).await.json();
    assert_eq!(again["differences"], json!([]));
    put(served.admin, &json!({"changes": [{"patch": {"pattern": "tenant/*", "concurrency": null, "rates": []}}]}))
        .await;
    for path in ["/v1/rules/tenant/*", "/v1/rules/tenant/%2A"] {
        let shown = get(served.admin, path).once().await.json();
        assert_eq!(
            (shown.get("concurrency"), shown.get("rates"), &shown["max-wait"]),
            (None, None, &json!("30s")),
            "{path}"
        );
    }

    let version = get(served.admin, "/v1/rules/tenant/*").once().await.header("etag").to_owned();
    let delete =
        |tag: &str| get(served.admin, "/v1/rules/tenant/*").method(Method::DELETE).header("if-match", tag).once();
    assert_eq!(delete("\"99999\"").await.status, 412);
    assert_eq!(delete("3").await.status, 400);
    assert_eq!(delete(&version).await.status, 200);
    assert_eq!(delete(&version).await.status, 404);
    assert_eq!(get(served.admin, "/v1/rules/tenant/*").once().await.status, 404);
}

#[tokio::test]
async fn a_batch_is_applied_whole_or_not_at_all() {
    let served = Served::new(&[("here", "1")]);
    for (change, status, reason) in [
        (json!({"put": {"pattern": "here"}, "if-absent": true}), 412, "already-exists"),
        (json!({"put": {"pattern": "here"}, "if-version": 77}), 412, "version-mismatch"),
        (json!({"delete": "nowhere"}), 404, "not-found"),
    ] {
        let answer = put(served.admin, &json!({"changes": [{"put": {"pattern": "new"}}, change]})).await;
        assert_eq!(answer.status, status, "{change}");
        assert_eq!(answer.json()["reason"], reason, "{change}");
        assert_eq!(get(served.admin, "/v1/rules").once().await.json()["rules"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn bad_batches_name_field_and_place() {
    let served = Served::new(&[]);
    for (body, field, place, detail) in [
        ("", "body", "line 1", "EOF"),
        ("{\"changes\":[]} x", "body", "line 1, column 16", "trailing"),
        (
            "{\n \"changes\": [{\"put\": {\"pattern\": \"a/b/c/d\"}}]}",
            "changes[0].put.pattern",
            "line 2, column",
            "parts",
        ),
        (
            "{\"changes\":[{\"delete\":\"a\"},{\"put\":{\"pattern\":\"a\",\"rates\":[\"3/1m\",\"0/1m\"]}}]}",
            "changes[1].put.rates[1]",
            "line 1",
            "`0` is not a number",
        ),
        (
            "{\"changes\":[{\"put\":{\"pattern\":\"a\",\"speed\":1}}]}",
            "changes[0].put.speed",
            "line 1",
            "unknown field `speed`",
        ),
    ] {
        let answer = get(served.admin, "/v1/rules").method(Method::PUT).json(body).once().await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["place"].as_str().unwrap().starts_with(place), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let answer = put(served.admin, &json!({"changes": [{"delete": "a"}, {}]})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!("changes[1]")));
    for (path, detail) in [
        ("a/b/c/d", "`a/b/c/d` is not a pattern: 4 parts: "),
        ("a%20b", "`a b` is not a pattern: the scope has the byte 0x20 at position 1: "),
        ("%2F", "`/` is not a pattern: the scope is empty: "),
    ] {
        let answer = get(served.admin, &format!("/v1/rules/{path}")).once().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!("pattern")), "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(detail), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn counters_show_who_holds_and_waits() {
    let served = Served::new(&[("s", "2"), ("t", "1")]);
    let _leases = [served.host.take("s"), served.host.take("s"), served.host.take("t")];
    let waiting = tokio::spawn(get(served.ingress, "/weir/scope/s/call/app/plain").once());
    served.host.shows("s", 2, 1).await;
    let counters = get(served.admin, "/v1/counters?prefix=s").once().await.json();
    let counter = &counters["counters"][0];
    assert_eq!(
        (&counter["counter"], &counter["pattern"], &counter["concurrency"]),
        (&json!("s"), &json!("s"), &json!(2))
    );
    assert_eq!((&counter["calls"], &counter["waiting"], &counter["granted"]), (&json!(2), &json!(1), &json!(2)));
    let first = get(served.admin, "/v1/counters?limit=1").once().await.json();
    assert_eq!((first["counters"].as_array().unwrap().len(), &first["more"]), (1, &json!(true)));
    for (query, field) in [("limit=0", "limit"), ("limit=10001", "limit"), ("limit=x", "limit"), ("other=1", "query")] {
        let answer = get(served.admin, &format!("/v1/counters?{query}")).once().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!(field)), "{query}");
    }
    waiting.abort();
}

#[tokio::test]
async fn a_change_applies_live() {
    let served = Served::new(&[("s", "1")]);
    let _lease = served.host.take("s");
    let waiting = tokio::spawn(get(served.ingress, "/weir/scope/s/call/app/plain").once());
    served.host.shows("s", 1, 1).await;
    put(served.admin, &json!({"changes": [{"patch": {"pattern": "s", "concurrency": 2}}]})).await;
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test]
async fn components_health_and_metrics() {
    let served = Served::new(&[]);
    let components = get(served.admin, "/v1/components").once().await.json();
    assert_eq!(components["components"][1], json!({"name": "stream", "route": "/stream/...", "scope": "stream"}));
    assert_eq!(get(served.admin, "/healthz").once().await.json(), json!({"status": "ok"}));

    get(served.ingress, "/weir/scope/secret-tenant/call/app/plain").once().await;
    get(served.ingress, "/weir/scope/secret-tenant/call/nobody/plain").once().await;
    let metrics = get(served.admin, "/metrics").once().await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    for line in [
        "weir_http_answers_total{component=\"app\",class=\"2xx\"} 1",
        "weir_http_answers_total{component=\"\",class=\"4xx\"} 1",
        "weir_granted_total 1",
        "weir_leases 0",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line} is missing in:\n{}", metrics.body);
    }
    assert!(!metrics.body.contains("secret-tenant"), "a scope is no label");
}

#[tokio::test]
async fn a_body_that_says_it_is_no_json_changes_nothing() {
    let served = Served::new(&[("s", "1")]);
    let before = served.host.state();
    let paths = [
        (Method::PUT, "/v1/rules", r#"{"changes":[{"patch":{"pattern":"s","concurrency":2}}]}"#),
        (Method::POST, "/v1/counters/s", r#"{"verb":"pause"}"#),
        (Method::POST, "/v1/explain", r#"{"scope":"s"}"#),
    ];
    for (method, path, body) in &paths {
        let asked = || get(served.admin, path).method(method.clone()).body(*body);
        for kind in ["text/plain", "multipart/form-data; boundary=x", "application/jsonx"] {
            let answer = asked().header("content-type", kind).once().await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("content-type")),
                (415, "application/problem+json"),
                "{path}"
            );
            let detail = "the body must be JSON, and say so: content-type: application/json";
            assert_eq!((&answer.json()["detail"], &answer.json()["reason"]), (&json!(detail), &json!("invalid")));
        }
    }
    assert_eq!(served.host.state(), before);
    for (method, path, body) in paths {
        let asked = || get(served.admin, path).method(method.clone()).body(body);
        assert_eq!(asked().once().await.status, 200, "{path}");
        for kind in ["", "application/x-www-form-urlencoded", "Application/JSON; charset=utf-8"] {
            assert_eq!(asked().header("content-type", kind).once().await.status, 200, "{path}: {kind}");
        }
    }
}

#[tokio::test]
async fn what_the_admin_api_has_not_is_a_problem_too() {
    let served = Served::new(&[]);
    for (method, path, status) in
        [(Method::GET, "/v2", 404), (Method::POST, "/v1/rules", 405), (Method::PUT, "/healthz", 405)]
    {
        let answer = get(served.admin, path).method(method).once().await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (status, "application/problem+json"),
            "{path}"
        );
        let reason = if status == 405 { "method-not-allowed" } else { "unknown-resource" };
        assert_eq!(answer.json()["reason"], reason, "{path}");
        if status == 405 {
            assert!(!answer.header("allow").is_empty(), "{path}");
        }
    }
}
