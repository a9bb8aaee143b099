//! A collection of the real server keeps the keyed contract, and a sink that inserts or sends two versions of a key does
//! not.
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

use std::sync::Arc;

use hapax_conformance::keyed;
use hapax_conformance::late::Late;
use hapax_engine::sink::Sink;
use scene::{KEYED, Planted, Scene, Vectored, kept};
use serde_json::{Value, json};

/// What is written, and how.
enum Means {
    /// Into a collection with a field for the text.
    Fields,
    /// Into one that the sink makes, whose dynamic field takes the text.
    Made,
    Mistake {
        upserts: bool,
    },
}

struct Case {
    scene: Scene,
    means: Means,
    /// What stands before the server.
    late: Late,
}

impl Case {
    async fn opened(&self, name: &str, deletes: bool) -> Sink {
        let (secret, _) = self.scene.url.rsplit_once('@').unwrap();
        let mut more = json!({ "url": format!("{secret}@127.0.0.1:{}", self.late.port()) });
        if matches!(self.means, Means::Made) {
            more["create"] = json!({ "vector": "vec", "dimension": 2, "index": "flat" });
        }
        if !matches!(self.means, Means::Made) && self.state_of(name).await.is_none() {
            self.scene.make(name, KEYED, true).await;
        }
        if let Means::Mistake { upserts } = self.means {
            let (client, collection) = (self.scene.client().await, self.scene.name(name));
            return kept(Arc::new(Planted { client, collection, upserts }));
        }
        if deletes {
            more["delete"] = json!("gone");
        }
        let target = self.scene.sink(name, more).unwrap();
        kept(Arc::new(Vectored { target, deletes }))
    }

    /// `None` where the collection is not there.
    async fn state_of(&self, name: &str) -> Option<Vec<(i64, String)>> {
        let (mut client, name) = (self.scene.client().await, self.scene.name(name));
        let rows = client.try_rows(&name, "id > -1000", &["id", "text"]).await.ok()?;
        let one = |row: &Value| (row["id"].as_i64().unwrap(), row["text"].as_str().unwrap().to_owned());
        let mut state: Vec<(i64, String)> = rows.iter().map(one).collect();
        // The server shows one version of a key, and counts all of them.
        if client.count(&name, "").await != state.len() as i64 {
            for (id, text) in state.clone() {
                let count = client.count(&name, &format!("id == {id}")).await;
                state.extend((1..count).map(|_| (id, text.clone())));
            }
        }
        Some(state)
    }
}

impl keyed::Scene for Case {
    async fn open(&self, name: &str) -> Sink {
        self.opened(name, false).await
    }

    async fn state(&self, name: &str) -> Vec<(i64, String)> {
        self.state_of(name).await.unwrap_or_default()
    }

    fn unfit(&self) -> Option<String> {
        Some("x".repeat(if matches!(self.means, Means::Made) { 70_000 } else { 65 }))
    }

    async fn hold_back(&self, _: &str) -> bool {
        self.late.hold(b"old");
        true
    }

    async fn held(&self, _: &str) {
        self.late.held().await;
    }

    async fn let_go(&self, name: &str) {
        self.late.let_go().await;
        // So it was carried out, late as it was, and nobody refused it: what the plan says must not happen.
        let state = self.state_of(name).await.unwrap();
        assert!(state.contains(&(1, "old".to_owned())), "{name}: {state:?}");
    }

    async fn removing(&self, name: &str) -> Option<Sink> {
        Some(self.opened(name, true).await)
    }
}

async fn suite(means: Means) {
    let scene = Scene::new();
    let late = Late::before(scene.url.rsplit_once('@').unwrap().1).await;
    let case = Case { scene, means, late };
    keyed::suite(&case).await;
    case.scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_with_fields_keeps_the_keyed_contract() {
    suite(Means::Fields).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_the_sink_makes_keeps_the_keyed_contract() {
    suite(Means::Made).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "not the last version of each key, once")]
async fn a_sink_that_inserts_does_not() {
    suite(Means::Mistake { upserts: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "not the last version of each key, once")]
async fn a_sink_that_upserts_two_versions_of_a_key_at_once_does_not() {
    suite(Means::Mistake { upserts: true }).await;
}
