//! The source: a stream by sequence, or messages that a durable consumer gives out.

mod shared;
mod straight;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_nats::jetstream::Message as Received;
use async_nats::jetstream::stream::{Info, RetentionPolicy};
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::identify::digest;
use hapax_engine::message::session::{self, Session};
use hapax_engine::message::{Beside, Bodies, Gathering, Layout, Message, moment, number, text};
use hapax_engine::source::{Arrangement, Extent, Numbers, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts, Window};
use hapax_protocol::position::{Ordinal, Position, SplitId};

use crate::client::Address;
use crate::codes;
use crate::config::{Metadata, OnGap, SourceConfig};
use crate::fault::{ReadFault, ServerFault};
use straight::Place;

/// The most workers that share a consumer.
const WORKERS_MAX: u16 = 64;

/// What reading by sequence cannot check.
const STRAIGHT: &str = "messages that are deleted one by one, or replaced in their subject, before they are read were meant to be gone (what limits remove at the head of the stream is noticed), and the server keeps what it has once given out (`sync_interval`)";

/// What a shared consumer cannot check.
const SHARED: &str = "the stream keeps a message until this consumer has acknowledged it: no limit removes it, and no delivery limit of the consumer (`max_deliver`) is reached before it has taken effect";

/// A stream of a server.
pub struct Nats {
    address: Arc<Address>,
    plan: Arc<Plan>,
    retention: Retention,
    workers: u16,
}

/// What is read, and how.
pub(crate) struct Plan {
    pub stream: String,
    pub subject: Option<String>,
    pub layout: Layout,
    pub metadata: Vec<Metadata>,
    pub consumer: Option<String>,
    pub on_gap: OnGap,
}

impl Nats {
    /// Opens it: looks whether the stream is there, and fits. Changes nothing.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        let workers = config.workers.unwrap_or(1);
        let wrong = |reason: &str| SourceError::from(ReadFault::Config(reason.to_owned()));
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(wrong("`workers` is 1 to 64"));
        }
        if workers > 1 && config.consumer.is_none() {
            return Err(wrong(
                "a stream that is read by sequence has one reader: `workers` share a `consumer`",
            ));
        }
        if config.consumer.as_ref().is_some_and(|name| !names_a_consumer(name)) {
            return Err(wrong("`consumer` is a name without spaces, dots, slashes and wildcards"));
        }
        let bodies = Bodies::new(config.format, config.schema.as_ref(), config.unknown_fields)
            .map_err(|error| wrong(&error.to_string()))?;
        let mut metadata = config.metadata;
        metadata.dedup();
        let beside = metadata.iter().map(|kind| match kind {
            Metadata::Subject => text("_subject"),
            Metadata::Sequence => number("_sequence"),
            Metadata::Timestamp => moment("_timestamp"),
            Metadata::MessageId => text("_message_id"),
        });
        let layout = Layout::new(bodies, beside.collect());
        let address = Arc::new(Address::read(&config.url, config.tls.as_ref())?);
        let line = address.connect().await?;
        let stream = line.stream(&config.stream).await?;
        let kept = &stream.cached_info().config;
        let forgets = match kept.retention {
            RetentionPolicy::Limits => None,
            RetentionPolicy::Interest => Some("interest"),
            RetentionPolicy::WorkQueue => Some("workqueue"),
        };
        if let (None, Some(retention)) = (&config.consumer, forgets) {
            return Err(ReadFault::WorkQueue { stream: config.stream, retention }.into());
        }
        let retention = match u64::try_from(kept.max_age.as_millis()) {
            Ok(ms @ 1..) => Retention::For(Window(ms)),
            _ => Retention::Unbounded,
        };
        let plan = Plan {
            stream: config.stream,
            subject: config.subject,
            layout,
            metadata,
            consumer: config.consumer,
            on_gap: config.on_gap,
        };
        Ok(Self { address, plan: Arc::new(plan), retention, workers })
    }

    fn split(&self, worker: u16) -> SplitId {
        match &self.plan.consumer {
            Some(consumer) => SplitId::new(format!("{}/{consumer}#{worker}", self.plan.stream)),
            None => SplitId::new(self.plan.stream.as_str()),
        }
    }

    async fn begin(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let stream = self.plan.stream.clone();
        let foreign = || ReadFault::ForeignPosition { split: split.clone(), stream };
        if !(0..self.workers).any(|worker| self.split(worker) == split) {
            return Err(foreign().into());
        }
        let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
        if self.plan.consumer.is_some() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let session = Session::begin(after.as_ref(), u64::try_from(now.as_millis()).unwrap_or(0));
            let session = session.ok_or_else(foreign)?;
            return Ok(Box::new(shared::Worker::begin(address, plan, split, after, session).await?));
        }
        let place = match &after {
            Some(position) => Some(Place::decode(position).ok_or_else(foreign)?),
            None => None,
        };
        Ok(Box::new(straight::Reader::begin(address, plan, split, after, place).await?))
    }

    async fn info(&self) -> Result<Info, ServerFault> {
        let line = self.address.connect().await?;
        Ok(line.stream(&self.plan.stream).await?.cached_info().clone())
    }

    async fn behind(&self, split: &SplitId, after: Option<&Position>) -> Result<Option<u64>, SourceError> {
        if let Some(consumer) = &self.plan.consumer {
            if *split != self.split(0) {
                return Ok(Some(0));
            }
            let line = self.address.connect().await?;
            let stream = line.stream(&self.plan.stream).await?;
            // It may not have been made yet.
            let info = stream.consumer_info(consumer).await.ok();
            return Ok(info.map(|info| {
                info.num_pending.saturating_add(u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX))
            }));
        }
        if self.plan.subject.is_some() {
            return Ok(None);
        }
        let state = self.info().await?.state;
        let read = after.and_then(Place::decode).map_or(0, |place| place.sequence);
        Ok(Some(state.last_sequence.saturating_sub(read.max(state.first_sequence.saturating_sub(1)))))
    }
}

