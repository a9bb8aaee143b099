//! `hapax verify`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::history::Unfinished;
use hapax_engine::sink::Sink;
use hapax_protocol::guarantee::{Effect, Settle};
use hapax_protocol::identity::Place;
use hapax_protocol::lease::PipelineName;
use serde_json::json;
use tokio::time::Instant;

use super::{Standings, repair};
use crate::codes;
use crate::exit::{Exit, Failure, Report as FailureReport};
use crate::output::figures::{count, counted};
use crate::output::{Output, progress};
use crate::verify::{
    Again, ComparedBy, Comparison, Finding, Moved, Progress, Report, Stand, VerifyError, Wanted, Winner, look,
};
use crate::wiring::{Loaded, Opened, sink_failure};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
    /// Move what is missing, each record once
    #[arg(long)]
    repair: bool,
    /// With --repair: say what would be moved, and move nothing
    #[arg(long, requires = "repair")]
    dry_run: bool,
}

/// How many records that were set aside are left out of the comparison.
pub const LETTERS_MAX: usize = 1_000_000;

/// Compares what was moved with what the destination holds. Changes neither, unless it is asked to repair.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let opened = Loaded::from_path(&arguments.file, output)?.open().await?;
    demand_comparable(&opened)?;
    let repairs = arguments.repair && !arguments.dry_run;
    if repairs {
        opened.demand_guarantee()?;
    }
    let counters = Progress::default();
    let destination = opened.sink.destination();
    let name = &opened.loaded.pipeline.name;
    let unpublished = destination.is_waiting(name).await.map_err(|error| sink_failure(&error))?;
    let comparison = Arc::new(comparison(&opened, &counters).await?);
    let mut seen = shown(look(comparison, Wanted::default()), &counters, output).await?;
    seen.report.unpublished = unpublished;
    if repairs && seen.report.repairable() > 0 {
        return repair::act(&opened, &seen, &counters, output).await;
    }
    let report = &seen.report;
    if output.json() {
        output.document(&json!(report));
    } else {
        let mut lines = words(report, &arguments.file);
        if arguments.repair {
            lines.push(match (report.missing.records, report.repairable()) {
                (0, _) => "nothing is missing: nothing was moved".to_owned(),
                (_, 0) => "nothing that is missing can be repaired: nothing was moved".to_owned(),
                (_, repairable) => format!("a repair would move {}", counted(repairable, "record")),
            });
        }
        output.data(&lines.join("\n"));
    }
    Ok(if report.equal { Exit::Done } else { Exit::Difference })
}

/// Compares, and shows how far it is.
pub async fn shown<T>(
    comparing: impl Future<Output = Result<T, VerifyError>>,
    counters: &Progress,
    output: &Output,
) -> Result<T, Failure> {
    let seen = tokio::select! {
        seen = comparing => seen,
        () = progress::show(counters, output) => Err(VerifyError::Defect),
    };
    Ok(seen.map_err(|error| FailureReport::of(&error))?)
}

/// Refuses where nothing says which records should be there.
fn demand_comparable(opened: &Opened) -> Result<(), Failure> {
    let (why, help) = if matches!(opened.sink, Sink::Append(_)) {
        (
            "the destination keeps no positions, so nothing says what was moved",
            "Compare the two with their own means, or move into a destination that keeps positions.",
        )
    } else if opened.source.facts().settle == Settle::None {
        (
            "the source passes once and cannot be read again",
            "Move what was fed from a file, and verify that pipeline.",
        )
    } else if opened.source.facts().settle != Settle::Seek {
        (
            "the source gives no record again that was moved",
            "Compare by SQL: every row that is marked should be at the destination.",
        )
    } else {
        return Ok(());
    };
    let message = format!("this pipeline cannot be verified: {why}");
    let mut report = FailureReport::new(codes::NOT_COMPARABLE, Exit::BadCommand, message, help);
    report.kept = Some("nothing was compared and nothing was changed".into());
    Err(report.into())
}

/// Both ends as they stand now.
pub async fn comparison(opened: &Opened, counters: &Progress) -> Result<Comparison, Failure> {
    let failed = |error| sink_failure(&error);
    let pipeline = &opened.loaded.pipeline;
    let again = Positions { sink: opened.sink.clone(), pipeline: pipeline.name.clone() };
    let standings = again.now().await.map_err(failed)?;
    let suppressed = standings.each.iter().map(|(_, standing)| standing.totals.suppressed);
    let has_twins = suppressed.fold(0, u64::saturating_add) >= MANY_TWINS;
    let stand = again.of(standings).await.map_err(failed)?;
    let destination = opened.sink.destination().read_back(Arc::clone(&opened.schema));
    Ok(Comparison {
        source: Arc::clone(&opened.source),
        transform: opened.transform.clone(),
        identity: pipeline.identity.value.clone(),
        winner: winner(opened),
        deletes: opened.sink.destination().deletes().map(str::to_owned),
        set_aside: stand.set_aside,
        moved: stand.moved,
        destination: destination.await.map_err(failed)?,
        has_twins,
        again: Some(Arc::new(again)),
        progress: counters.clone(),
    })
}

