//! What was written since the last commit: it is kept here, and leaves in one call.

use std::collections::HashMap;

use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::sink::Arrival;
use hapax_planted::{Mistake, planted};
use hapax_protocol::guarantee::Retention;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::Lease;
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Checkpoint, Ordinal, Position, SplitId, Standing};
use redis::Cmd;

use super::history;
use super::plan::{Encoded, Plan, kind};
use super::state::{Kept, Keys, Settled, member};
use crate::config::Write;
use crate::ledger::Spot;

/// The script that commits.
const COMMIT: &str = concat!(include_str!("call.lua"), include_str!("fence.lua"), include_str!("commit.lua"));

/// The same without a look at lease, take-over and position: the planted mistake.
const NO_FENCE: &str = concat!(include_str!("call.lua"), include_str!("commit.lua"));

/// How many keys stand before those of claims.
const STATE_KEYS: usize = 12;

/// A record on its way, and whether its key may be there.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub key: Vec<u8>,
    pub encoded: Encoded,
    pub absent: bool,
}

/// Everything that the next commit holds.
#[derive(Debug, Default)]
pub(super) struct Open {
    records: Vec<Record>,
    /// Where the record of a key stands, where the last one replaces the others.
    index: HashMap<Vec<u8>, usize>,
    claims: HashMap<RecordId, Ordinal>,
    letters: Vec<DeadLetter>,
    settled: Vec<(Place, Settlement)>,
    bytes: usize,
}

impl Open {
    /// How much it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a record of this key is open.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.index.contains_key(key)
    }

    /// Adds a record. By key, it takes the place of an earlier one.
    pub(super) fn add(&mut self, write: Write, record: Record) {
        self.bytes = self.bytes.saturating_add(record.encoded.bytes()).saturating_add(record.key.len());
        if write == Write::Stream {
            self.records.push(record);
            return;
        }
        match self.index.get(&record.key).and_then(|place| self.records.get_mut(*place)) {
            Some(earlier) => {
                self.bytes =
                    self.bytes.saturating_sub(earlier.encoded.bytes()).saturating_sub(earlier.key.len());
                earlier.encoded = record.encoded;
            }
            None => {
                self.index.insert(record.key.clone(), self.records.len());
                self.records.push(record);
            }
        }
    }

    /// Claims identities, given what is claimed by commits.
    pub(super) fn claim(
        &mut self,
        split: &SplitId,
        arrivals: &[Arrival],
        known: &HashMap<RecordId, Place>,
    ) -> Vec<Claim<Place>> {
        let at = |ordinal| Place { split: split.clone(), ordinal };
        let mut answer = |arrival: &Arrival| {
            let open = self.claims.get(&arrival.id).map(|ordinal| at(*ordinal));
            let first = known.get(&arrival.id).cloned().or(open);
            if first.is_none() {
                self.claims.insert(arrival.id, arrival.ordinal);
                self.bytes = self.bytes.saturating_add(64);
            }
            decide(first, &at(arrival.ordinal))
        };
        arrivals.iter().map(&mut answer).collect()
    }

    pub(super) fn withdraw(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            if self.claims.get(&arrival.id) == Some(&arrival.ordinal) {
                self.claims.remove(&arrival.id);
            }
        }
    }

    pub(super) fn set_aside(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            self.bytes = self.bytes.saturating_add(letter.raw.len()).saturating_add(letter.reason.len());
            self.letters.push(letter.clone());
        }
    }

    pub(super) fn settle(&mut self, places: &[Place], settlement: &Settlement) {
        self.settled.extend(places.iter().map(|place| (place.clone(), *settlement)));
    }

    /// The one call that makes all of it take effect.
    pub(super) fn call(&self, of: &Committer<'_>, checkpoint: &Checkpoint) -> Cmd {
        let is_stream = of.plan.is_some_and(|plan| plan.write == Write::Stream);
        let targets: Vec<&[u8]> = match is_stream {
            true => self.records.first().map(|record| record.key.as_slice()).into_iter().collect(),
            false => self.records.iter().map(|record| record.key.as_slice()).collect(),
        };
        let mut call = redis::cmd("EVAL");
        let script = if planted(Mistake::NoFence) { NO_FENCE } else { COMMIT };
        call.arg(script).arg(STATE_KEYS.saturating_add(self.claims.len()).saturating_add(targets.len()));
        of.state_keys(&mut call);
        let claims: Vec<(&RecordId, &Ordinal)> = self.claims.iter().collect();
        for (id, _) in &claims {
            call.arg(of.keys.claim(id));
        }
        for key in &targets {
            call.arg(*key);
        }
        of.condition(&mut call, checkpoint);
        let ttl_ms = match of.ledger {
            Retention::Unbounded => 0,
            Retention::For(window) => window.0,
        };
        call.arg(claims.len()).arg(ttl_ms);
        for (_, ordinal) in claims {
            call.arg(Spot { split: of.number, ordinal: *ordinal }.encode().as_slice());
        }
        call.arg(if targets.is_empty() { "" } else { of.plan.map_or("", |plan| kind(plan.write)) });
        let guards: String = match is_stream {
            true => "p".repeat(targets.len()),
            false => self.records.iter().map(|record| if record.absent { 'a' } else { 'p' }).collect(),
        };
        call.arg(guards).arg(checkpoint.made_unix_ms);
        self.notes(&mut call);
        history::remember(&mut call, of.lease, of.holder, of.stood, checkpoint);
        let (columns, ttl) = of.plan.map_or((&[][..], None), |plan| (plan.columns.as_slice(), plan.ttl));
        call.arg(ttl.map_or(0, |ttl| ttl.0)).arg(columns.len());
        for (_, name) in columns {
            call.arg(name);
        }
        if is_stream && !targets.is_empty() {
            call.arg(self.records.len());
        }
        let has_nulls = of.plan.is_some_and(|plan| matches!(plan.write, Write::Hash | Write::Stream));
        for record in &self.records {
            if has_nulls {
                call.arg(&record.encoded.nulls);
            }
            for value in &record.encoded.values {
                call.arg(value.as_slice());
            }
        }
        call
    }

    /// Letters, and what became of others. A struct of numbers and text is always JSON.
    fn notes(&self, call: &mut Cmd) {
        call.arg(self.letters.len());
        for letter in &self.letters {
            call.arg(member(&letter.place));
            call.arg(serde_json::to_string(&Kept::of(letter)).unwrap_or_default()).arg(&letter.raw);
        }
        call.arg(self.settled.len());
        for (place, settlement) in &self.settled {
            call.arg(member(place));
            call.arg(serde_json::to_string(&Settled::of(settlement)).unwrap_or_default());
        }
    }
}

