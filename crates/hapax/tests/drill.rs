//! `hapax drill`: what it counts, what it finds, what it refuses, and that nothing is left of it.
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

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// The kinds of destination there are.
const SINKS: [(&str, &str); 4] = [
    ("table", "sqlite: { path: out/orders.db, table: orders }"),
    ("directory", "files: { path: out/parts/, format: csv }"),
    ("file", "files: { path: out/orders.jsonl }"),
    ("packed", "files: { path: out/orders.csv.gz }"),
];

/// A directory with a source of orders (twins and a malformed line among them) and pipelines out of it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let mut text = String::from("id,name,amount\n");
        for id in 0..400 {
            text.push_str(&format!("{id},\"order {id}\",{}\n", id * 7 % 100));
            if id % 50 == 9 {
                text.push_str(&format!("{},again,1\n", id / 2));
            }
        }
        text.push_str("x,no number,y\n");
        fs::write(place.path("orders.csv"), text).unwrap();
        for (name, sink) in SINKS {
            place.pipeline(name, "files: { path: orders.csv, schema: { id: int64, amount: int64 } }", sink);
        }
        fs::create_dir(place.path("out")).unwrap();
        place
    }

    fn pipeline(&self, name: &str, source: &str, sink: &str) {
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  {source}\nidentity: {{ key: [id] }}\nduplicates: drop\nsink:\n  {sink}\n"
        );
        fs::write(self.path(&format!("{name}.yaml")), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .env_remove("HAPAX_CRASH")
            .env_remove("HAPAX_PLANT");
        command
            .env("TMPDIR", self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn hapax(&self, arguments: &[&str], exit: i32) -> (String, String) {
        said(self.command(arguments).output().unwrap(), exit)
    }

    fn drill(&self, name: &str, more: &[&str], exit: i32) -> Value {
        let file = format!("{name}.yaml");
        let (stdout, _) = self.hapax(&[&["drill", &file, "--json"], more].concat(), exit);
        serde_json::from_str(&stdout).unwrap()
    }

    fn scratches(&self) -> Vec<PathBuf> {
        let homes = [self.0.path().to_owned(), self.path("out")];
        let entries = homes.iter().filter_map(|home| fs::read_dir(home).ok()).flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".hapax-drill-"))
            .collect()
    }
}

fn said(output: Output, exit: i32) -> (String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{stdout}\n{stderr}");
    (stdout, stderr)
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: it did not come to that");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Everything below a folder: bytes, and when they were written.
fn all_below(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::metadata(&path).unwrap();
        if found.is_dir() {
            all.extend(all_below(&path));
            // A directory changes when a name appears in it, even if it vanishes again.
            all.insert(path, (Vec::new(), found.mtime(), found.mtime_nsec()));
        } else {
            all.insert(path.clone(), (fs::read(path).unwrap(), found.mtime(), found.mtime_nsec()));
        }
    }
    all
}

