//! The short way: most requests name one scope, find room, and end before anybody has to wait for them.
//!
//! Such a grant needs no list of shards, no effects and no refusal, so it is decided here with the same questions
//! ([`stand`]) and the same bookings ([`charge`]) as everywhere else, and nothing around them. Whatever is out of the
//! ordinary (a counter that is not there yet, a limit in the way, a timer that is due, a cap) is no answer: the caller
//! then goes the whole way, by [`crate::ShardSet::step`], which decides the same from the start.

use crate::commit::charge;
use crate::lease::Hold;
use crate::name::{MAX_DEPTH, ScopedKey};
use crate::request::{Caller, Grant, LeaseRef, MAX_WEIGHT, Request};
use crate::shard::{Shard, hold_is_measured};
use crate::standing::{Standing, stand};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// What was granted the short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lease: a single part.
    pub lease: LeaseRef,
    /// The fencing number.
    pub fence: u64,
    /// The version of the rule book that decided.
    pub book_version: u64,
}

impl From<Taken> for Grant {
    fn from(taken: Taken) -> Self {
        Self {
            parts: SmallVec::from_buf([taken.lease]),
            fence: taken.fence,
            book_version: taken.book_version,
            ends_at: None,
            waited: 0,
            more: Vec::new(),
            recorded: false,
        }
    }
}

impl Request {
    /// The key and cost of a valid request that can go the short way: one scope, no loan, no end, no batch.
    #[inline]
    #[must_use]
    pub fn direct(&self) -> Option<(&ScopedKey, NonZeroU32)> {
        match self.targets.as_slice() {
            [key]
                if self.inline.is_empty()
                    && self.lend_from.is_empty()
                    && self.lease_time.is_none()
                    && self.idempotency_key.is_none()
                    && self.count == NonZeroU32::MIN
                    && self.least == NonZeroU32::MIN
                    && self.weight.get() <= MAX_WEIGHT =>
            {
                Some((key, self.cost))
            }
            _ => None,
        }
    }
}

impl Shard {
    /// Grants a held lease on the spot if nothing is out of the ordinary. `scope_hash` is [`crate::Placement::hash`] of
    /// the key's scope, which its caller has made to find this shard.
    #[inline]
    pub fn take(
        &mut self,
        now: u64,
        key: &ScopedKey,
        scope_hash: u64,
        cost: NonZeroU32,
        caller: Caller,
    ) -> Option<Taken> {
        let now = now.max(self.now);
        // From half of a cap on, callers share it out.
        if self.closed
            || self.next_due <= now
            || self.leases.len() >= self.limits.max_leases / 2
            || self.is_unwritable()
        {
            return None;
        }
        let hold = |counter, leaf| Hold { leaf, ..Hold::new(counter, 1, cost.get()) };
        let mut counters = [0; MAX_DEPTH];
        let depth = key.depth();
        for (at, found) in counters[..depth].iter_mut().enumerate() {
            let name = key.prefix(at + 1);
            let hash = if at == 0 { scope_hash } else { self.placement.hash(name) };
            *found = self.present(hash, name)?;
            let counter = &mut self.counters[*found];
            if counter.waiting() > 0
                || counter.rare.is_some()
                || self.log_entries >= self.limits.max_log_entries / 2 && counter.starts_a_log(None)
                || counter.bars(None, &[])
                || stand(counter, &hold(0, at + 1 == depth), None, (None, false), now) != Standing::Fits
            {
                return None;
            }
        }
        self.now = now;
        let fence = now.max(self.sequence + 1);
        self.sequence = fence;
        self.metrics.granted += 1;
        self.count_lease(caller.0);
        let book_version = self.book.version();
        let slot = self.leases.open(fence, now, caller.0);
        let mut rest = None;
        for (at, counter) in counters[..depth].iter().enumerate() {
            let hold = charge(self, &hold(*counter, at + 1 == depth), None, (now, 0), false, &mut rest);
            self.leases[slot].holds.push(hold);
        }
        if rest.is_some() {
            self.leases[slot].rest = rest;
        }
        Some(Taken { lease: LeaseRef { shard: self.index, slot, fence }, fence, book_version })
    }

