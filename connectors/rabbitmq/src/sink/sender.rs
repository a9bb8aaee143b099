//! Publishes records, in their order, and waits until the broker has confirmed each, or nobody knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::message::{Format, encode};
use hapax_engine::sink::{Deadline, Sender, Sending, Sent};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::guarantee::InDoubt;
use hapax_protocol::identity::Token;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation, PublisherConfirm};

use super::Plan;
use crate::client::{Address, Line};
use crate::codes;
use crate::fault::{BrokerFault, WriteFault};

/// The longest name that the protocol holds: a routing key, an id.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// How long a confirmation is waited for. A broker that is short of memory or disk gives none.
const CONFIRM_S: u64 = 30;

/// How many messages are on their way at once.
const UNDER_WAY_MAX: usize = 1_000;

/// The broker keeps it through a restart.
const PERSISTENT: u8 = 2;

/// The header that names the row: a message that no queue takes comes back, and says so.
const ROW: &str = "hapax-row";

/// Sends the records of one split.
pub(super) struct Publisher {
    address: Arc<Address>,
    plan: Arc<Plan>,
    /// None once it ended.
    line: Option<Line>,
}

/// A record on its way.
struct Outgoing {
    row: usize,
    routing_key: ShortString,
    message_id: Option<ShortString>,
    body: Bytes,
}

impl Publisher {
    pub(super) async fn begin(address: Arc<Address>, plan: Arc<Plan>) -> Result<Self, SinkError> {
        let mut publisher = Self { address, plan, line: None };
        publisher.connect().await?;
        Ok(publisher)
    }

    async fn connect(&mut self) -> Result<(), BrokerFault> {
        if self.line.is_none() {
            let line = self.address.connect().await?;
            let confirmed = line.channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirmed
                .map_err(|error| BrokerFault::of(self.address.place(), "asking for confirmations", error))?;
            self.line = Some(line);
        }
        Ok(())
    }

    /// What is to be sent, and what cannot be.
    fn outgoing(
        &self,
        records: &RecordBatch,
        tokens: &[Token],
    ) -> Result<(Vec<Outgoing>, Vec<RefusedRow>), WriteFault> {
        let plain = |value: &str, name: &mut String| name.push_str(value);
        let (mut outgoing, mut refused) = (Vec::with_capacity(records.num_rows()), Vec::new());
        for (row, body) in encode(records, self.plan.format)?.into_iter().enumerate() {
            let routing_key = self.plan.routing_key.render(records, row, plain);
            let message_id = match &self.plan.message_id {
                Some(template) => template.render(records, row, plain).map(Some),
                None => Ok(tokens.get(row).map(ToString::to_string)),
            };
            let whole = || {
                let message_id = message_id?.map(|id| short("message_id", id)).transpose()?;
                Ok(Outgoing {
                    row,
                    routing_key: short("routing_key", routing_key?)?,
                    message_id,
                    body: body?,
                })
            };
            match whole() {
                Ok(one) => outgoing.push(one),
                Err(reason) => refused.push(RefusedRow { row, code: codes::UNHELD, reason }),
            }
        }
        Ok((outgoing, refused))
    }

    async fn publish(&self, line: &Line, one: &Outgoing) -> lapin::Result<PublisherConfirm> {
        let kind = match self.plan.format {
            Format::Json => "application/json",
            Format::Raw => "application/octet-stream",
        };
        let mut properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type(kind.into());
        if let Some(id) = &one.message_id {
            properties = properties.with_message_id(id.clone());
        }
        let mut headers = FieldTable::default();
        headers.insert(ROW.into(), AMQPValue::LongLongInt(i64::try_from(one.row).unwrap_or(i64::MAX)));
        let properties = properties.with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (exchange, key) = (self.plan.exchange.as_str().into(), one.routing_key.clone());
        line.channel.basic_publish(exchange, key, options, &one.body, properties).await
    }

