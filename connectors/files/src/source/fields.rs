//! A block of text, cut into records and fields.

use std::collections::BTreeMap;
use std::ops::Range;

use hapax_protocol::code::Code;

use crate::codes;

/// One field: where its text stands in the block, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub start: u32,
    pub end: u32,
    pub form: Form,
}

impl Field {
    pub(super) const ABSENT: Self = Self { start: 0, end: 0, form: Form::Absent };

    pub(super) fn range(&self) -> Range<usize> {
        index(self.start)..index(self.end)
    }
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all (JSON).
    Absent,
    /// As `null` (JSON).
    Null,
    /// As it is, without quotes.
    Bare,
    /// In quotes, which the range excludes, without escapes.
    Quoted,
    /// In quotes with escapes. For CSV the range includes the quotes, and text may follow the closing one.
    Escaped,
    /// As an object or array (JSON).
    Nested,
}

/// Why a record is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub code: Code,
    pub reason: String,
}

impl Flaw {
    pub(super) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(super) fn too_long(bytes: u64, bytes_max: u64) -> Self {
        Self::new(
            codes::TOO_LONG,
            format!("the record is {bytes} bytes long, more than record_bytes_max ({bytes_max})"),
        )
    }
}

/// The records of a block in their order.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The fields of every row, `width` a row.
    pub fields: Vec<Field>,
    /// Where each record stands, its line ending excluded.
    pub records: Vec<Range<u32>>,
    /// The records that are no rows, by their number in the block. The other records are the rows, in order.
    pub flaws: BTreeMap<usize, Flaw>,
    /// Up to where the block was cut: behind the line ending of the last record.
    pub consumed: u32,
    /// Where the record that is not complete yet, or not wanted, begins.
    pub rest: u32,
    /// A record starts at or behind the limit.
    pub limit_reached: bool,
    /// The last record ended with the block, inside quotes.
    pub unclosed: bool,
    /// The last record ended with the block, without a line ending.
    pub open: bool,
}

impl Table {
    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.records.clear();
        self.flaws.clear();
        (self.consumed, self.rest) = (0, 0);
        (self.limit_reached, self.unclosed, self.open) = (false, false, false);
    }

    pub(super) fn rows(&self) -> usize {
        self.records.len() - self.flaws.len()
    }

    /// Takes the record that was just added out of the rows again.
    pub(super) fn spoil(&mut self, fields_before: usize, flaw: Flaw) {
        self.fields.truncate(fields_before);
        self.flaws.insert(self.records.len().saturating_sub(1), flaw);
    }
}

/// Where to stop cutting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The block is all there is: what has no line ending at its end is a record too.
    pub last: bool,
    /// At most this many records, at least one.
    pub records_max: usize,
    /// No record that starts behind this many bytes, unless it is the first.
    pub bytes_max: u32,
    /// No record that starts at or behind this offset of the block: it belongs to the next split.
    pub limit: Option<u32>,
    /// Longer records are flawed, in bytes.
    pub record_bytes_max: u64,
}

impl Cut {
    /// Everything there is.
    pub(super) const ALL: Self = Self {
        last: true,
        records_max: usize::MAX,
        bytes_max: u32::MAX,
        limit: None,
        record_bytes_max: u64::MAX,
    };

    /// Whether another record is taken, after `taken` of them, that starts here.
    pub(super) fn takes(&self, taken: usize, start: u32) -> bool {
        taken == 0 || taken < self.records_max && start < self.bytes_max
    }

    pub(super) fn beyond(&self, start: u32) -> bool {
        self.limit.is_some_and(|limit| start >= limit)
    }
}

/// A place in a block as an index. Blocks are shorter than 4 GiB.
pub(super) fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// An index as a place in a block. Blocks are shorter than 4 GiB.
pub(super) fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// At most 80 characters of a value, for people.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(80) {
        Some((cut, _)) => format!("\"{}…\"", value.get(..cut).unwrap_or_default()),
        None => format!("\"{value}\""),
    }
}
