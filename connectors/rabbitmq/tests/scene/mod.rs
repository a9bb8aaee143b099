//! Queues of a test's own on the real broker, filled and counted by the broker's own client.
#![allow(dead_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax_engine::fault::SourceError;
use hapax_protocol::code::Code;
use hapax_rabbitmq::source::Rabbitmq;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

/// Queues that are deleted at the end. They never meet those of another test.
pub struct Scene {
    pub url: String,
    prefix: String,
    channel: Channel,
    connection: Connection,
    kind: &'static str,
    made: Mutex<Vec<String>>,
}

impl Scene {
    pub async fn new() -> Self {
        Self::at(hapax_conformance::server::rabbitmq(), "classic").await
    }

    pub async fn at(url: String, kind: &'static str) -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("hapax_{}_{}", std::process::id(), SCENES.fetch_add(1, Ordering::SeqCst));
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { url, prefix, channel, connection, kind, made: Mutex::default() }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    pub async fn declare(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let full = self.name(name);
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut table = FieldTable::default();
        for (key, value) in arguments {
            table.insert((*key).into(), value.clone());
        }
        self.channel.queue_declare(full.as_str().into(), options, table).await.unwrap();
        self.made.lock().unwrap().push(full);
    }

    pub fn is_declared(&self, name: &str) -> bool {
        self.made.lock().unwrap().contains(&self.name(name))
    }

    /// What waits, in its order, and goes on waiting: `message-id` and body of each.
    pub async fn looked_at(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        if !self.is_declared(name) {
            return Vec::new();
        }
        let full = self.name(name);
        let channel = self.connection.create_channel().await.unwrap();
        let mut all = Vec::new();
        while let Some(got) =
            channel.basic_get(full.as_str().into(), BasicGetOptions::default()).await.unwrap()
        {
            let id = got.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
            all.push((id.unwrap_or_default(), got.delivery.data));
        }
        // What was not acknowledged goes back to its place.
        channel.close(200, "looked".into()).await.unwrap();
        while self.waiting(name).await < all.len() as u64 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        all
    }

    pub async fn delete(&self, name: &str) {
        let full = self.name(name);
        self.channel.queue_delete(full.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Publishes a body, durably, and waits until the broker has it.
    pub async fn put(&self, name: &str, id: Option<&str>, body: &[u8]) {
        let full = self.name(name);
        let mut properties = BasicProperties::default().with_delivery_mode(2).with_timestamp(1_700_000_000);
        if let Some(id) = id {
            properties = properties.with_message_id(id.into());
        }
        let confirm = self
            .channel
            .basic_publish("".into(), full.as_str().into(), BasicPublishOptions::default(), body, properties)
            .await
            .unwrap();
        assert!(confirm.await.unwrap().is_ack());
    }

    /// Publishes `{"id": …}` for each, under its id.
    pub async fn fill(&self, name: &str, ids: std::ops::Range<i64>) {
        let full = self.name(name);
        let mut confirms = Vec::new();
        for id in ids {
            let properties =
                BasicProperties::default().with_delivery_mode(2).with_message_id(format!("m{id}").into());
            let body = format!("{{\"id\":{id}}}");
            let options = BasicPublishOptions::default();
            let published = self.channel.basic_publish(
                "".into(),
                full.as_str().into(),
                options,
                body.as_bytes(),
                properties,
            );
            confirms.push(published.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    }

    /// How many messages wait.
    pub async fn waiting(&self, name: &str) -> u64 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let full = self.name(name);
        let declared =
            self.channel.queue_declare(full.as_str().into(), passive, FieldTable::default()).await.unwrap();
        u64::from(declared.message_count())
    }

    /// How many messages nobody has acknowledged, once no consumer is left.
    pub async fn holds(&self, name: &str) -> u64 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let full = self.name(name);
        // A consumer that goes is gone a moment before what it held is back.
        let mut empty = 0;
        for _ in 0..12_000 {
            let declared = self.channel.queue_declare(full.as_str().into(), passive, FieldTable::default());
            let declared = declared.await.unwrap();
            let count = u64::from(declared.message_count());
            empty = if declared.consumer_count() == 0 { empty + 1 } else { 0 };
            if empty > 0 && (count > 0 || empty > 160) {
                return count;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("a consumer does not go");
    }

    pub fn kind(&self) -> AMQPValue {
        AMQPValue::LongString(self.kind.into())
    }

    pub fn keys(&self, name: &str) -> Value {
        json!({ "url": self.url, "queue": self.name(name), "schema": { "id": "int64" } })
    }

    pub async fn open(&self, name: &str, more: Value) -> Result<Rabbitmq, SourceError> {
        let mut keys = self.keys(name);
        for (key, value) in more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        Rabbitmq::open(serde_json::from_value(keys).unwrap()).await
    }

    pub async fn refusal(&self, name: &str, more: Value) -> Code {
        match self.open(name, more).await {
            Ok(_) => panic!("it opened"),
            Err(error) => error.fault.code(),
        }
    }

    /// Deletes what was made.
    pub async fn clear(self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        for name in made {
            self.channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        }
        self.connection.close(200, "done".into()).await.unwrap();
    }
}
