//! Commit: the one place where usage grows by a request. Every counter has been asked, at this very instant.
//!
//! Nobody is asked where it grows otherwise: a restart puts back what was granted ([`crate::restore`]), and a new pool counts what is
//! held ([`crate::adopt`]).
//!
//! A batch is committed lease by lease: first those it is content with, which fit together, then more as long as more
//! fit and nobody else waits for them.

use crate::acquire::{Answer, Site, Sites, nanos, own};
use crate::counter::Counter;
use crate::journal::{GrantedLease, Record};
use crate::lease::{Hold, LeasePart, Rest};
use crate::limits::Counts;
use crate::name::CounterKind;
use crate::request::{Grant, Inline, LeaseRef, Request};
use crate::shard::{Shard, Timer};
use crate::step::ShardSet;
use crate::waiting::Parking;
use smallvec::SmallVec;
use std::sync::Arc;

impl ShardSet<'_, '_> {
    /// Grants a request that fits: a lease, or as many as fit of a batch. `since` is when it came, and where the line is
    /// parked in which it has waited.
    ///
    /// More than a batch is content with are granted only where nobody else waits.
    #[inline]
    pub(crate) fn commit(
        &mut self,
        now: u64,
        request: &Request,
        sites: &mut Sites,
        secrets: &[u128],
        since: (u64, Option<Parking>),
    ) -> Grant {
        let (arrived, parking) = since;
        if request.count.get() > 1 {
            return self.commit_batch(now, request, sites, secrets, (arrived, parking));
        }
        self.commit_one(now, request, sites, secrets.first().copied(), arrived)
    }

    #[cold]
    fn commit_batch(
        &mut self,
        now: u64,
        request: &Request,
        sites: &mut Sites,
        secrets: &[u128],
        (arrived, parking): (u64, Option<Parking>),
    ) -> Grant {
        for site in sites.iter_mut() {
            site.hold = Hold { leaf: site.hold.leaf, ..Hold::new(site.hold.counter, 1, request.cost.get()) };
        }
        let mut first = self.commit_one(now, request, sites, secrets.first().copied(), arrived);
        let alone = sites.iter().all(|site| {
            let shard = &self.shards[site.at];
            let counter = &shard.counters[site.hold.counter];
            counter.waiting() == usize::from(parking.is_some_and(|parking| parking.spot == self.spot(site)))
        });
        for unit in 1..request.count.get() {
            let more = unit < request.least.get()
                || alone
                    && self.full(sites, request, now).is_none()
                    && self.ask(now, sites, request, (None, &[])) == Answer::Fits;
            if !more {
                break;
            }
            let secret = secrets.get(unit as usize).copied();
            first.more.push(self.commit_one(now, request, sites, secret, arrived));
        }
        first
    }

    /// The only place where it does. Every site has been asked, at this very instant.
    #[inline]
    fn commit_one(&mut self, now: u64, request: &Request, sites: &[Site], secret: Option<u128>, arrived: u64) -> Grant {
        let fence = self.next_number(now);
        let ends_at = request.lease_time.map(|time| now.saturating_add(nanos(time)));
        let waited = now - arrived;
        let mut parts: SmallVec<[LeaseRef; 1]> = SmallVec::new();
        for &Site { at, .. } in sites {
            if parts.iter().any(|part| part.shard == self.shards[at].index) {
                continue;
            }
            let mut part = LeasePart::held(fence, now, request.caller.0);
            let named = self.named_in(at, request);
            let shard = &mut *self.shards[at];
            for site in sites.iter().filter(|site| site.at == at) {
                let hold = {
                    let timed = secret.is_some();
                    charge(shard, &site.hold, own(&request.inline, site), (now, waited), timed, &mut part.rest)
                };
                part.holds.push(hold);
            }
            let lender = named.filter(|_| part.holds.iter().any(Hold::rides));
            let lender = lender.map(|slot| (slot, shard.leases[slot].fence));
            part.set_lender(lender);
            part.ends_at = ends_at.unwrap_or(0);
            shard.count_lease(request.caller.0);
            let slot = shard.leases.insert(part);
            if let Some((lender, _)) = lender {
                shard.lend(lender, slot);
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
            let shard = &mut *self.shards[at];
            let rest = shard.leases[first.slot].rest.get_or_insert_default();
            rest.secret = secret;
            if parts.len() > 1 {
                rest.parts = parts.clone();
            }
            if let Some(secret) = secret {
                shard.ids.insert(secret, first.slot);
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
        if let (Some(secret), Some(ends_at), Some(first)) = (secret, ends_at, parts.first()) {
            let at = self.position(first.shard);
            self.shards[at].record(|| {
                Record::Granted(Box::new(GrantedLease {
                    secret,
                    shard: first.shard,
                    fence,
                    request: request.clone(),
                    settled: None,
                    granted_at: now,
                    ends_at,
                }))
            });
        }
        let recorded = self.shards.iter().any(|shard| shard.has_records());
        Grant { parts, fence, book_version, ends_at, waited, more: Vec::new(), recorded }
    }
}

/// Charges one counter for a grant, and answers what is held there. What may be settled later is noted in `rest`. Starts of
/// timed leases are recorded one by one.
#[inline]
pub(crate) fn charge(
    shard: &mut Shard,
    hold: &Hold,
    own: Option<&Arc<Inline>>,
    (now, waited): (u64, u64),
    timed: bool,
    rest: &mut Option<Box<Rest>>,
) -> Hold {
    let mut hold = *hold;
    let counter = &mut shard.counters[hold.counter];
    if let Some(rare) = &mut counter.rare {
        hold.shadowed = rare.shadow.grant(&hold, (counter.calls, counter.cost), now);
        shard.metrics.shadow_refused += u64::from(hold.shadowed);
    }
    counter.hold(&hold, now);
    counter.granted += 1;
    if waited > 0 {
        counter.queue().waits.record(waited);
    }
    let rule = counter.rule.take();
    let mut logs = counter.rare.is_some();
    if let Some(inline) = own.filter(|own| own.limits.rates.iter().any(|rate| rate.counts == Counts::Cost)) {
        rest.get_or_insert_default().inline.push((hold.counter, Arc::clone(inline)));
    }
    let beside = counter.kind == CounterKind::Inline;
    if let Some(limits) = Counter::limits(rule.as_ref(), own).filter(|limits| beside || !limits.rates.is_empty()) {
        logs |= counter.histories.start_all(limits, beside, now, hold.starts(), |start| {
            rest.get_or_insert_default().starts.push((hold.counter, start));
        });
    }
    counter.rule = rule;
    if logs {
        shard.book_log(hold.counter);
        if shard.journal.is_some() {
            shard.record_starts(hold.counter, own, hold.starts(), now, timed);
        }
    }
    hold
}
