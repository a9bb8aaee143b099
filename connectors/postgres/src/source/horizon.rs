//! Up to where a cursor can be read: no transaction that is still open can commit a row below.

use std::time::Duration;

use hapax_engine::fault::SourceError;
use hapax_protocol::guarantee::Window;
use hapax_protocol::position::SplitId;
use tokio_postgres::Error;

use super::civil;
use super::plan::{Horizon, Plan};
use super::position::At;
use crate::client::Session;
use crate::fault::ReadFault;
use crate::name::{literal, quoted};

/// How long after the clock was read the open transactions are looked at.
///
/// A server process takes the time of a transaction's beginning a few instructions before it shows it to others.
/// A transaction that has the time of an earlier moment is shown by then, if its process was not kept waiting for
/// this long between the two.
const MARGIN: Duration = Duration::from_millis(200);

/// The condition of the rows that may be read now, and what the position remembers of it.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// Conditions in SQL.
    pub conditions: Vec<String>,
    /// When this pass began, in microseconds since 2000; 0 where it does not matter.
    pub began_us: i64,
}

impl Bounds {
    /// Finds them, for a statement of `session` that sees what is there afterwards.
    pub(super) async fn find(
        session: &Session,
        plan: &Plan,
        horizon: Horizon,
        split: &SplitId,
        at: Option<&At>,
    ) -> Result<Self, SourceError> {
        let key = match at {
            Some(At::Key { key, .. }) => Some(key.as_slice()),
            _ => None,
        };
        let cursor = plan.key_columns().next().map(|column| format!("t.{}", quoted(&column.name)));
        let cursor = cursor.unwrap_or_default();
        let mut bounds = Self::default();
        match horizon {
            Horizon::Transaction => {
                let xid = oldest_transaction(session, split, key.and_then(<[String]>::first)).await?;
                bounds.conditions.push(format!("{cursor} < {}::xid8", literal(&xid)));
                bounds.conditions.extend(key.map(|key| plan.behind(key)));
            }
            Horizon::Beginning => {
                let moment = oldest_beginning(session, split, key.and_then(<[String]>::first)).await?;
                bounds.conditions.push(format!("{cursor} < {}::timestamptz", literal(&moment)));
                bounds.conditions.extend(key.map(|key| plan.behind(key)));
            }
            Horizon::Late(window) => {
                let found = look_back(session, window, at).await;
                let (began_us, floor) = found.map_err(session.fault("reading the clock"))?;
                bounds.began_us = began_us;
                match (floor, key) {
                    (Some(floor), _) => {
                        bounds.conditions.push(format!("{cursor} >= {}::timestamptz", literal(&floor)))
                    }
                    (None, Some(key)) => bounds.conditions.push(plan.behind(key)),
                    (None, None) => {}
                }
            }
        }
        Ok(bounds)
    }
}

/// The oldest transaction that is still open. All below it are done, and visible to whoever looks from now on.
async fn oldest_transaction(
    session: &Session,
    split: &SplitId,
    stood: Option<&String>,
) -> Result<String, SourceError> {
    let doing = "asking for the oldest open transaction";
    let sql = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, \
               coalesce($1::text::xid8 >= pg_snapshot_xmax(s), false) FROM pg_current_snapshot() AS s";
    let row = session.query_one(sql, &[&stood]).await.map_err(session.fault(doing))?;
    let ahead: bool = row.try_get(2).map_err(session.fault(doing))?;
    if let Some(xid) = stood.filter(|_| ahead) {
        let now = row.try_get(1).map_err(session.fault(doing))?;
        return Err(ReadFault::Ahead { split: split.clone(), xid: xid.clone(), now }.into());
    }
    Ok(row.try_get(0).map_err(session.fault(doing))?)
}

/// When the oldest transaction began that may still write to this database; the present if there is none.
///
/// Three looks, in this order: the clock, the transactions that are open, those that are prepared. One that moves on
/// meanwhile is seen in a later one, or has committed and is visible to whoever looks afterwards.
async fn oldest_beginning(
    session: &Session,
    split: &SplitId,
    stood: Option<&String>,
) -> Result<String, SourceError> {
    let doing = "asking when the oldest open transaction began";
    let sql = "SELECT now::text, coalesce($1::text::timestamptz > now, false) FROM (SELECT clock_timestamp() AS now) c";
    let read = session.query_one(sql, &[&stood]).await.map_err(session.fault(doing))?;
    let clock: String = read.try_get(0).map_err(session.fault(doing))?;
    // No position was ever made of a time that was not over.
    if let Some(stood) = stood.filter(|_| read.try_get(1).unwrap_or(false)) {
        let (split, stood, server) = (split.clone(), stood.clone(), session.server().clone());
        return Err(ReadFault::ClockBack { split, server, stood, now: clock }.into());
    }
    tokio::time::sleep(MARGIN).await;
    // A session that has begun to work and shows no transaction yet is about to begin one.
    let sql = "SELECT least($1::text::timestamptz, \
               min(coalesce(xact_start, CASE WHEN state = 'active' THEN query_start END)))::text, \
               coalesce(bool_or(state = 'disabled'), false) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
               AND backend_type NOT IN ('autovacuum worker', 'walsender')";
    let row = session.query_one(sql, &[&clock]).await.map_err(session.fault(doing))?;
    let moment = row.try_get(0).map_err(session.fault(doing))?;
    if row.try_get(1).map_err(session.fault(doing))? {
        let grant = "ALTER SYSTEM SET track_activities = on".to_owned();
        return Err(ReadFault::SeesNoTransactions { server: session.server().clone(), grant }.into());
    }
    // When a prepared transaction began is kept nowhere. No horizon was ever passed while one was there, so all that
    // was read is safe, and nothing more is.
    let sql = "SELECT gid, prepared::text FROM pg_prepared_xacts WHERE database = current_database() \
               ORDER BY prepared LIMIT 1";
    match session.query_opt(sql, &[]).await.map_err(session.fault(doing))? {
        None => Ok(moment),
        Some(held) => Err(ReadFault::HeldBack {
            server: session.server().clone(),
            gid: held.try_get(0).map_err(session.fault(doing))?,
            since: held.try_get(1).map_err(session.fault(doing))?,
        }
        .into()),
    }
}

/// When this pass begins, and the cursor from which rows are read again; `None` if the position lies before it.
///
/// Whatever lies before the last pass's beginning, less the lateness, was there when it was read.
async fn look_back(
    session: &Session,
    lateness: Window,
    at: Option<&At>,
) -> Result<(i64, Option<String>), Error> {
    let Window(late_ms) = lateness;
    let late_us = i64::try_from(late_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    let (floor, stood) = match at {
        Some(At::Key { began_us, key }) => {
            (Some(civil::moment(began_us.saturating_sub(late_us), "+00")), key.first())
        }
        _ => (None, None),
    };
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 - 946684800000000, \
               $1::text::timestamptz < $2::text::timestamptz";
    let row = session.query_one(sql, &[&stood, &floor]).await?;
    let before: Option<bool> = row.try_get(1)?;
    Ok((row.try_get(0)?, floor.filter(|_| before == Some(false))))
}
