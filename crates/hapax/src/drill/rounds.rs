//! One round: workers and what is done to them, then the check.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hapax_engine::crash::Point;
use hapax_engine::sink::Sink;
use rustix::process::Signal;

use super::check::{self, Extent, State};
use super::schedule::{Moment, Passing, Random, Round, Step};
use super::worker::{End, Ended, Order, Worker};
use super::{Drill, DrillError};
use crate::exit::Failure;
use crate::output::figures::{counted, duration};
use crate::verify::{Finding, Report as Comparison};
use crate::wiring::sink_failure;

/// Long enough for a worker to have waited for every lock it may wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One destination of one round.
struct Site {
    place: PathBuf,
    sink: Sink,
    /// As it was found last.
    last: State,
}

impl Drill<'_> {
    /// A round to which nothing is done: what the others are held against.
    pub(super) async fn run_calmly(&mut self) -> Result<(), Failure> {
        let calm = Round::draw(self.board.seed, 0);
        let site = self.site(&calm).await?;
        let started = Instant::now();
        let ended = self.start(&site, None, "first")?.end().await?;
        self.usual = started.elapsed();
        if !ended.is_done() {
            return Err(DrillError::CalmRun { what: ended.words() }.into());
        }
        self.board.commits = ended.summary.commits;
        if self.subject.keeps_positions {
            let found = State::of(&site.sink, &self.subject.loaded.pipeline.name).await;
            self.calm = found.map_err(|error| sink_failure(&error))?;
            if self.calm.totals().moved == 0 {
                let what = "no record of the source reaches the destination";
                return Err(DrillError::Nothing { what }.into());
            }
        }
        self.finish(&calm, site).await
    }

    /// One round of the schedule.
    pub(super) async fn round(&mut self, round: &Round) -> Result<(), Failure> {
        let before = self.board.wrong();
        let mut site = self.site(round).await?;
        // Half of the time nobody looks at the destination between two workers.
        let mut looks = Random::new(self.board.seed, round.number.wrapping_mul(31));
        for &step in &round.steps {
            self.board.trying(step);
            let goes_on = self.step(round, &mut site, step).await?;
            if looks.below(2) == 0 {
                self.look(round, &mut site).await;
            }
            if !goes_on {
                break;
            }
        }
        self.finish(round, site).await?;
        self.board.rounds = self.board.rounds.saturating_add(1);
        if self.board.wrong() > before { self.suspect_source().await } else { Ok(()) }
    }

    /// Before a destination is blamed: whether the source is still what it was.
    async fn suspect_source(&self) -> Result<(), Failure> {
        let now = Extent::of(&self.subject.source).await.map_err(DrillError::Source)?;
        if now == self.extent {
            return Ok(());
        }
        let (before, after) = (self.extent.records(), now.records());
        Err(DrillError::SourceChanged { before, after }.into())
    }

    async fn site(&self, round: &Round) -> Result<Site, Failure> {
        let made = self.scratch.place(&format!("round-{}", round.number));
        let place = made.map_err(|source| self.scratch_failed(source))?;
        self.subject.loaded.make_scratch(&place).await?;
        Ok(Site { sink: self.subject.sink(&place).await?, place, last: State::default() })
    }

    fn scratch_failed(&self, source: std::io::Error) -> DrillError {
        DrillError::Scratch { place: self.scratch.root().to_owned(), source }
    }

    fn start(&self, site: &Site, step: Option<Step>, name: &'static str) -> Result<Worker, Failure> {
        let order = Order {
            file: self.file.clone(),
            place: site.place.clone(),
            commit_records: self.board.commit_records,
            crash: step.and_then(Step::crash),
            name,
        };
        Ok(Worker::start(&order)?)
    }

    /// How long after it should have ended a worker is given up.
    fn patience(&self) -> Duration {
        PATIENCE.saturating_add(self.usual.saturating_mul(20))
    }

    fn at(&self, moment: Moment) -> Duration {
        self.usual.saturating_mul(u32::try_from(moment.0).unwrap_or(u32::MAX)) / 1_000
    }

    /// Waits for a worker to end. One that does not makes no progress, and is killed.
    async fn end(&mut self, round: &Round, worker: &mut Worker) -> Result<Option<Ended>, Failure> {
        let ended = worker.end_within(self.patience()).await?;
        if ended.is_none() {
            let what = format!("a worker made no progress in {}", duration(self.patience()));
            self.board.broken(round, what);
            worker.send(Signal::KILL);
        }
        Ok(ended)
    }

    /// Does one thing to one worker. Whether there is still something left to do.
    async fn step(&mut self, round: &Round, site: &mut Site, step: Step) -> Result<bool, Failure> {
        let (mut worker, started) = (self.start(site, Some(step), "first")?, Instant::now());
        let mut sent = false;
        match step {
            Step::Kill(_) | Step::Lose(..) | Step::LoseAndKill(..) => {}
            Step::Stall(passing) => return self.stall(round, site, step, passing, worker).await,
            Step::Twice(moment) => return self.twice(round, site, step, moment, worker).await,
            Step::KillAt(moment) | Step::Terminate(moment) => {
                sent = worker.end_within(self.at(moment)).await?.is_none();
                if sent {
                    worker.send(if step == Step::Terminate(moment) { Signal::TERM } else { Signal::KILL });
                }
            }
        }
        let Some(ended) = self.end(round, &mut worker).await? else { return Ok(false) };
        match (step, &ended.end) {
            (Step::Kill(_) | Step::LoseAndKill(..), _) if ended.is_killed() => self.board.killed(step),
            (Step::KillAt(_), _) if ended.is_killed() && sent => self.board.killed(step),
            (Step::Terminate(_), End::Exit(0)) if sent => self.board.fault("SIGTERM", step),
            // It may come before anybody listens.
            (Step::Terminate(_), End::Signal(15)) if sent => self.board.fault("SIGTERM", step),
            (Step::Lose(lost, _) | Step::LoseAndKill(lost, _), End::Exit(0))
                if ended.summary.in_doubt > 0 =>
            {
                self.board.fault(lost.name(), step);
                return Ok(false);
            }
            (_, End::Exit(0)) => {
                // The calm run may have been a slow one: then every kill would come too late.
                let whole = ended.summary.read == self.board.records;
                self.usual = if whole { self.usual.min(started.elapsed()) } else { self.usual };
                return Ok(false);
            }
            _ => self.board.broken(round, format!("a worker ({step}) ended with {}", ended.words())),
        }
        Ok(true)
    }

    /// Another worker runs while the first one is stalled at a point; then the first one goes on.
    async fn stall(
        &mut self,
        round: &Round,
        site: &mut Site,
        step: Step,
        passing: Passing,
        mut first: Worker,
    ) -> Result<bool, Failure> {
        if first.stopped(self.patience()).await != Some(true) {
            let Some(ended) = self.end(round, &mut first).await? else { return Ok(false) };
            if !ended.is_done() {
                self.board.broken(round, format!("a worker ({step}) ended with {}", ended.words()));
            }
            return Ok(false);
        }
        self.board.fault("stalled", step);
        let mut second = self.start(site, None, "second")?;
        // A holder that stalls inside a transaction keeps everybody out until it goes on.
        let undisturbed = self.usual.saturating_mul(4).saturating_add(Duration::from_secs(1));
        let finished = second.end_within(undisturbed).await?;
        self.look(round, site).await;
        let before = site.last.clone();
        first.send(Signal::CONT);
        let second = match finished.clone() {
            Some(ended) => Some(ended),
            None => self.end(round, &mut second).await?,
        };
        let (Some(first), Some(second)) = (self.end(round, &mut first).await?, second) else {
            return Ok(false);
        };
        self.judge(round, step, &first, &second);
        if finished.is_some_and(|ended| ended.is_done()) && self.subject.is_fenced {
            self.look(round, site).await;
            if let Some(what) = site.last.changed_since(&before) {
                let what = format!("a stalled worker went on after another had finished, and changed {what}");
                self.board.broken(round, what);
            }
            if must_be_refused(passing, self.board.commits) && first.end != FENCED {
                let what = format!("a worker ({step}) was not refused, but ended with {}", first.words());
                self.board.broken(round, what);
            }
        }
        Ok(false)
    }

    /// Two workers at once.
    async fn twice(
        &mut self,
        round: &Round,
        site: &mut Site,
        step: Step,
        moment: Moment,
        mut first: Worker,
    ) -> Result<bool, Failure> {
        if first.end_within(self.at(moment)).await?.is_some() {
            return Ok(false);
        }
        self.board.fault("started twice", step);
        let mut second = self.start(site, None, "second")?;
        let (first, second) = (self.end(round, &mut first).await?, self.end(round, &mut second).await?);
        if let (Some(first), Some(second)) = (first, second) {
            self.judge(round, step, &first, &second);
        }
        Ok(false)
    }

    /// Of two workers each finishes or is refused, and one of them finishes.
    fn judge(&mut self, round: &Round, step: Step, first: &Ended, second: &Ended) {
        let is_well = |ended: &Ended| ended.is_done() || ended.end == FENCED;
        let one_finished = first.is_done() || second.is_done();
        if self.subject.is_fenced && !(is_well(first) && is_well(second) && one_finished) {
            let (first, second) = (first.words(), second.words());
            let what =
                format!("two workers ({step}): the first ended with {first}, the second with {second}");
            self.board.broken(round, what);
        }
    }

    /// Asks the destination where it stands: nothing may have gone back.
    async fn look(&mut self, round: &Round, site: &mut Site) {
        if !self.subject.keeps_positions {
            return;
        }
        match State::of(&site.sink, &self.subject.loaded.pipeline.name).await {
            Err(error) => {
                self.board.broken(round, format!("the destination cannot say where it stands: {error}"))
            }
            Ok(now) => {
                if let Some(what) = now.went_back_from(&site.last) {
                    self.board.broken(round, what);
                }
                site.last = now;
            }
        }
    }

    /// Leaves one worker alone, then another one, which must find nothing to do, and compares.
    async fn finish(&mut self, round: &Round, mut site: Site) -> Result<(), Failure> {
        let mut worker = self.start(&site, None, "first")?;
        match self.end(round, &mut worker).await? {
            Some(ended) if ended.is_done() => {}
            Some(ended) => {
                let what = format!("a worker that was left alone ended with {}", ended.words());
                self.board.broken(round, what);
            }
            None => {}
        }
        if self.subject.keeps_positions {
            self.look(round, &mut site).await;
            self.idle(round, &mut site).await?;
            for what in site.last.differs_from(&self.calm, self.subject.source.as_ref()) {
                self.board.broken(round, what);
            }
        }
        match check::compare(&self.subject, &site.sink, &self.extent, &self.calm).await {
            Ok(comparison) => self.weigh(round, &comparison),
            Err(error) => self.board.broken(round, format!("the destination cannot be compared: {error}")),
        }
        self.subject.loaded.remove_scratch(&site.place).await?;
        Ok(self.scratch.clear(&site.place).map_err(|source| self.scratch_failed(source))?)
    }

    /// A restart with nothing to do: it writes nothing.
    async fn idle(&mut self, round: &Round, site: &mut Site) -> Result<(), Failure> {
        let before = site.last.clone();
        let mut worker = self.start(site, None, "first")?;
        let Some(ended) = self.end(round, &mut worker).await? else { return Ok(()) };
        let summary = ended.summary;
        if !ended.is_done() || summary.read > 0 || summary.commits > 0 {
            let (read, commits) = (counted(summary.read, "record"), counted(summary.commits, "commit"));
            let what = format!(
                "a restart with nothing to do moved {read} in {commits} and ended with {}",
                ended.words()
            );
            self.board.broken(round, what);
        }
        self.look(round, site).await;
        if let Some(what) = site.last.changed_since(&before) {
            self.board.broken(round, format!("a restart with nothing to do changed {what}"));
        }
        Ok(())
    }

    fn weigh(&mut self, round: &Round, comparison: &Comparison) {
        let others = comparison.different.records.saturating_add(comparison.unexpected.records);
        let others = others.saturating_add(comparison.unreadable);
        let (lost, duplicated) = (comparison.missing.records, comparison.duplicated.records);
        let was = self.board.wrong();
        self.board.lost = self.board.lost.saturating_add(lost);
        self.board.duplicated = self.board.duplicated.saturating_add(duplicated);
        self.board.different = self.board.different.saturating_add(others);
        if self.board.wrong() > was {
            let example =
                |finding: &Finding| finding.examples.first().map(|e| format!(" (one is {})", e.identity));
            let words = [
                ("lost", &comparison.missing),
                ("duplicated", &comparison.duplicated),
                ("different", &comparison.different),
                ("unexpected", &comparison.unexpected),
            ]
            .into_iter()
            .filter(|(_, finding)| finding.records > 0)
            .map(|(what, finding)| {
                let records = counted(finding.records, "record");
                format!("{records} {what}{}", example(finding).unwrap_or_default())
            });
            let words: Vec<String> = words.collect();
            self.board.find(round, words.join(", "));
        }
    }
}

const FENCED: End = End::Exit(5);

/// Whether a worker that stalled there has a commit before it, whatever its threads were doing.
fn must_be_refused(passing: Passing, commits: u64) -> bool {
    let is_early = match passing.point {
        Point::Prepared => false,
        Point::LeaseAcquired
        | Point::PositionRead
        | Point::BatchRead
        | Point::Announced
        | Point::Claimed
        | Point::MidWrite
        | Point::StageDone
        | Point::CommitBefore
        | Point::CommitDecided
        | Point::CommitAfter => true,
        Point::AcknowledgeBefore
        | Point::AcknowledgeAfter
        | Point::SplitDone
        | Point::FinishBefore
        | Point::FinishStaged
        | Point::FinishAfter
        | Point::Recovery => false,
    };
    is_early && passing.nth == 1 && commits >= 3
}
