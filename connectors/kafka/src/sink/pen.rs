//! A producer of transactions. librdkafka repeats its requests by itself, under sequence numbers: the brokers drop what
//! they have. What it cannot repeat it says, and then the producer is thrown away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use crate::client::{Aside, Cluster, Watch};
use crate::fault::ClusterFault;
use crate::source::Offsets;

/// How long a step of a transaction may take.
const STEP: Duration = Duration::from_secs(30);
/// How long a message waits for room.
const ROOM: Duration = Duration::from_secs(60);

/// Hears what becomes of messages.
#[derive(Clone, Default)]
pub(super) struct Ear {
    watch: Watch,
    failed: Arc<Mutex<Option<KafkaError>>>,
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.watch.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.clone());
        }
    }
}

type Writes = ThreadedProducer<Ear>;

/// A producer whose name fences every earlier one of that name.
pub(super) struct Pen {
    cluster: Cluster,
    ear: Ear,
    producer: Aside<Arc<Writes>>,
}

/// How a transaction could not be gone on with.
#[derive(Debug)]
pub(super) struct Torn(pub KafkaError);

impl Torn {
    /// Whether a later producer of this name was there.
    pub(super) fn is_fenced(&self) -> bool {
        use RDKafkaErrorCode as C;
        matches!(
            self.0.rdkafka_error_code(),
            Some(C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch | C::InvalidProducerIdMapping)
        )
    }

    /// Whether what was queued was thrown away, as it is with a transaction that is over.
    pub(super) fn is_purged(&self) -> bool {
        use RDKafkaErrorCode as C;
        matches!(self.0.rdkafka_error_code(), Some(C::PurgeQueue | C::PurgeInflight))
    }

    /// Whether it may have ended because a later producer has the name.
    pub(super) fn is_lost_to_another(&self) -> bool {
        use RDKafkaErrorCode as C;
        let code = self.0.rdkafka_error_code();
        self.is_fenced() || self.is_purged() || matches!(code, Some(C::State | C::Fatal))
    }

    /// Whether a message is longer than the topic takes.
    pub(super) fn is_too_large(&self) -> bool {
        let code = self.0.rdkafka_error_code();
        matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize))
    }
}

impl Pen {
    /// Makes a producer and fences every earlier one of the name: their transactions are over when this returns. The topic is one
    /// that is there.
    pub(super) async fn take(
        cluster: &Cluster,
        (topic, name): (&str, &str),
        settings: &[(&str, &str)],
    ) -> Result<Self, ClusterFault> {
        let mut all = vec![
            ("transactional.id", name),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("partitioner", "murmur2_random"),
            ("linger.ms", "5"),
            // A partition has one request under way in any case (the client counts messages where it means requests). With
            // more for the connection its thread asks without a pause whether that one is answered, and takes a processor.
            ("max.in.flight.requests.per.connection", "1"),
            ("queue.buffering.max.kbytes", "65536"),
            ("queue.buffering.max.messages", "200000"),
            ("transaction.timeout.ms", "60000"),
        ];
        all.extend(settings);
        let ear = Ear::default();
        let producer: Writes = cluster.client_with(&all, ear.clone())?;
        let pen = Self { cluster: cluster.clone(), ear, producer: Aside::new(Arc::new(producer)) };
        let topic = topic.to_owned();
        let fence = move |producer: &Writes| {
            // Without a connection the client would look for the coordinator in vain, and again half a second later.
            producer.client().fetch_metadata(Some(&topic), STEP)?;
            producer.init_transactions(STEP)
        };
        match pen.step(fence).await {
            Ok(()) => Ok(pen),
            Err(Torn(error)) => Err(pen.fault("fencing earlier producers", error)),
        }
    }

    pub(super) fn fault(&self, doing: &'static str, error: KafkaError) -> ClusterFault {
        ClusterFault::of(self.cluster.place(), doing, error, self.ear.watch.heard())
    }

    async fn step(
        &self,
        step: impl FnOnce(&Writes) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), Torn> {
        let Some(producer) = self.producer.get().cloned() else { return Err(Torn(KafkaError::Canceled)) };
        match tokio::task::spawn_blocking(move || step(&producer)).await {
            Ok(done) => done.map_err(Torn),
            Err(_) => Err(Torn(KafkaError::Canceled)),
        }
    }

    /// Opens a transaction.
    pub(super) fn begin(&self) -> Result<(), Torn> {
        let Some(producer) = self.producer.get() else { return Err(Torn(KafkaError::Canceled)) };
        *self.ear.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        producer.begin_transaction().map_err(Torn)
    }

    /// Sends a message within the transaction.
    pub(super) async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), Torn> {
        let Some(producer) = self.producer.get() else { return Err(Torn(KafkaError::Canceled)) };
        let mut since = None;
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            (record.partition, record.key, record.payload) = (partition, key, value);
            let error = match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _)) => error,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.first().unwrap_or(Torn(error)));
            }
            if since.get_or_insert_with(Instant::now).elapsed() > ROOM {
                return Err(Torn(error));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The first message that the brokers did not take.
    pub(super) fn first(&self) -> Option<Torn> {
        self.ear.failed.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Torn)
    }

    /// Why a transaction cannot be gone on with, where all that was heard is that its messages were thrown away: whoever asks
    /// the client to begin another one is told. Nothing is done with this producer afterwards.
    pub(super) fn cause(&self, torn: Torn) -> Torn {
        if !torn.is_purged() {
            return torn;
        }
        match self.producer.get().map(|producer| producer.begin_transaction()) {
            Some(Err(error)) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::State) => Torn(error),
            _ => torn,
        }
    }

    /// Waits until the brokers have all messages. Nothing is committed yet.
    pub(super) async fn flush(&self) -> Result<(), Torn> {
        let flushed = self.step(flushed).await;
        match self.first() {
            Some(torn) => Err(torn),
            None => flushed,
        }
    }

    /// Publishes offsets to a group within the transaction.
    pub(super) async fn publish(&self, offsets: &Arc<Offsets>, list: TopicPartitionList) -> Result<(), Torn> {
        let offsets = Arc::clone(offsets);
        let publish =
            move |producer: &Writes| producer.send_offsets_to_transaction(&list, &offsets.speaker()?, STEP);
        self.step(publish).await
    }

    /// Ends the transaction. An error does not say how it ended.
    pub(super) async fn commit(&self) -> Result<(), Torn> {
        self.step(|producer| producer.commit_transaction(STEP)).await
    }

    /// Takes the transaction back.
    pub(super) async fn abort(&self) -> Result<(), Torn> {
        self.step(|producer| producer.abort_transaction(STEP)).await
    }
}

/// Waits until nothing is under way. The client's own waiting takes a tenth of a second where another thread hears what
/// becomes of messages.
fn flushed(producer: &Writes) -> Result<(), KafkaError> {
    let until = Instant::now() + STEP;
    loop {
        match producer.flush(Duration::ZERO) {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut) => {
                if Instant::now() > until {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            flushed => return flushed,
        }
    }
}
