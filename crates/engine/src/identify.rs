//! Gives records their identities.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Identity, RecordId};
use hapax_protocol::position::SplitId;

use crate::batch::Ordinals;
use crate::canonical::Rows;
use crate::codes;
use crate::fault::Fault;
use crate::transform::RefusedRow;

/// Computes identities of records of one schema.
#[derive(Debug, Clone)]
pub struct Identifier {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Key { columns: Vec<usize>, names: Vec<String> },
    Hash { columns: Vec<usize> },
    Uuid { column: usize, name: String },
    Position,
}

/// Why identities cannot be computed over a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// A column is not there.
    #[error("the identity names the column `{name}`, but the records have only: {}", .has.join(", "))]
    UnknownColumn {
        /// The missing one.
        name: String,
        /// Those there are.
        has: Vec<String>,
    },
    /// The column cannot hold a UUID.
    #[error("the identity takes a UUID from `{name}`, which is {found}, not text or 16 bytes")]
    NotAUuidColumn {
        /// The column.
        name: String,
        /// Its type.
        found: String,
    },
}

impl Fault for IdentifierError {
    fn code(&self) -> Code {
        match self {
            Self::UnknownColumn { .. } => codes::IDENTITY_COLUMN,
            Self::NotAUuidColumn { .. } => codes::NOT_A_UUID,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::UnknownColumn { .. } => {
                "Name a column that the records have when they reach the sink; with a `transform`, add it to its SELECT."
                    .to_owned()
            }
            Self::NotAUuidColumn { name, .. } => format!("Use `identity: {{ key: [{name}] }}` instead."),
        }
    }
}

/// The identities of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// One per row; an unidentified row has all zeroes and stands in `refused`.
    pub ids: Vec<RecordId>,
    /// The rows that have no identity, and why.
    pub refused: Vec<RefusedRow>,
}

impl Identifier {
    /// Prepares to identify records of `schema`.
    pub fn new(identity: &Identity, schema: &Schema) -> Result<Self, IdentifierError> {
        let find = |name: &String| {
            schema.index_of(name).map_err(|_| IdentifierError::UnknownColumn {
                name: name.clone(),
                has: schema.fields().iter().map(|field| field.name().clone()).collect(),
            })
        };
        let rule = match identity {
            Identity::Key(names) => {
                Rule::Key { columns: names.iter().map(find).collect::<Result<_, _>>()?, names: names.clone() }
            }
            Identity::Hash => Rule::Hash { columns: (0..schema.fields().len()).collect() },
            Identity::Uuid(name) => {
                let column = find(name)?;
                let found = schema.field(column).data_type();
                if !matches!(
                    found,
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::FixedSizeBinary(16)
                ) {
                    return Err(IdentifierError::NotAUuidColumn {
                        name: name.clone(),
                        found: found.to_string(),
                    });
                }
                Rule::Uuid { column, name: name.clone() }
            }
            Identity::Position => Rule::Position,
        };
        Ok(Self { rule })
    }

    /// Identifies every row of `records`.
    pub fn identify(
        &self,
        records: &RecordBatch,
        split: &SplitId,
        ordinals: &Ordinals,
    ) -> Result<Identified, ArrowError> {
        let rows = 0..records.num_rows();
        let mut refused = Vec::new();
        let mut bytes = Vec::with_capacity(256);
        let ids = match &self.rule {
            Rule::Key { columns, names } => {
                let encoded = Rows::new(records, columns)?;
                rows.map(|row| {
                    if let Some(null) = encoded.null(row) {
                        let column = names.get(null).map_or("", String::as_str);
                        refused.push(RefusedRow {
                            row,
                            code: codes::KEY_NULL,
                            reason: format!("key column `{column}` is null: the record has no identity"),
                        });
                        return Ok(RecordId([0; 16]));
                    }
                    bytes.clear();
                    encoded.encode(row, &mut bytes)?;
                    Ok(digest(&bytes))
                })
                .collect::<Result<_, ArrowError>>()?
            }
            Rule::Hash { columns } => {
                let encoded = Rows::new(records, columns)?;
                rows.map(|row| {
                    bytes.clear();
                    encoded.encode(row, &mut bytes)?;
                    Ok(digest(&bytes))
                })
                .collect::<Result<_, ArrowError>>()?
            }
            Rule::Uuid { column, name } => {
                let encoded = Rows::new(records, &[*column])?;
                rows.map(|row| {
                    bytes.clear();
                    encoded.encode(row, &mut bytes)?;
                    // A tag and a length of 8 bytes stand before the value.
                    let value = bytes.get(9..).unwrap_or_default();
                    Ok(uuid(value).unwrap_or_else(|| {
                        let found: String = String::from_utf8_lossy(value).chars().take(80).collect();
                        refused.push(RefusedRow {
                            row,
                            code: codes::NOT_A_UUID,
                            reason: format!("column `{name}` should hold a UUID, found \"{found}\""),
                        });
                        RecordId([0; 16])
                    }))
                })
                .collect::<Result<_, ArrowError>>()?
            }
            Rule::Position => rows
                .map(|row| {
                    bytes.clear();
                    bytes.extend(split.as_str().as_bytes());
                    bytes.push(0);
                    bytes.extend(ordinals.of(row).to_le_bytes());
                    digest(&bytes)
                })
                .collect(),
        };
        Ok(Identified { ids, refused })
    }
}

/// The first 128 bits of BLAKE3.
pub fn digest(bytes: &[u8]) -> RecordId {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(blake3::hash(bytes).as_bytes()) {
        *to = *from;
    }
    RecordId(id)
}

/// Reads a UUID or the digits of an identity: 16 bytes, or 32 hexadecimal digits with or without hyphens and braces.
pub fn uuid(value: &[u8]) -> Option<RecordId> {
    if let Ok(bytes) = <[u8; 16]>::try_from(value) {
        return Some(RecordId(bytes));
    }
    let text = std::str::from_utf8(value).ok()?.trim();
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let plain = text.len() == 32 && !text.contains('-');
    let hyphens =
        text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
    if !plain && !hyphens {
        return None;
    }
    let digits: Vec<u8> = text
        .chars()
        .filter(|&c| c != '-')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    Some(RecordId(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
