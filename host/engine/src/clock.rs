//! The only place that reads a clock.
//!
//! Time is nanoseconds of Unix time, as it was when the clock was made and counted on monotonically since: steps of the
//! wall clock do not move it, and numbers made of it grow across restarts as long as the wall clock was not set back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where an engine gets its time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { anchor: Instant, at_anchor: u64 },
    Manual(Arc<AtomicU64>),
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl Clock {
    /// Where a manual clock begins, in nanoseconds.
    pub const MANUAL_START: u64 = 1_000_000_000_000_000;

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::System { anchor: Instant::now(), at_anchor: nanos(since_epoch) })
    }

    /// A clock that stands at a million seconds, and the hand that moves it.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(Self::MANUAL_START));
        (Self(Source::Manual(Arc::clone(&now))), ManualClock(now))
    }

    /// The same clock, moved on to `at` if it stands before that: time goes on where it has ended.
    pub(crate) fn not_before(self, at: u64) -> Self {
        match self.0 {
            Source::System { anchor, at_anchor } => Self(Source::System { anchor, at_anchor: at_anchor.max(at) }),
            Source::Manual(now) => {
                now.fetch_max(at, Ordering::SeqCst);
                Self(Source::Manual(now))
            }
        }
    }

    /// Nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::System { anchor, at_anchor } => at_anchor + nanos(anchor.elapsed()),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// When the monotonic clock of the machine will show `at`. `None` for a manual clock.
    pub(crate) fn instant_of(&self, at: u64) -> Option<Instant> {
        match &self.0 {
            Source::System { anchor, at_anchor } => {
                anchor.checked_add(Duration::from_nanos(at.saturating_sub(*at_anchor)))
            }
            Source::Manual(_) => None,
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    pub(crate) fn manual_hand(&self) -> Option<ManualClock> {
        match &self.0 {
            Source::System { .. } => None,
            Source::Manual(now) => Some(ManualClock(Arc::clone(now))),
        }
    }

    /// Milliseconds of Unix time, for people.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        self.now() / 1_000_000
    }
}

impl ManualClock {
    /// Moves the clock on, without telling anyone; see [`crate::Engine::advance`] for that.
    pub fn move_on(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }

    pub(crate) fn set(&self, at: u64) {
        self.0.fetch_max(at, Ordering::SeqCst);
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
