//! One end as a stream of (identity, content).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::canonical::Rows;
use hapax_engine::identify::{Identifier, digest};
use hapax_engine::source::Source;
use hapax_protocol::identity::{Identity, Place, RecordId};
use hapax_protocol::position::SplitId;

use super::ranges::Ranges;
use super::spread::{Line, Spread};
use super::{Comparison, VerifyError};

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// What one pass over an end gave.
#[derive(Default)]
pub(super) struct Digested {
    pub records: u64,
    pub set_aside: u64,
    pub splits_not_moved: u64,
    pub ranges: Ranges,
    pub spread: Spread,
}

/// A pass over one end.
pub(super) struct Reading<'a> {
    comparison: &'a Comparison,
    end: End,
    identifier: Identifier,
    /// Records without an identity of their own are told apart by their content.
    by_content: bool,
}

const LIMIT: ReadLimit = ReadLimit { records_max: 16 * 1024, bytes_max: 2 << 20 };

/// Takes records, their identities, and how many beside them were set aside.
type Then<'a> = dyn FnMut(RecordBatch, Vec<RecordId>, u64) -> Result<(), VerifyError> + Send + 'a;

/// One record as text, column by column.
pub(super) type Printed = Vec<(String, String)>;

impl<'a> Reading<'a> {
    pub fn new(comparison: &'a Comparison, end: End) -> Result<Self, VerifyError> {
        let schema = match (&comparison.transform, end) {
            (Some(transform), End::Source) => transform.schema(),
            (None, End::Source) => comparison.source.schema(),
            (_, End::Destination) => comparison.destination.schema(),
        };
        let by_content = comparison.identity == Identity::Position;
        let identity = if by_content { &Identity::Hash } else { &comparison.identity };
        Ok(Self { comparison, end, identifier: Identifier::new(identity, &schema)?, by_content })
    }

