//! One end as a stream of records with their prints.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::identify::Identifier;
use hapax_engine::source::Source;
use hapax_protocol::identity::{Identity, Place};
use hapax_protocol::position::{Ordinal, Position, SplitId};

use super::prints::{GONE, Keys, Print};
use super::{Comparison, Moved, VerifyError};

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Source,
    Destination,
}

/// A part of one end that is read by itself.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub end: End,
    /// The number of the split, as the comparison counts them.
    pub number: u32,
    pub split: SplitId,
    /// Where it begins, if not at the start of the split.
    pub after: Option<Position>,
    /// Where it ends, if not at the end of the split.
    pub until: Option<Moved>,
    /// The only records that are wanted, if not all are.
    pub only: Option<Arc<HashSet<Ordinal>>>,
    /// Whether the destination may or may not have its records.
    pub optional: bool,
}

/// Reads parts of both ends.
pub(super) struct Reading<'a> {
    comparison: &'a Comparison,
    /// Records of the source that were set aside: they are left out.
    set_aside: &'a HashSet<Place>,
    keys: &'a Keys,
    source: Columns,
    destination: Columns,
}

/// What is read of one end.
struct Columns {
    all: Vec<usize>,
    identity: IdentityOf,
    /// The column that says which records remove.
    deletes: Option<usize>,
}

/// What tells records apart.
enum IdentityOf {
    Content,
    Columns(Vec<usize>),
    Uuid(Identifier),
}

/// Records that are compared.
pub(super) struct Prepared {
    pub records: RecordBatch,
    pub ordinals: Ordinals,
    pub ids: Vec<Print>,
    pub contents: Vec<Print>,
    /// Records that were set aside, or that cannot be read.
    pub left_out: u64,
    pub source_bytes: u64,
}

const LIMIT: ReadLimit = ReadLimit { records_max: 16 * 1024, bytes_max: 2 << 20 };

impl Columns {
    fn new(identity: &Identity, schema: &Schema, deletes: Option<&String>) -> Result<Self, VerifyError> {
        let identifier = Identifier::new(identity, schema)?;
        let named = identity.columns().iter().filter_map(|name| schema.index_of(name).ok());
        Ok(Self {
            all: (0..schema.fields().len()).collect(),
            identity: match identity {
                Identity::Key(_) => IdentityOf::Columns(named.collect()),
                Identity::Uuid(_) => IdentityOf::Uuid(identifier),
                Identity::Hash | Identity::Position => IdentityOf::Content,
            },
            deletes: deletes.map(|name| schema.index_of(name)).transpose()?,
        })
    }
}

impl<'a> Reading<'a> {
    pub fn new(
        comparison: &'a Comparison,
        set_aside: &'a HashSet<Place>,
        keys: &'a Keys,
    ) -> Result<Self, VerifyError> {
        let schema = match &comparison.transform {
            Some(transform) => transform.schema(),
            None => comparison.source.schema(),
        };
        let source = Columns::new(&comparison.identity, &schema, comparison.deletes.as_ref())?;
        let destination = Columns::new(&comparison.identity, &comparison.destination.schema(), None)?;
        Ok(Self { comparison, set_aside, keys, source, destination })
    }

