//! One row after the other, from a seed.

use std::io::{self, Write};

/// The first line.
pub const HEADER: &[u8] = b"id,at,amount,name,note,active,day,quantity\n";

const WORDS: &[&str] = &[
    "amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll",
    "ledge",
];

/// Writes rows.
pub struct Rows {
    state: u64,
    twin_every: u64,
}

impl Rows {
    /// From the one seed that all data of the bench has.
    pub fn new(twin_every: u64) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, twin_every }
    }

    /// A number below `end`, by xorshift.
    fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.checked_rem(end).unwrap_or(0)
    }

    fn word(&mut self) -> &'static str {
        let count = u64::try_from(WORDS.len()).unwrap_or(1);
        usize::try_from(self.below(count)).ok().and_then(|at| WORDS.get(at)).copied().unwrap_or_default()
    }

    /// Appends row `id`.
    pub fn write(&mut self, id: u64, line: &mut Vec<u8>) -> io::Result<()> {
        let twin = id > 1 && id.checked_rem(self.twin_every) == Some(0);
        let id = if twin { self.below(id - 1) + 1 } else { id };
        let (hour, minute, second) = (self.below(24), self.below(60), self.below(60));
        let (month, day) = (self.below(12) + 1, self.below(28) + 1);
        write!(line, "{id},2024-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02},")?;
        let cents = self.below(10_000_000);
        write!(line, "{}.{:02},", cents / 100, cents % 100)?;
        write!(line, "{}-{},", self.word(), self.below(1_000_000))?;
        let (one, two) = (self.word(), self.word());
        match self.below(10) {
            0 => write!(line, "\"{one}, {two}\",")?,
            1 => write!(line, "\"the \"\"{one}\"\" {two}\",")?,
            _ => write!(line, "{one} and {two},")?,
        }
        let (year, month, day) = (self.below(30) + 1990, self.below(12) + 1, self.below(28) + 1);
        write!(line, "{},{year}-{month:02}-{day:02},", self.below(2) == 0)?;
        if self.below(8) != 0 {
            write!(line, "{}", self.below(1000))?;
        }
        line.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests;
