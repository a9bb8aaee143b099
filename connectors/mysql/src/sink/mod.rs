//! The sink: records, positions, dead letters and the ledger in one transaction.

pub(crate) mod desk;
mod history;
mod insert;
mod ledger;
mod plan;
mod tables;
mod values;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::{CoCommit, CoCommitSink, CommitSize, Destination, Shape, Sink, Tenure, Traits};
use hapax_engine::source::{Nothing, Source};
use hapax_protocol::guarantee::{
    Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Retention, Window,
};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};

use mysql_async::prelude::Queryable;
use mysql_async::{Error, ServerError};

use crate::client::{Address, Session};
use crate::config::{Read, SinkConfig, SourceConfig, Write};
use crate::fault::WriteFault;
use crate::source::Mysql;
use crate::table::Table;
use desk::Desks;
use plan::Plan;
use tables::Application;
use writer::SplitWriter;

/// How much belongs into one commit.
const COMMIT: CommitSize =
    CommitSize { records_max: 500_000, bytes_max: 32 * 1024 * 1024, interval_ms: 1_000 };

/// As soon as there is something: each batch has a transaction of its own already.
const JOINT: CommitSize = CommitSize { records_max: 1, bytes_max: 1, interval_ms: 1 };

/// A table that records are written to. Touches nothing before it is prepared or asked for the lease.
pub async fn open(config: SinkConfig) -> Result<Sink, SinkError> {
    Ok(Database::of(config, None)?.sink())
}

/// One database with the table that is written.
pub(crate) struct Database {
    config: SinkConfig,
    address: Address,
    /// How long the ledger remembers; `None` for ever.
    retention: Option<Window>,
    plan: Mutex<Option<Arc<Plan>>>,
    /// Where readers leave their transactions, if they do.
    desks: Option<Desks>,
}

impl Database {
    /// Connects to nothing.
    pub(crate) fn of(config: SinkConfig, desks: Option<Desks>) -> Result<Arc<Self>, SinkError> {
        if config.table.is_empty() {
            return Err(WriteFault::Config("`table` is empty").into());
        }
        let address = Address::read(&config.url)?;
        let retention = match config.ledger_retention.as_deref().map(Window::parse) {
            None => None,
            Some(Some(window)) => Some(window),
            Some(None) => {
                return Err(WriteFault::Config("`ledger_retention` is a length of time: 12h, 30d").into());
            }
        };
        Ok(Arc::new(Self { config, address, retention, plan: Mutex::new(None), desks }))
    }

    pub(crate) fn sink(self: Arc<Self>) -> Sink {
        Sink::CoCommit(Arc::new(Handle(self)))
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection to read with; `None` before there is anything of Hapax to read.
    async fn beside(&self) -> Result<Option<Session>, SinkError> {
        let mut session = self.address.connect().await?;
        let missing = tables::missing(&mut session).await?;
        Ok(missing.is_empty().then_some(session))
    }
}

/// What is assumed where the file accepts any collation.
const ACCEPTED: &str = "the collation of the table's key tells all keys apart that come (one that ends in _ci takes `a` and `A` for one)";

/// How often a table is made ready, where others alter it meanwhile.
const PREPARATIONS_MAX: usize = 3;

/// There is a column of this name.
const DUPLICATE_COLUMN: u16 = 1060;

struct Handle(Arc<Database>);

impl Handle {
    async fn plan_for(&self, session: &mut Session, shape: &Shape) -> Result<Plan, SinkError> {
        let config = &self.0.config;
        let table = Table::load(session, &config.table).await?;
        Ok(Plan::make(config, shape, &session.server, table.as_ref())?)
    }

    async fn make_ready(&self, shape: &Shape) -> Result<(), SinkError> {
        let mut session = self.0.address.connect().await?;
        let mut plan = self.plan_for(&mut session, shape).await?;
        for _ in 0..PREPARATIONS_MAX {
            let Some(statement) = &plan.prepare else { break };
            match session.connection.query_drop(statement).await {
                // Somebody else was faster.
                Ok(()) | Err(Error::Server(ServerError { code: DUPLICATE_COLUMN, .. })) => {}
                Err(source) => return Err(session.fault("making the table ready", source).into()),
            }
            // Somebody else may have made another.
            plan = self.plan_for(&mut session, shape).await?;
        }
        if plan.prepare.is_some() {
            let what = "others alter it all the time".to_owned();
            return Err(WriteFault::TableAltered { table: plan.table, what }.into());
        }
        tables::create(&mut session).await?;
        if self.0.retention.is_some() {
            ledger::index_by_age(&mut session).await?;
        }
        *self.0.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        Ok(())
    }