    /// Calls `then` with the records of a unit, batch by batch, until it says `false`.
    pub async fn each(
        &self,
        unit: &Unit,
        then: &mut (dyn FnMut(Prepared) -> Result<bool, VerifyError> + Send + '_),
    ) -> Result<(), VerifyError> {
        let source: &Arc<dyn Source> = match unit.end {
            End::Source => &self.comparison.source,
            End::Destination => &self.comparison.destination,
        };
        let last = unit.only.as_ref().and_then(|only| only.iter().max().copied());
        let opened = source.open(&unit.split, unit.after.as_ref()).await;
        let mut reader = opened.map_err(VerifyError::Read)?;
        while let Some(batch) = reader.read(LIMIT).await.map_err(VerifyError::Read)? {
            let until = unit.until.as_ref();
            if until.is_some_and(|end| batch.after.as_ref().is_some_and(|after| *after >= end.through))
                || last.is_some_and(|last| batch.records.num_rows() > 0 && batch.ordinals.of(0) > last)
            {
                break;
            }
            // The position may lie inside a batch that is cut otherwise than the run cut it.
            let straddles = until.filter(|end| batch.through > end.through);
            let records_max = straddles.map_or(Ordinal::MAX, |end| end.records);
            if !then(self.prepare(unit, batch, records_max)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Transforms the records of a batch that are wanted, and gives them their prints.
    fn prepare(&self, unit: &Unit, batch: Batch, records_max: Ordinal) -> Result<Prepared, VerifyError> {
        let wanted = |ordinal: Ordinal| {
            ordinal < records_max && unit.only.as_ref().is_none_or(|only| only.contains(&ordinal))
        };
        let rejected = batch.rejected.iter().filter(|rejected| wanted(rejected.ordinal)).count();
        let mut left_out = number(rejected);
        let Batch { split, mut records, mut ordinals, source_bytes, .. } = batch;
        if records_max != Ordinal::MAX || unit.only.is_some() {
            let keep: Vec<bool> = (0..records.num_rows()).map(|row| wanted(ordinals.of(row))).collect();
            (records, ordinals) = filter(&records, &ordinals, &keep)?;
        }
        if unit.end == End::Source {
            if let Some(transform) = &self.comparison.transform {
                let out = transform.apply(&records);
                left_out = left_out.saturating_add(number(out.refused.len()));
                if let Some(rows) = out.rows {
                    ordinals = ordinals.pick(rows);
                }
                records = out.records;
            }
            if !self.set_aside.is_empty() {
                let place = |row| Place { split: split.clone(), ordinal: ordinals.of(row) };
                let keep = (0..records.num_rows()).map(|row| !self.set_aside.contains(&place(row)));
                let keep: Vec<bool> = keep.collect();
                left_out = left_out.saturating_add(dropped(&keep));
                (records, ordinals) = filter(&records, &ordinals, &keep)?;
            }
        }
        let columns = match unit.end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        };
        let gone = match columns.deletes {
            Some(at) => unmarked(&mut records, at)?,
            None => Vec::new(),
        };
        let mut contents = self.keys.rows(&records, &columns.all)?;
        contents.iter_mut().zip(gone).filter(|(_, gone)| *gone).for_each(|(content, _)| *content = GONE);
        let (mut ids, unidentified) = self.ids(columns, &records, &contents, &split, &ordinals)?;
        if !unidentified.is_empty() {
            let mut keep = vec![true; records.num_rows()];
            for row in unidentified {
                if let Some(keep) = keep.get_mut(row) {
                    *keep = false;
                }
            }
            left_out = left_out.saturating_add(dropped(&keep));
            (records, ordinals) = filter(&records, &ordinals, &keep)?;
            let mut kept = keep.iter();
            ids.retain(|_| kept.next().is_none_or(|keep| *keep));
            let mut kept = keep.iter();
            contents.retain(|_| kept.next().is_none_or(|keep| *keep));
        }
        Ok(Prepared { records, ordinals, ids, contents, left_out, source_bytes })
    }

    /// The prints of identities, and the rows that have none.
    fn ids(
        &self,
        columns: &Columns,
        records: &RecordBatch,
        contents: &[Print],
        split: &SplitId,
        ordinals: &Ordinals,
    ) -> Result<(Vec<Print>, Vec<usize>), VerifyError> {
        Ok(match &columns.identity {
            IdentityOf::Content => (contents.to_vec(), Vec::new()),
            IdentityOf::Columns(key) => {
                let ids = self.keys.rows(records, key)?;
                let parts = key.iter().filter_map(|&column| records.columns().get(column));
                let holed: Vec<_> = parts.filter(|part| part.null_count() > 0).collect();
                let has_null = |row: &usize| holed.iter().any(|part| part.is_null(*row));
                let rows = if holed.is_empty() { 0..0 } else { 0..records.num_rows() };
                (ids, rows.filter(has_null).collect())
            }
            IdentityOf::Uuid(identifier) => {
                let identified = identifier.identify(records, split, ordinals)?;
                let ids = identified.ids.iter().map(|id| self.keys.of_id(id.0)).collect();
                (ids, identified.refused.iter().map(|refused| refused.row).collect())
            }
        })
    }
}

pub(super) fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn dropped(keep: &[bool]) -> u64 {
    number(keep.iter().filter(|keep| !**keep).count())
}

/// Which records remove, by the column `at`, which then says of none that it does: as the destination has it.
fn unmarked(records: &mut RecordBatch, at: usize) -> Result<Vec<bool>, ArrowError> {
    let mut columns = records.columns().to_vec();
    let Some(column) = columns.get_mut(at) else { return Ok(Vec::new()) };
    let marks = arrow::compute::cast(column, &DataType::Boolean)?;
    let gone: Vec<bool> = marks.as_boolean().iter().map(|mark| mark == Some(true)).collect();
    *column = Arc::new(BooleanArray::from(vec![false; gone.len()]));
    *records = RecordBatch::try_new(records.schema(), columns)?;
    Ok(gone)
}

fn filter(
    records: &RecordBatch,
    ordinals: &Ordinals,
    keep: &[bool],
) -> Result<(RecordBatch, Ordinals), ArrowError> {
    if keep.iter().all(|keep| *keep) {
        return Ok((records.clone(), ordinals.clone()));
    }
    let mask = BooleanArray::from(keep.to_vec());
    let kept = keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row));
    Ok((arrow::compute::filter_record_batch(records, &mask)?, ordinals.pick(kept)))
}
