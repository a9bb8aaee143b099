//! What a pipeline file says of Milvus.

use std::path::PathBuf;

use hapax_engine::columns::Columns;
use hapax_engine::message::UnknownFields;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A collection to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The server: `http://host:19530`, or `https://` for TLS, as Zilliz Cloud has it. It may hold
    /// `user:password@`.
    pub url: String,
    /// What lets in: an API key, or `user:password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub token: Option<String>,
    /// A file of certificates (PEM) that sign the server's, instead of those the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The database; `default` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The collection. It must be loaded.
    pub collection: String,
    /// Names and types of keys of the dynamic field that become columns. Without it the dynamic field is one column,
    /// `$meta`, of JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// What becomes of a key of the dynamic field that `schema` does not name: `reject` (default) sets its record
    /// aside, `ignore` leaves the key out.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
}

/// A collection to write to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The server: `http://host:19530`, or `https://` for TLS, as Zilliz Cloud has it. It may hold
    /// `user:password@`.
    pub url: String,
    /// What lets in: an API key, or `user:password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub token: Option<String>,
    /// A file of certificates (PEM) that sign the server's, instead of those the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The database; `default` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The collection. A column is written to the field of its name, or into the dynamic field.
    pub collection: String,
    /// How the collection is made if it is missing. Without it, it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// A boolean column, which is not written: where it is true the entity of the record's key is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<String>,
}

/// How a collection is made: a key, a vector, and the dynamic field for all other columns.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The column of vectors.
    pub vector: String,
    /// How many numbers a vector has.
    #[schemars(range(min = 1, max = 32768))]
    pub dimension: u32,
    /// How near vectors are: `cosine` (default), `ip` or `l2`.
    #[serde(default)]
    pub metric: Metric,
    /// The index of the vectors: `auto` (default), `hnsw`, `ivf_flat` or `flat`, which compares with every vector.
    #[serde(default)]
    pub index: Index,
    /// The name of the primary key, where the identity has more than one column or one that is neither a number nor
    /// text: a text of its values. `hapax_key` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many bytes a key of text may have: 1024 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub key_bytes_max: Option<u16>,
}

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// By their angle.
    #[default]
    Cosine,
    /// By their inner product.
    Ip,
    /// By their distance.
    L2,
}

impl Metric {
    /// The server's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cosine => "COSINE",
            Self::Ip => "IP",
            Self::L2 => "L2",
        }
    }
}

/// How near vectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// As the server thinks best.
    #[default]
    Auto,
    /// A graph.
    Hnsw,
    /// Clusters.
    IvfFlat,
    /// All vectors are compared: exact.
    Flat,
}

impl Index {
    /// The server's name of it, and its parameters.
    pub(crate) fn parameters(self) -> (&'static str, &'static str) {
        match self {
            Self::Auto => ("AUTOINDEX", "{}"),
            Self::Hnsw => ("HNSW", r#"{"M": 16, "efConstruction": 200}"#),
            Self::IvfFlat => ("IVF_FLAT", r#"{"nlist": 128}"#),
            Self::Flat => ("FLAT", "{}"),
        }
    }
}