#[test]
fn a_promise_that_is_kept_is_counted() {
    let place = Place::new();
    let row = place.drill("table", &["--kills", "12", "--seed", "3"], 0);
    assert!(row["kills"].as_u64().unwrap() >= 12, "{row:#}");
    assert!(row["faults"].as_u64().unwrap() >= 1, "{row:#}");
    assert_eq!((&row["lost"], &row["duplicated"], &row["different"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(
        (&row["records"], &row["commit_records"], &row["kept"]),
        (&409.into(), &41.into(), &true.into())
    );
    assert_eq!(
        (&row["level_promised"], &row["level_kept"]),
        (&"exactly-once".into(), &"exactly-once".into())
    );
    assert_eq!((&row["pair"], &row["seed"]), (&"files (csv) → sqlite".into(), &3.into()));

    // One round by itself, for people.
    let (words, _) = place.hapax(&["drill", "file.yaml", "--seed", "3", "--round", "2"], 0);
    let rows: Vec<&str> = words.lines().collect();
    assert!(rows[0].starts_with("pair") && rows[0].ends_with("seed"), "{words}");
    assert!(rows[1].contains("exactly-once  exactly-once"), "{words}");
    assert!(words.contains("1 round in") && words.contains("commits of at most 41 records"), "{words}");
    assert!(place.scratches().is_empty() && fs::read_dir(place.path("out")).unwrap().count() == 0);
}

#[test]
fn the_real_destination_is_not_touched() {
    for (name, _) in SINKS {
        let place = Place::new();
        place.hapax(&["run", &format!("{name}.yaml")], 0);
        // With something new to move, which a run of the real pipeline would move.
        let mut text = fs::read_to_string(place.path("orders.csv")).unwrap();
        text.push_str("1000,new,1\n");
        fs::write(place.path("orders.csv"), text).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let before = all_below(&place.path("out"));
        let written = |folder: PathBuf| fs::metadata(folder).map(|found| (found.mtime(), found.mtime_nsec()));
        let made = written(place.path("out")).unwrap();
        let elsewhere = scratch.path().display().to_string();
        let row = place.drill(name, &["--kills", "3", "--seed", "1", "--scratch", &elsewhere], 0);
        assert_eq!(row["records"], 410, "{name}");
        assert!(all_below(&place.path("out")) == before, "{name}: the destination changed");
        assert_eq!(written(place.path("out")).unwrap(), made, "{name}: a name came or went beside it");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "{name}");

        // Beside the destination, which is where a scratch is made if nobody says otherwise.
        place.drill(name, &["--kills", "1", "--seed", "1"], 0);
        let mut after = all_below(&place.path("out"));
        assert!(place.scratches().is_empty(), "{name}");
        after.retain(|path, _| before.contains_key(path));
        assert!(after == before, "{name}: the destination changed");
    }
}

#[test]
fn a_destination_that_does_not_exist_is_not_made() {
    let place = Place::new();
    fs::remove_dir(place.path("out")).unwrap();
    for (name, sink) in SINKS {
        // A run makes the directory of a file, and none for a database.
        let is_refused = sink.starts_with("sqlite");
        let file = format!("{name}.yaml");
        let arguments = ["drill", file.as_str(), "--kills", "1", "--seed", "1"];
        let (_, complaint) = place.hapax(&arguments, i32::from(is_refused));
        assert_eq!(complaint.contains("HX0340"), is_refused, "{name}: {complaint}");
        assert!(!place.path("out").exists() && place.scratches().is_empty(), "{name}");
    }
    // Where a run would fail there is nothing to drill.
    fs::write(place.path("out"), "a file").unwrap();
    for (name, _) in SINKS {
        let (_, complaint) = place.hapax(&["drill", &format!("{name}.yaml"), "--kills", "1"], 1);
        assert!(complaint.contains("would fail at its real destination"), "{name}: {complaint}");
    }
    assert!(place.scratches().is_empty());
}

#[test]
fn a_worker_writes_only_where_a_drill_made_room() {
    let place = Place::new();
    place.hapax(&["drill-worker", "table.yaml", "--commit-records", "9", "--parent", "1"], 2);
    let arguments =
        ["drill-worker", "table.yaml", "--commit-records", "9", "--parent", "1", "--scratch", "out"];
    let (_, complaint) = place.hapax(&arguments, 2);
    assert!(complaint.contains("HX0444"), "{complaint}");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_drilled_is_refused() {
    let place = Place::new();
    place.pipeline("stream", "files: { path: '-', format: csv }", SINKS[0].1);
    place.pipeline("empty", "files: { path: empty.csv, schema: { id: int64 } }", SINKS[0].1);
    fs::write(place.path("empty.csv"), "id\n").unwrap();
    place.pipeline("broken", "files: { path: orders.csv, schema: { id: int64 } }", SINKS[0].1);
    let text = fs::read_to_string(place.path("broken.yaml")).unwrap();
    fs::write(place.path("broken.yaml"), text + "on_error: stop\n").unwrap();
    place.pipeline("printed", "files: { path: orders.csv }", "files: { path: '-', format: csv }");
    let text = fs::read_to_string(place.path("printed.yaml")).unwrap().replace("duplicates: drop\n", "");
    fs::write(place.path("printed.yaml"), text).unwrap();
    for (name, code, exit) in
        [("stream", "HX0440", 2), ("printed", "HX0442", 2), ("empty", "HX0443", 1), ("broken", "HX0445", 1)]
    {
        let (_, complaint) = place.hapax(&["drill", &format!("{name}.yaml"), "--kills", "1"], exit);
        assert!(complaint.contains(&format!("error {code}:")), "{name}: {complaint}");
        assert!(complaint.contains("the real destination was not changed"), "{name}: {complaint}");
    }
    // A drill that shows nothing does not say that a promise was kept.
    let (_, complaint) = place.hapax(&["drill", "table.yaml", "--minutes", "0"], 1);
    assert!(complaint.contains("error HX0443:"), "{complaint}");
    place.hapax(&["drill", "table.yaml", "--kills", "0"], 2);
    assert!(place.scratches().is_empty() && fs::read_dir(place.path("out")).unwrap().count() == 0);
}

/// Starts a drill that would go on for long, and waits until it is at work.
fn at_work(place: &Place, name: &str) -> (Child, PathBuf) {
    let drill = place.command(&["drill", &format!("{name}.yaml"), "--kills", "1000000"]).spawn().unwrap();
    wait_for("a round", || {
        let scratches = place.scratches();
        let names = scratches.first().and_then(|scratch| fs::read_dir(scratch).ok()).into_iter().flatten();
        names.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("round-2"))
    });
    (drill, place.scratches().remove(0))
}

/// The processes that were started with this path, and are not dead.
#[cfg(target_os = "linux")]
fn workers_in(scratch: &Path) -> Vec<rustix::process::Pid> {
    let scratch = scratch.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let ours = processes.filter(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(scratch)
    });
    let numbers = ours.filter_map(|process| process.file_name()?.to_str()?.parse().ok());
    numbers.filter_map(rustix::process::Pid::from_raw).collect()
}

/// Stops a worker, wherever it is.
#[cfg(target_os = "linux")]
fn stall(scratch: &Path) {
    wait_for("a worker that can be stopped", || {
        let stop = |worker| rustix::process::kill_process(worker, rustix::process::Signal::STOP).is_ok();
        let stopped = workers_in(scratch).into_iter().filter(|worker| stop(*worker)).count() > 0;
        stopped && !workers_in(scratch).is_empty()
    });
}

#[test]
fn what_a_killed_drill_leaves_the_next_one_removes() {
    let place = Place::new();
    let (mut drill, scratch) = at_work(&place, "table");
    // A drill that is alive keeps what it has from the next one.
    place.drill("table", &["--kills", "1"], 0);
    assert_eq!(place.scratches(), std::slice::from_ref(&scratch));
    #[cfg(target_os = "linux")]
    stall(&scratch);
    drill.kill().unwrap();
    drill.wait().unwrap();
    assert!(scratch.exists());
    #[cfg(target_os = "linux")]
    wait_for("no worker is left, not even a stopped one", || workers_in(&scratch).is_empty());
    place.drill("table", &["--kills", "1"], 0);
    assert!(place.scratches().is_empty());
}

#[test]
fn a_drill_that_is_asked_to_stop_leaves_nothing() {
    let place = Place::new();
    let (drill, scratch) = at_work(&place, "directory");
    let pid = rustix::process::Pid::from_raw(drill.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (_, complaint) = said(drill.wait_with_output().unwrap(), 1);
    assert!(complaint.contains("HX0447") && complaint.contains("nothing wrong was found"), "{complaint}");
    assert!(place.scratches().is_empty());
    #[cfg(target_os = "linux")]
    assert!(workers_in(&scratch).is_empty());
}

/// Does something to each destination of a drill until the drill ends.
fn disturbed(place: &Place, name: &str, mut disturb: impl FnMut(&Path)) -> Value {
    let arguments = ["drill", &format!("{name}.yaml"), "--kills", "4", "--seed", "2", "--json"];
    let mut drill = place.command(&arguments).spawn().unwrap();
    wait_for("the end", || {
        for scratch in place.scratches() {
            let rounds = fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
            rounds.filter(|path| path.is_dir()).for_each(|round| disturb(&round));
        }
        drill.try_wait().unwrap().is_some()
    });
    let (stdout, _) = said(drill.wait_with_output().unwrap(), 4);
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_record_that_vanishes_is_lost() {
    let place = Place::new();
    let row = disturbed(&place, "table", |round| {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        if let Ok(database) = rusqlite::Connection::open_with_flags(round.join("destination.db"), flags) {
            let _ = database.execute("DELETE FROM orders WHERE id = 7", []);
        }
    });
    assert!(row["lost"].as_u64().unwrap() > 0 && row["kept"] == false, "{row:#}");
    assert_eq!(row["level_kept"], "lossy");
    let finding = &row["findings"][0];
    assert!(finding["what"].as_str().unwrap().contains("1 record lost (one is id=7)"), "{row:#}");
    assert!(finding["again"].as_str().unwrap().starts_with("hapax drill table.yaml --seed 2 --round "));
}

#[test]
fn a_part_that_is_there_twice_is_duplicated() {
    let place = Place::new();
    let row = disturbed(&place, "directory", |round| {
        let parts = fs::read_dir(round.join("records")).into_iter().flatten().flatten();
        let first = parts.map(|part| part.path()).find(|path| path.extension().is_some_and(|e| e == "csv"));
        let copy = round.join("records/part-copy.csv");
        if let Some(part) = first.filter(|_| !copy.exists()) {
            let _ = fs::copy(part, round.join("records/copy"))
                .and_then(|_| fs::rename(round.join("records/copy"), copy));
        }
    });
    assert!(row["duplicated"].as_u64().unwrap() > 0, "{row:#}");
    assert_eq!(
        (&row["lost"], &row["level_kept"], &row["kept"]),
        (&0.into(), &"at-least-once".into(), &false.into())
    );
}

#[test]
fn a_source_that_changes_is_not_blamed_on_the_destination() {
    let place = Place::new();
    let mut drill = place.command(&["drill", "table.yaml", "--kills", "1000000"]).spawn().unwrap();
    wait_for("a round", || {
        let names = place.scratches().into_iter().filter_map(|scratch| fs::read_dir(scratch).ok()).flatten();
        names.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("round-1"))
    });
    let text = fs::read_to_string(place.path("orders.csv")).unwrap();
    fs::write(place.path("orders.csv"), text + "1000,new,1\n").unwrap();
    wait_for("the end", || drill.try_wait().unwrap().is_some());
    let (_, complaint) = said(drill.wait_with_output().unwrap(), 1);
    assert!(
        complaint.contains("HX0446") && complaint.contains("409 records at its start, 410 now"),
        "{complaint}"
    );
}

/// Mistakes that are compiled into test builds (`crates/planted`), each found in a round that provokes it.
#[test]
fn planted_mistakes_are_found() {
    for (mistake, round, provoked_by) in [
        ("no-fence", "17", "stalled at position-read:1 while another ran"),
        ("blind-retry", "6", "answer-lost-before:1"),
        ("cached-position", "28", "answer-lost-before:7"),
        ("filter-alone", "0", "to which nothing is done"),
    ] {
        let place = Place::new();
        let file = if mistake == "filter-alone" { many_identities(&place) } else { "table.yaml" };
        let mut command = place.command(&["drill", file, "--seed", "8", "--round", round, "--json"]);
        let (stdout, _) = said(command.env("HAPAX_PLANT", mistake).output().unwrap(), 4);
        let row: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(row["kept"], false, "{mistake}: {row:#}");
        let schedule = row["findings"][0]["schedule"].as_str().unwrap();
        assert!(schedule.contains(provoked_by), "{mistake}: {row:#}");
    }
}

/// Enough identities for a filter to be wrong about some.
fn many_identities(place: &Place) -> &'static str {
    let mut text = String::from("id,name,amount\n");
    (0..20_000).for_each(|id| text.push_str(&format!("{id},n,1\n")));
    fs::write(place.path("many.csv"), text).unwrap();
    place.pipeline("many", "files: { path: many.csv }", SINKS[0].1);
    "many.yaml"
}
