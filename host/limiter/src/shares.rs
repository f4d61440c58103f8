//! Shares: what each caller has of the caps of a shard, and what more it may have.
//!
//! A waiter and a lease are on the account of whoever asks. A counter is on that of the caller that made it, and so are the
//! entries of its logs, whoever starts something there. Whether there is room for a log is a question to that account,
//! since it is the one that grows: if whoever asks were judged by its own, one caller could make counters, and another,
//! whose account stays empty, start logs there until the cap is full.
//!
//! Worked example, a cap of 6 log entries: one caller alone starts 3 logs. That leaves 3, and a second one starts 2; a third
//! starts 1. When one of the six has aged out, a fourth caller may start a log: the others have as much as is left.
//!
//! # Invariants
//! - A counter's log entries are in the sum of the shard, and on the account of the caller that made it.
//! - Where nothing is left in a shard, nothing is on anybody's account.
//!
//! # What it does not do
//! A log that is there goes on, and may grow past the share of its caller. That is not at the cost of others: towards them
//! an account counts for half of the cap at most, the most that one alone may come to. Two that have outgrown it leave nothing.

use crate::request::Caller;
use crate::shard::Shard;

/// What one caller has in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Use {
    pub(crate) waiters: usize,
    pub(crate) leases: usize,
    pub(crate) counters: usize,
    pub(crate) log_entries: usize,
}

/// Whether a caller who has `own` of the `used` under a cap may have `more`.
///
/// Nobody in particular may use what there is. A caller may have as much as would be left then: one alone gets half of
/// the cap, n get 1 / (n + 1) each, and a newcomer always finds room (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
/// Transactions on Networking 6(2), 1998).
#[must_use]
pub fn may_have(cap: usize, used: usize, caller: Caller, own: usize, more: usize) -> bool {
    let left = cap.saturating_sub(used);
    more <= left && (caller == Caller::default() || own + more <= left - more + 1)
}

