//! Exactly-once data movement: the `hapax` command.

mod cli;
mod codes;
mod commands;
mod drill;
mod environment;
mod exit;
mod output;
mod registry;
mod trace;
mod usage;
mod verify;
mod wiring;

fn main() -> std::process::ExitCode {
    usage::begin();
    cli::main()
}
