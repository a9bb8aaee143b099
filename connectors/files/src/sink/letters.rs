//! Dead letters: a log of lines, published in the same commit as the position that passes them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hapax_engine::dead_letter::DeadLetter;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Ordinal, SplitId};
use serde::{Deserialize, Serialize};

use crate::sink::disk;
use crate::sink::fault::{Failure, at};
use crate::sink::state::{Kind, State};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Line {
    Letter { split: SplitId, record: Ordinal, code: u16, reason: String, raw: String, set_aside_unix_ms: u64 },
    Settled { split: SplitId, record: Ordinal },
}

/// What has to be known of a line to decide whether it still counts.
#[derive(Debug, Deserialize)]
struct Head {
    what: What,
    split: SplitId,
    record: Ordinal,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Letter,
    Settled,
}

/// The lines of one commit, being written.
pub(crate) struct LetterFile {
    pub(crate) temp: String,
    path: PathBuf,
    out: BufWriter<File>,
}

impl LetterFile {
    pub(crate) fn create(path: PathBuf, temp: String) -> Result<Self, Failure> {
        let file = File::create(&path).map_err(at("create", &path))?;
        Ok(Self { temp, path, out: BufWriter::new(file) })
    }

    pub(crate) fn set_aside(&mut self, letter: &DeadLetter) -> Result<(), Failure> {
        self.push(&Line::Letter {
            split: letter.place.split.clone(),
            record: letter.place.ordinal,
            code: letter.code.0,
            reason: letter.reason.clone(),
            raw: letter.raw.clone(),
            set_aside_unix_ms: letter.set_aside_unix_ms,
        })
    }

    pub(crate) fn settle(&mut self, place: &Place) -> Result<(), Failure> {
        self.push(&Line::Settled { split: place.split.clone(), record: place.ordinal })
    }

    fn push(&mut self, line: &Line) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.out, line).map_err(io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).map_err(at("write", &self.path))
    }

    /// Ends the file and makes it durable. Returns its length in bytes.
    pub(crate) fn finish(self) -> Result<u64, Failure> {
        let Self { path, out, .. } = self;
        let file = out.into_inner().map_err(|error| at("write", &path)(error.into_error()))?;
        disk::sync_file(&file, &path)?;
        Ok(file.metadata().map_err(at("look at", &path))?.len())
    }
}

/// The letters that are not settled, at most `letters_max`, by place.
pub(crate) fn unsettled(state: &State, letters_max: usize) -> Result<Vec<DeadLetter>, Failure> {
    let files = files(state)?;
    let mut alive: BTreeMap<Place, (usize, u64)> = BTreeMap::new();
    for (index, path) in files.iter().enumerate() {
        each_line(path, |start, line| {
            let head: Head = serde_json::from_slice(line).map_err(|error| damaged(path, &error))?;
            let place = Place { split: head.split, ordinal: head.record };
            match (head.what, alive.entry(place)) {
                (What::Letter, Entry::Vacant(entry)) => {
                    entry.insert((index, start));
                }
                (What::Settled, Entry::Occupied(entry)) => {
                    entry.remove();
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    alive.into_values().take(letters_max).map(|(index, start)| letter(files.get(index), start)).collect()
}

/// The files of all decided commits, in the order in which they were made.
fn files(state: &State) -> Result<Vec<PathBuf>, Failure> {
    let directory = state.letters();
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    // A decided commit that was not rolled forward yet has its letters under their temporary name.
    for (_, _, entry) in state.splits()? {
        for file in entry.files.iter().filter(|file| file.kind == Kind::Letters) {
            files.insert(file.name.clone(), state.temps().join(&file.temp));
        }
    }
    for name in disk::names(&directory)? {
        let path = directory.join(&name);
        files.insert(name, path);
    }
    Ok(files.into_values().collect())
}

fn each_line(path: &Path, mut see: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut file = BufReader::new(File::open(path).map_err(at("open", path))?);
    let mut line = Vec::new();
    let mut start = 0_u64;
    loop {
        line.clear();
        let bytes = file.read_until(b'\n', &mut line).map_err(at("read", path))?;
        if bytes == 0 {
            return Ok(());
        }
        see(start, &line)?;
        start = start.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

fn letter(path: Option<&PathBuf>, start: u64) -> Result<DeadLetter, Failure> {
    let Some(path) = path else {
        return Err(Failure::StateDamaged {
            path: PathBuf::new(),
            reason: "a letter without a file".to_owned(),
        });
    };
    let mut file = BufReader::new(File::open(path).map_err(at("open", path))?);
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(at("read", path))?;
    file.read_until(b'\n', &mut text).map_err(at("read", path))?;
    match serde_json::from_slice(&text).map_err(|error| damaged(path, &error))? {
        Line::Letter { split, record, code, reason, raw, set_aside_unix_ms } => Ok(DeadLetter {
            place: Place { split, ordinal: record },
            code: Code(code),
            reason,
            raw,
            set_aside_unix_ms,
        }),
        Line::Settled { .. } => Err(Failure::StateDamaged {
            path: path.clone(),
            reason: "a letter changed while it was read".to_owned(),
        }),
    }
}

fn damaged(path: &Path, error: &serde_json::Error) -> Failure {
    Failure::StateDamaged { path: path.to_owned(), reason: error.to_string() }
}
