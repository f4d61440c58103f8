//! What the black-box tests share: the compiled guests, a host to run them in, and what to ask of it.
//!
//! Nothing here measures time. Where a test has to wait for something it polls for it, up to a bound that only a hang
//! reaches.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use weir_engine::{
    Change, CounterQuery, CounterSnapshot, Engine, EngineConfig, Lease, Limits, Pattern, Precondition, Request,
    RuleSpec, ScopedKey,
};
use weir_wasm::{
    Call, Compiled, Component, ComponentConfig, HandleError, LoadError, Runner, Runtime, RuntimeConfig, WasiBody,
};

/// Texts that are a name, and texts that are none.
pub mod texts;

/// Where the compiled guests are, and `foreach_guest!`.
pub mod guests {
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}

/// Where the compiled client components are.
pub mod clients {
    include!(concat!(env!("OUT_DIR"), "/clients.rs"));
}

/// Only a hang takes so long. Where bugs are planted, a hang is what is looked for.
pub const HANG: Duration = Duration::from_secs(if cfg!(feature = "planted") { 20 } else { 60 });

/// A limiter and the components under it.
#[derive(Debug)]
pub struct Host {
    /// The limiter.
    pub flow: Engine,
}

/// One wasmtime for all tests of a process: its pool is large.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // RUST_LOG=guest=debug shows why instances were dropped. Set already, by a test of its own: fine.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        Runtime::new(&RuntimeConfig { pool_instances: 200, ..RuntimeConfig::default() })
            .expect("this machine runs wasmtime")
    })
}

/// A guest is compiled once for all tests of a process.
fn compiled(guest: &str) -> Result<Compiled, LoadError> {
    static COMPILED: Mutex<BTreeMap<String, Compiled>> = Mutex::new(BTreeMap::new());
    if let Some(compiled) = COMPILED.lock().expect("no test fails in here").get(guest) {
        return Ok(compiled.clone());
    }
    let compiled = runtime().compile(&std::fs::read(guest).expect("a compiled guest"))?;
    COMPILED.lock().expect("no test fails in here").insert(guest.to_owned(), compiled.clone());
    Ok(compiled)
}

/// The component `app`, as a test wants it.
fn configured(change: impl FnOnce(&mut ComponentConfig)) -> ComponentConfig {
    let mut config = ComponentConfig::new("app");
    change(&mut config);
    config
}

impl Host {
    /// A host under rules `(pattern, concurrency)`.
    ///
    /// # Panics
    /// When one is not valid.
    #[must_use]
    pub fn new(rules: &[(&str, &str)]) -> Self {
        let flow = Engine::new(EngineConfig::default());
        let host = Self { flow };
        for (pattern, concurrency) in rules {
            host.limit(pattern, concurrency);
        }
        host
    }

    /// Sets one rule.
    ///
    /// # Panics
    /// When it is not valid.
    pub fn limit(&self, pattern: &str, concurrency: &str) {
        self.rule(pattern, Some(concurrency), &[]);
    }

    /// Sets one rule with rates.
    ///
    /// # Panics
    /// When it is not valid.
    pub fn rule(&self, pattern: &str, concurrency: Option<&str>, rates: &[&str]) {
        let limits = Limits {
            concurrency: concurrency.map(|text| text.parse().expect("a concurrency")),
            rates: rates.iter().map(|text| text.parse().expect("a rate")).collect(),
            ..Limits::default()
        };
        let pattern: Pattern = pattern.parse().expect("a pattern");
        self.flow
            .apply(&[Change::Put {
                pattern,
                spec: RuleSpec { limits, ..RuleSpec::default() },
                when: Precondition::None,
            }])
            .expect("a good rule");
    }

    /// Loads a guest as the component `app`.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    ///
    /// # Panics
    /// When there is no such file.
    pub fn try_load(
        &self,
        guest: &str,
        change: impl FnOnce(&mut ComponentConfig),
    ) -> Result<Arc<Component>, LoadError> {
        compiled(guest)?.component(&self.flow, configured(change))
    }

