//! What was seen, in the order in which it happened.

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

/// One record, as its writer made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    /// Who wrote it. Where the destination keeps one row a key, this is the key.
    pub writer: u64,
    /// The how manieth of its writer it is. Where the destination keeps one row a key, this is the version.
    pub sequence: u64,
    /// A hash of all it contains.
    pub hash: u64,
}

/// What should be at the destination in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// What becomes of a record that was written twice.
    pub twins: Twins,
    /// What the destination keeps.
    pub state: State,
    /// Whether the records of one writer must take effect in their order.
    pub ordered: bool,
}

/// What becomes of a record that was written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Twins {
    /// One of them is expected.
    Once,
    /// One of them is expected, or that one of them is set aside: the source gives a record back, and nobody can tell
    /// that from a twin.
    OnceOrAside,
    /// Each of them is expected.
    Each,
}

/// What the destination keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every record.
    Every,
    /// The last record of each writer.
    Latest,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A writer was told that the source holds its record.
    Written {
        /// The record.
        record: Record,
        /// In which split it stands.
        split: u32,
        /// The how manieth record of the split it is, from 0.
        place: u64,
    },
    /// A holder took a split over at the destination.
    TookOver {
        /// The split.
        split: u32,
        /// The number that tells this holder from earlier ones.
        token: u64,
    },
    /// A commit took effect at the destination.
    Committed {
        /// The split.
        split: u32,
        /// The holder who sent it.
        token: u64,
        /// What became visible by it, in order.
        records: Vec<Record>,
        /// The places of records that were set aside by it.
        set_aside: Vec<u64>,
        /// The places of records that it listed as in doubt.
        #[serde(default)]
        held: Vec<u64>,
        /// How many records of the split are done with, where the destination keeps that.
        through: Option<u64>,
    },
    /// Records took effect one by one, at a destination that knows no commits and no holders.
    Arrived {
        /// The split.
        split: u32,
        /// The records, in order.
        records: Vec<Record>,
    },
    /// The destination fell back to the state it had after this many commits of the log.
    RolledBack {
        /// How many commits remain.
        commits: u64,
    },
    /// The source was told that it may forget the records of a split before this place, or those of one
    /// commit where it forgets one by one.
    Acknowledged {
        /// The split.
        split: u32,
        /// The places.
        places: Vec<u64>,
    },
    /// A reader looked: what it saw, of all splits.
    Polled {
        /// The records.
        records: Vec<Record>,
        /// How many records of each split are done with, as the destination says.
        through: Vec<(u32, u64)>,
    },
    /// Nothing fails from here on.
    Healed,
    /// A run was started.
    Started {
        /// Whether there was nothing left to do.
        idle: bool,
    },
    /// A run came to its end by itself.
    Completed,
    /// What the destination holds in the end.
    Found {
        /// The records, in the order in which the destination has them.
        records: Vec<Record>,
        /// The places of what is set aside, by split.
        set_aside: Vec<(u32, u64)>,
        /// The places of what is listed as in doubt, by split: it may be there or not.
        #[serde(default)]
        held: Vec<(u32, u64)>,
    },
}

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What should be there in the end.
    pub expected: Expected,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl Log {
    /// A log of nothing yet.
    pub fn new(expected: Expected) -> Self {
        Self { expected, events: Vec::new() }
    }

    /// Reads a log: a line of JSON with what is expected, then a line for each event.
    pub fn read(from: impl BufRead) -> io::Result<Self> {
        let mut lines = from.lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut log = Self::new(serde_json::from_str(&first)?);
        for line in lines {
            let line = line?;
            if !line.trim().is_empty() {
                log.events.push(serde_json::from_str(&line)?);
            }
        }
        Ok(log)
    }

    /// Writes it as [`read`](Self::read) reads it.
    pub fn write(&self, mut to: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut to, &self.expected)?;
        for event in &self.events {
            to.write_all(b"\n")?;
            serde_json::to_writer(&mut to, event)?;
        }
        to.write_all(b"\n")
    }
}
