//! The lease API: flow control for whatever speaks HTTP, on the ingress listener.
//!
//! | request | does |
//! |---|---|
//! | `POST /weir/v1/leases` | waits for its turn and takes a lease, or a batch of them, under any number of constraints |
//! | `POST /weir/v1/leases/{id}/extend` | moves the end of a lease |
//! | `POST /weir/v1/leases/{id}/settle` | says what the work has really cost |
//! | `DELETE /weir/v1/leases/{id}` | gives a lease back; `?outcome=failed`, or `?outcome=pushed-back&retry-after=20s` |
//! | `POST /weir/v1/check` | the decision an acquire would get now, with no effect |
//! | `GET /weir/openapi.json` | all of this as an OpenAPI 3.1 document |
//!
//! A worked example: `{"scope":"model","limit-key":"gpt","cost":4000,"max-wait":"30s"}` is answered after 12 s, when it is its
//! turn, with `{"leases":[{"id":"0017..","fence":"1764..","remaining":"30s"}],"waited":"12s","book-version":3}`. The client
//! works, extends the lease if that takes longer than 30 s, settles 1,250, and deletes it. If it crashes instead, the
//! lease ends by itself.
//!
//! # What ends what
//! - A client that leaves while it waits loses its place, and nothing else happens.
//! - A connection that is cut between the grant and the answer leaves a lease that nobody knows: it ends with its lease
//!   time, or is got by the same request, sent again under the same idempotency key.
//! - With a data directory, nothing is answered that a kill of the server would undo: what cannot be written down is refused as
//!   `unavailable`. Only a release is answered all the same: it has given back, and a kill would let the lease live on until its time.
//! - A release is idempotent; an extension and a settling of a lease that has ended answer 410 `lost`, the same for every id
//!   that names no lease.
//!
//! # Who may
//! Whoever is on this machine, and whoever has a token with the right `lease`, in the scopes of that token; see the module
//! `access`. A token is looked at when a request comes, and again when its wait is over: one that is no longer good then takes
//! nothing. A lease is its taker's: to everybody else it is gone. A token's name is the taker, so it may be rotated; without
//! a token the taker is this machine. A body must say that it is JSON, which a page in a browser cannot do without asking
//! first.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use weir_engine::{
    Caller, Engine, LeaseError, LeaseId, Outcome, Reason, Refusal, TimedLease, UNSAID_PUSHBACK, Unsaved,
};

use crate::access::{Access, Door};
use crate::api::{
    AcquireBody, CheckBody, CheckView, DurationText, ExtendBody, ExtendedView, FieldError, LeasesView, ReleasedView,
    SettleBody, SettledView,
};
use crate::body::{self, Bounds};
use crate::client_failures::ClientFailures;
use crate::json::{self, JSON};
use crate::problem::{Problem, shorten};
use crate::query;
use crate::serve::{Phase, Phases};
use crate::tokens::{Right, Timestamp};

/// The largest body: 16 targets and inline keys with names of 128 bytes are 8 KiB. It is there with its head, or soon after.
pub(crate) const BODY: Bounds =
    Bounds { most: 64 * 1024, time: Duration::from_secs(10), instead: "no request needs so much" };

/// The API as a document.
const DOCUMENT: &str = include_str!("openapi.json");

