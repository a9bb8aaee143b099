//! Vectors that were computed, by what they were computed from.
//!
//! A SQLite file with one row a text: the key is a digest of the embedder's own name, the dimension and the text. A vector
//! is on the disk before anybody uses it, and the first one that was kept stays: so a record gets the same vector on every
//! attempt and in every process, also from an endpoint that answers differently each time, and nothing is paid for twice.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_engine::fault::SourceError;
use rusqlite::{Connection, OptionalExtension};

use crate::fault::EmbedFault;

/// What a vector is kept under.
pub type Key = [u8; 32];

/// The version of the file.
const VERSION: i64 = 1;

/// How long another process is waited for that writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file of vectors. Opened when it is first asked.
pub struct Cache {
    path: PathBuf,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Cache {
    /// The vectors in this file, which is made when there are some. Touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), connection: Arc::default() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The vectors of these keys, as far as they are kept.
    pub async fn get(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<f32>>>, SourceError> {
        self.with("read", move |connection| {
            let mut ask = connection.prepare_cached("SELECT vector FROM vectors WHERE key = ?1")?;
            keys.iter().map(|key| ask.query_row([key], |row| row.get(0)).optional().map(decoded)).collect()
        })
        .await
    }

    /// Keeps vectors, and returns what is kept: of two for one key the first.
    pub async fn keep(&self, vectors: Vec<(Key, Vec<f32>)>) -> Result<Vec<Vec<f32>>, SourceError> {
        self.with("kept", move |connection| {
            let all = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let mut kept = Vec::with_capacity(vectors.len());
            {
                let mut put =
                    all.prepare_cached("INSERT OR IGNORE INTO vectors (key, vector) VALUES (?1, ?2)")?;
                let mut ask = all.prepare_cached("SELECT vector FROM vectors WHERE key = ?1")?;
                for (key, vector) in vectors {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    kept.push(match put.execute((&key, &bytes))? {
                        0 => decoded(Some(ask.query_row([&key], |row| row.get(0))?)).unwrap_or(vector),
                        _ => vector,
                    });
                }
            }
            all.commit()?;
            Ok(kept)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (path, open) = (self.path.clone(), Arc::clone(&self.connection));
        let done = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match &mut *open {
                Some(connection) => connection,
                None => open.insert(connect(&path)?),
            };
            work(connection).map_err(|source| EmbedFault::Cache { path, doing, source })
        });
        Ok(done.await.map_err(|_| EmbedFault::Interrupted)??)
    }
}

fn connect(path: &Path) -> Result<Connection, EmbedFault> {
    let failed = |source| EmbedFault::Cache { path: path.to_owned(), doing: "opened", source };
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // A vector must not be forgotten once a record was moved with it.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(failed)?;
    match (version, tables) {
        (VERSION, _) => {}
        (0, 0) => {
            let make = "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) \
                        WITHOUT ROWID; PRAGMA user_version = 1; COMMIT";
            connection.execute_batch(make).map_err(failed)?;
        }
        _ => return Err(EmbedFault::OtherFile { path: path.to_owned() }),
    }
    Ok(connection)
}

fn decoded(bytes: Option<Vec<u8>>) -> Option<Vec<f32>> {
    Some(bytes?.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect())
}
