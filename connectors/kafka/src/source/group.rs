//! One member of a consumer group. It only learns which partitions are its own: messages are read by consumers of their
//! own, from the positions at the destination.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hapax_engine::Fut;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Group, Shift, Split};
use hapax_protocol::position::{Position, SplitId};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::position::{Mark, partition_of, split_of};
use super::publish::Board;
use crate::client::{Cluster, Watch};
use crate::fault::ClusterFault;

/// How long the group waits for what was read of a partition to be committed, before another member gets it.
const RELEASE_MAX: Duration = Duration::from_secs(30);

/// How long one look at the group takes, at most.
const LOOK: Duration = Duration::from_millis(100);

/// How long the group waits for the last offset of a partition to be published, before another member gets it.
const PUBLISH_MAX: Duration = Duration::from_secs(2);

/// How long the end of a member waits for its last offsets to be published.
const LAST_MAX: Duration = Duration::from_secs(5);

/// A member that joins when it is first asked.
pub(super) struct Member {
    name: String,
    topics: Vec<String>,
    cluster: Cluster,
    joined: tokio::sync::Mutex<Option<Joined>>,
    consumer: Mutex<Option<Arc<BaseConsumer<Seat>>>>,
    release: Mutex<Option<Sender<SplitId>>>,
    board: Arc<Board>,
}

struct Joined {
    shifts: UnboundedReceiver<Result<Shift, SourceError>>,
    over: Arc<AtomicBool>,
    polling: std::thread::JoinHandle<()>,
    publishing: std::thread::JoinHandle<()>,
}

/// What the group tells the member.
pub(super) struct Seat {
    watch: Watch,
    tell: UnboundedSender<Result<Shift, SourceError>>,
    released: Mutex<Receiver<SplitId>>,
    over: Arc<AtomicBool>,
    board: Arc<Board>,
}

fn splits(list: &TopicPartitionList) -> Vec<SplitId> {
    list.elements().iter().map(|element| split_of(element.topic(), element.partition())).collect()
}

impl Seat {
    fn say(&self, shift: Shift) {
        // Whoever left does not listen any more.
        let _ = self.tell.send(Ok(shift));
    }

    /// Waits until all of these were given back, or for as long as the others can wait.
    fn wait_for(&self, mut asked: Vec<SplitId>) {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + RELEASE_MAX;
        while !asked.is_empty() && !self.over.load(Ordering::Relaxed) && Instant::now() < until {
            if let Ok(split) = released.recv_timeout(LOOK) {
                asked.retain(|asked| *asked != split);
            }
        }
    }
}

impl ClientContext for Seat {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.watch.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ConsumerContext for Seat {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance
            && !self.over.load(Ordering::Relaxed)
        {
            let asked = splits(list);
            if consumer.assignment_lost() {
                self.board.give_up(&asked, Duration::ZERO);
                self.say(Shift::Lost(asked));
            } else {
                self.say(Shift::AskedBack(asked.clone()));
                self.wait_for(asked.clone());
                self.board.give_up(&asked, PUBLISH_MAX);
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // What this consumer would read is read elsewhere. One that cannot be paused is not listened to either.
            let _ = consumer.pause(list);
            let given = splits(list);
            self.board.given(&given);
            let given = given.into_iter().map(|id| Split { id, source_bytes: None });
            self.say(Shift::Given(given.collect()));
        }
    }
}

impl Member {
    pub(super) fn new(name: &str, topics: Vec<String>, cluster: &Cluster) -> Self {
        Self {
            name: name.to_owned(),
            topics,
            cluster: cluster.apart(),
            joined: tokio::sync::Mutex::new(None),
            consumer: Mutex::new(None),
            release: Mutex::new(None),
            board: Arc::default(),
        }
    }

