//! Lists, structs and maps taken apart into their children.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::ArrayFormatter;

/// What kind of nested value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Values in an order, whatever the layout of the list.
    List,
    /// Named values, in the order of the type.
    Struct,
    /// Pairs of a key and a value, in the order in which they are stored.
    Map,
}

/// A nested array. Children are values like any other: nulls among them count.
#[derive(Debug)]
pub struct Nested {
    /// Its kind.
    pub shape: Shape,
    /// Which rows are null.
    nulls: Option<NullBuffer>,
    /// Where in each of the parts the children of a row are.
    spans: Vec<Range<usize>>,
    /// Arrays of children: the elements, or the keys and the values, or each field with its name.
    parts: Vec<(Option<String>, ArrayRef)>,
}

impl Nested {
    /// Takes an array apart, or `None` if its values are not nested. Values that are shared or repeated are
    /// the values themselves.
    pub fn of(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        if !array.data_type().is_nested() {
            return Ok(None);
        }
        let array = plain(array)?;
        let (shape, spans, parts) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (Shape::List, between(list.value_offsets()), vec![list.values()])
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (Shape::List, between(list.value_offsets()), vec![list.values()])
            }
            DataType::ListView(_) => {
                let list = array.as_list_view::<i32>();
                (Shape::List, sized(list.value_offsets(), list.value_sizes()), vec![list.values()])
            }
            DataType::LargeListView(_) => {
                let list = array.as_list_view::<i64>();
                (Shape::List, sized(list.value_offsets(), list.value_sizes()), vec![list.values()])
            }
            DataType::FixedSizeList(_, length) => {
                let (list, length) = (array.as_fixed_size_list(), at(*length));
                let spans = (0..list.len()).map(|row| row * length..(row + 1) * length).collect();
                (Shape::List, spans, vec![list.values()])
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                (Shape::Map, between(map.value_offsets()), vec![map.keys(), map.values()])
            }
            DataType::Struct(_) => {
                let spans = (0..array.len()).map(|row| row..row + 1).collect();
                (Shape::Struct, spans, array.as_struct().columns().iter().collect())
            }
            other => {
                return Err(ArrowError::NotYetImplemented(format!(
                    "values of type {other} are not compared"
                )));
            }
        };
        let names = match array.data_type() {
            DataType::Struct(fields) => fields.iter().map(|field| Some(field.name().clone())).collect(),
            _ => vec![None; parts.len()],
        };
        // A slice of a batch holds the children of all of it: only its own are looked at.
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end).max().unwrap_or(0);
        let own = |part: &ArrayRef| plain(&part.slice(start, end - start));
        let parts = names.into_iter().zip(parts).map(|(name, part)| Ok((name, own(part)?)));
        Ok(Some(Self {
            shape,
            nulls: array.logical_nulls(),
            parts: parts.collect::<Result<_, ArrowError>>()?,
            spans: spans.into_iter().map(|span| span.start - start..span.end - start).collect(),
        }))
    }

    /// Whether the value in a row is null.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Where the children of a row are in each of the parts.
    pub fn span(&self, row: usize) -> Range<usize> {
        self.spans.get(row).cloned().unwrap_or_default()
    }

    /// How many children the value in a row has: fields, if it is a struct.
    pub fn length(&self, row: usize) -> u64 {
        let length = if self.shape == Shape::Struct { self.parts.len() } else { self.span(row).len() };
        u64::try_from(length).unwrap_or(u64::MAX)
    }

    /// Arrays of children, each with the name of the field if it has one.
    pub fn parts(&self) -> &[(Option<String>, ArrayRef)] {
        &self.parts
    }
}

/// Which rows of an array of flat values are null, also where that is said by a value that they share. An array
/// without a type has always been encoded as one of empty values.
pub fn flat_nulls(array: &ArrayRef) -> Option<NullBuffer> {
    array.data_type().ne(&DataType::Null).then(|| array.logical_nulls()).flatten()
}

/// A value as it is printed. Durations too long for the printer are all alike there: those by their number.
pub fn printed(formatter: &ArrayFormatter<'_>, array: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let text = formatter.value(row).try_to_string()?;
    if text == "<invalid>" && matches!(array.data_type(), DataType::Duration(_)) {
        let number = cast(&array.slice(row, 1), &DataType::Int64)?;
        return Ok(number.as_primitive::<Int64Type>().values().iter().sum::<i64>().to_string());
    }
    Ok(text)
}

/// The same values, each for itself. An array without a type is one of nulls.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Null => cast(array, &DataType::Boolean),
        DataType::Dictionary(_, values) => plain(&cast(array, values)?),
        DataType::RunEndEncoded(_, values) => plain(&cast(array, values.data_type())?),
        _ => Ok(array.clone()),
    }
}

fn at<T: TryInto<usize>>(offset: T) -> usize {
    offset.try_into().unwrap_or(0)
}

fn between<T: TryInto<usize> + Copy>(offsets: &[T]) -> Vec<Range<usize>> {
    offsets.array_windows().map(|[start, end]| at(*start)..at(*end)).collect()
}

fn sized<T: TryInto<usize> + Copy>(offsets: &[T], sizes: &[T]) -> Vec<Range<usize>> {
    offsets.iter().zip(sizes).map(|(start, size)| at(*start)..at(*start) + at(*size)).collect()
}
