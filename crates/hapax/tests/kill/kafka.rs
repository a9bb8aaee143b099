//! Topics of a pipeline's own on a real broker, written and read by other means than Hapax.

use std::path::Path;

use rdkafka::Message;
use rdkafka::producer::Producer;

use crate::data::{Data, Record};
use crate::scene::{PATIENCE, Scene, send};

/// The file in the folder of a destination that names its topics.
const FILE: &str = "topics";

/// Topics that are deleted with their pipeline.
pub struct Topics {
    scene: Scene,
    source: String,
    target: String,
    state: String,
}

impl Topics {
    /// Makes those of a pair, for the destination in this folder. A source holds all records.
    pub fn create(folder: &Path, pair: &str, data: &Data) -> Self {
        let scene = Scene::new();
        let (source, target, state) = (scene.name("source"), scene.name("target"), scene.name("state"));
        if pair.starts_with("kafka-") {
            scene.topic("source", 2, &[]);
            let producer = scene.producer(&[]);
            for (n, record) in data.records.iter().enumerate() {
                let body = serde_json::json!({
                    "writer": record.writer, "sequence": record.sequence, "amount": record.amount,
                    "text": record.text, "hash": record.hash,
                });
                send(&producer, &source, n as i32 % 2, None, Some(body.to_string().as_bytes()), &[]);
            }
            producer.flush(PATIENCE).unwrap();
        }
        std::fs::write(folder.join(FILE), format!("{target} {state}")).unwrap();
        Self { scene, source, target, state }
    }

    /// A pipeline file with the names of the topics in it.
    pub fn in_file(&self, file: &str) -> String {
        file.replace("BROKERS", &self.scene.brokers)
            .replace("SOURCE", &self.source)
            .replace("TARGET", &self.target)
            .replace("STATE", &self.state)
    }
}

fn names(folder: &Path) -> (String, String) {
    let names = std::fs::read_to_string(folder.join(FILE)).unwrap();
    let (target, state) = names.split_once(' ').unwrap();
    (target.to_owned(), state.to_owned())
}

/// What a reader of committed messages sees now.
pub fn records(folder: &Path) -> Vec<Record> {
    let messages = Scene::new().messages(&names(folder).0);
    let record = |message: &rdkafka::message::OwnedMessage| {
        let value: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        Record {
            writer: value["writer"].as_i64().unwrap(),
            sequence: value["sequence"].as_i64().unwrap(),
            amount: value["amount"].as_f64().unwrap(),
            text: value["text"].as_str().map(str::to_owned),
            hash: value["hash"].as_str().unwrap().to_owned(),
        }
    };
    messages.iter().map(record).collect()
}

/// How many records are set aside: the last word on each place counts.
pub fn letters(folder: &Path) -> usize {
    let mut there = std::collections::HashMap::new();
    for message in Scene::new().messages(&names(folder).1) {
        let key: serde_json::Value = serde_json::from_slice(message.key().unwrap()).unwrap();
        if key.get("letter").is_some() {
            there.insert(key.to_string(), message.payload().is_some());
        }
    }
    there.values().filter(|there| **there).count()
}
