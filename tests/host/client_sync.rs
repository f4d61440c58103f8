//! `weir-client-sync.wasm`: the guest `sync`, composed with it.

use crate::compose::{imports, plugged};
use crate::lease_server::{Fault, LeaseServer};
use std::sync::OnceLock;
use weir_tests::{Host, clients, get, guests};
use weir_wasm::Runner;

fn app(server: &LeaseServer, env: &[(&str, &str)]) -> Runner {
    static COMPOSED: OnceLock<Vec<u8>> = OnceLock::new();
    let composed = COMPOSED.get_or_init(|| plugged(guests::SYNC, clients::CLIENT_SYNC));
    let change = |config: &mut weir_wasm::ComponentConfig| {
        config.env = server.env(env);
        config.env.push(("WEIR_SCOPE".to_owned(), "s".to_owned()));
        config.allow_outbound = vec![server.at.to_string()];
    };
    Host::new(&[("app", "0")]).try_load_bytes(composed, change).expect("it loads").runner()
}

#[test]
fn it_asks_its_host_for_nothing_special() {
    let client = std::fs::read(clients::CLIENT_SYNC).unwrap();
    for name in imports(&client) {
        let allowed = ["wasi:http/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:io/"];
        assert!(allowed.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        assert!(name.contains("@0.2."), "{name}");
    }
}

#[tokio::test]
async fn it_acquires_and_has_given_back_when_it_answers() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[]);
    for n in 1..=3 {
        assert_eq!(get(&app, "/acquire").await.unwrap(), format!("granted|{n}"));
        assert_eq!(server.held("s"), 0);
    }
    assert_eq!(server.calls()[..2], ["POST /weir/v1/leases", "DELETE /weir/v1/leases/ID"]);
}

#[tokio::test]
async fn it_settles_batches_checks_and_says_how_it_ended() {
    let server = LeaseServer::start(&[("s", 4)]).await;
    let app = app(&server, &[]);
    assert_eq!(get(&app, "/settle").await.unwrap(), "-6 +0|-0 +2");
    assert!(server.calls().contains(&"DELETE /weir/v1/leases/ID?outcome=pushed-back".to_owned()));
    assert_eq!(get(&app, "/batch").await.unwrap(), "4");
    assert_eq!(server.held("s"), 0);
    assert_eq!(get(&app, "/options").await.unwrap(), "1 bind");
    let last = server.state().seen.last().unwrap().body.clone();
    assert_eq!((&last["fairness-key"], &last["weight"], &last["priority"]), (&"f".into(), &1000.into(), &0.into()));
}

#[tokio::test]
async fn a_kept_lease_is_left_to_its_lease_time() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[]);
    assert_eq!(get(&app, "/keep").await.unwrap(), "kept");
    assert_eq!(server.calls(), ["POST /weir/v1/leases"]);
    assert_eq!(server.held("s"), 1);
    let refused = get(&app, "/acquire").await.unwrap();
    assert_eq!(refused, "Reason::Limited|not now");
}

#[tokio::test]
async fn a_cut_connection_costs_no_second_lease() {
    let server = LeaseServer::start(&[("s", 1)]).await;
    let app = app(&server, &[]);
    server.state().faults.extend([Fault::CutAfter, Fault::Status(502)]);
    assert_eq!(get(&app, "/acquire").await.unwrap(), "granted|1");
    assert_eq!(server.held("s"), 0);
    let state = server.state();
    let keys: Vec<_> = state.seen.iter().filter_map(|seen| seen.body["idempotency-key"].as_str()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn while_nobody_answers_the_policy_decides() {
    let server = LeaseServer::start(&[]).await;
    server.state().faults.extend([Fault::Status(500); 8]);
    let closed = get(&app(&server, &[]), "/acquire").await.unwrap();
    assert_eq!(closed, "Reason::Unavailable|the Weir server did not answer: it answered 500");
    let open = get(&app(&server, &[("WEIR_ON_FAILURE", "open")]), "/acquire").await.unwrap();
    assert_eq!(open, "granted|0");
    // The same instance tells the server what it has missed once that answers.
    server.state().faults.extend([Fault::Status(500); 4]);
    assert_eq!(get(&app(&server, &[("WEIR_ON_FAILURE", "open")]), "/again").await.unwrap(), "0|1");
    let state = server.state();
    let told: Vec<_> = state.seen.iter().filter_map(|seen| seen.headers.get("weir-client-failures")).collect();
    assert_eq!(told, ["open=1"]);
}
