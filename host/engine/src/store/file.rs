//! One SQLite file of the directory: opened, locked and checked.
//!
//! Nothing in it is ever deleted because it could not be read: whoever cannot read it refuses to start, and says which file.

use super::Durability;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The form of all tables, as SQLite's `user_version`.
const VERSION: i64 = 3;
/// How long another process may hold the file before it counts as in use.
const BUSY: Duration = Duration::from_millis(500);

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
    #[error("{} cannot be read: {reason}. Nothing was changed; move the whole directory away to begin anew, or put a copy of it in its place", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another version of Weir has written it.
    #[error("{} was written by another version of Weir (form {found}, this one knows {VERSION}): use that one", path.display())]
    OtherForm {
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

/// An open file, which nobody else can open.
#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl File {
    /// Opens a file with these tables, and makes it if it is not there and `make` says so.
    pub(super) fn open(path: PathBuf, tables: &str, durability: Durability, make: bool) -> Result<Self, StoreError> {
        let open = || -> rusqlite::Result<(Connection, i64)> {
            // One thread at a time has it.
            let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            flags.set(OpenFlags::SQLITE_OPEN_CREATE, make);
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
        let file = Self { connection, path };
        match version {
            0 => file.make(tables)?,
            VERSION => file.check()?,
            found => return Err(StoreError::OtherForm { path: file.path, found }),
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn refuse(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| refuse(&self.path, &error)
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), reason: reason.into() }
    }

    fn make(&self, tables: &str) -> Result<(), StoreError> {
        let found: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(self.refuse())?;
        if found > 0 {
            return Err(self.corrupt("it is a database of another program"));
        }
        let script = format!("BEGIN; {tables} PRAGMA user_version = {VERSION}; COMMIT;");
        self.connection.execute_batch(&script).map_err(self.refuse())
    }

    fn check(&self) -> Result<(), StoreError> {
        let found: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(self.refuse())?;
        if found == "ok" { Ok(()) } else { Err(self.corrupt(found)) }
    }
}

pub(super) fn refuse(path: &Path, error: &rusqlite::Error) -> StoreError {
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
