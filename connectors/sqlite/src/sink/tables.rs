//! The tables that Hapax keeps beside the records, and the statements on them.

use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Tenure;
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use hapax_protocol::recovery::Found;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::history;

/// What they are called.
pub(crate) const NAMES: [&str; 9] = [
    "_hapax_leases",
    "_hapax_positions",
    "_hapax_commits",
    "_hapax_moved_again",
    "_hapax_dead_letters",
    "_hapax_settled_letters",
    "_hapax_ledger_segments",
    "_hapax_ledger_pages",
    "_hapax_ledger_splits",
];

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS _hapax_leases (
  pipeline TEXT NOT NULL PRIMARY KEY, token INTEGER NOT NULL, holder TEXT NOT NULL, definition TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _hapax_positions (
  pipeline TEXT NOT NULL, split TEXT NOT NULL, token INTEGER NOT NULL, epoch INTEGER NOT NULL, position BLOB,
  read INTEGER NOT NULL, moved INTEGER NOT NULL, suppressed INTEGER NOT NULL, set_aside INTEGER NOT NULL,
  filtered INTEGER NOT NULL, PRIMARY KEY (pipeline, split)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _hapax_dead_letters (
  pipeline TEXT NOT NULL, split TEXT NOT NULL, ordinal INTEGER NOT NULL, code INTEGER NOT NULL,
  reason TEXT NOT NULL, raw TEXT NOT NULL, set_aside_unix_ms INTEGER NOT NULL,
  PRIMARY KEY (pipeline, split, ordinal)
);
CREATE TABLE IF NOT EXISTS _hapax_ledger_segments (
  pipeline TEXT NOT NULL, segment INTEGER NOT NULL, level INTEGER NOT NULL, entries INTEGER NOT NULL,
  pages INTEGER NOT NULL, PRIMARY KEY (pipeline, segment)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _hapax_ledger_pages (
  pipeline TEXT NOT NULL, segment INTEGER NOT NULL, page INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (pipeline, segment, page)
);
CREATE TABLE IF NOT EXISTS _hapax_ledger_splits (
  pipeline TEXT NOT NULL, number INTEGER NOT NULL, split TEXT NOT NULL,
  PRIMARY KEY (pipeline, number), UNIQUE (pipeline, split)
) WITHOUT ROWID;
";

/// A number as SQLite stores it. Counts stay far below its end.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, index: usize) -> Result<u64, rusqlite::Error> {
    Ok(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0))
}

/// Those that are missing: all of them before the first run, some after one of an earlier version.
pub(crate) fn missing(connection: &Connection) -> Result<Vec<&'static str>, rusqlite::Error> {
    let mut missing = NAMES.to_vec();
    let mut statement = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?;
    let mut there = statement.query([])?;
    while let Some(row) = there.next()? {
        let name: String = row.get(0)?;
        missing.retain(|missing| *missing != name);
    }
    Ok(missing)
}

/// Creates those that are missing. Belongs into a transaction.
pub(crate) fn create(connection: &Connection) -> Result<(), rusqlite::Error> {
    if missing(connection)?.is_empty() {
        return Ok(());
    }
    connection.execute_batch(CREATE)?;
    connection.execute_batch(history::CREATE)
}

pub(super) fn present(connection: &Connection, table: &str) -> Result<bool, rusqlite::Error> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)", [table], |row| row.get(0))
}

/// The token that holds the lease of a pipeline.
pub(crate) fn lease_token(
    connection: &Connection,
    pipeline: &PipelineName,
) -> Result<FencingToken, rusqlite::Error> {
    let sql = "SELECT token FROM _hapax_leases WHERE pipeline = ?1";
    let token =
        connection.prepare_cached(sql)?.query_row([pipeline.as_str()], |row| number(row, 0)).optional()?;
    Ok(token.map_or(FencingToken::NOBODY, FencingToken::new))
}

/// What became of an application for the lease.
pub(crate) enum Application {
    Granted(Lease),
    OtherDefinition,
}

/// Gives the lease to the applicant, unless positions were committed under another definition.
pub(crate) fn acquire(
    connection: &Connection,
    applicant: &Applicant,
    tenure: Tenure,
) -> Result<Application, rusqlite::Error> {
    let pipeline = applicant.pipeline.as_str();
    let definition: Option<String> = connection
        .query_row("SELECT definition FROM _hapax_leases WHERE pipeline = ?1", [pipeline], |row| row.get(0))
        .optional()?;
    if definition.is_some_and(|definition| definition != applicant.definition) {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM _hapax_positions WHERE pipeline = ?1 AND position IS NOT NULL)";
        if connection.query_row(sql, [pipeline], |row| row.get(0))? {
            return Ok(Application::OtherDefinition);
        }
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = ?1 AND holder = ?2)";
    let holds = connection.query_row(sql, params![pipeline, applicant.holder], |row| row.get(0))?;
    let stored_token = lease_token(connection, &applicant.pipeline)?;
    let token = if tenure == Tenure::Group && holds { stored_token } else { stored_token.next() };
    let sql = "INSERT INTO _hapax_leases (pipeline, token, holder, definition) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (pipeline) DO UPDATE SET token = excluded.token, holder = excluded.holder, \
               definition = excluded.definition";
    connection
        .execute(sql, params![pipeline, stored(token.get()), applicant.holder, applicant.definition])?;
    Ok(Application::Granted(Lease { pipeline: applicant.pipeline.clone(), token }))
}

const STANDING: &str = "position, epoch, read, moved, suppressed, set_aside, filtered";

