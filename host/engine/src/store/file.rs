//! One SQLite file of the directory: opened, locked and checked.
//!
//! Nothing in it is ever deleted because it could not be read: whoever cannot read it refuses to start, and says which file.
//! Until all files of a directory have been looked at, none is written: SQLite would bring a log into its file, or delete it,
//! as soon as the file is closed.

use super::Durability;
use super::wal::{self, Damage, End};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
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
///
/// Until it is used, neither it nor what SQLite keeps beside it has changed, and dropping it changes nothing either.
#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: Connection,
    path: PathBuf,
    /// It holds no tables yet.
    blank: bool,
}

impl File {
    /// Opens a file and looks at it; none: there is none.
    pub(super) fn find(path: PathBuf, durability: Durability) -> Result<Option<Self>, StoreError> {
        let log = log_of(&path);
        let corrupt = |path: &Path, reason: String| Err(StoreError::Corrupt { path: path.to_owned(), reason });
        let logged = length(&log)?;
        match length(&path)? {
            None if logged.is_some() => return corrupt(&path, format!("it is not there, and {} is", log.display())),
            None => return Ok(None),
            // SQLite deletes the log of an empty file.
            Some(0) if logged.is_some_and(|length| length > 0) => {
                return corrupt(&path, format!("it is empty, and {} is not", log.display()));
            }
            Some(_) => {}
        }
        let (connection, version) =
            connect(&path, durability, false, logged.is_some()).map_err(|error| refuse(&path, &error))?;
        match wal::check(&log) {
            Ok(End::Whole) => {}
            Ok(End::Torn(frame)) => {
                tracing::warn!(file = %log.display(), frame, "the last write was torn, and is forgotten");
            }
            Err(Damage::Io(error)) => return Err(StoreError::Open { path: log, reason: error.to_string() }),
            Err(damage) => return corrupt(&log, damage.to_string()),
        }
        let file = Self { connection, path, blank: version == 0 };
        match version {
            0 => file.check_blank()?,
            VERSION => file.check()?,
            found => return Err(StoreError::OtherForm { path: file.path, found }),
        }
        Ok(Some(file))
    }

    /// Makes a file that is not there.
    pub(super) fn make(path: PathBuf, durability: Durability) -> Result<Self, StoreError> {
        let (connection, _) = connect(&path, durability, true, false).map_err(|error| refuse(&path, &error))?;
        Ok(Self { connection, path, blank: true })
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

    /// The only number that a query finds; none: there is no row, or no table.
    pub(super) fn number(&self, query: &str) -> Result<Option<i64>, StoreError> {
        if self.blank {
            return Ok(None);
        }
        self.connection.query_row(query, [], |row| row.get(0)).optional().map_err(self.refuse())
    }

    /// Makes the tables, unless it has them.
    pub(super) fn begin(&mut self, tables: &str) -> Result<(), StoreError> {
        if self.blank {
            let script = format!("PRAGMA journal_mode = WAL; BEGIN; {tables} PRAGMA user_version = {VERSION}; COMMIT;");
            self.connection.execute_batch(&script).map_err(self.refuse())?;
            self.blank = false;
        }
        Ok(())
    }

    /// It is used from now on: what lies beside it is brought into it and deleted when it is closed.
    pub(super) fn used(&self) -> Result<(), StoreError> {
        let used = || {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            self.connection.pragma_update(None, "journal_mode", "WAL")
        };
        used().map_err(self.refuse())
    }

    fn check_blank(&self) -> Result<(), StoreError> {
        let count = "SELECT count(*) FROM sqlite_schema";
        let found: i64 = self.connection.query_row(count, [], |row| row.get(0)).map_err(self.refuse())?;
        if found == 0 { Ok(()) } else { Err(self.corrupt("it is a database of another program")) }
    }

    fn check(&self) -> Result<(), StoreError> {
        let found: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(self.refuse())?;
        if found == "ok" { Ok(()) } else { Err(self.corrupt(found)) }
    }
}

/// What a log holds is on the disk when this returns, whatever it is to survive.
pub(super) fn sync(log: &Path) -> std::io::Result<()> {
    match std::fs::OpenOptions::new().write(true).open(log) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The log that SQLite keeps beside a file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push("-wal");
    name.into()
}

fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::Open { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Opens and locks a file, and reads its form. With a log beside it, that stays as it is when the file is closed.
fn connect(path: &Path, durability: Durability, make: bool, logged: bool) -> rusqlite::Result<(Connection, i64)> {
    // One thread at a time has it.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, make);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, logged)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // The lock is taken by the first look, and kept.
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((connection, version))
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
