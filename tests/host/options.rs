//! Options at and past their bounds: a typed answer, and nothing is taken.

use weir_engine::CounterQuery;
use weir_tests::{Host, get, guests};

#[tokio::test]
async fn what_is_within_bounds_is_granted() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["*".into()]);
    let long = "x".repeat(128);
    for query in [
        "priority=0".to_owned(),
        "priority=255".to_owned(),
        "fairness=a&weight=1".to_owned(),
        "fairness=a&weight=1000".to_owned(),
        format!("fairness={long}"),
        format!("flow={long}"),
        format!("also={long}"),
        "fairness=A-Za-z0-9_.:@-".to_owned(),
        "flow=k".to_owned(),
        "flow=k;c:4294967295".to_owned(),
        "flow=k;w:1/1".to_owned(),
        "flow=k2;w:4294967295/31622400000".to_owned(),
        "flow=k3;w:9/1000;w:9/2000;s:9/1000;w:9/1000$".to_owned(),
        // The same key twice with the same numbers is one.
        "flow=k4;c:1&flow=k4;c:1".to_owned(),
    ] {
        let answer = get(&app, &format!("/try?{query}")).await.unwrap();
        assert_eq!(answer, "granted", "{query}");
    }
    host.settles().await;
}

#[tokio::test]
async fn what_is_not_is_invalid_and_takes_nothing() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["*".into()]);
    let long = "x".repeat(129);
    for (query, says) in [
        ("fairness=".to_owned(), "the fairness key is empty"),
        (format!("fairness={long}"), "the fairness key is 129 bytes long: the most is 128"),
        ("fairness=a/b".to_owned(), "the fairness key has the byte `/` (0x2f) at position 1"),
        ("fairness=a%20".to_owned(), "the fairness key has the byte `%`"),
        ("fairness=a&weight=0".to_owned(), "a weight of 0 is out of bounds: 1 to 1000"),
        ("fairness=a&weight=1001".to_owned(), "a weight of 1001 is out of bounds: 1 to 1000"),
        ("fairness=a&weight=65535".to_owned(), "a weight of 65535 is out of bounds: 1 to 1000"),
        ("flow=".to_owned(), "the inline key is empty"),
        (format!("flow={long}"), "the inline key is 129 bytes long"),
        ("flow=a*b".to_owned(), "the inline key has the byte `*`"),
        ("flow=k;w:0/1000".to_owned(), "the limit of a rate is 0; it must be at least 1"),
        ("flow=k;w:1/0".to_owned(), "a period of 0s is out of bounds: 1ms to 366days"),
        ("flow=k;w:1/31622400001".to_owned(), "out of bounds: 1ms to 366days"),
        ("flow=k;s:1/1000/0".to_owned(), "the burst of a rate is 0; it must be at least 1"),
        ("flow=k;w:1/1000/1".to_owned(), "burst belongs to smooth rates only"),
        ("flow=k;s:1/1000$".to_owned(), "needs burst=N"),
        ("flow=k;s:4294967295/1000".to_owned(), "cannot be spread evenly"),
        ("flow=k;w:1/1;w:1/2;w:1/3;w:1/4;w:1/5".to_owned(), "5 rates: a rule has at most 4"),
        ("flow=k;w:1/1000;w:2/1000".to_owned(), "two rates with the same mode, period and counting"),
        ("flow=k;c:1&flow=k;c:2".to_owned(), "the inline key `app#k` comes twice, with other numbers"),
        (format!("also={long}"), "the scope is 129 bytes long"),
        ("also=".to_owned(), "the scope is empty"),
        // One thing is wrong, and the rest does not matter.
        ("priority=255&flow=k;c:1&fairness=a&weight=0".to_owned(), "a weight of 0"),
    ] {
        for path in ["try", "check", "acquire", "batch"] {
            let answer = get(&app, &format!("/{path}?{query}")).await.unwrap();
            assert!(answer.starts_with("invalid|invalid: ") && answer.contains(says), "{path} {query}: {answer}");
        }
    }
    let metrics = host.flow.metrics();
    assert_eq!((metrics.granted, metrics.waited), (0, 0));
    assert_eq!(host.flow.counters(&CounterQuery::default()), []);
}

#[tokio::test]
async fn targets_and_flow_control_keys_count_together() {
    let host = Host::new(&[]);
    let app = host.run(guests::HOSTILE, |config| config.allow_scopes = vec!["*".into()]);
    for (targets, keys) in [(15, 0), (0, 15), (8, 7)] {
        let path = format!("/many-targets?targets={targets}&keys={keys}");
        assert_eq!(get(&app, &path).await.unwrap(), "granted", "{path}");
    }
    for (targets, keys) in [(16, 0), (0, 16), (8, 8), (2000, 1000)] {
        let answer = get(&app, &format!("/many-targets?targets={targets}&keys={keys}")).await.unwrap();
        let says = "invalid|invalid: more than 15 further scopes, limit keys and inline keys";
        assert_eq!(answer, says, "{targets} {keys}");
    }
    host.settles().await;
}

#[tokio::test]
async fn a_flood_of_bad_options_is_one_answer() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let answer = get(&app, "/hostile-options").await.unwrap();
    assert!(answer.starts_with("invalid|invalid: the fairness key is 1001 bytes long"), "{answer}");
    host.settles().await;
}
