//! The ledger itself: claims in, answers out, segments kept.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasherDefault;

use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Ordinal, SplitId};

use crate::cache::Cache;
use crate::entry::{Entry, Key, KeyHasher, Spot};
use crate::error::{Broken, Error};
use crate::filter::Probe;
use crate::merge::{Run, merge};
use crate::segment::{Segment, Writer};
use crate::store::{SegmentId, SegmentStore, SplitNumber};

/// How many arrivals are held against the filters together: enough for their cache misses to overlap.
const ARRIVALS_AT_ONCE: usize = 1024;

/// Where the planted mistake says that a record came first: in the first split, behind every record.
const NOWHERE: Spot = Spot { split: SplitNumber(0), ordinal: Ordinal::MAX };

/// How a ledger lays out what it writes. What was written with other settings stays readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a page. The default fits into one page of SQLite with what belongs to a row.
    pub page_bytes: usize,
    /// How many segments of one level are merged into one of the next. At least 2.
    pub fan_in: usize,
    /// The most identities a merge may bring together: it bounds how long one flush can take.
    pub merge_entries_max: u64,
    /// How many pages are kept in memory.
    pub cached_pages_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { page_bytes: 4000, fan_in: 8, merge_entries_max: 1 << 24, cached_pages_max: 1024 }
    }
}

/// What a ledger holds and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Identities that were claimed, pending ones included.
    pub identities: u64,
    /// Bytes of memory: filters, fences, pending claims and cached pages.
    pub bytes: u64,
    /// Sealed segments.
    pub segments: u64,
    /// Arrivals answered as twins since the ledger was opened, without those rolled back.
    pub suppressed: u64,
}

/// The durable set of record identities that took effect.
///
/// It is exact: a filter only ever proves an identity new, and "maybe" is looked up. It serves one open
/// commit at a time: claim, [`flush`](Self::flush) inside the commit, then
/// [`committed`](Self::committed) or [`rollback`](Self::rollback). After an error only a rollback helps.
#[derive(Debug)]
pub struct Ledger<S: SegmentStore> {
    store: S,
    settings: Settings,
    segments: Vec<Segment>,
    pending: HashMap<Key, Spot, BuildHasherDefault<KeyHasher>>,
    cache: Cache,
    numbers: HashMap<SplitId, SplitNumber>,
    splits: HashMap<SplitNumber, SplitId>,
    next_segment: u64,
    suppressed: u64,
    suppressed_pending: u64,
    settled: bool,
}

impl<S: SegmentStore> Ledger<S> {
    /// Opens the ledger that is in a store, and reads it once to build its filters.
    pub fn open(store: S) -> Result<Self, Error<S::Error>> {
        Self::with_settings(store, Settings::default())
    }

    /// Opens the ledger that is in a store, to write with these settings.
    pub fn with_settings(store: S, settings: Settings) -> Result<Self, Error<S::Error>> {
        let mut ledger = Self {
            store,
            settings: Settings { fan_in: settings.fan_in.max(2), ..settings },
            segments: Vec::new(),
            pending: HashMap::default(),
            cache: Cache::new(settings.cached_pages_max),
            numbers: HashMap::new(),
            splits: HashMap::new(),
            next_segment: 1,
            suppressed: 0,
            suppressed_pending: 0,
            settled: false,
        };
        ledger.rollback()?;
        Ok(ledger)
    }

