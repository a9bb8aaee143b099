//! How far an incremental read may go: a bound under which nothing can still commit.

use hapax_engine::fault::SourceError;
use hapax_protocol::guarantee::Window;
use mysql_async::Value;

use super::plan::{Found, Plan};
use crate::client::{Session, number};
use crate::config::{SetBy, SourceConfig, window};
use crate::declared::Declared;
use crate::fault::{DatabaseFault, ReadFault};

/// How far below the oldest transaction is read, in seconds: what may lie between the moment a statement takes for
/// its own and the start of its transaction, and what the server rounds off.
const MARGIN_S: u64 = 2;

/// A bound of the cursor.
#[derive(Debug, Clone)]
pub(crate) struct Horizon {
    /// The bound in SQL.
    sql: String,
    /// How late rows may come, where a program sets the cursor.
    pub lateness: Option<Window>,
}

/// The oldest moment that a transaction or a statement which is not over may have written as its own, in UTC.
///
/// Transactions have their start in the zone of the server's system, in whole seconds; of an hour that comes twice
/// the earlier is meant. Statements count as well: one has its moment before it has its transaction.
const OLDEST: &str = "LEAST(UTC_TIMESTAMP(6), \
    COALESCE((SELECT MIN(LEAST(started, IF(CONVERT_TZ(started - INTERVAL 1 HOUR, '+00:00', 'SYSTEM') = trx_started, \
    started - INTERVAL 1 HOUR, started))) FROM (SELECT trx_started, CONVERT_TZ(trx_started, 'SYSTEM', '+00:00') AS \
    started FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id <> CONNECTION_ID()) AS transactions), \
    UTC_TIMESTAMP(6)), \
    COALESCE((SELECT MIN(UTC_TIMESTAMP(6) - INTERVAL (TIME + 1) SECOND) FROM information_schema.PROCESSLIST \
    WHERE ID <> CONNECTION_ID() AND TIME IS NOT NULL \
    AND COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID')), UTC_TIMESTAMP(6)))";

/// Decides what bounds the cursor of an incremental read, or refuses.
pub(crate) async fn of(
    session: &mut Session,
    config: &SourceConfig,
    plan: &Plan,
    found: &[Found],
) -> Result<Horizon, SourceError> {
    let cursor = plan.cursor.clone().unwrap_or_default();
    let column = plan.find(&cursor, found, "cursor")?;
    let declared = Declared::read(&column.declared);
    let refused = |reason: &str, mend: &str| ReadFault::NoHorizon {
        of: plan.name.clone(),
        column: cursor.clone(),
        reason: reason.to_owned(),
        mend: mend.to_owned(),
    };
    match (declared.name.as_str(), config.cursor_set_by, &config.lateness) {
        ("timestamp", Some(SetBy::Database), None) => {}
        ("timestamp" | "datetime", Some(SetBy::Application), Some(lateness)) => {
            let late = window(lateness);
            let late = late.ok_or(ReadFault::Config("`lateness` is a length of time: 90s, 5m, 2h, 1d"))?;
            let Window(ms) = late;
            let sql = format!("UTC_TIMESTAMP(6) - INTERVAL {} MICROSECOND", ms.saturating_mul(1_000));
            return Ok(Horizon { sql, lateness: Some(late) });
        }
        ("timestamp" | "datetime", Some(SetBy::Application), None) => {
            let why = "`cursor_set_by: application` needs `lateness`: how late a row may appear at most";
            return Err(ReadFault::Config(why).into());
        }
        (_, Some(SetBy::Database), Some(_)) => {
            let why = "`lateness` is for a cursor that is `cursor_set_by: application`";
            return Err(ReadFault::Config(why).into());
        }
        ("timestamp" | "datetime", None, _) => {
            let why = "a time as `cursor` needs `cursor_set_by`: `database` or `application`";
            return Err(ReadFault::Config(why).into());
        }
        ("datetime", _, _) => {
            let reason = "a DATETIME has no zone, so nobody knows which moment it is";
            let mend = "Make it a TIMESTAMP(6), or say `cursor_set_by: application` with `lateness` if it is in UTC.";
            return Err(refused(reason, mend).into());
        }
        _ => {
            let reason = "numbers are given out before their transaction commits, and only times tell which are still open";
            return Err(refused(reason, "Choose a TIMESTAMP column as `cursor`.").into());
        }
    }
    let sql = format!("{OLDEST} - INTERVAL {MARGIN_S} SECOND");
    let horizon = Horizon { sql, lateness: None };
    match horizon.now(session).await {
        Err(DatabaseFault::Denied { .. }) => {
            let reason = "the user may not see the transactions of others";
            let mend = "Run `GRANT PROCESS ON *.* TO` this user, or use `cursor_set_by: application` with `lateness`.";
            return Err(refused(reason, mend).into());
        }
        found => found?,
    };
    if is_replica(session).await? {
        let reason = "the server is a replica, which does not know what is open on its primary";
        return Err(refused(reason, "Name the primary server in `url`.").into());
    }
    Ok(horizon)
}

impl Horizon {
    /// The bound now. It must be asked for before the rows are.
    pub(crate) async fn now(&self, session: &mut Session) -> Result<Value, DatabaseFault> {
        let doing = "looking for the oldest transaction";
        let row = session.first(doing, &format!("SELECT {}", self.sql), ()).await?;
        match row.as_ref().and_then(|row| row.as_ref(0)) {
            Some(bound @ (Value::Date(..) | Value::Bytes(_))) => Ok(bound.clone()),
            _ => Err(session.misunderstood(doing)),
        }
    }
}

/// Whether the server applies what another one did.
async fn is_replica(session: &mut Session) -> Result<bool, DatabaseFault> {
    let sql = "SELECT @@read_only = 1 OR EXISTS (SELECT 1 FROM information_schema.PROCESSLIST \
               WHERE USER = 'system user' AND COMMAND <> 'Daemon')";
    let row = session.first("asking whether it is a replica", sql, ()).await?;
    Ok(row.and_then(|row| number(&row, 0)) == Some(1))
}
