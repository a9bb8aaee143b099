//! A stream by sequence: what is behind a position, in its order, and nothing is forgotten by reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message as Received;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::FutureExt;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};
use tokio::time::Instant;

use super::{Plan, Stamp, created};
use crate::client::{Address, ConsumerFault, Line};
use crate::config::OnGap;
use crate::fault::ReadFault;

/// The first byte of a position of this encoding.
const VERSION: u8 = 2;

/// How long is waited for a message before the server is asked whether there is one.
const LOOK_MS: u64 = 250;

/// How long a message may take that the server says to have.
const LOST_MS: u64 = 10_000;

/// How often a reader that waits looks how far the stream has come without it.
const IDLE_S: u64 = 60;

/// How long the server keeps a consumer that nobody asks.
const INACTIVE_S: u64 = 60;

/// A place in a stream: behind the message of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// When the stream was made, in nanoseconds since 1970: another stream of the same name is another stream.
    pub created: i64,
    pub sequence: u64,
}

impl Place {
    fn encode(self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.created.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub(super) fn decode(position: &Position) -> Option<Self> {
        let (version, rest) = position.as_bytes().split_first()?;
        let (created, sequence) = rest.split_first_chunk::<8>()?;
        let sequence = <[u8; 8]>::try_from(sequence).ok().filter(|_| *version == VERSION)?;
        Some(Self { created: i64::from_be_bytes(*created), sequence: u64::from_be_bytes(sequence) })
    }
}

/// A message that came, with what the server says of it.
struct Held {
    message: Received,
    stamp: Stamp,
}

/// Reads one stream.
pub(super) struct Reader {
    plan: Arc<Plan>,
    line: Line,
    stream: Stream,
    consumer: Consumer<pull::Config>,
    messages: pull::Stream,
    split: SplitId,
    stood: Option<Position>,
    /// The last message that was read.
    place: Place,
    /// The number the next message has by the count of the consumer.
    next: u64,
    /// How many messages lie behind the last one that came, as the server said.
    pending: u64,
    held: VecDeque<Held>,
    /// Since when a message does not come that the server gave out.
    overdue: Option<Instant>,
}

impl Reader {
    pub(super) async fn begin(
        address: Arc<Address>,
        plan: Arc<Plan>,
        split: SplitId,
        stood: Option<Position>,
        place: Option<Place>,
    ) -> Result<Self, SourceError> {
        let line = address.connect().await?;
        let stream = line.stream(&plan.stream).await?;
        let (now, state) = (created(stream.cached_info()), &stream.cached_info().state);
        if let Some(place) = place {
            let stream = plan.stream.clone();
            if place.created != now {
                return Err(ReadFault::Recreated { stream, then: place.created, now }.into());
            }
            if place.sequence > state.last_sequence {
                let (last, position) = (state.last_sequence, place.sequence);
                return Err(ReadFault::EndsBefore { stream, last, position }.into());
            }
            let from = place.sequence.saturating_add(1);
            if state.first_sequence > from && plan.on_gap == OnGap::Stop {
                let to = state.first_sequence.saturating_sub(1);
                return Err(ReadFault::Trimmed { stream, from, to }.into());
            }
        }
        let deliver_policy = match place {
            Some(place) => {
                DeliverPolicy::ByStartSequence { start_sequence: place.sequence.saturating_add(1) }
            }
            None => DeliverPolicy::All,
        };
        let config = pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: plan.subject.clone().unwrap_or_default(),
            inactive_threshold: Duration::from_secs(INACTIVE_S),
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = line.consumer(&stream, config).await.map_err(|fault| match fault {
            ConsumerFault::Server(fault) => SourceError::from(fault),
            ConsumerFault::Unfit(reason) => ReadFault::Config(reason).into(),
        })?;
        let pending = consumer.cached_info().num_pending;
        let messages = line.messages(&consumer).await?;
        let place = place.unwrap_or(Place { created: now, sequence: 0 });
        let held = VecDeque::new();
        Ok(Self {
            plan,
            line,
            stream,
            consumer,
            messages,
            split,
            stood,
            place,
            next: 1,
            pending,
            held,
            overdue: None,
        })
    }

    /// Why the messages ended.
    async fn ended(&self, reason: String) -> SourceError {
        match self.line.stream(&self.plan.stream).await {
            Ok(_) => self.line.gone("waiting for messages", &reason).into(),
            Err(fault) => fault.into(),
        }
    }

