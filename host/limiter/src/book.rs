//! The rule book: every rule of a deployment, changed in atomic batches.
//!
//! A book is immutable. [`RuleBook::apply`] checks a whole batch against the book and either answers the next book or
//! says which change is wrong; half a batch never exists. Every change of a rule gives it the version of the book that
//! first holds it, so one number orders all of them, and a [`Precondition`] on it lets exactly one of two writers win.
//!
//! Worked example: book 7 holds `llm/*` (version 4). A batch of { patch `llm/*` if version 4, put `llm` if absent }
//! answers book 8, in which both rules have version 8. The same batch again is refused: `llm/*` is now version 8.
//! A change that alters nothing is no change: it keeps the rule's version, and a batch of such keeps the book's.
//!
//! Which of its rules bind a counter is in [`crate::binding`].
//!
//! # Complexity
//! A batch clones the table of
//! reference counts, O(rules): changes are rare, lookups are not.

use crate::limits::{Concurrency, LimitError, Limits, Rate};
use crate::pattern::Pattern;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The most rules of one book: beyond, rules are data and belong in limit keys. 100,000 rules take about 30 MB.
pub const MAX_RULES: usize = 100_000;
/// The most changes of one batch.
pub const MAX_CHANGES: usize = MAX_RULES;
/// The longest description of a rule, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 1_024;

/// What an operator says about a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSpec {
    /// What is allowed.
    pub limits: Limits,
    /// What would be allowed, reported and never enforced.
    pub shadow_limits: Option<Limits>,
    /// One counter for all that match, a pool, instead of one for each.
    pub total: bool,
    /// For people.
    pub description: String,
    /// A disabled rule is kept, shown and ignored.
    pub disabled: bool,
}

impl RuleSpec {
    /// Whether it competes for binding: it is no `total`, and says more than shadow limits.
    #[must_use]
    pub fn enforces(&self) -> bool {
        !self.total && (self.shadow_limits.is_none() || !self.limits.is_empty())
    }
}

/// A rule as the book holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which counters it governs.
    pub pattern: Pattern,
    /// What it says.
    pub spec: RuleSpec,
    /// The version of the first book that held it as it is.
    pub version: u64,
    /// When that was, in milliseconds of Unix time.
    pub last_modified: u64,
}

/// A change of some fields of a rule; `None` keeps a field, `Some(None)` unsets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulePatch {
    /// The concurrency limit.
    pub concurrency: Option<Option<Concurrency>>,
    /// All rates.
    pub rates: Option<Vec<Rate>>,
    /// How many may wait.
    pub max_waiters: Option<Option<u32>>,
    /// How long one may wait.
    pub max_wait: Option<Option<Duration>>,
    /// How long a pushback may close a counter.
    pub max_pushback: Option<Option<Duration>>,
    /// All shadow limits.
    pub shadow_limits: Option<Option<Limits>>,
    /// Whether it is one counter for all that match.
    pub total: Option<bool>,
    /// The description.
    pub description: Option<String>,
    /// Whether it is ignored.
    pub disabled: Option<bool>,
}

impl RulePatch {
    fn merge(&self, spec: &mut RuleSpec) {
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut spec.limits.concurrency, self.concurrency.as_ref());
        set(&mut spec.limits.rates, self.rates.as_ref());
        set(&mut spec.limits.max_waiters, self.max_waiters.as_ref());
        set(&mut spec.limits.max_wait, self.max_wait.as_ref());
        set(&mut spec.limits.max_pushback, self.max_pushback.as_ref());
        set(&mut spec.shadow_limits, self.shadow_limits.as_ref());
        set(&mut spec.total, self.total.as_ref());
        set(&mut spec.description, self.description.as_ref());
        set(&mut spec.disabled, self.disabled.as_ref());
    }
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// The rule has this version.
    Version(u64),
    /// There is no rule for the pattern.
    MustNotExist,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates the rule or replaces it whole.
    Put {
        /// Which rule.
        pattern: Pattern,
        /// What it says from now on.
        spec: RuleSpec,
        /// What must hold.
        when: Precondition,
    },
    /// Changes the fields named and keeps the others; creates the rule when absent.
    Patch {
        /// Which rule.
        pattern: Pattern,
        /// The fields to change.
        patch: RulePatch,
        /// What must hold.
        when: Precondition,
    },
    /// Removes the rule.
    Delete {
        /// Which rule.
        pattern: Pattern,
        /// What must hold.
        when: Precondition,
    },
}

