//! What is remembered beside the records: each commit, what a repair's moved again, and each dead letter that was settled.

use hapax_engine::dead_letter::{Ending, SettledLetter, Settlement};
use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::CommitId;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Totals};
use tokio_postgres::{Error, Row};

use super::tables::{LETTER, Tables, letter, number, stored};
use crate::client::Session;

const SETTLED: &str =
    "split, ordinal, code, reason, ''::bytea, set_aside_unix_ms, ending, epoch, settled_unix_ms";

fn settled(row: &Row) -> Result<SettledLetter, Error> {
    let settlement = Settlement {
        ending: Ending::of_word(row.try_get(6)?),
        epoch: Epoch::new(number(row, 7)?),
        settled_unix_ms: number(row, 8)?,
    };
    Ok(SettledLetter { letter: letter(row)?, settlement })
}

/// The columns of a commit.
const COMMIT: &str = "c.epoch, c.token, c.holder, c.first, c.read, c.moved, c.suppressed, c.set_aside, c.filtered, \
                      c.position, c.made_unix_ms";

/// That a commit moved a record again.
const AGAIN: &str = "EXISTS (SELECT 1 FROM _hapax_moved_again a WHERE a.pipeline = c.pipeline AND a.split = c.split \
                     AND a.epoch = c.epoch AND a.first <= $3 AND a.first + a.records > $3)";

