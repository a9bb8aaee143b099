//! Messages that a durable consumer gives out, acknowledged once they have taken effect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message as Received;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use futures::{FutureExt, StreamExt, TryStreamExt};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::message::session::{self, Session};
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};
use tokio::time::Instant;

use super::{Plan, Stamp, created};
use crate::client::{Address, ConsumerFault, Line};
use crate::fault::ReadFault;

/// How many messages a consumer that Hapax makes gives out before the first of them is acknowledged.
const OPEN_MAX: i64 = 20_000;

/// How many acknowledgements are on their way at once.
const ACKS: usize = 256;

/// How long is waited for a message before the server is asked whether there is one.
const LOOK_MS: u64 = 100;

/// How much longer is waited for what is with somebody else than the consumer gives them.
const MARGIN_MS: u64 = 5_000;

/// One worker.
pub(super) struct Worker {
    plan: Arc<Plan>,
    line: Line,
    consumer: Consumer<pull::Config>,
    messages: pull::Stream,
    split: SplitId,
    stood: Option<Position>,
    session: Session,
    created: i64,
    /// Taken and not read yet.
    held: VecDeque<Received>,
    /// Read and not acknowledged.
    open: VecDeque<(Ordinal, Received)>,
    /// Since when nothing came, although something is with somebody else.
    since: Option<Instant>,
}

impl Worker {
    pub(super) async fn begin(
        address: Arc<Address>,
        plan: Arc<Plan>,
        split: SplitId,
        stood: Option<Position>,
        session: Session,
    ) -> Result<Self, SourceError> {
        let line = address.connect().await?;
        let stream = line.stream(&plan.stream).await?;
        let name = plan.consumer.clone().unwrap_or_default();
        let filter_subject = plan.subject.clone().unwrap_or_default();
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: AckPolicy::Explicit,
            filter_subject: filter_subject.clone(),
            max_ack_pending: OPEN_MAX,
            ..pull::Config::default()
        };
        let unfit = |reason: String| ReadFault::Consumer {
            stream: plan.stream.clone(),
            consumer: name.clone(),
            reason,
        };
        let consumer = line.consumer(&stream, config).await.map_err(|fault| match fault {
            ConsumerFault::Server(fault) => SourceError::from(fault),
            ConsumerFault::Unfit(reason) => unfit(reason).into(),
        })?;
        let found = &consumer.cached_info().config;
        if found.ack_policy != AckPolicy::Explicit {
            return Err(unfit(
                "it does not ask for an acknowledgement of each message (`ack explicit`)".into(),
            )
            .into());
        }
        if found.filter_subject != filter_subject || !found.filter_subjects.is_empty() {
            let has = if found.filter_subjects.is_empty() {
                format!("{:?}", found.filter_subject)
            } else {
                format!("{:?}", found.filter_subjects)
            };
            return Err(unfit(format!("it gives out {has}, and `subject` is {filter_subject:?}")).into());
        }
        let messages = line.messages(&consumer).await?;
        let created = created(stream.cached_info());
        let (held, open, since) = (VecDeque::new(), VecDeque::new(), None);
        Ok(Self { plan, line, consumer, messages, split, stood, session, created, held, open, since })
    }

    /// Waits for the next message. Cancel-safe: it is held once it is there.
    async fn receive(&mut self) -> Result<(), SourceError> {
        let reason = match self.line.next(&mut self.messages).await {
            Ok(message) => {
                self.since = None;
                self.held.push_back(message);
                return Ok(());
            }
            Err(reason) => reason,
        };
        // What has ended for good says so itself.
        self.line.stream(&self.plan.stream).await?;
        Err(self.line.gone("waiting for messages", &reason).into())
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
                return self.batch(limit).map(Some);
            }
            if let Ok(received) = tokio::time::timeout(Duration::from_millis(LOOK_MS), self.receive()).await {
                received?;
                continue;
            }
            if self.is_at_its_end().await? {
                self.drain(records_max)?;
                if self.held.is_empty() {
                    self.since = None;
                    return Ok(None);
                }
            }
        }
    }

    /// Whether nothing waits, and nothing is with somebody else who may have died with it. What is with this worker is
    /// waited for as well where the consumer gives out no more before it: a commit ends that waiting.
    async fn is_at_its_end(&mut self) -> Result<bool, SourceError> {
        let info = self.consumer.get_info().await;
        let info = info.map_err(|error| self.line.gone("looking at the consumer", &error))?;
        if info.num_pending == 0 && info.num_ack_pending <= self.open.len() {
            return Ok(true);
        }
        if !self.open.is_empty() {
            return Ok(false);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        Ok(since.elapsed() > info.config.ack_wait.saturating_add(Duration::from_millis(MARGIN_MS)))
    }

    fn batch(&mut self, limit: ReadLimit) -> Result<Batch, SourceError> {
        let mut gathering = self.plan.layout.gather();
        let mut through = 0;
        while gathering.len() < limit.records_max.max(1) && gathering.bytes() < limit.bytes_max.max(1) {
            let Some(message) = self.held.pop_front() else { break };
            let stamp = {
                let info = message.info().map_err(|error| self.line.gone("reading a message", &error))?;
                let published = info.published.unix_timestamp_nanos() / 1000;
                Stamp {
                    created: self.created,
                    sequence: info.stream_sequence,
                    published_us: i64::try_from(published).unwrap_or(0),
                }
            };
            through = self.session.number();
            self.plan.take(&mut gathering, &message, &stamp, through);
            self.open.push_back((through, message));
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

    /// Acknowledges, and waits until the server has said of each that it knows.
    async fn settle(&mut self, through: &Position) -> Result<(), SourceError> {
        let done = session::ordinal(through).unwrap_or(0);
        let passed = self.open.partition_point(|(ordinal, _)| *ordinal <= done);
        let acks = self.open.drain(..passed).map(|(_, message)| async move { message.double_ack().await });
        let settled = futures::stream::iter(acks).buffer_unordered(ACKS).try_collect::<Vec<()>>().await;
        settled.map(drop).map_err(|error| self.line.gone("acknowledging", &error).into())
    }
}

impl SplitReader for Worker {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move { if self.held.is_empty() { self.receive().await } else { Ok(()) } })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move { self.settle(through.get()).await })
    }
}