/// See the module.
#[derive(Debug)]
pub(crate) struct Leases {
    engine: Engine,
    /// Who has no token, as the engine knows them.
    local: Caller,
    door: Door,
    /// Whether there is more of it than its document.
    open: bool,
    /// What those who may use it tell of the time when they got no answer.
    failures: ClientFailures,
    phases: Phases,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource<'a> {
    Leases,
    Lease(&'a str),
    Extend(&'a str),
    Settle(&'a str),
    Check,
    Document,
}

impl<'a> Resource<'a> {
    fn of(path: &'a str) -> Option<Self> {
        match path {
            "/v1/leases" => return Some(Self::Leases),
            "/v1/check" => return Some(Self::Check),
            "/openapi.json" => return Some(Self::Document),
            _ => {}
        }
        let rest = path.strip_prefix("/v1/leases/")?;
        match rest.split_once('/') {
            None => Some(Self::Lease(rest)),
            Some((id, "extend")) => Some(Self::Extend(id)),
            Some((id, "settle")) => Some(Self::Settle(id)),
            Some(_) => None,
        }
    }

    /// The method it takes.
    fn method(self) -> &'static str {
        match self {
            Self::Leases | Self::Extend(_) | Self::Settle(_) | Self::Check => "POST",
            Self::Lease(_) => "DELETE",
            Self::Document => "GET",
        }
    }
}

/// The query of a release.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ReleaseQuery {
    outcome: Option<OutcomeName>,
    retry_after: Option<DurationText>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OutcomeName {
    Ok,
    Failed,
    PushedBack,
}

impl Leases {
    pub(crate) fn new(engine: Engine, door: Door, open: bool, failures: ClientFailures, phases: Phases) -> Self {
        let local = engine.caller(&Access::Local.caller());
        Self { engine, local, door, open, failures, phases }
    }

    /// Answers one request; `path` is what stands behind `/weir`.
    ///
    /// # Cancel safety
    /// Dropping it leaves the waitlist. A lease that was granted meanwhile ends with its lease time.
    pub(crate) async fn answer(&self, request: Request<Incoming>, path: &str) -> Result<Response<Bytes>, Box<Problem>> {
        let resource = Resource::of(path).ok_or_else(|| no_such(path))?;
        if request.method().as_str() != resource.method() {
            return Err(Problem::allows(resource.method()).into());
        }
        if !self.open {
            let detail = "the lease API is switched off on this server";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail).because("unknown-resource").into());
        }
        if resource == Resource::Document {
            return Ok(response(StatusCode::OK, Bytes::from_static(DOCUMENT.as_bytes())));
        }
        let (parts, body) = request.into_parts();
        let access = self.admit(&parts)?;
        self.failures.count(&parts.headers);
        let caller = self.caller(&access)?;
        if let Resource::Lease(id) = resource {
            return self.release(caller, id, &parts.uri).await;
        }
        debug_assert_eq!(parts.method, Method::POST);
        query::none(&parts.uri)?;
        json::is_said(&parts.headers)?;
        let body = body::whole(body, BODY).await?;
        match resource {
            Resource::Leases => self.acquire(&parts, &access, caller, &body).await,
            Resource::Check => self.check(&access, caller, &body),
            Resource::Extend(id) => self.extend(caller, id, &body).await,
            Resource::Settle(id) => self.settle(caller, id, &body).await,
            Resource::Lease(_) | Resource::Document => Err(no_such(path)),
        }
    }

