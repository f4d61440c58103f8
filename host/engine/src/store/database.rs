//! The database: how it is opened, what it looks like, and what it holds after a restart.
//!
//! Nothing in it is ever deleted because it could not be read: whoever cannot read it refuses to start, and says which file.

use super::entries::entries;
use super::fold::fold;
use super::forms::{LimitsForm, Problem, RequestForm, RuleForm};
use super::{Durability, Entry};
use crate::callers::Callers;
use crate::keys::KEPT;
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, Transaction, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_limiter::{
    CounterName, Counts, Ended, GrantedLease, HandState, Limits, Mode, Pattern, RateKind, Rule, RuleBook, RuleSpec,
    SmoothState,
};

/// The form of the tables, as SQLite's `user_version`.
const VERSION: i64 = 1;
/// How long another process may hold the file before it counts as in use.
const BUSY: Duration = Duration::from_millis(500);

const TABLES: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        shards INTEGER NOT NULL, seed INTEGER NOT NULL,
        time INTEGER NOT NULL, fence INTEGER NOT NULL,
        book_version INTEGER NOT NULL) STRICT;
    CREATE TABLE rule (
        pattern TEXT PRIMARY KEY, spec TEXT NOT NULL,
        version INTEGER NOT NULL, last_modified INTEGER NOT NULL) STRICT;
    CREATE TABLE file_rule (pattern TEXT PRIMARY KEY, spec TEXT NOT NULL) STRICT;
    CREATE TABLE hand (
        counter TEXT PRIMARY KEY, paused INTEGER NOT NULL, draining INTEGER NOT NULL,
        pinned TEXT, pushed_back_until INTEGER NOT NULL) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, counter TEXT NOT NULL,
        mode INTEGER NOT NULL, period INTEGER NOT NULL, counts INTEGER NOT NULL,
        arrival INTEGER NOT NULL, pace INTEGER NOT NULL, booked INTEGER NOT NULL,
        UNIQUE (counter, mode, period, counts)) STRICT;
    CREATE TABLE start (
        history INTEGER NOT NULL, slot INTEGER NOT NULL,
        bucket INTEGER NOT NULL, at INTEGER NOT NULL, units INTEGER NOT NULL,
        PRIMARY KEY (history, slot)) STRICT, WITHOUT ROWID;
    CREATE TABLE lease (
        secret BLOB PRIMARY KEY, shard INTEGER NOT NULL, fence INTEGER NOT NULL,
        caller TEXT, key TEXT, request TEXT NOT NULL, cost INTEGER,
        granted_at INTEGER NOT NULL, ends_at INTEGER NOT NULL,
        ended TEXT, ended_at INTEGER) STRICT, WITHOUT ROWID;
    CREATE INDEX lease_ended ON lease (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE journal (batch INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
";

/// Why a data directory cannot be used. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be made, or its file cannot be opened.
    #[error("cannot open {}: {reason}", path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process has it.
    #[error("{} is in use by another process: give each server a data directory of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or not ours.
    #[error("{} cannot be read: {reason}. Nothing was changed; move it away to begin anew, or put a copy in its place", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A later version has written it.
    #[error("{} was written by a later version (form {found}, this one knows {VERSION}): use that one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: i64,
    },
    /// The writer could not be started.
    #[error("cannot start the thread that writes {}: {source}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// What has survived.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) shards: u16,
    pub(crate) seed: u64,
    /// The last instant that was seen.
    pub(crate) time: u64,
    /// Above all fencing numbers that were given.
    pub(crate) fence: u64,
    pub(crate) book: RuleBook,
    /// The rules that the configuration named last.
    pub(crate) file_rules: HashMap<Pattern, RuleSpec>,
    pub(crate) hands: Vec<(CounterName, HandState)>,
    pub(crate) histories: Vec<SavedHistory>,
    pub(crate) leases: Vec<SavedLease>,
}

#[derive(Debug)]
pub(crate) struct SavedHistory {
    pub(crate) counter: CounterName,
    pub(crate) kind: RateKind,
    pub(crate) starts: Vec<(u64, u64)>,
    pub(crate) smooth: Option<SmoothState>,
    pub(crate) booked: u32,
}

#[derive(Debug)]
pub(crate) struct SavedLease {
    pub(crate) lease: GrantedLease,
    /// How it has ended, and when; only leases under idempotency keys are kept beyond that.
    pub(crate) ended: Option<(Ended, u64)>,
}

/// An open database, which nobody else can open.
#[derive(Debug)]
pub(crate) struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    /// What the journal holds, in order.
    pub(super) unfolded: Vec<Entry>,
}

/// Numbers of 64 bits as SQLite has them: bit for bit.
pub(super) fn sql(number: u64) -> i64 {
    number.cast_signed()
}

fn unsql(number: i64) -> u64 {
    number.cast_unsigned()
}

pub(super) fn code_of_mode(mode: Mode) -> i64 {
    match mode {
        Mode::Window => 0,
        Mode::Smooth => 1,
    }
}

