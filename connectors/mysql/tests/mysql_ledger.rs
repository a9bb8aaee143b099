//! A ledger that forgets what is older than it has to remember.
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

use hapax_engine::sink::{Arrival, CoCommit};
use hapax_protocol::guarantee::{Retention, Window};
use hapax_protocol::identity::RecordId;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::Standing;
use scene::Scene;
use scene::pen::{self, configured, lease, next, shape, taken};
use serde_json::{Value, json};

fn arrival(id: u8, ordinal: u64) -> Arrival {
    Arrival { id: RecordId([id; 16]), ordinal }
}

/// Makes identities older than they are.
fn aged(scene: &Scene, ids: &str, hours: u32) {
    let sql = format!(
        "UPDATE _hapax_ledger SET claimed_at = UTC_TIMESTAMP(3) - INTERVAL {hours} HOUR WHERE hex(id) IN ({ids})"
    );
    scene.run("d", &sql);
}

fn left(scene: &Scene) -> Vec<String> {
    scene.rows("d", "SELECT left(hex(id), 2) FROM _hapax_ledger ORDER BY id").concat()
}

async fn commit(writer: &mut Box<dyn CoCommit>, stood: &mut Standing, through: u8) {
    let checkpoint = next(stood, through);
    writer.commit(&checkpoint).await.unwrap();
    *stood = checkpoint.standing();
}

fn full(ids: &[u8]) -> String {
    ids.iter().map(|id| format!("'{}'", format!("{id:02X}").repeat(16))).collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread")]
async fn old_identities_are_forgotten_and_no_others() {
    let scene = Scene::new();
    let url = scene.database("d");
    let config = |retention: Value| json!({ "url": url, "table": "t", "ledger_retention": retention });
    for wrong in ["30", "d", "0h", "1 week"] {
        assert!(configured(config(wrong.into())).await.is_err(), "{wrong}");
    }
    let for_ever = configured(config(Value::Null)).await.unwrap();
    assert_eq!(for_ever.traits().ledger.unwrap().retention, Retention::Unbounded);
    let sink = configured(config("12h".into())).await.unwrap();
    assert_eq!(sink.traits().ledger.unwrap().retention, Retention::For(Window(12 * 3_600_000)));
    // Made ready twice, it has one index.
    for _ in 0..2 {
        sink.prepare(&shape(pen::schema(), &["id"])).await.unwrap();
    }
    let indexes = "SELECT count(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS \
                   WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '_hapax_ledger'";
    assert_eq!(scene.numbers("d", indexes), [2]);
    let lease = lease(&sink).await;
    assert_eq!(sink.ledger_holds(&lease.pipeline).await.unwrap(), None);
    let (mut writer, mut stood) = taken(&sink, &lease).await;
    let claims = writer.claim(&[arrival(1, 0), arrival(2, 1), arrival(3, 2)]).await.unwrap();
    assert!(claims.iter().all(|claim| *claim == Claim::New), "{claims:?}");
    commit(&mut writer, &mut stood, 1).await;
    aged(&scene, &full(&[1]), 13);
    aged(&scene, &full(&[2]), 11);
    // Another pipeline's are its own.
    scene.run(
        "d",
        "INSERT INTO _hapax_ledger SELECT 'other', id, split, ordinal, epoch, claimed_at FROM _hapax_ledger",
    );
    // A commit forgets, and nothing that it still has to know.
    let claims = writer.claim(&[arrival(2, 3)]).await.unwrap();
    assert!(claims[0] != Claim::New, "{claims:?}");
    commit(&mut writer, &mut stood, 2).await;
    assert_eq!(left(&scene), ["01", "02", "02", "03", "03"]);
    let claims = writer.claim(&[arrival(1, 4)]).await.unwrap();
    assert_eq!(claims, [Claim::New], "what was forgotten is new");
    commit(&mut writer, &mut stood, 3).await;
    // One that keeps them for ever forgets none.
    aged(&scene, &full(&[1, 2, 3]), 1000);
    for_ever.finish(&lease).await.unwrap();
    assert_eq!(left(&scene).len(), 6);
    // The end of a run forgets the rest, however much it is, and finds it by its age.
    let many =
        "INSERT INTO _hapax_ledger SELECT 'p', unhex(md5(AT + seq)), 's', seq, 1, MOMENT FROM seq_1_to_12000";
    scene.run("d", &many.replace("AT", "0").replace("MOMENT", "'2001-01-01'"));
    scene.run("d", &many.replace("AT", "20000").replace("MOMENT", "UTC_TIMESTAMP(3)"));
    scene.run("d", "ANALYZE TABLE _hapax_ledger");
    let plan = "EXPLAIN DELETE l FROM _hapax_ledger l JOIN (SELECT pipeline, id FROM _hapax_ledger \
                FORCE INDEX (_hapax_by_age) WHERE pipeline = 'p' AND claimed_at < UTC_TIMESTAMP(3) - INTERVAL 1 DAY \
                ORDER BY claimed_at LIMIT 5000) old ON l.pipeline = old.pipeline AND l.id = old.id";
    let plan = scene.rows("d", plan).iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("\n");
    println!("{plan}");
    assert!(
        plan.contains("_hapax_by_age") && !plan.contains("filesort") && plan.contains("eq_ref"),
        "{plan}"
    );
    // A commit forgets so many and no more.
    commit(&mut writer, &mut stood, 4).await;
    assert_eq!(
        scene.numbers("d", "SELECT count(*) FROM _hapax_ledger WHERE pipeline = 'p'"),
        [12000 + 12000 + 3 - 5000]
    );
    let held = sink.ledger_holds(&lease.pipeline).await.unwrap().unwrap();
    assert_eq!(
        (held.identities, held.oldest_unix_ms),
        (Some(12000 + 12000 + 3 - 5000), Some(978_307_200_000))
    );
    sink.finish(&lease).await.unwrap();
    let left = "SELECT count(*), sum(claimed_at < '2010-01-01') FROM _hapax_ledger WHERE pipeline = 'p'";
    assert_eq!(scene.rows("d", left), [["12000", "0"]]);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM _hapax_ledger WHERE pipeline = 'other'"), [3]);
}
