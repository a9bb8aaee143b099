//! Bodies of messages as records: JSON objects by declared columns, or the bytes as they are.
//!
//! A stream has no beginning to infer columns from that stays what it was, so columns of JSON are declared. A value
//! that does not fit its column spoils its message and no other, and nothing is left out in silence.

mod encode;
mod finite;
mod gather;
mod json;
mod outgoing;
mod rows;
pub mod session;
#[cfg(test)]
mod tests;
pub mod zone;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
pub use encode::{Objects, as_objects};
pub use finite::not_finite;
pub use gather::{Beside, Gathered, Gathering, Layout, Message, moment, number, text};
pub use outgoing::{encode, raw_column};
pub use rows::Rows;

/// What the body of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object, whose fields are the columns that `schema` names.
    #[default]
    Json,
    /// Bytes that nobody looks into: one column, `body`.
    Raw,
}

/// What becomes of a field that `schema` does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// Its message becomes a dead letter: the field would be lost.
    #[default]
    Reject,
    /// It is left out.
    Ignore,
}

/// How bodies are read.
#[derive(Debug, Clone)]
pub struct Bodies {
    format: Format,
    unknown: UnknownFields,
    fields: Arc<[FieldRef]>,
}

/// Why bodies cannot be read as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodiesError {
    /// JSON without columns.
    #[error(
        "`format: json` needs `schema`: messages to come may have fields that those of today do not show"
    )]
    NoSchema,
    /// Columns for bytes.
    #[error("`format: raw` takes no `schema`: its one column is `body`")]
    NeedlessSchema,
    /// A column that is given by Hapax.
    #[error("`schema` names a column whose name begins with `_`, which is kept for what is not in the body")]
    ReservedName,
}

impl Bodies {
    /// Reads bodies of this format.
    pub fn new(
        format: Format,
        schema: Option<&Columns>,
        unknown: UnknownFields,
    ) -> Result<Self, BodiesError> {
        let fields: Vec<FieldRef> = match (format, schema) {
            (Format::Json, None) => return Err(BodiesError::NoSchema),
            (Format::Raw, Some(_)) => return Err(BodiesError::NeedlessSchema),
            (Format::Raw, None) => vec![Arc::new(Field::new("body", DataType::Binary, true))],
            (Format::Json, Some(columns)) => {
                if columns.0.iter().any(|(name, _)| name.starts_with('_')) {
                    return Err(BodiesError::ReservedName);
                }
                let field =
                    |(name, kind): &(String, DataType)| Arc::new(Field::new(name, kind.clone(), true));
                columns.0.iter().map(field).collect()
            }
        };
        Ok(Self { format, unknown, fields: fields.into() })
    }

    /// The columns of a body.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Room for the records of some bodies.
    pub fn rows(&self) -> Rows {
        Rows::new(self.clone())
    }
}
