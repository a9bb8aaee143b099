//! One batch into the table: all of its rows, or those that the table takes.

use std::collections::HashSet;
use std::ops::Range;
use std::pin::pin;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::SinkExt;
use hapax_engine::canonical::Rows;
use hapax_engine::fault::SinkError;
use hapax_engine::transform::RefusedRow;
use hapax_engine::wire::WireBatch;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::encode::{self, Encoder};
use super::plan::Plan;
use crate::client::{STAGE, Session};
use crate::codes;
use crate::fault::{ServerFault, WriteFault};

const BEGIN: &str = "SAVEPOINT hapax_batch";
const KEEP: &str = "RELEASE SAVEPOINT hapax_batch";
const TAKE_BACK: &str = "ROLLBACK TO SAVEPOINT hapax_batch; RELEASE SAVEPOINT hapax_batch";

/// Writes a batch in the open transaction, and returns the rows that PostgreSQL cannot hold or the table does not
/// take. Those have had no effect.
pub(crate) async fn write(
    session: &Session,
    plan: &Plan,
    records: &RecordBatch,
) -> Result<Vec<RefusedRow>, SinkError> {
    let replaced = replaced(plan, records).map_err(|source| {
        let column = plan.replaced_by.first().and_then(|index| plan.columns.get(*index));
        WriteFault::Conversion {
            column: column.map(|column| column.name.clone()).unwrap_or_default(),
            source,
        }
    })?;
    let nothing = HashSet::new();
    if !replaced.is_empty() {
        let encoder = Encoder::new(plan, records, &replaced)?;
        if let Some(refused) = (Load { session, plan, encoder }).all(true).await? {
            return Ok(refused);
        }
        // A record whose successor is refused is the last of its key: each has to be tried.
    }
    let encoder = Encoder::new(plan, records, &nothing)?;
    Ok(Load { session, plan, encoder }.all(false).await?.unwrap_or_default())
}

/// Writes the rows that these bytes are in the open transaction. `false` if the table does not take one of them, or two
/// of them are of one key: then nothing that is done in the transaction can be kept.
pub(crate) async fn pass(session: &Session, plan: &Plan, batch: &WireBatch) -> Result<bool, SinkError> {
    let failed = session.fault("writing records");
    if plan.stage.is_some() {
        session.batch_execute(&format!("TRUNCATE {STAGE}")).await.map_err(&failed)?;
    }
    match put(session, plan, batch.bytes.iter().cloned()).await {
        Ok(written) => Ok(written == batch.rows || plan.may_skip),
        Err(error) if error.as_db_error().is_some_and(is_about_rows) => Ok(false),
        Err(error) => Err(failed(error).into()),
    }
}

/// Sends rows, piece by piece. Returns how many the table has more, or has anew.
async fn put(session: &Session, plan: &Plan, rows: impl Iterator<Item = Bytes>) -> Result<u64, Error> {
    let copy = session.prepared(plan.copy.clone()).await?;
    let mut copy = pin!(session.copy_in::<_, Bytes>(&copy).await?);
    copy.feed(Bytes::from_static(encode::HEADER)).await?;
    for bytes in rows {
        copy.feed(bytes).await?;
    }
    copy.feed(Bytes::from_static(encode::TRAILER)).await?;
    let written = copy.as_mut().finish().await?;
    match &plan.stage {
        None => Ok(written),
        Some(stage) => {
            let insert = session.prepared(stage.insert.clone()).await?;
            session.execute(&insert, &[]).await
        }
    }
}

/// The rows after which another of the same key follows in the batch.
fn replaced(plan: &Plan, records: &RecordBatch) -> Result<HashSet<usize>, ArrowError> {
    let mut replaced = HashSet::new();
    if plan.replaced_by.is_empty() {
        return Ok(replaced);
    }
    let keys = Rows::new(records, &plan.replaced_by)?;
    let mut seen = HashSet::with_capacity(records.num_rows());
    for row in (0..records.num_rows()).rev() {
        let mut key = Vec::new();
        keys.encode(row, &mut key)?;
        if !seen.insert(key) {
            replaced.insert(row);
        }
    }
    Ok(replaced)
}

/// A batch on its way.
struct Load<'a> {
    session: &'a Session,
    plan: &'a Plan,
    encoder: Encoder<'a>,
}

/// Why rows are refused.
enum Reason {
    Said(String),
    KeyIsThere,
}

