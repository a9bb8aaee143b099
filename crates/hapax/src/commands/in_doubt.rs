//! `hapax in-doubt`: commits that are not over.

use clap::{Args, Subcommand};
use hapax_engine::history::Unfinished;
use hapax_engine::run::resolve;
use hapax_engine::sink::{CommitId, Sink};
use hapax_protocol::guarantee::{InDoubt, Mechanism, Memory};
use hapax_protocol::identity::Place;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::output::figures::counted;
use crate::wiring::{Loaded, sink_failure};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show commits that are decided and not complete, and whether anything can be in doubt
    List(Arguments),
    /// Complete what is decided; moves nothing else
    Resolve(Arguments),
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
}

/// Lists or resolves.
pub async fn act(command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list(arguments, output).await,
        Command::Resolve(arguments) => complete(arguments, output).await,
    }
}

async fn list(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    let sink = loaded.sink().await?;
    let decided = decided(&loaded, &sink).await?;
    let held = held(&loaded, &sink).await?;
    if output.json() {
        output.document(&json!({
            "pipeline": loaded.pipeline.name,
            "can_be_asked": can_be_asked(&sink),
            "in_doubt": held.iter().map(place_json).collect::<Vec<_>>(),
            "decided": decided.iter().map(commit_json).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    let mut lines: Vec<String> = decided.iter().map(commit_words).collect();
    lines.extend(
        held.iter()
            .map(|place| format!("{place}: it may have been sent, and whether it took effect is not known")),
    );
    if held.is_empty() {
        lines.push(doubt_words(&sink).into());
    } else {
        let file = &arguments.file;
        lines.push(format!(
            "they are dead letters: hapax dead-letters list {file} shows them, drop settles them"
        ));
    }
    if !decided.is_empty() {
        lines.push(format!("the next run completes them, or: hapax in-doubt resolve {}", arguments.file));
    }
    output.data(&lines.join("\n"));
    Ok(Exit::Done)
}

async fn complete(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    let sink = loaded.sink().await?;
    let before = decided(&loaded, &sink).await?;
    // Where nothing is left over no lease is taken: it would fence a run that goes on.
    if !before.is_empty() {
        let applicant = loaded.applicant(loaded.duplicates(&sink)?);
        resolve(&sink, &applicant).await.map_err(|error| {
            let mut report = Report::of(&error);
            report.kept = Some("nothing was lost: what is decided stays decided".into());
            if error.is_fenced() {
                report.exit = Exit::Fenced;
            }
            report
        })?;
    }
    let left = decided(&loaded, &sink).await?;
    let completed: Vec<&CommitId> = before.iter().filter(|commit| !left.contains(commit)).collect();
    if output.json() {
        output.document(&json!({
            "pipeline": loaded.pipeline.name,
            "completed": completed.iter().map(|commit| commit_json(commit)).collect::<Vec<_>>(),
            "left": left.iter().map(commit_json).collect::<Vec<_>>(),
        }));
    } else {
        let number = u64::try_from(completed.len()).unwrap_or(u64::MAX);
        let mut lines: Vec<String> = left.iter().map(commit_words).collect();
        lines.push(match number {
            0 => format!("nothing to complete; {}", doubt_words(&sink)),
            _ => format!("{} completed", counted(number, "commit")),
        });
        output.data(&lines.join("\n"));
    }
    Ok(if left.is_empty() { Exit::Done } else { Exit::Failed })
}

async fn decided(loaded: &Loaded, sink: &Sink) -> Result<Vec<CommitId>, Failure> {
    let unfinished = sink.destination().unfinished(&loaded.pipeline.name).await;
    let unfinished = unfinished.map_err(|error| sink_failure(&error))?;
    Ok(unfinished.into_iter().map(|Unfinished::Decided(commit)| commit).collect())
}

/// Where the records stand that may have taken effect and were not sent again.
async fn held(loaded: &Loaded, sink: &Sink) -> Result<Vec<Place>, Failure> {
    if !matches!(sink, Sink::Kept(_)) {
        return Ok(Vec::new());
    }
    let letters = sink.destination().dead_letters(&loaded.pipeline.name, usize::MAX).await;
    let letters = letters.map_err(|error| sink_failure(&error))?;
    let held = letters.into_iter().filter(|letter| letter.code == hapax_engine::codes::IN_DOUBT);
    Ok(held.map(|letter| letter.place).collect())
}

/// Whether the destination says what became of a commit whose answer was lost.
fn can_be_asked(sink: &Sink) -> bool {
    match sink {
        Sink::CoCommit(_) | Sink::Staged(_) => true,
        Sink::Append(_) | Sink::Kept(_) => false,
    }
}

fn doubt_words(sink: &Sink) -> &'static str {
    match sink {
        Sink::CoCommit(_) | Sink::Staged(_) => {
            "nothing is in doubt: this destination can always be asked what became of a commit, and every take-over asks"
        }
        Sink::Kept(kept) => match kept.target.repeat().mechanism() {
            Mechanism::Keyed { .. } => {
                "nothing is in doubt: what was sent and not answered is sent again, and replaces itself"
            }
            Mechanism::Tokened { memory: Memory::UntilFull } => {
                "no list is kept: what was sent and not answered is sent again, and refused unless its limits made the destination forget it"
            }
            Mechanism::Tokened { .. } => {
                "nothing is in doubt: what was sent and not answered is sent again, and the destination drops or refuses repeats"
            }
            _ => match kept.target.repeat().in_doubt() {
                InDoubt::Hold => "nothing is in doubt",
                InDoubt::Resend => "no list is kept: what was sent and not answered is sent again",
            },
        },
        Sink::Append(_) => {
            "this destination keeps no positions: what was sent to it cannot be looked up, and no list of it is kept"
        }
    }
}

fn place_json(place: &Place) -> Value {
    json!({"split": place.split, "record": place.ordinal})
}

fn commit_words(commit: &CommitId) -> String {
    format!("{}  commit {}: decided, and not all of it is visible yet", commit.split, commit.epoch.get())
}

fn commit_json(commit: &CommitId) -> Value {
    json!({"split": commit.split, "commit": commit.epoch.get()})
}
