//! The lease API, as a program in any language sees it: over HTTP/1.1 and HTTP/2.

use http::Method;
use serde_json::{Value, json};
use weir_tests::{until, within};

use crate::Served;
use crate::client::{Answer, Asked, Http, get, http1, http2, raw};

const LEASES: &str = "/weir/v1/leases";

fn post(served: &Served, path: &str, body: &Value) -> Asked {
    get(served.ingress, path).method(Method::POST).header("content-type", "application/json").body(body.to_string())
}

async fn acquire(served: &Served, client: &Http, body: Value) -> Answer {
    post(served, LEASES, &body).send(client).await
}

/// Acquires what there must be room for, and answers the ids.
async fn ids(served: &Served, client: &Http, body: Value) -> Vec<String> {
    let answer = acquire(served, client, body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let leases = answer.json()["leases"].as_array().expect("leases").clone();
    leases.iter().map(|lease| lease["id"].as_str().expect("an id").to_owned()).collect()
}

async fn release(served: &Served, client: &Http, id: &str, query: &str) -> Answer {
    get(served.ingress, &format!("{LEASES}/{id}{query}")).method(Method::DELETE).send(client).await
}

#[tokio::test]
async fn a_lease_is_taken_extended_settled_and_given_back() {
    let served = Served::new(&[("model", "1")]);
    served.host.rule("model/gpt", None, &["10000/1m:cost"]);
    for client in [http1(), http2()] {
        let body = json!({"scope": "model", "limit-key": "gpt", "cost": 4000, "lease-time": "1m"});
        let answer = acquire(&served, &client, body).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (201, "application/json"));
        let view = answer.json();
        let lease = &view["leases"][0];
        assert_eq!((view["leases"].as_array().unwrap().len(), view["book-version"].as_u64()), (1, Some(2)));
        assert!(lease["fence"].as_str().unwrap().parse::<u64>().unwrap() > 0);
        assert!(lease["remaining"].as_str().unwrap().starts_with("59s"), "{lease}");
        assert_eq!(served.host.usage("model"), (1, 0));

        let id = lease["id"].as_str().unwrap();
        let extended = post(&served, &format!("{LEASES}/{id}/extend"), &json!({"lease-time": "30m"})).send(&client);
        let extended = extended.await;
        assert_eq!(extended.status, 200);
        assert!(extended.json()["remaining"].as_str().unwrap().starts_with("29m"), "{}", extended.body);

        let settle = format!("{LEASES}/{id}/settle");
        let settled = post(&served, &settle, &json!({"cost": 1250})).send(&client).await;
        assert_eq!(settled.json(), json!({"refunded": 2750, "overrun": 0}));
        let settled = post(&served, &settle, &json!({"cost": 1250})).send(&client).await;
        assert_eq!(settled.json(), json!({"refunded": 0, "overrun": 0}), "doing it again changes nothing");

        let released = release(&served, &client, id, "").await;
        assert_eq!((released.status.as_u16(), released.json()), (200, json!({"released": true})));
        assert_eq!(served.host.usage("model"), (0, 0));
        let again = release(&served, &client, id, "").await;
        assert_eq!((again.status.as_u16(), again.json()), (200, json!({"released": false})));
    }
    let used = served.host.counter("model/gpt").unwrap().rates[0].used;
    assert_eq!(used, 2 * 1250, "what was settled");
    served.host.settles().await;
}

#[tokio::test]
async fn what_does_not_fit_waits_or_is_refused_with_all_that_is_known() {
    let served = Served::new(&[("s", "1")]);
    served.host.rule("r", None, &["1/1h"]);
    let client = http1();
    let held = ids(&served, &client, json!({"scope": "s"})).await;
    let refused = acquire(&served, &client, json!({"scope": "s", "max-wait": "0s"})).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    let problem = refused.json();
    assert_eq!((&problem["reason"], &problem["constraints"][0]["kind"]), (&json!("limited"), &json!("concurrency")));

    let waits = tokio::spawn(post(&served, LEASES, &json!({"scope": "s"})).once());
    served.host.shows("s", 1, 1).await;
    release(&served, &client, &held[0], "").await;
    let granted = waits.await.unwrap();
    assert_eq!(granted.status, 201);
    assert_ne!(granted.json()["waited"], "0s");
    release(&served, &client, granted.json()["leases"][0]["id"].as_str().unwrap(), "").await;

    let first = ids(&served, &client, json!({"scope": "r"})).await;
    release(&served, &client, &first[0], "").await;
    let refused = acquire(&served, &client, json!({"scope": "r", "max-wait": "1ms"})).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.header("ratelimit").contains("\"r 1/1h\";r=0"), "{:?}", refused.headers);
    // To the nanosecond: what a client that wants no try in vain needs.
    let exact = refused.json()["retry-after"].as_str().unwrap().to_owned();
    assert!(exact.starts_with("59m") && exact.contains("us"), "{exact}");
    let large = acquire(&served, &client, json!({"scope": "r", "count": 2})).await;
    assert_eq!((large.status.as_u16(), &large.json()["reason"]), (422, &json!("too-large")));
    served.host.settles().await;
}

