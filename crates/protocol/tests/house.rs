//! Who may know whom. ARCHITECTURE.md draws it; this test keeps it true.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every crate of the workspace: its folder and the names of its normal dependencies.
fn crates() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let mut all = BTreeMap::new();
    let folders = ["crates", "connectors"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    for folder in folders.chain([root().join("bench")]) {
        let Ok(text) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let manifest: toml::Table = text.parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let dependencies = manifest
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .map(|table| table.keys().cloned().collect())
            .unwrap_or_default();
        all.insert(name, (folder, dependencies));
    }
    all
}

fn is_connector(folder: &Path) -> bool {
    folder.parent().unwrap().ends_with("connectors")
}

#[test]
fn each_crate_knows_only_whom_it_may() {
    let may: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("hapax-protocol", [].as_slice()),
        ("hapax-planted", &[]),
        ("hapax-checker", &[]),
        ("hapax-engine", &["hapax-protocol", "hapax-planted"]),
        ("hapax-ledger", &["hapax-protocol", "hapax-engine", "hapax-planted"]),
        ("hapax-config", &["hapax-protocol"]),
        ("hapax-transform", &["hapax-protocol", "hapax-engine"]),
        ("hapax-embed", &["hapax-protocol", "hapax-engine"]),
        ("hapax-conformance", &["hapax-protocol", "hapax-engine"]),
        ("hapax-sim", &["hapax-protocol", "hapax-engine", "hapax-ledger", "hapax-planted", "hapax-checker"]),
    ]);
    let connectors_may = ["hapax-protocol", "hapax-engine", "hapax-ledger", "hapax-planted"];
    for (name, (folder, dependencies)) in crates() {
        let ours = dependencies.iter().filter(|dependency| dependency.starts_with("hapax"));
        for dependency in ours {
            let allowed = if is_connector(&folder) {
                connectors_may.contains(&dependency.as_str())
            } else if let Some(may) = may.get(name.as_str()) {
                may.contains(&dependency.as_str())
            } else {
                // Only the binary, and what measures it, may know everything.
                name == "hapax" || name == "hapax-bench"
            };
            assert!(allowed, "{name} must not depend on {dependency}: see ARCHITECTURE.md");
        }
    }
}

#[test]
fn only_the_binary_names_a_connector() {
    let crates = crates();
    let connectors: Vec<&String> =
        crates.iter().filter(|(_, (folder, _))| is_connector(folder)).map(|(name, _)| name).collect();
    assert!(!connectors.is_empty());
    for (name, (_, dependencies)) in &crates {
        let named = connectors.iter().filter(|connector| dependencies.contains(**connector)).count();
        assert!(named == 0 || name == "hapax", "{name} names a connector");
    }
}

#[test]
fn mistakes_are_planted_only_for_tests() {
    for (name, (folder, dependencies)) in crates() {
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let features = manifest.get("dependencies").and_then(|all| all.get("hapax-planted")?.get("features"));
        assert!(features.is_none() || name == "hapax-sim", "{name} compiles planted mistakes in");
        assert!(!dependencies.contains("hapax-sim"), "{name} depends on the simulation");
    }
}

#[test]
fn what_is_true_depends_on_next_to_nothing() {
    let (_, dependencies) = &crates()["hapax-protocol"];
    let allowed = BTreeSet::from(["serde".to_owned(), "thiserror".to_owned()]);
    assert!(dependencies.is_subset(&allowed), "{dependencies:?}");
}

#[test]
fn what_is_true_reads_no_clock_and_does_no_io() {
    let forbidden = [
        "SystemTime",
        "Instant",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "async ",
        "rand",
        "tokio",
    ];
    for file in sources(&root().join("crates/protocol/src")) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for word in forbidden {
                assert!(!line.contains(word), "{}: {word} in: {line}", file.display());
            }
        }
    }
}

#[test]
fn the_versions_of_dependencies_stand_in_one_place() {
    for (name, (folder, _)) in crates() {
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for (dependency, spec) in dependencies {
                let inherited = spec.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{name}: {dependency} must be `workspace = true`");
            }
        }
    }
}

/// What makes files durable notes it for test builds, so it stands where it can (docs/adr/0009-power-loss.md).
#[test]
fn the_steps_of_durability_stand_in_one_place() {
    for folder in ["connectors/files/src/sink", "crates/ledger/src"] {
        for file in sources(&root().join(folder)).iter().filter(|file| !file.ends_with("disk.rs")) {
            let text = fs::read_to_string(file).unwrap();
            for word in ["sync_all", "sync_data", "fs::rename", "fsync", "renameat"] {
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let lines: Vec<&str> = code.filter(|line| line.contains(word)).collect();
                assert!(lines.is_empty(), "{}: only disk.rs may do this: {lines:?}", file.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}
