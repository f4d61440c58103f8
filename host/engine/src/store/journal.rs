//! The journal: a row for each batch of entries, or a few where it is long, so that what a commit costs does not depend on where they belong.
//!
//! It is a file of its own: a commit waits for no fold. Its rows are deleted a few at a time, with the commits that come after they
//! were folded. The last one stays, so that a journal that is older than the tables can be told from one that is all folded.

use super::Entry;
use super::database::{sql, unsql};
use super::entries::{entries, rows};
use super::file::{File, StoreError, log_of, refuse, sync};
use super::forms::Problem;
use super::load::within;
use super::{Durability, RESERVE};
use crate::callers::Callers;
use rusqlite::params;
use std::path::{Path, PathBuf};

const TABLES: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        seed INTEGER NOT NULL, time INTEGER NOT NULL, fence INTEGER NOT NULL) STRICT;
    CREATE TABLE journal (batch INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
";

/// So many rows are deleted with a commit: more than it adds, and few enough to cost little.
const SPARE: i64 = 8;

/// Where the journal is.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join("journal.db")
}

/// Bytes of a page, of which a commit writes some ten, one by one: twice what is usual. And how many of them its log gathers before they are
/// brought into the file, which waits for the disk: 32 MiB. Smaller ones take more time for each commit, and more often.
const PAGE: u32 = 8_192;
const LOG: u32 = 4_096;

/// A row ends with the entry that makes it longer than this, in bytes: SQLite takes none of 10^9.
const ROW: usize = 16 << 20;

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// The first row that may be there, and the last that was.
    first: i64,
    last: i64,
    /// What was reserved when it was opened: numbers go on from there.
    fence: u64,
}

/// What it holds.
#[derive(Debug)]
pub(super) struct Found {
    /// In their order.
    pub(super) entries: Vec<Entry>,
    /// The row of the last of them.
    pub(super) last: i64,
    /// The last instant that was seen.
    pub(super) time: u64,
    /// Above all fencing numbers that were given.
    pub(super) fence: u64,
}

impl Journal {
    /// Opens the journal of a directory; none: it is not there.
    pub(super) fn find(directory: &Path, durability: Durability) -> Result<Option<Self>, StoreError> {
        Ok(File::find(path_in(directory), durability)?.map(Self::of))
    }

    /// Makes the file of a directory that has none.
    pub(super) fn make(directory: &Path, durability: Durability) -> Result<Self, StoreError> {
        Ok(Self::of(File::make(path_in(directory), durability)?))
    }

    fn of(file: File) -> Self {
        Self { file, first: 0, last: 0, fence: 0 }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What tells its directory from others; none: it is new.
    pub(super) fn seed(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.file.number("SELECT seed FROM meta")?.map(unsql))
    }

