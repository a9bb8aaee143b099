//! Reads a source to its end and holds it to its contract on the way.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Source, SplitReader};
use hapax_files::config::SourceConfig;
use hapax_files::source::Files;
use hapax_protocol::code::Code;
use hapax_protocol::position::{Position, SplitId};

pub const WIDE: ReadLimit = ReadLimit { records_max: 100_000, bytes_max: 8 * 1024 * 1024 };

/// One record as it came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Its number and its values, NULL as `∅`, joined by `|`.
    Good(u64, String),
    /// Its number, and why it was rejected.
    Bad(u64, Code, String, String),
}

impl Found {
    pub fn ordinal(&self) -> u64 {
        match self {
            Self::Good(ordinal, _) | Self::Bad(ordinal, ..) => *ordinal,
        }
    }
}

pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn config(path: &str) -> SourceConfig {
    SourceConfig::new(path)
}

pub async fn open(path: &str) -> Files {
    Files::open(config(path)).await.unwrap()
}

/// Times in UTC as an offset: Arrow only prints named zones with a feature that nothing here needs.
fn in_utc(column: &ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) if times.timezone().is_some() => Arc::new(times.clone().with_timezone("+00:00")),
        _ => column.clone(),
    }
}

pub fn found(batch: &Batch) -> Vec<Found> {
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<ArrayRef> = batch.records.columns().iter().map(in_utc).collect();
    let shown: Vec<_> =
        columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    let mut all: Vec<Found> = (0..batch.records.num_rows())
        .map(|row| {
            let values: Vec<String> = shown.iter().map(|column| column.value(row).to_string()).collect();
            Found::Good(batch.ordinals.of(row), values.join("|"))
        })
        .collect();
    let bad = batch.rejected.iter();
    all.extend(bad.map(|r| Found::Bad(r.ordinal, r.code, r.reason.clone(), r.raw.clone())));
    all.sort_by_key(Found::ordinal);
    all
}

/// Reads a split from a position to its end; returns the records and every position on the way.
pub async fn drain(
    files: &Files,
    split: &SplitId,
    after: Option<&Position>,
    limit: ReadLimit,
) -> Result<(Vec<Found>, Vec<Position>), SourceError> {
    let mut reader = files.open(split, after).await?;
    let mut stood = after.cloned();
    let (mut all, mut positions) = (Vec::new(), Vec::new());
    while let Some(batch) = reader.read(limit).await? {
        assert_eq!(batch.after, stood, "a batch begins where the reader stood");
        assert!(Some(&batch.through) > batch.after.as_ref(), "positions grow");
        let records = found(&batch);
        assert!(!records.is_empty(), "a batch holds records");
        all.extend(records);
        positions.push(batch.through.clone());
        stood = Some(batch.through);
    }
    assert!(reader.read(limit).await?.is_none(), "the end stays the end");
    Ok((all, positions))
}

/// Reads all splits, in their order.
pub async fn everything(files: &Files, limit: ReadLimit) -> Vec<(SplitId, Vec<Found>)> {
    let mut all = Vec::new();
    for split in files.splits().await.unwrap() {
        let (records, _) = drain(files, &split.id, None, limit).await.unwrap();
        let ordinals: Vec<u64> = records.iter().map(Found::ordinal).collect();
        assert_eq!(
            ordinals,
            (0..).take(ordinals.len()).collect::<Vec<u64>>(),
            "ordinals count from 0 without a gap"
        );
        all.push((split.id, records));
    }
    all
}

/// The records of the only split.
pub async fn only(files: &Files) -> Vec<Found> {
    let mut all = everything(files, WIDE).await;
    assert_eq!(all.len(), 1);
    all.remove(0).1
}

/// The values of the good records.
pub fn values(records: &[Found]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|r| if let Found::Good(_, values) = r { Some(values.as_str()) } else { None })
        .collect()
}

pub fn code(result: Result<impl Sized, SourceError>) -> Code {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(error) => {
            assert!(!error.fault.help().is_empty() && !error.to_string().is_empty());
            error.fault.code()
        }
    }
}

pub fn types(files: &Files) -> Vec<String> {
    let name = |f: &std::sync::Arc<arrow::datatypes::Field>| {
        format!("{}: {}", f.name(), hapax_files::config::type_name(f.data_type()))
    };
    files.schema().fields().iter().map(name).collect()
}

pub async fn first_reader(files: &Files) -> Box<dyn SplitReader> {
    let split = files.splits().await.unwrap().remove(0);
    files.open(&split.id, None).await.unwrap()
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
