//! Reads one split of a CSV or JSON Lines file, a block at a time.

use std::collections::BTreeMap;

use crc32fast::Hasher;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};

use super::boundary::{Ending, Walk};
use super::column::Columns;
use super::csv::Csv;
use super::fault::FilesFault;
use super::feed::Feed;
use super::fields::{Cut, Flaw, Table, index, place};
use super::json::Json;
use super::position::{Consumed, Mark, Seen, Tail, WINDOW_BYTES};
use crate::codes;

/// How much of a file is read and decoded at a time, in bytes.
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;

/// Cuts a block into records and fields.
#[derive(Debug, Clone)]
pub(super) enum Cutter {
    Csv(Csv),
    Json(Json),
}

impl Cutter {
    pub(super) fn cut(&self, block: &[u8], cut: Cut, table: &mut Table) {
        match self {
            Self::Csv(csv) => csv.cut(block, cut, table),
            Self::Json(json) => json.cut(block, cut, table),
        }
    }

    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Csv(csv) => Ending::Csv { delimiter: csv.delimiter() },
            Self::Json(_) => Ending::Line,
        }
    }
}

/// Where a reader begins.
#[derive(Debug)]
pub(super) struct Start {
    pub split: SplitId,
    pub after: Option<Position>,
    /// The offset in the decompressed file.
    pub offset: u64,
    pub ordinal: u64,
    /// Records that start here or behind belong to the next split.
    pub limit: Option<u64>,
    pub seen: Seen,
    /// Where the split starts, and the checksum from there to the offset.
    pub consumed: Consumed,
    pub record_bytes_max: u64,
}

/// A split of a text file that is being read.
pub(super) struct TextReader {
    start: Start,
    feed: Feed,
    cutter: Cutter,
    columns: Columns,
    table: Table,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not consumed.
    ready: std::ops::Range<usize>,
    /// The offset of `ready`.
    at: u64,
    crc: Hasher,
    last: bool,
    skip: Option<Skip>,
}

/// A record that is too long to hold, on the way to its end.
struct Skip {
    walk: Walk,
    excerpt: Vec<u8>,
    bytes: u64,
}

impl TextReader {
    /// A reader over `feed`, which stands behind `early`, which begins at the start's offset.
    pub(super) fn new(start: Start, feed: Feed, early: Vec<u8>, cutter: Cutter, columns: Columns) -> Self {
        let crc = Hasher::new_with_initial(start.consumed.crc);
        let (at, ready) = (start.offset, 0..early.len());
        let (table, buffer) = (Table::default(), early);
        Self { start, feed, cutter, columns, table, buffer, ready, at, crc, last: false, skip: None }
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, FilesFault> {
        let block = limit.bytes_max.clamp(1, BLOCK_BYTES);
        loop {
            if self.skip.is_some() {
                if let Some(batch) = self.skip_on() {
                    return Ok(Some(batch));
                }
                if self.last {
                    return Ok(Some(self.skipped(true)));
                }
                self.fill(block).await?;
                continue;
            }
            if !self.last && self.ready.len() < block / 4 {
                self.fill(block).await?;
            }
            self.cut(limit, block);
            if !self.table.records.is_empty() {
                return self.batch().map(Some);
            }
            self.consume(index(self.table.rest));
            if self.table.limit_reached || self.last {
                return Ok(None);
            }
            let bytes_max = usize::try_from(self.start.record_bytes_max).unwrap_or(usize::MAX);
            if self.ready.len() > bytes_max {
                let walk = Walk::new(self.cutter.ending());
                self.skip = Some(Skip { walk, excerpt: Vec::new(), bytes: 0 });
            } else {
                // Twice as much each time, so that a long record is not walked too often.
                let more = self.ready.len().min(bytes_max - self.ready.len()).max(block);
                self.fill(more).await?;
            }
        }
    }

    fn cut(&mut self, limit: ReadLimit, block: usize) {
        let beyond =
            self.start.limit.map(|limit| u32::try_from(limit.saturating_sub(self.at)).unwrap_or(u32::MAX));
        let cut = Cut {
            last: self.last,
            records_max: limit.records_max.max(1),
            bytes_max: place(block),
            limit: beyond,
            record_bytes_max: self.start.record_bytes_max,
        };
        let ready = self.buffer.get(self.ready.clone()).unwrap_or_default();
        self.cutter.cut(ready, cut, &mut self.table);
    }

    /// Reads up to `more` bytes behind what is ready. It sets `last` at the end of the file.
    async fn fill(&mut self, more: usize) -> Result<(), FilesFault> {
        if self.ready.start > 0 {
            self.buffer.copy_within(self.ready.clone(), 0);
            self.ready = 0..self.ready.len();
        }
        let wanted = self.ready.end + more;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        } else if self.buffer.len() > 4 * BLOCK_BYTES && wanted < 2 * BLOCK_BYTES {
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        }
        while self.ready.end < wanted {
            let room = self.buffer.get_mut(self.ready.end..wanted).unwrap_or_default();
            let read = self.feed.read(room).await?;
            self.ready.end += read;
            if read == 0 {
                self.last = true;
                break;
            }
        }
        Ok(())
    }

