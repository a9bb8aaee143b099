//! Destinations that keep nothing for Hapax, and the keeper beside each of them.
//!
//! A web service or a vector database takes records and keeps no positions. A keeper does it for them: any sink
//! that commits together what it is given, and that is given no records. Effect and progress are two steps then,
//! the effect first. What this can give depends on what sending a record again does ([`Repeat`]).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{
    Durability, Effect, Fencing, Guard, InDoubt, LedgerFacts, LedgerPlace, Mechanism, Memory, Window,
};
use hapax_protocol::identity::{Place, RecordId, Token};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};

use super::{CoCommitSink, CommitSize, Destination, Shape, Traits};
use crate::Fut;
use crate::clock::Clock;
use crate::codes;
use crate::dead_letter::{DeadLetter, SettledLetter};
use crate::fault::{Fault, SinkError};
use crate::history::{Remembered, Unfinished};
use crate::ledger::Statistics;
use crate::run::announces_of;
use crate::source::Source;
use crate::transform::RefusedRow;

/// What sending a record again does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It replaces the record of its key.
    Replaces {
        /// Whether an older value is refused.
        guard: Guard,
    },
    /// It is refused, whoever sends it and however late: the destination takes one record of each identity. One that
    /// is refused has taken effect if what is there equals it.
    Refused {
        /// Whether what was taken stays for good. Elsewhere a limit of its size removes it, nobody knows when.
        for_good: bool,
    },
    /// It is dropped, while the destination remembers its token.
    Dropped {
        /// How long it remembers a token, from the first time it saw it.
        window: Window,
        /// How long after it left a request may still arrive: the timeout of a request, and what the network adds.
        under_way: Window,
        /// What is done about records that may have been sent longer ago than that.
        past: Past,
    },
    /// It adds another.
    Adds {
        /// What is done about records that may have been sent.
        in_doubt: InDoubt,
    },
}

impl Repeat {
    /// Whether what is about to be sent must be known to whoever comes next.
    pub fn is_announced(self) -> bool {
        match self {
            Self::Replaces { .. } | Self::Refused { .. } | Self::Adds { in_doubt: InDoubt::Resend } => false,
            Self::Dropped { .. } | Self::Adds { in_doubt: InDoubt::Hold } => true,
        }
    }

    /// How effect and progress meet, for the calculus.
    pub fn mechanism(self) -> Mechanism {
        match self {
            Self::Replaces { guard } => Mechanism::Keyed { guard },
            Self::Refused { for_good: true } => Mechanism::Tokened { memory: Memory::Unbounded },
            Self::Refused { for_good: false } => Mechanism::Tokened { memory: Memory::UntilFull },
            Self::Dropped { window, .. } => Mechanism::Tokened { memory: Memory::Within(window) },
            Self::Adds { .. } => Mechanism::Append,
        }
    }

    /// What becomes of a record whose end is not known.
    pub fn in_doubt(self) -> InDoubt {
        match self {
            Self::Adds { in_doubt } => in_doubt,
            Self::Replaces { .. } | Self::Refused { .. } | Self::Dropped { .. } => InDoubt::Resend,
        }
    }
}

/// What is done about records that may have been sent so long ago that a repeat would not be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// The run stops before them.
    Stop,
    /// They are set aside as in doubt, and the run goes on.
    Hold,
}

/// A destination that takes records and keeps nothing for Hapax.
pub trait Target: Send + Sync {
    /// What sending a record again does.
    fn repeat(&self) -> Repeat;

    /// Whether an acknowledged write stays.
    fn durability(&self) -> Durability;

    /// A condition on readers, in words.
    fn readers(&self) -> Option<String> {
        None
    }

    /// As [`Destination::commit_size`]. Where sending is announced each batch is a commit of its own.
    fn commit_size(&self) -> CommitSize;

    /// As [`Destination::check`].
    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError>;

    /// As [`Destination::prepare`].
    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError>;

    /// As [`Destination::deletes`].
    fn deletes(&self) -> Option<&str> {
        None
    }

    /// As [`Destination::read_back`].
    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError>;

    /// Whether it can be asked which records took effect ([`Sender::look`]). Then sending is announced, so that whoever
    /// comes next knows what to ask for.
    fn looks(&self) -> bool {
        false
    }

    /// A sender for one split.
    fn sender(&self, split: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError>;
}

/// Sends the records of one split.
pub trait Sender: Send {
    /// Sends records, and returns once each has ended. Two records of one key take effect in their order.
    ///
    /// An error says nothing of any of them: each may have taken effect.
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError>;

    /// Whether each of these records, which may have been sent before, is known to have taken effect. One of which that is
    /// not known may be on its way.
    fn look<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Vec<bool>, SinkError> {
        let nobody_knows = vec![false; sending.records.num_rows()];
        Box::pin(std::future::ready(Ok(nobody_knows)))
    }

