//! Acquire: find the counters, ask them all without effect, then commit in one place.
//!
//! [`ShardSet::place`] is the only way to a grant, for a newcomer and for a waiter that is looked at again. It locates
//! the counters of a request (*sites*), asks each, and either commits at all of them or says which one is in the way.
//! A newcomer then waits or is refused; nothing of the question stays behind.
//!
//! A batch asks for as many as it is content with, as one request of so many calls. Usage grows in [`crate::commit`].

use crate::counter::Counter;
use crate::describe::{Which, cap, full_waitlist, reason_of, too_many_kinds};
use crate::lease::{Hold, LeasePart};
use crate::leases::Leases;
use crate::lending::ride;
use crate::limits::{Counts, MAX_WAIT};
use crate::line::{Line, Waiter};
use crate::name::CounterKind;
use crate::planted::{self, Bug};
use crate::refusal::{Constraint, ConstraintKind, Reason, Refusal};
use crate::request::{DEFAULT_MAX_WAIT, Grant, Inline, Request, WaiterId};
use crate::shares::may_have;
use crate::standing::{Standing, free_or_lent, lacks, stand_in_time};
use crate::step::{Effect, ShardSet};
use crate::waiting::{Parking, Spot, Work};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// How many may wait at one counter when no rule says so.
pub(crate) const DEFAULT_MAX_WAITERS: u32 = 10_000;

/// One counter that a request needs, and what it needs there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// Where its shard stands in the set.
    pub(crate) at: usize,
    pub(crate) hold: Hold,
    /// Which of the request's inline keys it is of; [`RULED`]: none.
    own: u8,
    /// The part in this shard of the lease that the request names, by its slot: it lives, and may be lent to another.
    named: Option<u32>,
}

impl Site {
    /// Which of the request's inline keys it is of.
    pub(crate) fn inline(&self) -> Option<usize> {
        (self.own != RULED).then_some(usize::from(self.own))
    }

    /// The lease that the request names, as long as it lends to another.
    pub(crate) fn lent<'a>(&self, leases: &'a Leases) -> Option<&'a LeasePart> {
        free_or_lent(self.named.map(|slot| &leases[slot])).1
    }
}

/// A site that is governed by rules.
const RULED: u8 = u8::MAX;

pub(crate) type Sites = SmallVec<[Site; 3]>;

/// The numbers that a request has brought along for a site.
pub(crate) fn own<'a>(inline: &'a [Arc<Inline>], site: &Site) -> Option<&'a Arc<Inline>> {
    site.inline().and_then(|index| inline.get(index))
}

/// Who asks: its ticket, unless it is a newcomer, and the counters that the lease is on which it names.
pub(crate) type Asker<'a> = (Option<u64>, &'a [Spot]);

/// How all counters together stand towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
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
    /// It fits, and would have to be written down, which cannot be done for now.
    Unwritable,
}

/// Why the counters of a request were not found.
#[derive(Debug)]
pub(crate) enum Lost {
    /// A named cap is full.
    Cap(Constraint),
    /// One of them lies in a shard that is not at hand.
    Elsewhere,
}

