//! A server that dies under runs out of it and into it, and comes back with what it had.

use super::*;
use crate::queue_kit::{Database, Hapax, Own};

/// A server of the test's own.
struct Server(Own);

impl Server {
    fn connect(&self) -> Connection {
        redis::Client::open(self.0.url()).unwrap().get_connection().unwrap()
    }

    /// Ends it without a word.
    fn kill(&self) {
        let pid = fs::read_to_string(self.0.folder().join("server.pid")).unwrap();
        kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while std::path::Path::new("/proc").join(pid.trim()).join("cwd").exists() {
            assert!(Instant::now() < until, "the server does not end");
            std::thread::yield_now();
        }
    }

    fn fill(&self, stream: &str, ids: std::ops::Range<u64>) {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("XADD").arg(stream).arg("*").arg("id").arg(id).arg("name").arg(format!("name {id}"));
        }
        let _: Vec<String> = pipe.query(&mut self.connect()).unwrap();
    }

    /// The ids in a stream, in their order.
    fn ids(&self, stream: &str) -> Vec<u64> {
        let entries: Vec<(String, Vec<(String, String)>)> =
            redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut self.connect()).unwrap();
        let id = |fields: &[(String, String)]| {
            let field = |name: &str| fields.iter().find(|field| field.0 == name).unwrap().1.clone();
            assert_eq!(field("name"), format!("name {}", field("id")));
            field("id").parse().unwrap()
        };
        let mut ids: Vec<u64> = entries.iter().map(|(_, fields)| id(fields)).collect();
        ids.sort_unstable();
        ids
    }
}

fn hapax(folder: &TempDir, file: &str, variables: Vec<(&'static str, String)>) -> Hapax {
    let path = folder.path().join("p.yaml");
    fs::write(&path, file).unwrap();
    Hapax { folder: folder.path().to_owned(), file: path, variables }
}

const STREAM: &str =
    "redis: { url: \"${env:OWN_REDIS}\", stream: in, fields: [id, name], schema: { id: int64 } }";

/// Into a stream, which shows what comes twice.
#[test]
fn a_run_into_a_server_that_dies_in_the_middle_of_a_commit_goes_on() {
    let server = Server(Own::start("redis"));
    server.fill("in", 0..1_000);
    for (point, before) in [("mid-write:3", 200), ("commit-before:3", 200), ("commit-after:3", 300)] {
        let folder = tempfile::tempdir().unwrap();
        let name = point.split_once(':').unwrap().0;
        let file = format!(
            "name: {name}\nsource:\n  {STREAM}\nidentity: {{ key: [id] }}\nsink:\n  redis: {{ url: \"${{env:OWN_REDIS}}\", key: out-{name}, write: stream }}\n\
             commit: {{ records: 100 }}\noutage_max: 5m\ndelivery: exactly-once\n"
        );
        let hapax = hapax(&folder, &file, vec![("OWN_REDIS", server.0.url())]);
        let run = hapax.stopped_at(point);
        assert_eq!(server.ids(&format!("out-{name}")).len(), before, "{point}");
        server.kill();
        // It goes on while nobody is there.
        run.wake();
        server.0.say("start");
        assert_eq!(run.go_on(), 0, "{}", hapax.log());
        assert!(server.ids(&format!("out-{name}")).into_iter().eq(0..1_000), "{point}");
    }
}

#[test]
fn a_run_out_of_a_server_that_dies_goes_on_with_what_comes() {
    let (server, database) = (Server(Own::start("redis")), Database::new("redis_restarted"));
    server.fill("in", 0..500);
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "name: p\nsource:\n  {STREAM}\nidentity: position\nduplicates: keep\nsink:\n  postgres: {{ url: \"${{env:TARGET_URL}}\", table: t }}\n\
         follow: true\ncommit: {{ records: 100, interval_ms: 50 }}\noutage_max: 5m\ndelivery: exactly-once\n"
    );
    let variables = vec![("OWN_REDIS", server.0.url()), ("TARGET_URL", database.url())];
    let hapax = hapax(&folder, &file, variables);
    let count = || database.count("SELECT count(*) FROM t");
    // In the middle of what is there, and while it waits for more.
    let mut run = hapax.stopped_at("batch-read:3");
    server.kill();
    run.wake();
    server.0.say("start");
    run.wait_for("all entries", || count() == 500);
    server.kill();
    server.0.say("start");
    server.fill("in", 500..600);
    run.wait_for("the entries that came", || count() == 600);
    assert_eq!(run.stop(), 0, "{}", hapax.log());
    let whole = "SELECT count(DISTINCT id) FROM t WHERE name = 'name ' || id AND id BETWEEN 0 AND 599";
    assert_eq!((database.count(whole), count()), (600, 600));
}
