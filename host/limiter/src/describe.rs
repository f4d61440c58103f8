//! Refusals and their detail: which constraints bind a request, which are in its way, and when they clear.

use crate::acquire::{DEFAULT_MAX_WAITERS, Site, Sites, own, units};
use crate::counter::Counter;
use crate::history::{MAX_KINDS, RateVerdict};
use crate::lease::Hold;
use crate::limits::{Concurrency, Limits};
use crate::refusal::{Constraint, ConstraintKind, Reason, Refusal};
use crate::request::{Inline, Line};
use crate::step::ShardSet;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of an estimated `retry-after`: shorter is a poll, longer is a guess.
const ESTIMATE: std::ops::RangeInclusive<u64> = 1_000_000_000..=60_000_000_000;

/// Which constraints to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every limit at every counter.
    Binding,
    /// Those that do not admit it now.
    InTheWay,
    /// Those that can never admit it.
    TooLarge,
}

/// A bound of the host itself, as a constraint.
pub(crate) fn cap(counter: &str, limit: usize, used: usize) -> Constraint {
    Constraint {
        kind: ConstraintKind::Cap,
        counter: counter.to_owned(),
        pattern: None,
        limit: limit as u64,
        used: used as u64,
        frees_in: None,
        estimated: false,
        rate: None,
    }
}

/// The bound on the kinds of rates at an inline key, as a constraint.
pub(crate) fn too_many_kinds(counter: &Counter, now: u64, until: u64) -> Constraint {
    Constraint {
        frees_in: Some(Duration::from_nanos(until.saturating_sub(now))),
        ..cap(&counter.name, MAX_KINDS, counter.histories.living(now))
    }
}

/// Why a request that does not wait is refused.
pub(crate) fn reason_of(constraints: &[Constraint]) -> Reason {
    let any = |kinds: &[ConstraintKind]| constraints.iter().any(|constraint| kinds.contains(&constraint.kind));
    if any(&[ConstraintKind::Paused, ConstraintKind::Draining]) {
        Reason::Paused
    } else if any(&[ConstraintKind::PushedBack]) {
        Reason::PushedBack
    } else {
        Reason::Limited
    }
}

impl ShardSet<'_, '_> {
    /// Names the constraints of every site.
    ///
    /// `waiter` is the ticket of who asks and the line it waits in, or would wait in.
    pub(crate) fn describe(
        &mut self,
        now: u64,
        sites: &Sites,
        inline: &[Arc<Inline>],
        waiter: Option<(u64, &Line)>,
        which: Which,
    ) -> Vec<Constraint> {
        let mut constraints = Vec::new();
        for site @ Site { at, hold, .. } in sites {
            let counter = &mut self.shards[*at].counters[hold.counter];
            constraints_of(counter, hold, own(inline, site), waiter, now, which, &mut constraints);
        }
        constraints
    }

    /// Counts and makes a refusal.
    pub(crate) fn refuse(&mut self, reason: Reason, blocked_on: Vec<Constraint>) -> Refusal {
        if let Some(shard) = self.shards.first_mut() {
            shard.count_refusal(reason);
        }
        self.refusal(reason, blocked_on)
    }

    pub(crate) fn refusal(&self, reason: Reason, blocked_on: Vec<Constraint>) -> Refusal {
        // All of them must clear, so the last one counts; where one cannot be said, nothing can. What is too large never
        // frees up.
        let frees_in = blocked_on.iter().map(|constraint| constraint.frees_in);
        let retry_after = frees_in.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        Refusal {
            reason,
            retry_after,
            blocked_on,
            book_version: self.shards.first().map_or(0, |shard| shard.book.version()),
            ended: None,
        }
    }
}