impl Change {
    /// Which rule it concerns.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        self.target().0
    }

    fn target(&self) -> (&Pattern, Precondition) {
        match self {
            Self::Put { pattern, when, .. } | Self::Patch { pattern, when, .. } | Self::Delete { pattern, when } => {
                (pattern, *when)
            }
        }
    }
}

/// Why a batch was refused. The book is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A rule to delete, or one whose version was named, is not there.
    #[error("there is no rule `{pattern}`")]
    NotFound {
        /// Which.
        pattern: Pattern,
    },
    /// Somebody else changed the rule first.
    #[error("rule `{pattern}` has version {found}, not {expected}: read it again, then repeat the change")]
    VersionMismatch {
        /// Which.
        pattern: Pattern,
        /// The version that the change named.
        expected: u64,
        /// The version it has.
        found: u64,
    },
    /// Somebody else changed the book first.
    #[error("the rule book has version {found}, not {expected}: look at it again, then repeat the batch")]
    BookVersionMismatch {
        /// The version that was named.
        expected: u64,
        /// The version it has.
        found: u64,
    },
    /// A rule that must not exist does.
    #[error("rule `{pattern}` exists already, with version {found}")]
    AlreadyExists {
        /// Which.
        pattern: Pattern,
        /// The version it has.
        found: u64,
    },
    /// One batch names a rule twice.
    #[error("rule `{pattern}` is changed twice in one batch")]
    ChangedTwice {
        /// Which.
        pattern: Pattern,
    },
    /// The batch or the book would be too large.
    #[error("{given} rules or changes: the most is {MAX_RULES}")]
    TooManyRules {
        /// How many.
        given: usize,
    },
    /// A description is too long.
    #[error("the description of rule `{pattern}` is {bytes} bytes long: the most is {MAX_DESCRIPTION_BYTES}")]
    DescriptionTooLong {
        /// Which rule.
        pattern: Pattern,
        /// Its length.
        bytes: usize,
    },
    /// A `total` rule whose pattern names one counter.
    #[error("rule `{pattern}`: `total` belongs to patterns with `*`; without one there is a single counter anyhow")]
    TotalOfOne {
        /// Which rule.
        pattern: Pattern,
    },
    /// A limit is not valid.
    #[error("rule `{pattern}`: {error}")]
    Limit {
        /// Which rule.
        pattern: Pattern,
        /// What is wrong.
        #[source]
        error: LimitError,
    },
}

/// One visible difference between two books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which rule.
    pub pattern: Pattern,
    /// What happened to it.
    pub kind: DifferenceKind,
}

/// What happened to a rule between two books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It is new.
    Added,
    /// Its limits or description changed.
    Changed,
    /// It was disabled and no longer is.
    Enabled,
    /// It is disabled now.
    Disabled,
    /// It is gone.
    Removed,
}

/// Every rule, under one version.
#[derive(Debug, Clone, Default)]
pub struct RuleBook {
    version: u64,
    pub(crate) rules: HashMap<Pattern, Arc<Rule>>,
    /// Which shapes of pattern any enabled rule has: a lookup skips the others.
    pub(crate) shapes: u16,
    /// Which shapes any enabled rule has that does not compete: a lookup that has found who binds asks for these only.
    pub(crate) besides: u16,
    /// Whether any enabled `total` rule is over several scopes.
    pub(crate) wide_totals: bool,
}

