use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::sink::{Shape, Tenure};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Totals};

use super::{Desk, lock};
use crate::codes;
use crate::config::{SinkConfig, Write};
use crate::sink::plan::Plan;

struct Scene {
    _dir: tempfile::TempDir,
    desk: Desk,
    plan: Plan,
    lease: Lease,
    split: SplitId,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.db");
    let mut desk = Desk::new(&path);
    let config = SinkConfig { path, table: "t".into(), write: Write::Append, positions: None };
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Utf8, true)]));
    let plan = desk.prepare(&config, &Shape { schema, key: Vec::new() }, true).unwrap();
    let pipeline = PipelineName::new("p").unwrap();
    let lease = desk
        .acquire(&Applicant { pipeline, holder: "h".into(), definition: "d".into() }, Tenure::Sole)
        .unwrap();
    let split = SplitId::new("s");
    desk.take_over(&lease, &split).unwrap();
    Scene { _dir: dir, desk, plan, lease, split }
}

fn rows(count: usize, bytes: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|_| "x".repeat(bytes))));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

fn first() -> Checkpoint {
    let through = Position::new([1].as_slice());
    Checkpoint {
        after: None,
        through,
        epoch: Epoch::new(1),
        totals: Totals::default(),
        again: Vec::new(),
        made_unix_ms: 1,
    }
}

impl Scene {
    fn sql(&mut self, sql: &str) {
        lock(&self.desk.shared().unwrap()).execute_batch(sql).unwrap();
    }

    fn count(&mut self) -> i64 {
        let shared = self.desk.shared().unwrap();
        let connection = lock(&shared);
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let mut scene = scene();
    // SQLite says FULL at this size as it does when the disk has no more.
    scene.sql("PRAGMA max_page_count = 40");
    scene.desk.begin_as(&scene.lease).unwrap();
    assert_eq!(scene.desk.write(&scene.split, &scene.plan, &rows(2, 10)).unwrap(), []);
    let error = scene.desk.write(&scene.split, &scene.plan, &rows(1_000, 1_000)).unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Stop, codes::DISK_FULL));
    scene.desk.roll_back();
    assert_eq!(scene.count(), 0);
    scene.sql("PRAGMA max_page_count = 4000");
    scene.desk.begin_as(&scene.lease).unwrap();
    scene.desk.write(&scene.split, &scene.plan, &rows(1_000, 1_000)).unwrap();
    scene.desk.commit(&scene.lease, &scene.split, &first()).unwrap();
    assert_eq!(scene.count(), 1_000);
}

#[test]
fn a_commit_that_sqlite_refuses_is_refused_and_taken_back() {
    let mut scene = scene();
    scene.sql(
        "CREATE TABLE parent (v TEXT PRIMARY KEY); DROP TABLE t; \
         CREATE TABLE t (v TEXT REFERENCES parent DEFERRABLE INITIALLY DEFERRED); PRAGMA foreign_keys = ON",
    );
    scene.desk.begin_as(&scene.lease).unwrap();
    scene.desk.write(&scene.split, &scene.plan, &rows(1, 1)).unwrap();
    let refused = scene.desk.commit(&scene.lease, &scene.split, &first()).unwrap_err();
    assert!(matches!(refused, CommitError::Refused(_)));
    assert_eq!(scene.count(), 0);
    assert_eq!(scene.desk.take_over(&scene.lease, &scene.split).unwrap().position, None);
}

#[test]
fn a_commit_with_no_transaction_left_is_unknown() {
    let mut scene = scene();
    scene.desk.begin_as(&scene.lease).unwrap();
    scene.desk.write(&scene.split, &scene.plan, &rows(1, 1)).unwrap();
    scene.sql("COMMIT");
    let unknown = scene.desk.end(&scene.split).unwrap_err();
    assert!(matches!(unknown, CommitError::Unknown(_)));
    assert_eq!(scene.count(), 1);
}
