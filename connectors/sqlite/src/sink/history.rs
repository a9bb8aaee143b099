//! What is remembered beside the records: each commit, what a repair's moved again, and each dead letter that was
//! settled.

use std::collections::{BTreeMap, BTreeSet};

use hapax_engine::dead_letter::{Ending, SettledLetter, Settlement};
use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::CommitId;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Ordinal, Position, SplitId, Totals};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::tables::{LETTER, letter, number, present, stored};

pub(super) const CREATE: &str = "
CREATE TABLE IF NOT EXISTS _hapax_commits (
  pipeline TEXT NOT NULL, split TEXT NOT NULL, epoch INTEGER NOT NULL, token INTEGER NOT NULL,
  holder TEXT NOT NULL, first INTEGER NOT NULL, read INTEGER NOT NULL, moved INTEGER NOT NULL,
  suppressed INTEGER NOT NULL, set_aside INTEGER NOT NULL, filtered INTEGER NOT NULL, position BLOB NOT NULL,
  made_unix_ms INTEGER NOT NULL, PRIMARY KEY (pipeline, split, first, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _hapax_moved_again (
  pipeline TEXT NOT NULL, split TEXT NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL,
  records INTEGER NOT NULL, PRIMARY KEY (pipeline, split, epoch, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _hapax_settled_letters (
  pipeline TEXT NOT NULL, split TEXT NOT NULL, ordinal INTEGER NOT NULL, code INTEGER NOT NULL,
  reason TEXT NOT NULL, set_aside_unix_ms INTEGER NOT NULL, ending TEXT NOT NULL, epoch INTEGER NOT NULL,
  settled_unix_ms INTEGER NOT NULL, PRIMARY KEY (pipeline, split, ordinal)
);
";

/// Remembers a commit. Called in its transaction, before the position is advanced: it takes what was before
/// from there.
pub(crate) fn remember(
    connection: &Connection,
    lease: &Lease,
    split: &SplitId,
    checkpoint: &Checkpoint,
) -> Result<(), rusqlite::Error> {
    let sql = "INSERT OR REPLACE INTO _hapax_commits (pipeline, split, epoch, token, holder, first, read, moved, \
               suppressed, set_aside, filtered, position, made_unix_ms) \
               SELECT p.pipeline, p.split, ?3, l.token, l.holder, p.read, max(0, ?4 - p.read), \
               max(0, ?5 - p.moved), max(0, ?6 - p.suppressed), max(0, ?7 - p.set_aside), \
               max(0, ?8 - p.filtered), ?9, ?10 \
               FROM _hapax_positions p JOIN _hapax_leases l ON l.pipeline = p.pipeline \
               WHERE p.pipeline = ?1 AND p.split = ?2";
    let totals = checkpoint.totals;
    connection.prepare_cached(sql)?.execute(params![
        lease.pipeline.as_str(),
        split.as_str(),
        stored(checkpoint.epoch.get()),
        stored(totals.read),
        stored(totals.moved),
        stored(totals.suppressed),
        stored(totals.set_aside),
        stored(totals.filtered),
        checkpoint.through.as_bytes(),
        stored(checkpoint.made_unix_ms),
    ])?;
    let sql = "INSERT OR REPLACE INTO _hapax_moved_again (pipeline, split, epoch, first, records) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    for again in &checkpoint.again {
        connection.prepare_cached(sql)?.execute(params![
            lease.pipeline.as_str(),
            split.as_str(),
            stored(checkpoint.epoch.get()),
            stored(again.start),
            stored(again.end.saturating_sub(again.start)),
        ])?;
    }
    Ok(())
}

/// Takes dead letters off the list and remembers what became of them.
pub(crate) fn settle(
    connection: &Connection,
    pipeline: &PipelineName,
    places: &[Place],
    settlement: &Settlement,
) -> Result<(), rusqlite::Error> {
    let remember = "INSERT OR REPLACE INTO _hapax_settled_letters (pipeline, split, ordinal, code, reason, \
                    set_aside_unix_ms, ending, epoch, settled_unix_ms) \
                    SELECT pipeline, split, ordinal, code, reason, set_aside_unix_ms, ?4, ?5, ?6 \
                    FROM _hapax_dead_letters WHERE pipeline = ?1 AND split = ?2 AND ordinal = ?3";
    let remove = "DELETE FROM _hapax_dead_letters WHERE pipeline = ?1 AND split = ?2 AND ordinal = ?3";
    let (mut remember, mut remove) =
        (connection.prepare_cached(remember)?, connection.prepare_cached(remove)?);
    for place in places {
        let (pipeline, split, ordinal) = (pipeline.as_str(), place.split.as_str(), stored(place.ordinal));
        remember.execute(params![
            pipeline,
            split,
            ordinal,
            settlement.ending.word(),
            stored(settlement.epoch.get()),
            stored(settlement.settled_unix_ms),
        ])?;
        remove.execute(params![pipeline, split, ordinal])?;
    }
    Ok(())
}

const SETTLED: &str = "split, ordinal, code, reason, '', set_aside_unix_ms, ending, epoch, settled_unix_ms";

fn settled(row: &Row<'_>) -> Result<SettledLetter, rusqlite::Error> {
    let settlement = Settlement {
        ending: Ending::of_word(&row.get::<_, String>(6)?),
        epoch: Epoch::new(number(row, 7)?),
        settled_unix_ms: number(row, 8)?,
    };
    Ok(SettledLetter { letter: letter(row)?, settlement })
}

/// The settled letters of a pipeline, by place.
pub(crate) fn settled_letters(
    connection: &Connection,
    pipeline: &PipelineName,
    letters_max: usize,
) -> Result<Vec<SettledLetter>, rusqlite::Error> {
    if !present(connection, "_hapax_settled_letters")? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {SETTLED} FROM _hapax_settled_letters WHERE pipeline = ?1 ORDER BY split, ordinal LIMIT ?2"
    );
    let mut statement = connection.prepare(&sql)?;
    let limit = i64::try_from(letters_max).unwrap_or(i64::MAX);
    statement.query_map(params![pipeline.as_str(), limit], settled)?.collect()
}

/// What is remembered of places, one answer each.
pub(crate) fn remembered(
    connection: &Connection,
    pipeline: &PipelineName,
    places: &[Place],
) -> Result<Vec<Remembered>, rusqlite::Error> {
    // One picture of all tables, whoever commits meanwhile.
    let picture = connection.unchecked_transaction()?;
    let mut answers: Vec<Remembered> = places.iter().map(|_| Remembered::default()).collect();
    if present(&picture, "_hapax_commits")? {
        for (answer, place) in answers.iter_mut().zip(places) {
            answer.commit = commit_of(&picture, pipeline, place)?;
        }
    }
    let of_place = "WHERE pipeline = ?1 AND split = ?2 AND ordinal = ?3";
    if present(&picture, "_hapax_dead_letters")? {
        let mut statement =
            picture.prepare(&format!("SELECT {LETTER} FROM _hapax_dead_letters {of_place}"))?;
        for (answer, place) in answers.iter_mut().zip(places) {
            let params = params![pipeline.as_str(), place.split.as_str(), stored(place.ordinal)];
            answer.letter = statement.query_row(params, letter).optional()?;
        }
    }
    if present(&picture, "_hapax_settled_letters")? {
        let mut statement =
            picture.prepare(&format!("SELECT {SETTLED} FROM _hapax_settled_letters {of_place}"))?;
        for (answer, place) in answers.iter_mut().zip(places) {
            let params = params![pipeline.as_str(), place.split.as_str(), stored(place.ordinal)];
            answer.settled = statement.query_row(params, settled).optional()?;
        }
    }
    if present(&picture, "_hapax_commits")? {
        came_back(&picture, pipeline, places, &mut answers)?;
    }
    Ok(answers)
}

/// The places asked for in one split: which answers are each record's.
type Wanted = BTreeMap<Ordinal, Vec<usize>>;

/// Adds the commits that came back to places behind the position. Goes through each split once, however many
/// of its places are asked for.
fn came_back(
    connection: &Connection,
    pipeline: &PipelineName,
    places: &[Place],
    answers: &mut [Remembered],
) -> Result<(), rusqlite::Error> {
    let mut by_split: BTreeMap<&SplitId, Wanted> = BTreeMap::new();
    for (answer, place) in places.iter().enumerate() {
        by_split.entry(&place.split).or_default().entry(place.ordinal).or_default().push(answer);
    }
    let has_again = present(connection, "_hapax_moved_again")?;
    for (split, wanted) in by_split {
        let again = if has_again { moved_again(connection, pipeline, split, &wanted)? } else { Vec::new() };
        let asked = || wanted.values().flatten().copied();
        let settled_in = |answer: &Remembered| Some(answer.settled.as_ref()?.settlement.epoch);
        let settled = asked().filter_map(|answer| settled_in(answers.get(answer)?));
        let epochs: BTreeSet<Epoch> = again.iter().map(|(epoch, _)| *epoch).chain(settled).collect();
        if epochs.is_empty() {
            continue;
        }
        let commits = in_place(connection, pipeline, split, &epochs)?;
        for answer in asked() {
            if let Some(answer) = answers.get_mut(answer) {
                answer.settled_in = settled_in(answer).and_then(|epoch| commits.get(&epoch).cloned());
            }
        }
        for (epoch, answer) in again {
            if let Some(answer) = answers.get_mut(answer) {
                answer.again.extend(commits.get(&epoch).cloned());
            }
        }
    }
    Ok(())
}

/// The commits that moved places again, in their order, each with the answer it belongs to.
fn moved_again(
    connection: &Connection,
    pipeline: &PipelineName,
    split: &SplitId,
    wanted: &Wanted,
) -> Result<Vec<(Epoch, usize)>, rusqlite::Error> {
    let sql = "SELECT epoch, first, records FROM _hapax_moved_again WHERE pipeline = ?1 AND split = ?2 \
               ORDER BY epoch, first";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([pipeline.as_str(), split.as_str()])?;
    let mut again = Vec::new();
    while let Some(row) = rows.next()? {
        let (epoch, first, records) = (Epoch::new(number(row, 0)?), number(row, 1)?, number(row, 2)?);
        let inside = wanted.range(first..first.saturating_add(records));
        again.extend(inside.flat_map(|(_, answers)| answers).map(|answer| (epoch, *answer)));
    }
    Ok(again)
}

/// The commits of these epochs that left the position where it was.
fn in_place(
    connection: &Connection,
    pipeline: &PipelineName,
    split: &SplitId,
    epochs: &BTreeSet<Epoch>,
) -> Result<BTreeMap<Epoch, Committed>, rusqlite::Error> {
    let sql = format!("SELECT {COMMIT} FROM _hapax_commits WHERE pipeline = ?1 AND split = ?2 AND read = 0");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([pipeline.as_str(), split.as_str()])?;
    let mut commits = BTreeMap::new();
    while let Some(row) = rows.next()? {
        if epochs.contains(&Epoch::new(number(row, 0)?)) {
            let made = committed(row, split)?;
            commits.insert(made.commit.epoch, made);
        }
    }
    Ok(commits)
}

const COMMIT: &str =
    "epoch, token, holder, first, read, moved, suppressed, set_aside, filtered, position, made_unix_ms";

fn committed(row: &Row<'_>, split: &SplitId) -> Result<Committed, rusqlite::Error> {
    let (first, read) = (number(row, 3)?, number(row, 4)?);
    Ok(Committed {
        commit: CommitId { split: split.clone(), epoch: Epoch::new(number(row, 0)?) },
        token: FencingToken::new(number(row, 1)?),
        holder: row.get(2)?,
        records: first..first.saturating_add(read),
        through: Position::new(row.get::<_, Vec<u8>>(9)?),
        totals: Totals {
            read,
            moved: number(row, 5)?,
            suppressed: number(row, 6)?,
            set_aside: number(row, 7)?,
            filtered: number(row, 8)?,
        },
        made_unix_ms: number(row, 10)?,
    })
}

/// The commit that brought the position past a place: the last of those that begin before it and read something.
fn commit_of(
    connection: &Connection,
    pipeline: &PipelineName,
    place: &Place,
) -> Result<Option<Committed>, rusqlite::Error> {
    let sql = format!(
        "SELECT {COMMIT} FROM _hapax_commits WHERE pipeline = ?1 AND split = ?2 AND first <= ?3 AND read > 0 \
         ORDER BY first DESC, epoch DESC LIMIT 1"
    );
    let params = params![pipeline.as_str(), place.split.as_str(), stored(place.ordinal)];
    let found = connection.prepare_cached(&sql)?.query_row(params, |row| committed(row, &place.split));
    Ok(found.optional()?.filter(|commit| commit.records.contains(&place.ordinal)))
}
