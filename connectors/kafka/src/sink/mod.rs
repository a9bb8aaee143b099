//! The sink: records, positions and dead letters in one transaction per split.

pub(crate) mod desk;
mod pen;
mod plan;
mod state;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::columns::Columns;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::message::UnknownFields;
use hapax_engine::sink::{
    CoCommit, CoCommitSink, CommitSize, Destination, Keys, Shape, Sink, Tenure, Traits,
};
use hapax_engine::source::{Nothing, Source};
use hapax_protocol::guarantee::{Durability, Effect, Fencing};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};
use rdkafka::admin::{NewTopic, TopicReplication};

use crate::client::Cluster;
use crate::codes;
use crate::config::{Format, Isolation, Metadata, SinkConfig, SinkFormat, SourceConfig};
use crate::fault::{ClusterFault, WriteFault};
use crate::source::{Kafka, Offsets};
use desk::{Desk, Far};
use pen::Pen;
use plan::Plan;
use state::{Entry, LeaseRow};
use writer::SplitWriter;

/// How much belongs into one commit.
const COMMIT: CommitSize =
    CommitSize { records_max: 500_000, bytes_max: 32 * 1024 * 1024, interval_ms: 1_000 };

/// How often a member of a group applies for the lease.
const JOINS_MAX: u64 = 10;

/// How long a message may be where the topic does not say.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// What this rests on.
const READERS: &str = "readers use isolation.level=read_committed, the brokers keep what they acknowledged (topics with \
     several copies, and min.insync.replicas of at least 2), and no request to end a transaction arrives later \
     than the answer to its repetition (the client has no KIP-890: such a request could end the next transaction of the \
     same producer before it is whole)";

/// A topic that records are written to, by one pipeline. Touches nothing before it is prepared or asked for the lease.
pub fn open(config: SinkConfig, name: &PipelineName) -> Result<Sink, SinkError> {
    with_offsets(config, name, None)
}

/// As [`open`], and the offsets of the source's group go into the transactions.
pub(crate) fn with_offsets(
    config: SinkConfig,
    name: &PipelineName,
    offsets: Option<Arc<Offsets>>,
) -> Result<Sink, SinkError> {
    if config.topic.is_empty() {
        return Err(WriteFault::Config("`topic` is empty").into());
    }
    let cluster = Cluster::read(&config.brokers, config.security.as_ref(), &config.options)?;
    let state = config.state.clone().unwrap_or_else(|| format!("_hapax.{name}"));
    if state == config.topic {
        return Err(WriteFault::Config("`state` and `topic` are the same").into());
    }
    let desk = Desk::new(cluster, state)?;
    Ok(Sink::CoCommit(Arc::new(Handle(Arc::new(Topic { config, desk, offsets, plan: Mutex::new(None) })))))
}

/// A topic that is written, and the one with the state.
pub(crate) struct Topic {
    config: SinkConfig,
    desk: Desk,
    /// Offsets of the source's group, where it is in this cluster.
    offsets: Option<Arc<Offsets>>,
    plan: Mutex<Option<Arc<Plan>>>,
}

impl Topic {
    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The settings of a producer of records.
    fn producing(&self) -> Vec<(&'static str, &'static str)> {
        vec![("compression.type", self.config.compression.word()), ("message.max.bytes", "1000000000")]
    }

    async fn is_there(&self) -> Result<bool, SinkError> {
        let topics = self.desk.cluster.topics(self.desk.looker(), Some(&self.config.topic)).await?;
        Ok(topics.contains_key(&self.config.topic))
    }

    /// What a topic is set to, as far as one may look: how long a message may be, and how many brokers must have it.
    async fn limits(&self, topic: &str) -> Result<(usize, Option<u32>), SinkError> {
        let settings = self.desk.cluster.settings(&[topic]).await?.into_iter().next().flatten();
        let get = |key: &str| settings.as_ref().and_then(|settings| settings.get(key));
        let bytes = get("max.message.bytes").and_then(|max| max.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX);
        Ok((bytes, get("min.insync.replicas").and_then(|min| min.parse().ok())))
    }

    async fn message_bytes_max(&self, is_there: bool) -> Result<usize, SinkError> {
        Ok(if is_there { self.limits(&self.config.topic).await?.0 } else { MESSAGE_BYTES_MAX })
    }

