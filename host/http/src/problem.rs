//! The one place where an error becomes a status, headers and a body.
//!
//! Every error answer is `application/problem+json` (RFC 9457). A refusal of the limiter becomes:
//!
//! - **429** when a rate is in the way, **503** otherwise (concurrency, closed, overloaded, shutting down);
//! - `Retry-After` in whole seconds, rounded up, at least 1, and never earlier than any `t` below; absent where somebody holds a
//!   counter, and nobody can say for how long (closed, paused, draining);
//! - `RateLimit-Policy` and `RateLimit` with one item for each limit in the way, in the form of [`RATE_LIMIT_DRAFT`]:
//!
//! ```text
//! HTTP/1.1 429 Too Many Requests
//! retry-after: 20
//! ratelimit-policy: "model 3/1m";q=3;w=60
//! ratelimit: "model 3/1m";r=0;t=20
//! ```
//!
//! A policy is named by the pattern of its rule and the limit as one writes it, so that two rates of one rule differ.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use weir_engine::{Constraint, ConstraintKind, Reason, Refusal, Unsaved};
use weir_wasm::HandleError;

use crate::api::DurationText;

/// The draft whose form the `RateLimit` fields have. They are not yet a standard, and earlier drafts differ.
pub const RATE_LIMIT_DRAFT: &str = "draft-ietf-httpapi-ratelimit-headers-11";

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Registered by the same draft for "too much in a period".
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Registered by the same draft for "not at the moment, whoever asks".
const TEMPORARY_REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
/// What RFC 9457 gives a problem that its status already says all about.
const BLANK: &str = "about:blank";

/// How long a client should stay away from a server that shuts down or has no instance free, where nothing better is known.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// A problem, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// What kind of problem it is, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, in one sentence or two.
    pub detail: String,
    /// The limiter's reason, or what the server calls the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The earliest useful retry, to the nanosecond where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<DurationText>,
    /// How the lease ended that the request once got, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The field of the request that is at fault, such as `changes[0].put.rates[1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where in the body or text the fault is, such as `line 3, column 7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The names that exist, where one was not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// The names of the policies in the way, as in `RateLimit-Policy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violated_policies: Vec<String>,
    /// What is in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<ConstraintBody>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One constraint in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConstraintBody {
    /// `concurrency`, `rate`, `closed`, `waitlist`, `cap`, `paused`, `draining` or `pushed-back`.
    pub kind: String,
    /// The counter it holds at.
    pub counter: String,
    /// The pattern of its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The rate as it is written in the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// The configured limit.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
    /// When enough of it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frees_in: Option<DurationText>,
    /// Whether `frees-in` is an estimate.
    pub estimated: bool,
}

