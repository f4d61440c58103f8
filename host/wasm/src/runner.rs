//! Runs requests in instances of a component.
//!
//! A runner belongs to one tokio runtime. It hands each request to a running instance that has room or to a new one,
//! within the component's bounds; a request that finds neither queues (see [`crate::gate`]) until its deadline. Waiting
//! for a *limit* is not done here but before, by the caller, and costs no instance.
//!
//! Dropping the future of [`Runner::handle`], or the response body before its end, says that the client is gone.

use crate::body::ResponseBody;
use crate::component::Component;
use crate::egress::REFUSED;
use crate::outcome;
use crate::request::RequestState;
use crate::worker::{Handler, is_out_of_room};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{ExpirationError, InstantiationError, ProxyHandler, TrapOrPanicError};
use wasmtime_wasi_http::{p2, p3};
use weir_engine::{Lease, Outcome, ScopedKey};

/// Past this a deadline is none: a hundred years.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 100);

/// How long an instance that has nothing left to do may take to end. Only a host in trouble needs so long.
const INSTANCE_ENDS: Duration = Duration::from_secs(1);

/// What comes with a request besides the request.
#[derive(Debug, Default)]
pub struct Call {
    /// The scope and limit key under which it came, if it came scoped: the default of the guest's acquires.
    pub key: Option<ScopedKey>,
    /// The lease taken for it. Held until its work has stopped, and lent to the guest. It ends as failed when the component
    /// trapped, was late or answered 5xx, and as pushed back when that was 429 or 503 with `Retry-After` in seconds.
    pub lease: Option<Lease>,
}

/// Why there is no response. The text is safe to show to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// No instance came free in time.
    #[error("the component is overloaded: no instance came free in time")]
    Overloaded,
    /// The guest did not answer before its deadline.
    #[error("the component did not answer in time")]
    Deadline,
    /// The guest trapped, used up its CPU time, or shared its instance with one that did.
    #[error("the component failed")]
    Trapped,
    /// The guest answered an error instead of a response.
    #[error("the component answered an error: {0}")]
    Guest(String),
    /// The guest returned without a response.
    #[error("the component returned without a response")]
    NoResponse,
    /// The host could not run it.
    #[error("the component could not be run")]
    Internal(String),
}

/// Runs a component on the current tokio runtime. Cloning is a reference count.
#[derive(Clone)]
pub struct Runner {
    component: Arc<Component>,
    handler: ProxyHandler<Handler>,
    number: usize,
}

impl Runner {
    pub(crate) fn new(component: Arc<Component>, number: usize) -> Self {
        Self { handler: ProxyHandler::new(Handler::new(component.clone(), number)), component, number }
    }

    /// The component that it runs.
    #[must_use]
    pub fn component(&self) -> &Arc<Component> {
        &self.component
    }

    /// Runs one request, and answers the response when its head is there.
    ///
    /// # Errors
    /// [`HandleError`] when there is no response.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping it stops the request: its waits end at once; what it holds goes back when its work has stopped.
    pub async fn handle(
        &self,
        call: Call,
        request: http::Request<WasiBody>,
    ) -> Result<http::Response<WasiBody>, HandleError> {
        let no_body = request.method() == Method::HEAD;
        let deadline = Instant::now() + self.component.limits().deadline.min(LONGEST_DEADLINE);
        let state = RequestState::new(call.key, call.lease, deadline);
        let mut client = Client { state: &state, waits: true };
        let outcome = tokio::time::timeout_at(deadline.into(), self.dispatch(&state, request)).await;
        match outcome {
            Ok(Ok(response)) => {
                client.waits = false;
                Ok(wrap(response, state.clone(), no_body))
            }
            Ok(Err(error)) => {
                let why = self.failed(&state, &error).await;
                client.waits = false;
                Err(why)
            }
            Err(_elapsed) if state.is_queued() => Err(HandleError::Overloaded),
            Err(_elapsed) => {
                state.say(Outcome::Failed);
                Err(HandleError::Deadline)
            }
        }
    }

