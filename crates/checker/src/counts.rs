//! What is wrong, counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::log::{Event, Log, Record, State, Twins};

/// What is wrong. Of a sound run all of it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Records that the source holds and the destination neither has nor set aside.
    pub lost: u64,
    /// Records that the destination has more often than it should, or has and set aside.
    pub duplicated: u64,
    /// Records that nobody wrote.
    pub phantom: u64,
    /// Records that differ from what was written.
    pub differs: u64,
    /// Records that a reader saw more often than it should, or again after it had seen a later version, whatever the
    /// destination holds in the end.
    pub seen_twice: u64,
    /// Records that took effect after a later one of the same writer.
    pub out_of_order: u64,
    /// Commits of which a reader saw a part.
    pub torn: u64,
    /// Records that the position had passed when a reader looked, and that had not taken effect.
    pub ahead: u64,
    /// Records that the source was told to forget before they had taken effect.
    pub early: u64,
    /// Commits of a holder that had been replaced.
    pub stale: u64,
    /// 1 if no run came to its end after everything was mended.
    pub stuck: u64,
    /// Commits of a run that had nothing to do.
    pub restless: u64,
}

/// The level that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// None that could be named.
    Nothing,
    /// Some were lost, none was repeated.
    AtMostOnce,
    /// Some were repeated, none was lost.
    AtLeastOnce,
    /// A reader may have seen a repeat; in the end there is none.
    EffectivelyOnce,
    /// Every reader saw each record once, always.
    ExactlyOnce,
}

impl Counts {
    /// Each count with its name, in the order of the fields.
    pub fn each(&self) -> [(&'static str, u64); 12] {
        [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("phantom", self.phantom),
            ("differs", self.differs),
            ("seen-twice", self.seen_twice),
            ("out-of-order", self.out_of_order),
            ("torn", self.torn),
            ("ahead", self.ahead),
            ("early", self.early),
            ("stale", self.stale),
            ("stuck", self.stuck),
            ("restless", self.restless),
        ]
    }

    /// The level that these counts leave.
    pub fn kept(&self) -> Kept {
        let repeats = self.duplicated > 0 || self.out_of_order > 0 || self.restless > 0;
        let broken = self.phantom + self.differs + self.torn + self.stale + self.stuck + self.ahead;
        match (self.lost > 0 || self.early > 0, repeats, self.seen_twice > 0) {
            _ if broken > 0 => Kept::Nothing,
            (true, true, _) => Kept::Nothing,
            (true, false, _) => Kept::AtMostOnce,
            (false, true, _) => Kept::AtLeastOnce,
            (false, false, true) => Kept::EffectivelyOnce,
            (false, false, false) => Kept::ExactlyOnce,
        }
    }

    /// Counts what a log shows.
    pub fn of(log: &Log) -> Self {
        let mut walk = Walk::new(log);
        for event in &log.events {
            walk.event(event);
        }
        walk.counts.stuck = u64::from(walk.healed && !walk.completed);
        walk.counts
    }
}

/// A record without its content.
type Name = (u64, u64);

fn name(record: &Record) -> Name {
    (record.writer, record.sequence)
}

/// One commit that took effect.
struct Commit<'a> {
    split: u32,
    records: &'a [Record],
    set_aside: &'a [u64],
    held: &'a [u64],
}

struct Walk<'a> {
    log: &'a Log,
    counts: Counts,
    /// What was written, with its hash and how often.
    written: HashMap<Name, (u64, u64)>,
    places: HashMap<(u32, u64), Name>,
    tokens: BTreeMap<u32, u64>,
    commits: Vec<Commit<'a>>,
    /// How often each record is in effect, and which places are set aside.
    effects: HashMap<Name, u64>,
    /// The last version of each writer that took effect.
    newest: HashMap<u64, u64>,
    aside: BTreeSet<(u32, u64)>,
    /// Records that are listed as in doubt.
    doubted: HashSet<Name>,
    /// The last version that a reader saw of each writer.
    seen: HashMap<u64, u64>,
    idle: bool,
    healed: bool,
    completed: bool,
}

impl<'a> Walk<'a> {
    fn new(log: &'a Log) -> Self {
        Self {
            log,
            counts: Counts::default(),
            written: HashMap::new(),
            places: HashMap::new(),
            tokens: BTreeMap::new(),
            commits: Vec::new(),
            effects: HashMap::new(),
            newest: HashMap::new(),
            aside: BTreeSet::new(),
            doubted: HashSet::new(),
            seen: HashMap::new(),
            idle: false,
            healed: false,
            completed: false,
        }
    }

