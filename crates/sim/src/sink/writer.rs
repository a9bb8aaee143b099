//! A writer that keeps positions: in one transaction with its effects, or in a chain of exclusive appends.

use arrow::array::RecordBatch;
use hapax_checker::Record;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Arrival, CoCommit, CommitId, Staged, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_engine::wire::{Taken, WireBatch};
use hapax_ledger::memory::MemoryStore;
use hapax_ledger::{Ledger, Settings};
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use hapax_protocol::recovery::{self, Found, Start};

use super::records;
use crate::fault::Site;
use crate::plan::{MechanismKind, refused};
use crate::process::{Lost, Process};
use crate::source::Simulated;
use crate::world::{Effects, Inner};

/// Small enough that segments are merged, and filters asked, with a few dozen identities.
const SETTINGS: Settings =
    Settings { page_bytes: 256, fan_in: 3, merge_entries_max: 1 << 20, cached_pages_max: 4 };

/// The writer of one split.
pub(super) struct Pen {
    process: Process,
    split: SplitId,
    token: FencingToken,
    session: u64,
    /// The number of the chain's last entry that this writer knows.
    chain: u64,
    open: Effects,
    ledger: Option<(Ledger<MemoryStore>, u64)>,
    staged: Option<Checkpoint>,
}

/// Why a commit had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Fenced,
    Diverged,
    /// Somebody else changed the ledger meanwhile.
    Conflict,
}

impl From<Refusal> for SinkError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fenced => Self::fenced(Simulated::Fenced),
            Refusal::Diverged => Self::stop(Simulated::Diverged),
            Refusal::Conflict => Self::unavailable(Simulated::Lost(Lost::Refused)),
        }
    }
}

impl Pen {
    pub(super) fn new(process: Process, split: SplitId) -> Self {
        Self {
            process,
            split,
            token: FencingToken::NOBODY,
            session: 0,
            chain: 0,
            open: Effects::default(),
            ledger: None,
            staged: None,
        }
    }

    /// What is open, with the ledger as it is to be.
    fn close(&mut self) -> Result<Effects, SinkError> {
        if let Some((mut ledger, version)) = self.ledger.take() {
            ledger.flush().map_err(|_| SinkError::stop(Simulated::Absent))?;
            self.open.ledger = Some((ledger.into_store(), version));
        }
        Ok(std::mem::take(&mut self.open))
    }

    async fn open_ledger(&mut self) -> Result<(), SinkError> {
        if self.ledger.is_none() {
            let (store, version) = self
                .process
                .call(Site::Write, |world| (world.sink.ledger.clone(), world.sink.ledger_version))
                .await?;
            let ledger =
                Ledger::with_settings(store, SETTINGS).map_err(|_| SinkError::stop(Simulated::Absent))?;
            self.ledger = Some((ledger, version));
        }
        Ok(())
    }
}

/// The records that bytes mean.
fn decoded(bytes: &[u8]) -> impl Iterator<Item = Record> {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.chunks(3).filter_map(|numbers| match numbers {
        [writer, sequence, hash] => Some(Record {
            writer: u64::from_be_bytes(*writer),
            sequence: u64::from_be_bytes(*sequence),
            hash: u64::from_be_bytes(*hash),
        }),
        _ => None,
    })
}

/// What a holder finds when it takes a split over.
fn take_over(
    world: &mut Inner,
    split: &SplitId,
    token: FencingToken,
) -> Result<(u64, u64, Standing), Refusal> {
    if world.sink.lease > token.get() && !planted(Mistake::NoFence) {
        return Err(Refusal::Fenced);
    }
    world.reveal(split);
    let session = world.session();
    let held = world.sink.splits.entry(split.clone()).or_default();
    let found = Found { token: FencingToken::new(held.token), standing: held.standing.clone() };
    match recovery::start(token, &found) {
        Start::Fenced { .. } if !planted(Mistake::NoFence) => return Err(Refusal::Fenced),
        Start::Fenced { .. } | Start::Fresh | Start::Resume(_) => {}
    }
    (held.token, held.session) = (token.get(), session);
    held.chain = held.chain.saturating_add(1);
    let chain = held.chain;
    world.took_over(split, token);
    Ok((session, chain, found.standing))
}

/// One commit on its way to the destination. Arriving twice, or late, it takes effect at most once.
#[derive(Clone)]
struct Request {
    split: SplitId,
    token: FencingToken,
    session: u64,
    chain: u64,
    checkpoint: Checkpoint,
    effects: Effects,
}

impl Request {
    fn arrive(&self, world: &mut Inner) -> Result<(), Refusal> {
        let Self { split, token, checkpoint, effects, .. } = self;
        let staged = world.plan.mechanism == MechanismKind::Staged;
        let lease = world.sink.lease;
        let version = world.sink.ledger_version;
        world.remember();
        let Some(held) = world.sink.splits.get_mut(split) else { return Err(Refusal::Fenced) };
        if !planted(Mistake::NoFence) {
            let is_holder = match staged {
                true => held.chain == self.chain,
                false => lease == token.get() && held.token == token.get() && held.session == self.session,
            };
            if !is_holder {
                return Err(Refusal::Fenced);
            }
            if held.standing.position != checkpoint.after || held.standing.epoch.next() != checkpoint.epoch {
                return Err(Refusal::Diverged);
            }
            if effects.ledger.as_ref().is_some_and(|(_, from)| *from != version)
                && !planted(Mistake::ClaimOutsideCommit)
            {
                return Err(Refusal::Conflict);
            }
        }
        held.standing = checkpoint.standing();
        held.chain = held.chain.saturating_add(1);
        world.take_effect(split, *token, effects.clone(), !staged);
        Ok(())
    }
}

