//! `hapax run --dry-run`: reads, transforms and counts what a run would move next.

use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::SourceError;
use hapax_engine::identify::Identifier;
use hapax_engine::run::Limits;
use hapax_protocol::position::{Position, SplitId};
use serde_json::json;

use super::Standings;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::output::figures::counted;
use crate::wiring::{Opened, sink_failure};

#[derive(Debug, Default)]
struct Counts {
    read: u64,
    passing: u64,
    set_aside: u64,
    filtered: u64,
    source_bytes: u64,
    reasons: Vec<String>,
}

const REASONS_MAX: usize = 5;

/// Reads everything behind the last commit. The sink is asked where it stands, and nothing else.
pub async fn act(opened: &Opened, output: &Output) -> Result<Exit, Failure> {
    let name = &opened.loaded.pipeline.name;
    let standings = Standings::of(&opened.sink, name, None).await.map_err(|error| sink_failure(&error))?;
    let identifier = Identifier::new(&opened.loaded.pipeline.identity.value, &opened.schema)
        .map_err(|error| Report::of(&error))?;
    let mut counts = Counts::default();
    let splits = opened.source.splits().await.map_err(|error| failure(&error, None))?;
    for split in splits {
        let after = standings.get(&split.id).and_then(|standing| standing.position.clone());
        read_split(opened, &identifier, &split.id, after, &mut counts).await?;
    }
    print(&counts, opened, output);
    Ok(Exit::Done)
}

async fn read_split(
    opened: &Opened,
    identifier: &Identifier,
    split: &SplitId,
    after: Option<Position>,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let limits = Limits::default();
    let limit = ReadLimit { records_max: limits.batch_records_max, bytes_max: limits.batch_bytes_max };
    let failed = |error: SourceError| failure(&error, Some(split));
    let mut reader = opened.source.open(split, after.as_ref()).await.map_err(failed)?;
    while let Some(batch) = reader.read(limit).await.map_err(failed)? {
        let rows = batch.records.num_rows();
        counts.source_bytes = counts.source_bytes.saturating_add(batch.source_bytes);
        counts.read = counts.read.saturating_add(number(rows)).saturating_add(number(batch.rejected.len()));
        counts.refuse(batch.rejected.iter().map(|rejected| &rejected.reason));
        let (records, ordinals) = match &opened.transform {
            None => (batch.records, batch.ordinals),
            Some(transform) => {
                let out = transform.apply(&batch.records);
                let left_out = rows.saturating_sub(out.records.num_rows()).saturating_sub(out.refused.len());
                counts.filtered = counts.filtered.saturating_add(number(left_out));
                counts.refuse(out.refused.iter().map(|refused| &refused.reason));
                let ordinals = match out.rows {
                    Some(rows) => batch.ordinals.pick(rows),
                    None => batch.ordinals,
                };
                (out.records, ordinals)
            }
        };
        let mut passing = number(records.num_rows());
        if opened.duplicates.need_ledger() {
            let identified = identifier
                .identify(&records, split, &ordinals)
                .map_err(|error| Report::of(&hapax_engine::run::RunError::Arrow(error)))?;
            passing = passing.saturating_sub(number(identified.refused.len()));
            counts.refuse(identified.refused.iter().map(|refused| &refused.reason));
        }
        counts.passing = counts.passing.saturating_add(passing);
    }
    Ok(())
}

impl Counts {
    fn refuse<'a>(&mut self, reasons: impl Iterator<Item = &'a String>) {
        for reason in reasons {
            self.set_aside = self.set_aside.saturating_add(1);
            if self.reasons.len() < REASONS_MAX {
                self.reasons.push(reason.clone());
            }
        }
    }
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn failure(error: &SourceError, split: Option<&SplitId>) -> Report {
    let mut report = Report::of(error.fault.as_ref());
    report.place = split.map(ToString::to_string);
    report.kept = Some("nothing was moved: this is a dry run".into());
    report
}

fn print(counts: &Counts, opened: &Opened, output: &Output) {
    let twins = opened.duplicates.need_ledger();
    if output.json() {
        output.document(&json!({
            "outcome": "dry-run",
            "pipeline": opened.loaded.pipeline.name,
            "read": counts.read,
            "would_move_at_most": counts.passing,
            "would_set_aside": counts.set_aside,
            "filtered": counts.filtered,
            "source_bytes": counts.source_bytes,
            "twins_counted": !twins,
        }));
        return;
    }
    let mut lines = vec![format!(
        "dry run: {} read, {} would be moved{}",
        counted(counts.read, "record"),
        counted(counts.passing, "record"),
        if twins { " at most (twins are only found by a run)" } else { "" },
    )];
    if counts.filtered > 0 {
        lines.push(format!("  left out by the transform: {}", counted(counts.filtered, "record")));
    }
    if counts.set_aside > 0 {
        lines.push(format!("  would be set aside: {}", counted(counts.set_aside, "record")));
        lines.extend(counts.reasons.iter().map(|reason| format!("    {reason}")));
    }
    lines.push("nothing was moved".into());
    output.data(&lines.join("\n"));
}