#[tokio::test]
async fn one_acquire_takes_all_of_many_constraints_or_nothing() {
    let served = Served::new(&[("a", "1"), ("b/x", "1"), ("c", "1")]);
    let client = http1();
    let held = served.host.take("c");
    let all = json!({"scope": "a", "targets": [{"scope": "b", "limit-key": "x"}, {"scope": "c"}], "max-wait": "0s",
        "flow-controls": [{"key": "plan", "concurrency": 1, "rates": ["5/1m"]}]});
    let refused = acquire(&served, &client, all.clone()).await;
    assert_eq!(refused.json()["constraints"][0]["counter"], "c");
    let none = ["a", "b/x", "a#plan"].map(|counter| served.host.usage(counter));
    assert_eq!(none, [(0, 0); 3], "a refusal takes nothing");
    drop(held);
    let taken = ids(&served, &client, all).await;
    let one = ["a", "b/x", "c", "a#plan"].map(|counter| served.host.usage(counter));
    assert_eq!((taken.len(), one), (1, [(1, 0); 4]));
    release(&served, &client, &taken[0], "").await;
    served.host.settles().await;
}

#[tokio::test]
async fn a_batch_gets_as_many_as_fit_each_a_lease_of_its_own() {
    let served = Served::new(&[("s", "5")]);
    let client = http1();
    let some = ids(&served, &client, json!({"scope": "s", "count": 8, "least": 2})).await;
    assert_eq!((some.len(), served.host.usage("s")), (5, (5, 0)));
    let more = acquire(&served, &client, json!({"scope": "s", "count": 2, "max-wait": "0s"})).await;
    assert_eq!(more.status, 503);
    for (at, id) in some.iter().enumerate() {
        release(&served, &client, id, "").await;
        assert_eq!(served.host.usage("s").0, 4 - at as u64);
    }
    served.host.settles().await;
}

#[tokio::test]
async fn a_check_takes_nothing() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let before = served.host.flow.metrics().granted;
    let free = post(&served, "/weir/v1/check", &json!({"scope": "s"})).send(&client).await;
    assert_eq!((free.status.as_u16(), &free.json()["granted"]), (200, &json!(true)));
    assert_eq!(free.json()["constraints"][0]["limit"], 1);
    let lease = served.host.take("s");
    let full = post(&served, "/weir/v1/check", &json!({"scope": "s"})).send(&client).await;
    let view = full.json();
    assert_eq!((full.status.as_u16(), &view["granted"], &view["reason"]), (200, &json!(false), &json!("limited")));
    drop(lease);
    assert_eq!(served.host.flow.metrics().granted, before + 1, "only what was taken here");
    served.host.settles().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_loses_its_place_and_nothing_else() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let body = r#"{"scope":"s"}"#;
    let head = format!(
        "POST {LEASES} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sockets: Vec<_> = (0..10).map(|_| raw(served.ingress, &head)).collect();
    served.host.shows("s", 1, 10).await;
    drop(sockets);
    served.host.shows("s", 1, 0).await;
    drop(lease);
    served.host.settles().await;
    assert_eq!(served.host.flow.metrics().granted, 1);
}