/// Who commits, and where from.
pub(super) struct Committer<'a> {
    pub keys: &'a Keys,
    pub split: &'a SplitId,
    pub lease: &'a Lease,
    pub holder: &'a str,
    pub take: u64,
    pub number: u32,
    pub stood: &'a Standing,
    pub plan: Option<&'a Plan>,
    pub ledger: Retention,
}

impl Committer<'_> {
    fn state_keys(&self, call: &mut Cmd) {
        call.arg(self.keys.lease()).arg(self.keys.of_split("split", self.split));
        for what in ["letters", "letter", "raw", "settled", "settlement"] {
            call.arg(self.keys.of(what));
        }
        for what in ["past", "in-place", "commits", "again"] {
            call.arg(self.keys.of_split(what, self.split));
        }
        call.arg(self.keys.of("ledger"));
    }

    /// What must hold, and what then holds.
    fn condition(&self, call: &mut Cmd, checkpoint: &Checkpoint) {
        call.arg(self.lease.token.get()).arg(self.take);
        let after = checkpoint.after.as_ref().map_or_else(|| b"-".to_vec(), plus);
        call.arg(after).arg(checkpoint.epoch.get().wrapping_sub(1));
        let totals = checkpoint.totals;
        call.arg(checkpoint.through.as_bytes()).arg(checkpoint.epoch.get());
        for count in [totals.read, totals.moved, totals.suppressed, totals.set_aside, totals.filtered] {
            call.arg(count);
        }
    }
}

fn plus(position: &Position) -> Vec<u8> {
    let mut bytes = b"+".to_vec();
    bytes.extend_from_slice(position.as_bytes());
    bytes
}
