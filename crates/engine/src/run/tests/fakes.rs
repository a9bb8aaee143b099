//! A source and a sink in memory, with planned faults.

mod table;
mod tape;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use hapax_protocol::position::Position;

pub(super) use table::{Fault, Table, lease_of};
pub(super) use tape::Tape;

use super::super::{Limits, OnError, Run, Stop, Until};
use crate::clock::SystemClock;
use crate::fault::Fault as Described;
use crate::progress::Progress;
use crate::sink::Sink;

#[derive(Debug, thiserror::Error)]
#[error("planned")]
struct PlannedFault;

impl Described for PlannedFault {
    fn code(&self) -> Code {
        Code(199)
    }
    fn help(&self) -> String {
        "none".to_owned()
    }
}

pub(super) fn run_of(tape: &Tape, table: &Table) -> Run {
    Run {
        source: Arc::new(tape.clone()),
        transform: None,
        sink: Sink::CoCommit(Arc::new(table.clone())),
        ledger: None,
        identity: Identity::Position,
        duplicates: Duplicates::Keep,
        on_error: OnError::SetAside,
        until: Until::End,
        parallel: 1,
        applicant: Applicant {
            pipeline: PipelineName::new("test").unwrap(),
            holder: "test".to_owned(),
            definition: "test".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 10, ..Limits::default() },
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]))
}

fn at(ordinal: u64) -> Position {
    Position::new(ordinal.to_be_bytes().as_slice())
}

fn ordinal(position: &Position) -> u64 {
    u64::from_be_bytes(position.as_bytes().try_into().unwrap())
}
