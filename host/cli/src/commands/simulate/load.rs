//! Load: who arrives when, and holds how long.
//!
//! A source tells its arrivals one after the other, in order of time, and is asked for the next only when the last has
//! come. So a load takes no more memory for a day than for a second.
//!
//! # Poisson
//! `llm/gpt=50/s,hold=200ms`: gaps are exponential with a mean of 20 ms, and so are holds with a mean of 200 ms. Each
//! source draws its gaps from a stream of random numbers of its own and its holds from another. Both are derived from the
//! seed, the key and the fairness key: who else arrives, at which rate and in which order they are named, changes nothing.

use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use weir_limiter::Request;

use super::fields::{self, FieldError, Fields, MAX_TIME, nanos, shown};
use super::tally::{Places, TooManyPlaces};
use super::trace::{Trace, TraceError};

/// The most arrivals a second of one source: a gap of 1 us, which nanoseconds still tell apart well.
const MAX_RATE: f64 = 1_000_000.0;
/// How long an arrival holds where nothing is said.
const DEFAULT_HOLD: Duration = Duration::from_millis(100);

/// `KEY=RATE/s[,hold=200ms][,cost=N][,priority=P][,fairness=K:W][,max-wait=30s]`.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    request: Request,
    /// The mean gap between two arrivals, in nanoseconds.
    gap: f64,
    hold: Hold,
}

/// How long what is granted is held, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hold {
    /// This long on the mean.
    Exponential(f64),
    /// This long.
    Fixed(u64),
}

/// Why a text is not the load of a Poisson source.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum SpecError {
    /// There is no `=` behind the key.
    #[error("there is no KEY=RATE/s at its head: write it like tenant/acme=50/s,hold=200ms")]
    Form,
    /// The rate cannot be read.
    #[error("the rate `{text}` is not N/s: write it like 50/s, 0.5/s or 3/1m")]
    RateText { text: String },
    /// The rate is out of bounds.
    #[error("the rate `{text}` is out of bounds: more than 0, and at most {MAX_RATE} a second")]
    Rate { text: String },
    /// A field that there is not.
    #[error("`{text}` is none of hold=, cost=, priority=, fairness=, max-wait=")]
    Unknown { text: String },
    /// A field that is said twice.
    #[error("{field} is said twice")]
    Twice { field: String },
    /// A field that is not valid.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',').map(str::trim);
        let (key, rate) = parts.next().and_then(|head| head.split_once('=')).ok_or(SpecError::Form)?;
        let gap = gap(rate.trim())?;
        let mut hold = Hold::Exponential(DEFAULT_HOLD.as_nanos() as f64);
        let mut fields = Fields::default();
        let mut said = Vec::new();
        for part in parts {
            let unknown = || SpecError::Unknown { text: shown(part) };
            let (field, value) = part.split_once('=').ok_or_else(unknown)?;
            if said.contains(&field) {
                return Err(SpecError::Twice { field: field.to_owned() });
            }
            said.push(field);
            match field {
                "hold" => hold = value.parse()?,
                "cost" => fields.cost(value)?,
                "priority" => fields.priority(value)?,
                "max-wait" => fields.max_wait(fields::duration("max-wait", value)?)?,
                // A fairness key may have a `:` of its own: only digits behind the last one are a weight.
                "fairness" => match value.rsplit_once(':') {
                    Some((key, weight)) if !weight.is_empty() && weight.bytes().all(|b| b.is_ascii_digit()) => {
                        fields.weight(weight)?;
                        fields.fairness(key);
                    }
                    _ => fields.fairness(value),
                },
                _ => return Err(unknown()),
            }
        }
        Ok(Self { request: fields.request(key.trim())?, gap, hold })
    }
}

