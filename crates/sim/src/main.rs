//! `hapax-sim --seeds N`: runs schedules and prints what they came to.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use hapax_planted::Mistake;
use hapax_sim::fault::Faults;
use hapax_sim::schedule::{self, Outcome};

/// Runs the real engine in a simulated world. A seed decides everything.
#[derive(Debug, Parser)]
#[command(name = "hapax-sim", version)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed alone and print what happened, as the checker reads it
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Make this mistake on purpose, to see whether it is caught
    #[arg(long, value_parser = mistake)]
    plant: Option<Mistake>,
}

fn mistake(name: &str) -> Result<Mistake, String> {
    Mistake::ALL.into_iter().find(|mistake| mistake.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Mistake::ALL.iter().map(|mistake| mistake.name()).collect();
        format!("it is none of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plant = arguments.plant;
    match hapax_planted::with(plant, || act(&arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hapax-sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many schedules failed.
fn act(arguments: &Arguments) -> io::Result<u64> {
    let mut out = io::stdout().lock();
    if let Some(seed) = arguments.seed {
        let outcome = schedule::run(seed)?;
        outcome.log.write(&mut out)?;
        report(&outcome, arguments)?;
        return Ok(u64::from(!outcome.violations().is_empty()));
    }
    let (mut faults, mut failed) = (Faults::default(), 0_u64);
    let started = Instant::now();
    for seed in (arguments.from..).zip(0..arguments.seeds).map(|(seed, _)| seed) {
        let outcome = schedule::run(seed)?;
        faults.add_all(&outcome.faults);
        if !outcome.violations().is_empty() {
            failed = failed.saturating_add(1);
            report(&outcome, arguments)?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let last = arguments.from.saturating_add(arguments.seeds).saturating_sub(1);
    writeln!(out, "seeds {} to {last}: {} schedules", arguments.from, arguments.seeds)?;
    let whole = std::time::Duration::from_secs_f64(seconds).as_millis().max(1);
    let rate = u128::from(arguments.seeds).saturating_mul(1_000).checked_div(whole).unwrap_or(0);
    writeln!(out, "{seconds:.1} s, {rate} schedules a second")?;
    writeln!(out, "{} faults:", faults.sum())?;
    for (fault, count) in faults.each() {
        writeln!(out, "{count:>10} {}", fault.name())?;
    }
    writeln!(out, "{failed} violations")?;
    Ok(failed)
}

/// Says by which checks a schedule failed, and the line that replays it.
fn report(outcome: &Outcome, arguments: &Arguments) -> io::Result<()> {
    let violations = outcome.violations();
    if violations.is_empty() {
        return Ok(());
    }
    let plant = arguments.plant.map(|mistake| format!(" --plant {}", mistake.name())).unwrap_or_default();
    let mut err = io::stderr().lock();
    writeln!(err, "seed {}: {} (promised {})", outcome.seed, violations.join(", "), outcome.promised)?;
    writeln!(err, "  replay: cargo run -p hapax-sim -- --seed {}{plant}", outcome.seed)
}
