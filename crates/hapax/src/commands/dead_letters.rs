//! `hapax dead-letters`: records that were set aside.

use clap::{Args, Subcommand};
use hapax_engine::dead_letter::{DeadLetter, Ending, SettledLetter, Settlement};
use hapax_engine::progress::Progress;
use hapax_engine::run::{Letters, Stop, drop_letters, replay_letters};
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;
use serde_json::{Value, json};

use super::{Standings, run};
use crate::codes;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::output::figures::{counted, date};
use crate::wiring::{Loaded, sink_failure};

/// How many are shown at most.
const LETTERS_MAX: usize = 100_000;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show them, with place and reason
    List(List),
    /// Move those whose cause was mended, each once
    Replay(Choice),
    /// Give them up
    Drop(Choice),
}

#[derive(Debug, Args)]
pub struct List {
    /// The pipeline file
    file: String,
    /// Show at most this many
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Show those that were replayed or dropped, too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub struct Choice {
    /// The pipeline file
    file: String,
    /// One of them, as `list` shows it; may be given several times
    #[arg(long, value_name = "SPLIT:RECORD", required_unless_present = "all", conflicts_with = "all")]
    place: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Lists, replays or drops.
pub async fn act(command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list(arguments, output).await,
        Command::Replay(choice) => settle(choice, true, output).await,
        Command::Drop(choice) => settle(choice, false, output).await,
    }
}

async fn list(arguments: &List, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    let sink = loaded.sink().await?;
    let limit = arguments.limit.min(LETTERS_MAX);
    // One more than is shown, to know whether there are more.
    let mut letters = sink
        .destination()
        .dead_letters(&loaded.pipeline.name, limit.saturating_add(1))
        .await
        .map_err(|error| sink_failure(&error))?;
    let has_more = letters.len() > limit;
    letters.truncate(limit);
    let mut settled = Vec::new();
    if arguments.all {
        let asked = sink.destination().settled_letters(&loaded.pipeline.name, limit.saturating_add(1));
        settled = asked.await.map_err(|error| sink_failure(&error))?;
    }
    let has_more = has_more || settled.len() > limit;
    settled.truncate(limit);
    if output.json() {
        let all: Vec<Value> = letters.iter().map(letter_json).collect();
        let mut document = json!({"pipeline": loaded.pipeline.name, "letters": all, "more": has_more});
        if let Some(document) = document.as_object_mut().filter(|_| arguments.all) {
            let settled: Vec<Value> = settled.iter().map(settled_json).collect();
            document.insert("settled".into(), settled.into());
        }
        output.document(&document);
        return Ok(Exit::Done);
    }
    let mut lines: Vec<String> = letters.iter().map(letter_words).collect();
    lines.extend(settled.iter().map(settled_words));
    let number = |letters: usize| u64::try_from(letters).unwrap_or(u64::MAX);
    let more = if has_more { ", and more (--limit)" } else { "" };
    if letters.is_empty() {
        lines.push(format!("nothing is set aside{more}"));
        let standings = Standings::of(&sink, &loaded.pipeline.name, None).await;
        let standings = standings.map_err(|error| sink_failure(&error))?;
        lines.extend(standings.absence(&loaded, &sink));
    } else {
        let file = &arguments.file;
        lines.push(format!("{}{more}", counted(number(letters.len()), "record")));
        lines.push(format!("once mended: hapax dead-letters replay {file} --all · give up: hapax dead-letters drop {file} --all"));
    }
    output.data(&lines.join("\n"));
    Ok(Exit::Done)
}

/// A place as it is typed.
pub fn name(place: &Place) -> String {
    format!("{}:{}", place.split, place.ordinal)
}

fn letter_words(letter: &DeadLetter) -> String {
    const SHOWN_MAX: usize = 200;
    let mut raw: String = letter.raw.chars().take(SHOWN_MAX).collect();
    if raw.len() < letter.raw.len() {
        raw.push('…');
    }
    let raw = raw.replace('\n', "\\n").replace('\r', "\\r");
    format!(
        "{}  {}  {}\n    {}\n    {raw}",
        name(&letter.place),
        letter.code,
        date(letter.set_aside_unix_ms),
        letter.reason
    )
}

fn settled_words(settled: &SettledLetter) -> String {
    let SettledLetter { letter, settlement } = settled;
    format!(
        "{}  {}  {}\n    {}",
        name(&letter.place),
        letter.code,
        settlement_words(settlement),
        letter.reason
    )
}

/// What became of a dead letter, in words.
pub fn settlement_words(settlement: &Settlement) -> String {
    let how = match settlement.ending {
        Ending::Moved => "replayed",
        Ending::Dropped => "dropped",
        Ending::LeftOut => "left out by the transform",
        Ending::Unrecorded => return "settled by a version of Hapax that did not say how".into(),
    };
    format!("{how} {} in commit {}", date(settlement.settled_unix_ms), settlement.epoch.get())
}

/// What became of a dead letter.
pub fn settlement_json(settlement: &Settlement) -> Value {
    let is_known = settlement.ending != Ending::Unrecorded;
    json!({
        "ending": settlement.ending.word(),
        "commit": is_known.then(|| settlement.epoch.get()),
        "settled_unix_ms": is_known.then_some(settlement.settled_unix_ms),
    })
}

fn settled_json(settled: &SettledLetter) -> Value {
    let mut value = letter_json(&settled.letter);
    if let Some(value) = value.as_object_mut() {
        value.remove("raw");
        value.insert("settled".into(), settlement_json(&settled.settlement));
    }
    value
}

fn letter_json(letter: &DeadLetter) -> Value {
    json!({
        "place": name(&letter.place),
        "split": letter.place.split,
        "record": letter.place.ordinal,
        "code": letter.code.to_string(),
        "reason": letter.reason,
        "raw": letter.raw,
        "set_aside_unix_ms": letter.set_aside_unix_ms,
    })
}

async fn settle(choice: &Choice, replay: bool, output: &Output) -> Result<Exit, Failure> {
    let wanted: Vec<Place> = choice.place.iter().map(|text| place(text)).collect::<Result<_, _>>()?;
    let opened = Loaded::from_path(&choice.file, output)?.open().await?;
    let letters = opened
        .sink
        .destination()
        .dead_letters(&opened.loaded.pipeline.name, usize::MAX)
        .await
        .map_err(|error| sink_failure(&error))?;
    let letters = chosen(letters, &wanted)?;
    let run = opened.run(Progress::default(), Stop::default());
    let outcome =
        if replay { replay_letters(run, &letters).await } else { drop_letters(run, &letters).await };
    match outcome {
        Ok(done) => {
            print(&done, output);
            Ok(if done.remaining.is_empty() { Exit::Done } else { Exit::Failed })
        }
        Err(error) => Err(run::failure(&opened, &error).await.into()),
    }
}

/// All letters, or those at the wanted places, each of which must be there.
fn chosen(letters: Vec<DeadLetter>, wanted: &[Place]) -> Result<Vec<DeadLetter>, Failure> {
    if let Some(missing) = wanted.iter().find(|place| !letters.iter().any(|letter| letter.place == **place)) {
        return Err(Report::new(
            codes::NO_LETTER,
            Exit::BadCommand,
            format!("nothing is set aside at {}", name(missing)),
            "`hapax dead-letters list FILE` shows the places there are.",
        )
        .into());
    }
    Ok(letters.into_iter().filter(|letter| wanted.is_empty() || wanted.contains(&letter.place)).collect())
}

fn place(text: &str) -> Result<Place, Failure> {
    let parts = text.rsplit_once(':').and_then(|(split, ordinal)| Some((split, ordinal.parse().ok()?)));
    match parts {
        Some((split, ordinal)) => Ok(Place { split: SplitId::new(split), ordinal }),
        None => Err(Report::new(
            codes::NO_LETTER,
            Exit::BadCommand,
            format!("`{text}` is no place of a record"),
            "A place is SPLIT:RECORD, as `hapax dead-letters list FILE` shows it.",
        )
        .into()),
    }
}

fn print(done: &Letters, output: &Output) {
    if output.json() {
        let names = |places: &[Place]| places.iter().map(name).collect::<Vec<_>>();
        let remaining: Vec<Value> = done
            .remaining
            .iter()
            .map(|(place, reason)| json!({"place": name(place), "reason": reason}))
            .collect();
        output.document(&json!({
            "moved": names(&done.moved),
            "dropped": names(&done.dropped),
            "remaining": remaining,
        }));
        return;
    }
    let number = |n: usize| counted(u64::try_from(n).unwrap_or(u64::MAX), "record");
    let mut lines = Vec::new();
    if !done.moved.is_empty() {
        lines.push(format!("{} moved", number(done.moved.len())));
    }
    if !done.dropped.is_empty() {
        lines.push(format!("{} dropped", number(done.dropped.len())));
    }
    if !done.remaining.is_empty() {
        lines.push(format!("{} still set aside:", number(done.remaining.len())));
        lines.extend(done.remaining.iter().map(|(place, reason)| format!("  {}  {reason}", name(place))));
    }
    if lines.is_empty() {
        lines.push("nothing is set aside".into());
    }
    output.data(&lines.join("\n"));
}
