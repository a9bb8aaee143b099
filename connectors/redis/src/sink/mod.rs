//! The sink: records, positions, dead letters and the ledger in one script.

mod back;
mod history;
mod open;
mod plan;
mod state;
mod writer;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::{CoCommit, CoCommitSink, CommitSize, Destination, Shape, Sink, Tenure, Traits};
use hapax_engine::source::{Nothing, Source};
use hapax_protocol::guarantee::{Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};

use crate::client::{Address, Session, text};
use crate::config::{SinkConfig, SourceConfig, Write};
use crate::fault::{ServerFault, WriteFault};
use crate::server::Persistence;
use crate::source::Streams;
use plan::{Plan, Settings, kind, word};
use state::{Application, Keys};

pub(crate) use back::objects;
use writer::SplitWriter;

/// How much belongs into one commit: a script keeps everybody else waiting.
const COMMIT: CommitSize = CommitSize { records_max: 5_000, bytes_max: 4 * 1024 * 1024, interval_ms: 1_000 };

/// Keys that records are written to. Looks how the server keeps them, and changes nothing.
pub async fn open(config: SinkConfig) -> Result<Sink, SinkError> {
    let settings = Settings::read(&config)?;
    let address = Address::read(&config.url, config.tls.as_ref())?;
    let mut session = address.connect().await?;
    let persistence = session.persistence().await?;
    // A failover, or a power loss, sets a server back as a whole: positions go with the records.
    let durability = match persistence == Persistence::Always && session.server.is_alone() {
        true => Durability::Durable,
        false => Durability::WithPosition,
    };
    let (plan, looks_first) = (Mutex::new(None), AtomicBool::new(false));
    let store = Store { config, settings, address, persistence, durability, plan, looks_first };
    Ok(Sink::CoCommit(Arc::new(Handle(Arc::new(store)))))
}

/// One server with the keys that are written.
pub(crate) struct Store {
    config: SinkConfig,
    settings: Settings,
    address: Address,
    persistence: Persistence,
    durability: Durability,
    plan: Mutex<Option<Arc<Plan>>>,
    /// Whether keys are looked at before they are written, because one was found to be something else.
    looks_first: AtomicBool,
}

impl Store {
    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection to where a pipeline's keys are, and their names.
    async fn enter(&self, pipeline: &PipelineName) -> Result<(Session, Keys), SinkError> {
        let session = self.address.connect().await?;
        if !session.server.cluster {
            return Ok((session, Keys::new(&self.config.state, None, pipeline)));
        }
        let Some(tag) = self.settings.template.tag() else {
            let (place, template) = (session.place().to_owned(), self.config.key.clone());
            return Err(WriteFault::NoSharedSlot { place, template }.into());
        };
        let keys = Keys::new(&self.config.state, Some(tag), pipeline);
        Ok((self.address.connect_for(&keys.lease()).await?, keys))
    }

    /// Refuses a server that may forget a part of what it holds, or takes no writes.
    fn refuse_unfit(&self, session: &Session) -> Result<(), ServerFault> {
        let (place, server) = (session.place().to_owned(), &session.server);
        if !server.keeps_keys() {
            return Err(ServerFault::Evicts { place, policy: server.eviction.clone() });
        }
        if server.replica {
            return Err(ServerFault::ReadOnly { place });
        }
        Ok(())
    }
}

struct Handle(Arc<Store>);

impl Handle {
    /// The plan for a shape, and what there is to say of it.
    async fn look(&self, shape: &Shape) -> Result<(Plan, Vec<String>), SinkError> {
        let store = &self.0;
        let plan = Plan::make(&store.config, &store.settings, shape)?;
        // Any pipeline stands for this one: what is asked is where its keys would be.
        let mut session = store.address.connect().await?;
        if session.server.cluster {
            let Some(tag) = store.settings.template.tag() else {
                let (place, template) = (session.place().to_owned(), store.config.key.clone());
                return Err(WriteFault::NoSharedSlot { place, template }.into());
            };
            session = store.address.connect_for(&format!("{{{tag}}}")).await?;
        }
        store.refuse_unfit(&session)?;
        let (key, write) = (&store.config.key, word(plan.write));
        if plan.write == Write::Stream {
            let stream = store.settings.template.head();
            let found = session.ask("looking at the stream", redis::cmd("TYPE").arg(stream)).await?;
            let found = text(&found).unwrap_or_default();
            if found != "none" && found != kind(plan.write) {
                let (key, wanted) = (stream.to_owned(), kind(plan.write));
                return Err(WriteFault::WrongType { key, found, wanted }.into());
            }
        }
        let mut lines = vec![match plan.write {
            Write::Stream => format!("append each record to the stream {key}"),
            _ => format!("write each record to {key} ({write})"),
        }];
        lines.push(format!(
            "keep positions, dead letters and claims under {}:*, in the same database",
            store.config.state
        ));
        let words = store.persistence.words();
        lines.push(match store.durability {
            Durability::Durable => format!("a power loss takes {words}"),
            _ => format!(
                "a power loss takes {words}, records and positions together; a failover may take what its replica had \
                 not received: what the source has forgotten by then is lost"
            ),
        });
        Ok((plan, lines))
    }
}

