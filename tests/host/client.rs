//! `weir-client.wasm` in front of a server that speaks the lease API: the guest `flow`, composed with it, runs as it does on our own
//! host.

use crate::compose::{imports, plugged};
use crate::lease_server::{Fault, LeaseServer};
use std::sync::OnceLock;
use weir_tests::{Host, clients, get, guests, until, within};
use weir_wasm::Runner;

fn composed() -> &'static [u8] {
    static COMPOSED: OnceLock<Vec<u8>> = OnceLock::new();
    COMPOSED.get_or_init(|| plugged(guests::FLOW, clients::CLIENT))
}

fn app(server: &LeaseServer, env: &[(&str, &str)]) -> Runner {
    let change = |config: &mut weir_wasm::ComponentConfig| {
        config.env = server.env(env);
        config.allow_outbound = vec![server.at.to_string()];
        config.max_instances = Some(1);
    };
    Host::new(&[("s", "0")]).try_load_bytes(composed(), change).expect("it loads").runner()
}

#[test]
fn it_asks_its_host_for_nothing_special() {
    let client = std::fs::read(clients::CLIENT).unwrap();
    for name in imports(&client) {
        let allowed = ["wasi:http/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:io/"];
        assert!(allowed.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

#[tokio::test]
async fn it_acquires_and_gives_back_when_dropped() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[("WEIR_TOKEN", "t0ken")]);
    for n in 0..3 {
        assert_eq!(get(&app, "/acquire?scope=s&key=k").await.unwrap(), format!("granted|lease-{n}|{}", n + 1));
        until("the release arrives", || server.held("s") == 0).await;
    }
    assert_eq!(server.calls()[..2], ["POST /weir/v1/leases", "DELETE /weir/v1/leases/ID"]);
    let state = server.state();
    let first = &state.seen[0];
    assert_eq!(first.headers["authorization"], "Bearer t0ken");
    assert_eq!(
        (&first.body["limit-key"], &first.body["max-wait"], &first.body["lease-time"]),
        (&"k".into(), &"1m".into(), &"30s".into())
    );
    assert!(!first.headers.contains_key("weir-client-failures"));
}

#[tokio::test]
async fn a_refusal_is_told_as_it_is() {
    let server = LeaseServer::start(&[("s", 0)]).await;
    let app = app(&server, &[]);
    assert_eq!(get(&app, "/try?scope=s").await.unwrap(), "limited|not now");
    assert_eq!(server.state().seen[0].body["max-wait"], "0s");
    assert_eq!(get(&app, "/check?scope=s").await.unwrap(), "limited|not now: `s` has 0 of 0 in use");
    assert_eq!(get(&app, "/check?scope=other").await.unwrap(), format!("would be granted|other 0/{}", usize::MAX));
    let none = get(&app, "/acquire").await.unwrap();
    assert!(none.starts_with("invalid|no scope: name one, or set WEIR_SCOPE"), "{none}");
}

#[tokio::test]
async fn the_guest_extends_settles_and_says_how_it_ended() {
    let server = LeaseServer::start(&[("s", 5)]).await;
    let app = app(&server, &[]);
    assert_eq!(get(&app, "/timed?scope=s&lease_ms=100").await.unwrap(), "true|true|Some(0)|lost");
    assert_eq!(get(&app, "/settle?scope=s&cost=10&to=4&to=12").await.unwrap(), "-6 +0 s 1/5|-0 +2 s 1/5");
    assert_eq!(get(&app, "/batch?scope=s&count=9&least=2").await.unwrap(), "5 5 s 5/5");
    until("all are given back", || server.held("s") == 0).await;
    assert_eq!(get(&app, "/release?scope=s&outcome=pushed-back&pause_ms=1500").await.unwrap(), "released");
    assert_eq!(get(&app, "/release?scope=s&outcome=failed").await.unwrap(), "released");
    until("both releases arrive", || server.held("s") == 0).await;
    let calls = server.calls();
    assert!(
        calls.contains(&"DELETE /weir/v1/leases/ID?outcome=pushed-back&retry-after=1s500ms".to_owned()),
        "{calls:?}"
    );
    assert!(calls.contains(&"DELETE /weir/v1/leases/ID?outcome=failed".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_lease_is_extended_while_it_is_held_and_no_longer() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[("WEIR_LEASE_TIME", "400ms")]);
    let holding = tokio::spawn(async move { get(&app, "/hold?scope=s&ms=1500").await });
    let extended = || server.calls().iter().filter(|call| call.ends_with("/extend")).count();
    until("it is extended", || extended() >= 3).await;
    assert_eq!(server.held("s"), 1);
    assert_eq!(within("the work", holding).await.unwrap().unwrap(), "held");
    until("the release arrives", || server.calls().last().is_some_and(|call| call.starts_with("DELETE"))).await;
    assert_eq!(server.held("s"), 0);
}

#[tokio::test]
async fn what_is_held_beyond_the_response_is_kept_and_given_back() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[("WEIR_LEASE_TIME", "400ms")]);
    assert_eq!(get(&app, "/after?scope=s&ms=700").await.unwrap(), "answered");
    assert_eq!(server.held("s"), 1);
    until("the release arrives", || server.calls().last().is_some_and(|call| call.starts_with("DELETE"))).await;
    assert!(server.calls().iter().any(|call| call.ends_with("/extend")), "{:?}", server.calls());
}

