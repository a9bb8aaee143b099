//! What several tests do with a source.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Source, SplitReader};
use hapax_postgres::source::Postgres;
use hapax_protocol::position::{Position, SplitId};
use serde_json::{Value, json};

use crate::kit::Database;

pub const WIDE: ReadLimit = ReadLimit { records_max: 1 << 20, bytes_max: 1 << 26 };

/// Opens the source with these keys beside the URL.
pub async fn try_open(url: &str, keys: Value) -> Result<Postgres, SourceError> {
    let mut config = json!({ "url": url });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Postgres::open(serde_json::from_value(config).unwrap()).await
}

pub async fn open(database: &Database, keys: Value) -> Postgres {
    try_open(&database.url(), keys).await.unwrap()
}

/// Runs the suite of every source.
pub async fn suite(database: &Database, records: u64, keys: Value) {
    hapax_conformance::source::suite(records, async || {
        let source: Arc<dyn Source> = Arc::new(open(database, keys.clone()).await);
        source
    })
    .await;
}

/// The code of what opening it fails with.
pub async fn refused(url: &str, keys: Value) -> String {
    match try_open(url, keys).await {
        Ok(_) => panic!("it opened"),
        Err(error) => {
            assert!(!error.fault.help().is_empty());
            error.fault.code().to_string()
        }
    }
}

/// Reads on to the end.
pub async fn rest(reader: &mut dyn SplitReader, limit: ReadLimit) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(limit).await.unwrap() {
        batches.push(batch);
    }
    batches
}

/// Everything behind a position of a source with one split.
pub async fn behind(source: &Postgres, after: Option<&Position>) -> Vec<Batch> {
    let splits = source.splits().await.unwrap();
    let mut reader = source.open(&splits[0].id, after).await.unwrap();
    rest(reader.as_mut(), WIDE).await
}

/// Everything, split by split.
pub async fn whole(source: &Postgres) -> Vec<(SplitId, Vec<Batch>)> {
    let mut all = Vec::new();
    for split in source.splits().await.unwrap() {
        let mut reader = source.open(&split.id, None).await.unwrap();
        all.push((split.id, rest(reader.as_mut(), WIDE).await));
    }
    all
}

/// The values of the first column, which is a bigint.
pub fn numbers<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<i64> {
    let column = |records: &RecordBatch| records.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.into_iter().flat_map(|batch| column(&batch.records)).collect()
}

/// Waits until the horizon of transactions lies behind all that a table holds but `ahead` rows: transactions of all
/// databases of a server are numbered together, and other tests have theirs.
pub async fn passed(database: &Database, table: &str, ahead: i64) {
    let sql = format!("SELECT count(*) FROM {table} WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())");
    let began = std::time::Instant::now();
    while database.count(&sql).await > ahead {
        assert!(began.elapsed().as_secs() < 120, "other transactions stay open");
    }
}
