//! One partition, read from an offset on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::gather::{Gather, Gathered};
use super::group::Member;
use super::plan::{NO_GROUP, Plan, Values, assign, reading};
use super::position::{Mark, Seen};
use crate::client::{Aside, Cluster, Reads};
use crate::fault::{ClusterFault, ReadFault};

/// How long a broker may say nothing while there is something to read.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often is looked without having been woken.
const LOOK: Duration = Duration::from_millis(200);

/// A place in one partition.
pub(super) struct Reader {
    cluster: Cluster,
    plan: Arc<Plan>,
    split: SplitId,
    topic: String,
    partition: i32,
    consumer: Aside<Arc<Reads>>,
    /// Who publishes offsets, where the partition is one of a group's.
    member: Option<Arc<Member>>,
    wake: Arc<Notify>,
    after: Option<Position>,
    /// The same, if it is one.
    mark: Option<Mark>,
    /// The record before the position, until it was seen to be the one it was.
    known: Option<Mark>,
    /// Offsets before this one are not expected.
    next: i64,
    /// Behind the last message that there was when the partition was opened.
    end: i64,
    /// Nothing more stood in the partition when it was looked at last.
    ended: bool,
    /// Messages that came while somebody waited for more.
    waiting: VecDeque<OwnedMessage>,
    gather: Option<Gather>,
    broken: Option<SourceError>,
    /// Since when nothing was heard that should have been.
    silent_since: Option<Instant>,
}

/// Where a partition is entered.
pub(super) struct Entry {
    pub split: SplitId,
    pub topic: String,
    pub partition: i32,
    pub after: Option<Position>,
    pub mark: Option<Mark>,
    pub known: Option<Mark>,
    pub from: i64,
    pub end: i64,
}

impl Reader {
    pub(super) fn open(
        cluster: &Cluster,
        plan: Arc<Plan>,
        entry: Entry,
        member: Option<Arc<Member>>,
    ) -> Result<Self, ClusterFault> {
        let cluster = cluster.apart().telling();
        let group = plan.group.as_deref().unwrap_or(NO_GROUP);
        let mut consumer: Reads = cluster.client(&reading(plan.isolation, group))?;
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        consumer.set_nonempty_callback(move || waker.notify_one());
        assign(&consumer, &entry.topic, entry.partition, entry.from)
            .map_err(|error| cluster.fault("entering a partition", error))?;
        let consumer = Arc::new(consumer);
        let member = member.filter(|member| member.is_joined());
        if let (true, Some(mark), Some(member)) = (plan.publishes, &entry.mark, &member) {
            // Whoever had the partition before may have died, or have been refused, before it could say so.
            member.publish(&entry.split, mark.next);
        }
        // The last offset that it publishes is sent as it closes.
        let publishes = plan.publishes && member.is_none();
        let consumer = if publishes { Aside::waited_for(consumer) } else { Aside::new(consumer) };
        Ok(Self {
            cluster,
            plan,
            split: entry.split,
            topic: entry.topic,
            partition: entry.partition,
            consumer,
            member,
            wake,
            after: entry.after,
            mark: entry.mark,
            known: entry.known,
            next: entry.from,
            end: entry.end,
            ended: false,
            waiting: VecDeque::new(),
            gather: None,
            broken: None,
            silent_since: None,
        })
    }

    /// Takes what is there, without waiting.
    fn collect(&mut self, limit: ReadLimit) -> Result<(), SourceError> {
        let Some(consumer) = self.consumer.get().cloned() else { return Ok(()) };
        loop {
            if self
                .gather
                .as_ref()
                .is_some_and(|gather| gather.count >= limit.records_max || gather.bytes >= limit.bytes_max)
            {
                return Ok(());
            }
            if let Some(message) = self.waiting.pop_front() {
                self.take(&message)?;
                continue;
            }
            match self.cluster.poll(&consumer) {
                None => return Ok(()),
                Some(Ok(message)) => self.take(&message)?,
                Some(Err(error)) => self.hear(error)?,
            }
        }
    }

    fn take(&mut self, message: &impl Message) -> Result<(), SourceError> {
        (self.ended, self.silent_since) = (false, None);
        self.is_same_topic()?;
        let offset = message.offset();
        if offset < self.next {
            return Err(self.recreated(format!("offset {offset} came behind {}", self.next - 1)));
        }
        self.next = offset.saturating_add(1);
        if let Some(known) = self.known.take() {
            if offset == known.last {
                if Seen::of(message) != known.seen {
                    return Err(self.recreated(format!("the message at offset {offset} is another one")));
                }
                // Behind it stand markers, as far as was read.
                self.next = known.next;
                return Ok(());
            }
            // Compaction removes a message for a later one of its key; nothing else does, behind the first offset.
            if !self.plan.retention.compacted && !self.plan.retention.unknown {
                return Err(self.recreated(format!("there is no message at offset {} any more", known.last)));
            }
        }
        self.gather.get_or_insert_with(|| Gather::new(&self.plan)).push(message);
        Ok(())
    }

    fn is_same_topic(&self) -> Result<(), SourceError> {
        match self.cluster.watch().is_made_anew() {
            true => Err(self.recreated("it has another id than when the run entered it".to_owned())),
            false => Ok(()),
        }
    }

    fn recreated(&self, how: String) -> SourceError {
        ReadFault::Recreated { split: self.split.clone(), how }.into()
    }

