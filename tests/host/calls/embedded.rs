//! The same guest in somebody else's host: a call goes out by their hooks, and under its key all the same.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _, stream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};
use weir_tests::{Host, guests, within};
use weir_wasm::{FlowCtx, FlowCtxView, FlowView};

struct Data {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Theirs,
    flow: FlowCtx,
}

/// Answers 500, and then 200 with a body that comes only if its connection is driven.
struct Theirs(Arc<AtomicUsize>);

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Theirs {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        let status = if self.0.fetch_add(1, Ordering::SeqCst) == 0 { 500 } else { 200 };
        Box::new(async move {
            if request.uri().host() != Some("theirs.test") {
                return Err(Error::HttpRequestDenied);
            }
            let (driven, frame) = oneshot::channel();
            let io: Io = Box::new(async move {
                _ = driven.send(Frame::data(Bytes::from_static(b"driven")));
                Ok(())
            });
            let frame = frame.map_err(|_gone| Error::ConnectionTerminated);
            let body = StreamBody::new(stream::once(frame).boxed()).boxed_unsync();
            Ok((http::Response::builder().status(status).body(body).expect("a response"), io))
        })
    }
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Data {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl FlowView for Data {
    fn flow(&mut self) -> FlowCtxView<'_> {
        FlowCtxView { ctx: &mut self.flow, table: &mut self.table }
    }
}

/// What the guest answers, and how often something was sent.
async fn answer(host: &Host, path: &'static str) -> (String, usize) {
    let engine = Engine::default();
    let mut linker = Linker::<Data>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
    wasmtime_wasi_http::p3::add_to_linker(&mut linker).unwrap();
    weir_wasm::add_to_linker(&mut linker).unwrap();
    weir_wasm::add_calls_to_linker(&mut linker).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let data = Data {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        hooks: Theirs(sent.clone()),
        flow: FlowCtx::builder(host.flow.clone(), "shop").build().unwrap(),
    };
    let mut store = Store::new(&engine, data);
    let component = Component::from_file(&engine, guests::CALLS).unwrap();
    let service = Service::instantiate_async(&mut store, &component, &linker).await.unwrap();
    let (request, _sent) = Request::new(
        http::Method::GET,
        Some(Scheme::HTTP),
        Some(Authority::from_static("shop.test")),
        Some(PathAndQuery::from_static(path)),
        FieldMap::default(),
        None,
        Empty::<Bytes>::new().map_err(|never| -> Error { match never {} }),
    );
    let text = store
        .run_concurrent(async |accessor| {
            let response = service.handle(accessor, request).await.unwrap().unwrap();
            let response = accessor.with(|store| response.into_http(store, std::future::ready(Ok(()))).unwrap());
            response.into_body().collect().await.unwrap().to_bytes()
        })
        .boxed_local();
    let text = within(path, text).await.unwrap();
    (String::from_utf8_lossy(&text).into_owned(), sent.load(Ordering::SeqCst))
}

#[tokio::test]
async fn in_another_host_a_call_goes_out_by_its_hooks() {
    let host = Host::new(&[]);
    let call = "/call?url=theirs.test/&key=k&parallelism=1&retries=1&delay=0";
    assert_eq!(answer(&host, call).await, ("200|driven".to_owned(), 2));
    let counter = host.counter("shop#k").expect("the key of this component");
    assert_eq!(counter.failed, 1);
    host.settles().await;
    // Whom they do not let it reach, it does not reach.
    let denied = answer(&host, "/call?url=elsewhere.test/&key=k&retries=3").await;
    assert_eq!(denied, ("transport|ErrorCode::HttpRequestDenied".to_owned(), 1));
    host.settles().await;
}
