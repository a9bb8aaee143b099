//! A table that changes between runs and while they go on, over a network that fails.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hapax_conformance::proxy::{Failure, Proxy};
use serde_json::Value;

use super::queue_kit::{Database, Hapax};
use super::scene::Server;
use super::{hapax, pipeline};

const ROWS: i64 = 600;

/// A table with vectors, a proxy before the server, and a pipeline through it.
struct Moving {
    server: Server,
    name: String,
    database: Database,
    proxy: Proxy,
    runtime: tokio::runtime::Runtime,
    hapax: Hapax,
    round: i64,
    _folder: tempfile::TempDir,
}

impl Moving {
    fn new() -> Self {
        let mut server = Server::of_tests();
        let name = server.named("changes");
        let database = Database::new("milvus_changes");
        database.ask(
            "CREATE TABLE documents (id bigint PRIMARY KEY, text text NOT NULL, embedding real[] NOT NULL, \
             deleted boolean NOT NULL DEFAULT false, at xid8 NOT NULL DEFAULT pg_current_xact_id())",
        );
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (url, token) = server.parts();
        let proxy = runtime.block_on(Proxy::before(url.trim_start_matches("http://").to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let source =
            "postgres: { url: \"${env:SOURCE_URL}\", table: documents, read: incremental, cursor: at }";
        let more = "transform: SELECT id, text, embedding, deleted FROM input\n\
                    delivery: effectively-once\ncommit: { records: 50 }\n";
        let file = pipeline(folder.path(), source, &name, more);
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("index: flat }\n", "index: flat }\n    delete: deleted\n");
        std::fs::write(&file, text).unwrap();
        let mut hapax = hapax(&server, folder.path(), file, Some(database.url()));
        let through = format!("http://127.0.0.1:{}", proxy.port());
        hapax.variables.retain(|(name, _)| *name != "MILVUS_URL" && *name != "MILVUS_TOKEN");
        hapax.variables.extend([("MILVUS_URL", through), ("MILVUS_TOKEN", token)]);
        let moving = Self { server, name, database, proxy, runtime, hapax, round: 0, _folder: folder };
        moving.adds(0, ROWS);
        moving.settled();
        moving
    }

    fn adds(&self, first: i64, rows: i64) {
        self.database.ask(&format!(
            "INSERT INTO documents (id, text, embedding) SELECT g, 'round 0 ', ARRAY[g, 0, 1, 2, 3, 4, 5, 6]::real[] \
             FROM generate_series({first}, {}) g",
            first + rows - 1
        ));
    }

    /// Another version of some rows, others deleted, some of those that were put there again, and new ones.
    fn changes(&mut self) {
        self.round += 1;
        let round = self.round;
        let set = format!(
            "UPDATE documents SET text = 'round {round} ', embedding[2] = {round}, at = pg_current_xact_id()"
        );
        let gone = format!("id % 11 = {}", round % 11);
        self.database.ask(&format!("{set}, deleted = false WHERE id % 3 = {}", round % 3));
        self.database.ask(&format!("{set}, deleted = true WHERE {gone}"));
        self.adds(ROWS + round * 100, 20);
    }

    /// Waits until a run reads what is there: transactions of other tests hold the horizon back, for a while.
    fn settled(&self) {
        let until = Instant::now() + Duration::from_secs(120);
        let sql = "SELECT count(*) FROM documents WHERE at >= pg_snapshot_xmin(pg_current_snapshot())";
        while self.database.count(sql) > 0 {
            assert!(Instant::now() < until, "a transaction elsewhere holds the horizon back");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wanted(&self) -> BTreeMap<i64, (String, Vec<f64>)> {
        let all = self.database.ask(
            "SELECT string_agg(id || '|' || text || '|' || array_to_string(embedding, ' '), ',') FROM documents WHERE NOT deleted",
        );
        let row = |row: &str| {
            let parts: Vec<&str> = row.split('|').collect();
            let numbers = parts[2].split(' ').map(|number| number.parse().unwrap());
            (parts[0].parse().unwrap(), (parts[1].to_owned(), numbers.collect()))
        };
        all.unwrap().split(',').map(row).collect()
    }

    /// Whether the collection holds what the table does, each key once.
    fn is_equal(&mut self, after: &str) {
        let wanted = self.wanted();
        let found = self.server.entities(&self.name);
        let read = |one: &Value| {
            let numbers = one["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
            (one["text"].as_str().unwrap().to_owned(), numbers.collect())
        };
        let found: BTreeMap<i64, (String, Vec<f64>)> =
            found.iter().map(|(id, one)| (*id, read(one))).collect();
        assert!(found == wanted, "{after}: {} rows, {} entities", wanted.len(), found.len());
        assert_eq!(self.server.count(&self.name), wanted.len() as i64, "{after}: a key is there twice");
    }
}

#[test]
fn a_table_that_changes_is_followed_over_a_network_that_fails() {
    let mut moving = Moving::new();
    // Changed while the run goes on, behind its second commit.
    let running = moving.hapax.stopped_at("commit-after:2");
    moving.changes();
    assert_eq!(running.go_on(), 0);
    moving.settled();
    moving.hapax.moved();
    moving.is_equal("a change while a run went on");
    let mut kills = 0;
    for name in ["its answer is lost", "it is lost", "cut early", "cut", "cut late"] {
        moving.changes();
        moving.settled();
        let before = moving.proxy.happened();
        let sent = format!("round {} ", moving.round).into_bytes();
        moving.proxy.fail(match name {
            "its answer is lost" => Failure::Unanswered(sent),
            "it is lost" => Failure::Unsent(sent),
            "cut early" => Failure::Cut { bytes: 700 },
            "cut" => Failure::Cut { bytes: 4_000 },
            _ => Failure::Cut { bytes: 9_000 },
        });
        let (code, said) = moving.hapax.said(&["run"]);
        assert_eq!(moving.proxy.happened(), before + 1, "{name}: it did not happen");
        // What met no connection yet is not tried again by itself.
        assert!(code == 0 || said.contains("HX0802"), "{name}: {said}");
        moving.hapax.moved();
        moving.is_equal(name);
        // The next change meets a run that dies with a commit sent and not made.
        moving.changes();
        moving.settled();
        kills += i32::from(moving.hapax.crash("commit-before:2"));
        moving.hapax.moved();
        moving.is_equal(&format!("killed behind: {name}"));
    }
    assert_eq!(kills, 5);
    moving.away();
    let (code, said) = moving.hapax.said(&["verify"]);
    assert!(code == 0 && said.contains("deleted by the last record of their key"), "{said}");
    let Moving { proxy, runtime, .. } = moving;
    runtime.block_on(async { drop(proxy) });
}

impl Moving {
    /// The network is away, and swallows everything, in the middle of a run.
    fn away(&mut self) {
        for failure in [Failure::Gone, Failure::BlackHole] {
            let name = format!("{failure:?}");
            self.changes();
            self.settled();
            let mut running = self.hapax.stopped_at("commit-after:1");
            let before = (self.proxy.happened(), self.proxy.swallowed());
            self.proxy.fail(failure);
            running.wake();
            let proxy = &self.proxy;
            running.wait_for(&name, || (proxy.happened(), proxy.swallowed()) != before);
            self.proxy.heal();
            assert_eq!(running.go_on(), 0, "{name}");
            self.hapax.moved();
            self.is_equal(&name);
        }
    }
}
