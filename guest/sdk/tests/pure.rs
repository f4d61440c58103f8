//! What needs no host, on every target: natively by `cargo test`, on wasm32-unknown-unknown by wasm-bindgen-test under Node.
#![allow(missing_docs, reason = "tests")]

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
use weir_guest::{Constraint, ConstraintKind, Reason, Refused, escape, limit_key};

const REASONS: [(Reason, &str, u16); 13] = [
    (Reason::Limited, "limited", 503),
    (Reason::Overloaded, "overloaded", 503),
    (Reason::TimedOut, "timed-out", 503),
    (Reason::TooLarge, "too-large", 422),
    (Reason::Denied, "denied", 500),
    (Reason::Conflict, "conflict", 500),
    (Reason::Ended, "ended", 500),
    (Reason::WouldBlock, "would-block", 500),
    (Reason::Invalid, "invalid", 500),
    (Reason::Paused, "paused", 503),
    (Reason::PushedBack, "pushed-back", 503),
    (Reason::Lost, "lost", 500),
    (Reason::Unavailable, "unavailable", 503),
];

fn constraint(kind: ConstraintKind) -> Constraint {
    Constraint {
        kind,
        counter: "model/gpt".to_owned(),
        pattern: Some("model/*".to_owned()),
        limit: 3,
        used: 3,
        frees_in: Some(Duration::from_nanos(19_000_000_001)),
        estimated: false,
    }
}

#[test]
fn every_reason_has_its_name_and_status() {
    for (reason, name, status) in REASONS {
        let refused = Refused::new(reason, "no");
        assert_eq!(reason.as_str(), name);
        assert_eq!(refused.status(), status, "{name}");
        assert_eq!(refused.is_temporary(), status == 503, "{name}");
    }
}

#[test]
fn a_rate_in_the_way_is_429_only_where_a_retry_helps() {
    for (reason, name, status) in REASONS {
        let refused = Refused::new(reason, "no")
            .blocked_on(constraint(ConstraintKind::Concurrency))
            .blocked_on(constraint(ConstraintKind::Rate));
        let expected = if matches!(reason, Reason::Limited | Reason::TimedOut) { 429 } else { status };
        assert_eq!(refused.status(), expected, "{name}");
    }
}

#[test]
fn concurrency_in_the_way_is_503() {
    for kind in [ConstraintKind::Concurrency, ConstraintKind::Closed, ConstraintKind::Waitlist, ConstraintKind::Cap] {
        assert_eq!(Refused::new(Reason::TimedOut, "no").blocked_on(constraint(kind)).status(), 503);
    }
}

#[test]
fn retry_after_is_rounded_up_and_at_least_one() {
    for (nanos, seconds) in
        [(0, 1), (1, 1), (999_999_999, 1), (1_000_000_000, 1), (1_000_000_001, 2), (u64::MAX, 18_446_744_074)]
    {
        let refused = Refused::new(Reason::Limited, "no").retry_after(Duration::from_nanos(nanos));
        assert_eq!(refused.retry_after_seconds(), Some(seconds), "{nanos} ns");
        assert_eq!(refused.headers()["retry-after"].to_str().ok(), Some(seconds.to_string().as_str()));
    }
    assert_eq!(Refused::new(Reason::Limited, "no").retry_after(Duration::MAX).retry_after_seconds(), Some(u64::MAX));
}

#[test]
fn no_retry_after_where_a_retry_never_helps() {
    let refused = Refused::new(Reason::TooLarge, "no").retry_after(Duration::from_secs(9));
    assert_eq!(refused.retry_after_seconds(), None);
    assert!(!refused.headers().contains_key("retry-after"));
}

