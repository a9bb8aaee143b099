//! NATS JetStream, looked at by its own client.

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};

/// The server's own client, in a runtime of its own.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    context: Context,
}

impl Server {
    pub fn at(url: &str) -> Self {
        let (user, rest) = url.trim_start_matches("nats://").split_once(':').unwrap();
        let (password, place) = rest.split_once('@').unwrap();
        let options = ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let context = runtime
            .block_on(async { jetstream::new(options.connect(format!("nats://{place}")).await.unwrap()) });
        Self { runtime, context }
    }

    pub fn make(&self, name: &str, subjects: &str) {
        self.make_with(name, subjects, Config::default());
    }

    pub fn make_with(&self, name: &str, subjects: &str, config: Config) {
        self.delete(name);
        let config = Config { name: name.to_owned(), subjects: vec![subjects.to_owned()], ..config };
        self.runtime.block_on(self.context.create_stream(config)).unwrap();
    }

    pub fn delete(&self, name: &str) {
        let _ = self.runtime.block_on(self.context.delete_stream(name));
    }

    pub fn publish(&self, subject: &str, bodies: impl Iterator<Item = String>) {
        self.runtime.block_on(async {
            let mut acks = Vec::new();
            for body in bodies {
                acks.push(self.context.publish(subject.to_owned(), body.into()).await.unwrap());
                if acks.len() >= 500 {
                    for ack in acks.drain(..) {
                        ack.await.unwrap();
                    }
                }
            }
            for ack in acks {
                ack.await.unwrap();
            }
        });
    }

    pub fn holds(&self, stream: &str) -> u64 {
        self.runtime.block_on(self.context.get_stream(stream)).unwrap().cached_info().state.messages
    }

    /// Each message that a stream holds: its subject and its body.
    pub fn messages(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        use futures::StreamExt;
        self.runtime.block_on(async {
            let stream = self.context.get_stream(stream).await.unwrap();
            let count = stream.cached_info().state.messages as usize;
            let consumer = stream
                .create_consumer(jetstream::consumer::pull::Config {
                    ack_policy: jetstream::consumer::AckPolicy::None,
                    ..Default::default()
                })
                .await
                .unwrap();
            let messages = consumer.messages().await.unwrap().take(count);
            let both = |message: jetstream::Message| (message.subject.to_string(), message.payload.to_vec());
            messages.map(|message| both(message.unwrap())).collect().await
        })
    }

    /// Makes a consumer that gives out again what was not acknowledged for two seconds.
    pub fn consumer(&self, stream: &str) {
        let config = jetstream::consumer::pull::Config {
            durable_name: Some("worker".to_owned()),
            ack_policy: jetstream::consumer::AckPolicy::Explicit,
            ack_wait: std::time::Duration::from_secs(2),
            max_ack_pending: 2_000,
            ..Default::default()
        };
        self.runtime.block_on(async {
            let stream = self.context.get_stream(stream).await.unwrap();
            stream.create_consumer(config).await.unwrap();
        });
    }

    pub fn open_at(&self, stream: &str, consumer: &str) -> u64 {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(stream).await.unwrap();
            let info = stream.consumer_info(consumer).await.unwrap();
            info.num_pending + info.num_ack_pending as u64
        })
    }
}