    /// Begins a new journal: with a row that says nothing, so that it is never without one.
    pub(super) fn begin(&mut self, seed: u64) -> Result<(), StoreError> {
        self.file.connection.pragma_update(None, "page_size", PAGE).map_err(self.file.refuse())?;
        self.file.begin(TABLES)?;
        let begin = |transaction: rusqlite::Transaction<'_>| {
            transaction.execute("INSERT INTO meta VALUES (1, ?, 0, 0)", [sql(seed)])?;
            transaction.execute("INSERT INTO journal VALUES (0, CAST('[]' AS BLOB))", [])?;
            transaction.commit()
        };
        let path = self.file.path().to_owned();
        self.file.connection.transaction().and_then(begin).map_err(|error| refuse(&path, &error))
    }

    /// Whether anything was ever written to it.
    pub(super) fn is_unused(&self) -> Result<bool, StoreError> {
        Ok(self.file.number("SELECT time FROM meta")? == Some(0))
    }

    /// See [`File::used`].
    pub(super) fn used(&self) -> Result<(), StoreError> {
        self.file.connection.pragma_update(None, "wal_autocheckpoint", LOG).map_err(self.file.refuse())?;
        self.file.used()
    }

    /// Reserves numbers for the life that begins at `now`: none is given before.
    pub(super) fn reserve(&mut self, callers: &Callers, now: u64) -> rusqlite::Result<()> {
        self.write(&[], callers, now, 0)
    }

    /// What it holds is on the disk when this returns.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let log = log_of(self.path());
        sync(&log).map_err(|error| StoreError::Open { path: log, reason: error.to_string() })
    }

    pub(super) fn corrupt(&self, reason: &str) -> StoreError {
        self.file.corrupt(reason)
    }

    /// Reads what stands behind row `folded`.
    pub(super) fn read(&mut self, folded: i64, callers: &Callers) -> Result<Found, StoreError> {
        let tables = self.path().with_file_name("weir.db");
        let older = |path: &Path, than: &Path| {
            let reason = format!("it is older than {} beside it: is its -wal missing?", than.display());
            StoreError::Corrupt { path: path.to_owned(), reason }
        };
        let read = || -> Result<(Found, i64), Problem> {
            let connection = &self.file.connection;
            let (time, fence) = connection
                .query_row("SELECT time, fence FROM meta", [], |row| Ok((unsql(row.get(0)?), unsql(row.get(1)?))))?;
            let (time, fence) = (within(time, "the instant")?, within(fence, "the fencing number")?);
            let (first, last): (Option<i64>, Option<i64>) =
                connection.query_row("SELECT min(batch), max(batch) FROM journal", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            if first.is_some_and(|first| first > folded + 1) {
                return Err(older(&tables, self.path()).into());
            }
            // An earlier Weir left none.
            if last.is_some_and(|last| last < folded) {
                return Err(older(self.path(), &tables).into());
            }
            let mut found = Found { entries: Vec::new(), last: folded, time, fence };
            let mut statement =
                connection.prepare("SELECT batch, entries FROM journal WHERE batch > ? ORDER BY batch")?;
            let mut rows = statement.query([folded])?;
            while let Some(row) = rows.next()? {
                let batch = row.get(0)?;
                if batch != found.last + 1 {
                    return Err(format!("row {} is missing", found.last + 1).into());
                }
                found.entries.append(&mut entries(row.get_ref(1)?.as_blob()?, callers)?);
                found.last = batch;
            }
            Ok((found, first.unwrap_or(folded + 1)))
        };
        let (found, first) = read().map_err(|error| match error.downcast::<rusqlite::Error>() {
            Ok(error) => self.file.refuse()(*error),
            Err(error) => error.downcast().map_or_else(|error| self.file.corrupt(error.to_string()), |error| *error),
        })?;
        (self.first, self.last, self.fence) = (first, found.last, found.fence);
        Ok(found)
    }

    /// The row that was written last.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Writes entries in their order, all or none, and that `now` was seen; and deletes some of the rows up to `folded`, all of them
    /// where there is nothing else to write.
    pub(super) fn write(&mut self, batch: &[Entry], callers: &Callers, now: u64, folded: i64) -> rusqlite::Result<()> {
        let transaction = self.file.connection.transaction()?;
        let before = self.last;
        let mut last = before;
        for row in rows(batch, callers, ROW) {
            last += 1;
            transaction.prepare_cached("INSERT INTO journal VALUES (?, ?)")?.execute(params![last, row])?;
        }
        let deleted =
            if batch.is_empty() { folded } else { folded.min(self.first + SPARE.max(2 * (last - before)) - 1) }
                .min(last - 1);
        if deleted >= self.first {
            transaction.prepare_cached("DELETE FROM journal WHERE batch <= ?")?.execute([deleted])?;
        }
        // Numbers start at what was reserved, or now, whichever is more, and go on with the clock.
        let reserved = now.max(self.fence).saturating_add(crate::clock::nanos(RESERVE));
        transaction.prepare_cached("UPDATE meta SET time = ?, fence = ?")?.execute([sql(now), sql(reserved)])?;
        transaction.commit()?;
        self.last = last;
        self.first = self.first.max(deleted + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::database::Database;
    use weir_limiter::{Ended, Record};

    fn entry(secret: u128) -> Entry {
        Entry::Record(Record::Ended { secret, how: Ended::Released, at: 0 })
    }

    fn numbers(journal: &Journal) -> Vec<i64> {
        let mut statement = journal.file.connection.prepare("SELECT batch FROM journal ORDER BY batch").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_folded_goes_a_few_rows_at_a_time_and_the_rest_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let callers = Callers::default();
        let mut journal = Journal::make(directory.path(), Durability::Process).unwrap();
        journal.begin(7).unwrap();
        assert_eq!((journal.seed().unwrap(), journal.is_unused().unwrap()), (Some(7), true));
        assert_eq!(journal.file.number("PRAGMA page_size").unwrap(), Some(PAGE.into()));
        journal.read(0, &callers).unwrap();
        for row in 1..=30 {
            journal.write(&[entry(row)], &callers, 5, 0).unwrap();
        }
        assert!(!journal.is_unused().unwrap());
        assert_eq!(numbers(&journal), (1..=30).collect::<Vec<_>>());
        // 20 of them are folded.
        journal.write(&[entry(31)], &callers, 6, 20).unwrap();
        assert_eq!(numbers(&journal).first(), Some(&(1 + SPARE)));
        let again = journal.read(20, &callers).unwrap();
        assert_eq!((again.entries.len(), again.last, again.time), (11, 31, 6));
        assert_eq!(again.fence, 6 + crate::clock::nanos(RESERVE));
        journal.write(&[entry(32)], &callers, 6, 20).unwrap();
        journal.write(&[], &callers, 6, 20).unwrap();
        assert_eq!(numbers(&journal), (21..=32).collect::<Vec<_>>(), "nothing beyond what is folded");
        journal.write(&[], &callers, 6, 32).unwrap();
        assert_eq!(numbers(&journal), [32], "the last one stays");
        journal.write(&[entry(33)], &callers, 6, 32).unwrap();
        assert_eq!((numbers(&journal), journal.last()), (vec![33], 33));
    }

    /// SQLite has a largest row, and a commit of all that has come meanwhile has none.
    #[test]
    fn a_commit_is_cut_into_rows_and_read_again_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let callers = Callers::default();
        let mut journal = Journal::make(directory.path(), Durability::Process).unwrap();
        journal.begin(7).unwrap();
        journal.read(0, &callers).unwrap();
        let long = |index: u64| {
            let counter = index.to_string().repeat(3 << 20);
            Entry::Record(Record::Started {
                counter,
                kind: calls_in(1),
                at: index,
                units: 1,
                smooth: None,
                booked: None,
            })
        };
        let batch: Vec<Entry> = (1..=9).map(long).collect();
        journal.write(&batch, &callers, 5, 0).unwrap();
        let bytes = "SELECT max(length(entries)), count(*) FROM journal WHERE batch > 0";
        let (longest, count): (i64, i64) =
            journal.file.connection.query_row(bytes, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert!(longest < 20 << 20 && count == 2, "{count} rows, the longest of {longest} bytes");
        journal.write(&[entry(1)], &callers, 6, 0).unwrap();
        assert_eq!(numbers(&journal), [1, 2, 3]);
        let read = journal.read(0, &callers).unwrap();
        assert_eq!((read.entries.len(), read.last), (10, 3));
        assert!(read.entries.iter().zip(&batch).all(|(read, written)| format!("{read:?}") == format!("{written:?}")));
        // One that is not written leaves no number behind.
        journal.file.connection.execute_batch("PRAGMA query_only = 1").unwrap();
        journal.write(&batch, &callers, 7, 0).unwrap_err();
        journal.file.connection.execute_batch("PRAGMA query_only = 0").unwrap();
        assert_eq!(journal.last(), 3);
    }

    fn calls_in(period: u64) -> weir_limiter::RateKind {
        let (mode, counts) = (weir_limiter::Mode::Window, weir_limiter::Counts::Calls);
        weir_limiter::RateKind { mode, period, counts, pace: 0 }
    }

    /// A new journal and its tables.
    fn begun(directory: &Path, callers: &Callers) -> (Journal, Database) {
        let mut journal = Journal::make(directory, Durability::Process).unwrap();
        journal.begin(7).unwrap();
        let mut tables = Database::make(directory).unwrap();
        tables.begin(1, 7).unwrap();
        tables.load(&mut journal, callers, 0).unwrap();
        (journal, tables)
    }

    #[test]
    fn starts_of_more_units_than_there_can_be_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let callers = Callers::default();
        let (mut journal, mut tables) = begun(directory.path(), &callers);
        let (counter, kind) = ("s".to_owned(), calls_in(60_000_000_000));
        let record = Record::Started { counter, kind, at: 1, units: u64::MAX, smooth: None, booked: None };
        journal.write(&[Entry::Record(record)], &callers, 1, 0).unwrap();
        let error = tables.load(&mut journal, &callers, 1).unwrap_err().to_string();
        assert!(error.contains("journal.db cannot be read: a start of 18446744073709551615 units"), "{error}");
    }

    /// Starts that were booked ahead are written down after later ones: a sub-period keeps its last instant.
    #[test]
    fn a_start_that_is_written_late_does_not_make_later_ones_older() {
        let kind = calls_in(86_400_000_000_000);
        let started = |at, units| {
            let counter = "s".to_owned();
            Entry::Record(Record::Started { counter, kind, at, units, smooth: None, booked: None })
        };
        for apart in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let callers = Callers::default();
            let (mut journal, mut tables) = begun(directory.path(), &callers);
            let batches = if apart {
                vec![vec![started(80_000_000_000, 5)], vec![started(1_000_000_000, 3)]]
            } else {
                vec![vec![started(80_000_000_000, 5), started(1_000_000_000, 3)]]
            };
            for batch in batches {
                journal.write(&batch, &callers, 80_000_000_000, 0).unwrap();
                tables.fold(&batch, journal.last(), &callers, 80_000_000_000).unwrap();
            }
            let saved = tables.load(&mut journal, &callers, 80_000_000_000).unwrap();
            assert_eq!(saved.histories[0].starts, [(80_000_000_000, 8)], "apart {apart}");
        }
    }

    /// A kill may come after a fold and before any of its rows is deleted: they are not folded twice.
    #[test]
    fn rows_that_are_folded_and_still_there_do_not_count_again() {
        let directory = tempfile::tempdir().unwrap();
        let callers = Callers::default();
        let (mut journal, mut tables) = begun(directory.path(), &callers);
        let kind = calls_in(60_000_000_000);
        let started = || {
            let counter = "s".to_owned();
            Entry::Record(Record::Started { counter, kind, at: 1, units: 3, smooth: None, booked: None })
        };
        journal.write(&[started()], &callers, 1, 0).unwrap();
        tables.fold(&[started()], journal.last(), &callers, 1).unwrap();
        journal.write(&[started()], &callers, 1, 0).unwrap();
        assert_eq!(numbers(&journal), [1, 2]);
        let saved = tables.load(&mut journal, &callers, 1).unwrap();
        assert_eq!(saved.histories[0].starts, [(1, 6)]);
        let saved = tables.load(&mut journal, &callers, 1).unwrap();
        assert_eq!(saved.histories[0].starts, [(1, 6)], "nor the second");
    }
}
