//! The bodies of the lease API, which any program can speak; the module `leases` serves them.
//!
//! A fencing number is text here: it has more digits than the numbers of many languages.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_engine::{
    Constraint, Limits, MAX_BATCH, MAX_TARGETS, Refusal, Request, RequestError, ScopedKey, Settled, TimedLease,
};

use super::rules::is_false;
use super::text::{ConcurrencyText, DurationText, RateText};
use super::{number, object};
use crate::problem::ConstraintBody;

/// What is asked for, under which names and at what cost: the part that an acquire and a check have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckBody {
    /// The scope.
    pub scope: String,
    /// The limit key, `l1` or `l1/l2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_key: Option<String>,
    /// Units, where a limit counts cost. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<NonZeroU32>,
    /// Further scopes and limit keys: all are granted in one step, or none.
    #[serde(default, deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetBody>,
    /// Inline keys under the scope, with the limits that hold for this request.
    #[serde(default, deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
    pub flow_controls: Vec<FlowControlBody>,
    /// Who is served first: 255 before 0. Default: 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Between whom waiting is shared fairly. Default: the limit key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<String>,
    /// The share of the fairness key beside others, 1 to 1,000. Default: 1.
    #[serde(default, deserialize_with = "number::weight", skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU16>,
}

/// A request for leases: `POST /weir/v1/leases`; or to be explained: `POST /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "AcquireFields")]
pub struct AcquireBody {
    /// What is asked for.
    #[serde(flatten)]
    pub what: CheckBody,
    /// How long it may wait for its turn; `0s`: not at all. Default: what the rules say, else 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<DurationText>,
    /// How long each lease lasts unless it is extended: 100 ms to 1 h. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_time: Option<DurationText>,
    /// How many leases, each of the cost and ending on its own: 1 to 1,000. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroU32>,
    /// With how many of them it is content. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<NonZeroU32>,
    /// Makes the same request, sent again, answer as the first did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The same for reading: serde's `flatten` neither refuses unknown fields nor says where the fault is.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AcquireFields {
    scope: String,
    limit_key: Option<String>,
    cost: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "object::list")]
    targets: Vec<TargetBody>,
    #[serde(default, deserialize_with = "object::list")]
    flow_controls: Vec<FlowControlBody>,
    priority: Option<u8>,
    fairness_key: Option<String>,
    #[serde(default, deserialize_with = "number::weight")]
    weight: Option<NonZeroU16>,
    max_wait: Option<DurationText>,
    lease_time: Option<DurationText>,
    #[serde(default, deserialize_with = "number::batch")]
    count: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "number::batch")]
    least: Option<NonZeroU32>,
    idempotency_key: Option<String>,
}

impl From<AcquireFields> for AcquireBody {
    fn from(fields: AcquireFields) -> Self {
        Self {
            what: CheckBody {
                scope: fields.scope,
                limit_key: fields.limit_key,
                cost: fields.cost,
                targets: fields.targets,
                flow_controls: fields.flow_controls,
                priority: fields.priority,
                fairness_key: fields.fairness_key,
                weight: fields.weight,
            },
            max_wait: fields.max_wait,
            lease_time: fields.lease_time,
            count: fields.count,
            least: fields.least,
            idempotency_key: fields.idempotency_key,
        }
    }
}

/// A further scope and limit key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TargetBody {
    /// The scope.
    pub scope: String,
    /// The limit key, `l1` or `l1/l2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_key: Option<String>,
}

/// An inline key and the limits that a request brings along for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FlowControlBody {
    /// The key.
    pub key: String,
    /// How much may be held at once; absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyText>,
    /// How much may start in a period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateText>,
}

