//! Which rules of a book bind a counter.
//!
//! Of the *enforcing* rules that match, the best-ranked binds and replaces the others. Besides, the best-ranked rule with
//! shadow limits is reported, and every `total` rule binds the pool of all that match it, however exact the winner. A rule
//! enforces unless it is a `total` or carries shadow limits alone.
//!
//! # Complexity
//! A lookup asks for at most eight patterns by name, whatever the number of rules.

use crate::book::{Rule, RuleBook};
use crate::pattern::Shape;
use std::sync::Arc;

/// What the book says about one counter.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// The best enforcing rule.
    pub rule: Option<Arc<Rule>>,
    /// The best rule with shadow limits.
    pub shadow: Option<Arc<Rule>>,
    /// Every `total` rule, best rank first.
    pub totals: Vec<Arc<Rule>>,
}

/// Why a rule that matches a counter does not bind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleStanding {
    /// It binds.
    Binds,
    /// It binds the pool of all that match.
    BindsPool,
    /// A better-ranked rule does.
    Outranked,
    /// It is disabled.
    Disabled,
    /// It is only reported.
    Shadow,
}

impl RuleStanding {
    /// The name used in JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binds => "binds",
            Self::BindsPool => "binds-pool",
            Self::Outranked => "outranked",
            Self::Disabled => "disabled",
            Self::Shadow => "shadow",
        }
    }
}

impl RuleBook {
    /// What the enabled rules say about the counter of this name.
    ///
    /// # Complexity
    /// At most eight lookups by name.
    #[must_use]
    pub fn binding(&self, counter: &str) -> Binding {
        let depth = counter.split('/').count();
        let mut pattern = String::new();
        let mut binding = Binding::default();
        let mut shapes = self.shapes;
        for exact in Shape::by_rank(depth) {
            let shape = Shape { depth, exact: *exact };
            if shapes & shape.bit() == 0 {
                continue;
            }
            shape.write(counter, &mut pattern);
            let Some(rule) = self.rules.get(pattern.as_str()).filter(|rule| !rule.spec.disabled) else { continue };
            if rule.spec.total {
                binding.totals.push(Arc::clone(rule));
                continue;
            }
            if binding.rule.is_none() && rule.spec.enforces() {
                binding.rule = Some(Arc::clone(rule));
                shapes = self.besides;
            }
            if binding.shadow.is_none() && rule.spec.shadow_limits.is_some() {
                binding.shadow = Some(Arc::clone(rule));
            }
        }
        binding
    }

    /// The `total` rule of a pool, by its pattern.
    pub(crate) fn pool(&self, pattern: &str) -> Option<&Arc<Rule>> {
        self.rules.get(pattern).filter(|rule| rule.spec.total && !rule.spec.disabled)
    }

    /// Whether any pool is over several scopes.
    pub(crate) fn has_wide_totals(&self) -> bool {
        self.wide_totals
    }

    /// Every rule that matches the counter of this name, best rank first, and how it stands.
    #[must_use]
    pub fn matching(&self, counter: &str) -> Vec<(Arc<Rule>, RuleStanding)> {
        let depth = counter.split('/').count();
        let mut pattern = String::new();
        let (mut bound, mut reported) = (false, false);
        let mut found = Vec::new();
        for exact in Shape::by_rank(depth) {
            Shape { depth, exact: *exact }.write(counter, &mut pattern);
            let Some(rule) = self.rules.get(pattern.as_str()) else { continue };
            let standing = if rule.spec.disabled {
                RuleStanding::Disabled
            } else if rule.spec.total {
                RuleStanding::BindsPool
            } else if rule.spec.enforces() {
                if std::mem::replace(&mut bound, true) { RuleStanding::Outranked } else { RuleStanding::Binds }
            } else if std::mem::replace(&mut reported, true) {
                RuleStanding::Outranked
            } else {
                RuleStanding::Shadow
            };
            reported |= !rule.spec.disabled && !rule.spec.total && rule.spec.shadow_limits.is_some();
            found.push((Arc::clone(rule), standing));
        }
        found
    }
}
