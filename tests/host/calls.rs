//! Calls under keys of their own: limits, retries, bodies, and what is left of a call that is given up.

mod embedded;
mod ending;
mod upstream;

use futures::future::join_all;
use std::time::Duration;
use upstream::{Step, Upstream};
use weir_tests::{Host, get, get_as, guests, key, until, within};
use weir_wasm::{Call, Egress, EgressRule, Runner};

/// The scope of a rule for this machine that names none.
const HERE: &str = "127.0.0.1";

const HOUR: u64 = 3_600_000_000_000;

/// A component that may call this machine, and waits an hour for its turn if need be.
fn caller(host: &Host, egress: Vec<EgressRule>) -> Runner {
    let egress = Egress::new(egress).unwrap();
    host.run(guests::CALLS, |config| {
        config.allow_outbound = vec![HERE.to_owned()];
        config.egress = egress;
        config.allow_scopes = vec!["mine".to_owned()];
        config.limits.deadline = Duration::from_secs(3600);
    })
}

/// One call, as a query says it.
async fn call(app: &Runner, upstream: &Upstream, query: &str) -> String {
    get(app, &path(upstream, query)).await.unwrap()
}

fn path(upstream: &Upstream, query: &str) -> String {
    format!("/call?url={}&{query}", upstream.url("/"))
}

#[tokio::test]
async fn the_form_of_the_documentation_is_all_it_takes() {
    let upstream = Upstream::start(&[Step::Later(0)]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let short = format!("/short?url={}", upstream.url("/"));
    assert_eq!(get(&app, &short).await.unwrap(), "200", "the second attempt");
    assert_eq!(get(&app, &short).await.unwrap(), "200");
    assert_eq!(upstream.requests(), 3);
    host.settles().await;
    // Three have started under the key: the next waits for an hour.
    let more = call(&app, &upstream, &format!("key=provider&rate=3/{HOUR}&max-wait=0")).await;
    assert!(more.starts_with("refused|limited|") && more.contains("app#provider"), "{more}");
}

#[tokio::test]
async fn one_at_a_time_never_overlaps() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let path = path(&upstream, "key=k&parallelism=1");
    for answer in join_all((0..30).map(|_| get(&app, &path))).await {
        assert_eq!(answer.unwrap(), "200|ok");
    }
    assert_eq!((upstream.requests(), upstream.most_running()), (30, 1));
    host.settles().await;
}

