//! Components that know nothing of flow control call out: whom they reach, and how they are held back.

mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use upstream::Upstream;
use weir_engine::Request;
use weir_tests::{Host, get, get_as, guests, key, request, within};
use weir_wasm::{Call, ComponentConfig, Egress, EgressRule, Runner};

/// The scope of a rule for this machine that names none.
const HERE: &str = "127.0.0.1";

/// Both kinds of components: WASI 0.3 and 0.2.
const BOTH: [&str; 2] = [guests::EGRESS, guests::SYNC];

fn rule() -> EgressRule {
    EgressRule::new(HERE, None).unwrap()
}

fn never_waits() -> EgressRule {
    rule().max_wait(Duration::ZERO)
}

/// A component that may call this machine, under a rule.
fn under(host: &Host, guest: &str, rule: EgressRule) -> Runner {
    let egress = Egress::new(vec![rule]).unwrap();
    host.run(guest, |config| allowed(config, egress))
}

fn allowed(config: &mut ComponentConfig, egress: Egress) {
    config.allow_outbound = vec![HERE.to_owned()];
    config.egress = egress;
}

/// Of its calls, those answered, failed, refused and denied.
fn counts(app: &Runner) -> (u64, u64, u64, u64) {
    let counts = app.component().outbound_counts();
    (counts.answered, counts.failed, counts.refused, counts.denied)
}

fn call(upstream: &Upstream, path: &str) -> String {
    format!("/call?url={}", upstream.url(path))
}

#[tokio::test]
async fn nobody_is_called_unless_it_is_allowed() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    for guest in BOTH {
        for allow in [&[][..], &["example.com", "127.0.0.2", "*.127.test", "127.0.0.1:1"]] {
            let app = host.run(guest, |config| config.allow_outbound = allow.iter().map(|&rule| rule.into()).collect());
            let answer = get(&app, &call(&upstream, "/ok")).await.unwrap();
            assert!(answer.starts_with("error|") && answer.contains("HttpRequestDenied"), "{answer}");
            assert_eq!(counts(&app), (0, 0, 0, 1));
        }
        let app = host.run(guest, |config| config.allow_outbound = vec![upstream.address.to_string()]);
        assert_eq!(get(&app, &call(&upstream, "/ok")).await.unwrap(), "200|||ok");
    }
    assert_eq!(upstream.requests(), BOTH.len());
}

#[tokio::test]
async fn another_spelling_of_an_address_is_no_host() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    let port = upstream.address.port();
    for guest in BOTH {
        let app = host.run(guest, |config| allowed(config, Egress::default()));
        for spelling in ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "u@127.0.0.1"] {
            let answer = get(&app, &format!("/call?url={spelling}:{port}/ok")).await.unwrap();
            assert!(answer.starts_with("error|") && answer.contains("Invalid"), "{spelling}: {answer}");
        }
        // One address in two families of addresses is one.
        let answer = get(&app, &format!("/call?url=[::ffff:127.0.0.1]:{port}/ok")).await.unwrap();
        assert_eq!(answer, "200|||ok");
    }
}

#[tokio::test]
async fn all_guests_share_connections() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    let apps: Vec<_> = BOTH.iter().map(|guest| host.run(guest, |config| allowed(config, Egress::default()))).collect();
    for _ in 0..10 {
        for app in &apps {
            assert_eq!(get(app, &call(&upstream, "/ok")).await.unwrap(), "200|||ok");
        }
    }
    assert_eq!(upstream.requests(), 20);
    // A connection may come back just too late for the next call.
    assert!(upstream.connections() <= 5, "{}", upstream.connections());
}

#[tokio::test]
async fn a_rate_holds_over_all_guests_together() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    host.rule(HERE, None, &["3/1h"]);
    let apps: Vec<_> = BOTH.iter().map(|guest| under(&host, guest, never_waits())).collect();
    let path = call(&upstream, "/ok");
    let answers = join_all((0..10).map(|n| get(&apps[n % 2], &path))).await;
    let mut kinds = BTreeMap::new();
    for answer in answers {
        let answer = answer.unwrap();
        let mut fields = answer.split('|');
        let (status, refused, retry_after) =
            (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap().parse::<u64>());
        assert_eq!(status == "429", retry_after.is_ok_and(|seconds| (3_500..=3_600).contains(&seconds)), "{answer}");
        *kinds.entry(format!("{status} {refused}")).or_insert(0) += 1;
    }
    assert_eq!(kinds, BTreeMap::from([("200 ".to_owned(), 3), ("429 limited".to_owned(), 7)]));
    assert_eq!(upstream.requests(), 3, "what is refused never leaves");
    let counts: Vec<_> = apps.iter().map(counts).collect();
    assert_eq!(counts[0].0 + counts[1].0, 3, "{counts:?}");
    assert_eq!(counts[0].2 + counts[1].2, 7, "{counts:?}");
    host.settles().await;
}

