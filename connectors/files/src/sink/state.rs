//! What the sink remembers beside the data: who holds the lease, where each split stands.
//!
//! Everything is a [`Chain`]; nothing is ever changed in place.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hapax_engine::crash;
use hapax_engine::history::Remembered;
use hapax_engine::sink::CommitId;
use hapax_ledger::store::SegmentId;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Epoch, Ordinal, Position, SplitId, Standing, Totals};
use serde::{Deserialize, Serialize};

use crate::sink::chain::{Appended, Chain};
use crate::sink::disk;
use crate::sink::fault::{Failure, at};
use crate::sink::history::{self, Line, Wanted};
use crate::sink::names;
use crate::sink_config::{Target, TargetPlace};

/// One holder of the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeaseEntry {
    pub(crate) token: FencingToken,
    pub(crate) holder: String,
    pub(crate) definition: String,
}

/// One commit of a split, or the fence a new holder puts behind the last one: then `files` is empty and
/// the standing is the former.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitEntry {
    pub(crate) split: SplitId,
    pub(crate) token: FencingToken,
    /// The position before, in hexadecimal.
    pub(crate) after: Option<String>,
    /// The position that is committed, in hexadecimal.
    pub(crate) through: Option<String>,
    pub(crate) epoch: Epoch,
    pub(crate) totals: Totals,
    /// The last segment of the ledger that this commit rests on, 0 before the first.
    #[serde(default)]
    pub(crate) ledger: u64,
    /// How the commit was made; nothing is decided by it. A fence, and a commit of an earlier version, have none.
    #[serde(default)]
    pub(crate) made: Option<Made>,
    pub(crate) files: Vec<Move>,
}

/// What is remembered of a commit for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The holder as it applied for the lease.
    pub(crate) holder: String,
    pub(crate) unix_ms: u64,
    /// The totals before it.
    pub(crate) before: Totals,
    /// The records that it moved again. A commit of an earlier version does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) again: Vec<Range<Ordinal>>,
}

/// A staged file and the name it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) kind: Kind,
    pub(crate) temp: String,
    #[serde(rename = "final")]
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Records,
    Letters,
}

impl SplitEntry {
    pub(crate) fn standing(&self, path: &Path) -> Result<Standing, Failure> {
        let damaged = || Failure::StateDamaged {
            path: path.to_owned(),
            reason: "its position is not hexadecimal".to_owned(),
        };
        let position = match &self.through {
            Some(text) => Some(Position::new(unhex(text).ok_or_else(damaged)?)),
            None => None,
        };
        Ok(Standing { position, epoch: self.epoch, totals: self.totals })
    }

    fn fence(split: &SplitId, token: FencingToken, last: Option<Self>) -> Self {
        let (through, epoch, totals, ledger) = match last {
            Some(last) => (last.through, last.epoch, last.totals, last.ledger),
            None => (None, Epoch::NONE, Totals::default(), 0),
        };
        Self {
            split: split.clone(),
            token,
            after: through.clone(),
            through,
            epoch,
            totals,
            ledger,
            made: None,
            files: Vec::new(),
        }
    }
}

pub(crate) fn hex(position: &Position) -> String {
    format!("{position:?}")
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.filter_map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect())
}

/// The state of one pipeline at one destination.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) root: PathBuf,
    pub(crate) pipeline: PipelineName,
    /// Where published parts go.
    pub(crate) parts: PathBuf,
    broken: AtomicBool,
    attempts: AtomicU64,
}

/// Where a take-over of a split ended.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) token: FencingToken,
    /// The number of the chain's last entry.
    pub(crate) number: u64,
    pub(crate) standing: Standing,
    /// The last segment of the ledger that the standing rests on.
    pub(crate) ledger: u64,
}

