//! Waits of those who were granted: how many, how long, and the quantiles.

use hdrhistogram::Histogram;
use weir_limiter::MAX_WAIT;

use super::fields::nanos;

/// Waits below this are not told apart, in nanoseconds.
const LEAST_WAIT: u64 = 1_000;
/// Digits that a quantile has: it is off by 1 % at most.
const DIGITS: u8 = 2;

/// Waits, in nanoseconds. Sum and maximum are exact.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits {
    /// Of those who waited at all, 16 KB; none: nobody did.
    longer: Option<Histogram<u32>>,
    /// Everybody, also who did not wait.
    pub(crate) granted: u64,
    pub(crate) total: u128,
    pub(crate) max: u64,
}

impl Waits {
    pub(crate) fn record(&mut self, waited: u64) {
        self.granted += 1;
        if waited > 0 {
            self.total += u128::from(waited);
            self.max = self.max.max(waited);
            self.longer.get_or_insert_with(histogram).saturating_record(waited);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.granted += other.granted;
        self.total += other.total;
        self.max = self.max.max(other.max);
        if let Some(theirs) = &other.longer {
            let added = self.longer.get_or_insert_with(histogram).add(theirs);
            debug_assert!(added.is_ok(), "they have the same bounds");
        }
    }

    /// Forgets everything but where it was kept.
    pub(crate) fn clear(&mut self) {
        (self.granted, self.total, self.max) = (0, 0, 0);
        if let Some(longer) = self.longer.as_mut().filter(|longer| !longer.is_empty()) {
            longer.reset();
        }
    }

    /// The wait that `share` (0 to 1) of those granted did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let Some(longer) = &self.longer else { return 0 };
        let rank = (share * self.granted as f64).ceil() as u64;
        let at_once = self.granted - longer.len();
        if rank <= at_once {
            return 0;
        }
        longer.value_at_quantile((rank - at_once) as f64 / longer.len() as f64).min(self.max)
    }

    pub(crate) fn mean(&self) -> u64 {
        u64::try_from(self.total / u128::from(self.granted.max(1))).unwrap_or(u64::MAX)
    }
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(LEAST_WAIT, nanos(MAX_WAIT), DIGITS).expect("the bounds are constants, and in order")
}
