//! What differs between two states of the rule book.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_http::api::{BookView, RuleBody};

use super::words;

/// Rules by pattern.
pub(super) type Rules = BTreeMap<String, RuleBody>;

/// One rule that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) pattern: String,
    /// `added`, `changed`, `removed`, `enabled` or `disabled`, as the admin API says.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<RuleBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<RuleBody>,
}

/// The rules of a book.
pub(super) fn rules(book: &BookView) -> Rules {
    book.rules.iter().map(|rule| (rule.body.pattern.0.to_string(), rule.body.clone())).collect()
}

/// What became of each rule, in the order of the patterns.
pub(super) fn between(before: &Rules, after: &Rules) -> Vec<Difference> {
    let mut differences: Vec<Difference> = after
        .iter()
        .filter_map(|(pattern, new)| {
            let old = before.get(pattern);
            let kind = match old {
                None => "added",
                Some(old) if old == new => return None,
                Some(old) if old.disabled && !new.disabled => "enabled",
                Some(old) if !old.disabled && new.disabled => "disabled",
                Some(_) => "changed",
            };
            Some(Difference { pattern: pattern.clone(), kind, before: old.cloned(), after: Some(new.clone()) })
        })
        .collect();
    let removed = before.iter().filter(|(pattern, _)| !after.contains_key(*pattern));
    differences.extend(removed.map(|(pattern, old)| Difference {
        pattern: pattern.clone(),
        kind: "removed",
        before: Some(old.clone()),
        after: None,
    }));
    differences.sort_by(|a, b| a.pattern.cmp(&b.pattern));
    differences
}

impl Difference {
    /// `+`, `-` or `~`.
    pub(super) fn sign(&self) -> char {
        match (&self.before, &self.after) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        }
    }

    /// What it says, or what of it has changed.
    pub(super) fn words(&self) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => words::changes(before, after),
            (before, after) => after.as_ref().or(before.as_ref()).map(words::rule).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_differs_is_named_once() {
        let rules = |all: &[(&str, &str)]| -> Rules {
            let body = |json: &str| serde_json::from_str::<RuleBody>(json).unwrap();
            all.iter()
                .map(|(pattern, rest)| ((*pattern).to_owned(), body(&format!(r#"{{"pattern":"{pattern}"{rest}}}"#))))
                .collect()
        };
        let before = rules(&[("a", ""), ("b", ""), ("c", ""), ("d", r#","disabled":true"#), ("e", "")]);
        let after =
            rules(&[("a", ""), ("b", r#","concurrency":1"#), ("c", r#","disabled":true"#), ("d", ""), ("f", "")]);
        let found: Vec<String> = between(&before, &after)
            .iter()
            .map(|found| format!("{} {} {}", found.sign(), found.pattern, found.kind))
            .collect();
        assert_eq!(found, ["~ b changed", "~ c disabled", "~ d enabled", "- e removed", "+ f added"]);
        assert!(between(&after, &after).is_empty());
    }
}
