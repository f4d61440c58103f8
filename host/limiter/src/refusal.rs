//! Refusals: why not, what is in the way, and when to come back.

use crate::duration::format_duration;
use crate::limits::{Mode, Rate};
use crate::operator::Outcome;
use crate::pattern::Pattern;
use std::fmt;
use std::time::Duration;

/// Why an acquire was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not now, and it was not to wait.
    Limited,
    /// A waitlist or a named cap is full.
    Overloaded,
    /// It waited as long as it was allowed to.
    TimedOut,
    /// It can never fit.
    TooLarge,
    /// The caller may not use that scope.
    Denied,
    /// An idempotency key was used before with another request.
    Conflict,
    /// The lease that this request once got has ended.
    Ended,
    /// A flavour that must not wait would have to.
    WouldBlock,
    /// A name, cost or duration is not valid.
    Invalid,
    /// An operator holds the admissions.
    Paused,
    /// What stands behind the limit asked for a pause.
    PushedBack,
    /// The lease is gone.
    Lost,
    /// The limiter does not answer or shuts down.
    Unavailable,
}

impl Reason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 13] = [
        Self::Limited,
        Self::Overloaded,
        Self::TimedOut,
        Self::TooLarge,
        Self::Denied,
        Self::Conflict,
        Self::Ended,
        Self::WouldBlock,
        Self::Invalid,
        Self::Paused,
        Self::PushedBack,
        Self::Lost,
        Self::Unavailable,
    ];

    /// The name used in JSON, metrics and logs.
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

    fn sentence(self) -> &'static str {
        match self {
            Self::Limited => "the limit is reached and the request was not to wait",
            Self::Overloaded => "a waitlist or a bound of the host is full",
            Self::TimedOut => "it waited as long as it was allowed to",
            Self::TooLarge => "it asks for more than a limit ever allows",
            Self::Denied => "the caller may not use this scope",
            Self::Conflict => "its idempotency key was used before with another request",
            Self::Ended => "the lease that it once got has ended",
            Self::WouldBlock => "it would have to wait where a wait stalls other requests",
            Self::Invalid => "the request is not valid",
            Self::Paused => "an operator holds the admissions",
            Self::PushedBack => "what stands behind the limit asked for a pause",
            Self::Lost => "the lease is gone",
            Self::Unavailable => "the limiter is shutting down, or cannot write its data directory",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of limit is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConstraintKind {
    /// Too much is held.
    Concurrency,
    /// Too much was started.
    Rate,
    /// The concurrency limit is 0.
    Closed,
    /// Earlier waiters stand before it.
    Waitlist,
    /// A bound of the host.
    Cap,
    /// An operator holds the admissions.
    Paused,
    /// An operator lets nobody new in.
    Draining,
    /// What stands behind the counter asked for a pause.
    PushedBack,
}

impl ConstraintKind {
    /// The name used in JSON and logs.
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
    /// What kind of limit.
    pub kind: ConstraintKind,
    /// The counter: `scope[/l1[/l2]]`.
    pub counter: String,
    /// The rule that sets the limit.
    pub pattern: Option<Pattern>,
    /// The configured limit, in what it counts.
    pub limit: u64,
    /// What is used of it. May be above `limit` after the limit was lowered.
    pub used: u64,
    /// When enough is free, from now, if that can be said.
    pub frees_in: Option<Duration>,
    /// Whether `frees_in` is an estimate (concurrency) and not exact (rates).
    pub estimated: bool,
    /// The rate, where the kind is one.
    pub rate: Option<Rate>,
}

impl Constraint {
    /// What would let the request pass this limit, in a sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self { counter, limit, used, .. } = self;
        let rule = self.rule();
        let wait = |what: &str| match self.frees_in {
            Some(frees_in) => {
                let about = if self.estimated { "about " } else { "" };
                format!("{what} in {about}{}", format_duration(whole_millis(frees_in)))
            }
            None => what.to_owned(),
        };
        match self.kind {
            ConstraintKind::Concurrency => {
                format!("{}; or raise {rule} above {limit} ({used} held)", wait("a lease ends"))
            }
            // Only for who names a lease that lends to another.
            ConstraintKind::Rate if self.frees_in.is_none() => {
                format!("what the lease that it names has lent comes back; or raise {rule} above {limit}")
            }
            ConstraintKind::Rate if self.is_smooth() => {
                format!("{}; or raise the rate or the burst of {rule}", wait("it has room for that again"))
            }
            ConstraintKind::Rate => {
                format!("{}; or raise {rule} above {limit}", wait("earlier starts leave the window"))
            }
            ConstraintKind::Closed => format!("give {rule} a concurrency above 0"),
            ConstraintKind::Waitlist if used >= limit => {
                format!(
                    "{}; or raise the `max-waiters` of {rule} above {limit}",
                    wait("one of those that wait is served")
                )
            }
            ConstraintKind::Waitlist => wait(&format!("the {used} that wait before it at `{counter}` are served")),
            ConstraintKind::Cap if self.is_of_kinds() => {
                format!("{}; or bring one of the kinds that count there", wait("one of these kinds is over"))
            }
            ConstraintKind::Cap => format!("the host holds {used} of {limit}: fewer at a time, or a larger bound"),
            ConstraintKind::Paused | ConstraintKind::Draining => format!("resume `{counter}`"),
            ConstraintKind::PushedBack => {
                format!("{}; or resume `{counter}`", wait("the pause that was asked for ends"))
            }
        }
    }

    /// What would let a request pass this limit that is too large for it ever to, in a sentence.
    #[must_use]
    pub fn remedy_of_size(&self) -> String {
        let (limit, burst) = (self.limit, if self.is_smooth() { "the burst of " } else { "" });
        format!("ask for {limit} at most; or raise {burst}{} above {limit}", self.rule())
    }

    fn rule(&self) -> String {
        match &self.pattern {
            Some(pattern) => format!("rule `{pattern}`"),
            None => "the numbers it brings".to_owned(),
        }
    }

    /// Whether its limit is a burst.
    fn is_smooth(&self) -> bool {
        self.rate.as_ref().is_some_and(|rate| rate.mode == Mode::Smooth)
    }

    /// Whether it is the bound on the kinds of rates at an inline key, the only one of the host's that time clears.
    fn is_of_kinds(&self) -> bool {
        self.kind == ConstraintKind::Cap && self.frees_in.is_some()
    }
}

