//! One worker: takes messages, and acknowledges them through the last one that took effect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::identify::digest;
use hapax_engine::message::session::{self, Session};
use hapax_engine::message::{Beside, Message};
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::Instant;

use super::{Plan, messages};
use crate::client::{Address, Line};
use crate::codes;
use crate::config::Metadata;
use crate::fault::{BrokerFault, ReadFault};

/// How long is waited for a message before the broker is asked whether there is one.
const LOOK_MS: u64 = 50;

/// How long is waited for a message that the broker says to have, and gives to nobody here.
const STARVED_MS: u64 = 10_000;

/// How long a queue has to be empty before it counts as that.
const SETTLED_MS: u64 = 150;

/// How long is waited for what another consumer holds that may be about to leave.
const LEAVING_MS: u64 = 3_000;

/// What only streams have.
const STREAM_OFFSET: &str = "x-stream-offset";

/// One worker.
pub(super) struct Reader {
    address: Arc<Address>,
    plan: Arc<Plan>,
    line: Line,
    consumer: Consumer,
    split: SplitId,
    stood: Option<Position>,
    session: Session,
    /// Taken from the broker and not read yet.
    held: VecDeque<Delivery>,
    /// Read and not acknowledged: number and delivery tag.
    open: VecDeque<(Ordinal, u64)>,
    /// Since when nothing came, although something waits.
    starved: Option<Instant>,
    /// Whether somebody else was there at the last look.
    others: bool,
}

