//! What a counter looks like from outside, at one instant.

use crate::counter::Counter;
use crate::limits::{Concurrency, Rate};
use crate::pattern::Pattern;
use std::time::Duration;

/// A counter as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// `scope[/l1[/l2]]`.
    pub counter: String,
    /// The rule that binds.
    pub pattern: Option<Pattern>,
    /// Calls held now. May be above the limit after it was lowered.
    pub calls: u64,
    /// Cost held now.
    pub cost: u64,
    /// The concurrency limit.
    pub concurrency: Option<Concurrency>,
    /// The rates, in the order of the rule.
    pub rates: Vec<RateSnapshot>,
    /// Who is parked here.
    pub waiting: usize,
    /// The arrival of the waiter who was passed too often, and behind whom later ones stop here.
    pub barrier: Option<u64>,
    /// Requests granted since the counter was made.
    pub granted: u64,
    /// Requests refused here since the counter was made.
    pub refused: u64,
    /// The wait that half of those granted did not exceed.
    pub wait_p50: Duration,
    /// The wait that 99 % of those granted did not exceed.
    pub wait_p99: Duration,
}

/// A rate of a counter at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateSnapshot {
    /// The rate.
    pub rate: Rate,
    /// Units used of it now.
    pub used: u64,
    /// When one more unit fits; absent: it fits now.
    pub frees_in: Option<Duration>,
}

impl CounterSnapshot {
    pub(crate) fn of(counter: &mut Counter, now: u64) -> Self {
        let rule = counter.rule.clone();
        let rates = rule.iter().flat_map(|rule| &rule.spec.limits.rates);
        let rates = rates
            .map(|rate| RateSnapshot {
                rate: rate.clone(),
                used: counter.rate_used(rate, now),
                frees_in: match counter.ask(rate, now, 1) {
                    crate::counter::RateVerdict::NotUntil(at) => Some(Duration::from_nanos(at.saturating_sub(now))),
                    _ => None,
                },
            })
            .collect();
        let quantile = |share| {
            Duration::from_nanos(counter.waits.as_ref().map_or(0, |waits| waits.quantile(share, counter.granted)))
        };
        Self {
            counter: counter.name.to_string(),
            pattern: rule.as_ref().map(|rule| rule.pattern.clone()),
            calls: counter.calls,
            cost: counter.cost,
            concurrency: rule.as_ref().and_then(|rule| rule.spec.limits.concurrency),
            rates,
            waiting: counter.waitlist.len(),
            barrier: counter.barriers.first().copied(),
            granted: counter.granted,
            refused: counter.refused,
            wait_p50: quantile(0.5),
            wait_p99: quantile(0.99),
        }
    }
}
