//! Limits as they are written: in a rule, as its shadow limits, and as the numbers that an operator pins.

use serde::{Deserialize, Serialize};
use weir_engine::Limits;

use super::text::{ConcurrencyText, DurationText, RateText};

/// How much is allowed. Whatever is absent is not limited, or has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsBody {
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
    /// How long a pushback may close a counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pushback: Option<DurationText>,
}

impl LimitsBody {
    /// The limits this body stands for, not yet checked against each other.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            concurrency: self.concurrency.map(|text| text.0),
            rates: self.rates.iter().map(|text| text.0.clone()).collect(),
            max_waiters: self.max_waiters,
            max_wait: self.max_wait.map(|text| text.0),
            max_pushback: self.max_pushback.map(|text| text.0),
        }
    }
}

impl From<&Limits> for LimitsBody {
    fn from(limits: &Limits) -> Self {
        Self {
            concurrency: limits.concurrency.map(ConcurrencyText),
            rates: limits.rates.iter().cloned().map(RateText).collect(),
            max_waiters: limits.max_waiters,
            max_wait: limits.max_wait.map(DurationText),
            max_pushback: limits.max_pushback.map(DurationText),
        }
    }
}