/// From how many twins on hardly a range is without one.
const MANY_TWINS: u64 = 4_096;

/// Where a pipeline stands at its sink.
struct Positions {
    sink: Sink,
    pipeline: PipelineName,
}

/// How long is waited for a commit that is decided to be visible. Whoever made it is about to show it, or has died.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

impl Positions {
    async fn now(&self) -> Result<Standings, SinkError> {
        let standings = Standings::of(&self.sink, &self.pipeline, None).await?;
        self.visible(&standings).await?;
        Ok(standings)
    }

    /// Waits until what these positions are past is visible.
    async fn visible(&self, standings: &Standings) -> Result<(), SinkError> {
        let until = Instant::now() + SHOWN_WITHIN;
        let is_past = |Unfinished::Decided(commit): &Unfinished| {
            standings.get(&commit.split).is_some_and(|standing| commit.epoch <= standing.epoch)
        };
        while Instant::now() < until {
            if !self.sink.destination().unfinished(&self.pipeline).await?.iter().any(is_past) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn of(&self, standings: Standings) -> Result<Stand, SinkError> {
        let moved = standings.each.into_iter().filter_map(|(split, standing)| {
            let records = standing.totals.read;
            standing.position.map(|through| (split, Moved { through, records }))
        });
        let destination = self.sink.destination();
        let letters = destination.dead_letters(&self.pipeline, LETTERS_MAX).await?;
        let mut set_aside: HashSet<Place> = letters.into_iter().map(|letter| letter.place).collect();
        let left = LETTERS_MAX.saturating_sub(set_aside.len());
        let settled = destination.settled_letters(&self.pipeline, left).await?;
        let gone = settled.into_iter().filter(|settled| settled.settlement.ending.leaves_nothing());
        set_aside.extend(gone.map(|settled| settled.letter.place));
        Ok(Stand { moved: moved.collect(), set_aside })
    }
}

impl Again for Positions {
    fn stand(&self) -> Fut<'_, Stand, SinkError> {
        Box::pin(async move { self.of(self.now().await?).await })
    }
}

/// Which of several records with one identity the destination is to hold.
pub fn winner(opened: &Opened) -> Winner {
    if opened.duplicates.need_ledger() {
        return Winner::Claimed;
    }
    match (opened.sink.destination().traits().effect, opened.loaded.pipeline.sink.text("write")) {
        (Effect::Insert, _) => Winner::All,
        (Effect::ByKey, Some("ignore")) => Winner::First,
        (Effect::ByKey, _) => Winner::Last,
    }
}

/// The report in words, one line each.
pub fn words(report: &Report, file: &str) -> Vec<String> {
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
    if report.compared_by == ComparedBy::Content {
        lines.push(
            "compared by content and by how often each record is there: the identity names no column"
                .to_owned(),
        );
    }
    if report.moved_meanwhile {
        lines.push("the pipeline moved on meanwhile: compared is what was committed before".to_owned());
    }
    if report.unpublished {
        lines.push(
            "a run goes on, or was interrupted: what it committed is not in the file yet and counts as missing; `hapax run` publishes it"
                .to_owned(),
        );
    }
    for (number, what) in [
        (report.twins, "more than once in the source, one of each expected"),
        (report.undecided, "of which the order across splits is not known: any version counts as right"),
        (report.deleted, "deleted by the last record of their key, not expected"),
        (report.set_aside, "set aside or dropped, not expected"),
        (report.unreadable, "at the destination that cannot be read or have no identity"),
        (report.splits_not_moved, "splits not moved yet, not compared"),
        (
            report.splits_gone,
            "moved splits are no longer in the source, not compared: what came from them is at the destination only",
        ),
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
    lines.extend(advice(report, file));
    lines
}

/// What to do about what was found.
fn advice(report: &Report, file: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if report.missing_undecided > 0 {
        lines.push(format!(
            "{} missing and not repaired: several splits have different versions, and their order is not known",
            counted(report.missing_undecided, "record")
        ));
    }
    if report.repairable() > 0 {
        lines.push(format!("to move what is missing, each record once: hapax verify {file} --repair"));
    }
    if [&report.duplicated, &report.unexpected, &report.different].iter().any(|finding| finding.records > 0) {
        lines.push(
            "what is there too often, there only, or different is not repaired: something else wrote to the destination, or the source changed behind the position. Remove those records at the destination, then repair: what is missing by then is moved"
                .to_owned(),
        );
    }
    lines
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
