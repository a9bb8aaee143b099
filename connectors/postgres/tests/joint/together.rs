//! What one transaction holds.

use hapax_conformance::sink;
use hapax_engine::batch::ReadLimit;
use hapax_engine::run::{OnError, in_order};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_protocol::guarantee::Settle;
use hapax_protocol::identity::{Duplicates, Identity};
use serde_json::json;

use crate::kit::Database;
use crate::scene::{APART, ARRIVED, DISTINCT, OUTBOX, WAITING, ends, run, within};

#[tokio::test]
async fn each_row_arrives_once_with_its_mark_and_no_ledger() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    // Somebody looks all the while, at a state that is one.
    let watched = async {
        loop {
            assert_eq!(
                database.count(APART).await,
                0,
                "a mark without its effect, or an effect without its mark"
            );
        }
    };
    let making = within(&database).await;
    making.sink.destination().prepare(&making.shape()).await.unwrap();
    let first = tokio::select! {
        summary = making.run() => summary.unwrap(),
        () = watched => unreachable!(),
    };
    assert_eq!((first.totals.moved, first.splits), (1000, 4));
    assert!(first.commits >= 20, "a batch of 50 is one commit: {}", first.commits);
    assert_eq!((database.count(ARRIVED).await, database.count(DISTINCT).await), (1000, 1000));
    assert_eq!(database.count(WAITING).await, 0);
    assert_eq!(database.count("SELECT count(*) FROM _hapax_ledger").await, 0);
    assert_eq!(within(&database).await.run().await.unwrap().totals.read, 0);
    database.sql("INSERT INTO outbox VALUES (0, 'late'), (2000, 'new')").await;
    assert_eq!(within(&database).await.run().await.unwrap().totals.moved, 2);
}

#[tokio::test]
async fn the_ends_find_out_by_themselves_whether_they_are_one_database() {
    let (database, other) = (Database::new(), Database::new());
    database.sql(OUTBOX).await;
    let settle = async |from: String, to: String| {
        let (source, sink) = ends(&from, &to, json!({}), json!({})).await;
        assert!(!in_order(&source, &sink, None, Duplicates::Drop), "workers keep out of each other's way");
        source.facts().settle
    };
    assert_eq!(settle(database.url(), database.url()).await, Settle::MarkWithEffect);
    let by_name = database.url().replace("127.0.0.1", "localhost");
    assert_eq!(settle(by_name, database.url()).await, Settle::MarkWithEffect);
    assert_eq!(settle(database.url(), other.url()).await, Settle::Mark);
    let role = format!("{}_writer", database.name());
    database
        .sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'w'; GRANT CREATE ON SCHEMA public TO {role}"))
        .await;
    let to = database.url_as(&role, "w");
    for (grant, wanted) in [
        ("REVOKE ALL ON outbox FROM", Settle::Mark),
        ("GRANT SELECT ON outbox TO", Settle::Mark),
        ("GRANT UPDATE (processed_at) ON outbox TO", Settle::MarkWithEffect),
    ] {
        database.sql(&format!("{grant} {role}")).await;
        assert_eq!(settle(database.url(), to.clone()).await, wanted, "{grant}");
    }
    // And with no more than that, it runs.
    let moved = run(ends(&database.url(), &to, json!({}), json!({})).await).run().await.unwrap();
    assert_eq!((moved.totals.moved, database.count(WAITING).await), (1000, 0));
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn what_is_refused_is_set_aside_with_its_mark_and_costs_the_others_nothing() {
    for write in ["append", "upsert", "ignore"] {
        let database = Database::new();
        database.sql(OUTBOX).await;
        // `inet` is cast by the server: it passes through a temporary table.
        database
            .sql(
                "CREATE TABLE arrived (id bigint PRIMARY KEY CHECK (id % 7 <> 0), note varchar(8), processed_at timestamptz)",
            )
            .await;
        let pair = ends(&database.url(), &database.url(), json!({}), json!({ "write": write })).await;
        let totals = run(pair).run().await.unwrap().totals;
        assert_eq!(totals.moved + totals.set_aside, 1000, "{write}: {totals:?}");
        let refused =
            database.count("SELECT count(*) FROM outbox WHERE id % 7 = 0 OR length(note) > 8").await;
        assert_eq!(totals.set_aside, refused.unsigned_abs(), "{write}");
        assert_eq!((database.count(APART).await, database.count(WAITING).await), (0, 0), "{write}");
    }
}

#[tokio::test]
async fn a_run_that_stops_at_a_record_leaves_its_batch_unmarked() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    database
        .sql("CREATE TABLE arrived (id bigint PRIMARY KEY CHECK (id <> 500), note text, processed_at timestamptz)")
        .await;
    let mut stopped = within(&database).await;
    stopped.on_error = OnError::Stop;
    stopped.run().await.unwrap_err();
    assert_eq!(database.count(APART).await, 0);
    let waiting = database.count(WAITING).await;
    assert!((50..1000).contains(&waiting), "{waiting} wait");
    // Nothing stays locked, and the next run goes on.
    database.sql("ALTER TABLE arrived DROP CONSTRAINT arrived_id_check").await;
    assert_eq!(within(&database).await.run().await.unwrap().totals.moved, waiting.unsigned_abs());
    assert_eq!((database.count(APART).await, database.count(WAITING).await), (0, 0));
}

