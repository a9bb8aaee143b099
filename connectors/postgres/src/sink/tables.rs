//! The tables that Hapax keeps beside the records, and the statements on them.

use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Tenure;
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use hapax_protocol::recovery::Found;
use tokio_postgres::{Error, Row};

use crate::client::Session;
use crate::name::quoted;

/// What they are called.
pub(crate) const NAMES: [&str; 7] = [
    "_hapax_leases",
    "_hapax_positions",
    "_hapax_commits",
    "_hapax_moved_again",
    "_hapax_dead_letters",
    "_hapax_settled_letters",
    "_hapax_ledger",
];

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS _hapax_leases (
  pipeline text NOT NULL PRIMARY KEY, token bigint NOT NULL, holder text NOT NULL, definition text NOT NULL
);
CREATE TABLE IF NOT EXISTS _hapax_positions (
  pipeline text NOT NULL, split text NOT NULL, token bigint NOT NULL, epoch bigint NOT NULL, position bytea,
  read bigint NOT NULL, moved bigint NOT NULL, suppressed bigint NOT NULL, set_aside bigint NOT NULL,
  filtered bigint NOT NULL, PRIMARY KEY (pipeline, split)
);
CREATE TABLE IF NOT EXISTS _hapax_commits (
  pipeline text NOT NULL, split text NOT NULL, epoch bigint NOT NULL, token bigint NOT NULL,
  holder text NOT NULL, first bigint NOT NULL, read bigint NOT NULL, moved bigint NOT NULL,
  suppressed bigint NOT NULL, set_aside bigint NOT NULL, filtered bigint NOT NULL, position bytea NOT NULL,
  made_unix_ms bigint NOT NULL, PRIMARY KEY (pipeline, split, first, epoch)
);
CREATE TABLE IF NOT EXISTS _hapax_moved_again (
  pipeline text NOT NULL, split text NOT NULL, epoch bigint NOT NULL, first bigint NOT NULL,
  records bigint NOT NULL, PRIMARY KEY (pipeline, split, epoch, first)
);
CREATE TABLE IF NOT EXISTS _hapax_dead_letters (
  pipeline text NOT NULL, split text NOT NULL, ordinal bigint NOT NULL, code integer NOT NULL,
  reason text NOT NULL, raw bytea NOT NULL, set_aside_unix_ms bigint NOT NULL,
  PRIMARY KEY (pipeline, split, ordinal)
);
CREATE TABLE IF NOT EXISTS _hapax_settled_letters (
  pipeline text NOT NULL, split text NOT NULL, ordinal bigint NOT NULL, code integer NOT NULL,
  reason text NOT NULL, set_aside_unix_ms bigint NOT NULL, ending text NOT NULL, epoch bigint NOT NULL,
  settled_unix_ms bigint NOT NULL, PRIMARY KEY (pipeline, split, ordinal)
);
CREATE TABLE IF NOT EXISTS _hapax_ledger (
  pipeline text NOT NULL, id uuid NOT NULL, split text NOT NULL, ordinal bigint NOT NULL,
  claimed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, id)
);
";

/// The schema they stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    pub schema: String,
}

/// A number as PostgreSQL stores it. Counts stay far below its end.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row, index: usize) -> Result<u64, Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(index)?).unwrap_or(0))
}