#[tokio::test]
async fn a_rate_holds_over_calls_and_attempts() {
    let upstream = Upstream::start(&[Step::Status(500); 9]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    // Each attempt is a start of its own, and the third has none left.
    let query = format!("key=k&rate=2/{HOUR}&max-wait=0&retries=5&delay=0");
    let answer = call(&app, &upstream, &query).await;
    assert!(answer.starts_with("refused|limited|"), "{answer}");
    assert_eq!(upstream.requests(), 2);
    let counts = app.component().outbound_counts();
    assert_eq!((counts.answered, counts.failed, counts.refused, counts.denied), (2, 0, 1, 0));
    host.settles().await;
    // One that may wait does, and is served when the window has moved on.
    let query = "key=other&rate=1/50000000";
    for _ in 0..3 {
        assert_eq!(call(&app, &upstream, &format!("{query}&retries=0")).await, "500|ok");
    }
    host.settles().await;
}

#[tokio::test]
async fn any_status_is_a_response_and_only_some_are_sent_again() {
    for (script, answer, requests) in [
        (&[Step::Status(404)][..], "404|ok", 1),
        (&[Step::Status(301)], "301|ok", 1),
        (&[Step::Status(500), Step::Status(429)], "200|ok", 3),
        (&[Step::Status(503), Step::Status(404)], "404|ok", 2),
        // None is left: the last one is the answer.
        (&[Step::Status(500), Step::Status(502), Step::Status(504), Step::Status(503)], "503|ok", 4),
    ] {
        let upstream = Upstream::start(script).await;
        let host = Host::new(&[]);
        let app = caller(&host, Vec::new());
        assert_eq!(call(&app, &upstream, "key=k&parallelism=1&retries=3&first=1").await, answer, "{script:?}");
        assert_eq!(upstream.requests(), requests, "{script:?}");
        host.settles().await;
    }
    // None by default.
    let upstream = Upstream::start(&[Step::Status(500)]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    assert_eq!(call(&app, &upstream, "key=k").await, "500|ok");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn whoever_does_not_answer_is_tried_again() {
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap();
    let refused = format!("/call?url={gone}/&key=k&delay=0");
    assert_eq!(get(&app, &format!("{refused}&retries=2")).await.unwrap(), "transport|ErrorCode::ConnectionRefused");
    // Three attempts, each of which was a start: of a rate of four in all, one is left.
    let rate = format!("/call?url={gone}/&key=counted&rate=4/{HOUR}&max-wait=0&delay=0");
    assert!(get(&app, &format!("{rate}&retries=2")).await.unwrap().starts_with("transport|"));
    assert!(get(&app, &format!("{rate}&retries=9")).await.unwrap().starts_with("refused|limited|"));
    host.settles().await;
    let failed = |counter: &str| host.counter(counter).map(|counter| counter.failed);
    assert_eq!((failed("app#k"), failed("app#counted")), (Some(3), Some(4)));
}

#[tokio::test]
async fn each_attempt_has_its_time() {
    let upstream = Upstream::start(&[Step::Silence, Step::Status(200), Step::Silence]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let query = "key=k&parallelism=1&timeout=200000000&delay=0";
    assert_eq!(call(&app, &upstream, &format!("{query}&retries=1")).await, "200|ok");
    assert_eq!(call(&app, &upstream, query).await, "transport|ErrorCode::HttpResponseTimeout");
    assert_eq!(upstream.requests(), 3);
    host.settles().await;
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_pause_gets_it_from_all() {
    let upstream = Upstream::start(&[Step::Later(1), Step::Status(200), Step::Later(30)]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    assert_eq!(call(&app, &upstream, "key=k&retries=1&delay=0").await, "200|ok");
    let pauses = upstream.pauses();
    assert!(pauses.len() == 1 && pauses[0] >= Duration::from_secs(1), "{pauses:?}");
    // The last response is the answer, and the key is closed for as long as it said.
    assert_eq!(call(&app, &upstream, "key=k").await, "429|ok");
    let pause = host.counter("app#k").unwrap().pushed_back_for.expect("a pause");
    assert!(pause <= Duration::from_secs(30) && pause > Duration::from_secs(20), "{pause:?}");
    let next = call(&app, &upstream, "key=k&max-wait=0").await;
    assert!(next.starts_with("refused|pushed-back|"), "{next}");
    assert_eq!(call(&app, &upstream, "key=other").await, "200|ok");
    assert_eq!(upstream.requests(), 4);
    host.settles().await;
}

#[tokio::test]
async fn a_longer_pause_than_it_waits_is_the_answer() {
    let upstream = Upstream::start(&[Step::Later(61), Step::Later(2)]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    assert_eq!(call(&app, &upstream, "key=a&retries=3").await, "429|ok");
    assert_eq!(call(&app, &upstream, "key=b&retries=3&longest=1999999999").await, "429|ok");
    assert_eq!(upstream.requests(), 2);
    host.settles().await;
}

#[tokio::test]
async fn a_body_that_may_be_sent_again_has_a_bound() {
    const MOST: usize = 1 << 20;
    let upstream = Upstream::start(&[Step::Status(500)]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let answer = call(&app, &upstream, &format!("key=k&retries=1&delay=0&body={}", MOST + 1)).await;
    assert_eq!(answer, format!("body-too-large|{MOST}"));
    assert_eq!(upstream.requests(), 0, "nothing was sent");
    assert!(host.counter("app#k").is_none(), "nor was anything taken");
    let answer = call(&app, &upstream, &format!("key=k&retries=1&delay=0&body={MOST}")).await;
    assert_eq!((answer.as_str(), upstream.bodies()), ("200|ok", vec![MOST, MOST]));
    assert_eq!(call(&app, &upstream, "key=k&retries=1&body=0").await, "200|ok");
    // Without retries it may be of any size.
    assert_eq!(call(&app, &upstream, &format!("key=k&body={}", 3 * MOST)).await, "200|ok");
    assert_eq!(upstream.bodies(), [MOST, MOST, 0, 3 * MOST]);
    host.settles().await;
}

#[tokio::test]
async fn without_retries_both_bodies_stream() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let path = format!("/piecewise?url={}", upstream.url("/echo"));
    assert_eq!(get(&app, &path).await.unwrap(), "one two three");
    host.settles().await;
}

#[tokio::test]
async fn nobody_is_reached_who_is_not_allowed() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[]);
    for (allow, code) in [(&[][..], "HttpRequestDenied"), (&["localhost.test"], "HttpRequestDenied")] {
        let app =
            host.run(guests::CALLS, |config| config.allow_outbound = allow.iter().map(|&rule| rule.into()).collect());
        let answer = call(&app, &upstream, "key=k&retries=3").await;
        assert_eq!(answer, format!("transport|ErrorCode::{code}"));
    }
    let app = caller(&host, Vec::new());
    let port = upstream.address.port();
    let answer = get(&app, &format!("/call?url=127.1:{port}/&key=k&retries=3")).await.unwrap();
    assert_eq!(answer, "transport|ErrorCode::HttpRequestUriInvalid");
    assert_eq!(upstream.requests(), 0);
    assert!(host.counter("app#k").is_none(), "nothing was taken");
}

/// Its own key and the rule for whom it calls, in one step.
#[tokio::test]
async fn the_rule_for_its_destination_binds_besides() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[(HERE, "1")]);
    let app = caller(&host, vec![EgressRule::new(HERE, None).unwrap()]);
    let held = host.take(HERE);
    let waiting = tokio::spawn({
        let (app, path) = (app.clone(), path(&upstream, "key=k&parallelism=1"));
        async move { get(&app, &path).await }
    });
    host.shows(HERE, 1, 1).await;
    assert_eq!(host.usage("app#k").0, 0, "who waits for one holds nothing of the other");
    let other = call(&app, &upstream, "key=k&parallelism=1&max-wait=0").await;
    assert!(other.starts_with("refused|limited|"), "{other}");
    // A call without a key is under the rule all the same.
    assert!(call(&app, &upstream, "max-wait=0").await.starts_with("refused|limited|"));
    drop(held);
    assert_eq!(within("the call", waiting).await.unwrap().unwrap(), "200|ok");
    host.settles().await;
    // The shorter of two waits holds.
    let hasty = caller(&host, vec![EgressRule::new(HERE, None).unwrap().max_wait(Duration::ZERO)]);
    let _held = host.take(HERE);
    assert!(call(&hasty, &upstream, "key=k").await.starts_with("refused|limited|"));
}

#[tokio::test]
async fn a_call_must_fit_the_rule_for_its_destination() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[("api", "8:cost")]);
    let keyed = EgressRule::new(HERE, Some("api")).unwrap().limit_key("{header:x-key}").unwrap();
    let answer = call(&caller(&host, vec![keyed]), &upstream, "key=k").await;
    assert_eq!(answer, "invalid|the field `x-key` is missing");
    // The larger cost holds at both.
    let app = caller(&host, vec![EgressRule::new(HERE, Some("api")).unwrap().cost("5").unwrap()]);
    assert_eq!(call(&app, &upstream, "cost=8").await, "200|ok");
    assert!(call(&app, &upstream, "cost=9").await.starts_with("refused|too-large|"));
    assert_eq!(upstream.requests(), 1);
    host.settles().await;
}

#[tokio::test]
async fn the_key_is_the_components_own_whoever_is_served() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[("tenant", "1"), ("mine/a", "1")]);
    let app = caller(&host, Vec::new());
    let tenant = || Call { key: Some(key("tenant/a")), lease: Some(host.take("tenant")) };
    let path = |query| path(&upstream, query);
    // The scope of the request is full with the request itself, and is not asked for again.
    assert_eq!(get_as(&app, tenant(), &path("key=k&parallelism=1")).await.unwrap(), "200|ok");
    assert!(host.counter("app#k").is_some() && host.counter("tenant#k").is_none());
    // It may be one of another scope, and under that scope's rules.
    let full = host.take("mine/a");
    let refused = get_as(&app, tenant(), &path("scope=mine&limit-key=a&max-wait=0")).await.unwrap();
    assert!(refused.starts_with("refused|limited|") && refused.contains("`mine/a`"), "{refused}");
    drop(full);
    assert_eq!(get_as(&app, tenant(), &path("scope=mine&limit-key=a&key=k&parallelism=1")).await.unwrap(), "200|ok");
    assert!(host.counter("mine#k").is_some());
    // The request's own scope may be named, and lends what the request holds.
    assert_eq!(get_as(&app, tenant(), &path("scope=tenant&max-wait=0")).await.unwrap(), "200|ok");
    let denied = get(&app, &path("scope=theirs")).await.unwrap();
    assert!(denied.starts_with("refused|denied|"), "{denied}");
    host.settles().await;
}

