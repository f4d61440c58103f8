//! What a call holds while it backs off, and what is left of one that is given up: nothing, in every state.

use super::{HOUR, Step, Upstream, call, caller, path, until};
use weir_engine::Lease;
use weir_tests::{Host, request, within};
use weir_wasm::{Call, Runner};

/// The states that a call can be given up in.
const STATES: [State; 3] = [State::Waiting, State::BackingOff, State::InFlight];

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waiting,
    BackingOff,
    InFlight,
}

impl State {
    /// An upstream that leads there, the call, and what keeps it waiting.
    async fn prepare(self, host: &Host) -> (Upstream, String, Option<Lease>) {
        let (script, held) = match self {
            Self::Waiting => (&[][..], Some(host.take("mine"))),
            Self::BackingOff => (&[Step::Status(500)][..], None),
            Self::InFlight => (&[Step::Silence][..], None),
        };
        let query = format!("scope=mine&key=k&parallelism=1&retries=5&delay={HOUR}&longest={HOUR}&max-wait={HOUR}");
        (Upstream::start(script).await, query, held)
    }

    /// Waits until it is there.
    async fn reached(self, host: &Host, upstream: &Upstream) {
        match self {
            Self::Waiting => host.shows("mine", 1, 1).await,
            Self::BackingOff => {
                until("it is answered", || upstream.requests() == 1 && upstream.running() == 0).await;
                host.shows("mine#k", 0, 0).await;
            }
            Self::InFlight => {
                until("it is sent", || upstream.running() == 1).await;
                host.shows("mine#k", 1, 0).await;
            }
        }
    }

    /// Waits until nothing is left of it.
    async fn nothing_left(self, host: &Host, upstream: &Upstream, held: Option<Lease>) {
        host.shows("mine", u64::from(held.is_some()), 0).await;
        drop(held);
        host.settles().await;
        until("its connection is closed", || upstream.running() == 0).await;
        assert_eq!(upstream.requests(), usize::from(self != Self::Waiting));
    }
}

fn started(app: &Runner, path: &str) -> tokio::task::JoinHandle<()> {
    let (app, path) = (app.clone(), path.to_owned());
    tokio::spawn(async move { drop(app.handle(Call::default(), request(&path)).await) })
}

#[tokio::test]
async fn nothing_is_held_during_back_off() {
    let host = Host::new(&[("mine", "1")]);
    let app = caller(&host, Vec::new());
    let (upstream, query, _) = State::BackingOff.prepare(&host).await;
    let backing_off = started(&app, &path(&upstream, &query));
    State::BackingOff.reached(&host, &upstream).await;
    // One at a time, and another one is served at once.
    assert_eq!(call(&app, &upstream, "scope=mine&key=k&parallelism=1&max-wait=0").await, "200|ok");
    assert_eq!(host.flow.metrics().leases, 0);
    backing_off.abort();
    host.settles().await;
}

/// The guest lives on, and only its call is gone.
#[tokio::test]
async fn nothing_is_left_of_a_call_that_the_guest_gives_up() {
    for state in STATES {
        let host = Host::new(&[("mine", "1")]);
        let app = caller(&host, Vec::new());
        let (upstream, query, held) = state.prepare(&host).await;
        let until = upstream.url("/gated");
        let path = format!("/give-up?url={}&until={until}&{query}", upstream.url("/"));
        let guest = started(&app, &path);
        state.reached(&host, &upstream).await;
        upstream.open_gate();
        state.nothing_left(&host, &upstream, held).await;
        assert!(!guest.is_finished(), "{state:?}");
        guest.abort();
    }
}

/// The instance lives on with another request, and only the call is gone.
#[tokio::test]
async fn nothing_is_left_of_a_call_whose_client_leaves() {
    for state in STATES {
        let host = Host::new(&[("mine", "1")]);
        let app = caller(&host, Vec::new());
        let (upstream, query, held) = state.prepare(&host).await;
        let calling = started(&app, &path(&upstream, &query));
        state.reached(&host, &upstream).await;
        let idle = started(&app, "/idle");
        // The one instance serves both by now.
        assert_eq!(call(&app, &upstream, "").await.split('|').next(), Some("200"), "{state:?}");
        calling.abort();
        host.shows("mine", u64::from(held.is_some()), 0).await;
        drop(held);
        host.settles().await;
        until("its connection is closed", || upstream.running() == 0).await;
        assert!(!idle.is_finished(), "{state:?}");
        idle.abort();
    }
}

#[tokio::test]
async fn a_lease_lives_as_long_as_the_body_of_the_response() {
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let upstream = Upstream::start(&[]).await;
    let holding = started(&app, &format!("/hold?url={}&key=k&parallelism=1&retries=2", upstream.url("/endless")));
    until("the head has come", || upstream.requests() == 1 && upstream.running() == 0).await;
    let refused = call(&app, &upstream, "key=k&parallelism=1&max-wait=0").await;
    assert!(refused.starts_with("refused|limited|"), "{refused}");
    // In an instance of its own: the one of the holder is dropped with it.
    let other = caller(&host, Vec::new());
    let passing = tokio::spawn({
        let path = path(&upstream, "key=k&parallelism=1");
        async move { weir_tests::get(&other, &path).await }
    });
    host.shows("app#k", 1, 1).await;
    holding.abort();
    assert_eq!(within("the next", passing).await.unwrap().unwrap(), "200|ok");
    host.settles().await;
}
