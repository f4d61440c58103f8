//! The tables: one row for each lease, history and rule, as of the last fold.

use super::file::{File, StoreError, refuse};
use super::fold::fold;
use super::forms::Problem;
use super::journal::Journal;
use super::load::{Loader, Saved};
use super::{Durability, Entry};
use crate::callers::Callers;
use rusqlite::params;
use std::path::{Path, PathBuf};
use weir_limiter::{Counts, Mode};

const TABLES: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        shards INTEGER NOT NULL, seed INTEGER NOT NULL,
        book_version INTEGER NOT NULL, folded INTEGER NOT NULL) STRICT;
    CREATE TABLE rule (
        pattern TEXT PRIMARY KEY, spec TEXT NOT NULL,
        version INTEGER NOT NULL, last_modified INTEGER NOT NULL) STRICT;
    CREATE TABLE file_rule (pattern TEXT PRIMARY KEY, spec TEXT NOT NULL) STRICT;
    CREATE TABLE hand (
        counter TEXT PRIMARY KEY, paused INTEGER NOT NULL, draining INTEGER NOT NULL,
        pinned TEXT, pushed_back_until INTEGER NOT NULL) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, counter TEXT NOT NULL,
        mode INTEGER NOT NULL, period INTEGER NOT NULL, counts INTEGER NOT NULL, pace INTEGER NOT NULL,
        arrival INTEGER NOT NULL, interval INTEGER NOT NULL, beyond INTEGER NOT NULL, booked INTEGER NOT NULL,
        UNIQUE (counter, mode, period, counts, pace)) STRICT;
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
";

/// More rows than a journal ever has.
const MAX_ROW: i64 = 1 << 62;

/// The open tables.
#[derive(Debug)]
pub(crate) struct Database {
    file: File,
}

/// Numbers of 64 bits as SQLite has them: bit for bit.
pub(super) fn sql(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn unsql(number: i64) -> u64 {
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

/// Where the tables are.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join("weir.db")
}

impl Database {
    /// Opens the tables of a directory; none: they are not there.
    ///
    /// Every commit waits for the disk, whatever the directory is to survive: a fold that is lost with the power must not have
    /// emptied a journal that is not.
    pub(super) fn find(directory: &Path) -> Result<Option<Self>, StoreError> {
        Ok(File::find(path_in(directory), Durability::Power)?.map(|file| Self { file }))
    }

    /// Makes the file of a directory that has none.
    pub(super) fn make(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: File::make(path_in(directory), Durability::Power)? })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What tells this directory from others; none: the tables are new.
    pub(super) fn seed(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.file.number("SELECT seed FROM meta")?.map(unsql))
    }

    /// See [`File::used`].
    pub(super) fn used(&self) -> Result<(), StoreError> {
        self.file.used()
    }

    pub(super) fn corrupt(&self, reason: &str) -> StoreError {
        self.file.corrupt(reason)
    }

    /// Begins new tables.
    pub(super) fn begin(&mut self, shards: u16, seed: u64) -> Result<(), StoreError> {
        self.file.begin(TABLES)?;
        let insert = "INSERT INTO meta VALUES (1, ?, ?, 0, 0)";
        self.file.connection.execute(insert, params![shards, sql(seed)]).map(drop).map_err(self.file.refuse())
    }

    /// Folds what the journal holds, reads what has survived, and forgets what no longer counts at `clock`, or at the last
    /// instant that was seen if that is later.
    pub(super) fn load(&mut self, journal: &mut Journal, callers: &Callers, clock: u64) -> Result<Saved, StoreError> {
        let path = self.file.path().to_owned();
        // Whatever is refused on the way has written nothing, not even to the log.
        self.spill(false)?;
        let transaction = self.file.connection.transaction().map_err(|error| refuse(&path, &error))?;
        let folded: i64 = transaction
            .query_row("SELECT folded FROM meta", [], |row| row.get(0))
            .map_err(|error| refuse(&path, &error))?;
        if !(0..=MAX_ROW).contains(&folded) {
            let reason = format!("the journal is folded up to row {folded}");
            return Err(StoreError::Corrupt { path, reason });
        }
        let found = journal.read(folded, callers)?;
        let loaded = fold(&transaction, &found.entries, callers, clock, found.last)
            .map_err(Problem::from)
            .and_then(|()| Loader { transaction: &transaction, callers }.load(&found, clock));
        let saved = loaded.map_err(|error| match error.downcast::<rusqlite::Error>() {
            Ok(error) => refuse(&path, &error),
            Err(error) => StoreError::Corrupt { path: path.clone(), reason: error.to_string() },
        })?;
        journal.sync()?;
        transaction.commit().map_err(|error| refuse(&path, &error))?;
        self.spill(true)?;
        Ok(saved)
    }

    /// Whether a transaction may write before it is committed.
    fn spill(&self, may: bool) -> Result<(), StoreError> {
        self.file.connection.pragma_update(None, "cache_spill", may).map_err(self.file.refuse())
    }

    /// Brings the entries up to row `last` of the journal into the tables, all or none.
    pub(super) fn fold(&mut self, entries: &[Entry], last: i64, callers: &Callers, now: u64) -> rusqlite::Result<()> {
        let transaction = self.file.connection.transaction()?;
        fold(&transaction, entries, callers, now, last)?;
        transaction.commit()
    }
}
