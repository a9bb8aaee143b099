//! `hapax run`.

use std::time::{Duration, Instant};

use clap::Args;
use hapax_engine::progress::{Progress, Snapshot};
use hapax_engine::run::{RunError, Stop, Summary};
use hapax_engine::sink::Sink;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{Standings, dry_run};
use crate::codes;
use crate::exit::{Exit, Failure, Report};
use crate::output::figures::{bytes, count, counted, duration, per_second};
use crate::output::verdict::{self, Asked};
use crate::output::{Output, progress};
use crate::usage;
use crate::wiring::{Loaded, Opened};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
    /// Read and count, move nothing
    #[arg(long)]
    dry_run: bool,
}

/// Moves everything there is.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    go(loaded, arguments.dry_run, output).await
}

/// Moves what a loaded pipeline says, or only reads it.
pub async fn go(loaded: Loaded, dry: bool, output: &Output) -> Result<Exit, Failure> {
    let started = Instant::now();
    let opened = loaded.open().await?;
    opened.demand_guarantee()?;
    if dry {
        return dry_run::act(&opened, output).await;
    }
    let (counters, stop) = (Progress::default(), Stop::default());
    let outcome = {
        let running = opened.run(counters.clone(), stop.clone()).run();
        tokio::select! {
            outcome = running => outcome,
            () = progress::show(&counters, output) => Err(RunError::Defect),
            refused = heed_signals(&stop, output) => return Err(refused.into()),
        }
    };
    match outcome {
        Ok(summary) => {
            let ended =
                Ended { opened: &opened, summary, progress: counters.snapshot(), took: started.elapsed() };
            ended.print(output).await;
            Ok(Exit::Done)
        }
        Err(error) => Err(failure(&opened, &error).await.into()),
    }
}

/// Asks the run to stop at the first SIGTERM or SIGINT, and ends the process at the second: that is as
/// harmless as SIGKILL. Returns only if signals cannot be received.
async fn heed_signals(stop: &Stop, output: &Output) -> Report {
    let refused = |error: std::io::Error| {
        let message = format!("signals cannot be received: {error}");
        Report::new(codes::PROCESS, Exit::Failed, message, "Run it again.")
    };
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => return refused(error),
        };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.requested() {
            std::process::exit(i32::from(Exit::Failed.number()));
        }
        stop.request();
        if !output.json() {
            output.note("stopping: the batch in hand is finished first (a second signal ends at once, and loses nothing)");
        }
    }
}

/// A failed run, with where positions stand.
pub async fn failure(opened: &Opened, error: &RunError) -> Report {
    let mut report = Report::of(error);
    report.place = error.split().map(|split| format!("split {split}"));
    if error.is_fenced() {
        report.exit = Exit::Fenced;
        report.kept =
            Some("nothing was lost: this run wrote nothing after the other took over, which goes on from the last commit".into());
        return report;
    }
    if let RunError::Rejected { record_code, .. } = error {
        report.causes.push(format!("{record_code}, see docs/errors/{record_code}.md"));
    }
    if matches!(opened.sink, Sink::Append(_)) {
        report.kept = Some(
            "this destination keeps no positions: what was written before this stays, and running again starts \
             from the beginning"
                .into(),
        );
        return report;
    }
    let name = &opened.loaded.pipeline.name;
    let source = Some(opened.source.clone());
    report.kept = Some(match Standings::of(&opened.sink, name, source).await {
        Err(_) => {
            "nothing was lost: positions stand at the last commit, and running again goes on from there"
                .into()
        }
        Ok(standings) => match error.split() {
            Some(split) => match standings.get(split).and_then(|standing| standings.describe(standing)) {
                Some(position) => {
                    format!(
                        "nothing was lost: {split} stands at {position}, and running again goes on from there"
                    )
                }
                None => format!("nothing was lost: nothing of {split} was moved yet"),
            },
            None => match standings.words() {
                Some(words) => {
                    format!("nothing was lost: positions stand at {words}; running again goes on from there")
                }
                None => "nothing was lost: nothing was moved yet".into(),
            },
        },
    });
    report
}

/// A run that came to its end.
struct Ended<'a> {
    opened: &'a Opened,
    summary: Summary,
    progress: Snapshot,
    took: Duration,
}

