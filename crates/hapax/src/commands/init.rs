//! `hapax init`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use clap::Args;
use serde_json::json;

use crate::codes;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::registry::address::{Endpoint, Side};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where records come from: an address (data.csv, sqlite:shop.db?table=orders) or a system's name
    #[arg(default_value = "files", requires = "sink")]
    source: String,
    /// Where they go: an address or a system's name
    #[arg(default_value = "sqlite")]
    sink: String,
    /// The format of the source, where its name does not say it: csv, jsonl or parquet
    #[arg(long, value_name = "FORMAT", requires = "sink")]
    from_format: Option<String>,
    /// The format of the sink, where its name does not say it
    #[arg(long, value_name = "FORMAT", requires = "sink")]
    to_format: Option<String>,
    /// Write to this file instead of printing; it must not exist
    #[arg(long)]
    out: Option<String>,
}

/// Writes a commented pipeline file.
pub fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let end = |address: &str, format: Option<&str>, side| match Endpoint::sample(address, side) {
        Some(sample) if format.is_none() => Ok(sample),
        _ => Endpoint::read(address, format, side),
    };
    let source = end(&arguments.source, arguments.from_format.as_deref(), Side::Source)?;
    let sink = end(&arguments.sink, arguments.to_format.as_deref(), Side::Sink)?;
    let text = pipeline_file(&source, &sink);
    let Some(path) = &arguments.out else {
        if output.json() {
            output.document(&json!({"text": text}));
        } else {
            output.data(&text);
        }
        return Ok(Exit::Done);
    };
    write_new(path, &text)?;
    if output.json() {
        output.document(&json!({"written": path}));
    } else {
        output.data(&format!("wrote {path}\nlook first: hapax plan {path}\nthen go:    hapax run {path}"));
    }
    Ok(Exit::Done)
}

fn write_new(path: &str, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Report::new(
            codes::EXISTS,
            Exit::BadCommand,
            format!("{path} exists, and init overwrites nothing"),
            "Give another name with `--out`, or remove the file yourself.",
        ),
        _ => Report::new(
            codes::CANNOT_WRITE,
            Exit::Failed,
            format!("{path} cannot be written: {error}"),
            "Check that its directory exists and may be written.",
        ),
    };
    written.map_err(|error| refused(error).into())
}

fn pipeline_file(source: &Endpoint, sink: &Endpoint) -> String {
    let delivery = if source.is_stream() || sink.is_stream() { "at-least-once" } else { "exactly-once" };
    let mut lines = vec![
        "# Moves records from a source to a sink, each with effect once.".to_owned(),
        "# Look first with `hapax plan`, move with `hapax run`; running again goes on where it stopped."
            .to_owned(),
        "version: 1".to_owned(),
        format!(
            "name: {}-to-{}   # positions are kept under this name",
            source.short_name(),
            sink.short_name()
        ),
        String::new(),
        "source:".to_owned(),
    ];
    lines.extend(section(source, Side::Source));
    lines.extend(
        [
            "",
            "# What makes two arrivals the same record; without it, their place in the source.",
            "# identity: { key: [id] }        # { key: [COLUMN, …] } | { uuid: COLUMN } | hash | position",
            "# duplicates: drop               # drop | keep | dead-letter",
            "",
            "# transform: SELECT id, name FROM input WHERE id > 0",
            "",
            "sink:",
        ]
        .map(str::to_owned),
    );
    lines.extend(section(sink, Side::Sink));
    lines.extend([
        String::new(),
        format!("delivery: {delivery}           # the least that is accepted: if the pair cannot give it, nothing moves"),
        "# on_error: stop                 # a record that cannot be moved is set aside; `stop` stops before it".to_owned(),
        String::new(),
    ]);
    lines.join("\n")
}

fn section(end: &Endpoint, side: Side) -> Vec<String> {
    let mut lines = vec![format!("  {}:", end.system)];
    lines.extend(end.settings.iter().map(|(key, value)| format!("    {key}: {}", scalar(value))));
    lines.extend(end.notes(side).iter().map(|note| format!("    {note}")));
    lines
}

/// The text as YAML takes it: plain where that is safe, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    if starts && !is_word && text.chars().all(|c| plain(c) || c == '-') {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    struct Nothing;

    impl hapax_config::Environment for Nothing {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }
        fn file(&self, _: &str) -> Result<String, String> {
            Err("none".into())
        }
    }

    #[test]
    fn what_it_writes_has_no_mistakes() {
        let addresses =
            ["files", "sqlite", "a b.csv", "-x.jsonl", "sqlite:true?table=no", "a'\"\\.db?table=t # u"];
        for source in addresses {
            for sink in addresses {
                let end = |address, side| {
                    Endpoint::sample(address, side)
                        .map_or_else(|| Endpoint::read(address, None, side), Ok)
                        .expect("an address")
                };
                let (from, to) = (end(source, Side::Source), end(sink, Side::Sink));
                let file = hapax_config::File::new("new.yaml", pipeline_file(&from, &to));
                let pipeline = hapax_config::read(&file, &registry::schema(), &Nothing)
                    .unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{}", file.text()));
                let codes: Vec<_> = registry::check(&pipeline).iter().map(|mistake| mistake.code).collect();
                // A file, or a table of its database, is not moved onto itself.
                let onto_itself = source == sink && from.setting("path") == to.setting("path");
                let expected = if onto_itself { vec![hapax_config::codes::CONFLICT] } else { Vec::new() };
                assert_eq!(codes, expected, "{source} to {sink}");
                assert_eq!(pipeline.source.text("path"), from.setting("path"));
                assert_eq!(pipeline.sink.text("path"), to.setting("path"));
            }
        }
    }
}
