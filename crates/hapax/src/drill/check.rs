//! What a round left, against the source and against a calm run.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::PipelineName;
use hapax_protocol::position::{SplitId, Standing, Totals};

use super::Subject;
use crate::verify::{self, Comparison, Moved, Progress, VerifyError};

/// How many dead letters are looked at.
const LETTERS_MAX: usize = 1_000_000;

const LIMIT: ReadLimit = ReadLimit { records_max: 16 * 1024, bytes_max: 2 << 20 };

/// How far the source reaches, read by the drill itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent(Vec<(SplitId, Moved)>);

impl Extent {
    /// Reads the source from its start to its end.
    pub async fn of(source: &Arc<dyn Source>) -> Result<Self, SourceError> {
        let mut splits = Vec::new();
        for split in source.splits().await? {
            let mut reader = source.open(&split.id, None).await?;
            let mut moved: Option<Moved> = None;
            while let Some(batch) = reader.read(LIMIT).await? {
                let records = batch.records.num_rows().saturating_add(batch.rejected.len());
                let before = moved.map_or(0, |moved| moved.records);
                let records = before.saturating_add(u64::try_from(records).unwrap_or(u64::MAX));
                moved = Some(Moved { through: batch.through, records });
            }
            splits.extend(moved.map(|moved| (split.id, moved)));
        }
        Ok(Self(splits))
    }

    /// Its records, malformed ones included.
    pub fn records(&self) -> u64 {
        self.0.iter().map(|(_, moved)| moved.records).sum()
    }
}

/// What a destination says of itself.
#[derive(Debug, Clone, Default)]
pub struct State {
    standings: BTreeMap<SplitId, Standing>,
    letters: Vec<Letter>,
}

/// A dead letter but for the time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter {
    place: Place,
    code: Code,
    reason: String,
    raw: String,
}

impl State {
    /// Asks a destination. Changes nothing.
    pub async fn of(sink: &Sink, name: &PipelineName) -> Result<Self, SinkError> {
        let destination = sink.destination();
        let letters = destination.dead_letters(name, LETTERS_MAX).await?.into_iter();
        Ok(Self {
            standings: destination.standings(name).await?.into_iter().collect(),
            letters: letters
                .map(|letter| Letter {
                    place: letter.place,
                    code: letter.code,
                    reason: letter.reason,
                    raw: letter.raw,
                })
                .collect(),
        })
    }

    /// The sum over all splits.
    pub fn totals(&self) -> Totals {
        self.standings.values().fold(Totals::default(), |sum, standing| sum.plus(standing.totals))
    }

    /// Which split stands further back than it did, if one does.
    pub fn went_back_from(&self, earlier: &Self) -> Option<String> {
        earlier.standings.iter().find_map(|(split, was)| {
            let Some(is) = self.standings.get(split) else {
                return Some(format!("{split} lost its position"));
            };
            let back = is.epoch < was.epoch || is.position < was.position;
            let words =
                |standing: &Standing| format!("{:?} (epoch {})", standing.position, standing.epoch.get());
            back.then(|| format!("{split} went back from {} to {}", words(was), words(is)))
        })
    }

    /// What changed since, if anything did.
    pub fn changed_since(&self, earlier: &Self) -> Option<&'static str> {
        match (self.standings == earlier.standings, self.letters == earlier.letters) {
            (true, true) => None,
            (false, _) => Some("a position"),
            (true, false) => Some("the dead letters"),
        }
    }

    /// What differs from a calm run: the positions as the source says them, the totals, the dead letters. Epochs
    /// do not count: a kill may cut commits differently.
    pub fn differs_from(&self, calm: &Self, source: &dyn Source) -> Vec<String> {
        let mut found = Vec::new();
        let said = |standing: &Standing| standing.position.as_ref().map(|position| source.describe(position));
        for (split, was) in &calm.standings {
            match self.standings.get(split) {
                None => found.push(format!("{split} has no position")),
                Some(is) if said(is) != said(was) => {
                    found.push(format!("{split} stands at {:?}, in a calm run at {:?}", said(is), said(was)));
                }
                Some(is) if is.totals != was.totals => {
                    found.push(format!("{split} counts {:?}, in a calm run {:?}", is.totals, was.totals));
                }
                Some(_) => {}
            }
        }
        let extra = self.standings.keys().filter(|split| !calm.standings.contains_key(*split));
        found.extend(extra.map(|split| format!("{split} has a position, in a calm run it has none")));
        if self.letters != calm.letters {
            let (is, was) = (self.letters.len(), calm.letters.len());
            found.push(format!("the dead letters are others than in a calm run ({is}, and {was} there)"));
        }
        found
    }
}

/// Compares, by value, the source with what a destination holds.
pub async fn compare(
    subject: &Subject,
    sink: &Sink,
    extent: &Extent,
    calm: &State,
) -> Result<verify::Report, VerifyError> {
    let unread = |error: SinkError| VerifyError::Read(SourceError::stop(Unread(error)));
    let set_aside: HashSet<Place> = calm.letters.iter().map(|letter| letter.place.clone()).collect();
    let destination = sink.destination().read_back(Arc::clone(&subject.schema)).await.map_err(unread)?;
    verify::compare(Comparison {
        source: Arc::clone(&subject.source),
        transform: subject.transform.clone(),
        identity: subject.loaded.pipeline.identity.value.clone(),
        winner: subject.winner,
        deletes: sink.destination().deletes().map(str::to_owned),
        set_aside,
        moved: extent.0.clone(),
        destination,
        has_twins: calm.totals().suppressed > 0,
        again: None,
        progress: Progress::default(),
    })
    .await
}

/// A destination that cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unread(SinkError);

impl hapax_engine::fault::Fault for Unread {
    fn code(&self) -> Code {
        self.0.fault.code()
    }

    fn help(&self) -> String {
        self.0.fault.help()
    }
}
