//! `hapax verify --repair`.

use std::io;
use std::sync::Arc;

use hapax_engine::progress::Progress as Counters;
use hapax_engine::run::{Repair, Repaired, RunError, Stop};
use serde_json::json;

use super::{run, verify};
use crate::exit::{Exit, Failure, Report as FailureReport};
use crate::output::figures::{count, counted};
use crate::output::{Output, progress};
use crate::verify::{Look, Missing, Progress, Step, VerifyError, Wanted, compare, look};
use crate::wiring::Opened;

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
                "set_aside": repaired.set_aside,
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
        if repaired.set_aside > 0 {
            lines.push(format!(
                "{:>10} set aside, because the destination refuses them: hapax dead-letters list {file}",
                count(repaired.set_aside)
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
