//! One file out of many commits.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::executor::block_on;
use hapax_files::sink_config::{SinkCompression, SinkConfig};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::world::*;

/// Twelve splits of ten records, two commits each, committed backwards.
fn fill(run: &Run) {
    for number in (0..12_u64).rev() {
        let mut split = run.split(&format!("in.csv#{number}"));
        let start = number * 10;
        split.commit_as(start, start + 4, 4);
        split.commit_as(start + 4, start + 10, 10);
    }
}

fn read_parquet(path: &Path) -> Vec<u64> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let ids = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            ids.into_iter().map(|id| u64::try_from(id).unwrap())
        })
        .collect()
}

fn expected_text(id: u64) -> String {
    match id {
        id if id % 7 == 0 || id % 5 == 0 => String::new(),
        id => format!("text, \"{id}\""),
    }
}

#[test]
fn csv_is_assembled_in_the_order_of_the_source_under_one_header() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&config(&out));
    fill(&run);
    assert!(!out.exists(), "nothing is visible before the end");
    run.finish();
    let bytes = fs::read(&out).unwrap();
    let rows: Vec<(u64, String)> = (0..120).map(|id| (id, expected_text(id))).collect();
    assert_eq!(read_csv(&bytes), rows);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("id,text\n0,\n1,\"text, \"\"1\"\"\"\n"), "{}", &text[..60]);
    assert!(text.contains("\n5,\"\"\n") && text.contains("\n7,\n"), "NULL and the empty string differ");
    assert_eq!(text.matches("id,text").count(), 1);
    assert_eq!(names(&state_of(&out).join("parts")), Vec::<String>::new());
}

#[test]
fn a_file_grows_with_its_source_and_stays_when_nothing_is_new() {
    for name in ["out.csv", "out.jsonl", "out.parquet", "out.csv.gz", "out.jsonl.zst"] {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join(name);
        let run = Run::start(&config(&out));
        fill(&run);
        run.finish();
        let run = Run::start(&config(&out));
        let mut grown = run.split("in.csv#11");
        assert_eq!(grown.stands_at(), 10);
        grown.commit_as(120, 130, 20);
        run.split("in.csv#12").commit_as(130, 135, 5);
        run.finish();
        let stamp = fs::metadata(&out).unwrap().modified().unwrap();
        run.finish();
        Run::start(&config(&out)).finish();
        assert_eq!(fs::metadata(&out).unwrap().modified().unwrap(), stamp, "{name}");
        assert_eq!(read(&out), (0..135).collect::<Vec<u64>>(), "{name}");
    }
}

fn read(path: &Path) -> Vec<u64> {
    if path.extension().is_some_and(|extension| extension == "parquet") {
        return read_parquet(path);
    }
    let bytes = fs::read(path).unwrap();
    let mut text = Vec::new();
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => {
            flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
        }
        "zst" => {
            zstd::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut text).unwrap();
        }
        _ => text = bytes,
    }
    if path.to_str().unwrap().contains(".csv") {
        return ids(&read_csv(&text));
    }
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["id"].as_u64().unwrap()).collect()
}

#[test]
fn json_names_null() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.jsonl");
    let run = Run::start(&config(&out));
    run.split("s").commit_as(5, 8, 3);
    run.finish();
    let text = fs::read_to_string(&out).unwrap();
    let expected =
        "{\"id\":5,\"text\":\"\"}\n{\"id\":6,\"text\":\"text, \\\"6\\\"\"}\n{\"id\":7,\"text\":null}\n";
    assert_eq!(text, expected);
}

#[test]
fn joined_parquet_keeps_columns_types_and_statistics() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.parquet");
    let config = SinkConfig { compression: Some(SinkCompression::Zstd), ..config(&out) };
    let run = Run::start(&config);
    fill(&run);
    run.finish();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&out).unwrap()).unwrap();
    assert_eq!(reader.schema().fields(), records(0, 0).schema().fields());
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.len(), 24);
    assert!(groups.iter().all(|group| group.column(0).statistics().is_some()));
    assert_eq!(read_parquet(&out), (0..120).collect::<Vec<u64>>());
}

