//! The suites of `hapax-conformance`, over real files.
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

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_conformance::{sink, source};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_files::config::SourceConfig;
use hapax_files::sink_config::{SinkConfig, SinkFormat};
use hapax_files::source::Files;
use hapax_protocol::lease::PipelineName;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

const ROWS: u64 = 997;

fn config(path: &Path) -> SourceConfig {
    let text = path.display();
    serde_json::from_value(serde_json::json!({
        "path": format!("{text}"),
        "schema": { "id": "int64", "text": "string", "amount": "float64" },
    }))
    .unwrap()
}

async fn source_suite(records: u64, path: PathBuf, grid_bytes: u64) {
    source::suite(records, async || {
        let files = Files::open(config(&path)).await.unwrap().with_grid_bytes(grid_bytes);
        Arc::new(files) as Arc<dyn Source>
    })
    .await;
}

/// A text in which quotes, newlines and commas stand where they hurt, with every 50th record malformed.
fn csv() -> Vec<u8> {
    let mut text = b"id,text,amount\n".to_vec();
    for n in 0..ROWS {
        match n % 50 {
            7 => text.extend(b"not a number,x,1\n"),
            8 => text.extend(b"1,too,2,many\n"),
            9 => text.extend(b"1,\xff\xfe,2\n"),
            _ if n % 3 == 0 => writeln!(text, "{n},\"a \"\"quoted\"\",\nline {n}\",0.5").unwrap(),
            _ => writeln!(text, "{n},plain {n},").unwrap(),
        }
    }
    text
}

fn jsonl() -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..ROWS {
        match n % 50 {
            7 => text.extend(b"{\"id\": \"seven\"\n"),
            8 => text.extend(b"{\"id\": 8, \"surprise\": true}\n"),
            9 => text.extend(b"\n\n{\"id\": true}\n"),
            _ => writeln!(text, "{{\"id\": {n}, \"text\": \"line\\n{n}\", \"amount\": null}}").unwrap(),
        }
    }
    text
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn csv_conforms_in_any_grid() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", &csv());
    for grid in [64 << 20, 4096, 129] {
        source_suite(ROWS, path.clone(), grid).await;
    }
}

#[tokio::test]
async fn json_lines_conform_in_any_grid() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", &jsonl());
    for grid in [64 << 20, 4096, 129] {
        source_suite(ROWS, path.clone(), grid).await;
    }
}

#[tokio::test]
async fn compressed_text_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
    gzip.write_all(&csv()).unwrap();
    gzip.finish().unwrap();
    source_suite(ROWS, path, 64 << 20).await;
    let path = folder.path().join("a.jsonl.zst");
    fs::write(&path, zstd::encode_all(&jsonl()[..], 1).unwrap()).unwrap();
    source_suite(ROWS, path, 64 << 20).await;
}

#[tokio::test]
async fn several_files_conform() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.csv", "a.csv", "c.csv"] {
        write(folder.path(), name, &csv());
    }
    source_suite(3 * ROWS, folder.path().join("*.csv"), 4096).await;
}

#[tokio::test]
async fn parquet_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let batch = hapax_conformance::types::difficult();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(70)).build();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties))
            .unwrap();
    for _ in 0..40 {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
    source::suite(200, async || {
        Arc::new(Files::open(SourceConfig::new(path.display().to_string())).await.unwrap()) as Arc<dyn Source>
    })
    .await;
}

/// Directories of parts, or whole files, of one format.
struct Destinations {
    folder: tempfile::TempDir,
    format: SinkFormat,
    whole: bool,
}

impl Destinations {
    fn new(format: SinkFormat, whole: bool) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), format, whole }
    }

    fn path(&self, name: &str) -> PathBuf {
        let extension = self.format.extension();
        self.folder.path().join(if self.whole { format!("{name}.{extension}") } else { name.to_owned() })
    }
}

impl sink::Subject for Destinations {
    async fn open(&self, name: &str) -> Sink {
        let config = SinkConfig {
            path: format!("{}{}", self.path(name).display(), if self.whole { "" } else { "/" }),
            format: Some(self.format),
            compression: None,
            header: None,
        };
        hapax_files::sink::open(config, &PipelineName::new("conformance").unwrap()).unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        let path = self.path(name);
        let files = if self.whole {
            if path.exists() { vec![path] } else { Vec::new() }
        } else {
            let visible =
                fs::read_dir(&path).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
            let visible: Vec<PathBuf> = visible.unwrap_or_default();
            visible
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == self.format.extension()))
                .collect()
        };
        let mut ids: Vec<i64> = files.iter().flat_map(|file| ids_of(file, self.format)).collect();
        ids.sort_unstable();
        ids
    }
}

fn ids_of(path: &Path, format: SinkFormat) -> Vec<i64> {
    match format {
        SinkFormat::Parquet => {
            let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
            let rows = reader.get_row_iter(None).unwrap();
            rows.map(|row| row.unwrap().get_long(0).unwrap()).collect()
        }
        SinkFormat::Csv => {
            let mut reader = csv::Reader::from_path(path).unwrap();
            reader.records().map(|record| record.unwrap()[0].parse().unwrap()).collect()
        }
        SinkFormat::Jsonl => {
            let text = fs::read_to_string(path).unwrap();
            let id =
                |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
            text.lines().map(id).collect()
        }
    }
}

#[tokio::test]
async fn directories_of_parts_conform() {
    for format in [SinkFormat::Parquet, SinkFormat::Csv, SinkFormat::Jsonl] {
        sink::suite(&Destinations::new(format, false)).await;
    }
}

#[tokio::test]
async fn whole_files_conform() {
    for format in [SinkFormat::Parquet, SinkFormat::Csv, SinkFormat::Jsonl] {
        sink::suite(&Destinations::new(format, true)).await;
    }
}
