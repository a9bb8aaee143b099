//! `hapax verify`.

use std::collections::HashSet;
use std::sync::Arc;

use clap::Args;
use hapax_protocol::guarantee::Effect;
use hapax_protocol::identity::Place;
use serde_json::json;

use super::Standings;
use crate::exit::{Exit, Failure, Report as FailureReport};
use crate::output::Output;
use crate::output::figures::{count, counted};
use crate::verify::{Comparison, Finding, Moved, Report, Winner, compare};
use crate::wiring::{Loaded, Opened, sink_failure};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
}

/// How many records that were set aside are left out of the comparison.
const LETTERS_MAX: usize = 1_000_000;

/// Compares what was moved with what the destination holds. Changes neither.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let opened = Loaded::from_path(&arguments.file, output)?.open().await?;
    let comparison = comparison(&opened).await?;
    let report = compare(comparison).await.map_err(|error| FailureReport::of(&error))?;
    if output.json() {
        output.document(&json!(report));
    } else {
        output.data(&words(&report));
    }
    Ok(if report.equal { Exit::Done } else { Exit::Difference })
}

async fn comparison(opened: &Opened) -> Result<Comparison, Failure> {
    let failed = |error| sink_failure(&error);
    let pipeline = &opened.loaded.pipeline;
    let destination = opened.sink.destination();
    let standings = Standings::of(&opened.sink, &pipeline.name, None).await.map_err(failed)?;
    let moved = standings
        .each
        .into_iter()
        .filter_map(|(split, standing)| {
            let records = standing.totals.read;
            standing.position.map(|through| (split, Moved { through, records }))
        })
        .collect();
    let letters = destination.dead_letters(&pipeline.name, LETTERS_MAX).await.map_err(failed)?;
    let mut set_aside: HashSet<Place> = letters.into_iter().map(|letter| letter.place).collect();
    let left = LETTERS_MAX.saturating_sub(set_aside.len());
    let settled = destination.settled_letters(&pipeline.name, left).await.map_err(failed)?;
    let gone = settled.into_iter().filter(|settled| settled.settlement.ending.leaves_nothing());
    set_aside.extend(gone.map(|settled| settled.letter.place));
    Ok(Comparison {
        source: Arc::clone(&opened.source),
        transform: opened.transform.clone(),
        identity: pipeline.identity.value.clone(),
        winner: winner(opened),
        set_aside,
        moved,
        destination: destination.read_back(Arc::clone(&opened.schema)).await.map_err(failed)?,
    })
}

fn winner(opened: &Opened) -> Winner {
    if opened.duplicates.need_ledger() {
        return Winner::First;
    }
    match (opened.sink.destination().traits().effect, opened.loaded.pipeline.sink.text("write")) {
        (Effect::Insert, _) => Winner::All,
        (Effect::ByKey, Some("ignore")) => Winner::First,
        (Effect::ByKey, _) => Winner::Last,
    }
}

fn words(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.equal {
        lines.push("equal: the destination holds what was moved, value by value".to_owned());
    } else {
        lines.push("NOT equal".to_owned());
    }
    lines.push(format!(
        "{} of the source were moved or suppressed, {} at the destination",
        counted(report.source_records, "record"),
        count(report.destination_records)
    ));
    for (number, what) in [
        (report.twins, "more than once in the source, one of each expected"),
        (report.set_aside, "set aside or dropped, not expected"),
        (report.unreadable, "at the destination that cannot be read or have no identity"),
        (report.splits_not_moved, "splits not moved yet, not compared"),
    ] {
        if number > 0 {
            lines.push(format!("{:>10} {what}", count(number)));
        }
    }
    for (finding, what) in [
        (&report.missing, "missing at the destination"),
        (&report.duplicated, "more often at the destination than they should be"),
        (&report.unexpected, "at the destination only"),
        (&report.different, "different in a value"),
    ] {
        lines.extend(finding_words(finding, what));
    }
    lines.join("\n")
}

fn finding_words(finding: &Finding, what: &str) -> Vec<String> {
    if finding.records == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("{:>10} {what}", count(finding.records))];
    for example in &finding.examples {
        lines.push(format!("    {}", example.identity));
        for column in &example.columns {
            lines.push(format!("      {}: {} became {}", column.column, column.source, column.destination));
        }
    }
    lines
}
