//! A call on its way: denied, refused, or sent when its turn has come.
//!
//! A host that the component may not reach is an error of wasi:http, `HTTP-request-denied`, or
//! `destination-IP-prohibited` where a name leads to an address that is closed. What does not get its turn is a response,
//! because wasi:http has no error that says when to come again, and because programs know what to do about a 429: that, or
//! 503, or another status that fits, with `Retry-After`, `application/problem+json`, and `weir-refused: REASON`, by
//! which a guest can tell it from one of the upstream. An upstream that says `weir-refused` is not believed.
//!
//! An upstream that answers 429 or 503 and for how long closes the counter at once; the rule's `max-pushback` bounds it.

use super::address::Host;
use super::allow::{Destination, Named, Outbound};
use super::body::leased;
use super::client::Client;
use super::count::Counts;
use super::rule::{Egress, EgressRule, Sent};
use crate::ctx::Identity;
use crate::view::Home;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};
use weir_engine::{ConstraintKind, Engine, Lease, Outcome, Reason, Refusal, ScopedKey, Started};

/// Says that a response is a refusal of this host, and why.
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("weir-refused");

/// The outbound side of one component.
pub(crate) struct Outgoing {
    pub(crate) identity: Arc<Identity>,
    pub(crate) flow: Engine,
    pub(crate) outbound: Outbound,
    pub(crate) named: Named,
    pub(crate) egress: Egress,
    pub(crate) client: Client,
    pub(crate) counts: Counts,
}

/// What the rule for a destination asks of a call that has its own key.
#[derive(Debug)]
pub(crate) struct Ruled {
    pub(crate) key: ScopedKey,
    pub(crate) cost: NonZeroU32,
    pub(crate) max_wait: Option<Duration>,
}

/// Why a call that has its own key may not be made.
#[derive(Debug)]
pub(crate) enum Barred {
    /// Its component may not call there.
    Denied(Error),
    /// It does not fit the rule: why, in words.
    Unfit(String),
}

/// The outbound side of one instance.
pub(crate) struct Hooks {
    outgoing: Arc<Outgoing>,
    /// Whose call comes next: said just before.
    caller: Option<Home>,
}

impl Hooks {
    pub(crate) fn new(outgoing: Arc<Outgoing>) -> Self {
        Self { outgoing, caller: None }
    }