#[test]
fn a_source_without_records_makes_an_empty_file() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [("a.csv", Some("id,text\n")), ("a.jsonl", Some("")), ("a.parquet", None)] {
        let out = directory.path().join(name);
        let run = Run::start(&config(&out));
        run.finish();
        match content {
            Some(content) => assert_eq!(fs::read_to_string(&out).unwrap(), content),
            None => assert_eq!(read_parquet(&out), Vec::<u64>::new()),
        }
        let run = Run::start(&config(&out));
        run.split("s").commit_as(0, 3, 3);
        run.finish();
        assert_eq!(read(&out), [0, 1, 2], "{name}");
    }
}

#[test]
fn without_a_header_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&SinkConfig { header: Some(false), ..config(&out) });
    run.split("a").commit_as(1, 2, 1);
    run.split("b").commit_as(2, 3, 1);
    run.finish();
    assert_eq!(fs::read_to_string(&out).unwrap(), "1,\"text, \"\"1\"\"\"\n2,\"text, \"\"2\"\"\"\n");
}

#[test]
fn somebody_elses_file_is_never_touched() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    fs::write(&out, "precious").unwrap();
    let sink = open(&config(&out)).unwrap();
    assert_eq!(code(&block_on(sink.check(&shape())).unwrap_err()), 258);
    assert_eq!(code(&block_on(sink.prepare(&shape())).unwrap_err()), 258);
    fs::remove_file(&out).unwrap();
    // It may appear between the beginning and the end of a run, too.
    let run = Run::start(&config(&out));
    run.split("s").commit_as(0, 3, 3);
    fs::write(&out, "precious").unwrap();
    assert_eq!(code(&run.try_finish().unwrap_err()), 258);
    assert_eq!(fs::read_to_string(&out).unwrap(), "precious");
    fs::remove_file(&out).unwrap();
    run.finish();
    assert_eq!(read(&out), [0, 1, 2]);
}

#[test]
fn a_file_that_was_changed_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&config(&out));
    run.split("s").commit_as(0, 3, 3);
    run.finish();
    let published = fs::read(&out).unwrap();
    fs::write(&out, "edited").unwrap();
    run.split("t").commit_as(3, 6, 3);
    assert_eq!(code(&run.try_finish().unwrap_err()), 259);
    assert_eq!(code(&Run::try_start(&config(&out), "definition").err().unwrap()), 259);
    assert_eq!(fs::read_to_string(&out).unwrap(), "edited");
    fs::remove_file(&out).unwrap();
    assert_eq!(code(&run.try_finish().unwrap_err()), 259);
    drop(published);
}

#[test]
fn other_columns_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&config(&out));
    run.split("s").commit_as(0, 3, 3);
    let sink = open(&config(&out)).unwrap();
    let schema = std::sync::Arc::new(shape().schema.project(&[0]).unwrap());
    let shape = hapax_engine::sink::Shape { schema, key: Vec::new() };
    assert_eq!(code(&block_on(sink.check(&shape)).unwrap_err()), 268);
}

#[test]
fn an_earlier_holder_does_not_assemble() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let first = Run::start(&config(&out));
    first.split("s").commit_as(0, 3, 3);
    let second = Run::start(&config(&out));
    assert_eq!(code(&first.try_finish().unwrap_err()), 261);
    // It looked for a later lease just before there was one: its generation is fenced all the same.
    let leases = state_of(&out).join("leases");
    let later = leases.join(names(&leases).pop().unwrap());
    let aside = directory.path().join("aside");
    fs::rename(&later, &aside).unwrap();
    assert_eq!(code(&first.try_finish().unwrap_err()), 261);
    fs::rename(&aside, &later).unwrap();
    assert!(!out.exists());
    second.finish();
    assert_eq!(read(&out), [0, 1, 2]);
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.parquet");
    let run = Run::start(&config(&out));
    fill(&run);
    run.finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(async {
        let source = run.sink.read_back(shape().schema).await.unwrap();
        let mut rows = 0;
        for split in source.splits().await.unwrap() {
            let mut reader = source.open(&split.id, None).await.unwrap();
            let limit = hapax_engine::batch::ReadLimit { records_max: 50, bytes_max: 1 << 20 };
            while let Some(batch) = reader.read(limit).await.unwrap() {
                rows += batch.records.num_rows();
            }
        }
        rows
    });
    assert_eq!(rows, 120);
}
