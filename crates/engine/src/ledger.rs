//! The contract of a ledger that stands beside the destination, in a store of its own.
//!
//! A claim is durable before the effect it is for. It keeps the place of its claimant, so that a record which is read
//! again at the same place passes: without that, a crash between claim and effect would lose it. A source that gives
//! a record back at another place can therefore not be used with such a ledger.
//!
//! Nothing fences a claim: what a holder claims who wakes up late, the present one claims at the same place, or has. Nothing
//! may be undone so: what a record was refused for is decided anew by whoever comes next.

use hapax_protocol::guarantee::LedgerFacts;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

use crate::Fut;
use crate::fault::SinkError;
use crate::sink::Arrival;

/// A durable set of identities, each with the place that claimed it first.
pub trait Ledger: Send + Sync {
    /// What it declares: the input of the calculus.
    fn facts(&self) -> LedgerFacts;

    /// Refuses a store that may forget, or cannot be reached, and says what it rests on, in words, one line each.
    /// Changes nothing.
    fn check(&self) -> Fut<'_, Vec<String>, SinkError>;

    /// Makes it ready for a pipeline that `has_positions` at its destination, or has none yet. With positions and
    /// without what was claimed before them, a ledger was lost: that is refused.
    fn open<'a>(&'a self, pipeline: &'a PipelineName, has_positions: bool) -> Fut<'a, (), SinkError>;

    /// Claims identities for places in `split`: one answer per arrival, in order, each durable once this returns. Of
    /// two arrivals of one identity, also in one call and also from two processes, the first is answered
    /// [`Claim::New`] and the other [`Claim::Twin`]; the same place again is [`Claim::Replay`]. What a later holder has
    /// taken back, an earlier one does not get.
    fn claim<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, Vec<Claim<Place>>, SinkError>;

    /// Takes back the claims that these very arrivals hold: their records have no effect. Others stay. A holder after
    /// whom another one has claimed takes nothing back.
    fn withdraw<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, (), SinkError>;

    /// The place that claimed an identity. Changes nothing.
    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError>;

    /// What it holds. Changes nothing.
    fn statistics<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Statistics, SinkError>;
}

/// What a ledger holds of one pipeline. What is `None` it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Identities.
    pub identities: Option<u64>,
    /// Bytes it takes.
    pub bytes: Option<u64>,
    /// When the oldest claim was made, in milliseconds since 1970.
    pub oldest_unix_ms: Option<u64>,
}
