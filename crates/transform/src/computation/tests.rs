use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_common::Result;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

use super::Computation;
use crate::codes;

/// Gives the first column back, and breaks off if a 13 is in it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Superstitious;

impl fmt::Display for Superstitious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("superstitious")
    }
}

impl PhysicalExpr for Superstitious {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn nullable(&self, _schema: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        assert!(!numbers.iter().flatten().any(|n| n == 13), "thirteen");
        Ok(ColumnarValue::Array(Arc::new(numbers.clone())))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("superstitious")
    }
}

fn computation() -> Computation {
    let field = Arc::new(Field::new("n", DataType::Int64, false));
    Computation { expr: Arc::new(Superstitious), field, label: "column `n`".into() }
}

fn numbers(values: Vec<Option<i64>>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values));
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![column]).unwrap()
}

#[test]
fn a_panic_costs_one_record() {
    let outcome = computation().compute(&numbers(vec![Some(11), Some(12), Some(13), Some(14)]));
    assert_eq!(outcome.values.as_primitive::<Int64Type>().values(), &[11, 12, 14]);
    let [(row, failure)] = outcome.failed.as_slice() else { panic!("one failure") };
    assert_eq!((*row, failure.code), (2, codes::EXPRESSION_FAILED));
    assert_eq!(failure.message, "column `n`: the function broke off: thirteen");
}

#[test]
fn a_null_where_none_was_planned_is_refused_not_passed_on() {
    let outcome = computation().compute(&numbers(vec![Some(1), None, Some(3)]));
    assert_eq!(outcome.values.len(), 2);
    assert_eq!(outcome.failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
}
