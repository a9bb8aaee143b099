//! What a seed decides before anything happens: the pipeline, its records, and what may go wrong.

use hapax_checker::Record;
use hapax_engine::sink::{Past, Repeat};
use hapax_protocol::guarantee::{Effect, Guard, InDoubt, Window};
use hapax_protocol::identity::{Duplicates, Identity};

use crate::fault::Fault;
use crate::random::Random;

/// How the source gives its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// By their number: the same records in the same order.
    Log,
    /// By a column that grows, beside a key: the same, but equal values of the column stand next to each other.
    Cursor,
    /// As a queue: what is not acknowledged comes back, in any order and at any place.
    Queue,
}

/// How effect and progress meet at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MechanismKind {
    /// In one transaction.
    CoCommit,
    /// Staged, and published by an exclusive append.
    Staged,
    /// Not at all.
    Append,
    /// The destination keeps nothing, a keeper beside it does: effect first, progress after.
    Kept(Repeat),
}

/// How long a request to a destination that drops repeats may be under way: longer than the latest takes.
const UNDER_WAY: Window = Window(25_000);

/// A second record of an identity is refused for good.
const REFUSED: Repeat = Repeat::Refused { for_good: true };

/// Records that may have taken effect are held.
const HOLD: Repeat = Repeat::Adds { in_doubt: InDoubt::Hold };

/// One record of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub record: Record,
    /// The value of its growing column. Several records may share one.
    pub cursor: u64,
    /// Whether the source cannot read it.
    pub spoiled: bool,
}

/// Everything that is decided beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What decided it.
    pub seed: u64,
    /// How the source gives its records.
    pub source: SourceKind,
    /// How effect and progress meet.
    pub mechanism: MechanismKind,
    /// What writing a record again does.
    pub effect: Effect,
    /// What makes two arrivals the same record.
    pub identity: Identity,
    /// What is done about twins.
    pub duplicates: Duplicates,
    /// The records, split by split.
    pub splits: Vec<Vec<Row>>,
    /// Whether the destination refuses some records.
    pub refuses: bool,
    /// Whether both ends speak the same bytes.
    pub wire: bool,
    /// Splits at once.
    pub parallel: usize,
    /// Records in a batch.
    pub batch_records: usize,
    /// Records in a commit.
    pub commit_records: u64,
    /// How far the clock of the first process is off, in milliseconds.
    pub skew_ms: u64,
    /// At most this many faults.
    pub faults_max: u64,
    /// One request in so many meets a fault.
    pub one_in: u64,
    /// What may go wrong.
    pub kinds: Vec<Fault>,
}

impl Plan {
    /// Whether the destination can be asked for what was sent.
    pub fn looks(&self) -> bool {
        // Nothing is drawn for it: a seed of the others stays what it was.
        matches!(self.mechanism, MechanismKind::Kept(Repeat::Adds { .. })) && self.seed % 8 < 4
    }

    /// Whether the destination refuses a second record of an identity for good.
    pub fn refuses(&self) -> bool {
        self.mechanism == MechanismKind::Kept(REFUSED)
    }

