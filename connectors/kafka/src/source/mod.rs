//! The source: partitions of topics, by offset.

mod avro;
mod beside;
mod gather;
mod group;
mod letter;
mod plan;
mod position;
mod publish;
mod reader;
mod registry;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Arrangement, Extent, Group, Numbers, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};

use crate::client::{Cluster, Reads};
use crate::codes;
use crate::config::{Isolation, SourceConfig};
use crate::fault::ReadFault;
use group::Member;
pub(crate) use group::Offsets;
use plan::{Error, Plan};
pub(crate) use plan::{NO_GROUP, assign};
use position::{Mark, partition_of, split_of};
use reader::{Entry, Reader};

/// Topics of a Kafka cluster.
pub struct Kafka {
    cluster: Cluster,
    looker: Arc<Reads>,
    plan: Arc<Plan>,
    isolation: Isolation,
    group: Option<Arc<Member>>,
    /// Whether the file says which partitions are read: no group gives others then.
    is_fixed: bool,
}

impl Kafka {
    /// Opens them, with the partitions that they have now. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        Self::make(config, None).await
    }

    /// Opens them, to read these columns out of JSON values.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        Self::make(config, Some(schema)).await
    }

    async fn make(config: SourceConfig, schema: Option<SchemaRef>) -> Result<Self, SourceError> {
        let cluster = Cluster::read(&config.brokers, config.security.as_ref(), &config.options)?;
        let looker: Reads = cluster.client(&[("isolation.level", plan::isolation(&config))])?;
        let looker = Arc::new(looker);
        let plan =
            Plan::make(&cluster, &looker, &config, schema.as_ref()).await.map_err(|error| match error {
                Error::Cluster(fault) => SourceError::from(fault),
                Error::Read(fault) => SourceError::from(fault),
            })?;
        let topics = || plan.topics.keys().cloned().collect();
        let member = |group: &String| Arc::new(Member::new(group, topics(), &cluster));
        let group = plan.group.as_ref().map(member);
        let is_fixed = config.partitions.is_some();
        Ok(Self { cluster, looker, plan: Arc::new(plan), isolation: config.isolation, group, is_fixed })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn looker(&self) -> &Arc<Reads> {
        &self.looker
    }

    /// Leaves it to the sink to publish the group's offsets, if there is a group. Before anything is opened.
    pub(crate) fn hand_over(&mut self) -> Option<Arc<Offsets>> {
        let member = self.group.clone()?;
        Arc::get_mut(&mut self.plan)?.publishes = false;
        Some(Arc::new(Offsets::new(member)))
    }

    /// Topic and partition of a split of this source.
    fn of<'a>(&self, split: &'a SplitId) -> Result<(&'a str, i32), SourceError> {
        // A group gives partitions that were not there yet when the topic was looked at.
        let grows = self.group.as_ref().is_some_and(|group| group.is_joined());
        let found = partition_of(split).filter(|(topic, partition)| {
            self.plan.topics.get(*topic).is_some_and(|partitions| grows || partitions.contains(partition))
        });
        found.ok_or_else(|| ReadFault::ForeignPosition { split: split.clone() }.into())
    }

    async fn enter(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let (topic, partition) = self.of(&split)?;
        let mark = match &after {
            None => None,
            Some(position) => Some(
                Mark::decode(position).ok_or_else(|| ReadFault::ForeignPosition { split: split.clone() })?,
            ),
        };
        let (low, high) = self.cluster.watermarks(&self.looker, topic, partition).await?;
        let (from, known) = match mark {
            None => (low, None),
            Some(mark) if mark.next > high => {
                let how = format!("it ends at offset {high}, and was read to {}", mark.next);
                return Err(ReadFault::Recreated { split, how }.into());
            }
            Some(mark) if mark.next < low => {
                let accepted = self.plan.accept_gap.get(split.as_str()).copied();
                let accepted = accepted.and_then(|accepted| i64::try_from(accepted).ok()).unwrap_or(0);
                if accepted < low {
                    return Err(ReadFault::Gap { split, from: mark.next, last: low - 1 }.into());
                }
                (low, None)
            }
            // The record before the position is deleted, and nothing behind it.
            Some(mark) if mark.last < low => (mark.next, None),
            Some(mark) => (mark.last, Some(mark)),
        };
        let (topic, plan) = (topic.to_owned(), Arc::clone(&self.plan));
        let entry = Entry { split, topic, partition, after, mark, known, from, end: high };
        Ok(Box::new(Reader::open(&self.cluster, plan, entry, self.group.clone())?))
    }
}

