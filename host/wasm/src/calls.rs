//! `weir:calls`: one request to outside, under a key of its own.
//!
//! ```text
//!            ┌──────────── back-off: nothing is held ◄────────────┐
//!            ▼                                                    │ 429, 5xx, no response
//! call ── its turn (key, scope, egress rule: one step) ── attempt ┴─► response, its body under the lease
//! ```
//! # A worked example
//! Key `provider` with two calls at once, three retries, and an egress rule of three a minute for the same host. The call asks
//! for `app#provider` and the rule's scope in one step, so it never holds one while it waits for the other. It is
//! answered 429 with `Retry-After: 20`: the lease goes back and closes both counters for 20 s, the call backs off as
//! long and holds nothing, and then takes its turn among the others.
//!
//! # Invariants
//! - It reaches whom `wasi:http` reaches: in the runner it passes the same list and takes a connection of the same pool, and in
//!   somebody else's store it is sent by their hooks.
//! - Nothing is held but in an attempt and while its response's body lives. Nobody waits for one counter and holds another.
//! - It ends with its future, and when its request is given up: each of wait, back-off and attempt at once.
//! - With retries, nothing is sent before the whole body is there.
//!
//! # Not handled here
//! Jitter: whoever backs off for the same time meets again at a limit, which puts them in line. Retrying a response that broke off in
//! its body: its beginning has been read.

mod attempts;
mod bindings;
mod body;
mod error;
mod options;
mod retry;
mod terms;
mod way;

use crate::acquire::given_up;
use crate::egress::Barred;
use crate::request::RequestState;
use crate::view::{Flow, FlowCtxView, FlowView, Home, home_of};
use attempts::{Attempts, Failure};
use bindings::weir::calls::calls as wit;
use futures::future::{Either, select};
use http::Response;
use options::CallOptionsEntry;
use std::pin::pin;
use wasmtime::AsContextMut as _;
use wasmtime::component::{Access, Accessor, Linker, Resource};
use wasmtime_wasi_http::p3::{Request as WasiRequest, Response as WasiResponse};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpView};
use way::{Passage, Way};

/// What the guest is answered.
type Answer<T> = Result<T, wit::CallError>;

/// Adds `weir:calls/calls` to a linker that has `weir:flow` and `wasi:http`. A call goes out by the
/// [hooks](wasmtime_wasi_http::WasiHttpHooks) of the store. What calls keep for their retries has its bound
/// (64 MiB) in each store.
///
/// # Errors
/// When it is defined already.
pub fn add_calls_to_linker<T: FlowView + WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, Flow>(linker, T::flow)
}

/// A call that is checked.
struct Begun {
    home: Home,
    attempts: Attempts,
    passage: Passage,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
}

impl<T: FlowView + WasiHttpView + 'static> wit::HostWithStore<T> for Flow {
    // Cancel safety: the pending acquire, the lease and the attempt are guards in this future.
    async fn call(
        accessor: &Accessor<T, Self>,
        request: Resource<WasiRequest>,
        options: Option<Resource<CallOptionsEntry>>,
    ) -> wasmtime::Result<Answer<Resource<WasiResponse>>> {
        let Begun { home, attempts, passage, request, options } =
            match accessor.with(|mut access| begin(&mut access, request, options))? {
                Ok(begun) => begun,
                Err(error) => return Ok(Err(error)),
            };
        let way = Way { passage, accessor };
        // In a box of its own: it is large.
        let calling = Box::pin(attempts.run(&way, request, options));
        let outcome = match select(calling, pin!(home.cancelled())).await {
            Either::Left((outcome, _)) => outcome.map_err(|failure| {
                if let (Passage::Ours(outgoing, _), true) = (&way.passage, failure.is_refusal()) {
                    outgoing.counts.refused();
                }
                failure.told(&home)
            }),
            Either::Right(((), _)) => Err(wit::CallError::Refused(given_up())),
        };
        match outcome {
            Ok(response) => accessor.with(|mut access| hand_over(&mut access, response).map(Ok)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl wit::Host for FlowCtxView<'_> {}

/// Takes the request out of the store, and checks it and its options.
fn begin<T: FlowView + WasiHttpView + 'static>(
    access: &mut Access<'_, T, Flow>,
    request: Resource<WasiRequest>,
    options: Option<Resource<CallOptionsEntry>>,
) -> wasmtime::Result<Answer<Begun>> {
    let home = home_of(access)?;
    let view = access.get();
    let options = options.map(|options| view.table.delete(options)).transpose()?.unwrap_or_default();
    let request = view.table.delete(request)?;
    // First, whatever the options say: only so does the guest learn that nobody reads its body.
    let sent = Box::new(std::future::ready(Ok(())));
    let (request, http_options) = match request.into_http_with_getter(access.as_context_mut(), sent, T::http) {
        Ok(request) => request,
        Err(error) => return Ok(Err(wit::CallError::Transport(error.downcast()?))),
    };
    let view = access.get();
    let (passage, ruled) = match &view.ctx.outgoing {
        None => (Passage::Theirs, None),
        Some(outgoing) => match outgoing.passage(&request) {
            Ok((to, ruled)) => (Passage::Ours(outgoing.clone(), to), ruled),
            Err(Barred::Denied(error)) => return Ok(Err(wit::CallError::Transport(error::code(error)))),
            Err(Barred::Unfit(why)) => return Ok(Err(wit::CallError::Invalid(why))),
        },
    };
    Ok(view.attempts(&home, options, ruled).map(|attempts| Begun {
        home,
        attempts,
        passage,
        request,
        options: http_options.as_deref().copied(),
    }))
}

/// Makes a response of the guest's. Where its table is full the response is dropped, and its lease with it.
fn hand_over<T: FlowView + WasiHttpView + 'static>(
    access: &mut Access<'_, T, Flow>,
    response: Response<WasiBody>,
) -> wasmtime::Result<Resource<WasiResponse>> {
    let mut store = access.as_context_mut();
    let http = store.data_mut().http();
    // What the guest finds wrong with the response concerns nobody here.
    let (response, _read) = WasiResponse::from_http(http.hooks, response);
    Ok(http.table.push(response)?)
}

impl Failure {
    /// Whether it did not get its turn.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NoRoomToWait(_))
    }

    fn told(self, home: &RequestState) -> wit::CallError {
        match self {
            Self::Refused(why) => wit::CallError::Refused(crate::acquire::told(home, &why)),
            Self::NoRoomToWait(most) => wit::CallError::Refused(crate::waiting::too_many_waiting(home, most)),
            Self::NoRoomForBody => wit::CallError::Refused(terms::too_much_kept(home)),
            Self::BodyTooLarge => wit::CallError::BodyTooLarge(body::MAX_BODY as u64),
            Self::Transport(error) => wit::CallError::Transport(error::code(error)),
        }
    }
}
