//! A host that knows nothing of Weir, as `wasmtime serve` is one: wasmtime's own WASI and `wasi:http`, and instances that serve
//! many requests.
//!
//! In this process, because tests look where the command shows nothing: they take a body chunk by chunk with no socket that
//! reads ahead, drop a response in the middle, and ask which instances have failed. The command itself
//! (`tests/wasmtime`) runs what is composed in `examples/run spin-throttled`.

use std::future::{Future, pending};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::time::Sleep;
use wasmtime::component::{Component, GuestTaskId, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// The defaults of `wasmtime serve`.
const AT_ONCE: usize = 16;
const IN_ALL: usize = 128;
const IDLE: Duration = Duration::from_secs(1);

/// One process of such a host.
pub(crate) struct Plain {
    handler: ProxyHandler<Handler>,
    failures: Failures,
}

/// Why instances ended that should not have.
type Failures = Arc<Mutex<Vec<String>>>;

/// A component, compiled for any number of such hosts.
pub(crate) struct Compiled(ServicePre<State>);

impl Compiled {
    pub(crate) fn new(component: &Path) -> Self {
        static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);
        let mut linker = Linker::new(&ENGINE);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI 0.2");
        wasmtime_wasi::p3::add_to_linker(&mut linker).expect("WASI 0.3");
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).expect("wasi:http");
        let component = Component::from_file(&ENGINE, component).expect("a component");
        let pre = linker.instantiate_pre(&component).expect("nothing but WASI is imported");
        Self(ServicePre::new(pre).expect("a handler"))
    }
}

impl Plain {
    /// Runs a component in an environment. Of two variables of one name the first counts.
    pub(crate) fn new(component: &Compiled, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let failures = Failures::default();
        let handler = Handler { pre: component.0.clone(), variables, failures: failures.clone() };
        Self { handler: ProxyHandler::new(handler), failures }
    }

    pub(crate) async fn handle(&self, request: Request<WasiBody>) -> wasmtime::Result<Response<WasiBody>> {
        self.handler.handle((), request).await
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

struct Handler {
    pre: ServicePre<State>,
    variables: Vec<(String, String)>,
    failures: Failures,
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

impl HandlerState for Handler {
    type StoreData = State;
    type WorkerExpiration = Idle;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Idle, Worker>> {
        let wasi = WasiCtx::builder().envs(&self.variables).build();
        let state = State { wasi, http: WasiHttpCtx::new(), table: ResourceTable::new() };
        let mut store = Store::new(self.pre.engine(), state);
        let proxy = Proxy::P3(self.pre.instantiate_async(&mut store).await?);
        Ok(Instance {
            store,
            proxy,
            view: State::http,
            expiration: Idle(Box::pin(tokio::time::sleep(IDLE))),
            state: Worker(self.failures.clone()),
        })
    }
}

/// Ends an instance in which nothing has gone on for a while.
struct Idle(Pin<Box<Sleep>>);

impl WorkerExpiration for Idle {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        self.0.as_mut().reset((start + IDLE).into());
        self.0.as_mut().poll(context)
    }
}

struct Worker(Failures);

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        match (concurrent, total) {
            (_, IN_ALL..) => ShouldAccept::Never,
            (AT_ONCE.., _) => ShouldAccept::No,
            _ => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, State>,
        (): (),
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(pending())
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        drop(store);
        if let Err(error) = result {
            self.0.lock().unwrap().push(format!("{error:?}"));
        }
    }
}
