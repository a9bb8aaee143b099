//! The source: messages of a queue, acknowledged once they have taken effect.

mod reader;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::message::session::{self, Session};
use hapax_engine::message::{Bodies, Layout, moment, number, text};
use hapax_engine::source::{Arrangement, Extent, Numbers, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::client::{Address, Line};
use crate::codes;
use crate::config::{Metadata, PREFETCH, SourceConfig};
use crate::fault::{BrokerFault, ReadFault};
use crate::management;
use reader::Reader;

/// The most workers that share a queue.
const WORKERS_MAX: u16 = 64;

/// What a queue cannot check.
const KEPT: &str = "the queue keeps a message until it is acknowledged: it is durable and so are its messages, nothing in it expires, no length limit drops its head, nobody else consumes from it, and no message of a quorum queue reaches the delivery limit (each run that ends before a message took effect counts as a delivery; `management` lets Hapax look at the limit)";

/// A queue of a broker.
pub struct Rabbitmq {
    address: Arc<Address>,
    plan: Arc<Plan>,
    workers: u16,
    notes: Vec<String>,
}

/// What is read, and how.
pub(crate) struct Plan {
    pub queue: String,
    pub layout: Layout,
    pub metadata: Vec<Metadata>,
    pub prefetch: u16,
    /// How many consumers of the queue are ours.
    pub workers: u16,
}

impl Rabbitmq {
    /// Opens it: looks whether the queue is there. Takes no message.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        let workers = config.workers.unwrap_or(1);
        let prefetch = config.prefetch.unwrap_or(PREFETCH);
        let wrong = |reason: &str| SourceError::from(ReadFault::Config(reason.to_owned()));
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(wrong("`workers` is 1 to 64"));
        }
        if prefetch == 0 {
            return Err(wrong("`prefetch` is 1 to 65,535: without a limit the broker would send all it has"));
        }
        if config.queue.is_empty() || config.queue.len() > 255 {
            return Err(wrong("`queue` has 1 to 255 bytes"));
        }
        let bodies = Bodies::new(config.format, config.schema.as_ref(), config.unknown_fields)
            .map_err(|error| wrong(&error.to_string()))?;
        let mut metadata = config.metadata;
        metadata.dedup();
        let beside = metadata.iter().map(|kind| match kind {
            Metadata::MessageId => text("_message_id"),
            Metadata::RoutingKey => text("_routing_key"),
            Metadata::Exchange => text("_exchange"),
            Metadata::Timestamp => moment("_timestamp"),
            Metadata::DeliveryCount => number("_delivery_count"),
        });
        let layout = Layout::new(bodies, beside.collect());
        let address = Arc::new(Address::read(&config.url, config.tls.as_ref())?);
        let plan = Arc::new(Plan { queue: config.queue, layout, metadata, prefetch, workers });
        let mut source = Self { address, plan, workers, notes: Vec::new() };
        source.waiting().await?;
        if let Some(url) = &config.management {
            let told = management::redelivery(url, &source.address, &source.plan.queue).await;
            source.notes.push(told.map_err(|reason| ReadFault::Management { reason })?);
        }
        Ok(source)
    }

    /// How many messages wait in the queue.
    async fn waiting(&self) -> Result<u64, BrokerFault> {
        let line = self.address.connect().await?;
        Ok(messages(&line, &self.address, &self.plan.queue).await?.0)
    }

    fn split(&self, worker: u16) -> SplitId {
        SplitId::new(format!("{}#{worker}", self.plan.queue))
    }

    fn begin(&self, split: &SplitId, after: Option<&Position>) -> Result<Session, ReadFault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let known = (0..self.workers).any(|worker| self.split(worker) == *split);
        let session = Session::begin(after, u64::try_from(now.as_millis()).unwrap_or(0));
        session.filter(|_| known).ok_or_else(|| ReadFault::ForeignPosition {
            split: split.clone(),
            queue: self.plan.queue.clone(),
        })
    }
}

/// How many messages wait in a queue, and how many consume from it.
async fn messages(line: &Line, address: &Address, queue: &str) -> Result<(u64, u32), BrokerFault> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = line.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    let declared =
        declared.map_err(|error| BrokerFault::of(address.place(), "looking at the queue", error))?;
    Ok((u64::from(declared.message_count()), declared.consumer_count()))
}

impl Source for Rabbitmq {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            // What is published later lies ahead: a queue has no place behind what was taken.
            completeness: Completeness::Complete,
            replay: Replay::Identified,
            retention: Retention::Unbounded,
            order: Order::None,
            settle: Settle::PerMessage,
            condition: Some(KEPT),
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
        let (split, after) = (split.clone(), after.cloned());
        Box::pin(async move {
            let session = self.begin(&split, after.as_ref())?;
            let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
            let reader: Box<dyn SplitReader> =
                Box::new(Reader::begin(address, plan, split, after, session).await?);
            Ok(reader)
        })
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

    /// What waits is nobody's yet: it is counted for the first worker.
    fn lag<'a>(&'a self, split: &'a SplitId, _: Option<&'a Position>) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(async move {
            match *split == self.split(0) {
                true => Ok(Some(self.waiting().await?)),
                false => Ok(Some(0)),
            }
        })
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn describe(&self, position: &Position) -> String {
        session::words(position)
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
