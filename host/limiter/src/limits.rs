//! Limits: what a rule allows, as numbers.
//!
//! A concurrency limit bounds what is held at once; a rate bounds what starts in a period. Each counts calls (every
//! acquire is 1, whatever it costs) or cost. "3 requests a minute, 10,000 tokens a minute and 2 in parallel" is one
//! rule: `concurrency = 2`, `rates = ["3/1m", "10000/1m:cost"]`.
//!
//! The short text forms are those of files and of the command line: `5`, `5:cost`, `3/1m`, `100/1s:smooth:burst=10`.

use crate::duration::{format_duration, parse_duration};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

/// The most rates of one rule. Each costs a check at every acquire.
pub const MAX_RATES: usize = 4;
/// The shortest period of a rate.
pub const MIN_PERIOD: Duration = Duration::from_millis(1);
/// The longest period of a rate: a leap year.
pub const MAX_PERIOD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest `max-wait`: a day. Whoever waits longer wants a queue, not a waitlist.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The most waiters that a rule may allow at one counter.
pub const MAX_WAITERS: u32 = 1_000_000;
/// How long a pushback may close a counter when no rule says so.
pub const DEFAULT_MAX_PUSHBACK: Duration = Duration::from_secs(60);

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Counts {
    /// Every acquire is 1.
    #[default]
    Calls,
    /// Every acquire is its cost.
    Cost,
}

/// How a rate spreads its starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Mode {
    /// At most `limit` in any window of one period, all at once if need be.
    #[default]
    Window,
    /// One every `period / limit`, at most `burst` at once.
    Smooth,
}

/// At most `limit` units started in any window of `period`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Units a period.
    pub limit: NonZeroU32,
    /// The period, 1 ms to 366 days.
    pub period: Duration,
    /// Exact window, or spread evenly.
    pub mode: Mode,
    /// Smooth only: how many units may start at once. Default 1; must be given where the rate counts cost.
    pub burst: Option<NonZeroU32>,
    /// Calls or cost.
    pub counts: Counts,
}

/// Why a limit is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The text has not the form of a rate.
    #[error(
        "`{text}` is not a rate: {problem} (write LIMIT/PERIOD[:smooth][:burst=N][:cost], such as 3/1m or 100/1s:smooth:burst=10)"
    )]
    RateText {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The text has not the form of a concurrency limit.
    #[error(
        "`{text}` is not a concurrency limit: write a number from 0 to 4294967295, with `:cost` behind it to count cost"
    )]
    ConcurrencyText {
        /// What was given.
        text: String,
    },
    /// The period is out of bounds.
    #[error("a period of {} is out of bounds: 1ms to 366days", format_duration(*.period))]
    Period {
        /// What was given.
        period: Duration,
    },
    /// A burst without smooth mode.
    #[error("burst belongs to smooth rates only: a window rate may start all {limit} at once")]
    BurstOfWindow {
        /// The limit of the rate.
        limit: NonZeroU32,
    },
    /// A smooth rate over cost without a burst.
    #[error("a smooth rate that counts cost needs burst=N, the largest cost that may start at once")]
    BurstMissing,
    /// A limit that does not divide its period well enough.
    #[error("{limit} in {} cannot be spread evenly: rounded to whole nanoseconds it is off by more than 0.1 %", format_duration(*.period))]
    Rounding {
        /// Units a period.
        limit: NonZeroU32,
        /// The period.
        period: Duration,
    },
    /// A burst that takes longer to refill than a clock can count.
    #[error("a burst of {burst} at this rate takes over 100 years to refill")]
    BurstTooLong {
        /// The burst.
        burst: NonZeroU32,
    },
    /// More than [`MAX_RATES`] rates.
    #[error("{given} rates: a rule has at most {MAX_RATES}")]
    TooManyRates {
        /// How many were given.
        given: usize,
    },
    /// Two rates of one rule that would share their history.
    #[error("two rates with the same mode, period and counting: {first} and {second}; keep the lower one")]
    SameRateTwice {
        /// One of them.
        first: Rate,
        /// The other.
        second: Rate,
    },
    /// A `max-wait` above [`MAX_WAIT`].
    #[error("max-wait {} is too long: at most 1day", format_duration(*.max_wait))]
    MaxWait {
        /// What was given.
        max_wait: Duration,
    },
    /// A `max-pushback` above [`MAX_WAIT`].
    #[error("max-pushback {} is too long: at most 1day", format_duration(*.max_pushback))]
    MaxPushback {
        /// What was given.
        max_pushback: Duration,
    },
    /// A `max-waiters` above [`MAX_WAITERS`].
    #[error("max-waiters {max_waiters} is too many: at most {MAX_WAITERS}")]
    MaxWaiters {
        /// What was given.
        max_waiters: u32,
    },
}