impl State {
    pub(crate) fn new(target: &Target, pipeline: &PipelineName) -> Self {
        let (base, parts) = match &target.place {
            TargetPlace::Directory(directory) => (directory.join("_hapax"), Some(directory.clone())),
            TargetPlace::File(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                (disk::parent_of(path).join(format!(".{name}.hapax")), None)
            }
            TargetPlace::Stdout => (PathBuf::new(), None),
        };
        let root = base.join(pipeline.as_str());
        let parts = parts.unwrap_or_else(|| root.join("parts"));
        Self {
            root,
            pipeline: pipeline.clone(),
            parts,
            broken: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
        }
    }

    pub(crate) fn temps(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn letters(&self) -> PathBuf {
        self.root.join("letters")
    }

    pub(crate) fn leases(&self) -> Chain {
        Chain::new(self.root.join("leases"))
    }

    pub(crate) fn split_chain(&self, key: &str) -> Chain {
        Chain::new(self.root.join("splits").join(key))
    }

    /// Where the commits of a split are remembered once their manifests are pruned.
    pub(crate) fn history(&self, key: &str) -> PathBuf {
        self.root.join("history").join(format!("{key}.jsonl"))
    }

    /// Removes manifests that are far behind the last one, once their commits are remembered. It does not matter
    /// if it fails: the next commit tries again.
    pub(crate) fn prune_split(&self, key: &str) {
        let chain = self.split_chain(key);
        let remembered = chain.surplus().and_then(|numbers| {
            let mut lines = Vec::new();
            for number in &numbers {
                let entry = chain.entry::<SplitEntry>(*number)?;
                lines.extend(entry.and_then(|entry| Line::of(*number, &entry)));
            }
            if !lines.is_empty() {
                history::append(&self.history(key), &lines)?;
            }
            Ok(numbers)
        });
        if let Ok(numbers) = self.watch(remembered) {
            numbers.into_iter().for_each(|number| chain.remove(number));
        }
    }

    /// Adds, to what is remembered of the letters of these places, the commits that brought positions past them
    /// and those that came back to them.
    pub(crate) fn add_commits(&self, places: &[Place], remembered: &mut [Remembered]) -> Result<(), Failure> {
        let mut wanted: BTreeMap<&SplitId, Wanted> = BTreeMap::new();
        for (place, remembered) in places.iter().zip(remembered.iter()) {
            let settled = remembered.settled.as_ref().map(|settled| settled.settlement.epoch);
            wanted.entry(&place.split).or_default().insert(place.ordinal, settled);
        }
        let mut found = BTreeMap::new();
        for (split, ordinals) in wanted {
            let key = names::split_key(&self.pipeline, split);
            let chain = self.split_chain(&key).entries::<SplitEntry>()?;
            let lines = chain.iter().filter_map(|(number, entry)| Line::of(*number, entry)).collect();
            found.insert(split, history::find(&self.history(&key), lines, split, &ordinals)?);
        }
        for (place, remembered) in places.iter().zip(remembered) {
            let Some(found) = found.get(&place.split).and_then(|of_split| of_split.get(&place.ordinal))
            else {
                continue;
            };
            remembered.commit.clone_from(&found.passed);
            remembered.settled_in.clone_from(&found.settled);
            remembered.again = found.again.values().cloned().collect();
        }
        Ok(())
    }

    /// The last commit of each split of which a file still has its temporary name.
    pub(crate) fn unfinished(&self) -> Result<Vec<CommitId>, Failure> {
        let waits = |file: &Move| self.temps().join(&file.temp).exists();
        let splits = self.splits()?.into_iter();
        Ok(splits
            .filter(|(_, _, entry)| entry.files.iter().any(waits))
            .map(|(_, _, entry)| CommitId { split: entry.split, epoch: entry.epoch })
            .collect())
    }

    /// Who holds the lease with this token, as it applied for it.
    pub(crate) fn holder(&self, token: FencingToken) -> Result<String, Failure> {
        let lease = self.leases().entry::<LeaseEntry>(token.get())?;
        Ok(lease.map(|lease| lease.holder).unwrap_or_default())
    }

    /// Creates the directories.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        let directories = [self.temps(), self.letters(), self.parts.clone(), self.root.join("splits")];
        if directories.iter().any(|directory| !directory.is_dir()) {
            disk::sync_nearest(&self.root)?;
        }
        directories.iter().try_for_each(|directory| disk::make_directory(directory))
    }