/// The same on HTTP/2, where a request is given up and its connection goes on.
#[tokio::test]
async fn a_request_that_is_reset_while_it_waits_loses_its_place_and_nothing_else() {
    let served = Served::new(&[("s", "1")]);
    let client = http2();
    let lease = served.host.take("s");
    let ask = || {
        let (asked, client) = (post(&served, LEASES, &json!({"scope": "s"})), client.clone());
        tokio::spawn(async move { asked.send(&client).await })
    };
    let stays = ask();
    let leave: Vec<_> = (0..10).map(|_| ask()).collect();
    served.host.shows("s", 1, 11).await;
    // Nobody takes their answers any more: the client resets their streams.
    for task in &leave {
        task.abort();
    }
    served.host.shows("s", 1, 1).await;
    drop(lease);
    let granted = within("the turn of who stays", stays).await.unwrap();
    assert_eq!((granted.status.as_u16(), served.host.flow.metrics().granted), (201, 2), "{}", granted.body);
    release(&served, &client, granted.json()["leases"][0]["id"].as_str().unwrap(), "").await;
    served.host.settles().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_after_the_grant_costs_no_lease() {
    let served = Served::new(&[("s", "1")]);
    let body = json!({"scope": "s", "lease-time": "1h", "idempotency-key": "order-1"});
    let text = body.to_string();
    // Granted at once; whoever asked never reads the answer.
    let head = format!(
        "POST {LEASES} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let socket = raw(served.ingress, &head);
    served.host.shows("s", 1, 0).await;
    drop(socket);
    let client = http1();
    let retried = ids(&served, &client, body.clone()).await;
    assert_eq!(served.host.usage("s"), (1, 0), "the retry gets the same lease");
    assert_eq!(ids(&served, &client, body.clone()).await, retried);

    let other = json!({"scope": "s", "cost": 2, "lease-time": "1h", "idempotency-key": "order-1"});
    let conflict = acquire(&served, &client, other).await;
    assert_eq!((conflict.status.as_u16(), &conflict.json()["reason"]), (409, &json!("conflict")));
    release(&served, &client, &retried[0], "?outcome=failed").await;
    let ended = acquire(&served, &client, body).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["ended"]), (410, &json!("failed")));
    assert_eq!(served.host.usage("s"), (0, 0), "and never a new one");
}

#[tokio::test]
async fn repeated_and_reordered_requests_change_nothing() {
    let served = Served::new(&[("s", "2")]);
    let client = http1();
    let leases = ids(&served, &client, json!({"scope": "s", "count": 2})).await;
    release(&served, &client, &leases[0], "").await;
    // What was sent before the release and arrives after it.
    for (path, body) in [("extend", json!({"lease-time": "1h"})), ("settle", json!({"cost": 3}))] {
        let late = post(&served, &format!("{LEASES}/{}/{path}", leases[0]), &body).send(&client).await;
        assert_eq!((late.status.as_u16(), &late.json()["reason"]), (410, &json!("lost")));
    }
    for _ in 0..3 {
        assert_eq!(release(&served, &client, &leases[0], "").await.json(), json!({"released": false}));
    }
    assert_eq!(served.host.usage("s"), (1, 0), "its neighbour is still held");
    release(&served, &client, &leases[1], "").await;
    served.host.settles().await;
}

#[tokio::test]
async fn ids_that_name_no_lease_get_one_answer() {
    let served = Served::new(&[]);
    let client = http1();
    let ended = ids(&served, &client, json!({"scope": "s"})).await.remove(0);
    release(&served, &client, &ended, "").await;
    let held = served.host.take("s");
    let forged = [
        ended.clone(),
        format!("{}{:032x}", &ended[..4], 0),
        format!("ffff{}", &ended[4..]),
        // The name of a held lease, as logs show it.
        held.id().to_string(),
        "nonsense".to_owned(),
        "%00".to_owned(),
        "a".repeat(10_000),
    ];
    let mut answers = Vec::new();
    for id in &forged {
        for (path, body) in [("extend", json!({"lease-time": "1h"})), ("settle", json!({"cost": 1}))] {
            let answer = post(&served, &format!("{LEASES}/{id}/{path}"), &body).send(&client).await;
            answers.push((answer.status.as_u16(), answer.body));
        }
        assert_eq!(release(&served, &client, id, "").await.json(), json!({"released": false}), "{id}");
    }
    assert_eq!(answers[0].0, 410);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(served.host.usage("s"), (1, 0));
    drop(held);
}

