//! Makes what the measurements move, and the plain programs that Hapax is measured beside.
//!
//! `hapax-bench FILE ROWS [TWIN_EVERY]` writes the CSV that `bench/run` moves: eight mixed columns, the same bytes for
//! the same arguments; with `TWIN_EVERY` n, every n-th row repeats the id of an earlier row.
//!
//! `hapax-bench stream …` is what `bench/streams` needs, see [`stream`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

mod row;
mod stream;

use row::Rows;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let done = if arguments.next_if(|first| first == "stream").is_some() {
        stream::run(arguments)
    } else {
        order(arguments).and_then(|order| order.write())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hapax-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// What to write.
struct Order {
    path: OsString,
    rows: u64,
    twin_every: u64,
}

impl Order {
    fn write(&self) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&self.path)?);
        out.write_all(row::HEADER)?;
        let mut rows = Rows::new(self.twin_every);
        let mut line = Vec::with_capacity(256);
        for id in 1..=self.rows {
            line.clear();
            rows.write(id, &mut line)?;
            out.write_all(&line)?;
        }
        out.flush()
    }
}

fn order(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Order> {
    let usage = || io::Error::other("usage: hapax-bench FILE ROWS [TWIN_EVERY]");
    let number = |text: OsString| text.to_str().and_then(|text| text.parse().ok()).ok_or_else(usage);
    let path = arguments.next().ok_or_else(usage)?;
    let rows = arguments.next().ok_or_else(usage).and_then(number)?;
    let twin_every = arguments.next().map_or(Ok(0), number)?;
    Ok(Order { path, rows, twin_every })
}