    fn missing(&self) -> ClusterFault {
        ClusterFault::NoTopic {
            place: self.desk.cluster.place().to_owned(),
            topic: self.config.topic.clone(),
        }
    }

    /// The columns that a message has beside its value, as a source names them. `None` if they cannot be read back.
    fn beside(&self, schema: &SchemaRef) -> Option<Vec<Metadata>> {
        let all = [Metadata::Key, Metadata::KeyBytes, Metadata::Deleted];
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let beside = names.filter(|name| name.starts_with('_'));
        beside.map(|name| all.into_iter().find(|metadata| metadata.name() == name)).collect()
    }
}

struct Handle(Arc<Topic>);

impl Handle {
    async fn look(&self, shape: &Shape) -> Result<Vec<String>, SinkError> {
        let topic = &self.0;
        let is_there = topic.is_there().await?;
        let mut lines = Vec::new();
        match (&topic.config.create, is_there) {
            (None, false) => return Err(topic.missing().into()),
            (Some(create), false) => {
                let (name, count) = (&topic.config.topic, create.partitions);
                lines.push(format!("create the topic {name} with {count} partitions"));
            }
            (_, true) => {}
        }
        let plan = Plan::make(&topic.config, shape, topic.message_bytes_max(is_there).await?)?;
        lines.push(plan.words());
        if let Some(offsets) = &topic.offsets {
            lines.push(format!(
                "publish offsets to the group {} in the transaction of the records",
                offsets.group()
            ));
        }
        let has_state = topic.desk.exists().await?;
        if !has_state {
            lines.push(format!("create the topic {} for positions and dead letters", topic.desk.topic));
        }
        let there = [(&topic.config.topic, is_there), (&topic.desk.topic, has_state)];
        for (name, _) in there.into_iter().filter(|(_, is_there)| *is_there) {
            if topic.limits(name).await?.1.is_some_and(|min| min < 2) {
                lines.push(format!(
                    "{name} has min.insync.replicas=1: a broker that loses power may forget what it acknowledged"
                ));
            }
        }
        Ok(lines)
    }

    async fn make_ready(&self, shape: &Shape) -> Result<(), SinkError> {
        let topic = &self.0;
        if !topic.is_there().await? {
            let create = topic.config.create.ok_or_else(|| topic.missing())?;
            let replication = TopicReplication::Fixed(create.replication.unwrap_or(-1));
            let new = NewTopic::new(&topic.config.topic, create.partitions, replication);
            desk::create(&topic.desk.cluster, topic.desk.looker(), &new).await?;
        }
        let plan = Plan::make(&topic.config, shape, topic.message_bytes_max(true).await?)?;
        topic.desk.make().await?;
        *topic.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        Ok(())
    }

    async fn give_lease(&self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        let desk = &self.0.desk;
        desk.make().await?;
        // Of two that apply at once one is fenced here, and has got nothing.
        let pen = Pen::take(&desk.cluster, (&desk.topic, &desk.name_of_lease()), &[]).await?;
        let seen = desk.look(Far::End).await?;
        let stored = seen.view.lease.clone();
        if stored.as_ref().is_some_and(|lease| lease.definition != applicant.definition)
            && seen.view.has_positions()
        {
            let (pipeline, state) = (applicant.pipeline.to_string(), desk.topic.clone());
            return Err(WriteFault::OtherDefinition { pipeline, state }.into());
        }
        let held = seen.view.token();
        drop(seen);
        let is_ours =
            |lease: &LeaseRow| lease.holder == applicant.holder && lease.definition == applicant.definition;
        let stays = tenure == Tenure::Group && stored.as_ref().is_some_and(is_ours);
        let token = if stays { held } else { held.next() };
        let row =
            LeaseRow { token, holder: applicant.holder.clone(), definition: applicant.definition.clone() };
        let written = async {
            pen.begin()?;
            desk.send(&pen, &[Entry::lease(&row)]).await?;
            pen.flush().await?;
            pen.commit().await
        };
        match written.await.map_err(|torn| pen.cause(torn)) {
            // It is looked at again before anything is written under it.
            Ok(()) => Ok(Lease { pipeline: applicant.pipeline.clone(), token }),
            // Another member of the group may have been faster; of two runs the later has the lease.
            Err(torn) if torn.is_lost_to_another() => {
                Err(WriteFault::LeaseContested { pipeline: applicant.pipeline.to_string() }.into())
            }
            Err(torn) => Err(pen.fault("acquiring the lease", torn.0).into()),
        }
    }