    /// What a consumer says beside messages. Most of it passes.
    fn hear(&mut self, error: KafkaError) -> Result<(), SourceError> {
        use RDKafkaErrorCode as C;
        self.is_same_topic()?;
        if matches!(error, KafkaError::PartitionEOF(_)) {
            (self.ended, self.silent_since) = (true, None);
            self.pass_markers();
            return Ok(());
        }
        match error.rdkafka_error_code() {
            Some(C::AutoOffsetReset | C::OffsetOutOfRange) => {
                Err(ReadFault::Moved { split: self.split.clone(), at: self.next }.into())
            }
            Some(C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition) => {
                let place = self.cluster.place().to_owned();
                Err(ClusterFault::NoTopic { place, topic: self.split.to_string() }.into())
            }
            // The group is only a name where nothing is published to it.
            Some(C::GroupAuthorizationFailed) if self.plan.group.is_none() => Ok(()),
            _ => {
                let fault = self.cluster.fault("reading a partition", error);
                if fault.may_pass() { Ok(()) } else { Err(fault.into()) }
            }
        }
    }

    /// At the end of what there is, markers that end transactions were passed: retention may remove them, and they are
    /// nothing that is missed. The client has counted them in their order, behind all messages that it gave.
    fn pass_markers(&mut self) {
        // Without the record before the position nothing says that this is the partition it was.
        if self.known.is_some() {
            return;
        }
        let position = self.consumer.get().and_then(|consumer| consumer.position().ok());
        let element = position.as_ref().and_then(|list| list.find_partition(&self.topic, self.partition));
        if let Some(Offset::Offset(at)) = element.map(|element| element.offset()) {
            self.next = self.next.max(at);
        }
    }

    /// The position, where it moved on without a record.
    fn moved(&self) -> Option<Mark> {
        let next = self.next;
        self.mark.filter(|mark| mark.next < next).map(|mark| Mark { next, ..mark })
    }

    fn is_at_end(&self) -> bool {
        self.ended || self.next >= self.end
    }

    /// Waits a little for something to be said.
    async fn wait(&mut self) -> Result<(), SourceError> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() > SILENCE_MAX {
            self.silent_since = None;
            let silence = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
            return Err(self.cluster.fault("reading a partition", silence).into());
        }
        let _ = tokio::time::timeout(LOOK, self.wake.notified()).await;
        Ok(())
    }

    /// The batch of what was gathered.
    async fn batch(&mut self) -> Result<Option<Batch>, SourceError> {
        if let (Some(gather), Values::Avro(avro)) = (&self.gather, &self.plan.values) {
            // Whoever drops this future finds what was gathered where it was.
            avro.learn(&gather.schemas()).await?;
        }
        let Some(gather) = self.gather.take() else { return Ok(None) };
        let Some(mark) = gather.mark() else { return Ok(None) };
        let mark = Mark { next: self.next.max(mark.next), ..mark };
        let source_bytes = u64::try_from(gather.bytes).unwrap_or(u64::MAX);
        let gathered = gather
            .finish(&self.plan, (&self.topic, self.partition))
            .map_err(|source| ReadFault::Columns { split: self.split.clone(), source })?;
        Ok(Some(self.through(mark, gathered, source_bytes)))
    }

    /// A batch from the position to this place.
    fn through(&mut self, mark: Mark, gathered: Gathered, source_bytes: u64) -> Batch {
        let through = mark.encode();
        let after = self.after.replace(through.clone());
        self.mark = Some(mark);
        Batch {
            split: self.split.clone(),
            after,
            through,
            records: gathered.records,
            ordinals: gathered.ordinals,
            rejected: gathered.rejected,
            source_bytes,
        }
    }
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            loop {
                if self.gather.is_none()
                    && let Some(broken) = self.broken.take()
                {
                    return Err(broken);
                }
                if self.broken.is_none()
                    && let Err(error) = self.collect(limit)
                {
                    // What came before is good.
                    self.broken = Some(error);
                    continue;
                }
                if self.gather.is_some() {
                    return self.batch().await;
                }
                if let Some(mark) = self.moved() {
                    let nothing = Gathered::nothing(&self.plan);
                    return Ok(Some(self.through(mark, nothing, 0)));
                }
                if self.is_at_end() {
                    return Ok(None);
                }
                self.wait().await?;
            }
        })
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            loop {
                let moved = self.moved().is_some();
                if moved || self.gather.is_some() || self.broken.is_some() || !self.waiting.is_empty() {
                    return Ok(());
                }
                let polled = self.consumer.get().and_then(|consumer| match self.cluster.poll(consumer)? {
                    Ok(message) => Some(Ok(message.detach())),
                    Err(error) => Some(Err(error)),
                });
                match polled {
                    Some(Ok(message)) => self.waiting.push_back(message),
                    Some(Err(error)) => self.hear(error)?,
                    // A broker that is away comes back, or somebody asks this run to stop.
                    None => drop(tokio::time::timeout(LOOK, self.wake.notified()).await),
                }
            }
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        let published = self.plan.publishes.then(|| Mark::decode(through.get())).flatten();
        if let (Some(mark), Some(member)) = (&published, &self.member) {
            member.publish(&self.split, mark.next);
        } else if let (Some(mark), Some(consumer)) = (published, self.consumer.get()) {
            let mut list = TopicPartitionList::new();
            // For people's tools only: nothing is lost where it fails.
            if list.add_partition_offset(&self.topic, self.partition, Offset::Offset(mark.next)).is_ok() {
                let _ = consumer.commit(&list, CommitMode::Async);
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