    /// The store, for whoever runs its transactions.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Gives the store back. Pending claims are forgotten.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Claims identities for their places: one answer per arrival, in order. An earlier arrival of the
    /// same call counts. Claims belong to the open commit.
    pub fn claim(
        &mut self,
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<Vec<Claim<Place>>, Error<S::Error>> {
        self.unsettle()?;
        let split = self.number(split)?;
        let mut answers = Vec::with_capacity(arrivals.len());
        for arrivals in arrivals.chunks(ARRIVALS_AT_ONCE) {
            let committed = self.committed_claims(arrivals)?;
            for ((id, ordinal), committed) in arrivals.iter().zip(committed) {
                let at = Spot { split, ordinal: *ordinal };
                let first = committed.or_else(|| match self.pending.entry(Key::of(id)) {
                    hash_map::Entry::Occupied(first) => Some(*first.get()),
                    hash_map::Entry::Vacant(free) => {
                        free.insert(at);
                        None
                    }
                });
                match decide(first, &at) {
                    Claim::New => answers.push(Claim::New),
                    Claim::Replay => answers.push(Claim::Replay),
                    Claim::Twin { of } => answers.push(self.twin(of)?),
                }
            }
        }
        self.settled = true;
        Ok(answers)
    }

    /// Takes back what these arrivals claimed since the last flush: the identity is free again. What a
    /// segment holds, or another place claimed, stays.
    pub fn withdraw(
        &mut self,
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<(), Error<S::Error>> {
        self.unsettle()?;
        let split = self.number(split)?;
        for (id, ordinal) in arrivals {
            let at = Spot { split, ordinal: *ordinal };
            if let hash_map::Entry::Occupied(claim) = self.pending.entry(Key::of(id))
                && *claim.get() == at
            {
                claim.remove();
            }
        }
        self.settled = true;
        Ok(())
    }

    /// Where each of the arrivals was claimed first, as far as segments know.
    fn committed_claims(
        &mut self,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<Vec<Option<Spot>>, Error<S::Error>> {
        let keys: Vec<(Key, Probe)> =
            arrivals.iter().map(|(id, _)| Key::of(id)).map(|key| (key, Probe::of(key))).collect();
        let mut firsts = vec![None; arrivals.len()];
        let mut maybe = Vec::new();
        for segment in &self.segments {
            maybe.clear();
            let probes = keys.iter().enumerate();
            maybe.extend(probes.filter(|(_, (_, probe))| segment.may_contain(*probe)));
            for (place, (key, _)) in &maybe {
                if let Some(first @ None) = firsts.get_mut(*place) {
                    if planted(Mistake::FilterAlone) {
                        *first = Some(NOWHERE);
                        continue;
                    }
                    *first = segment.find(&mut self.store, &mut self.cache, *key)?;
                }
            }
        }
        Ok(firsts)
    }

    /// Who claimed each of these identities. Nothing is claimed.
    pub fn claimants(&mut self, ids: &[RecordId]) -> Result<Vec<Option<Place>>, Error<S::Error>> {
        self.unsettle()?;
        let mut claimants = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ARRIVALS_AT_ONCE) {
            let asked: Vec<(RecordId, Ordinal)> = ids.iter().map(|id| (*id, 0)).collect();
            for (id, committed) in ids.iter().zip(self.committed_claims(&asked)?) {
                let spot = committed.or_else(|| self.pending.get(&Key::of(id)).copied());
                claimants.push(match spot {
                    Some(spot) => Some(Place { split: self.split(spot.split)?, ordinal: spot.ordinal }),
                    None => None,
                });
            }
        }
        self.settled = true;
        Ok(claimants)
    }

    fn twin(&mut self, of: Spot) -> Result<Claim<Place>, Error<S::Error>> {
        self.suppressed_pending = self.suppressed_pending.saturating_add(1);
        Ok(Claim::Twin { of: Place { split: self.split(of.split)?, ordinal: of.ordinal } })
    }

    /// Writes the pending claims as a segment, merged with others where it is time. Called inside the
    /// commit, before it takes effect; claims made after it belong to the next commit.
    pub fn flush(&mut self) -> Result<(), Error<S::Error>> {
        self.unsettle()?;
        if !self.pending.is_empty() {
            let mut entries: Vec<Entry> =
                self.pending.drain().map(|(key, spot)| Entry { key, spot }).collect();
            entries.sort_unstable_by_key(|entry| entry.key);
            self.write(entries)?;
        }
        self.settled = true;
        Ok(())
    }

    fn write(&mut self, entries: Vec<Entry>) -> Result<(), Error<S::Error>> {
        let pending = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let (level, replaces) = self.due(pending);
        let mut entries_max = pending;
        let mut runs = vec![Run::of_entries(entries)];
        for info in self.segments.iter().map(|segment| segment.info) {
            if replaces.contains(&info.id) {
                entries_max = entries_max.saturating_add(info.entries);
                runs.push(Run::of_segment(&mut self.store, info)?);
            }
        }
        // Before the new filter is there, so that the two are never in memory together.
        self.segments.retain(|segment| !replaces.contains(&segment.info.id));
        let id = SegmentId(self.next_segment);
        self.next_segment = self.next_segment.saturating_add(1);
        let mut writer = Writer::new(id, entries_max, self.settings.page_bytes);
        merge(&mut self.store, runs, &mut writer)?;
        self.segments.push(writer.seal(&mut self.store, level, &replaces)?);
        Ok(())
    }

    /// Which segments the next flush merges, and the level of the result. When a level becomes full
    /// because of a merge, it takes part in that same merge: nothing is written twice in one flush.
    fn due(&self, pending: u64) -> (u8, Vec<SegmentId>) {
        let mut result = (0, Vec::new());
        let mut entries = pending;
        for level in 0..u8::MAX {
            let mut full = entries;
            let mut here: Vec<_> =
                self.segments.iter().map(|segment| segment.info).filter(|info| info.level == level).collect();
            here.sort_unstable_by_key(|info| info.entries);
            let here: Vec<_> = here
                .into_iter()
                .take_while(|info| {
                    full = full.saturating_add(info.entries);
                    full <= self.settings.merge_entries_max
                })
                .collect();
            if here.len().saturating_add(1) < self.settings.fan_in {
                break;
            }
            for info in here {
                entries = entries.saturating_add(info.entries);
                result.1.push(info.id);
            }
            result.0 = level.saturating_add(1);
        }
        result
    }

    /// The commit took effect, and with it what was flushed.
    pub fn committed(&mut self) {
        for segment in &mut self.segments {
            segment.fresh = false;
        }
        self.suppressed = self.suppressed.saturating_add(self.suppressed_pending);
        self.suppressed_pending = 0;
    }

    /// The commit did not take effect: forgets pending claims and reads the list of segments again.
    /// A store that is durable by itself may have kept what was flushed; the places in it pass again.
    pub fn rollback(&mut self) -> Result<(), Error<S::Error>> {
        self.settled = false;
        self.pending.clear();
        self.suppressed_pending = 0;
        // A rolled back store may give the same number to another split or segment.
        self.numbers.clear();
        self.splits.clear();
        self.cache.clear();
        let infos = self.store.segments().map_err(Error::Store)?;
        self.segments.retain(|segment| !segment.fresh && infos.contains(&segment.info));
        for info in infos {
            self.next_segment = self.next_segment.max(info.id.0.saturating_add(1));
            if !self.segments.iter().any(|segment| segment.info == info) {
                self.segments.push(Segment::load(&mut self.store, info)?);
            }
        }
        self.segments.sort_unstable_by_key(|segment| segment.info.id);
        self.settled = true;
        Ok(())
    }

    /// The last segment that was sealed, 0 if there is none: what a commit elsewhere names.
    pub fn last_segment(&self) -> SegmentId {
        self.segments.iter().map(|segment| segment.info.id).max().unwrap_or(SegmentId(0))
    }

    /// What it holds and did.
    pub fn stats(&self) -> Stats {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let pending = count(self.pending.capacity().saturating_mul(size_of::<Entry>()));
        let entries = self.segments.iter().map(|segment| segment.info.entries);
        let bytes = self.segments.iter().map(Segment::bytes);
        Stats {
            identities: entries.fold(count(self.pending.len()), u64::saturating_add),
            bytes: bytes.fold(pending.saturating_add(self.cache.bytes()), u64::saturating_add),
            segments: count(self.segments.len()),
            suppressed: self.suppressed.saturating_add(self.suppressed_pending),
        }
    }

    /// Refuses to go on after a failure; until the call that asked has succeeded, it counts as failed.
    fn unsettle(&mut self) -> Result<(), Broken> {
        if self.settled {
            self.settled = false;
            Ok(())
        } else {
            Err(Broken::Unsettled)
        }
    }

    fn number(&mut self, split: &SplitId) -> Result<SplitNumber, Error<S::Error>> {
        if let Some(number) = self.numbers.get(split) {
            return Ok(*number);
        }
        let number = self.store.number(split).map_err(Error::Store)?;
        self.numbers.insert(split.clone(), number);
        Ok(number)
    }

    fn split(&mut self, number: SplitNumber) -> Result<SplitId, Error<S::Error>> {
        if let Some(split) = self.splits.get(&number) {
            return Ok(split.clone());
        }
        let split = self.store.split(number).map_err(Error::Store)?;
        self.splits.insert(number, split.clone());
        Ok(split)
    }
}