/// A field of a body that is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which, such as `targets[1].limit-key`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, error: impl fmt::Display) -> Self {
        Self { field: field.into(), detail: error.to_string() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for FieldError {}

/// A scoped key from its two fields; `place` is what stands before their names.
fn key(place: fmt::Arguments<'_>, scope: &str, limit_key: Option<&str>) -> Result<ScopedKey, FieldError> {
    ScopedKey::new(scope, limit_key).map_err(|error| {
        let field = if ScopedKey::new(scope, None).is_err() { "scope" } else { "limit-key" };
        FieldError::new(format!("{place}{field}"), error)
    })
}

impl CheckBody {
    /// The request that this body stands for.
    ///
    /// # Errors
    /// The first field that is not valid.
    pub fn request(&self) -> Result<Request, FieldError> {
        // Also of those that name the same: a list has a length.
        let (targets, controls) = (self.targets.len(), self.flow_controls.len());
        if targets + controls >= MAX_TARGETS {
            let field = if targets >= controls { "targets" } else { "flow-controls" };
            let most = MAX_TARGETS - 1;
            return Err(FieldError::new(field, format!("{} further keys: at most {most}", targets + controls)));
        }
        let mut request = Request::new(key(format_args!(""), &self.scope, self.limit_key.as_deref())?);
        request.cost = self.cost.unwrap_or(NonZeroU32::MIN);
        for (at, target) in self.targets.iter().enumerate() {
            let further = key(format_args!("targets[{at}]."), &target.scope, target.limit_key.as_deref())?;
            request = request.also(further).map_err(|error| FieldError::new(format!("targets[{at}]"), error))?;
        }
        for (at, control) in self.flow_controls.iter().enumerate() {
            let limits = Limits {
                concurrency: control.concurrency.map(|text| text.0),
                rates: control.rates.iter().map(|text| text.0.clone()).collect(),
                ..Limits::default()
            };
            request = request
                .inline(&self.scope, &control.key, limits)
                .map_err(|error| FieldError::new(format!("flow-controls[{at}]"), error))?;
        }
        if let Some(priority) = self.priority {
            request.priority = priority;
        }
        if let Some(weight) = self.weight {
            request.weight = weight;
            request.validate().map_err(|error| FieldError::new("weight", error))?;
        }
        if let Some(text) = &self.fairness_key {
            let weight = request.weight;
            request = request.fairness(text, weight).map_err(|error| FieldError::new("fairness-key", error))?;
        }
        Ok(request)
    }
}

impl AcquireBody {
    /// The request that this body stands for.
    ///
    /// # Errors
    /// The first field that is not valid.
    pub fn request(&self) -> Result<Request, FieldError> {
        let mut request = self.what.request()?;
        request.max_wait = self.max_wait.map(|text| text.0);
        if let Some(DurationText(time)) = self.lease_time {
            weir_engine::check_lease_time(time).map_err(|error| FieldError::new("lease-time", error))?;
            request.lease_time = Some(time);
        }
        if self.count.is_some() || self.least.is_some() {
            let count = self.count.unwrap_or(NonZeroU32::MIN);
            let wrong = |error: RequestError| {
                // A count that may be is not what is wrong with it.
                let least = matches!(error, RequestError::Batch { count, .. } if count <= MAX_BATCH);
                FieldError::new(if least { "least" } else { "count" }, error)
            };
            request = request.batch(count, self.least.unwrap_or(count)).map_err(wrong)?;
        }
        if let Some(text) = &self.idempotency_key {
            request = request.idempotency_key(text).map_err(|error| FieldError::new("idempotency-key", error))?;
        }
        Ok(request)
    }
}

/// What an acquire got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeasesView {
    /// The leases: one, or as many as were asked for and fit.
    pub leases: Vec<LeaseView>,
    /// How long it waited.
    pub waited: DurationText,
    /// The version of the rule book that granted it.
    pub book_version: u64,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseView {
    /// Its id. Who knows it can extend, settle and release the lease.
    pub id: String,
    /// Its fencing number, in digits.
    pub fence: String,
    /// How long it lasts unless it is extended; `0s`: it has ended, where others of its batch have not.
    pub remaining: DurationText,
}

impl From<&TimedLease> for LeaseView {
    fn from(lease: &TimedLease) -> Self {
        Self {
            id: lease.id.to_string(),
            fence: lease.fence.to_string(),
            remaining: DurationText::left(lease.remaining),
        }
    }
}

impl LeasesView {
    /// Shows the leases of one request.
    #[must_use]
    pub fn of(leases: &[TimedLease]) -> Self {
        Self {
            leases: leases.iter().map(LeaseView::from).collect(),
            waited: DurationText(leases.first().map_or(Duration::ZERO, |lease| lease.waited)),
            book_version: leases.first().map_or(0, |lease| lease.book_version),
        }
    }
}

/// Asks for more time: `POST /weir/v1/leases/{id}/extend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExtendBody {
    /// How long it is to last from now: 100 ms to 1 h. It never ends earlier than it would have.
    pub lease_time: DurationText,
}

