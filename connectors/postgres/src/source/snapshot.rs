//! One state of the database that all readers of a run see.

use hapax_engine::fault::SourceError;

use super::plan::{Plan, Walk};
use crate::client::Session;
use crate::fault::ServerFault;
use crate::table::Kind;

/// How long a reader waits for whoever alters the table, in milliseconds.
///
/// Who waits to alter it stands behind the snapshot's lock, and new readers behind that: without a limit all three
/// would wait for each other, and the server does not see that the snapshot's session waits for its readers.
pub(super) const LOCK_TIMEOUT: &str = "SET lock_timeout = 5000";

/// A snapshot, held open by a transaction of its own as long as it lives.
pub(super) struct Snapshot {
    session: Session,
    id: String,
    /// Of each part: the file its rows are in, and how many pages it has.
    parts: Vec<(u32, u32)>,
    /// The size of a page, in bytes.
    pub page_bytes: u64,
}

impl Snapshot {
    /// Takes one. What is read cannot be written anew or removed while it lives.
    pub(super) async fn take(session: Session, plan: &Plan) -> Result<Self, SourceError> {
        let doing = "taking a snapshot";
        let mut sql = format!("{LOCK_TIMEOUT}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        if let Walk::Pages(parts) = &plan.walk {
            // The lock comes first: what is rewritten between a snapshot and the lock would be empty.
            for part in parts {
                let lock = match part.kind {
                    // Only reading locks it. One that is refreshed at this moment is empty for this run.
                    Kind::MaterializedView => format!("; SELECT FROM {} LIMIT 0", part.sql),
                    _ => format!("; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", part.sql),
                };
                sql.push_str(&lock);
            }
        }
        session.batch_execute(&sql).await.map_err(session.fault(doing))?;
        let taken = Self::describe(&session, plan).await.map_err(session.fault(doing))?;
        let (id, parts, page_bytes) = taken;
        Ok(Self { session, id, parts, page_bytes })
    }

    async fn describe(
        session: &Session,
        plan: &Plan,
    ) -> Result<(String, Vec<(u32, u32)>, u64), tokio_postgres::Error> {
        let sql = "SELECT pg_export_snapshot(), current_setting('block_size')::int8";
        let row = session.query_one(sql, &[]).await?;
        let (id, page_bytes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let mut parts = Vec::new();
        if let Walk::Pages(all) = &plan.walk {
            let sql = "SELECT coalesce(pg_relation_filenode($1::oid), 0), pg_relation_size($1::oid)";
            for part in all {
                let row = session.query_one(sql, &[&part.oid]).await?;
                let size: i64 = row.try_get(1)?;
                let pages = u32::try_from(size / page_bytes.max(1)).unwrap_or(u32::MAX);
                parts.push((row.try_get(0)?, pages));
            }
        }
        Ok((id, parts, u64::try_from(page_bytes).unwrap_or(0)))
    }

    /// The file of a part, and how many pages it has.
    pub(super) fn part(&self, index: usize) -> (u32, u32) {
        self.parts.get(index).copied().unwrap_or_default()
    }

    /// Whether its transaction is gone, and the snapshot with it.
    pub(super) fn is_gone(&self) -> bool {
        self.session.is_closed()
    }

    /// Begins a transaction in another session that sees what this one sees.
    pub(super) async fn share(&self, session: &Session) -> Result<(), ServerFault> {
        let id = crate::name::literal(&self.id);
        let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {id}");
        session.batch_execute(&sql).await.map_err(session.fault("taking over a snapshot"))
    }
}
