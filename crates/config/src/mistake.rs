use std::fmt;

use hapax_protocol::code::Code;

use crate::codes;
use crate::file::Span;

/// One mistake in a pipeline file: what it is, where, and what to write instead.
///
/// Its texts quote the file as written. A value that came through a reference is never part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Its stable code.
    pub code: Code,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do, in full sentences.
    pub help: String,
    /// Where.
    pub span: Span,
    /// A few words to stand under the place.
    pub label: String,
}

impl Mistake {
    /// A mistake; [`labelled`](Self::labelled) and [`helped`](Self::helped) say more.
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: String::new(), span, label: "here".into() }
    }

    /// A secret that is written out. `instead` is how it is written with a reference.
    pub fn written_out(key: &str, instead: &str, span: Span) -> Self {
        Self::new(codes::SECRET, span, format!("`{key}` is a secret, and is written out"))
            .labelled("by reference only")
            .helped(format!(
                "Write `{instead}` and set that variable, or `${{file:PATH}}`. One that others may have read is better changed."
            ))
    }

    /// With words under the place.
    #[must_use]
    pub fn labelled(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// With what to do.
    #[must_use]
    pub fn helped(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
