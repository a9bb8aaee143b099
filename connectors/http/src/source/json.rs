//! Values inside of a page, as the text they were written in: no number loses a digit.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

/// A JSON document that was looked over once.
pub(super) struct Document<'a>(&'a str);

impl<'a> Document<'a> {
    /// Takes a text that is JSON; an error says why it is not.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| format!("it is not UTF-8 behind byte {}", error.valid_up_to()))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("it is not JSON: {error}"))?;
        Ok(Self(text.trim_ascii()))
    }

    /// The text of the value that a JSON pointer leads to.
    pub(super) fn at(&self, pointer: &str) -> Option<&'a str> {
        let mut value = self.0;
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            value = match value.as_bytes().first()? {
                b'{' => field(value, &name)?,
                b'[' => items(value).into_iter().nth(name.parse().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

/// Whether a text is a JSON pointer.
pub(super) fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

/// The texts of the values of an array that is JSON.
pub(super) fn items(array: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut rest = array.get(1..).unwrap_or_default().trim_ascii_start();
    while !rest.is_empty() && !rest.starts_with(']') {
        let Some(range) = value(rest) else { break };
        items.push(rest.get(range.clone()).unwrap_or_default());
        rest = behind(rest, range.end);
    }
    items
}

/// The text of the last value of an object that has this name.
fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let mut rest = object.get(1..)?.trim_ascii_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        let key = value(rest)?;
        let is_it = serde_json::from_str::<String>(rest.get(key.clone())?).is_ok_and(|key| key == name);
        rest = rest.get(key.end..)?.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
        let range = value(rest)?;
        if is_it {
            found = rest.get(range.clone());
        }
        rest = behind(rest, range.end);
    }
    found
}

/// Where the value at the beginning ends.
fn value(text: &str) -> Option<Range<usize>> {
    let mut values = Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(0..values.byte_offset())
}

/// What follows a value and its comma.
fn behind(text: &str, end: usize) -> &str {
    let rest = text.get(end..).unwrap_or_default().trim_ascii_start();
    rest.strip_prefix(',').unwrap_or(rest).trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_were_written() {
        let page = r#" { "a/b": {"~": [ 1.10 , {"x":"]},{"} ,"ü", null,12345678901234567890123 ]}, "n" :null, "n": "last" } "#;
        let page = Document::read(page.as_bytes()).unwrap();
        let array = page.at("/a~1b/~0").unwrap();
        assert_eq!(items(array), ["1.10", r#"{"x":"]},{"}"#, "\"ü\"", "null", "12345678901234567890123"]);
        assert_eq!(page.at("/a~1b/~0/1/x"), Some(r#""]},{""#));
        assert_eq!(page.at("/n"), Some("\"last\""));
        assert_eq!((page.at("/none"), page.at("/n/x"), page.at("/a~1b/~0/9")), (None, None, None));
        assert!(page.at("").unwrap().starts_with('{'));
        assert_eq!(items("[]"), Vec::<&str>::new());
        assert_eq!(items("[ ]"), Vec::<&str>::new());
        assert!(Document::read(b"{").is_err() && Document::read(b"[\xff]").is_err());
        assert!(is_pointer("") && is_pointer("/a") && !is_pointer("a"));
    }
}
