//! Exact sliding windows: a log of starts.
//!
//! At most `limit` units start in any window of one period: half-open, so a unit started at t counts until just before
//! t + period. Up to [`EXACT_STARTS`] starts are logged one by one. A counter that starts more than that in a period is
//! *merged*: starts in the same sub-period (1/1,024 of the period) become one entry, charged to the last of them. A unit
//! is never forgotten early, and is kept at most period / 1,024 too long. The log then holds at most 1,026 entries: the
//! sub-periods that a window can touch when neither its edges nor the division are even.
//!
//! Worked example, 3 a minute: starts at 0 s, 10 s and 50 s. At 55 s a fourth is refused until 60 s, when the first
//! leaves. Two more at 55 s would have to wait for the second to leave, until 70 s.

use crate::planted::{self, Bug};
use std::collections::VecDeque;

/// Starts that are logged one by one, to the nanosecond. 16 bytes each: 16 KiB a busy counter.
pub(crate) const EXACT_STARTS: usize = 1_024;
/// Below this many entries a merged log is exact again. Half: changing over costs O(entries), and must be rare.
const EXACT_AGAIN: usize = EXACT_STARTS / 2;

/// The starts of one counter that still count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// Oldest first: when (or the last instant of its sub-period), and how many units.
    starts: VecDeque<(u64, u64)>,
    units: u64,
    merged: bool,
}

impl Window {
    /// Drops what has left the window and answers the units still in it.
    pub(crate) fn used(&mut self, now: u64, period: u64) -> u64 {
        while let Some(&(at, units)) = self.starts.front() {
            let early = if planted::is(Bug::WindowForgetsEarly) { 1 } else { 0 };
            // The difference, since the sum may be beyond 64 bits, and what starts there counts to the end of time.
            if now.saturating_sub(at).saturating_add(early) < period {
                break;
            }
            self.starts.pop_front();
            self.units -= units;
        }
        if self.merged && self.starts.len() < EXACT_AGAIN {
            self.merged = false;
        }
        if self.starts.is_empty() && self.starts.capacity() > 16 {
            self.starts = VecDeque::new();
        }
        self.units
    }

    /// When `need` more units fit under `limit` if nothing else starts. `None`: they never do, or not before the end of time.
    ///
    /// The caller has called [`Self::used`] with the present time.
    pub(crate) fn fits_at(&self, now: u64, period: u64, need: u64, limit: u64) -> Option<u64> {
        let allowed = limit.checked_sub(need)?;
        let mut units = self.units;
        if units <= allowed {
            return Some(now);
        }
        for &(at, started) in &self.starts {
            units -= started;
            if units <= allowed {
                return at.checked_add(period);
            }
        }
        None
    }

    /// Records a start of `units` at `now`, which is not before any earlier one.
    pub(crate) fn record(&mut self, now: u64, period: u64, units: u64) {
        self.units += units;
        let sub_period = (period / EXACT_STARTS as u64).max(1);
        if self.merged {
            Self::append(&mut self.starts, (now, units), |a, b| a / sub_period == b / sub_period);
        } else {
            Self::append(&mut self.starts, (now, units), |a, b| a == b);
            if self.starts.len() > EXACT_STARTS {
                self.merged = true;
                let exact = std::mem::take(&mut self.starts);
                for start in exact {
                    Self::append(&mut self.starts, start, |a, b| a / sub_period == b / sub_period);
                }
            }
        }
    }

    fn append(starts: &mut VecDeque<(u64, u64)>, start: (u64, u64), same: impl Fn(u64, u64) -> bool) {
        match starts.back_mut() {
            Some(last) if same(last.0, start.0) => {
                last.0 = start.0;
                last.1 += start.1;
            }
            _ => starts.push_back(start),
        }
    }

    /// Takes up to `units` of a start at `started` back, as far as it is still in the window, and answers how many.
    pub(crate) fn refund(&mut self, started: u64, units: u64, now: u64, period: u64) -> u64 {
        self.used(now, period);
        if now.saturating_sub(started) >= period {
            return 0;
        }
        // Merged or not, a start is in the first entry that is not before it.
        let index = self.starts.partition_point(|(at, _)| *at < started);
        let Some(entry) = self.starts.get_mut(index) else { return 0 };
        let refunded = units.min(entry.1);
        entry.1 -= refunded;
        if entry.1 == 0 {
            self.starts.remove(index);
        }
        self.units -= refunded;
        refunded
    }

    /// When the last start leaves the window: from then on it equals a fresh one.
    pub(crate) fn ends_at(&self, period: u64) -> Option<u64> {
        self.starts.back().map(|(at, _)| at.saturating_add(period))
    }

