//! What is remembered beside the records: each commit, what a repair's moved again, and each dead letter that was settled.

use hapax_engine::dead_letter::{Ending, SettledLetter, Settlement};
use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::CommitId;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use mysql_async::{Params, Row, Value};

use super::tables::{LETTER, letter};
use crate::client::{Session, bytes, number, text};
use crate::fault::DatabaseFault;

/// Remembers the commit that follows a standing. Called in its transaction.
pub(crate) async fn remember(
    session: &mut Session,
    lease: &Lease,
    split: &SplitId,
    stood: &Standing,
    checkpoint: &Checkpoint,
) -> Result<(), DatabaseFault> {
    let sql = "REPLACE INTO _hapax_commits (pipeline, split, epoch, token, holder, first, `read`, moved, suppressed, \
               set_aside, filtered, position, made_unix_ms) \
               SELECT pipeline, ?, ?, token, holder, ?, ?, ?, ?, ?, ?, ?, ? FROM _hapax_leases WHERE pipeline = ?";
    let totals = checkpoint.totals.since(stood.totals);
    let params: Vec<Value> = vec![
        split.as_str().as_bytes().into(),
        checkpoint.epoch.get().into(),
        stood.totals.read.into(),
        totals.read.into(),
        totals.moved.into(),
        totals.suppressed.into(),
        totals.set_aside.into(),
        totals.filtered.into(),
        checkpoint.through.as_bytes().into(),
        checkpoint.made_unix_ms.into(),
        lease.pipeline.as_str().into(),
    ];
    session.run("remembering the commit", sql, Params::Positional(params)).await?;
    let sql =
        "REPLACE INTO _hapax_moved_again (pipeline, split, epoch, first, records) VALUES (?, ?, ?, ?, ?)";
    for again in &checkpoint.again {
        let records = again.end.saturating_sub(again.start);
        let of = (lease.pipeline.as_str(), split.as_str().as_bytes(), checkpoint.epoch.get());
        session.run("remembering the commit", sql, (of.0, of.1, of.2, again.start, records)).await?;
    }
    Ok(())
}

/// Takes dead letters off the list and remembers what became of them.
pub(crate) async fn settle(
    session: &mut Session,
    pipeline: &PipelineName,
    places: &[Place],
    settlement: &Settlement,
) -> Result<(), DatabaseFault> {
    let remember = "REPLACE INTO _hapax_settled_letters (pipeline, split, ordinal, code, reason, set_aside_unix_ms, \
                    ending, epoch, settled_unix_ms) \
                    SELECT pipeline, split, ordinal, code, reason, set_aside_unix_ms, ?, ?, ? \
                    FROM _hapax_dead_letters WHERE pipeline = ? AND split = ? AND ordinal = ?";
    let remove = "DELETE FROM _hapax_dead_letters WHERE pipeline = ? AND split = ? AND ordinal = ?";
    for place in places {
        let of = (pipeline.as_str(), place.split.as_str().as_bytes(), place.ordinal);
        let how = (settlement.ending.word(), settlement.epoch.get(), settlement.settled_unix_ms);
        session.run("settling", remember, (how.0, how.1, how.2, of.0, of.1, of.2)).await?;
        session.run("settling", remove, of).await?;
    }
    Ok(())
}

const SETTLED: &str = "split, ordinal, code, reason, '', set_aside_unix_ms, ending, epoch, settled_unix_ms";

fn settled(row: &Row) -> SettledLetter {
    let settlement = Settlement {
        ending: Ending::of_word(&text(row, 6).unwrap_or_default()),
        epoch: Epoch::new(number(row, 7).unwrap_or(0)),
        settled_unix_ms: number(row, 8).unwrap_or(0),
    };
    SettledLetter { letter: letter(row), settlement }
}

/// The settled letters of a pipeline, by place.
pub(crate) async fn settled_letters(
    session: &mut Session,
    pipeline: &PipelineName,
    letters_max: usize,
) -> Result<Vec<SettledLetter>, DatabaseFault> {
    let sql = format!(
        "SELECT {SETTLED} FROM _hapax_settled_letters WHERE pipeline = ? ORDER BY split, ordinal LIMIT ?"
    );
    let limit = u64::try_from(letters_max).unwrap_or(u64::MAX);
    let rows = session.rows("reading settled letters", &sql, (pipeline.as_str(), limit)).await?;
    Ok(rows.iter().map(settled).collect())
}

