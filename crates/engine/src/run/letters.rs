//! Dead letters: moved after all, or given up.

use std::collections::{BTreeMap, HashSet};

use hapax_protocol::identity::Place;
use hapax_protocol::position::{SplitId, Totals};

use super::effect::Onto;
use super::kept::Fate;
use super::prepare::{Prepared, count};
use super::writer::SplitWriter;
use super::{Job, OnError, Run, RunError, effect, in_place};
use crate::batch::{Batch, Ordinals, Rejected};
use crate::dead_letter::{DeadLetter, Ending, Settlement};
use crate::identify::Identifier;
use crate::sink::Sink;

/// What became of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letters {
    /// Moved, and settled in the same commit.
    pub moved: Vec<Place>,
    /// Settled without being moved: dropped, or left out by the transform.
    pub dropped: Vec<Place>,
    /// Still set aside, and why.
    pub remaining: Vec<(Place, String)>,
}

/// Gives dead letters up. They are settled in one commit per split.
pub async fn drop_letters(run: Run, letters: &[DeadLetter]) -> Result<Letters, RunError> {
    settle(run, letters, false).await
}

/// Moves dead letters whose cause was mended: each takes effect and is settled in the same commit, under
/// its own identity and place, so that a letter is never moved twice and never beside its twin. Where the
/// destination replaces, the last of a key moves, and only where no record of that key is.
pub async fn replay_letters(run: Run, letters: &[DeadLetter]) -> Result<Letters, RunError> {
    settle(run, letters, true).await
}

async fn settle(run: Run, letters: &[DeadLetter], replay: bool) -> Result<Letters, RunError> {
    let identifier = Identifier::new(&run.identity, &run.schema()).map_err(RunError::Identity)?;
    let destination = run.sink.destination();
    if replay {
        run.demand_ledger().await?;
        if matches!(&run.sink, Sink::Kept(kept) if kept.target.repeat().is_announced()) {
            return Err(RunError::NoReplay);
        }
        destination.prepare(&run.shape()).await.map_err(RunError::sink)?;
    }
    let lease = destination.acquire(&run.applicant).await.map_err(RunError::sink)?;
    let job = Job { run, identifier, lease, wire: false, shared: false };
    // Whoever had the lease until now may have settled some of them since they were listed.
    let listed = job.run.sink.destination().dead_letters(&job.lease.pipeline, usize::MAX).await;
    let still: HashSet<Place> =
        listed.map_err(RunError::sink)?.into_iter().map(|letter| letter.place).collect();
    let mut by_split: BTreeMap<&SplitId, Vec<&DeadLetter>> = BTreeMap::new();
    for letter in letters.iter().filter(|letter| still.contains(&letter.place)) {
        by_split.entry(&letter.place.split).or_default().push(letter);
    }
    let mut by_split: Vec<(&SplitId, Vec<&DeadLetter>)> = by_split.into_iter().collect();
    // Of several letters of a key the last is the one that stays.
    if job.run.sink.destination().traits().replaces {
        by_split.reverse();
        by_split.iter_mut().for_each(|(_, letters)| letters.reverse());
    }
    let mut done = Letters::default();
    for (split, letters) in by_split {
        settle_split(&job, split, &letters, replay, &mut done).await?;
    }
    done.moved.sort_unstable();
    done.dropped.sort_unstable();
    done.remaining.sort_unstable();
    // What becomes visible as a whole must be whole: the next run finishes what this source still has. Also where
    // nothing was left to move: an earlier replay may have died between its commit and this.
    if replay && in_place::all_moved(&job).await? {
        job.run.sink.destination().finish(&job.lease).await.map_err(RunError::sink)?;
    }
    Ok(done)
}

async fn settle_split(
    job: &Job,
    split: &SplitId,
    letters: &[&DeadLetter],
    replay: bool,
    done: &mut Letters,
) -> Result<(), RunError> {
    let failed = |error| RunError::sink_in(Some(split), error);
    let (mut writer, mut standing) = job.take_over(split).await.map_err(failed)?;
    // A letter is only ever written together with a position: a split without one has none.
    if standing.position.is_none() {
        return Ok(());
    }
    let (epoch, made_unix_ms) = (standing.epoch.next(), job.run.clock.unix_ms());
    let (mut moved, mut left_out, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    for letter in letters {
        if !replay {
            dropped.push(letter.place.clone());
            continue;
        }
        match move_one(job, &mut writer, letter).await? {
            Outcome::Moved => moved.push(letter.place.clone()),
            Outcome::LeftOut => left_out.push(letter.place.clone()),
            Outcome::Remains(reason) => done.remaining.push((letter.place.clone(), reason)),
        }
    }
    let settled = moved.len().saturating_add(left_out.len()).saturating_add(dropped.len());
    if settled == 0 {
        return writer.effects().abort().await.map_err(failed);
    }
    for (ending, places) in
        [(Ending::Moved, &moved), (Ending::LeftOut, &left_out), (Ending::Dropped, &dropped)]
    {
        let settlement = Settlement { ending, epoch, settled_unix_ms: made_unix_ms };
        writer.effects().settle(places, &settlement).await.map_err(failed)?;
    }
    let totals = Totals { moved: count(moved.len()), filtered: count(left_out.len()), ..Totals::default() };
    let mut sums = standing.totals.plus(totals);
    sums.set_aside = sums.set_aside.saturating_sub(count(settled));
    in_place::commit(job, split, &mut writer, &mut standing, sums, made_unix_ms).await?;
    done.moved.append(&mut moved);
    done.dropped.append(&mut left_out);
    done.dropped.append(&mut dropped);
    Ok(())
}

enum Outcome {
    Moved,
    LeftOut,
    Remains(String),
}

async fn move_one(job: &Job, writer: &mut SplitWriter, letter: &DeadLetter) -> Result<Outcome, RunError> {
    let as_json = match job.run.source.rejects_with(letter.code) {
        true => None,
        false => Rejected::read_record(job.run.source.schema(), &letter.raw),
    };
    let records = match as_json {
        Some(records) => records,
        None => match job.run.source.reread(letter).await {
            Ok(records) => records,
            Err(error) => return Ok(Outcome::Remains(error.to_string())),
        },
    };
    let batch = Batch {
        split: letter.place.split.clone(),
        after: None,
        through: hapax_protocol::position::Position::new([].as_slice()),
        records,
        ordinals: Ordinals::From(letter.place.ordinal),
        rejected: Vec::new(),
        source_bytes: 0,
    };
    let prepared = Prepared::new(job, batch)?;
    if let Some(refused) = prepared.refused.first() {
        return Ok(Outcome::Remains(refused.reason.clone()));
    }
    if prepared.records.num_rows() == 0 {
        return Ok(Outcome::LeftOut);
    }
    let split = &letter.place.split;
    let onto = if job.run.sink.destination().traits().replaces { Onto::Nothing } else { Onto::Anything };
    let effect = effect::write(writer, split, &prepared, OnError::SetAside, onto, Fate::Send).await?;
    if let Some((_, of)) = effect.twins.first() {
        return Ok(Outcome::Remains(format!("twin: its identity was claimed by {of}")));
    }
    // One that is refused again holds no claim: a twin of it on the list has its chance.
    let refused = effect.refused.into_iter().next();
    Ok(refused.map_or(Outcome::Moved, |refused| Outcome::Remains(refused.reason)))
}