/// A lease of the guest's on the call's own scope, or on that of the rule it comes under, carries its attempts one after the
/// other, and is the start of the first.
#[tokio::test]
async fn attempts_ride_on_a_lease_of_the_guests() {
    for ruled in [false, true] {
        let upstream = Upstream::start(&[Step::Status(500)]).await;
        let host = Host::new(&[]);
        host.rule("mine", Some("1"), &["3/1h"]);
        let used = || host.counter("mine").unwrap().rates[0].used;
        let rules = if ruled { vec![EgressRule::new(HERE, Some("mine")).unwrap()] } else { Vec::new() };
        let app = caller(&host, rules);
        let scope = if ruled { "key=k" } else { "scope=mine" };
        let query = |retries: u32| format!("under=mine&{scope}&max-wait=0&delay=0&retries={retries}");
        assert_eq!(call(&app, &upstream, &query(1)).await, "200|ok", "{ruled}");
        assert_eq!((used(), upstream.requests()), (2, 2), "{ruled}: the second attempt is another start");
        host.settles().await;
        assert_eq!(call(&app, &upstream, &query(0)).await, "200|ok", "{ruled}");
        assert_eq!((used(), upstream.requests()), (3, 3), "{ruled}");
        host.settles().await;
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_invalid_and_sends_nothing() {
    let upstream = Upstream::start(&[]).await;
    let host = Host::new(&[]);
    let app = caller(&host, Vec::new());
    let (long, max) = ("x".repeat(129), u64::MAX);
    for query in [
        "key=".to_owned(),
        "key=a/b".to_owned(),
        format!("key={long}"),
        "rate=1/1000000000".to_owned(),
        format!("key=k&rate=0/{HOUR}"),
        "key=k&rate=1/0".to_owned(),
        format!("key=k&rate=1/{max}"),
        "limit-key=a".to_owned(),
        "scope=".to_owned(),
        "scope=mine&limit-key=a/b/c".to_owned(),
        "cost=0".to_owned(),
        "retries=101".to_owned(),
        "retries=4294967295".to_owned(),
        format!("delay={}", HOUR + 1),
        format!("delay={max}"),
        format!("first={}", HOUR + 1),
        "first=1&factor=0.9".to_owned(),
        "first=1&factor=100.5".to_owned(),
        "first=1&factor=NaN".to_owned(),
        "first=1&factor=inf".to_owned(),
        format!("longest={}", HOUR + 1),
        "timeout=0".to_owned(),
        "timeout=999999".to_owned(),
        format!("timeout={}", HOUR + 1),
        format!("timeout={max}"),
    ] {
        let answer = call(&app, &upstream, &query).await;
        assert!(answer.starts_with("invalid|"), "{query}: {answer}");
    }
    assert_eq!(upstream.requests(), 0);
    let fine = [
        "retries=100".to_owned(),
        format!("delay={HOUR}"),
        "delay=0".to_owned(),
        format!("first={HOUR}&factor=1"),
        "first=0&factor=100".to_owned(),
        format!("longest={HOUR}"),
        "longest=0".to_owned(),
        format!("timeout={HOUR}"),
        format!("max-wait={max}"),
        "cost=4294967295".to_owned(),
        "priority=0".to_owned(),
        "priority=255".to_owned(),
    ];
    for query in &fine {
        let answer = call(&app, &upstream, &format!("key=k&parallelism=4294967295&{query}")).await;
        assert_eq!(answer, "200|ok", "{query}");
    }
    host.settles().await;
}
