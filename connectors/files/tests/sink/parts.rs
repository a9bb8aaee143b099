//! A directory of parts.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;
use hapax_files::sink_config::{SinkCompression, SinkFormat};

use crate::world::*;

fn parts(directory: &std::path::Path, extension: &str) -> Vec<String> {
    names(directory).into_iter().filter(|name| name.ends_with(extension)).collect()
}

#[test]
fn parts_appear_whole_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = hapax_files::sink_config::SinkConfig { format: Some(SinkFormat::Csv), ..config(&out) };
    let run = Run::start(&config);
    let mut second = run.split("in.csv#10");
    let mut first = run.split("in.csv#9");
    second.commit_as(30, 40, 10);
    first.commit_as(0, 10, 10);
    first.commit_as(10, 30, 30);
    run.finish();
    let parts = parts(&out, ".csv");
    assert_eq!(parts.len(), 3, "{parts:?}");
    let all: Vec<u64> =
        parts.iter().flat_map(|part| ids(&read_csv(&std::fs::read(out.join(part)).unwrap()))).collect();
    assert_eq!(all, (0..40).collect::<Vec<u64>>());
    let standings = block_on(run.sink.standings(&name())).unwrap();
    let read: Vec<(String, u64, u64)> = standings
        .into_iter()
        .map(|(split, standing)| (split.as_str().to_owned(), standing.epoch.get(), standing.totals.read))
        .collect();
    assert_eq!(read, [("in.csv#10".to_owned(), 1, 10), ("in.csv#9".to_owned(), 2, 30)]);
}

#[test]
fn a_commit_without_records_moves_the_position_and_makes_no_part() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = hapax_files::sink_config::SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let run = Run::start(&config);
    run.split("s").commit(50);
    assert_eq!(parts(&out, ".jsonl").len(), 0);
    assert_eq!(Run::start(&config).split("s").stands_at(), 50);
}

#[test]
fn a_reader_that_polls_never_sees_a_torn_part() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = hapax_files::sink_config::SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let run = Run::start(&config);
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0_usize;
            loop {
                let last = done.load(Ordering::SeqCst);
                for part in parts(&out, ".jsonl") {
                    let text = std::fs::read_to_string(out.join(part)).unwrap();
                    assert_eq!(text.lines().count(), 500);
                    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
                    seen += 1;
                }
                if last {
                    return seen;
                }
            }
        });
        let mut split = run.split("s");
        for epoch in 0..20 {
            split.commit_as(epoch * 500, (epoch + 1) * 500, (epoch + 1) * 500);
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert!(seen >= 20, "{seen}");
}

#[test]
fn what_was_aborted_or_never_published_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = hapax_files::sink_config::SinkConfig {
        format: Some(SinkFormat::Jsonl),
        compression: Some(SinkCompression::Gzip),
        ..config(&out)
    };
    let run = Run::start(&config);
    let mut split = run.split("s");
    split.write(0, 10);
    block_on(split.writer.abort()).unwrap();
    split.write(0, 5);
    split.stage(5);
    std::mem::forget(split);
    let mut open = run.split("t");
    open.write(5, 9);
    std::mem::forget(open);
    assert!(!names(&state_of(&out).join("tmp")).is_empty());
    let next = Run::start(&config);
    assert_eq!(parts(&out, ".gz").len(), 0);
    assert_eq!(names(&state_of(&out).join("tmp")), Vec::<String>::new());
    assert_eq!(next.split("s").stands_at(), 0);
}

#[test]
fn a_number_json_has_no_word_for_is_refused_and_the_others_are_written() {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = hapax_files::sink_config::SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let sink = open(&config).unwrap();
    let numbers: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![1.5, f64::NAN, 2.5]));
    let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let shape = hapax_engine::sink::Shape { schema: rows.schema(), key: Vec::new() };
    block_on(sink.prepare(&shape)).unwrap();
    let run = Run::start(&config);
    let mut split = run.split("s");
    let refused = block_on(split.writer.write(&rows)).unwrap();
    assert_eq!(refused.iter().map(|row| (row.row, row.code.0)).collect::<Vec<_>>(), [(1, 266)]);
    split.commit(3);
    let part = parts(&out, ".jsonl").remove(0);
    assert_eq!(std::fs::read_to_string(out.join(part)).unwrap(), "{\"n\":1.5}\n{\"n\":2.5}\n");
}
