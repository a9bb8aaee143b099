use std::fmt;

/// A pipeline file: its name, for people, and its text.
#[derive(Debug, Clone)]
pub struct File {
    name: String,
    text: String,
}

/// A range of bytes in the text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last. Never less than `start`.
    pub end: usize,
}

/// A place in a file, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl File {
    /// A file of this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Its name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text in a span; empty if the span is outside.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// The same file with a sign in the place of each that stands in these spans. All other places stay.
    #[must_use]
    pub fn covered(&self, spans: &[Span]) -> Self {
        let is_covered = |at: usize| spans.iter().any(|span| (span.start..span.end).contains(&at));
        let cover = |(at, sign): (usize, char)| match sign {
            '\n' | '\r' => sign.to_string(),
            _ if is_covered(at) => "*".repeat(sign.len_utf8()),
            _ => sign.to_string(),
        };
        Self { name: self.name.clone(), text: self.text.char_indices().map(cover).collect() }
    }

    /// Line and column of a byte.
    pub fn place(&self, byte: usize) -> Place {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        Place { line: before.matches('\n').count().saturating_add(1), column: column.saturating_add(1) }
    }
}

impl Span {
    /// From the first byte to the one behind the last.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// How many bytes.
    pub fn length(self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
