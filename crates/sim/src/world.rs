//! The world: what the source still has, what the destination holds, and what is under way between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_checker::{Event, Expected, Log, Record, State, Twins};
use hapax_engine::codes;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Repeat;
use hapax_ledger::memory::MemoryStore;
use hapax_protocol::guarantee::{Effect, Guard};
use hapax_protocol::identity::{Place, Token};
use hapax_protocol::lease::FencingToken;
use hapax_protocol::position::{SplitId, Standing};
use tokio::sync::mpsc::UnboundedSender;

use crate::fault::{Fault, Faults, Site};
use crate::plan::{MechanismKind, Plan, Row, SourceKind};
use crate::random::Random;

/// What the harness is told by the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A process is dead.
    Dead(usize),
    /// Somebody starts another process.
    StartAnother,
    /// Somebody asks a process to stop.
    Stop(usize),
    /// Somebody replays the dead letters.
    Replay,
}

/// The world of one schedule.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

/// What is true in the world now.
pub struct Inner {
    /// What was decided beforehand.
    pub plan: Arc<Plan>,
    /// What was seen.
    pub log: Log,
    /// What happened so far that should not.
    pub faults: Faults,
    /// What the destination holds.
    pub sink: Held,
    /// Whether the destination takes what it refused before.
    pub is_mended: bool,
    /// What a queue was told to forget, by split.
    pub forgotten: BTreeMap<usize, BTreeSet<u64>>,
    /// Which record stands at a place that a queue gave it.
    pub redelivered: BTreeMap<Place, u64>,
    /// Requests that were thought lost and are still under way.
    pub under_way: u64,
    /// How many processes were started.
    pub started: usize,
    /// Processes that are dead.
    pub dead: BTreeSet<usize>,
    /// Counts sessions of readers and writers: no two are the same.
    pub sessions: u64,
    random: Random,
    faults_left: u64,
    signals: UnboundedSender<Signal>,
    /// Former states of the destination, for one that falls back, with how many commits they are.
    former: Vec<(u64, Held)>,
    commits: u64,
}

/// What a destination holds.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The last lease that was given.
    pub lease: u64,
    /// The process that it was given to.
    pub holder: Option<usize>,
    /// Where each split stands, and who may write it.
    pub splits: BTreeMap<SplitId, HeldSplit>,
    /// The records, in the order in which they came.
    pub rows: Vec<Record>,
    /// The record of each key, where records are kept by key.
    pub keyed: BTreeMap<u64, Record>,
    /// What is set aside.
    pub letters: BTreeMap<Place, DeadLetter>,
    /// Which identities took effect.
    pub ledger: MemoryStore,
    /// How often the ledger changed.
    pub ledger_version: u64,
    /// What is staged, by the session that staged it.
    pub staged: BTreeMap<u64, Effects>,
    /// When each token was first seen, where repeats are dropped by it; last, where they add another.
    pub tokens: BTreeMap<Token, tokio::time::Instant>,
    /// What was taken, where a second record of an identity is refused.
    pub taken: BTreeSet<Record>,
}

/// What a destination knows of a split.
#[derive(Debug, Clone, Default)]
pub struct HeldSplit {
    /// Who holds it.
    pub token: u64,
    /// Which writer of that holder.
    pub session: u64,
    /// Where it stands.
    pub standing: Standing,
    /// Commits and fences so far, where there is a chain of them.
    pub chain: u64,
    /// What is decided and not visible yet.
    pub decided: Option<Effects>,
}

/// What one commit brings.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// Records, in order.
    pub records: Vec<Record>,
    /// What is set aside.
    pub letters: Vec<DeadLetter>,
    /// What is not any more.
    pub settled: Vec<Place>,
    /// The ledger as it is afterwards, and the version it was made from.
    pub ledger: Option<(MemoryStore, u64)>,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// How long it takes, in milliseconds.
    pub latency_ms: u64,
    /// What goes wrong with it.
    pub fault: Option<Fault>,
}

