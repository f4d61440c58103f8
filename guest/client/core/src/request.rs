//! What a guest asks for, and its JSON form.
//!
//! Nothing is validated here: the server does, and its answer names what is wrong.

use crate::span::Span;
use serde::{Serialize, Serializer};

/// How many further targets or inline keys are remembered: more than the server takes, so that it still is the one to refuse.
const MAX_PARTS: usize = 32;

/// What a request says beyond scope, limit key and cost. Of two calls of one setter the later counts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) max_wait: Option<u64>,
    pub(crate) lease_time: Option<u64>,
    targets: Vec<Target>,
    priority: Option<u8>,
    fairness: Option<(String, u16)>,
    flow_controls: Vec<FlowControl>,
}

/// The limits of an inline key.
#[derive(Debug, Clone, Default)]
pub struct FlowLimits {
    /// How much may be held at once, and whether that counts cost.
    pub concurrency: Option<(u32, bool)>,
    /// How much may start in a period.
    pub rates: Vec<Rate>,
}

/// A limit on how much starts in a period.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Units a period.
    pub limit: u32,
    /// The period, in nanoseconds.
    pub period: u64,
    /// Spread evenly, and not in an exact window.
    pub smooth: bool,
    /// How many units may start at once.
    pub burst: Option<u32>,
    /// Whether it counts cost.
    pub cost: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct FlowControl {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<Concurrency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rates: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Concurrency(u32, bool);

impl Serialize for Concurrency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self(limit, false) => serializer.serialize_u32(*limit),
            Self(limit, true) => serializer.collect_str(&format_args!("{limit}:cost")),
        }
    }
}

impl Options {
    /// How long it may wait, in nanoseconds.
    pub fn set_max_wait(&mut self, max_wait: u64) {
        self.max_wait = Some(max_wait);
    }

    /// Ends the lease this many nanoseconds after its grant unless it is extended.
    pub fn set_lease_time(&mut self, lease_time: u64) {
        self.lease_time = Some(lease_time);
    }

    /// Asks for another scope and limit key in the same step.
    pub fn add_target(&mut self, scope: String, limit_key: Option<String>) {
        if self.targets.len() < MAX_PARTS {
            self.targets.push(Target { scope, limit_key });
        }
    }

    /// Who is served first.
    pub fn set_priority(&mut self, priority: u8) {
        self.priority = Some(priority);
    }

    /// Between whom waiting is shared fairly.
    pub fn set_fairness(&mut self, key: String, weight: u16) {
        self.fairness = Some((key, weight));
    }

    /// Asks for an inline key in the same step.
    pub fn add_flow_control(&mut self, key: String, limits: &FlowLimits) {
        if self.flow_controls.len() < MAX_PARTS {
            let concurrency = limits.concurrency.map(|(limit, cost)| Concurrency(limit, cost));
            let rates = limits.rates.iter().take(MAX_PARTS).map(Rate::text).collect();
            self.flow_controls.push(FlowControl { key, concurrency, rates });
        }
    }
}

impl Rate {
    fn text(&self) -> String {
        let mut text = format!("{}/{}", self.limit, Span(self.period).to_string().replace(' ', ""));
        if self.smooth {
            text.push_str(":smooth");
        }
        if let Some(burst) = self.burst {
            text.push_str(&format!(":burst={burst}"));
        }
        if self.cost {
            text.push_str(":cost");
        }
        text
    }
}

/// One request for leases.
#[derive(Debug)]
pub struct Ask {
    /// `None`: the scope of `WEIR_SCOPE`.
    pub scope: Option<String>,
    /// `l1` or `l1/l2`.
    pub limit_key: Option<String>,
    /// What one lease costs.
    pub cost: u32,
    /// All else.
    pub options: Options,
}

/// What an acquire has that a check has not.
pub(crate) struct Terms<'a> {
    pub(crate) max_wait: u64,
    pub(crate) lease_time: u64,
    pub(crate) count: u32,
    pub(crate) least: u32,
    pub(crate) key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Body<'a> {
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key: Option<&'a str>,
    cost: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    targets: &'a [Target],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    flow_controls: &'a [FlowControl],
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fairness_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(flatten)]
    terms: Option<TermsBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct TermsBody<'a> {
    max_wait: Span,
    lease_time: Span,
    count: u32,
    least: u32,
    idempotency_key: &'a str,
}

impl Ask {
    /// Every scope that it names.
    pub(crate) fn scopes<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(scope).chain(self.options.targets.iter().map(|target| target.scope.as_str()))
    }

    /// The body of an acquire, or without terms of a check.
    pub(crate) fn body(&self, scope: &str, terms: Option<&Terms<'_>>) -> Vec<u8> {
        let options = &self.options;
        let body = Body {
            scope,
            limit_key: self.limit_key.as_deref(),
            cost: self.cost,
            targets: &options.targets,
            flow_controls: &options.flow_controls,
            priority: options.priority,
            fairness_key: options.fairness.as_ref().map(|(key, _)| key.as_str()),
            weight: options.fairness.as_ref().map(|(_, weight)| *weight),
            terms: terms.map(|terms| TermsBody {
                max_wait: Span(terms.max_wait),
                lease_time: Span(terms.lease_time),
                count: terms.count,
                least: terms.least,
                idempotency_key: terms.key,
            }),
        };
        // Text, numbers and lists of them always have a JSON form.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ask(options: Options) -> Ask {
        Ask { scope: None, limit_key: Some("a/b".into()), cost: 3, options }
    }

    fn value(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_acquire_says_everything_in_the_names_of_the_api() {
        let mut options = Options::default();
        options.set_priority(200);
        options.set_fairness("ada".into(), 3);
        options.add_target("other".into(), None);
        options.add_target("other".into(), Some("k".into()));
        let rates = vec![
            Rate { limit: 3, period: 90_000_000_000, smooth: false, burst: None, cost: false },
            Rate { limit: 7, period: 1_000_000, smooth: true, burst: Some(9), cost: true },
        ];
        options.add_flow_control("plan".into(), &FlowLimits { concurrency: Some((5, true)), rates });
        options.add_flow_control("free".into(), &FlowLimits { concurrency: Some((0, false)), rates: Vec::new() });
        let terms = Terms { max_wait: 0, lease_time: 250_000_000, count: 5, least: 2, key: "k-1" };
        assert_eq!(
            value(&ask(options).body("s", Some(&terms))),
            json!({
                "scope": "s", "limit-key": "a/b", "cost": 3,
                "targets": [{ "scope": "other" }, { "scope": "other", "limit-key": "k" }],
                "flow-controls": [
                    { "key": "plan", "concurrency": "5:cost", "rates": ["3/1m30s", "7/1ms:smooth:burst=9:cost"] },
                    { "key": "free", "concurrency": 0 },
                ],
                "priority": 200, "fairness-key": "ada", "weight": 3,
                "max-wait": "0s", "lease-time": "250ms", "count": 5, "least": 2, "idempotency-key": "k-1",
            })
        );
    }

    #[test]
    fn a_check_has_no_terms() {
        assert_eq!(
            value(&ask(Options::default()).body("s", None)),
            json!({ "scope": "s", "limit-key": "a/b", "cost": 3 })
        );
    }

    #[test]
    fn a_guest_that_adds_without_end_fills_no_memory() {
        let mut options = Options::default();
        for n in 0..1_000 {
            options.add_target(n.to_string(), None);
            options.add_flow_control(n.to_string(), &FlowLimits::default());
        }
        assert_eq!((options.targets.len(), options.flow_controls.len()), (MAX_PARTS, MAX_PARTS));
    }
}
