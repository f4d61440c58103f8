//! Patterns: what a rule governs.
//!
//! A pattern has one to three parts, each exact or `*`. A pattern of depth d governs the counters of depth d and no
//! others. Where several match a counter, the one with the highest rank binds:
//!
//! | pattern | rank | pattern | rank |
//! |---|---|---|---|
//! | `s/a/b` | 7 | `*/a/b` | 3 |
//! | `s/a/*` | 6 | `*/a/*` | 2 |
//! | `s/*/b` | 5 | `*/*/b` | 1 |
//! | `s/*/*` | 4 | `*/*/*` | 0 |
//!
//! An exact scope weighs 4, an exact first key part 2, an exact second one 1; no two patterns that match one counter
//! have the same rank. A lookup asks for each possible pattern by name, best first: at most eight, however many rules.

use crate::name::{self, MAX_DEPTH, NameError};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const WEIGHTS: [u8; MAX_DEPTH] = [4, 2, 1];

/// One to three parts joined by `/`, each a name or `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Arc<str>,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern: {error} (a pattern is scope[/l1[/l2]], each part a name or *)")]
pub struct PatternError {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub error: NameError,
}

impl Pattern {
    /// How many parts it has, 1 to 3.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.text.split('/').count()
    }

    /// Its precedence among patterns of the same depth, 0 to 7; see the table of this module.
    #[must_use]
    pub fn rank(&self) -> u8 {
        self.text.split('/').zip(WEIGHTS).filter(|(part, _)| *part != "*").map(|(_, weight)| weight).sum()
    }

    /// Whether it governs the counter of this name.
    #[must_use]
    pub fn matches_counter(&self, counter: &str) -> bool {
        let (mut mine, mut theirs) = (self.text.split('/'), counter.split('/'));
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(mine), Some(theirs)) if mine == "*" || mine == theirs => {}
                _ => return false,
            }
        }
    }

    /// The scope that it is under, or `*`.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.text.split('/').next().unwrap_or_default()
    }

    /// What stands for the name of a counter where a rule's pattern would: the numbers that an operator pinned to it.
    pub(crate) fn of_counter(name: &str) -> Self {
        Self { text: name.into() }
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Which parts are exact, as the sum of their weights over the depth: an index for "is there any rule of this shape".
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            depth: self.depth(),
            exact: self
                .text
                .split('/')
                .map(|part| part != "*")
                .enumerate()
                .fold(0, |bits, (i, exact)| bits | (u8::from(exact) << i)),
        }
    }
}

/// A depth and the set of its exact parts (bit i: part i is exact).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) depth: usize,
    pub(crate) exact: u8,
}

impl Shape {
    /// Its bit in a `u16` of all fourteen shapes.
    pub(crate) fn bit(self) -> u16 {
        1 << ((1 << self.depth) - 2 + usize::from(self.exact))
    }

    /// The shapes that can match a counter of `depth`, best rank first.
    pub(crate) fn by_rank(depth: usize) -> &'static [u8] {
        // Bit 0 is the scope, which weighs most: reading the bits backwards gives the rank.
        match depth {
            1 => &[0b1, 0b0],
            2 => &[0b11, 0b01, 0b10, 0b00],
            _ => &[0b111, 0b011, 0b101, 0b001, 0b110, 0b010, 0b100, 0b000],
        }
    }

    /// Writes the pattern of this shape that matches `counter` into `into`.
    pub(crate) fn write(self, counter: &str, into: &mut String) {
        into.clear();
        for (index, part) in counter.split('/').enumerate() {
            if index > 0 {
                into.push('/');
            }
            into.push_str(if self.exact >> index & 1 == 1 { part } else { "*" });
        }
    }
}

