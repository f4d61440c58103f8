//! Acquire: find the counters, ask them all without effect, then commit in one place.
//!
//! [`ShardSet::place`] is the only way to a grant, for a newcomer and for a waiter that is looked at again. It locates
//! the counters of a request (*sites*), asks each, and either commits at all of them or says which one is in the way.
//! A newcomer then waits or is refused; nothing of the question stays behind.

use crate::counter::{Counter, RateVerdict};
use crate::lease::{Hold, Identity, LeasePart};
use crate::limits::{Concurrency, Counts, MAX_WAIT};
use crate::refusal::{Constraint, ConstraintKind, Reason, Refusal};
use crate::request::{DEFAULT_MAX_WAIT, Grant, LeaseRef, Line, Request, WaiterId};
use crate::shard::{Shard, Timer, Waiter};
use crate::step::{Effect, ShardSet, shards_of};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// How many may wait at one counter when no rule says so.
pub(crate) const DEFAULT_MAX_WAITERS: u32 = 10_000;
/// Bounds of an estimated `retry-after`: shorter is a poll, longer is a guess.
const ESTIMATE: std::ops::RangeInclusive<u64> = 1_000_000_000..=60_000_000_000;

/// One counter that a request needs, and what it needs there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// Where its shard stands in the set.
    pub(crate) at: usize,
    pub(crate) hold: Hold,
}

pub(crate) type Sites = SmallVec<[Site; 3]>;

/// How a counter stands towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Fits,
    /// Not now; with the instant at which it may fit if time alone can tell.
    Blocked(Option<u64>),
    /// Its cost is above a limit.
    Never,
}

/// How all counters together stand towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Fits,
    /// The first site that is in the way, and when time alone may clear it.
    Blocked {
        site: usize,
        until: Option<u64>,
    },
    Never,
}

/// What became of a request that was placed.
#[derive(Debug)]
pub(crate) enum Placed {
    Granted(Grant),
    /// The site that is in the way, and when time alone may clear it.
    Blocked {
        site: usize,
        until: Option<u64>,
    },
    Never,
}

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