    /// Moves on over the first bytes that are ready.
    fn consume(&mut self, bytes: usize) {
        let end = (self.ready.start + bytes).min(self.ready.end);
        let passed = self.buffer.get(self.ready.start..end).unwrap_or_default();
        self.crc.update(passed);
        self.at += u64::try_from(passed.len()).unwrap_or(0);
        self.ready.start = end;
    }

    fn batch(&mut self) -> Result<Batch, FilesFault> {
        let consumed = index(self.table.consumed);
        let ready = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let block = ready.get(..consumed).unwrap_or_default();
        let (records, ordinals, rejected) = decode(&self.columns, &mut self.table, block, self.start.ordinal)
            .map_err(|error| self.undecodable(&error))?;
        let window = block.get(block.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default().to_vec();
        let tail = match (self.table.unclosed, self.table.open) {
            (true, _) => Tail::Quoted,
            (_, true) => Tail::Open,
            _ => Tail::Closed,
        };
        let read = u64::try_from(self.table.records.len()).unwrap_or(u64::MAX);
        self.consume(consumed);
        let through = self.advance(read, tail, &window);
        let source_bytes = u64::try_from(consumed).unwrap_or(0);
        let (split, after) = (self.start.split.clone(), self.start.after.replace(through.clone()));
        Ok(Batch { split, after, through, records, ordinals, rejected, source_bytes })
    }

    /// The position behind what was consumed.
    fn advance(&mut self, records: u64, tail: Tail, window: &[u8]) -> Position {
        self.start.ordinal += records;
        let rest = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let consumed = Consumed {
            from: self.start.consumed.from,
            crc: self.crc.clone().finalize(),
            window_crc: crc32fast::hash(window),
            window_bytes: u16::try_from(window.len()).unwrap_or(0),
        };
        let mark = Mark {
            offset: self.at,
            ordinal: self.start.ordinal,
            tail,
            at_end: self.last && rest.iter().all(u8::is_ascii_whitespace),
            seen: self.start.seen,
            consumed,
        };
        mark.encode()
    }

    /// Goes on to the end of a record that is too long, as far as bytes are ready.
    fn skip_on(&mut self) -> Option<Batch> {
        let skip = self.skip.as_mut()?;
        let ready = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let end = skip.walk.end(ready, 0);
        let passed = ready.get(..end.unwrap_or(ready.len())).unwrap_or_default();
        let room = Rejected::RAW_MAX_BYTES.saturating_sub(skip.excerpt.len());
        skip.excerpt.extend_from_slice(passed.get(..room).unwrap_or(passed));
        skip.bytes += u64::try_from(passed.len()).unwrap_or(0);
        let passed = passed.len();
        self.consume(passed);
        end.map(|_| self.skipped(false))
    }

    fn skipped(&mut self, open: bool) -> Batch {
        let skip = self.skip.take();
        let (excerpt, bytes, quoted) =
            skip.map(|skip| (skip.excerpt, skip.bytes, skip.walk.quoted())).unwrap_or_default();
        let flaw = Flaw::too_long(bytes.saturating_sub(u64::from(!open)), self.start.record_bytes_max);
        let text = excerpt.strip_suffix(b"\n").unwrap_or(&excerpt);
        let rejected = Rejected {
            ordinal: self.start.ordinal,
            code: flaw.code,
            reason: flaw.reason,
            id: None,
            raw: Rejected::excerpt(text),
        };
        let tail = match (open, quoted) {
            (false, _) => Tail::Closed,
            (true, false) => Tail::Open,
            (true, true) => Tail::Quoted,
        };
        let through = self.advance(1, tail, &[]);
        Batch {
            split: self.start.split.clone(),
            after: self.start.after.replace(through.clone()),
            through,
            records: arrow::array::RecordBatch::new_empty(self.columns.schema.clone()),
            ordinals: Ordinals::From(self.start.ordinal),
            rejected: vec![rejected],
            source_bytes: bytes,
        }
    }

    fn undecodable(&self, error: &arrow::error::ArrowError) -> FilesFault {
        FilesFault::Config {
            path: self.start.split.to_string(),
            what: format!("the records cannot be held in the columns: {error}"),
        }
    }
}

impl SplitReader for TextReader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move { self.next(limit).await.map_err(FilesFault::raise) })
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async { Ok(()) })
    }
}