impl World {
    /// The world before anything happened.
    pub fn new(plan: Plan, signals: UnboundedSender<Signal>) -> Self {
        let once = plan.duplicates.need_ledger();
        let expected = Expected {
            twins: match (once, plan.source) {
                (false, _) => Twins::Each,
                (true, SourceKind::Queue) => Twins::OnceOrAside,
                (true, SourceKind::Log | SourceKind::Cursor) => Twins::Once,
            },
            state: if plan.effect == Effect::ByKey { State::Latest } else { State::Every },
            // A twin that is moved, or a letter that is replayed, comes after what followed the first.
            ordered: plan.source != SourceKind::Queue
                && !matches!(plan.mechanism, MechanismKind::Kept(_))
                && (once || !plan.has_twins())
                && !plan.kinds.contains(&Fault::Replay),
        };
        let mut log = Log::new(expected);
        for (split, rows) in (0_u32..).zip(&plan.splits) {
            log.events.extend((0_u64..).zip(rows).map(|(place, row)| Event::Written {
                record: row.record,
                split,
                place,
            }));
        }
        Self(Arc::new(Mutex::new(Inner {
            log,
            faults: Faults::default(),
            sink: Held::default(),
            is_mended: false,
            forgotten: BTreeMap::new(),
            redelivered: BTreeMap::new(),
            under_way: 0,
            started: 0,
            dead: BTreeSet::new(),
            sessions: 0,
            random: Random::new(plan.seed ^ 0xFA17_FA17_FA17_FA17),
            faults_left: plan.faults_max,
            signals,
            former: Vec::new(),
            commits: 0,
            plan: Arc::new(plan),
        })))
    }

