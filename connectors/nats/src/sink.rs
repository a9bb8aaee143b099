//! The sink: messages that a stream takes once, by an id it remembers for a while or by a subject of their own.

mod memory;
mod sender;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::columns::Columns;
use hapax_engine::fault::SinkError;
use hapax_engine::message::{Format, UnknownFields, raw_column};
use hapax_engine::sink::{CommitSize, Repeat, Sender, Shape, Target};
use hapax_engine::source::Source;
use hapax_engine::template::Template;
use hapax_engine::tls::Tls;
use hapax_protocol::guarantee::{Durability, Window};
use hapax_protocol::position::SplitId;

use crate::client::Address;
use crate::config::{OnGap, Once, SinkConfig, SourceConfig};
use crate::fault::WriteFault;
use crate::monitor::{self, Sync};
use crate::source::Nats;
use memory::Memory;
use sender::Publisher;

/// How long after it left a message may still arrive: the wait for its acknowledgement, and what a network adds.
const UNDER_WAY: Window = Window(5_000);

/// How much one commit takes.
const COMMIT: CommitSize =
    CommitSize { records_max: 20_000, bytes_max: 16 * 1024 * 1024, interval_ms: 1_000 };

/// A stream that is written.
pub struct Jet {
    address: Arc<Address>,
    plan: Arc<Plan>,
    url: String,
    tls: Option<Tls>,
    memory: Memory,
    condition: Option<String>,
}

/// What is written, and how.
pub(crate) struct Plan {
    pub stream: String,
    pub subject: Template,
    pub format: Format,
    pub once: Once,
}

/// Opens the sink: looks whether the stream is there, and fits. Changes nothing.
pub async fn open(config: SinkConfig) -> Result<Arc<dyn Target>, SinkError> {
    let subject = Template::read(&config.subject).map_err(WriteFault::Subject)?;
    let address = Arc::new(Address::read(&config.url, config.tls.as_ref())?);
    let line = address.connect().await?;
    let stream = line.stream(&config.stream).await?;
    let memory = Memory::of(&config, &stream.cached_info().config)?;
    let mut conditions = memory.conditions.clone();
    match &config.monitor {
        None => conditions.push(
            "the server loses no message that it acknowledged: unless it has `sync_interval: always` a power loss takes what came since it last synced, by default up to 2 minutes (`monitor` lets Hapax look)".to_owned(),
        ),
        Some(url) => match monitor::sync(url).await {
            Ok(Sync::Always) => {}
            Ok(Sync::Every(interval)) => conditions.push(format!(
                "the server does not lose its power: it syncs its files every {interval}, and a power loss takes what it acknowledged since, unless replicas keep it"
            )),
            Err(reason) => return Err(WriteFault::Monitor { reason }.into()),
        },
    }
    let condition = (!conditions.is_empty()).then(|| conditions.join("; and "));
    let plan = Plan { stream: config.stream, subject, format: config.format, once: config.once };
    Ok(Arc::new(Jet { address, plan: Arc::new(plan), url: config.url, tls: config.tls, memory, condition }))
}

impl Plan {
    fn check(&self, shape: &Shape) -> Result<(), WriteFault> {
        self.subject.check(&shape.schema)?;
        if self.format == Format::Raw && raw_column(&shape.schema).is_none() {
            let reason = "`format: raw` sends one column of bytes or text, and there are others";
            return Err(WriteFault::Config(reason.to_owned()));
        }
        if self.once == Once::Subject {
            let named: BTreeSet<&str> = self.subject.columns().collect();
            let key: BTreeSet<&str> = shape.key.iter().map(String::as_str).collect();
            if key.is_empty() || named != key || !self.subject.separates(&['.']) {
                let reason = "`once: subject` needs a subject that names the columns of the identity, all of them and no others, with a dot between each two";
                return Err(WriteFault::Config(reason.to_owned()));
            }
        }
        Ok(())
    }
}

impl Target for Jet {
    fn repeat(&self) -> Repeat {
        self.memory.repeat
    }

    fn durability(&self) -> Durability {
        self.memory.durability
    }

    fn readers(&self) -> Option<String> {
        self.condition.clone()
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        let checked = self.plan.check(shape).map(|()| vec![self.memory.says.clone()]);
        Box::pin(std::future::ready(checked.map_err(SinkError::from)))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(self.plan.check(shape).map_err(SinkError::from)))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let unread = |reason: String| WriteFault::NoReadBack { stream: self.plan.stream.clone(), reason };
            if self.plan.format == Format::Raw {
                return Err(unread("its messages are bytes that nobody looks into".to_owned()).into());
            }
            let config = SourceConfig {
                url: self.url.clone(),
                tls: self.tls.clone(),
                stream: self.plan.stream.clone(),
                subject: None,
                format: Format::Json,
                schema: Some(columns(&schema)),
                unknown_fields: UnknownFields::Ignore,
                metadata: Vec::new(),
                consumer: None,
                workers: None,
                on_gap: OnGap::Accept,
            };
            let source = Nats::open(config).await.map_err(|error| unread(error.to_string()))?;
            let source: Arc<dyn Source> = Arc::new(source);
            Ok(source)
        })
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        Box::pin(async move {
            let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
            let sender: Box<dyn Sender> = Box::new(Publisher::begin(address, plan).await?);
            Ok(sender)
        })
    }
}

fn columns(schema: &Schema) -> Columns {
    Columns(schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect())
}
