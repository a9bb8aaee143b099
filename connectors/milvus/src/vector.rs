//! Vectors out of columns: lists of numbers, JSON text, or bytes.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float32Array, GenericListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hapax_protocol::code::Code;

use crate::codes;

/// A column of vectors.
pub(crate) enum Vectors {
    /// Numbers, and where those of each row begin and end.
    Lists { numbers: Float32Array, rows: OffsetBuffer<i64>, nulls: Option<arrow::buffer::NullBuffer> },
    /// As many numbers in each row.
    Fixed { numbers: Float32Array, size: usize, nulls: Option<arrow::buffer::NullBuffer> },
    /// A JSON array, or base64 of bytes.
    Text(StringArray),
    /// Numbers of four bytes, the least first.
    Bytes(BinaryArray),
}

/// Whether a column of this type can hold vectors; of a fixed size, how many numbers they have.
pub(crate) fn fits(data_type: &DataType) -> Option<Option<i64>> {
    let is_number = |data_type: &DataType| data_type.is_numeric() && !data_type.is_decimal();
    match data_type {
        DataType::List(item) | DataType::LargeList(item) if is_number(item.data_type()) => Some(None),
        DataType::FixedSizeList(item, size) if is_number(item.data_type()) => Some(Some(i64::from(*size))),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(None),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(None),
        DataType::FixedSizeBinary(bytes) => Some(Some(i64::from(bytes / 4))),
        _ => None,
    }
}

impl Vectors {
    pub(crate) fn read(column: &ArrayRef) -> Result<Self, ArrowError> {
        let numbers = |values: &ArrayRef| -> Result<Float32Array, ArrowError> {
            Ok(cast(values, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
        };
        Ok(match column.data_type() {
            DataType::List(item) => {
                let wide = cast(column, &DataType::LargeList(item.clone()))?;
                Self::lists(wide.as_list::<i64>(), numbers)?
            }
            DataType::LargeList(_) => Self::lists(column.as_list::<i64>(), numbers)?,
            DataType::FixedSizeList(_, size) => {
                let list = column.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let values = numbers(list.values())?;
                Self::Fixed { numbers: values, size, nulls: list.nulls().cloned() }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
            }
            _ => Self::Bytes(cast(column, &DataType::Binary)?.as_binary::<i32>().clone()),
        })
    }

    fn lists(
        list: &GenericListArray<i64>,
        numbers: impl Fn(&ArrayRef) -> Result<Float32Array, ArrowError>,
    ) -> Result<Self, ArrowError> {
        Ok(Self::Lists {
            numbers: numbers(list.values())?,
            rows: list.offsets().clone(),
            nulls: list.nulls().cloned(),
        })
    }

    /// How many numbers the vector of a row has, if it can be read.
    pub(crate) fn size(&self, row: usize) -> Option<usize> {
        let mut numbers = Vec::new();
        self.extend(row, 0, &mut numbers).ok().map(|()| numbers.len())
    }

    /// Appends the vector of a row. An error says what is wrong with it, and nothing was appended.
    pub(crate) fn append(
        &self,
        row: usize,
        dimension: usize,
        into: &mut Vec<f32>,
    ) -> Result<(), (Code, String)> {
        let before = into.len();
        let extended =
            self.extend(row, dimension, into).and_then(|()| match into.len().saturating_sub(before) {
                found if found == dimension => Ok(()),
                found => Err(format!("it has {found} numbers, and the field takes {dimension}")),
            });
        let appended = extended.map_err(|reason| (codes::VECTOR_UNHELD, reason)).and_then(|()| {
            match into.iter().skip(before).position(|number| !number.is_finite()) {
                Some(at) => {
                    let reason = format!("number {at} is NaN, infinite, or too large for single precision");
                    Err((codes::VECTOR_NOT_FINITE, reason))
                }
                None => Ok(()),
            }
        });
        if appended.is_err() {
            into.truncate(before);
        }
        appended
    }

    fn extend(&self, row: usize, dimension: usize, into: &mut Vec<f32>) -> Result<(), String> {
        let missing = || "it is NULL".to_owned();
        match self {
            Self::Lists { numbers, rows, nulls } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Err(missing());
                }
                let bounds = rows.get(row).zip(rows.get(row.saturating_add(1)));
                let bounds = bounds
                    .and_then(|(from, to)| Some((usize::try_from(*from).ok()?, usize::try_from(*to).ok()?)));
                copy(numbers, bounds.ok_or_else(missing)?, into)
            }
            Self::Fixed { numbers, size, nulls } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Err(missing());
                }
                let from = row.saturating_mul(*size);
                copy(numbers, (from, from.saturating_add(*size)), into)
            }
            Self::Text(texts) if texts.is_null(row) => Err(missing()),
            Self::Text(texts) => {
                let text = texts.value(row).trim();
                if text.starts_with('[') {
                    let numbers: Vec<f32> = serde_json::from_str(text)
                        .map_err(|error| format!("it is no JSON array of numbers: {error}"))?;
                    into.extend(numbers);
                    return Ok(());
                }
                let bytes = STANDARD.decode(text).map_err(|_| "it is neither a JSON array nor base64")?;
                unpacked(&bytes, dimension, into)
            }
            Self::Bytes(bytes) if bytes.is_null(row) => Err(missing()),
            Self::Bytes(bytes) => unpacked(bytes.value(row), dimension, into),
        }
    }
}