#[tokio::test]
async fn rows_of_any_size_are_claimed_and_none_is_left_behind() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    database.sql("UPDATE outbox SET note = repeat('x', 60000) WHERE id % 3 = 0").await;
    let mut wide = within(&database).await;
    wide.limits.batch_records_max = 16 * 1024;
    wide.limits.batch_bytes_max = 256 * 1024;
    let done = wide.run().await.unwrap();
    assert_eq!((done.totals.moved, database.count(WAITING).await), (1000, 0));
    assert!(done.commits > 60, "a batch has a limit in bytes: {} commits", done.commits);
    assert_eq!(database.count(DISTINCT).await, 1000);
}

#[tokio::test]
async fn without_a_writer_nothing_is_marked() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    // As a dry run does: nobody took a split over.
    let (source, _) = ends(&database.url(), &database.url(), json!({}), json!({})).await;
    let mut worker = source.open(&source.splits().await.unwrap()[0].id, None).await.unwrap();
    let limit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };
    for _ in 0..3 {
        assert_eq!(worker.read(limit).await.unwrap().unwrap().records.num_rows(), 10);
    }
    drop(worker);
    assert_eq!(database.count(WAITING).await, 1000);
    database.sql("SET lock_timeout = 60000; UPDATE outbox SET note = note").await;
}

#[tokio::test]
async fn twins_of_an_identity_move_once_where_a_ledger_is_asked_for() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let mut by_note = within(&database).await;
    database.sql("UPDATE outbox SET note = 'same' WHERE id <= 500").await;
    by_note.identity = Identity::Key(vec!["note".to_owned()]);
    by_note.duplicates = Duplicates::Drop;
    let totals = by_note.run().await.unwrap().totals;
    assert_eq!((totals.moved, totals.suppressed), (501, 499));
    assert_eq!(database.count(WAITING).await, 0);
}

struct Schemas(Database);

impl sink::Subject for Schemas {
    async fn open(&self, name: &str) -> Sink {
        self.0.sql(&format!("CREATE SCHEMA IF NOT EXISTS \"{name}\"")).await;
        let url = self.0.url();
        ends(&url, &url, json!({}), json!({ "table": format!("{name}.t") })).await.1
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        self.0.numbers(&format!("SELECT id FROM \"{name}\".t ORDER BY id"))
    }
}

/// Where nobody reads, it is a sink like every other: dead letters are replayed into it.
#[tokio::test]
async fn the_sink_conforms() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    sink::suite(&Schemas(database)).await;
}
