//! The JSON Schema of a pipeline file, and the mistakes a tree has against it.

mod check;
mod words;

use serde_json::{Map, Value, json};

pub(crate) use check::check;

/// A system that can stand in a file: its name and what its sections look like.
#[derive(Debug, Clone)]
pub struct System {
    /// The key that names it under `source` or `sink`.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// The schema of its section as a source; `None` if it cannot be one.
    pub source: Option<Value>,
    /// The schema of its section as a sink; `None` if it cannot be one.
    pub sink: Option<Value>,
}

/// What may stand beside both ends: the schema of each kind, by its name.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Ledgers.
    pub ledgers: Map<String, Value>,
    /// What computes vectors.
    pub embedders: Map<String, Value>,
}

/// The schema of the whole file, from the systems there are and the definitions their schemas share.
///
/// Two keywords of its own help people: `x-expected` says in words what a value should be, `x-noun` what
/// the keys of an object name. A text that is `writeOnly` is a secret, and stands in the file by reference.
pub fn compose(systems: &[System], beside: Beside, definitions: Map<String, Value>) -> Value {
    let side = |what: &str, section: &dyn Fn(&System) -> Option<Value>| {
        let sections = systems.iter().filter_map(|system| {
            section(system).map(|schema| (system.name.to_owned(), described(schema, system)))
        });
        one_of("system", what, sections.collect())
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hapax pipeline",
        "description": "Where records come from, what tells them apart, where they go, and the least guarantee that is accepted.",
        "type": "object",
        "additionalProperties": false,
        "required": ["source", "sink"],
        "properties": {
            "version": {
                "type": "integer", "enum": [1], "default": 1,
                "description": "The version of this format.",
            },
            "name": {
                "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$",
                "description": "Names the pipeline: positions are kept under it. The file's own name by default.",
            },
            "source": side("Where records come from: one system.", &|system| system.source.clone()),
            "identity": identity(),
            "duplicates": {
                "description": "What happens to a record whose identity was moved before: it is dropped and counted, kept, or set aside.",
                "enum": ["drop", "keep", "dead-letter"],
            },
            "ledger": one_of(
                "kind of ledger",
                "Where identities are remembered for a destination that cannot remember them. Only for sources that can be read again from a position.",
                beside.ledgers,
            ),
            "embed": one_of(
                "kind of endpoint",
                "A column of vectors that is computed from a column of text, where it is missing. Each text is computed once: its vector is kept in a file.",
                beside.embedders,
            ),
            "transform": {
                "type": "string",
                "x-expected": "one SQL statement, `SELECT … FROM input`",
                "description": "One SQL SELECT over each record: projection, filter, casts, expressions.",
            },
            "sink": side("Where records go: one system.", &|system| system.sink.clone()),
            "keeper": keeper(),
            "delivery": {
                "description": "The least guarantee that is accepted. The run does not start if the pair cannot give it.",
                "enum": ["exactly-once", "effectively-once", "at-least-once", "at-most-once"],
            },
            "on_error": {
                "description": "What happens to a record that cannot be moved: it is set aside and the run goes on, or the run stops before it.",
                "enum": ["set-aside", "stop"], "default": "set-aside",
            },
            "follow": {
                "type": "boolean", "default": false,
                "description": "Whether the run goes on until it is stopped, and moves what comes as it comes. For sources that grow: streams and queues.",
            },
            "outage_max": {
                "type": "string", "x-expected": "a length of time: 30s, 5m, 1h",
                "description": "How long a run waits for a system that is away, trying again, before it stops: 60s by default. Running again goes on where it stood.",
            },
            "parallel": {
                "type": "integer", "minimum": 1, "maximum": 256,
                "description": "At most this many splits at a time. The number of processors by default.",
            },
            "commit": {
                "type": "object", "additionalProperties": false, "minProperties": 1,
                "description": "How much goes into one commit, whichever is reached first. What suits the destination by default.",
                "properties": {
                    "records": {"type": "integer", "minimum": 1, "description": "Records."},
                    "bytes": {"type": "integer", "minimum": 1, "description": "Bytes of memory of the records."},
                    "interval_ms": {"type": "integer", "minimum": 1, "description": "Milliseconds since the first record of the commit."},
                },
            },
        },
        "$defs": definitions,
    })
}

/// An object with one key, which names what the value is for.
fn one_of(noun: &str, what: &str, sections: Map<String, Value>) -> Value {
    json!({
        "type": "object",
        "description": what,
        "properties": sections,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "x-noun": noun,
    })
}

fn keeper() -> Value {
    let sqlite = json!({
        "type": "object", "additionalProperties": false, "required": ["path"],
        "description": "A SQLite database.",
        "properties": {"path": {
            "type": "string", "x-expected": "a path",
            "description": "The database file. Created if it is missing; its directory must exist. Losing it is losing the positions.",
        }},
    });
    one_of(
        "system",
        "Where positions, claims and dead letters are kept for a destination that keeps nothing itself (a web service, a message queue). A file NAME.hapax.db beside the pipeline file by default.",
        Map::from_iter([("sqlite".to_owned(), sqlite)]),
    )
}

fn identity() -> Value {
    json!({
        "description": "What makes two arrivals the same record. The position in the source by default.",
        "x-expected": "`{ key: [COLUMN, …] }`, `{ uuid: COLUMN }`, `hash` or `position`",
        "oneOf": [
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["key"],
                "properties": {"key": {
                    "type": "array", "items": {"type": "string", "x-expected": "a column name"}, "minItems": 1,
                    "x-expected": "a list of column names",
                    "description": "The columns that together tell records apart, for example `key: [id]`.",
                }},
            },
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["uuid"],
                "properties": {"uuid": {
                    "type": "string", "x-expected": "a column name",
                    "description": "A column that holds a UUID.",
                }},
            },
            {"const": "hash", "description": "A digest of the whole record: equal records are one."},
            {"const": "position", "description": "The place in the source."},
        ],
    })
}

fn described(mut schema: Value, system: &System) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), system.summary.into());
    }
    schema
}
