//! `hapax-checker LOG...`: counts what logs of what happened show, and fails if anything is wrong.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::process::ExitCode;

use hapax_checker::{Counts, Kept, Log};

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() || paths.iter().any(|path| path.starts_with('-')) {
        let _ = writeln!(
            io::stderr(),
            "usage: hapax-checker LOG...\n\nCounts what each log shows. A log is a line of JSON that says what is \
             expected, then one\nline for each event; see the documentation of hapax_checker::log. Exit: 0 nothing \
             is wrong,\n1 something is, 2 a log could not be read."
        );
        return ExitCode::from(2);
    }
    let mut worst = 0;
    for path in paths {
        let code = match File::open(&path).and_then(|file| Log::read(BufReader::new(file))) {
            Ok(log) => report(&path, &Counts::of(&log)),
            Err(error) => {
                let _ = writeln!(io::stderr(), "{path}: cannot be read: {error}");
                2
            }
        };
        worst = worst.max(code);
    }
    ExitCode::from(worst)
}

fn report(path: &str, counts: &Counts) -> u8 {
    let wrong: Vec<String> = counts
        .each()
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(what, number)| format!("{what} {number}"))
        .collect();
    let sound = counts.kept() == Kept::ExactlyOnce;
    let words = if sound { "nothing is wrong".to_owned() } else { wrong.join(", ") };
    let _ = writeln!(io::stdout(), "{path}: {words}");
    u8::from(!sound)
}
