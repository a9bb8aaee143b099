//! Records as bytes of a file, streaming.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use flate2::write::GzEncoder;
use hapax_engine::message::zone;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::sink::csv;
use crate::sink::fault::{self, Failure, at};
use crate::sink_config::{SinkCompression, SinkFormat, Target};

/// Buffer before the file, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// A row group ends at this many rows.
const ROW_GROUP_ROWS_MAX: usize = 122_880;
/// A row group ends when its encoder holds this many bytes.
const ROW_GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of CSV gathered before they are handed on.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Rows encoded as CSV at once.
const TEXT_ROWS: usize = 512;

/// Says whether the format can hold such records.
pub(crate) fn check(format: SinkFormat, schema: &Schema) -> Result<(), Failure> {
    match format {
        SinkFormat::Csv => csv::check(schema),
        SinkFormat::Jsonl => {
            let schema = zone::in_utc(schema).unwrap_or_else(|| schema.clone().into());
            let empty = RecordBatch::new_empty(schema);
            let written = json_writer(io::sink()).write(&one_null_row(&empty));
            written.map_err(|error| unsupported("jsonl", &error))
        }
        SinkFormat::Parquet => ArrowSchemaConverter::new()
            .convert(schema)
            .map(|_| ())
            .map_err(|error| unsupported("parquet", &error)),
    }
}

fn unsupported(format: &'static str, error: &dyn std::error::Error) -> Failure {
    Failure::TypeUnsupported { format, reason: error.to_string() }
}

/// A row of NULLs of the same types: enough for an encoder to say whether it has one for each.
fn one_null_row(empty: &RecordBatch) -> RecordBatch {
    let fields: Vec<_> =
        empty.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let columns = fields.iter().map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
    RecordBatch::try_new(Schema::new(fields).into(), columns).unwrap_or_else(|_| empty.clone())
}

fn json_writer<W: Write>(out: W) -> arrow::json::Writer<W, LineDelimited> {
    WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out)
}

/// A file being written.
pub(crate) enum Encoder {
    Csv { out: Box<Text>, line: String },
    Jsonl(Box<arrow::json::Writer<Text, LineDelimited>>),
    Parquet(Box<ArrowWriter<File>>),
}

