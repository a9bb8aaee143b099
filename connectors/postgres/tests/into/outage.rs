//! Servers that are gone for a while, and disks that are full, through the real engine.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_engine::clock::SystemClock;
use hapax_engine::fault::Fault;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, Stop, Until};
use hapax_postgres::codes;
use hapax_postgres::source::Postgres;
use hapax_protocol::identity::{Duplicates, Identity};
use serde_json::json;

use crate::kit::{Database, Service};
use crate::scene::applicant;

const ROWS: &str = "CREATE TABLE rows (id bigint PRIMARY KEY, pad text); \
                    INSERT INTO rows SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g";

/// A run from one table of a database into another, with commits of 500 rows.
async fn moving(database: &Database, outage_ms: u64) -> Run {
    let source = json!({ "url": database.url(), "table": "rows" });
    let sink = json!({ "url": database.url(), "table": "t" });
    Run {
        source: Arc::new(Postgres::open(serde_json::from_value(source).unwrap()).await.unwrap()),
        transform: None,
        sink: hapax_postgres::sink::open(serde_json::from_value(sink).unwrap()).await.unwrap(),
        ledger: None,
        identity: Identity::Position,
        duplicates: Duplicates::Keep,
        on_error: OnError::SetAside,
        until: Until::End,
        parallel: 2,
        applicant: applicant("outage"),
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits {
            batch_records_max: 500,
            outage_ms,
            commit: CommitLimit { records_max: Some(500), ..CommitLimit::default() },
            ..Limits::default()
        },
    }
}

/// Makes the destination of a run that cannot come to its end while this client lives: its later rows wait for it.
async fn holds_the_end(database: &Database) -> tokio_postgres::Client {
    let client = database.client().await;
    client
        .batch_execute(
            "CREATE TABLE t (id bigint, pad text); \
             CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$; \
             CREATE TRIGGER hold BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id > 10000) EXECUTE FUNCTION hold(); \
             SELECT pg_advisory_lock(1)",
        )
        .await
        .unwrap();
    client
}

async fn has_begun(progress: &Progress) {
    let began = Instant::now();
    while progress.snapshot().commits < 3 {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}

async fn whole(database: &Database) {
    let count = "SELECT count(*) FROM t";
    let distinct = "SELECT count(DISTINCT id) FROM t";
    assert_eq!((database.count(count).await, database.count(distinct).await), (20_000, 20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_ends_the_run_at_its_limit_and_a_rerun_completes() {
    let service = aside(Service::start).await;
    let database = Database::on(service.url());
    database.sql(ROWS).await;
    let _holder = holds_the_end(&database).await;
    let run = moving(&database, 2_000).await;
    let progress = run.progress.clone();
    let running = tokio::spawn(run.run());
    has_begun(&progress).await;
    // It is gone before whoever stopped it is told so.
    let gone = Instant::now();
    let service = aside(move || {
        service.stop("immediate");
        service
    })
    .await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code(), codes::UNREACHABLE, "{error:?}");
    let waited = gone.elapsed();
    assert!(waited > Duration::from_secs(1) && waited < Duration::from_secs(120), "it waited for {waited:?}");
    let service = aside(move || {
        service.again();
        service
    })
    .await;
    moving(&database, 2_000).await.run().await.unwrap();
    whole(&database).await;
    drop(database);
    aside(move || drop(service)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_in_time_is_waited_for() {
    let service = aside(Service::start).await;
    let database = Database::on(service.url());
    database.sql(ROWS).await;
    let _holder = holds_the_end(&database).await;
    let run = moving(&database, 120_000).await;
    let progress = run.progress.clone();
    let running = tokio::spawn(run.run());
    has_begun(&progress).await;
    let service = aside(move || {
        service.stop("immediate");
        service.again();
        service
    })
    .await;
    running.await.unwrap().unwrap();
    whole(&database).await;
    drop(database);
    aside(move || drop(service)).await;
}

/// A file system in memory that belongs to the user of a server, mounted for one test.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(service: &Service) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        mount.run("size=6m");
        let data = std::fs::read_to_string(service.folder().join("place")).unwrap();
        let owner = format!("--reference={}", data.trim());
        assert!(Command::new("chown").arg(owner).arg(mount.0.path()).status().unwrap().success());
        mount
    }

    fn run(&self, options: &str) {
        let words = ["-t", "tmpfs", "-o", options, "hapax-test"];
        let status = Command::new("mount").args(words).arg(self.0.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "this test mounts a small file system; run it where that is allowed, for instance with \
             `sudo -E unshare --mount --propagation private cargo test`"
        );
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_stops_the_run_and_a_rerun_completes() {
    let service = aside(Service::start).await;
    let mount = Mount::new(&service);
    let database = Database::on(service.url());
    database.sql(ROWS).await;
    let place = mount.0.path().display().to_string();
    database.sql(&format!("CREATE TABLESPACE small LOCATION '{place}'")).await;
    database.sql("CREATE TABLE t (id bigint, pad text) TABLESPACE small").await;
    let error = moving(&database, 5_000).await.run().await.unwrap_err();
    assert_eq!(error.code(), codes::DISK_FULL, "{error:?}");
    // What is there is what the positions say, and no more.
    let said = "SELECT coalesce(sum(moved), 0)::bigint FROM _hapax_positions";
    let there = database.count("SELECT count(*) FROM t").await;
    assert_eq!(database.count(said).await, there);
    assert!((500..20_000).contains(&there), "{there} rows fit");
    mount.run("remount,size=100m");
    moving(&database, 5_000).await.run().await.unwrap();
    whole(&database).await;
    drop(database);
    aside(move || drop(service)).await;
}