/// The longest time that a smooth rate may need to refill its whole burst, in nanoseconds (about 100 years): far from
/// the end of a `u64` of nanoseconds even when added to today's date.
const MAX_REFILL_NANOS: u128 = 100 * 366 * 24 * 60 * 60 * 1_000_000_000;

impl Rate {
    /// `limit` units in any window of `period`, counting calls.
    #[must_use]
    pub fn window(limit: NonZeroU32, period: Duration) -> Self {
        Self { limit, period, mode: Mode::Window, burst: None, counts: Counts::Calls }
    }

    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// [`LimitError`] says which number is off and what the bounds are.
    pub fn validate(&self) -> Result<(), LimitError> {
        if self.period < MIN_PERIOD || self.period > MAX_PERIOD {
            return Err(LimitError::Period { period: self.period });
        }
        match (self.mode, self.burst) {
            (Mode::Window, None) => Ok(()),
            (Mode::Window, Some(_)) => Err(LimitError::BurstOfWindow { limit: self.limit }),
            (Mode::Smooth, None) if self.counts == Counts::Cost => Err(LimitError::BurstMissing),
            (Mode::Smooth, burst) => {
                let period = self.period.as_nanos();
                let spread = u128::from(self.interval_nanos().get()) * u128::from(self.limit.get());
                if (spread - period) * 1000 > period {
                    return Err(LimitError::Rounding { limit: self.limit, period: self.period });
                }
                let burst = burst.unwrap_or(NonZeroU32::MIN);
                if u128::from(self.interval_nanos().get()) * u128::from(burst.get()) > MAX_REFILL_NANOS {
                    return Err(LimitError::BurstTooLong { burst });
                }
                Ok(())
            }
        }
    }

    /// The period in nanoseconds. A valid one fits by far.
    #[must_use]
    pub(crate) fn period_nanos(&self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds from one unit to the next of a smooth rate, rounded up: never more than `limit` a period.
    #[must_use]
    pub(crate) fn interval_nanos(&self) -> NonZeroU64 {
        let nanos = self.period_nanos().div_ceil(u64::from(self.limit.get()));
        NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN)
    }

    /// The mean time between two units.
    pub(crate) fn spacing(&self) -> Duration {
        self.period / self.limit.get()
    }

    /// The most units that can ever start at once.
    #[must_use]
    pub fn largest_cost(&self) -> u32 {
        match self.mode {
            Mode::Window => self.limit.get(),
            Mode::Smooth => self.burst.map_or(1, NonZeroU32::get),
        }
    }

    pub(crate) fn same_history(&self, other: &Self) -> bool {
        (self.mode, self.period, self.counts) == (other.mode, other.period, other.counts)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = format_duration(self.period).to_string().replace(' ', "");
        write!(f, "{}/{period}", self.limit)?;
        if self.mode == Mode::Smooth {
            f.write_str(":smooth")?;
        }
        if let Some(burst) = self.burst {
            write!(f, ":burst={burst}")?;
        }
        if self.counts == Counts::Cost {
            f.write_str(":cost")?;
        }
        Ok(())
    }
}

impl FromStr for Rate {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let start = |text: &str| text.chars().take(64).collect::<String>();
        let refuse = |problem: String| LimitError::RateText { text: start(text), problem };
        let mut fields = text.split(':');
        let (limit, period) = fields
            .next()
            .unwrap_or_default()
            .split_once('/')
            .ok_or_else(|| refuse("there is no `/` between limit and period".into()))?;
        let limit: NonZeroU32 = limit
            .parse()
            .map_err(|_| refuse(format!("the limit `{}` is not a number from 1 to 4294967295", start(limit))))?;
        let period = parse_duration(period)
            .map_err(|error| refuse(format!("the period `{}` is not a duration: {error}", start(period))))?;
        let mut rate = Self::window(limit, period);
        // Mode, burst, counting.
        let mut said = [false; 3];
        for field in fields {
            let part = match field {
                "smooth" | "window" => 0,
                "cost" | "calls" => 2,
                _ => 1,
            };
            if std::mem::replace(&mut said[part], true) {
                return Err(refuse(format!("`{}` says again what is said before it", start(field))));
            }
            match field.split_once('=') {
                None if field == "smooth" => rate.mode = Mode::Smooth,
                None if field == "window" => rate.mode = Mode::Window,
                None if field == "cost" => rate.counts = Counts::Cost,
                None if field == "calls" => rate.counts = Counts::Calls,
                Some(("burst", burst)) => {
                    rate.burst = Some(burst.parse().map_err(|_| {
                        refuse(format!("the burst `{}` is not a number from 1 to 4294967295", start(burst)))
                    })?);
                }
                _ => return Err(refuse(format!("`{}` is none of smooth, window, calls, cost, burst=N", start(field)))),
            }
        }
        rate.validate()?;
        Ok(rate)
    }
}