#[tokio::test]
async fn a_kept_lease_is_left_to_its_lease_time() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[("WEIR_LEASE_TIME", "300ms")]);
    assert_eq!(get(&app, "/keep?scope=s").await.unwrap(), "kept");
    until("it ends", || server.held("s") == 0).await;
    assert_eq!(server.calls(), ["POST /weir/v1/leases"]);
}

#[tokio::test]
async fn a_cut_connection_costs_no_second_lease() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[]);
    server.state().faults.extend([Fault::Cut, Fault::CutAfter, Fault::Status(502)]);
    assert_eq!(get(&app, "/acquire?scope=s").await.unwrap(), "granted|lease-0|1");
    until("the release arrives", || server.held("s") == 0).await;
    let state = server.state();
    let keys: Vec<_> = state.seen.iter().filter_map(|seen| seen.body["idempotency-key"].as_str()).collect();
    assert_eq!((keys.len(), keys[0].len()), (4, 32));
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_release_is_sent_again_until_it_arrives() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[]);
    let held = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/hold?scope=s&ms=300").await }
    });
    until("it is granted", || server.held("s") == 1).await;
    server.state().faults.extend([Fault::Cut, Fault::Status(500)]);
    assert_eq!(within("the work", held).await.unwrap().unwrap(), "held");
    until("the release arrives", || server.held("s") == 0).await;
    assert_eq!(server.calls().iter().filter(|call| call.starts_with("DELETE")).count(), 3);
}

#[tokio::test]
async fn while_nobody_answers_the_policy_decides_and_is_seen() {
    let server = LeaseServer::start(&[]).await;
    let app = app(&server, &[("WEIR_ON_FAILURE", "closed, o=open, b=budget:2/1h")]);
    server.state().faults.extend([Fault::Status(500); 20]);
    let closed = get(&app, "/acquire?scope=s").await.unwrap();
    assert_eq!(closed, "unavailable|the Weir server did not answer: it answered 500");
    let open = get(&app, "/acquire?scope=o").await.unwrap();
    assert!(open.starts_with("granted|local-open-") && open.ends_with("|0"), "{open}");
    for _ in 0..2 {
        let granted = get(&app, "/acquire?scope=b").await.unwrap();
        assert!(granted.starts_with("granted|local-budget-"), "{granted}");
    }
    let spent = get(&app, "/acquire?scope=b").await.unwrap();
    assert!(spent.starts_with("limited|") && spent.ends_with("the budget of `b` for that is spent"), "{spent}");
    // It is back: nothing local was ever released there, and it learns how often it was missed.
    assert_eq!(get(&app, "/acquire?scope=s").await.unwrap(), "granted|lease-0|1");
    let state = server.state();
    assert_eq!(state.seen.len(), 21 + state.seen[21..].len());
    assert!(state.seen[..21].iter().all(|seen| seen.what == "POST /weir/v1/leases"));
    assert_eq!(state.seen[20].headers["weir-client-failures"], "closed=1, open=1, budget=3");
    assert!(state.seen[21..].iter().all(|seen| !seen.headers.contains_key("weir-client-failures")));
}

#[tokio::test]
async fn nobody_listening_is_no_answer_either() {
    let mut nowhere = LeaseServer::start(&[]).await;
    nowhere.at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = app(&nowhere, &[("WEIR_ON_FAILURE", "open")]);
    assert!(get(&app, "/acquire?scope=s").await.unwrap().starts_with("granted|local-open-"));
}
