//! The simulated destination, as the engine sees it.

mod append;
mod target;
mod writer;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use hapax_checker::Record;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::sink::{
    Append, AppendSink, CoCommit, CoCommitSink, CommitSize, Destination, Kept, Shape, Sink, Staged,
    StagedSink, Traits,
};
use hapax_engine::source::Source;
use hapax_engine::wire::WireFormat;
use hapax_protocol::guarantee::{
    Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, LookUp, Retention,
};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};

use crate::fault::Site;
use crate::plan::{MechanismKind, SourceKind};
use crate::process::Process;
use crate::source::{Simulated, wire_format};
use append::Appender;
use target::SimTarget;
use writer::Pen;

/// The destination as one process sees it.
pub struct SimSink(Process);

/// The destination as this process sees it.
pub fn sink(process: &Process) -> Sink {
    let sink = Arc::new(SimSink(process.clone()));
    let target = Arc::new(SimTarget(process.clone()));
    let mechanism = process.world.now().plan.mechanism;
    match mechanism {
        MechanismKind::CoCommit => Sink::CoCommit(sink),
        MechanismKind::Staged => Sink::Staged(sink),
        MechanismKind::Append => Sink::Append(sink),
        MechanismKind::Kept(_) => Sink::Kept(Kept { target, keeper: sink }),
    }
}

/// The records of a batch.
pub fn records(batch: &RecordBatch) -> Vec<Record> {
    let column = |at: usize| {
        let column = batch.columns().get(at).and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.map_or(&[][..], |column| column.values())
    };
    let unsigned = |number: &i64| u64::try_from(*number).unwrap_or(u64::MAX);
    let rows = column(0).iter().zip(column(1)).zip(column(2));
    rows.map(|((writer, sequence), hash)| Record {
        writer: unsigned(writer),
        sequence: unsigned(sequence),
        hash: unsigned(hash),
    })
    .collect()
}

impl Destination for SimSink {
    fn traits(&self) -> Traits {
        let now = self.0.world.now();
        let keeps = now.plan.mechanism != MechanismKind::Append;
        let falls_back =
            now.plan.mechanism == MechanismKind::CoCommit && now.plan.source != SourceKind::Queue;
        Traits {
            effect: now.plan.effect,
            replaces: now.plan.effect == Effect::ByKey,
            fencing: if keeps { Fencing::Token } else { Fencing::None },
            durability: if falls_back { Durability::WithPosition } else { Durability::Durable },
            readers: None,
            ledger: keeps.then_some(LedgerFacts {
                place: LedgerPlace::InsideCommit,
                retention: Retention::Unbounded,
                in_doubt: InDoubt::Resend,
            }),
        }
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

    fn wire<'a>(&'a self, _: &'a Shape) -> Fut<'a, Option<WireFormat>, SinkError> {
        Box::pin(async { Ok(Some(wire_format())) })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(async move {
            let process = self.0.number;
            let acquired = self.0.call(Site::Holder, move |world| {
                world.sink.holder = Some(process);
                world.sink.lease = world.sink.lease.saturating_add(1);
                let token = world.sink.lease;
                if world.plan.mechanism == MechanismKind::Staged {
                    // Every chain gets a fence, and what was decided is completed.
                    let splits: Vec<SplitId> = world.sink.splits.keys().cloned().collect();
                    for split in splits {
                        world.reveal(&split);
                        if let Some(held) = world.sink.splits.get_mut(&split) {
                            (held.token, held.session) = (token, 0);
                            held.chain = held.chain.saturating_add(1);
                        }
                    }
                }
                token
            });
            let token = FencingToken::new(acquired.await?);
            Ok(Lease { pipeline: applicant.pipeline.clone(), token })
        })
    }

    fn finish<'a>(&'a self, _: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async move { Ok(self.0.call(Site::Holder, |_| ()).await?) })
    }

    fn standings<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            let splits = self.0.call(Site::Look, |world| world.sink.splits.clone()).await?;
            Ok(splits.into_iter().map(|(split, held)| (split, held.standing)).collect())
        })
    }

    fn dead_letters<'a>(&'a self, _: &'a PipelineName, _: usize) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async move {
            let letters = self.0.call(Site::Look, |world| world.sink.letters.clone()).await?;
            Ok(letters.into_values().collect())
        })
    }

    fn settled_letters<'a>(
        &'a self,
        _: &'a PipelineName,
        _: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn remembered<'a>(&'a self, _: &'a PipelineName, _: &'a [Place]) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn claimant<'a>(&'a self, _: &'a PipelineName, _: &'a RecordId) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn unfinished<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn read_back(&self, _: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }
}

impl CoCommitSink for SimSink {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError> {
        let pen: Box<dyn CoCommit> = Box::new(Pen::new(self.0.clone(), split.clone()));
        Box::pin(async move { Ok(pen) })
    }
}

impl StagedSink for SimSink {
    fn look_up_window(&self) -> LookUp {
        LookUp::Unbounded
    }

    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Staged>, SinkError> {
        let pen: Box<dyn Staged> = Box::new(Pen::new(self.0.clone(), split.clone()));
        Box::pin(async move { Ok(pen) })
    }
}

impl AppendSink for SimSink {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Append>, SinkError> {
        let appender: Box<dyn Append> = Box::new(Appender::new(self.0.clone(), split.clone()));
        Box::pin(async move { Ok(appender) })
    }
}
