//! How far an incremental read may go: a bound under which nothing can still commit.

use std::time::{Duration, Instant};

use hapax_engine::fault::SourceError;
use hapax_protocol::guarantee::Window;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};

use super::plan::{Found, Plan};
use crate::civil;
use crate::client::{Session, number, text};
use crate::config::{SetBy, SourceConfig};
use crate::declared::Declared;
use crate::fault::{DatabaseFault, ReadFault};

/// How far below the oldest transaction is read, in seconds: what may lie between the moment a statement takes for
/// its own and the start of its transaction, and what the server rounds off.
const MARGIN_S: i64 = 2;

/// Microseconds of a second.
const MICROS: i64 = 1_000_000;

/// How long a list of transactions is waited for that can be read, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// How long is waited between two looks, in milliseconds.
const PAUSE_MS: u64 = 20;

/// A bound of the cursor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon {
    /// How late rows may come, where a program sets the cursor.
    pub lateness: Option<Window>,
}

/// When the oldest statement that runs began, in microseconds since 1970 and in whole seconds; and what time it is.
const STATEMENTS: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), \
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6) - INTERVAL (COALESCE(MAX(TIME), -1) + 1) SECOND) \
    FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND TIME IS NOT NULL AND TIME >= 0 \
    AND COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID')";

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
            let late = Window::parse(lateness);
            let late = late.ok_or(ReadFault::Config("`lateness` is a length of time: 90s, 5m, 2h, 1d"))?;
            return Ok(Horizon { lateness: Some(late) });
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
    let horizon = Horizon { lateness: None };
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
        let micros = match self.lateness {
            Some(Window(ms)) => {
                let late = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000);
                clock(session, doing).await?.0.saturating_sub(late)
            }
            None => oldest(session, doing).await?.saturating_sub(MARGIN_S * MICROS),
        };
        let mut text = Vec::new();
        match civil::push_moment(&mut text, micros.div_euclid(MICROS), micros.rem_euclid(MICROS)) {
            true => Ok(Value::Bytes(text)),
            false => Err(session.misunderstood(doing)),
        }
    }
}

/// What time it is, and when the oldest statement began.
async fn clock(session: &mut Session, doing: &'static str) -> Result<(i64, i64), DatabaseFault> {
    let row = session.first(doing, STATEMENTS, ()).await?;
    let micros = |index| row.as_ref().and_then(|row| signed(row, index));
    micros(0).zip(micros(1)).ok_or_else(|| session.misunderstood(doing))
}

/// The oldest moment that a transaction or a statement which is not over may have taken for its own.
///
/// Statements are looked at first, because one has its moment before it has its transaction: what is not among them
/// any more is among the transactions, or was committed.
async fn oldest(session: &mut Session, doing: &'static str) -> Result<i64, DatabaseFault> {
    let until = Instant::now() + Duration::from_millis(PATIENCE_MS);
    loop {
        let (now, statement) = clock(session, doing).await?;
        // information_schema.INNODB_TRX shows the same, but keeps what it shows as long as somebody reads it more
        // often than every 100 ms: two that poll would show each other an old list for ever.
        let sql = "SHOW ENGINE INNODB STATUS";
        let found: Result<Option<Row>, _> = session.connection.query_first(sql).await;
        let found = found.map_err(|source| session.fault(doing, source))?;
        let status = found.and_then(|row| text(&row, 2)).ok_or_else(|| session.misunderstood(doing))?;
        match transactions(&status) {
            Listed::None => return Ok(statement.min(now)),
            Listed::Oldest { age_s } => {
                // Whole seconds, and the server counts by a clock that ticks a little behind.
                let began = now.saturating_sub(age_s.saturating_add(1).saturating_mul(MICROS));
                return Ok(began.min(statement));
            }
            Listed::Abandoned => {
                return Err(DatabaseFault::Abandoned { place: session.place().to_owned() });
            }
            Listed::Unclear if Instant::now() > until => {
                let (place, waited_ms) = (session.place().to_owned(), PATIENCE_MS);
                return Err(DatabaseFault::Unclear { place, waited_ms });
            }
            Listed::Unclear => tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await,
        }
    }
}

