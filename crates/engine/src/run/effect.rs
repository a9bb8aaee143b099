//! One batch into the open commit: identities claimed, records written, claims of refused records taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Ordinal, SplitId};

use super::kept::Fate;
use super::prepare::{Prepared, count};
use super::writer::SplitWriter;
use super::{OnError, RunError};
use crate::batch::Rejected;
use crate::codes;
use crate::crash::{self, Point};
use crate::identify::digest;
use crate::sink::{Arrival, Sent};
use crate::transform::RefusedRow;

/// What became of a batch inside the open commit.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// How many of its records were written.
    pub moved: u64,
    /// The rows that are twins, and of which place.
    pub twins: Vec<(usize, Place)>,
    /// The rows that the sink refused. They hold no claim.
    pub refused: Vec<RefusedRow>,
    /// The rows that may have taken effect, and are not sent again. They hold their claims.
    pub in_doubt: Vec<usize>,
}

/// Where records may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// Wherever the destination puts them.
    Anything,
    /// Only where nothing is.
    Nothing,
}

/// Twins of earlier rows of the same batch: where such a row is refused, the first of them is tried instead.
#[derive(Debug, Default)]
struct Waiting(BTreeMap<Ordinal, VecDeque<usize>>);

impl Waiting {
    /// The row that follows a refused one; the others wait for it now.
    fn after(&mut self, refused: Ordinal, batch: &Prepared) -> Option<usize> {
        let mut rows = self.0.remove(&refused)?;
        let next = rows.pop_front()?;
        if !rows.is_empty() {
            self.0.insert(batch.ordinals.of(next), rows);
        }
        Some(next)
    }
}

/// Claims and writes the records of a batch. Each round tries one record of an identity, so there are no
/// more rounds than records; the first is nearly always the last. Where the run is to stop at a refused
/// record, it is the last in any case.
pub(super) async fn write(
    writer: &mut SplitWriter,
    split: &SplitId,
    batch: &Prepared,
    on_error: OnError,
    onto: Onto,
    fate: Fate,
) -> Result<Effect, RunError> {
    let mut effect = Effect::default();
    let mut waiting = Waiting::default();
    let mut rows: Vec<usize> = (0..batch.records.num_rows()).collect();
    while !rows.is_empty() {
        let passing = claim(writer, split, batch, rows, &mut effect, &mut waiting).await?;
        crash::point(Point::Claimed);
        if passing.is_empty() {
            break;
        }
        let Sent { refused, unknown } = match fate {
            Fate::Send => writer.write(batch, &passing, onto).await?,
            Fate::Hold => Sent { refused: Vec::new(), unknown: not_found(writer, batch, &passing).await? },
            Fate::Look => {
                let missing = not_found(writer, batch, &passing).await?;
                let rows: Vec<usize> = missing.iter().filter_map(|at| passing.get(*at).copied()).collect();
                let sent = writer.write(batch, &rows, onto).await?;
                let place = |at: usize| missing.get(at).copied();
                let refused = sent.refused.into_iter();
                Sent {
                    refused: refused
                        .filter_map(|one| Some(RefusedRow { row: place(one.row)?, ..one }))
                        .collect(),
                    unknown: sent.unknown.into_iter().filter_map(place).collect(),
                }
            }
        };
        effect.moved = effect.moved.saturating_add(count(passing.len()));
        effect.moved = effect.moved.saturating_sub(count(refused.len().saturating_add(unknown.len())));
        effect.in_doubt.extend(unknown.into_iter().filter_map(|row| passing.get(row)));
        let of_batch = refused
            .into_iter()
            .filter_map(|refused| Some(RefusedRow { row: *passing.get(refused.row)?, ..refused }));
        let refused: Vec<RefusedRow> = of_batch.collect();
        rows = withdraw(writer, split, batch, &refused, &mut waiting).await?;
        effect.refused.extend(refused);
        if on_error == OnError::Stop && !effect.refused.is_empty() {
            break;
        }
    }
    let left = waiting.0.into_iter().flat_map(|(ordinal, rows)| {
        rows.into_iter().map(move |row| (row, Place { split: split.clone(), ordinal }))
    });
    effect.twins.extend(left);
    effect.twins.sort_unstable_by_key(|(row, _)| *row);
    Ok(effect)
}

/// The numbers, among these rows, of those of which nobody knows whether an earlier run sent them.
async fn not_found(
    writer: &mut SplitWriter,
    batch: &Prepared,
    rows: &[usize],
) -> Result<Vec<usize>, RunError> {
    if planted(Mistake::FoundUnasked) {
        return Ok(Vec::new());
    }
    let found = writer.look(batch, rows).await?;
    if found.len() != rows.len() {
        return Err(RunError::Defect);
    }
    Ok(found.iter().enumerate().filter(|(_, found)| !**found).map(|(at, _)| at).collect())
}

