//! Reading one split: one COPY, cut into batches.

use std::sync::Arc;

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};

use super::copy::{Copied, Row, Trouble};
use super::plan::{Plan, Walk};
use super::position::{At, Mark};
use super::rows::{Finished, Rows};
use super::text;
use crate::client::Session;
use crate::fault::ReadFault;

/// The pages a reader goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages {
    pub file: u32,
    pub page_bytes: u64,
}

/// A place in one split of a table or a query.
pub(super) struct Reader {
    plan: Arc<Plan>,
    split: SplitId,
    /// `None` where it was given back.
    session: Option<Session>,
    copied: Copied,
    pages: Option<Pages>,
    began_us: i64,
    after: Option<Position>,
    /// How many records lie before those that are collected.
    ordinal: Ordinal,
    rows: Rows,
    /// The last row that was collected.
    last: Option<Row>,
    /// A row that was looked at and belongs into the next batch.
    ahead: Option<Row>,
    /// How many pages lie before the batch, for progress.
    page: u32,
    ended: bool,
}

/// Where a reader begins.
pub(super) struct Start {
    pub split: SplitId,
    pub after: Option<Position>,
    pub ordinal: Ordinal,
    /// The page it begins on.
    pub page: u32,
    pub pages: Option<Pages>,
    pub began_us: i64,
}

impl Reader {
    /// Begins to read what `select` selects, in the transaction that `session` is in, or in one of its own.
    pub(super) async fn begin(
        plan: Arc<Plan>,
        session: Session,
        select: &str,
        start: Start,
    ) -> Result<Self, SourceError> {
        let sql = format!("COPY ({select}) TO STDOUT (FORMAT BINARY)");
        let stream = session.copy_out(&sql).await.map_err(session.fault("reading"))?;
        let rows = Rows::new(&plan);
        let Start { split, after, ordinal, page, pages, began_us } = start;
        let copied = Copied::new(stream);
        Ok(Self {
            plan,
            split,
            session: Some(session),
            copied,
            pages,
            began_us,
            after,
            ordinal,
            rows,
            last: None,
            ahead: None,
            page,
            ended: false,
        })
    }

    /// Collects rows until the batch is full or there are no more. What was collected stays if it is dropped.
    async fn collect(&mut self, limit: ReadLimit) -> Result<(), SourceError> {
        loop {
            let full = self.rows.count() >= limit.records_max.max(1) || self.rows.bytes() >= limit.bytes_max;
            // Behind a key that only the file knows nobody may go on before the next one was seen to be another.
            if full && (self.ahead.is_some() || !self.plan.declared) {
                return Ok(());
            }
            let row = match self.ahead.take() {
                Some(row) => row,
                None => {
                    let Some(row) = self.next().await? else { return Ok(()) };
                    if self.plan.declared {
                        self.told_apart(&row)?;
                    }
                    row
                }
            };
            if full {
                self.ahead = Some(row);
                continue;
            }
            let count = u64::try_from(self.rows.count()).unwrap_or(u64::MAX);
            self.rows.push(&row, self.ordinal.saturating_add(count));
            self.last = Some(row);
        }
    }

