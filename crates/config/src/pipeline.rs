use std::path::Path;

use hapax_protocol::guarantee::{Level, Window};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::PipelineName;
use serde::de::DeserializeOwned;

use crate::codes;
use crate::deserialize;
use crate::document;
use crate::file::{File, Span};
use crate::mistake::Mistake;
use crate::reference::{Environment, resolve};
use crate::schema;
use crate::secret::Secrets;
use crate::tree::{Node, Value};

/// A pipeline as its file says it. Every key in it is known and has a value of its type.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// What positions are kept under.
    pub name: PipelineName,
    /// Where records come from.
    pub source: Section,
    /// Where they go.
    pub sink: Section,
    /// Where positions are kept for a destination that keeps none, if the file says.
    pub keeper: Option<Section>,
    /// Where identities are remembered beside the destination, if the file says.
    pub ledger: Option<Section>,
    /// What computes vectors, if the file says.
    pub embed: Option<Section>,
    /// What tells them apart.
    pub identity: Spanned<Identity>,
    /// The columns of the identity, each with its place.
    pub identity_columns: Vec<Spanned<String>>,
    /// What happens to twins, if the file says.
    pub duplicates: Option<Spanned<Duplicates>>,
    /// The SQL of the transform.
    pub transform: Option<Spanned<String>>,
    /// The least level that is accepted, if the file says.
    pub delivery: Option<Spanned<Level>>,
    /// What happens to a record that cannot be moved.
    pub on_error: OnError,
    /// Whether the run goes on until it is stopped.
    pub follow: bool,
    /// How long a run waits for a system that is away, if the file says.
    pub outage_max: Option<Window>,
    /// At most this many splits at a time, if the file says.
    pub parallel: Option<u16>,
    /// How much goes into one commit, as far as the file says.
    pub commit: Commit,
    /// What came through references, to be kept out of everything that is printed.
    pub secrets: Secrets,
}

/// How much goes into one commit. What is `None` is left to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commit {
    /// Records.
    pub records: Option<u64>,
    /// Bytes of memory of the records.
    pub bytes: Option<u64>,
    /// Milliseconds since the first record of the commit.
    pub interval_ms: Option<u64>,
}

/// A value and where the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands; empty at the start of the file if it was left to the default.
    pub span: Span,
}

/// What happens to a record that cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It becomes a dead letter and the run goes on.
    #[default]
    SetAside,
    /// The run stops before it.
    Stop,
}

/// What the file says of one system, as a source or as a sink.
#[derive(Debug, Clone)]
pub struct Section {
    /// The system.
    pub system: String,
    /// Where it is named.
    pub span: Span,
    node: Node,
}

impl Section {
    /// Reads the section as a connector's configuration.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Mistake> {
        deserialize::read(&self.node).map_err(|(span, error)| {
            // The library's message quotes values; one that came through a reference must not be shown.
            let message = if self.node.has_reference() {
                format!("`{}` does not take this section", self.system)
            } else {
                format!("`{}` does not take this section: {error}", self.system)
            };
            let span = if span == self.node.span { self.span } else { span };
            Mistake::new(codes::SECTION, span, message).helped("`hapax schema` prints what it takes.")
        })
    }

    /// Where the value of a key stands, if the key is there.
    pub fn place(&self, key: &str) -> Option<Span> {
        self.node.get(key).map(|node| node.span)
    }

    /// Where a key itself stands, if it is there.
    pub fn key_place(&self, key: &str) -> Option<Span> {
        self.node.entry(key).map(|entry| entry.key_span)
    }

    /// The value of a key, if it is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.node.get(key)?.text()
    }

    /// The value of a key inside the value of a key, if it is a text.
    pub fn inner_text(&self, key: &str, inner: &str) -> Option<&str> {
        self.node.get(key)?.get(inner)?.text()
    }

    /// The text at a path of keys, if there is one.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(&self.node, |node, key| node.get(key))?.text()
    }

    /// The texts inside the value of a key, by name.
    pub fn inner_texts(&self, key: &str) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.node.get(key).map(Node::entries).unwrap_or_default();
        entries.iter().filter_map(|entry| Some((entry.key.as_str(), entry.node.text()?)))
    }

    /// What stands without a reference inside the value of a key: names, values as written, places.
    pub fn written_out(&self, key: &str) -> impl Iterator<Item = (&str, String, Span)> {
        let entries = self.node.get(key).map(Node::entries).unwrap_or_default();
        let written_out = entries.iter().filter(|entry| entry.node.is_written_out());
        written_out.map(|entry| (entry.key.as_str(), entry.node.json(false).to_string(), entry.node.span))
    }

    /// All texts in it as written, with their places.
    pub fn texts(&self) -> Vec<(&str, Span)> {
        self.node.texts()
    }

    /// The same section with another text for a key.
    #[must_use]
    pub fn with_text(&self, key: &str, text: impl Into<String>) -> Self {
        let mut section = self.clone();
        section.node.set_text(key, text.into());
        section
    }

    /// What the references in it stand for: nobody is shown it, nor what is made of it.
    pub fn secrets(&self) -> Vec<String> {
        self.node.secrets().into_iter().map(str::to_owned).collect()
    }

    /// The same section without a key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        let mut section = self.clone();
        section.node.remove(key);
        section
    }

    /// The section as written, references unresolved.
    pub fn written(&self) -> serde_json::Value {
        self.node.json(false)
    }

    /// The same section without a key inside the value of a key.
    #[must_use]
    pub fn without_inner(&self, key: &str, inner: &str) -> Self {
        let mut section = self.clone();
        if let Some(node) = section.node.get_mut(key) {
            node.remove(inner);
        }
        section
    }

    /// A text that is equal for sections that say the same, but for the keys `without`: as written, keys
    /// sorted, those inside a value in the order of the file.
    pub fn canonical(&self, without: &[&str]) -> String {
        let mut lines: Vec<String> = self
            .node
            .entries()
            .iter()
            .filter(|entry| !without.contains(&entry.key.as_str()))
            .map(|entry| format!("{}={}", entry.key, entry.node.canonical()))
            .collect();
        lines.sort();
        format!("{} {{{}}}", self.system, lines.join(";"))
    }
}