impl Shard {
    /// What a caller has here.
    #[inline]
    pub(crate) fn use_of(&self, caller: u32) -> Use {
        self.callers.get(caller as usize).copied().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn used_by(&mut self, caller: u32) -> &mut Use {
        let index = caller as usize;
        if index >= self.callers.len() {
            self.callers.resize(index + 1, Use::default());
        }
        &mut self.callers[index]
    }

    #[inline]
    pub(crate) fn count_lease(&mut self, caller: u32) {
        if caller != 0 {
            self.used_by(caller).leases += 1;
        }
    }

    #[inline]
    pub(crate) fn uncount_lease(&mut self, caller: u32) {
        if caller != 0 {
            self.used_by(caller).leases -= 1;
        }
    }

    /// Whether there is room for one log more on the account of this caller.
    pub(crate) fn has_room_for_log(&self, caller: u32) -> bool {
        let used = self.log_entries - self.outgrown;
        may_have(self.limits.max_log_entries, used, Caller(caller), self.use_of(caller).log_entries, 1)
    }

    /// Books what the logs of a counter hold now.
    #[inline]
    pub(crate) fn book_log(&mut self, slot: u32) {
        let entries = self.counters[slot].log_entries();
        self.book_entries(slot, entries);
    }

    /// The one place where log entries come and go: at their counter, in all, and on the account of who made it.
    #[inline]
    pub(crate) fn book_entries(&mut self, slot: u32, entries: usize) {
        let counter = &mut self.counters[slot];
        let (caller, before) = (counter.caller, counter.histories.logged());
        counter.histories.set_logged(entries);
        self.log_entries = self.log_entries - before + entries;
        if caller != 0 {
            let half = self.limits.max_log_entries.div_ceil(2);
            let own = &mut self.used_by(caller).log_entries;
            let over = own.saturating_sub(half);
            *own = *own - before + entries;
            let still_over = own.saturating_sub(half);
            self.outgrown = self.outgrown - over + still_over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::{Change, Precondition, RuleBook, RuleSpec};
    use crate::journal::RateKind;
    use crate::limits::{Concurrency, Counts, Limits, Mode};
    use crate::name::CounterName;
    use crate::operator::{Outcome, Verb};
    use crate::placement::Placement;
    use crate::request::Request;
    use crate::restore::Restored;
    use crate::shard::ShardLimits;
    use crate::step::{Input, Output, ShardSet};
    use proptest::prelude::*;

    #[test]
    fn a_caller_may_have_as_much_as_would_be_left() {
        let nobody = Caller::default();
        let may = |caller, (used, own, more)| may_have(10, used, caller, own, more);
        // Nobody in particular: all there is.
        assert_eq!(
            [(9, 0, 1), (10, 0, 1), (0, 0, 10), (0, 0, 11), (11, 0, 1)].map(|of| may(nobody, of)),
            [true, false, true, false, false]
        );
        // One alone: half, and one more where the half is between two.
        let alone = [(0, 0, 5), (0, 0, 6), (4, 4, 1), (5, 5, 1)].map(|of| may(Caller(1), of));
        assert_eq!(alone, [true, false, true, false]);
        // A newcomer finds room as long as there is any.
        assert_eq!(
            [(9, 0, 1), (10, 0, 1), (8, 0, 2), (7, 1, 1), (8, 2, 1)].map(|of| may(Caller(2), of)),
            [true, false, false, true, false]
        );
    }

    /// The log entries of the counters, of all or of those that one caller has made.
    fn entries(shard: &Shard, caller: Option<u32>) -> usize {
        let counters = shard.counters.iter().map(|(_, counter)| counter);
        let of_caller = counters.filter(|counter| caller.is_none_or(|caller| counter.caller == caller));
        of_caller.map(|counter| counter.histories.logged()).sum()
    }

    /// Rates of the scopes and of their keys, enforced and in the shadow.
    fn book(before: &RuleBook, rates: &[&str]) -> RuleBook {
        let limits = Limits {
            concurrency: Some(Concurrency::calls(50)),
            rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
            ..Limits::default()
        };
        let spec = RuleSpec { shadow_limits: Some(limits.clone()), limits, ..RuleSpec::default() };
        let put = |pattern: &str| Change::Put {
            pattern: pattern.parse().unwrap(),
            spec: spec.clone(),
            when: Precondition::None,
        };
        before.apply(&[put("*"), put("*/*")], 0).unwrap()
    }

    proptest! {
        #[test]
        fn what_callers_have_of_the_logs_adds_up(
            ops in proptest::collection::vec((0u8..12, 0u32..4, 0usize..4, 0u64..3_000_000_000), 1..80)
        ) {
            let limits = ShardLimits { max_log_entries: 12, ..ShardLimits::default() };
            let mut shard = Shard::new(0, Placement::fixed(1), limits);
            let step = |shard: &mut Shard, now: u64, input: Input<'_>| {
                ShardSet::new(&mut [shard]).step(now, input, &mut Vec::new())
            };
            let mut rules = book(&RuleBook::default(), &["9/1s:cost"]);
            step(&mut shard, 1, Input::SetBook { book: rules.clone().into() });
            let (mut now, mut leases) = (1_000_000_000_000, Vec::new());
            for (what, caller, which, by) in ops {
                now += by;
                let name = ["s", "s/a", "s/b", "t"][which];
                let counter: CounterName = name.parse().unwrap();
                let request = Request::new(name.parse().unwrap()).caller(Caller(caller));
                match what {
                    0..=4 => {
                        let acquire = Input::Acquire { request: &request, wait: false, secrets: &[] };
                        if let Output::Granted(grant) = step(&mut shard, now, acquire) {
                            leases.push(grant.parts[0]);
                        }
                    }
                    5 | 6 if !leases.is_empty() => {
                        let lease = leases.swap_remove(which % leases.len());
                        step(&mut shard, now, Input::Release { lease, outcome: Outcome::Ok });
                    }
                    7 if !leases.is_empty() => {
                        let lease = leases[which % leases.len()];
                        step(&mut shard, now, Input::Settle { lease, cost: (by % 5) as u32 });
                    }
                    8 => drop(step(&mut shard, now, Input::Operate { counter: &counter, verb: &Verb::Reset })),
                    9 => {
                        let rates: [&[&str]; 4] = [&["9/1s:cost"], &["9/1s", "20/5s:cost"], &["9/1s:smooth"], &[]];
                        rules = book(&rules, rates[which]);
                        step(&mut shard, now, Input::SetBook { book: rules.clone().into() });
                    }
                    10 => {
                        let kind = RateKind { mode: Mode::Window, period: 1_000_000_000, counts: Counts::Cost, pace: 0 };
                        let starts = [(now - 1, 1), (now, 2)];
                        let what = Restored::Starts { counter: &counter, kind, starts: &starts, smooth: None, booked: 0 };
                        step(&mut shard, now, Input::Restore { what: &what });
                    }
                    _ => drop(step(&mut shard, now, Input::Tick)),
                }
                prop_assert_eq!(shard.log_entries, entries(&shard, None));
                let mut outgrown = 0;
                for caller in 1..4 {
                    let own = entries(&shard, Some(caller));
                    prop_assert_eq!(shard.use_of(caller).log_entries, own);
                    outgrown += own.saturating_sub(6);
                }
                prop_assert_eq!(shard.outgrown, outgrown);
            }
            for lease in leases {
                step(&mut shard, now, Input::Release { lease, outcome: Outcome::Ok });
            }
            // A counter that catches up with the book when it is swept is kept a while longer.
            for later in [60_000_000_000, 120_000_000_000] {
                step(&mut shard, now + later, Input::Tick);
            }
            prop_assert!(shard.is_empty(), "{:?}", shard.callers);
        }
    }
}