/// At most `limit` units held at once. 0 closes: nothing new is admitted, and waiters stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concurrency {
    /// Units at once.
    pub limit: u32,
    /// Calls or cost.
    pub counts: Counts,
}

impl Concurrency {
    /// `limit` calls at once.
    #[must_use]
    pub fn calls(limit: u32) -> Self {
        Self { limit, counts: Counts::Calls }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.limit, if self.counts == Counts::Cost { ":cost" } else { "" })
    }
}

impl FromStr for Concurrency {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (limit, counts) = match text.split_once(':') {
            None | Some((_, "calls")) => (text.split(':').next().unwrap_or_default(), Counts::Calls),
            Some((limit, "cost")) => (limit, Counts::Cost),
            Some(_) => ("", Counts::Calls),
        };
        let limit = limit.parse().map_err(|_| LimitError::ConcurrencyText { text: text.chars().take(64).collect() })?;
        Ok(Self { limit, counts })
    }
}

/// Everything a rule limits. The default limits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// How much may be held at once. Absent: unlimited.
    pub concurrency: Option<Concurrency>,
    /// How much may start in a period; all of them hold.
    pub rates: Vec<Rate>,
    /// How many may wait at one counter. Absent: 10,000. 0: none.
    pub max_waiters: Option<u32>,
    /// How long one may wait. Absent: 60 s. 0: not at all.
    pub max_wait: Option<Duration>,
    /// How long a pushback may close the counter. Absent: 60 s, and only where the request named its last part. 0: not at
    /// all.
    pub max_pushback: Option<Duration>,
}

impl Limits {
    /// Checks every number.
    ///
    /// # Errors
    /// The first [`LimitError`] found.
    pub fn validate(&self) -> Result<(), LimitError> {
        if self.rates.len() > MAX_RATES {
            return Err(LimitError::TooManyRates { given: self.rates.len() });
        }
        for (index, rate) in self.rates.iter().enumerate() {
            rate.validate()?;
            if let Some(first) = self.rates[..index].iter().find(|other| other.same_history(rate)) {
                return Err(LimitError::SameRateTwice { first: first.clone(), second: rate.clone() });
            }
        }
        match (self.max_wait, self.max_waiters, self.max_pushback) {
            (Some(max_wait), ..) if max_wait > MAX_WAIT => Err(LimitError::MaxWait { max_wait }),
            (_, Some(max_waiters), _) if max_waiters > MAX_WAITERS => Err(LimitError::MaxWaiters { max_waiters }),
            (.., Some(max_pushback)) if max_pushback > MAX_WAIT => Err(LimitError::MaxPushback { max_pushback }),
            _ => Ok(()),
        }
    }

    /// Whether any of its rates keeps a log of what has started.
    #[inline]
    pub(crate) fn keeps_log(&self) -> bool {
        self.rates.iter().any(|rate| rate.mode == Mode::Window)
    }

    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Result<Rate, LimitError> {
        text.parse()
    }

