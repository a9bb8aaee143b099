//! One ledger of a pipeline in a directory: segments, and what was amended since.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Ordinal, SplitId};

use super::amended::{self, Amended, Holder};
use super::fault::EmbeddedFault;
use crate::directory::{Action, DirectoryStore, Look, StoreError};
use crate::store::{SegmentId, SegmentStore, Segments};
use crate::{Ledger, find};

/// A part in use.
pub(super) struct Part {
    ledger: Ledger<DirectoryStore>,
    amended: Amended,
}

impl Part {
    pub(super) fn open(folder: &Path) -> Result<Self, EmbeddedFault> {
        let amended = Amended::open(folder)?;
        let ledger = Ledger::open(DirectoryStore::open(folder)?)?;
        Ok(Self { ledger, amended })
    }

    /// Makes what the ledger has pending durable.
    fn seal(&mut self) -> Result<(), EmbeddedFault> {
        self.ledger.flush()?;
        self.ledger.committed();
        self.ledger.store_mut().forget_replaced();
        Ok(())
    }

    /// Who holds each of these identities here.
    pub(super) fn holders(&mut self, ids: &[RecordId]) -> Result<Vec<Option<Place>>, EmbeddedFault> {
        let mut holders = self.ledger.claimants(ids)?;
        for (holder, id) in holders.iter_mut().zip(ids) {
            if let Some(amended) = self.amended.get(id) {
                *holder = place(self.ledger.store_mut(), amended)?;
            }
        }
        Ok(holders)
    }

    /// One answer per arrival. It is on the disk when this returns.
    pub(super) fn claim(
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

    /// Takes back what exactly these arrivals hold here.
    pub(super) fn withdraw(
        &mut self,
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<(), EmbeddedFault> {
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

/// What can be asked of a part without changing it.
pub(super) trait Answers {
    /// Who holds an identity.
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault>;
    /// How many identities are held.
    fn identities(&mut self) -> Result<u64, EmbeddedFault>;
}

impl Answers for &mut Part {
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault> {
        claimant(self.ledger.store_mut(), self.amended.get(id), id)
    }

    fn identities(&mut self) -> Result<u64, EmbeddedFault> {
        Ok(self.ledger.stats().identities.saturating_sub(self.amended.free()))
    }
}

/// A part, as one sees it who does not have it.
pub(super) struct Seen {
    look: Look,
    holders: HashMap<RecordId, Holder>,
}

impl Seen {
    pub(super) fn look(folder: &Path) -> Result<Self, StoreError> {
        // Amendments change what segments say, so they are read first: a claim that was made since has no amendment.
        let holders = amended::look(folder)?;
        Ok(Self { look: Look::through(folder, SegmentId(u64::MAX))?, holders })
    }
}

impl Answers for Seen {
    fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault> {
        claimant(&mut self.look, self.holders.get(id).copied(), id)
    }

    fn identities(&mut self) -> Result<u64, EmbeddedFault> {
        let all: u64 = self.look.segments()?.iter().map(|segment| segment.entries).sum();
        let free = self.holders.values().filter(|holder| holder.is_none()).count();
        Ok(all.saturating_sub(u64::try_from(free).unwrap_or(u64::MAX)))
    }
}

fn claimant(
    store: &mut impl Segments<Error = StoreError>,
    amended: Option<Holder>,
    id: &RecordId,
) -> Result<Option<Place>, EmbeddedFault> {
    match amended {
        Some(holder) => place(store, holder),
        None => Ok(find(store, id)?),
    }
}

fn place(
    store: &mut impl Segments<Error = StoreError>,
    holder: Holder,
) -> Result<Option<Place>, EmbeddedFault> {
    let Some((split, ordinal)) = holder else { return Ok(None) };
    Ok(Some(Place { split: store.split(split)?, ordinal }))
}

/// Bytes of a directory's files; none where it is gone.
pub(super) fn bytes(folder: &Path) -> Result<u64, StoreError> {
    let mut bytes: u64 = 0;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(StoreError::io(Action::List, folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::io(Action::List, folder))?;
        // One that went meanwhile was merged into another.
        bytes = bytes.saturating_add(entry.metadata().map_or(0, |data| data.len()));
    }
    Ok(bytes)
}
