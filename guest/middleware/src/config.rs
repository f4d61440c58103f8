//! What is asked for each request, from the environment of the composed component:
//!
//! | Variable | Says | Default |
//! |---|---|---|
//! | `WEIR_SCOPE` | the scope, a [template](crate::template) | that of the request, else the component's own |
//! | `WEIR_LIMIT_KEY` | the limit key, one or two templates with `/` between | none |
//! | `WEIR_COST` | what it costs, at least 1: a number, or a template of one | 1 |
//! | `WEIR_PRIORITY` | who is served first, 0 to 255: a number, or a template of one | 128 |
//! | `WEIR_MAX_WAIT` | the longest wait, such as `250ms` | the rule's, else 60 s |
//!
//! With `WEIR_COST={header:x-cost|1}` a request with `x-cost: 40` costs 40, one without it 1, and one with `x-cost: +40` is
//! answered 400. A header and a path are the word of whoever sends them: a client that can send this header chooses its own
//! cost, and so its own priority. Take either from a request only behind a gateway that sets it, whatever the client sent.
//!
//! It is read once in the life of an instance. What is wrong with it is said, with the variable, in every answer.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use weir_guest::Acquire;

use crate::template::{Facts, Number, Template};

/// `humantime` panics where the sum of its parts overflows; two parts that could do not fit into so many bytes.
const MAX_DURATION_BYTES: usize = 20;

/// What is asked for each request.
pub(crate) struct Config {
    scope: Option<Template>,
    limit_key: Vec<Template>,
    cost: Option<Number<NonZeroU32>>,
    priority: Option<Number<u8>>,
    max_wait: Option<Duration>,
}

impl Config {
    /// Reads the variables. An empty one is as good as none.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let scope = variable("WEIR_SCOPE");
        if scope.as_ref().is_some_and(|scope| scope.contains('/')) {
            return Err("WEIR_SCOPE: a scope has no `/`: what follows is a limit key, for WEIR_LIMIT_KEY".to_owned());
        }
        let scope = scope.map(|text| parsed("WEIR_SCOPE", &text)).transpose()?;
        // Cut before it is filled in: no header can bring a part of its own.
        let limit_key = variable("WEIR_LIMIT_KEY").map(|text| {
            text.split('/').map(|part| parsed::<Template>("WEIR_LIMIT_KEY", part)).collect::<Result<Vec<_>, _>>()
        });
        let limit_key = limit_key.transpose()?.unwrap_or_default();
        if limit_key.len() > 2 {
            return Err("WEIR_LIMIT_KEY: a limit key has one or two parts".to_owned());
        }
        Ok(Self {
            scope,
            limit_key,
            cost: variable("WEIR_COST").map(|text| parsed("WEIR_COST", &text)).transpose()?,
            priority: variable("WEIR_PRIORITY").map(|text| parsed("WEIR_PRIORITY", &text)).transpose()?,
            max_wait: variable("WEIR_MAX_WAIT").map(|text| duration(&text)).transpose()?,
        })
    }

    /// What to ask for a request.
    ///
    /// # Errors
    /// What the request lacks, or has and must not.
    pub(crate) fn acquire(&self, request: &impl Facts) -> Result<Acquire, String> {
        let mut acquire = match &self.scope {
            Some(scope) => weir_guest::acquire(scope.fill(request)?),
            None => weir_guest::here(),
        };
        if !self.limit_key.is_empty() {
            let parts = self.limit_key.iter().map(|part| part.fill(request)).collect::<Result<Vec<_>, _>>()?;
            acquire = acquire.limit_key(parts.join("/"));
        }
        if let Some(cost) = &self.cost {
            acquire = acquire.cost_of(cost.fill(request)?);
        }
        if let Some(priority) = &self.priority {
            acquire = acquire.priority(priority.fill(request)?);
        }
        if let Some(max_wait) = self.max_wait {
            acquire = acquire.max_wait(max_wait);
        }
        Ok(acquire)
    }
}

fn parsed<T: FromStr<Err = String>>(variable: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|problem: String| format!("{variable}: {problem}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = if text.len() > MAX_DURATION_BYTES { None } else { humantime::parse_duration(text).ok() };
    duration.ok_or_else(|| format!("WEIR_MAX_WAIT: `{text}` is not a duration such as `250ms`"))
}
