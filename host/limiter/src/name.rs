//! Scopes, limit keys and the counters they name.
//!
//! A request belongs to a scope (`payments`) and, if it says so, to a limit key of one or two parts under it
//! (`eu`, `eu/visa`). Joined by `/` they are one canonical text, and every prefix of it that ends at a `/` names one
//! counter: `payments/eu/visa` is checked at `payments`, `payments/eu` and `payments/eu/visa`.
//!
//! Names are validated once, here; everything behind takes them as proven. No part may contain `/`, so two different
//! keys never join to the same text.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The longest part of a name, in bytes. Three parts and two slashes then fit a `u16` offset with room to spare.
pub const MAX_NAME_BYTES: usize = 128;

/// The most parts of a scoped key: a scope and two limit-key parts.
pub const MAX_DEPTH: usize = 3;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A part is empty.
    #[error("the {what} is empty: write 1 to {MAX_NAME_BYTES} bytes of A-Z a-z 0-9 _ . : @ -")]
    Empty {
        /// Which part.
        what: Part,
    },
    /// A part is longer than [`MAX_NAME_BYTES`].
    #[error("the {what} is {bytes} bytes long: the most is {MAX_NAME_BYTES}")]
    TooLong {
        /// Which part.
        what: Part,
        /// Its length.
        bytes: usize,
    },
    /// A part holds a byte outside the alphabet.
    #[error("the {what} has the byte {} at position {at}: allowed are A-Z a-z 0-9 _ . : @ -", ShownByte(*.byte))]
    Byte {
        /// Which part.
        what: Part,
        /// The offending byte.
        byte: u8,
        /// Its offset within the part.
        at: usize,
    },
    /// More than two limit-key parts.
    #[error("{parts} parts: a name has at most {MAX_DEPTH}, a scope and two limit-key parts")]
    TooDeep {
        /// How many parts were given.
        parts: usize,
    },
    /// The same of a limit key that was given apart from its scope.
    #[error("{parts} parts: a limit key has at most {}", MAX_DEPTH - 1)]
    KeyTooDeep {
        /// How many parts the limit key has.
        parts: usize,
    },
}

/// Which part of a name an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The scope.
    Scope,
    /// The first limit-key part.
    FirstKey,
    /// The second limit-key part.
    SecondKey,
    /// A fairness key, which is no part of a counter's name but follows the same rules.
    FairnessKey,
    /// The key of inline flow control.
    InlineKey,
    /// An idempotency key.
    IdempotencyKey,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scope => "scope",
            Self::FirstKey => "first limit-key part",
            Self::SecondKey => "second limit-key part",
            Self::FairnessKey => "fairness key",
            Self::InlineKey => "inline key",
            Self::IdempotencyKey => "idempotency key",
        })
    }
}

struct ShownByte(u8);

impl fmt::Display for ShownByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "`{}` (0x{:02x})", char::from(self.0), self.0)
        } else {
            write!(f, "0x{:02x}", self.0)
        }
    }
}

/// Which bytes a part may have.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        allowed[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'@' | b'-');
        byte += 1;
    }
    allowed
};

const PARTS: [Part; MAX_DEPTH] = [Part::Scope, Part::FirstKey, Part::SecondKey];

/// Checks one part of a name.
///
/// # Errors
/// [`NameError`] when it is empty, too long or holds a byte outside `[A-Za-z0-9_.:@-]`.
pub(crate) fn check_part(what: Part, text: &str) -> Result<(), NameError> {
    check_bytes(what, text.as_bytes())
}

fn check_bytes(what: Part, text: &[u8]) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { what, bytes: text.len() });
    }
    match text.iter().position(|byte| !ALLOWED[usize::from(*byte)]) {
        None => Ok(()),
        Some(at) => Err(NameError::Byte { what, byte: text[at], at }),
    }
}

pub(crate) fn part_at(index: usize) -> Part {
    PARTS[index.min(MAX_DEPTH - 1)]
}

/// A scope and the limit key under it, as one canonical text `scope[/l1[/l2]]`.
///
/// Cloning is a reference count.
#[derive(Clone)]
pub struct ScopedKey {
    text: Arc<str>,
    /// Where the prefix of each depth ends; equal to the length from the own depth on.
    ends: [u16; MAX_DEPTH],
    depth: u8,
}

