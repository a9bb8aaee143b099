//! The embedded ledger beside a destination that cannot keep one: one directory a pipeline.
//!
//! Each call's claims are a segment of their own that is on the disk before they are answered. One process at a time has
//! the directory, held by a lock that ends with the process.

mod amended;
mod fault;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::ledger::{Ledger as Contract, Statistics};
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::{InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Ordinal, SplitId};

use crate::directory::{Action, DirectoryStore, Look, StoreError, disk};
use crate::store::{SegmentId, SegmentStore, Segments};
use crate::{Ledger, find};
use amended::{Amended, Holder};
pub use fault::EmbeddedFault;

/// A ledger in a directory, with one below it for each pipeline.
pub struct Embedded {
    folder: PathBuf,
    in_doubt: InDoubt,
    open: Arc<Mutex<HashMap<PipelineName, InUse>>>,
}

impl Embedded {
    /// A ledger in this directory, which is made when it is needed. Touches nothing.
    pub fn new(folder: impl Into<PathBuf>, in_doubt: InDoubt) -> Self {
        Self { folder: folder.into(), in_doubt, open: Arc::default() }
    }

    /// Asks the ledger of a pipeline, whoever has it; `None` where there is none.
    fn ask<'a, T: Send + 'static>(
        &'a self,
        pipeline: &PipelineName,
        question: impl Fn(&mut dyn Answers) -> Result<T, EmbeddedFault> + Send + 'static,
    ) -> Fut<'a, Option<T>, SinkError> {
        let (folder, pipeline) = (self.folder.join(pipeline.as_str()), pipeline.clone());
        let all = Arc::clone(&self.open);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(open) = all.get_mut(&pipeline) {
                    return question(open).map(Some);
                }
                drop(all);
                match Seen::look(&folder)? {
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
                    std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
                    std::collections::hash_map::Entry::Vacant(free) => free.insert(InUse::take(&folder)?),
                };
                work(open)
            });
            let done = done.await.map_err(|_| SinkError::stop(EmbeddedFault::Interrupted))?;
            done.map_err(SinkError::stop)
        })
    }
}

/// The ledger of one pipeline, in use.
struct InUse {
    ledger: Ledger<DirectoryStore>,
    amended: Amended,
    /// Ends with the process, whatever ends it.
    _lock: File,
}

fn owned(arrivals: &[Arrival]) -> Vec<(RecordId, Ordinal)> {
    arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect()
}

impl InUse {
    fn take(folder: &Path) -> Result<Self, EmbeddedFault> {
        disk::make_directory(folder)?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(StoreError::io(Action::Create, &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::OtherWriter { path }.into()),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::io(Action::Write, &path)(source).into());
            }
        }
        let amended = Amended::open(folder)?;
        let ledger = Ledger::open(DirectoryStore::open(folder)?)?;
        Ok(Self { ledger, amended, _lock: lock })
    }

    /// Makes what the ledger has pending durable.
    fn seal(&mut self) -> Result<(), EmbeddedFault> {
        self.ledger.flush()?;
        self.ledger.committed();
        self.ledger.store_mut().forget_replaced();
        Ok(())
    }

    fn claim(
        &mut self,
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<Vec<Claim<Place>>, EmbeddedFault> {
        let plain: Vec<(RecordId, Ordinal)> =
            arrivals.iter().filter(|(id, _)| self.amended.get(id).is_none()).copied().collect();
        let mut answers = self.ledger.claim(split, &plain)?.into_iter();
        let number = self.ledger.store_mut().number(split)?;
        let mut claimed: HashMap<RecordId, Holder> = HashMap::new();
        let mut claims = Vec::with_capacity(arrivals.len());
        for (id, ordinal) in arrivals {
            let at = (number, *ordinal);
            let Some(holder) = claimed.get(id).copied().or_else(|| self.amended.get(id)) else {
                claims.extend(answers.next());
                continue;
            };
            claims.push(match decide(holder, &at) {
                Claim::New => {
                    claimed.insert(*id, Some(at));
                    Claim::New
                }
                Claim::Replay => Claim::Replay,
                Claim::Twin { of: (split, ordinal) } => {
                    Claim::Twin { of: Place { split: self.ledger.store_mut().split(split)?, ordinal } }
                }
            });
        }
        self.seal()?;
        self.amended.amend(&claimed.into_iter().collect::<Vec<_>>())?;
        Ok(claims)
    }

    fn withdraw(&mut self, split: &SplitId, arrivals: &[(RecordId, Ordinal)]) -> Result<(), EmbeddedFault> {
        let number = self.ledger.store_mut().number(split)?;
        let (mut amendments, mut seen) = (Vec::new(), HashSet::new());
        for (id, ordinal) in arrivals {
            let holder = match self.amended.get(id) {
                Some(holder) => holder.map(|(split, ordinal)| (split == number).then_some(ordinal)),
                None => {
                    let place = find(self.ledger.store_mut(), id)?;
                    place.map(|place| (place.split == *split).then_some(place.ordinal))
                }
            };
            if holder == Some(Some(*ordinal)) && seen.insert(*id) {
                amendments.push((*id, None));
            }
        }
        Ok(self.amended.amend(&amendments)?)
    }
}

