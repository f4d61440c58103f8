//! What a guest can say through `weir:flow`, and what it gets.

use std::time::Duration;
use weir_tests::{Host, get, get_as, guests, key, within};
use weir_wasm::{Call, HandleError};

use crate::keeping;

#[tokio::test]
async fn it_acquires_and_drops() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    for path in ["/acquire", "/release", "/acquire?scope=app&key=a/b&cost=7"] {
        let answer = get(&app, path).await.unwrap();
        assert!(answer.starts_with("granted|") || answer == "released", "{path}: {answer}");
    }
    host.settles().await;
    assert_eq!(host.flow.metrics().granted, 3);
}

/// What a guest drops is free at once, not only when its request has ended.
#[tokio::test]
async fn what_is_dropped_can_be_had_again_by_the_same_request() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/turns?scope=app&key=a").await.unwrap(), "3");
}

#[tokio::test]
async fn fencing_numbers_grow() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |_| {});
    let mut last = 0_u64;
    for _ in 0..5 {
        let answer = get(&app, "/acquire").await.unwrap();
        let fence = answer.rsplit('|').next().unwrap().parse().unwrap();
        assert!(fence > last);
        last = fence;
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_or_waits() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let held = host.take("app");
    assert!(get(&app, "/try").await.unwrap().starts_with("limited|limited: "));
    assert!(get(&app, "/acquire?wait_ms=0").await.unwrap().starts_with("limited|"));
    assert!(get(&app, "/acquire?wait_ms=30").await.unwrap().starts_with("timed-out|"));
    let waiting = tokio::spawn(async move { get(&app, "/acquire").await });
    host.shows("app", 1, 1).await;
    drop(held);
    assert!(within("the wait", waiting).await.unwrap().unwrap().starts_with("granted|"));
    host.settles().await;
}

#[tokio::test]
async fn a_check_has_no_effect() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    assert!(get(&app, "/check").await.unwrap().starts_with("would be granted|"));
    host.settles().await;
    let _held = host.take("app");
    assert!(get(&app, "/check").await.unwrap().starts_with("limited|"));
    assert_eq!(host.usage("app"), (1, 0));
}

#[tokio::test]
async fn several_targets_are_one_step() {
    let host = Host::new(&[("app", "1"), ("other", "1")]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["other".into()]);
    assert!(get(&app, "/acquire?also=other").await.unwrap().starts_with("granted|"));
    let _held = host.take("other");
    assert!(get(&app, "/acquire?also=other&wait_ms=0").await.unwrap().starts_with("limited|"));
    assert_eq!(host.usage("app"), (0, 0), "all or nothing");
}

#[tokio::test]
async fn a_scope_that_is_not_allowed_is_denied() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["mine".into()]);
    let answer = get(&app, "/acquire?scope=theirs").await.unwrap();
    assert!(answer.starts_with("denied|denied: the component `app` may not use the scope `theirs`"), "{answer}");
    assert!(get(&app, "/acquire?also=theirs").await.unwrap().starts_with("denied|"));
    assert!(get(&app, "/check?scope=theirs").await.unwrap().starts_with("denied|"));
    for scope in ["mine", "app"] {
        assert!(get(&app, &format!("/acquire?scope={scope}")).await.unwrap().starts_with("granted|"));
    }
    // The scope of its own request it may name, and the next request may not.
    let call = Call { key: Some(key("theirs/x")), lease: None };
    assert!(get_as(&app, call, "/acquire?scope=theirs").await.unwrap().starts_with("granted|"));
    assert!(get(&app, "/acquire?scope=theirs").await.unwrap().starts_with("denied|"));
    let every = host.run(guests::FLOW, |config| config.allow_scopes = vec!["*".into()]);
    assert!(get(&every, "/acquire?scope=theirs").await.unwrap().starts_with("granted|"));
    host.settles().await;
    assert_eq!(host.flow.counters(&weir_engine::CounterQuery { prefix: Some("denied".into()), limit: 0 }).len(), 0);
}

