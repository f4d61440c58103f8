//! The `[[rule]]` entries of a file, and the limits of its `[[egress]]`: of a whole `weir.toml`, or of one that holds rules
//! alone.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use weir_engine::{Change, Precondition, RuleError, RuleSpec};
use weir_http::api::RuleBody;
use weir_http::plainly;

use super::{ConfigError, FileTable, egress, read_text};
use crate::error::Failure;

/// A rule as it was written, and what it stands for.
pub(super) struct Checked {
    body: RuleBody,
    spec: RuleSpec,
}

impl Checked {
    /// The change that makes it.
    pub(super) fn change(self) -> Change {
        Change::Put { pattern: self.body.pattern.0, spec: self.spec, when: Precondition::MustNotExist }
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
    let refuse =
        |span, problem| Failure::usage(ConfigError { file: file.to_owned(), text: text.to_owned(), span, problem });
    let table: FileTable = toml::from_str(text).map_err(|error| refuse(error.span(), plainly(error.message())))?;
    let rules = egress::check(table.egress).and_then(|(_, limits)| check([table.rule, limits].concat()));
    rules.map_err(|(span, problem)| refuse(Some(span), problem))
}

/// Checks rules for themselves and beside each other.
pub(super) fn check(rules: Vec<Spanned<RuleBody>>) -> Result<Vec<Checked>, (Range<usize>, String)> {
    let mut patterns = HashSet::new();
    let mut checked = Vec::with_capacity(rules.len());
    for rule in rules {
        let span = rule.span();
        let body = rule.into_inner();
        let pattern = body.pattern.0.clone();
        let spec = body.spec().map_err(|error| (span.clone(), format!("rule `{pattern}`: {error}")))?;
        if body.total && !pattern.as_str().contains('*') {
            return Err((span, RuleError::TotalOfOne { pattern }.to_string()));
        }
        if !patterns.insert(pattern.clone()) {
            return Err((span, format!("pattern: there is another rule for `{pattern}`")));
        }
        checked.push(Checked { body, spec });
    }
    Ok(checked)
}