    /// Who asks, as the engine knows them. Who cannot be told from others gets nothing: their leases would be everybody's.
    fn caller(&self, access: &Access) -> Result<Caller, Box<Problem>> {
        let caller = match access {
            Access::Local => self.local,
            Access::Token(_) => self.engine.caller(&access.caller()),
        };
        if caller != Caller::default() {
            return Ok(caller);
        }
        let detail = "too many different tokens have been used since the server started: it cannot tell more apart";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).because(Reason::Overloaded.as_str()).into())
    }

    /// Who asks, if they may do so now.
    fn admit(&self, parts: &Parts) -> Result<Access, Box<Problem>> {
        let now = Timestamp::of_unix_millis(self.engine.unix_millis());
        let access = self.door.admit(&parts.uri, &parts.headers, now)?;
        access.needs(Right::Lease)?;
        Ok(access)
    }

    async fn acquire(
        &self,
        parts: &Parts,
        access: &Access,
        caller: Caller,
        body: &[u8],
    ) -> Result<Response<Bytes>, Box<Problem>> {
        let body: AcquireBody = json::read(body)?;
        let request = body.request().map_err(bad_field)?.caller(caller);
        within(access, &request)?;
        let mut phases = self.phases.clone();
        let granted = tokio::select! {
            biased;
            granted = self.engine.acquire_timed_batch(request) => granted,
            () = phases.reached(Phase::Draining) => Err(Refusal::new(Reason::Unavailable)),
        };
        let leases = granted.map_err(|refusal| Box::new(Problem::refused(&refusal)))?;
        if leases.iter().any(|lease| !lease.waited.is_zero()) {
            self.still_may(parts, &body).inspect_err(|_| self.give_back(caller, &leases))?;
        }
        Ok(answer(StatusCode::CREATED, &LeasesView::of(&leases)))
    }

    /// Whether a token that was good before a wait is so after it.
    fn still_may(&self, parts: &Parts, body: &AcquireBody) -> Result<(), Box<Problem>> {
        let access = self.admit(parts)?;
        within(&access, &body.request().map_err(bad_field)?)
    }

    fn give_back(&self, caller: Caller, leases: &[TimedLease]) {
        for lease in leases {
            // One that has ended meanwhile needs it no more.
            let _ended = self.engine.leases_of(caller).release(lease.id, Outcome::Ok);
        }
    }

    fn check(&self, access: &Access, caller: Caller, body: &[u8]) -> Result<Response<Bytes>, Box<Problem>> {
        let body: CheckBody = json::read(body)?;
        let request = body.request().map_err(bad_field)?.caller(caller);
        within(access, &request)?;
        Ok(answer(StatusCode::OK, &CheckView::of(&self.engine.check(&request))))
    }

    async fn extend(&self, caller: Caller, id: &str, body: &[u8]) -> Result<Response<Bytes>, Box<Problem>> {
        let body: ExtendBody = json::read(body)?;
        let DurationText(lease_time) = body.lease_time;
        self.engine.can_save().map_err(Problem::cannot_save)?;
        let remaining: Duration = match lease(id).and_then(|id| self.engine.leases_of(caller).extend(id, lease_time)) {
            Ok(remaining) => remaining,
            Err(LeaseError::LeaseTime(error)) => return Err(bad_field(FieldError::new("lease-time", error))),
            Err(_) => return Err(Problem::lost().into()),
        };
        self.engine.saved().await.map_err(Problem::unsaved)?;
        Ok(answer(StatusCode::OK, &ExtendedView { remaining: DurationText::left(remaining) }))
    }

    async fn settle(&self, caller: Caller, id: &str, body: &[u8]) -> Result<Response<Bytes>, Box<Problem>> {
        let body: SettleBody = json::read(body)?;
        self.engine.can_save().map_err(Problem::cannot_save)?;
        let settled = lease(id).and_then(|id| self.engine.leases_of(caller).settle(id, body.cost)).map_err(
            |error| match error {
                LeaseError::Unavailable => Problem::cannot_save(Unsaved),
                _ => Problem::lost(),
            },
        )?;
        self.engine.saved().await.map_err(Problem::unsaved)?;
        Ok(answer(StatusCode::OK, &SettledView::from(settled)))
    }

    async fn release(&self, caller: Caller, id: &str, uri: &Uri) -> Result<Response<Bytes>, Box<Problem>> {
        let query: ReleaseQuery = query::read(uri)?;
        let outcome = match (query.outcome.unwrap_or(OutcomeName::Ok), query.retry_after) {
            (OutcomeName::PushedBack, after) => Outcome::PushedBack(after.map_or(UNSAID_PUSHBACK, |text| text.0)),
            (OutcomeName::Ok, None) => Outcome::Ok,
            (OutcomeName::Failed, None) => Outcome::Failed,
            (_, Some(_)) => {
                let detail = "it belongs to outcome=pushed-back: leave it out, or say that";
                return Err(Problem::bad_request("retry-after", detail).into());
            }
        };
        let released = lease(id).and_then(|id| self.engine.leases_of(caller).release(id, outcome)).is_ok();
        // It is given back in any case. Where that cannot be written down, a kill would let it live until its lease time.
        if let Err(unsaved) = self.engine.saved().await {
            tracing::debug!(%unsaved, "a release is not written down");
        }
        Ok(answer(StatusCode::OK, &ReleasedView { released }))
    }
}

/// Whether whoever asks may use every scope that the request names.
pub(crate) fn within(access: &Access, request: &weir_engine::Request) -> Result<(), Box<Problem>> {
    request.scopes().try_for_each(|scope| access.within(scope))
}

/// The lease that a path names. A text that is no id names none.
fn lease(id: &str) -> Result<LeaseId, LeaseError> {
    id.parse().map_err(|_| LeaseError::Gone)
}

fn no_such(path: &str) -> Box<Problem> {
    let detail =
        format!("there is no `/weir{}` in the lease API; GET /weir/openapi.json shows what there is", shorten(path));
    Problem::new(StatusCode::NOT_FOUND, detail).because("unknown-resource").into()
}

pub(crate) fn bad_field(error: FieldError) -> Box<Problem> {
    Problem::bad_request(error.field, error.detail).into()
}

fn answer(status: StatusCode, view: &impl Serialize) -> Response<Bytes> {
    // As much as one lease takes. A struct of text and numbers always has a JSON form, and a vector takes it.
    let mut body = Vec::with_capacity(192);
    let written = serde_json::to_writer(&mut body, view);
    debug_assert!(written.is_ok());
    response(status, Bytes::from(body))
}

fn response(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, resource) in [
            ("/v1/leases", Some(Resource::Leases)),
            ("/v1/check", Some(Resource::Check)),
            ("/openapi.json", Some(Resource::Document)),
            ("/v1/leases/a", Some(Resource::Lease("a"))),
            ("/v1/leases/", Some(Resource::Lease(""))),
            ("/v1/leases/a/extend", Some(Resource::Extend("a"))),
            ("/v1/leases/a/settle", Some(Resource::Settle("a"))),
            ("/v1/leases/a/extend/", None),
            ("/v1/leases/a/b/extend", None),
            ("/v1/leasesx", None),
            ("/v1/", None),
        ] {
            assert_eq!(Resource::of(path), resource, "{path}");
        }
    }
}