#[tokio::test]
async fn a_call_waits_for_its_turn() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    for guest in BOTH {
        let app = under(&host, guest, rule());
        let held = host.take(HERE);
        let path = call(&upstream, "/ok");
        let waiting = tokio::spawn(async move { get(&app, &path).await });
        host.shows(HERE, 1, 1).await;
        drop(held);
        assert_eq!(within("the call", waiting).await.unwrap().unwrap(), "200|||ok");
        host.settles().await;
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_may() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "2")]);
    let apps: Vec<_> = BOTH.iter().map(|guest| under(&host, guest, rule())).collect();
    let path = call(&upstream, "/gated");
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let (app, path) = (apps[n % 2].clone(), path.clone());
            tokio::spawn(async move { get(&app, &path).await })
        })
        .collect();
    host.shows(HERE, 2, 6).await;
    upstream.open(8);
    for call in calls {
        assert_eq!(within("a call", call).await.unwrap().unwrap(), "200|||ok");
    }
    assert!(upstream.most_running() <= 2);
    host.settles().await;
}

/// Inbound and outbound at limit 1: whoever waits outside holds inbound capacity, and nobody outside waits for that.
#[tokio::test]
async fn inbound_and_outbound_never_lock_each_other_up() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[("in", "1"), (HERE, "1")]);
    let apps: Vec<_> = BOTH.iter().map(|guest| under(&host, guest, rule())).collect();
    let path = call(&upstream, "/ok");
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let (app, path, flow) = (apps[n % 2].clone(), path.clone(), host.flow.clone());
            tokio::spawn(async move {
                // As ingress does it; some come in besides.
                let lease = if n % 3 == 0 { None } else { Some(flow.acquire(Request::new(key("in"))).await.unwrap()) };
                get_as(&app, Call { key: Some(key("in")), lease }, &path).await
            })
        })
        .collect();
    for call in calls {
        assert_eq!(within("a call", call).await.unwrap().unwrap(), "200|||ok");
    }
    host.settles().await;
}

/// Components that acquire for themselves, of both kinds.
const BOTH_THAT_ACQUIRE: [&str; 2] = [guests::FLOW, guests::SYNC];

/// Who acquires what its call comes under does not wait for itself, and the lease is the start of the first call.
#[tokio::test]
async fn calls_ride_on_a_lease_of_the_guests_one_after_the_other() {
    let upstream = Upstream::start().await;
    for guest in BOTH_THAT_ACQUIRE {
        let host = Host::new(&[]);
        host.rule(HERE, Some("1"), &["3/1h"]);
        let used = || host.counter(HERE).unwrap().rates[0].used;
        let app = host.run(guest, |config| {
            allowed(config, Egress::new(vec![rule().max_wait(Duration::from_secs(1))]).unwrap());
            config.allow_scopes = vec!["*".to_owned()];
        });
        let path = |scope: &str, times: u32| format!("/under?scope={scope}&times={times}&url={}", upstream.url("/ok"));
        let answer = get(&app, &path(HERE, 2)).await.unwrap();
        let statuses: Vec<&str> = answer.split(',').map(|answer| &answer[..5]).collect();
        assert_eq!((statuses, used()), (vec!["200||"; 2], 2), "{guest}: the second is a start of its own");
        // Under another lease it pays for itself.
        assert!(get(&app, &path("other", 1)).await.unwrap().starts_with("200||"), "{guest}");
        assert_eq!(used(), 3, "{guest}");
        host.settles().await;
        // What has been started already may call once, whatever the rate has left.
        host.rule(HERE, Some("1"), &["4/1h"]);
        let answer = get(&app, &path(HERE, 2)).await.unwrap();
        let (first, second) = answer.split_once(',').unwrap();
        assert!(first.starts_with("200||"), "{guest}: {first}");
        assert!(second.starts_with("429|timed-out|"), "{guest}: {second}");
        assert_eq!(used(), 4, "{guest}");
        host.settles().await;
    }
}