/// Names the constraints of one counter.
fn constraints_of(
    counter: &mut Counter,
    hold: &Hold,
    own: Option<&Arc<Inline>>,
    waiter: Option<(u64, &Line)>,
    now: u64,
    which: Which,
    into: &mut Vec<Constraint>,
) {
    let rule = counter.rule.clone();
    let name = counter.name.to_string();
    let pattern = rule.as_ref().map(|rule| rule.pattern.clone());
    let constraint = |kind, limit, used| Constraint {
        kind,
        counter: name.clone(),
        pattern: pattern.clone(),
        limit,
        used,
        frees_in: None,
        estimated: false,
        rate: None,
    };
    let nothing = Limits::default();
    let limits = Counter::limits(rule.as_ref(), own).unwrap_or(&nothing);
    let newcomer = waiter.is_none_or(|(ticket, _)| ticket == u64::MAX);
    let needs = hold.takes_any();
    let mut named = Vec::new();
    let ticket = waiter.map(|(ticket, _)| ticket).filter(|_| !newcomer);
    if needs && let Some((kind, until)) = counter.rare.as_ref().and_then(|rare| rare.hand.against(ticket, now)) {
        let mut constraint = constraint(kind, 0, counter.calls);
        constraint.pattern = None;
        constraint.frees_in = until.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        named.push((constraint, true, false));
    }
    if let Some(Concurrency { limit, counts }) = limits.concurrency {
        let need = units(counts, hold.calls, hold.cost);
        let whole = units(counts, hold.calls + hold.lent_calls, hold.cost.saturating_add(hold.lent_cost));
        let held = counter.held(counts);
        let blocks = need > 0 && held + u64::from(need) > u64::from(limit);
        let never = need > 0 && limit > 0 && whole > limit;
        let kind = if limit == 0 { ConstraintKind::Closed } else { ConstraintKind::Concurrency };
        let mut constraint = constraint(kind, u64::from(limit), held);
        if blocks && limit > 0 && !never {
            constraint.frees_in = Some(estimate(counter, u64::from(limit)));
            constraint.estimated = true;
        }
        named.push((constraint, blocks, never));
    }
    for rate in &limits.rates {
        let need = units(rate.counts, hold.calls, hold.cost);
        let mut constraint = constraint(ConstraintKind::Rate, u64::from(rate.largest_cost()), 0);
        constraint.used = counter.histories.used(rate, now);
        constraint.rate = Some(rate.clone());
        let verdict = if need == 0 { RateVerdict::Fits } else { counter.histories.ask(rate, now, need) };
        if let RateVerdict::NotUntil(at) = verdict {
            constraint.frees_in = Some(Duration::from_nanos(at.saturating_sub(now)));
        }
        named.push((constraint, matches!(verdict, RateVerdict::NotUntil(_)), verdict == RateVerdict::Never));
    }
    if needs
        && own.is_some()
        && rule.is_none()
        && let Some(until) = counter.histories.has_room_at(limits, now)
    {
        named.push((too_many_kinds(counter, now, until), true, false));
    }
    let line = waiter.map(|(_, line)| line).filter(|line| counter.parked(line).is_some());
    let stopped = line.is_some() || counter.bars(waiter.map(|(ticket, _)| ticket));
    let blocked = named.iter().any(|(_, blocks, _)| *blocks);
    // Where a rate blocks, those who wait take what it frees first.
    let behind = newcomer && counter.waiting() > 0;
    // What a rate frees, those who wait take first, each a unit at least.
    let rate = named.iter().filter_map(|(found, ..)| Some((found.frees_in?, found.rate.as_ref()?.spacing()))).max();
    if needs && (stopped && !blocked || behind && rate.is_some()) {
        let max_waiters = limits.max_waiters.unwrap_or(DEFAULT_MAX_WAITERS);
        let before = counter.waitlist().map_or(0, |waitlist| waitlist.before(line, newcomer, now));
        let mut constraint = constraint(ConstraintKind::Waitlist, u64::from(max_waiters), before as u64);
        constraint.frees_in = Some(match rate {
            Some((frees_in, spacing)) => {
                frees_in.saturating_add(spacing.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)))
            }
            None => estimate(counter, limits.concurrency.map_or(1, |concurrency| u64::from(concurrency.limit))),
        });
        constraint.estimated = true;
        named.push((constraint, true, false));
    }
    into.extend(
        named
            .into_iter()
            .filter(|(_, blocks, never)| {
                which == Which::Binding || (which == Which::InTheWay && *blocks) || (which == Which::TooLarge && *never)
            })
            .map(|(constraint, ..)| constraint),
    );
}

/// When a slot frees up if holders last as long as they did, and those who wait go first.
fn estimate(counter: &Counter, limit: u64) -> Duration {
    let turns = 1 + counter.waiting() as u64 / limit.max(1);
    Duration::from_nanos(counter.mean_hold().saturating_mul(turns).clamp(*ESTIMATE.start(), *ESTIMATE.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_named_before_a_limit() {
        let constraint = |kind| Constraint { kind, ..cap("s", 1, 1) };
        use ConstraintKind::{Concurrency, Paused, PushedBack};
        assert_eq!(reason_of(&[constraint(Concurrency)]), Reason::Limited);
        assert_eq!(reason_of(&[constraint(Concurrency), constraint(PushedBack)]), Reason::PushedBack);
        assert_eq!(reason_of(&[constraint(PushedBack), constraint(Paused)]), Reason::Paused);
    }
}
