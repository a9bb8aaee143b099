//! The keys that Hapax keeps beside the records, and what stands there.

use hapax_engine::dead_letter::{DeadLetter, Ending, SettledLetter, Settlement};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::Tenure;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Retention;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Epoch, Ordinal, Position, SplitId, Standing, Totals};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::client::{Session, bytes, list, number, text};
use crate::fault::ServerFault;
use crate::ledger::{Spot, held, unix_ms};

/// Gives the lease away.
const ACQUIRE: &str = include_str!("acquire.lua");

/// Takes a split over.
const TAKE: &str = include_str!("take.lua");

/// The names of the keys of one pipeline. They share a hash slot.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// `state` begins them; `tag` is the hash tag, the pipeline's name where there is no other.
    pub(crate) fn new(state: &str, tag: Option<&str>, pipeline: &PipelineName) -> Self {
        Self { prefix: format!("{state}:{{{}}}:{pipeline}", tag.unwrap_or(pipeline.as_str())) }
    }

    pub(crate) fn of(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix)
    }

    /// Of one split.
    pub(crate) fn of_split(&self, what: &str, split: &SplitId) -> String {
        format!("{}:{what}:{split}", self.prefix)
    }

    pub(crate) fn lease(&self) -> String {
        self.of("lease")
    }

    /// What is claimed is a key of its own, so that it can expire.
    pub(crate) fn claim(&self, id: &RecordId) -> Vec<u8> {
        let mut key = self.of("id:").into_bytes();
        key.extend_from_slice(&id.0);
        key
    }
}

/// A place as it stands in lists: they are in the order of places.
pub(crate) fn member(place: &Place) -> String {
    format!("{}\0{:020}", place.split, place.ordinal)
}

fn place(member: &[u8]) -> Option<Place> {
    let (split, ordinal) = std::str::from_utf8(member).ok()?.rsplit_once('\0')?;
    Some(Place { split: SplitId::new(split), ordinal: ordinal.parse().ok()? })
}

/// What became of an application for the lease.
pub(crate) enum Application {
    Granted(Lease),
    OtherDefinition,
}

pub(crate) async fn acquire(
    session: &mut Session,
    keys: &Keys,
    applicant: &Applicant,
    tenure: Tenure,
) -> Result<Application, ServerFault> {
    let doing = "acquiring the lease";
    let mut call = redis::cmd("EVAL");
    call.arg(ACQUIRE).arg(1).arg(keys.lease()).arg(&applicant.holder).arg(&applicant.definition);
    call.arg(match tenure {
        Tenure::Sole => "sole",
        Tenure::Group => "group",
    });
    let answer = session.ask(doing, &call).await?;
    match (list(&answer).first().and_then(text).as_deref(), list(&answer).get(1).and_then(number)) {
        (Some("granted"), Some(token)) => {
            let token = FencingToken::new(token);
            Ok(Application::Granted(Lease { pipeline: applicant.pipeline.clone(), token }))
        }
        (Some("other"), _) => Ok(Application::OtherDefinition),
        _ => Err(session.misunderstood(doing)),
    }
}

/// A split that was taken over.
pub(crate) struct Taken {
    /// Which take-over it was: no earlier one commits any more.
    pub take: u64,
    /// The split's number in the ledger.
    pub number: u32,
    /// Where it stands.
    pub standing: Standing,
}