/// Milliseconds are enough for a reader; the exact value is in its field.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, counter, used, limit, .. } = self;
        match (kind, &self.rate) {
            (ConstraintKind::Rate, Some(rate)) => write!(f, "rate {rate} at `{counter}` ({used}/{limit})"),
            (ConstraintKind::Closed, _) => write!(f, "`{counter}` is closed"),
            (ConstraintKind::Paused, _) => write!(f, "`{counter}` is paused"),
            (ConstraintKind::Draining, _) => write!(f, "`{counter}` is being drained"),
            (ConstraintKind::PushedBack, _) => write!(f, "`{counter}` was asked to pause"),
            (ConstraintKind::Waitlist, _) if used >= limit => {
                write!(f, "the waitlist of `{counter}` is full ({used}/{limit})")
            }
            (ConstraintKind::Waitlist, _) => write!(f, "{used} waiting before it at `{counter}`"),
            (ConstraintKind::Cap, _) if self.is_of_kinds() => {
                write!(f, "kinds of rates (mode, period, counts) at `{counter}` ({used}/{limit})")
            }
            _ => write!(f, "{} at `{counter}` ({used}/{limit})", kind.as_str()),
        }
    }
}

/// A typed refusal. Nothing was consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The earliest useful retry, from now.
    pub retry_after: Option<Duration>,
    /// The constraints in the way.
    pub blocked_on: Vec<Constraint>,
    /// The version of the rule book that decided.
    pub book_version: u64,
    /// How the lease ended that the request once got, where that is the reason.
    pub ended: Option<Ended>,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It was given back, its work done.
    Released,
    /// It was given back, its work failed.
    Failed,
    /// It was given back because what stands behind the limit asked for a pause.
    PushedBack,
    /// Its time was over.
    Expired,
}

