//! What the provider allows, and how often it was overrun.
//!
//! This is the witness against the limiter, so it shares nothing with it: it keeps the arrival of every request and compares
//! each with the one `limit` before it. N + 1 arrivals within one window are a violation, wherever that window begins.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The limits of the provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) per_window: usize,
    pub(crate) window: Duration,
    pub(crate) in_parallel: usize,
}

/// What has arrived since the start.
#[derive(Debug)]
pub(crate) struct Count {
    allowed: Allowed,
    arrivals: Vec<Instant>,
    running: usize,
    stats: Stats,
}

/// The count, as `/stats` shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Stats {
    /// Requests answered.
    pub(crate) answered: u64,
    /// Requests that came as one too many in some window.
    pub(crate) rate_violations: u64,
    /// Requests that came while too many were running.
    pub(crate) parallel_violations: u64,
    /// The most that ever ran at once.
    pub(crate) most_in_parallel: usize,
    /// The shortest time in which `per_window + 1` requests came, in milliseconds.
    pub(crate) tightest_milliseconds: Option<u64>,
}

impl Count {
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self { allowed, arrivals: Vec::new(), running: 0, stats: Stats::default() }
    }

    pub(crate) fn arrived(&mut self, now: Instant) {
        if let Some(before) = self.arrivals.len().checked_sub(self.allowed.per_window) {
            let span = now.duration_since(self.arrivals[before]);
            if span < self.allowed.window {
                self.stats.rate_violations += 1;
            }
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let tightest = self.stats.tightest_milliseconds.get_or_insert(span);
            *tightest = span.min(*tightest);
        }
        self.arrivals.push(now);
        self.running += 1;
        self.stats.most_in_parallel = self.stats.most_in_parallel.max(self.running);
        if self.running > self.allowed.in_parallel {
            self.stats.parallel_violations += 1;
        }
    }

    pub(crate) fn answered(&mut self) {
        self.running -= 1;
        self.stats.answered += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count() -> Count {
        Count::new(Allowed { per_window: 3, window: Duration::from_secs(1), in_parallel: 2 })
    }

    #[test]
    fn the_fourth_within_a_window_is_a_violation() {
        let (mut count, start) = (count(), Instant::now());
        for milliseconds in [0, 400, 800, 1_000, 1_399, 2_000] {
            count.arrived(start + Duration::from_millis(milliseconds));
            count.answered();
        }
        // 1,399 is 999 after 400; 1,000 is not within one second of 0.
        let expected = Stats {
            answered: 6,
            rate_violations: 1,
            parallel_violations: 0,
            most_in_parallel: 1,
            tightest_milliseconds: Some(999),
        };
        assert_eq!(count.stats(), expected);
    }

    #[test]
    fn the_third_in_parallel_is_a_violation() {
        let (mut count, start) = (count(), Instant::now());
        for second in 0..3 {
            count.arrived(start + Duration::from_secs(second));
        }
        assert_eq!((count.stats().parallel_violations, count.stats().most_in_parallel), (1, 3));
    }
}
