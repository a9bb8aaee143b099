//! Which values JSON cannot hold.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};
use hapax_protocol::code::Code;

use crate::transform::RefusedRow;

/// The rows that hold a number which is not finite: JSON has no word for it, and null would be a loss. They are refused
/// with this code.
pub fn not_finite(records: &RecordBatch, code: Code) -> Vec<RefusedRow> {
    let mut refused: Vec<RefusedRow> = Vec::new();
    for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        if !holds_infinite(column) {
            continue;
        }
        for row in (0..records.num_rows()).filter(|row| holds_infinite(&column.slice(*row, 1))) {
            refused.push(RefusedRow {
                row,
                code,
                reason: format!("column {}: JSON has no number for NaN or infinity", field.name()),
            });
        }
    }
    refused.sort_by_key(|row| row.row);
    refused.dedup_by_key(|row| row.row);
    refused
}

fn holds_infinite(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float16 => any::<Float16Type>(array, |value| !value.is_finite()),
        DataType::Float32 => any::<Float32Type>(array, |value| !value.is_finite()),
        DataType::Float64 => any::<Float64Type>(array, |value| !value.is_finite()),
        DataType::Struct(_) => struct_holds(array.as_struct()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (0..list.len()).any(|row| list.is_valid(row) && holds_infinite(&list.value(row)))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (0..list.len()).any(|row| list.is_valid(row) && holds_infinite(&list.value(row)))
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            (0..list.len()).any(|row| list.is_valid(row) && holds_infinite(&list.value(row)))
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            (0..map.len()).any(|row| map.is_valid(row) && struct_holds(&map.value(row)))
        }
        _ => false,
    }
}

fn struct_holds(array: &StructArray) -> bool {
    array.columns().iter().any(holds_infinite)
}

fn any<T: ArrowPrimitiveType>(array: &ArrayRef, wrong: impl Fn(T::Native) -> bool) -> bool {
    let array = array.as_primitive::<T>();
    match array.nulls() {
        None => array.values().iter().any(|value| wrong(*value)),
        Some(_) => array.iter().flatten().any(wrong),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_refused_and_no_other() {
        let numbers: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(f64::INFINITY)]));
        let others: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let fields = vec![("f", numbers.clone(), true), ("i", others, true)];
        let records = RecordBatch::try_from_iter_with_nullable(fields).unwrap();
        let rows: Vec<usize> = not_finite(&records, Code(1)).into_iter().map(|row| row.row).collect();
        assert_eq!(rows, [1, 3]);
        let nested: ArrayRef = Arc::new(StructArray::from(records));
        let nested = RecordBatch::try_from_iter(vec![("s", nested)]).unwrap();
        assert_eq!(not_finite(&nested, Code(1)).len(), 2);
    }
}