/// Text as PostgreSQL can hold it: it has no character NUL.
fn held(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

/// What became of an application for the lease.
pub(crate) enum Application {
    Granted(Lease),
    OtherDefinition,
}

impl Tables {
    /// A statement on them, which names them without their schema.
    pub(super) fn sql(&self, statement: &str) -> String {
        statement.replace("_hapax_", &format!("{}._hapax_", quoted(&self.schema)))
    }

    /// Those that are missing: all of them before the first run, some after one of an earlier version.
    pub(crate) async fn missing(&self, session: &Session) -> Result<Vec<&'static str>, Error> {
        let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND starts_with(c.relname::text, '_hapax_')";
        let mut missing = NAMES.to_vec();
        for row in session.query(sql, &[&self.schema]).await? {
            let name: &str = row.try_get(0)?;
            missing.retain(|missing| *missing != name);
        }
        Ok(missing)
    }

    /// Creates those that are missing. Belongs into a transaction.
    pub(crate) async fn create(&self, session: &Session) -> Result<(), Error> {
        if self.missing(session).await?.is_empty() {
            return Ok(());
        }
        session.batch_execute(&self.sql(CREATE)).await
    }

    /// Whether it is there to be read.
    pub(super) async fn present(&self, session: &Session, table: &'static str) -> Result<bool, Error> {
        Ok(!self.missing(session).await?.contains(&table))
    }

    /// The token that holds the lease of a pipeline.
    pub(crate) async fn lease_token(
        &self,
        session: &Session,
        pipeline: &PipelineName,
    ) -> Result<FencingToken, Error> {
        let sql = self.sql("SELECT token FROM _hapax_leases WHERE pipeline = $1");
        let row = session.query_opt(&session.prepared(sql).await?, &[&pipeline.as_str()]).await?;
        row.map_or(Ok(FencingToken::NOBODY), |row| Ok(FencingToken::new(number(&row, 0)?)))
    }

    /// Gives the lease to the applicant, unless positions were committed under another definition. Belongs into a
    /// transaction.
    pub(crate) async fn acquire(
        &self,
        session: &Session,
        applicant: &Applicant,
        tenure: Tenure,
    ) -> Result<Application, Error> {
        let pipeline = applicant.pipeline.as_str();
        // Makes the row, so that there is one to lock.
        let sql = "INSERT INTO _hapax_leases (pipeline, token, holder, definition) VALUES ($1, 0, '', $2) \
                   ON CONFLICT DO NOTHING";
        session.execute(&self.sql(sql), &[&pipeline, &applicant.definition]).await?;
        let sql = "SELECT definition FROM _hapax_leases WHERE pipeline = $1 FOR UPDATE";
        let definition: String = session.query_one(&self.sql(sql), &[&pipeline]).await?.try_get(0)?;
        if definition != applicant.definition {
            let sql =
                "SELECT EXISTS (SELECT 1 FROM _hapax_positions WHERE pipeline = $1 AND position IS NOT NULL)";
            if session.query_one(&self.sql(sql), &[&pipeline]).await?.try_get(0)? {
                return Ok(Application::OtherDefinition);
            }
        }
        let sql = "UPDATE _hapax_leases SET token = token + CASE WHEN $4 AND holder = $2 THEN 0 ELSE 1 END, \
                   holder = $2, definition = $3 WHERE pipeline = $1 RETURNING token";
        let is_group = tenure == Tenure::Group;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&pipeline, &applicant.holder, &applicant.definition, &is_group];
        let row = session.query_one(&self.sql(sql), &params).await?;
        let token = FencingToken::new(number(&row, 0)?);
        Ok(Application::Granted(Lease { pipeline: applicant.pipeline.clone(), token }))
    }

    /// Makes the row of a split, if there is none, so that there is one to lock.
    pub(crate) async fn introduce(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        split: &SplitId,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO _hapax_positions (pipeline, split, token, epoch, read, moved, suppressed, set_aside, \
                   filtered) VALUES ($1, $2, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING";
        let sql = session.prepared(self.sql(sql)).await?;
        session.execute(&sql, &[&pipeline.as_str(), &split.as_str()]).await?;
        Ok(())
    }

    /// What is known of a split. Locks its row to the end of the transaction, so that nobody else moves it: waits
    /// for whoever has it locked.
    pub(crate) async fn lock(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        split: &SplitId,
    ) -> Result<Found, Error> {
        let sql = format!(
            "SELECT token, {STANDING} FROM _hapax_positions WHERE pipeline = $1 AND split = $2 FOR UPDATE"
        );
        let sql = session.prepared(self.sql(&sql)).await?;
        match session.query_opt(&sql, &[&pipeline.as_str(), &split.as_str()]).await? {
            Some(row) => {
                Ok(Found { token: FencingToken::new(number(&row, 0)?), standing: standing(&row, 1)? })
            }
            None => Ok(Found { token: FencingToken::NOBODY, standing: Standing::default() }),
        }
    }

    /// Locks the row of a split to the end of the transaction for the holder of the lease. Whether it is the holder
    /// still: for an earlier one nothing is locked, so that it cannot keep a later one waiting.
    pub(crate) async fn hold(
        &self,
        session: &Session,
        lease: &Lease,
        split: &SplitId,
    ) -> Result<bool, Error> {
        let sql = "SELECT p.token FROM _hapax_positions p WHERE p.pipeline = $1 AND p.split = $2";
        let fence =
            "AND p.token = $3 AND EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = $1 AND token = $3)";
        let fence = if planted(Mistake::NoFence) { "AND $3::bigint IS NOT NULL" } else { fence };
        let sql = session.prepared(self.sql(&format!("{sql} {fence} FOR UPDATE OF p"))).await?;
        let token = stored(lease.token.get());
        let held = session.query_opt(&sql, &[&lease.pipeline.as_str(), &split.as_str(), &token]).await?;
        Ok(held.is_some())
    }

    /// The token that a split was last taken with.
    pub(crate) async fn split_token(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        split: &SplitId,
    ) -> Result<FencingToken, Error> {
        let sql = self.sql("SELECT token FROM _hapax_positions WHERE pipeline = $1 AND split = $2");
        let row = session.query_opt(&sql, &[&pipeline.as_str(), &split.as_str()]).await?;
        row.map_or(Ok(FencingToken::NOBODY), |row| Ok(FencingToken::new(number(&row, 0)?)))
    }

    /// Ends the sessions of Hapax that have the row of a split locked, if the lease is held still. Whether there was one.
    pub(crate) async fn evict(
        &self,
        session: &Session,
        lease: &Lease,
        split: &SplitId,
    ) -> Result<bool, Error> {
        let sql = "SELECT pg_terminate_backend(l.pid) FROM _hapax_positions p \
                   JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = p.xmax AND l.granted \
                   JOIN pg_stat_activity a ON a.pid = l.pid \
                   WHERE p.pipeline = $1 AND p.split = $2 AND a.pid <> pg_backend_pid() \
                   AND a.application_name = current_setting('application_name') \
                   AND EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = $1 AND token = $3)";
        let token = stored(lease.token.get());
        let sql = match planted(Mistake::NoFence) {
            true => sql.replace("AND token = $3", "AND $3::bigint IS NOT NULL"),
            false => sql.to_owned(),
        };
        let ended =
            session.query(&self.sql(&sql), &[&lease.pipeline.as_str(), &split.as_str(), &token]).await?;
        Ok(!ended.is_empty())
    }

    /// Writes the holder's token to a split, whose row is locked.
    pub(crate) async fn take(&self, session: &Session, lease: &Lease, split: &SplitId) -> Result<(), Error> {
        let sql = "UPDATE _hapax_positions SET token = $3 WHERE pipeline = $1 AND split = $2";
        let sql = session.prepared(self.sql(sql)).await?;
        let token = stored(lease.token.get());
        session.execute(&sql, &[&lease.pipeline.as_str(), &split.as_str(), &token]).await?;
        Ok(())
    }

    /// Moves the position of a split, if it, its epoch and its token are as expected. Whether it did.
    pub(crate) async fn advance(
        &self,
        session: &Session,
        lease: &Lease,
        split: &SplitId,
        checkpoint: &Checkpoint,
    ) -> Result<bool, Error> {
        let fence = if planted(Mistake::NoFence) { NO_FENCE } else { FENCE };
        let sql = session.prepared(self.sql(&format!("{ADVANCE} AND {fence}"))).await?;
        let totals = checkpoint.totals;
        let numbers = [totals.read, totals.moved, totals.suppressed, totals.set_aside, totals.filtered];
        let [read, moved, suppressed, set_aside, filtered] = numbers.map(stored);
        let changed = session
            .execute(
                &sql,
                &[
                    &checkpoint.through.as_bytes(),
                    &stored(checkpoint.epoch.get()),
                    &read,
                    &moved,
                    &suppressed,
                    &set_aside,
                    &filtered,
                    &lease.pipeline.as_str(),
                    &split.as_str(),
                    &stored(lease.token.get()),
                    &checkpoint.after.as_ref().map(Position::as_bytes),
                ],
            )
            .await?;
        Ok(changed == 1)
    }

    /// Where each split stands, by name.
    pub(crate) async fn standings(
        &self,
        session: &Session,
        pipeline: &PipelineName,
    ) -> Result<Vec<(SplitId, Standing)>, Error> {
        if !self.present(session, "_hapax_positions").await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT split, {STANDING} FROM _hapax_positions WHERE pipeline = $1 ORDER BY split COLLATE \"C\""
        );
        let rows = session.query(&self.sql(&sql), &[&pipeline.as_str()]).await?;
        rows.iter().map(|row| Ok((split_id(row)?, standing(row, 1)?))).collect()
    }

    /// Sets records aside; those that are aside already stay as they are.
    pub(crate) async fn set_aside(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        letters: &[DeadLetter],
    ) -> Result<(), Error> {
        let sql = "INSERT INTO _hapax_dead_letters (pipeline, split, ordinal, code, reason, raw, set_aside_unix_ms) \
                   SELECT $1, l.* FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::text[], $6::bytea[], \
                   $7::bigint[]) l ON CONFLICT DO NOTHING";
        let sql = session.prepared(self.sql(sql)).await?;
        let splits: Vec<&str> = letters.iter().map(|letter| letter.place.split.as_str()).collect();
        let ordinals: Vec<i64> = letters.iter().map(|letter| stored(letter.place.ordinal)).collect();
        let codes: Vec<i32> = letters.iter().map(|letter| i32::from(letter.code.0)).collect();
        let reasons: Vec<String> = letters.iter().map(|letter| held(&letter.reason)).collect();
        let raws: Vec<&[u8]> = letters.iter().map(|letter| letter.raw.as_bytes()).collect();
        let moments: Vec<i64> = letters.iter().map(|letter| stored(letter.set_aside_unix_ms)).collect();
        let pipeline = pipeline.as_str();
        session.execute(&sql, &[&pipeline, &splits, &ordinals, &codes, &reasons, &raws, &moments]).await?;
        Ok(())
    }

    /// The dead letters of a pipeline, by place.
    pub(crate) async fn dead_letters(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        letters_max: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        if !self.present(session, "_hapax_dead_letters").await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {LETTER} FROM _hapax_dead_letters WHERE pipeline = $1 \
             ORDER BY split COLLATE \"C\", ordinal LIMIT $2"
        );
        let limit = i64::try_from(letters_max).unwrap_or(i64::MAX);
        let rows = session.query(&self.sql(&sql), &[&pipeline.as_str(), &limit]).await?;
        rows.iter().map(letter).collect()
    }
}

