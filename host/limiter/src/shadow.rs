//! Shadow limits: what would have been refused, counted beside what is done.
//!
//! A shadow is a limiter of its own over the same requests: what it would have refused takes nothing of its capacity, so
//! that its count is the one that enforcing it would have given to callers that do not wait. It looks at a request at the
//! moment at which that is granted. Its history is its own: put in force, its limits begin with an empty one, or with
//! that of an enforcing rate of the same kind.
//!
//! Worked example, shadow concurrency 1: three calls overlap. The first would be admitted, two would be refused; when the
//! first ends, a fourth would be admitted though two are still held.

use crate::acquire::units;
use crate::book::Rule;
use crate::history::{Histories, RateVerdict};
use crate::lease::Hold;
use crate::limits::{Counts, Limits};
use std::sync::Arc;

/// The shadow of one counter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shadow {
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) histories: Histories,
    /// What is held that it would not have admitted.
    calls: u64,
    cost: u64,
    /// Requests that it would have refused.
    pub(crate) refused: u64,
}

impl Shadow {
    /// Puts another rule in the place of the present one at `now`. Other limits are counted anew; another rule starts afresh.
    pub(crate) fn set_rule(&mut self, rule: Option<Arc<Rule>>, now: u64) {
        let (old, new) = (self.rule.as_ref(), rule.as_ref());
        if old.map(|rule| &rule.spec.shadow_limits) != new.map(|rule| &rule.spec.shadow_limits) {
            self.refused = 0;
        }
        if old.map(|rule| &rule.pattern) != new.map(|rule| &rule.pattern) {
            self.histories.clear();
        }
        self.rule = rule;
        if let Some(limits) = self.rule.as_ref().and_then(|rule| rule.spec.shadow_limits.as_ref()) {
            self.histories.at_pace_of(limits, now);
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rule.is_none() && self.calls == 0 && self.cost == 0
    }

    /// The shadow limits in force.
    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.rule.as_ref().and_then(|rule| rule.spec.shadow_limits.as_ref())
    }

    /// A grant of so much, where `held` is what is held besides; answers whether it would have been refused.
    pub(crate) fn grant(&mut self, hold: &Hold, held: (u64, u64), now: u64) -> bool {
        let Some(rule) = self.rule.take() else { return false };
        let limits = rule.spec.shadow_limits.as_ref();
        let starts = |counts| units(counts, hold.starts());
        let fits = limits.is_none_or(|limits| {
            let concurrency = limits.concurrency.is_none_or(|concurrency| {
                let held = match concurrency.counts {
                    Counts::Calls => held.0.saturating_sub(self.calls),
                    Counts::Cost => held.1.saturating_sub(self.cost),
                };
                let need = units(concurrency.counts, (hold.calls, hold.cost));
                need == 0 || held + u64::from(need) <= u64::from(concurrency.limit)
            });
            concurrency
                && limits
                    .rates
                    .iter()
                    .all(|rate| self.histories.ask(rate, now, starts(rate.counts)) == RateVerdict::Fits)
        });
        if fits {
            for rate in limits.iter().flat_map(|limits| &limits.rates) {
                self.histories.start(rate, false, now, starts(rate.counts));
            }
        } else {
            self.refused += 1;
            self.calls += u64::from(hold.calls);
            self.cost += u64::from(hold.cost);
        }
        self.rule = Some(rule);
        !fits
    }

    /// The end of a hold that it would not have admitted.
    pub(crate) fn give_back(&mut self, hold: &Hold) {
        self.calls = self.calls.saturating_sub(u64::from(hold.calls));
        self.cost = self.cost.saturating_sub(u64::from(hold.cost));
    }

    /// What it would have admitted goes into a hold that it would not have, or the other way round.
    pub(crate) fn hand_over(&mut self, (calls, cost): (u32, u32), into_refused: bool) {
        let (calls, cost) = (u64::from(calls), u64::from(cost));
        if into_refused {
            (self.calls, self.cost) = (self.calls + calls, self.cost + cost);
        } else {
            (self.calls, self.cost) = (self.calls.saturating_sub(calls), self.cost.saturating_sub(cost));
        }
    }

    /// A hold that it would not have admitted has another cost.
    pub(crate) fn settle(&mut self, before: u32, after: u32) {
        self.cost = (self.cost + u64::from(after)).saturating_sub(u64::from(before));
    }

    /// Entries of its logs.
    pub(crate) fn log_entries(&self) -> usize {
        self.histories.log_entries()
    }

    /// Forgets what has left its windows.
    pub(crate) fn forget(&mut self, now: u64) {
        self.histories.forget(now);
    }

    /// When its histories have aged out.
    pub(crate) fn ends_at(&self) -> u64 {
        self.histories.ends_at()
    }
}
