use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Deserialize;

use super::*;
use crate::schema::{Beside, System, compose};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Files {
    /// Where the files are.
    path: String,
    format: Option<Format>,
    compression: Option<Compression>,
    schema: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Format {
    Csv,
    Jsonl,
    Parquet,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Compression {
    /// Not compressed.
    None,
    /// Compressed.
    Gzip,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Sqlite {
    path: String,
    table: String,
    write: Option<Write>,
    columns: Option<Vec<String>>,
    timeout_ms: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Write {
    Append,
    Upsert,
    Ignore,
}

struct Fixed;

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "PASSWORD" => Some("hunter2-hunter2".into()),
            "TABLE" => Some("orders".into()),
            _ => None,
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        match path {
            "/run/secret" => Ok("from-a-file\n".into()),
            _ => Err("no such file".into()),
        }
    }
}

fn schema() -> serde_json::Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let files = generator.subschema_for::<Files>().to_value();
    let sqlite = generator.subschema_for::<Sqlite>().to_value();
    let systems = [
        System { name: "files", summary: "Files.", source: Some(files.clone()), sink: Some(files) },
        System { name: "sqlite", summary: "SQLite.", source: Some(sqlite.clone()), sink: Some(sqlite) },
    ];
    compose(&systems, Beside::default(), generator.take_definitions(true))
}

fn read_text(text: &str) -> Result<Pipeline, Vec<Mistake>> {
    read(&File::new("orders.yaml", text), &schema(), &Fixed)
}

/// `line:column code message | label | help` of each mistake.
fn mistakes(text: &str) -> Vec<String> {
    let file = File::new("orders.yaml", text);
    let told = |m: Mistake| {
        format!("{} {} {} | {} | {}", file.place(m.span.start), m.code, m.message, m.label, m.help)
    };
    read(&file, &schema(), &Fixed).expect_err("the file has mistakes").into_iter().map(told).collect()
}

const GOOD: &str =
    "source:\n  files:\n    path: a.csv\nsink:\n  sqlite:\n    path: a.db\n    table: orders\n";

fn good_with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn a_file_of_source_sink_and_identity_is_a_pipeline() {
    let pipeline = read_text(&good_with("identity: { key: [id, at] }\n")).expect("valid");
    assert_eq!(pipeline.name.as_str(), "orders");
    assert_eq!(pipeline.source.system, "files");
    assert_eq!(pipeline.sink.text("table"), Some("orders"));
    assert_eq!(pipeline.identity.value, Identity::Key(vec!["id".into(), "at".into()]));
    assert_eq!(pipeline.delivery, None);
    let sink: Sqlite = pipeline.sink.read().expect("valid");
    assert_eq!((sink.path.as_str(), sink.table.as_str()), ("a.db", "orders"));
}

#[test]
fn every_key_is_read() {
    let text = "version: 1\nname: my-orders\nduplicates: dead-letter\ndelivery: effectively-once\n\
                on_error: stop\nparallel: 3\nidentity: hash\ntransform: SELECT id FROM input\n";
    let pipeline = read_text(&good_with(text)).expect("valid");
    assert_eq!(pipeline.name.as_str(), "my-orders");
    assert_eq!(pipeline.duplicates.map(|d| d.value), Some(Duplicates::DeadLetter));
    assert_eq!(pipeline.delivery.map(|d| d.value), Some(Level::EffectivelyOnce));
    assert_eq!(pipeline.on_error, OnError::Stop);
    assert_eq!(pipeline.parallel, Some(3));
    assert_eq!(pipeline.identity.value, Identity::Hash);
    assert_eq!(pipeline.transform.map(|t| t.value).as_deref(), Some("SELECT id FROM input"));
}

#[test]
fn an_unknown_key_gets_the_one_that_was_meant() {
    assert_eq!(
        mistakes("soruce:\n  files: { path: a }\nsink:\n  sqlite: { path: a, tabel: t }\n"),
        [
            "1:1 HX0003 unknown key `soruce` | did you mean `source`? | The keys here are `commit`, `delivery`, `duplicates`, `embed`, `follow`, `identity`, `keeper`, `ledger`, `name`, `on_error`, `outage_max`, `parallel`, `sink`, `source`, `transform`, `version`.",
            "1:1 HX0005 a pipeline file needs `source` | `source` is missing | Add `source: …`. Where records come from: one system.",
            "4:3 HX0005 `sink.sqlite` needs `table` | `table` is missing | Add `table: …`.",
            "4:22 HX0003 unknown key `tabel` | did you mean `table`? | The keys here are `columns`, `path`, `table`, `timeout_ms`, `write`.",
        ]
    );
}

#[test]
fn an_unknown_system_gets_the_list() {
    assert_eq!(
        mistakes("source:\n  oracle: { url: x }\nsink:\n  sqlite: { path: a, table: t }\n"),
        ["2:3 HX0003 unknown system `oracle` | no such system | The systems here are `files`, `sqlite`."]
    );
}

#[test]
fn one_system_on_each_side() {
    let text = "source:\n  files: { path: a }\n  sqlite: { path: a, table: t }\nsink: {}\n";
    assert_eq!(
        mistakes(text),
        [
            "3:3 HX0010 `source` names more than one system | one too many | Keep one; the other belongs into a pipeline of its own.",
            "4:1 HX0010 `sink` names no system | here | Write one below it: `files` or `sqlite`.",
        ]
    );
}

#[test]
fn a_wrong_type_says_what_was_expected_and_found() {
    assert_eq!(
        mistakes(&good_with("identity: { key: id }\n")),
        [
            "8:18 HX0004 `key`: expected a list of column names, found the text \"id\" | expected a list of column names | Write it as a list: `[id]`."
        ]
    );
    assert_eq!(
        mistakes(&good_with("parallel: \"4\"\nname: 12\n")),
        [
            "8:11 HX0004 `parallel`: expected a whole number, found the text \"4\" | expected a whole number | Remove the quotes: it is a number.",
            "9:7 HX0004 `name`: expected a text, found the number 12 | expected a text | Put it in quotes if it is a text.",
        ]
    );
    assert_eq!(
        mistakes(&good_with("transform:\nidentity: [id]\n")),
        [
            "8:1 HX0004 `transform`: expected one SQL statement, `SELECT … FROM input`, found nothing | expected one SQL statement, `SELECT … FROM input` | One SQL SELECT over each record: projection, filter, casts, expressions.",
            "9:11 HX0004 `identity`: expected `{ key: [COLUMN, …] }`, `{ uuid: COLUMN }`, `hash` or `position`, found a list | expected `{ key: [COLUMN, …] }`, `{ uuid: COLUMN }`, `hash` or `position` | What makes two arrivals the same record. The position in the source by default.",
        ]
    );
}

#[test]
fn a_value_that_is_not_one_of_those_allowed() {
    assert_eq!(
        mistakes(&good_with("delivery: exactly_once\nversion: 2\n")),
        [
            "8:11 HX0006 `delivery` cannot be the text \"exactly_once\" | did you mean `exactly-once`? | It is one of `exactly-once`, `effectively-once`, `at-least-once` or `at-most-once`.",
            "9:10 HX0006 `version` cannot be the number 2 | here | Write 1.",
        ]
    );
    let text = "source:\n  files: { path: a, format: xml, compression: gzpi }\nsink:\n  sqlite: { path: a, table: t, write: merge }\n";
    assert_eq!(
        mistakes(text),
        [
            "2:29 HX0006 `format` cannot be the text \"xml\" | not one of those allowed | Write `csv`, `jsonl` or `parquet`.",
            "2:47 HX0006 `compression` cannot be the text \"gzpi\" | did you mean `gzip`? | It is one of `none` or `gzip`.",
            "4:39 HX0006 `write` cannot be the text \"merge\" | not one of those allowed | Write `append`, `upsert` or `ignore`.",
        ]
    );
}

#[test]
fn an_identity_of_no_known_kind() {
    assert_eq!(
        mistakes(&good_with("identity: { keys: [id] }\n")),
        ["8:13 HX0003 unknown key `keys` | did you mean `key`? | The keys here are `key`, `uuid`."]
    );
    assert_eq!(
        mistakes(&good_with("identity: { key: [] }\n")),
        ["8:18 HX0007 `key` is an empty list | here | Name at least 1."]
    );
    assert!(mistakes(&good_with("identity: hsah\n")).iter().all(|m| m.contains("did you mean `hash`?")));
}

#[test]
fn numbers_have_limits() {
    assert_eq!(
        mistakes(&good_with("parallel: 0\n")),
        ["8:11 HX0007 `parallel` is 0, which is too small | here | The least is 1."]
    );
    assert_eq!(
        mistakes(&good_with("parallel: 1000\n")),
        ["8:11 HX0007 `parallel` is 1000, which is too large | here | The most is 256."]
    );
}

#[test]
fn a_length_of_time_has_a_unit() {
    assert_eq!(
        mistakes(&good_with("outage_max: soon\n")),
        [
            "8:13 HX0013 `outage_max` is not a length of time: the text \"soon\" | here | Write 30s, 5m or 1h, for instance."
        ]
    );
    let read = read_text(&good_with("outage_max: 5m\nfollow: true\n")).unwrap();
    assert_eq!((read.outage_max, read.follow), (Some(Window(300_000)), true));
}

#[test]
fn a_write_by_key_needs_a_key() {
    let text = "source:\n  files: { path: a }\nsink:\n  sqlite: { path: a, table: t, write: upsert }\n";
    assert_eq!(
        mistakes(text),
        [
            "4:39 HX0012 `write: upsert` needs key columns, and the identity of this pipeline has none | by which key? | Add `identity: { key: [COLUMN] }`, or write `append`."
        ]
    );
    assert!(read_text(&format!("{text}identity: {{ key: [id] }}\n")).is_ok());
}

#[test]
fn broken_yaml_has_a_place() {
    let found = mistakes("source:\n  files: { path: a\nsink: x\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("HX0002 this is not valid YAML"), "{found:?}");
    let found = mistakes("name: a\nname: b\n");
    assert!(found[0].starts_with("2:1 HX0002"), "{found:?}");
    let found = mistakes("a: 1\n---\nb: 2\n");
    assert!(found[0].contains("more than one document"), "{found:?}");
    assert!(mistakes("name: !secret x\n")[0].starts_with("1:"));
}

#[test]
fn an_empty_file_misses_both_sides() {
    let found = mistakes("# nothing yet\n");
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("needs `source`") && found[1].contains("needs `sink`"), "{found:?}");
}

#[test]
fn a_name_must_be_one() {
    assert!(mistakes(&good_with("name: über uns\n"))[0].starts_with("8:7 HX0011"));
    let unnamed = read(&File::new("my pipeline.yaml", GOOD), &schema(), &Fixed).expect_err("no name");
    assert_eq!(unnamed.len(), 1);
    assert_eq!(unnamed[0].code, codes::NAME);
}

#[test]
fn references_resolve_and_are_never_shown() {
    let text = "source:\n  files: { path: \"x:${env:PASSWORD}@y\" }\nsink:\n  sqlite: { path: '${file:/run/secret}', table: '${env:TABLE}' }\n";
    let pipeline = read_text(text).expect("valid");
    let files: Files = pipeline.source.read().expect("valid");
    assert_eq!(files.path, "x:hunter2-hunter2@y");
    let sqlite: Sqlite = pipeline.sink.read().expect("valid");
    assert_eq!((sqlite.path.as_str(), sqlite.table.as_str()), ("from-a-file", "orders"));
    let shown = format!("{pipeline:?} {}", pipeline.source.written());
    assert!(!shown.contains("hunter2") && !shown.contains("from-a-file"), "{shown}");
    assert_eq!(pipeline.secrets.hide("cannot open x:hunter2-hunter2@y"), "cannot open x:${env:PASSWORD}@y");
}

#[test]
fn a_mistake_about_a_resolved_value_shows_the_reference() {
    let text =
        "source:\n  files: { path: a, format: '${env:PASSWORD}' }\nsink:\n  sqlite: { path: a, table: t }\n";
    let found = mistakes(text);
    assert!(found[0].contains("${env:PASSWORD}") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn a_missing_reference_is_a_mistake_at_its_place() {
    let text = "source:\n  files: { path: \"${env:NOWHERE}/${file:/nowhere}/${HOME}/$${kept}\" }\nsink:\n  sqlite: { path: a, table: t }\n";
    assert_eq!(
        mistakes(text),
        [
            "2:19 HX0008 the environment variable `NOWHERE` is not set | needed here | Set it first: `export NOWHERE=…`.",
            "2:34 HX0008 the file `/nowhere` of this reference cannot be read: no such file | needed here | Write the value into that file, or correct the path.",
            "2:51 HX0009 `${HOME}` is not a reference that Hapax knows | here | Write `${env:HOME}` or `${file:/path/to/it}`; `$${` stands for a plain `${`.",
        ]
    );
    let kept = read_text("source:\n  files: { path: 'a$${kept}' }\nsink:\n  sqlite: { path: a, table: t }\n");
    assert_eq!(kept.expect("valid").source.text("path"), Some("a${kept}"));
}

#[test]
fn a_section_that_serde_refuses_hides_resolved_values() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Other {
        path: u8,
    }
    let pipeline =
        read_text("source:\n  files: { path: '${env:PASSWORD}' }\nsink:\n  sqlite: { path: a, table: t }\n")
            .expect("valid");
    let refused = pipeline.source.read::<Other>().expect_err("not a number");
    assert_eq!(refused.code, codes::SECTION);
    assert!(!refused.message.contains("hunter2"), "{}", refused.message);
}

#[test]
fn a_place_in_the_transform_is_found_however_the_file_folds_it() {
    for (transform, at) in [
        ("transform: SELECT id, amuont FROM input\n", "8:23"),
        ("transform: 'SELECT id, amuont FROM input'\n", "8:24"),
        ("transform: |\n  SELECT id,\n         amuont\n  FROM input\n", "10:10"),
        ("transform: >-\n  SELECT id,\n  amuont\n  FROM input\n", "10:3"),
    ] {
        let file = File::new("orders.yaml", good_with(transform));
        let pipeline = read(&file, &schema(), &Fixed).expect("valid");
        let sql = pipeline.transform.as_ref().expect("there").value.clone();
        let at_byte = sql.find("amuont").expect("there");
        let line = sql[..at_byte].matches('\n').count() + 1;
        let column = at_byte - sql[..at_byte].rfind('\n').map_or(0, |n| n + 1) + 1;
        let span = pipeline.place_in_transform(&file, line, column);
        assert_eq!(file.slice(span), "amuont");
        assert_eq!(file.place(span.start).to_string(), at, "{transform}");
        assert_eq!(
            pipeline.place_in_transform(&file, 99, 1),
            pipeline.transform.as_ref().expect("there").span
        );
    }
}

#[test]
fn columns_are_counted_in_characters() {
    let found = mistakes(&good_with("identity: { key: [\"größe\"], uid: x }\n"));
    assert!(found[0].starts_with("8:29 HX0003 unknown key `uid`"), "{found:?}");
}

#[test]
fn a_section_keeps_the_order_of_its_keys() {
    struct Ordered(Vec<String>);
    impl<'de> Deserialize<'de> for Ordered {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Keys;
            impl<'de> serde::de::Visitor<'de> for Keys {
                type Value = Ordered;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a map")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, String>()? {
                        keys.push(key);
                    }
                    Ok(Ordered(keys))
                }
            }
            deserializer.deserialize_map(Keys)
        }
    }
    #[derive(Deserialize)]
    struct Section {
        schema: Option<Ordered>,
        path: String,
        format: Option<Format>,
    }
    let text = "source:\n  files: { path: a, format: jsonl, schema: { z: int64, a: string, m: date } }\nsink:\n  sqlite: { path: a, table: t }\n";
    let section: Section = read_text(text).expect("valid").source.read().expect("valid");
    assert_eq!(section.schema.expect("there").0, ["z", "a", "m"]);
    assert!(section.path == "a" && matches!(section.format, Some(Format::Jsonl)));
}