const STANDING: &str = "position, epoch, read, moved, suppressed, set_aside, filtered";

fn standing(row: &Row, from: usize) -> Result<Standing, Error> {
    let position: Option<&[u8]> = row.try_get(from)?;
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

const ADVANCE: &str = "UPDATE _hapax_positions SET position = $1, epoch = $2::bigint, read = $3, moved = $4, \
                       suppressed = $5, set_aside = $6, filtered = $7 WHERE pipeline = $8 AND split = $9";

/// What must hold for the holder of `$10` to move a position from `$11`. A commit may leave the position where it is:
/// only the epoch then tells one from the next.
const FENCE: &str = "token = $10 AND position IS NOT DISTINCT FROM $11 AND epoch = $2::bigint - 1 \
                     AND EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = $8 AND token = $10)";

/// Nothing must: the planted mistake.
const NO_FENCE: &str = "(true OR $10::bigint IS NULL OR $11::bytea IS NULL)";

pub(super) const LETTER: &str = "split, ordinal, code, reason, raw, set_aside_unix_ms";

fn split_id(row: &Row) -> Result<SplitId, Error> {
    Ok(SplitId::new(row.try_get::<_, &str>(0)?))
}

pub(super) fn letter(row: &Row) -> Result<DeadLetter, Error> {
    let raw: &[u8] = row.try_get(4)?;
    Ok(DeadLetter {
        place: Place { split: split_id(row)?, ordinal: number(row, 1)? },
        code: Code(u16::try_from(row.try_get::<_, i32>(2)?).unwrap_or(u16::MAX)),
        reason: row.try_get(3)?,
        raw: String::from_utf8_lossy(raw).into_owned(),
        set_aside_unix_ms: number(row, 5)?,
    })
}
