//! Connections that end in the middle, through the real engine into a real table.

use std::sync::Arc;

use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::fault::SourceErrorKind;
use hapax_engine::source::Source;
use hapax_protocol::identity::Duplicates;
use serde_json::json;

use crate::kit::Database;
use crate::marked::moved;
use crate::reading::{WIDE, numbers, open, try_open};

const ROWS: &str = "CREATE TABLE outbox (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), pad text); \
                    INSERT INTO outbox SELECT g, now(), repeat('x', 500) FROM generate_series(1, 2000) g";

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_loses_and_repeats_nothing() {
    let by_cursor =
        json!({ "table": "outbox", "read": "incremental", "cursor": "at", "cursor_set_by": "database" });
    for keys in [json!({ "table": "outbox" }), by_cursor] {
        let database = Database::new();
        database.sql(ROWS).await;
        let proxy = Arc::new(Proxy::before(database.host()).await);
        let url = format!("{}?sslmode=disable", database.url_through(proxy.port()));
        // Cut again and again, each time somewhere else.
        let cutting = Arc::clone(&proxy);
        let cutter = tokio::spawn(async move {
            for round in 0..4_u64 {
                cutting.fail(Failure::Cut { bytes: 150_000 + 77_777 * round });
                while cutting.happened() <= round {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
        });
        let (mut arrived, mut runs) = (0, 0);
        while arrived < 2000 {
            runs += 1;
            assert!(runs < 20, "it gets no further than {arrived}");
            if let Ok(summary) = moved(&database, &url, keys.clone(), Duplicates::Keep).await {
                arrived = summary
                    .totals
                    .moved
                    .max(database.count("SELECT count(*) FROM arrived").await.unsigned_abs());
            }
        }
        assert!(proxy.happened() >= 2, "nothing was cut");
        cutter.abort();
        let count = "SELECT count(*) FROM arrived";
        let distinct = "SELECT count(DISTINCT id) FROM arrived";
        assert_eq!((database.count(count).await, database.count(distinct).await), (2000, 2000), "{keys}");
    }
}

#[tokio::test]
async fn a_snapshot_whose_holder_is_gone_is_taken_anew() {
    let database = Database::new();
    database.sql(ROWS).await;
    let source = open(&database, json!({ "table": "outbox" })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let terminate = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'hapax'";
    assert!(database.count(terminate).await >= 1);
    let mut opened = source.open(&split, None).await;
    if let Err(error) = &opened {
        assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
        opened = source.open(&split, None).await;
    }
    let batch = opened.unwrap().read(WIDE).await.unwrap().unwrap();
    assert_eq!(numbers([&batch]).len(), 2000);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_and_shows_no_password() {
    let database = Database::new();
    let proxy = Proxy::before(database.host()).await;
    proxy.fail(Failure::Gone);
    let url = database.url_through(proxy.port());
    let error = try_open(&url, json!({ "table": "t" })).await.err().unwrap();
    assert_eq!(
        (error.kind, error.fault.code().to_string().as_str()),
        (SourceErrorKind::Unavailable, "HX0504")
    );
    let password = url.split(['@', ':']).nth(2).unwrap();
    assert!(!format!("{error:?}{error}").contains(password));
}
