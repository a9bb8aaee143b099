//! RabbitMQ, looked at by its own client.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

/// The broker's own client, in a runtime of its own.
pub struct Broker {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    _connection: Connection,
}

impl Broker {
    pub fn at(url: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (channel, connection) = runtime.block_on(async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            (channel, connection)
        });
        Self { runtime, channel, _connection: connection }
    }

    pub fn declare(&self, queue: &str, kind: &str) {
        self.declare_with(queue, kind, &[]);
    }

    /// Declares a queue with these numbers among its arguments.
    pub fn declare_with(&self, queue: &str, kind: &str, numbers: &[(&'static str, i64)]) {
        self.delete(queue);
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        for (name, number) in numbers {
            arguments.insert((*name).into(), AMQPValue::LongLongInt(*number));
        }
        self.runtime.block_on(self.channel.queue_declare(queue.into(), options, arguments)).unwrap();
    }

    pub fn delete(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        self.runtime.block_on(self.channel.queue_delete(queue.into(), options)).unwrap();
    }

    /// Publishes bodies under ids, durably, and waits until the broker has them.
    pub fn publish(&self, queue: &str, messages: impl Iterator<Item = (String, String)>) {
        self.runtime.block_on(async {
            let mut confirms = Vec::new();
            for (id, body) in messages {
                let properties =
                    BasicProperties::default().with_delivery_mode(2).with_message_id(id.as_str().into());
                let options = BasicPublishOptions::default();
                let published =
                    self.channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        });
    }

    pub fn waiting(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default());
        self.runtime.block_on(declared).unwrap().message_count()
    }
}
