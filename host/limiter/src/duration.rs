//! Durations as people write them: `250ms`, `1m 30s`.
//!
//! `humantime` reads them; it panics where the sum of its parts passes what a `Duration` holds. So texts that could get
//! there are refused before: with at most [`MAX_BYTES`] bytes and [`MAX_DIGITS`] digits in a row, five numbers of 99
//! billion years are the most, 1.6e19 seconds, and a `Duration` holds 1.8e19.

use std::time::Duration;

/// The longest text: every duration that `humantime` writes is shorter, and nobody writes longer ones by hand.
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

#[cfg(test)]
mod tests {
    use super::*;

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