    /// How many entries it holds.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_worked_example() {
        const S: u64 = 1_000_000_000;
        let mut window = Window::default();
        for at in [0, 10, 50] {
            assert!(window.used(at * S, 60 * S) < 3);
            window.record(at * S, 60 * S, 1);
        }
        assert_eq!(window.used(55 * S, 60 * S), 3);
        assert_eq!(window.fits_at(55 * S, 60 * S, 1, 3), Some(60 * S));
        assert_eq!(window.fits_at(55 * S, 60 * S, 2, 3), Some(70 * S));
        assert_eq!(window.fits_at(55 * S, 60 * S, 4, 3), None);
        assert_eq!((window.used(60 * S - 1, 60 * S), window.used(60 * S, 60 * S)), (3, 2));
    }

    #[test]
    fn as_many_starts_as_it_says_are_logged_one_by_one() {
        const STARTS: u64 = EXACT_STARTS as u64;
        let period = 1_000 * STARTS;
        let mut window = Window::default();
        (0..STARTS).for_each(|now| window.record(now, period, 1));
        assert_eq!(window.used(period, period), STARTS - 1, "the first has left at the very nanosecond");
        window.record(period, period, 1);
        assert_eq!(window.len(), EXACT_STARTS);
        window.record(period + 1, period, 1);
        assert_eq!(
            window.len(),
            3,
            "one more, and they are merged: two sub-periods of a thousand, and the present one"
        );
    }

    #[test]
    fn a_busy_log_is_bounded_and_exact_again_when_quiet() {
        let period = 1_000_000;
        let mut window = Window::default();
        for now in 0..3_000_000 {
            window.used(now, period);
            window.record(now, period, 1);
            assert!(window.len() <= EXACT_STARTS + 2, "{}", window.len());
        }
        assert!(window.merged);
        assert_eq!(window.used(3_000_000 + period, period), 0);
        assert!(!window.merged);
        assert_eq!(window.ends_at(period), None);
    }

    #[test]
    fn a_refund_takes_back_what_is_still_in_the_window() {
        let mut window = Window::default();
        window.record(10, 100, 5);
        window.record(20, 100, 3);
        assert_eq!((window.refund(10, 2, 50, 100), window.used(50, 100)), (2, 6));
        assert_eq!((window.refund(20, 9, 50, 100), window.used(50, 100)), (3, 3));
        assert_eq!(window.refund(20, 1, 50, 100), 0, "there is no entry for it any more");
        assert_eq!((window.refund(10, 1, 110, 100), window.used(110, 100)), (0, 0), "it has left the window");
    }

    /// The oracle keeps every start for ever and counts by looking at all of them, where no sum ends at 64 bits.
    fn beside_a_log_of_everything(
        (limit, period, start): (u64, u64, u64),
        steps: Vec<(u64, u64)>,
    ) -> Result<(), TestCaseError> {
        let mut window = Window::default();
        let mut log: Vec<(u64, u64)> = Vec::new();
        let mut now = start;
        let count = |log: &[(u64, u64)], at: u64| -> u64 {
            log.iter().filter(|(t, _)| u128::from(*t) + u128::from(period) > u128::from(at)).map(|(_, u)| u).sum()
        };
        for (gap, units) in steps {
            now = now.saturating_add(gap);
            let used = window.used(now, period);
            prop_assert_eq!(used, count(&log, now));
            match window.fits_at(now, period, units, limit) {
                None => prop_assert!(count(&log, u64::MAX) + units > limit, "it fits before the end of time"),
                Some(at) => {
                    prop_assert!(count(&log, at) + units <= limit, "admitted at");
                    prop_assert!(at == now || count(&log, at - 1) + units > limit, "denied until");
                    if at == now {
                        window.record(now, period, units);
                        log.push((now, units));
                    }
                }
            }
        }
        Ok(())
    }

    /// Of any order of magnitude.
    fn up_to(most: u64) -> impl Strategy<Value = u64> {
        (0..=most.ilog2()).prop_flat_map(move |bits| (1 << bits)..=most.min((1 << bits) * 2 - 1))
    }

    /// A period, the first instant, and gaps of which half are none.
    fn any_period(steps: usize, gaps_a_period: u64) -> impl Strategy<Value = (u64, u64, Vec<(u64, u64)>)> {
        up_to(366 * 86_400_000_000_000).prop_flat_map(move |period| {
            let gap = prop_oneof![Just(0), up_to((2 * period / gaps_a_period).max(1))];
            let start = prop::sample::select(vec![0, 1, u64::MAX - period, u64::MAX]);
            (Just(period), start, prop::collection::vec((gap, 1u64..10), steps / 2..steps))
        })
    }

    proptest! {
        #[test]
        fn never_over_in_any_window_and_denied_until_admitted_at(
            limit in 1u64..40, period in 1u64..200, steps in prop::collection::vec((0u64..60, 1u64..10), 1..200)
        ) {
            beside_a_log_of_everything((limit, period, 0), steps)?;
        }

        #[test]
        fn nor_of_any_period_at_the_ends_of_time_or_while_the_clock_stands(
            limit in 1u64..40, (period, start, steps) in any_period(200, 1)
        ) {
            beside_a_log_of_everything((limit, period, start), steps)?;
        }
    }

    proptest! {
        // Each case is thousands of starts, looked at by an oracle that scans them all.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_merged_log_never_forgets_early_and_at_most_a_sub_period_late(
            (period, start, steps) in prop_oneof![
                prop::collection::vec((0u64..3_000, 1u64..2), 3_000..4_000).prop_map(|steps| (2_000_000, 0, steps)),
                any_period(6_000, 1_000),
            ]
        ) {
            let mut window = Window::default();
            let mut log: VecDeque<(u64, u64)> = VecDeque::new();
            let mut now = start;
            for (gap, units) in steps {
                now = now.saturating_add(gap);
                let used = window.used(now, period);
                let counts = |started: u64, at: u64| u128::from(started) + u128::from(period) > u128::from(at);
                let count = |at: u64| log.iter().rev().take_while(|(t, _)| counts(*t, at)).map(|(_, units)| units).sum();
                prop_assert!(used >= count(now));
                prop_assert!(used <= count(now.saturating_sub(period / EXACT_STARTS as u64)));
                // A shorter period than a rate may have can be cut into no more than so many nanoseconds.
                let most = if period < 1_000_000 { 2 * EXACT_STARTS } else { EXACT_STARTS + 2 };
                prop_assert!(window.len() <= most);
                window.record(now, period, units);
                log.push_back((now, units));
            }
        }
    }
}