/// What a server's status says of the transactions that are not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// There are none.
    None,
    /// The oldest is so many whole seconds old.
    Oldest { age_s: i64 },
    /// One was prepared and left by its connection. When it began is not known any more.
    Abandoned,
    /// The list is missing or cut short, or one is just about to be over.
    Unclear,
}

/// Reads the list of transactions in what SHOW ENGINE INNODB STATUS prints.
fn transactions(status: &str) -> Listed {
    let Some((_, list)) = status.split_once("LIST OF TRANSACTIONS FOR EACH SESSION:") else {
        return Listed::Unclear;
    };
    // The next part has its title between two lines.
    let (list, _) = list.split_once("\n--------\n").unwrap_or((list, ""));
    if status.contains("... truncated...") {
        return Listed::Unclear;
    }
    let mut listed = Listed::None;
    for transaction in list.split("---TRANSACTION ").skip(1) {
        let (line, rest) = transaction.split_once('\n').unwrap_or((transaction, ""));
        let Some((_, state)) = line.split_once(", ") else { return Listed::Unclear };
        if state.starts_with("not started") {
            continue;
        }
        let age: Option<&str> =
            state.strip_prefix("ACTIVE ").map(|age| age.trim_start_matches("(PREPARED) "));
        let age_s: Option<i64> =
            age.and_then(|age| age.split_once(' ')).and_then(|(age_s, _)| age_s.parse().ok());
        let Some(age_s) = age_s else { return Listed::Unclear };
        if state.contains("(PREPARED)") && !rest.contains("thread id ") {
            return Listed::Abandoned;
        }
        listed = match listed {
            Listed::Oldest { age_s: oldest } => Listed::Oldest { age_s: age_s.max(oldest) },
            _ => Listed::Oldest { age_s },
        };
    }
    listed
}

/// A cell that holds a whole number.
fn signed(row: &Row, index: usize) -> Option<i64> {
    match row.as_ref(index)? {
        Value::Int(number) => Some(*number),
        Value::UInt(number) => i64::try_from(*number).ok(),
        Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// Whether the server applies what another one did.
async fn is_replica(session: &mut Session) -> Result<bool, DatabaseFault> {
    let sql = "SELECT @@read_only = 1 OR EXISTS (SELECT 1 FROM information_schema.PROCESSLIST \
               WHERE USER = 'system user' AND COMMAND <> 'Daemon')";
    let row = session.first("asking whether it is a replica", sql, ()).await?;
    Ok(row.and_then(|row| number(&row, 0)) == Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_transaction_is_found_in_the_status() {
        let status = |list: &str| {
            format!(
                "TRANSACTIONS\n------------\nLIST OF TRANSACTIONS FOR EACH SESSION:\n{list}--------\nFILE I/O\n--------\n"
            )
        };
        let of = |list: &str| transactions(&status(list));
        let idle = "---TRANSACTION (0x7f), not started\n0 lock struct(s)\n";
        let reads = "---TRANSACTION (0x7f), ACTIVE 2 sec\nMariaDB thread id 7, OS thread handle 1\n";
        let writes = "---TRANSACTION 24234, ACTIVE 12 sec inserting\nMySQL thread id 8, OS thread handle 1\n";
        let ends = "---TRANSACTION 24235, ACTIVE (PREPARED) 1 sec\nMySQL thread id 9, OS thread handle 1\n";
        let left = "---TRANSACTION 24233, ACTIVE (PREPARED) 2 sec recovered trx\n1 lock struct(s)\n";
        let done = "---TRANSACTION 24236, COMMITTED IN MEMORY\nMySQL thread id 9, OS thread handle 1\n";
        assert_eq!(of(""), Listed::None);
        assert_eq!(of(idle), Listed::None);
        assert_eq!(of(&format!("{reads}{idle}{writes}{ends}")), Listed::Oldest { age_s: 12 });
        assert_eq!(of(&format!("{reads}{left}")), Listed::Abandoned);
        assert_eq!(of(&format!("{reads}{done}")), Listed::Unclear);
        assert_eq!(of(&format!("{reads}... truncated...\n")), Listed::Unclear);
        assert_eq!(transactions("FAIL TO OBTAIN LOCK MUTEX, SKIP LOCK INFO PRINTING"), Listed::Unclear);
    }
}
