//! What the admin API shows: the rule book, counters, components.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weir_engine::{CounterSnapshot, Difference, DifferenceKind, Rule, RuleBook};

use super::text::{ConcurrencyText, DurationText, PatternText, RateText};

/// A rule as it is in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleView {
    /// What the rule governs.
    pub pattern: PatternText,
    /// How much may be held at once; absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyText>,
    /// How much may start in a period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateText>,
    /// How many may wait at one counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiters: Option<u32>,
    /// How long a request may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<DurationText>,
    /// For whoever reads the list.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Kept in the book, but binds nothing.
    pub disabled: bool,
    /// Grows with every change of this rule.
    pub version: u64,
    /// When it was last changed, RFC 3339.
    pub last_modified: String,
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        let limits = &rule.spec.limits;
        // A book restored from elsewhere may carry any number; the calendar ends before some of them.
        let modified = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(rule.last_modified.min(LAST_MILLISECOND)))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            pattern: PatternText(rule.pattern.clone()),
            concurrency: limits.concurrency.map(ConcurrencyText),
            rates: limits.rates.iter().cloned().map(RateText).collect(),
            max_waiters: limits.max_waiters,
            max_wait: limits.max_wait.map(DurationText),
            description: rule.spec.description.clone(),
            disabled: rule.spec.disabled,
            version: rule.version,
            last_modified: humantime::format_rfc3339_millis(modified).to_string(),
        }
    }
}

/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

/// The rule book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BookView {
    /// Grows with every batch that changes something.
    pub version: u64,
    /// All rules, sorted by pattern.
    pub rules: Vec<RuleView>,
}

impl From<&RuleBook> for BookView {
    fn from(book: &RuleBook) -> Self {
        Self { version: book.version(), rules: book.rules().map(RuleView::from).collect() }
    }
}

/// What a batch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AppliedView {
    /// The version of the book after the batch.
    pub version: u64,
    /// What differs from before; empty when nothing changed.
    pub differences: Vec<DifferenceView>,
}

/// One rule that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DifferenceView {
    /// Its pattern.
    pub pattern: PatternText,
    /// `added`, `changed`, `removed`, `enabled` or `disabled`.
    pub kind: String,
}

impl From<Difference> for DifferenceView {
    fn from(difference: Difference) -> Self {
        let kind = match difference.kind {
            DifferenceKind::Added => "added",
            DifferenceKind::Changed => "changed",
            DifferenceKind::Removed => "removed",
            DifferenceKind::Enabled => "enabled",
            DifferenceKind::Disabled => "disabled",
        };
        Self { pattern: PatternText(difference.pattern), kind: kind.to_owned() }
    }
}

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
    /// `scope[/l1[/l2]]`.
    pub counter: String,
    /// The rule that binds it; absent: none, unlimited.
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
    /// Waiting now.
    pub waiting: usize,
    /// Granted so far.
    pub granted: u64,
    /// Refused so far.
    pub refused: u64,
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

impl From<CounterSnapshot> for CounterView {
    fn from(snapshot: CounterSnapshot) -> Self {
        Self {
            counter: snapshot.counter,
            pattern: snapshot.pattern.map(PatternText),
            calls: snapshot.calls,
            cost: snapshot.cost,
            concurrency: snapshot.concurrency.map(ConcurrencyText),
            rates: snapshot
                .rates
                .into_iter()
                .map(|rate| RateView {
                    rate: RateText(rate.rate),
                    used: rate.used,
                    frees_in: rate.frees_in.map(readable),
                })
                .collect(),
            waiting: snapshot.waiting,
            granted: snapshot.granted,
            refused: snapshot.refused,
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

/// What is being served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentsView {
    /// The components, in the order of the configuration.
    pub components: Vec<ComponentView>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentView {
    /// Its name, as in `/weir/call/{name}/...`.
    pub name: String,
    /// Where plain requests reach it.
    pub route: String,
    /// The scope of its own acquires, outside of a scoped request.
    pub scope: String,
    /// The scope that its plain route is under, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_scope: Option<String>,
}
