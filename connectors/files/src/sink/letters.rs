//! Dead letters: a log of lines, published in the same commit as the position that passes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hapax_engine::dead_letter::{DeadLetter, Ending, SettledLetter, Settlement};
use hapax_engine::history::Remembered;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Epoch, Ordinal, SplitId};
use serde::{Deserialize, Serialize};

use crate::sink::disk;
use crate::sink::fault::{Failure, at};
use crate::sink::state::{Kind, State};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Line {
    Letter {
        split: SplitId,
        record: Ordinal,
        code: u16,
        reason: String,
        raw: String,
        set_aside_unix_ms: u64,
    },
    Settled {
        split: SplitId,
        record: Ordinal,
        /// This and what follows: not written by the first versions.
        #[serde(default)]
        ending: String,
        #[serde(default)]
        epoch: Epoch,
        #[serde(default)]
        settled_unix_ms: u64,
    },
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

    pub(crate) fn settle(&mut self, place: &Place, settlement: &Settlement) -> Result<(), Failure> {
        self.push(&Line::Settled {
            split: place.split.clone(),
            record: place.ordinal,
            ending: settlement.ending.word().to_owned(),
            epoch: settlement.epoch,
            settled_unix_ms: settlement.settled_unix_ms,
        })
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

/// A line: the index of its file, and the byte it starts at.
type At = (usize, u64);

/// What the log says of one place.
#[derive(Debug, Default)]
struct Found {
    /// Its letter, if it is not settled.
    letter: Option<At>,
    /// The last of its letters that was settled, and its settlement.
    settled: Option<(At, At)>,
}

/// The log of all decided commits, as far as it is asked for.
struct Log {
    files: Vec<LogFile>,
    found: BTreeMap<Place, Found>,
}

impl Log {
    /// Reads through the log and keeps the places that are wanted: where their lines are, not the lines.
    fn read(state: &State, settled_too: bool, wanted: impl Fn(&Place) -> bool) -> Result<Self, Failure> {
        let files = files(state)?;
        let mut found: BTreeMap<Place, Found> = BTreeMap::new();
        // What another split settled may stand in a file before that of the letter.
        let mut early: BTreeMap<Place, At> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            file.each_line(|start, line| {
                let head: Head = serde_json::from_slice(line).map_err(|error| damaged(&file.path, &error))?;
                let place = Place { split: head.split, ordinal: head.record };
                match head.what {
                    What::Letter if wanted(&place) => {
                        if let Some(settlement) = early.remove(&place) {
                            if settled_too {
                                found.entry(place).or_default().settled = Some(((index, start), settlement));
                            }
                            return Ok(());
                        }
                        let of_place = found.entry(place).or_default();
                        of_place.letter.get_or_insert((index, start));
                    }
                    What::Settled => {
                        let Some(of_place) = found.get_mut(&place) else {
                            if wanted(&place) {
                                early.insert(place, (index, start));
                            }
                            return Ok(());
                        };
                        if !settled_too {
                            found.remove(&place);
                        } else if let Some(letter) = of_place.letter.take() {
                            of_place.settled = Some((letter, (index, start)));
                        }
                    }
                    What::Letter => {}
                }
                Ok(())
            })?;
        }
        Ok(Self { files, found })
    }

    fn line(&self, (index, start): At) -> Result<(&Path, Line), Failure> {
        let Some(of_log) = self.files.get(index) else { return Err(changed(Path::new(""))) };
        let path = of_log.path.as_path();
        let mut file = of_log.open()?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(at("read", path))?;
        file.read_until(b'\n', &mut text).map_err(at("read", path))?;
        Ok((path, serde_json::from_slice(&text).map_err(|error| damaged(path, &error))?))
    }

    fn letter(&self, line: At) -> Result<DeadLetter, Failure> {
        match self.line(line)? {
            (_, Line::Letter { split, record, code, reason, raw, set_aside_unix_ms }) => Ok(DeadLetter {
                place: Place { split, ordinal: record },
                code: Code(code),
                reason,
                raw,
                set_aside_unix_ms,
            }),
            (path, Line::Settled { .. }) => Err(changed(path)),
        }
    }

    fn settled(&self, (letter, settlement): (At, At)) -> Result<SettledLetter, Failure> {
        let letter = DeadLetter { raw: String::new(), ..self.letter(letter)? };
        match self.line(settlement)? {
            (_, Line::Settled { ending, epoch, settled_unix_ms, .. }) => {
                let ending = Ending::of_word(&ending);
                Ok(SettledLetter { letter, settlement: Settlement { ending, epoch, settled_unix_ms } })
            }
            (path, Line::Letter { .. }) => Err(changed(path)),
        }
    }
}

/// The letters that are not settled, at most `letters_max`, by place.
pub(crate) fn unsettled(state: &State, letters_max: usize) -> Result<Vec<DeadLetter>, Failure> {
    let log = Log::read(state, false, |_| true)?;
    let letters = log.found.values().filter_map(|found| found.letter);
    letters.take(letters_max).map(|line| log.letter(line)).collect()
}

/// The letters that were settled, at most `letters_max`, by place.
pub(crate) fn settled(state: &State, letters_max: usize) -> Result<Vec<SettledLetter>, Failure> {
    let log = Log::read(state, true, |_| true)?;
    let letters = log.found.values().filter_map(|found| found.settled);
    letters.take(letters_max).map(|lines| log.settled(lines)).collect()
}

/// What the log remembers of each of these places: no commit, only letters.
pub(crate) fn of_places(state: &State, places: &[Place]) -> Result<Vec<Remembered>, Failure> {
    let wanted: BTreeSet<&Place> = places.iter().collect();
    let log = Log::read(state, true, |place| wanted.contains(place))?;
    let remembered = |place: &Place| {
        let Some(found) = log.found.get(place) else { return Ok(Remembered::default()) };
        let letter = found.letter.map(|line| log.letter(line)).transpose()?;
        let settled = found.settled.map(|lines| log.settled(lines)).transpose()?;
        Ok(Remembered { letter, settled, ..Remembered::default() })
    };
    places.iter().map(remembered).collect()
}

/// One file of the log.
struct LogFile {
    path: PathBuf,
    /// The name it has until its commit is rolled forward.
    temp: Option<PathBuf>,
}

impl LogFile {
    /// Opens it, whichever name it has: a run may give it the other one at any time.
    fn open(&self) -> Result<BufReader<File>, Failure> {
        let names = [Some(&self.path), self.temp.as_ref(), Some(&self.path)];
        let mut gone = io::Error::from(io::ErrorKind::NotFound);
        for name in names.into_iter().flatten() {
            match File::open(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone = error,
                opened => return opened.map(BufReader::new).map_err(at("open", name)),
            }
        }
        Err(at("open", &self.path)(gone))
    }

    fn each_line(&self, mut see: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut file = self.open()?;
        let mut line = Vec::new();
        let mut start = 0_u64;
        loop {
            line.clear();
            let bytes = file.read_until(b'\n', &mut line).map_err(at("read", &self.path))?;
            if bytes == 0 {
                return Ok(());
            }
            see(start, &line)?;
            start = start.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }
}

/// The files of all decided commits, in the order in which they were made.
fn files(state: &State) -> Result<Vec<LogFile>, Failure> {
    let directory = state.letters();
    let mut files: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
    // A decided commit that was not rolled forward yet has its letters under their temporary name.
    for (_, _, entry) in state.splits()? {
        for file in entry.files.iter().filter(|file| file.kind == Kind::Letters) {
            files.insert(file.name.clone(), Some(state.temps().join(&file.temp)));
        }
    }
    for name in disk::names(&directory)? {
        files.entry(name).or_default();
    }
    Ok(files.into_iter().map(|(name, temp)| LogFile { path: directory.join(name), temp }).collect())
}

fn changed(path: &Path) -> Failure {
    Failure::StateDamaged { path: path.to_owned(), reason: "a letter changed while it was read".to_owned() }
}

fn damaged(path: &Path, error: &serde_json::Error) -> Failure {
    Failure::StateDamaged { path: path.to_owned(), reason: error.to_string() }
}
