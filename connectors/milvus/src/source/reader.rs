//! Reads on, a page at a time.

use std::sync::Arc;

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};

use super::layout::{Layout, Page};
use super::mark::Mark;
use crate::client::Line;
use crate::codes;
use crate::fault::{ReadFault, ServerFault};
use crate::proto::{self, Scalar};

/// How many entities the server gives in one answer.
const PAGE_ROWS_MAX: usize = 16_384;

/// About how many bytes one answer has. A server gives 64 MiB at most, unless told otherwise.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// How many times as many entities the next page may have.
const GROWTH: usize = 4;

/// A place in a collection that moves forward.
pub(super) struct Reader {
    line: Line,
    layout: Arc<Layout>,
    split: SplitId,
    after: Option<Position>,
    /// The server's number of the collection.
    id: i64,
    mark: Option<Mark>,
    /// What was read ahead, and how many rows of it were given.
    page: Option<(Page, usize)>,
    /// How many entities the next page has: as many as fit if all are as large as they may be, and then as many as fit
    /// by what came.
    page_rows: usize,
    is_over: bool,
    counts: bool,
}

impl Reader {
    pub fn new(
        line: Line,
        layout: Arc<Layout>,
        split: SplitId,
        after: Option<Position>,
        (id, mark): (i64, Option<Mark>),
        counts: bool,
    ) -> Self {
        let page_rows = rows_of(layout.collection.entity_bytes_max());
        Self { line, layout, split, after, id, mark, page: None, page_rows, is_over: false, counts }
    }

    fn ordinal(&self) -> Ordinal {
        self.mark.as_ref().map_or(0, |mark| mark.ordinal)
    }

    /// Makes sure that something of a page is left, or that there is nothing more.
    async fn fill(&mut self) -> Result<(), SourceError> {
        if self.is_over || self.page.as_ref().is_some_and(|(page, given)| *given < page.keys.len()) {
            return Ok(());
        }
        let layout = Arc::clone(&self.layout);
        let collection = &layout.collection;
        let expr = collection.behind(self.mark.as_ref().map(|mark| &mark.key));
        let page = match expr {
            None => None,
            Some(expr) => Some(self.asked(expr).await?).filter(|page| !page.keys.is_empty()),
        };
        let Some(page) = page else {
            if self.counts {
                self.check_count().await?;
            }
            (self.is_over, self.page) = (true, None);
            return Ok(());
        };
        let behind = self.mark.as_ref().map(|mark| &mark.key);
        let forward = page.keys.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
        if !forward || page.keys.first().zip(behind).is_some_and(|(first, behind)| first <= behind) {
            let (collection, reason) = (collection.name.clone(), "its keys do not grow".to_owned());
            return Err(ReadFault::Misunderstood { collection, reason }.into());
        }
        self.page = Some((page, 0));
        Ok(())
    }

    /// The least of the entities for which a condition holds: fewer of them, where the server does not give as many.
    async fn asked(&mut self, expr: String) -> Result<Page, SourceError> {
        let name = &self.layout.collection.name;
        loop {
            let fields = self.layout.output_fields();
            match self.line.query(name, expr.clone(), fields, Some(self.page_rows)).await {
                Err(ServerFault::TooLarge { .. }) if self.page_rows > 1 => self.page_rows /= 2,
                Err(fault) => return Err(fault.into()),
                Ok(answer) => {
                    let page = self.layout.page(answer)?;
                    let bytes = page.records.get_array_memory_size();
                    if let Some(each) = bytes.checked_div(page.keys.len()) {
                        self.page_rows = rows_of(each.max(1)).min(self.page_rows.saturating_mul(GROWTH));
                    }
                    return Ok(page);
                }
            }
        }
    }

    /// A key that is there twice is read once, and is one too many.
    async fn check_count(&mut self) -> Result<(), SourceError> {
        let (name, keys) = (self.layout.collection.name.clone(), self.ordinal());
        let count = count(&mut self.line, &name, String::new()).await?;
        match count {
            Some(entities) if u64::try_from(entities) != Ok(keys) => {
                Err(ReadFault::KeysTwice { collection: name, entities, keys }.into())
            }
            _ => Ok(()),
        }
    }

    async fn advance(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        self.fill().await?;
        let first = self.ordinal();
        let Some((page, given)) = &mut self.page else { return Ok(None) };
        let bytes = page.records.get_array_memory_size().checked_div(page.keys.len()).unwrap_or(0).max(1);
        let by_bytes = limit.bytes_max.checked_div(bytes).unwrap_or(1).max(1);
        let end = given.saturating_add(limit.records_max.max(1).min(by_bytes)).min(page.keys.len());
        let Some(key) = end.checked_sub(1).and_then(|last| page.keys.get(last)) else { return Ok(None) };
        let number =
            |row: usize| first.saturating_add(u64::try_from(row.saturating_sub(*given)).unwrap_or(0));
        let (from, to) =
            (page.good.partition_point(|row| row < given), page.good.partition_point(|row| *row < end));
        let rows = page.good.get(from..to).unwrap_or_default();
        let rejected = page.rejected.iter().filter(|(row, ..)| (*given..end).contains(row));
        let rejected = rejected.map(|(row, reason, raw)| Rejected {
            ordinal: number(*row),
            code: codes::UNDECODABLE,
            reason: reason.clone(),
            id: None,
            raw: Rejected::excerpt(raw.as_bytes()),
        });
        let mark = Mark { ordinal: number(end), collection: self.id, key: key.clone() };
        let through = mark.encode();
        let batch = Batch {
            split: self.split.clone(),
            after: self.after.replace(through.clone()),
            through,
            records: page.records.slice(from, to.saturating_sub(from)),
            ordinals: Ordinals::Each(rows.iter().map(|row| number(*row)).collect()),
            rejected: rejected.collect(),
            source_bytes: 0,
        };
        *given = end;
        self.mark = Some(mark);
        Ok(Some(batch))
    }
}

/// How many entities of this size a page has.
fn rows_of(entity_bytes: usize) -> usize {
    PAGE_BYTES.checked_div(entity_bytes).unwrap_or(1).clamp(1, PAGE_ROWS_MAX)
}

/// How many entities there are for which a condition holds: those that were acknowledged, each version of a key.
pub(super) async fn count(
    line: &mut Line,
    collection: &str,
    expr: String,
) -> Result<Option<i64>, ServerFault> {
    let fields = line.query(collection, expr, vec!["count(*)".to_owned()], None).await?;
    Ok(fields.into_iter().find_map(|field| match field.field {
        Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Longs(longs)), .. })) => {
            longs.data.first().copied()
        }
        _ => None,
    }))
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.advance(limit))
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(std::future::ready(Ok(())))
    }
}
