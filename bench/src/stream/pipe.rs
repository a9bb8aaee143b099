//! The plain program: what is consumed is produced, with no transaction and no position.

use std::io::{self, Write};

use rdkafka::Message;
use rdkafka::producer::Producer;

use super::broker::{self, PATIENCE, failed};

/// Copies a topic as it is now.
pub fn pipe(brokers: &str, from: &str, to: &str) -> io::Result<()> {
    let producer = broker::producer(brokers, &[])?;
    let settings = [("fetch.message.max.bytes", "4194304"), ("fetch.queue.backoff.ms", "5")];
    let consumer = broker::consumer(brokers, &settings)?;
    let mut moved = 0_u64;
    broker::each(&consumer, from, |message| {
        moved += 1;
        broker::send(&producer, to, None, message.key(), message.payload())
    })?;
    producer.flush(PATIENCE).map_err(failed)?;
    writeln!(io::stdout(), "{moved} messages")
}