/// Several requests share an instance: a call rides on what its own has acquired.
#[tokio::test]
async fn a_call_rides_on_no_lease_of_another_request() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    let app = host.run(guests::FLOW, |config| {
        allowed(config, Egress::new(vec![never_waits()]).unwrap());
        config.allow_scopes = vec!["*".to_owned()];
        config.max_instances = Some(1);
    });
    let other = async {
        host.shows(HERE, 1, 0).await;
        get(&app, &format!("/under?scope=other&url={}", upstream.url("/ok"))).await.unwrap()
    };
    let hold = format!("/hold?scope={HERE}&ms=1000");
    let (held, other) = futures::join!(get(&app, &hold), other);
    assert_eq!(held.unwrap(), "held");
    assert!(other.starts_with("503|limited|"), "{other}");
    host.settles().await;
}

/// Of the counters of a rule's key, a lease pays for those that it is on.
#[tokio::test]
async fn a_lease_on_the_scope_of_a_rule_pays_for_the_scope() {
    let upstream = Upstream::start().await;
    for guest in BOTH_THAT_ACQUIRE {
        let host = Host::new(&[("p", "1"), ("p/a", "1")]);
        let app = host.run(guest, |config| {
            let rule = EgressRule::new(HERE, Some("p")).unwrap().limit_key("a").unwrap().max_wait(Duration::ZERO);
            allowed(config, Egress::new(vec![rule]).unwrap());
            config.allow_scopes = vec!["*".to_owned()];
        });
        let path = format!("/under?scope=p&url={}", upstream.url("/ok"));
        assert!(get(&app, &path).await.unwrap().starts_with("200||"), "{guest}");
        host.settles().await;
        host.limit("p", "2");
        let held = host.take("p/a");
        let answer = get(&app, &path).await.unwrap();
        assert!(answer.starts_with("503|limited|"), "{guest}: {answer}");
        assert_eq!(host.counter("p/a").unwrap().refused, 1, "{guest}");
        drop(held);
        host.settles().await;
        // Not on the one that is on both and carries the guest's, which would wait for the guest.
        host.limit("p", "1");
        host.limit("p/a", "9");
        let called = Call { key: Some(key("p/a")), lease: Some(host.take("p/a")) };
        assert!(get_as(&app, called, &path).await.unwrap().starts_with("200||"), "{guest}");
        host.settles().await;
    }
}

/// Ingress, the guest and the rule for its call at one counter, at limit 1: nothing waits for itself.
#[tokio::test]
async fn a_call_rides_on_what_its_guest_was_lent() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    for guest in BOTH_THAT_ACQUIRE {
        let app = under(&host, guest, never_waits());
        let call = Call { key: Some(key(HERE)), lease: Some(host.take(HERE)) };
        let answer = get_as(&app, call, &format!("/under?url={}", upstream.url("/ok"))).await.unwrap();
        assert!(answer.starts_with("200||"), "{guest}: {answer}");
        host.settles().await;
    }
}

/// The lease that ingress took, under a rule of the same scope: at limit 1 the call goes through.
#[tokio::test]
async fn a_call_in_the_scope_of_its_request_rides_on_that() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    for guest in BOTH {
        let app = under(&host, guest, never_waits());
        let call_of = || Call { key: Some(key(HERE)), lease: Some(host.take(HERE)) };
        assert_eq!(get_as(&app, call_of(), &call(&upstream, "/ok")).await.unwrap(), "200|||ok", "{guest}");
        host.settles().await;
        // One of another scope lends nothing.
        let _held = host.take(HERE);
        let other = Call { key: Some(key("in")), lease: Some(host.take("in")) };
        let answer = get_as(&app, other, &call(&upstream, "/ok")).await.unwrap();
        assert!(answer.starts_with("503|limited|"), "{guest}: {answer}");
        drop(_held);
        host.settles().await;
    }
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_pause_gets_it() {
    for (path, status) in [("/pause", "429||30|ok"), ("/used-up", "503|||ok")] {
        let upstream = Upstream::start().await;
        for guest in BOTH {
            let host = Host::new(&[]);
            let app = under(&host, guest, never_waits());
            let before = upstream.requests();
            assert_eq!(get(&app, &call(&upstream, path)).await.unwrap(), status);
            let pause = host.counter(HERE).unwrap().pushed_back_for.expect("a pause");
            assert!(pause <= Duration::from_secs(30) && pause > Duration::from_secs(20), "{pause:?}");
            let answer = get(&app, &call(&upstream, "/ok")).await.unwrap();
            assert!(answer.starts_with("503|pushed-back|"), "{answer}");
            assert_eq!(upstream.requests(), before + 1, "the next call does not run into it");
            host.settles().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_only_fails_closes_nothing() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    let app = under(&host, guests::EGRESS, never_waits());
    assert_eq!(get(&app, &call(&upstream, "/busy")).await.unwrap(), "503|||ok");
    assert_eq!(get(&app, &call(&upstream, "/ok")).await.unwrap(), "200|||ok");
    host.settles().await;
    let counter = host.counter(HERE).unwrap();
    assert_eq!((counter.pushed_back_for, counter.failed), (None, 1));
}

#[tokio::test]
async fn nobody_else_says_that_this_host_refused() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[]);
    let app = under(&host, guests::EGRESS, rule());
    assert_eq!(get(&app, &call(&upstream, "/liar")).await.unwrap(), "200|||ok");
    let unruled = host.run(guests::EGRESS, |config| allowed(config, Egress::default()));
    assert_eq!(get(&unruled, &call(&upstream, "/liar")).await.unwrap(), "200|||ok");
}