/// What became of a newcomer.
#[derive(Debug)]
pub(crate) enum Arrival {
    Granted(Grant),
    Waiting(WaiterId),
    Refused(Refusal),
    /// Not all its shards are at hand; nothing was done.
    Elsewhere,
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn units(counts: Counts, (calls, cost): (u32, u32)) -> u32 {
    match counts {
        Counts::Calls => calls,
        Counts::Cost => cost,
    }
}

impl ShardSet<'_, '_> {
    /// A request arrives.
    pub(crate) fn arrive(
        &mut self,
        now: u64,
        request: &Request,
        wait: bool,
        secrets: &[u128],
        effects: &mut Vec<Effect>,
    ) -> Arrival {
        if self.shards.iter().any(|shard| shard.closed) {
            return Arrival::Refused(self.refuse(Reason::Unavailable, Vec::new()));
        }
        let mut sites = Sites::new();
        match self.locate(request, true, now, &mut sites) {
            Err(Lost::Elsewhere) => return Arrival::Elsewhere,
            Err(Lost::Cap(cap)) => return Arrival::Refused(self.refuse(Reason::Overloaded, vec![cap])),
            Ok(()) => {}
        }
        let Some(answer) = self.ask_newcomer(now, &sites, request) else { return Arrival::Elsewhere };
        let line = self.line_of(request, &sites);
        let (site, until) = match (answer, line) {
            (Answer::Never, _) => {
                let constraints = self.describe(now, &sites, request, None, Which::TooLarge);
                self.leave_no_trace(&sites, now);
                return Arrival::Refused(self.refuse(Reason::TooLarge, constraints));
            }
            // Nobody overtakes in a line.
            (_, Some(line)) if !(planted::is(Bug::LineOvertaken) && answer == Answer::Fits) => (line.site, None),
            (Answer::Blocked { site, until }, _) => (site, until),
            (Answer::Fits, _) if self.is_unwritable(&sites, request, !secrets.is_empty()) => {
                self.leave_no_trace(&sites, now);
                return Arrival::Refused(self.refuse(Reason::Unavailable, Vec::new()));
            }
            (Answer::Fits, _) => {
                let grant = self.commit(now, request, &mut sites, secrets, (now, None));
                let (units, mut work) = (1 + grant.more.len() as u32, Work::new());
                self.count_passes(&sites, request, None, units, now, (effects, &mut work));
                self.work(&mut work, now, effects);
                return Arrival::Granted(grant);
            }
        };
        let max_wait = self.max_wait(&sites, request);
        let Site { at, hold, .. } = sites[site];
        let refusal = if !wait || max_wait == 0 || self.is_draining(&sites) {
            Some((Reason::Limited, None))
        } else {
            self.no_place(request, &sites[site])
        };
        if let Some((reason, full)) = refusal {
            let counter = &mut self.shards[at].counters[hold.counter];
            counter.refused = counter.refused.saturating_add(1);
            if planted::is(Bug::RefusalChargesRate)
                && let Some(rule) = counter.rule.clone()
            {
                for rate in &rule.spec.limits.rates {
                    counter.histories.start(rate, false, now, hold.calls);
                }
            }
            let waiter = line.map(|line| (u64::MAX, line.parking));
            let which = match &full {
                Some(full) if full.kind == ConstraintKind::Waitlist => Which::Full(self.spot(&sites[site])),
                _ => Which::InTheWay,
            };
            let mut constraints = self.describe(now, &sites, request, waiter, which);
            constraints.extend(full);
            self.leave_no_trace(&sites, now);
            let reason = if reason == Reason::Limited { reason_of(&constraints) } else { reason };
            return Arrival::Refused(self.refuse(reason, constraints));
        }
        self.shards[at].metrics.waited += 1;
        let ticket = self.next_number(now);
        let waiter = Waiter {
            request: request.clone(),
            secrets: SmallVec::from_slice(secrets),
            arrived: now,
            deadline: now.saturating_add(max_wait),
        };
        let id = self.join(now, ticket, waiter, line.map(|line| line.number), sites[site], until);
        self.leave_no_trace(&sites, now);
        if self.leads(&sites[site], id) {
            self.serve(at, hold.counter, now, effects);
        }
        Arrival::Waiting(id)
    }

    /// Whether an operator lets nobody new in.
    fn is_draining(&self, sites: &[Site]) -> bool {
        sites.iter().any(|site| {
            let rare = &self.shards[site.at].counters[site.hold.counter].rare;
            rare.as_ref().is_some_and(|rare| rare.hand.draining && site.hold.takes_any())
        })
    }

