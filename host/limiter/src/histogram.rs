//! Waits, counted in buckets that grow by a quarter of a power of two.
//!
//! A value is at most 25 % below the bound that its bucket reports; 576 bytes hold every wait from 1 us to a day.

use std::time::Duration;

/// The least value told apart: a microsecond, in nanoseconds.
const UNIT: u64 = 1_000;
const STEPS_PER_DOUBLING: u32 = 4;
const BUCKETS: usize = 144;

/// Counts of waits by their length.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u32; BUCKETS],
    count: u64,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, total: 0 }
    }
}

fn bucket(nanos: u64) -> usize {
    let units = nanos / UNIT;
    if units < u64::from(STEPS_PER_DOUBLING) {
        return usize::try_from(units).unwrap_or(0);
    }
    let doubling = units.ilog2();
    let step = (units >> (doubling - 2)) & u64::from(STEPS_PER_DOUBLING - 1);
    let index = (doubling - 1) * STEPS_PER_DOUBLING + u32::try_from(step).unwrap_or(0);
    (index as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket, in nanoseconds.
fn bound(index: usize) -> u64 {
    if index < STEPS_PER_DOUBLING as usize {
        return (index as u64 + 1) * UNIT;
    }
    let doubling = index as u32 / STEPS_PER_DOUBLING + 1;
    let step = index as u64 % u64::from(STEPS_PER_DOUBLING);
    ((u64::from(STEPS_PER_DOUBLING) + step + 1) << (doubling - 2)) * UNIT
}

impl Histogram {
    /// Counts one wait.
    pub fn record(&mut self, nanos: u64) {
        let count = &mut self.buckets[bucket(nanos)];
        *count = count.saturating_add(1);
        self.count += 1;
        self.total = self.total.saturating_add(nanos);
    }

    /// How many waits were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all waits, in nanoseconds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The bound that `share` (0 to 1) of `of` waits do not exceed, in nanoseconds, where those of `of` that are not in
    /// here waited 0. `of` is at least [`Self::count`].
    #[must_use]
    pub fn quantile(&self, share: f64, of: u64) -> u64 {
        let of = of.max(self.count);
        let rank = (share * of as f64).ceil().max(1.0) as u64;
        let mut seen = of - self.count;
        if of == 0 || seen >= rank {
            return 0;
        }
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return bound(index);
            }
        }
        bound(BUCKETS - 1)
    }

    /// How many waits were certainly no longer than `bound`: all of them where it is a power of two of a microsecond.
    #[must_use]
    pub fn up_to(&self, bound: Duration) -> u64 {
        self.buckets().take_while(|(upper, _)| u128::from(*upper) <= bound.as_nanos()).map(|(_, count)| count).sum()
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(theirs);
        }
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
    }

    /// Every non-empty bucket: its upper bound in nanoseconds and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (bound(index), u64::from(*count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_under_the_bound_of_its_bucket_and_near_it() {
        let mut value = 1u64;
        while value < 86_400_000_000_000 {
            let bound = bound(bucket(value));
            assert!(value < bound, "{value} in a bucket up to {bound}");
            assert!(value < 8_000 || bound <= value + value / 4 + UNIT, "{value} in a bucket up to {bound}");
            value += value / 7 + 1;
        }
        for index in 1..BUCKETS {
            assert!(super::bound(index) > super::bound(index - 1));
        }
    }

    #[test]
    fn quantiles_count_those_who_did_not_wait() {
        let mut histogram = Histogram::default();
        histogram.record(1_000_000);
        assert_eq!(histogram.quantile(0.5, 10), 0);
        assert!((1_000_000..=1_300_000).contains(&histogram.quantile(0.99, 10)));
        assert_eq!(Histogram::default().quantile(0.99, 0), 0);
    }

    #[test]
    fn each_value_below_and_at_a_step_has_its_bucket() {
        // Microseconds one by one up to 4, then four steps to each doubling.
        for (micros, upper) in
            [(0, 1), (1, 2), (3, 4), (4, 5), (5, 6), (7, 8), (8, 10), (9, 10), (10, 12), (15, 16), (16, 20)]
        {
            assert_eq!(bound(bucket(micros * UNIT)), upper * UNIT, "{micros}");
            assert_eq!(bound(bucket(micros * UNIT + UNIT - 1)), upper * UNIT, "{micros} and a bit");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn two_are_added_up() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        [1_000, 5_000].iter().for_each(|nanos| one.record(*nanos));
        [5_000, 5_000, 1_000_000].iter().for_each(|nanos| two.record(*nanos));
        one.add(&two);
        assert_eq!((one.count(), one.total()), (5, 1_016_000));
        let buckets: Vec<_> = one.buckets().collect();
        assert_eq!(buckets, [(2_000, 1), (6_000, 3), (1_024_000, 1)]);
        let up_to =
            [1_999, 2_000, 5_999, 6_000, 1_023_999, 1_024_000].map(|nanos| one.up_to(Duration::from_nanos(nanos)));
        assert_eq!(up_to, [0, 1, 1, 4, 4, 5]);
        // Of ten, five did not wait: a rank of five is 0, the next the first that did.
        let ranks = [0.0, 0.5, 0.51, 0.6, 0.9, 0.91, 1.0].map(|share| one.quantile(share, 10));
        assert_eq!(ranks, [0, 0, 2_000, 2_000, 6_000, 1_024_000, 1_024_000]);
        assert_eq!(one.quantile(1.0, 0), 1_024_000, "there are as many as were counted");
    }
}
