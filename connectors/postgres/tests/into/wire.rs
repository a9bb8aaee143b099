//! Rows that pass from one table to another as the bytes they are.

use std::sync::Arc;

use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{Limits, OnError, Run, Stop, Summary, Until};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_postgres::config::{Url, Write};
use hapax_postgres::source::Postgres;
use hapax_postgres::source_config::SourceConfig;
use hapax_protocol::identity::{Duplicates, Identity};

use crate::scene::*;

/// From the table `s` into the table `t` of the same database.
async fn run(scene: &Scene, write: Write) -> Run {
    let config = SourceConfig::of_table(Url::new(scene.database.url()), "s");
    let identity = match write {
        Write::Append => Identity::Position,
        Write::Upsert | Write::Ignore => Identity::Key(vec!["id".into()]),
    };
    Run {
        source: Arc::new(Postgres::open(config).await.unwrap()),
        transform: None,
        sink: Sink::CoCommit(scene.sink(write).await),
        identity,
        duplicates: Duplicates::Keep,
        on_error: OnError::SetAside,
        ledger: None,
        until: Until::End,
        parallel: 1,
        applicant: applicant("d"),
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 500, ..Limits::default() },
    }
}

async fn moved(scene: &Scene, write: Write) -> Summary {
    let run = run(scene, write).await;
    assert!(run.wire().await.unwrap().is_some(), "the bytes pass");
    run.run().await.unwrap()
}

async fn assert_equal(scene: &Scene) {
    let differ = "SELECT count(*) FROM (SELECT s::text FROM s EXCEPT ALL SELECT t::text FROM t) d";
    assert_eq!(scene.count(differ).await, 0);
    assert_eq!(scene.count("SELECT count(*) - (SELECT count(*) FROM s) FROM t").await, 0);
}

/// Every type whose bytes pass, with what Arrow has no word for.
const S: &str = "CREATE TYPE mood AS ENUM ('sad', 'glad'); \
    CREATE TABLE s (id bigint PRIMARY KEY, yes boolean, small smallint, four integer, r real, d double precision, \
    money numeric(12,2), any_number numeric, words text, short varchar(9), raw bytea, day date, at timestamp(3), \
    zoned timestamptz, clock time, span interval, j json, jb jsonb, u uuid, numbers integer[], feeling mood); \
    INSERT INTO s SELECT n, n % 2 = 0, n % 99, n, n / 3.0, n / 7.0, n / 100.0, n * 1e30, 'w' || n, 'v' || n % 9, \
    decode(lpad(to_hex(n), 8, '0'), 'hex'), date '2000-01-01' + n, now(), now(), time '01:02:03.000004', \
    make_interval(months => n, secs => n), json_build_object('n', n), jsonb_build_object('n', n), \
    gen_random_uuid(), ARRAY[n, NULL], 'glad' FROM generate_series(1, 3000) n; \
    INSERT INTO s (id, money, any_number, day, at, zoned, d) VALUES \
    (0, 'NaN', 'NaN', 'infinity', '-infinity', 'infinity', 'NaN'); \
    INSERT INTO s (id) VALUES (-1)";

#[tokio::test]
async fn every_row_arrives_as_it_is_and_again_none_does() {
    for write in [Write::Append, Write::Upsert, Write::Ignore] {
        let scene = Scene::new();
        scene.sql(S).await;
        scene.sql("CREATE TABLE t (LIKE s INCLUDING INDEXES)").await;
        let summary = moved(&scene, write).await;
        assert_eq!((summary.totals.read, summary.totals.moved), (3002, 3002));
        assert_eq!(summary.totals.set_aside, 0, "what Arrow cannot say passes too");
        assert_equal(&scene).await;
        let again = moved(&scene, write).await;
        assert_eq!((again.totals.read, again.commits), (0, 0));
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_would_be_created_for_these_bytes() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE s (id bigint, n numeric(12,2), j jsonb, f real[])").await;
    let wire = run(&scene, Write::Append).await.wire().await.unwrap().unwrap();
    let types = "PostgreSQL's binary COPY (bigint, numeric(12,2), jsonb, real[])";
    assert_eq!(wire.to_string(), types);
}

#[tokio::test]
async fn where_types_differ_nothing_passes_undecoded() {
    for (source, target) in [
        ("numeric(12,4)", "numeric(12,2)"),
        ("integer", "bigint"),
        ("varchar(9)", "varchar(5)"),
        ("timestamp", "timestamptz"),
        ("inet", "inet"),
        ("mood[]", "mood[]"),
        ("cents", "cents"),
    ] {
        let scene = Scene::new();
        scene.sql("CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN cents AS numeric(12,2)").await;
        scene.sql(&format!("CREATE TABLE s (x {source}); CREATE TABLE t (x {target})")).await;
        let wire = run(&scene, Write::Append).await.wire().await.unwrap();
        assert!(wire.is_none(), "{source} to {target}: {wire:?}");
    }
}

#[tokio::test]
async fn a_row_that_is_refused_is_found_by_decoding() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE s (id bigint PRIMARY KEY, n int); CREATE TABLE t (id bigint PRIMARY KEY, n int CHECK (n <> 777))").await;
    scene.sql("INSERT INTO s SELECT n, n FROM generate_series(1, 2000) n").await;
    let summary = moved(&scene, Write::Append).await;
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (1999, 1));
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 1999);
    assert_eq!(scene.texts("SELECT reason FROM _hapax_dead_letters").await.len(), 1);
}

#[tokio::test]
async fn of_two_rows_of_a_key_the_last_stays() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE s (id bigint, n int); CREATE TABLE t (id bigint PRIMARY KEY, n int)").await;
    scene.sql("INSERT INTO s SELECT n % 700, n FROM generate_series(1, 2000) n").await;
    moved(&scene, Write::Upsert).await;
    let wrong = "SELECT count(*) FROM t FULL JOIN (SELECT id, max(n) AS n FROM s GROUP BY id) l USING (id) \
                 WHERE t.n IS DISTINCT FROM l.n";
    assert_eq!(scene.count(wrong).await, 0);
}

/// What is read as bytes and what is read as records stand at the same positions.
#[tokio::test]
async fn either_reader_goes_on_where_the_other_was() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE s (id bigint PRIMARY KEY, n int)").await;
    scene.sql("INSERT INTO s SELECT n, n FROM generate_series(1, 2000) n").await;
    let source = Postgres::open(SourceConfig::of_table(Url::new(scene.database.url()), "s")).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let limit = hapax_engine::batch::ReadLimit { records_max: 500, bytes_max: 1 << 20 };
    let mut bytes = source.wire().unwrap().open(&split, None).await.unwrap();
    let mut decoded = source.open(&split, None).await.unwrap();
    for turn in 0..4 {
        let passed = bytes.read(limit).await.unwrap().unwrap();
        let read = decoded.read(limit).await.unwrap().unwrap();
        assert_eq!(passed.rows, 500);
        assert_eq!((&passed.after, &passed.through), (&read.after, &read.through), "turn {turn}");
        bytes = source.wire().unwrap().open(&split, Some(&read.through)).await.unwrap();
        decoded = source.open(&split, Some(&passed.through)).await.unwrap();
    }
    assert!(bytes.read(limit).await.unwrap().is_none());
}