    /// Gets the request into an instance.
    async fn dispatch(
        &self,
        state: &Arc<RequestState>,
        request: http::Request<WasiBody>,
    ) -> wasmtime::Result<http::Response<WasiBody>> {
        let gate = self.component.gate();
        let mut request = request;
        if !gate.is_queued() {
            match self.attempt(state, request).await? {
                Attempt::Done(response) => return Ok(response),
                Attempt::NoRoom(back) => request = back,
            }
        }
        let Some(place) = gate.queue() else { return Err(QueueFull.into()) };
        state.set_turn(gate.turn().await);
        loop {
            match self.attempt(state, request).await? {
                Attempt::Done(response) => {
                    drop(place);
                    return Ok(response);
                }
                Attempt::NoRoom(back) => request = back,
            }
            gate.make_room_for(self.number);
            gate.freed().await;
        }
    }

    async fn attempt(&self, state: &Arc<RequestState>, request: http::Request<WasiBody>) -> wasmtime::Result<Attempt> {
        match self.handler.handle(state.clone(), request).await {
            Ok(response) => Ok(Attempt::Done(response)),
            Err(error) => match error.downcast::<InstantiationError<Arc<RequestState>>>() {
                Ok(failed) if is_out_of_room(&failed.error) => {
                    let request = failed.request.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                    Ok(Attempt::NoRoom(request))
                }
                Ok(failed) => Err(failed.into()),
                Err(error) => Err(error),
            },
        }
    }

    /// Ends a request that has no response, and says why there is none.
    async fn failed(&self, state: &Arc<RequestState>, error: &wasmtime::Error) -> HandleError {
        let log = self.component.log();
        let why = if error.is::<QueueFull>() {
            HandleError::Overloaded
        } else if error.is::<ExpirationError>() {
            HandleError::Deadline
        } else if error.is::<TrapOrPanicError>() {
            let late = state.deadline().is_some_and(|deadline| deadline <= Instant::now());
            if late { HandleError::Deadline } else { HandleError::Trapped }
        } else if let Some(failed) = error.downcast_ref::<InstantiationError<Arc<RequestState>>>() {
            log.failure("the component does not start", &format!("{:?}", failed.error));
            HandleError::Internal("the component does not start".to_owned())
        } else if let Some(code) = error.downcast_ref::<p3::bindings::http::types::ErrorCode>() {
            HandleError::Guest(code.to_string())
        } else if let Some(code) = error.downcast_ref::<p2::bindings::http::types::ErrorCode>() {
            HandleError::Guest(code.to_string())
        } else {
            // WASI 0.2: the guest returned, or trapped, without having set a response. Which it was, its instance tells
            // when it is gone, which it is about to be, because it serves one request only.
            let _ = tokio::time::timeout(INSTANCE_ENDS, state.instance_gone()).await;
            if state.has_failed() {
                HandleError::Trapped
            } else {
                log.failure("no response", &format!("{error:#}"));
                HandleError::NoResponse
            }
        };
        if why != HandleError::Overloaded {
            state.say(Outcome::Failed);
        }
        // A failed instance gives back what the request holds once it is gone, not before.
        let failed = error.is::<TrapOrPanicError>() || why == HandleError::Trapped;
        if !failed || state.is_queued() {
            state.end();
        }
        why
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("component", &self.component)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

enum Attempt {
    Done(http::Response<WasiBody>),
    NoRoom(http::Request<WasiBody>),
}

#[derive(Debug, thiserror::Error)]
#[error("too many requests queue for an instance")]
struct QueueFull;

/// The client, as long as it waits for the head. Dropped, it is gone.
struct Client<'a> {
    state: &'a Arc<RequestState>,
    waits: bool,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.state.abandon();
        }
    }
}

fn wrap(response: http::Response<WasiBody>, state: Arc<RequestState>, no_body: bool) -> http::Response<WasiBody> {
    let (head, body) = response.into_parts();
    // A refusal of a call to outside does not know its request, but says what it is wherever it is passed on.
    let passed_on = state.was_refused() || head.headers.contains_key(REFUSED);
    match outcome::of(&head, passed_on) {
        Outcome::Ok => {}
        outcome => state.say(outcome),
    }
    let empty = no_body
        || head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = if empty {
        Some(0)
    } else {
        head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
    };
    http::Response::from_parts(head, ResponseBody::new(body, state, length).boxed_unsync())
}
