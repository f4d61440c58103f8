//! Explanations as they are shown: which rules stand how, what is used, what is in the way and what would change that.

use serde::{Deserialize, Serialize};
use weir_engine::{Constraint, ExplainedCounter, Explanation, Forecast, Reason, Refusal};

use super::counters::{CounterView, readable};
use super::rules::RuleView;
use super::text::DurationText;
use crate::problem::{ConstraintBody, Problem};

/// Why a request would be granted or not, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExplanationView {
    /// What it would get now if it did not wait; absent: it would be granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Problem>,
    /// Its counters, in the order in which they are asked.
    pub counters: Vec<ExplainedView>,
    /// How many stand before it; absent: it need not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it would be admitted; absent: never, not within its wait, or too much would have to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastView>,
    /// The version of the rule book that was asked.
    pub book_version: u64,
}

/// One counter of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExplainedView {
    /// What is used there, and what an operator has said.
    #[serde(flatten)]
    pub counter: CounterView,
    /// Every rule that matches, best rank first.
    pub rules: Vec<StandingView>,
    /// Every limit that holds for the request there.
    pub constraints: Vec<ExplainedConstraint>,
}

/// A rule that matches, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StandingView {
    /// `binds`, `binds-pool`, `outranked`, `disabled` or `shadow`.
    pub standing: String,
    /// The rule.
    pub rule: RuleView,
}

/// A limit that holds for the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExplainedConstraint {
    /// The limit, and what is used of it.
    #[serde(flatten)]
    pub constraint: ConstraintBody,
    /// Whether it does not admit the request now.
    pub in_the_way: bool,
    /// What would let the request pass, where it is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// When a request would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ForecastView {
    /// From now.
    pub admitted_in: DurationText,
    /// Whether it rests on how long leases were held so far. Else it is exact if nothing else arrives.
    pub estimated: bool,
}

impl From<Forecast> for ForecastView {
    fn from(forecast: Forecast) -> Self {
        Self { admitted_in: readable(forecast.admitted_in), estimated: forecast.estimated }
    }
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let refusal = explanation.refusal.as_ref();
        Self {
            counters: explanation.counters.into_iter().map(|found| explained(found, refusal)).collect(),
            refusal: refusal.map(Problem::refused),
            position: explanation.position,
            forecast: explanation.forecast.map(ForecastView::from),
            book_version: explanation.book_version,
        }
    }
}

fn explained(found: ExplainedCounter, refusal: Option<&Refusal>) -> ExplainedView {
    let ExplainedCounter { counter, rules, constraints } = found;
    let here: Vec<&Constraint> = refusal
        .iter()
        .flat_map(|refusal| &refusal.blocked_on)
        .filter(|constraint| constraint.counter == counter.counter)
        .collect();
    let same = |a: &Constraint, b: &Constraint| a.kind == b.kind && a.rate == b.rate;
    let never = refusal.is_some_and(|refusal| refusal.reason == Reason::TooLarge);
    let pinned = counter.pinned.is_some();
    // What a refusal names is described with the place in line, so it comes first; what is left is not in the way.
    let blocking = here.iter().map(|constraint| ExplainedConstraint {
        constraint: ConstraintBody::from(*constraint),
        in_the_way: true,
        remedy: Some(remedy(constraint, never, pinned)),
    });
    let others = constraints.iter().filter(|constraint| !here.iter().any(|blocking| same(blocking, constraint)));
    let others = others.map(|constraint| ExplainedConstraint {
        constraint: ConstraintBody::from(constraint),
        in_the_way: false,
        remedy: None,
    });
    ExplainedView {
        constraints: blocking.chain(others).collect(),
        rules: rules
            .iter()
            .map(|(rule, standing)| StandingView {
                standing: standing.as_str().to_owned(),
                rule: RuleView::from(&**rule),
            })
            .collect(),
        counter: CounterView::from(counter),
    }
}

fn remedy(constraint: &Constraint, never: bool, pinned: bool) -> String {
    let counter = &constraint.counter;
    let text = if never { constraint.remedy_of_size() } else { constraint.remedy() };
    // Pinned numbers stand in the place of a rule, under the name of their counter.
    if pinned { text.replace(&format!("rule `{counter}`"), &format!("the pin of `{counter}`")) } else { text }
}
