//! Sources that are followed: rows that come after the end of what there was.
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

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::FutureExt;
use hapax_engine::batch::ReadLimit;
use hapax_engine::source::{Extent, Source, SplitReader};
use hapax_mysql::source::Mysql;
use scene::Scene;
use serde_json::{Value, json};

const LIMIT: ReadLimit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };

async fn open(url: &str, mut keys: Value) -> Mysql {
    keys["url"] = url.into();
    Mysql::open(serde_json::from_value(keys).unwrap()).await.unwrap()
}

/// Reads until `wanted` rows came, waiting for more where there are none. How often it waited.
async fn follow(reader: &mut Box<dyn SplitReader>, wanted: usize) -> (Vec<i64>, u32) {
    let until = Instant::now() + Duration::from_secs(120);
    let (mut ids, mut waits) = (Vec::new(), 0);
    while ids.len() < wanted {
        assert!(Instant::now() < until, "{} of {wanted} rows came", ids.len());
        match reader.read(LIMIT).await.unwrap() {
            Some(batch) => {
                ids.extend_from_slice(batch.records.column(0).as_primitive::<Int64Type>().values())
            }
            None => {
                // Dropped in the middle, the wait goes on with the next.
                assert!(reader.more().now_or_never().is_none());
                reader.more().await.unwrap();
                waits += 1;
            }
        }
    }
    (ids, waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_later_are_read() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id BIGINT PRIMARY KEY, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), processed_at DATETIME NULL, INDEX (at));
         INSERT INTO t(id) VALUES (1), (2)",
    );
    let bounded = open(&url, json!({ "table": "t" })).await;
    assert_eq!(bounded.extent(), Extent::Bounded);
    for keys in [
        json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "database", "poll_ms": 20 }),
        json!({ "table": "t", "read": "marked", "mark": "processed_at", "poll_ms": 20 }),
    ] {
        scene.run("d", "DELETE FROM t; INSERT INTO t(id) VALUES (1), (2)");
        let source = open(&url, keys.clone()).await;
        assert_eq!(source.extent(), Extent::Growing);
        let split = source.splits().await.unwrap().remove(0).id;
        let mut reader = source.open(&split, None).await.unwrap();
        assert_eq!(follow(&mut reader, 2).await.0, [1, 2], "{keys}");
        assert!(reader.read(LIMIT).await.unwrap().is_none(), "{keys}");
        scene.run("d", "INSERT INTO t(id) VALUES (3)");
        scene.run("d", "INSERT INTO t(id) VALUES (4)");
        reader.more().await.unwrap();
        let (ids, waits) = follow(&mut reader, 2).await;
        assert_eq!(ids, [3, 4], "{keys}");
        println!("{keys}: waited {waits} times");
    }
    let zero = json!({ "url": url, "table": "t", "read": "marked", "mark": "processed_at", "poll_ms": 0 });
    assert!(Mysql::open(serde_json::from_value(zero).unwrap()).await.is_err());
}