const GROWS: &str = "new partitions, and new topics of a pattern, are read from the next run on";
const GROWS_BY_SIZE: &str = "the topic does not grow beyond retention.bytes before its messages are read, and new \
     partitions, and new topics of a pattern, are read from the next run on";
const COMPACTED: &str = "the topic is compacted: of messages with the same key that wait to be read only the last is \
     sure to be there, and a tombstone is read before delete.retention.ms is over; new partitions, and new topics of a \
     pattern, are read from the next run on";
const UNKNOWN: &str = "messages are kept until they are read (the settings of the topic may not be looked at), and new \
     partitions, and new topics of a pattern, are read from the next run on";
const UNCOMMITTED: &str =
    "no producer uses transactions: `isolation: read_uncommitted` also reads what is taken back";

impl Source for Kafka {
    fn facts(&self) -> SourceFacts {
        let kept = self.plan.retention;
        let uncommitted = self.isolation == Isolation::ReadUncommitted;
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: kept.retention,
            order: Order::PerKey,
            settle: Settle::Seek,
            condition: Some(match kept {
                _ if uncommitted => UNCOMMITTED,
                kept if kept.unknown => UNKNOWN,
                kept if kept.compacted => COMPACTED,
                kept if kept.by_size => GROWS_BY_SIZE,
                _ => GROWS,
            }),
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let splits = self.plan.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|partition| Split { id: split_of(topic, *partition), source_bytes: None })
        });
        Box::pin(std::future::ready(Ok(splits.collect())))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(self.enter(split.clone(), after.cloned()))
    }

    fn arrangement(&self) -> Arrangement {
        Arrangement::Partitions
    }

    fn numbers(&self) -> Numbers {
        Numbers::Ascending
    }

    fn extent(&self) -> Extent {
        Extent::Growing
    }

    fn group(&self) -> Option<&dyn Group> {
        let member: &dyn Group = self.group.as_deref().filter(|_| !self.is_fixed)?;
        Some(member)
    }

    fn suits_ledger_beside(&self) -> Result<(), SourceError> {
        let kept = &self.plan.retention;
        if !kept.compacted && !kept.unknown {
            return Ok(());
        }
        let topics: Vec<&str> = self.plan.topics.keys().map(String::as_str).collect();
        let known =
            if kept.compacted { "is compacted" } else { "may be compacted, which this user may not look at" };
        Err(ReadFault::LedgerBeside { topic: topics.join(", "), known }.into())
    }

    fn lag<'a>(
        &'a self,
        split: &'a SplitId,
        after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(async move {
            let (topic, partition) = self.of(split)?;
            let (low, high) = self.cluster.watermarks(&self.looker, topic, partition).await?;
            let next = after.and_then(Mark::decode).map_or(low, |mark| mark.next);
            Ok(Some(u64::try_from(high.saturating_sub(next)).unwrap_or(0)))
        })
    }

    fn describe(&self, position: &Position) -> String {
        match Mark::decode(position) {
            Some(mark) => format!("offset {}", mark.next),
            None => format!("{position:?}, not a position of Kafka"),
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        matches!(code, codes::UNDECODABLE | codes::TOMBSTONE | codes::NOT_TEXT)
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move {
            let (topic, partition) = self.of(&letter.place.split)?;
            let (low, high) = self.cluster.watermarks(&self.looker, topic, partition).await?;
            let at = i64::try_from(letter.place.ordinal).unwrap_or(i64::MAX);
            if at < low || at >= high {
                let reason = format!("the topic does not have offset {at} any more");
                return Err(ReadFault::Letter { place: letter.place, reason }.into());
            }
            letter::reread(&self.cluster, &self.plan, &letter, (topic, partition)).await
        })
    }
}