#[tokio::test]
async fn a_pushback_closes_the_counter() {
    let served = Served::new(&[]);
    let client = http1();
    let lease = ids(&served, &client, json!({"scope": "s"})).await.remove(0);
    release(&served, &client, &lease, "?outcome=pushed-back&retry-after=30s").await;
    let refused = acquire(&served, &client, json!({"scope": "s", "max-wait": "0s"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["reason"]), (503, &json!("pushed-back")));
    assert_eq!(refused.header("retry-after"), "30");
}

#[tokio::test]
async fn figures_say_whether_they_count_leases_or_requests() {
    let served = Served::new(&[("s", "3")]);
    let client = http1();
    let held = ids(&served, &client, json!({"scope": "s"})).await;
    let batch = tokio::spawn(post(&served, LEASES, &json!({"scope": "s", "count": 3})).once());
    served.host.shows("s", 1, 1).await;
    let waits = get(served.admin, "/metrics").send(&client).await.body;
    release(&served, &client, &held[0], "").await;
    assert_eq!(batch.await.unwrap().status, 201);
    let refused = acquire(&served, &client, json!({"scope": "s", "count": 2, "max-wait": "0s"})).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let granted = get(served.admin, "/metrics").send(&client).await.body;
    for (text, name, line, unit) in [
        (&waits, "weir_waiting", "weir_waiting 1", "Requests"),
        (&granted, "weir_granted_total", "weir_granted_total 4", "Leases"),
        (&granted, "weir_leases", "weir_leases 3", "Leases"),
        (&granted, "weir_waited_total", "weir_waited_total 1", "Requests"),
        (&granted, "weir_refused_total", "weir_refused_total{reason=\"limited\"} 1", "Requests"),
        (&granted, "weir_wait_seconds", "weir_wait_seconds_count 4", "How long each granted lease"),
    ] {
        let help = format!("# HELP {name} {unit} ");
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        assert!(text.lines().any(|found| found.starts_with(&help)), "{help} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn bad_input_is_named_and_changes_nothing() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let before = served.host.state();
    let json = "application/json";
    let ask = |method: Method, path: &str, kind: &'static str, body: &str| {
        let asked = get(served.ingress, path).method(method).body(body.to_owned());
        if kind.is_empty() { asked } else { asked.header("content-type", kind) }
    };
    let deep = "[".repeat(100_000);
    let large = format!(r#"{{"scope":"{}"}}"#, "a".repeat(70_000));
    let extend = format!("{LEASES}/x/extend");
    for (method, path, kind, body, status, part) in [
        (Method::POST, LEASES, json, "", 400, "EOF"),
        (Method::POST, LEASES, json, "{", 400, "line 1, column 1"),
        (Method::POST, LEASES, json, "{}", 400, "missing field `scope`"),
        (Method::POST, LEASES, json, r#"["s"]"#, 400, "no JSON object"),
        (Method::POST, LEASES, json, "null", 400, "no JSON object"),
        (Method::POST, LEASES, json, &deep, 413, "body-too-large"),
        (Method::POST, LEASES, json, &deep[..60_000], 400, "no JSON object"),
        (Method::POST, LEASES, json, &format!("{{\"scope\":{}", &deep[..60_000]), 400, "scope"),
        (Method::POST, LEASES, json, r#"{"scope":"s"} x"#, 400, "trailing characters"),
        (Method::POST, LEASES, json, r#"{"scope":"s",}"#, 400, "\"field\":\"body\""),
        (Method::POST, LEASES, json, r#"{"scope":"s","scope":"t"}"#, 400, "duplicate field"),
        (Method::POST, LEASES, json, r#"{"scope":"s","speed":1}"#, 400, "unknown field `speed`"),
        (Method::POST, LEASES, json, r#"{"scope":["s"]}"#, 400, "\"field\":\"scope\""),
        (Method::POST, LEASES, json, r#"{"scope":"s","cost":1.5}"#, 400, "\"field\":\"cost\""),
        (Method::POST, LEASES, json, r#"{"scope":"s","targets":[{"scope":"a/b"}]}"#, 400, "targets[0].scope"),
        (Method::POST, LEASES, json, "{\"scope\":\"\\ud800\"}", 400, "scope"),
        (Method::POST, LEASES, json, &large, 413, "65536 bytes"),
        (Method::POST, LEASES, "", r#"{"scope":"s"}"#, 415, "content-type: application/json"),
        (Method::POST, LEASES, "text/plain", r#"{"scope":"s"}"#, 415, "content-type"),
        (Method::POST, &extend, json, r#"{"lease-time":"99ms"}"#, 410, "lost"),
        (Method::POST, &extend, json, r#"{"lease-time":9}"#, 400, "lease-time"),
        (Method::POST, "/weir/v1/check", json, r#"{"scope":"s","max-wait":"1s"}"#, 400, "unknown field `max-wait`"),
        (Method::GET, LEASES, "", "", 405, "it takes POST"),
        (Method::GET, LEASES, "", "", 405, "method-not-allowed"),
        (Method::POST, "/weir/openapi.json", json, "{}", 405, "it takes GET"),
        (Method::POST, "/weir/v1/lease", json, "{}", 404, "openapi.json"),
        (Method::DELETE, "/weir/v1/leases/x?outcome=good", "", "", 400, "outcome"),
        (Method::DELETE, "/weir/v1/leases/x?retry-after=1s", "", "", 400, "outcome=pushed-back"),
        (Method::DELETE, "/weir/v1/leases/x?speed=1", "", "", 400, "speed"),
        (Method::DELETE, "/weir/v1/leases/x?outcome=%FF", "", "", 400, "the byte 0xff"),
        (Method::POST, "/weir/v1/leases?speed=1", json, r#"{"scope":"s"}"#, 400, "`speed=1`"),
        (Method::POST, "/weir/v1/check?speed=1", json, r#"{"scope":"s"}"#, 400, "`speed=1`"),
        (Method::POST, "/weir/v1/leases/x/settle?cost=1", json, r#"{"cost":1}"#, 400, "`cost=1`"),
    ] {
        let answer = ask(method.clone(), path, kind, body).send(&client).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{method} {path} {shown}: {}", answer.body);
        assert!(answer.body.contains(part), "{method} {path} {shown}: `{part}` is missing in {}", answer.body);
        assert!(!answer.body.contains("deserialize"), "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(served.host.state(), before);
    let allowed = get(served.ingress, LEASES).send(&client).await;
    assert_eq!(allowed.header("allow"), "POST");
}

#[tokio::test]
async fn the_end_of_the_server_sends_away_who_waits() {
    let mut served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let waits = tokio::spawn(post(&served, LEASES, &json!({"scope": "s"})).once());
    served.host.shows("s", 1, 1).await;
    let server = served.server.take().expect("it serves");
    server.stop_handle().stop();
    let answer = within("who waits is sent away", waits).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (503, &json!("unavailable")));
    drop(lease);
    drop(server);
}

#[tokio::test]
async fn a_lease_nobody_extends_ends_by_itself() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let lease = ids(&served, &client, json!({"scope": "s", "lease-time": "100ms"})).await.remove(0);
    let next = ids(&served, &client, json!({"scope": "s"})).await;
    let late = post(&served, &format!("{LEASES}/{lease}/extend"), &json!({"lease-time": "1h"})).send(&client).await;
    assert_eq!(late.status, 410, "never a resurrection");
    assert_eq!(served.host.usage("s"), (1, 0));
    release(&served, &client, &next[0], "").await;
    until("it is counted", || served.host.flow.metrics().expired == 1).await;
}

#[tokio::test]
async fn what_clients_tell_of_their_failures_is_a_figure() {
    const TOLD: &str = "weir-client-failures";
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let tell = |value: &str| post(&served, "/weir/v1/check", &json!({"scope": "s"})).header(TOLD, value);
    for value in ["closed=1, open=2, budget=3", "open=5"] {
        assert_eq!(tell(value).send(&client).await.status, 200, "{value}");
    }
    // What is not understood is ignored as a whole, and the request is answered all the same.
    let long = "open=1, ".repeat(1_000);
    for value in ["", "7", "open=-1", "open=4294967296", "ajar=1", "open=1, open=1", "open=1, ajar=1", long.as_str()] {
        assert_eq!(tell(value).send(&client).await.status, 200, "{value}");
    }
    assert_eq!(tell("open=1").header(TOLD, "open=1").send(&client).await.status, 200);
    assert_eq!(tell("open=1").header("via", "1.1 proxy").send(&client).await.status, 401, "nobody's word");
    let metrics = get(served.admin, "/metrics").send(&client).await.body;
    for (policy, count) in [("closed", 1), ("open", 7), ("budget", 3)] {
        let line = format!("weir_client_failures_total{{policy=\"{policy}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in:\n{metrics}");
    }
}

#[tokio::test]
async fn without_a_token_it_is_open_to_this_machine_only() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let before = served.host.state();
    let ask = || post(&served, LEASES, &json!({"scope": "s"}));
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "evil.example:8080"),
        ("host", "127.0.0.1.evil.example"),
        ("origin", "http://localhost:3000"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("via", "1.1 proxy"),
    ] {
        let answer = ask().header(name, value).send(&client).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["reason"]),
            (401, &json!("unauthenticated")),
            "{name}: {value}"
        );
        let deleted = get(served.ingress, &format!("{LEASES}/x")).method(Method::DELETE).header(name, value);
        assert_eq!(deleted.send(&client).await.status, 401, "{name}: {value}");
    }
    assert_eq!(served.host.state(), before);
    let here = ask().header("host", "localhost").send(&client).await;
    assert_eq!(here.status, 201, "{}", here.body);
    release(&served, &client, here.json()["leases"][0]["id"].as_str().unwrap(), "").await;
}

/// The document, and what the server really says, have the same fields.
#[tokio::test]
async fn the_document_describes_what_is_served() {
    let served = Served::new(&[("s", "1")]);
    let client = http1();
    let document = get(served.ingress, "/weir/openapi.json").send(&client).await;
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, "application/json"));
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let described = |schema: &str, answer: &Value| {
        let described = &document["components"]["schemas"][schema];
        for field in answer.as_object().expect("an object").keys() {
            assert!(described["properties"].get(field).is_some(), "{schema} does not describe `{field}`");
        }
        for field in described["required"].as_array().expect("what is always there") {
            assert!(answer.get(field.as_str().expect("a name")).is_some(), "{schema} promises {field}: {answer}");
        }
    };
    let acquired = acquire(&served, &client, json!({"scope": "s"})).await.json();
    described("Leases", &acquired);
    described("Lease", &acquired["leases"][0]);
    let id = acquired["leases"][0]["id"].as_str().expect("an id");
    for (schema, path, body) in
        [("Extended", "extend", json!({"lease-time": "1m"})), ("Settled", "settle", json!({"cost": 1}))]
    {
        let answer = post(&served, &format!("{LEASES}/{id}/{path}"), &body).send(&client).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        described(schema, &answer.json());
    }
    let refused = acquire(&served, &client, json!({"scope": "s", "max-wait": "0s"})).await.json();
    described("Problem", &refused);
    described("Constraint", &refused["constraints"][0]);
    described("Checked", &post(&served, "/weir/v1/check", &json!({"scope": "s"})).send(&client).await.json());
    for path in document["paths"].as_object().expect("paths").keys() {
        let answer = get(served.ingress, &path.replace("{id}", "x")).method(Method::PATCH).send(&client).await;
        assert_eq!(answer.status, 405, "{path} is served");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(document["security"], json!([{"token": []}, {}]), "this machine needs none");
    let operations = document["paths"].as_object().expect("paths").values().flat_map(|path| path.as_object());
    for operation in operations.flat_map(|operations| operations.values()) {
        let open = operation["operationId"] == "document";
        assert_eq!(operation.get("security").is_some(), open, "{operation}");
        for status in ["401", "403"] {
            assert_eq!(operation["responses"].get(status).is_none(), open, "{operation}");
        }
        for response in operation["responses"].as_object().expect("responses").values() {
            let Some(path) = response.get("$ref").and_then(Value::as_str) else { continue };
            assert!(document.pointer(path.trim_start_matches('#')).is_some(), "{path} leads nowhere");
        }
        for status in ["404", "405"] {
            assert!(operation["responses"].get(status).is_some(), "{operation}");
        }
    }
    let elsewhere = post(&served, "/weir/v1/check", &json!({"scope": "s"})).header("via", "1.1 proxy");
    described("Problem", &elsewhere.send(&client).await.json());
    described("Released", &release(&served, &client, id, "").await.json());
    served.host.settles().await;
}
