//! What a pipeline file says about a file destination.

use std::path::{Path, PathBuf};

use hapax_engine::fault::SinkError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sink::fault::Failure;

/// A file destination, as the pipeline file gives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Where records go: `orders.csv` is one file, `orders/` a directory of parts, `-` standard output.
    pub path: String,
    /// The format; taken from the extension of a file, required for a directory and standard output.
    #[serde(default)]
    pub format: Option<SinkFormat>,
    /// How it is compressed: Parquet pages with `snappy` unless said otherwise, text by the extension
    /// (`.gz`, `.zst`).
    #[serde(default)]
    pub compression: Option<SinkCompression>,
    /// Whether CSV begins with the names of the columns: `true` unless said otherwise. Only for CSV.
    #[serde(default)]
    pub header: Option<bool>,
}

/// A format that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// RFC 4180; NULL is an empty field, the empty string is `""`.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl SinkFormat {
    /// The extension of its files, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// A compression that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkCompression {
    /// As it is.
    None,
    /// Gzip, one member a part.
    Gzip,
    /// Zstandard, one frame a part.
    Zstd,
    /// Snappy, for Parquet pages only.
    Snappy,
}

impl SinkCompression {
    /// The name as the pipeline file has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }
}

/// A destination whose words were all understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: TargetPlace,
    pub(crate) format: SinkFormat,
    pub(crate) compression: SinkCompression,
    pub(crate) header: bool,
}

/// What the path of a destination means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetPlace {
    Stdout,
    File(PathBuf),
    Directory(PathBuf),
}

impl Target {
    /// The extension of a part, compression included.
    pub(crate) fn extension(&self) -> String {
        let base = self.format.extension();
        match (self.format, self.compression) {
            (SinkFormat::Parquet, _) | (_, SinkCompression::None | SinkCompression::Snappy) => {
                base.to_owned()
            }
            (_, SinkCompression::Gzip) => format!("{base}.gz"),
            (_, SinkCompression::Zstd) => format!("{base}.zst"),
        }
    }
}

impl SinkConfig {
    /// The path of a destination of the same kind inside another directory: one file for one file and for standard
    /// output, a directory for a directory.
    pub fn path_within(&self, directory: &Path) -> Result<String, SinkError> {
        let target = self.target()?;
        let path = match &target.place {
            TargetPlace::Stdout => directory.join(format!("records.{}", target.extension())),
            TargetPlace::File(path) => directory.join(path.file_name().unwrap_or_default()),
            TargetPlace::Directory(_) => directory.join("records/"),
        };
        Ok(path.display().to_string())
    }

    /// Understands the words, or says which of them do not fit together.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let path = match self.path.split_once("://") {
            Some(("file", local)) => local,
            Some((scheme, _)) => return Err(Failure::RemoteDestination { scheme: scheme.to_owned() }),
            None => self.path.as_str(),
        };
        if path.is_empty() {
            return Err(Failure::NoPath);
        }
        let named = named(path);
        let place = place(path, named, self.format);
        let format = match (self.format, named, &place) {
            (Some(format), _, _) => format,
            (None, Some((format, _)), TargetPlace::File(_)) => format,
            _ => return Err(Failure::FormatUnknown { path: self.path.clone() }),
        };
        let compression = match (self.compression, format) {
            (Some(compression), _) => compression,
            (None, SinkFormat::Parquet) => SinkCompression::Snappy,
            (None, _) if place == TargetPlace::Stdout => SinkCompression::None,
            (None, _) => by_extension(path),
        };
        if format != SinkFormat::Parquet && compression == SinkCompression::Snappy {
            return Err(Failure::Unfitting { what: "compression: snappy", format: format.extension() });
        }
        if format != SinkFormat::Csv && self.header.is_some() {
            return Err(Failure::Unfitting { what: "header", format: format.extension() });
        }
        if format == SinkFormat::Parquet && place == TargetPlace::Stdout {
            return Err(Failure::ParquetToStdout);
        }
        Ok(Target { place, format, compression, header: self.header.unwrap_or(true) })
    }
}

fn place(
    path: &str,
    named: Option<(SinkFormat, SinkCompression)>,
    format: Option<SinkFormat>,
) -> TargetPlace {
    if path == "-" {
        return TargetPlace::Stdout;
    }
    let local = PathBuf::from(path);
    let has_extension = local.extension().is_some();
    let one_file = named.is_some() || (has_extension && (format.is_none() || !local.is_dir()));
    if path.ends_with('/') || !one_file { TargetPlace::Directory(local) } else { TargetPlace::File(local) }
}

fn by_extension(path: &str) -> SinkCompression {
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("gz") => SinkCompression::Gzip,
        Some("zst" | "zstd") => SinkCompression::Zstd,
        _ => SinkCompression::None,
    }
}

/// The format that the name of a file stands for.
fn named(path: &str) -> Option<(SinkFormat, SinkCompression)> {
    let compression = by_extension(path);
    let path = Path::new(path);
    let bare = if compression == SinkCompression::None { path } else { Path::new(path.file_stem()?) };
    let format = match bare.extension()?.to_str()? {
        "csv" => SinkFormat::Csv,
        "jsonl" | "ndjson" => SinkFormat::Jsonl,
        "parquet" if compression == SinkCompression::None => SinkFormat::Parquet,
        _ => return None,
    };
    Some((format, compression))
}

#[cfg(test)]
mod tests;