    #[test]
    fn short_forms_round_trip() {
        for text in [
            "3/1m",
            "100/1s:smooth",
            "10000/1m:cost",
            "5/250ms:smooth:burst=2",
            "7/1h:smooth:burst=900:cost",
            "1/1ms",
            "1/1m30s",
            "100/365days",
            "1/40days3h",
        ] {
            assert_eq!(rate(text).unwrap().to_string(), text);
        }
        assert_eq!(rate("3/60s:window:calls").unwrap(), rate("3/1m").unwrap());
        for text in ["0", "5", "5:cost", "4294967295"] {
            assert_eq!(text.parse::<Concurrency>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_rates_say_what_and_what_to_write() {
        for (text, part) in [
            ("3", "no `/`"),
            ("0/1m", "`0` is not a number from 1"),
            ("4294967296/1m", "is not a number from 1"),
            ("-1/1m", "is not a number from 1"),
            ("3/", "period `` is not a duration"),
            ("3/1x", "is not a duration"),
            ("3/1m:fast", "none of smooth"),
            ("3/1m:burst=0", "burst `0`"),
            ("3/1m:cost:cost", "`cost` says again"),
            ("3/1m:cost:calls", "`calls` says again"),
            ("3/1m:smooth:window", "`window` says again"),
            ("3/1m:smooth:burst=2:burst=2", "`burst=2` says again"),
            ("3/1m:fast:slow", "`fast` is none of smooth"),
            ("3/1m:burst=2", "smooth rates only"),
            ("3/1m:smooth:cost", "needs burst=N"),
            ("3/999us", "out of bounds"),
            ("3/367days", "a period of 367days is out of bounds: 1ms to 366days"),
            ("4000000000/1s:smooth", "off by more than 0.1 %"),
            ("1/366days:smooth:burst=4294967295", "over 100 years"),
        ] {
            let shown = rate(text).unwrap_err().to_string();
            assert!(shown.contains(part), "{text}: {shown}");
        }
        for text in ["", "-1", "4294967296", "x", "5:calls:cost", "5:"] {
            assert!(text.parse::<Concurrency>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rule_refuses_too_many_rates_and_twins() {
        let rates = |texts: &[&str]| Limits {
            rates: texts.iter().map(|text| rate(text).unwrap()).collect(),
            ..Limits::default()
        };
        assert_eq!(rates(&["3/1m", "1/1s", "9/1h", "5/1m:cost"]).validate(), Ok(()));
        assert!(matches!(
            rates(&["3/1m", "1/1s", "9/1h", "5/1m:cost", "1/1day"]).validate(),
            Err(LimitError::TooManyRates { given: 5 })
        ));
        assert!(matches!(rates(&["3/1m", "4/1m"]).validate(), Err(LimitError::SameRateTwice { .. })));
        assert!(Limits { max_wait: Some(MAX_WAIT + Duration::from_nanos(1)), ..Limits::default() }.validate().is_err());
    }

    #[test]
    fn an_error_shows_no_more_than_the_start_of_a_text() {
        let long = "x".repeat(10_000);
        for text in
            [&long, &format!("{long}/1s"), &format!("1/{long}"), &format!("1/1s:{long}"), &format!("1/1s:burst={long}")]
        {
            let error = rate(text).unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn every_number_goes_up_to_its_bound() {
        let nano = Duration::from_nanos(1);
        let wait = |max_wait| Limits { max_wait: Some(max_wait), ..Limits::default() };
        let waiters = |max_waiters| Limits { max_waiters: Some(max_waiters), ..Limits::default() };
        let pushback = |max_pushback| Limits { max_pushback: Some(max_pushback), ..Limits::default() };
        for fits in [wait(MAX_WAIT), waiters(MAX_WAITERS), pushback(MAX_WAIT), wait(Duration::ZERO), waiters(0)] {
            assert_eq!(fits.validate(), Ok(()), "{fits:?}");
            assert!(!fits.is_empty());
        }
        assert!(Limits::default().is_empty());
        let over = [wait(MAX_WAIT + nano), waiters(MAX_WAITERS + 1), pushback(MAX_WAIT + nano)];
        let errors = over.map(|limits| limits.validate().unwrap_err());
        assert_eq!(errors[0], LimitError::MaxWait { max_wait: MAX_WAIT + nano });
        assert_eq!(errors[1], LimitError::MaxWaiters { max_waiters: MAX_WAITERS + 1 });
        assert_eq!(errors[2], LimitError::MaxPushback { max_pushback: MAX_WAIT + nano });
        let smooth = |limit: u32, nanos: u64, burst: u32| Rate {
            mode: Mode::Smooth,
            burst: NonZeroU32::new(burst),
            ..Rate::window(NonZeroU32::new(limit).unwrap(), Duration::from_nanos(nanos))
        };
        // 2,002 units a thousand nanoseconds apart take 2,002,000 ns: a thousandth more than 2,000,000.
        assert_eq!(smooth(2_002, 2_000_000, 1).validate(), Ok(()));
        assert!(matches!(smooth(2_002, 1_999_999, 1).validate(), Err(LimitError::Rounding { .. })));
        // A burst may take a hundred years to refill, to the nanosecond.
        let year = 366 * 24 * 60 * 60 * 1_000_000_000u64;
        assert_eq!(smooth(1, year, 100).validate(), Ok(()));
        assert_eq!(
            smooth(1, year, 101).validate(),
            Err(LimitError::BurstTooLong { burst: NonZeroU32::new(101).unwrap() })
        );
    }

    proptest! {
        #[test]
        fn rounding_never_allows_more_than_the_limit(limit in 1u32.., nanos in 1_000_000u64..31_622_400_000_000_000) {
            let rate = Rate { mode: Mode::Smooth, ..Rate::window(NonZeroU32::new(limit).unwrap(), Duration::from_nanos(nanos)) };
            let spread = u128::from(rate.interval_nanos().get()) * u128::from(limit);
            prop_assert!(spread >= u128::from(nanos));
            let off_by_a_thousandth = (spread - u128::from(nanos)) * 1000 > u128::from(nanos);
            prop_assert_eq!(matches!(rate.validate(), Err(LimitError::Rounding { .. })), off_by_a_thousandth);
        }

        #[test]
        fn any_text_is_a_rate_or_an_error(text in "\\PC{0,40}") {
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            }
        }
    }
}
