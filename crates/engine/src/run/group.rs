//! A run that is one of several: its group gives it splits and asks them back.
//!
//! Nothing of the guarantee rests on the group. Each member takes a split over and commits behind the position it found;
//! a member that goes on with a split that is another's by now finds the position moved, or moves it first. Then it takes
//! the split over again, until the group tells it that it is not its own any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use hapax_protocol::position::SplitId;
use tokio::task::{AbortHandle, JoinSet};

use super::{Job, RunError, Stop, split};
use crate::source::{Group, Shift, Split};

/// A split that this member moves.
struct Moving {
    stop: Stop,
    task: AbortHandle,
}

/// The splits of one member.
struct Member<'a> {
    job: &'a Arc<Job>,
    halt: Stop,
    moving: BTreeMap<SplitId, Moving>,
    running: JoinSet<(SplitId, Result<(), RunError>)>,
    failure: Option<RunError>,
}

/// Moves the splits that the group gives, until the run is asked to stop or one of them fails.
pub(super) async fn member(job: &Arc<Job>, group: &dyn Group) -> Result<(), RunError> {
    let halt = job.run.stop.child();
    let (moving, running) = (BTreeMap::new(), JoinSet::new());
    let mut member = Member { job, halt, moving, running, failure: None };
    let ended = member.all(group).await;
    member.halt.request();
    while member.end_one().await {}
    // Whoever waits for these splits need not wait for the group to miss this member.
    let left = group.leave().await.map_err(RunError::source);
    ended?;
    match member.failure {
        Some(failure) => Err(failure),
        None => left,
    }
}

impl Member<'_> {
    async fn all(&mut self, group: &dyn Group) -> Result<(), RunError> {
        while self.failure.is_none() {
            let shift = tokio::select! {
                biased;
                () = self.halt.wait() => return Ok(()),
                Some(ended) = self.running.join_next() => {
                    self.note(ended);
                    continue;
                }
                shift = group.shift() => shift.map_err(RunError::source)?,
            };
            match shift {
                Shift::Given(splits) => splits.into_iter().for_each(|split| self.begin(split)),
                Shift::AskedBack(splits) => {
                    self.end(&splits).await;
                    group.release(&splits).await.map_err(RunError::source)?;
                }
                Shift::Lost(splits) => {
                    for split in &splits {
                        if let Some(moving) = self.moving.remove(split) {
                            moving.task.abort();
                        }
                    }
                }
            }
            let splits = u64::try_from(self.moving.len()).unwrap_or(u64::MAX);
            self.job.run.progress.expect(splits, 0);
        }
        Ok(())
    }

    fn begin(&mut self, split: Split) {
        if self.moving.contains_key(&split.id) {
            return;
        }
        let (job, stop, id) = (Arc::clone(self.job), self.halt.child(), split.id.clone());
        let halt = stop.clone();
        let task = self.running.spawn(async move {
            let outcome = split::whole(&job, &split, &halt).await;
            (split.id, outcome)
        });
        self.moving.insert(id, Moving { stop, task });
    }

    /// Commits what was read of these splits, and moves nothing more of them.
    async fn end(&mut self, splits: &[SplitId]) {
        for split in splits {
            if let Some(moving) = self.moving.get(split) {
                moving.stop.request();
            }
        }
        while splits.iter().any(|split| self.moving.contains_key(split)) && self.end_one().await {}
    }

    /// Waits for one split to end. `false` if none is left.
    async fn end_one(&mut self) -> bool {
        match self.running.join_next().await {
            Some(ended) => {
                self.note(ended);
                true
            }
            None => false,
        }
    }

    fn note(&mut self, ended: Result<(SplitId, Result<(), RunError>), tokio::task::JoinError>) {
        match ended {
            Ok((split, outcome)) => {
                self.moving.remove(&split);
                if let Err(error) = outcome
                    && (self.failure.is_none() || error.is_fenced())
                {
                    self.failure = Some(error);
                }
            }
            Err(error) if error.is_cancelled() => {}
            Err(_) => self.failure = self.failure.take().or(Some(RunError::Defect)),
        }
    }
}
