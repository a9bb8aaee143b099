//! Which record is meant: from a text that a person has at hand to identities and a place.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use hapax_engine::batch::Ordinals;
use hapax_engine::identify::{Identifier, uuid};
use hapax_protocol::identity::{Identity, Place, RecordId};
use hapax_protocol::position::SplitId;

/// The record that is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The identities that the text may stand for: one, or a few where types had to be guessed.
    pub ids: Vec<RecordId>,
    /// The place it names, if it names one.
    pub place: Option<Place>,
}

/// Why a text names no record, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed(pub String);

/// How many combinations of guessed types are tried.
const COMBINATIONS_MAX: usize = 4096;

impl Subject {
    /// Reads `text`: a place `SPLIT:RECORD`, 32 hexadecimal digits, a UUID, or the values of the key as `7`,
    /// `id=7` or `a=1,b=x`. Without a schema, the types of values are guessed. `is_split` tells splits from
    /// what only looks like one.
    pub fn parse(
        text: &str,
        identity: &Identity,
        schema: Option<&Schema>,
        is_split: impl Fn(&SplitId) -> bool,
    ) -> Result<Self, Unnamed> {
        if let Some(place) = place(text)
            && (is_split(&place.split) || *identity == Identity::Position)
        {
            let ids = if *identity == Identity::Position { vec![of_place(&place)?] } else { Vec::new() };
            return Ok(Self { ids, place: Some(place) });
        }
        // A key may look like an identity, too: then both are meant.
        let mut ids: Vec<RecordId> = digits(text).into_iter().collect();
        match identity {
            Identity::Position | Identity::Hash => {}
            Identity::Uuid(_) => ids.extend(uuid(text.as_bytes()).filter(|_| text.len() >= 32)),
            Identity::Key(columns) => match keyed(text, columns, schema) {
                Ok(keyed) => ids.extend(keyed),
                Err(unnamed) if ids.is_empty() => return Err(unnamed),
                Err(_) => {}
            },
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Err(Unnamed(format!("this pipeline tells records apart by {identity}")));
        }
        Ok(Self { ids, place: None })
    }
}

fn place(text: &str) -> Option<Place> {
    let (split, ordinal) = text.rsplit_once(':')?;
    Some(Place { split: SplitId::new(split), ordinal: ordinal.parse().ok()? })
}

fn digits(text: &str) -> Option<RecordId> {
    let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_plain { uuid(text.as_bytes()) } else { None }
}

fn of_place(place: &Place) -> Result<RecordId, Unnamed> {
    let column: ArrayRef = Arc::new(StringArray::from(vec![""]));
    let rows = RecordBatch::try_from_iter([("n", column)]);
    let rows = rows.map_err(|error| Unnamed(error.to_string()))?;
    let identified = Identifier::new(&Identity::Position, &rows.schema())
        .map_err(|error| Unnamed(error.to_string()))?
        .identify(&rows, &place.split, &Ordinals::From(place.ordinal));
    let ids = identified.map_err(|error| Unnamed(error.to_string()))?.ids;
    ids.first().copied().ok_or_else(|| Unnamed("the place has no identity".into()))
}

/// The identities that these values of the key may have.
fn keyed(text: &str, columns: &[String], schema: Option<&Schema>) -> Result<Vec<RecordId>, Unnamed> {
    let values = values(text, columns)?;
    let mut each: Vec<Vec<ArrayRef>> = Vec::with_capacity(columns.len());
    for (column, value) in columns.iter().zip(values) {
        let known = schema.and_then(|schema| schema.field_with_name(column).ok());
        let read: Vec<ArrayRef> = match known {
            Some(field) => vec![of_type(value, field.data_type()).map_err(|error| {
                let kind = field.data_type();
                Unnamed(format!("column `{column}` is {kind}, and `{value}` is no such value: {error}"))
            })?],
            None => guesses().iter().filter_map(|kind| of_type(value, kind).ok()).collect(),
        };
        each.push(read);
    }
    let mut rows: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    for column in each {
        let longer = rows
            .iter()
            .flat_map(|row| column.iter().map(move |value| [row.clone(), vec![Arc::clone(value)]].concat()));
        rows = longer.take(COMBINATIONS_MAX).collect();
    }
    let ids = rows.into_iter().map(|row| of_values(columns, row));
    ids.collect::<Result<Vec<_>, _>>().map_err(|error| Unnamed(error.to_string()))
}

fn of_values(columns: &[String], values: Vec<ArrayRef>) -> Result<RecordId, arrow::error::ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .zip(&values)
        .map(|(name, value)| Field::new(name, value.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let row = RecordBatch::try_new(Arc::clone(&schema), values)?;
    let identifier = Identifier::new(&Identity::Key(columns.to_vec()), &schema)
        .map_err(|error| arrow::error::ArrowError::SchemaError(error.to_string()))?;
    let ids = identifier.identify(&row, &SplitId::new(""), &Ordinals::From(0))?.ids;
    ids.first().copied().ok_or_else(|| arrow::error::ArrowError::ComputeError("no identity".into()))
}

/// The types that keys have, where the source cannot be asked.
fn guesses() -> [DataType; 7] {
    [
        DataType::Int64,
        DataType::Utf8,
        DataType::Float64,
        DataType::Boolean,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    ]
}

/// One value as a column of its type; binary values in hexadecimal.
fn of_type(value: &str, kind: &DataType) -> Result<ArrayRef, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let text: ArrayRef = match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = bytes(value).ok_or("binary values are given in hexadecimal")?;
            Arc::new(BinaryArray::from_vec(vec![&bytes]))
        }
        _ => Arc::new(StringArray::from(vec![value])),
    };
    cast_with_options(&text, kind, &strict).map_err(|error| error.to_string())
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let pair = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(pair).collect() } else { None }
}

/// The values of the key columns, in their order. A value may contain commas: what starts the next one is its
/// column's name and `=`.
fn values<'a>(text: &'a str, columns: &[String]) -> Result<Vec<&'a str>, Unnamed> {
    let form = columns.iter().map(|column| format!("{column}=…")).collect::<Vec<_>>().join(",");
    let mut starts: Vec<(usize, usize, usize)> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let word = format!("{column}=");
        let at_start = text.starts_with(&word).then_some((0, word.len()));
        let later =
            || text.find(&format!(",{word}")).map(|at| (at, at.saturating_add(word.len()).saturating_add(1)));
        match at_start.or_else(later) {
            Some((from, value)) => starts.push((from, value, index)),
            None if columns.len() == 1 => return Ok(vec![text]),
            None => return Err(Unnamed(format!("the key is given as `{form}`"))),
        }
    }
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|(from, _, _)| *from).chain([text.len()]);
    let mut found: Vec<(usize, &str)> = starts
        .iter()
        .zip(ends)
        .filter_map(|((_, value, index), end)| Some((*index, text.get(*value..end)?)))
        .collect();
    found.sort_unstable();
    let is_whole = starts.first().is_some_and(|(from, _, _)| *from == 0) && found.len() == columns.len();
    if is_whole {
        Ok(found.into_iter().map(|(_, value)| value).collect())
    } else {
        Err(Unnamed(format!("the key is given as `{form}`")))
    }
}

#[cfg(test)]
mod tests;
