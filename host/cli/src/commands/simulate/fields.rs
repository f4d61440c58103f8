//! What an arrival may say of itself, read the same way from `--poisson` and from a trace.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use weir_limiter::{
    DEFAULT_PRIORITY, DurationError, MAX_WAIT, NameError, Request, RequestError, ScopedKey, format_duration,
    parse_duration,
};

/// The longest simulation, hold, and time in a trace: 366 days, as the longest period of a rate.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Why a field is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FieldError {
    /// Not a number, or out of bounds.
    #[error("{field}: `{text}` is not a number from {least} to {most}")]
    Number { field: &'static str, text: String, least: u64, most: u64 },
    /// Not a time.
    #[error("{field}: `{text}` is not a duration: {reason} (write it like 200ms or 1m30s)")]
    Time { field: &'static str, text: String, reason: DurationError },
    /// A number that is no time: negative, not finite.
    #[error("{field}: `{text}` is not a number of seconds from 0 on")]
    Seconds { field: &'static str, text: String },
    /// A time that is out of bounds.
    #[error("{field}: {} is too long: at most {}", format_duration(*.given), format_duration(*.most))]
    TooLong { field: &'static str, given: Duration, most: Duration },
    /// A key that is not a name.
    #[error("key: {0}")]
    Key(#[from] NameError),
    /// A fairness key or a weight that is not valid.
    #[error("fairness: {0}")]
    Fairness(RequestError),
    /// A weight that is for nobody.
    #[error("weight: it belongs to a fairness key: name one")]
    WeightAlone,
}

/// The parts of a request, as far as they are read.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    cost: Option<NonZeroU32>,
    priority: Option<u8>,
    fairness: Option<String>,
    weight: Option<NonZeroU16>,
    max_wait: Option<Duration>,
}

impl Fields {
    pub(crate) fn cost(&mut self, text: &str) -> Result<(), FieldError> {
        self.cost = Some(text.parse().map_err(|_| number("cost", text, 1, u32::MAX.into()))?);
        Ok(())
    }

    pub(crate) fn priority(&mut self, text: &str) -> Result<(), FieldError> {
        self.priority = Some(text.parse().map_err(|_| number("priority", text, 0, u8::MAX.into()))?);
        Ok(())
    }

    pub(crate) fn fairness(&mut self, text: &str) {
        self.fairness = Some(text.to_owned());
    }

    pub(crate) fn weight(&mut self, text: &str) -> Result<(), FieldError> {
        let most = weir_limiter::MAX_WEIGHT;
        let weight = text.parse().ok().filter(|weight: &NonZeroU16| weight.get() <= most);
        self.weight = Some(weight.ok_or_else(|| number("weight", text, 1, most.into()))?);
        Ok(())
    }

    pub(crate) fn max_wait(&mut self, given: Duration) -> Result<(), FieldError> {
        self.max_wait = Some(at_most("max-wait", given, MAX_WAIT)?);
        Ok(())
    }

    /// The request that they make.
    pub(crate) fn request(self, key: &str) -> Result<Request, FieldError> {
        let key: ScopedKey = key.parse()?;
        let mut request = Request::new(key)
            .cost(self.cost.unwrap_or(NonZeroU32::MIN))
            .priority(self.priority.unwrap_or(DEFAULT_PRIORITY));
        if let Some(max_wait) = self.max_wait {
            request = request.max_wait(max_wait);
        }
        match (self.fairness, self.weight) {
            (Some(fairness), weight) => {
                request.fairness(&fairness, weight.unwrap_or(NonZeroU16::MIN)).map_err(FieldError::Fairness)
            }
            (None, Some(_)) => Err(FieldError::WeightAlone),
            (None, None) => Ok(request),
        }
    }
}

fn number(field: &'static str, text: &str, least: u64, most: u64) -> FieldError {
    FieldError::Number { field, text: shown(text), least, most }
}

/// As much of a text as an error shows.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads `200ms`.
pub(crate) fn duration(field: &'static str, text: &str) -> Result<Duration, FieldError> {
    parse_duration(text).map_err(|reason| FieldError::Time { field, text: shown(text), reason })
}

/// Reads `200ms`, or a number of seconds.
pub(crate) fn time(field: &'static str, text: &str) -> Result<Duration, FieldError> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| FieldError::Seconds { field, text: shown(text) })
            .and_then(|given| at_most(field, given, MAX_TIME)),
        Err(_) => duration(field, text),
    }
}

/// Checks an upper bound.
pub(crate) fn at_most(field: &'static str, given: Duration, most: Duration) -> Result<Duration, FieldError> {
    if given <= most { Ok(given) } else { Err(FieldError::TooLong { field, given, most }) }
}

/// Nanoseconds of a duration within [`MAX_TIME`].
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