    /// Why nobody more can wait at a counter, and what is full.
    fn no_place(&self, request: &Request, site: &Site) -> Option<(Reason, Option<Constraint>)> {
        let counter = &self.shards[site.at].counters[site.hold.counter];
        let limits = Counter::limits(counter.rule.as_ref(), own(&request.inline, site));
        let max_waiters = limits.and_then(|limits| limits.max_waiters).unwrap_or(DEFAULT_MAX_WAITERS);
        let origin = self.at(self.shards[0].placement.home_of(request)).unwrap_or(site.at);
        let origin = &self.shards[origin];
        let caller = request.caller.0;
        if max_waiters == 0 {
            return Some((Reason::Limited, None));
        }
        if counter.waiting() >= max_waiters as usize {
            return Some((Reason::Overloaded, Some(full_waitlist(counter, limits, max_waiters))));
        }
        let (most, own, more) =
            (origin.limits.max_waiters, origin.use_of(caller).waiters, request.count.get() as usize);
        let room = may_have(most, origin.waiting, request.caller, own, more);
        (!room).then(|| (Reason::Overloaded, Some(cap(&counter.name, most, origin.waiting))))
    }

    /// The decision that a newcomer would get that does not wait, with no effect: what binds it, or why not. `None`: not
    /// all its shards are at hand.
    pub(crate) fn check(&mut self, now: u64, request: &Request) -> Option<Result<Vec<Constraint>, Refusal>> {
        if self.shards.iter().any(|shard| shard.closed) {
            return Some(Err(self.refusal(Reason::Unavailable, Vec::new())));
        }
        let mut sites = Sites::new();
        match self.locate(request, true, now, &mut sites) {
            Err(Lost::Elsewhere) => return None,
            Err(Lost::Cap(cap)) => return Some(Err(self.refusal(Reason::Overloaded, vec![cap]))),
            Ok(()) => {}
        }
        let line = self.line_of(request, &sites);
        let waiter = line.map(|line| (u64::MAX, line.parking));
        let outcome = match self.ask_newcomer(now, &sites, request)? {
            Answer::Never => {
                let constraints = self.describe(now, &sites, request, waiter, Which::TooLarge);
                Err(self.refusal(Reason::TooLarge, constraints))
            }
            Answer::Fits if waiter.is_none() && self.is_unwritable(&sites, request, false) => {
                Err(self.refusal(Reason::Unavailable, Vec::new()))
            }
            Answer::Fits if waiter.is_none() => Ok(self.describe(now, &sites, request, None, Which::Binding)),
            _ => {
                let constraints = self.describe(now, &sites, request, waiter, Which::InTheWay);
                Err(self.refusal(reason_of(&constraints), constraints))
            }
        };
        self.leave_no_trace(&sites, now);
        Some(outcome)
    }

    /// Grants a waiter if every counter admits it. All its shards are at hand.
    pub(crate) fn place(
        &mut self,
        now: u64,
        (ticket, parking): (u64, Parking),
        (waiter, line): (&Waiter, &Line),
        sites: &mut Sites,
    ) -> Placed {
        let request = &waiter.request;
        if self.locate(request, false, now, sites).is_err() {
            // Never: caps are for newcomers, and the caller has looked for its shards.
            return Placed::Blocked { site: 0, until: None };
        }
        match self.ask(now, sites, request, (Some(ticket), line.on())) {
            Answer::Fits if self.is_unwritable(sites, request, !waiter.secrets.is_empty()) => Placed::Unwritable,
            Answer::Fits => {
                let since = (waiter.arrived, Some(parking));
                Placed::Granted(self.commit(now, request, sites, &waiter.secrets, since))
            }
            Answer::Blocked { site, until } => Placed::Blocked { site, until },
            Answer::Never => Placed::Never,
        }
    }

    /// The counter that is in the way of a waiter, and when time alone may clear it; none: nothing is. What was made for the question is
    /// among the sites, for [`Self::leave_no_trace`].
    pub(crate) fn in_the_way(
        &mut self,
        now: u64,
        ticket: u64,
        (request, line): (&Request, &Line),
        sites: &mut Sites,
    ) -> Option<(Site, Option<u64>)> {
        self.locate(request, false, now, sites).ok()?;
        match self.ask(now, sites, request, (Some(ticket), line.on())) {
            Answer::Blocked { site, until } => Some((sites[site], until)),
            Answer::Fits | Answer::Never => None,
        }
    }

