//! Runs that go on, out of a stream into PostgreSQL.

use std::ops::Range;
use std::path::PathBuf;

use tokio_postgres::{Client, NoTls};

use super::{Database, Hapax, Running};

/// Where records come from. Each has an `id` and a `note`.
pub struct Flow<'a> {
    pub name: &'a str,
    /// The section of the pipeline file.
    pub source: &'a str,
    pub variables: Vec<(&'static str, String)>,
    /// Adds records of these ids, with notes of so many bytes, all in one partition or stream.
    pub fill: &'a dyn Fn(Range<u64>, usize),
}

struct Into {
    database: Database,
    hapax: Hapax,
    _folder: tempfile::TempDir,
}

impl Flow<'_> {
    fn into(&self, what: &str, commit: &str) -> Into {
        let name = format!("{}_{what}", self.name);
        let (database, folder) = (Database::new(&name), tempfile::tempdir().unwrap());
        let file: PathBuf = folder.path().join("p.yaml");
        let text = format!(
            "name: {name}\nsource:\n  {}\nsink:\n  postgres: {{ url: \"${{env:TARGET_URL}}\", table: t }}\n\
             identity: position\nduplicates: keep\nfollow: true\ncommit: {commit}\ndelivery: exactly-once\n",
            self.source
        );
        std::fs::write(&file, text).unwrap();
        let mut variables = self.variables.clone();
        variables.push(("TARGET_URL", database.url()));
        let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
        Into { database, hapax, _folder: folder }
    }

    /// A commit is made once it has its bytes, though its records and its time are far away.
    pub fn commits_by_bytes(&self) {
        let into = self.into("bytes", "{ bytes: 100000, records: 1000000, interval_ms: 3600000 }");
        (self.fill)(0..1, 100);
        let mut run = into.hapax.start();
        run.wait_for("an open commit", || into.open() == 1);
        assert_eq!(into.count(), 0);
        (self.fill)(1..2_000, 100);
        run.wait_for("a commit", || into.count() > 0);
        assert_eq!(run.stop(), 0, "{}", into.hapax.log());
        // What it had not read when it was stopped is the next run's.
        into.holds(into.count());
    }

    /// A destination that takes nothing: little of what comes is read, and it is all there in the end. Returns how much more
    /// memory the run had then, in bytes.
    pub fn waits_for_the_destination(&self, records: u64) -> u64 {
        const NOTE_BYTES: usize = 64 * 1024;
        let into = self.into("slow", "{ interval_ms: 50 }");
        (self.fill)(0..1, NOTE_BYTES);
        let mut run = into.hapax.start();
        run.wait_for("the first record", || into.count() == 1);
        let lock = Lock::on(&into.database);
        let before = run.memory_bytes();
        (self.fill)(1..1 + records, NOTE_BYTES);
        // It has read, and reads no more: each line says what it has read so far.
        let lines = into.hapax.read_bytes().len();
        run.wait_for("an end of its reading", || match into.hapax.read_bytes().get(lines..) {
            Some([.., one, other]) => one == other && *one > 2 << 20,
            _ => false,
        });
        let read = into.hapax.read_bytes().into_iter().max().unwrap();
        let after = run.memory_bytes();
        // What waits between both sides, and a batch at either end of it.
        assert!(read < 9 << 20, "{read} bytes were read before the destination took any");
        drop(lock);
        run.wait_for("all records", || into.count() == records + 1);
        assert_eq!(run.stop(), 0, "{}", into.hapax.log());
        into.holds(records + 1);
        after.saturating_sub(before)
    }
}

impl Into {
    fn count(&self) -> u64 {
        self.database.count("SELECT count(*) FROM t").unsigned_abs()
    }

    /// How many transactions are open that have written something.
    fn open(&self) -> i64 {
        self.database.count(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = 'hapax' AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        )
    }

    fn holds(&self, records: u64) {
        let distinct = format!("SELECT count(DISTINCT id) FROM t WHERE id BETWEEN 0 AND {}", records - 1);
        assert_eq!((self.database.count(&distinct).unsigned_abs(), self.count()), (records, records));
    }
}

impl Hapax {
    /// How many bytes of the source a run had read, each time it said so.
    fn read_bytes(&self) -> Vec<u64> {
        let log = self.log();
        let figures = log.split_whitespace().filter_map(|word| word.strip_prefix("source_bytes="));
        figures.map(|bytes| bytes.parse().unwrap()).collect()
    }
}

impl Running {
    fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// A table that nobody can write to.
struct Lock {
    _client: Client,
    _runtime: tokio::runtime::Runtime,
}

impl Lock {
    fn on(database: &Database) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = database.url();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
            client
        });
        Self { _client: client, _runtime: runtime }
    }
}