/// The mean gap of `50/s` or `3/1m`, in nanoseconds.
fn gap(text: &str) -> Result<f64, SpecError> {
    let refuse = || SpecError::RateText { text: shown(text) };
    let (count, period) = text.split_once('/').ok_or_else(refuse)?;
    let count: f64 = count.parse().map_err(|_| refuse())?;
    let period = if period == "s" { Duration::from_secs(1) } else { fields::duration("rate", period)? };
    // Not a number is not more than 0 either.
    if count > 0.0 && !period.is_zero() && count / period.as_secs_f64() <= MAX_RATE {
        Ok(period.as_nanos() as f64 / count)
    } else {
        Err(SpecError::Rate { text: shown(text) })
    }
}

impl FromStr for Hold {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let (fixed, text) = text.strip_prefix("fixed:").map_or((false, text), |text| (true, text));
        let hold = nanos(fields::at_most("hold", fields::duration("hold", text)?, MAX_TIME)?);
        Ok(if fixed { Self::Fixed(hold) } else { Self::Exponential(hold as f64) })
    }
}

/// The next arrival of a source, in nanoseconds from the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) at: u64,
    pub(crate) hold: u64,
    /// Whose it is; see [`Places`].
    pub(crate) place: u32,
}

/// Why there is no next arrival.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A trace that cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// More keys than one report can hold.
    #[error(transparent)]
    Places(#[from] TooManyPlaces),
}

/// Who arrives.
#[derive(Debug)]
pub(crate) enum Source {
    Poisson(Box<Poisson>),
    Trace(Box<Trace>),
}

impl Source {
    /// The next arrival; none: there are no more.
    pub(crate) fn next(&mut self, places: &mut Places) -> Result<Option<Next>, LoadError> {
        match self {
            Self::Poisson(poisson) => Ok(Some(poisson.next())),
            Self::Trace(trace) => trace.next(places),
        }
    }

    /// What the arrival asks for that [`Self::next`] told last.
    pub(crate) fn request(&self) -> &Request {
        match self {
            Self::Poisson(poisson) => &poisson.request,
            Self::Trace(trace) => trace.request(),
        }
    }
}

/// A Poisson process of arrivals.
#[derive(Debug)]
pub(crate) struct Poisson {
    request: Request,
    place: u32,
    at: u64,
    gap: f64,
    hold: Hold,
    gaps: Rng,
    holds: Rng,
}

impl Poisson {
    /// The sources of these specifications, each with streams of its own.
    pub(crate) fn all(specs: &[Spec], seed: u64, places: &mut Places) -> Result<Vec<Source>, TooManyPlaces> {
        let name = |spec: &Spec| (spec.request.targets.clone(), spec.request.fairness_key.clone());
        let source = |(index, spec): (usize, &Spec)| {
            // Two that look alike are told apart by which of them is named first.
            let twins = specs[..index].iter().filter(|other| name(other) == name(spec)).count();
            let key = spec.request.targets.first().map_or("", |key| key.as_str());
            let text = format!("{key} {} {twins}", spec.request.fairness_key.as_deref().unwrap_or_default());
            let stream = mix(seed ^ hash(&text));
            Ok(Source::Poisson(Box::new(Self {
                request: spec.request.clone(),
                place: places.of(&spec.request)?,
                at: 0,
                gap: spec.gap,
                hold: spec.hold,
                gaps: Rng::with_seed(stream),
                holds: Rng::with_seed(mix(stream)),
            })))
        };
        specs.iter().enumerate().map(source).collect()
    }

    fn next(&mut self) -> Next {
        self.at = self.at.saturating_add(exponential(&mut self.gaps, self.gap));
        let hold = match self.hold {
            Hold::Exponential(mean) => exponential(&mut self.holds, mean),
            Hold::Fixed(hold) => hold,
        };
        Next { at: self.at, hold, place: self.place }
    }
}

/// An exponential number of this mean, to the nearest whole one.
fn exponential(random: &mut Rng, mean: f64) -> u64 {
    // 1 - [0, 1) is never 0; what is larger than a u64 is cut to its end.
    (-(1.0 - random.f64()).ln() * mean + 0.5) as u64
}

/// FNV-1a: the same in every process and version, as a seed must be.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finalizer of SplitMix64: near seeds give far streams.
fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
