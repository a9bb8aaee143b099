//! Going through an end for one record, in bounded memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::error::ArrowError;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::fault::SourceError;
use hapax_engine::identify::{Identifier, IdentifierError};
use hapax_engine::source::{Numbers, Source};
use hapax_engine::transform::Transform;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::position::{Ordinal, Position, SplitId};

const LIMIT: ReadLimit = ReadLimit { records_max: 16 * 1024, bytes_max: 2 << 20 };

/// How many arrivals of one record are kept; the others are counted.
pub const ARRIVALS_MAX: usize = 1000;

/// How far a scan is, for whoever looks on.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Records seen.
    pub records: AtomicU64,
    /// Bytes of the source read.
    pub bytes: AtomicU64,
}

/// An end could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The system said no.
    #[error("{0}")]
    Read(SourceError),
    /// The identity does not fit the records.
    #[error(transparent)]
    Identity(#[from] IdentifierError),
    /// Records could not be processed.
    #[error("records could not be processed: {0}")]
    Arrow(#[from] ArrowError),
}

/// One arrival of the record in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where.
    pub place: Place,
    /// Its identity, if it has one.
    pub id: Option<RecordId>,
    /// What becomes of it before the sink, as source and transform are today.
    pub passage: Passage,
    /// The position right behind it, where its number does not say on which side of a position it stands.
    pub through: Option<Position>,
}

/// How far a record comes before the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It reaches the sink.
    Passes,
    /// The transform leaves it out.
    LeftOut,
    /// It cannot be read, transformed or identified.
    Refused,
}

/// All arrivals of the record, in the order of the source.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The first [`ARRIVALS_MAX`].
    pub found: Vec<Arrival>,
    /// How many more there are.
    pub more: u64,
}

/// The source as it is gone through.
pub struct Going<'a> {
    /// Where records come from.
    pub source: &'a Arc<dyn Source>,
    /// What happens on the way.
    pub transform: Option<&'a Arc<dyn Transform>>,
    /// Identifies what reaches the sink.
    pub identifier: Identifier,
    /// Identifies what was read, where its columns have the identity: records that the transform leaves out
    /// have no other.
    pub of_input: Option<(Identifier, HashSet<RecordId>)>,
    /// The identities looked for.
    pub ids: HashSet<RecordId>,
    /// The place looked for.
    pub place: Option<Place>,
}