    fn join(&self) -> Result<Joined, ClusterFault> {
        let (tell, shifts) = unbounded_channel();
        let (release, released) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let seat = Seat {
            watch: self.cluster.watch(),
            tell: tell.clone(),
            released: Mutex::new(released),
            over: Arc::clone(&over),
            board: Arc::clone(&self.board),
        };
        let settings = [
            ("group.id", self.name.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("auto.offset.reset", "latest"),
        ];
        let consumer: BaseConsumer<Seat> = self.cluster.client_with(&settings, seat)?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let failed = |error| self.cluster.fault("joining the group", error);
        consumer.subscribe(&topics).map_err(failed)?;
        let consumer = Arc::new(consumer);
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&consumer));
        *self.release.lock().unwrap_or_else(PoisonError::into_inner) = Some(release);
        let (board, speaker) = (Arc::clone(&self.board), Arc::clone(&consumer));
        let publishing = move || board.serve(|offsets| published(&speaker, offsets));
        let (cluster, ended) = (self.cluster.clone(), Arc::clone(&over));
        let polling = move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(Err(error)) = consumer.poll(LOOK) {
                    let fault = cluster.fault("following the group", error);
                    if !fault.may_pass() {
                        let _ = tell.send(Err(fault.into()));
                        break;
                    }
                }
            }
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let begun = thread("hapax-kafka-group")
            .spawn(polling)
            .and_then(|polling| Ok((polling, thread("hapax-kafka-publish").spawn(publishing)?)));
        match begun {
            Ok((polling, publishing)) => Ok(Joined { shifts, over, polling, publishing }),
            Err(_) => {
                over.store(true, Ordering::Relaxed);
                Err(failed(KafkaError::Canceled))
            }
        }
    }

    /// Publishes an offset for people's lag tools. Nothing is lost where it fails.
    pub(super) fn publish(&self, split: &SplitId, offset: i64) {
        self.board.publish(split, offset);
    }

    /// Whether this process is a member now.
    pub(super) fn is_joined(&self) -> bool {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Publishes offsets, and waits for the group to take them.
fn published(consumer: &BaseConsumer<Seat>, offsets: &BTreeMap<SplitId, i64>) -> bool {
    let mut list = TopicPartitionList::new();
    for (split, offset) in offsets {
        if let Some((topic, partition)) = partition_of(split) {
            // An offset that there cannot be is none that anybody waits for.
            let _ = list.add_partition_offset(topic, partition, Offset::Offset(*offset));
        }
    }
    consumer.commit(&list, CommitMode::Sync).is_ok()
}

/// Offsets that a sink publishes to the group, in its own transactions.
pub(crate) struct Offsets {
    member: Arc<Member>,
    /// Speaks for a group that nobody is a member of.
    outside: OnceLock<BaseConsumer<Watch>>,
}

impl Offsets {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self { member, outside: OnceLock::new() }
    }

    /// The group's name.
    pub(crate) fn group(&self) -> &str {
        &self.member.name
    }

    /// What a split's position is to the group; `None` if it is none of Kafka.
    pub(crate) fn of(split: &SplitId, through: &Position) -> Option<TopicPartitionList> {
        let (topic, partition) = partition_of(split)?;
        let mark = Mark::decode(through)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(mark.next)).ok()?;
        Some(list)
    }

    /// Who speaks: the member as it is now, so that the group refuses one that has lost its partitions.
    pub(crate) fn speaker(&self) -> Result<ConsumerGroupMetadata, KafkaError> {
        let none = || KafkaError::ClientCreation("the group is not known".to_owned());
        let consumer = self.member.consumer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(consumer) = consumer {
            return consumer.group_metadata().ok_or_else(none);
        }
        if self.outside.get().is_none() {
            let consumer = self.member.cluster.native(&[("group.id", self.group())])?;
            let _ = self.outside.set(consumer);
        }
        self.outside.get().and_then(Consumer::group_metadata).ok_or_else(none)
    }
}

impl Group for Member {
    fn name(&self) -> &str {
        &self.name
    }

    fn shift(&self) -> Fut<'_, Shift, SourceError> {
        Box::pin(async move {
            let mut joined = self.joined.lock().await;
            if joined.is_none() {
                *joined = Some(self.join()?);
            }
            let Some(Joined { shifts, .. }) = joined.as_mut() else { return std::future::pending().await };
            match shifts.recv().await {
                Some(shift) => shift,
                None => std::future::pending().await,
            }
        })
    }

    fn release<'a>(&'a self, splits: &'a [SplitId]) -> Fut<'a, (), SourceError> {
        if let Some(release) = self.release.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            for split in splits {
                let _ = release.send(split.clone());
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave(&self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let Some(joined) = self.joined.lock().await.take() else { return Ok(()) };
            joined.over.store(true, Ordering::Relaxed);
            self.board.close();
            let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Closing it tells the others at once. It waits for an answer, and the last who has it closes it.
            let closing = self.cluster.ask("leaving the group", move || {
                let _ = joined.polling.join();
                let until = Instant::now() + LAST_MAX;
                while !joined.publishing.is_finished() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                }
                drop(consumer);
                Ok(())
            });
            Ok(closing.await?)
        })
    }
}
