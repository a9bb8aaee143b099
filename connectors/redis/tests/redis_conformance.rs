//! The suites of `hapax-conformance`, over a real server.
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

use hapax_conformance::{keyed, sink, source};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_redis::config::{SinkConfig, SourceConfig};
use hapax_redis::source::Streams;
use redis::Value;
use scene::Scene;

/// Keys for each destination of the suite.
struct Keys {
    scene: Scene,
    write: &'static str,
}

impl sink::Subject for Keys {
    async fn open(&self, name: &str) -> Sink {
        let key = match self.write {
            "stream" => self.scene.key(name),
            _ => self.scene.key(&format!("{name}:{{id}}")),
        };
        let state = self.scene.key(&format!("{name}.state"));
        let config =
            serde_json::json!({ "url": self.scene.url(), "key": key, "write": self.write, "state": state });
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_redis::sink::open(config).await.unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        let mut ids: Vec<i64> = match self.write {
            "stream" => {
                let entries: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
                    .arg(self.scene.key(name))
                    .arg("-")
                    .arg("+")
                    .query(&mut self.scene.connect())
                    .unwrap();
                entries.iter().map(|(_, fields)| fields[1].parse().unwrap()).collect()
            }
            _ => {
                let prefix = self.scene.key(&format!("{name}:"));
                let keys = self.scene.keys(&format!("{prefix}*"));
                keys.iter().map(|key| key.strip_prefix(&prefix).unwrap().parse().unwrap()).collect()
            }
        };
        ids.sort_unstable();
        ids
    }
}

impl keyed::Scene for Keys {
    async fn open(&self, name: &str) -> Sink {
        let (key, state) =
            (self.scene.key(&format!("{name}:{{id}}")), self.scene.key(&format!("{name}.state")));
        let mut config =
            serde_json::json!({ "url": self.scene.url(), "key": key, "write": self.write, "state": state });
        if self.write == "string" {
            config["value"] = "text".into();
        }
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_redis::sink::open(config).await.unwrap()
    }

    async fn state(&self, name: &str) -> Vec<(i64, String)> {
        let prefix = self.scene.key(&format!("{name}:"));
        let text = |key: &String| match self.write {
            "string" => redis::cmd("GET").arg(key).query(&mut self.scene.connect()).unwrap(),
            "hash" => redis::cmd("HGET").arg(key).arg("text").query(&mut self.scene.connect()).unwrap(),
            _ => {
                let object: String = redis::cmd("GET").arg(key).query(&mut self.scene.connect()).unwrap();
                let object: serde_json::Value = serde_json::from_str(&object).unwrap();
                object["text"].as_str().unwrap().to_owned()
            }
        };
        let keys = self.scene.keys(&format!("{prefix}*"));
        keys.iter().map(|key| (key.strip_prefix(&prefix).unwrap().parse().unwrap(), text(key))).collect()
    }

    // `a_call_that_arrives_late_does_nothing` of `redis_sink` holds calls back, of each way to write.
    async fn hold_back(&self, _: &str) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_by_key_keeps_the_keyed_contract() {
    for write in ["hash", "string", "json"] {
        keyed::suite(&Keys { scene: Scene::new(), write }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_conform() {
    sink::suite(&Keys { scene: Scene::new(), write: "hash" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_conforms() {
    sink::suite(&Keys { scene: Scene::new(), write: "json" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_conforms() {
    sink::suite(&Keys { scene: Scene::new(), write: "stream" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_conform_as_a_source() {
    let scene = Scene::new();
    let (one, two) = (scene.key("one"), scene.key("two"));
    scene.fill(&one, 0..700);
    // Fields that are missing, that do not fit, that are not text, that are there twice; ids that are far apart.
    let mut pipe = redis::pipe();
    for n in 0..300_u64 {
        let add = pipe.cmd("XADD").arg(&two).arg(format!("{}-{}", 1 + n / 7, n));
        match n % 10 {
            3 => add.arg("id").arg("seven").arg("name").arg("x"),
            5 => add.arg("id").arg(n).arg("name").arg(&b"\xff"[..]),
            7 => add.arg("id").arg(n).arg("id").arg(n),
            8 => add.arg("other").arg("1"),
            _ => add.arg("name").arg(format!("ä {n}")).arg("id").arg(n),
        };
    }
    let _: Vec<Value> = pipe.query(&mut scene.connect()).unwrap();
    let config = serde_json::json!({
        "url": scene.url(), "streams": [one, two], "fields": ["name", "id"], "schema": { "id": "int64" },
        "id_column": "_id",
    });
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    source::suite(1000, async || Arc::new(Streams::open(config.clone()).await.unwrap()) as Arc<dyn Source>)
        .await;
    let source = Streams::open(config).await.unwrap();
    let names: Vec<String> = source.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["_id", "name", "id"]);
}