impl ScopedKey {
    /// Joins a scope and an optional limit key, `l1` or `l1/l2`.
    ///
    /// # Errors
    /// [`NameError`] names the part, the byte and its place.
    pub fn new(scope: &str, limit_key: Option<&str>) -> Result<Self, NameError> {
        let whole = match limit_key {
            None => Self::parse(scope),
            Some(key) => Self::parse(&[scope, "/", key].concat()),
        };
        match whole {
            Ok(whole) if whole.scope().len() == scope.len() => Ok(whole),
            // What is wrong with the scope comes first, a slash in it too.
            whole => check_part(Part::Scope, scope).and(whole).map_err(|error| match error {
                NameError::TooDeep { parts } => NameError::KeyTooDeep { parts: parts - 1 },
                error => error,
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, NameError> {
        let parts = 1 + text.bytes().filter(|byte| *byte == b'/').count();
        if parts > MAX_DEPTH {
            return Err(NameError::TooDeep { parts });
        }
        let mut ends = [0u16; MAX_DEPTH];
        let mut end = 0;
        for (index, part) in text.as_bytes().split(|byte| *byte == b'/').enumerate() {
            check_bytes(part_at(index), part)?;
            end += part.len() + usize::from(index > 0);
            // At most 3 x 128 + 2 bytes by the checks above.
            ends[index..].fill(u16::try_from(end).unwrap_or(u16::MAX));
        }
        Ok(Self { text: text.into(), ends, depth: u8::try_from(parts).unwrap_or(1) })
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.prefix(1)
    }

    /// The limit key, `l1` or `l1/l2`.
    #[must_use]
    pub fn limit_key(&self) -> Option<&str> {
        (self.depth > 1).then(|| &self.text[usize::from(self.ends[0]) + 1..])
    }

    /// How many parts it has, 1 to 3: the number of counters it is checked at.
    #[must_use]
    pub fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// The name of the counter at `depth`, which is clamped to 1 and its own depth.
    #[must_use]
    pub fn prefix(&self, depth: usize) -> &str {
        &self.text[..usize::from(self.ends[depth.clamp(1, MAX_DEPTH) - 1])]
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for ScopedKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for ScopedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ScopedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopedKey({})", self.text)
    }
}

impl PartialEq for ScopedKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ScopedKey {}

impl PartialOrd for ScopedKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ScopedKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for ScopedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What sort of counter a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CounterKind {
    /// `scope[/l1[/l2]]`: governed by the rule that binds it.
    Named,
    /// A pattern with `*`: the pool of all that match it, governed by its `total` rule.
    Pool,
    /// `scope#key`: governed by the numbers that callers bring.
    Inline,
}

/// The name of any counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CounterName {
    text: Arc<str>,
    kind: CounterKind,
    scope: u16,
}

/// Between the scope and the key of an inline counter; no part of a name may contain it.
const INLINE: char = '#';

impl CounterName {
    /// The counter of an inline key under a scope.
    ///
    /// # Errors
    /// [`NameError`] names the part, the byte and its place.
    pub fn inline(scope: &str, key: &str) -> Result<Self, NameError> {
        check_part(Part::Scope, scope)?;
        check_part(Part::InlineKey, key)?;
        let scope_bytes = u16::try_from(scope.len()).unwrap_or(u16::MAX);
        Ok(Self { text: format!("{scope}{INLINE}{key}").into(), kind: CounterKind::Inline, scope: scope_bytes })
    }

    /// The scope that decides where it lies; `*` for a pool over several scopes.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.text[..usize::from(self.scope)]
    }

    /// What sort of counter it is of.
    #[must_use]
    pub fn kind(&self) -> CounterKind {
        self.kind
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for CounterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((scope, key)) = text.split_once(INLINE) {
            return Self::inline(scope, key);
        }
        let parts = text.split('/').count();
        if parts > MAX_DEPTH {
            return Err(NameError::TooDeep { parts });
        }
        let mut kind = CounterKind::Named;
        for (index, part) in text.split('/').enumerate() {
            if part == "*" {
                kind = CounterKind::Pool;
            } else {
                check_part(part_at(index), part)?;
            }
        }
        let scope = text.split('/').next().unwrap_or_default().len();
        Ok(Self { text: text.into(), kind, scope: u16::try_from(scope).unwrap_or(u16::MAX) })
    }
}

impl fmt::Display for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_name_the_counters() {
        let key = ScopedKey::new("payments", Some("eu/visa")).unwrap();
        assert_eq!(key.depth(), 3);
        assert_eq!((key.prefix(1), key.prefix(2), key.prefix(3)), ("payments", "payments/eu", "payments/eu/visa"));
        assert_eq!((key.scope(), key.limit_key()), ("payments", Some("eu/visa")));
        let bare = ScopedKey::new("payments", None).unwrap();
        assert_eq!((bare.depth(), bare.limit_key()), (1, None));
        assert_eq!("payments/eu/visa".parse::<ScopedKey>().unwrap(), key);
    }

    #[test]
    fn a_counter_is_shown_by_its_name() {
        for name in ["s", "s/a/b", "s#k"] {
            assert_eq!(name.parse::<CounterName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn a_key_is_its_text() {
        let (one, two): (ScopedKey, ScopedKey) = ("s/a".parse().unwrap(), "s/b".parse().unwrap());
        assert_eq!((one.to_string(), format!("{one:?}")), ("s/a".to_owned(), "ScopedKey(s/a)".to_owned()));
        assert_eq!(
            (one.partial_cmp(&two), two.cmp(&one)),
            (Some(std::cmp::Ordering::Less), std::cmp::Ordering::Greater)
        );
        let hash = |key: &ScopedKey| std::hash::BuildHasher::hash_one(&foldhash::fast::FixedState::default(), key);
        assert!(hash(&one) == hash(&"s/a".parse().unwrap()) && hash(&one) != hash(&two));
        // Each part is named where it is wrong.
        for (text, what) in [("/a", Part::Scope), ("s//b", Part::FirstKey), ("s/a/", Part::SecondKey)] {
            assert_eq!(text.parse::<ScopedKey>().unwrap_err(), NameError::Empty { what }, "{text}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let part = "x".repeat(MAX_NAME_BYTES);
        let key = ScopedKey::new(&part, Some(&format!("{part}/{part}"))).unwrap();
        assert_eq!(key.prefix(2).len(), 2 * MAX_NAME_BYTES + 1);
        assert_eq!(key.prefix(3).len(), 3 * MAX_NAME_BYTES + 2);
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(ScopedKey::new(&long, None), Err(NameError::TooLong { what: Part::Scope, bytes: 129 }));
    }

    #[test]
    fn bad_names_say_which_byte_and_where() {
        for (scope, key, expected) in [
            ("", None, NameError::Empty { what: Part::Scope }),
            ("a b", None, NameError::Byte { what: Part::Scope, byte: b' ', at: 1 }),
            ("a", Some(""), NameError::Empty { what: Part::FirstKey }),
            ("a", Some("b/"), NameError::Empty { what: Part::SecondKey }),
            ("a", Some("b/c/d"), NameError::KeyTooDeep { parts: 3 }),
            ("a/b", None, NameError::Byte { what: Part::Scope, byte: b'/', at: 1 }),
            ("a", Some("caf\u{e9}"), NameError::Byte { what: Part::FirstKey, byte: 0xc3, at: 3 }),
            ("a", Some("b/*"), NameError::Byte { what: Part::SecondKey, byte: b'*', at: 0 }),
            ("\0", None, NameError::Byte { what: Part::Scope, byte: 0, at: 0 }),
        ] {
            assert_eq!(ScopedKey::new(scope, key), Err(expected), "{scope:?} {key:?}");
        }
        let shown = ScopedKey::new("a b", None).unwrap_err().to_string();
        assert_eq!(shown, "the scope has the byte 0x20 at position 1: allowed are A-Z a-z 0-9 _ . : @ -");
        let shown = ScopedKey::new("a", Some("b/c/d")).unwrap_err().to_string();
        assert_eq!(shown, "3 parts: a limit key has at most 2");
    }

    #[test]
    fn a_counter_name_says_what_it_is_of() {
        for (text, kind, scope) in [
            ("s", CounterKind::Named, "s"),
            ("s/a/b", CounterKind::Named, "s"),
            ("s/*", CounterKind::Pool, "s"),
            ("*/a", CounterKind::Pool, "*"),
            ("s#k", CounterKind::Inline, "s"),
        ] {
            let name: CounterName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.kind(), name.scope()), (text, kind, scope));
        }
        for text in ["", "#", "s#", "#k", "s#a#b", "s/a#k", "s#*", "a/b/c/d", "s//a"] {
            assert!(text.parse::<CounterName>().is_err(), "{text:?}");
        }
    }

    /// The naive rule: what is wrong with a part, byte by byte.
    fn wrong(what: Part, text: &str) -> Option<NameError> {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@-";
        match text.len() {
            0 => Some(NameError::Empty { what }),
            1..=128 => {
                let at = text.bytes().position(|byte| !LETTERS.contains(char::from(byte)))?;
                Some(NameError::Byte { what, byte: text.as_bytes()[at], at })
            }
            bytes => Some(NameError::TooLong { what, bytes }),
        }
    }

    /// Good parts for the most part, of any length; and empty ones, ones around the bound, other alphabets, control bytes.
    fn part() -> impl Strategy<Value = String> {
        let spoilt =
            ("[A-Za-z0-9_.:@-]{0,127}", "[^/]", any::<prop::sample::Index>()).prop_map(|(mut text, other, at)| {
                text.insert_str(at.index(text.len() + 1), &other);
                text
            });
        prop_oneof![
            6 => "[A-Za-z0-9_.:@-]{1,12}",
            2 => "[A-Za-z0-9_.:@-]{1,128}",
            1 => "[A-Za-z0-9_.:@-]{126,130}",
            1 => "[\\p{L}&&[^/]]{0,3}",
            1 => "[\\x00-\\x20*#~\\x7f]{0,2}",
            1 => spoilt,
        ]
    }

    proptest! {
        #[test]
        fn a_name_is_its_parts_or_says_what_is_wrong_with_the_first_bad_one(
            parts in prop::collection::vec(part(), 1..5), inline in part()
        ) {
            let text = parts.join("/");
            let wrong_part = parts.iter().enumerate().find_map(|(index, part)| wrong(part_at(index), part));
            let too_deep = (parts.len() > 3).then_some(NameError::TooDeep { parts: parts.len() });
            let rest = (parts.len() > 1).then(|| parts[1..].join("/"));
            let joined = ScopedKey::new(&parts[0], rest.as_deref());
            let key_too_deep = too_deep.as_ref().map(|_| NameError::KeyTooDeep { parts: parts.len() - 1 });
            let expected = wrong(Part::Scope, &parts[0]).or(key_too_deep).or(wrong_part.clone());
            prop_assert_eq!(joined.clone().err(), expected);
            prop_assert_eq!(text.parse::<ScopedKey>().err(), too_deep.or(wrong_part));
            if let Ok(key) = joined {
                prop_assert_eq!((key.as_str(), key.depth()), (&*text, parts.len()));
                prop_assert_eq!((key.scope(), key.limit_key()), (&*parts[0], rest.as_deref()));
                for depth in 1..=parts.len() {
                    prop_assert_eq!(key.prefix(depth), parts[..depth].join("/"));
                }
                prop_assert_eq!(&key.to_string().parse::<ScopedKey>(), &Ok(key));
                let counter: CounterName = text.parse().unwrap();
                prop_assert_eq!((counter.as_str(), counter.kind(), counter.scope()), (&*text, CounterKind::Named, &*parts[0]));
            } else if let Err(error) = joined {
                let shown = error.to_string();
                prop_assert!(shown.chars().all(|shown| shown.is_ascii() && !shown.is_ascii_control()), "{shown:?}");
                if let NameError::Byte { byte, at, .. } = error {
                    prop_assert!(shown.contains(&format!("0x{byte:02x}")) && shown.contains(&format!("position {at}:")), "{shown}");
                }
            }
            match CounterName::inline(&parts[0], &inline) {
                Ok(counter) => {
                    prop_assert_eq!(counter.as_str(), format!("{}#{inline}", parts[0]));
                    prop_assert_eq!((counter.scope(), counter.kind()), (&*parts[0], CounterKind::Inline));
                    prop_assert_eq!(&counter.to_string().parse::<CounterName>(), &Ok(counter));
                }
                Err(error) => {
                    prop_assert_eq!(Some(error), wrong(Part::Scope, &parts[0]).or(wrong(Part::InlineKey, &inline)));
                }
            }
        }
    }
}