impl Ended {
    /// The name used in JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Failed => "failed",
            Self::PushedBack => "pushed-back",
            Self::Expired => "expired",
        }
    }
}

impl Ended {
    /// The way of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Released, Self::Failed, Self::PushedBack, Self::Expired].into_iter().find(|how| how.as_str() == name)
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Released,
            Outcome::Failed => Self::Failed,
            Outcome::PushedBack(_) => Self::PushedBack,
        }
    }
}

impl Refusal {
    /// A refusal without detail.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, retry_after: None, blocked_on: Vec::new(), book_version: 0, ended: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.reason.sentence())?;
        if let Some(ended) = self.ended {
            write!(f, " ({})", ended.as_str())?;
        }
        for (index, constraint) in self.blocked_on.iter().enumerate() {
            write!(f, "{}{constraint}", if index == 0 { "; in the way: " } else { ", " })?;
        }
        if let Some(after) = self.retry_after {
            write!(f, "; retry after {}", format_duration(whole_millis(after)))?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_know_each_reason_by_one_word() {
        let words = [
            "limited",
            "overloaded",
            "timed-out",
            "too-large",
            "denied",
            "conflict",
            "ended",
            "would-block",
            "invalid",
            "paused",
            "pushed-back",
            "lost",
            "unavailable",
        ];
        assert_eq!(Reason::ALL.map(Reason::as_str), words);
    }

    #[test]
    fn a_refusal_reads_as_one_sentence() {
        let constraint = Constraint {
            kind: ConstraintKind::Rate,
            counter: "llm/gpt".into(),
            pattern: None,
            limit: 3,
            used: 3,
            frees_in: Some(Duration::from_nanos(1_500_000_001)),
            estimated: false,
            rate: Some("3/1m".parse().unwrap()),
        };
        let refusal =
            Refusal { retry_after: constraint.frees_in, blocked_on: vec![constraint], ..Refusal::new(Reason::Limited) };
        assert_eq!(
            refusal.to_string(),
            "limited: the limit is reached and the request was not to wait; in the way: rate 3/1m at `llm/gpt` (3/3); retry after 1s 501ms"
        );
    }

    #[test]
    fn each_kind_has_its_name_and_its_words() {
        use ConstraintKind::{Cap, Closed, Concurrency, Draining, Paused, PushedBack, Rate, Waitlist};
        let expected = [
            (Concurrency, "concurrency", "concurrency at `s` (2/3)"),
            (Rate, "rate", "rate at `s` (2/3)"),
            (Closed, "closed", "`s` is closed"),
            (Waitlist, "waitlist", "2 waiting before it at `s`"),
            (Cap, "cap", "cap at `s` (2/3)"),
            (Paused, "paused", "`s` is paused"),
            (Draining, "draining", "`s` is being drained"),
            (PushedBack, "pushed-back", "`s` was asked to pause"),
        ];
        for (kind, name, words) in expected {
            let constraint = Constraint { kind, ..crate::describe::cap("s", 3, 2) };
            assert_eq!((kind.as_str(), constraint.to_string().as_str()), (name, words));
        }
        let ended = [Ended::Released, Ended::Failed, Ended::PushedBack, Ended::Expired];
        assert_eq!(ended.map(Ended::as_str), ["released", "failed", "pushed-back", "expired"]);
        let ends = [Outcome::Ok, Outcome::Failed, Outcome::PushedBack(Duration::ZERO)].map(Ended::from);
        assert_eq!(ends, ended[..3]);
        let refusal = Refusal { ended: Some(Ended::Failed), ..Refusal::new(Reason::Ended) };
        assert!(refusal.to_string().ends_with(" (failed)"), "{refusal}");
    }

    #[test]
    fn the_list_of_reasons_is_in_order() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
