//! Tables that somebody alters while records are written to them, and holders that were superseded.

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_postgres::codes;
use hapax_postgres::config::Write;
use std::sync::Arc;

use crate::scene::{Scene, applicant, at, people, ready, shape, shape_of, step, taken};

fn amounts(rows: &[(i64, i128)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let amounts = Decimal128Array::from_iter_values(rows.iter().map(|row| row.1));
    let amounts: ArrayRef = Arc::new(amounts.with_precision_and_scale(12, 4).unwrap());
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("amount", DataType::Decimal128(12, 4), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![ids, amounts]).unwrap()
}

#[tokio::test]
async fn values_are_not_changed_by_a_type_that_is_altered_between_two_commits() {
    for write in [Write::Append, Write::Upsert, Write::Ignore] {
        for change in [
            "ALTER COLUMN amount TYPE numeric(12,2)",
            "ALTER COLUMN amount TYPE double precision",
            "ALTER COLUMN amount SET NOT NULL",
        ] {
            let scene = Scene::new();
            let records = amounts(&[(1, 12_345)]);
            let shape = shape_of(records.schema(), &["id"]);
            let sink = scene.sink(write).await;
            let lease = ready(&sink, &shape).await;
            let (mut writer, _) = taken(&sink, &lease).await;
            writer.write(&records).await.unwrap();
            writer.commit(&step(None, 1, 1)).await.unwrap();
            scene.sql(&format!("ALTER TABLE t {change}")).await;
            writer.write(&amounts(&[(2, 12_345)])).await.unwrap();
            let refused = writer.commit(&step(Some(1), 2, 2)).await.unwrap_err();
            let CommitError::Refused(error) = refused else { panic!("{refused:?}") };
            assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Stop, codes::ALTERED), "{change}");
            assert_eq!(scene.count("SELECT count(*) FROM t").await, 1, "{change}");
            assert_eq!(writer.take_over(&lease).await.unwrap().position, Some(at(1)), "{change}");
        }
    }
}

#[tokio::test]
async fn what_is_not_written_may_be_altered() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    for (number, change) in ["ADD COLUMN more text", "ALTER COLUMN more TYPE varchar(3)", "DROP COLUMN more"]
        .into_iter()
        .enumerate()
    {
        let number = u8::try_from(number).unwrap();
        writer.write(&people(&[(Some(1), Some("a"))])).await.unwrap();
        let after = (number > 0).then_some(number);
        writer.commit(&step(after, number + 1, u64::from(number) + 1)).await.unwrap();
        scene.sql(&format!("ALTER TABLE t {change}")).await;
    }
    // A table of the same name is another one.
    scene.sql("ALTER TABLE t RENAME TO before; CREATE TABLE t (id bigint, name varchar(1))").await;
    writer.write(&people(&[(Some(1), Some("a"))])).await.unwrap();
    let Err(CommitError::Refused(error)) = writer.commit(&step(Some(3), 4, 4)).await else { panic!() };
    assert_eq!(error.fault.code(), codes::ALTERED);
}

/// What looking costs, beside commits of 8 MB: printed, and bounded generously.
#[tokio::test]
async fn looking_costs_little_beside_a_commit() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let pad = "x".repeat(1_000);
    let rows: Vec<_> = (0..8_000).map(|id| (Some(id), Some(pad.as_str()))).collect();
    let began = std::time::Instant::now();
    for number in 0..5_u8 {
        writer.write(&people(&rows)).await.unwrap();
        let after = (number > 0).then_some(number);
        writer.commit(&step(after, number + 1, u64::from(number) + 1)).await.unwrap();
    }
    let commit = began.elapsed() / 5;
    let client = scene.database.client().await;
    let sql = "SELECT coalesce(string_agg(attname || ' ' || atttypid || ' ' || atttypmod || ' ' || attnotnull || ' ' \
               || attgenerated::text || attidentity::text, ', ' ORDER BY attnum), '') FROM pg_attribute \
               WHERE attrelid = 't'::regclass AND attname = ANY ($1::text[]) AND NOT attisdropped";
    let statement = client.prepare(sql).await.unwrap();
    let mut looks = Vec::new();
    for _ in 0..50 {
        let began = std::time::Instant::now();
        client.query_one(&statement, &[&vec!["id", "name"]]).await.unwrap();
        looks.push(began.elapsed());
    }
    // What the machine does beside it costs some of them, and not half.
    looks.sort();
    let look = looks[25];
    println!("a commit of 8 MB takes {commit:?}, looking at the columns {look:?}");
    assert!(look * 10 < commit, "a commit takes {commit:?}, looking {look:?}");
}

/// A holder that wakes up late finds out that it was superseded before it ends the session of its successor.
#[tokio::test]
async fn a_superseded_holder_ends_nobodys_session() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let stale = ready(&sink, &shape(&[])).await;
    drop(taken(&sink, &stale).await);
    let lease = sink.acquire(&applicant("d")).await.unwrap();
    let (mut successor, _) = taken(&sink, &lease).await;
    successor.write(&people(&[(Some(1), None)])).await.unwrap();
    let mut late = sink.writer(&crate::scene::split()).await.unwrap();
    let error = late.take_over(&stale).await.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Fenced, codes::FENCED));
    successor.write(&people(&[(Some(2), None)])).await.unwrap();
    successor.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 2);
}