    /// Waits for the next message. Cancel-safe: it is held once it is there.
    async fn receive(&mut self) -> Result<(), SourceError> {
        let message = match self.line.next(&mut self.messages).await {
            Ok(message) => message,
            Err(reason) => return Err(self.ended(reason).await),
        };
        self.overdue = None;
        let (stamp, number, pending) = {
            let info = message.info().map_err(|error| self.line.gone("reading a message", &error))?;
            let published = info.published.unix_timestamp_nanos() / 1000;
            let stamp = Stamp {
                created: self.place.created,
                sequence: info.stream_sequence,
                published_us: i64::try_from(published).unwrap_or(0),
            };
            (stamp, info.consumer_sequence, info.pending)
        };
        if number != self.next {
            // What is missing is in the stream: it is read again from the position.
            return Err(self.line.gone("reading messages", &"a message was lost on the way").into());
        }
        self.next = number.saturating_add(1);
        self.pending = pending;
        self.held.push_back(Held { message, stamp });
        Ok(())
    }

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
                self.demand_nothing_was_trimmed(records_max).await?;
                return self.batch(limit).map(Some);
            }
            if self.pending == 0 {
                return self.pass_over().await;
            }
            if let Ok(received) = tokio::time::timeout(Duration::from_millis(LOOK_MS), self.receive()).await {
                received?;
                continue;
            }
            // What waited may have been removed meanwhile, or been lost on the way.
            if self.has_come_to_the_end().await? {
                self.pending = 0;
            } else if self.overdue.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(LOST_MS)
            {
                return Err(self.line.gone("reading messages", &"a message does not come").into());
            }
        }
    }

    /// Whether nothing is left for the consumer, and nothing on its way from it.
    async fn has_come_to_the_end(&self) -> Result<bool, SourceError> {
        let info = self.consumer.get_info().await;
        let info = info.map_err(|error| self.line.gone("looking at the consumer", &error))?;
        Ok(info.num_pending == 0 && info.delivered.consumer_sequence < self.next)
    }

    /// At the end: goes on to where the stream has come without a message for this reader, so that what the stream
    /// forgets of them is not taken for something that was missed.
    async fn pass_over(&mut self) -> Result<Option<Batch>, SourceError> {
        let last = self.line.info(&self.stream).await?.state.last_sequence;
        if last <= self.place.sequence {
            return Ok(None);
        }
        // Asked of the stream itself, behind the question for its end: a consumer may stand on a replica that is behind.
        let subject = self.plan.subject.as_deref().unwrap_or(">");
        let from = self.place.sequence.saturating_add(1);
        let next = self.stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await;
        match next.map_err(|error| error.kind()) {
            Ok(_) => Ok(None),
            Err(LastRawMessageErrorKind::NoMessageFound) => {
                let gathering = self.plan.layout.gather();
                self.made(gathering, Place { sequence: last, ..self.place }).map(Some)
            }
            Err(other) => Err(self.line.gone("looking for the next message", &other).into()),
        }
    }

    /// Where sequences are missing: they were removed one by one, or are of another subject; or the head of the stream
    /// has come past them.
    async fn demand_nothing_was_trimmed(&self, records_max: usize) -> Result<(), SourceError> {
        if self.plan.on_gap == OnGap::Accept || (self.stood.is_none() && self.place.sequence == 0) {
            return Ok(());
        }
        let mut before = self.place.sequence;
        let mut jumps = Vec::new();
        for held in self.held.iter().take(records_max) {
            if held.stamp.sequence != before.saturating_add(1) {
                jumps.push((before.saturating_add(1), held.stamp.sequence));
            }
            before = held.stamp.sequence;
        }
        if jumps.is_empty() {
            return Ok(());
        }
        let first = self.line.info(&self.stream).await?.state.first_sequence;
        match jumps.into_iter().find(|(from, _)| *from < first) {
            None => Ok(()),
            Some((from, behind)) => {
                let to = behind.min(first).saturating_sub(1);
                Err(ReadFault::Trimmed { stream: self.plan.stream.clone(), from, to }.into())
            }
        }
    }

    fn batch(&mut self, limit: ReadLimit) -> Result<Batch, SourceError> {
        let mut gathering = self.plan.layout.gather();
        let mut place = self.place;
        while let Some(held) = self.held.front() {
            if gathering.len() >= limit.records_max.max(1) || gathering.bytes() >= limit.bytes_max.max(1) {
                break;
            }
            place.sequence = held.stamp.sequence;
            let ordinal = place.sequence.saturating_sub(1);
            self.plan.take(&mut gathering, &held.message, &held.stamp, ordinal);
            self.held.pop_front();
        }
        self.made(gathering, place)
    }

    fn made(
        &mut self,
        gathering: hapax_engine::message::Gathering,
        place: Place,
    ) -> Result<Batch, SourceError> {
        let gathered = gathering.finish().map_err(ReadFault::Arrow)?;
        self.place = place;
        let through = place.encode();
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
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            if !self.held.is_empty() {
                return Ok(());
            }
            let idle = Duration::from_secs(IDLE_S);
            tokio::time::timeout(idle, self.receive()).await.unwrap_or(Ok(()))
        })
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        // Reading takes nothing away.
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_grow() {
        let place = Place { created: 1_790_000_000_000_000_000, sequence: 255 };
        assert_eq!(Place::decode(&place.encode()), Some(place));
        assert!(Place { sequence: 256, ..place }.encode() > place.encode());
        let session = hapax_engine::message::session::position(7);
        assert_eq!(Place::decode(&session), None, "a position of a shared consumer is none of a stream");
        assert_eq!(hapax_engine::message::session::ordinal(&place.encode()), None);
    }
}