impl Load<'_> {
    /// Writes all rows, or, where some are refused, the others: what is refused together is halved until it is one
    /// row. `None`, and no effect, if a row is refused where only the `whole` is wanted.
    async fn all(mut self, whole: bool) -> Result<Option<Vec<RefusedRow>>, SinkError> {
        self.begin().await?;
        let Self { session, plan, encoder } = &mut self;
        let written = put(session, plan, std::iter::from_fn(|| encoder.chunk())).await;
        let rows = 0..self.encoder.len();
        let mut judged = self.judge(&rows, written)?;
        if whole && !self.encoder.refused().is_empty() {
            judged = judged.or_else(|| Some((Reason::Said(String::new()), None)));
        }
        self.end(judged.is_none()).await?;
        let mut refused = self.encoder.refused().to_vec();
        match judged {
            None => {}
            Some(_) if whole => return Ok(None),
            Some((reason, at)) => self.part(rows, reason, at, &mut refused).await?,
        }
        refused.sort_unstable_by_key(|refused| refused.row);
        Ok(Some(refused))
    }

    /// Writes those of refused rows that are not to blame.
    async fn part(
        &self,
        rows: Range<usize>,
        reason: Reason,
        at: Option<usize>,
        refused: &mut Vec<RefusedRow>,
    ) -> Result<(), SinkError> {
        let mut left = Vec::new();
        self.divide(rows, reason, at, &mut left, refused);
        while let Some(rows) = left.pop() {
            self.begin().await?;
            let written = put(self.session, self.plan, self.encoder.bytes(&rows)).await;
            let judged = self.judge(&rows, written)?;
            self.end(judged.is_none()).await?;
            if let Some((reason, at)) = judged {
                self.divide(rows, reason, at, &mut left, refused);
            }
        }
        Ok(())
    }

    /// Divides rows that are refused together; one alone is refused itself.
    fn divide(
        &self,
        rows: Range<usize>,
        reason: Reason,
        at: Option<usize>,
        left: &mut Vec<Range<usize>>,
        refused: &mut Vec<RefusedRow>,
    ) {
        if rows.len() <= 1 {
            let row = self.encoder.row(rows.start);
            refused.push(match reason {
                Reason::Said(reason) => RefusedRow { row, code: codes::ROW_REFUSED, reason },
                Reason::KeyIsThere => RefusedRow::key_is_there(row),
            });
            return;
        }
        let middle = rows.start + rows.len() / 2;
        let parts = match at.filter(|at| rows.contains(at)) {
            Some(at) => [at + 1..rows.end, at..at + 1, rows.start..at],
            None => [middle..rows.end, rows.start..middle, 0..0],
        };
        // The first rows are the last that are put on the pile: they go first.
        left.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }

    async fn begin(&self) -> Result<(), SinkError> {
        let begin = match &self.plan.stage {
            // Outside of the savepoint, where emptying is cheap from the second time on.
            Some(_) => format!("TRUNCATE {STAGE}; {BEGIN}"),
            None => BEGIN.to_owned(),
        };
        Ok(self.session.batch_execute(&begin).await.map_err(self.failed())?)
    }

    async fn end(&self, keep: bool) -> Result<(), SinkError> {
        let end = if keep { KEEP } else { TAKE_BACK };
        Ok(self.session.batch_execute(end).await.map_err(self.failed())?)
    }

    fn failed(&self) -> impl Fn(Error) -> ServerFault {
        self.session.fault("writing records")
    }

    /// What the server's answer means: `None` if all rows were written; else why none of them counts, and which of
    /// them that is about, if it says so.
    fn judge(
        &self,
        rows: &Range<usize>,
        written: Result<u64, Error>,
    ) -> Result<Option<(Reason, Option<usize>)>, SinkError> {
        let error = match written {
            Ok(_) if self.plan.may_skip => return Ok(None),
            Ok(written) if usize::try_from(written) == Ok(rows.len()) => return Ok(None),
            Ok(_) if self.plan.only_absent => return Ok(Some((Reason::KeyIsThere, None))),
            Ok(_) => {
                let reason = format!("table {} skips this row (a trigger or a rule)", self.plan.table);
                return Ok(Some((Reason::Said(reason), None)));
            }
            Err(error) => error,
        };
        let Some(said) = error.as_db_error().filter(|said| is_about_rows(said)) else {
            return Err(self.failed()(error).into());
        };
        let line = said.where_().and_then(line).and_then(|line| line.checked_sub(1));
        let reason = format!("table {} refused it: {}", self.plan.table, reason(said));
        Ok(Some((Reason::Said(reason), line.map(|line| rows.start.saturating_add(line)))))
    }
}

/// Whether what the server says is about what rows contain: data, constraints, limits, a trigger's own refusal, or
/// two rows of one key in one statement.
fn is_about_rows(said: &DbError) -> bool {
    let code = said.code();
    let class = code.code().get(..2).unwrap_or_default();
    said.parsed_severity() == Some(Severity::Error)
        && (matches!(class, "22" | "23" | "54")
            || *code == SqlState::RAISE_EXCEPTION
            || *code == SqlState::CARDINALITY_VIOLATION)
}

fn reason(said: &DbError) -> String {
    // The failing row itself is in the letter.
    let detail = said.detail().filter(|detail| !detail.starts_with("Failing row contains"));
    let parts: Vec<&str> = [Some(said.message()), detail].into_iter().flatten().collect();
    parts.join(". ").replace('\n', " ")
}

/// The line of `COPY t, line 3, column x: "..."`.
fn line(place: &str) -> Option<usize> {
    let (_, behind) = place.rsplit_once(", line ")?;
    let digits = behind.split(|sign: char| !sign.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_where_the_server_says_it_is() {
        assert_eq!(line("COPY t, line 12, column a: \"x, line 3\""), Some(3));
        assert_eq!(line("COPY t, line 12"), Some(12));
        assert_eq!(line("SQL statement"), None);
    }
}
