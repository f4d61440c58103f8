//! Rules and batches as they arrive: a body becomes a [`Change`] of the rule book, or an error that names its entry.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use weir_engine::{Change, Precondition, RulePatch};

use super::limits::LimitsBody;
use super::object;
use super::rules::{RuleBody, SpecError, check_description, is_false};
use super::text::{ConcurrencyText, DurationText, PatternText, RateText};

/// The fields of a rule to change: absent keeps one, `null` unsets it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsPatch {
    /// Concurrency; `null`: unlimited.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Option<ConcurrencyText>>,
    /// All rates at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Vec<RateText>>,
    /// The room to wait; `null`: the default.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub max_waiters: Option<Option<u32>>,
    /// The longest wait; `null`: the default.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Option<DurationText>>,
    /// The longest pushback; `null`: the default.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub max_pushback: Option<Option<DurationText>>,
    /// All shadow limits at once; `null`: none.
    #[serde(default, deserialize_with = "object::nullable", skip_serializing_if = "Option::is_none")]
    pub shadow_limits: Option<Option<LimitsBody>>,
    /// One counter for all that match, or one for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<bool>,
    /// The description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Disabled or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// A patch and the rule it is for; the rule is created when absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PatchBody {
    /// The rule's pattern.
    pub pattern: PatternText,
    /// What to change.
    #[serde(flatten)]
    pub fields: LimitsPatch,
}

// serde's `flatten` cannot refuse unknown fields, so reading goes over a map: the pattern is taken out of it and the rest
// must be a patch.
impl<'de> Deserialize<'de> for PatchBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let pattern = fields.remove("pattern").ok_or_else(|| D::Error::missing_field("pattern"))?;
        Ok(Self {
            pattern: serde_json::from_value(pattern)
                .map_err(|error| D::Error::custom(format_args!("pattern: {error}")))?,
            fields: serde_path_to_error::deserialize(serde_json::Value::Object(fields)).map_err(|error| match error
                .path()
                .to_string()
            {
                path if path == "." => D::Error::custom(error.inner()),
                path => D::Error::custom(format_args!("{path}: {}", error.inner())),
            })?,
        })
    }
}

impl LimitsPatch {
    /// The patch this body stands for.
    #[must_use]
    pub fn patch(&self) -> RulePatch {
        RulePatch {
            concurrency: self.concurrency.map(|field| field.map(|text| text.0)),
            rates: self.rates.as_ref().map(|rates| rates.iter().map(|text| text.0.clone()).collect()),
            max_waiters: self.max_waiters,
            max_wait: self.max_wait.map(|field| field.map(|text| text.0)),
            max_pushback: self.max_pushback.map(|field| field.map(|text| text.0)),
            shadow_limits: self.shadow_limits.as_ref().map(|field| field.as_ref().map(LimitsBody::limits)),
            total: self.total,
            description: self.description.clone(),
            disabled: self.disabled,
        }
    }
}

/// One entry of a batch: exactly one of `put`, `patch` and `delete`, and at most one precondition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChangeBody {
    /// Replaces or creates a rule.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub put: Option<RuleBody>,
    /// Merges into a rule, or creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchBody>,
    /// Removes a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<PatternText>,
    /// Only if the rule has this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// Only if there is no such rule.
    #[serde(default, skip_serializing_if = "is_false")]
    pub if_absent: bool,
}

/// A batch of changes, applied together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BatchBody {
    /// The changes, in order.
    #[serde(deserialize_with = "object::list")]
    pub changes: Vec<ChangeBody>,
    /// Only if the book has this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_book_version: Option<u64>,
}

