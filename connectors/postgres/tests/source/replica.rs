//! A server that only follows: a snapshot may be read there, and nothing that asks for open transactions.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::kit::Database;
use crate::reading::{behind, numbers, refused, try_open};

/// A server of its own, in a directory that goes with it.
struct Server(tempfile::TempDir);

impl Server {
    fn service(&self, verb: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let done =
            Command::new(root.join("services/postgres")).arg(verb).arg(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Where its data is.
    fn data(&self) -> String {
        std::fs::read_to_string(self.0.path().join("place")).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data may stand elsewhere, where the server's user can reach it.
        let Ok(place) = std::fs::read_to_string(self.0.path().join("place")) else { return };
        self.service("stop");
        let _ = std::fs::remove_dir_all(Path::new(place.trim()).parent().unwrap());
    }
}

#[tokio::test]
async fn a_replica_gives_snapshots_and_nothing_else() {
    let server = Server(tempfile::tempdir().unwrap());
    let primary = server.service("start");
    let database = Database::on(primary);
    database
        .sql(
            "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), \
              xid xid8 NOT NULL DEFAULT pg_current_xact_id()); INSERT INTO t SELECT generate_series(1, 9)",
        )
        .await;
    server.service("stop");
    std::fs::write(Path::new(&server.data()).join("standby.signal"), "").unwrap();
    server.service("start");
    let url = database.url();
    for keys in [
        json!({ "table": "t", "read": "incremental", "cursor": "xid" }),
        json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "database" }),
        json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "application", "lateness": "5m" }),
        json!({ "table": "t", "read": "marked", "mark": "at" }),
    ] {
        assert_eq!(refused(&url, keys.clone()).await, "HX0541", "{keys}");
    }
    let source = try_open(&url, json!({ "table": "t" })).await.unwrap();
    assert_eq!(numbers(&behind(&source, None).await), (1..=9).collect::<Vec<i64>>());
}