    /// Whether a waiter can never be granted under the book in force.
    pub(crate) fn can_never_fit(&mut self, request: &Request, ticket: u64, now: u64) -> bool {
        let mut sites = Sites::new();
        let located = self.locate(request, false, now, &mut sites).is_ok();
        let never = located && self.ask(now, &sites, request, (Some(ticket), &[])) == Answer::Never;
        self.leave_no_trace(&sites, now);
        never
    }

    /// Finds every counter of a request, each once, and takes off what it can ride on.
    ///
    /// The caps are for newcomers, to whom they are an error. Who waits was within them when it came.
    #[inline]
    fn locate(&mut self, request: &Request, newcomer: bool, now: u64, sites: &mut Sites) -> Result<(), Lost> {
        let found = self.find_sites(request, newcomer, sites).and_then(|()| {
            if newcomer && let Some(cap) = self.full(sites, request, now) { Err(Lost::Cap(cap)) } else { Ok(()) }
        });
        if found.is_err() {
            self.leave_no_trace(sites, now);
        }
        found
    }

    /// Finds the counters of a request to show them, whatever caps say.
    pub(crate) fn locate_for_show(&mut self, request: &Request, sites: &mut Sites) {
        // Its shards are at hand: the caller has asked before.
        let _ = self.find_sites(request, false, sites);
    }

    fn find_sites(&mut self, request: &Request, newcomer: bool, sites: &mut Sites) -> Result<(), Lost> {
        for key in &request.targets {
            let shard = self.shards[0].placement.shard_of(key.scope());
            let at = self.position(shard);
            for depth in 1..=key.depth() {
                let leaf = depth == key.depth();
                let name = key.prefix(depth);
                let counter = self.site(request, (at, name, CounterKind::Named), newcomer, leaf, sites)?;
                let rare = &self.shards[at].counters[counter].rare;
                if let Some(rare) = rare.as_ref().filter(|rare| !rare.totals.is_empty())
                    && (newcomer || !planted::is(Bug::PoolForgottenByWaiters))
                {
                    for rule in rare.totals.clone() {
                        let shard = self.shards[0].placement.shard_of(rule.pattern.scope());
                        let at = self.at(shard).ok_or(Lost::Elsewhere)?;
                        let pool = (at, rule.pattern.as_str(), CounterKind::Pool);
                        self.site(request, pool, newcomer, false, sites)?;
                    }
                }
            }
        }
        for (index, inline) in request.inline.iter().enumerate() {
            let at = self.position(self.shards[0].placement.shard_of(inline.name.scope()));
            let place = (at, inline.name.as_str(), CounterKind::Inline);
            self.site(request, place, newcomer, true, sites)?;
            if let Some(site) = sites.last_mut() {
                site.own = index as u8;
            }
        }
        Ok(())
    }

    /// Adds one counter to the sites, unless it is among them, and answers which.
    #[inline]
    fn site(
        &mut self,
        request: &Request,
        (at, name, kind): (usize, &str, CounterKind),
        newcomer: bool,
        leaf: bool,
        sites: &mut Sites,
    ) -> Result<u32, Lost> {
        let shard = &mut *self.shards[at];
        let limit = if newcomer { shard.limits.max_counters } else { usize::MAX };
        let Some(counter) = shard.counter(name, kind, request.caller.0, limit) else {
            return Err(Lost::Cap(cap(name, limit, shard.counters.len())));
        };
        if let Some(site) = sites.iter_mut().find(|site| site.at == at && site.hold.counter == counter) {
            site.hold.leaf |= leaf;
            return Ok(counter);
        }
        sites.push(self.site_at(at, counter, request, (leaf, RULED)));
        Ok(counter)
    }

