//! When a call that got no answer is sent again.
//!
//! At most three times more, after about 75, 150 and 300 ms (half of that is random, so that the instances of a component do not
//! come back in step), and never past the end of the call. What is sent again is the same request: an acquire has its idempotency
//! key, and to extend, settle or release twice is to do it once.

/// How often a call is sent again.
const RETRIES: u32 = 3;

/// The longest first pause, in nanoseconds. Each further one may be twice as long.
const FIRST_PAUSE: u64 = 100_000_000;

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
    until: u64,
}

impl Attempts {
    /// Attempts that end at this instant.
    pub(crate) fn until(until: u64) -> Self {
        Self { made: 0, until }
    }

    /// How long the attempt that starts now may take.
    pub(crate) fn timeout(&self, now: u64) -> u64 {
        self.until.saturating_sub(now)
    }

    /// How long to pause before the next attempt; none when this one was the last.
    pub(crate) fn pause(&mut self, now: u64, random: u64) -> Option<u64> {
        if self.made == RETRIES {
            return None;
        }
        let longest = FIRST_PAUSE << self.made;
        let pause = longest / 2 + random % (longest / 2);
        self.made += 1;
        (now.saturating_add(pause) < self.until).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_more_and_longer_each_time() {
        let mut attempts = Attempts::until(u64::MAX);
        for (least, most) in [(50, 100), (100, 200), (200, 400)] {
            let pause = attempts.pause(0, 0x9e37_79b9_7f4a_7c15).unwrap() / 1_000_000;
            assert!((least..most).contains(&pause), "{pause}");
        }
        assert_eq!(attempts.pause(0, 7), None);
    }

    #[test]
    fn never_past_the_end() {
        let mut attempts = Attempts::until(60_000_000);
        assert_eq!(attempts.timeout(10_000_000), 50_000_000);
        assert_eq!(attempts.pause(10_000_000, 0), None);
    }
}
