//! Whose call it is that a guest sends: `wasi:http` is asked to send it as ever, and the hooks of the store are told a
//! moment before for which request.
//!
//! Several requests share an instance, so only the call stack knows. It is read where the guest calls, before anything
//! is awaited.

use crate::store::GuestData;
use crate::view::{Flow, FlowView as _, home_of};
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, HasSelf, Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types as p2_types;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore as _;
use wasmtime_wasi_http::p3::bindings::http::types;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _, p2, p3};

/// By these names guests send; wasmtime has them in its bindings.
const CLIENT: (&str, &str) = ("wasi:http/client@0.3.0", "send");
const OUTGOING_HANDLER: (&str, &str) = ("wasi:http/outgoing-handler@0.2.12", "handle");

type Sent = Result<Resource<Response>, types::ErrorCode>;
type Handled = Result<Resource<HostFutureIncomingResponse>, p2_types::ErrorCode>;

/// Adds `wasi:http` to a linker, 0.2 and 0.3.
///
/// # Errors
/// When one of its interfaces is defined already.
pub(crate) fn add_http_to_linker(linker: &mut Linker<GuestData>) -> wasmtime::Result<()> {
    p2::add_only_http_to_linker_async(linker)?;
    p3::add_to_linker(linker)?;
    linker.allow_shadowing(true);
    linker
        .instance(CLIENT.0)?
        .func_wrap_concurrent(CLIENT.1, |accessor, (request,)| Box::pin(send(accessor, request)))?;
    linker
        .instance(OUTGOING_HANDLER.0)?
        .func_wrap(OUTGOING_HANDLER.1, |store, (request, options)| handle(store, request, options))?;
    linker.allow_shadowing(false);
    Ok(())
}

// Cancel safety: as the function of `wasi:http` that it passes the call to.
async fn send(
    accessor: &Accessor<GuestData, HasSelf<GuestData>>,
    request: Resource<Request>,
) -> wasmtime::Result<(Sent,)> {
    let home = accessor.with_getter::<Flow>(GuestData::flow).with(|mut access| home_of(&mut access))?;
    accessor.with(|mut access| access.get().hooks.called_by(home));
    // It asks the hooks when it is first polled, which is at once.
    let sent = WasiHttp::send(&accessor.with_getter::<WasiHttp>(GuestData::http), request).await;
    Ok((sent.map(Ok).or_else(|error| error.downcast().map(Err))?,))
}

fn handle(
    mut store: StoreContextMut<'_, GuestData>,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<p2_types::RequestOptions>>,
) -> wasmtime::Result<(Handled,)> {
    let home = match store.data_mut().flow.known_home() {
        Some(home) => home,
        None => {
            let stack = store.async_call_stack()?.collect();
            store.data_mut().flow.home(stack)
        }
    };
    let data = store.data_mut();
    data.hooks.called_by(home);
    let handled = data.http().handle(request, options);
    Ok((handled.map(Ok).or_else(|error| error.downcast().map(Err))?,))
}
