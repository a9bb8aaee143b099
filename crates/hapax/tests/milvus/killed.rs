//! Runs that are killed, and servers that are.

use std::process::Command;
use std::time::{Duration, Instant};

use super::queue_kit::{Database, Hapax, POINTS, root};
use super::scene::{MADE, Server, entity, is_equal, parquet, vector};
use super::{hapax, pipeline};

const RECORDS: i64 = 12_000;

/// How many runs are killed: HAPAX_KILLS, or a few.
fn kills_wanted() -> i64 {
    std::env::var("HAPAX_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// Kills runs at moments all over their length; one that was faster begins again from the start, so that all of it is sent
/// again. Then runs to the end.
fn killed_at_moments(hapax: &Hapax, wanted: i64) -> i64 {
    let mut kills = 0;
    for round in 0..wanted * 4 {
        if kills >= wanted {
            break;
        }
        let (begun, moment) =
            (Instant::now(), Duration::from_millis(60 + u64::try_from(round * 379 % 900).unwrap()));
        let was_killed = hapax.start().kill_once(|| begun.elapsed() >= moment);
        kills += i64::from(was_killed);
        if !was_killed {
            forget(hapax);
        }
    }
    assert!(kills >= wanted, "only {kills} runs were killed: {}", hapax.log());
    hapax.moved();
    assert_eq!(hapax.moved(), 0);
    kills
}

/// Removes what keeps the positions.
pub fn forget(hapax: &Hapax) {
    for file in std::fs::read_dir(&hapax.folder).unwrap().map(|file| file.unwrap().path()) {
        if file.to_string_lossy().contains(".hapax.db") {
            std::fs::remove_file(file).unwrap();
        }
    }
}

fn killed(server: &mut Server, hapax: &Hapax, collection: &str) {
    let kills = killed_at_moments(hapax, kills_wanted());
    is_equal(server, collection, 0..RECORDS, &format!("after {kills} kills"));
    eprintln!("{collection}: {kills} runs were killed");
}

const MORE: &str = "delivery: effectively-once\ncommit: { records: 100 }\n";

#[test]
fn parquet_into_milvus_survives_kills() {
    let mut server = Server::of_tests();
    let name = server.named("parquet");
    let folder = tempfile::tempdir().unwrap();
    let vectors: Vec<(i64, Vec<f32>)> = (0..RECORDS).map(|id| (id, vector(id, 8))).collect();
    parquet(&folder.path().join("in.parquet"), &vectors);
    let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, MORE);
    let hapax = hapax(&server, folder.path(), file, None);
    killed(&mut server, &hapax, &name);
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn postgres_into_milvus_survives_kills() {
    let mut server = Server::of_tests();
    let name = server.named("postgres");
    let database = Database::new("milvus_killed");
    database.ask(
        "CREATE TABLE documents (id bigint PRIMARY KEY, text text NOT NULL, embedding real[] NOT NULL, at xid8 NOT NULL DEFAULT pg_current_xact_id())",
    );
    database.ask(&format!(
        "INSERT INTO documents (id, text, embedding) SELECT g, 'text ' || g, ARRAY(SELECT (((g * 31 + n * 17) % 101)::real / 101::real)::real FROM generate_series(0, 7) n) FROM generate_series(0, {}) g",
        RECORDS - 1
    ));
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:SOURCE_URL}\", table: documents, read: incremental, cursor: at }";
    let more = format!("transform: SELECT id, text, embedding FROM input\n{MORE}");
    let file = pipeline(folder.path(), source, &name, &more);
    let hapax = hapax(&server, folder.path(), file, Some(database.url()));
    killed(&mut server, &hapax, &name);
}

#[test]
fn milvus_into_milvus_survives_kills() {
    let mut server = Server::of_tests();
    let (from, to) = (server.named("from"), server.named("to"));
    server.create(&from, MADE);
    server.write(true, &from, &(0..RECORDS).map(entity).collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "milvus: {{ url: \"${{env:MILVUS_URL}}\", token: \"${{env:MILVUS_TOKEN}}\", collection: {from} }}"
    );
    let file = pipeline(folder.path(), &source, &to, MORE);
    let hapax = hapax(&server, folder.path(), file, None);
    killed(&mut server, &hapax, &to);
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_collection_moves_to_another_server_and_survives_kills() {
    let own = Own::start();
    let (mut here, mut there) = (Server::of_tests(), Server::at(&own.read("url")));
    let from = here.named("leaves");
    here.create(&from, MADE);
    here.write(true, &from, &(0..RECORDS).map(entity).collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "milvus: {{ url: \"${{env:FROM_URL}}\", token: \"${{env:FROM_TOKEN}}\", collection: {from} }}"
    );
    let file = pipeline(folder.path(), &source, "arrives", MORE);
    let mut hapax = hapax(&there, folder.path(), file, None);
    let (url, token) = here.parts();
    hapax.variables.extend([("FROM_URL", url), ("FROM_TOKEN", token)]);
    let kills = killed_at_moments(&hapax, kills_wanted());
    is_equal(&mut there, "arrives", 0..RECORDS, &format!("after {kills} kills"));
    is_equal(&mut here, &from, 0..RECORDS, "what was read stays as it is");
    assert_eq!(there.collections(""), ["arrives"]);
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
    // The vectors are those of before, to whoever looks for them.
    let asked: Vec<Vec<f32>> = (0..50).map(|id| vector(id * 7, 8)).collect();
    let nearest = here.nearest(&from, "L2", &asked, 1);
    assert_eq!(there.nearest("arrives", "L2", &asked, 1), nearest);
    eprintln!("from server to server: {kills} runs were killed");
}

#[test]
fn a_run_that_dies_at_any_point_is_made_good() {
    let mut server = Server::of_tests();
    let name = server.named("points");
    let folder = tempfile::tempdir().unwrap();
    parquet(&folder.path().join("in.parquet"), &(0..600).map(|id| (id, vector(id, 8))).collect::<Vec<_>>());
    let mut reached = 0;
    for point in POINTS {
        let text = "delivery: effectively-once\ncommit: { records: 100 }\n";
        let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, text);
        let hapax = hapax(&server, folder.path(), file, None);
        reached += i32::from(hapax.crash(point));
        hapax.moved();
        is_equal(&mut server, &name, 0..600, point);
        forget(&hapax);
    }
    assert!(reached >= 10, "only {reached} points were reached");
}

/// A server of the test's own, which ends with it.
struct Own(tempfile::TempDir);

impl Own {
    fn start() -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        own.service("start");
        own
    }

    fn service(&self, command: &str) {
        let run =
            Command::new(root().join("services/milvus")).arg(command).arg(self.0.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap().trim().to_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.service("stop");
    }
}

#[test]
fn a_server_that_is_killed_is_written_on_once_it_is_back() {
    let own = Own::start();
    let url = own.read("url");
    let folder = tempfile::tempdir().unwrap();
    let vectors: Vec<(i64, Vec<f32>)> = (0..RECORDS).map(|id| (id, vector(id, 8))).collect();
    parquet(&folder.path().join("in.parquet"), &vectors);
    let file = pipeline(folder.path(), "files: { path: in.parquet }", "killed", MORE);
    let before = Server::at(&url);
    let hapax = hapax(&before, folder.path(), file, None);
    // A quarter is there; the server dies while the run goes on to write.
    let running = hapax.stopped_at("commit-after:30");
    let pid = own.read("server.pid");
    running.wake();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    // It may wait for the server, or give up: then it is run again.
    own.service("start");
    drop(running);
    let until = Instant::now() + Duration::from_secs(400);
    loop {
        let (code, said) = hapax.said(&["run"]);
        // One that a busy machine keeps waiting may take itself for lost once more, at any time.
        own.service("start");
        if code == 0 {
            break;
        }
        assert!(Instant::now() < until, "{said}");
    }
    is_equal(&mut Server::at(&url), "killed", 0..RECORDS, "after the server was killed");
}