/// What can be asked of a ledger without changing it.
trait Answers {
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault>;
    fn statistics(&mut self) -> Result<Statistics, EmbeddedFault>;
}

impl Answers for InUse {
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault> {
        claimant(self.ledger.store_mut(), self.amended.get(id), id)
    }

    fn statistics(&mut self) -> Result<Statistics, EmbeddedFault> {
        let identities = self.ledger.stats().identities.saturating_sub(self.amended.free());
        statistics(self.ledger.store_mut().path(), identities)
    }
}

/// The ledger of a pipeline, as one sees it who does not have it.
struct Seen {
    folder: PathBuf,
    look: Look,
    holders: HashMap<RecordId, Holder>,
}

impl Seen {
    fn look(folder: &Path) -> Result<Option<Self>, EmbeddedFault> {
        if !Amended::is_there(folder) {
            return Ok(None);
        }
        // Amendments change what segments say, so they are read first: a claim that was made since has no amendment.
        let holders = amended::look(folder)?;
        let look = Look::through(folder, SegmentId(u64::MAX))?;
        Ok(Some(Self { folder: folder.to_owned(), look, holders }))
    }
}

impl Answers for Seen {
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault> {
        claimant(&mut self.look, self.holders.get(id).copied(), id)
    }

    fn statistics(&mut self) -> Result<Statistics, EmbeddedFault> {
        let segments = self.look.segments()?;
        let all: u64 = segments.iter().map(|segment| segment.entries).sum();
        let free = self.holders.values().filter(|holder| holder.is_none()).count();
        statistics(&self.folder, all.saturating_sub(u64::try_from(free).unwrap_or(u64::MAX)))
    }
}

fn claimant(
    store: &mut impl Segments<Error = StoreError>,
    amended: Option<Holder>,
    id: &RecordId,
) -> Result<Option<Place>, EmbeddedFault> {
    match amended {
        Some(None) => Ok(None),
        Some(Some((split, ordinal))) => Ok(Some(Place { split: store.split(split)?, ordinal })),
        None => Ok(find(store, id)?),
    }
}

fn statistics(folder: &Path, identities: u64) -> Result<Statistics, EmbeddedFault> {
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(folder).map_err(StoreError::io(Action::List, folder))? {
        let entry = entry.map_err(StoreError::io(Action::List, folder))?;
        // One that went meanwhile was merged into another.
        bytes = bytes.saturating_add(entry.metadata().map_or(0, |data| data.len()));
    }
    Ok(Statistics { identities: Some(identities), bytes: Some(bytes), oldest_unix_ms: None })
}

impl Contract for Embedded {
    fn facts(&self) -> LedgerFacts {
        LedgerFacts { place: LedgerPlace::Outside, retention: Retention::Unbounded, in_doubt: self.in_doubt }
    }

    fn check(&self) -> Fut<'_, Vec<String>, SinkError> {
        let line =
            format!("the ledger in {} is on the disk before a claim is answered", self.folder.display());
        Box::pin(std::future::ready(Ok(vec![line])))
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
        pipeline: &'a PipelineName,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        let (split, arrivals) = (split.clone(), owned(arrivals));
        self.with(pipeline, move |open| open.claim(&split, &arrivals))
    }

    fn withdraw<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, (), SinkError> {
        let (split, arrivals) = (split.clone(), owned(arrivals));
        self.with(pipeline, move |open| open.withdraw(&split, &arrivals))
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
