//! CSV text cut into fields, eight bytes at a time.
//!
//! A quote opens only where a field starts; a doubled quote inside quotes stands for itself; text behind a
//! closing quote is literal; `\n`, `\r` and both together end a record; an empty line is no record. This is how
//! the `csv` crate reads, and a property test holds the two against each other.

use super::fields::{Cut, Field, Flaw, Form, Table, index, place};
use crate::codes;

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Cuts CSV text.
#[derive(Debug, Clone)]
pub(super) struct Csv {
    delimiter: u8,
    delimiters: u64,
    /// How many fields a record has; `None` to take records of any width.
    width: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    /// A quote opened the field.
    Quoted,
    /// A quote inside the quoted field stands at this place; what follows says what it means.
    Closing(u32),
    /// Text follows the closing quote.
    Trailing,
}

struct Run<'a> {
    table: &'a mut Table,
    cut: Cut,
    width: u32,
    any_width: bool,
    mode: Mode,
    escaped: bool,
    record: u32,
    field: u32,
    found: u32,
    before: usize,
}

impl Csv {
    pub(super) fn new(delimiter: u8, width: Option<usize>) -> Self {
        Self { delimiter, delimiters: ONES.wrapping_mul(u64::from(delimiter)), width: width.map(place) }
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Cuts a block that begins where a record may begin.
    pub(super) fn cut(&self, block: &[u8], cut: Cut, table: &mut Table) {
        table.clear();
        let mut run = Run {
            table,
            cut,
            width: self.width.unwrap_or(u32::MAX),
            any_width: self.width.is_none(),
            mode: Mode::Plain,
            escaped: false,
            record: 0,
            field: 0,
            found: 0,
            before: 0,
        };
        let (words, tail) = block.as_chunks::<8>();
        let mut at: u32 = 0;
        for word in words {
            if !self.word(u64::from_le_bytes(*word), at, &mut run) {
                return;
            }
            at += 8;
        }
        let mut word = [0; 8];
        if let Some(start) = word.get_mut(..tail.len()) {
            start.copy_from_slice(tail);
        }
        if !self.word(u64::from_le_bytes(word), at, &mut run) {
            return;
        }
        run.finish(place(block.len()));
    }

    /// The special bytes of eight bytes. False stops.
    #[inline]
    fn word(&self, word: u64, base: u32, run: &mut Run<'_>) -> bool {
        let delimiters = zeros(word ^ self.delimiters);
        let ends = zeros(word ^ (ONES * 0x0a)) | zeros(word ^ (ONES * 0x0d));
        let quotes = zeros(word ^ (ONES * 0x22));
        let mut special = delimiters | ends | quotes;
        while special != 0 {
            let lowest = special & special.wrapping_neg();
            let at = base + (special.trailing_zeros() >> 3);
            if quotes & lowest != 0 {
                run.quote(at);
            } else if run.mode != Mode::Quoted {
                if delimiters & lowest != 0 {
                    run.field(at);
                } else if !run.end(at) {
                    return false;
                }
            }
            special &= special - 1;
        }
        true
    }
}

/// The high bit of every byte that is zero.
#[inline]
fn zeros(word: u64) -> u64 {
    !(((word & LOW) + LOW) | word | LOW)
}

impl Run<'_> {
    #[inline]
    fn quote(&mut self, at: u32) {
        match self.mode {
            Mode::Plain if at == self.field => self.mode = Mode::Quoted,
            Mode::Plain | Mode::Trailing => {}
            Mode::Quoted => self.mode = Mode::Closing(at),
            Mode::Closing(before) if before + 1 == at => {
                self.escaped = true;
                self.mode = Mode::Quoted;
            }
            Mode::Closing(_) => self.mode = Mode::Trailing,
        }
    }

    #[inline]
    fn field(&mut self, at: u32) {
        self.found += 1;
        if self.found <= self.width {
            let field = match self.mode {
                Mode::Plain => Field { start: self.field, end: at, form: Form::Bare },
                Mode::Closing(quote) if quote + 1 == at && !self.escaped => {
                    Field { start: self.field + 1, end: quote, form: Form::Quoted }
                }
                _ => Field { start: self.field, end: at, form: Form::Escaped },
            };
            self.table.fields.push(field);
        }
        self.mode = Mode::Plain;
        self.escaped = false;
        self.field = at + 1;
    }

