//! An outbox and where its rows go, in one database.

use std::sync::Arc;

use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, Stop, Until};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_postgres::source::Postgres;
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use serde_json::{Value, json};

use crate::kit::Database;

pub const OUTBOX: &str = "CREATE TABLE outbox (id bigint PRIMARY KEY, note text, processed_at timestamptz); \
                          CREATE INDEX ON outbox (id) WHERE processed_at IS NULL; \
                          INSERT INTO outbox SELECT g, 'note ' || g FROM generate_series(1, 1000) g";

pub const ARRIVED: &str = "SELECT count(*) FROM arrived";
pub const DISTINCT: &str = "SELECT count(DISTINCT id) FROM arrived";
pub const WAITING: &str = "SELECT count(*) FROM outbox WHERE processed_at IS NULL";

/// Rows that are marked and neither arrived nor set aside, and rows that did and are not marked, as one look sees them.
pub const APART: &str = "\
    SELECT count(*) FROM outbox o FULL JOIN (SELECT id FROM arrived UNION ALL \
      SELECT (convert_from(raw, 'UTF8')::json ->> 'id')::bigint FROM _hapax_dead_letters) a USING (id) \
    WHERE (o.processed_at IS NULL) <> (a.id IS NULL)";

/// Opens both ends, reached at these URLs, with these keys beside the usual ones.
pub async fn ends(from: &str, to: &str, source: Value, sink: Value) -> (Postgres, Sink) {
    let mut of_source = json!({ "url": from, "table": "outbox", "read": "marked", "mark": "processed_at" });
    of_source.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let mut of_sink = json!({ "url": to, "table": "arrived" });
    of_sink.as_object_mut().unwrap().extend(sink.as_object().unwrap().clone());
    let (source, sink) =
        (serde_json::from_value(of_source).unwrap(), serde_json::from_value(of_sink).unwrap());
    hapax_postgres::joint::open(source, sink).await.unwrap()
}

/// A run between them, with batches of 50.
pub fn run((source, sink): (Postgres, Sink)) -> Run {
    let source: Arc<dyn Source> = Arc::new(source);
    Run {
        source,
        transform: None,
        sink,
        identity: Identity::Key(vec!["id".to_owned()]),
        ledger: None,
        duplicates: Duplicates::Keep,
        on_error: OnError::SetAside,
        until: Until::End,
        parallel: 4,
        applicant: Applicant {
            pipeline: PipelineName::new("outbox").unwrap(),
            holder: "test".to_owned(),
            definition: "outbox".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 50, commit: CommitLimit::default(), ..Limits::default() },
    }
}

/// A run within one database.
pub async fn within(database: &Database) -> Run {
    run(ends(&database.url(), &database.url(), json!({}), json!({})).await)
}