/// Claims, for refused records that may come back at another place, that they are set aside. Returns the numbers of
/// those that were before: setting a record aside is an effect too. One that nothing identifies is none of them: two
/// letters of it are harmless, and two records in one letter are not. Nor is a twin: another record has its identity.
pub(super) async fn refuse_once(
    writer: &mut SplitWriter,
    split: &SplitId,
    refused: &[Rejected],
) -> Result<BTreeSet<Ordinal>, RunError> {
    let own = refused.iter().filter(|refused| refused.code != codes::TWIN);
    let known = |refused: &Rejected| Some(Arrival { id: aside(refused.id?), ordinal: refused.ordinal });
    let arrivals: Vec<Arrival> = own.filter_map(known).collect();
    if arrivals.is_empty() {
        return Ok(BTreeSet::new());
    }
    let claims = writer.claim(&arrivals).await.map_err(|error| RunError::sink_in(Some(split), error))?;
    if claims.len() != arrivals.len() {
        return Err(RunError::Defect);
    }
    let before = arrivals.iter().zip(claims).filter(|(_, claim)| !claim.passes());
    Ok(before.map(|(arrival, _)| arrival.ordinal).collect())
}

/// The records that took effect, as they would be known if they had been set aside.
pub(super) fn as_letters(batch: &Prepared, effect: &Effect) -> Vec<Arrival> {
    let left_out: BTreeSet<usize> = (effect.twins.iter().map(|(row, _)| *row))
        .chain(effect.refused.iter().map(|refused| refused.row))
        .chain(effect.in_doubt.iter().copied())
        .collect();
    let moved = (0..batch.records.num_rows()).filter(|row| !left_out.contains(row));
    let known = arrivals(batch, moved).unwrap_or_default().into_iter();
    known.map(|arrival| Arrival { id: aside(arrival.id), ..arrival }).collect()
}

/// The letters of records that took effect: each was set aside, and was not refused any more when it came back.
pub(super) async fn letters_of(
    writer: &mut SplitWriter,
    split: &SplitId,
    moved: Vec<Arrival>,
) -> Result<Vec<Place>, RunError> {
    let failed = |error| RunError::sink_in(Some(split), error);
    let claims = writer.claim(&moved).await.map_err(failed)?;
    if claims.len() != moved.len() {
        return Err(RunError::Defect);
    }
    let (mut letters, mut free) = (Vec::new(), Vec::new());
    for (arrival, claim) in moved.into_iter().zip(claims) {
        match claim {
            Claim::New => free.push(arrival),
            Claim::Replay => letters.push(Place { split: split.clone(), ordinal: arrival.ordinal }),
            Claim::Twin { of } => letters.push(of),
        }
    }
    if !free.is_empty() {
        writer.withdraw(&free).await.map_err(failed)?;
    }
    Ok(letters)
}

/// The identity of a record that is set aside. It is never the identity of one that moves.
fn aside(id: RecordId) -> RecordId {
    digest(&[b"set aside\0".as_slice(), &id.0].concat())
}

/// Claims the identities of these rows. Returns those that pass.
async fn claim(
    writer: &mut SplitWriter,
    split: &SplitId,
    batch: &Prepared,
    rows: Vec<usize>,
    effect: &mut Effect,
    waiting: &mut Waiting,
) -> Result<Vec<usize>, RunError> {
    let Some(arrivals) = arrivals(batch, rows.iter().copied()) else { return Ok(rows) };
    let claims = writer.claim(&arrivals).await.map_err(|error| RunError::sink_in(Some(split), error))?;
    if claims.len() != rows.len() {
        return Err(RunError::Defect);
    }
    let mut passing = Vec::with_capacity(rows.len());
    for (row, claim) in rows.into_iter().zip(claims) {
        match claim {
            Claim::New | Claim::Replay => passing.push(row),
            // Whether that row is of this batch or came before it: only one that is refused is asked for.
            Claim::Twin { of } if of.split == *split => {
                waiting.0.entry(of.ordinal).or_default().push_back(row);
            }
            Claim::Twin { of } => effect.twins.push((row, of)),
        }
    }
    Ok(passing)
}

/// Takes the claims of refused rows back. Returns the twins that may be tried now.
async fn withdraw(
    writer: &mut SplitWriter,
    split: &SplitId,
    batch: &Prepared,
    refused: &[RefusedRow],
    waiting: &mut Waiting,
) -> Result<Vec<usize>, RunError> {
    let Some(arrivals) = arrivals(batch, refused.iter().map(|refused| refused.row)) else {
        return Ok(Vec::new());
    };
    if arrivals.is_empty() {
        return Ok(Vec::new());
    }
    writer.withdraw(&arrivals).await.map_err(|error| RunError::sink_in(Some(split), error))?;
    let next = arrivals.iter().filter_map(|arrival| waiting.after(arrival.ordinal, batch));
    let mut next: Vec<usize> = next.collect();
    next.sort_unstable();
    Ok(next)
}

/// The rows as the ledger knows them; `None` where twins are not looked for.
fn arrivals(batch: &Prepared, rows: impl Iterator<Item = usize>) -> Option<Vec<Arrival>> {
    let ids = batch.ids.as_ref()?;
    Some(
        rows.filter_map(|row| Some(Arrival { id: *ids.get(row)?, ordinal: batch.ordinals.of(row) }))
            .collect(),
    )
}

/// A row that is set aside because its identity is another record's.
pub(super) fn twin_of(row: usize, of: &Place) -> RefusedRow {
    let reason = format!("twin: its identity was claimed by {of}");
    RefusedRow { row, code: codes::TWIN, reason }
}

/// A row that may have taken effect already.
pub(super) fn in_doubt(row: usize) -> RefusedRow {
    let reason = "in doubt: it may have been sent, and whether it took effect is not known".to_owned();
    RefusedRow { row, code: codes::IN_DOUBT, reason }
}