/// What is remembered of places, one answer each, of one state whoever commits meanwhile.
pub(crate) async fn remembered(
    session: &mut Session,
    pipeline: &PipelineName,
    places: &[Place],
) -> Result<Vec<Remembered>, DatabaseFault> {
    let doing = "reading the history";
    let there = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
                 AND TABLE_NAME = '_hapax_moved_again'";
    let has_again = session.first(doing, there, ()).await?.is_some();
    session.say(doing, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    session.say(doing, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    let of_place = "WHERE pipeline = ? AND split = ? AND ordinal = ?";
    let letters = format!("SELECT {LETTER} FROM _hapax_dead_letters {of_place}");
    let endings = format!("SELECT {SETTLED} FROM _hapax_settled_letters {of_place}");
    let mut answers = Vec::with_capacity(places.len());
    for place in places {
        let of = (pipeline.as_str(), place.split.as_str().as_bytes(), place.ordinal);
        let settled = session.first(doing, &endings, of).await?.as_ref().map(settled);
        let settled_in = match &settled {
            None => None,
            Some(settled) => {
                let epoch = settled.settlement.epoch.get();
                in_place(session, pipeline, place, "c.epoch = ?", &[epoch]).await?.pop()
            }
        };
        let again = match has_again {
            false => Vec::new(),
            true => in_place(session, pipeline, place, AGAIN, &[place.ordinal, place.ordinal]).await?,
        };
        answers.push(Remembered {
            commit: commit_of(session, pipeline, place).await?,
            letter: session.first(doing, &letters, of).await?.as_ref().map(letter),
            settled,
            settled_in,
            again,
        });
    }
    Ok(answers)
}

/// The commit that brought the position past a place: the last of those that begin before it and read something.
async fn commit_of(
    session: &mut Session,
    pipeline: &PipelineName,
    place: &Place,
) -> Result<Option<Committed>, DatabaseFault> {
    let sql = format!(
        "SELECT {COMMIT} FROM _hapax_commits c WHERE c.pipeline = ? AND c.split = ? AND c.first <= ? \
         AND c.`read` > 0 ORDER BY c.first DESC, c.epoch DESC LIMIT 1"
    );
    let params = (pipeline.as_str(), place.split.as_str().as_bytes(), place.ordinal);
    let Some(row) = session.first("reading the history", &sql, params).await? else { return Ok(None) };
    let commit = committed(&row, &place.split);
    Ok(Some(commit).filter(|commit| commit.records.contains(&place.ordinal)))
}

/// The commits of a place's split that left the position where it was, and of which something is true.
async fn in_place(
    session: &mut Session,
    pipeline: &PipelineName,
    place: &Place,
    is_true: &str,
    of: &[u64],
) -> Result<Vec<Committed>, DatabaseFault> {
    let sql = format!(
        "SELECT {COMMIT} FROM _hapax_commits c WHERE c.pipeline = ? AND c.split = ? AND c.`read` = 0 \
         AND {is_true} ORDER BY c.epoch"
    );
    let mut params: Vec<Value> = vec![pipeline.as_str().into(), place.split.as_str().as_bytes().into()];
    params.extend(of.iter().map(|number| Value::from(*number)));
    let rows = session.rows("reading the history", &sql, Params::Positional(params)).await?;
    Ok(rows.iter().map(|row| committed(row, &place.split)).collect())
}

/// The columns of a commit.
const COMMIT: &str = "c.epoch, c.token, c.holder, c.first, c.`read`, c.moved, c.suppressed, c.set_aside, c.filtered, \
                      c.position, c.made_unix_ms";

/// That a commit moved a record again.
const AGAIN: &str = "EXISTS (SELECT 1 FROM _hapax_moved_again a WHERE a.pipeline = c.pipeline AND a.split = c.split \
                     AND a.epoch = c.epoch AND a.first <= ? AND a.first + a.records > ?)";

fn committed(row: &Row, split: &SplitId) -> Committed {
    let count = |index| number(row, index).unwrap_or(0);
    Committed {
        commit: CommitId { split: split.clone(), epoch: Epoch::new(count(0)) },
        token: FencingToken::new(count(1)),
        holder: text(row, 2).unwrap_or_default(),
        records: count(3)..count(3).saturating_add(count(4)),
        through: Position::new(bytes(row, 9).unwrap_or_default()),
        totals: Totals {
            read: count(4),
            moved: count(5),
            suppressed: count(6),
            set_aside: count(7),
            filtered: count(8),
        },
        made_unix_ms: count(10),
    }
}
