//! A server whose disk is full, and one that is gone for longer than it is waited for.
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

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hapax_engine::fault::{CommitError, SinkError, SinkErrorKind};
use hapax_mysql::codes;
use mysql_async::prelude::Queryable;
use scene::connect;
use scene::own::Server;
use scene::pen::{self, configured, lease, next, people, shape, taken};
use serde_json::json;

/// A file system in memory, mounted for one test.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        mount.run(&format!("size={size}"));
        mount
    }

    /// Mounts it, or makes it larger.
    fn run(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "hapax-test"])
            .arg(self.path())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "this test mounts a small file system; run it where that is allowed, for instance with \
             `sudo -E unshare --mount --propagation private cargo test`"
        );
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn count(url: &str) -> (i64, i64) {
    let mut connection = connect(url).await;
    connection.query_first("SELECT count(*), count(DISTINCT id) FROM t").await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_run_and_a_rerun_completes() {
    let mount = Mount::new("260m");
    let server = Server::in_folder(tempfile::tempdir_in(mount.path()).unwrap());
    server.run("CREATE DATABASE d");
    let url = format!("{}d", server.url());
    let config = json!({ "url": url, "table": "t", "write": "append" });
    let shape = shape(pen::schema(), &["id"]);
    let sink = configured(config.clone()).await.unwrap();
    sink.prepare(&shape).await.unwrap();
    let held = lease(&sink).await;
    let (mut writer, mut stood) = taken(&sink, &held).await;
    let text = "x".repeat(4_000);
    let batch =
        |n: i64| people(&(n * 1000..n * 1000 + 1000).map(|id| (id, Some(text.as_str()))).collect::<Vec<_>>());
    let mut committed = 0_i64;
    let error: SinkError = loop {
        assert!(committed < 100, "the disk never filled");
        if let Err(error) = writer.write(&batch(committed)).await {
            break error;
        }
        let commit = next(&stood, committed as u8 + 1);
        match writer.commit(&commit).await {
            Ok(()) => stood = commit.standing(),
            Err(CommitError::Refused(error)) => break error,
            Err(CommitError::Unknown(error)) => panic!("{error}"),
        }
        committed += 1;
    };
    println!("full after {committed} commits: {error}");
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Stop, codes::DISK_FULL), "{error}");
    assert!(committed > 0);
    assert_eq!(count(&url).await, (committed * 1000, committed * 1000), "half a commit stayed");
    // There is room again: another run goes on behind the last commit.
    mount.run("remount,size=500m");
    let sink = configured(config).await.unwrap();
    sink.prepare(&shape).await.unwrap();
    let held = lease(&sink).await;
    let (mut writer, found) = taken(&sink, &held).await;
    assert_eq!(found, stood);
    writer.write(&batch(committed)).await.unwrap();
    writer.commit(&next(&found, committed as u8 + 1)).await.unwrap();
    assert_eq!(count(&url).await, ((committed + 1) * 1000, (committed + 1) * 1000));
    server.service("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_said_to_be_and_another_run_goes_on_behind_the_last_commit() {
    let server = Server::new();
    server.run("CREATE DATABASE d");
    let url = format!("{}d", server.url());
    let config = json!({ "url": url, "table": "t", "write": "append" });
    let shape = shape(pen::schema(), &["id"]);
    let sink = configured(config.clone()).await.unwrap();
    sink.prepare(&shape).await.unwrap();
    let held = lease(&sink).await;
    let (mut writer, stood) = taken(&sink, &held).await;
    writer.write(&pen::numbered(0..10)).await.unwrap();
    let first = next(&stood, 1);
    writer.commit(&first).await.unwrap();
    writer.write(&pen::numbered(10..20)).await.unwrap();
    server.service("stop");
    let begun = Instant::now();
    let error = writer.take_over(&held).await.unwrap_err();
    let waited = begun.elapsed();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
    assert!(waited < Duration::from_secs(60), "{waited:?}");
    server.service("start");
    assert_eq!(format!("{}d", server.url()), url, "it has another address now");
    let sink = configured(config).await.unwrap();
    sink.prepare(&shape).await.unwrap();
    let held = lease(&sink).await;
    let (mut writer, found) = taken(&sink, &held).await;
    assert_eq!(found, first.standing());
    writer.write(&pen::numbered(10..20)).await.unwrap();
    writer.commit(&next(&found, 2)).await.unwrap();
    assert_eq!(count(&url).await, (20, 20));
}
