//! `hapax drill`, and the workers it starts.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{run, verify};
use crate::codes;
use crate::drill::board::Board;
use crate::drill::scratch::is_place;
use crate::drill::{self, Drill, DrillError, Effort, Subject, worker};
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::output::figures::{count, counted};
use crate::registry;
use crate::wiring::{Loaded, Opened};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
    /// Go on until this many workers were killed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// What the schedule is drawn from; another one each time unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End after this many minutes, with what was counted by then
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Hold this round alone, to repeat what was found in it
    #[arg(long, value_name = "N", requires = "seed")]
    round: Option<u64>,
    /// Make the scratch destination here instead of beside the real one
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// The pipeline file
    file: String,
    /// The place of the scratch destination
    #[arg(long)]
    scratch: PathBuf,
    /// How many records are committed at most at once
    #[arg(long)]
    commit_records: u64,
    /// The process that dies first, or this one with it
    #[arg(long)]
    parent: u32,
}

/// Kills the pipeline on a scratch destination, and counts. The real destination is not changed.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let started = Instant::now();
    let loaded = Loaded::from_path(&arguments.file, output)?;
    drill::demand_rereadable(&loaded)?;
    let ends = (registry::kind(&loaded.pipeline.source), registry::kind(&loaded.pipeline.sink));
    let opened = loaded.clone().open().await?;
    opened.demand_guarantee()?;
    demand_destination(&opened).await?;
    let seed = arguments.seed.unwrap_or_else(some_seed);
    let mut board = Board::new(format!("{} → {}", ends.0, ends.1), seed, opened.verdict.level);
    let winner = verify::winner(&opened);
    let subject = Subject::of(opened, winner).await?;
    let scratch = drill::make_scratch(&loaded, arguments.scratch.as_deref()).await?;
    let effort = Effort {
        kills: arguments.kills,
        until: arguments.minutes.map(|minutes| started + Duration::from_secs(minutes.saturating_mul(60))),
        round: arguments.round,
    };
    let held = {
        let shown = Shown::new(output, arguments.kills);
        let holding = async {
            let mut drill = Drill::prepare(subject, &arguments.file, &scratch, &mut board).await?;
            drill.hold(effort, |board| shown.see(board)).await
        };
        tokio::select! {
            held = holding => held.map(|()| None),
            interrupted = interrupted() => interrupted.map(Some),
        }
    };
    let removed = loaded.remove_scratches(scratch.root()).await;
    // Before anything is printed: whoever reads it may go on with the directory at once.
    drop(scratch);
    let held = held?;
    removed?;
    if let Some(signal) = held {
        return Err(stopped(signal, &board).into());
    }
    if board.rounds == 0 && board.is_kept() {
        return Err(DrillError::Nothing { what: "the time was up before the first round ended" }.into());
    }
    if output.json() {
        let mut document = board.json(&arguments.file, started.elapsed());
        if let Some(document) = document.as_object_mut() {
            document.insert("pipeline".into(), json!(loaded.pipeline.name));
        }
        output.document(&document);
    } else {
        output.data(&board.words(&arguments.file, started.elapsed()));
    }
    Ok(if board.is_kept() { Exit::Done } else { Exit::Difference })
}

/// Refuses a pipeline that works on a scratch destination alone: a run would fail at the real one. A file that is
/// there is not opened for that: opening a database leaves traces beside it.
async fn demand_destination(opened: &Opened) -> Result<(), Failure> {
    if registry::is_file(&opened.loaded.pipeline.sink) {
        return Ok(());
    }
    let looked = opened.sink.destination().check(&opened.shape()).await;
    looked.map(drop).map_err(|error| DrillError::Destination(error).into())
}

/// Does what `hapax run` does, on a scratch destination.
pub async fn work(arguments: &WorkerArguments, output: &Output) -> Result<Exit, Failure> {
    let place = &arguments.scratch;
    if !is_place(place) {
        let message = format!("{} is no scratch destination that a drill made", place.display());
        let help = "Workers are started by `hapax drill FILE`; there is no need to start one by hand.";
        return Err(Report::new(codes::NOT_SCRATCH, Exit::BadCommand, message, help).into());
    }
    worker::die_with(arguments.parent).map_err(|error| {
        let message = format!("the process cannot be bound to the drill that started it: {error}");
        Report::new(codes::WORKER, Exit::Failed, message, "Drill again.")
    })?;
    let mut loaded = Loaded::from_path(&arguments.file, output)?.on_scratch(place)?;
    let commit = &mut loaded.pipeline.commit;
    commit.records = Some(commit.records.unwrap_or(u64::MAX).min(arguments.commit_records));
    run::go(loaded, false, output).await
}

/// A seed that is short enough to be typed again.
fn some_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) % 1_000_000
}

/// Returns once the process is asked to end.
async fn interrupted() -> Result<&'static str, Failure> {
    let refused = |error: std::io::Error| {
        let message = format!("signals cannot be received: {error}");
        Failure::from(Report::new(codes::PROCESS, Exit::Failed, message, "Drill again."))
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

fn stopped(signal: &str, board: &Board) -> Report {
    let (rounds, kills) = (counted(board.rounds, "round"), counted(board.kills, "kill"));
    let found = if board.is_kept() { "nothing wrong was found" } else { "the promise was NOT kept" };
    let message = format!("the drill was stopped by {signal} after {rounds} and {kills}; until then {found}");
    let help = format!("Drill again; `--seed {}` draws the same schedule.", board.seed);
    let mut report = Report::new(codes::INTERRUPTED, Exit::Failed, message, help);
    report.kept = Some("the scratch destination is removed, and the real one was not changed".into());
    report
}

/// What is shown while a drill is held: a bar on a terminal, a line every few seconds elsewhere.
struct Shown<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    kills: u64,
    line_due: std::cell::Cell<Instant>,
}

const LINE_EVERY: Duration = Duration::from_secs(5);

impl<'a> Shown<'a> {
    fn new(output: &'a Output, kills: u64) -> Self {
        let on_terminal = !output.json() && std::io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(kills), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { output, bar, kills, line_due: std::cell::Cell::new(Instant::now() + LINE_EVERY) }
    }

    fn see(&self, board: &Board) {
        if let Some(bar) = &self.bar {
            bar.set_position(board.kills.min(self.kills));
            let (rounds, kills) = (counted(board.rounds, "round"), counted(board.kills, "kill"));
            let (lost, duplicated) = (count(board.lost), count(board.duplicated));
            bar.set_message(format!("{rounds} · {kills} · lost {lost} · duplicated {duplicated}"));
        } else if Instant::now() >= self.line_due.get() {
            self.line_due.set(Instant::now() + LINE_EVERY);
            let (rounds, kills, faults) = (board.rounds, board.kills, board.faults());
            let (lost, duplicated) = (board.lost, board.duplicated);
            if self.output.json() {
                let now = json!({"rounds": rounds, "kills": kills, "faults": faults, "lost": lost, "duplicated": duplicated});
                self.output.line(&json!({"progress": now}));
            } else {
                self.output.note(&format!(
                    "rounds={rounds} kills={kills} faults={faults} lost={lost} duplicated={duplicated}"
                ));
            }
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