pub(super) fn code_of_counts(counts: Counts) -> i64 {
    match counts {
        Counts::Calls => 0,
        Counts::Cost => 1,
    }
}

impl Database {
    /// Opens the database of a directory, and makes both if they are not there.
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory)
            .map_err(|error| StoreError::Open { path: directory.to_owned(), reason: error.to_string() })?;
        let path = directory.join("weir.db");
        let open = || -> rusqlite::Result<(Connection, i64)> {
            // One thread at a time has it.
            let flags =
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            let synchronous = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            // The lock is taken by the first look, and kept.
            let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((connection, version))
        };
        let (connection, version) = open().map_err(|error| refuse(&path, &error))?;
        let mut database = Self { connection, path, unfolded: Vec::new() };
        match version {
            0 => database.make()?,
            VERSION => database.check()?,
            found => return Err(StoreError::Newer { path: database.path, found }),
        }
        Ok(database)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn refuse(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| refuse(&self.path, &error)
    }

    fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), reason: reason.into() }
    }

    fn make(&mut self) -> Result<(), StoreError> {
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(self.refuse())?;
        if tables > 0 {
            return Err(self.corrupt("it is a database of another program"));
        }
        let script = format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;");
        self.connection.execute_batch(&script).map_err(self.refuse())
    }

    fn check(&self) -> Result<(), StoreError> {
        let found: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(self.refuse())?;
        if found == "ok" { Ok(()) } else { Err(self.corrupt(found)) }
    }

    /// Reads what has survived, and forgets what no longer counts at `clock`, or at the last instant that was seen if that is
    /// later. A new database is given its shards and a seed.
    pub(crate) fn load(&mut self, callers: &Callers, shards: u16, clock: u64) -> Result<Saved, StoreError> {
        let path = self.path.clone();
        let transaction = self.connection.transaction().map_err(|error| refuse(&path, &error))?;
        let loaded = unfold(&transaction, callers, clock)
            .and_then(|()| Loader { transaction: &transaction, callers }.load(shards, clock));
        let saved = loaded.map_err(|error| match error.downcast::<rusqlite::Error>() {
            Ok(error) => refuse(&path, &error),
            Err(error) => StoreError::Corrupt { path: path.clone(), reason: error.to_string() },
        })?;
        transaction.commit().map_err(|error| refuse(&path, &error))?;
        Ok(saved)
    }
}

fn refuse(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure,
        ) => StoreError::Open { path, reason: error.to_string() },
        _ => StoreError::Corrupt { path, reason: error.to_string() },
    }
}

/// Brings what the journal holds into the tables.
fn unfold(transaction: &Transaction<'_>, callers: &Callers, now: u64) -> Result<(), Problem> {
    let mut statement = transaction.prepare("SELECT entries FROM journal ORDER BY batch")?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.append(&mut entries(row.get_ref(0)?.as_blob()?, callers)?);
    }
    fold(transaction, &all, callers, now)?;
    Ok(())
}

struct Loader<'a> {
    transaction: &'a Transaction<'a>,
    callers: &'a Callers,
}

