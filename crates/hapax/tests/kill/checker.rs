//! What arrived, read by other means than Hapax and counted by the checker. It knows nothing of Hapax but the names
//! of the destinations' own files, and of the tables a user would look at.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use hapax_checker::{Counts, Event, Expected, Log, Record as Named, State, Twins};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};

use crate::data::{Data, Record, hash};
use crate::{kafka, mysql, postgres, redis};

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
    let counts = counts(
        data,
        [Event::Found { records: named(&found.records), set_aside: Vec::new(), held: Vec::new() }],
    );
    let mut verdict = Verdict {
        lost: counts.lost as usize,
        duplicated: counts.duplicated as usize,
        phantom: counts.phantom as usize,
        differs: counts.differs as usize,
        torn: found.torn,
        ..Verdict::default()
    };
    // Only these sources have lines that are no records, and give them the same place each time.
    if pair.starts_with("csv-to-") {
        let letters = match pair {
            "csv-to-sqlite" => sqlite_letters(&folder.join("target.db")),
            "csv-to-kafka" => kafka::letters(folder),
            "csv-to-mysql" => mysql::letters(folder),
            "csv-to-redis" => redis::letters(folder),
            "csv-to-postgres" => postgres::letters(folder),
            "csv-to-parquet" => file_letters(&folder.join("target/_hapax/kill/letters")),
            _ => file_letters(&folder.join(".target.jsonl.hapax/kill/letters")),
        };
        verdict.letters_lost = data.malformed.saturating_sub(letters);
        verdict.letters_duplicated = letters.saturating_sub(data.malformed);
    }
    verdict
}

/// What a reader sees now that it should never see: parts of files or of commits, repeats, records of nobody. `None`
/// if there is nothing to look at.
pub fn glance(pair: &str, folder: &Path, data: &Data) -> Option<Verdict> {
    let found = match pair {
        pair if pair.ends_with("-to-sqlite") => glance_at_table(&folder.join("target.db"))?,
        pair if pair.ends_with("-to-redis") => {
            let (records, moved) = redis::glance(folder)?;
            Found { torn: usize::from(records.len() as i64 != moved), records }
        }
        pair if pair.ends_with("-to-mysql") => {
            let (records, moved) = mysql::glance(folder)?;
            Found { torn: usize::from(records.len() as i64 != moved), records }
        }
        pair if pair.ends_with("-to-postgres") => {
            let (records, moved) = postgres::glance(folder)?;
            Found { torn: usize::from(records.len() as i64 != moved), records }
        }
        pair => look(pair, folder),
    };
    let records = named(&found.records);
    let counts = counts(data, [Event::Polled { records: records.clone(), through: Vec::new() }]);
    let last = counts_of_found(data, records);
    Some(Verdict {
        duplicated: counts.seen_twice as usize,
        phantom: last.phantom as usize,
        differs: last.differs as usize,
        torn: found.torn,
        ..Verdict::default()
    })
}

fn counts_of_found(data: &Data, records: Vec<Named>) -> Counts {
    counts(data, [Event::Found { records, set_aside: Vec::new(), held: Vec::new() }])
}

/// What the checker makes of what was generated and what was seen.
fn counts(data: &Data, seen: impl IntoIterator<Item = Event>) -> Counts {
    let mut log = Log::new(Expected { twins: Twins::Once, state: State::Every, ordered: false });
    let written = named(&data.records).into_iter().zip(0..);
    log.events.extend(written.map(|(record, place)| Event::Written { record, split: 0, place }));
    log.events.extend(seen);
    Counts::of(&log)
}

/// Records as the checker knows them. One that does not say the hash of what it contains has none.
fn named(records: &[Record]) -> Vec<Named> {
    let named = records.iter().map(|record| {
        let said = hash(record.writer, record.sequence, record.amount, record.text.as_deref());
        let digits = said.strip_prefix('h').filter(|_| said == record.hash).unwrap_or("0");
        Named {
            writer: record.writer as u64,
            sequence: record.sequence as u64,
            hash: u64::from_str_radix(digits, 16).unwrap(),
        }
    });
    named.collect()
}

/// The table in one transaction, with the positions beside it: what they count must be there, and nothing else.
fn glance_at_table(path: &Path) -> Option<Found> {
    let mut db = path.exists().then(|| open(path).unwrap())?;
    db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let tx = db.transaction().unwrap();
    let tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('events', '_hapax_positions')";
    if tx.query_row(tables, [], |row| row.get::<_, i64>(0)).ok()? < 2 {
        return None;
    }
    let moved: i64 =
        tx.query_row("SELECT coalesce(sum(moved), 0) FROM _hapax_positions", [], |row| row.get(0)).unwrap();
    let records = rows(&tx);
    Some(Found { torn: usize::from(records.len() as i64 != moved), records })
}

fn look(pair: &str, folder: &Path) -> Found {
    if pair.ends_with("-to-sqlite") {
        return Found { records: sqlite(&folder.join("target.db")), torn: 0 };
    }
    if pair.ends_with("-to-redis") {
        return Found { records: redis::records(folder), torn: 0 };
    }
    if pair.ends_with("-to-mysql") {
        return Found { records: mysql::records(folder), torn: 0 };
    }
    if pair.ends_with("-to-postgres") {
        return Found { records: postgres::records(folder), torn: 0 };
    }
    if pair.ends_with("-to-kafka") {
        return Found { records: kafka::records(folder), torn: 0 };
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

fn open(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn sqlite(path: &Path) -> Vec<Record> {
    let db = open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    rows(&db)
}

fn rows(db: &rusqlite::Connection) -> Vec<Record> {
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
