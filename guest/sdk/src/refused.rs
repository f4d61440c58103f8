//! Why an acquire was not granted: a typed answer, never a string to parse.

use std::time::Duration;

/// An acquire that was not granted. It consumed nothing: no slot and no rate token.
///
/// Its text is the host's sentence. [`into_http`](Refused::into_http) makes an answer for a client of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{message}")]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The earliest useful retry, from now.
    pub retry_after: Option<Duration>,
    /// The constraints in the way.
    pub blocked_on: Vec<Constraint>,
    /// The same in one sentence.
    pub message: String,
}

impl Refused {
    /// Makes a refusal, for guests that refuse by a measure of their own and for their tests.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, retry_after: None, blocked_on: Vec::new(), message: message.into() }
    }

    /// Says when a retry is useful.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Names one more constraint in the way.
    #[must_use]
    pub fn blocked_on(mut self, constraint: Constraint) -> Self {
        self.blocked_on.push(constraint);
        self
    }

    /// Whether the same request can succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.reason,
            Reason::Limited
                | Reason::Overloaded
                | Reason::TimedOut
                | Reason::Paused
                | Reason::PushedBack
                | Reason::Unavailable
        )
    }
}

/// Why an acquire was not granted. "Not now" and "never" are different cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Not now, and the caller asked not to wait.
    Limited,
    /// There is no place left to wait.
    Overloaded,
    /// It waited as long as it was allowed to.
    TimedOut,
    /// It can never fit: its cost is above a limit.
    TooLarge,
    /// This component may not use that scope.
    Denied,
    /// An idempotency key was used before with another request.
    Conflict,
    /// The lease that this request once got has ended.
    Ended,
    /// A wait here would stall other requests of the same instance.
    WouldBlock,
    /// A name, cost or duration is not valid.
    Invalid,
    /// An operator holds the admissions of a counter.
    Paused,
    /// What stands behind the limit asked for a pause.
    PushedBack,
    /// The lease is gone: it expired, or the host took it back.
    Lost,
    /// The limiter does not answer or shuts down.
    Unavailable,
}

impl Reason {
    /// The reason as the contract spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed-out",
            Self::TooLarge => "too-large",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::Ended => "ended",
            Self::WouldBlock => "would-block",
            Self::Invalid => "invalid",
            Self::Paused => "paused",
            Self::PushedBack => "pushed-back",
            Self::Lost => "lost",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What kind of limit stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConstraintKind {
    /// Too much is in flight.
    Concurrency,
    /// Too much was started in a period.
    Rate,
    /// The concurrency limit is 0: nothing new is admitted.
    Closed,
    /// Earlier waiters stand before this request.
    Waitlist,
    /// A bound of the host itself.
    Cap,
    /// An operator holds the admissions of the counter.
    Paused,
    /// An operator lets nobody new in.
    Draining,
    /// What stands behind the counter asked for a pause.
    PushedBack,
}

impl ConstraintKind {
    /// The kind as the contract spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Closed => "closed",
            Self::Waitlist => "waitlist",
            Self::Cap => "cap",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::PushedBack => "pushed-back",
        }
    }
}

/// One limit as it binds one request, at one counter, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// What kind of limit it is.
    pub kind: ConstraintKind,
    /// The counter it holds at: `scope[/l1[/l2]]`.
    pub counter: String,
    /// The pattern of the rule that sets the limit.
    pub pattern: Option<String>,
    /// The configured limit, in calls or in cost.
    pub limit: u64,
    /// What is used of it now.
    pub used: u64,
    /// When enough is free, from now, if that can be said.
    pub frees_in: Option<Duration>,
    /// Whether `frees_in` is an estimate (concurrency) and not exact (rates).
    pub estimated: bool,
}