    fn event(&mut self, event: &'a Event) {
        match event {
            Event::Written { record, split, place } => {
                self.places.insert((*split, *place), name(record));
                self.written.entry(name(record)).or_insert((record.hash, 0)).1 += 1;
            }
            Event::TookOver { split, token } => {
                let last = self.tokens.entry(*split).or_default();
                *last = (*last).max(*token);
            }
            Event::Committed { split, token, records, set_aside, held, through: _ } => {
                self.counts.stale += u64::from(self.tokens.get(split).is_some_and(|last| token < last));
                self.counts.restless += u64::from(self.idle);
                self.takes_effect(Commit { split: *split, records, set_aside, held });
            }
            Event::Arrived { split, records } => {
                self.counts.restless += u64::from(self.idle);
                for record in records.chunks(1) {
                    self.takes_effect(Commit { split: *split, records: record, set_aside: &[], held: &[] });
                }
            }
            Event::RolledBack { commits } => self.roll_back(*commits),
            Event::Acknowledged { split, places } => {
                let early = places.iter().filter(|place| !self.is_done(*split, **place)).count();
                self.counts.early += count(early);
            }
            Event::Polled { records, through } => self.polled(records, through),
            Event::Healed => (self.healed, self.completed) = (true, false),
            Event::Started { idle } => self.idle = *idle,
            Event::Completed => self.completed = true,
            Event::Found { records, set_aside, held } => self.found(records, set_aside, held),
        }
    }

    fn takes_effect(&mut self, commit: Commit<'a>) {
        for record in commit.records {
            *self.effects.entry(name(record)).or_default() += 1;
            let newest = self.newest.entry(record.writer).or_default();
            *newest = (*newest).max(record.sequence);
        }
        self.aside.extend(commit.set_aside.iter().map(|place| (commit.split, *place)));
        for place in commit.held {
            self.aside.insert((commit.split, *place));
            self.doubted.extend(self.places.get(&(commit.split, *place)));
        }
        self.commits.push(commit);
    }

    fn roll_back(&mut self, commits: u64) {
        let remain = usize::try_from(commits).unwrap_or(usize::MAX).min(self.commits.len());
        let commits: Vec<_> = self.commits.drain(..).take(remain).collect();
        self.effects.clear();
        self.newest.clear();
        self.aside.clear();
        self.doubted.clear();
        self.seen.clear();
        // Leases fall back with the rest, and are given again.
        self.tokens.clear();
        for commit in commits {
            self.takes_effect(commit);
        }
    }

    /// Whether the record at a place has taken effect, as itself or as its twin, or is set aside.
    fn is_done(&self, split: u32, place: u64) -> bool {
        let Some(name) = self.places.get(&(split, place)) else { return true };
        let beside = || self.aside.iter().any(|at| self.places.get(at) == Some(name));
        self.aside.contains(&(split, place))
            || self.is_in_effect(name)
            || (self.log.expected.twins == Twins::OnceOrAside && beside())
    }

    /// Whether a record is, or was, at the destination: as itself or its twin, or as a later one of its writer where
    /// the last one counts. Of a record that is in doubt nobody knows, nor of its twins.
    fn is_in_effect(&self, name: &Name) -> bool {
        let later = || self.newest.get(&name.0).is_some_and(|newest| *newest >= name.1);
        let in_effect = self.effects.contains_key(name) || self.is_doubted(name);
        in_effect || (self.log.expected.state == State::Latest && later())
    }

    fn is_doubted(&self, name: &Name) -> bool {
        self.log.expected.twins != Twins::Each && self.doubted.contains(name)
    }

    fn polled(&mut self, records: &[Record], through: &[(u32, u64)]) {
        let mut there: HashMap<Name, u64> = HashMap::new();
        let mut versions: HashMap<u64, u64> = HashMap::new();
        for record in records {
            *there.entry(name(record)).or_default() += 1;
            let version = versions.entry(record.writer).or_default();
            *version = (*version).max(record.sequence);
        }
        match self.log.expected.state {
            State::Every => {
                for (name, times) in &there {
                    self.counts.seen_twice += times.saturating_sub(self.allowed(name));
                }
                self.torn(&there);
            }
            State::Latest => {
                for (writer, version) in &versions {
                    let last = self.seen.entry(*writer).or_default();
                    self.counts.seen_twice += u64::from(version < last);
                    *last = *version;
                }
            }
        }
        let passed = |(split, place): &(u32, u64)| {
            through.iter().any(|(passed, through)| passed == split && place < through)
        };
        let ahead = self.places.iter().filter(|(at, name)| {
            let seen = match self.log.expected.state {
                State::Every => there.contains_key(*name) || self.is_doubted(name),
                State::Latest => versions.get(&name.0).is_some_and(|version| *version >= name.1),
            };
            passed(at) && !seen && !self.aside.contains(*at)
        });
        self.counts.ahead += count(ahead.count());
    }

