//! `hapax verify --repair`.

use std::io;
use std::sync::Arc;

use hapax_engine::progress::Progress as Counters;
use hapax_engine::run::{Repair, Repaired, RunError, Stop};
use serde_json::json;

use super::{run, verify};
use crate::codes;
use crate::exit::{Exit, Failure, Report as FailureReport};
use crate::output::figures::{count, counted};
use crate::output::{Output, progress};
use crate::verify::{Look, Missing, Progress, Step, VerifyError, Wanted, compare, look};
use crate::wiring::{Opened, sink_failure};

/// Why a repair ended before its end. What it committed stays, and is not moved again.
#[derive(Debug)]
enum RepairError {
    Run(RunError),
    Scratch(io::Error),
}

impl From<RunError> for RepairError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

/// Moves what `seen` found missing and is still missing under the lease, then compares both ends anew.
pub async fn act(
    opened: &Opened,
    seen: &Look,
    counters: &Progress,
    output: &Output,
) -> Result<Exit, Failure> {
    knows_letters(opened).await?;
    let moving = Counters::default();
    let repair = match Repair::begin(opened.run(moving.clone(), Stop::default())).await {
        Ok(repair) => repair,
        Err(error) => return Err(run::failure(opened, &error).await.into()),
    };
    // From here on nobody else commits. What was missing before may have been moved meanwhile.
    let wanted = Wanted { within: seen.within.clone(), missing: true };
    let comparison = Arc::new(verify::comparison(opened, counters).await?);
    let now = verify::shown(look(comparison, wanted), counters, output).await?;
    let expected = now.report.missing.records;
    counters.begin(Step::Repairing, 0);
    let moved = tokio::select! {
        moved = go(&repair, now.missing) => moved,
        () = watch(&moving, counters) => Err(RunError::Defect.into()),
        () = progress::show(counters, output) => Err(RunError::Defect.into()),
    };
    let repaired = match moved {
        Ok(repaired) => repaired,
        Err(RepairError::Run(error)) => return Err(run::failure(opened, &error).await.into()),
        Err(RepairError::Scratch(error)) => {
            return Err(FailureReport::of(&VerifyError::Scratch(error)).into());
        }
    };
    let comparison = verify::comparison(opened, counters).await?;
    let after = verify::shown(compare(comparison), counters, output).await?;
    if output.json() {
        output.document(&json!({
            "found": seen.report,
            "repaired": {
                "missing": expected,
                "moved": repaired.moved,
                "refused": repaired.refused,
                "suppressed": repaired.suppressed,
            },
            "after": after,
            "equal": after.equal,
        }));
    } else {
        let file = opened.loaded.file.name();
        let mut lines = vec!["found:".to_owned()];
        lines.extend(verify::words(&seen.report, file));
        lines.push(String::new());
        lines.push(format!("moved {} of {} missing", counted(repaired.moved, "record"), count(expected)));
        if let Some(reason) = &repaired.refusal {
            lines.push(format!(
                "{:>10} refused, still missing ({reason}): mend the cause and repair again",
                count(repaired.refused)
            ));
        }
        if repaired.suppressed > 0 {
            lines.push(format!(
                "{:>10} left out, because another record of their identity takes effect",
                count(repaired.suppressed)
            ));
        }
        lines.push(String::new());
        lines.push("afterwards:".to_owned());
        lines.extend(verify::words(&after, file));
        output.data(&lines.join("\n"));
    }
    Ok(if after.equal { Exit::Done } else { Exit::Difference })
}

/// Refuses where not everything that was set aside, or given up, can be left out: a repair would move it.
async fn knows_letters(opened: &Opened) -> Result<(), Failure> {
    let destination = opened.sink.destination();
    let pipeline = &opened.loaded.pipeline.name;
    let most = verify::LETTERS_MAX;
    let letters = destination.dead_letters(pipeline, most.saturating_add(1)).await;
    let letters = letters.map_err(|error| sink_failure(&error))?.len();
    let left = most.saturating_add(1).saturating_sub(letters);
    let settled = destination.settled_letters(pipeline, left).await.map_err(|error| sink_failure(&error))?;
    if letters.saturating_add(settled.len()) <= most {
        return Ok(());
    }
    let message = format!(
        "more than {} are set aside or were: a repair could not leave them all out",
        counted(u64::try_from(most).unwrap_or(u64::MAX), "record")
    );
    let help = "Replay what can be moved, then repair again. Nothing was moved.";
    Err(FailureReport::new(codes::MANY_LETTERS, Exit::Failed, message, help).into())
}

/// Moves what is missing, and publishes it.
async fn go(repair: &Repair, missing: Option<Missing>) -> Result<Repaired, RepairError> {
    let places = missing.into_iter().flatten().map(|place| place.map_err(RepairError::Scratch));
    let repaired = repair.move_missing(places).await?;
    repair.finish().await?;
    Ok(repaired)
}

/// Carries what the run counts over to what is shown. Never returns.
async fn watch(moving: &Counters, counters: &Progress) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        ticks.tick().await;
        counters.moved(moving.snapshot().totals.moved);
    }
}
