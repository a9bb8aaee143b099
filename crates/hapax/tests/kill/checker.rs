//! What arrived, counted against what was generated. It knows nothing of Hapax but the names of the
//! destinations' own files, and of the tables a user would look at.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

use crate::data::{Data, Record, hash};

/// What is wrong. All of it must be 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: usize,
    pub duplicated: usize,
    pub phantom: usize,
    pub differs: usize,
    pub letters_lost: usize,
    pub letters_duplicated: usize,
}

pub fn check(pair: &str, folder: &Path, data: &Data) -> Verdict {
    let found = match pair {
        "csv-to-sqlite" => sqlite(&folder.join("target.db")),
        "csv-to-parquet" => parts(&folder.join("target")).iter().flat_map(|path| parquet(path)).collect(),
        _ => jsonl(&folder.join("target.jsonl")),
    };
    let mut verdict = Verdict::default();
    let expected: HashMap<(i64, i64), &Record> =
        data.records.iter().map(|record| ((record.writer, record.sequence), record)).collect();
    let mut seen = HashSet::new();
    for record in &found {
        let key = (record.writer, record.sequence);
        match expected.get(&key) {
            None => verdict.phantom += 1,
            Some(expected) => {
                let said = hash(record.writer, record.sequence, record.amount, record.text.as_deref());
                if *expected != record || said != record.hash {
                    verdict.differs += 1;
                }
                if !seen.insert(key) {
                    verdict.duplicated += 1;
                }
            }
        }
    }
    verdict.lost = expected.len() - seen.len();
    let letters = match pair {
        "csv-to-sqlite" => Some(sqlite_letters(&folder.join("target.db"))),
        _ => None,
    };
    if let Some(letters) = letters {
        verdict.letters_lost = data.malformed.saturating_sub(letters);
        verdict.letters_duplicated = letters.saturating_sub(data.malformed);
    }
    verdict
}

/// Whether a run has made anything visible or decided.
pub fn has_progress(pair: &str, folder: &Path) -> bool {
    match pair {
        "csv-to-sqlite" => {
            let Ok(db) = open(&folder.join("target.db")) else { return false };
            let count = db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0));
            count.is_ok_and(|count| count > 0)
        }
        _ => !parts(&folder.join("target")).is_empty(),
    }
}

fn open(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn sqlite(path: &Path) -> Vec<Record> {
    let db = open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut rows = db.prepare("SELECT writer, sequence, amount, text, hash FROM events").unwrap();
    let records = rows.query_map([], |row| {
        Ok(Record {
            writer: row.get(0)?,
            sequence: row.get(1)?,
            amount: row.get(2)?,
            text: row.get(3)?,
            hash: row.get(4)?,
        })
    });
    records.unwrap().map(Result::unwrap).collect()
}

fn sqlite_letters(path: &Path) -> usize {
    let count: i64 = open(path)
        .unwrap()
        .query_row("SELECT count(*) FROM _hapax_dead_letters", [], |row| row.get(0))
        .unwrap();
    count as usize
}

/// What a reader who globs for `*.parquet` finds.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

fn parquet(path: &Path) -> Vec<Record> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        Record {
            writer: row.get_long(0).unwrap(),
            sequence: row.get_long(1).unwrap(),
            amount: row.get_double(2).unwrap(),
            text: row.get_string(3).ok().cloned(),
            hash: row.get_string(4).unwrap().clone(),
        }
    })
    .collect()
}

fn jsonl(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            Record {
                writer: value["writer"].as_i64().unwrap(),
                sequence: value["sequence"].as_i64().unwrap(),
                amount: value["amount"].as_f64().unwrap(),
                text: value["text"].as_str().map(str::to_owned),
                hash: value["hash"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}
