//! The file of tokens: JSON, of version 1.
//!
//! ```json
//! {
//!   "version": 1,
//!   "tokens": [
//!     {
//!       "name": "payments", "id": "5f0c1e7a93d2b846", "sha256": "66687aad..", "rights": ["lease"],
//!       "scopes": ["payments"], "created": "2026-12-01T08:00:00.000Z", "expires": "2027-03-01T08:00:00.000Z"
//!     }
//!   ]
//! }
//! ```
//!
//! Unknown fields are refused: whoever cannot read a restriction must not grant what it restricts. A writer holds a lock on a
//! file beside it, reads, changes, and puts a new file in its place, which is on the disk before it has the name. So two
//! writers lose nothing, and a reader sees the file before or after.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tempfile::NamedTempFile;

use super::entry::{MAX_SCOPES, TokenEntry, TokenName};

/// The most tokens in a file: a server keeps them in memory, and a token is for a program, not for a request.
pub const MAX_TOKENS: usize = 10_000;
/// The largest file: the most tokens, each with the longest name and some scopes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The only form of the file that there is yet.
const VERSION: u64 = 1;

/// All tokens of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenFile {
    #[serde(deserialize_with = "version")]
    version: u64,
    /// The tokens, in the order in which they were made.
    #[serde(deserialize_with = "list")]
    pub tokens: Vec<TokenEntry>,
}

impl Default for TokenFile {
    fn default() -> Self {
        Self { version: VERSION, tokens: Vec::new() }
    }
}

/// Why a file of tokens cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// It cannot be read or written.
    #[error("{}: cannot {doing} the token file: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `write` or `lock`.
        doing: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// It is larger than any token file.
    #[error("{}: it has more than {MAX_FILE_BYTES} bytes: it is no token file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not what it should be.
    #[error("{}:{line}:{column}: {field}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
        /// Which field, such as `tokens[3].rights`.
        field: String,
        /// What is wrong.
        detail: String,
    },
}

impl TokenFile {
    /// Reads a file; where there is none, there are no tokens.
    ///
    /// # Errors
    /// See [`TokenFileError`].
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        match File::open(path) {
            Ok(file) => Self::read_from(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(path, "read", error)),
        }
    }

    pub(crate) fn read_from(path: &Path, file: File) -> Result<Self, TokenFileError> {
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(path, "read", error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(TokenFileError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TokenFileError> {
        let malformed = |field: String, error: &serde_json::Error| {
            // serde_json puts the place behind its message; here it stands in front.
            let detail = error.to_string();
            let detail = detail.split(" at line ").next().unwrap_or(&detail).to_owned();
            let field = if field == "." { "file".to_owned() } else { field };
            let (line, column) = (error.line().max(1), error.column().max(1));
            TokenFileError::Malformed { path: path.to_owned(), line, column, field, detail }
        };
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let read: Self = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| malformed(error.path().to_string(), error.inner()))?;
        deserializer.end().map_err(|error| malformed("file".to_owned(), &error))?;
        Ok(read)
    }

    /// Changes a file, which is made if need be: nobody else changes it meanwhile. If `change` fails, it is as it was.
    ///
    /// # Errors
    /// Those of `change`, and [`TokenFileError`].
    pub fn change<T, E: From<TokenFileError>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // A link stays one: what it leads to is changed.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let _lock = lock(&path).map_err(|error| failed(&path, "lock", error))?;
        let mut file = Self::read(&path)?;
        let outcome = change(&mut file)?;
        file.write(&path).map_err(|error| failed(&path, "write", error))?;
        Ok(outcome)
    }

    /// The token of this name.
    #[must_use]
    pub fn get(&self, name: &TokenName) -> Option<&TokenEntry> {
        self.tokens.iter().find(|token| token.name == *name)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = folder(path);
        // For its owner alone, from the start.
        let mut file = NamedTempFile::new_in(folder)?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    }
}

/// Held until it is dropped. The file stays: two that lock two files of one name would not see each other.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside)?;
    lock.lock()?;
    Ok(lock)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, doing: &'static str, error: io::Error) -> TokenFileError {
    TokenFileError::Io { path: path.to_owned(), doing, error }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        VERSION => Ok(VERSION),
        other => Err(de::Error::custom(format!("version {other} is another program's: this one reads {VERSION}"))),
    }
}

