//! What is remembered beside the records: each commit, and what a repair's moved again.

use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::CommitId;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};

use super::state::{Keys, letter, member, ordered, settled};
use crate::client::{Session, bytes, list, text};
use crate::fault::ServerFault;

/// How many commits of a split are remembered. Older ones are forgotten: memory is what Redis has least of.
pub(crate) const COMMITS_MAX: u64 = 10_000;

/// How many entries of a list are read in one step.
const STEP: u64 = 1_000;

const DOING: &str = "reading the history";

/// A commit as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    token: u64,
    holder: String,
    first: u64,
    totals: Totals,
    position: Vec<u8>,
    at: u64,
}

/// Adds to a commit's call that it is remembered.
pub(crate) fn remember(
    call: &mut Cmd,
    lease: &Lease,
    holder: &str,
    stood: &Standing,
    checkpoint: &Checkpoint,
) {
    let totals = checkpoint.totals.since(stood.totals);
    let kept = Kept {
        token: lease.token.get(),
        holder: holder.to_owned(),
        first: stood.totals.read,
        totals,
        position: checkpoint.through.as_bytes().to_vec(),
        at: checkpoint.made_unix_ms,
    };
    let epoch = checkpoint.epoch.get();
    let past = if totals.read == 0 { String::new() } else { format!("{}:{epoch:020}", ordered(kept.first)) };
    // A struct of numbers and text is always JSON.
    call.arg(past).arg(serde_json::to_string(&kept).unwrap_or_default()).arg(COMMITS_MAX);
    call.arg(checkpoint.again.len());
    for again in &checkpoint.again {
        call.arg(format!("{}:{}:{epoch:020}", ordered(again.start), ordered(again.end)));
    }
}

fn committed(split: &SplitId, epoch: u64, kept: &Value) -> Option<Committed> {
    let kept: Kept = serde_json::from_slice(bytes(kept)?).ok()?;
    Some(Committed {
        commit: CommitId { split: split.clone(), epoch: Epoch::new(epoch) },
        token: FencingToken::new(kept.token),
        holder: kept.holder,
        records: kept.first..kept.first.saturating_add(kept.totals.read),
        through: Position::new(kept.position),
        totals: kept.totals,
        made_unix_ms: kept.at,
    })
}

/// Which commits of a split are known by their epochs.
async fn commits(
    session: &mut Session,
    keys: &Keys,
    split: &SplitId,
    epochs: &[u64],
) -> Result<Vec<Committed>, ServerFault> {
    if epochs.is_empty() {
        return Ok(Vec::new());
    }
    let ask =
        session.ask(DOING, redis::cmd("HMGET").arg(keys.of_split("commits", split)).arg(epochs)).await?;
    let kept = epochs.iter().zip(list(&ask));
    Ok(kept.filter_map(|(epoch, kept)| committed(split, *epoch, kept)).collect())
}

/// What is remembered of places, one answer each.
pub(crate) async fn remembered(
    session: &mut Session,
    keys: &Keys,
    places: &[Place],
) -> Result<Vec<Remembered>, ServerFault> {
    let mut answers = Vec::with_capacity(places.len());
    for place in places {
        let split = &place.split;
        let of = member(place);
        let mut ask = redis::pipe();
        ask.atomic();
        ask.cmd("HGET").arg(keys.of("letter")).arg(&of);
        ask.cmd("HGET").arg(keys.of("raw")).arg(&of);
        ask.cmd("HGET").arg(keys.of("settlement")).arg(&of);
        // The last commit that begins at or before the place.
        ask.cmd("ZREVRANGEBYLEX").arg(keys.of_split("past", split));
        ask.arg(format!("({}", ordered(place.ordinal.saturating_add(1)))).arg("-").arg("LIMIT").arg(0).arg(1);
        let found = session.all(DOING, &ask).await?;
        let [kept, raw, ended, past] = found.as_slice() else { return Err(session.misunderstood(DOING)) };
        let settled = settled(place.clone(), ended);
        let past = list(past).first().and_then(text).and_then(|past| last_number(&past));
        let commit = commits(session, keys, split, past.as_slice()).await?.pop();
        let settled_in = match &settled {
            None => None,
            Some(settled) => commits(session, keys, split, &[settled.settlement.epoch.get()]).await?.pop(),
        };
        let again = again(session, keys, place).await?;
        answers.push(Remembered {
            commit: commit.filter(|commit| commit.records.contains(&place.ordinal)),
            letter: letter(place.clone(), kept, raw),
            settled,
            settled_in,
            again: commits(session, keys, split, &again).await?,
        });
    }
    Ok(answers)
}

/// The epochs of the commits that moved a record again.
async fn again(session: &mut Session, keys: &Keys, place: &Place) -> Result<Vec<u64>, ServerFault> {
    let mut epochs = Vec::new();
    let (mut from, last) = ("-".to_owned(), format!("({}", ordered(place.ordinal.saturating_add(1))));
    loop {
        let mut ask = redis::cmd("ZRANGEBYLEX");
        ask.arg(keys.of_split("again", &place.split)).arg(&from).arg(&last).arg("LIMIT").arg(0).arg(STEP);
        let found = session.ask(DOING, &ask).await?;
        for range in list(&found).iter().filter_map(text) {
            let mut numbers = range.split(':').map(str::parse::<u64>);
            let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
            let (first, end, epoch) = (next(), next(), next());
            if (first..end).contains(&place.ordinal) {
                epochs.push(epoch);
            }
            from = format!("({range}");
        }
        if u64::try_from(list(&found).len()).unwrap_or(0) < STEP {
            epochs.sort_unstable();
            epochs.dedup();
            return Ok(epochs);
        }
    }
}

fn last_number(text: &str) -> Option<u64> {
    text.rsplit(':').next()?.parse().ok()
}

/// The holder of the lease, as it applied.
pub(crate) async fn holder(session: &mut Session, keys: &Keys) -> Result<String, ServerFault> {
    let found = session.ask("reading the lease", redis::cmd("HGET").arg(keys.lease()).arg("holder")).await?;
    Ok(text(&found).unwrap_or_default())
}
