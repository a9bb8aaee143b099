//! Reads one row group of a Parquet file.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::fault::FilesFault;
use super::position::{Consumed, Mark, Seen, Tail};
use crate::client::{Object, Place};
use crate::codes;
use crate::config::type_name;

const ROWS_MAX: usize = 8192;
const TRAILER_BYTES: u64 = 8;

/// What the footer of a file says, and a checksum of it.
pub(super) async fn footer(object: &Object) -> Result<(ArrowReaderMetadata, Seen), FilesFault> {
    let wrong = |error| wrong(&object.name, error);
    let metadata = match &object.place {
        Place::Local(path) => {
            let file = open(object, path)?;
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(wrong)?
        }
        Place::Remote { .. } => {
            let mut reader = Ranges(object.clone());
            ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await.map_err(wrong)?
        }
    };
    let trailer = object.range(object.size.saturating_sub(TRAILER_BYTES), 8).await?;
    let length = trailer.first_chunk::<4>().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
    let from = object.size.saturating_sub(TRAILER_BYTES).saturating_sub(length);
    let bytes = object.range(from, usize::try_from(object.size - from).unwrap_or(usize::MAX)).await?;
    let seen =
        Seen { size: object.size, stamp: object.stamp, head_crc: crc32fast::hash(&bytes), head_bytes: 0 };
    Ok((metadata, seen))
}