#[tokio::test]
async fn what_is_not_valid_is_answered_with_what_is_wrong() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| config.allow_scopes = vec!["*".into()]);
    for (path, says) in [
        ("/acquire?scope=a%20b", "the scope has the byte `%` (0x25) at position 1"),
        ("/acquire?scope=", "the scope is empty"),
        ("/acquire?key=a/b/c", "invalid"),
        ("/acquire?key=a//b", "invalid"),
        ("/acquire?cost=0", "the cost is 0"),
        ("/acquire?lease_ms=1", "a lease time of 1ms is out of bounds"),
        ("/acquire?also=b*d", "the scope has the byte `*`"),
    ] {
        let answer = get(&app, path).await.unwrap();
        assert!(answer.starts_with("invalid|invalid: ") && answer.contains(says), "{path}: {answer}");
    }
    host.settles().await;
}

#[tokio::test]
async fn inside_a_scoped_request_the_defaults_are_its_own() {
    let host = Host::new(&[("tenant/a", "0")]);
    let app = host.run(guests::FLOW, |_| {});
    let call = || Call { key: Some(key("tenant/a")), lease: None };
    assert!(get_as(&app, call(), "/try").await.unwrap().contains("`tenant/a` is closed"));
    // A limit key alone stays under the request's scope.
    assert!(get_as(&app, call(), "/try?key=b").await.unwrap() == "granted");
    // Outside of one it is the component's.
    assert_eq!(get(&app, "/try").await.unwrap(), "granted");
    host.settles().await;
}

/// Called through its own scope with a limit of 1, a component that acquires it does not wait for itself.
#[tokio::test]
async fn the_lease_of_its_request_is_lent_once() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let call = || Call { key: Some(key("app")), lease: Some(host.take("app")) };
    assert!(get_as(&app, call(), "/acquire?wait_ms=0").await.unwrap().starts_with("granted|"));
    host.settles().await;
    assert_eq!(get_as(&app, call(), "/twice").await.unwrap(), "granted|limited");
    host.settles().await;
    // Under another key there is nothing to lend.
    host.limit("app/k", "0");
    assert!(get_as(&app, call(), "/acquire?key=k&wait_ms=0").await.unwrap().starts_with("limited|"));
    host.settles().await;
    // One after the other they ride on what it holds; the first alone on its start.
    host.rule("app", Some("1"), &["2/1h"]);
    assert_eq!(get_as(&app, call(), "/turns").await.unwrap(), "2");
    assert_eq!(host.counter("app").unwrap().rates[0].used, 2);
    host.settles().await;
}

/// With a data directory a start may wait for the disk. It is granted then, and stands in nobody's way.
#[tokio::test]
async fn a_start_that_is_only_being_written_down_needs_no_room_to_wait() {
    let (_directory, host) = keeping();
    host.limit("full", "1");
    host.rule("app", None, &["1000/1h"]);
    let app = host.run(guests::FLOW, |config| {
        config.max_waiting_in_guest = Some(1);
        config.allow_scopes = vec!["full".to_owned()];
    });
    let held = host.take("full");
    let waiting = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/acquire?scope=full").await.unwrap() }
    });
    host.shows("full", 1, 1).await;
    let overloaded = get(&app, "/acquire?scope=full").await.unwrap();
    assert!(overloaded.starts_with("overloaded|"), "{overloaded}");
    // Of the starts of a thousand an hour, one in 62 is written down before it is told.
    for _ in 0..130 {
        let granted = get(&app, "/acquire").await.unwrap();
        assert!(granted.starts_with("granted|"), "{granted}");
    }
    drop(held);
    assert!(waiting.await.unwrap().starts_with("granted|"));
    host.settles().await;
}

#[tokio::test]
async fn a_timed_lease_runs_out_and_says_so() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/timed?lease_ms=100").await.unwrap(), "true|true|Some(0)|lost");
    host.settles().await;
}