impl std::borrow::Borrow<str> for Pattern {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |error| PatternError { text: text.chars().take(64).collect(), error };
        let parts = text.split('/').count();
        if parts > MAX_DEPTH {
            return Err(refuse(NameError::TooDeep { parts }));
        }
        for (index, part) in text.split('/').enumerate() {
            if part != "*" {
                name::check_part(name::part_at(index), part).map_err(refuse)?;
            }
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn ranks_are_those_of_the_table() {
        let table = ["*/*/*", "*/*/b", "*/a/*", "*/a/b", "s/*/*", "s/*/b", "s/a/*", "s/a/b"];
        for (rank, text) in table.iter().enumerate() {
            assert_eq!(usize::from(pattern(text).rank()), rank, "{text}");
            assert!(pattern(text).matches_counter("s/a/b"), "{text}");
        }
        assert_eq!((pattern("s").rank(), pattern("*").rank(), pattern("s/*").rank()), (4, 0, 4));
    }

    #[test]
    fn lookup_order_is_rank_order_at_every_depth() {
        for (depth, counter) in [(1, "s"), (2, "s/a"), (3, "s/a/b")] {
            let mut text = String::new();
            let ranks: Vec<u8> = Shape::by_rank(depth)
                .iter()
                .map(|exact| {
                    let shape = Shape { depth, exact: *exact };
                    shape.write(counter, &mut text);
                    assert_eq!(pattern(&text).shape(), shape);
                    pattern(&text).rank()
                })
                .collect();
            assert!(ranks.is_sorted_by(|a, b| a > b), "{ranks:?}");
            assert_eq!(ranks.len(), 1 << depth);
        }
    }

    #[test]
    fn a_pattern_shows_its_text() {
        let pattern = pattern("s/*");
        assert_eq!((pattern.to_string(), format!("{pattern:?}")), ("s/*".into(), "Pattern(s/*)".into()));
    }

    #[test]
    fn shapes_have_distinct_bits() {
        let all: u16 = (1..=3)
            .flat_map(|depth| Shape::by_rank(depth).iter().map(move |exact| Shape { depth, exact: *exact }.bit()))
            .fold(0, |seen, bit| {
                assert_eq!(seen & bit, 0);
                seen | bit
            });
        assert_eq!(all.count_ones(), 14);
    }

    #[test]
    fn a_pattern_governs_its_own_depth_only() {
        assert!(!pattern("s").matches_counter("s/a"));
        assert!(!pattern("s/*").matches_counter("s"));
        assert!(!pattern("s/*").matches_counter("s/a/b"));
        assert!(pattern("*/a").matches_counter("x/a"));
        assert!(!pattern("*/a").matches_counter("x/b"));
    }

    #[test]
    fn bad_patterns_say_why() {
        for text in ["", "/", "a//b", "a/b/c/d", "a b", "**", "a*", "s/\u{fc}"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
        assert_eq!(
            "s/a b".parse::<Pattern>().unwrap_err().to_string(),
            "`s/a b` is not a pattern: the first limit-key part has the byte 0x20 at position 1: allowed are A-Z a-z 0-9 _ . : @ - (a pattern is scope[/l1[/l2]], each part a name or *)"
        );
    }

    /// Few names, so that many match.
    fn parts(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(names), 1..=MAX_DEPTH)
    }

    proptest! {
        #[test]
        fn of_any_patterns_the_one_binds_that_a_naive_look_at_all_parts_finds(
            patterns in prop::collection::vec(parts(&["*", "a", "b", "a.b"]), 1..12), counter in parts(&["a", "b", "a.b", "ab"])
        ) {
            let name = counter.join("/");
            let exact = |parts: &[&str]| parts.iter().map(|part| *part != "*").collect::<Vec<_>>();
            let mut best: Option<&Vec<&str>> = None;
            for parts in &patterns {
                let one = pattern(&parts.join("/"));
                prop_assert_eq!((one.depth(), one.scope()), (parts.len(), parts[0]));
                let matches = parts.len() == counter.len() && parts.iter().zip(&counter).all(|(mine, theirs)| mine == theirs || *mine == "*");
                prop_assert_eq!(one.matches_counter(&name), matches, "{} {}", one, name);
                // An earlier part weighs more than all behind it.
                for other in patterns.iter().filter(|other| other.len() == parts.len()) {
                    let order = one.rank().cmp(&pattern(&other.join("/")).rank());
                    prop_assert_eq!(order, exact(parts).cmp(&exact(other)), "{} {:?}", one, other);
                }
                if matches && best.is_none_or(|best| exact(best) < exact(parts)) {
                    best = Some(parts);
                }
            }
            // As the book looks it up: each shape by name, best first.
            let mut text = String::new();
            let found = Shape::by_rank(counter.len()).iter().find_map(|exact| {
                Shape { depth: counter.len(), exact: *exact }.write(&name, &mut text);
                patterns.iter().find(|parts| parts.join("/") == text)
            });
            prop_assert_eq!(found, best);
        }

        #[test]
        fn a_pattern_is_its_text_or_says_what_is_wrong(text in "([*a-z_.:@-]{0,3}|[^/]{0,2}|[a-z]{127,129})(/([*a-z]{0,2}|[^/]{0,2}|\\*)){0,3}") {
            let parts: Vec<&str> = text.split('/').collect();
            let good = |part: &&str| *part == "*" || part.parse::<crate::ScopedKey>().is_ok();
            match text.parse::<Pattern>() {
                Ok(pattern) => {
                    prop_assert!(parts.len() <= MAX_DEPTH && parts.iter().all(good));
                    prop_assert_eq!((pattern.as_str(), pattern.depth()), (&*text, parts.len()));
                    prop_assert_eq!(&pattern.to_string().parse::<Pattern>(), &Ok(pattern));
                }
                Err(PatternError { text: shown, error }) => {
                    prop_assert!(text.starts_with(&shown) && shown.chars().count() <= 64);
                    match error {
                        NameError::TooDeep { parts: given } | NameError::KeyTooDeep { parts: given } => prop_assert_eq!((given, given > MAX_DEPTH), (parts.len(), true)),
                        NameError::Empty { what } => prop_assert!(parts.iter().enumerate().any(|(i, part)| part.is_empty() && name::part_at(i) == what)),
                        NameError::TooLong { bytes, .. } => prop_assert_eq!((bytes, bytes > 128), (parts[0].len(), true)),
                        NameError::Byte { what, byte, at } => {
                            let bad = parts.iter().enumerate().find(|(_, part)| !good(part)).unwrap();
                            prop_assert_eq!((name::part_at(bad.0), bad.1.as_bytes()[at]), (what, byte));
                        }
                    }
                }
            }
        }
    }
}
