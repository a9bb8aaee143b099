//! What a pipeline keeps in its topic: the lease, where each split stands, the last commits, dead letters.
//!
//! The topic has one partition and is compacted: of each key the last value counts. Keys and values are JSON, so that a
//! person can read them with any client.

use std::collections::BTreeMap;

use hapax_engine::dead_letter::{DeadLetter, Ending, SettledLetter, Settlement};
use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::CommitId;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use hapax_protocol::recovery::Found;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many commits of a split are remembered.
pub(super) const COMMITS_MAX: u64 = 1_000;

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Key {
    Lease,
    Split(SplitId),
    Commit(SplitId, u64),
    Letter(SplitId, u64),
    Settled(SplitId, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRow {
    pub token: FencingToken,
    pub holder: String,
    pub definition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SplitRow {
    token: FencingToken,
    position: Option<Hex>,
    epoch: Epoch,
    totals: Totals,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommitRow {
    token: FencingToken,
    holder: String,
    first: u64,
    totals: Totals,
    position: Hex,
    made_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    again: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LetterRow {
    code: u16,
    reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    set_aside_unix_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SettledRow {
    letter: LetterRow,
    ending: String,
    epoch: Epoch,
    settled_unix_ms: u64,
}

/// Bytes as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Hex(String);

impl Hex {
    fn of(position: &Position) -> Self {
        Self(format!("{position:?}"))
    }

    fn position(&self) -> Position {
        Position::new(hapax_engine::exact::hex(self.0.as_bytes()).unwrap_or_default())
    }
}

/// One message of the topic.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Key,
    /// `None` removes the key.
    pub value: Option<Value>,
}

impl Entry {
    fn new(key: Key, value: &impl Serialize) -> Self {
        Self { key, value: serde_json::to_value(value).ok() }
    }

    fn removal(key: Key) -> Self {
        Self { key, value: None }
    }

    pub(super) fn lease(row: &LeaseRow) -> Self {
        Self::new(Key::Lease, row)
    }

    pub(super) fn taken(split: &SplitId, token: FencingToken, standing: &Standing) -> Self {
        let row = SplitRow {
            token,
            position: standing.position.as_ref().map(Hex::of),
            epoch: standing.epoch,
            totals: standing.totals,
        };
        Self::new(Key::Split(split.clone()), &row)
    }

    pub(super) fn key_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.key).unwrap_or_default()
    }

    pub(super) fn value_bytes(&self) -> Option<Vec<u8>> {
        self.value.as_ref().map(|value| value.to_string().into_bytes())
    }
}

/// What the topic says.
#[derive(Debug, Default)]
pub(super) struct View {
    pub lease: Option<LeaseRow>,
    splits: BTreeMap<SplitId, SplitRow>,
    commits: BTreeMap<(SplitId, u64), CommitRow>,
    letters: BTreeMap<(SplitId, u64), LetterRow>,
    settled: BTreeMap<(SplitId, u64), SettledRow>,
}

impl View {
    /// Takes a message in. An error says that it is none of ours.
    pub(super) fn read(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), serde_json::Error> {
        let key: Key = serde_json::from_slice(key)?;
        let value: Option<Value> = value.map(serde_json::from_slice).transpose()?;
        fn put<K: Ord, T: for<'de> Deserialize<'de>>(
            map: &mut BTreeMap<K, T>,
            key: K,
            value: Option<&Value>,
        ) -> Result<(), serde_json::Error> {
            match value {
                Some(value) => drop(map.insert(key, T::deserialize(value)?)),
                None => drop(map.remove(&key)),
            }
            Ok(())
        }
        let value = value.as_ref();
        match key {
            Key::Lease => {
                self.lease = value.map(LeaseRow::deserialize).transpose()?;
                Ok(())
            }
            Key::Split(split) => put(&mut self.splits, split, value),
            Key::Commit(split, epoch) => put(&mut self.commits, (split, epoch), value),
            Key::Letter(split, ordinal) => put(&mut self.letters, (split, ordinal), value),
            Key::Settled(split, ordinal) => put(&mut self.settled, (split, ordinal), value),
        }
    }

    pub(super) fn token(&self) -> FencingToken {
        self.lease.as_ref().map_or(FencingToken::NOBODY, |lease| lease.token)
    }

    /// Whether anything was ever committed.
    pub(super) fn has_positions(&self) -> bool {
        self.splits.values().any(|row| row.position.is_some())
    }

    pub(super) fn split_names(&self) -> Vec<SplitId> {
        self.splits.keys().cloned().collect()
    }

    pub(super) fn found(&self, split: &SplitId) -> Found {
        match self.splits.get(split) {
            Some(row) => Found { token: row.token, standing: row.standing() },
            None => Found { token: FencingToken::NOBODY, standing: Standing::default() },
        }
    }

    pub(super) fn standings(&self) -> Vec<(SplitId, Standing)> {
        self.splits.iter().map(|(split, row)| (split.clone(), row.standing())).collect()
    }

    pub(super) fn has_letter(&self, place: &Place) -> bool {
        self.letters.contains_key(&(place.split.clone(), place.ordinal))
    }

    pub(super) fn dead_letters(&self, letters_max: usize) -> Vec<DeadLetter> {
        self.letters.iter().take(letters_max).map(|(place, row)| row.letter(place)).collect()
    }

    pub(super) fn settled_letters(&self, letters_max: usize) -> Vec<SettledLetter> {
        self.settled.iter().take(letters_max).map(|(place, row)| row.letter(place)).collect()
    }

    pub(super) fn remembered(&self, place: &Place) -> Remembered {
        let at = (place.split.clone(), place.ordinal);
        let settled = self.settled.get(&at).map(|row| row.letter(&at));
        let of_split = (place.split.clone(), 0)..=(place.split.clone(), u64::MAX);
        let mut remembered = Remembered {
            letter: self.letters.get(&at).map(|row| row.letter(&at)),
            settled_in: settled.as_ref().and_then(|settled| {
                let epoch = settled.settlement.epoch.get();
                let row = self.commits.get(&(place.split.clone(), epoch))?;
                Some(row.committed(&place.split, epoch))
            }),
            settled,
            ..Remembered::default()
        };
        for ((_, epoch), row) in self.commits.range(of_split) {
            if (row.first..row.first.saturating_add(row.totals.read)).contains(&place.ordinal) {
                remembered.commit = Some(row.committed(&place.split, *epoch));
            }
            if row.again.iter().any(|(from, to)| (*from..*to).contains(&place.ordinal)) {
                remembered.again.push(row.committed(&place.split, *epoch));
            }
        }
        remembered
    }

    /// What a commit writes: the split's new place, the commit itself, and what becomes of dead letters.
    pub(super) fn commit(
        &self,
        lease: &Lease,
        split: &SplitId,
        stood: &Standing,
        checkpoint: &Checkpoint,
        letters: &Letters,
    ) -> Vec<Entry> {
        let mut entries = vec![Entry::taken(split, lease.token, &checkpoint.standing())];
        let row = CommitRow {
            token: lease.token,
            holder: self.lease.as_ref().map(|lease| lease.holder.clone()).unwrap_or_default(),
            first: stood.totals.read,
            totals: checkpoint.totals.since(stood.totals),
            position: Hex::of(&checkpoint.through),
            made_unix_ms: checkpoint.made_unix_ms,
            again: checkpoint.again.iter().map(|range| (range.start, range.end)).collect(),
        };
        let epoch = checkpoint.epoch.get();
        entries.push(Entry::new(Key::Commit(split.clone(), epoch), &row));
        if let Some(old) = epoch.checked_sub(COMMITS_MAX).filter(|old| *old > 0) {
            entries.push(Entry::removal(Key::Commit(split.clone(), old)));
        }
        for letter in &letters.aside {
            entries.push(Entry::new(key_of(Key::Letter, &letter.place), &LetterRow::of(letter)));
        }
        for (place, settlement) in &letters.settled {
            let at = (place.split.clone(), place.ordinal);
            let aside = letters.aside.iter().find(|letter| letter.place == *place).map(LetterRow::of);
            let Some(letter) = aside.or_else(|| self.letters.get(&at).cloned()) else { continue };
            let row = SettledRow {
                letter: LetterRow { raw: String::new(), ..letter },
                ending: settlement.ending.word().to_owned(),
                epoch: settlement.epoch,
                settled_unix_ms: settlement.settled_unix_ms,
            };
            entries.push(Entry::removal(key_of(Key::Letter, place)));
            entries.push(Entry::new(key_of(Key::Settled, place), &row));
        }
        entries
    }
}

/// What an open commit does to dead letters.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub aside: Vec<DeadLetter>,
    pub settled: Vec<(Place, Settlement)>,
}

fn key_of(kind: fn(SplitId, u64) -> Key, place: &Place) -> Key {
    kind(place.split.clone(), place.ordinal)
}

impl SplitRow {
    fn standing(&self) -> Standing {
        Standing {
            position: self.position.as_ref().map(Hex::position),
            epoch: self.epoch,
            totals: self.totals,
        }
    }
}

impl CommitRow {
    fn committed(&self, split: &SplitId, epoch: u64) -> Committed {
        Committed {
            commit: CommitId { split: split.clone(), epoch: Epoch::new(epoch) },
            token: self.token,
            holder: self.holder.clone(),
            records: self.first..self.first.saturating_add(self.totals.read),
            through: self.position.position(),
            totals: self.totals,
            made_unix_ms: self.made_unix_ms,
        }
    }
}

impl LetterRow {
    fn of(letter: &DeadLetter) -> Self {
        Self {
            code: letter.code.0,
            reason: letter.reason.clone(),
            raw: letter.raw.clone(),
            set_aside_unix_ms: letter.set_aside_unix_ms,
        }
    }

    fn letter(&self, (split, ordinal): &(SplitId, u64)) -> DeadLetter {
        DeadLetter {
            place: Place { split: split.clone(), ordinal: *ordinal },
            code: Code(self.code),
            reason: self.reason.clone(),
            raw: self.raw.clone(),
            set_aside_unix_ms: self.set_aside_unix_ms,
        }
    }
}

impl SettledRow {
    fn letter(&self, place: &(SplitId, u64)) -> SettledLetter {
        SettledLetter {
            letter: self.letter.letter(place),
            settlement: Settlement {
                ending: Ending::of_word(&self.ending),
                epoch: self.epoch,
                settled_unix_ms: self.settled_unix_ms,
            },
        }
    }
}