/// Begins to consume. A stream would begin with what is published from now on; from its first message on it gives itself
/// away, and `as_stream` asks for that.
async fn consume(line: &Line, plan: &Plan, as_stream: bool) -> lapin::Result<Consumer> {
    line.channel.basic_qos(plan.prefetch, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    if as_stream {
        arguments.insert(STREAM_OFFSET.into(), AMQPValue::LongString("first".into()));
    }
    let options = BasicConsumeOptions::default();
    line.channel.basic_consume(plan.queue.as_str().into(), "".into(), options, arguments).await
}

impl Reader {
    pub(super) async fn begin(
        address: Arc<Address>,
        plan: Arc<Plan>,
        split: SplitId,
        stood: Option<Position>,
        session: Session,
    ) -> Result<Self, SourceError> {
        let mut line = address.connect().await?;
        let consumer = match consume(&line, &plan, true).await {
            // No stream knows no offset, and says so.
            Err(error) if error.to_string().contains(STREAM_OFFSET) => {
                let fault = |error| BrokerFault::of(address.place(), "beginning to consume", error);
                line.renew().await.map_err(fault)?;
                consume(&line, &plan, false).await
            }
            consumer => consumer,
        };
        let fault = |error| BrokerFault::of(address.place(), "beginning to consume", error);
        let consumer = consumer.map_err(fault)?;
        let (held, open, starved) = (VecDeque::new(), VecDeque::new(), None);
        Ok(Self { address, plan, line, consumer, split, stood, session, held, open, starved, others: false })
    }

    /// Whether the broker sends no more before something is acknowledged.
    fn is_full(&self) -> bool {
        self.open.len().saturating_add(self.held.len()) >= usize::from(self.plan.prefetch)
    }

    /// Waits for the next message. Cancel-safe: it is held once it is there.
    async fn receive(&mut self) -> Result<(), SourceError> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                self.starved = None;
                self.held.push_back(delivery);
                Ok(())
            }
            Some(Err(error)) => {
                Err(BrokerFault::of(self.address.place(), "waiting for messages", error).into())
            }
            // The broker ended it: the queue is gone, or the connection is.
            None => {
                messages(&self.line, &self.address, &self.plan.queue).await?;
                let (place, queue) = (self.address.place().to_owned(), self.plan.queue.clone());
                Err(SourceError::unavailable(BrokerFault::Deleted { place, queue }))
            }
        }
    }

    /// Takes what is there already, up to `records_max`.
    fn drain(&mut self, records_max: usize) -> Result<(), SourceError> {
        while self.held.len() < records_max {
            match self.receive().now_or_never() {
                Some(received) => received?,
                None => break,
            }
        }
        Ok(())
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        let records_max = limit.records_max.max(1);
        loop {
            self.drain(records_max)?;
            if !self.held.is_empty() {
                return self.batch(limit).map(Some);
            }
            if self.is_full() {
                // What was read has to take effect first: its acknowledgement ends this waiting.
                std::future::pending::<()>().await;
            }
            let look = Duration::from_millis(LOOK_MS);
            if let Ok(received) = tokio::time::timeout(look, self.receive()).await {
                received?;
                continue;
            }
            let (waiting, consumers) = messages(&self.line, &self.address, &self.plan.queue).await?;
            self.drain(records_max)?;
            if self.held.is_empty() {
                let others = consumers > u32::from(self.plan.workers);
                if std::mem::replace(&mut self.others, others) && !others {
                    // Whoever has just gone is what is waited for from now on, however long it was there.
                    self.starved = None;
                }
                let since = *self.starved.get_or_insert_with(Instant::now);
                let patience_ms = match (waiting, others) {
                    // A consumer that goes is gone a moment before what it held is back.
                    (0, false) => SETTLED_MS,
                    // Perhaps one of ours whose connection is about to end: what it holds comes back.
                    (0, true) => LEAVING_MS,
                    // Another consumer may be the only active one: then nothing is there for this one.
                    _ => STARVED_MS,
                };
                if since.elapsed() >= Duration::from_millis(patience_ms) {
                    self.starved = None;
                    return Ok(None);
                }
            }
        }
    }

    /// Makes a batch of what is held.
    fn batch(&mut self, limit: ReadLimit) -> Result<Batch, SourceError> {
        let mut gathering = self.plan.layout.gather();
        let mut through = 0;
        while let Some(delivery) = self.held.front() {
            if gathering.len() >= limit.records_max.max(1) || gathering.bytes() >= limit.bytes_max.max(1) {
                break;
            }
            if header(delivery, STREAM_OFFSET).is_some() {
                return Err(ReadFault::Stream { queue: self.plan.queue.clone() }.into());
            }
            through = self.session.number();
            let id = delivery.properties.message_id().as_ref();
            let message = Message {
                ordinal: through,
                id: id.map(|id| digest(id.as_str().as_bytes())),
                body: &delivery.data,
                beside: self.plan.metadata.iter().map(|kind| beside(delivery, *kind)).collect(),
            };
            match id {
                None if self.plan.metadata.contains(&Metadata::MessageId) => {
                    let reason = "the message has no message-id, which `metadata` asks for".to_owned();
                    gathering.reject(&message, codes::NO_MESSAGE_ID, reason);
                }
                _ => gathering.push(&message, codes::UNDECODABLE),
            }
            self.open.push_back((through, delivery.delivery_tag));
            self.held.pop_front();
        }
        let gathered = gathering.finish().map_err(ReadFault::Arrow)?;
        let through = session::position(through);
        let after = self.stood.replace(through.clone());
        Ok(Batch {
            split: self.split.clone(),
            after,
            through,
            records: gathered.records,
            ordinals: gathered.ordinals,
            rejected: gathered.rejected,
            source_bytes: gathered.bytes,
        })
    }

    async fn settle(&mut self, through: &Position) -> Result<(), SourceError> {
        let done = session::ordinal(through).unwrap_or(0);
        let passed = self.open.partition_point(|(ordinal, _)| *ordinal <= done);
        let Some((_, tag)) = passed.checked_sub(1).and_then(|last| self.open.get(last)) else {
            return Ok(());
        };
        let fault = |error| BrokerFault::of(self.address.place(), "acknowledging", error);
        let all = BasicAckOptions { multiple: true };
        self.line.channel.basic_ack(*tag, all).await.map_err(fault)?;
        self.open.drain(..passed);
        // An acknowledgement has no answer. What is asked behind it on the same channel is answered behind it.
        messages(&self.line, &self.address, &self.plan.queue).await?;
        Ok(())
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name)
}

fn words(text: &ShortString) -> String {
    text.as_str().to_owned()
}

fn beside(delivery: &Delivery, kind: Metadata) -> Beside {
    match kind {
        Metadata::MessageId => Beside::Text(delivery.properties.message_id().as_ref().map(words)),
        Metadata::RoutingKey => Beside::Text(Some(words(&delivery.routing_key))),
        Metadata::Exchange => Beside::Text(Some(words(&delivery.exchange))),
        Metadata::Timestamp => {
            let seconds = delivery.properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
            Beside::Moment(seconds.and_then(|seconds| seconds.checked_mul(1_000_000)))
        }
        Metadata::DeliveryCount => Beside::Number(match header(delivery, "x-delivery-count") {
            Some(AMQPValue::LongLongInt(count)) => Some(*count),
            Some(AMQPValue::LongInt(count)) => Some(i64::from(*count)),
            Some(AMQPValue::ShortInt(count)) => Some(i64::from(*count)),
            Some(AMQPValue::ShortShortUInt(count)) => Some(i64::from(*count)),
            Some(AMQPValue::LongUInt(count)) => Some(i64::from(*count)),
            _ => None,
        }),
    }
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            if self.is_full() {
                std::future::pending::<()>().await;
            }
            if self.held.is_empty() { self.receive().await } else { Ok(()) }
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move { self.settle(through.get()).await })
    }
}
