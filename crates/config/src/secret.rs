use std::fmt;

/// A value that came through a reference. It shows itself to nobody who does not ask by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. It must not be printed, logged or stored.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The resolved references of one file, to keep their values out of whatever is printed.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<(Secret, String)>);

impl Secrets {
    /// Values shorter than this, in bytes, are not replaced: they would match by chance.
    pub const BYTES_MIN: usize = 4;

    /// Keeps one more value out of what is printed; `reference` stands in its place.
    pub fn add(&mut self, value: Secret, reference: &str) {
        if value.expose().len() >= Self::BYTES_MIN && !self.0.iter().any(|(known, _)| *known == value) {
            self.0.push((value, reference.to_owned()));
            // The longest first: a value may be part of another.
            self.0.sort_by_key(|(value, _)| std::cmp::Reverse(value.expose().len()));
        }
    }

    /// The text with every value replaced by its reference.
    pub fn hide(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (value, reference)| text.replace(value.expose(), reference))
    }
}
