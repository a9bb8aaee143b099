//! A consumer group whose members share the partitions.
//!
//! The member that joins reads nothing: partitions are read by consumers of their own, from the positions at the
//! destination. What the group decides is only who reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_engine::Fut;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Group, Shift, Split};
use hapax_protocol::position::SplitId;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::position::{partition_of, split_of};
use crate::client::{Cluster, Watch};
use crate::fault::ClusterFault;

/// How often is looked without having been woken.
const LOOK: Duration = Duration::from_millis(200);

/// What the group said that nobody has heard yet.
#[derive(Default)]
struct Shared {
    shifts: Mutex<VecDeque<Shift>>,
    wake: Notify,
    leaving: AtomicBool,
}

impl Shared {
    fn shifts(&self) -> std::sync::MutexGuard<'_, VecDeque<Shift>> {
        self.shifts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, shift: Shift) {
        self.shifts().push_back(shift);
        self.wake.notify_one();
    }
}

/// Hears what the group decides.
#[derive(Clone, Default)]
struct Seat {
    watch: Watch,
    shared: Arc<Shared>,
}

impl ClientContext for Seat {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.watch.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ConsumerContext for Seat {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, said: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let splits: Vec<SplitId> =
            list.elements().iter().map(|element| split_of(element.topic(), element.partition())).collect();
        if said == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // What this member would read is of no use to anybody.
            let _ = list.set_all_offsets(Offset::End);
            let _ = consumer.incremental_assign(list);
            let _ = consumer.pause(list);
            let given = splits.into_iter().map(|id| Split { id, source_bytes: None });
            self.shared.say(Shift::Given(given.collect()));
        } else if consumer.assignment_lost() || self.shared.leaving.load(Ordering::SeqCst) {
            let _ = consumer.incremental_unassign(list);
            self.shared.say(Shift::Lost(splits));
        } else {
            // They are given back once what was read of them is committed.
            self.shared.say(Shift::AskedBack(splits));
        }
    }
}

/// One member of a group.
pub(super) struct Member {
    name: String,
    topics: Vec<String>,
    cluster: Cluster,
    seat: Seat,
    consumer: Mutex<Option<Arc<BaseConsumer<Seat>>>>,
}

impl Member {
    /// Does not join yet.
    pub(super) fn new(cluster: &Cluster, name: String, topics: Vec<String>) -> Self {
        Self { name, topics, cluster: cluster.apart(), seat: Seat::default(), consumer: Mutex::default() }
    }

    fn held(&self) -> Option<Arc<BaseConsumer<Seat>>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, error: KafkaError) -> ClusterFault {
        let heard = self.seat.watch.heard();
        ClusterFault::of(self.cluster.place(), "taking part in a group", error, heard)
    }

    /// The consumer that is the member, which joins if it has not.
    fn joined(&self) -> Result<Arc<BaseConsumer<Seat>>, ClusterFault> {
        if let Some(consumer) = self.held() {
            return Ok(consumer);
        }
        let settings = [
            ("group.id", self.name.as_str()),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "latest"),
        ];
        let mut consumer: BaseConsumer<Seat> = self.cluster.client_with(&settings, self.seat.clone())?;
        let shared = Arc::clone(&self.seat.shared);
        consumer.set_nonempty_callback(move || shared.wake.notify_one());
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| self.fault(error))?;
        let consumer = Arc::new(consumer);
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&consumer));
        Ok(consumer)
    }

    /// Publishes an offset, for people's tools only: nothing is lost where it fails.
    pub(super) fn publish(&self, offsets: &TopicPartitionList) {
        if let Some(consumer) = self.held() {
            let _ = consumer.commit(offsets, CommitMode::Async);
        }
    }

    /// Listens, without waiting. What it says that is not a shift passes, or ends the membership.
    fn listen(&self, consumer: &BaseConsumer<Seat>) -> Result<(), ClusterFault> {
        while let Some(heard) = consumer.poll(Duration::ZERO) {
            let Err(error) = heard else { continue };
            match error.rdkafka_error_code() {
                // It has no offset to begin at, and reads nothing anyway.
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::NoOffset) | None => {}
                _ => {
                    let fault = self.fault(error);
                    if !fault.may_pass() {
                        return Err(fault);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Group for Member {
    fn name(&self) -> &str {
        &self.name
    }

    fn shift(&self) -> Fut<'_, Shift, SourceError> {
        Box::pin(async move {
            let consumer = self.joined()?;
            loop {
                if let Some(shift) = self.seat.shared.shifts().pop_front() {
                    return Ok(shift);
                }
                self.listen(&consumer)?;
                if self.seat.shared.shifts().is_empty() {
                    let _ = tokio::time::timeout(LOOK, self.seat.shared.wake.notified()).await;
                }
            }
        })
    }

    fn release<'a>(&'a self, splits: &'a [SplitId]) -> Fut<'a, (), SourceError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in splits.iter().filter_map(partition_of) {
            list.add_partition(topic, partition);
        }
        let released = match self.held() {
            Some(consumer) => consumer.incremental_unassign(&list),
            None => Ok(()),
        };
        Box::pin(std::future::ready(released.map_err(|error| self.fault(error).into())))
    }

    fn leave(&self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            self.seat.shared.leaving.store(true, Ordering::SeqCst);
            let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Its end tells the group, so that the others need not miss it.
            let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
            Ok(())
        })
    }
}
