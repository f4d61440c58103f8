//! How many instances a component has, and who gets one.

use std::time::Duration;
use tokio::task::JoinHandle;
use weir_tests::{Host, get, guests, within};
use weir_wasm::{ComponentConfig, HandleError, Runner, Runtime, RuntimeConfig};

#[tokio::test]
async fn requests_queue_for_an_instance() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| {
        config.max_instances = Some(1);
        config.limits.concurrent_requests = 1;
    });
    let all: Vec<_> = (0..20)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { get(&app, "/hold?ms=5").await })
        })
        .collect();
    for one in all {
        assert_eq!(within("its turn", one).await.unwrap().unwrap(), "held");
    }
    host.settles().await;
}

#[tokio::test]
async fn a_machine_without_room_for_the_pool_runs_components_too() {
    // No machine has the address space for so many.
    let runtime = Runtime::new(&RuntimeConfig { pool_instances: u32::MAX, ..RuntimeConfig::default() }).unwrap();
    let host = Host::new(&[("app", "1")]);
    let mut config = ComponentConfig::new("app");
    config.max_instances = Some(2);
    let app = runtime.load(&host.flow, &std::fs::read(guests::FLOW).unwrap(), config).unwrap().runner();
    let all: Vec<_> = (0..20)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { get(&app, "/hold?ms=1&scope=app").await })
        })
        .collect();
    for one in all {
        assert_eq!(within("its turn", one).await.unwrap().unwrap(), "held");
    }
    host.settles().await;
}

#[tokio::test]
async fn isolated_requests_queue_too() {
    let host = Host::new(&[]);
    let app = host.run(guests::FLOW, |config| {
        config.max_instances = Some(2);
        config.isolate = true;
    });
    let all: Vec<_> = (0..20)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { get(&app, "/hold?ms=5").await })
        })
        .collect();
    for one in all {
        assert_eq!(within("its turn", one).await.unwrap().unwrap(), "held");
    }
    host.settles().await;
}

#[tokio::test]
async fn without_an_instance_in_time_it_is_overloaded() {
    let host = Host::new(&[("app", "1")]);
    let app = host.run(guests::FLOW, |config| {
        config.max_instances = Some(1);
        config.isolate = true;
        config.limits.deadline = Duration::from_millis(500);
    });
    let first = tokio::spawn({
        let app = app.clone();
        async move { get(&app, "/hold?ms=3600000").await }
    });
    host.shows("app", 1, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // It queues longer than the first one may run, and gets the next instance.
    assert_eq!(get(&app, "/plain").await.unwrap(), "plain");
    assert_eq!(first.await.unwrap(), Err(HandleError::Deadline));
    // This one gets none: each before it runs to its deadline.
    let hold = || {
        let app = app.clone();
        tokio::spawn(async move { get(&app, "/hold?ms=3600000").await })
    };
    let (first, second, third) = (hold(), hold(), hold());
    let mut answers = Vec::new();
    for one in [first, second, third] {
        answers.push(within("a deadline", one).await.unwrap().unwrap_err());
    }
    assert!(answers.contains(&HandleError::Deadline) && answers.contains(&HandleError::Overloaded), "{answers:?}");
    host.settles().await;
}

/// Two runners and one instance: the one that has it gives it up for the other.
#[tokio::test]
async fn runners_share_the_instances_of_a_component() {
    let host = Host::new(&[]);
    let component = host.try_load(guests::FLOW, |config| config.max_instances = Some(1)).unwrap();
    let (one, other) = (component.runner(), component.runner());
    for _ in 0..5 {
        assert_eq!(get(&one, "/plain").await.unwrap(), "plain");
        assert_eq!(get(&other, "/plain").await.unwrap(), "plain");
    }
    host.settles().await;
}

/// Two runners with an instance each, and all requests come to one of them: they run two at a time.
#[tokio::test]
async fn an_idle_instance_of_another_runner_does_not_stand_by() {
    let host = Host::new(&[("app", "2")]);
    let component = host.try_load(guests::FLOW, isolated_pair).unwrap();
    let (one, other) = (component.runner(), component.runner());
    assert_eq!(get(&one, "/plain").await.unwrap(), "plain");
    assert_eq!(get(&other, "/plain").await.unwrap(), "plain");
    let holds = [hold(&one, "app", 3_600_000), hold(&one, "app", 3_600_000)];
    host.shows("app", 2, 0).await;
    for one in holds {
        one.abort();
    }
    host.settles().await;
}

/// The same with one that becomes idle while a request waits elsewhere.
#[tokio::test]
async fn an_instance_that_becomes_idle_ends_for_who_waits_elsewhere() {
    let host = Host::new(&[("app", "2"), ("short", "1")]);
    let component = host.try_load(guests::FLOW, isolated_pair).unwrap();
    let (one, other) = (component.runner(), component.runner());
    let short = hold(&other, "short", 200);
    host.shows("short", 1, 0).await;
    let holds = [hold(&one, "app", 3_600_000), hold(&one, "app", 3_600_000)];
    assert_eq!(within("the short one", short).await.unwrap().unwrap(), "held");
    host.shows("app", 2, 0).await;
    for one in holds {
        one.abort();
    }
    host.settles().await;
}

/// Two instances that never end by being idle.
fn isolated_pair(config: &mut ComponentConfig) {
    config.max_instances = Some(2);
    config.isolate = true;
    config.allow_scopes = vec!["*".into()];
    config.limits.idle_time = Duration::from_secs(3600);
}

/// A request that holds a scope.
fn hold(runner: &Runner, scope: &str, milliseconds: u64) -> JoinHandle<Result<String, HandleError>> {
    let (runner, path) = (runner.clone(), format!("/hold?scope={scope}&ms={milliseconds}"));
    tokio::spawn(async move { get(&runner, &path).await })
}

#[tokio::test]
async fn wasi_02_makes_an_instance_for_each_request() {
    let host = Host::new(&[]);
    let app = host.run(guests::SYNC, |config| config.max_instances = Some(2));
    let all: Vec<_> = (0..40)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { get(&app, "/acquire").await })
        })
        .collect();
    for one in all {
        assert!(within("its turn", one).await.unwrap().unwrap().starts_with("granted|"));
    }
    host.settles().await;
}
