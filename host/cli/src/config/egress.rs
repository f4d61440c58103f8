//! The `[[egress]]` entries of a file: what calls to outside wait for. The limits that one names become a rule of the book.

use serde::Deserialize;
use toml::{Spanned, Value};
use weir_http::api::{ConcurrencyText, DurationText, LimitsBody, PatternText, RateText, RuleBody};
use weir_wasm::{Egress, EgressError, EgressRule};

use super::Fault;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct EgressTable {
    host: Spanned<String>,
    scope: Option<Spanned<String>>,
    limit_key: Option<Spanned<String>>,
    cost: Option<Spanned<Value>>,
    max_wait: Option<DurationText>,
    concurrency: Option<ConcurrencyText>,
    #[serde(default)]
    rates: Vec<RateText>,
}

/// Checks entries for themselves and beside each other, and answers the rules of their limits besides.
pub(super) fn check(tables: Vec<Spanned<EgressTable>>) -> Result<(Egress, Vec<Spanned<RuleBody>>), Fault> {
    let mut rules: Vec<EgressRule> = Vec::with_capacity(tables.len());
    let mut hosts = Vec::with_capacity(tables.len());
    let mut limits = Vec::new();
    for table in tables {
        let span = table.span();
        let table = table.into_inner();
        let rule = rule(&table)?;
        if table.concurrency.is_some() || !table.rates.is_empty() {
            let pattern = rule.pattern().map_err(|error| (table.host.span(), format!("host: {error}")))?;
            let body = RuleBody {
                pattern: PatternText(pattern),
                limits: LimitsBody {
                    concurrency: table.concurrency,
                    rates: table.rates,
                    max_waiters: None,
                    max_wait: None,
                    max_pushback: None,
                },
                shadow_limits: None,
                total: false,
                description: format!("calls to {}", table.host.get_ref()),
                disabled: false,
            };
            limits.push(Spanned::new(span, body));
        }
        hosts.push(table.host);
        rules.push(rule);
    }
    let egress = Egress::new(rules).map_err(|error| {
        let twice =
            |host: &&Spanned<String>| matches!(&error, EgressError::Twice { host: text } if text == host.get_ref());
        (hosts.iter().rfind(twice).map_or(0..0, Spanned::span), format!("host: {error}"))
    })?;
    Ok((egress, limits))
}

fn rule(table: &EgressTable) -> Result<EgressRule, Fault> {
    let fault = |field: &Spanned<String>, name: &str, error: EgressError| (field.span(), format!("{name}: {error}"));
    let scope = table.scope.as_ref();
    let mut rule =
        EgressRule::new(table.host.get_ref(), scope.map(|scope| scope.get_ref().as_str())).map_err(|error| {
            match (&error, scope) {
                (EgressError::Name(_), Some(scope)) => fault(scope, "scope", error),
                _ => fault(&table.host, "host", error),
            }
        })?;
    if let Some(limit_key) = &table.limit_key {
        rule = rule.limit_key(limit_key.get_ref()).map_err(|error| fault(limit_key, "limit-key", error))?;
    }
    if let Some(cost) = &table.cost {
        let text = match cost.get_ref() {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rule = rule.cost(&text).map_err(|error| (cost.span(), format!("cost: {error}")))?;
    }
    Ok(match table.max_wait {
        Some(max_wait) => rule.max_wait(max_wait.0),
        None => rule,
    })
}
