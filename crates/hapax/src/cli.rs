//! What can be typed.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::codes;
use crate::commands::{
    completions, copy, dead_letters, drill, in_doubt, init, plan, run, schema, status, trace, validate,
    verify,
};
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;

/// Moves records between systems, each with effect once.
#[derive(Debug, Parser)]
#[command(name = "hapax", version, max_term_width = 100, after_help = EXITS)]
pub struct Cli {
    /// Print JSON: one document, or one object a line while running.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// How long threads that are still at work are waited for.
const LEFTOVERS_WAIT: Duration = Duration::from_secs(2);

const EXITS: &str = "Exit codes: 0 done · 1 failed · 2 bad command or file · 3 guarantee not met, nothing moved · \
                     4 verification or a drill found a difference · 5 fenced: another run took over";

#[derive(Debug, Subcommand)]
enum Command {
    /// Move records without a file: from one address to another
    Copy(copy::Arguments),
    /// Write a commented pipeline file that runs
    Init(init::Arguments),
    /// Check a pipeline file: every mistake at once, each with its place and its fix
    Validate(validate::Arguments),
    /// Connect, and say what a run would do and what it guarantees; changes nothing
    Plan(plan::Arguments),
    /// Move everything there is; goes on by itself where the last run stopped
    Run(run::Arguments),
    /// Say where each split stands
    Status(status::Arguments),
    /// Compare source and destination by value: what is missing, duplicated or different
    Verify(verify::Arguments),
    /// Kill the pipeline again and again on a scratch destination, and count what is lost or duplicated
    Drill(drill::Arguments),
    /// Run as a worker of a drill
    #[command(hide = true)]
    DrillWorker(drill::WorkerArguments),
    /// Say what became of one record: every arrival, decision and commit
    Trace(trace::Arguments),
    /// List, replay or drop the records that were set aside
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// List or complete commits that are not over
    #[command(subcommand)]
    InDoubt(in_doubt::Command),
    /// Print the JSON Schema of a pipeline file
    Schema,
    /// Print completions for a shell
    Completions(completions::Arguments),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match act(cli.command, &output) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit().into()
        }
    }
}

fn act(command: Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::act(&arguments, output),
        Command::Validate(arguments) => validate::act(&arguments, output),
        Command::Schema => schema::act(output),
        Command::Completions(arguments) => completions::act(&arguments, output),
        Command::Copy(arguments) => wait(copy::act(&arguments, output)),
        Command::Plan(arguments) => wait(plan::act(&arguments, output)),
        Command::Run(arguments) => wait(run::act(&arguments, output)),
        Command::Status(arguments) => wait(status::act(&arguments, output)),
        Command::Verify(arguments) => wait(verify::act(&arguments, output)),
        Command::Drill(arguments) => wait(drill::act(&arguments, output)),
        Command::DrillWorker(arguments) => wait(drill::work(&arguments, output)),
        Command::Trace(arguments) => wait(trace::act(&arguments, output)),
        Command::DeadLetters(command) => wait(dead_letters::act(&command, output)),
        Command::InDoubt(command) => wait(in_doubt::act(&command, output)),
    }
}

fn wait(action: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Report::new(
            codes::PROCESS,
            Exit::Failed,
            format!("the process could not start its threads: {error}"),
            "Raise the limits of this process (`ulimit -u`) and run again.",
        )
    })?;
    let outcome = runtime.block_on(action);
    // Whoever still waits for standard input must not keep the process from ending.
    runtime.shutdown_timeout(LEFTOVERS_WAIT);
    outcome
}