/// Why a batch is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// An entry says nothing, or too much.
    #[error("write exactly one of put, patch and delete")]
    NotOne,
    /// Two preconditions exclude each other.
    #[error("if-version and if-absent exclude each other: write one of them")]
    TwoPreconditions,
    /// A rule cannot both be absent and be deleted.
    #[error("if-absent makes no sense with delete: a rule that is absent cannot be deleted")]
    DeleteAbsent,
    /// A limit or a description is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl ChangeBody {
    /// The change this body stands for.
    ///
    /// # Errors
    /// It is none, or more than one.
    pub fn change(&self) -> Result<Change, ChangeError> {
        let when = match (self.if_version, self.if_absent) {
            (Some(_), true) => return Err(ChangeError::TwoPreconditions),
            (Some(version), false) => Precondition::Version(version),
            (None, true) => Precondition::MustNotExist,
            (None, false) => Precondition::None,
        };
        match (&self.put, &self.patch, &self.delete) {
            (Some(rule), None, None) => Ok(Change::Put { pattern: rule.pattern.0.clone(), spec: rule.spec()?, when }),
            (None, Some(patch), None) => {
                patch.fields.description.as_deref().map_or(Ok(()), check_description)?;
                Ok(Change::Patch { pattern: patch.pattern.0.clone(), patch: patch.fields.patch(), when })
            }
            (None, None, Some(_)) if self.if_absent => Err(ChangeError::DeleteAbsent),
            (None, None, Some(pattern)) => Ok(Change::Delete { pattern: pattern.0.clone(), when }),
            _ => Err(ChangeError::NotOne),
        }
    }
}

impl BatchBody {
    /// The changes this batch stands for.
    ///
    /// # Errors
    /// The index of the first entry that is no change, and why.
    pub fn changes(&self) -> Result<Vec<Change>, (usize, ChangeError)> {
        self.changes.iter().enumerate().map(|(index, body)| body.change().map_err(|error| (index, error))).collect()
    }
}

impl From<Duration> for DurationText {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Tells `null` (unset) from an absent field (keep).
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: &str) -> Result<Change, String> {
        let body: ChangeBody = serde_json::from_str(json).map_err(|error| error.to_string())?;
        body.change().map_err(|error| error.to_string())
    }

    #[test]
    fn absent_keeps_and_null_unsets() {
        let Ok(Change::Patch { patch, .. }) = change(r#"{"patch":{"pattern":"a/*","concurrency":null,"rates":[]}}"#)
        else {
            panic!("no patch")
        };
        assert_eq!(patch.concurrency, Some(None));
        assert_eq!(patch.rates, Some(Vec::new()));
        assert_eq!(patch.max_wait, None);
        assert_eq!(patch.description, None);
    }

    #[test]
    fn entries_that_are_no_change_say_why() {
        for (json, part) in [
            ("{}", "exactly one of"),
            (r#"{"put":{"pattern":"a"},"delete":"a"}"#, "exactly one of"),
            (r#"{"put":{"pattern":"a"},"if-version":1,"if-absent":true}"#, "exclude each other"),
            (r#"{"delete":"a","if-absent":true}"#, "makes no sense"),
            (r#"{"put":{"pattern":"a","concurency":1}}"#, "unknown field `concurency`"),
            (r#"{"patch":{"pattern":"a","concurency":1}}"#, "unknown field `concurency`"),
            (r#"{"patch":{"concurrency":1}}"#, "missing field `pattern`"),
            (r#"{"patch":{"pattern":"a","max-wait":"soon"}}"#, "max-wait: `soon` is not a duration"),
            (r#"{"put":{"pattern":"a","rates":["3/1m","4/1m"]}}"#, "two rates"),
            (r#"{"put":{"pattern":"a","shadow-limits":{"rates":["3/1m","4/1m"]}}}"#, "shadow-limits: two rates"),
            (r#"{"patch":{"pattern":"a","shadow-limits":{"max-wait":"soon"}}}"#, "shadow-limits.max-wait: `soon`"),
            (r#"{"delete":"a/b/c/d"}"#, "parts"),
        ] {
            let shown = change(json).unwrap_err();
            assert!(shown.contains(part), "{json}: {shown}");
        }
    }

    #[test]
    fn a_patch_round_trips() {
        let json = r#"{"patch":{"pattern":"a/*","concurrency":null,"rates":["3/1m"],"max-wait":"30s","max-pushback":null,"shadow-limits":{"concurrency":2},"total":true,"disabled":true},"if-version":3}"#;
        let body: ChangeBody = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), json);
    }
}
