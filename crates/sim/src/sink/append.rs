//! A destination that only appends: what was sent is there, and nobody knows how far.

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{Append, Arrival, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{SplitId, Standing};

use super::records;
use crate::fault::Site;
use crate::process::Process;
use crate::source::Simulated;
use crate::world::Effects;

pub(super) struct Appender {
    process: Process,
    split: SplitId,
    token: FencingToken,
}

impl Appender {
    pub(super) fn new(process: Process, split: SplitId) -> Self {
        Self { process, split, token: FencingToken::NOBODY }
    }
}

impl Writer for Appender {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        self.token = lease.token;
        Box::pin(async move {
            self.process.call(Site::Holder, |_| ()).await?;
            Ok(Standing::default())
        })
    }

    fn claim<'a>(&'a mut self, _: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn withdraw<'a>(&'a mut self, _: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn write<'a>(&'a mut self, batch: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let effects = Effects { records: records(batch), ..Effects::default() };
            let (split, token) = (self.split.clone(), self.token);
            self.process
                .call(Site::Write, move |world| world.take_effect(&split, token, effects, true))
                .await?;
            Ok(Vec::new())
        })
    }

    fn set_aside<'a>(&'a mut self, _: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn settle<'a>(&'a mut self, _: &'a [Place], _: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async { Err(SinkError::stop(Simulated::Absent)) })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async { Ok(()) })
    }
}

impl Append for Appender {
    fn flush(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async move { Ok(self.process.call(Site::Commit, |_| ()).await?) })
    }
}
