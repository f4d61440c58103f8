//! What a counter looks like from outside, at one instant.

use crate::counter::Counter;
use crate::history::RateVerdict;
use crate::limits::{Concurrency, Limits, Rate};
use crate::name::CounterKind;
use crate::pattern::Pattern;
use std::time::Duration;

/// A counter as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// `scope[/l1[/l2]]`.
    pub counter: String,
    /// What sort of counter it is.
    pub kind: CounterKind,
    /// The rule that binds; absent where none does, and where numbers are pinned.
    pub pattern: Option<Pattern>,
    /// Calls held now. May be above the limit after it was lowered.
    pub calls: u64,
    /// Cost held now.
    pub cost: u64,
    /// The concurrency limit.
    pub concurrency: Option<Concurrency>,
    /// The rates, in the order of the rule.
    pub rates: Vec<RateSnapshot>,
    /// The numbers that an operator has pinned.
    pub pinned: Option<Limits>,
    /// Whether an operator holds admissions.
    pub paused: bool,
    /// Whether an operator lets nobody new in.
    pub draining: bool,
    /// Whether nothing is held and nobody waits: a drain has come to its end.
    pub drained: bool,
    /// How long it is closed yet by what stands behind it.
    pub pushed_back_for: Option<Duration>,
    /// Its shadow limits.
    pub shadow: Option<ShadowSnapshot>,
    /// Who is parked here.
    pub waiting: usize,
    /// The arrival of the waiter who was passed too often, and behind whom later ones stop here.
    pub barrier: Option<u64>,
    /// Requests granted since the counter was made.
    pub granted: u64,
    /// Requests refused here since the counter was made.
    pub refused: u64,
    /// Leases that ended with a failure or a pushback since the counter was made.
    pub failed: u64,
    /// The wait that half of those granted did not exceed.
    pub wait_p50: Duration,
    /// The wait that 99 % of those granted did not exceed.
    pub wait_p99: Duration,
}

/// Shadow limits of a counter, and what they came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowSnapshot {
    /// The rule that has them.
    pub pattern: Pattern,
    /// The limits.
    pub limits: Limits,
    /// Grants that they would have refused, since these limits are there.
    pub would_refuse: u64,
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
                used: counter.histories.used(rate, now),
                frees_in: match counter.histories.ask(rate, now, 1) {
                    RateVerdict::NotUntil(at) => Some(Duration::from_nanos(at.saturating_sub(now))),
                    _ => None,
                },
            })
            .collect();
        let quantile = |share| {
            Duration::from_nanos(counter.queue.as_ref().map_or(0, |queue| queue.waits.quantile(share, counter.granted)))
        };
        let hand = counter.rare.as_ref().map(|rare| &rare.hand);
        let pinned = hand.and_then(|hand| hand.pinned.as_ref()).map(|rule| rule.spec.limits.clone());
        let shadow = counter.rare.as_ref().and_then(|rare| {
            let limits = rare.shadow.limits()?.clone();
            let pattern = rare.shadow.rule.as_ref()?.pattern.clone();
            Some(ShadowSnapshot { pattern, limits, would_refuse: rare.shadow.refused })
        });
        Self {
            counter: counter.name.to_string(),
            kind: counter.kind,
            pattern: rule.as_ref().filter(|_| pinned.is_none()).map(|rule| rule.pattern.clone()),
            pinned,
            paused: hand.is_some_and(|hand| hand.paused),
            draining: hand.is_some_and(|hand| hand.draining),
            drained: hand.is_some_and(|hand| hand.draining) && counter.is_drained(),
            pushed_back_for: hand
                .and_then(|hand| hand.pushed_back_until.checked_sub(now))
                .filter(|nanos| *nanos > 0)
                .map(Duration::from_nanos),
            shadow,
            calls: counter.calls,
            cost: counter.cost,
            concurrency: rule.as_ref().and_then(|rule| rule.spec.limits.concurrency),
            rates,
            waiting: counter.waiting(),
            barrier: counter.first_barrier(&[]),
            granted: counter.granted,
            refused: u64::from(counter.refused),
            failed: u64::from(counter.failed),
            wait_p50: quantile(0.5),
            wait_p99: quantile(0.99),
        }
    }
}
