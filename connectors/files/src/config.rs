//! What a pipeline file says of a files source, and the words both ends share.

use std::fmt;

pub use hapax_engine::columns::{Columns, TypeNameError, parse_type, type_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long one record may be unless the file says otherwise: 16 MiB.
pub const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The `files:` section of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a glob (`data/*.csv`), `-` for standard input, or a URL (`s3://`, `gs://`, `az://`, `https://`,
    /// `file://`).
    pub path: String,
    /// The format; by default from the extension, before `.gz` or `.zst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The compression; by default from the extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Column names and their types. A CSV column that is not named here is inferred; for JSON Lines
    /// and Parquet the list is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// What separates CSV fields: one ASCII character, `,` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first CSV record names the columns; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// Unquoted CSV fields that mean NULL; by default only the empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_values: Option<Vec<String>>,
    /// A longer record becomes a dead letter, in bytes; 16 MiB by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_bytes_max: Option<u64>,
}

impl SourceConfig {
    /// Everything at its default, for a path.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            format: None,
            compression: None,
            schema: None,
            delimiter: None,
            header: None,
            null_values: None,
            record_bytes_max: None,
        }
    }
}

/// How records are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a file name says, looking through `.gz` and `.zst`. `None` if it says none.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv" | "tsv") => Some(Self::Csv),
            Some("jsonl" | "ndjson" | "json") => Some(Self::Jsonl),
            Some("parquet" | "pq") => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        })
    }
}

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one member or several.
    Gzip,
    /// Zstandard, one frame or several.
    Zstd,
}

impl Compression {
    /// The compression that a file name says.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if name.ends_with(".gz") {
            Self::Gzip
        } else if name.ends_with(".zst") {
            Self::Zstd
        } else {
            Self::None
        }
    }
}