/// Text on its way into a file.
pub(crate) enum Text {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

impl Text {
    fn new(file: File, compression: SinkCompression) -> io::Result<Self> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(match compression {
            SinkCompression::None | SinkCompression::Snappy => Self::Plain(out),
            SinkCompression::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            SinkCompression::Zstd => Self::Zstd(zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    fn finish(self) -> io::Result<File> {
        let out = match self {
            Self::Plain(out) => out,
            Self::Gzip(out) => out.finish()?,
            Self::Zstd(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Writes the CSV header as a member of its own, if there is to be one. Returns how many bytes it is.
pub(crate) fn write_header(
    file: File,
    path: &Path,
    target: &Target,
    schema: &Schema,
) -> Result<(File, u64), Failure> {
    if target.format != SinkFormat::Csv || !target.header {
        return Ok((file, 0));
    }
    let written = Text::new(file, target.compression).and_then(|mut out| {
        out.write_all(csv::header(schema).as_bytes())?;
        out.finish()
    });
    let file = written.map_err(at("write", path))?;
    let bytes = file.metadata().map_err(at("look at", path))?.len();
    Ok((file, bytes))
}

impl Encoder {
    /// Begins to write records into a file, behind what it holds.
    pub(crate) fn new(file: File, path: &Path, target: &Target, schema: &SchemaRef) -> Result<Self, Failure> {
        let text = |file| Text::new(file, target.compression).map_err(at("write", path));
        Ok(match target.format {
            SinkFormat::Csv => Self::Csv { out: Box::new(text(file)?), line: String::new() },
            SinkFormat::Jsonl => Self::Jsonl(Box::new(json_writer(text(file)?))),
            SinkFormat::Parquet => {
                let properties = properties(target.compression);
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
                    .map_err(|error| fault::parquet(path, error))?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    /// Writes records.
    pub(crate) fn write(&mut self, records: &RecordBatch, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Csv { out, line } => write_csv(records, out, line, path),
            Self::Jsonl(writer) => {
                let written = zone::records_in_utc(records).and_then(|records| writer.write(&records));
                written.map_err(|error| arrow_failure("jsonl", path, error))
            }
            Self::Parquet(writer) => {
                writer.write(records).map_err(|error| fault::parquet(path, error))?;
                if writer.memory_size() > ROW_GROUP_BYTES_MAX {
                    writer.flush().map_err(|error| fault::parquet(path, error))?;
                }
                Ok(())
            }
        }
    }

    /// Ends the file; it is complete but not durable.
    pub(crate) fn finish(self, path: &Path) -> Result<File, Failure> {
        match self {
            Self::Csv { out, .. } => out.finish().map_err(at("write", path)),
            Self::Jsonl(writer) => writer.into_inner().finish().map_err(at("write", path)),
            Self::Parquet(writer) => writer.into_inner().map_err(|error| fault::parquet(path, error)),
        }
    }
}

pub(crate) fn write_csv(
    records: &RecordBatch,
    out: &mut impl Write,
    text: &mut String,
    path: &Path,
) -> Result<(), Failure> {
    let records = zone::records_in_utc(records).map_err(|error| arrow_failure("csv", path, error))?;
    let mut row = 0;
    while row < records.num_rows() {
        let rows = TEXT_ROWS.min(records.num_rows().saturating_sub(row));
        csv::encode(&records.slice(row, rows), text).map_err(|error| arrow_failure("csv", path, error))?;
        row = row.saturating_add(rows);
        if text.len() >= TEXT_BYTES_MAX || row == records.num_rows() {
            out.write_all(text.as_bytes()).map_err(at("write", path))?;
            text.clear();
        }
    }
    Ok(())
}

fn arrow_failure(format: &'static str, path: &Path, error: arrow::error::ArrowError) -> Failure {
    match error {
        arrow::error::ArrowError::IoError(_, io) => at("write", path)(io),
        other => Failure::Encoding { format, source: Box::new(other) },
    }
}

/// Writes records as lines to a stream that is not a file of ours.
pub(crate) fn write_jsonl(records: &RecordBatch, out: &mut impl Write, path: &Path) -> Result<(), Failure> {
    let written = zone::records_in_utc(records).and_then(|records| json_writer(out).write(&records));
    written.map_err(|error| arrow_failure("jsonl", path, error))
}

pub(crate) fn properties(compression: SinkCompression) -> WriterProperties {
    let compression = match compression {
        SinkCompression::None => Compression::UNCOMPRESSED,
        SinkCompression::Snappy => Compression::SNAPPY,
        SinkCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        SinkCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        // Readers prune by the statistics of row groups; those of pages would be computed for nobody.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("hapax ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StructArray, TimestampMillisecondArray};

    use super::*;

    #[test]
    fn an_instant_in_a_named_zone_is_the_same_instant_in_text() {
        let times = TimestampMillisecondArray::from(vec![Some(1_000), None]).with_timezone("Europe/Berlin");
        let times: ArrayRef = Arc::new(times);
        let records = RecordBatch::try_from_iter_with_nullable([("t", times.clone(), true)]).unwrap();
        let mut text = Vec::new();
        write_csv(&records, &mut text, &mut String::new(), "x".as_ref()).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "1970-01-01T00:00:01Z\n\"\"\n");
        let nested: ArrayRef = Arc::new(StructArray::from(records));
        let records = RecordBatch::try_from_iter([("t", times), ("s", nested)]).unwrap();
        let mut text = Vec::new();
        write_jsonl(&records.slice(0, 1), &mut text, "x".as_ref()).unwrap();
        let expected = "{\"t\":\"1970-01-01T00:00:01Z\",\"s\":{\"t\":\"1970-01-01T00:00:01Z\"}}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
