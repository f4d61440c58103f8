//! Domain types and contract types, each way by exhaustive match: a new case on either side does not compile unnoticed.

use crate::bindings::weir::flow::types as wit;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_engine::{
    Concurrency, Constraint, ConstraintKind, Counts, Limits, Mode, Outcome, Rate, Reason, Refusal, UNSAID_PUSHBACK,
};

/// A length of time as the contract has it. Past 584 years it is the most that can be said.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn reason(reason: Reason) -> wit::Reason {
    match reason {
        Reason::Limited => wit::Reason::Limited,
        Reason::Overloaded => wit::Reason::Overloaded,
        Reason::TimedOut => wit::Reason::TimedOut,
        Reason::TooLarge => wit::Reason::TooLarge,
        Reason::Denied => wit::Reason::Denied,
        Reason::Conflict => wit::Reason::Conflict,
        Reason::Ended => wit::Reason::Ended,
        Reason::WouldBlock => wit::Reason::WouldBlock,
        Reason::Invalid => wit::Reason::Invalid,
        Reason::Paused => wit::Reason::Paused,
        Reason::PushedBack => wit::Reason::PushedBack,
        Reason::Lost => wit::Reason::Lost,
        Reason::Unavailable => wit::Reason::Unavailable,
    }
}

pub(crate) fn constraint(constraint: &Constraint) -> wit::Constraint {
    wit::Constraint {
        kind: match constraint.kind {
            ConstraintKind::Concurrency => wit::ConstraintKind::Concurrency,
            ConstraintKind::Rate => wit::ConstraintKind::Rate,
            ConstraintKind::Closed => wit::ConstraintKind::Closed,
            ConstraintKind::Waitlist => wit::ConstraintKind::Waitlist,
            ConstraintKind::Cap => wit::ConstraintKind::Cap,
            ConstraintKind::Paused => wit::ConstraintKind::Paused,
            ConstraintKind::Draining => wit::ConstraintKind::Draining,
            ConstraintKind::PushedBack => wit::ConstraintKind::PushedBack,
        },
        counter: constraint.counter.clone(),
        pattern: constraint.pattern.as_ref().map(ToString::to_string),
        limit: constraint.limit,
        used: constraint.used,
        frees_in: constraint.frees_in.map(nanoseconds),
        estimated: constraint.estimated,
    }
}

/// However long a pause is, the limiter cuts it to what the rule allows.
pub(crate) fn outcome(outcome: wit::Outcome) -> Outcome {
    match outcome {
        wit::Outcome::Ok => Outcome::Ok,
        wit::Outcome::Failed => Outcome::Failed,
        wit::Outcome::PushedBack(None) => Outcome::PushedBack(UNSAID_PUSHBACK),
        wit::Outcome::PushedBack(Some(pause)) => Outcome::PushedBack(Duration::from_nanos(pause)),
    }
}

/// A number of a rate that must not be 0.
#[derive(Debug, thiserror::Error)]
#[error("the {0} of a rate is 0; it must be at least 1")]
pub(crate) struct ZeroError(&'static str);

/// What remains to be checked, [`Limits::validate`] does.
pub(crate) fn flow_limits(limits: &wit::FlowLimits) -> Result<Limits, ZeroError> {
    let concurrency = limits.concurrency.map(|given| Concurrency { limit: given.limit, counts: counts(given.counts) });
    let rates = limits.rates.iter().map(rate).collect::<Result<_, _>>()?;
    Ok(Limits { concurrency, rates, ..Limits::default() })
}

fn rate(rate: &wit::Rate) -> Result<Rate, ZeroError> {
    let at_least_1 = |number, what| NonZeroU32::new(number).ok_or(ZeroError(what));
    Ok(Rate {
        limit: at_least_1(rate.limit, "limit")?,
        period: Duration::from_nanos(rate.period),
        mode: match rate.mode {
            wit::RateMode::Window => Mode::Window,
            wit::RateMode::Smooth => Mode::Smooth,
        },
        burst: rate.burst.map(|burst| at_least_1(burst, "burst")).transpose()?,
        counts: counts(rate.counts),
    })
}

fn counts(counts: wit::Counts) -> Counts {
    match counts {
        wit::Counts::Calls => Counts::Calls,
        wit::Counts::Cost => Counts::Cost,
    }
}

pub(crate) fn refusal(refusal: &Refusal) -> wit::Refusal {
    said(refusal, refusal.to_string())
}

/// A refusal of the host itself, in its own words.
pub(crate) fn refused(because: Reason, message: impl Into<String>) -> wit::Refusal {
    said(&Refusal::new(because), message.into())
}

fn said(refusal: &Refusal, message: String) -> wit::Refusal {
    wit::Refusal {
        reason: reason(refusal.reason),
        retry_after: refusal.retry_after.map(nanoseconds),
        blocked_on: refusal.blocked_on.iter().map(constraint).collect(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_keeps_its_name() {
        for domain in Reason::ALL {
            let name = format!("{:?}", reason(domain));
            assert!(name.ends_with(&format!("{domain:?}")), "{domain:?} became {name}");
        }
    }

    #[test]
    fn a_very_long_time_is_the_longest_that_can_be_said() {
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
        assert_eq!(nanoseconds(Duration::from_millis(1)), 1_000_000);
    }
}