impl RuleBook {
    /// The book of this version that holds these rules, as it was before a restart.
    #[must_use]
    pub fn restored(version: u64, rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule.pattern.clone(), Arc::new(rule))).collect();
        Self { version, rules, ..Self::default() }.summed_up()
    }

    /// Counts the changes since the empty book, which is 0.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All rules, in the order of their patterns.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let mut rules: Vec<&Rule> = self.rules.values().map(AsRef::as_ref).collect();
        rules.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        rules.into_iter()
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule of exactly this pattern.
    #[must_use]
    pub fn get(&self, pattern: &Pattern) -> Option<&Rule> {
        self.rules.get(pattern).map(AsRef::as_ref)
    }

    /// Asks for a book of this version, before a batch that was made for it.
    ///
    /// # Errors
    /// [`RuleError::BookVersionMismatch`] when it has another.
    pub fn expect_version(&self, expected: u64) -> Result<(), RuleError> {
        let found = self.version;
        if found == expected { Ok(()) } else { Err(RuleError::BookVersionMismatch { expected, found }) }
    }

    /// The book after a batch, or why there is none.
    ///
    /// Units: `now` is in milliseconds of Unix time.
    ///
    /// # Errors
    /// The first change that is not valid or whose precondition does not hold; then nothing is changed.
    pub fn apply(&self, changes: &[Change], now: u64) -> Result<Self, RuleError> {
        if changes.len() > MAX_CHANGES {
            return Err(RuleError::TooManyRules { given: changes.len() });
        }
        let version = self.version + 1;
        let mut next = self.clone();
        let mut touched = std::collections::HashSet::new();
        let mut changed = false;
        for change in changes {
            let (pattern, when) = change.target();
            if !touched.insert(pattern) {
                return Err(RuleError::ChangedTwice { pattern: pattern.clone() });
            }
            let old = self.rules.get(pattern);
            match (when, old) {
                (Precondition::Version(expected), Some(rule)) if rule.version != expected => {
                    return Err(RuleError::VersionMismatch { pattern: pattern.clone(), expected, found: rule.version });
                }
                (Precondition::Version(_), None) => return Err(RuleError::NotFound { pattern: pattern.clone() }),
                (Precondition::MustNotExist, Some(rule)) => {
                    return Err(RuleError::AlreadyExists { pattern: pattern.clone(), found: rule.version });
                }
                _ => {}
            }
            let spec = match change {
                Change::Delete { .. } => {
                    next.rules.remove(pattern).ok_or_else(|| RuleError::NotFound { pattern: pattern.clone() })?;
                    changed = true;
                    continue;
                }
                Change::Put { spec, .. } => spec.clone(),
                Change::Patch { patch, .. } => {
                    let mut spec = old.map(|rule| rule.spec.clone()).unwrap_or_default();
                    patch.merge(&mut spec);
                    spec
                }
            };
            if old.is_some_and(|rule| rule.spec == spec) {
                continue;
            }
            for limits in [Some(&spec.limits), spec.shadow_limits.as_ref()].into_iter().flatten() {
                limits.validate().map_err(|error| RuleError::Limit { pattern: pattern.clone(), error })?;
            }
            if spec.total && !pattern.as_str().contains('*') {
                return Err(RuleError::TotalOfOne { pattern: pattern.clone() });
            }
            if spec.description.len() > MAX_DESCRIPTION_BYTES {
                return Err(RuleError::DescriptionTooLong { pattern: pattern.clone(), bytes: spec.description.len() });
            }
            next.rules.insert(
                pattern.clone(),
                Arc::new(Rule { pattern: pattern.clone(), spec, version, last_modified: now }),
            );
            changed = true;
        }
        if next.rules.len() > MAX_RULES {
            return Err(RuleError::TooManyRules { given: next.rules.len() });
        }
        if changed {
            next.version = version;
        }
        Ok(next.summed_up())
    }

    /// The same, with what its rules have in common said anew.
    fn summed_up(mut self) -> Self {
        self.shapes = self.shapes_of(|_| true);
        self.wide_totals =
            self.rules.values().any(|rule| rule.spec.total && !rule.spec.disabled && rule.pattern.scope() == "*");
        self.besides = self.shapes_of(|spec| spec.total || spec.shadow_limits.is_some());
        self
    }

    /// The shapes of the enabled rules of a kind.
    fn shapes_of(&self, kind: impl Fn(&RuleSpec) -> bool) -> u16 {
        let rules = self.rules.values().filter(|rule| !rule.spec.disabled && kind(&rule.spec));
        rules.fold(0, |bits, rule| bits | rule.pattern.shape().bit())
    }

    /// What changed since `previous`, in the order of the patterns.
    #[must_use]
    pub fn diff(&self, previous: &Self) -> Vec<Difference> {
        let mut differences: Vec<Difference> = self
            .rules
            .values()
            .filter_map(|new| {
                let kind = match previous.rules.get(&new.pattern) {
                    None => DifferenceKind::Added,
                    Some(old) if old.spec == new.spec => return None,
                    Some(old) if old.spec.disabled && !new.spec.disabled => DifferenceKind::Enabled,
                    Some(old) if !old.spec.disabled && new.spec.disabled => DifferenceKind::Disabled,
                    Some(_) => DifferenceKind::Changed,
                };
                Some(Difference { pattern: new.pattern.clone(), kind })
            })
            .chain(
                previous
                    .rules
                    .keys()
                    .filter(|pattern| !self.rules.contains_key(*pattern))
                    .map(|pattern| Difference { pattern: pattern.clone(), kind: DifferenceKind::Removed }),
            )
            .collect();
        differences.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn put(text: &str, concurrency: u32, when: Precondition) -> Change {
        let limits = Limits { concurrency: Some(Concurrency::calls(concurrency)), ..Limits::default() };
        Change::Put { pattern: pattern(text), spec: RuleSpec { limits, ..RuleSpec::default() }, when }
    }

    fn book(patterns: &[&str]) -> RuleBook {
        let changes: Vec<Change> = patterns.iter().map(|text| put(text, 1, Precondition::None)).collect();
        RuleBook::default().apply(&changes, 0).unwrap()
    }

    #[test]
    fn a_batch_is_all_or_nothing() {
        let first = book(&["a", "b"]);
        assert_eq!((first.version(), first.len()), (1, 2));
        let refused = first.apply(&[put("c", 1, Precondition::None), put("a", 2, Precondition::MustNotExist)], 5);
        assert_eq!(refused.unwrap_err(), RuleError::AlreadyExists { pattern: pattern("a"), found: 1 });
        let second =
            first.apply(&[put("c", 1, Precondition::MustNotExist), put("a", 2, Precondition::Version(1))], 5).unwrap();
        assert_eq!(second.version(), 2);
        assert_eq!(second.get(&pattern("a")).map(|rule| (rule.version, rule.last_modified)), Some((2, 5)));
        assert_eq!(second.get(&pattern("b")).map(|rule| rule.version), Some(1));
    }

    #[test]
    fn of_two_writers_with_one_precondition_one_wins() {
        let first = book(&["a"]);
        let second = first.apply(&[put("a", 2, Precondition::Version(1))], 0).unwrap();
        let loser = second.apply(&[put("a", 3, Precondition::Version(1))], 0).unwrap_err();
        assert_eq!(loser, RuleError::VersionMismatch { pattern: pattern("a"), expected: 1, found: 2 });
    }

    #[test]
    fn a_patch_keeps_the_fields_it_does_not_name() {
        let first = book(&["a"]);
        let patch = RulePatch { description: Some("new".into()), ..RulePatch::default() };
        let change = Change::Patch { pattern: pattern("a"), patch, when: Precondition::None };
        let second = first.apply(std::slice::from_ref(&change), 0).unwrap();
        let rule = second.get(&pattern("a")).unwrap();
        assert_eq!(
            (rule.spec.description.as_str(), rule.spec.limits.concurrency),
            ("new", Some(Concurrency::calls(1)))
        );
        assert_eq!(second.apply(&[change], 9).unwrap().version(), second.version(), "a change of nothing is no change");
        let unset = RulePatch { concurrency: Some(None), ..RulePatch::default() };
        let third = second
            .apply(&[Change::Patch { pattern: pattern("a"), patch: unset, when: Precondition::None }], 0)
            .unwrap();
        assert_eq!(third.get(&pattern("a")).unwrap().spec.limits, Limits::default());
    }

    #[test]
    fn a_diff_lists_every_visible_difference() {
        let first = book(&["a", "b", "c", "d"]);
        let disable = |text: &str, disabled| Change::Patch {
            pattern: pattern(text),
            patch: RulePatch { disabled: Some(disabled), ..RulePatch::default() },
            when: Precondition::None,
        };
        let second = first
            .apply(
                &[
                    put("a", 2, Precondition::None),
                    Change::Delete { pattern: pattern("b"), when: Precondition::None },
                    disable("c", true),
                    put("e", 1, Precondition::None),
                ],
                0,
            )
            .unwrap();
        let kinds = |book: &RuleBook, previous: &RuleBook| {
            book.diff(previous).into_iter().map(|d| (d.pattern.to_string(), d.kind)).collect::<Vec<_>>()
        };
        use DifferenceKind::{Added, Changed, Disabled, Enabled, Removed};
        assert_eq!(
            kinds(&second, &first),
            [("a".into(), Changed), ("b".into(), Removed), ("c".into(), Disabled), ("e".into(), Added)]
        );
        assert_eq!(kinds(&second.apply(&[disable("c", false)], 0).unwrap(), &second), [("c".into(), Enabled)]);
    }

    #[test]
    fn a_disabled_rule_lets_the_next_best_bind() {
        let first = book(&["s", "*"]);
        assert_eq!(first.binding("s").rule.unwrap().pattern, pattern("s"));
        let patch = RulePatch { disabled: Some(true), ..RulePatch::default() };
        let second =
            first.apply(&[Change::Patch { pattern: pattern("s"), patch, when: Precondition::None }], 0).unwrap();
        assert_eq!(second.binding("s").rule.unwrap().pattern, pattern("*"));
        assert!(second.binding("s/a").rule.is_none());
    }

    #[test]
    fn bad_batches_name_the_rule() {
        let refuse = |changes: &[Change]| book(&["a"]).apply(changes, 0).unwrap_err().to_string();
        assert_eq!(
            refuse(&[Change::Delete { pattern: pattern("x"), when: Precondition::None }]),
            "there is no rule `x`"
        );
        assert_eq!(
            refuse(&[put("b", 1, Precondition::None), put("b", 2, Precondition::None)]),
            "rule `b` is changed twice in one batch"
        );
        let long = RulePatch { description: Some("x".repeat(MAX_DESCRIPTION_BYTES + 1)), ..RulePatch::default() };
        assert!(
            refuse(&[Change::Patch { pattern: pattern("a"), patch: long, when: Precondition::None }])
                .contains("1025 bytes long")
        );
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["*", "a", "b", "c"])
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/").parse().unwrap())
    }

    proptest! {
        /// The oracle reads every rule and knows nothing of shapes.
        #[test]
        fn the_binding_rule_is_the_best_that_matches(patterns in prop::collection::btree_set((any_pattern(), any::<bool>()), 0..20), counter in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..4)) {
            let mut seen = std::collections::HashSet::new();
            let changes: Vec<Change> = patterns.into_iter().filter(|(pattern, _)| seen.insert(pattern.clone())).map(|(pattern, disabled)| Change::Put { pattern, spec: RuleSpec { disabled, description: "x".into(), ..RuleSpec::default() }, when: Precondition::None }).collect();
            let book = RuleBook::default().apply(&changes, 0).unwrap();
            let counter = counter.join("/");
            let best = book.rules().filter(|rule| !rule.spec.disabled && rule.pattern.matches_counter(&counter)).max_by_key(|rule| rule.pattern.rank()).map(|rule| rule.pattern.clone());
            prop_assert_eq!(book.binding(&counter).rule.map(|rule| rule.pattern.clone()), best);
        }
    }
}
