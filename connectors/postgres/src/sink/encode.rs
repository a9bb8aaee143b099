//! Records in PostgreSQL's binary form of COPY: each column's type is looked at once a batch, each value is written
//! as it lies in the Arrow array.

mod numeric;
mod value;

use std::collections::HashSet;
use std::ops::Range;

use arrow::array::RecordBatch;
use bytes::{BufMut, Bytes, BytesMut};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;

use self::value::Column;
use super::plan::{Plan, Target};
use crate::codes;
use crate::fault::WriteFault;

/// What every binary COPY begins with.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What it ends with.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// How many bytes go out at once, roughly.
const CHUNK_BYTES: usize = 128 * 1024;

/// The rows of a batch on their way to bytes, chunk by chunk: the server takes one while the next is made.
pub(crate) struct Encoder<'a> {
    columns: Vec<(Column, &'a Target)>,
    /// The rows of the batch that are still to come.
    coming: Range<usize>,
    skipped: &'a HashSet<usize>,
    chunks: Vec<Bytes>,
    /// How many bytes there are in all chunks.
    length: usize,
    /// The row of the batch, and where its bytes end.
    rows: Vec<(usize, usize)>,
    refused: Vec<RefusedRow>,
}

impl<'a> Encoder<'a> {
    /// Looks at the columns of a batch. `skipped` rows are left out.
    pub(crate) fn new(
        plan: &'a Plan,
        records: &RecordBatch,
        skipped: &'a HashSet<usize>,
    ) -> Result<Self, WriteFault> {
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (target, array) in plan.columns.iter().zip(records.columns()) {
            let values = Column::of(&target.way.arriving(), array)
                .map_err(|source| WriteFault::Conversion { column: target.name.clone(), source })?;
            columns.push((values, target));
        }
        Ok(Self {
            columns,
            coming: 0..records.num_rows(),
            skipped,
            chunks: Vec::new(),
            length: 0,
            rows: Vec::with_capacity(records.num_rows()),
            refused: Vec::new(),
        })
    }

    /// Encodes some rows more, and keeps their bytes; `None` behind the last.
    pub(crate) fn chunk(&mut self) -> Option<Bytes> {
        let count = u16::try_from(self.columns.len()).unwrap_or(u16::MAX);
        let mut out = BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        while out.len() < CHUNK_BYTES
            && let Some(row) = self.coming.next()
        {
            if self.skipped.contains(&row) {
                continue;
            }
            let start = out.len();
            out.put_u16(count);
            match self.columns.iter().try_for_each(|(values, target)| {
                let null = || if target.never_null { Err(Misfit::NullKey) } else { Ok(()) };
                values.put(row, &mut out, null).map_err(|misfit| (target, misfit))
            }) {
                Ok(()) => self.rows.push((row, self.length + out.len())),
                Err((target, misfit)) => {
                    out.truncate(start);
                    let (code, reason) = misfit.words(target);
                    self.refused.push(RefusedRow { row, code, reason });
                }
            }
        }
        if out.is_empty() {
            return None;
        }
        self.length += out.len();
        let chunk = out.freeze();
        self.chunks.push(chunk.clone());
        Some(chunk)
    }

    /// How many rows were encoded.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows that PostgreSQL cannot hold, among those that were looked at.
    pub(crate) fn refused(&self) -> &[RefusedRow] {
        &self.refused
    }

    /// The bytes of some rows once more, counted from the first that was encoded.
    pub(crate) fn bytes(&self, rows: &Range<usize>) -> impl Iterator<Item = Bytes> {
        let end = |count: usize| match count.checked_sub(1) {
            Some(last) => self.rows.get(last).map_or(self.length, |(_, end)| *end),
            None => 0,
        };
        let (from, to) = (end(rows.start), end(rows.end));
        let mut place = 0;
        self.chunks.iter().filter_map(move |chunk| {
            let (start, end) = (from.saturating_sub(place), to.saturating_sub(place).min(chunk.len()));
            place += chunk.len();
            (start < end).then(|| chunk.slice(start..end))
        })
    }

    /// The row of the batch.
    pub(crate) fn row(&self, index: usize) -> usize {
        self.rows.get(index).map_or(index, |(row, _)| *row)
    }
}

/// Why PostgreSQL cannot hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    NullKey,
    Integer,
    Float,
    Digits,
    NotANumber,
    NotAUuid,
    Fine,
    Far,
    Large,
}

impl Misfit {
    fn words(self, target: &Target) -> (Code, String) {
        let name = &target.name;
        let unheld = match self {
            Self::NullKey => {
                return (codes::ROW_REFUSED, format!("{name} is NULL, and it is the key"));
            }
            Self::Integer => "is outside of the integers that the column takes",
            Self::Float => "is an integer that no float is",
            Self::Digits => "has digits behind the point that the column would round away",
            Self::NotANumber => "is not a number",
            Self::NotAUuid => "is not a UUID",
            Self::Fine => "is finer than a microsecond",
            Self::Far => "lies outside of the years that PostgreSQL has",
            Self::Large => "is too large",
        };
        (codes::VALUE_UNHELD, format!("{name} {unheld}"))
    }
}
