//! Publishes records, in their order, and waits until the broker has confirmed each, or nobody knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::message::{Format, encode};
use hapax_engine::sink::{Deadline, Sender, Sending, Sent};
use hapax_engine::transform::RefusedRow;
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
        self.connect().await?;
        let Some(line) = self.line.take() else { return Ok(sent) };
        let mut confirms: VecDeque<(usize, PublisherConfirm)> = VecDeque::new();
        let mut rest = all.iter();
        let broken = loop {
            if confirms.len() < UNDER_WAY_MAX
                && let Some(one) = rest.next()
            {
                if sending.deadline.is_some_and(Deadline::is_past) {
                    sent.unknown.push(one.row);
                    continue;
                }
                // A broker that is short of memory or disk takes nothing, and says nothing.
                match tokio::time::timeout(Duration::from_secs(CONFIRM_S), self.publish(&line, one)).await {
                    Ok(Ok(confirm)) => confirms.push_back((one.row, confirm)),
                    Ok(Err(error)) => {
                        sent.unknown.push(one.row);
                        break Some(Broken::Failed(error));
                    }
                    Err(_) => {
                        sent.unknown.push(one.row);
                        break Some(Broken::Silent);
                    }
                }
                continue;
            }
            let Some((row, confirm)) = confirms.pop_front() else { break None };
            match tokio::time::timeout(Duration::from_secs(CONFIRM_S), confirm).await {
                Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => {}
                Ok(Ok(Confirmation::Ack(Some(returned)))) => {
                    let reason = format!("no queue takes it: {}", returned.reply_text);
                    // Several confirmed at once: the returned message may not be the one that this confirms.
                    let row = row_of(&returned).unwrap_or(row);
                    sent.refused.push(RefusedRow { row, code: codes::UNROUTABLE, reason });
                }
                // It has not, or not everywhere, and does not say which.
                Ok(Ok(Confirmation::Nack(_))) => sent.unknown.push(row),
                Err(_) => {
                    sent.unknown.push(row);
                    break Some(Broken::Silent);
                }
                Ok(Err(error)) => {
                    sent.unknown.push(row);
                    break Some(Broken::Failed(error));
                }
            }
        };
        match broken {
            None => self.line = Some(line),
            Some(broken) => {
                if let Broken::Failed(error) = broken {
                    let fault = BrokerFault::of(self.address.place(), "publishing", error);
                    if !fault.is_away() {
                        return Err(fault.into());
                    }
                }
                // What had been confirmed behind the one that broke is not known any more.
                sent.unknown.extend(confirms.iter().map(|(row, _)| *row));
                sent.unknown.extend(rest.map(|one| one.row));
            }
        }
        sent.refused.sort_unstable_by_key(|refused| refused.row);
        sent.unknown.sort_unstable();
        Ok(sent)
    }
}

/// Why a batch was not published to its end.
enum Broken {
    Failed(lapin::Error),
    /// The broker said nothing for too long.
    Silent,
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