/// The columns of a file, each of which may be NULL.
pub(super) fn schema(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let fields = metadata.schema().fields().iter();
    Arc::new(Schema::new(
        fields.map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

/// Checks a file against a position in it: the same version, or at least the same footer.
pub(super) fn check(object: &Object, seen: &Seen, mark: &Mark) -> Result<(), FilesFault> {
    let name = object.name.clone();
    let known = &mark.seen;
    if seen.size < known.size {
        return Err(FilesFault::Truncated { name, read: known.size, size: seen.size });
    }
    let same = seen.size == known.size && (seen.stamp == known.stamp || seen.head_crc == known.head_crc);
    if same { Ok(()) } else { Err(FilesFault::Replaced { name, what: "it has another footer".to_owned() }) }
}

fn open(object: &Object, path: &std::path::Path) -> Result<std::fs::File, FilesFault> {
    std::fs::File::open(path).map_err(|source| FilesFault::Unreadable { name: object.name.clone(), source })
}

/// What went wrong with a file: the storage, if it was that, else the file.
fn wrong(name: &str, error: ParquetError) -> FilesFault {
    match error {
        ParquetError::External(inner) => match inner.downcast::<FilesFault>() {
            Ok(fault) => *fault,
            Err(inner) => {
                FilesFault::Parquet { name: name.to_owned(), source: ParquetError::External(inner) }
            }
        },
        source => FilesFault::Parquet { name: name.to_owned(), source },
    }
}

/// A file in an object store, as the asynchronous reader wants it.
struct Ranges(Object);

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        Box::pin(async move {
            let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let bytes = self.0.range(range.start, wanted).await.map_err(external)?;
            if bytes.len() < wanted {
                return Err(ParquetError::EOF(format!("the file ends before byte {}", range.end)));
            }
            Ok(bytes)
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        Box::pin(async move {
            let size = self.0.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        })
    }
}

fn external(fault: FilesFault) -> ParquetError {
    ParquetError::External(Box::new(fault))
}

/// A row group that is being read.
pub(super) struct RowGroupReader {
    object: Object,
    metadata: ArrowReaderMetadata,
    group: usize,
    split: SplitId,
    schema: SchemaRef,
    after: Option<Position>,
    /// Rows of the row group before the next one.
    row: u64,
    rows: u64,
    row_bytes: u64,
    seen: Seen,
    rows_of: Option<Rows>,
    ready: VecDeque<RecordBatch>,
}

enum Rows {
    Local(Box<ParquetRecordBatchReader>),
    Remote(Box<ParquetRecordBatchStream<Ranges>>),
}

impl RowGroupReader {
    pub(super) fn new(
        object: Object,
        (metadata, seen): (ArrowReaderMetadata, Seen),
        (group, split): (usize, SplitId),
        schema: SchemaRef,
        after: Option<(Position, Mark)>,
    ) -> Result<Self, FilesFault> {
        let unknown =
            FilesFault::Position { name: split.to_string(), what: "the file has no such row group" };
        let about = metadata.metadata().row_groups().get(group).ok_or(unknown)?;
        let rows = u64::try_from(about.num_rows()).unwrap_or(0);
        let bytes = u64::try_from(about.total_byte_size()).unwrap_or(0);
        let missing: Vec<&str> = schema
            .fields()
            .iter()
            .filter(|field| metadata.schema().column_with_name(field.name()).is_none())
            .map(|field| field.name().as_str())
            .collect();
        let extra: Vec<&str> = metadata
            .schema()
            .fields()
            .iter()
            .filter(|field| schema.column_with_name(field.name()).is_none())
            .map(|field| field.name().as_str())
            .collect();
        if !missing.is_empty() || !extra.is_empty() {
            return Err(super::columns_differ(&object.name, &missing, &extra));
        }
        let (after, row) = match after {
            Some((position, mark)) => (Some(position), mark.offset),
            None => (None, 0),
        };
        let row_bytes = bytes / rows.max(1) + 8;
        Ok(Self {
            object,
            metadata,
            group,
            split,
            schema,
            after,
            row,
            rows,
            row_bytes,
            seen,
            rows_of: None,
            ready: VecDeque::new(),
        })
    }

    fn begin(&self, limit: ReadLimit) -> Result<Rows, ParquetError> {
        let fitting = u64::try_from(limit.bytes_max).unwrap_or(u64::MAX) / self.row_bytes;
        let rows = usize::try_from(fitting).unwrap_or(usize::MAX).min(limit.records_max).clamp(1, ROWS_MAX);
        let offset = usize::try_from(self.row).unwrap_or(usize::MAX);
        let groups = vec![self.group];
        Ok(match &self.object.place {
            Place::Local(path) => {
                let file = open(&self.object, path).map_err(external)?;
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
                let builder = builder.with_row_groups(groups).with_offset(offset).with_batch_size(rows);
                Rows::Local(Box::new(builder.build()?))
            }
            Place::Remote { .. } => {
                let reader = Ranges(self.object.clone());
                let builder =
                    ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone());
                let builder = builder.with_row_groups(groups).with_offset(offset).with_batch_size(rows);
                Rows::Remote(Box::new(builder.build()?))
            }
        })
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, FilesFault> {
        if self.row >= self.rows {
            return Ok(None);
        }
        let name = self.object.name.clone();
        let wrong = |error| wrong(&name, error);
        if self.ready.is_empty() {
            if self.rows_of.is_none() {
                self.rows_of = Some(self.begin(limit).map_err(wrong)?);
            }
            let next = match &mut self.rows_of {
                Some(Rows::Local(reader)) => reader.next().transpose().map_err(ParquetError::from),
                Some(Rows::Remote(stream)) => stream.next().await.transpose(),
                None => Ok(None),
            };
            let ended = || ParquetError::EOF(format!("row group {} ends too early", self.group));
            let batch = next.and_then(|next| next.ok_or_else(ended)).map_err(wrong)?;
            self.ready.push_back(batch);
        }
        let Some(batch) = self.ready.pop_front() else { return Ok(None) };
        let count = batch.num_rows().min(limit.records_max.max(1));
        if count < batch.num_rows() {
            self.ready.push_front(batch.slice(count, batch.num_rows() - count));
        }
        self.deliver(&batch.slice(0, count)).map(Some).map_err(|e| wrong(e.into()))
    }

    fn deliver(&mut self, found: &RecordBatch) -> Result<Batch, ArrowError> {
        let count = u64::try_from(found.num_rows()).unwrap_or(0);
        let first = self.row;
        let (records, ordinals, rejected) = self.fit(found, first)?;
        self.row += count;
        let mark = Mark {
            offset: self.row,
            ordinal: self.row,
            tail: Tail::Closed,
            at_end: self.row >= self.rows,
            seen: self.seen,
            consumed: Consumed::default(),
        };
        let through = mark.encode();
        let after = self.after.replace(through.clone());
        let source_bytes = count.saturating_mul(self.row_bytes);
        Ok(Batch { split: self.split.clone(), after, through, records, ordinals, rejected, source_bytes })
    }

    /// Brings the rows into the schema; a row with a value that does not fit is set aside.
    fn fit(
        &self,
        found: &RecordBatch,
        first: u64,
    ) -> Result<(RecordBatch, Ordinals, Vec<Rejected>), ArrowError> {
        let rows = found.num_rows();
        let mut flaws: Vec<Option<String>> = vec![None; rows];
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let missing = || ArrowError::SchemaError(format!("no column {}", field.name()));
            let array = found.column_by_name(field.name()).ok_or_else(missing)?;
            arrays.push(cast(array, field, &mut flaws)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let records = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        if flaws.iter().all(Option::is_none) {
            return Ok((records, Ordinals::From(first), Vec::new()));
        }
        let good: BooleanArray = flaws.iter().map(|flaw| Some(flaw.is_none())).collect();
        let records = filter_record_batch(&records, &good)?;
        let (mut each, mut rejected) = (Vec::new(), Vec::new());
        for ((ordinal, row), flaw) in (first..).zip(0..rows).zip(flaws) {
            match flaw {
                None => each.push(ordinal),
                Some(reason) => {
                    let raw = json(&found.slice(row, 1))?;
                    rejected.push(Rejected { ordinal, code: codes::UNFIT, reason, id: None, raw });
                }
            }
        }
        Ok((records, Ordinals::Each(each.into()), rejected))
    }
}

fn cast(array: &ArrayRef, field: &Field, flaws: &mut [Option<String>]) -> Result<ArrayRef, ArrowError> {
    let wanted = field.data_type();
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let there = cast_with_options(array, wanted, &options)?;
    let lost = if wanted.is_numeric() && array.data_type().is_numeric() {
        let back = cast_with_options(&there, array.data_type(), &options)?;
        distinct(&back, array)?
    } else {
        (0..array.len()).map(|row| Some(array.is_valid(row) && there.is_null(row))).collect()
    };
    for (flaw, lost) in flaws.iter_mut().zip(lost.iter()) {
        if lost == Some(true) && flaw.is_none() {
            *flaw = Some(format!("column {}: the value is not a {}", field.name(), type_name(wanted)));
        }
    }
    Ok(there)
}

fn json(row: &RecordBatch) -> Result<String, ArrowError> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(row)?;
    writer.finish()?;
    Ok(Rejected::excerpt(writer.into_inner().trim_ascii_end()))
}

impl SplitReader for RowGroupReader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move { self.next(limit).await.map_err(FilesFault::raise) })
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async { Ok(()) })
    }
}