impl Loader<'_> {
    fn load(&self, shards: u16, clock: u64) -> Result<Saved, Problem> {
        let meta = self
            .transaction
            .query_row("SELECT shards, seed, time, fence, book_version FROM meta", [], |row| {
                let number = |index| row.get(index).map(unsql);
                Ok((row.get::<_, u16>(0)?, number(1)?, number(2)?, number(3)?, number(4)?))
            })
            .optional()?;
        let (shards, seed, time, fence, book_version) = match meta {
            Some(meta) => meta,
            None => {
                let mut seed = [0; 8];
                getrandom::fill(&mut seed)?;
                let seed = u64::from_ne_bytes(seed);
                let values = params![shards, sql(seed)];
                self.transaction.execute("INSERT INTO meta VALUES (1, ?, ?, 0, 0, 0)", values)?;
                (shards, seed, 0, 0, 0)
            }
        };
        let now = clock.max(time);
        let rules = self.rules()?;
        Ok(Saved {
            shards,
            seed,
            time,
            fence,
            book: RuleBook::restored(book_version, rules),
            file_rules: self.file_rules()?,
            hands: self.hands(now)?,
            histories: self.histories(now)?,
            leases: self.leases(now)?,
        })
    }

    /// All rows of a query, each made into something.
    fn all<T>(&self, query: &str, mut each: impl FnMut(&Row<'_>) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
        let mut statement = self.transaction.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(each(row)?);
        }
        Ok(found)
    }

    fn rules(&self) -> Result<Vec<Rule>, Problem> {
        self.all("SELECT pattern, spec, version, last_modified FROM rule", |row| {
            Ok(Rule {
                pattern: text(row, 0)?.parse()?,
                spec: spec(&text(row, 1)?)?,
                version: number(row, 2)?,
                last_modified: number(row, 3)?,
            })
        })
    }

    fn file_rules(&self) -> Result<HashMap<Pattern, RuleSpec>, Problem> {
        let rules =
            self.all("SELECT pattern, spec FROM file_rule", |row| Ok((text(row, 0)?.parse()?, spec(&text(row, 1)?)?)))?;
        Ok(rules.into_iter().collect())
    }

    fn hands(&self, now: u64) -> Result<Vec<(CounterName, HandState)>, Problem> {
        let hands = self.all("SELECT counter, paused, draining, pinned, pushed_back_until FROM hand", |row| {
            let pinned: Option<String> = row.get(3)?;
            let hand = HandState {
                paused: row.get(1)?,
                draining: row.get(2)?,
                pinned: pinned.map(|text| limits(&text)).transpose()?,
                pushed_back_until: number(row, 4)?,
            };
            Ok((text(row, 0)?.parse()?, hand))
        })?;
        Ok(hands.into_iter().filter(|(_, hand)| !hand.is_empty(now)).collect())
    }

    fn histories(&self, now: u64) -> Result<Vec<SavedHistory>, Problem> {
        let mut starts: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
        self.all("SELECT history, at, units FROM start ORDER BY history, at", |row| {
            starts.entry(row.get(0)?).or_default().push((number(row, 1)?, number(row, 2)?));
            Ok(())
        })?;
        let all = self.all("SELECT id, counter, mode, period, counts, arrival, pace, booked FROM history", |row| {
            let id: i64 = row.get(0)?;
            let mode = match row.get::<_, i64>(2)? {
                0 => Mode::Window,
                1 => Mode::Smooth,
                other => return Err(format!("a history of mode {other}").into()),
            };
            let counts = match row.get::<_, i64>(4)? {
                0 => Counts::Calls,
                1 => Counts::Cost,
                other => return Err(format!("a history that counts {other}").into()),
            };
            let period = number(row, 3)?;
            let mut starts = starts.remove(&id).unwrap_or_default();
            starts.retain(|(at, units)| *units > 0 && at.saturating_add(period) > now);
            let smooth = SmoothState { arrival: number(row, 5)?, interval: number(row, 6)? };
            let history = SavedHistory {
                counter: text(row, 1)?.parse()?,
                kind: RateKind { mode, period, counts },
                starts,
                smooth: (mode == Mode::Smooth).then_some(smooth),
                booked: row.get(7)?,
            };
            let lives = history.booked > 0
                || !history.starts.is_empty()
                || history.smooth.is_some_and(|smooth| smooth.arrival > now);
            Ok((id, lives.then_some(history)))
        })?;
        for (id, _) in all.iter().filter(|(_, history)| history.is_none()) {
            self.transaction.prepare_cached("DELETE FROM start WHERE history = ?")?.execute([id])?;
            self.transaction.prepare_cached("DELETE FROM history WHERE id = ?")?.execute([id])?;
        }
        Ok(all.into_iter().filter_map(|(_, history)| history).collect())
    }

    fn leases(&self, now: u64) -> Result<Vec<SavedLease>, Problem> {
        // What has ended while nobody was there.
        self.transaction.execute("DELETE FROM lease WHERE ends_at <= ? AND key IS NULL", [sql(now)])?;
        self.transaction.execute(
            "UPDATE lease SET ended = 'expired', ended_at = ends_at WHERE ends_at <= ? AND ended IS NULL",
            [sql(now)],
        )?;
        let kept = now.saturating_sub(crate::clock::nanos(KEPT));
        self.transaction.execute("DELETE FROM lease WHERE ended_at <= ?", [sql(kept)])?;
        let query = "SELECT secret, shard, fence, caller, key, request, cost, granted_at, ends_at, ended, ended_at FROM lease ORDER BY fence";
        self.all(query, |row| {
            let secret: [u8; 16] = row.get(0)?;
            let (caller, key): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let caller = caller.map(|name| self.callers.caller(&name)).unwrap_or_default();
            let form: RequestForm = serde_json::from_str(&text(row, 5)?)?;
            let request = form.request(caller, key.as_deref())?;
            let ended: Option<String> = row.get(9)?;
            let ended = match ended {
                None => None,
                Some(text) => {
                    let how = Ended::parse(&text).ok_or_else(|| format!("a lease that has ended as `{text}`"))?;
                    Some((how, number(row, 10)?))
                }
            };
            let lease = GrantedLease {
                secret: u128::from_be_bytes(secret),
                shard: row.get(1)?,
                fence: number(row, 2)?,
                request,
                settled: row.get(6)?,
                granted_at: number(row, 7)?,
                ends_at: number(row, 8)?,
            };
            Ok(SavedLease { lease, ended })
        })
    }
}

fn get<T: FromSql>(row: &Row<'_>, index: usize) -> Result<T, Problem> {
    Ok(row.get(index)?)
}

fn text(row: &Row<'_>, index: usize) -> Result<String, Problem> {
    get(row, index)
}

fn number(row: &Row<'_>, index: usize) -> Result<u64, Problem> {
    get(row, index).map(unsql)
}

fn limits(text: &str) -> Result<Limits, Problem> {
    serde_json::from_str::<LimitsForm>(text)?.try_into()
}

fn spec(text: &str) -> Result<RuleSpec, Problem> {
    serde_json::from_str::<RuleForm>(text)?.try_into()
}