    /// Says whose the next call is, which must come at once.
    pub(crate) fn called_by(&mut self, home: Home) {
        self.caller = Some(home);
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("component", &self.outgoing.identity.name).finish_non_exhaustive()
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        response_result: Io,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send> {
        // What the guest finds wrong with the response concerns nobody here.
        drop(response_result);
        let (outgoing, caller) = (self.outgoing.clone(), self.caller.take());
        Box::new(async move {
            let response = outgoing.send(request, options, caller).await?;
            // The connection has a task of its own.
            Ok((response, Box::new(std::future::ready(Ok(()))) as Io))
        })
    }
}

impl Outgoing {
    /// # Errors
    /// As the guest is told them.
    ///
    /// # Cancel safety
    /// It leaves its waitlist, or gives its lease back, and its connection is closed.
    async fn send(
        &self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        caller: Option<Home>,
    ) -> Result<Response<WasiBody>, Error> {
        let component = &self.identity.name;
        let to = self.destination(&request)?;
        let Some(rule) = self.egress.rule_for(&to) else { return self.pass(request, &to, options).await };
        let ask = self.ask(rule, &to, &request);
        let lease = match self.turn(ask, caller).await {
            Ok(lease) => lease,
            Err(refused) => {
                self.counts.refused();
                let (authority, reason) = (to.authority(), refused.reason.as_str());
                tracing::debug!(
                    target: "weir_wasm", %component, authority, reason, "outbound call refused: {}", refused.detail
                );
                return Ok(refused.into_response());
            }
        };
        let response = self.client.send(request, &to, options).await;
        self.counts.sent(&response);
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                lease.release(Outcome::Failed);
                return Err(error);
            }
        };
        Ok(leased(unrefused(response), lease))
    }

    /// Where a call that has its own key goes, and what it comes under besides.
    ///
    /// # Errors
    /// It may not go there, or does not fit the rule for it.
    pub(crate) fn passage(&self, request: &Request<WasiBody>) -> Result<(Destination, Option<Ruled>), Barred> {
        let to = self.destination(request).map_err(Barred::Denied)?;
        let ruled = match self.egress.rule_for(&to) {
            None => None,
            Some(rule) => {
                let (key, cost) = rule.ask(&self.sent(&to, request)).map_err(Barred::Unfit)?;
                Some(Ruled { key, cost, max_wait: rule.longest_wait() })
            }
        };
        Ok((to, ruled))
    }

    /// Sends a call whose turn has come.
    ///
    /// # Errors
    /// As the guest is told them.
    ///
    /// # Cancel safety
    /// The request is given up, and its connection is closed.
    pub(crate) async fn pass(
        &self,
        request: Request<WasiBody>,
        to: &Destination,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let response = self.client.send(request, to, options).await;
        self.counts.sent(&response);
        Ok(unrefused(response?).map(|body| body.boxed_unsync()))
    }

    /// Where a call goes, if it may go there.
    fn destination(&self, request: &Request<WasiBody>) -> Result<Destination, Error> {
        Destination::of(request.uri()).and_then(|to| self.allowed(to)).inspect_err(|why| {
            self.counts.denied();
            let component = &self.identity.name;
            let authority = request.uri().authority().map_or("", |authority| authority.as_str());
            tracing::debug!(target: "weir_wasm", %component, authority, "outbound call denied: {why}");
        })
    }

    fn sent<'a>(&'a self, to: &'a Destination, request: &'a Request<WasiBody>) -> Sent<'a> {
        Sent { component: &self.identity.name, to, method: request.method(), headers: request.headers() }
    }

    fn allowed(&self, to: Destination) -> Result<Destination, Error> {
        if !self.outbound.allows(&to) {
            return Err(Error::HttpRequestDenied);
        }
        match to.host {
            // Before its turn: it would not get a connection anyway.
            Host::Address(address) if !self.named.admits(address, to.port) => Err(Error::DestinationIpProhibited),
            _ => Ok(to),
        }
    }

    /// What a call asks of the limiter.
    fn ask(
        &self,
        rule: &EgressRule,
        to: &Destination,
        request: &Request<WasiBody>,
    ) -> Result<weir_engine::Request, Refused> {
        let (key, cost) = rule.ask(&self.sent(to, request)).map_err(|unfit| Refused::new(Reason::Invalid, unfit))?;
        let mut ask = weir_engine::Request::new(key).cost(cost).caller(self.identity.caller);
        ask.max_wait = rule.longest_wait();
        Ok(ask)
    }

    /// Waits until a call may run.
    ///
    /// # Cancel safety
    /// As [`Engine::acquire`].
    async fn turn(&self, ask: Result<weir_engine::Request, Refused>, caller: Option<Home>) -> Result<Lease, Refused> {
        let mut ask = ask?;
        // Only now: another call of the same request may have taken a loan meanwhile.
        ask.lend_from = caller.map(|caller| caller.lend_to_call(&ask, &caller.stack)).unwrap_or_default();
        match self.flow.acquire_now(&ask).map_err(|why| Refused::from(&why))? {
            Started::Granted(lease) => Ok(lease),
            Started::Waiting(acquire) => {
                // Whoever waits holds a slot of the component: not with all of them.
                let _room = self.identity.wait(acquire.ticket()).map_err(|most| {
                    Refused::new(
                        Reason::Overloaded,
                        format!("{most} acquires and calls of this component wait already, which is the most allowed"),
                    )
                })?;
                acquire.await.map_err(|why| Refused::from(&why))
            }
        }
    }
}

/// The response of an upstream: only this host says that this host has refused.
fn unrefused<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().remove(REFUSED);
    response
}

/// A call that does not get its turn.
#[derive(Debug)]
struct Refused {
    reason: Reason,
    status: StatusCode,
    detail: String,
    retry_after: Option<u64>,
}

impl Refused {
    fn new(reason: Reason, detail: String) -> Self {
        let status = match reason {
            Reason::Invalid => StatusCode::BAD_REQUEST,
            // Trying again never helps.
            Reason::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry_after = Some(1).filter(|_| status == StatusCode::SERVICE_UNAVAILABLE);
        Self { reason, status, detail, retry_after }
    }

    fn into_response(self) -> Response<WasiBody> {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "reason": self.reason.as_str(),
        });
        let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(REFUSED, HeaderValue::from_static(self.reason.as_str()));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<&Refusal> for Refused {
    fn from(why: &Refusal) -> Self {
        let mut refused = Self::new(why.reason, why.to_string());
        if refused.status == StatusCode::SERVICE_UNAVAILABLE {
            if why.blocked_on.iter().any(|constraint| constraint.kind == ConstraintKind::Rate) {
                refused.status = StatusCode::TOO_MANY_REQUESTS;
            }
            // Whole seconds, rounded up.
            let seconds = |after: std::time::Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
            refused.retry_after = Some(why.retry_after.map_or(1, seconds).max(1));
        }
        refused
    }
}
