//! Generated types to ours and back: they never leave this crate.

use std::time::Duration;

use crate::bindings::weir::flow::types;
use crate::flow_limits::Counts;
use crate::lease::{Outcome, Settled};
use crate::request::nanoseconds;
use crate::{Acquire, Constraint, ConstraintKind, FlowLimits, Rate, Reason, Refused};

impl From<types::Refusal> for Refused {
    fn from(refusal: types::Refusal) -> Self {
        Self {
            reason: refusal.reason.into(),
            retry_after: refusal.retry_after.map(Duration::from_nanos),
            blocked_on: refusal.blocked_on.into_iter().map(Constraint::from).collect(),
            message: refusal.message,
        }
    }
}

impl From<types::Reason> for Reason {
    fn from(reason: types::Reason) -> Self {
        match reason {
            types::Reason::Limited => Self::Limited,
            types::Reason::Overloaded => Self::Overloaded,
            types::Reason::TimedOut => Self::TimedOut,
            types::Reason::TooLarge => Self::TooLarge,
            types::Reason::Denied => Self::Denied,
            types::Reason::Conflict => Self::Conflict,
            types::Reason::Ended => Self::Ended,
            types::Reason::WouldBlock => Self::WouldBlock,
            types::Reason::Invalid => Self::Invalid,
            types::Reason::Paused => Self::Paused,
            types::Reason::PushedBack => Self::PushedBack,
            types::Reason::Lost => Self::Lost,
            types::Reason::Unavailable => Self::Unavailable,
        }
    }
}

impl From<types::Constraint> for Constraint {
    fn from(constraint: types::Constraint) -> Self {
        Self {
            kind: match constraint.kind {
                types::ConstraintKind::Concurrency => ConstraintKind::Concurrency,
                types::ConstraintKind::Rate => ConstraintKind::Rate,
                types::ConstraintKind::Closed => ConstraintKind::Closed,
                types::ConstraintKind::Waitlist => ConstraintKind::Waitlist,
                types::ConstraintKind::Cap => ConstraintKind::Cap,
                types::ConstraintKind::Paused => ConstraintKind::Paused,
                types::ConstraintKind::Draining => ConstraintKind::Draining,
                types::ConstraintKind::PushedBack => ConstraintKind::PushedBack,
            },
            counter: constraint.counter,
            pattern: constraint.pattern,
            limit: constraint.limit,
            used: constraint.used,
            frees_in: constraint.frees_in.map(Duration::from_nanos),
            estimated: constraint.estimated,
        }
    }
}

impl From<Outcome> for types::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Failed => Self::Failed,
            Outcome::PushedBack(pause) => Self::PushedBack(pause.map(nanoseconds)),
        }
    }
}

impl From<types::Settled> for Settled {
    fn from(settled: types::Settled) -> Self {
        Self { refunded: settled.refunded, overrun: settled.overrun }
    }
}

impl From<Counts> for types::Counts {
    fn from(counts: Counts) -> Self {
        match counts {
            Counts::Calls => Self::Calls,
            Counts::Cost => Self::Cost,
        }
    }
}

impl From<&FlowLimits> for types::FlowLimits {
    fn from(limits: &FlowLimits) -> Self {
        let concurrency = limits.concurrency.map(|(limit, counts)| types::Concurrency { limit, counts: counts.into() });
        Self { concurrency, rates: limits.rates.iter().map(types::Rate::from).collect() }
    }
}

impl From<&Rate> for types::Rate {
    fn from(rate: &Rate) -> Self {
        Self {
            limit: rate.limit,
            period: nanoseconds(rate.period),
            mode: if rate.smooth { types::RateMode::Smooth } else { types::RateMode::Window },
            burst: rate.burst,
            counts: rate.counts.into(),
        }
    }
}

impl Acquire {
    /// What is at its default costs no resource on the host.
    pub(crate) fn options(&self) -> Option<types::RequestOptions> {
        if self.is_plain() {
            return None;
        }
        let options = types::RequestOptions::new();
        if let Some(max_wait) = self.max_wait {
            options.set_max_wait(nanoseconds(max_wait));
        }
        if let Some(lease_time) = self.lease_time {
            options.set_lease_time(nanoseconds(lease_time));
        }
        for (scope, limit_key) in &self.also {
            options.add_target(scope, limit_key.as_deref());
        }
        if let Some(priority) = self.priority {
            options.set_priority(priority);
        }
        if let Some((key, weight)) = &self.fairness {
            options.set_fairness(key, *weight);
        }
        for (key, limits) in &self.flow_controls {
            options.add_flow_control(key, &limits.into());
        }
        Some(options)
    }
}
