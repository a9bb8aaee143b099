//! The suite that every source must pass, over each format, whole and in ranges.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod source_kit;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use hapax_conformance::source::suite;
use hapax_engine::source::Source;
use hapax_files::source::Files;
use source_kit::{gzip, open, put};
use tempfile::tempdir;

fn csv() -> String {
    let line = |i: u32| match i % 7 {
        2 => format!("{i},too,many\n"),
        3 => format!("{i},\"a \"\"quoted\"\"\n{i}\"\n\n"),
        5 => format!("x{i},name\r\n"),
        _ => format!("{i},name {i}\n"),
    };
    let first = (0..50).map(|i| format!("{i},plain\n"));
    std::iter::once("id,name\n".to_owned()).chain(first).chain((0..250).map(line)).collect()
}

async fn sound(path: &str, grid: u64) -> Arc<dyn Source> {
    let config = hapax_files::config::SourceConfig {
        schema: (!path.ends_with("parquet"))
            .then(|| serde_json::from_str("{\"id\":\"int64\",\"name\":\"string\"}").unwrap()),
        ..source_kit::config(path)
    };
    Arc::new(Files::open(config).await.unwrap().with_grid_bytes(grid))
}

#[tokio::test]
async fn csv_conforms_whole_and_in_ranges() {
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "a.csv", csv());
    for grid in [u64::MAX, 300] {
        suite(300, async || sound(&path, grid).await).await;
    }
}

#[tokio::test]
async fn compressed_csv_conforms() {
    let dir = tempdir().unwrap();
    let paths = [
        put(dir.path(), "a.csv.gz", gzip(csv().as_bytes())),
        put(dir.path(), "a.csv.zst", zstd::encode_all(csv().as_bytes(), 1).unwrap()),
    ];
    for path in paths {
        suite(300, async || sound(&path, 300).await).await;
    }
}

#[tokio::test]
async fn json_lines_conform_whole_and_in_ranges() {
    let dir = tempdir().unwrap();
    let line = |i: u32| {
        if i % 9 == 4 { "{oops\n".to_owned() } else { format!("{{\"id\":{i},\"name\":\"n{i}\"}}\n") }
    };
    let path = put(dir.path(), "a.jsonl", (0..300).map(line).collect::<String>());
    for grid in [u64::MAX, 500] {
        suite(300, async || sound(&path, grid).await).await;
    }
}

#[tokio::test]
async fn parquet_conforms() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..300));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(128)).build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let path = path.to_str().unwrap();
    suite(300, async || sound(path, 1).await).await;
    assert_eq!(open(path).await.splits().await.unwrap().len(), 3);
}
