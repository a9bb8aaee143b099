//! The commits of each split, beyond the few manifests that its chain keeps: a file of JSON lines a split.
//!
//! A manifest that is about to be pruned leaves its line here first. The line is durable before the manifest is
//! removed. Two holders may write the same line, and a crash may cut the last one off: it is in the chain then,
//! and comes again. Whoever reads takes one line a number, and passes over what is no line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;

use hapax_engine::history::Committed;
use hapax_engine::sink::CommitId;
use hapax_protocol::lease::FencingToken;
use hapax_protocol::position::{Epoch, Ordinal, Position, SplitId, Totals};
use serde::{Deserialize, Serialize};

use crate::sink::disk;
use crate::sink::fault::{Failure, at};
use crate::sink::state::{SplitEntry, unhex};

/// One commit, by the number of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    number: u64,
    epoch: Epoch,
    token: FencingToken,
    holder: String,
    first: Ordinal,
    totals: Totals,
    through: String,
    made_unix_ms: u64,
    /// The records it moved again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    again: Vec<Range<Ordinal>>,
}

/// The commits of one record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Commits {
    /// The one that brought the position past it.
    pub(crate) passed: Option<Committed>,
    /// The one that settled its dead letter.
    pub(crate) settled: Option<Committed>,
    /// Those that moved it again.
    pub(crate) again: BTreeMap<Epoch, Committed>,
}

impl Line {
    /// What a manifest leaves behind; `None` for a fence, and for one of a version that kept no history.
    pub(crate) fn of(number: u64, entry: &SplitEntry) -> Option<Self> {
        let made = entry.made.as_ref()?;
        Some(Self {
            number,
            epoch: entry.epoch,
            token: entry.token,
            holder: made.holder.clone(),
            first: made.before.read,
            totals: entry.totals.since(made.before),
            through: entry.through.clone()?,
            made_unix_ms: made.unix_ms,
            again: made.again.clone(),
        })
    }

    fn records(&self) -> Range<Ordinal> {
        self.first..self.first.saturating_add(self.totals.read)
    }

    fn committed(&self, split: &SplitId) -> Option<Committed> {
        Some(Committed {
            records: self.records(),
            commit: CommitId { split: split.clone(), epoch: self.epoch },
            token: self.token,
            holder: self.holder.clone(),
            through: Position::new(unhex(&self.through)?),
            totals: self.totals,
            made_unix_ms: self.made_unix_ms,
        })
    }
}

/// Appends lines durably.
pub(crate) fn append(path: &Path, lines: &[Line]) -> Result<(), Failure> {
    let directory = disk::parent_of(path);
    disk::make_directory(directory)?;
    let is_new = !path.exists();
    let mut file = File::options().create(true).append(true).open(path).map_err(at("open", path))?;
    // What a crash left of an earlier line ends here.
    let mut text = vec![b'\n'];
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(io::Error::from).map_err(at("write", path))?;
        text.push(b'\n');
    }
    file.write_all(&text).map_err(at("write", path))?;
    disk::sync_file(&file, path)?;
    if is_new { disk::sync_directory(directory) } else { Ok(()) }
}

/// The records of a split whose commits are asked for, each with the epoch that settled its dead letter.
pub(crate) type Wanted = BTreeMap<Ordinal, Option<Epoch>>;

/// Those of the records that lie in a range.
fn within(wanted: &Wanted, range: Range<Ordinal>) -> impl Iterator<Item = Ordinal> {
    let end = range.end.max(range.start);
    wanted.range(range.start..end).map(|(ordinal, _)| *ordinal)
}

/// Finds the commits of records of a split, among the lines that the chain still has and those in the file. The
/// chain must have been read first.
pub(crate) fn find(
    path: &Path,
    in_chain: Vec<Line>,
    split: &SplitId,
    wanted: &Wanted,
) -> Result<BTreeMap<Ordinal, Commits>, Failure> {
    let mut settled: BTreeMap<Epoch, Vec<Ordinal>> = BTreeMap::new();
    for (ordinal, epoch) in wanted {
        if let Some(epoch) = epoch {
            settled.entry(*epoch).or_default().push(*ordinal);
        }
    }
    let mut found: BTreeMap<Ordinal, Commits> = BTreeMap::new();
    let mut see = |line: Line| {
        let Some(committed) = line.committed(split) else { return };
        for ordinal in within(wanted, line.records()) {
            found.entry(ordinal).or_default().passed = Some(committed.clone());
        }
        for ordinal in settled.get(&line.epoch).into_iter().flatten() {
            found.entry(*ordinal).or_default().settled = Some(committed.clone());
        }
        for ordinal in line.again.iter().flat_map(|again| within(wanted, again.clone())) {
            found.entry(ordinal).or_default().again.insert(line.epoch, committed.clone());
        }
    };
    if let Some(file) = opened(path)? {
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(at("read", path))?;
            if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                see(line);
            }
        }
    }
    in_chain.into_iter().for_each(see);
    Ok(found)
}

fn opened(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("open", path)(error)),
    }
}

#[cfg(test)]
mod tests;