    /// Commits of which some records are there and others are not, leaving out those that came with another
    /// commit too.
    fn torn(&mut self, there: &HashMap<Name, u64>) {
        for commit in &self.commits {
            let own = commit.records.iter().map(name).filter(|name| self.effects.get(name) == Some(&1));
            let (mut seen, mut unseen) = (false, false);
            for name in own {
                let is_there = there.contains_key(&name);
                seen |= is_there;
                unseen |= !is_there;
            }
            self.counts.torn += u64::from(seen && unseen);
        }
    }

    /// How often a record may be at the destination.
    fn allowed(&self, name: &Name) -> u64 {
        let written = self.written.get(name).map_or(0, |(_, times)| *times);
        match self.log.expected.twins {
            Twins::Once | Twins::OnceOrAside => written.min(1),
            Twins::Each => written,
        }
    }

    fn found(&mut self, records: &[Record], set_aside: &[(u32, u64)], held: &[(u32, u64)]) {
        let mut doubt: HashMap<Name, u64> = HashMap::new();
        for at in held {
            match self.places.get(at) {
                None => self.counts.phantom += 1,
                Some(name) => *doubt.entry(*name).or_default() += 1,
            }
        }
        let mut aside: HashMap<Name, u64> = HashMap::new();
        let mut once = BTreeSet::new();
        for at in set_aside {
            match self.places.get(at) {
                None => self.counts.phantom += 1,
                Some(_) if !once.insert(*at) => self.counts.duplicated += 1,
                Some(name) => *aside.entry(*name).or_default() += 1,
            }
        }
        let mut there: HashMap<Name, u64> = HashMap::new();
        for record in records {
            match self.written.get(&name(record)) {
                None => self.counts.phantom += 1,
                Some((hash, _)) => {
                    self.counts.differs += u64::from(*hash != record.hash);
                    *there.entry(name(record)).or_default() += 1;
                }
            }
        }
        match self.log.expected.state {
            State::Every => self.every(&there, &aside, &doubt),
            State::Latest => self.latest(&there, &aside),
        }
        if self.log.expected.ordered && self.log.expected.state == State::Every {
            let mut last: HashMap<u64, u64> = HashMap::new();
            for record in records {
                let before = last.entry(record.writer).or_default();
                self.counts.out_of_order += u64::from(record.sequence < *before);
                *before = (*before).max(record.sequence);
            }
        }
    }

    fn every(&mut self, there: &HashMap<Name, u64>, aside: &HashMap<Name, u64>, doubt: &HashMap<Name, u64>) {
        for (name, (_, written)) in &self.written {
            let found = there.get(name).copied().unwrap_or(0);
            let aside = aside.get(name).copied().unwrap_or(0);
            let wanted = match self.log.expected.twins {
                // Of two twins one may be set aside; the other is then there.
                Twins::Once => u64::from(*written > aside),
                Twins::OnceOrAside => u64::from(aside == 0),
                Twins::Each => written.saturating_sub(aside),
            };
            let doubted = doubt.get(name).copied().unwrap_or(0);
            self.counts.lost += wanted.saturating_sub(doubted).saturating_sub(found);
            self.counts.duplicated += found.saturating_sub(wanted);
            if self.log.expected.twins == Twins::OnceOrAside {
                self.counts.duplicated += aside.saturating_sub(1);
            }
        }
    }

    fn latest(&mut self, there: &HashMap<Name, u64>, aside: &HashMap<Name, u64>) {
        let mut wanted: HashMap<u64, u64> = HashMap::new();
        for (writer, version) in self.written.keys().filter(|name| !aside.contains_key(*name)) {
            let last = wanted.entry(*writer).or_default();
            *last = (*last).max(*version);
        }
        let mut held: HashMap<u64, Vec<u64>> = HashMap::new();
        for ((writer, version), times) in there {
            let versions = held.entry(*writer).or_default();
            versions.extend((0..*times).map(|_| *version));
        }
        for (writer, version) in &wanted {
            let versions = held.get(writer).map_or(&[][..], Vec::as_slice);
            self.counts.lost += u64::from(!versions.contains(version));
            self.counts.duplicated += count(versions.len().saturating_sub(1));
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