impl Handle {
    async fn give_lease(&self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        let (mut session, keys) = self.0.enter(&applicant.pipeline).await?;
        self.0.refuse_unfit(&session)?;
        match state::acquire(&mut session, &keys, applicant, tenure).await? {
            Application::Granted(lease) => Ok(lease),
            Application::OtherDefinition => {
                let place = session.place().to_owned();
                Err(WriteFault::OtherDefinition { pipeline: applicant.pipeline.to_string(), place }.into())
            }
        }
    }
}

impl Destination for Handle {
    fn traits(&self) -> Traits {
        let (config, settings) = (&self.0.config, &self.0.settings);
        let is_stream = config.write == Write::Stream;
        let state = &config.state;
        let stay = match settings.ttl {
            Some(_) => " until their `ttl` is over",
            None => "",
        };
        let takes_over = match self.0.durability {
            Durability::Durable => {
                "; no replica takes over from the server, its `appendfsync` stays `always`, and its \
                 `no-appendfsync-on-rewrite` stays `no`"
            }
            Durability::WithPosition | Durability::MayForget => "",
        };
        Traits {
            effect: if is_stream { Effect::Insert } else { Effect::ByKey },
            replaces: !is_stream,
            fencing: Fencing::Token,
            durability: self.0.durability,
            readers: Some(format!(
                "nobody but Hapax writes or removes keys that begin with {state}:, and records stay where they were \
                 written{stay}{takes_over}"
            )),
            ledger: Some(LedgerFacts {
                place: LedgerPlace::InsideCommit,
                retention: settings.ledger,
                in_doubt: InDoubt::Resend,
            }),
        }
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move { Ok(self.look(shape).await?.1) })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let (plan, _) = self.look(shape).await?;
            *self.0.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
            Ok(())
        })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.give_lease(applicant, Tenure::Sole))
    }

    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.give_lease(applicant, Tenure::Group))
    }

    /// Each commit is visible when it is made.
    fn finish<'a>(&'a self, _lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(state::standings(&mut session, &keys).await?)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(state::dead_letters(&mut session, &keys, letters_max).await?)
        })
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(state::settled_letters(&mut session, &keys, letters_max).await?)
        })
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(history::remembered(&mut session, &keys, places).await?)
        })
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(state::claimant(&mut session, &keys, id).await?)
        })
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        Box::pin(async move {
            let (mut session, keys) = self.0.enter(pipeline).await?;
            Ok(state::ledger_holds(&mut session, &keys, self.0.settings.ledger).await?)
        })
    }

    /// A script is over or never was.
    fn unfinished<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let store = &self.0;
            if store.config.write != Write::Stream {
                return back::open(store, schema).await;
            }
            let stream = store.settings.template.head();
            let mut session = store.address.connect_for(stream).await?;
            let there = session.ask("looking at the stream", redis::cmd("EXISTS").arg(stream)).await?;
            if crate::client::number(&there) == Some(0) {
                let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
                return Ok(nothing);
            }
            let config = SourceConfig {
                url: store.config.url.clone(),
                tls: store.config.tls.clone(),
                stream: Some(store.settings.template.head().to_owned()),
                streams: None,
                fields: None,
                schema: None,
                id_column: None,
                accept_gap: None,
            };
            let source = Streams::with_schema(config, schema).await;
            let source: Arc<dyn Source> = Arc::new(
                source.map_err(|error| SinkError { kind: SinkErrorKind::Stop, fault: error.fault })?,
            );
            Ok(source)
        })
    }
}

impl CoCommitSink for Handle {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError> {
        let writer: Box<dyn CoCommit> = Box::new(SplitWriter::new(Arc::clone(&self.0), split.clone()));
        Box::pin(std::future::ready(Ok(writer)))
    }
}
