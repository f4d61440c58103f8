//! Standing: how one counter stands towards who asks it.
//!
//! Every decision asks here: for a newcomer and for a waiter that is looked at whole ([`crate::acquire`]), on the short way
//! ([`crate::direct`]), for the head of a line that is parked at the counter, and where a barrier belongs ([`crate::barrier`]).

use crate::acquire::units;
use crate::counter::Counter;
use crate::history::RateVerdict;
use crate::lease::{Hold, LeasePart};
use crate::leases::Leases;
use crate::lending::ride;
use crate::limits::Concurrency;
use crate::order::Parked;
use crate::planted::{self, Bug};
use crate::request::Inline;
use crate::waiting::Spot;
use std::sync::Arc;

/// How a counter stands towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Fits,
    /// Not now; with the instant at which it may fit if time alone can tell.
    Blocked(Option<u64>),
    /// Not before the lease that it names has its loan back: nothing that is free here is owed to it, and no barrier helps it.
    Lent,
    /// Its cost is above a limit.
    Never,
}

/// Asks one counter, without effect. `barred`: a barrier stops this ticket there.
#[inline]
pub(crate) fn stand(
    counter: &mut Counter,
    hold: &Hold,
    own: Option<&Arc<Inline>>,
    (ticket, barred): (Option<u64>, bool),
    now: u64,
) -> Standing {
    let starts = hold.starts();
    if starts == (0, 0) {
        return Standing::Fits;
    }
    // Who rides whole belongs to what is present: no barrier and no drain concerns it.
    let present = !hold.takes_any();
    let mut standing = if !present && barred { Standing::Blocked(None) } else { Standing::Fits };
    let known = ticket.or(present.then_some(0));
    if let Some((_, until)) = counter.rare.as_ref().and_then(|rare| rare.hand.against(known, now)) {
        standing = Standing::Blocked(until);
    }
    // Taken out and put back, rather than cloned: the count of a rule that binds many counters is written by no one here.
    let rule = counter.rule.take();
    let own = own.filter(|_| ticket.is_none() || !planted::is(Bug::OwnNumbersIgnored));
    let Some(limits) = Counter::limits(rule.as_ref(), own) else { return standing };
    if let Some(Concurrency { limit, counts }) = limits.concurrency {
        let need = units(counts, (hold.calls, hold.cost));
        let whole = units(counts, hold.whole());
        if need > 0 {
            if limit > 0 && whole > limit {
                standing = Standing::Never;
            } else if counter.held(counts) + u64::from(need) > u64::from(limit) && standing == Standing::Fits {
                standing = Standing::Blocked(None);
            }
        }
    }
    let later = |standing, at: u64| match standing {
        Standing::Blocked(Some(other)) => Standing::Blocked(Some(at.max(other))),
        _ => Standing::Blocked(Some(at)),
    };
    for rate in &limits.rates {
        if standing == Standing::Never {
            break;
        }
        match counter.histories.ask(rate, now, units(rate.counts, starts)) {
            RateVerdict::Fits => {}
            RateVerdict::Never => standing = Standing::Never,
            RateVerdict::NotUntil(at) => standing = later(standing, at),
        }
    }
    if own.is_some()
        && rule.is_none()
        && standing != Standing::Never
        && let Some(at) = counter.histories.has_room_at(limits, now)
    {
        standing = later(standing, at);
    }
    counter.rule = rule;
    standing
}

/// The same, for who names a lease that lends to another for now (`lent`): what is too much in full may fit when that loan has come
/// back.
#[inline]
pub(crate) fn stand_in_time(
    counter: &mut Counter,
    hold: &Hold,
    own: Option<&Arc<Inline>>,
    asks: (Option<u64>, bool),
    lent: Option<&LeasePart>,
    now: u64,
) -> Standing {
    let standing = stand(counter, hold, own, asks, now);
    let Some(lender) = lent.filter(|_| standing == Standing::Never) else { return standing };
    let mut riding = *hold;
    ride(lender, &mut riding);
    match stand(counter, &riding, own, asks, now) {
        Standing::Never => Standing::Never,
        _ => Standing::Lent,
    }
}

/// Whether a counter has less than what the head of a line that is parked there needs: what others hold or have started, or an operator
/// says, and not their barriers.
pub(crate) fn lacks(found: &mut Counter, spot: Spot, leases: &Leases, parked: &Parked, now: u64) -> bool {
    // Nothing is owed to who is closed: that may last.
    !found.is_closed(parked.own.as_ref())
        && matches!(asked(found, spot, leases, parked, (false, now)), Standing::Blocked(_))
}

/// Asks a counter for the head of a line that is parked there, with or without barriers. Who rides is asked for what it lacks now.
pub(crate) fn asked(
    found: &mut Counter,
    spot: Spot,
    leases: &Leases,
    parked: &Parked,
    (barriers, now): (bool, u64),
) -> Standing {
    let mut hold = Hold::new(spot.1, parked.calls, parked.cost);
    if let Some(alone) = &parked.line.alone {
        hold = Hold::new(spot.1, alone.need.0, alone.need.1);
    }
    let (free, lent) = free_or_lent(named_by(parked, spot.0, leases));
    if let Some(named) = free {
        ride(named, &mut hold);
    }
    let ticket = Some(parked.head.ticket);
    let barred = barriers && found.bars(ticket, parked.line.on());
    stand_in_time(found, &hold, parked.own.as_ref(), (ticket, barred), lent, now)
}

/// A lease that may be ridden on now, or one that lends to another until that ends.
pub(crate) fn free_or_lent(named: Option<&LeasePart>) -> (Option<&LeasePart>, Option<&LeasePart>) {
    match named {
        Some(named) if named.loan().is_some() => (None, Some(named)),
        free => (free, None),
    }
}

/// The part in this shard of the lease that the head of a line names, if it lives.
pub(crate) fn named_by<'a>(parked: &Parked, shard: u16, leases: &'a Leases) -> Option<&'a LeasePart> {
    leases.named(shard, &parked.line.alone.as_ref()?.named).map(|slot| &leases[slot])
}
