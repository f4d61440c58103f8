//! When idle counters are looked at, to be dropped: soon, and in the order in which they came.
//!
//! Nearly every counter becomes idle again and again, and is due [`IDLE_KEEP`] later. A tree of timers would take some 50
//! bytes for each and a search for each; so those that are due within the same [`GRAIN`] are one chain through the
//! counters themselves, and a short queue knows where each chain begins. What is due later than that, because its history
//! ages out later, takes a timer.
//!
//! [`IDLE_KEEP`]: crate::IDLE_KEEP

use crate::counter::Counter;
use crate::pages::Pages;
use std::collections::VecDeque;

/// A counter is swept up to this much later than it could be: 8.4 ms.
const GRAIN: u64 = 1 << 23;

/// The end of a chain.
pub(crate) const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sweeps {
    /// When each chain is due, ascending, and the counter that it begins with.
    chains: VecDeque<(u64, u32)>,
}

impl Sweeps {
    /// When the first is due.
    #[inline]
    pub(crate) fn first(&self) -> Option<u64> {
        self.chains.front().map(|(at, _)| *at)
    }

    /// Adds a counter that is in no chain; answers when it is due, not before `at`.
    #[inline]
    pub(crate) fn add(&mut self, counters: &mut Pages<Counter>, slot: u32, at: u64) -> u64 {
        let due = at.checked_next_multiple_of(GRAIN).unwrap_or(u64::MAX);
        // Mostly it is due last: time does not go back.
        let index = match self.chains.back() {
            Some((last, _)) if *last < due => self.chains.len(),
            _ => self.chains.partition_point(|(at, _)| *at < due),
        };
        counters[slot].next_swept = match self.chains.get_mut(index) {
            Some((at, first)) if *at == due => std::mem::replace(first, slot),
            _ => {
                self.chains.insert(index, (due, slot));
                NONE
            }
        };
        due
    }

    /// Takes a counter of the first chain out.
    pub(crate) fn pop(&mut self, counters: &Pages<Counter>) -> Option<u32> {
        let (_, first) = self.chains.front_mut()?;
        let slot = *first;
        *first = counters[slot].next_swept;
        if *first == NONE {
            self.chains.pop_front();
        }
        // A quiet shard keeps nothing of a busy day.
        if self.chains.is_empty() {
            self.chains = VecDeque::new();
        }
        Some(slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::RuleBook;
    use crate::name::CounterKind;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn each_counter_comes_at_its_time_and_each_time_is_one_chain(
            ats in proptest::collection::vec((0..40 * GRAIN, any::<bool>()), 1..200)
        ) {
            let (mut sweeps, mut counters) = (Sweeps::default(), Pages::new());
            let mut expected: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
            for (at, pops) in ats {
                let slot = counters.insert(Counter::new("s", CounterKind::Named, 0, &RuleBook::default()));
                let due = sweeps.add(&mut counters, slot, at);
                prop_assert!(due >= at && due - at < GRAIN && due.is_multiple_of(GRAIN));
                expected.entry(due).or_default().insert(slot);
                if pops {
                    let (first, slots) = expected.iter_mut().next().unwrap();
                    prop_assert_eq!(sweeps.first(), Some(*first));
                    let popped = sweeps.pop(&counters).unwrap();
                    prop_assert!(slots.remove(&popped), "{} is not due first", popped);
                    if slots.is_empty() {
                        expected.pop_first();
                    }
                }
                prop_assert_eq!(sweeps.chains.len(), expected.len());
            }
            for (at, mut slots) in expected {
                while !slots.is_empty() {
                    prop_assert!(!sweeps.is_empty());
                    prop_assert_eq!(sweeps.first(), Some(at));
                    prop_assert!(slots.remove(&sweeps.pop(&counters).unwrap()));
                }
            }
            prop_assert!(sweeps.is_empty() && sweeps.pop(&counters).is_none());
            prop_assert_eq!((sweeps.first(), sweeps.chains.capacity()), (None, 0));
        }
    }
}
