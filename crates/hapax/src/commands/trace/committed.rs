//! What a destination has committed, asked for one record.

use std::collections::BTreeMap;

use hapax_engine::fault::SinkError;
use hapax_engine::history::Committed as Commit;
use hapax_engine::sink::Destination;
use hapax_engine::source::Numbers;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::PipelineName;
use hapax_protocol::position::{Ordinal, Position, SplitId, Standing};

use crate::trace::Stands;

/// The positions of a pipeline, and its commits.
pub struct Committed<'a> {
    pub destination: &'a dyn Destination,
    pub name: &'a PipelineName,
    pub standings: &'a BTreeMap<SplitId, Standing>,
    /// What the numbers of the records say.
    pub records: Numbers,
    pub keeps_positions: bool,
}

impl Committed<'_> {
    /// On which side of the position a record stands: by its number where records are counted, else by the position right
    /// behind it.
    pub fn stands(&self, place: &Place, through: Option<&Position>) -> Stands {
        let standing = self.standings.get(&place.split);
        let before = match (self.records, standing, through) {
            _ if !self.keeps_positions => return Stands::NoPositions,
            (_, None, _) => false,
            (Numbers::Counted, Some(standing), _) => place.ordinal < standing.totals.read,
            (Numbers::Ascending, Some(_), None) => return Stands::Unknown,
            (Numbers::Ascending, Some(standing), Some(through)) => {
                standing.position.as_ref() >= Some(through)
            }
        };
        if before { Stands::Before } else { Stands::Behind }
    }

    /// The commit that brought the position past a record, where its number does not lead to it. Commits are remembered by
    /// how many records came before them, and their positions ascend, so it is found by halving. `None` if it is not
    /// remembered any more.
    pub async fn commit_of(&self, split: &SplitId, through: &Position) -> Result<Option<Commit>, SinkError> {
        let read = self.standings.get(split).map_or(0, |standing| standing.totals.read);
        let (mut from, mut to) = (0, read);
        let mut found: Option<Commit> = None;
        while from < to {
            match self.at(split, from.midpoint(to)).await? {
                Some(commit) if commit.through >= *through => {
                    to = commit.records.start;
                    found = Some(commit);
                }
                Some(commit) => from = commit.records.end,
                // Forgotten: what is remembered comes later.
                None => from = from.midpoint(to).saturating_add(1),
            }
        }
        // The one before must be known to end before the record, or this may not be the first behind it.
        let Some(mut commit) = found else { return Ok(None) };
        if let Some(before) = commit.records.start.checked_sub(1)
            && self.at(split, before).await?.is_none()
        {
            return Ok(None);
        }
        commit.records = 0..0;
        Ok(Some(commit))
    }

    async fn at(&self, split: &SplitId, ordinal: Ordinal) -> Result<Option<Commit>, SinkError> {
        let place = Place { split: split.clone(), ordinal };
        let remembered = self.destination.remembered(self.name, &[place]).await?;
        Ok(remembered.into_iter().next().and_then(|remembered| remembered.commit))
    }
}
