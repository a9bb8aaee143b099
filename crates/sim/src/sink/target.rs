//! A destination that keeps nothing for anybody, and its sender.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use hapax_checker::Record;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CommitSize, Repeat, Sender, Sending, Sent, Shape, Target};
use hapax_engine::source::Source;
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, InDoubt};
use hapax_protocol::identity::Token;
use hapax_protocol::position::SplitId;

use super::records;
use crate::fault::Site;
use crate::plan::{MechanismKind, refused};
use crate::process::{Lost, Process};
use crate::source::Simulated;
use crate::world::Inner;

/// Records in one request.
const REQUEST_RECORDS: usize = 3;

/// How often a request is tried that is refused for a reason that passes.
const TRIES: usize = 5;

/// The destination as one process sees it.
pub(super) struct SimTarget(pub Process);

impl Target for SimTarget {
    fn repeat(&self) -> Repeat {
        match self.0.world.now().plan.mechanism {
            MechanismKind::Kept(repeat) => repeat,
            // Never asked: the others keep their positions themselves, or nobody does.
            MechanismKind::CoCommit | MechanismKind::Staged | MechanismKind::Append => {
                Repeat::Adds { in_doubt: InDoubt::Resend }
            }
        }
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn commit_size(&self) -> CommitSize {
        let records_max = self.0.world.now().plan.commit_records;
        CommitSize { records_max, bytes_max: 1 << 20, interval_ms: 50 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn read_back(&self, _: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn looks(&self) -> bool {
        self.0.world.now().plan.looks()
    }

    fn sender(&self, split: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let repeat = self.repeat();
        let sender: Box<dyn Sender> =
            Box::new(SimSender { process: self.0.clone(), split: split.clone(), repeat });
        Box::pin(async move { Ok(sender) })
    }
}

struct SimSender {
    process: Process,
    split: SplitId,
    repeat: Repeat,
}

impl Sender for SimSender {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(async move {
            let mut sent = Sent::default();
            let mut letters = Vec::new();
            for (row, record) in records(sending.records).into_iter().enumerate() {
                letters.push((row, record, sending.tokens.get(row).copied()));
            }
            for letters in letters.chunks(REQUEST_RECORDS) {
                // Whoever stands still does it here, before the look at the clock.
                let refuses =
                    self.process.call(Site::Write, |world| world.plan.refuses && !world.is_mended).await?;
                if sending.deadline.is_some_and(|deadline| deadline.is_past()) {
                    return Err(SinkError::stop(Simulated::Late));
                }
                let is_refused = |record: &Record| refuses && refused(record);
                let refused = letters.iter().filter(|(_, record, _)| is_refused(record));
                sent.refused.extend(refused.map(|(row, _, _)| RefusedRow {
                    row: *row,
                    code: Code(197),
                    reason: "refused".to_owned(),
                }));
                let taken = letters.iter().filter(|(_, record, _)| !is_refused(record));
                let records: Vec<_> = taken.clone().map(|(_, record, token)| (*record, *token)).collect();
                if !self.request(records).await? {
                    sent.unknown.extend(taken.map(|(row, _, _)| *row));
                }
            }
            Ok(sent)
        })
    }

    fn look<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Vec<bool>, SinkError> {
        let tokens = sending.tokens.to_vec();
        let can = self.process.world.now().plan.looks();
        let found = move |world: &mut Inner| {
            tokens.iter().map(|token| can && world.sink.tokens.contains_key(token)).collect()
        };
        Box::pin(async move { Ok(self.process.call(Site::Holder, found).await?) })
    }
}

impl SimSender {
    /// Whether it is known that the records took effect.
    async fn request(&self, records: Vec<(Record, Option<Token>)>) -> Result<bool, SinkError> {
        for _ in 0..TRIES {
            let (split, repeat, records) = (self.split.clone(), self.repeat, records.clone());
            let sent =
                self.process.send(Site::Send, move |world| world.arrive(&split, repeat, &records)).await;
            match sent {
                Ok(()) => return Ok(true),
                Err(Lost::Request | Lost::Answer) => return Ok(false),
                Err(Lost::Refused) => {}
                Err(lost @ Lost::Disk) => return Err(lost.into()),
            }
        }
        Err(Lost::Refused.into())
    }
}
