//! Every number and every text that can be sent to ingress, to the lease API and to the admin API, at and past its bounds: a problem
//! that names the field, and nothing is changed.
//!
//! | Way in | Numbers | Texts |
//! |---|---|---|
//! | ingress, a scoped call | `weir-max-wait`, `weir-priority`, `weir-weight` | the scope in the path, `weir-limit-key`, `weir-fairness-key` |
//! | `POST /weir/v1/leases`, `check` | `cost`, `priority`, `weight`, `concurrency` and `rates` of `flow-controls` | `scope`, `limit-key`, those of `targets`, `key` of `flow-controls`, `fairness-key` |
//! | `POST /weir/v1/leases` | `max-wait`, `lease-time`, `count`, `least` | `idempotency-key` |
//! | `POST /weir/v1/leases/{id}/settle`, `extend` | `cost`, `lease-time` | |
//! | `DELETE /weir/v1/leases/{id}` | `retry-after` | `outcome` |
//! | `GET /v1/rules` | `after`, `wait` | |
//! | `PUT /v1/rules` | `dry-run`, `if-book-version` | |
//! | each of its changes | `if-version` | `delete`; `pattern` of `put` and `patch`; `description` |
//! | limits: `put`, `patch`, `shadow-limits`, `pin` | `concurrency`, `rates`, `max-waiters`, `max-wait`, `max-pushback` | |
//! | a rate as an object | `limit`, `period`, `burst` | `mode`, `counts` |
//! | `GET`, `DELETE /v1/rules/{pattern}` | `if-match` | the pattern |
//! | `GET /v1/counters` | `limit` | `prefix`: any |
//! | `GET`, `POST /v1/counters/{name}` | those of `pin` | the name, `verb` |
//! | `GET /v1/explain` | `cost`, `priority`, `max-wait`, `weight` | `scope`, `limit-key`, `fairness-key` |
//! | `POST /v1/explain` | as `POST /weir/v1/leases` | as `POST /weir/v1/leases` |
//!
//! Bytes that no header and no path can carry end the request before anybody reads it, as 400 without a body. How many rules and
//! changes there may be is in `host/limiter/src/book.rs`.

mod leases;

use std::fmt::Write as _;
use std::io::Read as _;

use http::Method;
use serde_json::{Value, json};
use weir_engine::Lease;
use weir_tests::texts::{control_bytes, names, not_names};

use crate::Served;
use crate::client::{Answer, Asked, Http, get, http1, raw};

/// A field: what is accepted in it; what is not, and what is said of that.
struct Field {
    name: &'static str,
    good: &'static [&'static str],
    bad: &'static [(&'static str, &'static str)],
}

const PRIORITY: &str = "write a number from 0 to 255";
const WEIGHT: &str = "write a number from 1 to 1000";
const COST: &str = "expected a number from 1 to 4294967295";
const VERSION: &str = "expected a number from 0 to 18446744073709551615";
const KEY_PARTS: &str = "3 parts: a limit key has at most 2";
/// How many counters are shown.
const SHOWN: &str = "expected a number from 1 to 10000";
const LONG: &str = "it is too long: at most 64 bytes, and 11 digits a number";
/// The longest duration there is, and one that is longer.
const AGES: &str = "99999999999years";
const OVER: &str = "999999999999s";

const HEADERS: &[Field] = &[
    Field {
        name: "weir-max-wait",
        good: &["0s", "1ns", "60s", "24h", "25h", AGES],
        bad: &[
            ("", "is not a duration"),
            ("1", "is not a duration: time unit needed"),
            ("-1s", "`-1s` is not a duration"),
            ("1.5.1s", "is not a duration"),
            ("soon", "`soon` is not a duration"),
            ("\u{661}s", "has the byte 0xd9 at position 0"),
            (OVER, LONG),
        ],
    },
    Field {
        name: "weir-priority",
        good: &["0", "1", "255", "007"],
        bad: &[
            ("", PRIORITY),
            ("-1", PRIORITY),
            ("+1", PRIORITY),
            ("256", PRIORITY),
            ("18446744073709551616", PRIORITY),
            ("1.5", PRIORITY),
            ("0x1", PRIORITY),
            ("\u{661}", "has the byte 0xd9 at position 0"),
        ],
    },
    Field {
        name: "weir-weight",
        good: &["1", "1000"],
        bad: &[("", WEIGHT), ("0", WEIGHT), ("1001", WEIGHT), ("65536", WEIGHT), ("-1", WEIGHT), ("one", WEIGHT)],
    },
];

