//! Positions across runs: any of them resumes exactly, and a file that is no longer the same is refused.
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

use std::fs::OpenOptions;
use std::io::Write;

use hapax_engine::batch::ReadLimit;
use hapax_engine::source::Source;
use hapax_files::codes;
use source_kit::*;
use tempfile::tempdir;

const FEW: ReadLimit = ReadLimit { records_max: 7, bytes_max: 400 };

fn text() -> String {
    let line = |i: u32| match i % 9 {
        3 => "bad,line,here\n".to_owned(),
        5 => format!("{i},\"two\nlines {i}\"\n\n"),
        _ => format!("{i},name {i}\r\n"),
    };
    std::iter::once("id,name\n".to_owned()).chain((0..100).map(line)).collect()
}

fn append(path: &str, more: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(more.as_bytes()).unwrap();
}

#[tokio::test]
async fn every_position_resumes_with_the_same_records() {
    let dir = tempdir().unwrap();
    let json: String = (0..100)
        .map(|i| if i % 10 == 4 { "oops\n".to_owned() } else { format!("{{\"id\":{i}}}\n") })
        .collect();
    let paths = [
        put(dir.path(), "a.csv", text()),
        put(dir.path(), "b.jsonl", json),
        put(dir.path(), "c.csv.gz", gzip(text().as_bytes())),
        put(dir.path(), "d.csv.zst", zstd::encode_all(text().as_bytes(), 1).unwrap()),
    ];
    for path in paths {
        let files = open(&path).await;
        let split = files.splits().await.unwrap().remove(0).id;
        let (whole, _) = drain(&files, &split, None, WIDE).await.unwrap();
        let (again, positions) = drain(&files, &split, None, FEW).await.unwrap();
        assert_eq!(whole, again, "how a split is cut does not matter");
        assert_eq!(whole.len(), 100);
        assert!(positions.len() > 10);
        for position in &positions {
            // Another process: nothing is kept but the position.
            let files = open(&path).await;
            let (rest, _) = drain(&files, &split, Some(position), FEW).await.unwrap();
            let next = usize::try_from(rest.first().map_or(100, Found::ordinal)).unwrap();
            assert_eq!(rest, whole[next..], "{path}");
            let words = files.describe(position);
            assert!(words.ends_with(&format!("record {next}")), "{words} {next}");
        }
    }
}

#[tokio::test]
async fn a_file_that_grew_is_read_on_and_its_end_is_no_repeat() {
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "a.csv", "id\n1\n2\n\n\n");
    let files = open(&path).await;
    let split = files.splits().await.unwrap().remove(0).id;
    let (_, positions) = drain(&files, &split, None, WIDE).await.unwrap();
    assert_eq!(drain(&files, &split, positions.last(), WIDE).await.unwrap().0, []);
    append(&path, "3\n4");
    let (more, positions) = drain(&files, &split, positions.last(), WIDE).await.unwrap();
    assert_eq!(more, [Found::Good(2, "3".to_owned()), Found::Good(3, "4".to_owned())]);
    append(&path, "\n5\n");
    let (more, positions) = drain(&files, &split, positions.last(), WIDE).await.unwrap();
    assert_eq!(more, [Found::Good(4, "5".to_owned())]);
    append(&path, "6");
    let (_, positions) = drain(&files, &split, positions.last(), WIDE).await.unwrap();
    append(&path, "6\n");
    assert_eq!(code(drain(&files, &split, positions.last(), WIDE).await), codes::CONTINUED);
}

#[tokio::test]
async fn a_touched_file_goes_on_and_a_changed_one_stops() {
    let dir = tempdir().unwrap();
    for name in ["a.csv", "a.csv.gz", "a.csv.zst"] {
        let pack = |text: &str| match name {
            "a.csv.gz" => gzip(text.as_bytes()),
            "a.csv.zst" => zstd::encode_all(text.as_bytes(), 1).unwrap(),
            _ => text.as_bytes().to_vec(),
        };
        let text = text();
        let path = put(dir.path(), name, pack(&text));
        let files = open(&path).await;
        let split = files.splits().await.unwrap().remove(0).id;
        let (whole, positions) = drain(&files, &split, None, FEW).await.unwrap();
        let position = &positions[6];
        std::fs::remove_file(&path).unwrap();
        put(dir.path(), name, pack(&text));
        let (rest, _) = drain(&files, &split, Some(position), WIDE).await.unwrap();
        assert_eq!(rest, whole[whole.len() - rest.len()..], "{name} was only touched");
        assert!(!rest.is_empty());

        let changed = text.replacen("name 9", "NAME 9", 1);
        assert_ne!(changed, text);
        put(dir.path(), name, pack(&changed));
        assert_eq!(code(drain(&files, &split, Some(position), WIDE).await), codes::REPLACED, "{name}");
        put(dir.path(), name, pack(&text[..60]));
        assert_eq!(code(drain(&files, &split, Some(position), WIDE).await), codes::TRUNCATED, "{name}");
    }
}

#[tokio::test]
async fn a_longer_file_with_another_beginning_or_middle_was_replaced() {
    let dir = tempdir().unwrap();
    let long: String =
        std::iter::once("id\n".to_owned()).chain((10_000..30_000).map(|i| format!("{i}\n"))).collect();
    let path = put(dir.path(), "a.csv", &long);
    let files = open(&path).await;
    let split = files.splits().await.unwrap().remove(0).id;
    let (_, positions) = drain(&files, &split, None, WIDE).await.unwrap();
    for (from, to) in [("10000\n", "99999\n"), ("29990\n", "99999\n")] {
        put(dir.path(), "a.csv", format!("{}30000\n", long.replacen(from, to, 1)));
        assert_eq!(code(drain(&files, &split, positions.last(), WIDE).await), codes::REPLACED);
    }
    put(dir.path(), "a.csv", format!("{long}30000\n"));
    assert_eq!(values(&drain(&files, &split, positions.last(), WIDE).await.unwrap().0), ["30000"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(drain(&files, &split, positions.last(), WIDE).await), codes::NO_FILE);
}

#[tokio::test]
async fn ranges_of_a_growing_file_stay_what_they_are() {
    let dir = tempdir().unwrap();
    let lines = |range: std::ops::Range<u32>| range.map(|i| format!("{i},\"x\n{i}\"\n")).collect::<String>();
    let path = put(dir.path(), "a.csv", format!("id,t\n{}", lines(0..30)));
    let files = open(&path).await.with_grid_bytes(100);
    let mut stand = std::collections::HashMap::new();
    let mut all = Vec::new();
    for round in 0..3 {
        for split in files.splits().await.unwrap() {
            let (records, positions) = drain(&files, &split.id, stand.get(&split.id), FEW).await.unwrap();
            all.extend(
                values(&records).into_iter().map(|v| v.split('|').next().unwrap().parse::<u32>().unwrap()),
            );
            if let Some(last) = positions.last() {
                stand.insert(split.id, last.clone());
            }
        }
        append(&path, &lines((round + 1) * 30..(round + 2) * 30));
    }
    assert_eq!(all, (0..90).collect::<Vec<_>>());
}
