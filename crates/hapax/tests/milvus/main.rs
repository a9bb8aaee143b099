//! Pipelines into and out of a real Milvus, as a person runs them, and as they are killed.
// A test fails by panicking; its numbers are small.
#![cfg(feature = "milvus")]
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod changes;
mod killed;
mod made;
mod nearest;
#[path = "../queue_kit/mod.rs"]
mod queue_kit;
mod scene;

use std::path::{Path, PathBuf};

use queue_kit::{Database, Hapax, root};
use scene::{Server, parquet, vector};
use serde_json::Value;

/// A pipeline file and what it needs of the environment.
fn hapax(server: &Server, folder: &Path, file: PathBuf, source: Option<String>) -> Hapax {
    let (url, token) = server.parts();
    let mut variables = vec![("MILVUS_URL", url), ("MILVUS_TOKEN", token)];
    variables.extend(source.map(|url| ("SOURCE_URL", url)));
    Hapax { folder: folder.to_owned(), file, variables }
}

/// Runs until so many were moved: transactions of other tests hold the horizon of all databases back, for a while.
fn moved_all(hapax: &Hapax, wanted: i64) -> i64 {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut moved = hapax.moved();
    while moved < wanted && std::time::Instant::now() < until {
        moved += hapax.moved();
    }
    moved
}

/// An example, where it may leave its positions beside itself.
fn example(name: &str, folder: &Path) -> PathBuf {
    let file = folder.join(name);
    std::fs::copy(root().join("examples").join(name), &file).unwrap();
    file
}

/// Writes a pipeline file.
fn pipeline(folder: &Path, source: &str, collection: &str, more: &str) -> PathBuf {
    let text = format!(
        "version: 1\nname: moved\nsource:\n  {source}\nidentity: {{ key: [id] }}\nsink:\n  milvus:\n    \
         url: ${{env:MILVUS_URL}}\n    token: ${{env:MILVUS_TOKEN}}\n    collection: {collection}\n    \
         create: {{ vector: embedding, dimension: 8, metric: l2, index: flat }}\n{more}"
    );
    let file = folder.join("p.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_parquet_example_runs() {
    let mut server = Server::of_tests();
    let name = "hapax_example_embeddings";
    server.drops(name);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("embeddings")).unwrap();
    let vectors: Vec<(i64, Vec<f32>)> = (0..500).map(|id| (id, vector(id, 384))).collect();
    parquet(&folder.path().join("embeddings/a.parquet"), &vectors);
    let hapax = hapax(&server, folder.path(), example("parquet-to-milvus.yaml", folder.path()), None);
    for command in ["validate", "plan"] {
        let (code, said) = hapax.said(&[command]);
        assert_eq!(code, 0, "{said}");
        assert!(command == "validate" || said.contains("effectively-once"), "{said}");
        assert!(command == "validate" || said.contains("make the collection"), "{said}");
    }
    assert_eq!(hapax.moved(), 500);
    assert_eq!(hapax.moved(), 0);
    assert_eq!(server.count(name), 500);
    let found = server.entities(name);
    for (id, vector) in &vectors {
        assert_eq!(found[id]["embedding"], serde_json::json!(vector));
        assert_eq!(found[id]["text"], format!("text {id}"));
    }
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
    server.write_text(name, 7, 384);
    let (code, said) = hapax.said(&["verify"]);
    assert_ne!(code, 0, "{said}");
}

#[test]
fn the_postgres_example_runs_and_follows_changes_and_deletions() {
    let mut server = Server::of_tests();
    let name = "hapax_example_documents";
    server.drops(name);
    let database = Database::new("milvus_example");
    let sql = std::fs::read_to_string(root().join("examples/data/documents.sql")).unwrap();
    database.ask(&sql);
    let folder = tempfile::tempdir().unwrap();
    let file = example("postgres-to-milvus.yaml", folder.path());
    let hapax = hapax(&server, folder.path(), file, Some(database.url()));
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("effectively-once"), "{said}");
    assert_eq!(moved_all(&hapax, 500), 500);
    assert_eq!(server.count(name), 500);
    database.ask("UPDATE documents SET title = 'other', embedding[1] = 9.5 WHERE id = 7");
    database.ask("UPDATE documents SET deleted = true WHERE id BETWEEN 100 AND 109");
    assert_eq!(moved_all(&hapax, 11), 11);
    assert_eq!(server.count(name), 490);
    let found = server.all(name, "id in [7, 99, 100]", &["id", "title", "embedding"]);
    let seven = found.iter().find(|row| row["id"] == 7).unwrap();
    assert_eq!((found.len(), &seven["title"]), (2, &Value::from("other")));
    assert_eq!(seven["embedding"][0], 9.5);
    let (code, said) = hapax.said(&["verify"]);
    assert!(code == 0 && said.contains("10 deleted by the last record of their key"), "{said}");
    // One that was deleted is put there again, and one that was not is taken away.
    server.write_text(name, 103, 8);
    server.remove(name, 300);
    let (code, said) = hapax.said(&["verify"]);
    assert!(code == 4 && said.contains("1 at the destination only") && said.contains("id=103"), "{said}");
    assert!(said.contains("1 missing at the destination") && said.contains("id=300"), "{said}");
    let (code, said) = hapax.said(&["verify", "--repair"]);
    assert_eq!(code, 4, "{said}");
    assert_eq!(server.count(name), 491);
    server.remove(name, 103);
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
    database.ask("UPDATE documents SET deleted = false WHERE id = 105");
    assert_eq!(moved_all(&hapax, 1), 1);
    assert_eq!(server.count(name), 491);
}