    /// A line ending. False stops.
    #[inline]
    fn end(&mut self, at: u32) -> bool {
        if at == self.record {
            (self.record, self.field) = (at + 1, at + 1);
            return true;
        }
        if !self.wanted() {
            return false;
        }
        self.field(at);
        self.record(at);
        self.table.consumed = at + 1;
        self.table.rest = at + 1;
        self.record = at + 1;
        true
    }

    /// Whether the record that just ended is to be taken.
    #[inline]
    fn wanted(&mut self) -> bool {
        if self.cut.beyond(self.record) {
            self.table.limit_reached = true;
        } else if self.cut.takes(self.table.records.len(), self.record) {
            return true;
        }
        self.table.fields.truncate(self.before);
        self.table.rest = self.record;
        false
    }

    #[inline]
    fn record(&mut self, at: u32) {
        self.table.records.push(self.record..at);
        let bytes = u64::from(at - self.record);
        if bytes > self.cut.record_bytes_max {
            self.table.spoil(self.before, Flaw::too_long(bytes, self.cut.record_bytes_max));
        } else if self.found != self.width && !self.any_width {
            let (found, expected) = (self.found, self.width);
            let fields = if found == 1 { "field" } else { "fields" };
            let flaw = Flaw::new(
                codes::FIELD_COUNT,
                format!("{found} {fields} found, the file has {expected} columns"),
            );
            self.table.spoil(self.before, flaw);
        }
        self.found = 0;
        self.before = self.table.fields.len();
    }

    /// The end of the block.
    fn finish(mut self, at: u32) {
        self.table.rest = self.record;
        if self.record < at && self.cut.beyond(self.record) {
            self.table.limit_reached = true;
        }
        if !self.cut.last || self.record >= at || !self.wanted() {
            self.table.fields.truncate(self.before);
            return;
        }
        let quoted = self.mode == Mode::Quoted;
        self.field(at);
        let before = self.before;
        self.record(at);
        if quoted {
            let reason = "a quote is opened that is not closed before the end of the file";
            self.table.spoil(before, Flaw::new(codes::UNCLOSED_QUOTE, reason));
        }
        (self.table.unclosed, self.table.open) = (quoted, true);
        (self.table.consumed, self.table.rest) = (at, at);
    }
}

/// The text of an escaped field: quotes taken off, doubled ones halved, what follows the closing one kept.
pub(super) fn unescape(raw: &str, into: &mut String) {
    into.clear();
    let mut rest = raw.strip_prefix('"').unwrap_or(raw);
    while let Some(quote) = memchr::memchr(b'"', rest.as_bytes()) {
        into.push_str(rest.get(..quote).unwrap_or_default());
        rest = rest.get(quote + 1..).unwrap_or_default();
        let Some(doubled) = rest.strip_prefix('"') else {
            break;
        };
        into.push('"');
        rest = doubled;
    }
    into.push_str(rest);
}

/// The texts of the fields of a record, as a header needs them.
pub(super) fn texts(block: &str, fields: &[Field]) -> Vec<String> {
    let mut scratch = String::new();
    fields
        .iter()
        .map(|field| {
            let raw = block.get(field.range()).unwrap_or_default();
            if field.form != Form::Escaped {
                return raw.to_owned();
            }
            unescape(raw, &mut scratch);
            scratch.clone()
        })
        .collect()
}

/// Where the text begins: behind a byte order mark, if there is one.
pub(super) fn bom(block: &[u8]) -> u64 {
    if block.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
}

/// The first record of a text, if it is whole: its fields, and the place behind it.
pub(super) fn header(delimiter: u8, block: &[u8], last: bool) -> Option<(Vec<Field>, usize)> {
    let mut table = Table::default();
    Csv::new(delimiter, None).cut(block, Cut { last, records_max: 1, ..Cut::ALL }, &mut table);
    (!table.records.is_empty()).then(|| (table.fields, index(table.consumed)))
}
