//! JSON Lines cut into the fields of their top-level objects.
//!
//! Strict where a silent choice would lose something: a field given twice, a field the schema lacks, anything
//! behind the object. Nested values are only delimited here; the column decoder reads them.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memchr;

use super::fields::{Cut, Field, Flaw, Form, Table, place, shown};
use crate::codes;

/// Cuts lines of JSON.
#[derive(Debug, Clone)]
pub(super) struct Json {
    names: Arc<[String]>,
    places: Arc<HashMap<String, usize>>,
}

impl Json {
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let names: Arc<[String]> = names.collect();
        let places = names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        Self { names, places: Arc::new(places) }
    }

    /// Cuts a block that begins where a line begins.
    pub(super) fn cut(&self, block: &[u8], cut: Cut, table: &mut Table) {
        table.clear();
        let mut at = 0;
        while let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) {
            let (length, behind) = match memchr(b'\n', rest) {
                Some(end) => (end, end + 1),
                None if cut.last => (rest.len(), rest.len()),
                None => (0, 0),
            };
            let line = rest.get(..length).unwrap_or_default();
            let begins = at + line.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(line.len());
            let text = line.trim_ascii();
            if behind > 0 && text.is_empty() {
                at += behind;
                table.rest = place(at);
                continue;
            }
            table.rest = place(at);
            if cut.beyond(place(at)) {
                table.limit_reached = true;
                return;
            }
            if behind == 0 || !cut.takes(table.records.len(), place(at)) {
                return;
            }
            self.record(text, begins, cut, table);
            at += behind;
            (table.consumed, table.rest) = (place(at), place(at));
            table.open = length == behind;
        }
    }

    fn record(&self, text: &[u8], start: usize, cut: Cut, table: &mut Table) {
        table.records.push(place(start)..place(start + text.len()));
        let before = table.fields.len();
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if bytes > cut.record_bytes_max {
            table.spoil(before, Flaw::too_long(bytes, cut.record_bytes_max));
            return;
        }
        table.fields.resize(before + self.names.len(), Field::ABSENT);
        let row = table.fields.get_mut(before..).unwrap_or_default();
        if let Err(flaw) = self.object(text, start, row) {
            table.spoil(before, flaw);
        }
    }

    fn object(&self, text: &[u8], start: usize, row: &mut [Field]) -> Result<(), Flaw> {
        let mut cursor = Cursor { text, at: 0 };
        cursor.expect(b'{', "an object")?;
        let mut next = 0;
        let mut last = cursor.take(b'}');
        while !last {
            let name = self.name(&mut cursor, next)?;
            next = name + 1;
            cursor.expect(b':', "':' behind the name of a field")?;
            let value = cursor.value(start)?;
            let field = row.get_mut(name).filter(|field| field.form == Form::Absent);
            *field.ok_or_else(|| self.twice(name))? = value;
            last = cursor.take(b'}');
            if !last {
                cursor.expect(b',', "',' or '}' behind a field")?;
            }
        }
        match cursor.peek() {
            None => Ok(()),
            Some(_) => Err(cursor.flaw("nothing more behind the object")),
        }
    }

    fn twice(&self, name: usize) -> Flaw {
        let name = self.names.get(name).map(String::as_str).unwrap_or_default();
        Flaw::new(codes::JSON, format!("the field {} is given twice", shown(name)))
    }

    /// Reads a field name; returns its column. `expected` is tried first.
    fn name(&self, cursor: &mut Cursor<'_>, expected: usize) -> Result<usize, Flaw> {
        cursor.expect(b'"', "the name of a field")?;
        let field = cursor.string(0)?;
        let raw = cursor.text.get(field.range()).unwrap_or_default();
        if field.form == Form::Quoted && self.names.get(expected).is_some_and(|name| name.as_bytes() == raw) {
            return Ok(expected);
        }
        let text =
            std::str::from_utf8(raw).map_err(|_| Flaw::new(codes::UTF8, "a field name is not UTF-8"))?;
        let unescaped = match field.form {
            Form::Escaped => unescape(text).ok_or_else(|| cursor.flaw("a field name with valid escapes"))?,
            _ => text.to_owned(),
        };
        self.places.get(&unescaped).copied().ok_or_else(|| {
            Flaw::new(codes::UNKNOWN_FIELD, format!("the schema has no field {}", shown(&unescaped)))
        })
    }
}