    /// One counter that a request needs, and what it needs there besides what it rides on.
    #[inline]
    fn site_at(&self, at: usize, counter: u32, request: &Request, (leaf, own): (bool, u8)) -> Site {
        let ((calls, cost), named) = (request.need(), self.named_in(at, request));
        let mut hold = Hold { leaf, ..Hold::new(counter, calls, cost) };
        if let (Some(free), _) = free_or_lent(named.map(|slot| &self.shards[at].leases[slot])) {
            ride(free, &mut hold);
        }
        Site { at, hold, own, named }
    }

    /// The sites of a request whose shards are in the set and whose counters exist.
    pub(crate) fn sites_at_hand(&self, request: &Request) -> Sites {
        let mut sites = Sites::new();
        let mut add = |scope: &str, name: &str, own: u8| {
            let at = self.at(self.shards[0].placement.shard_of(scope))?;
            let counter = self.shards[at].find(name)?;
            if !sites.iter().any(|site: &Site| site.at == at && site.hold.counter == counter) {
                sites.push(self.site_at(at, counter, request, (false, own)));
            }
            self.shards[at].counters[counter].rare.as_ref()
        };
        for key in &request.targets {
            for depth in 1..=key.depth() {
                let rare = add(key.scope(), key.prefix(depth), RULED);
                for rule in rare.into_iter().flat_map(|rare| &rare.totals) {
                    add(rule.pattern.scope(), rule.pattern.as_str(), RULED);
                }
            }
        }
        for (index, inline) in request.inline.iter().enumerate() {
            add(inline.name.scope(), inline.name.as_str(), index as u8);
        }
        sites
    }

    /// The named cap that this request would exceed.
    pub(crate) fn full(&self, sites: &[Site], request: &Request, now: u64) -> Option<Constraint> {
        sites.iter().find_map(|site| {
            let shard = &self.shards[site.at];
            let counter = &shard.counters[site.hold.counter];
            let (caller, count) = (request.caller.0, request.least.get() as usize);
            let own = own(&request.inline, site);
            let leases = shard.leases.len();
            // Who rides on a lease and on its start starts nothing here.
            let starts = site.hold.starts() != (0, 0);
            if starts && counter.starts_a_log(own) && !shard.has_room_for_log(counter.caller) {
                Some(cap(&counter.name, shard.limits.max_log_entries, shard.log_entries))
            } else if !may_have(shard.limits.max_leases, leases, request.caller, shard.use_of(caller).leases, count) {
                Some(cap(&counter.name, shard.limits.max_leases, leases))
            } else {
                let until = own
                    .filter(|_| starts && counter.rule.is_none())
                    .and_then(|own| counter.histories.has_room_at(&own.limits, now));
                until.map(|until| too_many_kinds(counter, now, until))
            }
        })
    }

    /// Whether a grant would have to be written down, as that of a timed lease always is, and cannot be.
    fn is_unwritable(&self, sites: &[Site], request: &Request, timed: bool) -> bool {
        let at_site = |site: &Site| {
            let (shard, starts) = (&*self.shards[site.at], site.hold.starts());
            shard.is_unwritable()
                && (timed
                    || starts != (0, 0) && shard.would_record(site.hold.counter, own(&request.inline, site), starts))
        };
        sites.iter().any(at_site)
    }

    /// Whether a barrier at a site stops who has this ticket (none yet: a newcomer), and whose request holds a lease on these counters.
    #[inline]
    pub(crate) fn is_barred(&self, site: &Site, (ticket, on): Asker<'_>) -> bool {
        self.shards[site.at].counters[site.hold.counter].bars(ticket, on)
    }