fn committed(row: &Row, split: &SplitId) -> Result<Committed, Error> {
    let (first, read) = (number(row, 3)?, number(row, 4)?);
    let position: &[u8] = row.try_get(9)?;
    Ok(Committed {
        commit: CommitId { split: split.clone(), epoch: Epoch::new(number(row, 0)?) },
        token: FencingToken::new(number(row, 1)?),
        holder: row.try_get(2)?,
        records: first..first.saturating_add(read),
        through: Position::new(position),
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

impl Tables {
    /// Remembers a commit. Called in its transaction, before the position is advanced: it takes what was before
    /// from there.
    pub(crate) async fn remember(
        &self,
        session: &Session,
        lease: &Lease,
        split: &SplitId,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO _hapax_commits (pipeline, split, epoch, token, holder, first, read, moved, suppressed, \
                   set_aside, filtered, position, made_unix_ms) \
                   SELECT p.pipeline, p.split, $3, l.token, l.holder, p.read, greatest(0, $4 - p.read), \
                   greatest(0, $5 - p.moved), greatest(0, $6 - p.suppressed), greatest(0, $7 - p.set_aside), \
                   greatest(0, $8 - p.filtered), $9, $10 \
                   FROM _hapax_positions p JOIN _hapax_leases l ON l.pipeline = p.pipeline \
                   WHERE p.pipeline = $1 AND p.split = $2 \
                   ON CONFLICT (pipeline, split, first, epoch) DO UPDATE SET token = excluded.token, \
                   holder = excluded.holder, read = excluded.read, moved = excluded.moved, \
                   suppressed = excluded.suppressed, set_aside = excluded.set_aside, filtered = excluded.filtered, \
                   position = excluded.position, made_unix_ms = excluded.made_unix_ms";
        let sql = session.prepared(self.sql(sql)).await?;
        let totals = checkpoint.totals;
        let numbers = [totals.read, totals.moved, totals.suppressed, totals.set_aside, totals.filtered];
        let [read, moved, suppressed, set_aside, filtered] = numbers.map(stored);
        session
            .execute(
                &sql,
                &[
                    &lease.pipeline.as_str(),
                    &split.as_str(),
                    &stored(checkpoint.epoch.get()),
                    &read,
                    &moved,
                    &suppressed,
                    &set_aside,
                    &filtered,
                    &checkpoint.through.as_bytes(),
                    &stored(checkpoint.made_unix_ms),
                ],
            )
            .await?;
        let sql = "INSERT INTO _hapax_moved_again (pipeline, split, epoch, first, records) \
                   VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (pipeline, split, epoch, first) DO UPDATE SET records = excluded.records";
        for again in &checkpoint.again {
            let sql = session.prepared(self.sql(sql)).await?;
            let records = stored(again.end.saturating_sub(again.start));
            let epoch = stored(checkpoint.epoch.get());
            session
                .execute(
                    &sql,
                    &[&lease.pipeline.as_str(), &split.as_str(), &epoch, &stored(again.start), &records],
                )
                .await?;
        }
        Ok(())
    }

    /// Takes dead letters off the list and remembers what became of them.
    pub(crate) async fn settle(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        places: &[Place],
        settlement: &Settlement,
    ) -> Result<(), Error> {
        let sql = "WITH gone AS (DELETE FROM _hapax_dead_letters WHERE pipeline = $1 AND split = $2 AND ordinal = $3 \
                   RETURNING pipeline, split, ordinal, code, reason, set_aside_unix_ms) \
                   INSERT INTO _hapax_settled_letters (pipeline, split, ordinal, code, reason, set_aside_unix_ms, \
                   ending, epoch, settled_unix_ms) SELECT gone.*, $4, $5, $6 FROM gone \
                   ON CONFLICT (pipeline, split, ordinal) DO UPDATE SET code = excluded.code, \
                   reason = excluded.reason, set_aside_unix_ms = excluded.set_aside_unix_ms, \
                   ending = excluded.ending, epoch = excluded.epoch, settled_unix_ms = excluded.settled_unix_ms";
        let sql = session.prepared(self.sql(sql)).await?;
        for place in places {
            session
                .execute(
                    &sql,
                    &[
                        &pipeline.as_str(),
                        &place.split.as_str(),
                        &stored(place.ordinal),
                        &settlement.ending.word(),
                        &stored(settlement.epoch.get()),
                        &stored(settlement.settled_unix_ms),
                    ],
                )
                .await?;
        }
        Ok(())
    }

    /// The settled letters of a pipeline, by place.
    pub(crate) async fn settled_letters(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        letters_max: usize,
    ) -> Result<Vec<SettledLetter>, Error> {
        if !self.present(session, "_hapax_settled_letters").await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {SETTLED} FROM _hapax_settled_letters WHERE pipeline = $1 \
             ORDER BY split COLLATE \"C\", ordinal LIMIT $2"
        );
        let limit = i64::try_from(letters_max).unwrap_or(i64::MAX);
        let rows = session.query(&self.sql(&sql), &[&pipeline.as_str(), &limit]).await?;
        rows.iter().map(settled).collect()
    }

    /// What is remembered of places, one answer each. Belongs into a transaction with one picture of all tables.
    pub(crate) async fn remembered(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        places: &[Place],
    ) -> Result<Vec<Remembered>, Error> {
        let missing = self.missing(session).await?;
        let there = |table| !missing.contains(&table);
        let of_place = "WHERE pipeline = $1 AND split = $2 AND ordinal = $3";
        let letters = self.sql(&format!("SELECT {LETTER} FROM _hapax_dead_letters {of_place}"));
        let settlements = self.sql(&format!("SELECT {SETTLED} FROM _hapax_settled_letters {of_place}"));
        let mut answers = Vec::with_capacity(places.len());
        for place in places {
            let mut answer = Remembered::default();
            let (split, ordinal) = (place.split.as_str(), stored(place.ordinal));
            if there("_hapax_commits") {
                answer.commit = self.commit_of(session, pipeline, place).await?;
            }
            if there("_hapax_dead_letters") {
                let sql = session.prepared(letters.clone()).await?;
                let row = session.query_opt(&sql, &[&pipeline.as_str(), &split, &ordinal]).await?;
                answer.letter = row.as_ref().map(letter).transpose()?;
            }
            if there("_hapax_settled_letters") {
                let sql = session.prepared(settlements.clone()).await?;
                let row = session.query_opt(&sql, &[&pipeline.as_str(), &split, &ordinal]).await?;
                answer.settled = row.as_ref().map(settled).transpose()?;
            }
            if there("_hapax_commits") {
                if let Some(settled) = &answer.settled {
                    let epoch = stored(settled.settlement.epoch.get());
                    answer.settled_in =
                        self.in_place(session, pipeline, place, "c.epoch = $3", epoch).await?.pop();
                }
                if there("_hapax_moved_again") {
                    answer.again = self.in_place(session, pipeline, place, AGAIN, ordinal).await?;
                }
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// The commits of a place's split that left the position where it was, and of which something is true.
    async fn in_place(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        place: &Place,
        is_true: &str,
        of: i64,
    ) -> Result<Vec<Committed>, Error> {
        let sql = format!(
            "SELECT {COMMIT} FROM _hapax_commits c WHERE c.pipeline = $1 AND c.split = $2 AND c.read = 0 \
             AND {is_true} ORDER BY c.epoch"
        );
        let sql = session.prepared(self.sql(&sql)).await?;
        let rows = session.query(&sql, &[&pipeline.as_str(), &place.split.as_str(), &of]).await?;
        rows.iter().map(|row| committed(row, &place.split)).collect()
    }

    /// The commit that brought the position past a place: the last of those that begin before it and read something.
    async fn commit_of(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        place: &Place,
    ) -> Result<Option<Committed>, Error> {
        let sql = format!(
            "SELECT {COMMIT} FROM _hapax_commits c \
             WHERE c.pipeline = $1 AND c.split = $2 AND c.first <= $3 AND c.read > 0 \
             ORDER BY c.first DESC, c.epoch DESC LIMIT 1"
        );
        let sql = session.prepared(self.sql(&sql)).await?;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&pipeline.as_str(), &place.split.as_str(), &stored(place.ordinal)];
        let Some(row) = session.query_opt(&sql, &params).await? else { return Ok(None) };
        let committed = committed(&row, &place.split)?;
        Ok(Some(committed).filter(|commit| commit.records.contains(&place.ordinal)))
    }
}
