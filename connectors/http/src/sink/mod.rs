//! The sink: one request a record, or arrays of them, to an API that keeps nothing for Hapax.

mod address;
mod body;
mod crew;
mod plan;
mod sender;
mod verdict;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::columns::{Columns, parse_type, type_name};
use hapax_engine::fault::SinkError;
use hapax_engine::message::UnknownFields;
use hapax_engine::sink::{CommitSize, Repeat, Sender, Shape, Target};
use hapax_engine::source::Source;
use hapax_protocol::guarantee::{Durability, Guard};
use hapax_protocol::position::SplitId;

use crate::client::{self, Host, Manner};
use crate::config::{ReadBack, SinkConfig, SourceConfig};
use crate::fault::WriteFault;
use crate::source::Pages;
use plan::Plan;
use sender::Poster;

/// How many requests are under way at once, unless the file says.
const CONCURRENCY: u16 = 8;

/// How much one commit takes.
const COMMIT: CommitSize =
    CommitSize { records_max: 10_000, bytes_max: 16 * 1024 * 1024, interval_ms: 1_000 };

/// What stands for the place of a drill.
const PLACE: &str = "{place}";

/// An API that is written.
pub struct Api {
    host: Arc<Host>,
    plan: Arc<Plan>,
    config: SinkConfig,
    concurrency: u16,
}

/// Opens the sink: reads what it is told. Sends nothing.
pub async fn open(config: SinkConfig) -> Result<Arc<dyn Target>, SinkError> {
    let (config, place) = within_scratch(config)?;
    let timeout = client::timeout(config.timeout.as_deref())?;
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let plan = Plan::read(&config, timeout_ms, place)?;
    let concurrency = config.concurrency.unwrap_or(CONCURRENCY);
    if concurrency == 0 || concurrency > 256 {
        return Err(WriteFault::Config("`concurrency` is 1 to 256".to_owned()).into());
    }
    if config.rate == Some(0) {
        return Err(WriteFault::Config("`rate` is at least 1 request a second".to_owned()).into());
    }
    let manner = Manner {
        auth: config.auth.as_ref(),
        headers: &config.headers,
        rate: config.rate,
        timeout,
        concurrency,
        allow_private: config.allow_private,
        tls: config.tls.as_ref(),
        secrets: &config.secrets,
    };
    let host = Arc::new(Host::open(&plan.url.host()?, manner)?);
    Ok(Arc::new(Api { host, plan: Arc::new(plan), config, concurrency }))
}

/// The same sink in the place of a drill, and that place, if it is for one: nothing of it leads to where the real one
/// writes.
fn within_scratch(mut config: SinkConfig) -> Result<(SinkConfig, Option<String>), SinkError> {
    let wrong = |what: &str| WriteFault::Config(what.to_owned());
    if let Some(scratch) = &config.scratch {
        let all = [Some(&scratch.url), scratch.read.as_ref(), scratch.probe.as_ref()];
        if all.into_iter().flatten().any(|url| !url.contains(PLACE)) {
            let what = "each URL of `scratch` names the place of a drill: `https://host/scratch/{place}/orders/{id}`";
            return Err(wrong(what).into());
        }
    }
    let Some(place) = config.place.take() else { return Ok((config, None)) };
    let Some(scratch) = config.scratch.take() else {
        return Err(wrong("a drill needs `scratch`").into());
    };
    let there = |url: String| url.replace(PLACE, &place);
    config.url = there(scratch.url);
    config.probe = scratch.probe.map(there);
    config.read = config.read.zip(scratch.read).map(|(read, url)| ReadBack { url: there(url), ..read });
    Ok((config, Some(place)))
}

impl Target for Api {
    fn repeat(&self) -> Repeat {
        self.plan.repeat
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn readers(&self) -> Option<String> {
        let place = self.host.place();
        let keeps = format!("{place} keeps what it answered with success");
        Some(match self.plan.repeat {
            // No API that is described here refuses for good.
            Repeat::Replaces { guard: Guard::Version } | Repeat::Refused { .. } => {
                format!("{keeps}, and refuses a value that is older than the one it has, as `version` says")
            }
            Repeat::Replaces { guard: Guard::None } => {
                format!("{keeps}, and a record that is sent again leaves what was sent before as it is")
            }
            Repeat::Dropped { window, .. } => {
                format!(
                    "{keeps}, and drops repeats of a token for {window}, also while the first is under way"
                )
            }
            Repeat::Adds { .. } if self.plan.probe.is_some() => format!(
                "{keeps}, and each identity is sent once: what `probe` finds is taken for what was just sent"
            ),
            Repeat::Adds { .. } => keeps,
        })
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        let checked = self.plan.check(shape).map(|()| vec![self.plan.says(&self.host.place())]);
        Box::pin(std::future::ready(checked.map_err(SinkError::from)))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(self.plan.check(shape).map_err(SinkError::from)))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let unread = |reason: String| WriteFault::NoReadBack { place: self.host.place(), reason };
            let Some(read) = &self.config.read else {
                return Err(unread("the file does not say where the API lists it".to_owned()).into());
            };
            // What a JSON page can be read as.
            let is_known = |kind: &DataType| parse_type(&type_name(kind)).is_ok_and(|known| known == *kind);
            if let Some(field) = schema.fields().iter().find(|field| !is_known(field.data_type())) {
                let reason =
                    format!("column {} is a {}, which no page is read as", field.name(), field.data_type());
                return Err(unread(reason).into());
            }
            let config = SourceConfig {
                url: read.url.clone(),
                records: read.records.clone(),
                paging: read.paging.clone(),
                updated_since: None,
                immutable: false,
                schema: columns(&schema),
                unknown_fields: UnknownFields::Ignore,
                headers: std::collections::BTreeMap::new(),
                rate: self.config.rate,
                timeout: self.config.timeout.clone(),
                auth: self.config.auth.clone(),
                allow_private: self.config.allow_private,
                tls: self.config.tls.clone(),
                secrets: self.config.secrets.clone(),
            };
            let source = Pages::open(config).await.map_err(|error| unread(error.to_string()))?;
            let source: Arc<dyn Source> = Arc::new(source);
            Ok(source)
        })
    }

    fn looks(&self) -> bool {
        self.plan.probe.is_some()
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        Box::pin(async move {
            // Before anything is announced: what may have been sent is better not sent at all.
            self.host.reach().await?;
            let sender: Box<dyn Sender> = Box::new(Poster {
                host: Arc::clone(&self.host),
                plan: Arc::clone(&self.plan),
                concurrency: usize::from(self.concurrency),
            });
            Ok(sender)
        })
    }
}

fn columns(schema: &Schema) -> Columns {
    Columns(schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect())
}
