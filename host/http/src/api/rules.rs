//! Rules as they are written and shown, and the differences between books.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weir_engine::{Difference, DifferenceKind, LimitError, Rule, RuleBook, RuleSpec};

use super::limits::LimitsBody;
use super::object;
use super::text::{ConcurrencyText, DurationText, PatternText, RateText};

/// A whole rule, as in `PUT /v1/rules` and `[[rule]]` of `weir.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "RuleFields")]
pub struct RuleBody {
    /// What the rule governs.
    pub pattern: PatternText,
    /// What it allows.
    #[serde(flatten)]
    pub limits: LimitsBody,
    /// What it would allow: counted and shown, never enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_limits: Option<LimitsBody>,
    /// One counter for all that match, instead of one for each.
    #[serde(skip_serializing_if = "is_false")]
    pub total: bool,
    /// For whoever reads the list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Kept in the book, but binds nothing.
    pub disabled: bool,
}

/// The same for reading: serde's `flatten` neither refuses unknown fields nor says where in a text the fault is.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RuleFields {
    pattern: PatternText,
    concurrency: Option<ConcurrencyText>,
    #[serde(default)]
    rates: Vec<RateText>,
    max_waiters: Option<u32>,
    max_wait: Option<DurationText>,
    max_pushback: Option<DurationText>,
    #[serde(default, deserialize_with = "object::optional")]
    shadow_limits: Option<LimitsBody>,
    #[serde(default)]
    total: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    disabled: bool,
}

impl From<RuleFields> for RuleBody {
    fn from(fields: RuleFields) -> Self {
        let RuleFields { concurrency, rates, max_waiters, max_wait, max_pushback, .. } = fields;
        Self {
            pattern: fields.pattern,
            limits: LimitsBody { concurrency, rates, max_waiters, max_wait, max_pushback },
            shadow_limits: fields.shadow_limits,
            total: fields.total,
            description: fields.description,
            disabled: fields.disabled,
        }
    }
}

/// Why a body is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A limit is not valid.
    #[error(transparent)]
    Limit(LimitError),
    /// A shadow limit is not valid.
    #[error("shadow-limits: {0}")]
    Shadow(LimitError),
    /// A description would do more to a terminal than to be read.
    #[error("the description has the control character U+{:04X} at byte {at}: write one line of text", u32::from(*character))]
    Description {
        /// Which character.
        character: char,
        /// Its offset.
        at: usize,
    },
}

/// Checks that a description is a line of text. How long it may be, the rule book says.
pub(super) fn check_description(text: &str) -> Result<(), SpecError> {
    match text.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(SpecError::Description { character, at }),
        None => Ok(()),
    }
}

impl RuleBody {
    /// The specification this body stands for.
    ///
    /// # Errors
    /// The limits contradict each other, or one is out of bounds; the description is no line of text.
    pub fn spec(&self) -> Result<RuleSpec, SpecError> {
        let limits = self.limits.limits();
        limits.validate().map_err(SpecError::Limit)?;
        let shadow_limits = self.shadow_limits.as_ref().map(LimitsBody::limits);
        if let Some(shadow) = &shadow_limits {
            shadow.validate().map_err(SpecError::Shadow)?;
        }
        check_description(&self.description)?;
        let (description, disabled) = (self.description.clone(), self.disabled);
        Ok(RuleSpec { limits, shadow_limits, total: self.total, description, disabled })
    }
}

/// A rule as it is in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleView {
    /// What it says.
    #[serde(flatten)]
    pub body: RuleBody,
    /// Grows with every change of this rule.
    pub version: u64,
    /// When it was last changed, RFC 3339.
    pub last_modified: String,
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        let spec = &rule.spec;
        // A book restored from elsewhere may carry any number; the calendar ends before some of them.
        let modified = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(rule.last_modified.min(LAST_MILLISECOND)))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let body = RuleBody {
            pattern: PatternText(rule.pattern.clone()),
            limits: LimitsBody::from(&spec.limits),
            shadow_limits: spec.shadow_limits.as_ref().map(LimitsBody::from),
            total: spec.total,
            description: spec.description.clone(),
            disabled: spec.disabled,
        };
        Self { body, version: rule.version, last_modified: humantime::format_rfc3339_millis(modified).to_string() }
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

/// What a batch did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AppliedView {
    /// The version of the book in force: after the batch, or untouched where it was a dry run.
    pub version: u64,
    /// What differs from before; empty when nothing changed.
    pub differences: Vec<DifferenceView>,
    /// Whether nothing was changed, because it was only asked what would be.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if takes a reference")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_round_trips_flat() {
        let json = r#"{"pattern":"a/*","concurrency":5,"rates":["3/1m"],"max-pushback":"30s","shadow-limits":{"concurrency":2},"total":true,"disabled":false}"#;
        let body: RuleBody = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), json);
        let view = RuleView { body, version: 3, last_modified: "then".to_owned() };
        let shown = serde_json::to_string(&view).unwrap();
        assert!(shown.ends_with(r#""disabled":false,"version":3,"last-modified":"then"}"#), "{shown}");
        assert_eq!(serde_json::from_str::<RuleView>(&shown).unwrap(), view);
    }

    #[test]
    fn bad_shadow_limits_are_told_from_bad_limits() {
        let spec = |json: &str| serde_json::from_str::<RuleBody>(json).unwrap().spec().unwrap_err().to_string();
        assert!(spec(r#"{"pattern":"a","max-pushback":"2days"}"#).starts_with("max-pushback"));
        assert!(spec(r#"{"pattern":"a","shadow-limits":{"max-wait":"2days"}}"#).starts_with("shadow-limits: max-wait"));
        let unknown = serde_json::from_str::<RuleBody>(r#"{"pattern":"a","shadow-limits":{"speed":1}}"#);
        assert!(unknown.unwrap_err().to_string().contains("unknown field `speed`"));
    }
}
