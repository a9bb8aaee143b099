//! The sink: messages that the broker confirmed, each under an id by which its consumers can tell a repeat.

mod sender;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::message::{Format, raw_column};
use hapax_engine::sink::{CommitSize, Repeat, Sender, Shape, Target};
use hapax_engine::source::Source;
use hapax_engine::template::Template;
use hapax_protocol::guarantee::{Durability, InDoubt as Doubt};
use hapax_protocol::position::SplitId;
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use crate::client::Address;
use crate::config::{InDoubt, SinkConfig};
use crate::fault::{BrokerFault, WriteFault};
use sender::Publisher;

/// How much one commit takes.
const COMMIT: CommitSize = CommitSize { records_max: 10_000, bytes_max: 8 * 1024 * 1024, interval_ms: 1_000 };

/// What consumers have to do.
const CONSUMERS: &str = "consumers drop a message whose `message-id` they have had (what was sent before a crash and not committed is sent again, under the same id), and the queues behind the exchange are durable";

/// An exchange that is published to.
pub struct Exchange {
    address: Arc<Address>,
    plan: Arc<Plan>,
}

/// What is published, and how.
pub(crate) struct Plan {
    pub exchange: String,
    pub routing_key: Template,
    pub message_id: Option<Template>,
    pub format: Format,
    pub in_doubt: Doubt,
    /// How large a body the broker takes. It says so when it is given a larger one, and not before.
    pub body_bytes_max: AtomicUsize,
}

/// Opens the sink: looks whether the exchange is there. Changes nothing.
pub async fn open(config: SinkConfig) -> Result<Arc<dyn Target>, SinkError> {
    let read = |key, text: &str| Template::read(text).map_err(|error| WriteFault::Name { key, error });
    let routing_key = read("routing_key", &config.routing_key)?;
    let message_id = config.message_id.as_deref().map(|text| read("message_id", text)).transpose()?;
    if config.exchange.len() > sender::NAME_BYTES_MAX {
        return Err(WriteFault::Config("`exchange` has at most 255 bytes").into());
    }
    let address = Arc::new(Address::read(&config.url, config.tls.as_ref())?);
    let line = address.connect().await?;
    if !config.exchange.is_empty() {
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let name = config.exchange.as_str().into();
        let declared =
            line.channel.exchange_declare(name, ExchangeKind::Direct, passive, FieldTable::default());
        let doing = "looking at the exchange";
        declared.await.map_err(|error| BrokerFault::of(address.place(), doing, error))?;
    }
    let in_doubt = match config.in_doubt {
        InDoubt::Resend => Doubt::Resend,
        InDoubt::Hold => Doubt::Hold,
    };
    let (exchange, format) = (config.exchange, config.format);
    let body_bytes_max = AtomicUsize::new(usize::MAX);
    let plan = Plan { exchange, routing_key, message_id, format, in_doubt, body_bytes_max };
    Ok(Arc::new(Exchange { address, plan: Arc::new(plan) }))
}

impl Plan {
    fn check(&self, shape: &Shape) -> Result<(), WriteFault> {
        let check =
            |key, name: &Template| name.check(&shape.schema).map_err(|error| WriteFault::Name { key, error });
        check("routing_key", &self.routing_key)?;
        if let Some(message_id) = &self.message_id {
            check("message_id", message_id)?;
        }
        match self.format == Format::Raw && raw_column(&shape.schema).is_none() {
            true => Err(WriteFault::Config("there is not one column of bytes or text, and no other")),
            false => Ok(()),
        }
    }

    fn says(&self) -> String {
        let exchange = match self.exchange.as_str() {
            "" => "the queue that its routing key names".to_owned(),
            name => format!("the exchange {name:?}"),
        };
        format!(
            "publish each record to {exchange}, confirmed by the broker; what no queue takes is set aside"
        )
    }
}

impl Target for Exchange {
    fn repeat(&self) -> Repeat {
        Repeat::Adds { in_doubt: self.plan.in_doubt }
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn readers(&self) -> Option<String> {
        Some(CONSUMERS.to_owned())
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        let checked = self.plan.check(shape).map(|()| vec![self.plan.says()]);
        Box::pin(std::future::ready(checked.map_err(SinkError::from)))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(self.plan.check(shape).map_err(SinkError::from)))
    }

    fn read_back(&self, _: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(std::future::ready(Err(WriteFault::NoReadBack.into())))
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        Box::pin(async move {
            let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
            let sender: Box<dyn Sender> = Box::new(Publisher::begin(address, plan).await?);
            Ok(sender)
        })
    }
}