#[tokio::test]
async fn a_leaked_lease_ends_with_its_request() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    for _ in 0..100 {
        assert_eq!(get(&app, "/leak?wait_ms=0").await.unwrap(), "true");
        assert_eq!(host.usage("app"), (0, 0), "at the end of the body");
    }
    host.settles().await;
}

#[tokio::test]
async fn a_lease_hidden_for_the_next_request_is_lost() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |config| config.max_instances = Some(1));
    assert_eq!(get(&app, "/stash").await.unwrap(), "true");
    host.settles().await;
    assert_eq!(get(&app, "/stashed").await.unwrap(), "Some(0)|lost");
    // Its handle is dead, and dropping it gave nothing back twice.
    let _held = host.take("app");
    assert_eq!(host.usage("app"), (1, 0));
}

#[tokio::test]
async fn what_is_held_beyond_the_response_ends_with_it() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/after?ms=3600000").await.unwrap(), "answered");
    host.settles().await;
}

#[tokio::test]
async fn what_is_acquired_after_the_response_is_counted_too() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&app, "/acquire-after?ms=200").await.unwrap(), "answered");
    host.shows("app", 1, 0).await;
    host.settles().await;
}

#[tokio::test]
async fn an_error_of_the_guest_is_told_as_such() {
    let host = Host::new(&[("in", "1")]);
    let app = host.run(guests::FLOW, |_| {});
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    assert!(matches!(get_as(&app, call, "/error").await, Err(HandleError::Guest(_))));
    host.settles().await;
}

#[tokio::test]
async fn more_than_a_share_of_its_slots_never_waits() {
    let host = Host::new(&[("app", "0")]);
    let app = host.run(guests::FLOW, |config| {
        config.max_instances = Some(1);
        config.limits.concurrent_requests = 4;
    });
    // Three quarters of four slots.
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { get(&app, "/acquire").await })
        })
        .collect();
    host.shows("app", 0, 3).await;
    let answer = get(&app, "/acquire").await.unwrap();
    assert!(answer.starts_with("overloaded|overloaded: 3 acquires of this component wait already"), "{answer}");
    // What need not wait is not concerned, and the component still answers.
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
    host.shows("app", 0, 3).await;
    host.limit("app", "3");
    for waiting in waiting {
        assert!(within("the wait", waiting).await.unwrap().unwrap().starts_with("granted|"));
    }
    host.settles().await;
}

#[tokio::test]
async fn it_calls_nobody_who_is_not_allowed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        }
    });
    let host = Host::new(&[]);
    let path = format!("/fetch?to={at}");
    let closed = host.run(guests::FLOW, |_| {});
    assert_eq!(get(&closed, &path).await.unwrap(), "ErrorCode::HttpRequestDenied");
    let other_port = host.run(guests::FLOW, |config| config.allow_outbound = vec!["127.0.0.1:1".into()]);
    assert_eq!(get(&other_port, &path).await.unwrap(), "ErrorCode::HttpRequestDenied");
    let open = host.run(guests::FLOW, |config| config.allow_outbound = vec![at.to_string()]);
    assert_eq!(get(&open, &path).await.unwrap(), "204");
    host.settles().await;
}

/// Output is one event a line, escaped, with the component's name.
#[test]
fn what_it_prints_is_logged_line_by_line() {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let host = Host::new(&[]);
            let app = host.run(guests::FLOW, |config| config.limits.idle_time = Duration::from_millis(1));
            assert_eq!(get(&app, "/print").await.unwrap(), "printed");
            weir_tests::until("both lines are logged", || {
                let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
                text.contains("no line end on stderr") && text.contains("a line on stdout")
            })
            .await;
        });
    });
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("a line on stdout")).unwrap();
    assert!(
        line.contains("guest: a line on stdout\\u{1b}[31m")
            && line.contains("component=app")
            && line.contains("stream=\"stdout\""),
        "{line}"
    );
}
