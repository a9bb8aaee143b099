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

use super::encode::{self, Encoded};
use super::plan::Plan;
use crate::client::{STAGE, Session};
use crate::codes;
use crate::fault::WriteFault;

/// How many bytes are sent at once, at most.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

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
    if replaced.is_empty() {
        let (encoded, refused) = encode::encode(plan, records, &|_| false)?;
        return Ok(Load { session, plan, encoded }.all(refused, false).await?.unwrap_or_default());
    }
    let (encoded, refused) = encode::encode(plan, records, &|row| replaced.contains(&row))?;
    if refused.is_empty()
        && let Some(refused) = (Load { session, plan, encoded }).all(refused, true).await?
    {
        return Ok(refused);
    }
    // A record whose successor is refused is the last of its key: each has to be tried.
    let (encoded, refused) = encode::encode(plan, records, &|_| false)?;
    Ok(Load { session, plan, encoded }.all(refused, false).await?.unwrap_or_default())
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

/// Sends rows. Returns how many the table has more, or has anew.
async fn put(session: &Session, plan: &Plan, rows: impl Iterator<Item = Bytes>) -> Result<u64, Error> {
    let copy = session.prepared(plan.copy.clone()).await?;
    let mut copy = pin!(session.copy_in::<_, Bytes>(&copy).await?);
    copy.feed(Bytes::from_static(encode::HEADER)).await?;
    for mut bytes in rows {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            copy.feed(chunk).await?;
        }
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
    encoded: Encoded,
}

/// What became of some rows.
enum Step {
    Done,
    /// None of them had an effect: why, and which of them it is about, if that is known.
    Refused {
        reason: Reason,
        at: Option<usize>,
    },
}

enum Reason {
    Said(String),
    KeyIsThere,
}

impl Load<'_> {
    /// Writes all rows, or, where some are refused, the others: what is refused together is halved until it is one
    /// row. `None`, and no effect, if a row is refused where that is not looked for.
    async fn all(
        &self,
        mut refused: Vec<RefusedRow>,
        whole: bool,
    ) -> Result<Option<Vec<RefusedRow>>, SinkError> {
        let mut left: Vec<Range<usize>> = Vec::new();
        left.push(0..self.encoded.len());
        while let Some(rows) = left.pop() {
            if rows.is_empty() {
                continue;
            }
            let (reason, at) = match self.step(&rows).await? {
                Step::Done => continue,
                Step::Refused { .. } if whole => return Ok(None),
                Step::Refused { reason, at } => (reason, at),
            };
            if rows.len() == 1 {
                let row = self.encoded.row(rows.start);
                refused.push(match reason {
                    Reason::Said(reason) => RefusedRow { row, code: codes::ROW_REFUSED, reason },
                    Reason::KeyIsThere => RefusedRow::key_is_there(row),
                });
                continue;
            }
            // The first rows are the last that are put on the pile: they go first.
            match at.filter(|at| rows.contains(at)) {
                Some(at) => left.extend([at + 1..rows.end, at..at + 1, rows.start..at]),
                None => {
                    let middle = rows.start + rows.len() / 2;
                    left.extend([middle..rows.end, rows.start..middle]);
                }
            }
        }
        refused.sort_unstable_by_key(|refused| refused.row);
        Ok(Some(refused))
    }

    async fn step(&self, rows: &Range<usize>) -> Result<Step, SinkError> {
        let failed = self.session.fault("writing records");
        let begin = match &self.plan.stage {
            // Outside of the savepoint, where emptying is cheap from the second time on.
            Some(_) => format!("TRUNCATE {STAGE}; {BEGIN}"),
            None => BEGIN.to_owned(),
        };
        self.session.batch_execute(&begin).await.map_err(&failed)?;
        let sent = std::iter::once(self.encoded.bytes(rows));
        let wanted = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let refused = match put(self.session, self.plan, sent).await {
            Ok(written) if written == wanted || self.plan.may_skip => None,
            Ok(_) if self.plan.only_absent => Some((Reason::KeyIsThere, None)),
            Ok(_) => {
                let reason = format!("table {} skips this row (a trigger or a rule)", self.plan.table);
                Some((Reason::Said(reason), None))
            }
            Err(error) => {
                let Some(said) = error.as_db_error().filter(|said| is_about_rows(said)) else {
                    return Err(failed(error).into());
                };
                let line = said.where_().and_then(line).and_then(|line| line.checked_sub(1));
                let reason = format!("table {} refused it: {}", self.plan.table, reason(said));
                Some((Reason::Said(reason), line.map(|line| rows.start.saturating_add(line))))
            }
        };
        let end = if refused.is_none() { KEEP } else { TAKE_BACK };
        self.session.batch_execute(end).await.map_err(&failed)?;
        Ok(match refused {
            None => Step::Done,
            Some((reason, at)) => Step::Refused { reason, at },
        })
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
