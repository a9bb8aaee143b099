//! `hapax completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output::Output;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell that is to complete commands
    shell: Shell,
}

/// Prints completions for a shell.
pub fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "hapax", &mut script);
    output.data(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