    async fn deliver(&mut self, sending: Sending<'_>) -> Result<Sent, SinkError> {
        let (all, refused) = self.outgoing(sending.records, sending.tokens)?;
        let mut sent = Sent { refused, unknown: Vec::new() };
        let mut rest: VecDeque<&Outgoing> = all.iter().collect();
        loop {
            self.refuse_large(&mut rest, &mut sent);
            self.connect().await?;
            let Some(line) = self.line.take() else { break };
            let Some(broken) = self.pass(&line, &mut rest, &sending, &mut sent).await else {
                self.line = Some(line);
                break;
            };
            let fault = broken.error.map(|error| BrokerFault::of(self.address.place(), "publishing", error));
            let mut open = broken.open;
            if let Some(bytes_max) = fault.as_ref().and_then(BrokerFault::body_bytes_max)
                && let Some(at) = open.iter().position(|one| one.body.len() > bytes_max)
            {
                self.plan.body_bytes_max.fetch_min(bytes_max, Ordering::Relaxed);
                // The broker went through them in their order, and heard nothing behind that one.
                open.split_off(at).into_iter().rev().for_each(|one| rest.push_front(one));
            } else if let Some(fault) = fault.filter(|fault| !fault.is_away()) {
                return Err(fault.into());
            } else {
                open.extend(rest.drain(..));
            }
            sent.unknown.extend(open.iter().map(|one| one.row));
            // Where those in doubt are sent again, all that is behind them is, too.
            if !sent.unknown.is_empty() && self.plan.in_doubt == InDoubt::Resend {
                self.refuse_large(&mut rest, &mut sent);
                sent.unknown.extend(rest.drain(..).map(|one| one.row));
            }
            if rest.is_empty() {
                break;
            }
        }
        sent.refused.sort_unstable_by_key(|refused| refused.row);
        sent.unknown.sort_unstable();
        Ok(sent)
    }

    /// Refuses what is larger than the broker takes, as far as it said that.
    fn refuse_large(&self, rest: &mut VecDeque<&Outgoing>, sent: &mut Sent) {
        let bytes_max = self.plan.body_bytes_max.load(Ordering::Relaxed);
        rest.retain(|one| {
            let bytes = one.body.len();
            if bytes > bytes_max {
                let reason =
                    format!("its message has {bytes} bytes, and the broker takes at most {bytes_max}");
                sent.refused.push(RefusedRow { row: one.row, code: codes::TOO_LARGE, reason });
            }
            bytes <= bytes_max
        });
    }

    /// Publishes from the front of `rest`, and waits for each confirmation, until all are there or the line is of no more use.
    async fn pass<'a>(
        &self,
        line: &Line,
        rest: &mut VecDeque<&'a Outgoing>,
        sending: &Sending<'_>,
        sent: &mut Sent,
    ) -> Option<Broken<'a>> {
        let limit = Duration::from_secs(CONFIRM_S);
        let mut confirms: VecDeque<(&'a Outgoing, PublisherConfirm)> = VecDeque::new();
        // One that could not be published. Those before it say why, if it was for them.
        let mut failed: Option<(&'a Outgoing, Option<lapin::Error>)> = None;
        loop {
            if failed.is_none()
                && confirms.len() < UNDER_WAY_MAX
                && let Some(one) = rest.pop_front()
            {
                if sending.deadline.is_some_and(Deadline::is_past) {
                    sent.unknown.push(one.row);
                    continue;
                }
                // A broker that is short of memory or disk takes nothing, and says nothing.
                match tokio::time::timeout(limit, self.publish(line, one)).await {
                    Ok(Ok(confirm)) => confirms.push_back((one, confirm)),
                    Ok(Err(error)) => failed = Some((one, Some(error))),
                    Err(_) => failed = Some((one, None)),
                }
                continue;
            }
            let Some((one, confirm)) = confirms.pop_front() else {
                return failed.map(|(one, error)| Broken { error, open: vec![one] });
            };
            let error = match tokio::time::timeout(limit, confirm).await {
                Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => continue,
                Ok(Ok(Confirmation::Ack(Some(returned)))) => {
                    let reason = format!("no queue takes it: {}", returned.reply_text);
                    // Several confirmed at once: the returned message may not be the one that this confirms.
                    let row = row_of(&returned).unwrap_or(one.row);
                    sent.refused.push(RefusedRow { row, code: codes::UNROUTABLE, reason });
                    continue;
                }
                // It has not, or not everywhere, and does not say which.
                Ok(Ok(Confirmation::Nack(_))) => {
                    sent.unknown.push(one.row);
                    continue;
                }
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            // What had been confirmed behind the one that broke is not known any more.
            let behind = confirms.into_iter().map(|(one, _)| one).chain(failed.map(|(one, _)| one));
            return Some(Broken { error, open: std::iter::once(one).chain(behind).collect() });
        }
    }
}

/// A line that is of no more use.
struct Broken<'a> {
    /// Why; None if the broker said nothing for too long.
    error: Option<lapin::Error>,
    /// What was published on it in this order and not confirmed.
    open: Vec<&'a Outgoing>,
}

/// The row that a returned message was.
fn row_of(returned: &BasicReturnMessage) -> Option<usize> {
    let headers = returned.delivery.properties.headers().as_ref()?;
    match headers.inner().get(ROW)? {
        AMQPValue::LongLongInt(row) => usize::try_from(*row).ok(),
        _ => None,
    }
}

fn short(what: &str, name: String) -> Result<ShortString, String> {
    let bytes = name.len();
    ShortString::try_new(name)
        .map_err(|_| format!("its {what} has {bytes} bytes, and at most {NAME_BYTES_MAX} fit"))
}

impl Sender for Publisher {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending))
    }
}
