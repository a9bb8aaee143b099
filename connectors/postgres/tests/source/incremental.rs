//! Reading behind a cursor, below its horizon.

use hapax_engine::batch::ReadLimit;
use hapax_engine::source::Source;
use hapax_protocol::guarantee::{Completeness, Replay, Window};
use serde_json::{Value, json};

use crate::kit::Database;
use crate::reading::{behind, numbers, open, passed, suite, try_open};

/// A table whose rows the database stamps twice: with its time, and with the transaction's number.
const STAMPED: &str = "\
    CREATE TABLE t (id bigint, part int, note text, at timestamptz NOT NULL DEFAULT now(), \
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(), PRIMARY KEY (part, id)); \
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN NEW.at := now(); NEW.xid := pg_current_xact_id(); RETURN NEW; END $$; \
    CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()";

fn by_clock() -> Value {
    json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "database" })
}

fn by_transaction() -> Value {
    json!({ "table": "t", "read": "incremental", "cursor": "xid" })
}

#[tokio::test]
async fn both_cursors_pass_the_suite() {
    let database = Database::new();
    database.sql(STAMPED).await;
    // Three transactions of 40 rows: within each, only the key tells them apart.
    for _ in 0..3 {
        database.sql("INSERT INTO t (id, part) SELECT g + (SELECT count(*) FROM t), g % 3 FROM generate_series(1, 40) g").await;
    }
    passed(&database, "t", 0).await;
    suite(&database, 120, by_transaction()).await;
    let source = open(&database, by_clock()).await;
    let batches = behind(&source, None).await;
    assert_eq!(numbers(&batches).len(), 120);
    let words = source.describe(&batches[0].through);
    assert!(words.starts_with("behind record 120, at 20") && words.contains("part 2, id 11"), "{words}");
    let query = json!({ "query": "SELECT id, at, part FROM t", "read": "incremental", "cursor": "at", "cursor_set_by": "database", "key": ["part", "id"] });
    assert_eq!(numbers(&behind(&open(&database, query).await, None).await), numbers(&batches));
}

#[tokio::test]
async fn what_is_still_open_is_read_when_it_has_committed() {
    for keys in [by_clock(), by_transaction()] {
        let database = Database::new();
        database.sql(STAMPED).await;
        let early = database.client().await;
        early.batch_execute("BEGIN; INSERT INTO t (id, part) VALUES (1, 1)").await.unwrap();
        database.sql("INSERT INTO t (id, part) VALUES (2, 1)").await;
        let source = open(&database, keys).await;
        // The second one was written later and is there already; but nothing may be read past the first.
        assert_eq!(numbers(&behind(&source, None).await), Vec::<i64>::new());
        early.batch_execute("COMMIT").await.unwrap();
        passed(&database, "t", 0).await;
        let batches = behind(&source, None).await;
        assert_eq!(numbers(&batches), [1, 2]);
        // Changes arrive again, later than what they changed; what did not change does not.
        database.sql("UPDATE t SET note = 'changed' WHERE id = 1").await;
        let through = batches.last().unwrap().through.clone();
        passed(&database, "t", 0).await;
        let batches = behind(&source, Some(&through)).await;
        assert_eq!((numbers(&batches), batches[0].ordinals.of(0)), (vec![1], 2));
        let through = batches.last().unwrap().through.clone();
        assert!(behind(&source, Some(&through)).await.is_empty());
    }
}

#[tokio::test]
async fn rows_that_change_while_they_are_read_arrive_as_they_were_and_as_they_are() {
    let database = Database::new();
    database.sql(STAMPED).await;
    database.sql("INSERT INTO t (id, part) SELECT g, 1 FROM generate_series(1, 5000) g").await;
    for keys in [by_clock(), by_transaction()] {
        passed(&database, "t", 0).await;
        let source = open(&database, keys).await;
        let split = source.splits().await.unwrap().remove(0).id;
        let mut reader = source.open(&split, None).await.unwrap();
        let limit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };
        let mut batches = vec![reader.read(limit).await.unwrap().unwrap()];
        database
            .sql("UPDATE t SET note = 'changed' WHERE id IN (3, 4000); DELETE FROM t WHERE id = 4001")
            .await;
        batches.extend(crate::reading::rest(reader.as_mut(), limit).await);
        let mut seen = numbers(&batches);
        seen.sort_unstable();
        let all: Vec<i64> = database
            .rows("SELECT id FROM t WHERE note IS NULL OR id IN (3, 4000) ORDER BY id")
            .await
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(all.iter().all(|id| seen.contains(id)));
        let through = batches.last().unwrap().through.clone();
        passed(&database, "t", 0).await;
        let mut again = numbers(&behind(&source, Some(&through)).await);
        again.sort_unstable();
        assert_eq!(again, [3, 4000]);
        database.sql("INSERT INTO t (id, part) VALUES (4001, 1)").await;
    }
}