    /// Sends records of which none may take the place of another ([`RefusedRow::key_is_there`]), as
    /// [`Writer::write_absent`](super::Writer::write_absent). One that cannot tell refuses all.
    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        let refused = (0..sending.records.num_rows()).map(RefusedRow::key_is_there).collect();
        Box::pin(std::future::ready(Ok(Sent { refused, unknown: Vec::new() })))
    }
}

/// Records on their way.
#[derive(Clone, Copy)]
pub struct Sending<'a> {
    /// The records.
    pub records: &'a RecordBatch,
    /// The token of each, the same on every attempt. Empty where the destination goes by the key itself.
    pub tokens: &'a [Token],
    /// Until when they may leave. It is asked last before each request.
    pub deadline: Option<&'a Deadline>,
}

/// The moment after which a repeat might not be dropped any more.
#[derive(Clone)]
pub struct Deadline {
    /// Whose date counts.
    pub clock: Arc<dyn Clock>,
    /// When it was announced, in milliseconds since 1970: a date before that was set back, and says nothing.
    pub since_unix_ms: u64,
    /// The last moment, in milliseconds since 1970.
    pub until_unix_ms: u64,
}

impl Deadline {
    /// Whether nothing may be sent any more.
    pub fn is_past(&self) -> bool {
        !(self.since_unix_ms..=self.until_unix_ms).contains(&self.clock.unix_ms())
    }
}

/// How records ended that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// Refused for what they contain. They had no effect.
    pub refused: Vec<RefusedRow>,
    /// The rows of which nobody knows whether they took effect.
    pub unknown: Vec<usize>,
}

/// A destination that keeps nothing, with what keeps it.
#[derive(Clone)]
pub struct Kept {
    /// Where records go.
    pub target: Arc<dyn Target>,
    /// Where positions, claims and dead letters are kept. It is given no records.
    pub keeper: Arc<dyn CoCommitSink>,
}

/// A keeper may forget an announcement, and with it that something was sent.
#[derive(Debug, thiserror::Error)]
#[error("the keeper may forget its last commits, and this destination must not be sent a record twice")]
struct ForgetfulKeeper;

impl Fault for ForgetfulKeeper {
    fn code(&self) -> Code {
        codes::FORGETFUL_KEEPER
    }

    fn help(&self) -> String {
        "Use a keeper that keeps what it has answered, through a power loss too.".to_owned()
    }
}

impl Kept {
    fn demand_memory(&self) -> Result<(), SinkError> {
        let forgets = self.keeper.traits().durability != Durability::Durable;
        match self.target.repeat().is_announced() && forgets {
            true => Err(SinkError::stop(ForgetfulKeeper)),
            false => Ok(()),
        }
    }
}

impl Destination for Kept {
    fn traits(&self) -> Traits {
        let (repeat, kept) = (self.target.repeat(), self.keeper.traits());
        Traits {
            effect: match repeat {
                Repeat::Replaces { .. } | Repeat::Refused { for_good: true } => Effect::ByKey,
                Repeat::Refused { for_good: false } | Repeat::Dropped { .. } | Repeat::Adds { .. } => {
                    Effect::Insert
                }
            },
            replaces: matches!(repeat, Repeat::Replaces { .. }),
            // The keeper gives the lease. What an earlier holder sends late, nobody stops.
            fencing: match repeat {
                Repeat::Replaces { guard: Guard::None } => Fencing::FixedOwnership,
                _ => Fencing::None,
            },
            durability: self.target.durability(),
            readers: self.target.readers(),
            ledger: kept.ledger.map(|ledger| LedgerFacts {
                place: LedgerPlace::Outside,
                retention: ledger.retention,
                in_doubt: repeat.in_doubt(),
            }),
        }
    }

    fn commit_size(&self) -> CommitSize {
        self.target.commit_size()
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move {
            let mut lines = self.target.check(shape).await?;
            self.demand_memory()?;
            lines.extend(self.keeper.check(shape).await?);
            Ok(lines)
        })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            self.demand_memory()?;
            self.keeper.prepare(shape).await?;
            self.target.prepare(shape).await
        })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        self.keeper.acquire(applicant)
    }

    fn finish<'a>(&'a self, lease: &'a Lease) -> Fut<'a, (), SinkError> {
        self.keeper.finish(lease)
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            let mut standings = self.keeper.standings(pipeline).await?;
            standings.retain(|(split, _)| !announces_of(split));
            Ok(standings)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        self.keeper.dead_letters(pipeline, letters_max)
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        self.keeper.settled_letters(pipeline, letters_max)
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        self.keeper.remembered(pipeline, places)
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        self.keeper.claimant(pipeline, id)
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        self.keeper.ledger_holds(pipeline)
    }

    fn unfinished<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        self.keeper.unfinished(pipeline)
    }

    fn is_waiting<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, bool, SinkError> {
        self.keeper.is_waiting(pipeline)
    }

    fn deletes(&self) -> Option<&str> {
        self.target.deletes()
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        self.target.read_back(schema)
    }
}
