//! Connections, and the thread they work on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

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
    match look(&connection) {
        // A process that died in the middle of a transaction left it to the next one to take back, and this
        // connection may not write.
        Err(error) if is_left_to_take_back(&error) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let writing = Connection::open_with_flags(path, flags).map_err(failed)?;
            settle(&writing).and_then(|()| look(&writing)).map_err(failed)?;
            look(&connection).map_err(failed)?;
        }
        looked => looked.map_err(failed)?,
    }
    Ok(connection)
}

/// The first read: it finds out whether a file is a database.
fn look(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
}

fn is_left_to_take_back(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK)
}

/// Opens a database to write; creates it if it is missing.
///
/// `synchronous = FULL`: a commit that was answered outlives a power loss. A queue is told to forget what was
/// committed, and what is announced to a keeper must not be forgotten.
pub(crate) fn writing(path: &Path) -> Result<Connection, DatabaseFault> {
    creatable(path)?;
    let failed = |source| DatabaseFault::of(path, "opening it to write", source);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    settle(&connection).map_err(failed)?;
    into_wal(&connection).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    connection
        .pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))
        .map_err(failed)?;
    Ok(connection)
}

/// Changes to WAL, and says which mode it is now. Two that create a database at once would have to wait for each
/// other, which SQLite refuses here at once.
fn into_wal(connection: &Connection) -> Result<String, rusqlite::Error> {
    let until = Instant::now() + Duration::from_secs(BUSY_TIMEOUT_S);
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            changed => return changed,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_creates_a_database_at_the_same_time_waits() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let path = folder.path().join(format!("{round}.db"));
            std::thread::scope(|scope| {
                let each: Vec<_> = (0..8).map(|_| scope.spawn(|| writing(&path).map(drop))).collect();
                each.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
        }
    }

    #[test]
    fn what_a_dead_process_left_in_the_journal_is_taken_back_by_whoever_reads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let living = Connection::open(at("a.db")).unwrap();
        living.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(100000));").unwrap();
        // A cache of one page: the transaction is in the file before it is committed.
        living.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE t SET x = randomblob(100000);").unwrap();
        for (file, copy) in [("a.db", "copy.db"), ("a.db-journal", "copy.db-journal")] {
            std::fs::copy(at(file), at(copy)).unwrap();
        }
        let copied = at("copy.db");
        let rows = |connection: &Connection| -> i64 {
            let sql = "SELECT count(*) FROM t WHERE x = zeroblob(100000)";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let error = look(&Connection::open_with_flags(&copied, flags).unwrap()).unwrap_err();
        assert!(is_left_to_take_back(&error), "{error}");
        assert_eq!(rows(&reading(&copied).unwrap()), 1);
    }
}