    /// Whether what is free at a site is owed to somebody who waits there and lacks more than that; and when patience ends. Not for who
    /// names what the other waits for.
    pub(crate) fn is_held_back(&mut self, site: &Site, request: &Request, now: u64) -> Option<Option<u64>> {
        if site.hold.starts() == (0, 0) {
            return None;
        }
        let leases = &self.shards[site.at].leases;
        if site.named.is_some_and(|named| leases[named].is_on(site.hold.counter)) {
            return None;
        }
        let shard = &mut *self.shards[site.at];
        let counter = &mut shard.counters[site.hold.counter];
        let counts_cost = counter.counts_cost(own(&request.inline, site));
        let (first, until) = counter.waitlist()?.owed(request.rank(), counts_cost, now)?;
        let first = first.clone();
        lacks(counter, (shard.index, site.hold.counter), &shard.leases, &first, now).then_some(until)
    }

    /// Asks every site for a newcomer. `None`, and no trace is left: it does not fit, and a part of the lease that it names is not at
    /// hand, for which somebody may wait who is in its way.
    fn ask_newcomer(&mut self, now: u64, sites: &Sites, request: &Request) -> Option<Answer> {
        let on = self.named_on(request);
        let answer = self.ask(now, sites, request, (None, &on));
        if matches!(answer, Answer::Blocked { .. }) && self.names_others(request) {
            self.leave_no_trace(sites, now);
            return None;
        }
        Some(answer)
    }

    /// Asks every site, without effect. Of several that are in the way it tells the one that will be for the longest, as far as can be
    /// told: one that is closed or waits for a loan to come back, then that which time opens last; else the first.
    #[inline]
    pub(crate) fn ask(&mut self, now: u64, sites: &[Site], request: &Request, asks: Asker<'_>) -> Answer {
        let mut answer = Answer::Fits;
        let mut longest = (false, None);
        for (index, site) in sites.iter().enumerate() {
            let barred = self.is_barred(site, asks);
            let (inline, shard) = (own(&request.inline, site), &mut *self.shards[site.at]);
            let lent = site.lent(&shard.leases);
            let counter = &mut shard.counters[site.hold.counter];
            match (stand_in_time(counter, &site.hold, inline, (asks.0, barred), lent, now), answer) {
                (Standing::Never, _) => return Answer::Never,
                (standing @ (Standing::Blocked(_) | Standing::Lent), _) => {
                    let lasting = match standing {
                        Standing::Blocked(until) => (counter.is_closed(inline), until),
                        _ => (true, None),
                    };
                    if answer == Answer::Fits || lasting > longest {
                        longest = lasting;
                        answer = Answer::Blocked { site: index, until: lasting.1 };
                    }
                }
                (Standing::Fits, Answer::Fits) if counter.waiting() > 0 => {
                    if let Some(until) = self.is_held_back(site, request, now) {
                        answer = Answer::Blocked { site: index, until };
                    }
                }
                _ => {}
            }
        }
        answer
    }

    /// How long a request may wait, in nanoseconds: its own wish, cut by the shortest `max-wait` that binds it.
    fn max_wait(&self, sites: &[Site], request: &Request) -> u64 {
        let limits = sites.iter().filter_map(|site| {
            let counter = &self.shards[site.at].counters[site.hold.counter];
            Counter::limits(counter.rule.as_ref(), own(&request.inline, site))
        });
        let shortest = limits.filter_map(|limits| limits.max_wait).min();
        let wait = match (request.max_wait, shortest) {
            (Some(wish), Some(rule)) => wish.min(rule),
            (Some(wait), None) | (None, Some(wait)) => wait,
            (None, None) => DEFAULT_MAX_WAIT,
        };
        nanos(wait.min(MAX_WAIT))
    }

    /// Lets go of counters that were only made to be asked.
    pub(crate) fn leave_no_trace(&mut self, sites: &[Site], now: u64) {
        for Site { at, hold, .. } in sites {
            let shard = &mut *self.shards[*at];
            let counter = &shard.counters[hold.counter];
            if counter.is_idle() && !counter.swept_later {
                if counter.last_used == 0 && counter.refused == 0 && counter.history_ends_at() <= now {
                    shard.drop_counter(hold.counter);
                } else {
                    shard.sweep_later(hold.counter, now);
                }
            }
        }
    }
}