#[test]
fn a_value_that_only_the_connector_refuses_has_its_own_place() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Strict {
        path: String,
        table: char,
    }
    let text = good_with("");
    let pipeline = read_text(&text).expect("valid");
    let refused = pipeline.sink.read::<Strict>().expect_err("not one character");
    assert_eq!(File::new("x", text).place(refused.span.start).to_string(), "7:12");
}

#[test]
fn equal_sections_have_one_canonical_text() {
    let canonical = |files: &str| {
        let text = format!("source:\n  files: {files}\nsink:\n  sqlite: {{ path: a, table: t }}\n");
        read_text(&text).expect("valid").source.canonical(&[])
    };
    let one = canonical("{ path: '${env:PASSWORD}', format: csv }");
    assert_eq!(one, canonical("{ format: csv, path: \"${env:PASSWORD}\" }"));
    assert!(!one.contains("hunter2"));
    assert_ne!(one, canonical("{ path: '${env:PASSWORD}', format: jsonl }"));
    assert_ne!(
        canonical("{ path: a, schema: { b: x, a: x } }"),
        canonical("{ path: a, schema: { a: x, b: x } }")
    );
}

#[test]
fn a_commit_size_is_read_and_checked() {
    let file = |commit: &str| {
        format!(
            "name: p\nsource: {{ files: {{ path: a }} }}\nsink: {{ files: {{ path: b }} }}\ncommit: {commit}\n"
        )
    };
    let read = read_text(&file("{ records: 500, interval_ms: 20 }")).expect("valid");
    assert_eq!(read.commit, Commit { records: Some(500), bytes: None, interval_ms: Some(20) });
    for wrong in ["{ records: 0 }", "{ rows: 5 }", "500", "{}"] {
        assert!(read_text(&file(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn keys_that_may_change_are_left_out_of_what_a_section_means() {
    let text = |source: &str| {
        let text = format!("name: p\nsource: {{ files: {source} }}\nsink: {{ files: {{ path: b }} }}\n");
        read_text(&text).expect("valid").source.canonical(&["schema"])
    };
    assert_eq!(text("{ path: a, schema: { b: x } }"), text("{ path: a }"));
    assert_ne!(text("{ path: a }"), text("{ path: c }"));
}