    /// What the topic with the state says; nothing before there is one.
    async fn seen<T>(&self, ask: impl FnOnce(&state::View) -> T) -> Result<Option<T>, SinkError> {
        let desk = &self.0.desk;
        if !desk.is_there().await? {
            return Ok(None);
        }
        let seen = desk.look(Far::Soon).await?;
        Ok(Some(ask(&seen.view)))
    }

    async fn read_all(&self, schema: SchemaRef) -> Result<Arc<dyn Source>, SinkError> {
        let topic = &self.0;
        if !topic.is_there().await? {
            return Ok(Arc::new(Nothing(schema)));
        }
        let config = &topic.config;
        let metadata =
            topic.beside(&schema).ok_or(WriteFault::Config("its keys cannot be read back as they were"))?;
        let source = SourceConfig {
            brokers: config.brokers.clone(),
            topic: Some(config.topic.clone()),
            topics: None,
            pattern: None,
            partitions: None,
            format: match config.format {
                SinkFormat::Json => Format::Json,
                SinkFormat::Raw => Format::Raw,
            },
            schema: None::<Columns>,
            unknown_fields: UnknownFields::Ignore,
            registry: None,
            schema_id: None,
            metadata,
            isolation: Isolation::ReadCommitted,
            group: None,
            accept_gap: Default::default(),
            security: config.security.clone(),
            options: config.options.clone(),
        };
        let source = Kafka::with_schema(source, schema).await;
        Ok(Arc::new(source.map_err(|error| SinkError { kind: SinkErrorKind::Stop, fault: error.fault })?))
    }
}

impl Destination for Handle {
    fn traits(&self) -> Traits {
        Traits {
            effect: Effect::Insert,
            replaces: false,
            fencing: Fencing::Token,
            // Records and positions are in partitions of their own: brokers that forget may forget one of them.
            durability: Durability::Durable,
            readers: Some(READERS.to_owned()),
            ledger: None,
        }
    }

    fn keys(&self) -> Keys {
        Keys::Name
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(self.look(shape))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(self.make_ready(shape))
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.give_lease(applicant, Tenure::Sole))
    }

    /// Members that apply at once fence each other: each tries again until it is alone.
    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(async move {
            for attempt in 1..=JOINS_MAX {
                match self.give_lease(applicant, Tenure::Group).await {
                    Err(error) if error.fault.code() == codes::FENCED => {
                        // Each at a time of its own.
                        let own = u64::from(std::process::id() % 50);
                        tokio::time::sleep(Duration::from_millis(own.saturating_mul(attempt))).await;
                    }
                    other => return other,
                }
            }
            self.give_lease(applicant, Tenure::Group).await
        })
    }

    /// Each commit is visible when it is made.
    fn finish<'a>(&'a self, _lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn standings<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move { Ok(self.seen(state::View::standings).await?.unwrap_or_default()) })
    }

    fn dead_letters<'a>(
        &'a self,
        _: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(
            async move { Ok(self.seen(|view| view.dead_letters(letters_max)).await?.unwrap_or_default()) },
        )
    }

    fn settled_letters<'a>(
        &'a self,
        _: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(
            async move { Ok(self.seen(|view| view.settled_letters(letters_max)).await?.unwrap_or_default()) },
        )
    }

    fn remembered<'a>(
        &'a self,
        _: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            let ask = |view: &state::View| places.iter().map(|place| view.remembered(place)).collect();
            let nothing = || places.iter().map(|_| Remembered::default()).collect();
            Ok(self.seen(ask).await?.unwrap_or_else(nothing))
        })
    }

    fn claimant<'a>(&'a self, _: &'a PipelineName, _: &'a RecordId) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A transaction is over or never was.
    fn unfinished<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(self.read_all(schema))
    }
}

impl CoCommitSink for Handle {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError> {
        let writer: Box<dyn CoCommit> = Box::new(SplitWriter::new(Arc::clone(&self.0), split.clone()));
        Box::pin(std::future::ready(Ok(writer)))
    }
}
