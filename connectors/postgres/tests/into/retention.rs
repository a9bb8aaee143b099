//! A ledger that lets identities go that are too old.

use hapax_engine::sink::{Arrival, CoCommitSink};
use hapax_postgres::codes;
use hapax_postgres::config::{SinkConfig, Write};
use hapax_protocol::guarantee::{Retention, Window};
use hapax_protocol::identity::RecordId;
use hapax_protocol::ledger::Claim;
use std::sync::Arc;

use crate::scene::{Scene, opened, ready, shape, step, taken};

async fn remembering(scene: &Scene, retention: &str) -> Arc<dyn CoCommitSink> {
    let ledger_retention = Some(retention.to_owned());
    opened(SinkConfig { ledger_retention, ..scene.config(Write::Append) }).await
}

fn arrivals(from: u64, count: u64) -> Vec<Arrival> {
    let arrival = |number: u64| Arrival { id: RecordId(u128::from(number).to_be_bytes()), ordinal: number };
    (from..from + count).map(arrival).collect()
}

const HELD: &str = "SELECT count(*) FROM _hapax_ledger";

#[tokio::test]
async fn what_is_older_goes_with_later_commits_and_at_the_end() {
    let scene = Scene::new();
    let sink = remembering(&scene, "30d").await;
    let ledger = sink.traits().ledger.unwrap();
    assert_eq!(ledger.retention, Retention::For(Window(30 * 86_400_000)));
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.claim(&arrivals(0, 1_000)).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    sink.finish(&lease).await.unwrap();
    assert_eq!(scene.count(HELD).await, 1_000, "what is young stays");
    scene.sql("UPDATE _hapax_ledger SET claimed_at = now() - interval '31 days' WHERE ordinal < 900").await;
    scene.sql("INSERT INTO _hapax_ledger SELECT 'another', gen_random_uuid(), 's', 1, now() - interval '1 year'").await;
    // A commit lets go twice as many as it claimed.
    writer.claim(&arrivals(5_000, 200)).await.unwrap();
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    assert_eq!(scene.count(HELD).await, 1_000 + 1 + 200 - 400);
    // What was let go in a commit that is given up is there still.
    writer.claim(&arrivals(6_000, 1)).await.unwrap();
    writer.abort().await.unwrap();
    assert_eq!(scene.count(HELD).await, 801);
    sink.finish(&lease).await.unwrap();
    assert_eq!(
        scene.count(HELD).await,
        301,
        "100 that are young, 200 that are new, and one of another pipeline"
    );
    let held = sink.ledger_holds(&crate::scene::pipeline()).await.unwrap().unwrap();
    assert_eq!(held.identities, Some(300));
    assert!(held.bytes > Some(0) && held.oldest_unix_ms > Some(1_700_000_000_000), "{held:?}");
    // Whoever is remembered is a twin, whoever is not is new.
    let claims = writer.claim(&[arrivals(0, 1), arrivals(950, 1)].concat().map_ordinals()).await.unwrap();
    assert!(matches!(claims[..], [Claim::New, Claim::Twin { .. }]), "{claims:?}");
}

trait Moved {
    /// The same identities at other places.
    fn map_ordinals(self) -> Vec<Arrival>;
}

impl Moved for Vec<Arrival> {
    fn map_ordinals(self) -> Vec<Arrival> {
        self.into_iter().map(|arrival| Arrival { ordinal: arrival.ordinal + 10_000, ..arrival }).collect()
    }
}

#[tokio::test]
async fn many_are_let_go_step_by_step_and_found_by_an_index() {
    let scene = Scene::new();
    let sink = remembering(&scene, "12h").await;
    let lease = ready(&sink, &shape(&[])).await;
    scene
        .sql(
            "INSERT INTO _hapax_ledger SELECT 'p', gen_random_uuid(), 's', g, now() - g * interval '1 second' \
             FROM generate_series(1, 70000) g; ANALYZE _hapax_ledger",
        )
        .await;
    sink.finish(&lease).await.unwrap();
    let held = scene.count(HELD).await;
    assert!((42_000..=43_200).contains(&held), "{held} are younger than 12 hours");
    let index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'hapax_ledger_age'";
    assert_eq!(scene.count(index).await, 1);
    // Without the key, no index is made and nothing goes.
    let scene = Scene::new();
    ready(&scene.sink(Write::Append).await, &shape(&[])).await;
    assert_eq!(scene.count(index).await, 0);
}

#[tokio::test]
async fn what_is_no_length_of_time_is_refused() {
    let scene = Scene::new();
    for wrong in ["", "30", "d", "0d", "30 weeks"] {
        let config = SinkConfig { ledger_retention: Some(wrong.to_owned()), ..scene.config(Write::Append) };
        let error = hapax_postgres::sink::open(config).await.err().unwrap();
        assert_eq!(error.fault.code(), codes::CONFIG, "{wrong}");
    }
}
