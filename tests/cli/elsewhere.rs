//! Components with a client inside, on hosts that know nothing of Weir, and a Weir server with its lease API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use http::{Method, Response};
use http_body_util::BodyExt as _;
use weir_http::{Server, ServerConfig};
use weir_tests::{Host, guests, request, text, until, within};
use weir_wasm::WasiBody;

use crate::plain::{Compiled, Plain};
use crate::run;

/// The guests `stream` and `flow` behind the middleware, and `flow` alone, each with the client.
static COMPOSED: LazyLock<[Compiled; 3]> = LazyLock::new(|| {
    let all: [(&str, &str, &[&str]); 3] = [
        ("stream-client.wasm", guests::STREAM, &[]),
        ("flow-client.wasm", guests::FLOW, &[]),
        ("flow-alone.wasm", guests::FLOW, &["--no-middleware"]),
    ];
    all.map(|(name, guest, more)| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        run(&[&["compose", guest, "--client", "-o", out.to_str().unwrap()], more].concat()).ok();
        Compiled::new(&out)
    })
});

/// A Weir server on a free port, without a component of its own.
pub(crate) struct Weir {
    pub(crate) host: Host,
    server: Server,
}

impl Weir {
    pub(crate) fn new(rules: &[(&str, &str)]) -> Self {
        let host = Host::new(rules);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ServerConfig { ingress: free, admin: free, ..ServerConfig::default() };
        let server = Server::start(&config, host.flow.clone(), Vec::new()).expect("free ports");
        Self { host, server }
    }

    /// A host of a component that takes its leases here.
    pub(crate) fn plain(&self, component: &Compiled, variables: &[(&str, &str)]) -> Plain {
        let url = format!("http://{}", self.server.ingress());
        // What is not given back would outlast every test.
        Plain::new(component, &[variables, &[("WEIR_LEASE_TIME", "1h"), ("WEIR_URL", &url)]].concat())
    }

    /// One that runs `stream` under the scope `shop`.
    fn stream(&self, variables: &[(&str, &str)]) -> Arc<Plain> {
        Arc::new(self.plain(&COMPOSED[0], &[variables, &[("WEIR_SCOPE", "shop")]].concat()))
    }

    /// One that runs `flow` under the scope `shop`.
    fn flow(&self) -> Plain {
        self.plain(&COMPOSED[1], &[("WEIR_SCOPE", "shop")])
    }

    pub(crate) async fn settles(&self, hosts: &[&Plain]) {
        self.host.settles().await;
        for host in hosts {
            assert_eq!(host.failures(), [""; 0]);
        }
    }
}

pub(crate) async fn get(host: &Plain, path: &str) -> Response<WasiBody> {
    within("the head", host.handle(request(path))).await.unwrap()
}

#[tokio::test]
async fn two_hosts_share_a_limit_until_the_body_has_ended() {
    let weir = Weir::new(&[("shop", "1")]);
    let (one, other) = (weir.stream(&[]), weir.stream(&[]));
    let mut first = get(&one, "/stream?chunks=4&ms=1").await;
    let second = tokio::spawn({
        let other = other.clone();
        async move { text(get(&other, "/stream?chunks=1&ms=1").await).await }
    });
    weir.host.shows("shop", 1, 1).await;
    // What nobody has taken yet holds the lease, whatever the head said.
    let chunk = within("a chunk", first.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!((&chunk[..], weir.host.usage("shop")), (&b"chunk 0\n"[..], (1, 1)));
    assert_eq!(text(first).await, "chunk 1\nchunk 2\nchunk 3\n");
    assert_eq!(within("the second", second).await.unwrap(), "chunk 0\n");
    weir.settles(&[&one, &other]).await;
}

#[tokio::test]
async fn a_refusal_on_one_host_names_what_the_other_holds() {
    let weir = Weir::new(&[("shop", "1")]);
    let variables = [("WEIR_MAX_WAIT", "0s"), ("WEIR_LIMIT_KEY", "{header:x-tenant|none}")];
    let (one, other) = (weir.stream(&[]), weir.stream(&variables));
    let first = get(&one, "/stream?chunks=4&ms=1").await;
    let refused = get(&other, "/stream").await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    let headers = refused.headers();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["ratelimit-policy"], "\"shop concurrency 1\";q=1;qu=\"concurrent-requests\"");
    assert!(headers["ratelimit"].to_str().unwrap().starts_with("\"shop concurrency 1\";r=0"), "{headers:?}");
    let problem: serde_json::Value = serde_json::from_str(&text(refused).await).unwrap();
    assert_eq!((&problem["reason"], &problem["constraints"][0]["counter"]), (&"limited".into(), &"shop".into()));
    text(first).await;
    weir.settles(&[&one, &other]).await;
}

#[tokio::test]
async fn a_rate_that_one_host_has_used_up_is_429_on_the_other() {
    let weir = Weir::new(&[]);
    weir.host.rule("shop", None, &["2/1h"]);
    let (one, other) = (weir.stream(&[]), weir.stream(&[("WEIR_MAX_WAIT", "0s")]));
    for host in [&one, &other] {
        assert_eq!(text(get(host, "/stream?chunks=1&ms=1").await).await, "chunk 0\n");
    }
    let refused = get(&other, "/stream").await;
    assert_eq!(refused.status(), 429);
    let headers = refused.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    assert_eq!(headers["ratelimit-policy"], "\"shop rate 2\";q=2");
    let state = headers["ratelimit"].to_str().unwrap();
    assert!(state.starts_with("\"shop rate 2\";r=0;t="), "{state}");
    let problem: serde_json::Value = serde_json::from_str(&text(refused).await).unwrap();
    assert_eq!((&problem["reason"], &problem["constraints"][0]["kind"]), (&"limited".into(), &"rate".into()));
    weir.settles(&[&one, &other]).await;
}

