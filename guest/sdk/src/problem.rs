//! A refusal as an HTTP answer: status, `Retry-After`, and a `problem+json` body (RFC 9457).
//!
//! | Reason | Status |
//! |---|---|
//! | `limited`, `timed-out` with a rate in the way | 429 |
//! | the same without one, `overloaded`, `paused`, `pushed-back`, `unavailable` | 503 |
//! | `too-large` | 422: the request asks for more than there is, and always will |
//! | all others | 500: the component is at fault, not its client |
//!
//! `Retry-After` stands with 429 and 503 only, in whole seconds, rounded up, at least 1: whoever obeys it is never early.
//! Limits in the way stand in `RateLimit-Policy` and `RateLimit` besides, as in the server's own refusals; a rate is named
//! by its limit alone, because the contract does not tell its period:
//!
//! ```text
//! ratelimit-policy: "model/* rate 3";q=3
//! ratelimit: "model/* rate 3";r=0;t=20
//! ```

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::{Constraint, ConstraintKind, Reason, Refused};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Refused {
    /// The status that tells a client of this component what to do.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.reason {
            Reason::Limited | Reason::TimedOut
                if self.blocked_on.iter().any(|constraint| constraint.kind == ConstraintKind::Rate) =>
            {
                StatusCode::TOO_MANY_REQUESTS
            }
            Reason::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
            _ if self.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The value of `Retry-After`: whole seconds, rounded up, at least 1. Absent where a retry would not help.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        // Never earlier than any limit says for itself.
        let last =
            self.blocked_on.iter().filter(|constraint| is_policy(constraint)).filter_map(|limit| limit.frees_in).max();
        self.is_temporary().then(|| whole_seconds(self.retry_after.max(last).unwrap_or_default()).max(1))
    }

    /// The headers of the answer: `content-type`, `retry-after` where a retry may help, and the limits in the way.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        let limits: Vec<_> = self.blocked_on.iter().filter(|constraint| is_policy(constraint)).collect();
        for (name, item) in [(RATE_LIMIT_POLICY, policy_item as fn(&Constraint) -> String), (RATE_LIMIT, state_item)] {
            let items = limits.iter().map(|limit| item(limit)).collect::<Vec<_>>().join(", ");
            // Names are of an alphabet that is legal here; others come from the guest itself.
            if let Some(value) = HeaderValue::from_str(&items).ok().filter(|_| !items.is_empty()) {
                headers.insert(name, value);
            }
        }
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers
    }

    /// The body of the answer, as `application/problem+json`. It names the constraints in the way.
    #[must_use]
    pub fn problem(&self) -> String {
        self.problem_as(self.status())
    }

    fn problem_as(&self, status: StatusCode) -> String {
        let problem = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.message,
            reason: self.reason.as_str(),
            constraints: self.blocked_on.iter().map(ConstraintBody::from).collect(),
        };
        // A struct of text and numbers always has a JSON form.
        serde_json::to_string(&problem).unwrap_or_default()
    }

    /// The whole answer, with a body of any type that text turns into: `String`, `Vec<u8>`, `Bytes`, `FullBody<Bytes>`.
    ///
    /// ```
    /// use weir_guest::{Reason, Refused};
    /// let response = Refused::new(Reason::Overloaded, "no place left to wait").into_http::<String>();
    /// assert_eq!(response.status(), 503);
    /// assert_eq!(response.headers()["retry-after"], "1");
    /// ```
    #[must_use]
    pub fn into_http<B: From<String>>(self) -> Response<B> {
        let status = self.status();
        self.into_http_as(status)
    }

    /// The same with a status of the guest's own, where it knows better whose fault it is.
    ///
    /// ```
    /// use http::StatusCode;
    /// use weir_guest::{Reason, Refused};
    /// let refused = Refused::new(Reason::Invalid, "the request has no header `x-tenant`");
    /// assert_eq!(refused.into_http_as::<String>(StatusCode::BAD_REQUEST).status(), 400);
    /// ```
    #[must_use]
    pub fn into_http_as<B: From<String>>(self, status: StatusCode) -> Response<B> {
        let mut response = Response::new(B::from(self.problem_as(status)));
        *response.status_mut() = status;
        *response.headers_mut() = self.headers();
        response
    }
}

/// The members of the body, in the names that the server uses for its own refusals.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<ConstraintBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ConstraintBody<'a> {
    kind: &'static str,
    counter: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
    limit: u64,
    used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frees_in: Option<String>,
    estimated: bool,
}

impl<'a> From<&'a Constraint> for ConstraintBody<'a> {
    fn from(constraint: &'a Constraint) -> Self {
        Self {
            kind: constraint.kind.as_str(),
            counter: &constraint.counter,
            pattern: constraint.pattern.as_deref(),
            limit: constraint.limit,
            used: constraint.used,
            frees_in: constraint.frees_in.map(milliseconds),
            estimated: constraint.estimated,
        }
    }
}

/// Waitlists and caps are no policy: nobody configured them for this caller.
fn is_policy(constraint: &Constraint) -> bool {
    matches!(constraint.kind, ConstraintKind::Concurrency | ConstraintKind::Closed | ConstraintKind::Rate)
}

fn policy_name(constraint: &Constraint) -> String {
    let owner = constraint.pattern.as_ref().unwrap_or(&constraint.counter);
    let what = if constraint.kind == ConstraintKind::Rate { "rate" } else { "concurrency" };
    format!("\"{owner} {what} {}\"", constraint.limit)
}

fn policy_item(constraint: &Constraint) -> String {
    let unit = if constraint.kind == ConstraintKind::Rate { "" } else { ";qu=\"concurrent-requests\"" };
    format!("{};q={}{unit}", policy_name(constraint), constraint.limit)
}

fn state_item(constraint: &Constraint) -> String {
    let available = constraint.limit.saturating_sub(constraint.used);
    let frees_in = constraint.frees_in.map(|frees_in| format!(";t={}", whole_seconds(frees_in))).unwrap_or_default();
    format!("{};r={available}{frees_in}", policy_name(constraint))
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// `"250ms"`, rounded up: one unit, so that a reader in any language splits number from unit.
fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_nanos().div_ceil(1_000_000))
}
