//! The lease API, and what is to be explained, whose bodies are the same. What is accepted is given back, and of what is refused nothing
//! is held.

use http::Method;
use serde_json::{Value, json};
use weir_tests::texts::{control_bytes, names, not_names};

use super::{AGES, Field, LIMITS, LONG, OVER, Used};
use crate::client::{Answer, Asked, get};

const LEASES: &str = "/weir/v1/leases";
const CHECK: &str = "/weir/v1/check";
const EXPLAIN: &str = "/v1/explain";
const BATCH: &str = "expected a number from 1 to 1000";

/// What an acquire and a check have in common.
const WHAT: &[Field] = &[
    Field {
        name: "cost",
        good: &["1", "4294967295"],
        bad: &[
            ("0", "expected a number from 1 to 4294967295"),
            ("4294967296", "expected a number from 1 to 4294967295"),
            ("-1", "expected a number from 1 to 4294967295"),
            ("18446744073709551616", "invalid"),
            ("1.5", "invalid type"),
            (r#""1""#, "invalid type"),
        ],
    },
    Field {
        name: "priority",
        good: &["0", "1", "255"],
        bad: &[
            ("256", "expected a number from 0 to 255"),
            ("-1", "expected a number from 0 to 255"),
            ("18446744073709551616", "invalid"),
            ("1.5", "invalid type"),
            (r#""1""#, "invalid type"),
        ],
    },
    Field {
        name: "weight",
        good: &["1", "1000"],
        bad: &[
            ("0", BATCH),
            ("1001", "a weight of 1001 is out of bounds: 1 to 1000"),
            ("65535", "a weight of 65535 is out of bounds: 1 to 1000"),
            ("65536", BATCH),
            ("-1", BATCH),
            (r#""1""#, BATCH),
        ],
    },
];

/// What an acquire says besides, and what stands before it.
const TERMS: &[(&str, Field)] = &[
    (
        "",
        Field {
            name: "max-wait",
            good: &[r#""0s""#, r#""1ns""#, r#""24h""#, r#""99999999999years""#],
            bad: &[
                (r#""""#, "empty"),
                (r#""1""#, "time unit needed"),
                (r#""-1s""#, "is not a duration"),
                (r#""999999999999s""#, LONG),
                (r#""\u0000""#, "is not a duration"),
                (r#""\u0661s""#, "is not a duration"),
                ("1", "invalid type"),
            ],
        },
    ),
    (
        "",
        Field {
            name: "lease-time",
            good: &[r#""100ms""#, r#""1h""#],
            bad: &[
                (r#""0s""#, "100ms to 1h"),
                (r#""99ms""#, "100ms to 1h"),
                (r#""3600001ms""#, "100ms to 1h"),
                (r#""99999999999years""#, "100ms to 1h"),
                (r#""""#, "empty"),
                (r#""soon""#, "is not a duration"),
                ("100", "invalid type"),
            ],
        },
    ),
    (
        "",
        Field {
            name: "count",
            good: &["1", "1000"],
            bad: &[
                ("0", BATCH),
                ("1001", "a batch of 1001"),
                ("65536", "a batch of 65536"),
                ("4294967295", "a batch of 4294967295"),
                ("4294967296", BATCH),
                ("-1", BATCH),
                (r#""1""#, BATCH),
            ],
        },
    ),
    (
        r#""count":1000,"#,
        Field {
            name: "least",
            good: &["1", "1000"],
            bad: &[
                ("0", BATCH),
                ("1001", "a batch of 1000, at least 1001"),
                ("4294967296", BATCH),
                ("-1", BATCH),
                ("1.5", "invalid type"),
            ],
        },
    ),
];

/// Settling and extending: the path, what is accepted, and what is not.
const CHANGES: &[(&str, Field)] = &[
    (
        "settle",
        Field {
            name: "cost",
            good: &["0", "4294967295"],
            bad: &[
                ("4294967296", "expected a number from 0 to 4294967295"),
                ("-1", "expected a number from 0 to 4294967295"),
                ("1.5", "invalid type"),
                (r#""1""#, "invalid type"),
                ("null", "invalid type"),
            ],
        },
    ),
    (
        "extend",
        Field {
            name: "lease-time",
            good: &[r#""100ms""#, r#""1h""#],
            bad: &[
                (r#""99ms""#, "100ms to 1h"),
                (r#""3600001ms""#, "100ms to 1h"),
                (r#""""#, "empty"),
                (r#""-1s""#, "is not a duration"),
                (r#""999999999999s""#, LONG),
                ("100", "invalid type"),
            ],
        },
    ),
];

impl Used {
    fn leases(&self, path: &str, body: impl Into<String>) -> Asked {
        let body: String = body.into();
        let address = if path == EXPLAIN { self.served.admin } else { self.served.ingress };
        get(address, path).method(Method::POST).header("content-type", "application/json").body(body)
    }

    async fn is_granted(&self, asked: Asked, what: &str) -> Answer {
        let answer = asked.send(&self.client).await;
        assert_eq!(answer.status, 201, "{what}: {}", answer.body);
        answer
    }

    async fn is_granted_and_given_back(&self, asked: Asked, what: &str) {
        let granted = self.is_granted(asked, what).await.json();
        for lease in granted["leases"].as_array().expect("leases") {
            let path = format!("{LEASES}/{}", lease["id"].as_str().expect("an id"));
            self.is_accepted(get(self.served.ingress, &path).method(Method::DELETE), what).await;
        }
    }
}

/// A body with this text at its place.
type Body = fn(&str) -> Value;

#[tokio::test]
async fn numbers_of_the_lease_api() {
    let used = Used::new().await;
    for Field { name, good, bad } in WHAT {
        let body = |value: &str| format!(r#"{{"scope":"s","{name}":{value}}}"#);
        for value in *good {
            for path in [CHECK, EXPLAIN] {
                used.is_accepted(used.leases(path, body(value)), &body(value)).await;
            }
            used.is_granted_and_given_back(used.leases(LEASES, body(value)), &body(value)).await;
        }
        for (value, says) in *bad {
            for path in [CHECK, LEASES, EXPLAIN] {
                used.is_bad(used.leases(path, body(value)), name, says, &body(value)).await;
            }
        }
    }
    for (before, Field { name, good, bad }) in TERMS {
        let body = |value: &str| format!(r#"{{"scope":"s",{before}"{name}":{value}}}"#);
        for value in *good {
            used.is_accepted(used.leases(EXPLAIN, body(value)), &body(value)).await;
            used.is_granted_and_given_back(used.leases(LEASES, body(value)), &body(value)).await;
        }
        for (value, says) in *bad {
            for path in [LEASES, EXPLAIN] {
                used.is_bad(used.leases(path, body(value)), name, says, &body(value)).await;
            }
        }
    }
    // Limits that a request brings along: only looked at where they are good, since some of them close the key.
    for Field { name, good, bad } in &LIMITS[..2] {
        let body = |value: &str| format!(r#"{{"scope":"s","flow-controls":[{{"key":"k","{name}":{value}}}]}}"#);
        for value in *good {
            for path in [CHECK, EXPLAIN] {
                used.is_accepted(used.leases(path, body(value)), &body(value)).await;
            }
        }
        for (value, says) in *bad {
            for path in [CHECK, LEASES, EXPLAIN] {
                used.is_bad(used.leases(path, body(value)), "flow-controls", says, &body(value)).await;
            }
        }
    }
    used.ends().await;
}

#[tokio::test]
async fn numbers_of_what_becomes_of_a_lease() {
    let used = Used::new().await;
    let granted = used.is_granted(used.leases(LEASES, r#"{"scope":"s","lease-time":"1h"}"#), "a lease").await;
    let lease = format!("{LEASES}/{}", granted.json()["leases"][0]["id"].as_str().expect("an id"));
    for (verb, Field { name, good, bad }) in CHANGES {
        let ask = |value: &str| used.leases(&format!("{lease}/{verb}"), format!(r#"{{"{name}":{value}}}"#));
        for value in *good {
            used.is_accepted(ask(value), &format!("{verb} {value}")).await;
        }
        for (value, says) in *bad {
            used.is_bad(ask(value), name, says, &format!("{verb} {value}")).await;
        }
    }
    let delete = |query: &str| get(used.served.ingress, &format!("{lease}?{query}")).method(Method::DELETE);
    for (query, field, says) in [
        ("outcome=", "query", "outcome"),
        ("outcome=OK", "query", "outcome"),
        ("outcome=ok%00", "query", "outcome"),
        ("outcome=%D0%B8", "query", "outcome"),
        ("outcome=%ff", "outcome", "the byte 0xff"),
        ("outcome=pushed-back&retry-after=", "query", "empty"),
        ("outcome=pushed-back&retry-after=1", "query", "time unit needed"),
        ("outcome=pushed-back&retry-after=-1s", "query", "is not a duration"),
        (&format!("outcome=pushed-back&retry-after={OVER}"), "query", LONG),
        ("outcome=ok&retry-after=1s", "retry-after", "outcome=pushed-back"),
    ] {
        used.is_bad(delete(query), field, says, query).await;
    }
    // Whatever is asked for, it closes the counter for no longer than a minute.
    used.is_accepted(delete(&format!("outcome=pushed-back&retry-after={AGES}")), AGES).await;
    let counter = used.served.host.counter("s").expect("it was used");
    assert!(counter.pushed_back_for.is_some_and(|pause| pause.as_secs() <= 60), "{counter:?}");
    assert_eq!(counter.calls, 0);
    used.ends().await;
}

#[tokio::test]
async fn texts_of_the_lease_api() {
    let used = Used::new().await;
    let places: [(&str, &str, Body); 9] = [
        ("scope", "the scope", |text| json!({"scope": text})),
        ("limit-key", "the first limit-key part", |text| json!({"scope": "s", "limit-key": text})),
        ("limit-key", "the second limit-key part", |text| json!({"scope": "s", "limit-key": format!("a/{text}")})),
        ("targets[1].scope", "the scope", |text| json!({"scope": "s", "targets": [{"scope": "t"}, {"scope": text}]})),
        (
            "targets[0].limit-key",
            "the first limit-key part",
            |text| json!({"scope": "s", "targets": [{"scope": "t", "limit-key": text}]}),
        ),
        (
            "targets[0].limit-key",
            "the second limit-key part",
            |text| json!({"scope": "s", "targets": [{"scope": "t", "limit-key": format!("a/{text}")}]}),
        ),
        (
            "flow-controls[1]",
            "the inline key",
            |text| json!({"scope": "s", "flow-controls": [{"key": "first"}, {"key": text, "concurrency": 1}]}),
        ),
        ("fairness-key", "the fairness key", |text| json!({"scope": "s", "fairness-key": text})),
        ("idempotency-key", "the idempotency key", |text| json!({"scope": "s", "idempotency-key": text})),
    ];
    for (field, what, body) in places {
        // A check takes nothing that could be found again.
        let paths = if field == "idempotency-key" { &[LEASES, EXPLAIN][..] } else { &[CHECK, LEASES, EXPLAIN] };
        for name in names() {
            used.is_granted_and_given_back(used.leases(LEASES, body(&name).to_string()), &name).await;
        }
        for (text, says) in not_names().into_iter().chain(control_bytes()) {
            let body = body(&text).to_string();
            for path in paths {
                used.is_bad(used.leases(path, body.clone()), field, &format!("{what} {says}"), &body).await;
            }
        }
    }
    let targets = |count: usize| json!({"scope": "s", "targets": vec![json!({"scope": "t"}); count]});
    let controls =
        |count: usize| json!({"scope": "s", "flow-controls": vec![json!({"key": "k", "concurrency": 1}); count]});
    for body in [targets(15), controls(15)] {
        used.is_granted_and_given_back(used.leases(LEASES, body.to_string()), "15 of them").await;
    }
    for (body, field, says) in [
        (targets(16), "targets", "16 further keys: at most 15"),
        (controls(16), "flow-controls", "16 further keys: at most 15"),
        (json!({"scope": "a/b"}), "scope", "has the byte `/`"),
        (json!({"scope": "*"}), "scope", "has the byte `*`"),
        (json!({"scope": "s", "limit-key": "a/b/c"}), "limit-key", "3 parts: a limit key has at most 2"),
        (json!({"scope": "s", "limit-key": "*"}), "limit-key", "has the byte `*`"),
        (json!({"scope": "s", "targets": [{"scope": "t", "limit-key": "a//b"}]}), "targets[0].limit-key", ""),
        (json!({"scope": "s", "flow-controls": [{"key": "a#b"}]}), "flow-controls[0]", "has the byte `#`"),
        (
            json!({"scope": "s", "flow-controls": [{"key": "k", "concurrency": 1}, {"key": "k", "concurrency": 2}]}),
            "flow-controls[1]",
            "comes twice, with other numbers",
        ),
        (json!({"scope": 1}), "scope", "invalid type"),
        (json!({"scope": null}), "scope", "invalid type"),
        (json!({"scope": "s", "targets": {}}), "targets", "invalid type"),
        (json!({"scope": "s", "flow-controls": [1]}), "flow-controls[0]", "invalid type"),
    ] {
        let body = body.to_string();
        for path in [CHECK, LEASES, EXPLAIN] {
            used.is_bad(used.leases(path, body.clone()), field, says, &body).await;
        }
    }
    used.ends().await;
}
