//! Everything that source, ledger, history and destination say of one record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::identify::Identifier;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::{CommitId, Destination, Sink};
use hapax_engine::source::{Numbers, Source};
use hapax_engine::transform::Transform;
use hapax_protocol::guarantee::Replay;
use hapax_protocol::identity::{Identity, Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::position::{SplitId, Standing};
use serde_json::json;

use super::Arguments;
use super::committed::Committed;
use crate::codes;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::output::figures::{bytes, counted};
use crate::trace::scan::{self, Arrival, Going, ScanError, Scanned};
use crate::trace::subject::{Subject, Unnamed};
use crate::trace::{Evidence, Stands, Traced, decide};
use crate::wiring::{Loaded, sink_failure};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is known of one record.
pub struct Trace {
    /// As it was asked for.
    pub given: String,
    /// The identities it may have.
    pub ids: Vec<RecordId>,
    /// Every arrival, in the order of the source.
    pub arrivals: Vec<Traced>,
    /// How many arrivals are not among them.
    pub more: u64,
    /// Whether the destination keeps positions, and with them everything else that it remembers.
    pub keeps_positions: bool,
    /// Whether identities are claimed.
    pub has_ledger: bool,
    /// The places that claimed an identity.
    pub claimants: Vec<Place>,
    /// What was read of the source.
    pub source: Looked,
    /// What was read of the destination; `found` are its rows with the identity.
    pub destination: Looked,
    /// Commits that are decided and not complete.
    pub unfinished: Vec<CommitId>,
}

/// What going through an end gave.
#[derive(Debug, Default)]
pub struct Looked {
    /// How many were found.
    pub found: u64,
    /// Why it was not gone through, if it was not.
    pub unread: Option<String>,
}

impl Trace {
    /// Whether anything knows the record.
    pub fn is_known(&self) -> bool {
        !self.arrivals.is_empty() || !self.claimants.is_empty() || self.destination.found > 0
    }
}

/// One end of the pipeline that records come from, as far as it can be read.
struct Origin {
    source: Arc<dyn Source>,
    transform: Option<Arc<dyn Transform>>,
    schema: SchemaRef,
}

pub async fn gather(loaded: &Loaded, arguments: &Arguments, output: &Output) -> Result<Trace, Failure> {
    let failed = |error| sink_failure(&error);
    let name = &loaded.pipeline.name;
    let identity = &loaded.pipeline.identity.value;
    let sink = loaded.sink().await?;
    let has_ledger = loaded.duplicates(&sink)?.need_ledger();
    let keeps_positions = !matches!(sink, Sink::Append(_));
    let destination = sink.destination();
    let standings: BTreeMap<SplitId, Standing> =
        destination.standings(name).await.map_err(failed)?.into_iter().collect();
    let (origin, mut unread) = match origin(loaded).await {
        Ok(origin) => (Some(origin), None),
        Err(why) => (None, Some(why)),
    };
    let mut subject = subject(arguments, identity, origin.as_ref(), &standings).await?;
    if let Some(origin) = &origin {
        unread = unread.or_else(|| unrepeatable(origin)).or_else(|| refused(arguments.no_source));
    }
    let mut arrivals = scan::Arrivals::default();
    if let Some(origin) = origin.as_ref().filter(|_| unread.is_none()) {
        match read_source(origin, identity, arguments, &mut subject, output).await {
            Ok(found) => arrivals = found,
            Err(error) => unread = Some(error.to_string()),
        }
    }
    let beside = loaded.ledger()?;
    let claimed = claims(beside.as_deref(), destination, name, &subject.ids).await.map_err(failed)?;
    let found = u64::try_from(arrivals.found.len()).unwrap_or(u64::MAX).saturating_add(arrivals.more);
    let source = Looked { found, unread };
    let records = match &origin {
        Some(origin) => origin.source.numbers(),
        None => Numbers::Ascending,
    };
    let committed = Committed { destination, name, standings: &standings, records, keeps_positions };
    let places = places(arrivals.found, &subject, &claimed, &committed);
    let asked: Vec<Place> = places.iter().map(|(place, _)| place.clone()).collect();
    let mut remembered = destination.remembered(name, &asked).await.map_err(failed)?;
    let stands = stand(&committed, &places, &mut remembered).await.map_err(failed)?;
    let traced =
        places.into_iter().zip(remembered).zip(stands).map(|(((place, arrival), remembered), stands)| {
            let id = arrival.as_ref().map_or_else(|| subject.ids.first().copied(), |arrival| arrival.id);
            let claimant = id.and_then(|id| claimed.get(&id).cloned()).or_else(|| only(&claimed));
            decide(Evidence {
                passage: arrival.map(|arrival| arrival.passage),
                stands,
                remembered,
                // A claim beside the destination may be made before its record takes effect.
                claimant: claimant.filter(|_| beside.is_none() || stands != Stands::Unknown),
                has_ledger,
                place,
            })
        });
    let traced: Vec<Traced> = traced.collect();
    let destination_rows = match (&origin, arguments.no_destination) {
        (_, true) => Looked { found: 0, unread: refused(true) },
        (None, false) => {
            Looked { found: 0, unread: Some("without the source its columns are not known".into()) }
        }
        (Some(origin), false) => count_rows(&sink, origin, identity, &subject, output).await,
    };
    let unfinished = destination.unfinished(name).await.map_err(failed)?;
    Ok(Trace {
        given: arguments.id.clone(),
        ids: subject.ids,
        arrivals: traced,
        more: arrivals.more,
        keeps_positions,
        has_ledger,
        claimants: claimed.into_values().collect(),
        source,
        destination: destination_rows,
        unfinished: unfinished.into_iter().map(|Unfinished::Decided(commit)| commit).collect(),
    })
}

/// Who claimed these identities, beside the destination or at it.
async fn claims(
    beside: Option<&dyn Ledger>,
    destination: &dyn Destination,
    name: &PipelineName,
    ids: &[RecordId],
) -> Result<HashMap<RecordId, Place>, SinkError> {
    let mut claimed = HashMap::new();
    for id in ids {
        let claimant = match beside {
            Some(beside) => beside.claimant(name, id).await?,
            None => destination.claimant(name, id).await?,
        };
        claimed.extend(claimant.map(|place| (*id, place)));
    }
    Ok(claimed)
}

/// On which side of the position each record stands. Where a number does not lead to a commit, the commit is looked for.
async fn stand(
    committed: &Committed<'_>,
    places: &[(Place, Option<Arrival>)],
    remembered: &mut [Remembered],
) -> Result<Vec<Stands>, SinkError> {
    let mut stands = Vec::with_capacity(places.len());
    for ((place, arrival), remembered) in places.iter().zip(remembered) {
        let through = arrival.as_ref().and_then(|arrival| arrival.through.as_ref());
        stands.push(committed.stands(place, through));
        if committed.records == Numbers::Ascending {
            remembered.commit = match through {
                Some(through) => committed.commit_of(&place.split, through).await?,
                None => None,
            };
        }
    }
    Ok(stands)
}

/// The only claim there is: where the types of a key had to be guessed, the ledger tells which was right.
fn only(claimed: &HashMap<RecordId, Place>) -> Option<Place> {
    let mut places = claimed.values();
    places.next().filter(|_| claimed.len() == 1).cloned()
}

/// Opens the source; `Err` is why it cannot be, in words.
async fn origin(loaded: &Loaded) -> Result<Origin, String> {
    if loaded.pipeline.source.text("path") == Some("-") {
        return Err("standard input cannot be read again".into());
    }
    let source = loaded.source().await.map_err(|failure| failure.message().to_owned())?;
    let transform = loaded.transform(source.schema()).map_err(|failure| failure.message().to_owned())?;
    let schema = transform.as_ref().map_or_else(|| source.schema(), |transform| transform.schema());
    Ok(Origin { source, transform, schema })
}

fn unrepeatable(origin: &Origin) -> Option<String> {
    let is_repeatable = origin.source.facts().replay == Replay::Exact;
    (!is_repeatable).then(|| "it cannot be read again as it was: records have other places each time".into())
}

fn refused(is_unwanted: bool) -> Option<String> {
    is_unwanted.then(|| "not asked for".into())
}

async fn subject(
    arguments: &Arguments,
    identity: &Identity,
    origin: Option<&Origin>,
    standings: &BTreeMap<SplitId, Standing>,
) -> Result<Subject, Failure> {
    let mut splits: HashSet<SplitId> = standings.keys().cloned().collect();
    if let Some(origin) = origin {
        splits.extend(origin.source.splits().await.unwrap_or_default().into_iter().map(|split| split.id));
    }
    let schema = origin.map(|origin| origin.schema.as_ref());
    let subject = Subject::parse(&arguments.id, identity, schema, |split| splits.contains(split));
    subject.map_err(|Unnamed(why)| {
        let message = format!("`{}` names no record: {why}", arguments.id);
        let help = "Give the values of its key, its UUID, the 32 digits of its identity, or its place as SPLIT:RECORD.";
        Report::new(codes::RECORD_UNNAMED, Exit::BadCommand, message, help).into()
    })
}

/// Finds every arrival of the record. One that is given by its place gets its identity first.
async fn read_source(
    origin: &Origin,
    identity: &Identity,
    arguments: &Arguments,
    subject: &mut Subject,
    output: &Output,
) -> Result<scan::Arrivals, ScanError> {
    let read = origin.source.schema();
    let of_input = origin.transform.as_ref().and_then(|_| {
        let of_input = Subject::parse(&arguments.id, identity, Some(&read), |_| false).ok()?;
        let identifier = Identifier::new(identity, &read).ok()?;
        Some((identifier, of_input.ids.into_iter().collect()))
    });
    let mut going = Going {
        source: &origin.source,
        transform: origin.transform.as_ref(),
        identifier: Identifier::new(identity, &origin.schema)?,
        of_input: of_input.filter(|_| *identity != Identity::Hash),
        ids: subject.ids.iter().copied().collect(),
        place: subject.place.clone(),
    };
    let scanned = Scanned::default();
    if let Some(place) = subject.place.clone().filter(|_| subject.ids.is_empty()) {
        let at_place = going.through(Some(&place.split), &scanned);
        let at_place = shown(at_place, "source", &scanned, output).await?;
        let ids = at_place.found.iter().filter_map(|arrival| arrival.id);
        subject.ids = ids.collect();
        going.ids = subject.ids.iter().copied().collect();
        if let Some((_, ids)) = &mut going.of_input {
            ids.extend(subject.ids.iter().copied());
        }
        if subject.ids.is_empty() {
            return Ok(at_place);
        }
    }
    shown(going.through(None, &scanned), "source", &scanned, output).await
}

/// The places to be traced, each with its arrival if the source was read.
fn places(
    arrivals: Vec<Arrival>,
    subject: &Subject,
    claimed: &HashMap<RecordId, Place>,
    committed: &Committed<'_>,
) -> Vec<(Place, Option<Arrival>)> {
    let mut places: Vec<(Place, Option<Arrival>)> =
        arrivals.into_iter().map(|arrival| (arrival.place.clone(), Some(arrival))).collect();
    // What the source does not show, or no more, the destination may know.
    let others = claimed.values().chain(&subject.place);
    let mut others: Vec<&Place> = others
        .filter(|place| matches!(committed.stands(place, None), Stands::Before | Stands::Unknown))
        .collect();
    others.sort();
    others.dedup();
    for place in others {
        if !places.iter().any(|(known, _)| known == place) {
            places.push((place.clone(), None));
        }
    }
    places
}

async fn count_rows(
    sink: &Sink,
    origin: &Origin,
    identity: &Identity,
    subject: &Subject,
    output: &Output,
) -> Looked {
    let unread = |why: String| Looked { found: 0, unread: Some(why) };
    if *identity == Identity::Position {
        return unread("its rows do not say which record of the source they come from".into());
    }
    if subject.ids.is_empty() {
        return unread("the record has no identity".into());
    }
    let end = match sink.destination().read_back(Arc::clone(&origin.schema)).await {
        Ok(end) => end,
        Err(error) => return unread(error.to_string()),
    };
    let identifier = match Identifier::new(identity, &end.schema()) {
        Ok(identifier) => identifier,
        Err(error) => return unread(error.to_string()),
    };
    let (ids, scanned) = (subject.ids.iter().copied().collect(), Scanned::default());
    match shown(scan::held(&end, &identifier, &ids, &scanned), "destination", &scanned, output).await {
        Ok(found) => Looked { found, unread: None },
        Err(error) => unread(error.to_string()),
    }
}

/// Says every few seconds how far a scan is.
async fn shown<T>(scan: impl Future<Output = T>, end: &str, scanned: &Scanned, output: &Output) -> T {
    tokio::pin!(scan);
    loop {
        tokio::select! {
            done = &mut scan => return done,
            () = tokio::time::sleep(LINE_EVERY) => {}
        }
        let records = scanned.records.load(Ordering::Relaxed);
        let read = scanned.bytes.load(Ordering::Relaxed);
        if output.json() {
            output.line(&json!({"reading": end, "records": records, "bytes": read}));
        } else {
            output.note(&format!("reading the {end}: {}, {}", counted(records, "record"), bytes(read)));
        }
    }
}
