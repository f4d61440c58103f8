//! What the server says: JSON to a grant, a refusal, or neither.
//!
//! An answer that is neither is a *failure*, and only failures are retried and left to a policy: no connection, no answer in time, a
//! 5xx without a reason (a proxy's, say), a success that cannot be read. A 4xx without a reason is nobody's outage: something
//! else than a Weir server answers there, and it is refused with just that.

use crate::refused::{Constraint, Reason, Refused};
use crate::span::Span;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// One exchange, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    Yes(T),
    No(Refused),
    Failed(String),
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Granted {
    pub(crate) leases: Vec<GrantedLease>,
    #[serde(default)]
    pub(crate) waited: Span,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct GrantedLease {
    pub(crate) id: String,
    #[serde(deserialize_with = "decimal")]
    pub(crate) fence: u64,
    pub(crate) remaining: Span,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Extended {
    pub(crate) remaining: Span,
}

/// What settling came to, in units of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Settled {
    /// What is held less than before.
    pub refunded: u32,
    /// What was used beyond what was asked for.
    pub overrun: u32,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Released {}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Checked {
    granted: bool,
    reason: Option<Reason>,
    retry_after: Option<Span>,
    #[serde(default)]
    constraints: Vec<Constraint>,
    detail: Option<String>,
}

impl Checked {
    pub(crate) fn decision(self) -> Result<Vec<Constraint>, Refused> {
        if self.granted {
            return Ok(self.constraints);
        }
        let reason = self.reason.unwrap_or(Reason::Limited);
        Err(Refused {
            reason,
            retry_after: self.retry_after.map(|span| span.0),
            message: self.detail.unwrap_or_else(|| said(reason, &self.constraints)),
            blocked_on: self.constraints,
        })
    }
}

/// RFC 9457, as far as it concerns us.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Problem {
    reason: String,
    detail: Option<String>,
    title: Option<String>,
    retry_after: Option<Span>,
    #[serde(default)]
    constraints: Vec<Constraint>,
}

pub(crate) fn read<T: DeserializeOwned>(status: u16, body: &[u8]) -> Answer<T> {
    if (200..300).contains(&status) {
        return match serde_json::from_slice(body) {
            Ok(answer) => Answer::Yes(answer),
            Err(error) => Answer::Failed(format!("its answer cannot be read: {error}")),
        };
    }
    if let Some(refused) = refusal(body) {
        return Answer::No(refused);
    }
    if status >= 500 {
        return Answer::Failed(format!("it answered {status}"));
    }
    Answer::No(Refused::new(
        Reason::Unavailable,
        format!("what answers at WEIR_URL is no Weir server: {status} without a reason"),
    ))
}

fn refusal(body: &[u8]) -> Option<Refused> {
    let problem: Problem = serde_json::from_slice(body).ok()?;
    let reason = match problem.reason.as_str() {
        "unauthorized" => Reason::Denied,
        other => Reason::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(other)).ok()?,
    };
    let message = problem.detail.or(problem.title).unwrap_or_else(|| said(reason, &problem.constraints));
    Some(Refused {
        reason,
        retry_after: problem.retry_after.map(|span| span.0),
        blocked_on: problem.constraints,
        message,
    })
}

fn said(reason: Reason, constraints: &[Constraint]) -> String {
    let what = if reason == Reason::Limited { "not now" } else { "refused" };
    match constraints.first() {
        Some(first) => format!("{what}: `{}` has {} of {} in use", first.counter, first.used, first.limit),
        None => what.to_owned(),
    }
}

/// A u64 as text: it does not fit a double.
fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format_args!("`{text}` is no fencing number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refused::ConstraintKind;

    #[test]
    fn a_grant_is_read() {
        let body = br#"{"leases":[{"id":"a","fence":"18446744073709551615","remaining":"1m 30s"}],"waited":"12ms","book-version":3}"#;
        let expected = Granted {
            leases: vec![GrantedLease { id: "a".into(), fence: u64::MAX, remaining: Span(90_000_000_000) }],
            waited: Span(12_000_000),
        };
        assert_eq!(read(201, body), Answer::Yes(expected));
    }

    #[test]
    fn a_refusal_is_read_with_what_is_in_the_way() {
        let body = br#"{"type":"about:blank","status":429,"detail":"not now","reason":"limited","retry-after":"1s 250ms",
            "constraints":[{"kind":"rate","counter":"model","pattern":"*","rate":"3/1m","limit":3,"used":3,"frees-in":"1250ms","estimated":false}]}"#;
        let Answer::No(refused) = read::<Granted>(429, body) else { panic!("a refusal") };
        assert_eq!((refused.reason, refused.retry_after), (Reason::Limited, Some(1_250_000_000)));
        assert_eq!(refused.message, "not now");
        let [constraint] = &refused.blocked_on[..] else { panic!("one constraint") };
        assert_eq!((constraint.kind, constraint.frees_in), (ConstraintKind::Rate, Some(1_250_000_000)));
    }

    #[test]
    fn every_reason_of_the_api_is_known() {
        for (text, reason) in [
            ("timed-out", Reason::TimedOut),
            ("too-large", Reason::TooLarge),
            ("pushed-back", Reason::PushedBack),
            ("lost", Reason::Lost),
            ("unavailable", Reason::Unavailable),
            ("unauthorized", Reason::Denied),
        ] {
            let Answer::No(refused) = read::<Granted>(503, format!(r#"{{"reason":"{text}"}}"#).as_bytes()) else {
                panic!("{text}")
            };
            assert_eq!(refused.reason, reason);
        }
    }

    #[test]
    fn what_is_no_refusal_is_a_failure_or_no_weir_server() {
        assert_eq!(read::<Granted>(502, b"<html>"), Answer::Failed("it answered 502".into()));
        assert_eq!(read::<Granted>(503, br#"{"reason":"lunch"}"#), Answer::Failed("it answered 503".into()));
        assert!(matches!(read::<Granted>(200, b"{}"), Answer::Failed(_)));
        let Answer::No(refused) = read::<Granted>(404, b"no such page") else { panic!("a refusal") };
        assert_eq!(refused.reason, Reason::Unavailable);
        assert!(refused.message.contains("no Weir server: 404"), "{}", refused.message);
    }

    #[test]
    fn a_check_is_a_decision() {
        let Answer::Yes(yes) = read::<Checked>(200, br#"{"granted":true,"constraints":[]}"#) else { panic!("read") };
        assert_eq!(yes.decision(), Ok(Vec::new()));
        let body = br#"{"granted":false,"reason":"paused","retry-after":"1s"}"#;
        let Answer::Yes(no) = read::<Checked>(200, body) else { panic!("read") };
        assert_eq!(no.decision().unwrap_err().reason, Reason::Paused);
    }
}