impl Ended<'_> {
    async fn print(&self, output: &Output) {
        let name = &self.opened.loaded.pipeline.name;
        let source = Some(self.opened.source.clone());
        let standings = Standings::of(&self.opened.sink, name, source).await.ok();
        let words = standings.as_ref().and_then(Standings::words);
        // What goes to stdout as records must not be mixed with words.
        let streams = self.opened.loaded.pipeline.sink.text("path") == Some("-");
        match (output.json(), streams) {
            (true, false) => output.document(&self.json(words)),
            (true, true) => output.line(&self.json(words)),
            (false, false) => output.data(&self.words(words)),
            (false, true) => output.note(&self.words(words)),
        }
    }

    fn is_new(&self) -> bool {
        self.summary.totals.read > 0
    }

    fn words(&self, position: Option<String>) -> String {
        let totals = self.summary.totals;
        let mut lines = Vec::new();
        match (self.is_new(), self.summary.stopped, position) {
            (false, false, Some(position)) => {
                lines.push(format!("nothing new: everything up to {position} had been moved before"));
            }
            (false, false, None) => lines.push("nothing to move: the source holds no records".into()),
            _ => lines.extend(self.counts()),
        }
        if self.summary.stopped {
            lines.push(
                "stopped as asked, everything read so far is committed; resume by running again".into(),
            );
        }
        if totals.set_aside > 0 {
            let file = self.opened.loaded.file.name();
            lines.push(format!("see what was set aside: hapax dead-letters list {file}"));
        }
        let verdict = &self.opened.verdict;
        lines.push(format!("guarantee kept: {} (rule {})", verdict.level, verdict.rule.number()));
        lines.join("\n")
    }

    fn counts(&self) -> Vec<String> {
        let totals = self.summary.totals;
        let mut rates = Vec::new();
        rates.extend(per_second(totals.read, self.took).map(|rate| format!("{} rows/s", count(rate))));
        rates.extend(
            per_second(self.progress.source_bytes, self.took).map(|rate| format!("{}/s", bytes(rate))),
        );
        let mut lines = vec![format!(
            "moved {} of {} read in {} ({})",
            counted(totals.moved, "record"),
            count(totals.read),
            duration(self.took),
            rates.join(", "),
        )];
        for (number, what) in [
            (totals.suppressed, "suppressed: their identity had been moved before"),
            (totals.set_aside, "set aside, each with its reason"),
            (totals.filtered, "left out by the transform"),
            (self.summary.in_doubt, "commits whose answer was lost, looked up"),
        ] {
            if number > 0 {
                lines.push(format!("{:>10} {what}", count(number)));
            }
        }
        let memory = usage::peak_memory_bytes().map(|peak| format!(" · peak memory {}", bytes(peak)));
        lines.push(format!(
            "{} · {} · CPU {}{}",
            counted(self.summary.splits, "split"),
            counted(self.summary.commits, "commit"),
            duration(usage::processor_time()),
            memory.unwrap_or_default(),
        ));
        lines
    }

    fn json(&self, position: Option<String>) -> Value {
        let totals = self.summary.totals;
        let asked = Asked {
            required: self.opened.required(),
            by_file: self.opened.loaded.pipeline.delivery.is_some(),
            is_met: self.opened.is_met(),
        };
        json!({
            "pipeline": self.opened.loaded.pipeline.name,
            "outcome": if self.summary.stopped { "stopped" } else { "done" },
            "nothing_new": !self.is_new() && !self.summary.stopped,
            "position": position,
            "read": totals.read,
            "moved": totals.moved,
            "suppressed": totals.suppressed,
            "set_aside": totals.set_aside,
            "filtered": totals.filtered,
            "in_doubt": self.summary.in_doubt,
            "splits": self.summary.splits,
            "commits": self.summary.commits,
            "seconds": self.took.as_secs_f64(),
            "source_bytes": self.progress.source_bytes,
            "rows_per_second": per_second(totals.read, self.took),
            "bytes_per_second": per_second(self.progress.source_bytes, self.took),
            "cpu_seconds": usage::processor_time().as_secs_f64(),
            "peak_memory_bytes": usage::peak_memory_bytes(),
            "guarantee": verdict::json(&self.opened.verdict, asked),
        })
    }
}