#[tokio::test]
async fn a_prepared_transaction_holds_the_horizon_back() {
    let database = Database::new();
    database.sql(STAMPED).await;
    database.sql("INSERT INTO t (id, part) VALUES (1, 1)").await;
    let gid = format!("{}_prepared", database.name());
    database
        .sql(&format!("BEGIN; INSERT INTO t (id, part) VALUES (2, 1); PREPARE TRANSACTION '{gid}'"))
        .await;
    database.sql("INSERT INTO t (id, part) VALUES (3, 1)").await;
    let (clock, transaction) = (open(&database, by_clock()).await, open(&database, by_transaction()).await);
    let split = clock.splits().await.unwrap().remove(0).id;
    let error = clock.open(&split, None).await.err().unwrap();
    assert_eq!(error.fault.code().to_string(), "HX0543");
    assert!(error.to_string().contains(&gid));
    passed(&database, "t", 1).await;
    let first = behind(&transaction, None).await;
    assert_eq!(numbers(&first), [1]);
    database.sql(&format!("COMMIT PREPARED '{gid}'")).await;
    passed(&database, "t", 0).await;
    assert_eq!(numbers(&behind(&clock, None).await), [1, 2, 3]);
    assert_eq!(numbers(&behind(&transaction, Some(&first[0].through)).await), [2, 3]);
}

#[tokio::test]
async fn a_position_ahead_of_the_server_is_refused() {
    let database = Database::new();
    database.sql(STAMPED).await;
    database.sql("INSERT INTO t (id, part, xid) VALUES (1, 1, '5')").await;
    let source = open(&database, by_transaction()).await;
    passed(&database, "t", 0).await;
    let through = behind(&source, None).await.pop().unwrap().through;
    let mut bytes = through.as_bytes().to_vec();
    let at = bytes.iter().position(|byte| *byte == b'5').unwrap();
    bytes[at] = b'9';
    let later = format!("{}{}", String::from_utf8_lossy(&bytes[at..=at]), "0".repeat(17));
    let length = u64::try_from(later.len()).unwrap().to_be_bytes();
    bytes.splice(at - 8..=at, length.into_iter().chain(later.bytes()));
    let split = source.splits().await.unwrap().remove(0).id;
    let ahead = hapax_protocol::position::Position::new(bytes);
    assert_eq!(source.open(&split, Some(&ahead)).await.err().unwrap().fault.code().to_string(), "HX0545");
}

/// The position is made to lie in the future: what a clock that went back looks like.
#[tokio::test]
async fn a_clock_that_went_back_is_noticed() {
    let database = Database::new();
    database.sql(STAMPED).await;
    database.sql("INSERT INTO t (id, part) VALUES (1, 1)").await;
    let source = open(&database, by_clock()).await;
    let batches = behind(&source, None).await;
    let through = batches.first().expect("nothing was read").through.clone();
    let mut bytes = through.as_bytes().to_vec();
    // The year of the timestamp: a position of the next century.
    let at = bytes.windows(2).position(|two| two == b"20").unwrap();
    bytes[at + 1] = b'9';
    let ahead = hapax_protocol::position::Position::new(bytes);
    let split = source.splits().await.unwrap().remove(0).id;
    assert!(source.describe(&ahead).contains("at 29"), "{}", source.describe(&ahead));
    let error = source.open(&split, Some(&ahead)).await.err().unwrap();
    assert_eq!(error.fault.code().to_string(), "HX0549", "{error}");
    // The plan says that nobody can notice it later.
    assert!(source.facts().condition.unwrap().contains("clock does not go back"));
    assert!(source.open(&split, Some(&through)).await.is_ok());
}

#[tokio::test]
async fn late_rows_of_programs_are_found_by_looking_back() {
    let database = Database::new();
    database
        .sql("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL); CREATE INDEX ON t (at, id)")
        .await;
    database
        .sql("INSERT INTO t SELECT g, now() - g * interval '1 minute' FROM generate_series(1, 30) g")
        .await;
    let keys = json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "application", "lateness": "5m" });
    let source = open(&database, keys.clone()).await;
    let facts = source.facts();
    let minutes = Window(5 * 60_000);
    assert_eq!(facts.completeness, Completeness::Late { lateness: minutes, lookback: minutes });
    assert_eq!(facts.replay, Replay::Unidentified);
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let first = reader.read(ReadLimit { records_max: 10, bytes_max: 1 << 20 }).await.unwrap().unwrap();
    assert_eq!(numbers([&first]), (21..=30).rev().collect::<Vec<i64>>());
    // An interrupted pass goes on where it stood, and not five minutes before that.
    let more = behind(&source, Some(&first.through)).await;
    assert_eq!(numbers(&more), (1..=20).rev().collect::<Vec<i64>>());
    assert_eq!(more[0].ordinals.of(0), 10);
    // A pass that ended is followed by one that looks back: late ones are found, others come again.
    database.sql("INSERT INTO t VALUES (100, now() - interval '270 seconds'), (101, now() - interval '400 seconds'), (102, now())").await;
    let through = more.last().unwrap().through.clone();
    let again = behind(&source, Some(&through)).await;
    assert_eq!(numbers(&again), [100, 4, 3, 2, 1, 102], "five minutes are read again");
    assert_eq!(again[0].ordinals.of(0), 30);
    assert!(try_open(&database.url(), keys).await.is_ok());
}
