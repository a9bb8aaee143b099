//! How a ledger can fail.

use hapax_protocol::code::Code;
use hapax_protocol::identity::RecordId;
use thiserror::Error;

use crate::codes;
use crate::store::SegmentId;

/// A ledger could not do what it was asked. Nothing of the open commit may take effect.
///
/// After it, only [`Ledger::rollback`](crate::Ledger::rollback) is of use.
#[derive(Debug, Error)]
pub enum Error<E: std::error::Error + 'static> {
    /// The store failed.
    #[error(transparent)]
    Store(E),
    /// The store works, but what it holds cannot be trusted.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// What a ledger holds cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// A page is not what was written.
    #[error("page {page} of ledger segment {} is damaged: {what}", segment.0)]
    Page {
        /// The segment.
        segment: SegmentId,
        /// The page, from 0.
        page: u32,
        /// How it differs.
        what: Damage,
    },
    /// Two segments name different places as the first of one identity.
    #[error("the ledger contradicts itself: two places claim to have been the first of identity {0}")]
    Contradiction(RecordId),
    /// A call failed before and the ledger was not rolled back.
    #[error("the ledger was used after a failure without a rollback")]
    Unsettled,
}

/// How a page differs from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damage {
    /// It does not begin as a page of this version does.
    #[error("it is no page of version 1")]
    Format,
    /// Its length does not fit its number of entries.
    #[error("its length does not fit its number of entries")]
    Length,
    /// Its checksum differs: its bytes changed, or it is a page of another place.
    #[error("its checksum differs")]
    Checksum,
    /// Its identities do not ascend from those of the page before.
    #[error("its identities do not ascend")]
    Order,
    /// The segment's number of entries differs from the list of segments.
    #[error("the segment does not hold as many identities as the store says")]
    Count,
}

impl Broken {
    /// Its stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Page { .. } => codes::PAGE_DAMAGED,
            Self::Contradiction(_) => codes::CONTRADICTION,
            Self::Unsettled => codes::UNSETTLED,
        }
    }

    /// What to do now.
    pub fn help(&self) -> String {
        match self {
            Self::Page { .. } => "Restore the destination, with its ledger, from a backup: going on \
                without the ledger could let a record take effect twice."
                .into(),
            Self::Contradiction(_) => "Make sure that only one run writes to this destination, then \
                restore the destination, with its ledger, from a backup."
                .into(),
            Self::Unsettled => "Start the run again: it recovers from the last commit. Report this, it is \
                a mistake in Hapax."
                .into(),
        }
    }
}