impl Writer for Pen {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            let (split, token) = (self.split.clone(), lease.token);
            let taken =
                self.process.call(Site::Holder, move |world| take_over(world, &split, token)).await??;
            let standing;
            (self.session, self.chain, standing) = taken;
            self.token = token;
            self.open = Effects::default();
            (self.ledger, self.staged) = (None, None);
            Ok(standing)
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            self.open_ledger().await?;
            let Some((ledger, _)) = &mut self.ledger else { return Err(SinkError::stop(Simulated::Absent)) };
            let arrivals: Vec<_> = arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
            let claims =
                ledger.claim(&self.split, &arrivals).map_err(|_| SinkError::stop(Simulated::Absent))?;
            if planted(Mistake::ClaimOutsideCommit) {
                ledger.flush().map_err(|_| SinkError::stop(Simulated::Absent))?;
                let store = ledger.store_mut().clone();
                self.process.call(Site::Write, move |world| world.sink.ledger = store).await?;
            }
            Ok(claims)
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            self.process.call(Site::Write, |_| ()).await?;
            let Some((ledger, _)) = &mut self.ledger else { return Ok(()) };
            let arrivals: Vec<_> = arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
            ledger.withdraw(&self.split, &arrivals).map_err(|_| SinkError::stop(Simulated::Absent))
        })
    }

    fn write<'a>(&'a mut self, batch: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let refuses =
                self.process.call(Site::Write, |world| world.plan.refuses && !world.is_mended).await?;
            let mut rows = Vec::new();
            for (row, record) in records(batch).into_iter().enumerate() {
                if refuses && refused(&record) {
                    rows.push(RefusedRow { row, code: Code(197), reason: "refused".to_owned() });
                } else {
                    self.open.records.push(record);
                }
            }
            Ok(rows)
        })
    }

    fn write_wire<'a>(&'a mut self, batch: &'a WireBatch) -> Fut<'a, Taken, SinkError> {
        Box::pin(async move {
            let refuses =
                self.process.call(Site::Write, |world| world.plan.refuses && !world.is_mended).await?;
            let records: Vec<Record> = batch.bytes.iter().flat_map(|bytes| decoded(bytes)).collect();
            if refuses && records.iter().any(refused) {
                return Ok(Taken::Nothing);
            }
            self.open.records.extend(records);
            Ok(Taken::All)
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            self.process.call(Site::Write, |_| ()).await?;
            self.open.letters.extend_from_slice(letters);
            Ok(())
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], _: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            self.process.call(Site::Write, |_| ()).await?;
            self.open.settled.extend_from_slice(places);
            Ok(())
        })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        self.open = Effects::default();
        (self.ledger, self.staged) = (None, None);
        Box::pin(async { Ok(()) })
    }
}

impl CoCommit for Pen {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let effects = self.close().map_err(CommitError::Refused)?;
            let request = self.request(checkpoint.clone(), effects);
            let answer = self.process.send(Site::Commit, move |world| request.arrive(world)).await;
            outcome(answer)
        })
    }
}

impl Pen {
    fn request(&self, checkpoint: Checkpoint, effects: Effects) -> Request {
        Request {
            split: self.split.clone(),
            token: self.token,
            session: self.session,
            chain: self.chain,
            checkpoint,
            effects,
        }
    }
}

/// What the engine is told of a commit.
fn outcome(answer: Result<Result<(), Refusal>, Lost>) -> Result<(), CommitError> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(CommitError::Refused(refusal.into())),
        Err(lost @ (Lost::Refused | Lost::Disk)) => Err(CommitError::Refused(lost.into())),
        // Whoever sends it cannot tell the one from the other.
        Err(lost @ (Lost::Request | Lost::Answer)) => Err(CommitError::Unknown(lost.into())),
    }
}

impl Staged for Pen {
    fn stage<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, CommitId, SinkError> {
        Box::pin(async move {
            let effects = self.close()?;
            let session = self.session;
            self.process.call(Site::Write, move |world| world.sink.staged.insert(session, effects)).await?;
            self.staged = Some(checkpoint.clone());
            Ok(CommitId { split: self.split.clone(), epoch: checkpoint.epoch })
        })
    }

    fn publish<'a>(&'a mut self, _: &'a CommitId) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let Some(checkpoint) = self.staged.take() else {
                return Err(CommitError::Refused(SinkError::stop(Simulated::Diverged)));
            };
            let effects = self.process.world.now().sink.staged.get(&self.session).cloned();
            let request = self.request(checkpoint, effects.unwrap_or_default());
            let answer = self.process.send(Site::Commit, move |world| request.arrive(world)).await;
            outcome(answer)?;
            self.chain = self.chain.saturating_add(1);
            // Decided; what is left is to give things their names. Whoever comes next does it if this one dies.
            let split = self.split.clone();
            let shown = self.process.call(Site::Holder, move |world| world.reveal(&split)).await;
            shown.map_err(|lost| CommitError::Unknown(lost.into()))
        })
    }
}