/// More at once than an instance takes, through instances that serve many: each waits its turn, and nothing is over or lost.
#[tokio::test]
async fn many_on_two_hosts_are_never_over() {
    let weir = Weir::new(&[("shop", "3")]);
    let hosts = [weir.stream(&[]), weir.stream(&[])];
    let mut calls = Vec::new();
    for number in 0..60 {
        let host = hosts[number % 2].clone();
        calls.push(tokio::spawn(async move { text(get(&host, "/stream?chunks=3&ms=1").await).await }));
    }
    until("all have ended", || {
        assert!(weir.host.usage("shop").0 <= 3);
        calls.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
    for call in calls {
        assert_eq!(call.await.unwrap(), "chunk 0\nchunk 1\nchunk 2\n");
    }
    weir.settles(&[&hosts[0], &hosts[1]]).await;
    assert_eq!(weir.host.counter("shop").unwrap().granted, 60);
}

#[tokio::test]
async fn bodies_pass_unchanged() {
    let weir = Weir::new(&[]);
    let (stream, flow) = (weir.stream(&[]), weir.flow());
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut echo = request("/echo?a=%20b");
    *echo.method_mut() = Method::PUT;
    echo.headers_mut().insert("x-one", "1".parse().unwrap());
    *echo.body_mut() = http_body_util::Full::from(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
    let response = within("the head", stream.handle(echo)).await.unwrap();
    assert_eq!(
        (&response.headers()["echo-target"], &response.headers()["x-one"]),
        (&"/echo?a=%20b".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(weir.host.usage("shop"), (1, 0));
    let answered = within("the body", response.into_body().collect()).await.unwrap().to_bytes();
    assert!(answered == bytes, "{} bytes of {}", answered.len(), bytes.len());

    let sized = get(&flow, "/sized?bytes=200000").await;
    assert_eq!(sized.headers()["content-length"], "200000");
    assert_eq!(text(sized).await.len(), 200_000);
    weir.settles(&[&stream, &flow]).await;
}

#[tokio::test]
async fn an_answer_without_a_body_gives_back_at_once() {
    let weir = Weir::new(&[("shop", "1")]);
    let flow = weir.flow();
    let mut head = request("/sized?bytes=5");
    *head.method_mut() = Method::HEAD;
    let head = within("the head", flow.handle(head)).await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"5".parse().unwrap()));
    // Its body is there, and nobody reads it.
    weir.host.shows("shop", 0, 0).await;
    let unchanged = get(&flow, "/status?status=304").await;
    weir.host.shows("shop", 0, 0).await;
    assert_eq!(unchanged.status(), 304);
    drop(head);
    weir.settles(&[&flow]).await;
}

#[tokio::test]
async fn the_answer_behind_says_how_it_went() {
    for (path, failed, paused) in [
        ("/plain", 0, false),
        ("/status?status=404", 0, false),
        ("/status?status=500", 1, false),
        ("/status?status=503&retry-after=20", 1, true),
        ("/status?status=429&retry-after=20", 1, true),
        ("/status?status=429&retry-after=soon", 0, false),
        ("/status?status=429&retry-after=+5", 0, false),
        ("/status?status=429&retry-after=18446744073709551616", 1, true),
        ("/error", 1, false),
    ] {
        let weir = Weir::new(&[]);
        let flow = weir.flow();
        if let Ok(response) = within(path, flow.handle(request(path))).await {
            text(response).await;
        }
        weir.settles(&[&flow]).await;
        let counter = weir.host.counter("shop").unwrap();
        assert_eq!((counter.failed, counter.pushed_back_for.is_some()), (failed, paused), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_the_capacity_back() {
    let weir = Weir::new(&[("shop", "1")]);
    let stream = weir.stream(&[]);
    let mut response = get(&stream, "/stream?chunks=1000&ms=5").await;
    within("a chunk", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(weir.host.usage("shop"), (1, 0));
    drop(response);
    weir.settles(&[&stream]).await;
}

#[tokio::test]
async fn what_traps_is_given_back_by_lease_time() {
    let weir = Weir::new(&[("shop", "1")]);
    let stream = weir.stream(&[("WEIR_LEASE_TIME", "300ms")]);
    assert!(within("the trap", stream.handle(request("/trap?ms=1"))).await.is_err());
    weir.host.settles().await;
    assert_eq!(stream.failures().len(), 1);
    assert_eq!(text(get(&stream, "/stream?chunks=1&ms=1").await).await, "chunk 0\n");
    weir.host.settles().await;
}

#[tokio::test]
async fn an_app_that_acquires_for_itself_needs_no_middleware() {
    let weir = Weir::new(&[("s", "1"), ("closed", "0")]);
    let flow = weir.plain(&COMPOSED[2], &[]);
    let granted = text(get(&flow, "/acquire?scope=s").await).await;
    assert!(granted.starts_with("granted|"), "{granted}");
    let refused = text(get(&flow, "/try?scope=closed").await).await;
    assert!(refused.starts_with("limited|"), "{refused}");
    weir.settles(&[&flow]).await;
    assert_eq!(weir.host.counter("s").unwrap().granted, 1);
}

#[tokio::test]
async fn without_its_variables_every_answer_says_so() {
    let nowhere = Plain::new(&COMPOSED[0], &[("WEIR_SCOPE", "shop")]);
    let no_scope = Weir::new(&[]).plain(&COMPOSED[0], &[]);
    for (host, says) in [(nowhere, "WEIR_URL is not set"), (no_scope, "WEIR_SCOPE")] {
        let response = get(&host, "/stream").await;
        assert_eq!(response.status(), 500);
        let problem = text(response).await;
        assert!(problem.contains(says), "{problem}");
    }
}