/// How long a lease lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExtendedView {
    /// From now.
    pub remaining: DurationText,
}

/// Says what the work has really cost: `POST /weir/v1/leases/{id}/settle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SettleBody {
    /// In units of cost; it may be 0.
    pub cost: u32,
}

/// What settling came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SettledView {
    /// What the lease holds less than before.
    pub refunded: u32,
    /// What it has used beyond what it had asked for.
    pub overrun: u32,
}

impl From<Settled> for SettledView {
    fn from(settled: Settled) -> Self {
        Self { refunded: settled.refunded, overrun: settled.overrun }
    }
}

/// What a release came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleasedView {
    /// Whether it ended now. If not, it had ended before, or never was.
    pub released: bool,
}

/// What a request would get now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckView {
    /// Whether it would be granted.
    pub granted: bool,
    /// Why not, in the limiter's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it would be granted if nothing else came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<DurationText>,
    /// Whether that is an estimate.
    #[serde(default, skip_serializing_if = "is_false")]
    pub estimated: bool,
    /// What binds it, or what is in the way.
    pub constraints: Vec<ConstraintBody>,
}

impl CheckView {
    /// Shows an answer of the limiter.
    #[must_use]
    pub fn of(answer: &Result<Vec<Constraint>, Refusal>) -> Self {
        match answer {
            Ok(constraints) => Self {
                granted: true,
                reason: None,
                detail: None,
                retry_after: None,
                estimated: false,
                constraints: constraints.iter().map(ConstraintBody::from).collect(),
            },
            Err(refusal) => Self {
                granted: false,
                reason: Some(refusal.reason.as_str().to_owned()),
                detail: Some(refusal.to_string()),
                retry_after: refusal.retry_after.map(DurationText),
                estimated: refusal.blocked_on.iter().any(|constraint| constraint.estimated),
                constraints: refusal.blocked_on.iter().map(ConstraintBody::from).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(json: &str) -> Result<Request, String> {
        let body: AcquireBody = serde_json::from_str(json).map_err(|error| error.to_string())?;
        body.request().map_err(|error| error.to_string())
    }

    #[test]
    fn a_body_says_all_that_a_request_can() {
        let request = acquire(
            r#"{"scope":"model","limit-key":"gpt/eu","cost":7,"targets":[{"scope":"all"},{"scope":"t","limit-key":"1"}],
                "flow-controls":[{"key":"plan","concurrency":"5:cost","rates":["3/1m"]}],"priority":9,"fairness-key":"ada",
                "weight":3,"max-wait":"250ms","lease-time":"1h","count":4,"least":2,"idempotency-key":"k"}"#,
        )
        .unwrap();
        let targets: Vec<&str> = request.targets.iter().map(ScopedKey::as_str).collect();
        assert_eq!(targets, ["model/gpt/eu", "all", "t/1"]);
        assert_eq!(request.inline[0].name.as_str(), "model#plan");
        assert_eq!((request.cost.get(), request.priority, request.weight.get()), (7, 9, 3));
        assert_eq!((request.count.get(), request.least.get()), (4, 2));
        assert_eq!(request.max_wait, Some(Duration::from_millis(250)));
        assert_eq!(request.lease_time, Some(Duration::from_secs(3_600)));
        assert_eq!((request.fairness_key.as_deref(), request.idempotency_key.as_deref()), (Some("ada"), Some("k")));
        assert_eq!(acquire(r#"{"scope":"s"}"#).unwrap(), Request::new("s".parse().unwrap()));
        let nulls = r#"{"scope":"s","weight":null,"count":null,"least":null}"#;
        assert_eq!(acquire(nulls).unwrap(), Request::new("s".parse().unwrap()));
        assert_eq!(acquire(r#"{"scope":"s","count":5}"#).unwrap().least.get(), 5, "all, unless it says otherwise");
    }

    #[test]
    fn what_is_not_valid_is_named_by_its_field() {
        for (json, part) in [
            ("{}", "missing field `scope`"),
            (r#"{"scope":""}"#, "scope: the scope is empty"),
            (r#"{"scope":"a b"}"#, "scope: the scope has the byte 0x20"),
            (r#"{"scope":"a","limit-key":""}"#, "limit-key: "),
            (r#"{"scope":"a","limit-key":"b/c/d"}"#, "limit-key: "),
            (r#"{"scope":"a","limit_key":"b"}"#, "unknown field `limit_key`"),
            (r#"{"scope":"a","cost":0}"#, "nonzero"),
            (r#"{"scope":"a","cost":-1}"#, "invalid value"),
            (r#"{"scope":"a","cost":4294967296}"#, "invalid value"),
            (r#"{"scope":"a","targets":[{"scope":"b"},{"scope":"c","limit-key":"%"}]}"#, "targets[1].limit-key: "),
            (r#"{"scope":"a","flow-controls":[{"key":""}]}"#, "flow-controls[0]: "),
            (r#"{"scope":"a","flow-controls":[{"key":"k","rates":["3/1m","4/1m"]}]}"#, "flow-controls[0]: "),
            (r#"{"scope":"a","weight":1001}"#, "weight: a weight of 1001"),
            (r#"{"scope":"a","fairness-key":"x y"}"#, "fairness-key: "),
            (r#"{"scope":"a","lease-time":"99ms"}"#, "lease-time: "),
            (r#"{"scope":"a","lease-time":"61m"}"#, "lease-time: "),
            (r#"{"scope":"a","max-wait":"soon"}"#, "`soon` is not a duration"),
            (r#"{"scope":"a","count":1001}"#, "count: a batch of 1001"),
            (r#"{"scope":"a","count":2,"least":3}"#, "least: a batch of 2, at least 3"),
            (r#"{"scope":"a","least":1001}"#, "least: a batch of 1, at least 1001"),
            (r#"{"scope":"a","count":1001,"least":1002}"#, "count: a batch of 1001"),
            (r#"{"scope":"a","cost":4294967295,"count":2}"#, "count: 2 times"),
            (r#"{"scope":"a","count":0}"#, "integer `0`, expected a number from 1 to 1000"),
            (r#"{"scope":"a","least":-1}"#, "integer `-1`, expected a number from 1 to 1000"),
            (r#"{"scope":"a","count":4294967296}"#, "expected a number from 1 to 1000"),
            (r#"{"scope":"a","count":"2"}"#, "expected a number from 1 to 1000"),
            (r#"{"scope":"a","weight":0}"#, "integer `0`, expected a number from 1 to 1000"),
            (r#"{"scope":"a","weight":65536}"#, "integer `65536`, expected a number from 1 to 1000"),
            (r#"{"scope":"a","least":2}"#, "least: a batch of 1, at least 2"),
            (r#"{"scope":"a","idempotency-key":"x y"}"#, "idempotency-key: "),
        ] {
            let shown = acquire(json).unwrap_err();
            assert!(shown.contains(part), "{json}: {shown}");
        }
        let many: Vec<String> = (0..16).map(|n| format!(r#"{{"scope":"t{n}"}}"#)).collect();
        let shown = acquire(&format!(r#"{{"scope":"a","targets":[{}]}}"#, many.join(","))).unwrap_err();
        assert_eq!(shown, "targets: 16 further keys: at most 15");
        let same = vec![r#"{"key":"k"}"#; 16].join(",");
        let shown = acquire(&format!(r#"{{"scope":"a","flow-controls":[{same}]}}"#)).unwrap_err();
        assert_eq!(shown, "flow-controls: 16 further keys: at most 15");
        assert!(acquire(&format!(r#"{{"scope":"a","targets":[{}]}}"#, many[1..].join(","))).is_ok());
    }

    #[test]
    fn an_acquire_is_written_flat() {
        let body = AcquireBody {
            what: CheckBody { scope: "s".to_owned(), ..CheckBody::default() },
            lease_time: Some(DurationText(Duration::from_secs(5))),
            ..AcquireBody::default()
        };
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(json, r#"{"scope":"s","lease-time":"5s"}"#);
        assert_eq!(serde_json::from_str::<AcquireBody>(&json).unwrap(), body);
    }
}