    async fn give_lease(&self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        let mut session = self.0.address.connect().await?;
        tables::create(&mut session).await?;
        session.say("acquiring the lease", "START TRANSACTION").await?;
        match tables::acquire(&mut session, applicant, tenure).await? {
            Application::Granted(lease) => {
                session.say("acquiring the lease", "COMMIT").await?;
                Ok(lease)
            }
            Application::OtherDefinition => {
                session.say("acquiring the lease", "ROLLBACK").await?;
                let place = session.place().to_owned();
                Err(WriteFault::OtherDefinition { pipeline: applicant.pipeline.to_string(), place }.into())
            }
        }
    }
}

impl Destination for Handle {
    fn traits(&self) -> Traits {
        let write = self.0.config.write;
        Traits {
            effect: if write == Write::Append { Effect::Insert } else { Effect::ByKey },
            replaces: write == Write::Upsert,
            fencing: Fencing::Token,
            durability: Durability::Durable,
            readers: (self.0.config.accept_collation && write != Write::Append).then(|| ACCEPTED.to_owned()),
            ledger: Some(LedgerFacts {
                place: LedgerPlace::InsideCommit,
                retention: self.0.retention.map_or(Retention::Unbounded, Retention::For),
                in_doubt: InDoubt::Resend,
            }),
        }
    }

    fn commit_size(&self) -> CommitSize {
        if self.0.desks.is_some() { JOINT } else { COMMIT }
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move {
            let mut session = self.0.address.connect().await?;
            let mut lines = self.plan_for(&mut session, shape).await?.words;
            let missing = tables::missing(&mut session).await?;
            if !missing.is_empty() {
                lines.push(format!("create the tables {} in the same database", missing.join(", ")));
            }
            Ok(lines)
        })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(self.make_ready(shape))
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.give_lease(applicant, Tenure::Sole))
    }

    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.give_lease(applicant, Tenure::Group))
    }

    /// Each commit is visible when it is made: what is left to do is to forget what is old.
    fn finish<'a>(&'a self, lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let Some(retention) = self.0.retention else { return Ok(()) };
            let mut session = self.0.address.connect().await?;
            while ledger::forget(&mut session, &lease.pipeline, retention).await? == ledger::FORGOTTEN_MAX {}
            Ok(())
        })
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            let Some(mut session) = self.0.beside().await? else { return Ok(Vec::new()) };
            Ok(tables::standings(&mut session, pipeline).await?)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async move {
            let Some(mut session) = self.0.beside().await? else { return Ok(Vec::new()) };
            Ok(tables::dead_letters(&mut session, pipeline, letters_max).await?)
        })
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async move {
            let Some(mut session) = self.0.beside().await? else { return Ok(Vec::new()) };
            Ok(history::settled_letters(&mut session, pipeline, letters_max).await?)
        })
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            match self.0.beside().await? {
                Some(mut session) => Ok(history::remembered(&mut session, pipeline, places).await?),
                None => Ok(places.iter().map(|_| Remembered::default()).collect()),
            }
        })
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move {
            let Some(mut session) = self.0.beside().await? else { return Ok(None) };
            Ok(ledger::claimant(&mut session, pipeline, id).await?)
        })
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        Box::pin(async move {
            let Some(mut session) = self.0.beside().await? else { return Ok(None) };
            Ok(ledger::holds(&mut session, pipeline).await?)
        })
    }

    /// A transaction is over or never was.
    fn unfinished<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let config = &self.0.config;
            let mut session = self.0.address.connect().await?;
            if Table::load(&mut session, &config.table).await?.is_none() {
                let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
                return Ok(nothing);
            }
            let config = SourceConfig {
                url: config.url.clone(),
                table: Some(config.table.clone()),
                query: None,
                read: Read::Snapshot,
                cursor: None,
                cursor_set_by: None,
                lateness: None,
                mark: None,
                mark_from: None,
                mark_to: None,
                schema: None,
                poll_ms: None,
            };
            let source = Mysql::with_schema(config, schema).await;
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