    /// What this seed decides.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Every other pair of seeds, so that a seed of the others stays what it was.
        let mechanism = match seed % 4 {
            _ if seed % 20 == 5 => MechanismKind::Kept(REFUSED),
            0 | 1 => MechanismKind::Kept(repeat(&mut random)),
            _ => random.one_of(
                MechanismKind::CoCommit,
                &[
                    MechanismKind::Staged,
                    MechanismKind::CoCommit,
                    MechanismKind::Staged,
                    MechanismKind::Append,
                ],
            ),
        };
        let source = match mechanism {
            MechanismKind::Kept(repeat) if needs_places(repeat) => {
                random.one_of(SourceKind::Log, &[SourceKind::Cursor])
            }
            _ => random.one_of(SourceKind::Log, &[SourceKind::Cursor, SourceKind::Queue]),
        };
        let by_key = match mechanism {
            MechanismKind::Kept(repeat) => matches!(repeat, Repeat::Replaces { .. }),
            _ => mechanism == MechanismKind::CoCommit && source != SourceKind::Queue && random.one_in(4),
        };
        let effect = if by_key { Effect::ByKey } else { Effect::Insert };
        let ledger = match (source, mechanism) {
            (_, MechanismKind::Append) | (SourceKind::Queue, MechanismKind::Kept(_)) => false,
            (SourceKind::Queue, _) => true,
            _ => !by_key && random.one_in(2),
        };
        let duplicates = match ledger {
            false => Duplicates::Keep,
            true if source != SourceKind::Queue && random.one_in(3) => Duplicates::DeadLetter,
            true => Duplicates::Drop,
        };
        let columns: &[&str] = if by_key { &["writer"] } else { &["writer", "sequence"] };
        let keyed = by_key
            || ledger
            || matches!(mechanism, MechanismKind::Append | MechanismKind::Kept(REFUSED))
            || source == SourceKind::Queue;
        let identity = match keyed {
            true => Identity::Key(columns.iter().map(|name| (*name).to_owned()).collect()),
            false => Identity::Position,
        };
        // An appending sink has no place for letters, and without a ledger nobody knows what was set aside before.
        let known = source != SourceKind::Queue || ledger;
        let letters = known && mechanism != MechanismKind::Append && random.one_in(3);
        let mut plan = Self {
            seed,
            source,
            mechanism,
            effect,
            identity,
            duplicates,
            splits: Vec::new(),
            refuses: letters && !by_key,
            wire: false,
            parallel: usize::try_from(random.between(1, 3)).unwrap_or(1),
            batch_records: usize::try_from(random.between(1, 8)).unwrap_or(1),
            commit_records: random.between(1, 16),
            skew_ms: random.one_of(0, &[3_600_000]),
            faults_max: random.between(1, 4),
            one_in: random.one_of(12, &[30, 80]),
            kinds: Vec::new(),
        };
        plan.kinds = plan.possible(&mut random);
        plan.write_records(&mut random, letters);
        // A record that the source cannot read has no bytes that mean it.
        let spoiled = plan.splits.iter().flatten().any(|row| row.spoiled);
        let may_pass = plan.duplicates == Duplicates::Keep && source != SourceKind::Queue && !spoiled;
        plan.wire = may_pass && Random::new(!seed).one_in(2);
        plan
    }

    /// What may go wrong in this schedule: everything, or a pair.
    fn possible(&self, random: &mut Random) -> Vec<Fault> {
        let all: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| self.can_survive(*fault)).collect();
        if random.one_in(2) {
            return all;
        }
        let any = |random: &mut Random| random.one_of(Fault::CrashAfter, &all);
        vec![any(random), any(random)]
    }

    /// A queue forgets what it was told to forget: a destination that falls back behind that is not covered
    /// by any rule.
    fn can_survive(&self, fault: Fault) -> bool {
        match fault {
            Fault::RolledBack => {
                self.source != SourceKind::Queue && self.mechanism == MechanismKind::CoCommit
            }
            // Where nothing is refused there is nothing to replay, and what must not be sent twice is not replayed.
            Fault::Replay => {
                self.refuses
                    && !matches!(self.mechanism, MechanismKind::Kept(repeat) if repeat.is_announced())
            }
            // Where a record is held rather than sent twice, it is assumed that nothing on the way sends it twice.
            Fault::Repeated if self.mechanism == MechanismKind::Kept(HOLD) => false,
            // Without a guard it is assumed that each key has one writer, and that no request comes late.
            Fault::Stall | Fault::SecondHolder | Fault::Delayed | Fault::Repeated => {
                self.mechanism != MechanismKind::Kept(Repeat::Replaces { guard: Guard::None })
            }
            _ => true,
        }
    }

    /// Whether the source holds a record twice.
    pub fn has_twins(&self) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        !self.splits.iter().flatten().all(|row| seen.insert(row.record))
    }

    fn write_records(&mut self, random: &mut Random, letters: bool) {
        let splits = random.between(1, 3);
        let mut sequences = std::collections::BTreeMap::<u64, u64>::new();
        let mut written: Vec<Record> = Vec::new();
        for split in 0..splits {
            let mut rows = Vec::new();
            let mut cursor = 0;
            for _ in 0..random.below(40) {
                // Where the last version of a key counts, a key stays in its split.
                let writer = split.saturating_mul(4).saturating_add(random.below(4));
                cursor += u64::from(random.one_in(3));
                let spoiled = letters && random.one_in(12);
                let again = usize::try_from(random.bits() >> 8).unwrap_or(0).checked_rem(written.len());
                // Where a second record of an identity is refused, twins are one unless a ledger finds them.
                let apart = !self.refuses() || self.duplicates.need_ledger();
                let twin = self.effect == Effect::Insert && apart && !spoiled && random.one_in(8);
                let record = match again.and_then(|again| written.get(again)).filter(|_| twin) {
                    Some(record) => *record,
                    None => {
                        let sequence = sequences.entry(writer).or_default();
                        *sequence = sequence.saturating_add(1);
                        Record { writer, sequence: *sequence, hash: random.bits() >> 1 }
                    }
                };
                if !spoiled {
                    written.push(record);
                }
                rows.push(Row { record, cursor, spoiled });
            }
            self.splits.push(rows);
        }
    }
}

/// What sending a record again does at a destination that keeps nothing.
fn repeat(random: &mut Random) -> Repeat {
    let window = random.one_of(Window(60_000), &[Window(1_800_000)]);
    let past = random.one_of(Past::Stop, &[Past::Hold]);
    let dropped = Repeat::Dropped { window, under_way: UNDER_WAY, past };
    random.one_of(
        dropped,
        &[
            Repeat::Replaces { guard: Guard::None },
            Repeat::Replaces { guard: Guard::Version },
            HOLD,
            Repeat::Adds { in_doubt: InDoubt::Resend },
        ],
    )
}

/// Whether a record must come back at the same place, or in its order.
fn needs_places(repeat: Repeat) -> bool {
    repeat.is_announced() || repeat == Repeat::Replaces { guard: Guard::None }
}

/// Whether a destination that refuses records refuses this one.
pub fn refused(record: &Record) -> bool {
    record.hash.is_multiple_of(11)
}
