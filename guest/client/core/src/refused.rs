//! A refusal, in the words of the contract.

use crate::span::Span;
use serde::Deserialize;

/// Why there is no lease. The cases are those of `weir:flow/types.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is explained in wit/types.wit")]
pub enum Reason {
    Limited,
    Overloaded,
    TimedOut,
    TooLarge,
    Denied,
    Conflict,
    Ended,
    WouldBlock,
    Invalid,
    Paused,
    PushedBack,
    Lost,
    Unavailable,
}

/// What kind of limit is in the way. The cases are those of `weir:flow/types.constraint-kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is explained in wit/types.wit")]
pub enum ConstraintKind {
    Concurrency,
    Rate,
    Closed,
    Waitlist,
    Cap,
    Paused,
    Draining,
    PushedBack,
}

/// One limit as it binds one request, at one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// What kind of limit it is.
    pub kind: ConstraintKind,
    /// The counter it holds at.
    pub counter: String,
    /// The pattern of the rule that sets it.
    pub pattern: Option<String>,
    /// The configured limit.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
    /// When enough is free, from now, in nanoseconds.
    pub frees_in: Option<u64>,
    /// Whether `frees_in` is an estimate.
    pub estimated: bool,
}

/// There is no lease, and this is why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The earliest useful retry, from now, in nanoseconds.
    pub retry_after: Option<u64>,
    /// What is in the way.
    pub blocked_on: Vec<Constraint>,
    /// The same in one sentence.
    pub message: String,
}

impl Refused {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, retry_after: None, blocked_on: Vec::new(), message: message.into() }
    }
}

/// A constraint as the server writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Written {
    kind: ConstraintKind,
    counter: String,
    pattern: Option<String>,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    used: u64,
    frees_in: Option<Span>,
    #[serde(default)]
    estimated: bool,
}

impl<'de> Deserialize<'de> for Constraint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { kind, counter, pattern, limit, used, frees_in, estimated } = Written::deserialize(deserializer)?;
        Ok(Self { kind, counter, pattern, limit, used, frees_in: frees_in.map(|span| span.0), estimated })
    }
}
