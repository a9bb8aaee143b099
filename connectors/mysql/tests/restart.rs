//! A server of the test's own: killed in the middle of a commit and started again, and forbidden to take files.
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

use hapax_engine::fault::SinkErrorKind;
use mysql_async::prelude::Queryable;
use scene::connect;
use scene::own::Server;
use scene::pen::{self, next, numbered, ready, shape};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_was_committed_and_nothing_else() {
    let server = Server::new();
    let mut connection = connect(&server.url()).await;
    connection.query_drop("CREATE DATABASE d").await.unwrap();
    let url = format!("{}d", server.url());
    let (_, lease, mut writer, stood) = ready(&url, "t", "append", &shape(pen::schema(), &["id"])).await;
    writer.write(&numbered(0..1000)).await.unwrap();
    let first = next(&stood, 1);
    writer.commit(&first).await.unwrap();
    writer.write(&numbered(1000..2000)).await.unwrap();
    server.kill();
    let error = writer.write(&numbered(2000..3000)).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    let error = writer.take_over(&lease).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    server.service("start");
    assert_eq!(format!("{}d", server.url()), url, "it has another address now");
    assert_eq!(writer.take_over(&lease).await.unwrap(), first.standing());
    writer.write(&numbered(1000..2000)).await.unwrap();
    writer.commit(&next(&first.standing(), 2)).await.unwrap();
    let mut connection = connect(&url).await;
    let rows: Option<(i64, i64)> =
        connection.query_first("SELECT count(*), count(DISTINCT id) FROM t").await.unwrap();
    assert_eq!(rows, Some((2000, 2000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_files_is_written_to_by_statements() {
    let server = Server::new();
    let mut connection = connect(&server.url()).await;
    connection.query_drop("CREATE DATABASE d").await.unwrap();
    let url = format!("{}d", server.url());
    let shape = shape(pen::schema(), &["id"]);
    let (_, lease, mut writer, stood) = ready(&url, "t", "append", &shape).await;
    writer.write(&numbered(0..1000)).await.unwrap();
    // Forbidden while a commit is open, and known from the start.
    connection.query_drop("SET GLOBAL local_infile = 0").await.unwrap();
    writer.write(&numbered(1000..2000)).await.unwrap();
    let first = next(&stood, 1);
    writer.commit(&first).await.unwrap();
    assert_eq!(writer.take_over(&lease).await.unwrap(), first.standing());
    writer.write(&numbered(2000..3000)).await.unwrap();
    writer.commit(&next(&first.standing(), 2)).await.unwrap();
    let files: Option<(String, i64)> =
        connection.query_first("SHOW GLOBAL STATUS LIKE 'Com_load'").await.unwrap();
    assert_eq!(files.map(|(_, loads)| loads), Some(2), "a file was sent that cannot be taken");
    let rows: Option<(i64, i64)> =
        connection.query_first("SELECT count(*), count(DISTINCT id) FROM d.t").await.unwrap();
    assert_eq!(rows, Some((3000, 3000)));
}
