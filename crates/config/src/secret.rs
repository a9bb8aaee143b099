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

    /// Keeps one more value out of what is printed, in each form that it has in a URL or in JSON, too; `reference` stands
    /// in its place.
    pub fn add(&mut self, value: Secret, reference: &str) {
        let text = value.expose();
        if text.len() < Self::BYTES_MIN {
            return;
        }
        let json = serde_json::Value::from(text).to_string();
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
        let strict = percent(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        // A URL leaves signs as they are that mean nothing where they stand: in its path, and in its parameters.
        let path = percent(text, |byte| byte.is_ascii_graphic() && !b"\"#<>?`{}".contains(&byte));
        let parameters = percent(text, |byte| byte.is_ascii_graphic() && !b"\"#<>'".contains(&byte));
        let form =
            percent(text, |byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte)).replace("%20", "+");
        for form in [text.to_owned(), json, strict, path, parameters, form] {
            if !self.0.iter().any(|(known, _)| known.expose() == form) {
                self.0.push((Secret::new(form), reference.to_owned()));
            }
        }
        // The longest first: a value may be part of another.
        self.0.sort_by_key(|(value, _)| std::cmp::Reverse(value.expose().len()));
    }

    /// The text with every value replaced by its reference.
    pub fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (value, reference)| match text.contains(value.expose()) {
            true => text.replace(value.expose(), reference),
            false => text,
        })
    }
}

/// A text as it stands in a URL, in which these bytes stand for themselves.
fn percent(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
