//! The embedded ledger beside a destination that cannot keep one: one directory a pipeline.
//!
//! Each call's claims are a segment of their own that is on the disk before they are answered. One process at a time has
//! the directory, held by a lock that ends with the process.

mod amended;
mod fault;
mod part;
mod parts;

use std::collections::HashMap;
use std::collections::hash_map;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_engine::Fut;
use hapax_engine::clock::{Clock, SystemClock};
use hapax_engine::fault::SinkError;
use hapax_engine::ledger::{Ledger as Contract, Statistics};
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::{InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Ordinal, SplitId};

use amended::Amended;
pub use fault::EmbeddedFault;
use parts::{Asked, InUse};

/// A ledger in a directory, with one below it for each pipeline.
pub struct Embedded {
    folder: PathBuf,
    retention: Retention,
    in_doubt: InDoubt,
    clock: Arc<dyn Clock>,
    open: Arc<Mutex<HashMap<PipelineName, InUse>>>,
}

impl Embedded {
    /// A ledger in this directory, which is made when it is needed. Touches nothing. What it remembers for a while only
    /// is dated by the machine's clock.
    pub fn new(folder: impl Into<PathBuf>, retention: Retention, in_doubt: InDoubt) -> Self {
        let clock = Arc::new(SystemClock::default());
        Self { folder: folder.into(), retention, in_doubt, clock, open: Arc::default() }
    }

    /// The same, with the dates of another clock.
    #[must_use]
    pub fn dated_by(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Asks the ledger of a pipeline, whoever has it; `None` where there is none.
    fn ask<'a, T: Send + 'static>(
        &'a self,
        pipeline: &PipelineName,
        question: impl Fn(&mut Asked<'_>) -> Result<T, EmbeddedFault> + Send + 'static,
    ) -> Fut<'a, Option<T>, SinkError> {
        let (folder, pipeline) = (self.folder.join(pipeline.as_str()), pipeline.clone());
        let (all, retention, now) = (Arc::clone(&self.open), self.retention, self.clock.unix_ms());
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(open) = all.get_mut(&pipeline) {
                    return question(&mut open.asked(retention, now)).map(Some);
                }
                drop(all);
                match Asked::look(&folder, retention, now)? {
                    Some(mut seen) => question(&mut seen).map(Some),
                    None => Ok(None),
                }
            });
            let done = done.await.map_err(|_| SinkError::stop(EmbeddedFault::Interrupted))?;
            done.map_err(SinkError::stop)
        })
    }

    /// Does something with the ledger of a pipeline, on a thread that may wait for the disk.
    fn with<'a, T: Send + 'static>(
        &'a self,
        pipeline: &PipelineName,
        work: impl FnOnce(&mut InUse) -> Result<T, EmbeddedFault> + Send + 'static,
    ) -> Fut<'a, T, SinkError> {
        let (folder, pipeline) = (self.folder.join(pipeline.as_str()), pipeline.clone());
        let all = Arc::clone(&self.open);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let open = match all.entry(pipeline) {
                    hash_map::Entry::Occupied(open) => open.into_mut(),
                    hash_map::Entry::Vacant(free) => free.insert(InUse::take(&folder)?),
                };
                work(open)
            });
            let done = done.await.map_err(|_| SinkError::stop(EmbeddedFault::Interrupted))?;
            done.map_err(SinkError::stop)
        })
    }
}

fn owned(arrivals: &[Arrival]) -> Vec<(RecordId, Ordinal)> {
    arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect()
}

impl Contract for Embedded {
    fn facts(&self) -> LedgerFacts {
        LedgerFacts { place: LedgerPlace::Outside, retention: self.retention, in_doubt: self.in_doubt }
    }

    fn check(&self) -> Fut<'_, Vec<String>, SinkError> {
        let folder = self.folder.display();
        let mut lines = vec![format!("the ledger in {folder} is on the disk before a claim is answered")];
        if let Retention::For(window) = self.retention {
            lines.push(format!("it remembers for {window} at least, by the date of this machine"));
        }
        Box::pin(std::future::ready(Ok(lines)))
    }

    fn open<'a>(&'a self, pipeline: &'a PipelineName, has_positions: bool) -> Fut<'a, (), SinkError> {
        let folder = self.folder.join(pipeline.as_str());
        if has_positions && !Amended::is_there(&folder) {
            let fault = EmbeddedFault::Lost { pipeline: pipeline.to_string(), folder };
            return Box::pin(std::future::ready(Err(SinkError::stop(fault))));
        }
        self.with(pipeline, |_| Ok(()))
    }

    fn claim<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        let (split, arrivals) = (split.clone(), owned(arrivals));
        let (retention, clock) = (self.retention, Arc::clone(&self.clock));
        self.with(&lease.pipeline, move |open| open.claim((retention, clock.unix_ms()), &split, &arrivals))
    }

    fn withdraw<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, (), SinkError> {
        let (split, arrivals) = (split.clone(), owned(arrivals));
        self.with(&lease.pipeline, move |open| open.withdraw(&split, &arrivals))
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        let id = *id;
        let asked = self.ask(pipeline, move |ledger| ledger.claimant(&id));
        Box::pin(async move { Ok(asked.await?.flatten()) })
    }

    fn statistics<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Statistics, SinkError> {
        let asked = self.ask(pipeline, |ledger| ledger.statistics());
        Box::pin(async move { Ok(asked.await?.unwrap_or_default()) })
    }
}
