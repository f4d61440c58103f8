//! Bodies of the lease API and of the admin API that are too large, too deep, twice, or of another kind: one clear answer, and nothing
//! is held.

use futures::future::join_all;

use crate::figure;
use crate::server::Server;
use crate::wire::{ask, post};

/// How often each is sent at once.
const TIMES: usize = 20;

const LEASES: &str = "/weir/v1/leases";
const CHECK: &str = "/weir/v1/check";
/// A lease that nobody has.
const EXTEND: &str = "/weir/v1/leases/00112233445566778899aabbccddeeff0011/extend";
const SETTLE: &str = "/weir/v1/leases/00112233445566778899aabbccddeeff0011/settle";

/// Where it is sent, the body, the status, a part of what is said.
type Sent = (&'static str, Vec<u8>, u16, &'static str);

fn bodies() -> Vec<Sent> {
    let mut all: Vec<Sent> = Vec::new();
    // A body of so many bytes that is valid but for its size.
    let padded = |size: usize| {
        let scope = r#"{"scope":"held"}"#;
        format!("{scope}{}", " ".repeat(size - scope.len())).into_bytes()
    };
    all.push((LEASES, padded(64 * 1024 + 1), 413, "65536 bytes"));
    all.push((CHECK, padded(64 * 1024 + 1), 413, "65536 bytes"));
    all.push((CHECK, padded(64 * 1024), 200, "\"granted\":true"));
    all.push((LEASES, "[".repeat(60_000).into_bytes(), 400, "no JSON object"));
    all.push((LEASES, r#"{"scope":"#.repeat(6_000).into_bytes(), 400, "invalid type: map"));
    all.push((LEASES, format!(r#"{{"targets":{}"#, "[".repeat(60_000)).into_bytes(), 400, "invalid type: sequence"));
    all.push((LEASES, format!(r#"{{"x":{}"#, r#"{"x":"#.repeat(10_000)).into_bytes(), 400, "unknown field `x`"));
    all.push((LEASES, b"{\"scope\":\"\xff\xfe\"}".to_vec(), 400, "invalid unicode"));
    all.push((LEASES, b"{\"scope\":\"\\ud800\"}".to_vec(), 400, "hex escape"));
    all.push((LEASES, b"{\"scope\":\"a\0b\"}".to_vec(), 400, "control character"));
    all.push((LEASES, b"{\"scope\":\"a\\u0000b\"}".to_vec(), 400, "0x00"));
    for (path, body, part) in [
        (LEASES, "", "EOF"),
        (LEASES, "null", "no JSON object"),
        (LEASES, "{}{}", "missing field"),
        (LEASES, r#"{"scope":"held"}{"scope":"held"}"#, "trailing characters"),
        (LEASES, r#"{"scope":"held","scope":"other"}"#, "duplicate field `scope`"),
        (LEASES, r#"{"scope":"held","cost":1,"cost":2}"#, "duplicate field `cost`"),
        (LEASES, r#"{"scope":"held","targets":[{"scope":"a","scope":"b"}]}"#, "duplicate field `scope`"),
        (LEASES, r#"{"scope":"held","wait":"1s"}"#, "unknown field `wait`"),
        (LEASES, r#"{"scope":"held","targets":[{"scope":"a","cost":1}]}"#, "unknown field `cost`"),
        (LEASES, r#"["held",null,1,[],[],1,null,1,"1s","1s",1,1,"k"]"#, "no JSON object"),
        (LEASES, r#"{"scope":"held","targets":[["a",null]]}"#, "sequence, expected an object"),
        (LEASES, r#"{"scope":"held","flow-controls":[["k",1,[]]]}"#, "sequence, expected an object"),
        (LEASES, r#"{"scope":"held","targets":{"scope":"a"}}"#, "map, expected a sequence"),
        (LEASES, r#"{"scope":["held"]}"#, "sequence, expected a string"),
        (LEASES, r#"{"scope":1}"#, "integer `1`, expected a string"),
        (LEASES, r#"{"scope":null}"#, "null, expected a string"),
        (LEASES, r#"{"scope":"held","cost":"1"}"#, "string \\\"1\\\""),
        (LEASES, r#"{"scope":"held","cost":true}"#, "boolean `true`"),
        (LEASES, r#"{"scope":"held","cost":1.5}"#, "floating point `1.5`"),
        (LEASES, r#"{"scope":"held","cost":18446744073709551616}"#, "floating point"),
        (LEASES, r#"{"scope":"held","cost":1e400}"#, "number out of range"),
        (LEASES, r#"{"scope":"held","cost":-9223372036854775809}"#, "floating point"),
        (LEASES, r#"{"scope":"held","cost":NaN}"#, "expected value"),
        (LEASES, r#"{"scope":"held","lease-time":30}"#, "integer `30`"),
        (LEASES, r#"{"scope":"held","lease-time":"99999999999999999999s"}"#, "is not a duration"),
        (CHECK, r#"{"scope":"held","targets":[["a",null]]}"#, "sequence, expected an object"),
        (CHECK, r#"{"scope":"held","max-wait":"1s"}"#, "unknown field `max-wait`"),
        (EXTEND, r#"["1s"]"#, "no JSON object"),
        (EXTEND, r#"{"lease-time":"1s","lease-time":"2s"}"#, "duplicate field"),
        (EXTEND, r#"{"lease-time":"1s","cost":1}"#, "unknown field `cost`"),
        (SETTLE, r#"{"cost":18446744073709551616}"#, "floating point"),
        (SETTLE, r#"{"cost":-1}"#, "integer `-1`"),
    ] {
        all.push((path, body.into(), 400, part));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies() {
    let server = Server::start();
    let bodies = bodies();
    let book = server.figure("weir_book_version").await;
    let attack = async {
        let mut wrong = Vec::new();
        for (path, body, status, part) in &bodies {
            let answers = join_all((0..TIMES).map(|_| post(server.ingress, path, body))).await;
            let bad = answers.into_iter().find(|answer| answer.status != *status || !answer.body.contains(part));
            wrong.extend(bad.map(|answer| (String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned(), answer)));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        for kind in ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"] {
            let answer = ask(server.ingress, "POST", LEASES, kind, br#"{"scope":"held"}"#).await;
            assert_eq!(answer.status, 415, "{kind}: {answer:?}");
        }
        for (path, body, part) in [
            ("/v1/rules", r#"{"changes":[[null,null,"shut",null,false]]}"#, "sequence, expected an object"),
            ("/v1/rules", r#"{"changes":[{"put":{"pattern":"a","shadow-limits":[1]}}]}"#, "sequence, expected"),
            ("/v1/rules", r#"{"changes":[{"delete":"shut","delete":"one"}]}"#, "duplicate field"),
        ] {
            let answer = ask(server.admin, "PUT", path, "content-type: application/json\r\n", body.as_bytes()).await;
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
            assert!(answer.body.contains(part), "{body}: {answer:?}");
        }
    };
    server.under("bodies", attack).await;
    figure("bodies_kinds", bodies.len());
    assert_eq!(server.counters("held").await, 0, "nothing was ever held");
    assert_eq!(server.figure("weir_book_version").await, book, "no rule has changed");
}
