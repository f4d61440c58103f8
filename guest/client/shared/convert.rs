//! Generated types to the core's and back; and the options, which are the core's in the shape of a resource.
//!
//! One file in both components: what is generated has the same names in each, and is another type.

use crate::bindings::exports::weir::flow::types;
use std::cell::RefCell;
use weir_client_core as core;

/// `request-options`.
#[derive(Default)]
pub(crate) struct Options(pub(crate) RefCell<core::Options>);

impl types::GuestRequestOptions for Options {
    fn new() -> Self {
        Self::default()
    }

    fn set_max_wait(&self, max_wait: types::Duration) {
        self.0.borrow_mut().set_max_wait(max_wait);
    }

    fn set_lease_time(&self, lease_time: types::Duration) {
        self.0.borrow_mut().set_lease_time(lease_time);
    }

    fn add_target(&self, scope: String, limit_key: Option<String>) {
        self.0.borrow_mut().add_target(scope, limit_key);
    }

    fn set_priority(&self, priority: u8) {
        self.0.borrow_mut().set_priority(priority);
    }

    fn set_fairness(&self, key: String, weight: u16) {
        self.0.borrow_mut().set_fairness(key, weight);
    }

    fn add_flow_control(&self, key: String, limits: types::FlowLimits) {
        self.0.borrow_mut().add_flow_control(key, &limits.into());
    }
}

/// What the arguments of a call ask for.
pub(crate) fn ask(
    scope: Option<String>,
    limit_key: Option<String>,
    cost: u32,
    more: Option<types::RequestOptions>,
) -> core::Ask {
    let options = more.map(|more| more.into_inner::<Options>().0.into_inner()).unwrap_or_default();
    core::Ask { scope, limit_key, cost, options }
}

impl From<types::FlowLimits> for core::FlowLimits {
    fn from(limits: types::FlowLimits) -> Self {
        let concurrency = limits.concurrency.map(|concurrency| (concurrency.limit, costs(concurrency.counts)));
        let rate = |rate: types::Rate| core::Rate {
            limit: rate.limit,
            period: rate.period,
            smooth: matches!(rate.mode, types::RateMode::Smooth),
            burst: rate.burst,
            cost: costs(rate.counts),
        };
        Self { concurrency, rates: limits.rates.into_iter().map(rate).collect() }
    }
}

fn costs(counts: types::Counts) -> bool {
    matches!(counts, types::Counts::Cost)
}

impl From<types::Outcome> for core::Outcome {
    fn from(outcome: types::Outcome) -> Self {
        match outcome {
            types::Outcome::Ok => Self::Ok,
            types::Outcome::Failed => Self::Failed,
            types::Outcome::PushedBack(pause) => Self::PushedBack(pause),
        }
    }
}

impl From<core::Settled> for types::Settled {
    fn from(settled: core::Settled) -> Self {
        Self { refunded: settled.refunded, overrun: settled.overrun }
    }
}

impl From<core::Refused> for types::Refusal {
    fn from(refused: core::Refused) -> Self {
        Self {
            reason: refused.reason.into(),
            retry_after: refused.retry_after,
            blocked_on: refused.blocked_on.into_iter().map(types::Constraint::from).collect(),
            message: refused.message,
        }
    }
}

impl From<core::Reason> for types::Reason {
    fn from(reason: core::Reason) -> Self {
        match reason {
            core::Reason::Limited => Self::Limited,
            core::Reason::Overloaded => Self::Overloaded,
            core::Reason::TimedOut => Self::TimedOut,
            core::Reason::TooLarge => Self::TooLarge,
            core::Reason::Denied => Self::Denied,
            core::Reason::Conflict => Self::Conflict,
            core::Reason::Ended => Self::Ended,
            core::Reason::WouldBlock => Self::WouldBlock,
            core::Reason::Invalid => Self::Invalid,
            core::Reason::Paused => Self::Paused,
            core::Reason::PushedBack => Self::PushedBack,
            core::Reason::Lost => Self::Lost,
            core::Reason::Unavailable => Self::Unavailable,
        }
    }
}

impl From<core::Constraint> for types::Constraint {
    fn from(constraint: core::Constraint) -> Self {
        Self {
            kind: match constraint.kind {
                core::ConstraintKind::Concurrency => types::ConstraintKind::Concurrency,
                core::ConstraintKind::Rate => types::ConstraintKind::Rate,
                core::ConstraintKind::Closed => types::ConstraintKind::Closed,
                core::ConstraintKind::Waitlist => types::ConstraintKind::Waitlist,
                core::ConstraintKind::Cap => types::ConstraintKind::Cap,
                core::ConstraintKind::Paused => types::ConstraintKind::Paused,
                core::ConstraintKind::Draining => types::ConstraintKind::Draining,
                core::ConstraintKind::PushedBack => types::ConstraintKind::PushedBack,
            },
            counter: constraint.counter,
            pattern: constraint.pattern,
            limit: constraint.limit,
            used: constraint.used,
            frees_in: constraint.frees_in,
            estimated: constraint.estimated,
        }
    }
}
