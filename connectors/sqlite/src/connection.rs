//! Connections, and the thread they work on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::fault::DatabaseFault;

/// How long a call waits for another process's lock, in seconds.
pub(crate) const BUSY_TIMEOUT_S: u64 = 10;

/// The page cache of the writing connection, in KiB: what dirty pages of one commit may take before
/// SQLite moves them to the log.
const CACHE_KIB: i64 = 16 * 1024;

/// How many pages the log holds before a commit moves them into the database.
const CHECKPOINT_PAGES: i64 = 4_000;

/// A connection that the ledger and a writer reach by turns, never at once.
pub(crate) type Shared = Arc<Mutex<Connection>>;

/// The connection. A thread that panicked while it had it leaves a transaction, which the next begin
/// takes back.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Connection> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An identifier in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Identifiers in SQL, with commas.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn settle(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(BUSY_TIMEOUT_S))?;
    connection.set_prepared_statement_cache_capacity(32);
    // A misspelt column in double quotes is an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(())
}

/// Opens a database that exists, to read.
pub(crate) fn reading(path: &Path) -> Result<Connection, DatabaseFault> {
    if !path.is_file() {
        return Err(DatabaseFault::NoFile { path: path.to_owned() });
    }
    let failed = |source| DatabaseFault::of(path, "opening it to read", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    settle(&connection).map_err(failed)?;
    // The first read is what finds out that a file is not a database.
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).map_err(failed)?;
    Ok(connection)
}

/// Opens a database to write; creates it if it is missing.
///
/// In WAL with `synchronous = NORMAL` a power loss may take back the last commits, each as a whole:
/// harmless, because the position is part of the commit.
pub(crate) fn writing(path: &Path) -> Result<Connection, DatabaseFault> {
    creatable(path)?;
    let failed = |source| DatabaseFault::of(path, "opening it to write", source);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    settle(&connection).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    // Without WAL only FULL keeps the file whole.
    let synchronous = if mode.eq_ignore_ascii_case("wal") { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    connection
        .pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))
        .map_err(failed)?;
    Ok(connection)
}

/// Refuses a path whose directory is missing.
pub(crate) fn creatable(path: &Path) -> Result<(), DatabaseFault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match directory {
        Some(directory) if !directory.is_dir() => Err(DatabaseFault::NoDirectory { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// Does blocking work beside the asynchronous threads.
pub(crate) async fn aside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DatabaseFault> {
    let path: PathBuf = path.to_owned();
    tokio::task::spawn_blocking(work).await.map_err(|source| DatabaseFault::Interrupted { path, source })
}
