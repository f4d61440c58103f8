//! The `[[rule]]` entries of a file, and the limits of its `[[egress]]`: of a whole `weir.toml`, or of one that holds rules
//! alone.

use std::collections::HashMap;
use std::path::Path;
use std::slice;

use toml::Spanned;
use weir_engine::{Change, LimitError, Precondition, RuleBook, RuleError};
use weir_http::api::{RuleBody, SpecError};

use super::{ConfigError, Fault, egress, place, read_text, tables};
use crate::error::Failure;

/// A rule as it was written, and what it stands for.
pub(super) struct Checked {
    body: RuleBody,
    change: Change,
}

impl Checked {
    /// The change that makes it.
    pub(super) fn change(self) -> Change {
        self.change
    }
}

/// Reads the rules of a configuration. Its components need not be there.
pub(crate) fn rules(file: &Path) -> Result<Vec<Change>, Failure> {
    let text = read_text(file, "configuration").map_err(|refused| refused.hint("name another with -c FILE"))?;
    Ok(parse(file, &text)?.into_iter().map(Checked::change).collect())
}

/// Reads the rules of a file as they are written.
pub(crate) fn written_rules(file: &Path) -> Result<Vec<RuleBody>, Failure> {
    Ok(parse(file, &read_text(file, "rules")?)?.into_iter().map(|rule| rule.body).collect())
}

fn parse(file: &Path, text: &str) -> Result<Vec<Checked>, Failure> {
    let table = tables(file, text).map_err(Failure::usage)?;
    let rules = egress::check(table.egress).and_then(|(_, limits)| check(text, table.rule, limits));
    rules.map_err(|(span, problem)| {
        Failure::usage(ConfigError { file: file.to_owned(), text: text.to_owned(), span: Some(span), problem })
    })
}

/// Checks rules, and the limits of `[[egress]]` as rules, for themselves and beside each other.
pub(super) fn check(
    text: &str,
    rules: Vec<Spanned<RuleBody>>,
    limits: Vec<Spanned<RuleBody>>,
) -> Result<Vec<Checked>, Fault> {
    let mut checked = Vec::with_capacity(rules.len() + limits.len());
    // Whether each is of an egress.
    let mut patterns = HashMap::with_capacity(checked.capacity());
    let rules = rules.into_iter().map(|rule| (rule, false));
    for (rule, of_egress) in rules.chain(limits.into_iter().map(|rule| (rule, true))) {
        let table = rule.span();
        let at = |field: &str, problem: String| (place::of_field(text, &table, field), problem);
        let body = rule.into_inner();
        let pattern = body.pattern.0.clone();
        let spec = body.spec().map_err(|error| at(field_of(&error), format!("rule `{pattern}`: {error}")))?;
        let change = Change::Put { pattern: pattern.clone(), spec, when: Precondition::MustNotExist };
        // A book knows more of what a rule must be.
        if let Err(error) = RuleBook::default().apply(slice::from_ref(&change), 0) {
            let field = match &error {
                RuleError::TotalOfOne { .. } => "total",
                RuleError::DescriptionTooLong { .. } => "description",
                _ => "pattern",
            };
            return Err(at(field, error.to_string()));
        }
        let limit = if body.limits.concurrency.is_some() { "concurrency" } else { "rates" };
        match patterns.insert(pattern.clone(), of_egress) {
            None => {}
            Some(_) if !of_egress => {
                return Err(at("pattern", format!("pattern: there is another rule for `{pattern}`")));
            }
            Some(true) => {
                return Err(at(limit, format!("{limit}: another [[egress]] has limits for `{pattern}`")));
            }
            Some(false) => {
                let problem =
                    format!("{limit}: there is a [[rule]] for `{pattern}`: write these limits there, or it here");
                return Err(at(limit, problem));
            }
        }
        checked.push(Checked { body, change });
    }
    Ok(checked)
}

/// The field that a rule is refused for.
fn field_of(error: &SpecError) -> &'static str {
    match error {
        SpecError::Limit(LimitError::MaxWaiters { .. }) => "max-waiters",
        SpecError::Limit(LimitError::MaxWait { .. }) => "max-wait",
        SpecError::Limit(LimitError::MaxPushback { .. }) => "max-pushback",
        SpecError::Limit(_) => "rates",
        SpecError::Shadow(_) => "shadow-limits",
        SpecError::Description { .. } => "description",
    }
}
