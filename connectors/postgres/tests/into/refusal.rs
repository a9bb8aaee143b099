use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use hapax_engine::transform::RefusedRow;
use hapax_postgres::codes;
use hapax_postgres::config::Write;

use crate::scene::{Scene, people, ready, shape, shape_of, step, taken};

/// Writes one batch and commits it. Returns what was refused.
async fn written(scene: &Scene, write: Write, key: &[&str], records: &RecordBatch) -> Vec<RefusedRow> {
    let sink = scene.sink(write).await;
    let lease = ready(&sink, &shape_of(records.schema(), key)).await;
    let (mut writer, standing) = taken(&sink, &lease).await;
    let refused = writer.write(records).await.unwrap();
    let epoch = standing.epoch.get() + 1;
    let after = standing.position.map(|position| position.as_bytes()[0]);
    writer.commit(&step(after, after.unwrap_or(0) + 1, epoch)).await.unwrap();
    refused
}

fn rows(refused: &[RefusedRow]) -> Vec<usize> {
    refused.iter().map(|refused| refused.row).collect()
}

fn texts(columns: &[(&str, &[Option<&str>])]) -> RecordBatch {
    let columns = columns.iter().map(|(name, values)| {
        let array: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        (*name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[tokio::test]
async fn what_the_table_does_not_take_is_refused_and_its_neighbours_are_written() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE TYPE mood AS ENUM ('glad', 'sad');
             CREATE TABLE t (j jsonb, m mood, n text NOT NULL, c text CHECK (c <> 'bad'), v varchar(3), u uuid,
               k text UNIQUE)",
        )
        .await;
    let good =
        |row: usize| [Some(r#"{"a": 1}"#), Some("glad"), Some("x"), Some("y"), Some("abc"), None, KEYS[row]];
    const KEYS: [Option<&str>; 9] =
        [Some("0"), Some("1"), Some("2"), Some("3"), Some("4"), Some("5"), None, None, Some("0")];
    let mut cells: Vec<[Option<&str>; 7]> = (0..9).map(good).collect();
    cells[1][0] = Some("{not json");
    cells[2][1] = Some("angry");
    cells[3][2] = None;
    cells[4][3] = Some("bad");
    cells[5][4] = Some("abcd");
    cells[6][5] = Some("no uuid");
    cells[7][2] = Some("nul\0");
    let column = |index: usize| cells.iter().map(|row| row[index]).collect::<Vec<_>>();
    let columns: Vec<(&str, Vec<Option<&str>>)> = ["j", "m", "n", "c", "v", "u", "k"]
        .iter()
        .enumerate()
        .map(|(index, name)| (*name, column(index)))
        .collect();
    let borrowed: Vec<(&str, &[Option<&str>])> =
        columns.iter().map(|(name, values)| (*name, values.as_slice())).collect();
    let refused = written(&scene, Write::Append, &[], &texts(&borrowed)).await;
    assert_eq!(rows(&refused), [1, 2, 3, 4, 5, 6, 7, 8], "{refused:#?}");
    let says = |row: usize, words: &str| {
        let refused = &refused[row - 1];
        assert!(refused.reason.contains(words), "{row}: {}", refused.reason);
    };
    says(1, "json");
    says(2, "mood");
    says(3, "not-null");
    says(4, "check constraint");
    says(5, "too long");
    says(6, "u is not a UUID");
    says(7, "0x00");
    says(8, "(k)=(0) already exists");
    assert_eq!(refused[5].code, codes::VALUE_UNHELD);
    assert!(
        refused.iter().filter(|refused| refused.row != 6).all(|refused| refused.code == codes::ROW_REFUSED)
    );
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn refusals_in_a_large_batch_are_found_one_by_one() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id bigint PRIMARY KEY CHECK (id % 4000 <> 7), name text)").await;
    for write in [Write::Append, Write::Upsert] {
        let records: Vec<_> =
            (0..20_000).map(|id| (Some(id), Some("some text that fills more than one chunk"))).collect();
        let refused = written(&scene, write, &["id"], &people(&records)).await;
        assert_eq!(rows(&refused), [7, 4_007, 8_007, 12_007, 16_007]);
        assert_eq!(scene.count("SELECT count(*) FROM t").await, 19_995);
        scene.sql("TRUNCATE t, _hapax_positions").await;
    }
}

#[tokio::test]
async fn what_another_writer_put_there_first_is_a_refused_row() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id bigint PRIMARY KEY, name text); INSERT INTO t VALUES (2, 'theirs')").await;
    let records = people(&[(Some(1), None), (Some(2), Some("ours")), (Some(3), None)]);
    assert_eq!(rows(&written(&scene, Write::Append, &[], &records).await), [1]);
    assert_eq!(scene.texts("SELECT name FROM t WHERE id = 2").await, ["theirs"]);
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 3);
}