#[tokio::test]
async fn a_lease_ends_with_the_body_of_the_response() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    let app = under(&host, guests::EGRESS, rule());
    // Dropped by the guest, after a while.
    let dropped = get(&app, &format!("/hold?ms=50&url={}", upstream.url("/endless"))).await.unwrap();
    assert_eq!(dropped, "dropped");
    host.settles().await;
    // Held as long as the guest has it, and given back when its client leaves.
    let path = format!("/hold?url={}", upstream.url("/endless"));
    let holding = tokio::spawn({
        let app = app.clone();
        async move { app.handle(Call::default(), request(&path)).await.map(drop) }
    });
    host.shows(HERE, 1, 0).await;
    holding.abort();
    host.settles().await;
    // Passed on: it ends with the body that the client reads.
    let path = format!("/pass?url={}", upstream.url("/endless"));
    let response = within("the head", app.handle(Call::default(), request(&path))).await.unwrap();
    host.shows(HERE, 1, 0).await;
    drop(response);
    host.settles().await;
    assert_eq!(get(&app, &call(&upstream, "/ok")).await.unwrap(), "200|||ok");
}

#[tokio::test]
async fn a_wait_ends_with_the_request_that_waits() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "1")]);
    let held = host.take(HERE);
    for guest in BOTH {
        let app = under(&host, guest, rule());
        let path = call(&upstream, "/ok");
        let waiting = tokio::spawn(async move { app.handle(Call::default(), request(&path)).await.map(drop) });
        host.shows(HERE, 1, 1).await;
        waiting.abort();
        host.shows(HERE, 1, 0).await;
    }
    drop(held);
    host.settles().await;
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_call_comes_under_the_key_that_it_fills_in() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[("api/*/*", "8:cost")]);
    let rule = EgressRule::new(HERE, Some("api")).unwrap().limit_key("{component}/{header:x-key}").unwrap();
    let app = under(&host, guests::EGRESS, rule.cost("{header:x-cost}").unwrap().max_wait(Duration::ZERO));
    let with = |fields: &str| format!("/call?{fields}&url={}", upstream.url("/ok"));
    assert_eq!(get(&app, &with("x-key=small&x-cost=8")).await.unwrap(), "200|||ok");
    for counter in ["api", "api/app", "api/app/small"] {
        assert!(host.counter(counter).is_some(), "{counter}");
    }
    for (fields, refused) in [
        ("x-key=small&x-cost=9", "422|too-large||"),
        ("x-cost=1", "400|invalid||"),
        ("x-key=a/b&x-cost=1", "400|invalid||"),
        ("x-key=small&x-cost=0", "400|invalid||"),
    ] {
        let answer = get(&app, &with(fields)).await.unwrap();
        assert!(answer.starts_with(refused), "{fields}: {answer}");
    }
    assert_eq!(upstream.requests(), 1);
    host.settles().await;
}

/// A limit outside must not close the scope that the guest was called by.
#[tokio::test]
async fn a_refusal_that_is_passed_on_pushes_nothing_back() {
    let upstream = Upstream::start().await;
    let host = Host::new(&[(HERE, "0")]);
    let app = under(&host, guests::EGRESS, never_waits());
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let path = format!("/pass?url={}", upstream.url("/ok"));
    let response = within("the head", app.handle(call, request(&path))).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("weir-refused"));
    drop(response);
    host.settles().await;
    assert_eq!(host.counter("in").unwrap().pushed_back_for, None);
}