    /// Ends a lease part on the spot if nobody waits and nothing rides on it; false: not done, go the whole way.
    ///
    /// Asks for the time only where it measures how long the lease was held; what is due by then is left to the next step.
    #[inline]
    pub fn give_back(&mut self, lease: LeaseRef, now: impl FnOnce() -> u64) -> bool {
        if self.parked > 0 {
            return false;
        }
        let part = match self.leases.get(lease.slot) {
            Some(part) if part.fence == lease.fence && part.is_plain() => part,
            _ => return false,
        };
        let (caller, holds) = (part.caller, part.holds.len());
        let held_for = hold_is_measured(lease.fence).then(|| now().saturating_sub(part.granted_at));
        let now = self.now;
        for at in 0..holds {
            let hold = self.leases[lease.slot].holds[at];
            let counter = &mut self.counters[hold.counter];
            counter.give_back(&hold, now);
            if let Some(held_for) = held_for {
                counter.held_for(held_for);
            }
            self.sweep_later(hold.counter, now);
        }
        self.uncount_lease(caller);
        self.leases.close(lease.slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::{Change, Precondition, RuleBook, RuleSpec};
    use crate::limits::{Concurrency, Limits};
    use crate::placement::Placement;
    use crate::shard::ShardLimits;
    use crate::step::{Input, Output, ShardSet};
    use std::num::NonZeroU16;
    use std::time::Duration;

    const NOW: u64 = 1_000_000_000_000;

    fn request() -> Request {
        Request::new("s/a".parse().unwrap())
    }

    /// A shard where `s/a` may be held twice, and was used before.
    fn shard(limits: ShardLimits, rates: &[&str]) -> Shard {
        let mut shard = Shard::new(0, Placement::fixed(1), limits);
        let limits = Limits {
            concurrency: Some(Concurrency::calls(2)),
            rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
            ..Limits::default()
        };
        let spec = RuleSpec { limits, ..RuleSpec::default() };
        let put = Change::Put { pattern: "s/a".parse().unwrap(), spec, when: Precondition::None };
        let book = RuleBook::default().apply(&[put], 0).unwrap().into();
        step(&mut shard, Input::SetBook { book });
        let lease = whole(&mut shard, &request());
        step(&mut shard, Input::Release { lease, outcome: crate::Outcome::Ok });
        shard
    }

    fn step(shard: &mut Shard, input: Input<'_>) -> Output {
        ShardSet::new(&mut [shard]).step(NOW, input, &mut Vec::new())
    }

    /// The whole way.
    fn whole(shard: &mut Shard, request: &Request) -> LeaseRef {
        match step(shard, Input::Acquire { request, wait: false, secrets: &[] }) {
            Output::Granted(grant) => grant.parts[0],
            other => panic!("{other:?}"),
        }
    }

    fn take(shard: &mut Shard, now: u64, caller: Caller) -> Option<Taken> {
        let request = request();
        let (key, cost) = request.direct().unwrap();
        let hash = shard.placement.hash(key.scope());
        shard.take(now, key, hash, cost, caller)
    }

    #[test]
    fn what_is_ordinary_goes_the_short_way_both_ways() {
        let mut shard = shard(ShardLimits::default(), &["9/1m"]);
        let before = shard.metrics().granted;
        let taken = take(&mut shard, NOW + 1, Caller(3)).unwrap();
        assert_eq!((taken.fence, taken.book_version), (NOW + 1, 1));
        assert_eq!((shard.metrics().granted, shard.use_of(3).leases), (before + 1, 1));
        let timeless = || panic!("its hold is not measured");
        assert!(!hold_is_measured(taken.fence) && shard.give_back(taken.lease, timeless));
        assert!(!shard.give_back(taken.lease, timeless), "it has ended");
        assert_eq!((shard.leases.len(), shard.use_of(3).leases), (0, 0));
        let fences = (2..10).map(|late| take(&mut shard, NOW + late, Caller(0)).map(|taken| taken.lease));
        let kept: Vec<bool> =
            fences.collect::<Vec<_>>().into_iter().flatten().map(|lease| shard.give_back(lease, || NOW)).collect();
        assert_eq!(kept.len(), 2, "two slots");
    }

    #[test]
    fn every_eighth_hold_is_measured_on_the_way_back() {
        let mut shard = shard(ShardLimits::default(), &[]);
        let slot = shard.find("s/a").unwrap();
        shard.counters[slot].held_for(1_000);
        let before = shard.counters[slot].mean_hold();
        for late in 1..=8 {
            let lease = take(&mut shard, NOW + late, Caller(0)).unwrap().lease;
            let mut asked = false;
            assert!(shard.give_back(lease, || {
                asked = true;
                NOW + late + 9_000
            }));
            assert_eq!(asked, hold_is_measured(lease.fence));
            assert_eq!(shard.counters[slot].mean_hold() != before, asked, "the last of the eight alone");
        }
        assert!(shard.counters[slot].mean_hold().abs_diff(before + (9_000 - before) / 8) <= 1);
    }

    #[test]
    fn what_is_out_of_the_ordinary_goes_the_whole_way() {
        let none = |shard: &mut Shard| take(shard, NOW + 1, Caller(0)).is_none();
        let mut fresh = Shard::new(0, Placement::fixed(1), ShardLimits::default());
        assert!(none(&mut fresh), "a counter is to be made");
        let mut full = shard(ShardLimits::default(), &[]);
        assert!(!none(&mut full) && !none(&mut full) && none(&mut full), "it does not fit");
        let request = request();
        step(&mut full, Input::Acquire { request: &request, wait: true, secrets: &[] });
        let lease = LeaseRef { shard: 0, slot: 0, fence: full.leases[0].fence };
        assert!(!full.give_back(lease, || NOW), "somebody waits");
        let mut closed = shard(ShardLimits::default(), &[]);
        step(&mut closed, Input::Close);
        assert!(none(&mut closed), "closed");
        let mut due = shard(ShardLimits::default(), &[]);
        let next = due.next_due().unwrap();
        assert!(
            take(&mut due, next - 1, Caller(0)).is_some() && take(&mut due, next, Caller(0)).is_none(),
            "a timer is due"
        );
        // From half of a cap on, callers share it out.
        let mut half = shard(ShardLimits { max_leases: 2, ..ShardLimits::default() }, &[]);
        assert!(!none(&mut half) && none(&mut half), "half of the leases");
        let mut paused = shard(ShardLimits::default(), &[]);
        step(&mut paused, Input::Operate { counter: &"s/a".parse().unwrap(), verb: &crate::Verb::Pause });
        assert!(none(&mut paused), "an operator has a word");
        step(&mut paused, Input::Operate { counter: &"s/a".parse().unwrap(), verb: &crate::Verb::Resume });
        assert!(!none(&mut paused), "and no longer");
        for (max_log_entries, half) in [(4, true), (6, false)] {
            let mut logs = shard(ShardLimits { max_log_entries, ..ShardLimits::default() }, &["9/1m"]);
            assert!(!none(&mut logs) && logs.log_entries == 2, "its log is there");
            let slot = logs.find("s/a").unwrap();
            logs.counters[slot].histories.clear();
            logs.counters[slot].histories.set_logged(0);
            assert_eq!(none(&mut logs), half, "a log is to be started");
        }
    }

    #[test]
    fn only_the_plainest_of_requests_go_the_short_way() {
        let two = NonZeroU32::new(2).unwrap();
        let lease = LeaseRef { shard: 0, slot: 0, fence: 1 };
        assert!(request().direct().is_some());
        assert!(request().priority(7).cost(two).direct().is_some());
        let others = [
            Request::unscoped(),
            request().also("t".parse().unwrap()).unwrap(),
            request().inline("s", "k", Limits::default()).unwrap(),
            request().lend_from(lease),
            Request { lease_time: Some(Duration::from_secs(1)), ..request() },
            Request { idempotency_key: Some("k".into()), ..request() },
            Request { count: two, ..request() },
            Request { least: two, ..request() },
            Request { weight: NonZeroU16::new(MAX_WEIGHT + 1).unwrap(), ..request() },
        ];
        for request in others {
            assert!(request.direct().is_none(), "{request:?}");
        }
        let heaviest = Request { weight: NonZeroU16::new(MAX_WEIGHT).unwrap(), ..request() };
        assert!(heaviest.direct().is_some() && heaviest.validate().is_ok());
    }
}