#[test]
fn what_does_not_fit_is_set_aside() {
    let mut server = Server::of_tests();
    let name = server.named("letters");
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(70_000);
    let row = |id: i64, vector: &str, text: &str| {
        format!("{{\"id\":{id},\"embedding\":{},\"text\":\"{text}\"}}\n", serde_json::json!(vector))
    };
    let good = "[1,2,3,4,5,6,7,8]";
    let input = folder.path().join("in.jsonl");
    let rows = [
        row(1, good, "a"),
        row(2, "[1,2,3]", "short"),
        row(3, "[1,2,3,4,5,6,7,1e60]", "infinite"),
        row(4, "what?", "no vector"),
        row(5, good, &long),
        row(6, good, "b"),
    ];
    std::fs::write(&input, rows.concat()).unwrap();
    let source = "files: { path: in.jsonl, schema: { id: int64, embedding: string, text: string } }";
    let file = pipeline(folder.path(), source, &name, "on_error: set-aside\n");
    let hapax = hapax(&server, folder.path(), file, None);
    let (code, said) = hapax.said(&["run"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(server.entities(&name).into_keys().collect::<Vec<_>>(), [1, 6]);
    let (_, said) = hapax.said(&["dead-letters", "list"]);
    for expected in ["HX0821", "HX0822"] {
        assert!(said.contains(expected), "{said}");
    }
    let (code, said) = hapax.said(&["verify"]);
    assert!(code != 0 && said.contains("HX0833"), "{said}");
}

#[test]
fn a_drill_uses_collections_of_its_own() {
    let mut server = Server::of_tests();
    let name = server.named("drilled");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scratch")).unwrap();
    parquet(&folder.path().join("in.parquet"), &(0..400).map(|id| (id, vector(id, 8))).collect::<Vec<_>>());
    for real in [false, true] {
        let create = "delivery: effectively-once\n";
        let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, create);
        if real {
            // It is there already, and the sink would not make it.
            let text = std::fs::read_to_string(&file).unwrap();
            let without =
                text.lines().filter(|line| !line.contains("create:")).collect::<Vec<_>>().join("\n");
            std::fs::write(&file, without).unwrap();
            server.create(&name, scene::MADE);
        }
        let hapax = hapax(&server, folder.path(), file, None);
        let (code, said) = hapax.said(&["drill", "--kills", "3", "--seed", "5", "--scratch", "scratch"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(server.count(&name), 0, "the real collection was written");
    }
    assert_eq!(server.collections("hapax_drill_"), Vec::<String>::new());
}

#[test]
fn a_pipeline_that_deletes_is_drilled_and_verified() {
    let mut server = Server::of_tests();
    let name = server.named("deletes");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scratch")).unwrap();
    // Each key twice, and some of them deleted both times.
    let twice = (0..400).chain(0..400).map(|id| (id, vector(id, 8))).collect::<Vec<_>>();
    parquet(&folder.path().join("in.parquet"), &twice);
    let more = "transform: SELECT *, text = 'text 7' OR id % 7 = 1 AS gone FROM input\ndelivery: effectively-once\ncommit: { records: 50 }\n";
    let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, more);
    let text =
        std::fs::read_to_string(&file).unwrap().replace("    create:", "    delete: gone\n    create:");
    std::fs::write(&file, text).unwrap();
    let hapax = hapax(&server, folder.path(), file, None);
    let (code, said) = hapax.said(&["drill", "--kills", "3", "--seed", "7", "--scratch", "scratch"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(hapax.moved(), 800);
    let gone = |id: &i64| *id == 7 || id % 7 == 1;
    let expected = (0..400).filter(|id| !gone(id)).collect::<Vec<i64>>();
    assert_eq!(server.entities(&name).into_keys().collect::<Vec<_>>(), expected);
    let (code, said) = hapax.said(&["verify"]);
    assert!(code == 0 && said.contains("58 deleted by the last record"), "{said}");
}