impl Pipeline {
    /// Where line and column of the transform's SQL (both from 1) stand in the file. The whole SQL where
    /// that cannot be told.
    pub fn place_in_transform(&self, file: &File, line: usize, column: usize) -> Span {
        self.transform
            .as_ref()
            .map_or(Span::default(), |sql| place_in(file, sql, line, column).unwrap_or(sql.span))
    }
}

/// The word at a place of the SQL is looked for in the file by counting: it is the n-th of its kind in
/// both, however the file folds, indents or quotes the text.
fn place_in(file: &File, sql: &Spanned<String>, line: usize, column: usize) -> Option<Span> {
    let line_text = sql.value.split('\n').nth(line.checked_sub(1)?)?;
    let line_start: usize =
        sql.value.split('\n').take(line.saturating_sub(1)).map(|line| line.len().saturating_add(1)).sum();
    let in_line = line_text.char_indices().nth(column.checked_sub(1)?)?.0;
    let (before, rest) = sql.value.split_at_checked(line_start.checked_add(in_line)?)?;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word_length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let word = rest.get(..word_length.max(rest.chars().next()?.len_utf8()))?;
    let nth = before.matches(word).count();
    let (at, found) = file.slice(sql.span).match_indices(word).nth(nth)?;
    let start = sql.span.start.checked_add(at)?;
    Some(Span::new(start, start.saturating_add(found.len())))
}

/// Reads a pipeline file: all of it, or every mistake in it in the order of their places.
pub fn read(
    file: &File,
    schema: &serde_json::Value,
    environment: &dyn Environment,
) -> Result<Pipeline, Vec<Mistake>> {
    let mut tree = document::parse(file).map_err(|mistake| vec![mistake])?;
    if matches!(tree.value, Value::Null) {
        tree.value = Value::Map(Vec::new());
    }
    let mut secrets = Secrets::default();
    let mut mistakes = resolve(&mut tree, file, environment, &mut secrets);
    mistakes.extend(schema::check(schema, &tree));
    let name = name(file, &tree).map_err(|mistake| mistakes.push(mistake));
    mistakes.extend(conflicts(&tree));
    mistakes.sort_by_key(|mistake| mistake.span.start);
    match name {
        Ok(name) if mistakes.is_empty() => pipeline(&tree, name, secrets).ok_or_else(|| vec![incomplete()]),
        _ => Err(mistakes),
    }
}

fn incomplete() -> Mistake {
    Mistake::new(codes::SECTION, Span::default(), "the file cannot be read as a pipeline")
        .helped("`hapax schema` prints what a file may say.")
}

fn name(file: &File, tree: &Node) -> Result<PipelineName, Mistake> {
    let rule = "A name has 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, and starts with a letter or digit.";
    if let Some(node) = tree.get("name") {
        // What is not a text the schema has already found.
        let text = node.text().unwrap_or("pipeline");
        return PipelineName::new(text).map_err(|_| {
            Mistake::new(codes::NAME, node.span, format!("{} cannot name a pipeline", node.words()))
                .helped(rule)
        });
    }
    let stem = Path::new(file.name()).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    PipelineName::new(stem).map_err(|_| {
        let message = format!("the pipeline has no name, and the file's own name {stem:?} cannot be one");
        Mistake::new(codes::NAME, Span::default(), message)
            .labelled("`name` is missing")
            .helped(format!("Add `name: …`. {rule}"))
    })
}

