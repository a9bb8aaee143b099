//! Topics of a test's own on the real broker, written and read by the client library alone.
#![allow(dead_code)]

pub mod relay;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long something may take that brokers and runs do in their own time.
const LIMIT: Duration = Duration::from_secs(90);

/// Topics that are deleted at the end. They never meet those of another test.
pub struct Scene {
    pub brokers: String,
    prefix: String,
    made: Mutex<Vec<String>>,
}

/// Waits for a future from synchronous code, on threads of its own.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    std::thread::spawn(run).join().unwrap()
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// Tries until it is so, with a limit.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::at(hapax_conformance::server::kafka())
    }

    pub fn at(brokers: String) -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let prefix = format!("hapax-test-{}-{started}-{number}", std::process::id());
        Self { brokers, prefix, made: Mutex::default() }
    }

    /// The name of a topic of this test, which is deleted at its end, whoever makes it.
    pub fn name(&self, name: &str) -> String {
        let full = format!("{}-{name}", self.prefix);
        let mut made = self.made.lock().unwrap();
        if !made.contains(&full) {
            made.push(full.clone());
        }
        full
    }

    /// Makes a topic.
    pub fn topic(&self, name: &str, partitions: i32, settings: &[(&'static str, &'static str)]) -> String {
        let full = self.name(name);
        self.make(&full, partitions, settings);
        full
    }

    pub fn make(&self, full: &str, partitions: i32, settings: &[(&'static str, &'static str)]) {
        let (brokers, name, settings) = (self.brokers.clone(), full.to_owned(), settings.to_vec());
        wait(async move {
            let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
            for (key, value) in settings {
                topic = topic.set(key, value);
            }
            // A topic that is being deleted is there a little longer.
            let start = Instant::now();
            loop {
                let made = admin(&brokers).create_topics([&topic], &AdminOptions::new()).await.unwrap();
                match &made[0] {
                    Ok(_) => break,
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if start.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        // Brokers learn of it a little later.
        let consumer = self.consumer("read_committed");
        until("a topic is there", || {
            let metadata = consumer.fetch_metadata(Some(full), PATIENCE);
            metadata.is_ok_and(|m| {
                m.topics()[0].error().is_none() && m.topics()[0].partitions().len() == partitions as usize
            })
        });
    }

    pub fn delete(&self, full: &str) {
        let (brokers, full) = (self.brokers.clone(), full.to_owned());
        wait(async move {
            let _ = admin(&brokers).delete_topics(&[&full], &AdminOptions::new()).await;
        });
    }

    /// Deletes what a partition has before an offset.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let (brokers, topic) = (self.brokers.clone(), topic.to_owned());
        wait(async move {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::Offset(offset)).unwrap();
            admin(&brokers).delete_records(&list, &AdminOptions::new()).await.unwrap();
        });
    }

    fn consumer(&self, isolation: &str) -> BaseConsumer {
        self.consumer_of("hapax-test", isolation)
    }

    /// The offset that a group has published for a partition.
    pub fn published(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        // A transaction that is being ended holds the answer back for a moment, and one that a killed run left open until
        // its time is over: of that one nothing is committed.
        self.committed(group, (topic, partition), "read_committed", Duration::from_secs(10))
            .unwrap_or_else(|_| self.published_so_far(group, topic, partition))
    }

    /// The same, without waiting for transactions that are open or being ended.
    pub fn published_so_far(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let start = Instant::now();
        loop {
            match self.committed(group, (topic, partition), "read_uncommitted", PATIENCE) {
                Ok(published) => return published,
                // A broker that is busy may not know for a moment that the group is its own.
                Err(error) => assert!(start.elapsed() < LIMIT, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn committed(
        &self,
        group: &str,
        (topic, partition): (&str, i32),
        isolation: &str,
        patience: Duration,
    ) -> Result<Option<i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let committed = self.consumer_of(group, isolation).committed_offsets(list, patience)?;
        Ok(committed.elements()[0].offset().to_raw().filter(|offset| *offset >= 0))
    }

    /// What a group is doing, in Kafka's words.
    pub fn group_state(&self, group: &str) -> String {
        let groups = self.consumer("read_committed").fetch_group_list(Some(group), PATIENCE).unwrap();
        groups.groups().first().map(|group| group.state().to_owned()).unwrap_or_default()
    }

    fn consumer_of(&self, group: &str, isolation: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("isolation.level", isolation)
            .create()
            .unwrap()
    }

    /// How many members a group has.
    pub fn members(&self, group: &str) -> usize {
        let groups = self.consumer("read_committed").fetch_group_list(Some(group), PATIENCE).unwrap();
        groups.groups().iter().map(|group| group.members().len()).sum()
    }

    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.consumer("read_uncommitted").fetch_watermarks(topic, partition, PATIENCE).unwrap()
    }

    /// Whether every transaction that has written to a topic is over.
    pub fn is_decided(&self, topic: &str) -> bool {
        let consumer = self.consumer("read_committed");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics()[0].partitions().iter().all(|partition| {
            let stable = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap().1;
            stable == self.watermarks(topic, partition.id()).1
        })
    }

    pub fn exists(&self, topic: &str) -> bool {
        let metadata = self.consumer("read_committed").fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics()[0].error().is_none()
    }

    /// The topics whose names begin so.
    pub fn topics(&self, prefix: &str) -> Vec<String> {
        let metadata = self.consumer("read_committed").fetch_metadata(None, PATIENCE).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// What a reader sees of a topic once all of its transactions have their ends in it: the brokers write them a moment
    /// after a commit is answered.
    pub fn settled(&self, topic: &str) -> Vec<OwnedMessage> {
        until("the ends of all transactions", || self.is_settled(topic));
        self.messages(topic)
    }

    /// Whether a topic holds the end of each of its transactions.
    pub fn is_settled(&self, topic: &str) -> bool {
        let (all, committed) = (self.consumer("read_uncommitted"), self.consumer("read_committed"));
        let metadata = all.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
        let end = |of: &BaseConsumer, partition| of.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        partitions.iter().all(|partition| end(&committed, *partition) == end(&all, *partition))
    }

    /// What a reader sees of a topic now.
    pub fn messages(&self, topic: &str) -> Vec<OwnedMessage> {
        self.messages_as(topic, "read_committed")
    }

    pub fn messages_as(&self, topic: &str, isolation: &str) -> Vec<OwnedMessage> {
        let consumer = self.consumer(isolation);
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        if metadata.topics()[0].error().is_some() {
            return Vec::new();
        }
        let mut list = TopicPartitionList::new();
        let mut open: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
        for partition in &open {
            list.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut messages, start) = (Vec::new(), Instant::now());
        let mut last = None;
        while !open.is_empty() {
            assert!(start.elapsed() < PATIENCE, "{topic} has no end: {last:?}");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => messages.push(message.detach()),
                Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|p| *p != partition),
                // A topic that was made just now is not known everywhere, and a busy broker is away for a moment.
                Some(Err(error)) => last = Some(error),
                None => {}
            }
        }
        messages
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("linger.ms", "5");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// Writes messages, key and value each.
    pub fn write<'a>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = (i32, Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) {
        let producer = self.producer(&[]);
        for (partition, key, value) in messages {
            send(&producer, topic, partition, key, value, &[]);
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// Sends one message.
pub fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) {
    loop {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            let insert = |all: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
                all.insert(Header { key, value: *value })
            };
            record = record.headers(headers.iter().fold(OwnedHeaders::new(), insert));
        }
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let brokers = self.brokers.clone();
        wait(async move {
            let names: Vec<&str> = made.iter().map(String::as_str).collect();
            let _ = admin(&brokers).delete_topics(&names, &AdminOptions::new()).await;
        });
    }
}