impl Going<'_> {
    /// Reads every split to its end; with `only`, that one, until its place is found.
    pub async fn through(&self, only: Option<&SplitId>, scanned: &Scanned) -> Result<Arrivals, ScanError> {
        let mut arrivals = Arrivals::default();
        for split in self.source.splits().await.map_err(ScanError::Read)? {
            if only.is_some_and(|only| *only != split.id) {
                continue;
            }
            let mut reader = self.source.open(&split.id, None).await.map_err(ScanError::Read)?;
            while let Some(batch) = reader.read(LIMIT).await.map_err(ScanError::Read)? {
                let records = count(batch.records.num_rows()).saturating_add(count(batch.rejected.len()));
                scanned.records.fetch_add(records, Ordering::Relaxed);
                scanned.bytes.fetch_add(batch.source_bytes, Ordering::Relaxed);
                let known = arrivals.found.len();
                self.look_at(&batch, &mut arrivals)?;
                if self.source.numbers() == Numbers::Ascending {
                    for arrival in arrivals.found.iter_mut().skip(known) {
                        arrival.through = self.behind(&batch, arrival.place.ordinal).await?;
                    }
                }
                if only.is_some() && !arrivals.found.is_empty() {
                    break;
                }
            }
        }
        Ok(arrivals)
    }

    /// The position right behind one record of a batch, found by reading the batch again in parts. `None` if the source
    /// does not give it by itself.
    async fn behind(&self, batch: &Batch, ordinal: Ordinal) -> Result<Option<Position>, ScanError> {
        let opened = self.source.open(&batch.split, batch.after.as_ref()).await;
        let mut reader = opened.map_err(ScanError::Read)?;
        let mut before = numbers(batch).filter(|number| *number < ordinal).count();
        loop {
            let limit = ReadLimit { records_max: before.max(1), ..LIMIT };
            let Some(part) = reader.read(limit).await.map_err(ScanError::Read)? else { return Ok(None) };
            if numbers(&part).any(|number| number >= ordinal) {
                return Ok((numbers(&part).max() == Some(ordinal)).then_some(part.through));
            }
            before = before.saturating_sub(numbers(&part).count());
        }
    }

    fn look_at(&self, batch: &Batch, arrivals: &mut Arrivals) -> Result<(), ScanError> {
        let split = &batch.split;
        let wanted = self.place.as_ref().filter(|place| place.split == *split).map(|place| place.ordinal);
        let mut found: Vec<Arrival> = Vec::new();
        let arrival = |ordinal, id, passage| {
            let place = Place { split: split.clone(), ordinal };
            Arrival { place, id, passage, through: None }
        };
        for rejected in batch.rejected.iter().filter(|rejected| Some(rejected.ordinal) == wanted) {
            found.push(arrival(rejected.ordinal, None, Passage::Refused));
        }
        let (mut records, mut ordinals) = (batch.records.clone(), batch.ordinals.clone());
        if let Some(transform) = self.transform {
            let out = transform.apply(&records);
            let rows = out.rows.unwrap_or_else(|| (0..records.num_rows()).collect());
            let refused: HashSet<usize> = out.refused.iter().map(|refused| refused.row).collect();
            let passed: HashSet<usize> = rows.iter().copied().collect();
            let of_input = match &self.of_input {
                Some((identifier, ids)) => Some((identifier.identify(&records, split, &ordinals)?.ids, ids)),
                None => None,
            };
            for row in (0..records.num_rows()).filter(|row| !passed.contains(row)) {
                let ordinal = ordinals.of(row);
                let id = of_input
                    .as_ref()
                    .and_then(|(ids, wanted)| ids.get(row).copied().filter(|id| wanted.contains(id)));
                if id.is_some() || Some(ordinal) == wanted {
                    let is_refused = refused.contains(&row);
                    let passage = if is_refused { Passage::Refused } else { Passage::LeftOut };
                    found.push(arrival(ordinal, id, passage));
                }
            }
            ordinals = ordinals.pick(rows);
            records = out.records;
        }
        let identified = self.identifier.identify(&records, split, &ordinals)?;
        let unidentified: HashSet<usize> = identified.refused.iter().map(|refused| refused.row).collect();
        for (row, id) in identified.ids.iter().enumerate() {
            let ordinal = ordinals.of(row);
            let has_identity = !unidentified.contains(&row);
            if Some(ordinal) == wanted || (has_identity && self.ids.contains(id)) {
                let passage = if has_identity { Passage::Passes } else { Passage::Refused };
                found.push(arrival(ordinal, has_identity.then_some(*id), passage));
            }
        }
        found.sort_by_key(|arrival| arrival.place.ordinal);
        for arrival in found {
            if arrivals.found.len() < ARRIVALS_MAX {
                arrivals.found.push(arrival);
            } else {
                arrivals.more = arrivals.more.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// How many records with one of these identities an end holds.
pub async fn held(
    end: &Arc<dyn Source>,
    identifier: &Identifier,
    ids: &HashSet<RecordId>,
    scanned: &Scanned,
) -> Result<u64, ScanError> {
    let mut held = 0_u64;
    for split in end.splits().await.map_err(ScanError::Read)? {
        let mut reader = end.open(&split.id, None).await.map_err(ScanError::Read)?;
        while let Some(batch) = reader.read(LIMIT).await.map_err(ScanError::Read)? {
            scanned.records.fetch_add(count(batch.records.num_rows()), Ordering::Relaxed);
            scanned.bytes.fetch_add(batch.source_bytes, Ordering::Relaxed);
            let identified = identifier.identify(&batch.records, &split.id, &Ordinals::From(0))?;
            held = held.saturating_add(count(identified.ids.iter().filter(|id| ids.contains(*id)).count()));
        }
    }
    Ok(held)
}

/// The numbers of all records of a batch, those that could not be read too.
fn numbers(batch: &Batch) -> impl Iterator<Item = Ordinal> {
    let read = (0..batch.records.num_rows()).map(|row| batch.ordinals.of(row));
    read.chain(batch.rejected.iter().map(|rejected| rejected.ordinal))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
