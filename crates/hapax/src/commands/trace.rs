//! `hapax trace`.

mod committed;
mod gather;
mod print;

use clap::Args;

use crate::codes;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::wiring::Loaded;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
    /// The record: the values of its key (`7`, `id=7`, `a=1,b=x`), its UUID, the 32 digits of its identity, or
    /// a place as `dead-letters list` shows it (`orders.csv#0:17`)
    id: String,
    /// Do not read the source: say only what the destination knows
    #[arg(long)]
    no_source: bool,
    /// Do not count what the destination holds
    #[arg(long)]
    no_destination: bool,
}

/// Says what became of one record. Changes nothing, and neither waits for a run nor fences it.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    let trace = gather::gather(&loaded, arguments, output).await?;
    if !trace.is_known() {
        return Err(unknown(&trace, arguments).into());
    }
    if output.json() {
        output.document(&print::json(&trace, loaded.pipeline.name.as_str()));
    } else {
        output.data(&print::words(&trace));
    }
    Ok(Exit::Done)
}

fn unknown(trace: &gather::Trace, arguments: &Arguments) -> Report {
    let message = format!("nothing knows the record {}", arguments.id);
    let help = "Check the key and its type (`hapax plan` shows the columns), or give the place of the record: SPLIT:RECORD.";
    let mut report = Report::new(codes::RECORD_UNKNOWN, Exit::Failed, message, help);
    report.causes.extend(trace.source.unread.as_ref().map(|why| format!("the source was not read: {why}")));
    let uncounted = trace.destination.unread.as_ref();
    report.causes.extend(uncounted.map(|why| format!("the destination was not counted: {why}")));
    report
}
