//! Where a ledger keeps its bytes: the contract between the ledger and whatever a commit has.

use hapax_protocol::position::SplitId;

/// The number of a segment. Never used twice in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

/// The short number a store gives to the name of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SplitNumber(pub u32);

/// What a store knows of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which.
    pub id: SegmentId,
    /// How often its entries were merged, 0 for one that came straight from a commit.
    pub level: u8,
    /// How many identities it holds.
    pub entries: u64,
    /// How many pages it has, numbered from 0.
    pub pages: u32,
}

/// Immutable segments made of pages, to be read.
pub trait Segments: Send {
    /// How it fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// All sealed segments, in any order.
    fn segments(&mut self) -> Result<Vec<SegmentInfo>, Self::Error>;

    /// Reads one page of a sealed segment into `into`, which is cleared first.
    fn read_page(&mut self, segment: SegmentId, page: u32, into: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// The split that has a number.
    fn split(&mut self, number: SplitNumber) -> Result<SplitId, Self::Error>;
}

/// A store to which segments are written.
///
/// In a sink that commits effects and position together, every call happens inside the sink's open
/// transaction: a rollback takes segments back, a commit keeps them. In a store of its own, `seal` makes
/// them durable before it returns.
pub trait SegmentStore: Segments {
    /// Writes one page of a segment that is not sealed yet. Pages come in order, from 0.
    fn write_page(&mut self, segment: SegmentId, page: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes a segment exist and, in the same step as far as the store can, removes those it replaces.
    /// A replaced segment that is still there after a crash is harmless: it says the same.
    fn seal(&mut self, info: SegmentInfo, replaces: &[SegmentId]) -> Result<(), Self::Error>;

    /// The number of a split; gives it one if it has none. A number is never given twice.
    fn number(&mut self, split: &SplitId) -> Result<SplitNumber, Self::Error>;
}