    /// Loads a component that is no file as `app`.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn try_load_bytes(
        &self,
        component: &[u8],
        change: impl FnOnce(&mut ComponentConfig),
    ) -> Result<Arc<Component>, LoadError> {
        runtime().load(&self.flow, component, configured(change))
    }

    /// A runner for a guest, loaded as the component `app`.
    ///
    /// # Panics
    /// When it does not load.
    #[must_use]
    pub fn run(&self, guest: &str, change: impl FnOnce(&mut ComponentConfig)) -> Runner {
        self.try_load(guest, change).expect("a good guest").runner()
    }

    /// Takes a lease.
    ///
    /// # Panics
    /// When there is none at once.
    pub fn take(&self, scope: &str) -> Lease {
        self.flow.try_acquire(&Request::new(key(scope))).expect("capacity")
    }

    /// How many calls are held at a counter, and how many wait for it.
    #[must_use]
    pub fn usage(&self, counter: &str) -> (u64, u64) {
        self.counter(counter).map_or((0, 0), |found| (found.calls, u64::try_from(found.waiting).expect("no overflow")))
    }

    /// A counter as an operator sees it.
    #[must_use]
    pub fn counter(&self, counter: &str) -> Option<CounterSnapshot> {
        let all = self.flow.counters(&CounterQuery { prefix: Some(counter.to_owned()), ..CounterQuery::default() });
        all.into_iter().find(|found| found.counter == counter)
    }

    /// All that a request can change, as text: who held and waited, what has started and was refused, the rules.
    #[must_use]
    pub fn state(&self) -> String {
        let (metrics, counters) = (self.flow.metrics(), self.flow.counters(&CounterQuery::default()));
        format!("{metrics:?}\n{counters:?}\n{:?}", self.flow.book().rules().collect::<Vec<_>>())
    }

    /// Waits until a counter shows this usage.
    ///
    /// # Panics
    /// When it never does.
    pub async fn shows(&self, counter: &str, held: u64, waiting: u64) {
        until(&format!("{counter} shows {held} held and {waiting} waiting"), || self.usage(counter) == (held, waiting))
            .await;
    }

    /// Waits until nothing is held anywhere and nobody waits: no capacity was lost.
    ///
    /// # Panics
    /// When it never comes to that.
    pub async fn settles(&self) {
        until("everything is given back", || {
            let metrics = self.flow.metrics();
            metrics.leases == 0
                && metrics.waiting == 0
                && self
                    .flow
                    .counters(&CounterQuery::default())
                    .iter()
                    .all(|counter| counter.calls == 0 && counter.cost == 0)
        })
        .await;
    }
}

/// A key from `scope[/l1[/l2]]`.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn key(text: &str) -> ScopedKey {
    text.parse().expect("a key")
}

/// Waits until something is so.
///
/// # Panics
/// When it never is.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < HANG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a future that must not hang.
///
/// # Panics
/// When it does.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(HANG, future).await {
        Ok(output) => output,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// A GET request without a body.
///
/// # Panics
/// When the path is none.
#[must_use]
pub fn request(path: &str) -> http::Request<WasiBody> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    http::Request::builder().uri(format!("http://test.invalid{path}")).body(body).expect("a good path")
}

/// Calls a component without a scope, and answers the whole body as text.
///
/// # Errors
/// As [`Runner::handle`].
pub async fn get(runner: &Runner, path: &str) -> Result<String, HandleError> {
    get_as(runner, Call::default(), path).await
}

/// Calls a component, and answers the whole body as text.
///
/// # Errors
/// As [`Runner::handle`].
///
/// # Panics
/// When the body ends as an error.
pub async fn get_as(runner: &Runner, call: Call, path: &str) -> Result<String, HandleError> {
    let response = within(path, runner.handle(call, request(path))).await?;
    Ok(text(response).await)
}

/// The whole body as text.
///
/// # Panics
/// When it ends as an error.
pub async fn text(response: http::Response<WasiBody>) -> String {
    let body = within("the body", response.into_body().collect()).await.expect("a whole body");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}
