//! The text of a token, and what is kept of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// What every text begins with, so that it is known for what it is where it must not be.
const PREFIX: &str = "weir_";

/// The public part of a token, by which it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; 8]);

/// The SHA-256 of a secret. Nothing is gained by a slow hash: a secret has 256 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// A token as its owner has it. [`Self::text`] alone shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    secret: [u8; 32],
}

/// A text that is no token. It is not shown: it may be one that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no token: `weir_`, 16 digits, `_` and 64 digits, in 0-9 and a-f")]
pub struct NotAToken;

/// The operating system gives no random bytes: better no token than one that can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

impl TokenId {
    /// An id that hardly anybody has.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        let mut id = [0; 8];
        getrandom::fill(&mut id)?;
        Ok(Self(id))
    }
}

impl Digest {
    /// Compares without telling by its time how much is equal.
    pub(crate) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// What no secret is known to have.
    pub(crate) const NOBODYS: Self = Self([0; 32]);
}

impl Token {
    /// A token with a new secret.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(id: TokenId) -> Result<Self, NoRandomness> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { id, secret })
    }

    /// Its public part.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of its secret.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.secret).into())
    }

    /// The whole, secret included.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, hex::encode(self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(NotAToken)?;
        Ok(Self { id: TokenId(digits(id)?), secret: digits(secret)? })
    }
}

/// Exactly as many bytes, in one spelling.
fn digits<const N: usize>(text: &str) -> Result<[u8; N], NotAToken> {
    let mut bytes = [0; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(NotAToken);
    }
    hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAToken)?;
    Ok(bytes)
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        digits(&text).map(Self).map_err(|_| de::Error::custom("it is not 16 digits in 0-9 and a-f"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        digits(&text).map(Self).map_err(|_| de::Error::custom("it is not 64 digits in 0-9 and a-f"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_is_written_and_in_no_other_spelling() {
        let token = Token::new(TokenId::random().unwrap()).unwrap();
        let text = token.text();
        assert_eq!((text.len(), text.parse()), (86, Ok(token.clone())));
        assert!(!format!("{token:?}").contains(&text[22..]), "no secret");
        let (start, end) = text.split_at(22);
        for other in [
            String::new(),
            "weir_".to_owned(),
            text[1..].to_owned(),
            text[..85].to_owned(),
            format!("{text}0"),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{start}{}", end.replacen(char::is_numeric, "G", 1)),
            text.replacen("weir", "Weir", 1),
            text.replacen('_', "-", 2),
            format!("{start}{}", "\u{e9}".repeat(32)),
            format!("weir_ABCDEF0123456789_{end}"),
        ] {
            assert_eq!(other.parse::<Token>(), Err(NotAToken), "{other}");
        }
    }

    /// The answer of another program: `printf '\0%.0s' {1..32} | sha256sum`.
    #[test]
    fn what_is_kept_is_the_sha_256_of_the_secret() {
        let token: Token = format!("weir_{}_{}", "0".repeat(16), "0".repeat(64)).parse().unwrap();
        let kept = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        assert_eq!(hex::encode(token.digest().0), kept);
        assert!(bool::from(token.digest().is(&token.digest())) && !bool::from(token.digest().is(&Digest::NOBODYS)));
    }
}
