//! Places in a source: splits, positions, and what has been committed of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a split: the unit of order and of parallelism (a file, a range of a table, a partition).
///
/// It is stable across runs: the position of a split is found again by this name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitId(Arc<str>);

impl SplitId {
    /// Names a split.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An encoded place in one split: everything before it has been read, nothing at or after it has.
///
/// The order of its bytes is the order of the source. Only the connector that made it knows what the
/// bytes mean; it renders them for people with `Source::describe`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(Arc<[u8]>);

impl Position {
    /// Wraps the connector's encoding.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The connector's encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The number of a record in its split, counted from 0 over everything the source holds, malformed
/// records included. It does not depend on how the split was cut into batches.
pub type Ordinal = u64;

/// One commit interval of a split. The first commit of a split is epoch 1; it never skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// Before the first commit.
    pub const NONE: Self = Self(0);

    /// An epoch as stored.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, 0 before the first commit.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The epoch of the next commit.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What became of the records of a split so far, in records. Sums over all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Records read from the source.
    pub read: u64,
    /// Records whose effect is at the sink.
    pub moved: u64,
    /// Records suppressed because their identity had taken effect before (twins).
    pub suppressed: u64,
    /// Records set aside as dead letters.
    pub set_aside: u64,
    /// Records that the transform's `WHERE` left out.
    pub filtered: u64,
}

impl Totals {
    /// The sum, field by field.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_add(other.read),
            moved: self.moved.saturating_add(other.moved),
            suppressed: self.suppressed.saturating_add(other.suppressed),
            set_aside: self.set_aside.saturating_add(other.set_aside),
            filtered: self.filtered.saturating_add(other.filtered),
        }
    }

    /// What was added since `earlier`, field by field, 0 where something was taken away.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            read: self.read.saturating_sub(earlier.read),
            moved: self.moved.saturating_sub(earlier.moved),
            suppressed: self.suppressed.saturating_sub(earlier.suppressed),
            set_aside: self.set_aside.saturating_sub(earlier.set_aside),
            filtered: self.filtered.saturating_sub(earlier.filtered),
        }
    }
}

/// Where a split stands at the sink: the last commit that took effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The position everything before which has taken effect; `None` before the first commit.
    pub position: Option<Position>,
    /// The epoch of that commit.
    pub epoch: Epoch,
    /// What became of the records so far.
    pub totals: Totals,
}

/// One commit about to be made: the step from one standing to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position the sink must still hold for the commit to be allowed (compare-and-set).
    pub after: Option<Position>,
    /// The position the sink holds once the commit took effect.
    pub through: Position,
    /// The epoch of this commit: the standing's epoch plus one.
    pub epoch: Epoch,
    /// The standing's totals plus this commit's.
    pub totals: Totals,
    /// The records behind the position that it moves again, as ranges of their numbers that ascend and do not
    /// touch; none unless it is a repair's. They are remembered for people; nothing is decided by them.
    pub again: Vec<Range<Ordinal>>,
    /// When it is made, in milliseconds since 1970. It is remembered for people; nothing is decided by it.
    pub made_unix_ms: u64,
}

impl Checkpoint {
    /// The standing once this commit took effect.
    pub fn standing(&self) -> Standing {
        Standing { position: Some(self.through.clone()), epoch: self.epoch, totals: self.totals }
    }
}
