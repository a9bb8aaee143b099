//! What arrived, counted against what was generated. It knows nothing of Hapax but the names of the
//! destinations' own files, and of the tables a user would look at.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};

use crate::data::{Data, Record, hash};

/// What is wrong. All of it must be 0.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub lost: usize,
    pub duplicated: usize,
    pub phantom: usize,
    pub differs: usize,
    /// Files of which a reader sees a part.
    pub torn: usize,
    pub letters_lost: usize,
    pub letters_duplicated: usize,
}

impl Verdict {
    /// The checks that found something, with what they counted; empty if all is well.
    pub fn words(&self) -> String {
        let checks = [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("phantom", self.phantom),
            ("differs", self.differs),
            ("torn", self.torn),
            ("letters lost", self.letters_lost),
            ("letters duplicated", self.letters_duplicated),
        ];
        let found = checks.iter().filter(|(_, count)| *count > 0);
        found.map(|(check, count)| format!("{check} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// All that can be wrong while not everything has arrived.
    pub fn so_far(self) -> Self {
        Self { lost: 0, letters_lost: 0, ..self }
    }
}

/// What a reader of the destination finds: records, and how many files are not whole.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    torn: usize,
}

pub fn check(pair: &str, folder: &Path, data: &Data) -> Verdict {
    let found = look(pair, folder);
    let mut verdict = Verdict { torn: found.torn, ..Verdict::default() };
    let expected: HashMap<(i64, i64), &Record> =
        data.records.iter().map(|record| ((record.writer, record.sequence), record)).collect();
    let mut seen = HashSet::new();
    for record in &found.records {
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
    // Only these sources have lines that are no records, and give them the same place each time.
    if pair.starts_with("csv-to-") {
        let letters = match pair {
            "csv-to-sqlite" => sqlite_letters(&folder.join("target.db")),
            "csv-to-parquet" => file_letters(&folder.join("target/_hapax/kill/letters")),
            _ => file_letters(&folder.join(".target.jsonl.hapax/kill/letters")),
        };
        verdict.letters_lost = data.malformed.saturating_sub(letters);
        verdict.letters_duplicated = letters.saturating_sub(data.malformed);
    }
    verdict
}

fn look(pair: &str, folder: &Path) -> Found {
    if pair.ends_with("-to-sqlite") {
        return Found { records: sqlite(&folder.join("target.db")), torn: 0 };
    }
    let read = match pair.ends_with("-to-parquet") {
        true => parts(&folder.join("target")).iter().map(|path| parquet(path)).collect(),
        false => vec![jsonl(&folder.join("target.jsonl"))],
    };
    let mut found = Found::default();
    for records in read {
        match records {
            Some(records) => found.records.extend(records),
            None => found.torn += 1,
        }
    }
    found
}

/// Whether a run has made anything visible or decided.
pub fn has_progress(pair: &str, folder: &Path) -> bool {
    if pair.ends_with("-to-sqlite") {
        let Ok(db) = open(&folder.join("target.db")) else { return false };
        let count = db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0));
        return count.is_ok_and(|count| count > 0);
    }
    !parts(&folder.join("target")).is_empty()
}

/// Whether a transaction that writes is open.
pub fn is_locked(folder: &Path) -> bool {
    let db = open(&folder.join("target.db")).unwrap();
    db.busy_timeout(std::time::Duration::ZERO).unwrap();
    db.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
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

/// The places that are set aside. A file of them that is not whole counts for none.
fn file_letters(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut places = HashSet::new();
    for entry in entries {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let lines = text.lines().map_while(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        places.extend(lines.map(|line| (line["split"].to_string(), line["record"].to_string())));
    }
    places.len()
}

/// What a reader who globs for `*.parquet` finds.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

/// `None`: it is not whole.
fn parquet(path: &Path) -> Option<Vec<Record>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).ok()?;
    let rows = reader.get_row_iter(None).ok()?;
    rows.map(|row| parquet_record(&row.ok()?)).collect()
}

fn parquet_record(row: &Row) -> Option<Record> {
    Some(Record {
        writer: row.get_long(0).ok()?,
        sequence: row.get_long(1).ok()?,
        amount: row.get_double(2).ok()?,
        text: row.get_string(3).ok().cloned(),
        hash: row.get_string(4).ok()?.clone(),
    })
}

/// `None`: it is not whole. A file that is not there has no records.
fn jsonl(path: &Path) -> Option<Vec<Record>> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return (!path.exists()).then(Vec::new);
    };
    if !text.ends_with('\n') {
        return None;
    }
    text.lines().map(json_record).collect()
}

fn json_record(line: &str) -> Option<Record> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(Record {
        writer: value["writer"].as_i64()?,
        sequence: value["sequence"].as_i64()?,
        amount: value["amount"].as_f64()?,
        text: value["text"].as_str().map(str::to_owned),
        hash: value["hash"].as_str()?.to_owned(),
    })
}
