//! The beginning of a file: its header, and the columns that it lets guess.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field};

use super::column::Rule;
use super::csv::{self, Csv};
use super::fault::FilesFault;
use super::feed::Feed;
use super::fields::{Cut, Field as Cell, Form, Table};
use super::infer::{Looks, Shape};
use crate::config;

/// How much of the files is looked at to guess the columns, in bytes.
pub(super) const SAMPLE_BYTES: usize = 1024 * 1024;
/// How many records of them.
pub(super) const SAMPLE_RECORDS: usize = 10_000;

const STEP_BYTES: usize = 64 * 1024;

/// The first bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    pub name: String,
    pub bytes: Vec<u8>,
    /// These are all bytes of the file.
    pub whole: bool,
}

impl Beginning {
    /// Reads on until there are `wanted` bytes or the file ends.
    pub(super) async fn grow(&mut self, feed: &mut Feed, wanted: usize) -> Result<(), FilesFault> {
        while self.bytes.len() < wanted && !self.whole {
            let done = self.bytes.len();
            self.bytes.resize(wanted.max(done + STEP_BYTES), 0);
            let read = feed.read(self.bytes.get_mut(done..).unwrap_or_default()).await;
            self.bytes.truncate(done + *read.as_ref().unwrap_or(&0));
            self.whole = read? == 0;
        }
        Ok(())
    }

    /// Where the text begins, behind a byte order mark.
    fn text(&self) -> (usize, &[u8]) {
        let bom = usize::try_from(csv::bom(&self.bytes)).unwrap_or(0);
        (bom, self.bytes.get(bom..).unwrap_or_default())
    }

    /// The names that the header of a CSV file gives its columns, and the offset behind it. Without a header the
    /// columns are `column_1`, `column_2`, …; `None` if the file holds no record.
    pub(super) async fn header(
        &mut self,
        feed: &mut Feed,
        (delimiter, header): (u8, bool),
        bytes_max: u64,
    ) -> Result<Option<(Vec<String>, usize)>, FilesFault> {
        let mut wanted = STEP_BYTES;
        loop {
            self.grow(feed, wanted).await?;
            let (bom, text) = self.text();
            if let Some((fields, end)) = csv::header(delimiter, text, self.whole) {
                let record = std::str::from_utf8(text.get(..end).unwrap_or_default());
                if !header {
                    return Ok(Some(((1..=fields.len()).map(|i| format!("column_{i}")).collect(), bom)));
                }
                let record = record.map_err(|_| self.bad_header("it is not UTF-8"))?;
                let names = csv::texts(record, &fields);
                self.sound(&names)?;
                return Ok(Some((names, bom + end)));
            }
            if self.whole {
                return Ok(None);
            }
            if u64::try_from(self.bytes.len()).unwrap_or(u64::MAX) > bytes_max {
                return Err(self.bad_header("it is longer than record_bytes_max"));
            }
            wanted = self.bytes.len() * 2;
        }
    }

    fn bad_header(&self, what: &str) -> FilesFault {
        FilesFault::Header { name: self.name.clone(), what: what.to_owned() }
    }

    fn sound(&self, names: &[String]) -> Result<(), FilesFault> {
        let mut known = HashSet::new();
        for (i, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(self.bad_header(&format!("column {} has no name", i + 1)));
            }
            if !known.insert(name) {
                return Err(self.bad_header(&format!("two columns are named `{name}`")));
            }
        }
        Ok(())
    }

    /// Adds what the CSV records behind `start` look like, column by column. Returns how many there were.
    pub(super) fn look_csv(
        &self,
        start: usize,
        delimiter: u8,
        nulls: &[String],
        looks: &mut [Looks],
        records_max: usize,
    ) -> usize {
        let text = self.bytes.get(start..).unwrap_or_default();
        let mut table = Table::default();
        let cut = Cut { last: self.whole, records_max, ..Cut::ALL };
        Csv::new(delimiter, Some(looks.len())).cut(text, cut, &mut table);
        let mut scratch = String::new();
        for row in table.fields.chunks(looks.len().max(1)) {
            for (cell, look) in row.iter().zip(looks.iter_mut()) {
                let Ok(raw) = std::str::from_utf8(text.get(Cell::range(cell)).unwrap_or_default()) else {
                    continue;
                };
                match cell.form {
                    Form::Bare if nulls.iter().any(|null| null == raw) => {}
                    Form::Quoted if raw.is_empty() => {}
                    Form::Escaped => {
                        csv::unescape(raw, &mut scratch);
                        look.see(&scratch);
                    }
                    _ => look.see(raw),
                }
            }
        }
        table.records.len()
    }

    /// Merges the JSON objects into a shape. Returns how many lines there were.
    pub(super) fn look_json(&self, shape: &mut Shape, records_max: usize) -> usize {
        let (_, text) = self.text();
        let whole = match memchr::memrchr(b'\n', text) {
            _ if self.whole => text,
            Some(end) => text.get(..end).unwrap_or_default(),
            None => &[],
        };
        let lines = whole.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let mut count = 0;
        for line in lines.take(records_max) {
            count += 1;
            if let Ok(object @ Shape::Object(_)) = serde_json::from_slice::<Shape>(line) {
                *shape = std::mem::take(shape).merge(object);
            }
        }
        count
    }
}

/// Columns as they were guessed or given.
#[derive(Debug, Clone, Default)]
pub(super) struct Guess {
    pub fields: Vec<Field>,
    pub rules: Vec<Rule>,
}

impl Guess {
    pub(super) fn push(&mut self, name: &str, data_type: DataType, rule: Rule) {
        self.fields.push(Field::new(name, data_type, true));
        self.rules.push(rule);
    }

    /// The columns as the file gives them.
    pub(super) fn given(columns: &config::Columns) -> Self {
        let mut guess = Self::default();
        for (name, data_type) in &columns.0 {
            guess.push(name, data_type.clone(), Rule::DECLARED);
        }
        guess
    }
}
