//! What is printed: data to stdout, everything else to stderr, secrets nowhere.

mod failure;
pub mod figures;
pub mod progress;
pub mod verdict;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use hapax_config::Secrets;
use serde_json::Value;

use crate::exit::Failure;

/// Where a command prints.
#[derive(Debug)]
pub struct Output {
    json: bool,
    secrets: Mutex<Secrets>,
}

impl Output {
    /// Prints for people, or JSON.
    pub fn new(json: bool) -> Self {
        Self { json, secrets: Mutex::default() }
    }

    /// Whether JSON is asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Keeps values that came through references out of everything printed from now on.
    pub fn keep_secret(&self, secrets: Secrets) {
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// The text without secrets.
    pub fn hidden(&self, text: &str) -> String {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).hide(text)
    }

    /// Prints a text to stdout.
    pub fn data(&self, text: &str) {
        let text = self.hidden(text);
        let mut stdout = std::io::stdout().lock();
        // Whoever reads may have gone: that is no failure of the command.
        let _ = stdout.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = stdout.write_all(b"\n");
        }
        let _ = stdout.flush();
    }

    /// Prints a JSON document to stdout.
    pub fn document(&self, document: &Value) {
        self.data(&format!("{:#}", self.hidden_in(document)));
    }

    /// Prints a text to stderr.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{}", self.hidden(text.trim_end_matches('\n')));
    }

    /// Prints a JSON object as one line to stderr.
    pub fn line(&self, object: &Value) {
        self.note(&self.hidden_in(object).to_string());
    }

    /// Prints why a command did not do what it was asked.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.line(&failure::json(failure));
        } else {
            self.note(&failure::words(failure, colours()));
        }
    }

    /// Every text in the value without secrets: before it is escaped, so that none escapes.
    fn hidden_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.hidden(text).into(),
            Value::Array(items) => items.iter().map(|item| self.hidden_in(item)).collect(),
            Value::Object(entries) => Value::Object(
                entries.iter().map(|(key, value)| (key.clone(), self.hidden_in(value))).collect(),
            ),
            other => other.clone(),
        }
    }
}

/// The mistakes of a file as a JSON list.
pub fn mistakes_json(file: &hapax_config::File, mistakes: &[hapax_config::Mistake]) -> Value {
    failure::mistakes_json(file, mistakes)
}

fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}
