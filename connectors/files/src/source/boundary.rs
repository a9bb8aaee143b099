//! Where records end, found without reading their fields: what cuts a large file into ranges, and what skips a
//! record that is too long to hold.

use memchr::{memchr, memchr2};

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A newline.
    Line,
    /// A newline or carriage return outside of quotes. A quote opens only where a field starts, a doubled quote
    /// inside quotes stands for itself, and text behind a closing quote is literal.
    Csv {
        /// What separates fields.
        delimiter: u8,
    },
}

/// A walk over the bytes of a file that knows at each byte whether it is inside quotes. It is exact only from the
/// start of a record.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    ending: Ending,
    state: State,
    previous: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Quoted,
    /// Inside quotes, behind a quote that closes unless another one follows.
    Closing,
}

impl Walk {
    /// A walk from the start of a record.
    pub(super) fn new(ending: Ending) -> Self {
        Self { ending, state: State::Plain, previous: b'\n' }
    }

    /// Whether it stands inside quotes.
    pub(super) fn quoted(&self) -> bool {
        self.state == State::Quoted
    }

    /// Walks on to the first record end at or behind `wanted` in `chunk` and stops behind it, or to the end of
    /// the chunk. Returns the index behind the record end.
    pub(super) fn end(&mut self, chunk: &[u8], wanted: usize) -> Option<usize> {
        match self.ending {
            Ending::Line => {
                let rest = chunk.get(wanted..)?;
                memchr(b'\n', rest).map(|found| wanted + found + 1)
            }
            Ending::Csv { delimiter } => self.csv(chunk, wanted, delimiter),
        }
    }

    fn csv(&mut self, chunk: &[u8], wanted: usize, delimiter: u8) -> Option<usize> {
        let mut at = 0;
        loop {
            match self.state {
                State::Closing => match chunk.get(at)? {
                    b'"' => {
                        at += 1;
                        self.state = State::Quoted;
                    }
                    _ => {
                        self.state = State::Plain;
                        self.previous = b'"';
                    }
                },
                State::Quoted => {
                    at += memchr(b'"', chunk.get(at..)?)? + 1;
                    self.state = State::Closing;
                }
                State::Plain => {
                    let opens = self.opening(chunk, at, delimiter);
                    let until = opens.unwrap_or(chunk.len());
                    let from = at.max(wanted);
                    if let Some(found) = chunk.get(from..until).and_then(|plain| memchr2(b'\n', b'\r', plain))
                    {
                        self.previous = b'\n';
                        return Some(from + found + 1);
                    }
                    if until > at {
                        self.previous = chunk.get(until - 1).copied().unwrap_or(self.previous);
                    }
                    at = opens? + 1;
                    self.state = State::Quoted;
                }
            }
        }
    }

    /// The first quote at or behind `from` that starts a field.
    fn opening(&self, chunk: &[u8], from: usize, delimiter: u8) -> Option<usize> {
        let mut at = from;
        loop {
            let quote = at + memchr(b'"', chunk.get(at..)?)?;
            let before = match quote.checked_sub(1) {
                Some(before) if quote > from => chunk.get(before).copied().unwrap_or(b'"'),
                _ => self.previous,
            };
            if before == delimiter || before == b'\n' || before == b'\r' {
                return Some(quote);
            }
            at = quote + 1;
        }
    }
}
