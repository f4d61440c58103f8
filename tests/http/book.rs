//! The rule book as others change it: dry runs, the version as a precondition, and waiting for a change.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::Served;
use crate::client::{Answer, get, http1};

async fn put(admin: SocketAddr, query: &str, batch: Value) -> Answer {
    get(admin, &format!("/v1/rules{query}")).method(Method::PUT).json(batch.to_string()).once().await
}

async fn book(served: &Served) -> Value {
    get(served.admin, "/v1/rules").once().await.json()
}

#[tokio::test]
async fn pools_shadow_limits_and_pushbacks_go_round() {
    let served = Served::new(&[]);
    let rule = json!({"pattern": "t/*", "rates": ["3/1m"], "max-pushback": "30s", "total": true,
        "shadow-limits": {"concurrency": "5:cost", "rates": ["2/1m"], "max-waiters": 3, "max-wait": "1s"}});
    assert_eq!(put(served.admin, "", json!({"changes": [{"put": rule}]})).await.status, 200);
    let shown = book(&served).await["rules"][0].clone();
    for (field, value) in rule.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    // What was shown can be put again, and is no change.
    let mut again = shown.clone();
    for field in ["version", "last-modified"] {
        again.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(put(served.admin, "", json!({"changes": [{"put": again}]})).await.json()["differences"], json!([]));
    let patch = json!({"pattern": "t/*", "total": false, "shadow-limits": null, "max-pushback": null});
    put(served.admin, "", json!({"changes": [{"patch": patch}]})).await;
    let shown = book(&served).await["rules"][0].clone();
    assert_eq!(shown["rates"], json!(["3/1m"]));
    for field in ["total", "shadow-limits", "max-pushback"] {
        assert!(shown.get(field).is_none(), "{field}: {shown}");
    }
    for (rule, detail) in [
        (json!({"pattern": "t", "total": true}), "patterns with `*`"),
        (json!({"pattern": "t", "max-pushback": "86401s"}), "at most 1day"),
        (json!({"pattern": "t", "shadow-limits": {"max-waiters": 1_000_001}}), "shadow-limits: max-waiters"),
        (json!({"pattern": "t", "shadow-limits": {"speed": 1}}), "unknown field `speed`"),
        (json!({"pattern": "t", "total": "yes"}), "expected a boolean"),
    ] {
        let answer = put(served.admin, "", json!({"changes": [{"put": rule}]})).await;
        assert_eq!(answer.status, 400, "{rule}: {}", answer.body);
        assert!(answer.body.contains(detail), "{rule}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_differ_and_changes_nothing() {
    let served = Served::new(&[("a", "1"), ("b", "1")]);
    let before = book(&served).await;
    let changes = json!([{"put": {"pattern": "a", "concurrency": 2}}, {"delete": "b"}, {"put": {"pattern": "c"}}]);
    let answer = put(served.admin, "?dry-run=true", json!({"changes": changes})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let differences = json!([{"pattern": "a", "kind": "changed"}, {"pattern": "b", "kind": "removed"}, {"pattern": "c", "kind": "added"}]);
    let expected = json!({"version": before["version"], "differences": differences, "dry-run": true});
    assert_eq!(answer.json(), expected);
    assert_eq!(book(&served).await, before);
    // It refuses what the change would refuse.
    for (changes, status) in [
        (json!([{"delete": "nowhere"}]), 404),
        (json!([{"put": {"pattern": "a"}, "if-absent": true}]), 412),
        (json!([{"put": {"pattern": "c", "total": true}}]), 400),
    ] {
        assert_eq!(put(served.admin, "?dry-run=true", json!({"changes": changes})).await.status, status, "{changes}");
    }
    for (query, field) in [("?dry-run=maybe", "dry-run"), ("?dry=true", "query")] {
        let answer = put(served.admin, query, json!({"changes": []})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!(field)), "{query}");
    }
    let applied = put(served.admin, "?dry-run=false", json!({"changes": changes})).await.json();
    assert_eq!(applied["differences"], differences);
    assert!(applied.get("dry-run").is_none());
}

#[tokio::test]
async fn a_batch_can_ask_that_nobody_else_has_changed_the_book() {
    let served = Served::new(&[("a", "1")]);
    let version = book(&served).await["version"].as_u64().unwrap();
    let batch = |name: &str| json!({"changes": [{"put": {"pattern": name}}], "if-book-version": version});
    for query in ["?dry-run=true", ""] {
        assert_eq!(put(served.admin, query, batch("b")).await.status, 200);
    }
    for query in ["?dry-run=true", ""] {
        let answer = put(served.admin, query, batch("c")).await;
        assert_eq!(answer.status, 412);
        let problem = answer.json();
        let found = (&problem["reason"], &problem["field"]);
        assert_eq!(found, (&json!("version-mismatch"), &json!("if-book-version")), "{problem}");
    }
    let rules = book(&served).await["rules"].as_array().unwrap().len();
    assert_eq!(rules, 2);
    // All kinds of changes go with it.
    let now = book(&served).await["version"].clone();
    let changes = json!([{"patch": {"pattern": "a", "concurrency": 7}}, {"delete": "b"}, {"put": {"pattern": "d"}, "if-absent": true}]);
    let answer = put(served.admin, "", json!({"changes": changes, "if-book-version": now})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn of_writers_with_one_book_version_exactly_one_wins() {
    let served = Served::new(&[]);
    let batch = |index: usize| json!({"changes": [{"put": {"pattern": format!("r{index}")}}], "if-book-version": 0});
    let writers: Vec<_> = (0..8).map(|index| tokio::spawn(put(served.admin, "", batch(index)))).collect();
    let mut won = 0;
    for writer in writers {
        let status = writer.await.unwrap().status.as_u16();
        assert!([200, 412].contains(&status));
        won += usize::from(status == 200);
    }
    assert_eq!((won, book(&served).await["rules"].as_array().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn who_waits_for_a_change_sees_that_of_another() {
    let served = Served::new(&[("a", "1")]);
    let version = book(&served).await["version"].as_u64().unwrap();
    let waiting = tokio::spawn(get(served.admin, &format!("/v1/rules?after={version}&wait=60s")).once());
    // Other requests are answered meanwhile.
    assert_eq!(get(served.admin, "/healthz").once().await.status, 200);
    put(served.admin, "?dry-run=true", json!({"changes": [{"put": {"pattern": "x"}}]})).await;
    put(served.admin, "", json!({"changes": [{"put": {"pattern": "b"}}]})).await;
    let seen = waiting.await.unwrap();
    assert_eq!((seen.status.as_u16(), &seen.json()["version"]), (200, &json!(version + 1)));
    assert_eq!(seen.json()["rules"][1]["pattern"], "b");
    // Whoever is behind, or before a server that began anew, is answered at once.
    for after in [version, version + 1000] {
        assert_eq!(get(served.admin, &format!("/v1/rules?after={after}")).once().await.status, 200);
    }
    let none = get(served.admin, &format!("/v1/rules?after={}&wait=1ms", version + 1)).once().await;
    assert_eq!((none.status.as_u16(), none.header("etag")), (304, &*format!("\"{}\"", version + 1)));
    for (query, field, detail) in [
        ("after=x", "after", "from 0 to 18446744073709551615"),
        ("after=-1", "after", "from 0 to 18446744073709551615"),
        ("after=1&wait=soon", "wait", "soon"),
        ("after=1&wait=61s", "wait", "at most 1m"),
        ("wait=1s", "wait", "after=VERSION"),
        ("since=1", "query", "unknown field `since`"),
    ] {
        let answer = get(served.admin, &format!("/v1/rules?{query}")).once().await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!(field)), "{query}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn waiting_for_a_change_ends_with_the_server() {
    let served = Served::new(&[]);
    let waiting = tokio::spawn(get(served.admin, "/v1/rules?after=0&wait=60s").once());
    // It has come in when this has been answered behind it on the same thread, or is answered as shutting down.
    get(served.admin, "/healthz").once().await;
    served.server.as_ref().unwrap().stop_handle().stop();
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (503, &json!("unavailable")));
}

#[tokio::test]
async fn who_waits_leaves_room_for_operators() {
    let served = Served::new(&[]);
    let admin = served.admin;
    let client = http1();
    let wait = |after: u64| {
        let client = client.clone();
        tokio::spawn(async move { get(admin, &format!("/v1/rules?after={after}&wait=30s")).send(&client).await })
    };
    let waiting: Vec<_> = (0..140).map(|_| wait(0)).collect();
    // The twelve that are too many are told so.
    let mut ended = 0;
    while ended < 12 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        ended = waiting.iter().filter(|waiting| waiting.is_finished()).count();
    }
    assert_eq!(put(admin, "", json!({"changes": [{"put": {"pattern": "a"}}]})).await.status, 200);
    let mut statuses = [0, 0];
    for waiting in waiting {
        let answer = waiting.await.unwrap();
        statuses[usize::from(answer.status == 503)] += 1;
    }
    assert_eq!(statuses, [128, 12]);
}