/// Takes a split over. `Err` inside with the token that holds it now.
pub(crate) async fn take(
    session: &mut Session,
    keys: &Keys,
    lease: &Lease,
    split: &SplitId,
) -> Result<Result<Taken, FencingToken>, ServerFault> {
    let doing = "taking a split over";
    let mut call = redis::cmd("EVAL");
    call.arg(TAKE).arg(5);
    call.arg(keys.lease()).arg(keys.of_split("split", split)).arg(keys.of("splits"));
    call.arg(keys.of("split-numbers")).arg(keys.of("split-names"));
    call.arg(lease.token.get()).arg(split.as_str());
    let answer = session.ask(doing, &call).await?;
    match list(&answer) {
        [kind, by] if text(kind).as_deref() == Some("fenced") => {
            Ok(Err(FencingToken::new(number(by).unwrap_or(0))))
        }
        [_, take, split, stood] => {
            let number_of = number(split).and_then(|number| u32::try_from(number).ok());
            match (number(take), number_of) {
                (Some(take), Some(number)) => Ok(Ok(Taken { take, number, standing: standing(list(stood)) })),
                _ => Err(session.misunderstood(doing)),
            }
        }
        _ => Err(session.misunderstood(doing)),
    }
}

const STANDING: [&str; 7] = ["position", "epoch", "read", "moved", "suppressed", "set_aside", "filtered"];

fn standing(fields: &[Value]) -> Standing {
    let count = |index: usize| fields.get(index).and_then(number).unwrap_or(0);
    Standing {
        position: fields.first().and_then(bytes).map(Position::new),
        epoch: Epoch::new(count(1)),
        totals: Totals {
            read: count(2),
            moved: count(3),
            suppressed: count(4),
            set_aside: count(5),
            filtered: count(6),
        },
    }
}

/// Where each split stands, by name.
pub(crate) async fn standings(
    session: &mut Session,
    keys: &Keys,
) -> Result<Vec<(SplitId, Standing)>, ServerFault> {
    let doing = "reading positions";
    let names = session.ask(doing, redis::cmd("SMEMBERS").arg(keys.of("splits"))).await?;
    let mut splits: Vec<SplitId> = list(&names).iter().filter_map(text).map(SplitId::new).collect();
    splits.sort_unstable();
    let mut ask = redis::pipe();
    for split in &splits {
        ask.cmd("HMGET").arg(keys.of_split("split", split)).arg(&STANDING);
    }
    let found = session.all(doing, &ask).await?;
    Ok(splits.into_iter().zip(found.iter().map(|found| standing(list(found)))).collect())
}

/// A dead letter as it is kept, without its place and its text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    code: u32,
    reason: String,
    at: u64,
}

impl Kept {
    pub(crate) fn of(letter: &DeadLetter) -> Self {
        Self { code: u32::from(letter.code.0), reason: letter.reason.clone(), at: letter.set_aside_unix_ms }
    }

    fn letter(self, place: Place, raw: String) -> DeadLetter {
        let code = Code(self.code.try_into().unwrap_or(0));
        DeadLetter { place, code, reason: self.reason, raw, set_aside_unix_ms: self.at }
    }
}

/// How a letter was settled, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    ending: String,
    epoch: u64,
    at: u64,
}

impl Settled {
    pub(crate) fn of(settlement: &Settlement) -> Self {
        Self {
            ending: settlement.ending.word().to_owned(),
            epoch: settlement.epoch.get(),
            at: settlement.settled_unix_ms,
        }
    }
}

/// The letter of a place.
pub(crate) fn letter(place: Place, kept: &Value, raw: &Value) -> Option<DeadLetter> {
    let kept: Kept = serde_json::from_slice(bytes(kept)?).ok()?;
    Some(kept.letter(place, text(raw).unwrap_or_default()))
}

/// The settled letter of a place.
pub(crate) fn settled(place: Place, kept: &Value) -> Option<SettledLetter> {
    let kept = text(kept)?;
    let (settled, letter) = kept.split_once('\n')?;
    let settled: Settled = serde_json::from_str(settled).ok()?;
    let letter: Kept = serde_json::from_str(letter).ok()?;
    Some(SettledLetter {
        letter: letter.letter(place, String::new()),
        settlement: Settlement {
            ending: Ending::of_word(&settled.ending),
            epoch: Epoch::new(settled.epoch),
            settled_unix_ms: settled.at,
        },
    })
}