    /// The next row, as it was sent; `None` behind the last. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        match self.copied.next().await {
            Ok(Some(row)) => Ok(Some(row)),
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(Trouble::Server(error)) => match &self.session {
                Some(session) => Err(session.fault("reading")(error).into()),
                None => Err(self.malformed().into()),
            },
            Err(Trouble::Malformed) => Err(self.malformed().into()),
        }
    }

    /// Its session, if all was read.
    pub(super) fn give_back(mut self) -> Option<Session> {
        self.session.take_if(|_| self.ended)
    }

    /// Whether each row ends with its place on a page.
    pub(super) fn has_places(&self) -> bool {
        self.pages.is_some()
    }

    /// Goes on behind this row, the last of so many. Returns the position it stood at and the one it stands at now.
    pub(super) fn pass(&mut self, last: &Row, rows: u64) -> Result<(Option<Position>, Position), ReadFault> {
        let at = self.at(last)?;
        self.ordinal = self.ordinal.saturating_add(rows);
        let through = Mark { ordinal: self.ordinal, at }.encode();
        Ok((self.after.replace(through.clone()), through))
    }

    pub(super) fn split(&self) -> &SplitId {
        &self.split
    }

    fn malformed(&self) -> ReadFault {
        ReadFault::Malformed { of: self.plan.name.clone() }
    }

    /// Holds a key that only the file knows against the row before.
    fn told_apart(&self, row: &Row) -> Result<(), ReadFault> {
        let mut same = self.last.is_some();
        for (at, index) in self.plan.keys.iter().enumerate() {
            let Some(here) = row.fields().nth(*index).flatten() else {
                let column = self.plan.key_columns().nth(at).map(|column| column.name.clone());
                let column = column.unwrap_or_default();
                return Err(ReadFault::NullCursors { of: self.plan.name.clone(), column });
            };
            same &= self.last.as_ref().and_then(|last| last.fields().nth(*index).flatten()) == Some(here);
        }
        if same {
            let words: Vec<_> = self
                .plan
                .key_columns()
                .zip(self.key(row))
                .map(|(column, value)| format!("{} {value}", column.name))
                .collect();
            return Err(ReadFault::KeyTied { of: self.plan.name.clone(), key: words.join(", ") });
        }
        Ok(())
    }

    fn key(&self, row: &Row) -> Vec<String> {
        let fields: Vec<_> = row.fields().collect();
        let value = |index: &usize| {
            let base = self.plan.columns.get(*index).map(|column| column.of.base)?;
            Some(text::text(base, fields.get(*index).copied().flatten()?))
        };
        self.plan.keys.iter().map(|index| value(index).unwrap_or_default()).collect()
    }

    /// Where a row stands.
    fn at(&self, row: &Row) -> Result<At, ReadFault> {
        match (&self.plan.walk, self.pages) {
            (Walk::Pages(_), Some(pages)) => {
                let (page, row) = tid(row).ok_or_else(|| self.malformed())?;
                Ok(At::Page { file: pages.file, page, row })
            }
            (Walk::Key | Walk::Cursor(_), _) => Ok(At::Key { began_us: self.began_us, key: self.key(row) }),
            _ => Ok(At::Number),
        }
    }

    /// Makes a batch of what was collected; `None` if that is nothing.
    fn cut(&mut self) -> Result<Option<Batch>, ReadFault> {
        let Some(last) = self.last.as_ref().filter(|_| self.rows.count() > 0) else { return Ok(None) };
        let at = self.at(last)?;
        let first = self.ordinal;
        let count = u64::try_from(self.rows.count()).unwrap_or(u64::MAX);
        let of = &self.plan.name;
        let done = self.rows.finish().map_err(|source| ReadFault::Batch { of: of.clone(), source })?;
        self.ordinal = first.saturating_add(count);
        let mut source_bytes = u64::try_from(done.bytes).unwrap_or(u64::MAX);
        if let (At::Page { page, .. }, Some(pages)) = (&at, self.pages) {
            source_bytes = u64::from(page.saturating_sub(self.page)).saturating_mul(pages.page_bytes);
            self.page = *page;
        }
        let through = Mark { ordinal: self.ordinal, at }.encode();
        let after = self.after.replace(through.clone());
        Ok(Some(batch(self.split.clone(), after, through, first, done, source_bytes)))
    }
}

/// Where a row stands in its table, if that is its last value: the page, and the number on the page.
pub(super) fn tid(row: &Row) -> Option<(u32, u16)> {
    let (page, number) = row.fields().last().flatten()?.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*page), u16::from_be_bytes(number.try_into().ok()?)))
}

/// A batch of what was collected, whose first record is `first`.
pub(super) fn batch(
    split: SplitId,
    after: Option<Position>,
    through: Position,
    first: Ordinal,
    done: Finished,
    source_bytes: u64,
) -> Batch {
    let all = Ordinals::From(first);
    let ordinals = match done.kept {
        None => all,
        Some(kept) => all.pick(kept),
    };
    let (records, rejected) = (done.records, done.rejected);
    Batch { split, after, through, records, ordinals, rejected, source_bytes }
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            self.collect(limit).await?;
            Ok(self.cut()?)
        })
    }

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        // A table forgets nothing.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(session) = self.session.as_ref().filter(|_| !self.ended) {
            session.hang_up();
        }
    }
}