/// The text of a JSON string, given without its quotes. `None` if an escape is not one.
pub(super) fn unescape(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, wanted: u8, what: &str) -> Result<(), Flaw> {
        if self.take(wanted) { Ok(()) } else { Err(self.flaw(what)) }
    }

    fn flaw(&self, expected: &str) -> Flaw {
        let found = match self.text.get(self.at..).unwrap_or_default() {
            [] => "the line ends".to_owned(),
            rest => {
                let some = rest.get(..20).unwrap_or(rest);
                format!("found {}", shown(&String::from_utf8_lossy(some)))
            }
        };
        Flaw::new(codes::JSON, format!("not valid JSON at byte {}: expected {expected}, {found}", self.at))
    }

    /// A value; its place is counted from `base`.
    fn value(&mut self, base: usize) -> Result<Field, Flaw> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string(base)
            }
            Some(b'{' | b'[') => self.nested(base),
            Some(b'-' | b'0'..=b'9') => self.number(base),
            Some(b't') => self.literal(b"true", Form::Bare, base),
            Some(b'f') => self.literal(b"false", Form::Bare, base),
            Some(b'n') => self.literal(b"null", Form::Null, base),
            _ => Err(self.flaw("a value")),
        }
    }

    fn field(&self, start: usize, end: usize, form: Form, base: usize) -> Field {
        Field { start: place(base + start), end: place(base + end), form }
    }

    fn literal(&mut self, word: &[u8], form: Form, base: usize) -> Result<Field, Flaw> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.flaw("true, false or null"));
        }
        let start = self.at;
        self.at += word.len();
        Ok(self.field(start, self.at, form, base))
    }

    /// The rest of a string whose opening quote was taken.
    fn string(&mut self, base: usize) -> Result<Field, Flaw> {
        let start = self.at;
        let mut form = Form::Quoted;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(special) = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20) else {
                self.at = self.text.len();
                return Err(self.flaw("the end of a string"));
            };
            self.at += special;
            match rest.get(special) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(self.field(start, self.at - 1, form, base));
                }
                Some(b'\\') => {
                    form = Form::Escaped;
                    self.at += 2;
                }
                _ => return Err(self.flaw("no control character in a string")),
            }
        }
    }

    fn number(&mut self, base: usize) -> Result<Field, Flaw> {
        let start = self.at;
        self.at += usize::from(self.text.get(self.at) == Some(&b'-'));
        let whole = self.digits();
        let leading_zero = whole > 1 && self.text.get(self.at - whole) == Some(&b'0');
        let mut sound = whole > 0 && !leading_zero;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            sound &= self.digits() > 0;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            sound &= self.digits() > 0;
        }
        if !sound {
            self.at = start;
            return Err(self.flaw("a number"));
        }
        Ok(self.field(start, self.at, Form::Bare, base))
    }

    fn digits(&mut self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let count = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        count
    }

    /// An object or array, delimited but not checked.
    fn nested(&mut self, base: usize) -> Result<Field, Flaw> {
        let start = self.at;
        let mut depth: usize = 0;
        loop {
            match self.text.get(self.at) {
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Ok(self.field(start, self.at, Form::Nested, base));
                    }
                }
                Some(b'"') => {
                    self.at += 1;
                    self.string(0)?;
                }
                Some(_) => self.at += 1,
                None => return Err(self.flaw("the end of an object or array")),
            }
        }
    }
}