impl Problem {
    /// A problem that its status says all about, with `detail` for the one who reads it.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: BLANK.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            reason: None,
            retry_after: None,
            ended: None,
            field: None,
            place: None,
            known: Vec::new(),
            violated_policies: Vec::new(),
            constraints: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The request is at fault, in `field`.
    pub fn bad_request(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, detail) }.because("invalid")
    }

    /// No component of that name.
    #[must_use]
    pub fn unknown_component(name: &str, known: &[String]) -> Self {
        let detail = format!("there is no component `{}`; there is {}", shorten(name), list(known));
        Self { known: known.to_vec(), ..Self::new(StatusCode::NOT_FOUND, detail) }.because("unknown-component")
    }

    /// The limiter did not grant.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let status = refusal_status(refusal);
        let mut problem = Self::new(status, refusal.to_string()).because(refusal.reason.as_str());
        if status == StatusCode::TOO_MANY_REQUESTS {
            problem.kind = QUOTA_EXCEEDED.to_owned();
            problem.title = "Request cannot be satisfied as assigned quota has been exceeded".to_owned();
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            problem.kind = TEMPORARY_REDUCED_CAPACITY.to_owned();
            problem.title = "Request cannot be satisfied due to temporary server capacity constraints".to_owned();
        }
        let policies: Vec<Policy> = refusal.blocked_on.iter().filter_map(Policy::of).collect();
        problem.header(RATE_LIMIT_POLICY, &join(&policies, Policy::policy_item));
        problem.header(RATE_LIMIT, &join(&policies, Policy::state_item));
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            let last = policies.iter().filter_map(|policy| policy.frees_in).max();
            if refusal.retry_after.is_some() || !refusal.blocked_on.iter().any(is_held) {
                problem.come_back_in(refusal.retry_after.max(last).unwrap_or(RETRY_UNKNOWN));
            }
        }
        problem.retry_after = refusal.retry_after.map(DurationText);
        problem.violated_policies = policies.into_iter().map(|policy| policy.name).collect();
        problem.ended = refusal.ended.map(|ended| ended.as_str().to_owned());
        problem.constraints = refusal.blocked_on.iter().map(ConstraintBody::from).collect();
        problem
    }

    /// The component did not answer.
    #[must_use]
    pub fn unhandled(error: &HandleError) -> Self {
        let (status, reason) = match error {
            HandleError::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            HandleError::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            HandleError::Trapped => (StatusCode::BAD_GATEWAY, "trapped"),
            HandleError::NoResponse => (StatusCode::BAD_GATEWAY, "no-response"),
            HandleError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            _ => (StatusCode::BAD_GATEWAY, "guest-error"),
        };
        let mut problem = Self::new(status, error.to_string()).because(reason);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            problem.kind = TEMPORARY_REDUCED_CAPACITY.to_owned();
            problem.come_back_in(RETRY_UNKNOWN);
        }
        problem
    }

    /// It is not known who asks.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail).because("unauthenticated");
        problem.header(WWW_AUTHENTICATE, "Bearer");
        problem
    }

    /// Whoever asks may not do this.
    #[must_use]
    pub fn denied(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail).because(Reason::Denied.as_str())
    }

    /// There is no such lease: one answer for all ids that name none, so that it does not tell which ids exist.
    #[must_use]
    pub fn lost() -> Self {
        Self::new(StatusCode::GONE, weir_engine::LeaseError::Gone.to_string()).because("lost")
    }

    /// It has happened, and cannot be written down: a kill of the server would undo it.
    #[must_use]
    pub fn unsaved(error: Unsaved) -> Self {
        let detail = format!("{error}: it is in force, and a restart of the server before it is would undo it");
        Self { detail, ..Self::refused(&Refusal::new(Reason::Unavailable)) }
    }

    /// It has not happened, since it could not be written down.
    #[must_use]
    pub fn cannot_save(error: Unsaved) -> Self {
        let detail = format!("{error}, so nothing was changed");
        Self { detail, ..Self::refused(&Refusal::new(Reason::Unavailable)) }
    }

    /// The resource does not take that method, but these.
    #[must_use]
    pub fn allows(methods: &'static str) -> Self {
        let detail = format!("this resource does not take that method; it takes {methods}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).because("method-not-allowed");
        problem.header(ALLOW, methods);
        problem
    }

    /// Says where in the text the fault is.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Names the error for programs.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// The status, for metrics and for whoever wraps this answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer.
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        // A struct of text and numbers always has a JSON form.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response.headers_mut().extend(self.headers);
        response
    }

    fn header(&mut self, name: HeaderName, value: &str) {
        if value.is_empty() {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }

    fn come_back_in(&mut self, after: Duration) {
        self.header(RETRY_AFTER, &whole_seconds(after).max(1).to_string());
    }
}

/// Whether somebody's hand is in the way, until it is taken away.
fn is_held(constraint: &Constraint) -> bool {
    matches!(constraint.kind, ConstraintKind::Closed | ConstraintKind::Paused | ConstraintKind::Draining)
}

fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal.reason {
        Reason::Denied => StatusCode::FORBIDDEN,
        Reason::Conflict => StatusCode::CONFLICT,
        Reason::Ended | Reason::Lost => StatusCode::GONE,
        Reason::Invalid => StatusCode::BAD_REQUEST,
        // Trying again never helps, so neither 429 nor 503 would be true.
        Reason::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::Limited | Reason::TimedOut
            if refusal.blocked_on.iter().any(|constraint| constraint.kind == ConstraintKind::Rate) =>
        {
            StatusCode::TOO_MANY_REQUESTS
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A configured limit in the way, as an item of the two `RateLimit` fields.
struct Policy {
    name: String,
    limit: u64,
    available: u64,
    window: Option<Duration>,
    frees_in: Option<Duration>,
    concurrent: bool,
}

impl Policy {
    /// Waitlists and caps are no policy: nobody configured them for this caller.
    fn of(constraint: &Constraint) -> Option<Self> {
        let concurrent = match constraint.kind {
            ConstraintKind::Concurrency | ConstraintKind::Closed => true,
            ConstraintKind::Rate => false,
            _ => return None,
        };
        let owner = constraint.pattern.as_ref().map_or_else(|| constraint.counter.clone(), ToString::to_string);
        let limit =
            constraint.rate.as_ref().map_or_else(|| format!("concurrency {}", constraint.limit), ToString::to_string);
        Some(Self {
            name: format!("{owner} {limit}"),
            // What a smooth rate admits at once is its burst; what it promises is its limit in a period.
            limit: constraint.rate.as_ref().map_or(constraint.limit, |rate| rate.limit.get().into()),
            available: constraint.limit.saturating_sub(constraint.used),
            window: constraint.rate.as_ref().map(|rate| rate.period),
            frees_in: constraint.frees_in,
            concurrent,
        })
    }

    // Names are of the alphabet of scopes, rates and patterns: none of it needs escaping in a structured-field string.
    fn policy_item(&self) -> String {
        let mut item = format!("\"{}\";q={}", self.name, self.limit);
        if let Some(window) = self.window {
            item.push_str(&format!(";w={}", whole_seconds(window).max(1)));
        }
        if self.concurrent {
            item.push_str(";qu=\"concurrent-requests\"");
        }
        item
    }

    fn state_item(&self) -> String {
        let mut item = format!("\"{}\";r={}", self.name, self.available);
        if let Some(frees_in) = self.frees_in {
            item.push_str(&format!(";t={}", whole_seconds(frees_in)));
        }
        item
    }
}

fn join(policies: &[Policy], item: fn(&Policy) -> String) -> String {
    policies.iter().map(item).collect::<Vec<_>>().join(", ")
}

impl From<&Constraint> for ConstraintBody {
    fn from(constraint: &Constraint) -> Self {
        Self {
            kind: constraint.kind.as_str().to_owned(),
            counter: constraint.counter.clone(),
            pattern: constraint.pattern.as_ref().map(ToString::to_string),
            rate: constraint.rate.as_ref().map(ToString::to_string),
            limit: constraint.limit,
            used: constraint.used,
            frees_in: constraint.frees_in.map(crate::api::readable),
            estimated: constraint.estimated,
        }
    }
}

/// Whole seconds, rounded up: a client that waits this long never comes too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// A name from outside, cut so that an answer stays short.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::Ended;

    fn constraint(kind: ConstraintKind, rate: Option<&str>, limit: u64, frees_in: Option<Duration>) -> Constraint {
        Constraint {
            kind,
            counter: "model/gpt".to_owned(),
            pattern: Some("model/*".parse().unwrap()),
            limit,
            used: limit,
            frees_in,
            estimated: kind == ConstraintKind::Concurrency,
            rate: rate.map(|rate| rate.parse().unwrap()),
        }
    }

    fn refusal(reason: Reason, retry_after: Option<Duration>, blocked_on: Vec<Constraint>) -> Refusal {
        Refusal { retry_after, blocked_on, ..Refusal::new(reason) }
    }

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_rate_in_the_way_is_429_with_fields() {
        let rate = constraint(ConstraintKind::Rate, Some("3/1m"), 3, Some(Duration::from_millis(19_001)));
        let response =
            Problem::refused(&refusal(Reason::TimedOut, Some(Duration::from_secs(3)), vec![rate])).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(header(&response, "retry-after"), Some("20"));
        assert_eq!(header(&response, "ratelimit-policy"), Some("\"model/* 3/1m\";q=3;w=60"));
        assert_eq!(header(&response, "ratelimit"), Some("\"model/* 3/1m\";r=0;t=20"));
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["type"], QUOTA_EXCEEDED);
        assert_eq!(body["reason"], "timed-out");
        assert_eq!(body["violated-policies"][0], "model/* 3/1m");
        assert_eq!(body["constraints"][0]["frees-in"], "19s 1ms");
    }

    #[test]
    fn concurrency_in_the_way_is_503() {
        let full = constraint(ConstraintKind::Concurrency, None, 2, None);
        let response = Problem::refused(&refusal(Reason::TimedOut, None, vec![full])).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(header(&response, "retry-after"), Some("1"));
        assert_eq!(
            header(&response, "ratelimit-policy"),
            Some("\"model/* concurrency 2\";q=2;qu=\"concurrent-requests\"")
        );
        assert_eq!(header(&response, "ratelimit"), Some("\"model/* concurrency 2\";r=0"));
    }

    #[test]
    fn nobody_knows_how_long_a_counter_is_held() {
        let rate = constraint(ConstraintKind::Rate, Some("3/1m"), 3, Some(Duration::from_secs(19)));
        for kind in [ConstraintKind::Closed, ConstraintKind::Paused, ConstraintKind::Draining] {
            let held = vec![rate.clone(), constraint(kind, None, 0, None)];
            let response = Problem::refused(&refusal(Reason::Paused, None, held)).into_response();
            assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, None), "{kind:?}");
        }
    }

    #[test]
    fn a_full_waitlist_is_503_without_policies() {
        let waitlist = constraint(ConstraintKind::Waitlist, None, 10, None);
        let response = Problem::refused(&refusal(Reason::Overloaded, None, vec![waitlist])).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!((header(&response, "ratelimit"), header(&response, "retry-after")), (None, Some("1")));
    }

    #[test]
    fn never_is_neither_429_nor_503() {
        let response = Problem::refused(&refusal(Reason::TooLarge, None, Vec::new())).into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(header(&response, "retry-after"), None);
    }

    #[test]
    fn a_lease_that_has_ended_says_how() {
        let refusal = Refusal { ended: Some(Ended::Expired), ..Refusal::new(Reason::Ended) };
        let response = Problem::refused(&refusal).into_response();
        assert_eq!(response.status(), 410);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((&body["reason"], &body["ended"]), (&"ended".into(), &"expired".into()));
    }

    #[test]
    fn seconds_round_up() {
        for (nanos, seconds) in [(0, 0), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_nanos(nanos)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