/// Queries of the admin API: the path, and the fields of its query. Before the field stands what goes with it.
const QUERIES: &[(&str, Field)] = &[
    (
        "/v1/rules?wait=0s&",
        Field {
            name: "after",
            good: &["0", "18446744073709551615"],
            bad: &[("", VERSION), ("-1", VERSION), ("18446744073709551616", VERSION), ("x", VERSION)],
        },
    ),
    (
        "/v1/rules?after=0&",
        Field {
            name: "wait",
            good: &["0s", "1ns", "1m"],
            bad: &[
                ("", "empty"),
                ("1", "time unit needed"),
                ("-1s", "wait=-1s"),
                ("1m1ns", "out of bounds: at most 1m"),
                (AGES, "out of bounds: at most 1m"),
                (OVER, LONG),
            ],
        },
    ),
    ("/v1/rules?", Field { name: "wait", good: &[], bad: &[("1s", "wait belongs to after=VERSION")] }),
    (
        "/v1/counters?",
        Field {
            name: "limit",
            good: &["1", "10000"],
            bad: &[
                ("", SHOWN),
                ("0", SHOWN),
                ("10001", SHOWN),
                ("-1", SHOWN),
                ("x", SHOWN),
                ("18446744073709551615", SHOWN),
                ("18446744073709551616", SHOWN),
            ],
        },
    ),
    ("/v1/counters?", Field { name: "prefix", good: &["", "%00", "%C3%A9", "*", "a%20b"], bad: &[] }),
    (
        "/v1/explain?scope=s&",
        Field {
            name: "cost",
            good: &["1", "4294967295"],
            bad: &[("", COST), ("0", COST), ("4294967296", COST), ("-1", COST), ("1.5", COST)],
        },
    ),
    (
        "/v1/explain?scope=s&",
        Field {
            name: "priority",
            good: &["0", "1", "255"],
            bad: &[("", "from 0 to 255"), ("256", "from 0 to 255"), ("-1", "from 0 to 255")],
        },
    ),
    (
        "/v1/explain?scope=s&",
        Field {
            name: "max-wait",
            good: &["0s", "1ns", "24h", AGES],
            bad: &[("", "empty"), ("1", "time unit needed"), ("-1s", "max-wait=-1s"), (OVER, LONG)],
        },
    ),
    (
        "/v1/explain?scope=s&fairness-key=f&",
        Field {
            name: "weight",
            good: &["1", "1000"],
            bad: &[
                ("", "from 1 to 1000"),
                ("0", "from 1 to 1000"),
                ("1001", "from 1 to 1000"),
                ("65536", "from 1 to 1000"),
            ],
        },
    ),
    ("/v1/explain?scope=s&", Field { name: "weight", good: &["1000"], bad: &[("1001", "from 1 to 1000")] }),
    (
        "/v1/explain?scope=s&",
        Field { name: "limit-key", good: &["a/b"], bad: &[("a/b/c", KEY_PARTS), ("/", "is empty")] },
    ),
];