    /// Digests the end by ranges; with `wanted`, spreads the records of those ranges over files instead.
    pub async fn digest(&self, wanted: Option<Arc<HashSet<u16>>>) -> Result<Digested, VerifyError> {
        let mut done = Digested::default();
        let mut sequence = 0_u64;
        let skipped = self
            .each(&mut |records, ids, set_aside| {
                done.records = done.records.saturating_add(u64::try_from(ids.len()).unwrap_or(u64::MAX));
                done.set_aside = done.set_aside.saturating_add(set_aside);
                let columns: Vec<usize> = (0..records.num_columns()).collect();
                let rows = if self.by_content { None } else { Some(Rows::new(&records, &columns)?) };
                let mut bytes = Vec::with_capacity(256);
                for (row, id) in ids.iter().enumerate() {
                    sequence = sequence.saturating_add(1);
                    if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&Ranges::of(id))) {
                        continue;
                    }
                    let content = match &rows {
                        None => *id,
                        Some(rows) => {
                            bytes.clear();
                            rows.encode(row, &mut bytes)?;
                            digest(&bytes)
                        }
                    };
                    match &wanted {
                        None => done.ranges.add(id, &content),
                        Some(_) => done.spread.add(Line { id: *id, content, sequence })?,
                    }
                }
                Ok(())
            })
            .await?;
        done.splits_not_moved = skipped;
        Ok(done)
    }

    /// Prints every record that has one of these identities.
    pub async fn print(
        &self,
        wanted: &HashSet<RecordId>,
    ) -> Result<HashMap<RecordId, Vec<Printed>>, VerifyError> {
        let mut printed: HashMap<RecordId, Vec<Printed>> = HashMap::new();
        self.each(&mut |records, ids, _| {
            for (row, id) in ids.iter().enumerate().filter(|(_, id)| wanted.contains(*id)) {
                printed.entry(*id).or_default().push(print(&records, row)?);
            }
            Ok(())
        })
        .await?;
        Ok(printed)
    }

    /// The names of the columns that identify a record.
    pub fn identifying(&self) -> &[String] {
        self.comparison.identity.columns()
    }

    /// Calls `then` with each batch of records, their identities, and how many were set aside. Returns how
    /// many splits were not moved yet.
    async fn each(&self, then: &mut Then<'_>) -> Result<u64, VerifyError> {
        let source: &Arc<dyn Source> = match self.end {
            End::Source => &self.comparison.source,
            End::Destination => &self.comparison.destination,
        };
        let moved: HashMap<&SplitId, _> =
            self.comparison.moved.iter().map(|(split, position)| (split, position)).collect();
        let mut not_moved = 0_u64;
        for split in source.splits().await.map_err(VerifyError::Read)? {
            let end = match (self.end, moved.get(&split.id)) {
                (End::Destination, _) => None,
                (End::Source, Some(end)) => Some(*end),
                (End::Source, None) => {
                    not_moved = not_moved.saturating_add(1);
                    continue;
                }
            };
            let mut reader = source.open(&split.id, None).await.map_err(VerifyError::Read)?;
            while let Some(batch) = reader.read(LIMIT).await.map_err(VerifyError::Read)? {
                if end.is_some_and(|end| batch.after.as_ref().is_some_and(|after| *after >= end.through)) {
                    break;
                }
                // The position may lie inside a batch that is cut otherwise than the run cut it.
                let straddles = end.filter(|end| batch.through > end.through);
                let records_max = straddles.map_or(u64::MAX, |end| end.records);
                let rejected =
                    batch.rejected.iter().filter(|rejected| rejected.ordinal < records_max).count();
                let rejected = u64::try_from(rejected).unwrap_or(u64::MAX);
                let (records, ids, set_aside) = self.prepare(batch, records_max)?;
                then(records, ids, set_aside.saturating_add(rejected))?;
            }
        }
        Ok(not_moved)
    }

    /// Transforms and identifies the first records of a batch, and leaves out what was set aside.
    fn prepare(
        &self,
        batch: Batch,
        records_max: u64,
    ) -> Result<(RecordBatch, Vec<RecordId>, u64), VerifyError> {
        let Batch { split, mut records, mut ordinals, .. } = batch;
        let mut set_aside = 0_u64;
        if records_max != u64::MAX {
            let keep: Vec<bool> = (0..records.num_rows()).map(|row| ordinals.of(row) < records_max).collect();
            (records, ordinals) = filter(&records, &ordinals, &keep)?;
        }
        if self.end == End::Source {
            if let Some(transform) = &self.comparison.transform {
                let out = transform.apply(&records);
                set_aside = u64::try_from(out.refused.len()).unwrap_or(u64::MAX);
                if let Some(rows) = out.rows {
                    ordinals = ordinals.pick(rows);
                }
                records = out.records;
            }
            let letters = &self.comparison.set_aside;
            if !letters.is_empty() {
                let place = |row| Place { split: split.clone(), ordinal: ordinals.of(row) };
                let keep: Vec<bool> =
                    (0..records.num_rows()).map(|row| !letters.contains(&place(row))).collect();
                set_aside = set_aside.saturating_add(count(&keep));
                (records, ordinals) = filter(&records, &ordinals, &keep)?;
            }
        }
        let identified = self.identifier.identify(&records, &split, &ordinals)?;
        let mut ids = identified.ids;
        if !identified.refused.is_empty() {
            let mut keep = vec![true; records.num_rows()];
            for refused in &identified.refused {
                if let Some(keep) = keep.get_mut(refused.row) {
                    *keep = false;
                }
            }
            set_aside = set_aside.saturating_add(count(&keep));
            ids = ids.iter().zip(&keep).filter_map(|(id, keep)| keep.then_some(*id)).collect();
            (records, _) = filter(&records, &ordinals, &keep)?;
        }
        Ok((records, ids, set_aside))
    }
}

fn count(keep: &[bool]) -> u64 {
    u64::try_from(keep.iter().filter(|keep| !**keep).count()).unwrap_or(u64::MAX)
}

fn filter(
    records: &RecordBatch,
    ordinals: &Ordinals,
    keep: &[bool],
) -> Result<(RecordBatch, Ordinals), ArrowError> {
    let mask = arrow::array::BooleanArray::from(keep.to_vec());
    let kept = keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row));
    Ok((arrow::compute::filter_record_batch(records, &mask)?, ordinals.pick(kept)))
}

fn print(records: &RecordBatch, row: usize) -> Result<Printed, ArrowError> {
    let options = FormatOptions::default().with_null("null");
    let schema = records.schema();
    schema
        .fields()
        .iter()
        .zip(records.columns())
        .map(|(field, column)| {
            let value = ArrayFormatter::try_new(column.as_ref(), &options)?.value(row).try_to_string()?;
            Ok((field.name().clone(), value))
        })
        .collect()
}
