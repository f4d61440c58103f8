//! Any text as a rate, a concurrency limit and a duration: what parses is within its bounds and is shown as a text that
//! means the same; what does not is a message, never a panic.

use std::time::Duration;
use weir_limiter::{
    Concurrency, Counts, LimitError, Limits, Mode, Rate, check_lease_time, format_duration, parse_duration,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at one.
///
/// # Panics
/// When it is not so.
pub fn check(text: &str) {
    rate(text);
    concurrency(text);
    duration(text);
}

fn rate(text: &str) {
    match text.parse::<Rate>() {
        Ok(rate) => {
            assert_eq!(rate.to_string().parse(), Ok(rate.clone()), "{rate}");
            assert!((MILLISECOND..=366 * DAY).contains(&rate.period), "{rate}");
            match rate.mode {
                Mode::Window => {
                    assert!(rate.burst.is_none(), "{rate}");
                    assert_eq!(rate.largest_cost(), rate.limit.get());
                }
                Mode::Smooth => {
                    assert!(rate.burst.is_some() || rate.counts == Counts::Calls, "{rate}");
                    assert_eq!(rate.largest_cost(), rate.burst.map_or(1, |burst| burst.get()));
                }
            }
            let limits = |rates| Limits { rates, ..Limits::default() };
            assert_eq!(limits(vec![rate.clone()]).validate(), Ok(()));
            let twice = limits(vec![rate.clone(), rate]).validate();
            assert!(matches!(twice, Err(LimitError::SameRateTwice { .. })), "{twice:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn concurrency(text: &str) {
    match text.parse::<Concurrency>() {
        Ok(limit) => {
            assert_eq!(limit.to_string().parse(), Ok(limit), "{limit}");
            assert_eq!(limit.counts == Counts::Cost, text.ends_with(":cost"), "{limit}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Durations: what is shown reads back as the same, and none is beyond its bounds.
fn duration(text: &str) {
    let Ok(given) = parse_duration(text) else { return };
    let shown = format_duration(given).to_string();
    // Longer ones may be shown with more digits than are read.
    if given <= 366_000 * DAY {
        assert_eq!(parse_duration(&shown), Ok(given), "{shown}");
    }
    let wait = Limits { max_wait: Some(given), ..Limits::default() }.validate();
    assert_eq!(wait.is_ok(), given <= DAY, "{shown}");
    assert_eq!(check_lease_time(given).is_ok(), (100 * MILLISECOND..=HOUR).contains(&given), "{shown}");
    if let Err(error) = wait {
        assert!(error.to_string().contains("too long"), "{error}");
    }
    // The same period in a rate, with no spaces, is the same or refused.
    if let Ok(rate) = format!("1/{}", shown.replace(' ', "")).parse::<Rate>() {
        assert_eq!(rate.period, given);
    }
}