fn names_a_consumer(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    !name.is_empty() && name.len() <= 32 && name.chars().all(plain)
}

impl Plan {
    /// Puts a message into a batch.
    fn take(&self, gathering: &mut Gathering, received: &Received, stamp: &Stamp, ordinal: Ordinal) {
        let named =
            received.headers.as_ref().and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
        let id = named.map(|id| id.as_str().to_owned());
        let own = format!("{}\u{1f}{}\u{1f}{}", self.stream, stamp.created, stamp.sequence);
        let message = Message {
            ordinal,
            id: Some(digest(own.as_bytes())),
            body: &received.payload,
            beside: self
                .metadata
                .iter()
                .map(|kind| match kind {
                    Metadata::Subject => Beside::Text(Some(received.subject.to_string())),
                    Metadata::Sequence => Beside::Number(i64::try_from(stamp.sequence).ok()),
                    Metadata::Timestamp => Beside::Moment(Some(stamp.published_us)),
                    Metadata::MessageId => Beside::Text(id.clone()),
                })
                .collect(),
        };
        match id {
            None if self.metadata.contains(&Metadata::MessageId) => {
                let reason = "the message has no Nats-Msg-Id, which `metadata` asks for".to_owned();
                gathering.reject(&message, codes::NO_MESSAGE_ID, reason);
            }
            _ => gathering.push(&message, codes::UNDECODABLE),
        }
    }
}

/// What the stream says of a message.
struct Stamp {
    /// When the stream was made, in nanoseconds since 1970.
    created: i64,
    sequence: u64,
    /// When it took the message, in microseconds since 1970.
    published_us: i64,
}

/// When a stream was made, in nanoseconds since 1970.
fn created(info: &Info) -> i64 {
    i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0)
}

impl Source for Nats {
    fn facts(&self) -> SourceFacts {
        let shared = self.plan.consumer.is_some();
        SourceFacts {
            // Sequences are given when a message is published, and only grow.
            completeness: Completeness::Complete,
            replay: if shared { Replay::Identified } else { Replay::Exact },
            retention: self.retention,
            order: if shared { Order::None } else { Order::PerKey },
            settle: if shared { Settle::PerMessage } else { Settle::Seek },
            condition: Some(if shared { SHARED } else { STRAIGHT }),
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.layout.schema())
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let splits = (0..self.workers).map(|worker| Split { id: self.split(worker), source_bytes: None });
        Box::pin(std::future::ready(Ok(splits.collect())))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(self.begin(split.clone(), after.cloned()))
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

    fn lag<'a>(
        &'a self,
        split: &'a SplitId,
        after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(self.behind(split, after))
    }

    fn describe(&self, position: &Position) -> String {
        match Place::decode(position) {
            Some(place) => format!("behind sequence {}", place.sequence),
            None => session::words(position),
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        matches!(code, codes::UNDECODABLE | codes::NO_MESSAGE_ID)
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let again = self.plan.layout.reread(&letter.raw, self.rejects_with(letter.code));
        let again = again.map_err(|reason| ReadFault::Letter { place: letter.place.clone(), reason }.into());
        Box::pin(std::future::ready(again))
    }
}