/// The first places of a list.
async fn places(
    session: &mut Session,
    doing: &'static str,
    key: String,
    letters_max: usize,
) -> Result<Vec<Place>, ServerFault> {
    let Some(last) = letters_max.checked_sub(1) else { return Ok(Vec::new()) };
    let last = i64::try_from(last).unwrap_or(-1);
    let members = session.ask(doing, redis::cmd("ZRANGE").arg(key).arg(0).arg(last)).await?;
    Ok(list(&members).iter().filter_map(|found| place(bytes(found)?)).collect())
}

/// The dead letters of a pipeline, by place.
pub(crate) async fn dead_letters(
    session: &mut Session,
    keys: &Keys,
    letters_max: usize,
) -> Result<Vec<DeadLetter>, ServerFault> {
    let doing = "reading dead letters";
    let places = places(session, doing, keys.of("letters"), letters_max).await?;
    let mut ask = redis::pipe();
    for place in &places {
        ask.cmd("HGET").arg(keys.of("letter")).arg(member(place));
        ask.cmd("HGET").arg(keys.of("raw")).arg(member(place));
    }
    let found = session.all(doing, &ask).await?;
    let letters = places.into_iter().zip(found.chunks_exact(2)).filter_map(|(place, found)| match found {
        [kept, raw] => letter(place, kept, raw),
        _ => None,
    });
    Ok(letters.collect())
}

/// The settled letters of a pipeline, by place.
pub(crate) async fn settled_letters(
    session: &mut Session,
    keys: &Keys,
    letters_max: usize,
) -> Result<Vec<SettledLetter>, ServerFault> {
    let doing = "reading settled letters";
    let places = places(session, doing, keys.of("settled"), letters_max).await?;
    let mut ask = redis::pipe();
    for place in &places {
        ask.cmd("HGET").arg(keys.of("settlement")).arg(member(place));
    }
    let found = session.all(doing, &ask).await?;
    Ok(places.into_iter().zip(&found).filter_map(|(place, kept)| settled(place, kept)).collect())
}

/// The place that claimed an identity.
pub(crate) async fn claimant(
    session: &mut Session,
    keys: &Keys,
    id: &RecordId,
) -> Result<Option<Place>, ServerFault> {
    let doing = "reading the ledger";
    let found = session.ask(doing, redis::cmd("GET").arg(keys.claim(id))).await?;
    let Some(spot) = bytes(&found).and_then(Spot::decode) else { return Ok(None) };
    let ask = session.ask(doing, redis::cmd("HGET").arg(keys.of("split-names")).arg(spot.split)).await?;
    let name = text(&ask).ok_or_else(|| session.misunderstood(doing))?;
    Ok(Some(Place { split: SplitId::new(name), ordinal: spot.ordinal }))
}

/// What the ledger holds; `None` if nothing was claimed.
pub(crate) async fn ledger_holds(
    session: &mut Session,
    keys: &Keys,
    retention: Retention,
) -> Result<Option<Statistics>, ServerFault> {
    let doing = "reading the ledger";
    let mut ask = redis::pipe();
    ask.cmd("HMGET").arg(keys.of("ledger")).arg(&["identities", "oldest", "sample"]);
    ask.cmd("TIME");
    let answers = session.all(doing, &ask).await?;
    let kept = answers.first().map(list).unwrap_or_default();
    let Some(identities) = kept.first().and_then(number) else { return Ok(None) };
    let sample = kept.get(2).and_then(bytes).unwrap_or_default();
    let each = session.ask(doing, redis::cmd("MEMORY").arg("USAGE").arg(sample)).await;
    let now = answers.get(1).and_then(unix_ms);
    let oldest = kept.get(1).and_then(number);
    Ok(Some(held(retention, identities, each.ok().as_ref().and_then(number), oldest, now)))
}

/// A number of a record, as it stands in ordered lists.
pub(crate) fn ordered(ordinal: Ordinal) -> String {
    format!("{ordinal:020}")
}
