//! A host of WASI 0.3 HTTP components that knows nothing of Weir: what `wasmtime serve -Scli` does, for machines without it.
//!
//! wasmtime's own WASI, `wasi:http` and handler, on a free port: the first line on stdout is the URL. An instance serves up to 16
//! requests at once and 128 in all, and ends after a second in which it served none.

use std::future::{Future, pending};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use clap::Parser;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::Sleep;
use wasmtime::component::{Component, GuestTaskId, Linker, ResourceTable};
use wasmtime::{Engine, Result, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

const AT_ONCE: usize = 16;
const IN_ALL: usize = 128;
const IDLE: Duration = Duration::from_secs(1);

/// Serves a component on a free port of 127.0.0.1.
#[derive(Debug, Parser)]
struct Options {
    /// The component.
    component: PathBuf,
    /// A variable of its environment, as NAME=VALUE.
    #[arg(long = "env", value_parser = variable)]
    variables: Vec<(String, String)>,
}

fn variable(text: &str) -> std::result::Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    let component = Component::from_file(&engine, &options.component)?;
    let pre = ServicePre::new(linker.instantiate_pre(&component)?)?;
    let handler = Arc::new(ProxyHandler::new(Handler { pre, variables: options.variables }));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let authority: Authority = listener.local_addr()?.to_string().parse()?;
    writeln!(io::stdout(), "http://{authority}")?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (handler, authority) = (handler.clone(), authority.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&handler, &authority, request));
            // A client that breaks off is its own affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    handler: &ProxyHandler<Handler>,
    authority: &Authority,
    request: Request<Incoming>,
) -> Result<Response<WasiBody>> {
    let (mut parts, body) = request.into_parts();
    let mut uri = parts.uri.into_parts();
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.authority.get_or_insert_with(|| authority.clone());
    parts.uri = Uri::from_parts(uri)?;
    let request = Request::from_parts(parts, body.map_err(Error::from).boxed_unsync());
    let answered = handler.handle((), request).await;
    if let Err(error) = &answered {
        writeln!(io::stderr(), "{error:?}")?;
    }
    answered
}

struct Handler {
    pre: ServicePre<State>,
    variables: Vec<(String, String)>,
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

    async fn instantiate(&self) -> Result<Instance<State, Idle, Worker>> {
        let wasi = WasiCtx::builder().envs(&self.variables).inherit_stderr().build();
        let state = State { wasi, http: WasiHttpCtx::new(), table: ResourceTable::new() };
        let mut store = Store::new(self.pre.engine(), state);
        let proxy = Proxy::P3(self.pre.instantiate_async(&mut store).await?);
        let expiration = Idle(Box::pin(tokio::time::sleep(IDLE)));
        Ok(Instance { store, proxy, view: State::http, expiration, state: Worker })
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

struct Worker;

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

    fn drop(&self, _store: Store<State>, result: Result<()>) {
        if let Err(error) = result {
            // Nobody is left to be told but whoever watches.
            let _ = writeln!(io::stderr(), "an instance has failed: {error:?}");
        }
    }
}
