//! The tokens that a running server knows.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use subtle::Choice;

use super::entry::{AllowedScope, Right, Timestamp, TokenEntry, TokenName};
use super::file::{TokenFile, TokenFileError};
use super::text::{Digest, Token, TokenId};

/// Who has shown a token, and what that allows.
#[derive(Debug)]
pub(crate) struct Holder {
    name: TokenName,
    rights: BTreeSet<Right>,
    scopes: Vec<AllowedScope>,
}

impl Holder {
    pub(crate) fn name(&self) -> &TokenName {
        &self.name
    }

    pub(crate) fn rights(&self) -> impl Iterator<Item = Right> {
        self.rights.iter().copied()
    }

    pub(crate) fn has(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    pub(crate) fn may_use(&self, scope: &str) -> bool {
        self.scopes.iter().any(|allowed| allowed.allows(scope))
    }
}

/// The tokens of a file, as they were when it was last read well.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: Option<PathBuf>,
    known: RwLock<Arc<Known>>,
    /// The file that was read last, well or not.
    seen: Mutex<Seen>,
}

type Known = HashMap<TokenId, (TokenEntry, Arc<Holder>)>;

/// What tells a file from one that was there before: a new file has another number, one that was written again another
/// time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    File(Stamp),
    /// It could not be opened, for this reason.
    Closed(String),
}

impl Tokens {
    /// Reads the tokens of a file; without one there are none.
    ///
    /// # Errors
    /// The file is there, and not well.
    pub(crate) fn open(path: Option<PathBuf>) -> Result<Self, TokenFileError> {
        let read = path.as_deref().map_or(Ok((Seen::Nothing, TokenFile::default())), read)?;
        Ok(Self { path, known: RwLock::new(Arc::new(known(read.1))), seen: Mutex::new(read.0) })
    }

    /// Whether there is a file that may change.
    pub(crate) fn can_change(&self) -> bool {
        self.path.is_some()
    }

    /// Whether somebody could show a good token now.
    pub(crate) fn any(&self, now: Timestamp) -> bool {
        self.known.read().values().any(|(token, _)| !token.has_expired(now))
    }

    /// Reads the file again if it is another than before. One that is not well changes nothing but the log.
    pub(crate) fn refresh(&self) {
        let Some(path) = &self.path else { return };
        let mut seen = self.seen.lock();
        let there = look(path);
        if there == *seen {
            return;
        }
        match read(path) {
            Ok((at, file)) => {
                if at == Seen::Nothing {
                    tracing::warn!(file = %path.display(), "the token file is gone, and with it every token");
                } else {
                    tracing::info!(tokens = file.tokens.len(), "token file read");
                }
                *self.known.write() = Arc::new(known(file));
                *seen = at;
            }
            Err(error) => {
                tracing::warn!(%error, "the tokens stay as they were: their file is not well");
                *seen = there;
            }
        }
    }

    /// Who has this token; nobody where it is unknown, revoked or expired. Which of these it is does not show, nor how much of
    /// the secret was right.
    pub(crate) fn holder(&self, token: &Token, now: Timestamp) -> Option<Arc<Holder>> {
        let known = Arc::clone(&self.known.read());
        let found = known.get(&token.id());
        let entry = found.map(|(entry, _)| entry);
        let kept = entry.map_or(Digest::NOBODYS, |entry| entry.sha256);
        let previous = entry.and_then(|entry| entry.previous.as_ref());
        let before = previous.map_or(Digest::NOBODYS, |previous| previous.sha256);
        let flag = |flag: bool| Choice::from(u8::from(flag));
        let given = token.digest();
        let good = given.is(&kept) | (given.is(&before) & flag(previous.is_some_and(|previous| now < previous.until)));
        let good = good & flag(entry.is_some_and(|entry| !entry.has_expired(now)));
        found.filter(|_| bool::from(good)).map(|(_, holder)| Arc::clone(holder))
    }
}

fn known(file: TokenFile) -> Known {
    let one = |token: TokenEntry| {
        let (name, rights, scopes) = (token.name.clone(), token.rights.clone(), token.scopes.clone());
        (token.id, (token, Arc::new(Holder { name, rights, scopes })))
    };
    file.tokens.into_iter().map(one).collect()
}