/// What became of a newcomer.
#[derive(Debug)]
pub(crate) enum Arrival {
    Granted(Grant),
    Waiting(WaiterId),
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn units(counts: Counts, calls: u32, cost: u32) -> u32 {
    match counts {
        Counts::Calls => calls,
        Counts::Cost => cost,
    }
}

/// A bound of the host itself, as a constraint.
fn cap(counter: &str, limit: usize, used: usize) -> Constraint {
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

/// Asks one counter, without effect.
#[inline]
pub(crate) fn stand(counter: &mut Counter, hold: &Hold, ticket: Option<u64>, now: u64) -> Standing {
    if hold.calls == 0 && hold.cost == 0 {
        return Standing::Fits;
    }
    let mut standing = if counter.bars(ticket) { Standing::Blocked(None) } else { Standing::Fits };
    // Taken out and put back, rather than cloned: the count of a rule that binds many counters is written by no one here.
    let Some(rule) = counter.rule.take() else { return standing };
    if let Some(Concurrency { limit, counts }) = rule.spec.limits.concurrency {
        let need = units(counts, hold.calls, hold.cost);
        let whole = units(counts, hold.calls + hold.lent_calls, hold.cost.saturating_add(hold.lent_cost));
        if need > 0 {
            if limit > 0 && whole > limit {
                standing = Standing::Never;
            } else if counter.held(counts) + u64::from(need) > u64::from(limit) && standing == Standing::Fits {
                standing = Standing::Blocked(None);
            }
        }
    }
    for rate in &rule.spec.limits.rates {
        if standing == Standing::Never {
            break;
        }
        match counter.ask(rate, now, units(rate.counts, hold.calls, hold.cost)) {
            RateVerdict::Fits => {}
            RateVerdict::Never => standing = Standing::Never,
            RateVerdict::NotUntil(at) => {
                standing = match standing {
                    Standing::Blocked(Some(other)) => Standing::Blocked(Some(other.max(at))),
                    _ => Standing::Blocked(Some(at)),
                };
            }
        }
    }
    counter.rule = Some(rule);
    standing
}

impl ShardSet<'_, '_> {
    /// A request arrives.
    pub(crate) fn arrive(
        &mut self,
        now: u64,
        request: &Request,
        wait: bool,
        secret: Option<u128>,
        effects: &mut Vec<Effect>,
    ) -> Result<Arrival, Refusal> {
        if self.shards.iter().any(|shard| shard.closed) {
            return Err(self.refuse(Reason::Unavailable, Vec::new()));
        }
        let mut sites = Sites::new();
        if let Err(cap) = self.locate(request, true, now, &mut sites) {
            return Err(self.refuse(Reason::Overloaded, vec![cap]));
        }
        let answer = self.ask(now, &sites, None);
        let line = self.line_of(request, &sites);
        let (site, until) = match (answer, &line) {
            (Answer::Never, _) => {
                let constraints = self.describe(now, &sites, None, Which::TooLarge);
                self.leave_no_trace(&sites, now);
                return Err(self.refuse(Reason::TooLarge, constraints));
            }
            // Nobody overtakes in a line.
            (_, Some((_, site))) => (*site, None),
            (Answer::Blocked { site, until }, None) => (site, until),
            (Answer::Fits, None) => {
                let grant = self.commit(now, request, &sites, secret, now);
                self.count_passes(&sites, None, now, effects);
                return Ok(Arrival::Granted(grant));
            }
        };
        let max_wait = self.max_wait(&sites, request);
        let Site { at, hold } = sites[site];
        let refusal =
            if !wait || max_wait == 0 { Some(Reason::Limited) } else { self.no_place(request, at, hold.counter) };
        if let Some(reason) = refusal {
            self.shards[at].counters[hold.counter as usize].refused += 1;
            let line = line.as_ref().map(|(line, _)| (u64::MAX, &**line));
            let constraints = self.describe(now, &sites, line, Which::InTheWay);
            self.leave_no_trace(&sites, now);
            return Err(self.refuse(reason, constraints));
        }
        self.shards[at].metrics.waited += 1;
        let ticket = self.next_number(now);
        let waiter = Waiter {
            line: line.map_or_else(|| Arc::new(request.line(ticket)), |(line, _)| line),
            request: request.clone(),
            secret,
            arrived: now,
            deadline: now.saturating_add(max_wait),
        };
        let id = self.join(now, ticket, waiter, sites[site], until);
        self.leave_no_trace(&sites, now);
        Ok(Arrival::Waiting(id))
    }

    /// Why nobody more can wait at a counter.
    fn no_place(&self, request: &Request, at: usize, counter: u32) -> Option<Reason> {
        let counter = &self.shards[at].counters[counter as usize];
        let max_waiters =
            counter.rule.as_ref().and_then(|rule| rule.spec.limits.max_waiters).unwrap_or(DEFAULT_MAX_WAITERS);
        let origin = shards_of(&self.shards[0].placement, request).first().and_then(|shard| self.at(*shard));
        let origin = &self.shards[origin.unwrap_or(at)];
        if max_waiters == 0 {
            Some(Reason::Limited)
        } else if counter.waitlist.len() >= max_waiters as usize || origin.waiters.len() >= origin.limits.max_waiters {
            Some(Reason::Overloaded)
        } else {
            None
        }
    }

    /// The decision that a newcomer would get that does not wait, with no effect: what binds it, or why not.
    pub(crate) fn check(&mut self, now: u64, request: &Request) -> Result<Vec<Constraint>, Refusal> {
        if self.shards.iter().any(|shard| shard.closed) {
            return Err(self.refusal(Reason::Unavailable, Vec::new()));
        }
        let mut sites = Sites::new();
        if let Err(cap) = self.locate(request, true, now, &mut sites) {
            return Err(self.refusal(Reason::Overloaded, vec![cap]));
        }
        let line = self.line_of(request, &sites);
        let waiter = line.as_ref().map(|(line, _)| (u64::MAX, &**line));
        let outcome = match self.ask(now, &sites, None) {
            Answer::Never => {
                let constraints = self.describe(now, &sites, waiter, Which::TooLarge);
                Err(self.refusal(Reason::TooLarge, constraints))
            }
            Answer::Fits if waiter.is_none() => Ok(self.describe(now, &sites, None, Which::Binding)),
            _ => {
                let constraints = self.describe(now, &sites, waiter, Which::InTheWay);
                Err(self.refusal(Reason::Limited, constraints))
            }
        };
        self.leave_no_trace(&sites, now);
        outcome
    }

    /// Grants a waiter if every counter admits it.
    pub(crate) fn place(&mut self, now: u64, ticket: u64, waiter: &Waiter, sites: &mut Sites) -> Placed {
        if self.locate(&waiter.request, false, now, sites).is_err() {
            // Never: caps are for newcomers.
            return Placed::Blocked { site: 0, until: None };
        }
        match self.ask(now, sites, Some(ticket)) {
            Answer::Fits => Placed::Granted(self.commit(now, &waiter.request, sites, waiter.secret, waiter.arrived)),
            Answer::Blocked { site, until } => Placed::Blocked { site, until },
            Answer::Never => Placed::Never,
        }
    }

    /// Whether a waiter can never be granted under the book in force.
    pub(crate) fn can_never_fit(&mut self, request: &Request, ticket: u64, now: u64) -> bool {
        let mut sites = Sites::new();
        let located = self.locate(request, false, now, &mut sites).is_ok();
        let never = located && self.ask(now, &sites, Some(ticket)) == Answer::Never;
        self.leave_no_trace(&sites, now);
        never
    }

    /// Finds every counter of a request, each once, and takes off what it can ride on.
    ///
    /// The caps are for newcomers, to whom they are an error. Who waits was within them when it came.
    #[inline]
    fn locate(&mut self, request: &Request, newcomer: bool, now: u64, sites: &mut Sites) -> Result<(), Constraint> {
        let lender = request.lend_from.and_then(|lease| self.lender(lease));
        for key in &request.targets {
            let shard = self.shards[0].placement.shard_of(key.scope());
            let at = self.position(shard);
            for depth in 1..=key.depth() {
                let shard = &mut *self.shards[at];
                let limit = if newcomer { shard.limits.max_counters } else { usize::MAX };
                let Some(counter) = shard.counter(key.prefix(depth), limit) else {
                    let cap = cap(key.prefix(depth), limit, shard.counters.len());
                    self.leave_no_trace(sites, now);
                    return Err(cap);
                };
                if sites.iter().any(|site| site.at == at && site.hold.counter == counter) {
                    continue;
                }
                let mut hold = Hold { counter, calls: 1, cost: request.cost.get(), lent_calls: 0, lent_cost: 0 };
                if let Some((home, slot)) = lender
                    && home == at
                    && let Some(lent) =
                        self.shards[at].leases[slot as usize].holds.iter().find(|lent| lent.counter == counter)
                {
                    hold.lent_calls = lent.calls.min(hold.calls);
                    hold.lent_cost = lent.cost.min(hold.cost);
                    hold.calls -= hold.lent_calls;
                    hold.cost -= hold.lent_cost;
                }
                sites.push(Site { at, hold });
            }
        }
        if newcomer && let Some(cap) = self.full(sites) {
            self.leave_no_trace(sites, now);
            return Err(cap);
        }
        Ok(())
    }

    /// The named cap of a shard that this request would exceed.
    fn full(&self, sites: &[Site]) -> Option<Constraint> {
        sites.iter().find_map(|site| {
            let shard = &self.shards[site.at];
            let counter = &shard.counters[site.hold.counter as usize];
            if counter.starts_a_log() && shard.log_entries >= shard.limits.max_log_entries {
                Some(cap(&counter.name, shard.limits.max_log_entries, shard.log_entries))
            } else if shard.leases.len() >= shard.limits.max_leases {
                Some(cap(&counter.name, shard.limits.max_leases, shard.leases.len()))
            } else {
                None
            }
        })
    }

    /// The lease that may lend, if it lives in this set and lends to nobody yet.
    fn lender(&self, lease: LeaseRef) -> Option<(usize, u32)> {
        let at = self.shards.iter().position(|shard| shard.index == lease.shard)?;
        let part = self.shards[at].leases.get(lease.slot as usize).filter(|part| part.fence == lease.fence)?;
        part.loan.is_none().then_some((at, lease.slot))
    }

    /// Asks every site, without effect.
    #[inline]
    fn ask(&mut self, now: u64, sites: &[Site], ticket: Option<u64>) -> Answer {
        let mut answer = Answer::Fits;
        for (index, site) in sites.iter().enumerate() {
            match (
                stand(&mut self.shards[site.at].counters[site.hold.counter as usize], &site.hold, ticket, now),
                answer,
            ) {
                (Standing::Never, _) => return Answer::Never,
                (Standing::Blocked(until), Answer::Fits) => answer = Answer::Blocked { site: index, until },
                _ => {}
            }
        }
        answer
    }

    /// The only place where usage grows. Every site has been asked, at this very instant.
    #[inline]
    fn commit(&mut self, now: u64, request: &Request, sites: &[Site], secret: Option<u128>, arrived: u64) -> Grant {
        let fence = self.next_number(now);
        let ends_at = request.lease_time.map(|time| now.saturating_add(nanos(time)));
        let waited = now - arrived;
        let lender = request.lend_from.and_then(|lease| self.lender(lease));
        let mut parts: SmallVec<[LeaseRef; 1]> = SmallVec::new();
        for &Site { at, .. } in sites {
            if parts.iter().any(|part| part.shard == self.shards[at].index) {
                continue;
            }
            let mut holds: SmallVec<[Hold; 3]> = SmallVec::new();
            let shard = &mut *self.shards[at];
            for Site { hold, .. } in sites.iter().filter(|site| site.at == at) {
                charge(shard, hold, now, waited);
                holds.push(*hold);
            }
            let lender = lender
                .filter(|(home, _)| *home == at && holds.iter().any(|hold| hold.lent_calls > 0 || hold.lent_cost > 0));
            let lender = lender.map(|(_, slot)| (slot, shard.leases[slot as usize].fence));
            let part = LeasePart { ends_at: ends_at.unwrap_or(0), lender, ..LeasePart::held(fence, holds, now) };
            let slot = shard.leases.insert(part) as u32;
            if let Some((lender, _)) = lender {
                shard.leases[lender as usize].loan = Some((slot, fence));
            }
            if let Some(end) = ends_at {
                shard.set_timer(end, Timer::Expiry { slot, fence });
            }
            parts.push(LeaseRef { shard: shard.index, slot, fence });
        }
        if let Some(first) = parts.first()
            && (secret.is_some() || parts.len() > 1)
        {
            let at = self.position(first.shard);
            self.shards[at].leases[first.slot as usize].identity =
                Some(Box::new(Identity { secret, parts: parts.clone() }));
            if let Some(secret) = secret {
                self.shards[at].ids.insert(secret, first.slot);
            }
        }
        let book_version = self.shards.first().map_or(0, |shard| shard.book.version());
        if let Some(first) = sites.first() {
            let metrics = &mut self.shards[first.at].metrics;
            metrics.granted += 1;
            if waited > 0 {
                metrics.waits.record(waited);
            }
        }
        Grant { parts, fence, book_version, ends_at, waited }
    }

    /// How long a request may wait, in nanoseconds: its own wish, cut by the shortest `max-wait` that binds it.
    fn max_wait(&self, sites: &[Site], request: &Request) -> u64 {
        let rules =
            sites.iter().filter_map(|site| self.shards[site.at].counters[site.hold.counter as usize].rule.as_ref());
        let shortest = rules.filter_map(|rule| rule.spec.limits.max_wait).min();
        let wait = match (request.max_wait, shortest) {
            (Some(wish), Some(rule)) => wish.min(rule),
            (Some(wait), None) | (None, Some(wait)) => wait,
            (None, None) => DEFAULT_MAX_WAIT,
        };
        nanos(wait.min(MAX_WAIT))
    }

    /// Lets go of counters that were only made to be asked.
    pub(crate) fn leave_no_trace(&mut self, sites: &[Site], now: u64) {
        for Site { at, hold } in sites {
            let shard = &mut *self.shards[*at];
            let counter = &shard.counters[hold.counter as usize];
            if counter.is_idle() && !counter.swept_later {
                if counter.last_used == 0 && counter.refused == 0 {
                    shard.drop_counter(hold.counter);
                } else {
                    shard.sweep_later(hold.counter, now);
                }
            }
        }
    }

    /// Names the constraints of every site.
    ///
    /// `waiter` is the ticket of who asks and the line it waits in, or would wait in.
    pub(crate) fn describe(
        &mut self,
        now: u64,
        sites: &[Site],
        waiter: Option<(u64, &Line)>,
        which: Which,
    ) -> Vec<Constraint> {
        let mut constraints = Vec::new();
        for Site { at, hold } in sites {
            describe_counter(
                &mut self.shards[*at].counters[hold.counter as usize],
                hold,
                waiter,
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

    fn refusal(&self, reason: Reason, blocked_on: Vec<Constraint>) -> Refusal {
        // All of them must clear, so the last one counts; where one cannot be said, nothing can.
        let retry_after = match reason {
            Reason::TooLarge | Reason::Unavailable => None,
            _ => blocked_on
                .iter()
                .map(|constraint| constraint.frees_in)
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().max()),
        };
        Refusal {
            reason,
            retry_after,
            blocked_on,
            book_version: self.shards.first().map_or(0, |shard| shard.book.version()),
        }
    }
}

/// Charges one counter for a grant.
#[inline]
pub(crate) fn charge(shard: &mut Shard, hold: &Hold, now: u64, waited: u64) {
    let counter = &mut shard.counters[hold.counter as usize];
    counter.calls += u64::from(hold.calls);
    counter.cost += u64::from(hold.cost);
    counter.granted += 1;
    counter.last_used = now;
    if waited > 0 {
        counter.waits.get_or_insert_default().record(waited);
    }
    if let Some(rule) = counter.rule.take() {
        let rates = &rule.spec.limits.rates;
        for rate in rates {
            counter.start(rate, now, units(rate.counts, hold.calls, hold.cost));
        }
        let logs = !rates.is_empty();
        counter.rule = Some(rule);
        if logs {
            shard.book_log(hold.counter);
        }
    }
}

/// Names the constraints of one counter.
fn describe_counter(
    counter: &mut Counter,
    hold: &Hold,
    waiter: Option<(u64, &Line)>,
    now: u64,
    which: Which,
    into: &mut Vec<Constraint>,
) {
    let Some(rule) = counter.rule.clone() else { return };
    let name = counter.name.to_string();
    let constraint = |kind, limit, used| Constraint {
        kind,
        counter: name.clone(),
        pattern: Some(rule.pattern.clone()),
        limit,
        used,
        frees_in: None,
        estimated: false,
        rate: None,
    };
    let limits = &rule.spec.limits;
    let mut named = Vec::new();
    if let Some(Concurrency { limit, counts }) = limits.concurrency {
        let need = units(counts, hold.calls, hold.cost);
        let whole = units(counts, hold.calls + hold.lent_calls, hold.cost.saturating_add(hold.lent_cost));
        let held = counter.held(counts);
        let blocks = need > 0 && held + u64::from(need) > u64::from(limit);
        let kind = if limit == 0 { ConstraintKind::Closed } else { ConstraintKind::Concurrency };
        let mut constraint = constraint(kind, u64::from(limit), held);
        if blocks && limit > 0 {
            constraint.frees_in = Some(estimate(counter, u64::from(limit)));
            constraint.estimated = true;
        }
        named.push((constraint, blocks, need > 0 && limit > 0 && whole > limit));
    }
    for rate in &limits.rates {
        let need = units(rate.counts, hold.calls, hold.cost);
        let mut constraint = constraint(ConstraintKind::Rate, u64::from(rate.largest_cost()), 0);
        constraint.used = counter.rate_used(rate, now);
        constraint.rate = Some(rate.clone());
        let verdict = if need == 0 { RateVerdict::Fits } else { counter.ask(rate, now, need) };
        if let RateVerdict::NotUntil(at) = verdict {
            constraint.frees_in = Some(Duration::from_nanos(at.saturating_sub(now)));
        }
        named.push((constraint, matches!(verdict, RateVerdict::NotUntil(_)), verdict == RateVerdict::Never));
    }
    let needs = hold.calls > 0 || hold.cost > 0;
    let line = waiter.map(|(_, line)| line).filter(|line| counter.waitlist.get(line).is_some());
    let stopped = line.is_some() || counter.bars(waiter.map(|(ticket, _)| ticket));
    let blocked = named.iter().any(|(_, blocks, _)| *blocks);
    // Where a rate blocks, those who wait take what it frees first.
    let newcomer = waiter.is_none_or(|(ticket, _)| ticket == u64::MAX);
    let behind = newcomer && !counter.waitlist.is_empty();
    // What a rate frees, those who wait take first, each a unit at least.
    let rate = named.iter().filter_map(|(found, ..)| Some((found.frees_in?, found.rate.as_ref()?.spacing()))).max();
    if needs && (stopped && !blocked || behind && rate.is_some()) {
        let max_waiters = limits.max_waiters.unwrap_or(DEFAULT_MAX_WAITERS);
        let before = counter.waitlist.before(line, newcomer, now);
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
    let turns = 1 + counter.waitlist.len() as u64 / limit.max(1);
    Duration::from_nanos(counter.mean_hold.saturating_mul(turns).clamp(*ESTIMATE.start(), *ESTIMATE.end()))
}