/// What single values do not show: keys that exclude or need each other.
fn conflicts(tree: &Node) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let keyed = tree.get("identity").is_some_and(|identity| !identity.entries().is_empty());
    for system in tree.get("sink").map(Node::entries).unwrap_or_default() {
        if let Some(write) = system.node.get("write")
            && let Some(mode @ ("upsert" | "ignore")) = write.text()
            && !keyed
        {
            let message =
                format!("`write: {mode}` needs key columns, and the identity of this pipeline has none");
            mistakes.push(
                Mistake::new(codes::CONFLICT, write.span, message)
                    .labelled("by which key?")
                    .helped("Add `identity: { key: [COLUMN] }`, or write `append`."),
            );
        }
    }
    if let Some(node) = tree.get("outage_max")
        && let Some(text) = node.text()
        && Window::parse(text).is_none()
    {
        let message = format!("`outage_max` is not a length of time: {}", node.words());
        mistakes.push(
            Mistake::new(codes::SECTION, node.span, message).helped("Write 30s, 5m or 1h, for instance."),
        );
    }
    mistakes
}

fn pipeline(tree: &Node, name: PipelineName, secrets: Secrets) -> Option<Pipeline> {
    let (identity, identity_columns) = identity(tree.get("identity"));
    Some(Pipeline {
        name,
        source: section(tree.get("source")?)?,
        sink: section(tree.get("sink")?)?,
        ledger: tree.get("ledger").and_then(section),
        keeper: tree.get("keeper").and_then(section),
        embed: tree.get("embed").and_then(section),
        identity,
        identity_columns,
        duplicates: spanned(tree, "duplicates", |text| match text {
            "keep" => Duplicates::Keep,
            "dead-letter" => Duplicates::DeadLetter,
            _ => Duplicates::Drop,
        }),
        transform: spanned(tree, "transform", str::to_owned),
        delivery: spanned(tree, "delivery", |text| match text {
            "at-most-once" => Level::AtMostOnce,
            "at-least-once" => Level::AtLeastOnce,
            "effectively-once" => Level::EffectivelyOnce,
            _ => Level::ExactlyOnce,
        }),
        on_error: match tree.get("on_error").and_then(Node::text) {
            Some("stop") => OnError::Stop,
            _ => OnError::SetAside,
        },
        follow: tree.get("follow").is_some_and(|node| matches!(node.value, Value::Bool(true))),
        outage_max: tree.get("outage_max").and_then(Node::text).and_then(Window::parse),
        parallel: tree.get("parallel").and_then(number).and_then(|number| u16::try_from(number).ok()),
        commit: tree.get("commit").map_or_else(Commit::default, |commit| Commit {
            records: commit.get("records").and_then(number),
            bytes: commit.get("bytes").and_then(number),
            interval_ms: commit.get("interval_ms").and_then(number),
        }),
        secrets,
    })
}

fn number(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn spanned<T>(tree: &Node, key: &str, read: impl Fn(&str) -> T) -> Option<Spanned<T>> {
    let node = tree.get(key)?;
    Some(Spanned { value: read(node.text()?), span: node.span })
}

fn section(side: &Node) -> Option<Section> {
    let entry = side.entries().first()?;
    Some(Section { system: entry.key.clone(), span: entry.key_span, node: entry.node.clone() })
}

fn identity(node: Option<&Node>) -> (Spanned<Identity>, Vec<Spanned<String>>) {
    let column = |node: &Node| Some(Spanned { value: node.text()?.to_owned(), span: node.span });
    let Some(node) = node else {
        return (Spanned { value: Identity::Position, span: Span::default() }, Vec::new());
    };
    if let Some(key) = node.get("key") {
        let columns: Vec<_> = key.items().iter().filter_map(column).collect();
        let names = columns.iter().map(|column| column.value.clone()).collect();
        return (Spanned { value: Identity::Key(names), span: node.span }, columns);
    }
    if let Some(column) = node.get("uuid").and_then(column) {
        return (Spanned { value: Identity::Uuid(column.value.clone()), span: node.span }, vec![column]);
    }
    let value = if node.text() == Some("hash") { Identity::Hash } else { Identity::Position };
    (Spanned { value, span: node.span }, Vec::new())
}

#[cfg(test)]
mod tests;
