//! The table of a sink: columns that are added, keys that would be merged, and what is altered while a run goes on.
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

mod scene;

use std::time::{Duration, Instant};

use hapax_engine::fault::{CommitError, SinkError, SinkErrorKind};
use hapax_engine::sink::{CoCommit, Shape};
use hapax_mysql::codes;
use hapax_protocol::position::Standing;
use mysql_async::prelude::Queryable;
use scene::pen::{self, configured, lease, next, numbered, people, ready, shape, taken};
use scene::{Scene, connect};
use serde_json::{Value, json};

const IDS: &[&str] = &["id"];

async fn started(config: Value, shape: &Shape) -> Result<(Box<dyn CoCommit>, Standing), SinkError> {
    let sink = configured(config).await?;
    let words = sink.check(shape).await;
    let prepared = sink.prepare(shape).await;
    assert_eq!(words.is_ok(), prepared.is_ok(), "{words:?} {prepared:?}");
    prepared?;
    let lease = lease(&sink).await;
    Ok(taken(&sink, &lease).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_is_added_where_the_file_says_so() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", "CREATE TABLE t(id BIGINT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1000)");
    let shape = shape(pen::schema(), IDS);
    let refused =
        started(json!({ "url": url, "table": "t", "write": "upsert" }), &shape).await.err().unwrap();
    assert_eq!(
        (refused.kind, refused.fault.code()),
        (SinkErrorKind::Stop, codes::COLUMN_MISSING),
        "{refused}"
    );
    assert!(refused.fault.help().contains("schema_changes: add"), "{}", refused.fault.help());
    assert_eq!(scene.rows("d", "SHOW TABLES"), [["t"]], "something was made for a run that was refused");

    let adds = json!({ "url": url, "table": "t", "write": "upsert", "schema_changes": "add" });
    let sink = configured(adds.clone()).await.unwrap();
    let words = sink.check(&shape).await.unwrap();
    assert!(words.iter().any(|word| word.contains("ADD COLUMN `name` longtext")), "{words:?}");
    assert_eq!(scene.rows("d", "SHOW COLUMNS FROM t").len(), 1, "a check altered the table");
    // Two that add it at once.
    let (one, two) = (configured(adds.clone()).await.unwrap(), configured(adds.clone()).await.unwrap());
    let both = tokio::join!(one.prepare(&shape), two.prepare(&shape));
    both.0.unwrap();
    both.1.unwrap();
    let (mut writer, stood) = started(adds, &shape).await.unwrap();
    assert_eq!(writer.write(&numbered(0..10)).await.unwrap(), []);
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t WHERE name = 'name'"), [10]);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t WHERE name IS NULL"), [1]);
    // What the table demands is not made good by what is added.
    scene.run("d", "CREATE TABLE demands(id BIGINT PRIMARY KEY, more INT NOT NULL)");
    let demands = json!({ "url": url, "table": "demands", "schema_changes": "add" });
    let refused = started(demands, &shape).await.err().unwrap();
    assert_eq!(refused.fault.code(), codes::COLUMN_DEMANDED, "{refused}");
    assert_eq!(scene.rows("d", "SHOW COLUMNS FROM demands").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_collation_merges_keys_is_refused() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE ci(id BIGINT, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY);
         CREATE TABLE latin(id BIGINT, name VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_general_cs NOT NULL PRIMARY KEY);
         CREATE TABLE bin(id BIGINT, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY);
         CREATE TABLE exact(id BIGINT, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL PRIMARY KEY);
         CREATE TABLE number(id BIGINT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_general_ci)",
    );
    let by_name = shape(pen::schema(), &["name"]);
    let all = people(&[(1, Some("a")), (2, Some("A")), (3, Some("a "))]);
    let config = |table: &str, write: &str| json!({ "url": url, "table": table, "write": write });
    for (table, write) in [("ci", "ignore"), ("ci", "upsert"), ("latin", "upsert")] {
        let refused = started(config(table, write), &by_name).await.err().unwrap();
        assert_eq!((refused.kind, refused.fault.code()), (SinkErrorKind::Stop, codes::NO_UNIQUE_INDEX));
        let words = refused.to_string();
        assert!(words.contains("name") && words.contains("collation"), "{words}");
        // The statement in the message mends it.
        let help = refused.fault.help();
        if write == "ignore" {
            continue;
        }
        let mut accepting = config(table, write);
        accepting["accept_collation"] = true.into();
        let sink = configured(accepting.clone()).await.unwrap();
        assert!(sink.traits().readers.unwrap().contains("collation"));
        started(accepting, &by_name).await.unwrap();
        let alter = help.split('`').collect::<Vec<_>>();
        let alter = alter.join("`");
        let alter = alter.strip_prefix("Run `").unwrap().split("`, or write").next().unwrap().to_owned();
        scene.run("d", &format!("CREATE TABLE {table}_before LIKE {table}"));
        scene.run("d", &alter);
        let (mut writer, stood) = started(config(table, write), &by_name).await.unwrap();
        assert_eq!(writer.write(&all).await.unwrap(), [], "{table}");
        writer.commit(&next(&stood, 1)).await.unwrap();
        assert_eq!(scene.numbers("d", &format!("SELECT count(*) FROM {table}")), [3]);
        scene.run("d", "DELETE FROM _hapax_positions; DELETE FROM _hapax_commits");
    }
    // Where trailing spaces alone are not compared, the row with one is set aside.
    let (mut writer, stood) = started(config("bin", "upsert"), &by_name).await.unwrap();
    let refused = writer.write(&all).await.unwrap();
    assert_eq!(refused.iter().map(|row| (row.row, row.code)).collect::<Vec<_>>(), [(2, codes::VALUE_UNHELD)]);
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM bin"), [2]);
    let (mut writer, stood) = started(config("exact", "upsert"), &by_name).await.unwrap();
    assert_eq!(writer.write(&all).await.unwrap(), []);
    writer.commit(&next(&stood, 2)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM exact"), [3]);
    // A column beside the key may compare as it likes, and an append has no key to merge by.
    let sink = configured(config("number", "upsert")).await.unwrap();
    assert_eq!(sink.traits().readers, None, "a condition that is none");
    sink.prepare(&shape(pen::schema(), IDS)).await.unwrap();
    configured(config("ci_before", "append")).await.unwrap().prepare(&by_name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_while_a_run_goes_on_stops_it() {
    for (write, alter) in [
        ("append", "ALTER TABLE t MODIFY name VARCHAR(5)"),
        ("append", "ALTER TABLE t ADD COLUMN more INT NOT NULL"),
        ("append", "ALTER TABLE t ENGINE = MyISAM"),
        ("upsert", "ALTER TABLE t MODIFY name VARCHAR(20) COLLATE utf8mb4_general_ci"),
        ("upsert", "ALTER TABLE t DROP PRIMARY KEY"),
    ] {
        let scene = Scene::new();
        let url = scene.database("d");
        let shape = shape(pen::schema(), IDS);
        scene.run(
            "d",
            "CREATE TABLE t(id BIGINT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin) ENGINE = InnoDB",
        );
        let (sink, held, mut writer, stood) = ready(&url, "t", write, &shape).await;
        writer.write(&numbered(0..10)).await.unwrap();
        // What was written keeps it as it is to the end of the commit.
        let mut other = connect(&url).await;
        let alter = alter.to_owned();
        let altering = tokio::spawn(async move { other.query_drop(alter).await });
        let waits = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND STATE LIKE '%metadata lock%'",
            scene.name("d")
        );
        let until = Instant::now() + Duration::from_secs(120);
        while scene.rows("d", &waits).is_empty() {
            assert!(Instant::now() < until, "nothing keeps the table as it is");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let first = next(&stood, 1);
        writer.commit(&first).await.unwrap();
        altering.await.unwrap().unwrap();
        // Longer than what the column would hold now, shorter, and nothing: all of it is refused.
        let _ = writer.write(&people(&[(50, Some("abcdef")), (51, Some("abc")), (52, None)])).await.unwrap();
        let refused = match writer.commit(&next(&first.standing(), 2)).await {
            Err(CommitError::Refused(error)) => error,
            other => panic!("{write}: a commit into an altered table ended as {other:?}"),
        };
        assert_eq!(
            (refused.kind, refused.fault.code()),
            (SinkErrorKind::Stop, codes::COLUMN_TYPE),
            "{refused}"
        );
        assert!(refused.to_string().contains("altered"), "{refused}");
        let (_, found) = taken(&sink, &held).await;
        assert_eq!(found, first.standing());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_nobody_writes_may_be_added_while_a_run_goes_on() {
    let scene = Scene::new();
    let url = scene.database("d");
    let (_, _, mut writer, stood) = ready(&url, "t", "append", &shape(pen::schema(), IDS)).await;
    writer.write(&numbered(0..10)).await.unwrap();
    let first = next(&stood, 1);
    writer.commit(&first).await.unwrap();
    scene.run("d", "ALTER TABLE t ADD COLUMN more INT NULL FIRST");
    writer.write(&numbered(10..20)).await.unwrap();
    writer.commit(&next(&first.standing(), 2)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t WHERE name = 'name'"), [20]);
}

/// Two writers of one split: the earlier one asks for it again while the later one has a commit open.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_superseded_ends_nobody() {
    let scene = Scene::new();
    let url = scene.database("d");
    let shape = shape(pen::schema(), IDS);
    let (_, stale, mut stalled, _) = ready(&url, "t", "append", &shape).await;
    let (_, _, mut writer, stood) = ready(&url, "t", "append", &shape).await;
    writer.write(&numbered(0..10)).await.unwrap();
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let error = stalled.take_over(&stale).await.unwrap_err();
        assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Fenced, codes::FENCED), "{error}");
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_secs(2), "it waits {quickest:?} to learn it");
    writer.write(&numbered(10..20)).await.unwrap();
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [20]);
}

