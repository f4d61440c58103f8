//! Refusals and their detail: which constraints bind a request, which are in its way, and when they clear.

use crate::acquire::{DEFAULT_MAX_WAITERS, Site, Sites, own, units};
use crate::counter::Counter;
use crate::history::{MAX_KINDS, RateVerdict};
use crate::lease::Hold;
use crate::limits::{Concurrency, Limits};
use crate::refusal::{Constraint, ConstraintKind, Reason, Refusal};
use crate::request::{Inline, Request};
use crate::step::ShardSet;
use crate::waiting::{Parking, Spot};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of an estimated `retry-after`: shorter is a poll, longer is a guess.
const ESTIMATE: std::ops::RangeInclusive<u64> = 1_000_000_000..=60_000_000_000;

/// How long a lease is taken to be held where none has ended yet: 1 s, the least that an estimate says.
pub(crate) const UNKNOWN_HOLD: u64 = 1_000_000_000;

/// Which constraints to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every limit at every counter.
    Binding,
    /// Those that do not admit it now.
    InTheWay,
    /// The same, where the waitlist of this counter is full: that the caller names.
    Full(Spot),
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

/// A waitlist that is full, as a constraint.
pub(crate) fn full_waitlist(counter: &Counter, limits: Option<&Limits>, max_waiters: u32) -> Constraint {
    let limit = limits.and_then(|limits| limits.concurrency).map_or(1, |concurrency| u64::from(concurrency.limit));
    Constraint {
        kind: ConstraintKind::Waitlist,
        pattern: counter.rule.as_ref().map(|rule| rule.pattern.clone()),
        frees_in: Some(estimate(counter, limit)),
        estimated: true,
        ..cap(&counter.name, max_waiters as usize, counter.waiting())
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
    /// `waiter` is the ticket of who asks, and where the line is parked that it waits in, or would wait in.
    pub(crate) fn describe(
        &mut self,
        now: u64,
        sites: &Sites,
        request: &Request,
        waiter: Option<(u64, Parking)>,
        which: Which,
    ) -> Vec<Constraint> {
        let (rank, on) = (request.rank(), self.named_on(request));
        let mut constraints = Vec::new();
        for site @ Site { at, hold, .. } in sites {
            let lent = site.lent(&self.shards[*at].leases).is_some();
            let spot = self.spot(site);
            let waiter = waiter.map(|(ticket, parking)| (ticket, parking.at(spot)));
            let full = which == Which::Full(spot);
            let in_the_way = matches!(which, Which::InTheWay | Which::Full(_));
            let held_back = in_the_way && !full && self.is_held_back(site, request, now).is_some();
            let counter = &mut self.shards[*at].counters[hold.counter];
            constraints_of(
                counter,
                hold,
                own(&request.inline, site),
                Asks { waiter, rank, full, lent, held_back, on: &on },
                now,
                which,
                &mut constraints,
            );
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
        let frees_in = || blocked_on.iter().map(|constraint| constraint.frees_in);
        let retry_after = frees_in().max().flatten().filter(|_| frees_in().all(|frees_in| frees_in.is_some()));
        Refusal {
            reason,
            retry_after,
            blocked_on,
            book_version: self.shards.first().map_or(0, |shard| shard.book.version()),
            ended: None,
        }
    }
}

/// Who asks, as one counter sees it.
#[derive(Clone, Copy)]
struct Asks<'a> {
    /// Its ticket, and the place of its line, where it is parked here.
    waiter: Option<(u64, Option<u32>)>,
    /// Its priority and its fairness key: who has no line here would begin one of these.
    rank: (u8, &'a str),
    /// Nobody more can wait here, which the caller names.
    full: bool,
    /// It may ride on a lease that lends to another for now: what is too large may not be later.
    lent: bool,
    /// What is free is owed to somebody who waits here.
    held_back: bool,
    /// The counters that the lease is on which it names.
    on: &'a [Spot],
}

/// Names the constraints of one counter.
fn constraints_of(
    counter: &mut Counter,
    hold: &Hold,
    own: Option<&Arc<Inline>>,
    Asks { waiter, rank, full, lent, held_back, on }: Asks<'_>,
    now: u64,
    which: Which,
    into: &mut Vec<Constraint>,
) {
    let rule = counter.rule.as_ref();
    let constraint = |kind, limit, used| Constraint {
        kind,
        counter: counter.name.as_str().to_owned(),
        pattern: rule.map(|rule| rule.pattern.clone()),
        limit,
        used,
        frees_in: None,
        estimated: false,
        rate: None,
    };
    // Made only where they are asked for: each has a name of its own.
    let wanted = |blocks: bool, never: bool| match which {
        Which::Binding => true,
        Which::InTheWay | Which::Full(_) => blocks,
        Which::TooLarge => never,
    };
    let nothing = Limits::default();
    let limits = Counter::limits(rule, own).unwrap_or(&nothing);
    let newcomer = waiter.is_none_or(|(ticket, _)| ticket == u64::MAX);
    let (takes, starts) = (hold.takes_any(), hold.starts());
    let needs = starts != (0, 0);
    let mut blocked = false;
    let ticket = waiter.map(|(ticket, _)| ticket).filter(|_| !newcomer).or((!takes).then_some(0));
    if needs && let Some((kind, until)) = counter.rare.as_ref().and_then(|rare| rare.hand.against(ticket, now)) {
        blocked = true;
        if wanted(true, false) {
            let frees_in = until.map(|at| Duration::from_nanos(at.saturating_sub(now)));
            into.push(Constraint { pattern: None, frees_in, ..constraint(kind, 0, counter.calls) });
        }
    }
    if let Some(Concurrency { limit, counts }) = limits.concurrency {
        let need = units(counts, (hold.calls, hold.cost));
        let whole = units(counts, hold.whole());
        let held = counter.held(counts);
        let blocks = need > 0 && held + u64::from(need) > u64::from(limit);
        let never = need > 0 && limit > 0 && whole > limit;
        blocked |= blocks;
        if wanted(blocks, never) {
            let kind = if limit == 0 { ConstraintKind::Closed } else { ConstraintKind::Concurrency };
            let estimated = blocks && limit > 0 && !never;
            let frees_in = estimated.then(|| estimate(counter, u64::from(limit)));
            into.push(Constraint { frees_in, estimated, ..constraint(kind, u64::from(limit), held) });
        }
    }
    // When the last of the rates in the way has room, and how far apart its starts are.
    let mut last = None;
    for rate in &limits.rates {
        let need = units(rate.counts, starts);
        let verdict = if need == 0 { RateVerdict::Fits } else { counter.histories.ask(rate, now, need) };
        let frees_in = match verdict {
            RateVerdict::NotUntil(at) => Some(Duration::from_nanos(at.saturating_sub(now))),
            _ => None,
        };
        let never = verdict == RateVerdict::Never;
        let blocks = frees_in.is_some() || lent && never;
        blocked |= blocks;
        last = last.max(frees_in.map(|frees_in| (frees_in, rate.spacing())));
        if wanted(blocks, never) {
            let used = counter.histories.used(rate, now);
            let found = constraint(ConstraintKind::Rate, u64::from(rate.largest_cost()), used);
            into.push(Constraint { frees_in, rate: Some(rate.clone()), ..found });
        }
    }
    if needs
        && own.is_some()
        && rule.is_none()
        && let Some(until) = counter.histories.has_room_at(limits, now)
    {
        blocked = true;
        if wanted(true, false) {
            into.push(too_many_kinds(counter, now, until));
        }
    }
    let line = waiter.and_then(|(_, place)| place);
    let stopped = line.is_some() || held_back || takes && counter.bars(waiter.map(|(ticket, _)| ticket), on);
    let before = || counter.waitlist().map_or(0, |waitlist| waitlist.before(line, newcomer, rank, now));
    // Where a rate blocks, those who wait before it take what it frees first.
    if wanted(true, false)
        && needs
        && !full
        && (stopped && !blocked || newcomer && last.is_some() && counter.waiting() > 0)
    {
        let max_waiters = limits.max_waiters.unwrap_or(DEFAULT_MAX_WAITERS);
        let before = before();
        let frees_in = match last {
            // What it frees, all who wait take first, each a unit at least: who is refused stands in no line.
            Some((frees_in, spacing)) => {
                let first = if newcomer { counter.waiting() } else { before };
                frees_in.saturating_add(spacing.saturating_mul(u32::try_from(first).unwrap_or(u32::MAX)))
            }
            None => estimate(counter, limits.concurrency.map_or(1, |concurrency| u64::from(concurrency.limit))),
        };
        let found = constraint(ConstraintKind::Waitlist, u64::from(max_waiters), before as u64);
        into.push(Constraint { frees_in: Some(frees_in), estimated: true, ..found });
    }
}

/// When a slot frees up if holders last as long as they did, and those who wait go first.
fn estimate(counter: &Counter, limit: u64) -> Duration {
    let turns = 1 + counter.waiting() as u64 / limit.max(1);
    let hold = Some(counter.mean_hold()).filter(|hold| *hold > 0).unwrap_or(UNKNOWN_HOLD);
    Duration::from_nanos(hold.saturating_mul(turns).clamp(*ESTIMATE.start(), *ESTIMATE.end()))
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