#[tokio::test]
async fn what_a_trigger_leaves_out_or_refuses_is_refused() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE TABLE t (id bigint PRIMARY KEY, name text);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.id = 2 THEN RETURN NULL; END IF;
               IF NEW.id = 3 THEN RAISE EXCEPTION 'three is not wanted'; END IF;
               RETURN NEW; END $$;
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        )
        .await;
    for write in [Write::Append, Write::Upsert] {
        let records = people(&[(Some(1), None), (Some(2), None), (Some(3), None), (Some(4), None)]);
        let refused = written(&scene, write, &["id"], &records).await;
        assert_eq!(rows(&refused), [1, 2]);
        assert!(refused[0].reason.contains("skips"), "{}", refused[0].reason);
        assert!(refused[1].reason.contains("three is not wanted"), "{}", refused[1].reason);
        assert_eq!(scene.count("SELECT count(*) FROM t").await, 2);
        scene.sql("TRUNCATE t, _hapax_positions").await;
    }
}

#[tokio::test]
async fn the_last_record_of_a_key_stays() {
    let scene = Scene::new();
    let records = people(&[(Some(1), Some("a")), (Some(2), Some("b")), (Some(1), Some("c"))]);
    assert_eq!(written(&scene, Write::Upsert, &["id"], &records).await, []);
    let names = "SELECT name FROM t ORDER BY id";
    assert_eq!(scene.texts(names).await, ["c", "b"]);
    assert_eq!(written(&scene, Write::Upsert, &["id"], &people(&[(Some(2), Some("d"))])).await, []);
    assert_eq!(scene.texts(names).await, ["c", "d"]);
    // And where the last one is refused, the one before it.
    scene.sql("ALTER TABLE t ADD CHECK (name <> 'bad')").await;
    let records = people(&[(Some(1), Some("e")), (Some(2), Some("f")), (Some(1), Some("bad"))]);
    assert_eq!(rows(&written(&scene, Write::Upsert, &["id"], &records).await), [2]);
    assert_eq!(scene.texts(names).await, ["e", "f"]);
}

/// What is one key for PostgreSQL may be two texts.
#[tokio::test]
async fn keys_that_only_the_server_finds_equal_are_written_in_order() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v text)",
        )
        .await;
    let records = texts(&[
        ("k", &[Some("a"), Some("b"), Some("A"), Some("c"), Some("B")]),
        ("v", &[Some("1"), Some("2"), Some("3"), Some("4"), Some("5")]),
    ]);
    assert_eq!(written(&scene, Write::Upsert, &["k"], &records).await, []);
    assert_eq!(scene.texts("SELECT v FROM t ORDER BY k").await, ["3", "5", "4"]);
}

#[tokio::test]
async fn ignore_leaves_what_is_there() {
    let scene = Scene::new();
    let records = people(&[(Some(1), Some("a")), (Some(1), Some("b")), (None, Some("c"))]);
    let refused = written(&scene, Write::Ignore, &["id"], &records).await;
    assert_eq!(rows(&refused), [2]);
    assert!(refused[0].reason.contains("id is NULL, and it is the key"));
    assert_eq!(written(&scene, Write::Ignore, &["id"], &people(&[(Some(1), Some("d"))])).await, []);
    assert_eq!(scene.texts("SELECT name FROM t").await, ["a"]);
}

#[tokio::test]
async fn a_replay_refuses_what_is_there() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Upsert).await;
    let lease = ready(&sink, &shape(&["id"])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), Some("a"))])).await.unwrap();
    let replayed = people(&[(Some(1), Some("old")), (Some(2), Some("b")), (Some(2), Some("again"))]);
    let refused = writer.write_absent(&replayed).await.unwrap();
    assert_eq!(refused, [RefusedRow::key_is_there(0), RefusedRow::key_is_there(2)]);
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.texts("SELECT name FROM t ORDER BY id").await, ["a", "b"]);
}

#[tokio::test]
async fn a_number_that_the_column_does_not_keep_is_refused() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (small smallint, exact numeric(4,1), float double precision)").await;
    let small: ArrayRef = Arc::new(Int64Array::from(vec![1, 40_000, 3, 4]));
    let exact: ArrayRef = Arc::new(StringArray::from(vec!["1.50", "1", "1.55", "1"]));
    let float: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1, (1 << 53) + 1]));
    let records = RecordBatch::try_from_iter([("small", small), ("exact", exact), ("float", float)]).unwrap();
    let refused = written(&scene, Write::Append, &[], &records).await;
    assert_eq!(rows(&refused), [1, 2, 3]);
    assert!(refused.iter().all(|refused| refused.code == codes::VALUE_UNHELD));
    assert_eq!(scene.texts("SELECT exact::text FROM t").await, ["1.5"]);
}
