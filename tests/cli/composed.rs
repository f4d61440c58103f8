//! Components behind the middleware, in the runner: what they are asked, what they may hold, and what becomes of it.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use weir_tests::{HANG, Host, guests, key, request, text, until, within};
use weir_wasm::{Call, ComponentConfig, HandleError, Runner, WasiBody};

use crate::run;

/// The guests `stream` and `flow` behind the middleware, composed once for all tests.
static COMPOSED: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    [("stream.wasm", guests::STREAM), ("flow.wasm", guests::FLOW)].map(|(name, guest)| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        run(&["compose", guest, "-o", out.to_str().unwrap()]).ok();
        out
    })
});

/// Runs a composed guest as the component `app`, which may use the scope `shop`.
fn runner(host: &Host, guest: &str, variables: &[(&str, &str)]) -> Runner {
    runner_with(host, guest, variables, |_| {})
}

fn runner_with(
    host: &Host,
    guest: &str,
    variables: &[(&str, &str)],
    configure: impl FnOnce(&mut ComponentConfig),
) -> Runner {
    let [stream, flow] = &*COMPOSED;
    let path = if guest == guests::STREAM { stream } else { flow };
    host.run(path.to_str().unwrap(), |config| {
        config.allow_scopes = vec!["shop".to_owned()];
        config.env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        configure(config);
    })
}

async fn call(runner: &Runner, request: Request<WasiBody>) -> Response<WasiBody> {
    within("the head", runner.handle(Call::default(), request)).await.unwrap()
}

/// A request with a header.
fn with(header: &'static str, value: &str, path: &str) -> Request<WasiBody> {
    let mut request = request(path);
    request.headers_mut().insert(header, value.parse().unwrap());
    request
}

/// A request of a tenant.
fn of(tenant: &str, path: &str) -> Request<WasiBody> {
    with("x-tenant", tenant, path)
}

/// The status, the headers and the problem of a refusal.
async fn problem(response: Response<WasiBody>) -> (u16, http::HeaderMap, serde_json::Value) {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert_eq!(headers["content-type"], "application/problem+json");
    (status, headers, serde_json::from_str(&text(response).await).unwrap())
}

