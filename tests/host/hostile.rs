//! Guests that loop, trap, hoard and lie: the host stands, the neighbours answer, no capacity is lost.

use std::time::Duration;
use weir_tests::{Host, get, get_as, guests, key};
use weir_wasm::{Call, ComponentConfig, HandleError};

/// Runs a bad request, sees it fail, and sees that a good one works after it and nothing is lost.
async fn fails(path: &str, change: impl FnOnce(&mut ComponentConfig)) -> HandleError {
    let host = Host::new(&[("app", "2")]);
    let app = host.run(guests::HOSTILE, change);
    let call = Call { key: Some(key("in")), lease: Some(host.take("in")) };
    let error = get_as(&app, call, path).await.unwrap_err();
    host.settles().await;
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
    error
}

#[tokio::test]
async fn a_trap() {
    assert_eq!(fails("/trap?scope=app", |_| {}).await, HandleError::Trapped);
}

#[tokio::test]
async fn a_trap_while_another_task_waits() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::HOSTILE, |_| {});
    assert_eq!(get(&app, "/trap-waiting?scope=app").await, Err(HandleError::Trapped));
    host.settles().await;
}

#[tokio::test]
async fn a_loop_ends_with_its_cpu_time() {
    assert_eq!(
        fails("/loop?scope=app", |config| config.limits.cpu = Duration::from_millis(100)).await,
        HandleError::Trapped
    );
}

#[tokio::test]
async fn a_loop_ends_with_its_deadline() {
    let error = fails("/loop?scope=app", |config| config.limits.deadline = Duration::from_millis(200)).await;
    assert_eq!(error, HandleError::Deadline);
}

#[tokio::test]
async fn a_long_sleep_ends_with_its_deadline() {
    let error = fails("/sleep?scope=app", |config| config.limits.deadline = Duration::from_millis(200)).await;
    assert_eq!(error, HandleError::Deadline);
}

#[tokio::test]
async fn a_memory_bomb_traps() {
    assert_eq!(fails("/bomb?scope=app", |_| {}).await, HandleError::Trapped);
}

#[tokio::test]
async fn a_leak_ends_with_its_instance_and_fails_no_request() {
    let host = Host::new(&[]);
    let app = host.run(guests::HOSTILE, |_| {});
    let mut most = 0;
    for _ in 0..100 {
        // 64 MiB an instance: a hundred of these do not fit into one.
        let served: u32 = get(&app, "/leak?bytes=2000000").await.unwrap().parse().unwrap();
        most = most.max(served);
    }
    assert!((10..32).contains(&most), "an instance served {most} more before it was replaced");
}

#[tokio::test]
async fn a_flood_of_options_traps() {
    assert_eq!(fails("/options", |_| {}).await, HandleError::Trapped);
}

#[tokio::test]
async fn a_flood_of_leases_is_refused_at_some_point() {
    let host = Host::new(&[]);
    let app = host.run(guests::HOSTILE, |_| {});
    let answer = get(&app, "/flood").await.unwrap();
    let (held, why) = answer.split_once('|').unwrap();
    assert_eq!(held, "1024", "{answer}");
    assert!(why.starts_with("overloaded|"), "{answer}");
    host.settles().await;
}

#[tokio::test]
async fn a_huge_name_is_invalid_and_a_larger_one_traps() {
    let host = Host::new(&[]);
    let app = host.run(guests::HOSTILE, |_| {});
    assert!(
        get(&app, "/huge-name?bytes=1000000")
            .await
            .unwrap()
            .starts_with("invalid|invalid: the scope is 1000000 bytes long")
    );
    // Past the fuel for one host call.
    assert_eq!(get(&app, "/huge-name?bytes=10000000").await, Err(HandleError::Trapped));
    host.settles().await;
}

#[tokio::test]
async fn too_many_targets_are_invalid() {
    let host = Host::new(&[]);
    let app = host.run(guests::HOSTILE, |config| config.allow_scopes = vec!["*".into()]);
    assert_eq!(get(&app, "/many-targets?targets=15").await.unwrap(), "granted");
    assert!(get(&app, "/many-targets?targets=16").await.unwrap().starts_with("invalid|"));
    assert!(get(&app, "/many-targets?targets=3000").await.unwrap().starts_with("invalid|"));
    host.settles().await;
}

/// While one guest loops, another component answers.
#[tokio::test]
async fn a_neighbour_answers_beside_a_loop() {
    let host = Host::new(&[]);
    let bad = host.run(guests::HOSTILE, |config| config.limits.cpu = Duration::from_millis(500));
    let good = host.run(guests::FLOW, |config| config.name = "good".into());
    let looping = tokio::spawn(async move { get(&bad, "/loop").await });
    for _ in 0..20 {
        assert_eq!(get(&good, "/plain").await.unwrap(), "plain");
    }
    assert_eq!(looping.await.unwrap(), Err(HandleError::Trapped));
    host.settles().await;
}
