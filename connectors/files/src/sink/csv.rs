//! Records as CSV.
//!
//! NULL is an empty field and the empty string is `""`, so the two stay apart: the one thing the CSV
//! writers at hand do not do. In a file of one column NULL is `""` too, because an empty line is no record.

use std::fmt::Write;

use arrow::array::{Array, AsArray, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::sink::fault::Failure;

/// Refuses columns that CSV cannot hold.
pub(crate) fn check(schema: &Schema) -> Result<(), Failure> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        Some(field) => {
            Err(Failure::CsvNested { column: field.name().clone(), kind: field.data_type().clone() })
        }
        None => Ok(()),
    }
}

/// The first line.
pub(crate) fn header(schema: &Schema) -> String {
    let mut line = String::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        push_text(&mut line, field.name());
    }
    line.push('\n');
    line
}

enum Column<'a> {
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    /// Whose values never need quotes.
    Plain(&'a dyn Array, ArrayFormatter<'a>),
    Formatted(&'a dyn Array, ArrayFormatter<'a>),
}

impl<'a> Column<'a> {
    fn new(array: &'a dyn Array, options: &FormatOptions<'a>) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            kind if kind.is_primitive() || *kind == DataType::Boolean => {
                Self::Plain(array, ArrayFormatter::try_new(array, options)?)
            }
            _ => Self::Formatted(array, ArrayFormatter::try_new(array, options)?),
        })
    }

    /// Writes one value; `false` if it is NULL.
    fn push(&self, row: usize, out: &mut String, scratch: &mut String) -> Result<bool, ArrowError> {
        match self {
            Self::Text(array) if array.is_valid(row) => push_text(out, array.value(row)),
            Self::LargeText(array) if array.is_valid(row) => push_text(out, array.value(row)),
            Self::TextView(array) if array.is_valid(row) => push_text(out, array.value(row)),
            Self::Plain(array, formatter) if array.is_valid(row) => formatter.value(row).write(out)?,
            Self::Formatted(array, formatter) if !array.is_null(row) => {
                scratch.clear();
                formatter.value(row).write(scratch)?;
                push_text(out, scratch);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Appends the records to `out`.
pub(crate) fn encode(records: &RecordBatch, out: &mut String) -> Result<(), ArrowError> {
    let options = FormatOptions::new().with_display_error(false);
    let columns: Vec<Column<'_>> = records
        .columns()
        .iter()
        .map(|array| Column::new(array.as_ref(), &options))
        .collect::<Result<_, _>>()?;
    let alone = columns.len() == 1;
    let mut scratch = String::new();
    for row in 0..records.num_rows() {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if !column.push(row, out, &mut scratch)? && alone {
                out.push_str("\"\"");
            }
        }
        out.push('\n');
    }
    Ok(())
}

fn push_text(out: &mut String, text: &str) {
    let quoted = text.is_empty() || text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if !quoted {
        out.push_str(text);
        return;
    }
    out.push('"');
    let mut pieces = text.split('"');
    if let Some(first) = pieces.next() {
        out.push_str(first);
    }
    for piece in pieces {
        let _ = write!(out, "\"\"{piece}");
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
