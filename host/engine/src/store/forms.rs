//! Requests, limits and rules as JSON, for columns that only this program reads.
//!
//! Rates and concurrency are texts as in the configuration; durations are nanoseconds.

use serde::{Deserialize, Serialize};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{Caller, CounterName, Inline, Limits, Request, RuleSpec};

/// What is wrong with a form.
pub(super) type Problem = Box<dyn std::error::Error + Send + Sync>;

fn nanos(duration: Duration) -> u64 {
    crate::clock::nanos(duration)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rates: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_waiters: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_pushback: Option<u64>,
}

impl From<&Limits> for LimitsForm {
    fn from(limits: &Limits) -> Self {
        Self {
            concurrency: limits.concurrency.map(|concurrency| concurrency.to_string()),
            rates: limits.rates.iter().map(ToString::to_string).collect(),
            max_waiters: limits.max_waiters,
            max_wait: limits.max_wait.map(nanos),
            max_pushback: limits.max_pushback.map(nanos),
        }
    }
}

impl TryFrom<LimitsForm> for Limits {
    type Error = Problem;

    fn try_from(form: LimitsForm) -> Result<Self, Problem> {
        let limits = Self {
            concurrency: form.concurrency.map(|text| text.parse()).transpose()?,
            rates: form.rates.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            max_waiters: form.max_waiters,
            max_wait: form.max_wait.map(Duration::from_nanos),
            max_pushback: form.max_pushback.map(Duration::from_nanos),
        };
        limits.validate()?;
        Ok(limits)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleForm {
    limits: LimitsForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shadow_limits: Option<LimitsForm>,
    #[serde(default)]
    total: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    disabled: bool,
}

impl From<&RuleSpec> for RuleForm {
    fn from(spec: &RuleSpec) -> Self {
        Self {
            limits: LimitsForm::from(&spec.limits),
            shadow_limits: spec.shadow_limits.as_ref().map(LimitsForm::from),
            total: spec.total,
            description: spec.description.clone(),
            disabled: spec.disabled,
        }
    }
}

impl TryFrom<RuleForm> for RuleSpec {
    type Error = Problem;

    fn try_from(form: RuleForm) -> Result<Self, Problem> {
        Ok(Self {
            limits: form.limits.try_into()?,
            shadow_limits: form.shadow_limits.map(Limits::try_from).transpose()?,
            total: form.total,
            description: form.description,
            disabled: form.disabled,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InlineForm {
    name: String,
    limits: LimitsForm,
}

/// A request for timed leases, all but who asks and its idempotency key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestForm {
    targets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inline: Vec<InlineForm>,
    cost: NonZeroU32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_time: Option<u64>,
    priority: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fairness: Option<String>,
    weight: NonZeroU16,
    count: NonZeroU32,
    least: NonZeroU32,
}

impl From<&Request> for RequestForm {
    fn from(request: &Request) -> Self {
        let inline = |inline: &Arc<Inline>| InlineForm {
            name: inline.name.to_string(),
            limits: LimitsForm::from(&inline.limits),
        };
        Self {
            targets: request.targets.iter().map(ToString::to_string).collect(),
            inline: request.inline.iter().map(inline).collect(),
            cost: request.cost,
            lease_time: request.lease_time.map(nanos),
            priority: request.priority,
            fairness: request.fairness_key.as_deref().map(str::to_owned),
            weight: request.weight,
            count: request.count,
            least: request.least,
        }
    }
}

impl RequestForm {
    /// The request, of this caller and under this idempotency key.
    pub(super) fn request(self, caller: Caller, key: Option<&str>) -> Result<Request, Problem> {
        let mut request = Request::unscoped().cost(self.cost).priority(self.priority).caller(caller);
        request.targets = self.targets.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        for InlineForm { name, limits } in self.inline {
            let name: CounterName = name.parse()?;
            request.inline.push(Arc::new(Inline { name, limits: limits.try_into()? }));
        }
        request.lease_time = self.lease_time.map(Duration::from_nanos);
        request.fairness_key = self.fairness.map(Arc::from);
        (request.weight, request.count, request.least) = (self.weight, self.count, self.least);
        if let Some(key) = key {
            request = request.idempotency_key(key)?;
        }
        request.validate()?;
        Ok(request)
    }
}

/// The JSON of a form.
pub(super) fn json(form: &impl Serialize) -> String {
    // Structs of texts and numbers always have a JSON form.
    serde_json::to_string(form).unwrap_or_default()
}