const LIMITS: &[Field] = &[
    Field {
        name: "concurrency",
        good: &["0", "1", "4294967295", r#""0""#, r#""4294967295:cost""#, r#"{"limit":5,"counts":"cost"}"#],
        bad: &[
            ("-1", "the least is 0"),
            ("4294967296", "the most is 4294967295"),
            ("18446744073709551616", "concurrency limit"),
            ("1.5", "concurrency limit"),
            ("true", "concurrency limit"),
            (r#""""#, "write a number from 0 to 4294967295"),
            (r#""-1""#, "write a number from 0 to 4294967295"),
            (r#""4294967296""#, "write a number from 0 to 4294967295"),
            (r#""5:tokens""#, "write a number from 0 to 4294967295"),
            (r#"{"limit":5,"counts":"tokens"}"#, "unknown variant `tokens`"),
            (r#"{"limit":4294967296}"#, "invalid value"),
        ],
    },
    Field {
        name: "rates",
        good: &[
            "[]",
            r#"["1/1ms"]"#,
            r#"["4294967295/366days"]"#,
            r#"["1000/1s:smooth:burst=4294967295"]"#,
            r#"["1/1s","1/2s","1/3s","1/4s"]"#,
            r#"[{"limit":4294967295,"period":"366days"}]"#,
        ],
        bad: &[
            (r#"[""]"#, "there is no `/`"),
            (r#"["0/1m"]"#, "is not a number from 1 to 4294967295"),
            (r#"["4294967296/1m"]"#, "is not a number from 1 to 4294967295"),
            (r#"["-1/1m"]"#, "is not a number from 1 to 4294967295"),
            (r#"["1/999us"]"#, "out of bounds: 1ms to 366days"),
            (r#"["1/0s"]"#, "out of bounds: 1ms to 366days"),
            (r#"["1/367days"]"#, "out of bounds: 1ms to 366days"),
            (r#"["1/99999999999years"]"#, "out of bounds: 1ms to 366days"),
            (r#"["1/999999999999s"]"#, LONG),
            (r#"["1/1m:burst=1"]"#, "burst belongs to smooth rates only"),
            (r#"["1/1m:smooth:burst=0"]"#, "is not a number from 1 to 4294967295"),
            (r#"["1/1m:smooth:burst=4294967296"]"#, "is not a number from 1 to 4294967295"),
            (r#"["1/1s:smooth:burst=3162240001"]"#, "over 100 years"),
            (r#"["1001001/1ms:smooth"]"#, "0.1 %"),
            (r#"["1/1s:\u0000"]"#, "none of smooth, window, calls, cost, burst=N"),
            (r#"["\u0661/1s"]"#, "is not a number from 1 to 4294967295"),
            (r#"["1/1s","1/2s","1/3s","1/4s","1/5s"]"#, "5 rates: a rule has at most 4"),
            (r#"["1/1m","2/1m"]"#, "two rates with the same mode, period and counting"),
            (r#"[{"limit":0,"period":"1m"}]"#, "from 1 "),
            (r#"[{"limit":4294967296,"period":"1m"}]"#, "invalid value"),
            (r#"[{"limit":1,"period":"0s"}]"#, "out of bounds: 1ms to 366days"),
            (r#"[{"limit":1,"period":"1m","mode":"smooth","burst":0}]"#, "from 1 "),
            (r#"[{"limit":1,"period":"1m","mode":""}]"#, "unknown variant"),
            ("3", "invalid type"),
        ],
    },
    Field {
        name: "max-waiters",
        good: &["0", "1", "1000000"],
        bad: &[
            ("1000001", "max-waiters 1000001 is too many: at most 1000000"),
            ("4294967295", "is too many: at most 1000000"),
            ("4294967296", "invalid value"),
            ("-1", "invalid value"),
            ("1.5", "invalid type"),
            (r#""1""#, "invalid type"),
        ],
    },
    Field {
        name: "max-wait",
        good: &[r#""0s""#, r#""1ns""#, r#""1day""#],
        bad: &[
            (r#""""#, "empty"),
            (r#""1day 1ns""#, "is too long: at most 1day"),
            (r#""99999999999years""#, "is too long: at most 1day"),
            (r#""999999999999s""#, LONG),
            (r#""-1s""#, "is not a duration"),
            (r#""\u0000""#, "is not a duration"),
            ("1", "invalid type"),
        ],
    },
    Field {
        name: "max-pushback",
        good: &[r#""0s""#, r#""1ns""#, r#""1day""#],
        bad: &[
            (r#""1day 1ns""#, "is too long: at most 1day"),
            (r#""soon""#, "is not a duration"),
            ("0", "invalid type"),
        ],
    },
];

const VERSIONS: &Field = &Field {
    name: "",
    good: &[],
    bad: &[
        ("-1", "invalid value"),
        ("1.5", "invalid type"),
        ("18446744073709551616", "invalid"),
        (r#""1""#, "invalid type"),
    ],
};

/// A server whose state is not that of a new one: something is held, and something has started.
struct Used {
    served: Served,
    client: Http,
    held: Lease,
}

impl Used {
    async fn new() -> Self {
        let served = Served::new(&[]);
        served.host.rule("used", Some("2"), &["9/1h"]);
        let held = served.host.take("used");
        Self { served, client: http1(), held }
    }

    fn admin(&self, method: &Method, path: &str) -> Asked {
        get(self.served.admin, path).method(method.clone())
    }

    async fn ends(self) {
        drop(self.held);
        self.served.host.settles().await;
    }

    async fn is_accepted(&self, asked: Asked, what: &str) {
        let answer = asked.send(&self.client).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    }

    /// A problem of this status that says so, and nothing is changed. Answers which field it names.
    async fn is_refused(&self, asked: Asked, status: u16, says: &str, what: &str) -> String {
        let before = self.served.host.state();
        let answer: Answer = asked.send(&self.client).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{what}: {problem}");
        assert_eq!(self.served.host.state(), before, "{what}");
        problem["field"].as_str().unwrap_or_default().to_owned()
    }

    async fn is_bad(&self, asked: Asked, field: &str, says: &str, what: &str) {
        let named = self.is_refused(asked, 400, says, what).await;
        assert!(named.starts_with(field), "{what}: {named} is named, and not {field}");
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02x}").expect("a string takes all");
        all
    })
}

const CALL: &str = "/weir/scope/s/call/app/plain";

#[tokio::test]
async fn headers_of_ingress() {
    let used = Used::new().await;
    let call = |name, value: &str| get(used.served.ingress, CALL).header(name, value);
    for Field { name, good, bad } in HEADERS {
        for value in *good {
            used.is_accepted(call(name, value), &format!("{name}: {value}")).await;
        }
        for (value, says) in *bad {
            used.is_bad(call(name, value), name, says, &format!("{name}: {value}")).await;
        }
        let twice = call(name, good[0]).header(name, good[0]);
        used.is_bad(twice, name, "is given more than once", name).await;
    }
    for (name, prefix, what) in [
        ("weir-limit-key", "", "the first limit-key part"),
        ("weir-limit-key", "a/", "the second limit-key part"),
        ("weir-fairness-key", "", "the fairness key"),
    ] {
        for value in names() {
            used.is_accepted(call(name, &format!("{prefix}{value}")), &format!("{name}: {value}")).await;
        }
        for (value, says) in not_names() {
            // A header has no blanks at its ends.
            if value == " " {
                continue;
            }
            let value = format!("{prefix}{value}");
            // Which byte it is counts from the beginning of the header where it is no ASCII.
            let says = if value.is_ascii() { format!("{what} {says}") } else { "has the byte 0x".to_owned() };
            used.is_bad(call(name, &value), name, &says, &format!("{name}: {value}")).await;
        }
    }
    used.is_bad(call("weir-limit-key", "a/b/c"), "weir-limit-key", KEY_PARTS, "three").await;
    used.is_bad(call("weir-fairness-key", "a/b"), "weir-fairness-key", "`/` (0x2f) at position 1", "two").await;
    used.ends().await;
}

#[tokio::test]
async fn the_scope_of_a_call() {
    let used = Used::new().await;
    for name in names() {
        let path = format!("/weir/scope/{name}/call/app/plain");
        used.is_accepted(get(used.served.ingress, &path), &path).await;
    }
    for (text, says) in [
        ("", "the scope is empty"),
        ("a%20b", "the scope has the byte `%` (0x25) at position 1"),
        ("a*", "the scope has the byte `*` (0x2a) at position 1"),
        ("%00", "the scope has the byte `%`"),
        (&"x".repeat(129), "the scope is 129 bytes long"),
        (&"x".repeat(10_000), "the scope is 10000 bytes long"),
    ] {
        let path = format!("/weir/scope/{text}/call/app/plain");
        used.is_bad(get(used.served.ingress, &path), "path", says, text).await;
    }
    used.ends().await;
}

/// What hyper itself refuses.
#[tokio::test]
async fn bytes_that_http_cannot_carry() {
    let used = Used::new().await;
    let before = used.served.host.state();
    for byte in ['\0', '\u{1}', '\u{1b}', '\u{7f}'] {
        for request in [
            format!("GET /weir/scope/a{byte}/call/app/plain HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("GET {CALL} HTTP/1.1\r\nhost: a\r\nweir-limit-key: a{byte}\r\n\r\n"),
            format!("GET {CALL} HTTP/1.1\r\nhost: a\r\nweir-priority: 1{byte}\r\n\r\n"),
        ] {
            for address in [used.served.ingress, used.served.admin] {
                let request = request.clone();
                let status = tokio::task::spawn_blocking(move || {
                    let mut answer = [0; 12];
                    raw(address, &request)
                        .read_exact(&mut answer)
                        .map(|()| String::from_utf8_lossy(&answer).into_owned())
                });
                assert_eq!(status.await.unwrap().unwrap(), "HTTP/1.1 400", "{byte:?}");
            }
        }
    }
    assert_eq!(used.served.host.state(), before);
    used.ends().await;
}

#[tokio::test]
async fn queries_of_the_admin_api() {
    let used = Used::new().await;
    for (path, Field { name, good, bad }) in QUERIES {
        for value in *good {
            let path = format!("{path}{name}={value}");
            let before = used.served.host.state();
            used.is_accepted(used.admin(&Method::GET, &path), &path).await;
            assert_eq!(used.served.host.state(), before, "{path}");
        }
        for (value, says) in *bad {
            let path = format!("{path}{name}={value}");
            used.is_bad(used.admin(&Method::GET, &path), name, says, &path).await;
        }
    }
    for (path, field, what) in [
        ("/v1/explain?scope=", "scope", "the scope"),
        ("/v1/explain?scope=s&limit-key=", "limit-key", "the first limit-key part"),
        ("/v1/explain?scope=s&limit-key=a/", "limit-key", "the second limit-key part"),
        ("/v1/explain?scope=s&fairness-key=", "fairness-key", "the fairness key"),
    ] {
        for name in names() {
            let path = format!("{path}{}", encoded(&name));
            used.is_accepted(used.admin(&Method::GET, &path), &path).await;
        }
        for (text, says) in not_names().into_iter().chain(control_bytes()) {
            let path = format!("{path}{}", encoded(&text));
            used.is_bad(used.admin(&Method::GET, &path), field, &format!("{what} {says}"), &path).await;
        }
    }
    for (path, field) in [
        ("/v1/explain", "scope"),
        ("/v1/explain?scope=%ff", "scope"),
        ("/v1/explain?scope=a&scope=b", "query"),
        ("/v1/explain?scope=a&priorit=1", "query"),
        ("/v1/rules?aft=1", "query"),
        ("/v1/counters?limit=1&limit=2", "query"),
    ] {
        used.is_bad(used.admin(&Method::GET, path), field, "", path).await;
    }
    used.ends().await;
}

#[tokio::test]
async fn paths_of_the_admin_api() {
    let used = Used::new().await;
    let part = |prefix: &str| match prefix.matches('/').count() {
        0 => "the scope",
        1 => "the first limit-key part",
        _ => "the second limit-key part",
    };
    let texts: Vec<_> = not_names().into_iter().chain(control_bytes()).filter(|(text, _)| !text.is_empty()).collect();
    for prefix in ["", "a/", "a/b/"] {
        for (text, says) in &texts {
            let (end, says) = (format!("{prefix}{}", encoded(text)), format!("{} {says}", part(prefix)));
            for method in [Method::GET, Method::DELETE] {
                used.is_bad(used.admin(&method, &format!("/v1/rules/{end}")), "pattern", &says, &end).await;
            }
            for (method, body) in [(Method::GET, ""), (Method::POST, r#"{"verb":"pause"}"#)] {
                let asked = used.admin(&method, &format!("/v1/counters/{end}")).json(body);
                used.is_bad(asked, "counter", &says, &end).await;
            }
        }
    }
    for (text, says) in texts {
        let asked =
            used.admin(&Method::POST, &format!("/v1/counters/a%23{}", encoded(&text))).json(r#"{"verb":"pause"}"#);
        used.is_bad(asked, "counter", &format!("the inline key {says}"), &text).await;
    }
    for (path, field, says) in [
        ("/v1/rules/a/b/c/d", "pattern", "4 parts"),
        ("/v1/rules/%ff", "pattern", "UTF-8"),
        ("/v1/rules/a//b", "pattern", "the first limit-key part is empty"),
        ("/v1/rules/a**", "pattern", "has the byte `*`"),
        ("/v1/counters/a/b/c/d", "counter", "4 parts"),
        ("/v1/counters/%ff", "counter", "UTF-8"),
        ("/v1/counters/a%23", "counter", "the inline key is empty"),
        ("/v1/counters/a%23b%23c", "counter", "has the byte `#`"),
    ] {
        used.is_bad(used.admin(&Method::GET, path), field, says, path).await;
    }
    for (tag, status) in [
        ("1", 400),
        ("\"\"", 400),
        ("\"-1\"", 400),
        ("\"x\"", 400),
        ("\"18446744073709551616\"", 400),
        ("*", 400),
        ("\u{e9}", 400),
        ("\"0\"", 412),
        ("\"18446744073709551615\"", 412),
    ] {
        let asked = used.admin(&Method::DELETE, "/v1/rules/used").header("if-match", tag);
        used.is_refused(asked, status, "", tag).await;
    }
    used.ends().await;
}

/// What goes into a batch or a verb: the body around a field, and how a problem calls what is around it.
const AROUND: &[(&str, &str, &str)] = &[
    ("/v1/rules", r#"{"changes":[{"put":{"pattern":"p",@}}]}"#, "changes[0]"),
    ("/v1/rules", r#"{"changes":[{"patch":{"pattern":"p",@}}]}"#, "changes"),
    ("/v1/rules", r#"{"changes":[{"put":{"pattern":"p","shadow-limits":{@}}}]}"#, "changes[0]"),
    ("/v1/rules", r#"{"changes":[{"patch":{"pattern":"p","shadow-limits":{@}}}]}"#, "changes"),
    ("/v1/counters/p", r#"{"verb":"pin","limits":{@}}"#, "limits"),
];

#[tokio::test]
async fn limits_in_bodies_of_the_admin_api() {
    let used = Used::new().await;
    for (path, around, place) in AROUND {
        let method = if path.ends_with("rules") { Method::PUT } else { Method::POST };
        let send = |name: &str, value: &str| {
            let body = around.replace('@', &format!("\"{name}\":{value}"));
            (used.admin(&method, path).json(body.clone()), body)
        };
        for Field { name, good, bad } in LIMITS {
            for value in good.iter().filter(|value| !(path.ends_with('p') && **value == "[]")) {
                let (asked, body) = send(name, value);
                used.is_accepted(asked, &body).await;
            }
            for (value, says) in *bad {
                let (asked, body) = send(name, value);
                used.is_bad(asked, place, says, &body).await;
            }
        }
    }
    used.ends().await;
}

#[tokio::test]
async fn the_rest_of_a_batch() {
    let used = Used::new().await;
    let put = |body: &Value| used.admin(&Method::PUT, "/v1/rules").json(body.to_string());
    let rule = |change: Value| put(&json!({ "changes": [change] }));

    // Names, in each of the places for a pattern.
    for (text, says) in not_names().into_iter().chain(control_bytes()) {
        for prefix in ["", "a/", "*/*/"] {
            let pattern = format!("{prefix}{text}");
            used.is_bad(rule(json!({"put": {"pattern": pattern}})), "changes[0].put.pattern", says, &pattern).await;
            used.is_bad(rule(json!({"patch": {"pattern": pattern}})), "changes[0].patch", says, &pattern).await;
            used.is_bad(rule(json!({"delete": pattern})), "changes[0].delete", says, &pattern).await;
        }
    }

    // Versions.
    for (value, says) in VERSIONS.bad {
        let version: Value = serde_json::from_str(value).unwrap();
        let body = format!(r#"{{"changes":[{{"delete":"used","if-version":{value}}}]}}"#);
        used.is_bad(used.admin(&Method::PUT, "/v1/rules").json(body), "changes[0].if-version", says, value).await;
        let body = format!(r#"{{"changes":[],"if-book-version":{value}}}"#);
        used.is_bad(used.admin(&Method::PUT, "/v1/rules").json(body), "if-book-version", says, value).await;
        assert!(!version.is_null());
    }
    for version in [0, u64::MAX] {
        for change in
            [json!({"delete": "used"}), json!({"put": {"pattern": "used"}}), json!({"patch": {"pattern": "used"}})]
        {
            let mut change = change;
            change["if-version"] = version.into();
            used.is_refused(rule(change), 412, "", "if-version").await;
        }
        used.is_refused(put(&json!({"changes": [], "if-book-version": version})), 412, "", "if-book-version").await;
    }

    // Descriptions: a line of any alphabet, up to 1,024 bytes.
    for text in ["", "\u{438}\u{43c}\u{44f} \u{540d}", &"x".repeat(1024)] {
        for body in ["put", "patch"] {
            let change = json!({body: {"pattern": "described", "description": text}});
            used.is_accepted(rule(change), text).await;
        }
    }
    let long = "x".repeat(1025);
    for (text, says) in [
        (long.as_str(), "1025 bytes long: the most is 1024"),
        ("a\nb", "the description has the control character U+000A at byte 1"),
        ("\u{1b}[31m", "the description has the control character U+001B at byte 0"),
        ("a\0", "the description has the control character U+0000 at byte 1"),
        ("\u{9b}", "the description has the control character U+009B at byte 0"),
    ] {
        for body in ["put", "patch"] {
            used.is_bad(rule(json!({body: {"pattern": "p", "description": text}})), "changes", says, text).await;
        }
    }

    // Words.
    for (query, body, field) in [
        ("?dry-run=", r#"{"changes":[]}"#, "dry-run"),
        ("?dry-run=1", r#"{"changes":[]}"#, "dry-run"),
        ("?dry-run=TRUE", r#"{"changes":[]}"#, "dry-run"),
        ("?dry=true", r#"{"changes":[]}"#, "query"),
        ("", "", "body"),
        ("", "null", "body"),
        ("", "{}", "body"),
        ("", "[]", "body"),
        ("", "\u{0}", "body"),
        ("", r#"{"changes":{}}"#, "changes"),
        ("", r#"{"changes":[{}]}"#, "changes[0]"),
        ("", r#"{"changes":[{"put":{"pattern":"p","total":true}}]}"#, "changes"),
        ("", r#"{"changes":[{"put":{"pattern":"*","total":1}}]}"#, "changes[0].put.total"),
        ("", r#"{"changes":[{"put":{"pattern":"*","disabled":null}}]}"#, "changes[0].put.disabled"),
        ("", r#"{"changes":[{"put":{"pattern":"p"}},{"put":{"pattern":"p"}}]}"#, "changes"),
    ] {
        let what = format!("{query} {body}");
        used.is_bad(used.admin(&Method::PUT, &format!("/v1/rules{query}")).json(body), field, "", &what).await;
    }
    let deep = format!(r#"{{"changes":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    used.is_bad(used.admin(&Method::PUT, "/v1/rules").json(deep), "changes", "", "100,000 deep").await;
    let bytes: &[u8] = b"{\"changes\":[{\"delete\":\"\xff\"}]}";
    used.is_bad(used.admin(&Method::PUT, "/v1/rules").json(bytes), "changes[0].delete", "", "no UTF-8").await;

    for (body, field) in [
        (r#"{"verb":""}"#, "verb"),
        (r#"{"verb":"PAUSE"}"#, "verb"),
        (r#"{"verb":"pause\u0000"}"#, "verb"),
        (r#"{"verb":1}"#, "verb"),
        (r#"{"verb":"pause","limits":{"concurrency":1}}"#, "limits"),
        (r#"{"verb":"pin"}"#, "limits"),
        (r#"{"verb":"pin","limits":{}}"#, "limits"),
        (r#"{"verb":"pin","limits":{"rates":[]}}"#, "limits"),
        (r#"{"verb":"pin","limits":{"speed":1}}"#, "limits.speed"),
        ("{}", "body"),
    ] {
        used.is_bad(used.admin(&Method::POST, "/v1/counters/used").json(body), field, "", body).await;
    }
    used.ends().await;
}