fn standing(row: &Row<'_>, from: usize) -> Result<Standing, rusqlite::Error> {
    let position: Option<Vec<u8>> = row.get(from)?;
    Ok(Standing {
        position: position.map(Position::new),
        epoch: Epoch::new(number(row, from + 1)?),
        totals: Totals {
            read: number(row, from + 2)?,
            moved: number(row, from + 3)?,
            suppressed: number(row, from + 4)?,
            set_aside: number(row, from + 5)?,
            filtered: number(row, from + 6)?,
        },
    })
}

/// What is known of a split.
pub(crate) fn find(
    connection: &Connection,
    pipeline: &PipelineName,
    split: &SplitId,
) -> Result<Found, rusqlite::Error> {
    let sql = format!("SELECT token, {STANDING} FROM _hapax_positions WHERE pipeline = ?1 AND split = ?2");
    let found = connection.prepare_cached(&sql)?.query_row([pipeline.as_str(), split.as_str()], |row| {
        Ok(Found { token: FencingToken::new(number(row, 0)?), standing: standing(row, 1)? })
    });
    let nothing = Found { token: FencingToken::NOBODY, standing: Standing::default() };
    Ok(found.optional()?.unwrap_or(nothing))
}

/// Writes the holder's token to a split.
pub(crate) fn take(connection: &Connection, lease: &Lease, split: &SplitId) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO _hapax_positions (pipeline, split, token, epoch, read, moved, suppressed, set_aside, \
               filtered) VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0, 0) \
               ON CONFLICT (pipeline, split) DO UPDATE SET token = excluded.token";
    let params = params![lease.pipeline.as_str(), split.as_str(), stored(lease.token.get())];
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

const ADVANCE: &str = "UPDATE _hapax_positions SET position = ?1, epoch = ?2, read = ?3, moved = ?4, \
                       suppressed = ?5, set_aside = ?6, filtered = ?7 WHERE pipeline = ?8 AND split = ?9";

/// What must hold for the holder of `?10` to move a position from `?11`. A commit may leave the position where it is:
/// only the epoch then tells one from the next.
const FENCE: &str = "token = ?10 AND position IS ?11 AND epoch = ?2 - 1 \
                     AND EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = ?8 AND token = ?10)";

/// Nothing must: the planted mistake.
const NO_FENCE: &str = "(true OR ?10 IS ?11)";

/// Moves the position of a split, if it and its token are as expected. Whether it did.
pub(crate) fn advance(
    connection: &Connection,
    lease: &Lease,
    split: &SplitId,
    checkpoint: &Checkpoint,
) -> Result<bool, rusqlite::Error> {
    let fence = if planted(Mistake::NoFence) { NO_FENCE } else { FENCE };
    let sql = format!("{ADVANCE} AND {fence}");
    let totals = checkpoint.totals;
    let changed = connection.prepare_cached(&sql)?.execute(params![
        checkpoint.through.as_bytes(),
        stored(checkpoint.epoch.get()),
        stored(totals.read),
        stored(totals.moved),
        stored(totals.suppressed),
        stored(totals.set_aside),
        stored(totals.filtered),
        lease.pipeline.as_str(),
        split.as_str(),
        stored(lease.token.get()),
        checkpoint.after.as_ref().map(Position::as_bytes),
    ])?;
    Ok(changed == 1)
}

/// Where each split stands, by name.
pub(crate) fn standings(
    connection: &Connection,
    pipeline: &PipelineName,
) -> Result<Vec<(SplitId, Standing)>, rusqlite::Error> {
    if !present(connection, "_hapax_positions")? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT split, {STANDING} FROM _hapax_positions WHERE pipeline = ?1 ORDER BY split");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([pipeline.as_str()], |row| {
        Ok((SplitId::new(row.get::<_, String>(0)?), standing(row, 1)?))
    })?;
    rows.collect()
}

/// Sets records aside; those that are aside already stay as they are.
pub(crate) fn set_aside(
    connection: &Connection,
    pipeline: &PipelineName,
    letters: &[DeadLetter],
) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO _hapax_dead_letters (pipeline, split, ordinal, code, reason, raw, set_aside_unix_ms) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    let mut statement = connection.prepare_cached(sql)?;
    for letter in letters {
        statement.execute(params![
            pipeline.as_str(),
            letter.place.split.as_str(),
            stored(letter.place.ordinal),
            letter.code.0,
            letter.reason,
            letter.raw,
            stored(letter.set_aside_unix_ms),
        ])?;
    }
    Ok(())
}

/// The dead letters of a pipeline, by place.
pub(crate) fn dead_letters(
    connection: &Connection,
    pipeline: &PipelineName,
    letters_max: usize,
) -> Result<Vec<DeadLetter>, rusqlite::Error> {
    if !present(connection, "_hapax_dead_letters")? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {LETTER} FROM _hapax_dead_letters WHERE pipeline = ?1 ORDER BY split, ordinal LIMIT ?2"
    );
    let mut statement = connection.prepare(&sql)?;
    let limit = i64::try_from(letters_max).unwrap_or(i64::MAX);
    statement.query_map(params![pipeline.as_str(), limit], letter)?.collect()
}

pub(super) const LETTER: &str = "split, ordinal, code, reason, raw, set_aside_unix_ms";

pub(super) fn letter(row: &Row<'_>) -> Result<DeadLetter, rusqlite::Error> {
    Ok(DeadLetter {
        place: Place { split: SplitId::new(row.get::<_, String>(0)?), ordinal: number(row, 1)? },
        code: Code(row.get(2)?),
        reason: row.get(3)?,
        raw: row.get(4)?,
        set_aside_unix_ms: number(row, 5)?,
    })
}
