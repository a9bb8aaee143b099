//! The fields of one JSON object, each with its text.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `null`.
    Null,
    /// A number, `true` or `false`.
    Bare,
    /// A string; its text excludes the quotes and is still escaped.
    Quoted,
    /// An object or array.
    Nested,
}

/// One field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member<'a> {
    pub name: Cow<'a, str>,
    pub form: Form,
    pub text: &'a str,
}

/// Cuts an object into its fields; an error says why it is not one.
pub(super) fn members(body: &[u8]) -> Result<impl Iterator<Item = Member<'_>>, String> {
    let text = std::str::from_utf8(body)
        .map_err(|error| format!("not UTF-8 behind byte {}", error.valid_up_to()))?;
    // What follows may rely on it.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("not valid JSON: {error}"))?;
    let mut cursor = Cursor { text: text.trim_ascii() };
    if !cursor.take(b'{') {
        return Err("a JSON value that is not an object".to_owned());
    }
    Ok(std::iter::from_fn(move || {
        if cursor.take(b'}') {
            return None;
        }
        let name = cursor.string();
        cursor.take(b':');
        let (form, text) = cursor.value();
        cursor.take(b',');
        Some(Member { name: unescaped(name), form, text })
    }))
}

/// The text of a string that was given without its quotes.
pub(super) fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    serde_json::from_str(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// What is left of valid JSON.
struct Cursor<'a> {
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn first(&mut self) -> Option<u8> {
        self.text = self.text.trim_ascii_start();
        self.text.as_bytes().first().copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        // At the end of the text everything was there.
        let there = self.first().is_none_or(|byte| byte == wanted);
        if there {
            self.text = self.text.get(1..).unwrap_or_default();
        }
        there
    }

    fn cut(&mut self, at: usize) -> &'a str {
        let (head, rest) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        self.text = rest;
        head
    }

    /// A string, without its quotes.
    fn string(&mut self) -> &'a str {
        self.take(b'"');
        let end = string_end(self.text.as_bytes());
        let inside = self.cut(end);
        self.text = self.text.get(1..).unwrap_or_default();
        inside
    }

    fn value(&mut self) -> (Form, &'a str) {
        match self.first() {
            Some(b'"') => (Form::Quoted, self.string()),
            Some(b'{' | b'[') => {
                let end = nested_end(self.text.as_bytes());
                (Form::Nested, self.cut(end))
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}') || byte.is_ascii_whitespace();
                let end = self.text.as_bytes().iter().position(ends).unwrap_or(self.text.len());
                match self.cut(end) {
                    "null" => (Form::Null, "null"),
                    bare => (Form::Bare, bare),
                }
            }
        }
    }
}

/// Where the quote stands that ends a string whose opening quote was taken.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(found) if rest.get(found) == Some(&b'\\') => at += found + 2,
            Some(found) => return at + found,
            None => break,
        }
    }
    bytes.len()
}

/// The length of the object or array at the beginning.
fn nested_end(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            b'"' => at += string_end(bytes.get(at..).unwrap_or_default()) + 1,
            _ => {}
        }
    }
    at
}
