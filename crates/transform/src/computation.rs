//! One expression over many records, and which of them it fails on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use hapax_protocol::code::Code;

use crate::codes;

/// One expression that can be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Computation {
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// The values it gives. Anything else it gives is a failure.
    pub(crate) field: FieldRef,
    /// What it is for, for a reason: "column `total`".
    pub(crate) label: String,
}

/// How an expression failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Whether the fault is the evaluator's, not the values'.
    pub(crate) internal: bool,
}

/// The values of the records on which it did not fail, in order, and those on which it did.
pub(crate) struct Outcome {
    pub(crate) values: ArrayRef,
    pub(crate) failed: Vec<(usize, Failure)>,
}

impl Computation {
    /// Evaluates it for all records, or for none.
    pub(crate) fn evaluate(&self, records: &RecordBatch) -> Result<ArrayRef, Failure> {
        // A panic inside a function of the library must cost one record, not the run.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            self.expr.evaluate(records).and_then(|values| values.into_array(records.num_rows()))
        }));
        let values = evaluated
            .map_err(|panic| Failure::of_panic(panic.as_ref()))
            .and_then(|values| values.map_err(|error| Failure::of(&error)))
            .map_err(|failure| failure.labelled(&self.label))?;
        let nulls = !self.field.is_nullable() && values.null_count() > 0;
        if nulls || values.len() != records.num_rows() || values.data_type() != self.field.data_type() {
            let found = if nulls { "NULL".to_owned() } else { values.data_type().to_string() };
            let message = format!("it gave {found} where {} was planned", self.field.data_type());
            return Err(Failure::internal(message).labelled(&self.label));
        }
        Ok(values)
    }

    /// Evaluates it, and where that fails halves the records until each one that fails stands alone.
    ///
    /// A record is refused if and only if it fails alone, so the result does not depend on which other
    /// records it came with.
    pub(crate) fn compute(&self, records: &RecordBatch) -> Outcome {
        let mut pieces = Vec::new();
        let mut failed = Vec::new();
        self.halve(records, 0, &mut pieces, &mut failed);
        let joined = match pieces.as_slice() {
            [] => Ok(new_empty_array(self.field.data_type())),
            [one] => Ok(Arc::clone(one)),
            many => concat(&many.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>()),
        };
        match joined {
            Ok(values) => Outcome { values, failed },
            Err(error) => {
                let failure = Failure::of_arrow(&error).labelled(&self.label);
                Outcome {
                    values: new_empty_array(self.field.data_type()),
                    failed: (0..records.num_rows()).map(|row| (row, failure.clone())).collect(),
                }
            }
        }
    }

    fn halve(
        &self,
        records: &RecordBatch,
        first: usize,
        pieces: &mut Vec<ArrayRef>,
        failed: &mut Vec<(usize, Failure)>,
    ) {
        match (self.evaluate(records), records.num_rows()) {
            (Ok(values), _) => pieces.push(values),
            (Err(_), 0) => {}
            (Err(failure), 1) => failed.push((first, failure)),
            (Err(_), count) => {
                let half = count / 2;
                self.halve(&records.slice(0, half), first, pieces, failed);
                self.halve(&records.slice(half, count - half), first + half, pieces, failed);
            }
        }
    }
}

impl Failure {
    pub(crate) fn of(error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ArrowError(arrow, _) => Self::of_arrow(arrow),
            DataFusionError::Execution(message) => Self::other(first_line(message)),
            DataFusionError::Internal(message) => Self::internal(first_line(message)),
            other => Self::other(first_line(&other.message())),
        }
    }

    pub(crate) fn of_arrow(error: &ArrowError) -> Self {
        let (code, message) = match error {
            ArrowError::CastError(text) | ArrowError::ParseError(text) => {
                (codes::VALUE_DOES_NOT_CONVERT, first_line(text))
            }
            ArrowError::DivideByZero => (codes::ARITHMETIC, "division by zero".to_owned()),
            ArrowError::ArithmeticOverflow(text) => (codes::ARITHMETIC, first_line(text)),
            ArrowError::ComputeError(text) | ArrowError::InvalidArgumentError(text) => {
                (codes::EXPRESSION_FAILED, first_line(text))
            }
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(error) => return Self::of(error),
                None => (codes::EXPRESSION_FAILED, first_line(&inner.to_string())),
            },
            other => (codes::EXPRESSION_FAILED, first_line(&other.to_string())),
        };
        Self { code, message, internal: false }
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self::internal(format!("the function broke off: {}", first_line(&text)))
    }

    fn other(message: String) -> Self {
        Self { code: codes::EXPRESSION_FAILED, message, internal: false }
    }

    fn internal(message: String) -> Self {
        Self { code: codes::EXPRESSION_FAILED, message, internal: true }
    }

    fn labelled(mut self, label: &str) -> Self {
        self.message = format!("{label}: {}", self.message);
        self
    }
}

/// Messages of the library may go on with a backtrace or an invitation to report a bug.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