fn copy(numbers: &Float32Array, (from, to): (usize, usize), into: &mut Vec<f32>) -> Result<(), String> {
    let values = numbers.values().get(from..to).ok_or("it is not there")?;
    if numbers.null_count() > 0
        && let Some(at) = (from..to).position(|at| numbers.is_null(at))
    {
        return Err(format!("number {at} is NULL"));
    }
    into.extend_from_slice(values);
    Ok(())
}

fn unpacked(bytes: &[u8], dimension: usize, into: &mut Vec<f32>) -> Result<(), String> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(format!("it has {} bytes, and {dimension} numbers have four each", bytes.len()));
    }
    into.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeListArray, ListArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn of(column: ArrayRef, row: usize) -> Result<Vec<f32>, String> {
        assert!(fits(column.data_type()).is_some());
        let mut into = vec![9.0];
        Vectors::read(&column).unwrap().append(row, 2, &mut into).map_err(|(_, reason)| reason)?;
        Ok(into.split_off(1))
    }

    #[test]
    fn vectors_come_as_lists_json_and_bytes() {
        let lists = vec![
            Some(vec![Some(1.0), Some(2.5)]),
            None,
            Some(vec![Some(1.0)]),
            Some(vec![Some(1.0), None]),
            Some(vec![Some(1e300), Some(0.0)]),
            Some(vec![Some(f64::NAN), Some(0.0)]),
            Some(vec![Some(-1.0), Some(0.25)]),
        ];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists.clone()));
        assert_eq!(of(Arc::clone(&list), 0).unwrap(), [1.0, 2.5]);
        assert_eq!(of(list.slice(6, 1), 0).unwrap(), [-1.0, 0.25]);
        for (row, reason) in [(1, "NULL"), (2, "1 numbers"), (3, "number 1"), (4, "number 0"), (5, "NaN")] {
            let said = of(Arc::clone(&list), row).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
        let pairs = lists.into_iter().map(|row| row.filter(|row| row.len() == 2));
        let fixed = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(pairs, 2);
        let fixed: ArrayRef = Arc::new(fixed);
        assert_eq!(of(fixed.slice(6, 1), 0).unwrap(), [-1.0, 0.25]);
        assert!(of(Arc::clone(&fixed), 2).is_err());

        let packed: Vec<u8> = [1.0_f32, 2.5].iter().flat_map(|number| number.to_le_bytes()).collect();
        let encoded = STANDARD.encode(&packed);
        let texts = vec!["[1, 2.5]", encoded.as_str(), "[1,\"x\"]", "?", "[1,1e60]", "AAAA"];
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        assert_eq!(of(Arc::clone(&texts), 0).unwrap(), [1.0, 2.5]);
        assert_eq!(of(Arc::clone(&texts), 1).unwrap(), [1.0, 2.5]);
        for row in 2..6 {
            assert!(of(Arc::clone(&texts), row).is_err(), "{row}");
        }
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![packed.as_slice(), &[0]]));
        assert_eq!(of(Arc::clone(&bytes), 0).unwrap(), [1.0, 2.5]);
        assert!(of(bytes, 1).is_err());
    }
}