#[test]
fn limits_in_the_way_stand_in_the_headers() {
    let plain = Constraint { pattern: None, frees_in: None, used: 1, ..constraint(ConstraintKind::Concurrency) };
    let refused = Refused::new(Reason::TimedOut, "no")
        .retry_after(Duration::from_secs(2))
        .blocked_on(constraint(ConstraintKind::Rate))
        .blocked_on(plain)
        .blocked_on(constraint(ConstraintKind::Waitlist));
    let headers = refused.headers();
    let policies = r#""model/* rate 3";q=3, "model/gpt concurrency 3";q=3;qu="concurrent-requests""#;
    assert_eq!(headers["ratelimit-policy"], policies);
    assert_eq!(headers["ratelimit"], r#""model/* rate 3";r=0;t=20, "model/gpt concurrency 3";r=2"#);
    assert_eq!(headers["retry-after"], "20", "never earlier than a limit says");
    let waitlist = Refused::new(Reason::Overloaded, "full").blocked_on(constraint(ConstraintKind::Waitlist));
    assert_eq!(waitlist.headers().len(), 2, "a waitlist is no policy: {:?}", waitlist.headers());
    // What a guest made up itself cannot break a header.
    let odd = Constraint { pattern: Some("a\nb".to_owned()), ..constraint(ConstraintKind::Rate) };
    assert!(!Refused::new(Reason::Limited, "no").blocked_on(odd).headers().contains_key("ratelimit"));
}

#[test]
fn a_guest_may_know_better_whose_fault_it_is() {
    let response = Refused::new(Reason::Invalid, "the request has no header `x`")
        .into_http_as::<String>(http::StatusCode::BAD_REQUEST);
    let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(
        (response.status().as_u16(), &body["status"], &body["title"]),
        (400, &400.into(), &"Bad Request".into())
    );
}

#[test]
fn the_answer_is_a_problem() {
    let refused = Refused::new(Reason::TimedOut, "waited 5s for \"model/gpt\"\n")
        .retry_after(Duration::from_millis(19_001))
        .blocked_on(constraint(ConstraintKind::Rate));
    assert_eq!(refused.to_string(), "waited 5s for \"model/gpt\"\n");
    let response = refused.into_http::<Vec<u8>>();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["retry-after"], "20");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "waited 5s for \"model/gpt\"\n",
            "reason": "timed-out",
            "constraints": [{
                "kind": "rate",
                "counter": "model/gpt",
                "pattern": "model/*",
                "limit": 3,
                "used": 3,
                "frees-in": "19001ms",
                "estimated": false,
            }],
        })
    );
}

#[test]
fn what_is_unknown_is_left_out_of_the_body() {
    let unknown = Constraint { pattern: None, frees_in: None, ..constraint(ConstraintKind::Waitlist) };
    let body: serde_json::Value =
        serde_json::from_str(&Refused::new(Reason::Overloaded, "full").blocked_on(unknown).problem()).unwrap();
    assert_eq!(
        body["constraints"][0].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["counter", "estimated", "kind", "limit", "used"]
    );
    let bare: serde_json::Value = serde_json::from_str(&Refused::new(Reason::Overloaded, "full").problem()).unwrap();
    assert!(bare.get("constraints").is_none());
}

#[test]
fn different_texts_are_different_limit_keys() {
    assert_eq!(limit_key(&["eu", "visa"]), "eu/visa");
    let texts = ["", "a", "a b", "a:20b", "a/b", "a%b", "\u{e9}", "e\u{301}", "A", ":"];
    let escaped: std::collections::BTreeSet<String> = texts.iter().map(|text| escape(text)).collect();
    assert_eq!(escaped.len(), texts.len());
    for part in escaped {
        assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:@-".contains(&byte)), "{part}");
    }
}

/// The whole guest that the crate's documentation and the README open with is the one that CI builds and runs.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn the_documented_guest_is_the_example() {
    let example = include_str!("../../../examples/hello/src/lib.rs");
    assert!(include_str!("../../../README.md").contains(example), "README.md");
    let documented: String = include_str!("../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    assert!(documented.contains(example), "guest/sdk/src/lib.rs");
}

#[test]
fn a_call_is_what_was_said_of_it() {
    let minute = Duration::from_secs(60);
    let call = || weir_guest::call("a request");
    let one = call().key("provider").rate(3, minute).parallelism(2).retries(3);
    assert_eq!(one, call().retries(3).parallelism(2).rate(3, minute).key("provider"));
    assert_ne!(one, call().key("provider").rate(3, minute).parallelism(2));
    assert_eq!(call().rate(3, minute), call().rate_of(weir_guest::Rate::window(3, minute)));
}
