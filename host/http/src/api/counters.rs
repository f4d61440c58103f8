//! Counters as they are shown, and what an operator can say about one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_engine::{CounterKind, CounterSnapshot, LimitError, ShadowSnapshot, Verb};

use super::limits::LimitsBody;
use super::object;
use super::text::{ConcurrencyText, DurationText, PatternText, RateText};

/// Counters in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CountersView {
    /// The counters.
    pub counters: Vec<CounterView>,
    /// Whether there are more than the `limit` that was asked for.
    pub more: bool,
}

/// The live usage of one scope or limit key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CounterView {
    /// `scope[/l1[/l2]]`, the pattern of a pool, or `scope#key`.
    pub counter: String,
    /// `named`, `pool` or `inline`.
    pub kind: String,
    /// The rule that binds it; absent: none, or pinned numbers instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<PatternText>,
    /// Held now, in calls.
    pub calls: u64,
    /// Held now, in cost.
    pub cost: u64,
    /// What may be held at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyText>,
    /// The rates that bind it, with what is used of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateView>,
    /// The numbers that an operator has pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<LimitsBody>,
    /// Whether an operator holds admissions.
    pub paused: bool,
    /// Whether an operator lets nobody new in.
    pub draining: bool,
    /// Whether a drain has come to its end.
    pub drained: bool,
    /// How long it is closed yet by a pushback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_back_for: Option<DurationText>,
    /// Its shadow limits, and what they came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
    /// Waiting now.
    pub waiting: usize,
    /// Granted so far.
    pub granted: u64,
    /// Refused so far.
    pub refused: u64,
    /// Leases that ended with a failure or a pushback so far.
    pub failed: u64,
    /// Half of the recent grants waited no longer than this.
    pub wait_p50: DurationText,
    /// 99 of 100 recent grants waited no longer than this.
    pub wait_p99: DurationText,
}

/// A rate and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RateView {
    /// The rate.
    pub rate: RateText,
    /// Started in the period.
    pub used: u64,
    /// When the next start fits, if it does not fit now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frees_in: Option<DurationText>,
}

/// Shadow limits and what they came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowView {
    /// The rule that has them.
    pub pattern: PatternText,
    /// The limits.
    pub limits: LimitsBody,
    /// Grants that they would have refused, since these limits are there.
    pub would_refuse: u64,
}

impl From<ShadowSnapshot> for ShadowView {
    fn from(shadow: ShadowSnapshot) -> Self {
        Self {
            pattern: PatternText(shadow.pattern),
            limits: LimitsBody::from(&shadow.limits),
            would_refuse: shadow.would_refuse,
        }
    }
}

impl From<CounterSnapshot> for CounterView {
    fn from(snapshot: CounterSnapshot) -> Self {
        let kind = match snapshot.kind {
            CounterKind::Named => "named",
            CounterKind::Pool => "pool",
            CounterKind::Inline => "inline",
        };
        let rates = snapshot.rates.into_iter().map(|rate| RateView {
            rate: RateText(rate.rate),
            used: rate.used,
            frees_in: rate.frees_in.map(readable),
        });
        Self {
            counter: snapshot.counter,
            kind: kind.to_owned(),
            pattern: snapshot.pattern.map(PatternText),
            calls: snapshot.calls,
            cost: snapshot.cost,
            concurrency: snapshot.concurrency.map(ConcurrencyText),
            rates: rates.collect(),
            pinned: snapshot.pinned.as_ref().map(LimitsBody::from),
            paused: snapshot.paused,
            draining: snapshot.draining,
            drained: snapshot.drained,
            pushed_back_for: snapshot.pushed_back_for.map(readable),
            shadow: snapshot.shadow.map(ShadowView::from),
            waiting: snapshot.waiting,
            granted: snapshot.granted,
            refused: snapshot.refused,
            failed: snapshot.failed,
            wait_p50: readable(snapshot.wait_p50),
            wait_p99: readable(snapshot.wait_p99),
        }
    }
}

/// Rounds up to what a reader can use: whole microseconds below a millisecond, whole milliseconds above.
pub(crate) fn readable(duration: Duration) -> DurationText {
    let step = if duration < Duration::from_millis(1) { 1_000 } else { 1_000_000 };
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - step);
    DurationText(Duration::from_nanos(nanos.div_ceil(step) * step))
}

/// What an operator can do to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerbName {
    /// Holds admissions; those who wait stay.
    Pause,
    /// Ends a pause, a drain and a pushback.
    Resume,
    /// Puts other numbers in the place of the rule's, or of those that callers bring.
    Pin,
    /// Takes pinned numbers back.
    Unpin,
    /// Forgets what was started; what is held stays.
    Reset,
    /// Lets nobody new in; those present are served.
    Drain,
}

/// What an operator asks of a counter, as in `POST /v1/counters/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VerbBody {
    /// What to do.
    pub verb: VerbName,
    /// With `pin`: the numbers. Whatever is absent is not limited while they are pinned.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsBody>,
}

/// Why a body asks for nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// A pin without numbers.
    #[error("pin needs limits: one at least of concurrency, rates, max-waiters, max-wait, max-pushback")]
    NoNumbers,
    /// Numbers with another verb.
    #[error("limits belong to the verb pin")]
    NotPin,
    /// A limit is not valid.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl VerbBody {
    /// The verb this body stands for.
    ///
    /// # Errors
    /// Its limits are missing, out of place or not valid.
    pub fn verb(&self) -> Result<Verb, VerbError> {
        if self.verb != VerbName::Pin && self.limits.is_some() {
            return Err(VerbError::NotPin);
        }
        Ok(match self.verb {
            VerbName::Pause => Verb::Pause,
            VerbName::Resume => Verb::Resume,
            VerbName::Unpin => Verb::Unpin,
            VerbName::Reset => Verb::Reset,
            VerbName::Drain => Verb::Drain,
            VerbName::Pin => {
                let limits = self.limits.as_ref().map(LimitsBody::limits).unwrap_or_default();
                if limits.is_empty() {
                    return Err(VerbError::NoNumbers);
                }
                limits.validate()?;
                Verb::Pin(limits)
            }
        })
    }
}
