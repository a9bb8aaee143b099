use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use hapax_protocol::identity::RecordId;
use hapax_protocol::position::{Position, SplitId, Totals};

use super::Job;
use crate::batch::{Batch, Ordinals, Rejected};
use crate::transform::RefusedRow;

/// A batch on its way to the writer: transformed and identified.
pub(super) struct Prepared {
    pub split: SplitId,
    pub through: Position,
    pub records: RecordBatch,
    pub ordinals: Ordinals,
    /// One per record, where twins are to be found.
    pub ids: Option<Vec<RecordId>>,
    /// What the source read, where that differs from `records`, and the row each record came from.
    origin: Option<(RecordBatch, Vec<usize>)>,
    pub refused: Vec<Rejected>,
    pub counts: Totals,
}

impl Prepared {
    /// Transforms and identifies a batch. Records that fail become `refused`.
    pub fn new(job: &Job, batch: Batch) -> Result<Self, ArrowError> {
        let read = batch.records.num_rows();
        let mut prepared = Self {
            split: batch.split,
            through: batch.through,
            records: batch.records,
            ordinals: batch.ordinals,
            ids: None,
            origin: None,
            refused: batch.rejected,
            counts: Totals::default(),
        };
        prepared.counts.read = count(read).saturating_add(count(prepared.refused.len()));
        if let Some(transform) = &job.run.transform {
            let out = transform.apply(&prepared.records);
            prepared.refuse_input(&out.refused)?;
            let filtered = read.saturating_sub(out.records.num_rows()).saturating_sub(out.refused.len());
            prepared.counts.filtered = count(filtered);
            let rows = out.rows.unwrap_or_else(|| (0..read).collect());
            prepared.ordinals = prepared.ordinals.pick(rows.iter().copied());
            let input = std::mem::replace(&mut prepared.records, out.records);
            prepared.origin = Some((input, rows));
        }
        if job.run.duplicates.need_ledger() {
            let (records, ordinals) = (&prepared.records, &prepared.ordinals);
            let identified = job.identifier.identify(records, &prepared.split, ordinals)?;
            // What has no identity is refused without one.
            prepared.refuse(&identified.refused)?;
            prepared.ids = Some(identified.ids);
            prepared.leave_out(&identified.refused)?;
        }
        Ok(prepared)
    }

    /// The memory it holds, in bytes, roughly.
    pub fn memory(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, |ids| ids.len().saturating_mul(16));
        let refused: usize = self.refused.iter().map(|refused| refused.raw.len()).sum();
        let origin = self.origin.as_ref().map_or(0, |(records, _)| records.get_array_memory_size());
        self.records
            .get_array_memory_size()
            .saturating_add(ids)
            .saturating_add(refused)
            .saturating_add(origin)
    }

    /// Puts rows, with their reasons, among the refused. They stay among the records.
    pub fn refuse(&mut self, rows: &[RefusedRow]) -> Result<(), ArrowError> {
        for row in rows {
            let refused = self.refusal(row)?;
            self.refused.push(refused);
        }
        Ok(())
    }

    /// Takes rows out of the records.
    fn leave_out(&mut self, rows: &[RefusedRow]) -> Result<(), ArrowError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut keep = vec![true; self.records.num_rows()];
        for row in rows {
            if let Some(keep) = keep.get_mut(row.row) {
                *keep = false;
            }
        }
        self.keep(&keep)
    }

    /// Keeps the rows that are marked.
    fn keep(&mut self, keep: &[bool]) -> Result<(), ArrowError> {
        let kept = || keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row));
        self.records = filter_record_batch(&self.records, &BooleanArray::from(keep.to_vec()))?;
        self.ordinals = self.ordinals.pick(kept());
        if let Some(ids) = &mut self.ids {
            *ids = kept().filter_map(|row| ids.get(row).copied()).collect();
        }
        if let Some((_, rows)) = &mut self.origin {
            *rows = kept().filter_map(|row| rows.get(row).copied()).collect();
        }
        Ok(())
    }

    /// A row of the records as a refused record: what the source had read of it, as JSON.
    pub fn refusal(&self, row: &RefusedRow) -> Result<Rejected, ArrowError> {
        let raw = match &self.origin {
            None => Rejected::record(&self.records, row.row)?,
            Some((input, rows)) => Rejected::record(input, rows.get(row.row).copied().unwrap_or(0))?,
        };
        let id = self.ids.as_ref().and_then(|ids| ids.get(row.row)).copied();
        Ok(Rejected {
            ordinal: self.ordinals.of(row.row),
            code: row.code,
            reason: row.reason.clone(),
            id,
            raw,
        })
    }

    /// Rows of the input that the transform failed on.
    fn refuse_input(&mut self, rows: &[RefusedRow]) -> Result<(), ArrowError> {
        for row in rows {
            let raw = Rejected::record(&self.records, row.row)?;
            let ordinal = self.ordinals.of(row.row);
            self.refused.push(Rejected {
                ordinal,
                code: row.code,
                reason: row.reason.clone(),
                id: None,
                raw,
            });
        }
        Ok(())
    }
}

/// One row as a JSON object, nulls included.
pub(super) fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