    /// Looks at it and changes it. Never held while anybody waits.
    pub fn now(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the split with this number.
pub fn split_name(number: usize) -> SplitId {
    SplitId::new(format!("split-{number}"))
}

/// The number in the name of a split.
pub fn split_number(split: &SplitId) -> usize {
    split.as_str().strip_prefix("split-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

fn is_held(letter: &DeadLetter) -> bool {
    letter.code == codes::IN_DOUBT
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Inner {
    /// The records of a split.
    pub fn rows(&self, split: &SplitId) -> &[Row] {
        self.plan.splits.get(split_number(split)).map_or(&[], Vec::as_slice)
    }

    /// A number that nobody else has.
    pub fn session(&mut self) -> u64 {
        self.sessions = self.sessions.saturating_add(1);
        self.sessions
    }

    /// Where a record of a place stands in what was written.
    fn written_at(&self, place: &Place) -> (u32, u64) {
        let at = self.redelivered.get(place).copied().unwrap_or(place.ordinal);
        (short(split_number(&place.split)), at)
    }

    /// The places of letters that are in doubt, or of the others.
    fn ordinals(&self, letters: &[DeadLetter], in_doubt: bool) -> Vec<u64> {
        let letters = letters.iter().filter(|letter| is_held(letter) == in_doubt);
        letters.map(|letter| self.written_at(&letter.place).1).collect()
    }

    /// Draws what happens to a request of a process.
    pub fn fate(&mut self, site: Site) -> Fate {
        let latency_ms = if self.random.one_in(8) { self.random.between(1, 40) } else { 0 };
        let mut fault = None;
        // What goes wrong with a commit is what matters most, and commits are few.
        let one_in = if site == Site::Commit { self.plan.one_in / 3 } else { self.plan.one_in };
        if self.faults_left > 0 && self.random.one_in(one_in) {
            let kind = usize::try_from(self.random.bits() >> 8).unwrap_or(0);
            let kind = kind.checked_rem(self.plan.kinds.len()).and_then(|kind| self.plan.kinds.get(kind));
            fault = kind.copied().filter(|fault| site.allows(*fault));
        }
        if let Some(fault) = fault {
            self.faults_left = self.faults_left.saturating_sub(1);
            self.faults.add(fault);
        }
        Fate { latency_ms, fault }
    }

    /// How long something takes that is late, in milliseconds.
    pub fn lateness_ms(&mut self) -> u64 {
        self.random.one_of(1, &[50, 900, 20_000])
    }

    /// Nothing fails from here on.
    pub fn heal(&mut self) {
        self.faults_left = 0;
        self.log.events.push(Event::Healed);
    }

    /// Tells the harness.
    pub fn signal(&mut self, signal: Signal) {
        if let Signal::Dead(process) = signal {
            self.dead.insert(process);
        }
        // After the schedule's end nobody listens.
        let _ = self.signals.send(signal);
    }

    /// A holder has a split now.
    pub fn took_over(&mut self, split: &SplitId, token: FencingToken) {
        let number = split_number(split);
        // What a keeper holds beside the splits is nothing a reader sees.
        if number != usize::MAX {
            self.log.events.push(Event::TookOver { split: short(number), token: token.get() });
        }
    }

    /// Keeps the state before a commit, for a destination that may fall back to it.
    pub fn remember(&mut self) {
        if self.plan.kinds.contains(&Fault::RolledBack) {
            self.former.push((self.commits, self.sink.clone()));
        }
    }

    /// The effects of a commit happen.
    pub fn take_effect(&mut self, split: &SplitId, token: FencingToken, effects: Effects, is_visible: bool) {
        self.commits = self.commits.saturating_add(1);
        let number = short(split_number(split));
        let (set_aside, held) =
            (self.ordinals(&effects.letters, false), self.ordinals(&effects.letters, true));
        self.log.events.push(Event::Committed {
            split: number,
            token: token.get(),
            records: effects.records.clone(),
            set_aside,
            held,
            through: None,
        });
        if let Some((ledger, _)) = &effects.ledger {
            self.sink.ledger = ledger.clone();
            self.sink.ledger_version = self.sink.ledger_version.saturating_add(1);
        }
        if is_visible {
            self.show(effects);
        } else if let Some(held) = self.sink.splits.get_mut(split) {
            held.decided = Some(effects);
        }
    }

    /// Records arrive at a destination that keeps nothing for anybody.
    pub fn arrive(&mut self, split: &SplitId, repeat: Repeat, records: &[(Record, Option<Token>)]) {
        let now = tokio::time::Instant::now();
        let mut effective = Vec::new();
        for (record, token) in records {
            let takes_effect = match repeat {
                Repeat::Replaces { guard: Guard::Version } => {
                    self.sink.keyed.get(&record.writer).is_none_or(|held| held.sequence <= record.sequence)
                }
                Repeat::Dropped { window, .. } => token.is_none_or(|token| {
                    let remembered = Duration::from_millis(window.0);
                    let seen = self.sink.tokens.get(&token).copied();
                    let is_known = seen.is_some_and(|seen| now.duration_since(seen) <= remembered);
                    if !is_known {
                        self.sink.tokens.insert(token, now);
                    }
                    !is_known
                }),
                Repeat::Refused { .. } => self.sink.taken.insert(*record),
                Repeat::Adds { .. } => {
                    self.sink.tokens.extend(token.map(|token| (token, now)));
                    true
                }
                Repeat::Replaces { guard: Guard::None } => true,
            };
            if takes_effect {
                effective.push(*record);
                match self.plan.effect {
                    Effect::Insert => self.sink.rows.push(*record),
                    Effect::ByKey => {
                        self.sink.keyed.insert(record.writer, *record);
                    }
                }
            }
        }
        if !effective.is_empty() {
            let split = short(split_number(split));
            self.log.events.push(Event::Arrived { split, records: effective });
            self.perhaps_poll();
        }
    }

    /// What was decided becomes visible.
    pub fn reveal(&mut self, split: &SplitId) {
        if let Some(effects) = self.sink.splits.get_mut(split).and_then(|held| held.decided.take()) {
            self.show(effects);
        }
    }

    fn show(&mut self, effects: Effects) {
        match self.plan.effect {
            Effect::Insert => self.sink.rows.extend(effects.records),
            Effect::ByKey => {
                self.sink.keyed.extend(effects.records.into_iter().map(|record| (record.writer, record)));
            }
        }
        for letter in effects.letters {
            // Setting the same place aside again changes nothing.
            self.sink.letters.entry(letter.place.clone()).or_insert(letter);
        }
        for place in effects.settled {
            self.sink.letters.remove(&place);
        }
        self.perhaps_poll();
    }

    fn perhaps_poll(&mut self) {
        if self.random.one_in(4) {
            let (records, through) = (self.visible(), self.passed());
            self.log.events.push(Event::Polled { records, through });
        }
    }

    /// What a reader sees.
    pub fn visible(&self) -> Vec<Record> {
        match self.plan.effect {
            Effect::Insert => self.sink.rows.clone(),
            Effect::ByKey => self.sink.keyed.values().copied().collect(),
        }
    }

    /// How many records of each split are done with, as the destination says.
    fn passed(&self) -> Vec<(u32, u64)> {
        if self.plan.source == SourceKind::Queue {
            return Vec::new();
        }
        let shown = self.sink.splits.iter().filter(|(_, held)| held.decided.is_none());
        shown.map(|(split, held)| (short(split_number(split)), held.standing.totals.read)).collect()
    }

    /// The places that are set aside, with the number of their split: those that are in doubt, or the others.
    pub fn letters(&self, in_doubt: bool) -> Vec<(u32, u64)> {
        let letters = self.sink.letters.values().filter(|letter| is_held(letter) == in_doubt);
        letters.map(|letter| self.written_at(&letter.place)).collect()
    }

    /// The destination falls back to what it was some commits ago.
    pub fn fall_back(&mut self) {
        let back = usize::try_from(self.random.between(1, 3)).unwrap_or(1);
        let at = self.former.len().saturating_sub(back);
        self.former.truncate(at.saturating_add(1));
        if let Some((commits, former)) = self.former.pop() {
            self.sink = former;
            self.commits = commits;
            self.log.events.push(Event::RolledBack { commits });
        }
    }
}