/// Reads a file, and answers which it was.
fn read(path: &Path) -> Result<(Seen, TokenFile), TokenFileError> {
    let failed = |error| TokenFileError::Io { path: path.to_owned(), doing: "read", error };
    match File::open(path) {
        Ok(file) => {
            // Before it is read: what is written meanwhile is seen the next time.
            let stamp = Seen::File(stamp(&file.metadata().map_err(failed)?));
            Ok((stamp, TokenFile::read_from(path, file)?))
        }
        // Taken away, and with it all tokens.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Seen::Nothing, TokenFile::default())),
        Err(error) => Err(failed(error)),
    }
}

fn look(path: &Path) -> Seen {
    match fs::metadata(path) {
        Ok(metadata) => Seen::File(stamp(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Nothing,
        Err(error) => Seen::Closed(error.to_string()),
    }
}

fn stamp(file: &Metadata) -> Stamp {
    (file.dev(), file.ino(), file.size(), (file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: u64 = 1_700_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::of_unix_millis(NOW.saturating_add_signed(millis))
    }

    /// Makes a token that expires at `NOW` + 10 s, unless told otherwise.
    fn made(path: &Path, name: &str, change: impl FnOnce(&mut TokenEntry)) -> Token {
        let token = Token::new(TokenId::random().unwrap()).unwrap();
        let mut entry = TokenEntry {
            name: name.parse().unwrap(),
            id: token.id(),
            sha256: token.digest(),
            rights: [Right::Read].into(),
            scopes: vec!["a".parse().unwrap()],
            created: at(0),
            expires: Some(at(10_000)),
            previous: None,
        };
        change(&mut entry);
        let add = |file: &mut TokenFile| {
            file.tokens.push(entry);
            Ok::<_, TokenFileError>(())
        };
        TokenFile::change(path, add).unwrap();
        token
    }

    fn same_id(token: &Token) -> Token {
        Token::new(token.id()).unwrap()
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_its_secret_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let token = made(&path, "one", |_| {});
        let tokens = Tokens::open(Some(path)).unwrap();
        let holder = tokens.holder(&token, at(0)).unwrap();
        assert_eq!((holder.name().to_string(), holder.may_use("a"), holder.may_use("b")), ("one".into(), true, false));
        assert!(holder.has(Right::Read) && !holder.has(Right::Lease) && !holder.may_use("*"));
        assert!(tokens.holder(&token, at(9_999)).is_some() && tokens.any(at(9_999)));
        assert!(tokens.holder(&token, at(10_000)).is_none() && !tokens.any(at(10_000)), "it has expired");
        assert!(tokens.holder(&same_id(&token), at(0)).is_none(), "another secret");
        assert!(tokens.holder(&Token::new(TokenId::random().unwrap()).unwrap(), at(0)).is_none(), "another id");
    }

    #[test]
    fn the_secret_before_a_rotation_is_good_until_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let mut newer = None;
        let old = made(&path, "one", |entry| {
            let token = Token::new(entry.id).unwrap();
            entry.rotate(&token, at(0), Duration::from_secs(1));
            newer = Some(token);
        });
        let tokens = Tokens::open(Some(path)).unwrap();
        let newer = newer.unwrap();
        for (now, good) in [(0, true), (999, true), (1_000, false), (9_999, false)] {
            assert_eq!(tokens.holder(&old, at(now)).is_some(), good, "{now}");
            assert!(tokens.holder(&newer, at(now)).is_some(), "{now}");
        }
        assert!(tokens.holder(&newer, at(10_000)).is_none(), "it has expired");
    }

    #[test]
    fn a_change_is_seen_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let tokens = Tokens::open(Some(path.clone())).unwrap();
        assert!(!tokens.any(at(0)), "there is no file yet");
        let token = made(&path, "one", |_| {});
        tokens.refresh();
        assert!(tokens.holder(&token, at(0)).is_some());
        fs::write(&path, "{").unwrap();
        tokens.refresh();
        assert!(tokens.holder(&token, at(0)).is_some(), "as before");
        assert!(Tokens::open(Some(path.clone())).is_err(), "but nobody starts with it");
        fs::write(&path, r#"{"version":1,"tokens":[]}"#).unwrap();
        tokens.refresh();
        assert!(tokens.holder(&token, at(0)).is_none(), "revoked");
        fs::remove_file(&path).unwrap();
        let token = made(&path, "two", |_| {});
        tokens.refresh();
        assert!(tokens.holder(&token, at(0)).is_some());
        fs::remove_file(&path).unwrap();
        tokens.refresh();
        assert!(!tokens.any(at(0)), "without a file there are no tokens");
    }
}
