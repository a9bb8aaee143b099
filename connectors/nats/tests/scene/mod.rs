//! Streams of a test's own on the real server, filled and counted by the server's own client.
#![allow(dead_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{self, AckPolicy, pull};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context};
use hapax_engine::fault::SourceError;
use hapax_nats::source::Nats;
use hapax_protocol::code::Code;
use serde_json::{Value, json};

/// Streams that are deleted at the end. They never meet those of another test.
pub struct Scene {
    pub url: String,
    prefix: String,
    pub context: Context,
    made: Mutex<Vec<String>>,
}

impl Scene {
    pub async fn new() -> Self {
        Self::at(hapax_conformance::server::nats()).await
    }

    pub async fn at(url: String) -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("hapax_{}_{}", std::process::id(), SCENES.fetch_add(1, Ordering::SeqCst));
        let context = context(&url).await;
        Self { url, prefix, context, made: Mutex::default() }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// Makes a stream for the subjects below its name.
    pub async fn stream(&self, name: &str, config: Config) -> Stream {
        let full = self.name(name);
        let config = Config { name: full.clone(), subjects: vec![format!("{full}.>")], ..config };
        let stream = self.context.create_stream(config).await.unwrap();
        self.made.lock().unwrap().push(full);
        stream
    }

    pub fn is_made(&self, name: &str) -> bool {
        self.made.lock().unwrap().contains(&self.name(name))
    }

    /// What a stream holds, in its order.
    pub async fn looked_at(&self, name: &str) -> Vec<StreamMessage> {
        if !self.is_made(name) {
            return Vec::new();
        }
        let stream = self.context.get_stream(self.name(name)).await.unwrap();
        let state = stream.cached_info().state.clone();
        let mut all = Vec::new();
        if state.messages == 0 {
            return all;
        }
        for sequence in state.first_sequence..=state.last_sequence {
            all.push(stream.get_raw_message(sequence).await.unwrap());
        }
        all
    }

    pub async fn consumer(&self, name: &str, ack_wait: Duration) {
        self.consumer_of(name, ack_wait, 20_000).await;
    }

    /// A consumer that gives out so many messages before one is acknowledged.
    pub async fn consumer_of(&self, name: &str, ack_wait: Duration, max_ack_pending: i64) {
        self.consumer_with(name, pull::Config { ack_wait, max_ack_pending, ..pull::Config::default() }).await;
    }

    pub async fn consumer_with(&self, name: &str, config: pull::Config) {
        let stream = self.context.get_stream(self.name(name)).await.unwrap();
        let config = pull::Config {
            durable_name: Some("worker".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..config
        };
        stream.create_consumer(config).await.unwrap();
    }

    pub async fn put(&self, name: &str, below: &str, message: PublishMessage) {
        let subject = format!("{}.{below}", self.name(name));
        self.context.send_publish(subject, message).await.unwrap().await.unwrap();
    }

    /// Publishes `{"id": …}` for each, under a subject of two.
    pub async fn fill(&self, name: &str, ids: std::ops::Range<i64>) {
        let mut acks = Vec::new();
        for id in ids {
            let subject = format!("{}.{}", self.name(name), if id % 2 == 0 { "even" } else { "odd" });
            let body = format!("{{\"id\":{id}}}");
            acks.push(self.context.publish(subject, body.into()).await.unwrap());
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }

    pub async fn consumer_info(&self, name: &str) -> consumer::Info {
        let stream = self.context.get_stream(self.name(name)).await.unwrap();
        stream.consumer_info("worker").await.unwrap()
    }

    /// How many messages the consumer has not had acknowledged.
    pub async fn holds(&self, name: &str) -> u64 {
        let info = self.consumer_info(name).await;
        info.num_pending + info.num_ack_pending as u64
    }

    pub async fn open(&self, name: &str, more: Value) -> Result<Nats, SourceError> {
        let mut keys = json!({ "url": self.url, "stream": self.name(name), "schema": { "id": "int64" } });
        for (key, value) in more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        Nats::open(serde_json::from_value(keys).unwrap()).await
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
            let _ = self.context.delete_stream(name).await;
        }
    }
}

pub async fn context(url: &str) -> Context {
    let (user, rest) = url.trim_start_matches("nats://").split_once(':').unwrap();
    let (password, place) = rest.split_once('@').unwrap();
    let options = ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned());
    jetstream::new(options.connect(format!("nats://{place}")).await.unwrap())
}