async fn first_chunk(response: &mut Response<WasiBody>) {
    let frame = within("a chunk", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(&frame.into_data().unwrap()[..], b"chunk 0\n");
}

#[tokio::test]
async fn the_second_waits_until_the_body_of_the_first_has_ended() {
    let host = Host::new(&[("app", "1")]);
    let app = runner(&host, guests::STREAM, &[]);
    let mut first = call(&app, request("/stream?chunks=3&ms=10")).await;
    assert_eq!(host.usage("app"), (1, 0), "the component's own scope, held past the head");
    let second = tokio::spawn({
        let app = app.clone();
        async move { text(call(&app, request("/stream?chunks=1&ms=1")).await).await }
    });
    host.shows("app", 1, 1).await;
    first_chunk(&mut first).await;
    assert_eq!(host.usage("app"), (1, 1));
    assert_eq!(text(first).await, "chunk 1\nchunk 2\n");
    assert_eq!(within("the second", second).await.unwrap(), "chunk 0\n");
    host.settles().await;
}

#[tokio::test]
async fn what_may_not_wait_is_503_with_what_is_in_the_way() {
    let host = Host::new(&[("shop", "1")]);
    let app = runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop"), ("WEIR_MAX_WAIT", "0s")]);
    let first = call(&app, request("/stream?chunks=2&ms=10")).await;
    let (status, headers, problem) = problem(call(&app, request("/stream")).await).await;
    assert_eq!(status, 503);
    assert!(headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(headers["ratelimit-policy"], "\"shop concurrency 1\";q=1;qu=\"concurrent-requests\"");
    assert!(headers["ratelimit"].to_str().unwrap().starts_with("\"shop concurrency 1\";r=0"));
    assert_eq!((&problem["status"], &problem["reason"]), (&503.into(), &"limited".into()));
    assert_eq!(problem["constraints"][0]["counter"], "shop");
    assert_eq!(text(first).await, "chunk 0\nchunk 1\n");
    host.settles().await;
    let counter = host.counter("shop").unwrap();
    assert_eq!((counter.failed, counter.pushed_back_for), (0, None), "a refusal says nothing of the app");
}

/// What the middleware holds for a request is lent to the component behind it, once at a time; nothing of it to itself.
#[tokio::test]
async fn the_lease_of_the_middleware_is_lent_to_the_component_behind_it() {
    for isolate in [false, true] {
        let host = Host::new(&[("shop", "1")]);
        let variables = [("WEIR_SCOPE", "shop"), ("WEIR_MAX_WAIT", "0s")];
        let app = runner_with(&host, guests::FLOW, &variables, |config| config.isolate = isolate);
        let answer = |path: &'static str| async { text(call(&app, request(path)).await).await };
        let granted = answer("/acquire?scope=shop&wait_ms=0").await;
        assert!(granted.starts_with("granted|"), "isolate {isolate}: {granted}");
        host.settles().await;
        assert_eq!(answer("/twice?scope=shop").await, "granted|limited", "isolate {isolate}");
        host.settles().await;
        // A counter above, of which the middleware holds one below, is the same; one below that is not.
        host.limit("shop/k", "0");
        let below = answer("/acquire?scope=shop&key=k&wait_ms=0").await;
        assert!(below.starts_with("limited|") && below.contains("shop/k"), "isolate {isolate}: {below}");
        host.settles().await;
        // The start of the request is that of the first of its acquires.
        host.rule("shop", Some("1"), &["2/1h"]);
        assert_eq!(answer("/turns?scope=shop").await, "2", "isolate {isolate}");
        host.settles().await;
        // What the middleware was lent by ingress it lends on.
        host.rule("shop", Some("1"), &[]);
        let called = Call { key: Some(key("shop")), lease: Some(host.take("shop")) };
        let response = within("the head", app.handle(called, request("/twice?scope=shop"))).await.unwrap();
        assert_eq!(text(response).await, "granted|limited", "isolate {isolate}");
        host.settles().await;
    }
}

#[tokio::test]
async fn who_has_priority_is_served_first() {
    let host = Host::new(&[("shop", "1")]);
    let app = |priority: &str| runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop"), ("WEIR_PRIORITY", priority)]);
    // A number that stands there holds, whatever the request brings.
    let ask = |app: Runner, brings: &'static str| {
        tokio::spawn(async move { call(&app, with("x-priority", brings, "/stream?chunks=1000&ms=20")).await })
    };
    let held = host.take("shop");
    let early = ask(app("127"), "255");
    host.shows("shop", 1, 1).await;
    // What is not said is 128.
    let plain = ask(runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop")]), "255");
    host.shows("shop", 1, 2).await;
    let late = ask(app("{header:x-priority|0}"), "129");
    host.shows("shop", 1, 3).await;
    drop(held);
    let first = within("who came last, and is first", late).await.unwrap();
    assert_eq!((host.usage("shop"), plain.is_finished(), early.is_finished()), ((1, 2), false, false));
    drop(first);
    let second = within("who said nothing", plain).await.unwrap();
    assert_eq!((host.usage("shop"), early.is_finished()), ((1, 1), false));
    drop(second);
    drop(within("who came first, and is last", early).await.unwrap());
    host.settles().await;
}

#[tokio::test]
async fn the_longest_wait_is_waited_and_no_longer() {
    let host = Host::new(&[("shop", "1")]);
    let app = |wait: &str| runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop"), ("WEIR_MAX_WAIT", wait)]);
    let ask = |app: Runner| tokio::spawn(async move { call(&app, request("/stream?chunks=1&ms=1")).await });
    let held = host.take("shop");
    let began = Instant::now();
    let asked = ask(app("700ms"));
    let (status, headers, problem) = problem(within("the refusal", asked).await.unwrap()).await;
    let waited = began.elapsed();
    // Far from the minute of those who say nothing.
    assert!((Duration::from_millis(700)..Duration::from_secs(40)).contains(&waited), "{waited:?}");
    assert_eq!((status, &problem["reason"]), (503, &"timed-out".into()), "{problem}");
    assert!(headers.contains_key("retry-after"));
    let asked = ask(app("10m"));
    host.shows("shop", 1, 1).await;
    drop(held);
    assert_eq!(text(within("its turn", asked).await.unwrap()).await, "chunk 0\n");
    host.settles().await;
}

#[tokio::test]
async fn a_rate_in_the_way_is_429() {
    let host = Host::new(&[]);
    host.rule("shop", None, &["5/1h:cost"]);
    let variables = [("WEIR_SCOPE", "shop"), ("WEIR_MAX_WAIT", "0s"), ("WEIR_COST", "3")];
    let app = runner(&host, guests::STREAM, &variables);
    assert_eq!(text(call(&app, request("/stream?chunks=1&ms=1")).await).await, "chunk 0\n");
    let (status, headers, problem) = problem(call(&app, request("/stream")).await).await;
    assert_eq!(status, 429);
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert_eq!(headers["ratelimit-policy"], "\"shop rate 5\";q=5");
    assert_eq!(problem["constraints"][0]["used"], 3);
    host.settles().await;
}

#[tokio::test]
async fn a_request_brings_its_cost() {
    let host = Host::new(&[]);
    host.rule("shop", None, &["5/1h:cost"]);
    let variables = [("WEIR_SCOPE", "shop"), ("WEIR_MAX_WAIT", "0s"), ("WEIR_COST", "{header:x-cost|1}")];
    let app = runner(&host, guests::STREAM, &variables);
    let path = "/stream?chunks=1&ms=1";
    for asked in [with("x-cost", "3", path), request(path)] {
        assert_eq!(text(call(&app, asked).await).await, "chunk 0\n");
    }
    let (status, _, refused) = problem(call(&app, with("x-cost", "2", path)).await).await;
    assert_eq!((status, &refused["constraints"][0]["used"]), (429, &4.into()), "{refused}");
    for bad in ["0", "-1", "+1", "1 1", "4294967296"] {
        let (status, headers, refused) = problem(call(&app, with("x-cost", bad, path)).await).await;
        assert_eq!((status, &refused["reason"]), (400, &"invalid".into()), "{bad}: {refused}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.starts_with("the header `x-cost` ") && detail.contains("1 to 4294967295"), "{bad}: {detail}");
        assert!(!headers.contains_key("retry-after"), "{bad}");
    }
    // What was refused has taken nothing: the last unit is there.
    assert_eq!(text(call(&app, with("x-cost", "1", path)).await).await, "chunk 0\n");
    host.settles().await;
}

#[tokio::test]
async fn requests_and_responses_pass_untouched() {
    let host = Host::new(&[]);
    let app = runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop")]);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = Full::from(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder()
        .method(Method::PATCH)
        .uri("http://test.invalid/echo?a=%20b&c")
        .header("x-one", "1")
        .header("x-many", "a")
        .header("x-many", "b")
        .body(body)
        .unwrap();
    let response = call(&app, request).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["echo-target"], "/echo?a=%20b&c");
    assert!(headers["echo-method"].to_str().unwrap().contains("Patch"));
    assert_eq!(headers["x-one"], "1");
    assert_eq!(headers.get_all("x-many").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(host.usage("shop"), (1, 0));
    let answered = within("the body", response.into_body().collect()).await.unwrap().to_bytes();
    assert!(answered == bytes, "{} bytes of {}", answered.len(), bytes.len());
    host.settles().await;
}

#[tokio::test]
async fn each_tenant_has_its_own() {
    let host = Host::new(&[("shop/*", "1")]);
    let variables = [("WEIR_SCOPE", "shop"), ("WEIR_LIMIT_KEY", "{header:X-Tenant}/{method}"), ("WEIR_MAX_WAIT", "0s")];
    let app = runner(&host, guests::STREAM, &variables);
    let held = [call(&app, of("a", "/stream")).await, call(&app, of("b", "/stream")).await];
    for counter in ["shop/a", "shop/b", "shop/a/GET"] {
        assert_eq!(host.usage(counter), (1, 0), "{counter}");
    }
    let (status, _, problem) = problem(call(&app, of("a", "/stream")).await).await;
    assert_eq!((status, &problem["constraints"][0]["counter"]), (503, &"shop/a".into()));
    for response in held {
        text(response).await;
    }
    host.settles().await;
}

#[tokio::test]
async fn a_request_that_lacks_its_key_is_400_and_takes_nothing() {
    let host = Host::new(&[]);
    let app = runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop"), ("WEIR_LIMIT_KEY", "t-{header:x-tenant}")]);
    let mut twice = of("a", "/stream");
    twice.headers_mut().append("x-tenant", "b".parse().unwrap());
    for (asked, says) in [
        (request("/stream"), "the request has no header `x-tenant`"),
        (of("a/b", "/stream"), "the header `x-tenant` has the byte 0x2f"),
        (of(&"a".repeat(127), "/stream"), "129 bytes"),
        (twice, "more than once"),
    ] {
        let (status, headers, problem) = problem(call(&app, asked).await).await;
        assert_eq!((status, &problem["status"], &problem["reason"]), (400, &400.into(), &"invalid".into()), "{says}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{says}: {problem}");
        assert!(!headers.contains_key("retry-after"));
    }
    assert!(host.counter("shop").is_none(), "nothing was asked");
    // With something in its place all of them share it.
    let app = runner(&host, guests::STREAM, &[("WEIR_SCOPE", "shop"), ("WEIR_LIMIT_KEY", "{header:x-tenant|none}")]);
    let response = call(&app, request("/stream?chunks=1&ms=1")).await;
    assert_eq!(host.usage("shop/none"), (1, 0));
    text(response).await;
    host.settles().await;
}

/// Whoever composed it is told, in every answer, what to set right.
#[tokio::test]
async fn a_wrong_variable_is_500_by_its_name() {
    for (variable, value, says) in [
        ("WEIR_COST", "0", "1 to 4294967295"),
        ("WEIR_COST", "{header:x-cost|0}", "1 to 4294967295"),
        ("WEIR_COST", "{method}", "{path:N}"),
        ("WEIR_PRIORITY", "256", "0 to 255"),
        ("WEIR_PRIORITY", "{header:x-priority|256}", "0 to 255"),
        ("WEIR_PRIORITY", "{header:x-priority|+1}", "0x2b"),
        ("WEIR_MAX_WAIT", "soon", "duration"),
        ("WEIR_SCOPE", "a/b", "WEIR_LIMIT_KEY"),
        ("WEIR_SCOPE", "{header:}", "{header:NAME}"),
        ("WEIR_LIMIT_KEY", "a/b/c", "one or two parts"),
        ("WEIR_LIMIT_KEY", "a b", "0x20"),
        ("WEIR_LIMIT_KEY", "a/{header:x-tenant|}", "behind `|`"),
    ] {
        let host = Host::new(&[]);
        let app = runner(&host, guests::STREAM, &[(variable, value)]);
        let (status, _, problem) = problem(call(&app, request("/stream")).await).await;
        assert_eq!(status, 500, "{variable}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(variable) && detail.contains(says), "{detail}");
    }
    // One that it may not use is no fault of the client either.
    let host = Host::new(&[]);
    let app = runner(&host, guests::STREAM, &[("WEIR_SCOPE", "bank")]);
    let (status, _, problem) = problem(call(&app, request("/stream")).await).await;
    assert_eq!((status, &problem["reason"]), (500, &"denied".into()));
}

#[tokio::test]
async fn a_trap_behind_gives_the_capacity_back_as_failed() {
    let host = Host::new(&[("app", "1")]);
    let app = runner(&host, guests::STREAM, &[]);
    let trapped = within("the trap", app.handle(Call::default(), request("/trap?ms=1"))).await;
    assert_eq!(trapped.unwrap_err(), HandleError::Trapped);
    host.settles().await;
    assert_eq!(host.counter("app").unwrap().failed, 1);
    assert_eq!(text(call(&app, request("/stream?chunks=1&ms=1")).await).await, "chunk 0\n");
    host.settles().await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_the_capacity_back() {
    let host = Host::new(&[("app", "1")]);
    let app = runner(&host, guests::STREAM, &[]);
    let mut response = call(&app, request("/stream?chunks=1000&ms=20")).await;
    first_chunk(&mut response).await;
    assert_eq!(host.usage("app"), (1, 0));
    drop(response);
    host.settles().await;
}

#[tokio::test]
async fn the_answer_behind_says_how_it_went() {
    for (path, failed, paused) in [
        ("/plain", 0, false),
        ("/status?status=404", 0, false),
        ("/status?status=500", 1, false),
        ("/status?status=503", 1, false),
        ("/status?status=503&retry-after=20", 1, true),
        ("/status?status=429&retry-after=20", 1, true),
        ("/error", 1, false),
    ] {
        let host = Host::new(&[]);
        let app = runner(&host, guests::FLOW, &[]);
        if let Ok(response) = within(path, app.handle(Call::default(), request(path))).await {
            text(response).await;
        }
        host.settles().await;
        let counter = host.counter("app").unwrap();
        assert_eq!(counter.pushed_back_for.is_some_and(|pause| pause <= Duration::from_secs(20)), paused, "{path}");
        assert_eq!(counter.failed, failed, "{path}");
    }
}

/// Many at once, of several tenants, in few instances: each is charged for its own, and nothing is over.
#[tokio::test]
async fn many_at_once_are_never_over() {
    let host = Host::new(&[("shop/*", "2")]);
    let variables = [("WEIR_SCOPE", "shop"), ("WEIR_LIMIT_KEY", "{header:x-tenant}")];
    let app = runner(&host, guests::STREAM, &variables);
    let mut calls = Vec::new();
    for number in 0..48 {
        let app = app.clone();
        calls.push(tokio::spawn(async move {
            text(call(&app, of(["a", "b", "c"][number % 3], "/stream?chunks=3&ms=2")).await).await
        }));
    }
    let began = Instant::now();
    while calls.iter().any(|call| !call.is_finished()) {
        for counter in ["shop/a", "shop/b", "shop/c"] {
            assert!(host.usage(counter).0 <= 2, "{counter}");
        }
        assert!(began.elapsed() < HANG, "it never ends");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), "chunk 0\nchunk 1\nchunk 2\n");
    }
    until("each was counted", || host.counter("shop/c").is_some_and(|counter| counter.granted == 16)).await;
    host.settles().await;
}