/// Tokens that can be told apart; checked while they are read, so that an error has its place.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TokenEntry>, D::Error> {
    struct Tokens;

    impl<'de> Visitor<'de> for Tokens {
        type Value = Vec<TokenEntry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tokens")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<TokenEntry>, A::Error> {
            let mut tokens = Vec::new();
            let (mut names, mut ids) = (HashSet::new(), HashSet::new());
            while let Some(token) = seq.next_element::<TokenEntry>()? {
                let TokenEntry { name, id, rights, scopes, .. } = &token;
                let fault = if tokens.len() == MAX_TOKENS {
                    Some(format!("more than {MAX_TOKENS} tokens"))
                } else if !names.insert(name.clone()) {
                    Some(format!("two tokens are named `{name}`"))
                } else if !ids.insert(*id) {
                    Some(format!("two tokens have the id {id}"))
                } else if rights.is_empty() {
                    Some(format!("the token `{name}` has no right"))
                } else if scopes.len() > MAX_SCOPES {
                    Some(format!("the token `{name}` has {} scopes: at most {MAX_SCOPES}, or `*`", scopes.len()))
                } else {
                    None
                };
                if let Some(fault) = fault {
                    return Err(de::Error::custom(fault));
                }
                tokens.push(token);
            }
            Ok(tokens)
        }
    }

    deserializer.deserialize_seq(Tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Right, Timestamp, Token, TokenId};
    use std::time::Duration;

    fn entry(name: &str) -> TokenEntry {
        let token = Token::new(TokenId::random().unwrap()).unwrap();
        TokenEntry {
            name: name.parse().unwrap(),
            id: token.id(),
            sha256: token.digest(),
            rights: [Right::Lease].into(),
            scopes: vec!["s".parse().unwrap()],
            created: Timestamp::of_unix_millis(1_700_000_000_123),
            expires: None,
            previous: None,
        }
    }

    fn text(tokens: Vec<TokenEntry>) -> String {
        serde_json::to_string_pretty(&TokenFile { tokens, ..TokenFile::default() }).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        assert_eq!(TokenFile::read(&path).unwrap(), TokenFile::default(), "there is none yet");
        let mut full = entry("full");
        full.expires = Some(full.created.after(Duration::MAX));
        full.rotate(&Token::new(full.id).unwrap(), full.created, Duration::MAX);
        let tokens = vec![entry("a"), full];
        let add = |file: &mut TokenFile| {
            file.tokens.clone_from(&tokens);
            Ok::<_, TokenFileError>(())
        };
        TokenFile::change(&path, add).unwrap();
        assert_eq!(TokenFile::read(&path).unwrap().tokens, tokens);
        // A change that fails, and a file that is not well, leave it as it was.
        let bytes = fs::read(&path).unwrap();
        let fail = |file: &mut TokenFile| {
            file.tokens.clear();
            Err::<(), _>(TokenFileError::TooLarge { path: PathBuf::new() })
        };
        TokenFile::change(&path, fail).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::write(&path, "{").unwrap();
        TokenFile::change(&path, add).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let one = text(vec![entry("a")]);
        let twice = entry("a");
        let many = |scopes| TokenEntry { scopes: vec!["s".parse().unwrap(); scopes], ..entry("many") };
        for (text, place, part) in [
            (String::new(), "t:1:1: file: ", "EOF"),
            ("[]".to_owned(), "t:1:2: file: ", ""),
            ("{\n  \"version\": 2}".to_owned(), "t:2:15: version: ", "version 2"),
            (one.replace("\"id\"", "\"ID\""), "t:6:", "unknown field `ID`"),
            (one.replace("\"lease\"", "\"root\""), "t:9:", "unknown variant `root`"),
            (one.replace("\"a\"", "\"a b\""), "t:5:", "`a b` is no name"),
            (one.replace("\"a\"", &format!("{:?}", "x".repeat(129))), "t:5:", "is no name"),
            (one.replace("\"s\"", "\"s/a\""), "t:13:", "`s/a` is no scope"),
            (one.replace("2023-", "soon-"), "t:", "is no time"),
            (one.replace("\"rights\": [\n        \"lease\"\n      ]", "\"rights\": []"), "t:", "has no right"),
            (format!("{one}x"), "t:", "trailing characters"),
            (text(vec![twice.clone(), twice.clone()]), "t:", "two tokens are named `a`"),
            (text(vec![twice.clone(), TokenEntry { name: "b".parse().unwrap(), ..twice }]), "t:", "have the id"),
            (text(vec![many(MAX_SCOPES + 1)]), "t:", "65 scopes"),
            (text((0..=MAX_TOKENS).map(|n| entry(&n.to_string())).collect()), "t:", "more than 10000"),
        ] {
            let error = TokenFile::parse(Path::new("t"), text.as_bytes()).expect_err(part).to_string();
            assert!(error.starts_with(place) && error.contains(part), "{error}");
        }
        assert!(TokenFile::parse(Path::new("t"), text(vec![many(MAX_SCOPES)]).as_bytes()).is_ok());
    }
}
