//! What a file says of one token.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weir_engine::ScopedKey;

use super::text::{Digest, Token, TokenId};
use crate::problem::shorten;

/// The most scopes of one token; one for more than that is for all.
pub const MAX_SCOPES: usize = 64;
/// The longest time until a token expires: a hundred years.
pub const MAX_EXPIRY: Duration = Duration::from_secs(36_525 * 86_400);

/// What a token may do, within its scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Acquire, extend, settle, release and check leases.
    Lease,
    /// Look at rules, counters, explanations and metrics.
    Read,
    /// Change the rule book.
    Rules,
    /// Pause, resume, pin, unpin, reset and drain counters.
    Operate,
}

impl Right {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Lease, Self::Read, Self::Rules, Self::Operate];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Read => "read",
            Self::Rules => "rules",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name or scope that a token cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAllowed {
    /// Not a name.
    #[error("`{}` is no name of a token: 1 to 128 bytes of A-Z a-z 0-9 _ . : @ -", shown(text))]
    Name {
        /// What was given.
        text: String,
    },
    /// Neither a scope nor `*`.
    #[error("`{}` is no scope: 1 to 128 bytes of A-Z a-z 0-9 _ . : @ -, or `*` for all", shown(text))]
    Scope {
        /// What was given.
        text: String,
    },
    /// No time of which a token can be made.
    #[error("`{}` is no time: write it like 2027-01-31T12:00:00Z", shown(text))]
    Time {
        /// What was given.
        text: String,
    },
}

fn shown(text: &str) -> String {
    shorten(text).escape_debug().to_string()
}

/// The name of a token: it stands in answers and lists, and its leases belong to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl FromStr for TokenName {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        match ScopedKey::new(text, None) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(NotAllowed::Name { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for TokenName {
    type Error = NotAllowed;

    fn try_from(text: String) -> Result<Self, NotAllowed> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedScope {
    /// All scopes, and what stands above them; written `*`.
    All,
    /// This scope.
    One(ScopedKey),
}

impl AllowedScope {
    /// Whether it lets its token do something to `scope`, which is `*` where all scopes are concerned.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(own) => own.as_str() == scope,
        }
    }
}

impl FromStr for AllowedScope {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        if text == "*" {
            return Ok(Self::All);
        }
        ScopedKey::new(text, None).map(Self::One).map_err(|_| NotAllowed::Scope { text: text.to_owned() })
    }
}

impl TryFrom<String> for AllowedScope {
    type Error = NotAllowed;

    fn try_from(text: String) -> Result<Self, NotAllowed> {
        text.parse()
    }
}

impl From<AllowedScope> for String {
    fn from(scope: AllowedScope) -> Self {
        scope.to_string()
    }
}

impl fmt::Display for AllowedScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "*",
            Self::One(scope) => scope.as_str(),
        })
    }
}

/// An instant, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// So many milliseconds of Unix time.
    #[must_use]
    pub fn of_unix_millis(millis: u64) -> Self {
        Self(SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(u64::from(u32::MAX) * 1_000)))
    }

    /// So much later, at most [`MAX_EXPIRY`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration.min(MAX_EXPIRY))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = NotAllowed;

    fn try_from(text: String) -> Result<Self, NotAllowed> {
        match humantime::parse_rfc3339(&text) {
            Ok(time) => Ok(Self(time)),
            Err(_) => Err(NotAllowed::Time { text }),
        }
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every instant that a file or `after` can name is before the year 10,000.
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

/// The secret before a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Previous {
    /// What is kept of it.
    pub sha256: Digest,
    /// Until when it is good.
    pub until: Timestamp,
}

/// One token, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenEntry {
    /// Its name, which no other has.
    pub name: TokenName,
    /// Its public part, which no other has.
    pub id: TokenId,
    /// What is kept of its secret.
    pub sha256: Digest,
    /// What it may do.
    pub rights: BTreeSet<Right>,
    /// Where it may do that; none: nowhere.
    pub scopes: Vec<AllowedScope>,
    /// Since when it exists.
    pub created: Timestamp,
    /// Until when it is good; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The secret before the last rotation, where it may still be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

impl TokenEntry {
    /// Whether it is over.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Gives it another secret; the one it had is good for `keep_old` longer.
    pub fn rotate(&mut self, token: &Token, now: Timestamp, keep_old: Duration) {
        let before = std::mem::replace(&mut self.sha256, token.digest());
        self.previous = (!keep_old.is_zero()).then(|| Previous { sha256: before, until: now.after(keep_old) });
    }
}