/// What a look at the table costs a commit. Prints; fails only if it is absurd.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_table_is_cheap() {
    let scene = Scene::new();
    let url = scene.database("d");
    for write in ["append", "upsert"] {
        scene.run("d", "DROP TABLE IF EXISTS t, _hapax_positions");
        let shape = shape(pen::schema(), IDS);
        let (_, _, mut writer, mut stood) = ready(&url, "t", write, &shape).await;
        let mut spent: Vec<Duration> = Vec::new();
        for n in 0..60_u8 {
            // Every second commit wrote nothing, and does not look.
            if n % 2 == 0 {
                writer.write(&numbered(i64::from(n)..i64::from(n) + 1)).await.unwrap();
            } else {
                writer.set_aside(&[pen::letter(u64::from(n))]).await.unwrap();
            }
            let commit = next(&stood, n + 1);
            let begun = Instant::now();
            writer.commit(&commit).await.unwrap();
            spent.push(begun.elapsed());
            stood = commit.standing();
        }
        let median = |looked: bool| {
            let mut of: Vec<_> =
                spent.iter().enumerate().filter(|(n, _)| (n % 2 == 0) == looked).map(|(_, t)| *t).collect();
            of.sort();
            of[of.len() / 2]
        };
        println!("{write}: commit with a look {:?}, without {:?}", median(true), median(false));
        assert!(median(true) < Duration::from_secs(5));
    }
}