type Decoded = (arrow::array::RecordBatch, Ordinals, Vec<Rejected>);

/// Turns the table of a block into records, their numbers, and the records that are none. `first` is the number
/// of the block's first record.
pub(super) fn decode(
    columns: &Columns,
    table: &mut Table,
    block: &[u8],
    first: u64,
) -> Result<Decoded, arrow::error::ArrowError> {
    let number = |record: usize| first.saturating_add(u64::try_from(record).unwrap_or(u64::MAX));
    let mut patched = String::new();
    let (text, foreign) = match std::str::from_utf8(block) {
        Ok(text) => (text, BTreeMap::new()),
        Err(_) => {
            let (clean, foreign) = without_foreign(block, table);
            patched = clean;
            (patched.as_str(), foreign)
        }
    };
    let (records, mut unfit) = columns.decode(table, text, foreign)?;
    drop(patched);
    if table.flaws.is_empty() && unfit.is_empty() {
        return Ok((records, Ordinals::From(first), Vec::new()));
    }
    let mut each = Vec::with_capacity(records.num_rows());
    let mut rejected = Vec::new();
    let mut row = 0;
    for (record, range) in table.records.iter().enumerate() {
        let flaw = table.flaws.remove(&record).or_else(|| {
            let flaw = unfit.remove(&row);
            row += 1;
            flaw
        });
        let Some(flaw) = flaw else {
            each.push(number(record));
            continue;
        };
        let raw = block.get(index(range.start)..index(range.end)).unwrap_or_default();
        rejected.push(Rejected {
            ordinal: number(record),
            code: flaw.code,
            reason: flaw.reason,
            id: None,
            raw: Rejected::excerpt(raw),
        });
    }
    Ok((records, Ordinals::Each(each.into()), rejected))
}

/// The text of a block with every row that is not UTF-8 blanked out, and those rows.
fn without_foreign(block: &[u8], table: &Table) -> (String, BTreeMap<usize, Flaw>) {
    let mut clean = block.to_vec();
    let mut foreign = BTreeMap::new();
    let mut row = 0;
    for (record, range) in table.records.iter().enumerate() {
        let flawed = table.flaws.contains_key(&record);
        let range = index(range.start)..index(range.end);
        if let Err(error) = std::str::from_utf8(block.get(range.clone()).unwrap_or_default()) {
            if let Some(bytes) = clean.get_mut(range) {
                bytes.fill(b'?');
            }
            if !flawed {
                let reason = format!("the record is not UTF-8 at its byte {}", error.valid_up_to());
                foreign.insert(row, Flaw::new(codes::UTF8, reason));
            }
        }
        row += usize::from(!flawed);
    }
    (String::from_utf8_lossy(&clean).into_owned(), foreign)
}