    /// A name for a temporary file that no other holder and no other attempt uses.
    pub(crate) fn temp_name(&self, token: FencingToken, what: &str) -> String {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        format!("{:020}.{}.{attempt}.{what}", token.get(), std::process::id())
    }

    /// Remembers an fsync error: what was written is then unknown, and this process stops.
    pub(crate) fn watch<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(result, Err(Failure::NotDurable { .. })) {
            self.broken.store(true, Ordering::SeqCst);
        }
        result
    }

    pub(crate) fn whole(&self) -> Result<(), Failure> {
        if self.broken.load(Ordering::SeqCst) { Err(Failure::Stopped) } else { Ok(()) }
    }

    /// Refuses if a later holder than `token` has the lease.
    pub(crate) fn check_lease(&self, token: FencingToken) -> Result<(), Failure> {
        let last = FencingToken::new(self.leases().last_number()?);
        if last > token { Err(self.fenced(last)) } else { Ok(()) }
    }

    pub(crate) fn fenced(&self, by: FencingToken) -> Failure {
        Failure::Fenced { path: self.root.clone(), by }
    }

    /// The splits that were ever taken, with the last entry of each, in the order of their names.
    pub(crate) fn splits(&self) -> Result<Vec<(String, u64, SplitEntry)>, Failure> {
        let mut splits = Vec::new();
        for key in disk::names(&self.root.join("splits"))? {
            if let Some((number, entry)) = self.split_chain(&key).last::<SplitEntry>()? {
                splits.push((key, number, entry));
            }
        }
        splits.sort_by(|one, other| one.2.split.cmp(&other.2.split));
        Ok(splits)
    }

    /// The last segment of the ledger that any commit rests on.
    pub(crate) fn ledger_mark(&self) -> Result<SegmentId, Failure> {
        let marks = self.splits()?.into_iter().map(|(_, _, entry)| entry.ledger);
        Ok(SegmentId(marks.max().unwrap_or(0)))
    }

    /// Whether anything was ever committed.
    pub(crate) fn has_positions(&self) -> Result<bool, Failure> {
        Ok(self.splits()?.iter().any(|(_, _, entry)| entry.through.is_some()))
    }

    /// Takes the lease. Earlier holders are fenced only by [`fence_splits`](Self::fence_splits).
    pub(crate) fn acquire(&self, applicant: &Applicant) -> Result<Lease, Failure> {
        self.create()?;
        // A run that was killed may have made some of them without their names being durable.
        disk::sync_directory(&self.root)?;
        let leases = self.leases();
        loop {
            let last = leases.last::<LeaseEntry>()?;
            if let Some((_, held)) = &last
                && held.definition != applicant.definition
                && self.has_positions()?
            {
                return Err(Failure::DefinitionChanged { path: self.root.clone() });
            }
            let token = FencingToken::new(last.map_or(0, |(number, _)| number)).next();
            let entry = LeaseEntry {
                token,
                holder: applicant.holder.clone(),
                definition: applicant.definition.clone(),
            };
            let temp = self.temps().join(self.temp_name(token, "lease"));
            match leases.append(token.get(), &entry, &temp)? {
                Appended::Done => {
                    leases.prune();
                    return Ok(Lease { pipeline: applicant.pipeline.clone(), token });
                }
                Appended::Taken | Appended::Overtaken => {}
                Appended::Unsure(failure) => return Err(failure),
            }
        }
    }

    /// Fences every split: no earlier holder can commit to one any more when this returns.
    ///
    /// A holder that begins a split after this listing sees the new lease and stops: see `take_split`.
    pub(crate) fn fence_splits(&self, token: FencingToken) -> Result<(), Failure> {
        // The chain of a split whose beginner was killed may stand under a name that is not durable.
        disk::sync_directory(&self.root.join("splits"))?;
        for (key, _, entry) in self.splits()? {
            self.fence_split(&key, &entry.split, token)?;
        }
        Ok(())
    }

    /// Takes a split over for the holder of `token`.
    pub(crate) fn take_split(&self, split: &SplitId, token: FencingToken) -> Result<Held, Failure> {
        self.whole()?;
        let key = names::split_key(&self.pipeline, split);
        let held = self.fence_split(&key, split, token)?;
        self.check_lease(token)?;
        Ok(held)
    }

    fn fence_split(&self, key: &str, split: &SplitId, token: FencingToken) -> Result<Held, Failure> {
        let chain = self.split_chain(key);
        loop {
            let last = chain.last::<SplitEntry>()?;
            let number = last.as_ref().map_or(0, |(number, _)| *number);
            if let Some((number, entry)) = &last {
                let path = chain.path(*number);
                if entry.split != *split {
                    let reason = format!("it belongs to the split {}", entry.split);
                    return Err(Failure::StateDamaged { path, reason });
                }
                if entry.token > token {
                    return Err(self.fenced(entry.token));
                }
                if entry.token != token && !entry.files.is_empty() {
                    self.watch(chain.settle())?;
                }
                self.watch(self.roll_forward(entry, Roll::Recovery))?;
                if entry.token == token {
                    let (standing, ledger) = (entry.standing(&path)?, entry.ledger);
                    return Ok(Held { token, number: *number, standing, ledger });
                }
            }
            let fence = SplitEntry::fence(split, token, last.map(|(_, entry)| entry));
            let next = number.saturating_add(1);
            let temp = self.temps().join(self.temp_name(token, "fence"));
            match self.watch(chain.append(next, &fence, &temp))? {
                Appended::Done => {
                    let standing = fence.standing(&chain.path(next))?;
                    return Ok(Held { token, number: next, standing, ledger: fence.ledger });
                }
                Appended::Taken | Appended::Overtaken => {}
                Appended::Unsure(failure) => return self.watch(Err(failure)),
            }
        }
    }

    /// Gives the files of a decided commit their names. Whoever does it, however often: the same happens.
    pub(crate) fn roll_forward(&self, entry: &SplitEntry, roll: Roll) -> Result<(), Failure> {
        for file in &entry.files {
            let temp = self.temps().join(&file.temp);
            let directory = match file.kind {
                Kind::Records => self.parts.clone(),
                Kind::Letters => self.letters(),
            };
            if temp.exists() && roll == Roll::Recovery {
                crash::point(crash::Point::Recovery);
            }
            match disk::rename(&temp, &directory.join(&file.name)) {
                Ok(()) => {}
                // Renamed before: a staged file of a decided commit is never removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at("publish", &temp)(error)),
            }
            disk::sync_directory(&directory)?;
        }
        Ok(())
    }

    /// Removes what earlier holders staged and did not decide. Call only when all chains are fenced.
    pub(crate) fn sweep(&self, token: FencingToken) -> Result<(), Failure> {
        for name in disk::names(&self.temps())? {
            let of = name.split('.').next().and_then(|word| word.parse::<u64>().ok());
            if of.is_some_and(|of| of < token.get()) {
                disk::remove_if_there(&self.temps().join(name))?;
            }
        }
        Ok(())
    }
}

/// Why a commit is rolled forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roll {
    /// Its own holder does it.
    Commit,
    /// Another holder completes it.
    Recovery,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_hexadecimal() {
        let position = Position::new([0, 1, 0xab, 0xff].as_slice());
        assert_eq!(unhex(&hex(&position)).unwrap(), position.as_bytes());
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("zz"), None);
    }
}
