//! Durations as people write them: `250ms`, `1m 30s`, `40days 3h`. Nothing is shown in months or years, which have no one length.
//!
//! `humantime` reads them; it panics where the sum of its parts passes what a `Duration` holds. So texts that could get
//! there are refused before: with at most [`MAX_BYTES`] bytes and [`MAX_DIGITS`] digits in a row, five numbers of 99
//! billion years are the most, 1.6e19 seconds, and a `Duration` holds 1.8e19.

use std::fmt;
use std::time::Duration;

/// The seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// The most days that are shown, since no longer number is read: 270 million years.
const MAX_DAYS: u64 = 99_999_999_999;
/// The longest text: every duration that is shown is shorter, and nobody writes longer ones by hand.
const MAX_BYTES: usize = 64;
/// The longest number.
const MAX_DIGITS: usize = 11;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// It is too long, or a number in it is.
    #[error("it is too long: at most {MAX_BYTES} bytes, and {MAX_DIGITS} digits a number")]
    TooLong,
    /// It does not read as a duration.
    #[error(transparent)]
    Text(#[from] humantime::DurationError),
}

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let longest_number = text.as_bytes().split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max();
    if text.len() > MAX_BYTES || longest_number > Some(MAX_DIGITS) {
        return Err(DurationError::TooLong);
    }
    Ok(humantime::parse_duration(text)?)
}

/// Shows a duration, as [`parse_duration`] reads it.
#[must_use]
pub fn format_duration(duration: Duration) -> impl fmt::Display {
    Shown(duration)
}

#[derive(Debug)]
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0.as_secs() / DAY, self.0.as_secs() % DAY);
        let rest = Duration::new(seconds, self.0.subsec_nanos());
        match days {
            0 => return write!(f, "{}", humantime::format_duration(rest)),
            1 => f.write_str("1day")?,
            2..=MAX_DAYS => write!(f, "{days}days")?,
            _ => return write!(f, "{}", humantime::format_duration(self.0)),
        }
        if rest.is_zero() { Ok(()) } else { write!(f, " {}", humantime::format_duration(rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(duration: Duration) -> String {
        format_duration(duration).to_string()
    }

    #[test]
    fn nothing_is_shown_that_is_larger_than_days() {
        let hour = Duration::from_secs(60 * 60);
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_millis(1_250), "1s 250ms"),
            (hour * 24 - Duration::from_nanos(1), "23h 59m 59s 999ms 999us 999ns"),
            (hour * 24, "1day"),
            (hour * 25, "1day 1h"),
            (hour * (40 * 24 + 3), "40days 3h"),
            (hour * (366 * 24), "366days"),
            (hour * (366 * 24) + Duration::from_nanos(1), "366days 1ns"),
            (Duration::from_nanos(u64::MAX), "213503days 23h 34m 33s 709ms 551us 615ns"),
            (Duration::from_secs(MAX_DAYS * DAY), "99999999999days"),
        ] {
            assert_eq!(shown(duration), text);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        // Beyond what can be read in days.
        assert!(shown(Duration::MAX).starts_with("584542046090years "));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(nanos in any::<u64>(), days in 0u64..30, rest in 0..DAY * 1_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&shown(duration)), Ok(duration));
            // Below a month it is what `humantime` shows.
            let short = Duration::from_nanos(days * DAY * 1_000_000_000 + rest);
            prop_assert_eq!(shown(short), humantime::format_duration(short).to_string());
        }
    }

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in
            [("250ms", 250), ("1m 30s", 90_000), ("366days", 366 * 86_400_000), ("99999999999ms", 99_999_999_999)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(matches!(parse_duration("soon"), Err(DurationError::Text(_))));
    }

    #[test]
    fn what_would_overflow_is_refused() {
        for text in ["18446744073709551615s 1000ms", "999999999999y", &"1s".repeat(100)] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
        // The most that gets through.
        assert!(parse_duration(&"99999999999y".repeat(5)).is_ok());
    }

    #[test]
    fn as_many_bytes_and_digits_as_it_may_have_and_no_more() {
        let spaced = |bytes: usize| format!("{}1s", " ".repeat(bytes - 2));
        assert!(!matches!(parse_duration(&spaced(MAX_BYTES)), Err(DurationError::TooLong)));
        assert!(matches!(parse_duration(&spaced(MAX_BYTES + 1)), Err(DurationError::TooLong)));
        let digits = |count: usize| format!("{}ns", "1".repeat(count));
        assert!(parse_duration(&digits(MAX_DIGITS)).is_ok());
        assert!(matches!(parse_duration(&digits(MAX_DIGITS + 1)), Err(DurationError::TooLong)));
    }
}
