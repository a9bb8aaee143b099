//! Records on their way.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use hapax_protocol::code::Code;
use hapax_protocol::identity::RecordId;
use hapax_protocol::position::{Ordinal, Position, SplitId};

/// Consecutive records of one split.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Of which split.
    pub split: SplitId,
    /// The position the records start at; `None` at the start of the split.
    pub after: Option<Position>,
    /// The position behind the last record. Always greater than `after`.
    pub through: Position,
    /// The records that could be read.
    pub records: RecordBatch,
    /// The numbers of `records` in the split, one per row.
    pub ordinals: Ordinals,
    /// The records between `after` and `through` that could not be read.
    pub rejected: Vec<Rejected>,
    /// How many bytes of the source this is, for progress.
    pub source_bytes: u64,
}

impl Batch {
    /// The memory it holds, in bytes, roughly.
    pub fn memory(&self) -> usize {
        let rejected: usize = self.rejected.iter().map(|r| r.raw.len()).sum();
        self.records.get_array_memory_size().saturating_add(rejected)
    }
}

/// The numbers of the rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordinals {
    /// Row i is record `first + i`.
    From(Ordinal),
    /// Row i is record `each[i]`.
    Each(Arc<[Ordinal]>),
}

impl Ordinals {
    /// The number of a row.
    pub fn of(&self, row: usize) -> Ordinal {
        match self {
            Self::From(first) => first.saturating_add(u64::try_from(row).unwrap_or(u64::MAX)),
            Self::Each(each) => each.get(row).copied().unwrap_or(u64::MAX),
        }
    }

    /// The numbers of these rows, in this order.
    #[must_use]
    pub fn pick(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        Self::Each(rows.into_iter().map(|row| self.of(row)).collect())
    }
}

/// A record that a source could not read, or a transform or sink would not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number in the split.
    pub ordinal: Ordinal,
    /// What kind of mistake it is.
    pub code: Code,
    /// What is wrong with it, in words: which column, which value, where.
    pub reason: String,
    /// What tells it from every other record, where a redelivered record stands at another place: a digest of the
    /// message's own id. `None` where its place does, or nothing.
    pub id: Option<RecordId>,
    /// The record as it was found, or its first [`Rejected::RAW_MAX_BYTES`]; as JSON where it had no text.
    pub raw: String,
}

impl Rejected {
    /// How much of a record is kept, in bytes.
    pub const RAW_MAX_BYTES: usize = 64 * 1024;

    /// Text for `raw`: invalid UTF-8 replaced, cut at [`Self::RAW_MAX_BYTES`].
    pub fn excerpt(bytes: &[u8]) -> String {
        let cut = bytes.get(..Self::RAW_MAX_BYTES).unwrap_or(bytes);
        String::from_utf8_lossy(cut).into_owned()
    }

    /// Text for `raw`: a record as a JSON object with every column.
    pub fn record(records: &RecordBatch, row: usize) -> Result<String, ArrowError> {
        if let Some(column) = not_finite(records, row) {
            // JSON would say null, and a replay would believe it.
            let column = records.schema().field(column).name().clone();
            return Ok(format!("column {column} is not a finite number, which JSON cannot say"));
        }
        let mut bytes = Vec::new();
        let mut writer = arrow::json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::LineDelimited>(&mut bytes);
        writer.write(&records.slice(row, 1))?;
        writer.finish()?;
        drop(writer);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Ok(Self::excerpt(line))
    }

    /// Reads what [`record`](Self::record) wrote, by these columns; `None` if it is no such record.
    pub fn read_record(schema: SchemaRef, raw: &str) -> Option<RecordBatch> {
        if !raw.starts_with('{') {
            return None;
        }
        let mut decoder =
            arrow::json::ReaderBuilder::new(schema).with_strict_mode(true).build_decoder().ok()?;
        decoder.decode(raw.as_bytes()).ok()?;
        let records = decoder.flush().ok()??;
        (records.num_rows() == 1).then_some(records)
    }
}

/// The first column with a NaN or an infinity in this row, also inside a list.
fn not_finite(records: &RecordBatch, row: usize) -> Option<usize> {
    records.columns().iter().position(|column| column.is_valid(row) && !is_finite(&column.slice(row, 1)))
}

/// Whether every number of a column is finite.
fn is_finite(column: &ArrayRef) -> bool {
    let items: Vec<ArrayRef> = match column.data_type() {
        DataType::Float32 => {
            return column.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite);
        }
        DataType::Float64 => {
            return column.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite);
        }
        DataType::List(_) => column.as_list::<i32>().iter().flatten().collect(),
        DataType::LargeList(_) => column.as_list::<i64>().iter().flatten().collect(),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().iter().flatten().collect(),
        _ => return true,
    };
    items.iter().all(is_finite)
}

/// How much one read may bring.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// At most this many records.
    pub records_max: usize,
    /// About this many bytes of memory; one record may be larger.
    pub bytes_max: usize,
}
