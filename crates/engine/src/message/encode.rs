//! Records as bodies of messages: one JSON object each.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use bytes::Bytes;
use memchr::memchr_iter;

use super::zone;

/// The JSON objects of some records, one after the other.
#[derive(Debug, Default)]
pub struct Objects {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Objects {
    /// The object of a row; empty if there is no such row.
    pub fn of(&self, row: usize) -> &[u8] {
        self.range(row).and_then(|range| self.bytes.get(range)).unwrap_or_default()
    }

    /// The object of a row, which keeps all of them in memory; empty if there is no such row.
    pub fn shared(&self, row: usize) -> Bytes {
        self.range(row).map(|range| self.bytes.slice(range)).unwrap_or_default()
    }

    fn range(&self, row: usize) -> Option<Range<usize>> {
        let start = row.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).map(|end| end + 1));
        start.zip(self.ends.get(row)).map(|(start, end)| start..*end)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Writes each record as a JSON object that [`Bodies`](super::Bodies) read back: NULLs are there, times are in ISO 8601
/// with named zones in UTC, bytes are hexadecimal digits. Numbers must be [finite](super::not_finite).
pub fn as_objects(records: &RecordBatch) -> Result<Objects, ArrowError> {
    let records = zone::records_in_utc(records)?;
    let mut bytes = Vec::with_capacity(records.get_array_memory_size());
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(&records)?;
    writer.finish()?;
    drop(writer);
    // Inside of an object a line feed is written as an escape.
    let ends: Vec<usize> = memchr_iter(b'\n', &bytes).collect();
    Ok(Objects { bytes: bytes.into(), ends })
}
