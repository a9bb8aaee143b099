//! The sink: records, positions, dead letters and the ledger in one transaction.

mod declared;
pub(crate) mod desk;
mod encode;
mod history;
mod ledger;
mod load;
mod plan;
mod privilege;
mod tables;
mod way;
mod writer;
mod written;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::{
    Append, AppendSink, CoCommit, CoCommitSink, CommitSize, Destination, Shape, Sink, Tenure, Traits,
};
use hapax_engine::source::{Nothing, Source};
use hapax_engine::wire::WireFormat;
use hapax_protocol::guarantee::{
    Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Retention, Window,
};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};
use tokio::sync::OnceCell;

use crate::client::{Database, Session};
use crate::column::wire;
use crate::config::{SinkConfig, Write};
use crate::fault::{ServerFault, WriteFault};
use crate::name::TableName;
use crate::source::Postgres;
use crate::source_config::SourceConfig;
use crate::table::Table;
use declared::Known;
use desk::Desks;
use plan::Plan;
use tables::{Application, Tables};
use writer::SplitWriter;
use written::Written;

/// How much belongs into one commit.
const COMMIT: CommitSize =
    CommitSize { records_max: 5_000_000, bytes_max: 512 * 1024 * 1024, interval_ms: 1_000 };

/// As soon as there is something: each batch has a transaction of its own already.
const JOINT: CommitSize = CommitSize { records_max: 1, bytes_max: 1, interval_ms: 1 };

/// How many identities that are too old are let go in one transaction of their own.
const PRUNED_MAX: u32 = 10_000;

/// How many sessions are kept for whoever needs one next.
const IDLE_MAX: usize = 16;

/// Two that make tables at once do it one after the other: a number of our own for PostgreSQL's advisory locks. Nobody
/// waits for ever for one who stalled in between.
const ONE_AT_A_TIME: &str = "BEGIN; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(5208493021)";

/// A table that records are written to. Connects to nothing before it is asked for something.
pub async fn open(config: SinkConfig) -> Result<Sink, SinkError> {
    Ok(Target::of(config, None)?.sink())
}

/// The name of the table of this sink, in another schema.
pub fn table_in(config: &SinkConfig, schema: &str) -> Result<String, SinkError> {
    let name = TableName::read(&config.table)?;
    Ok(TableName { schema: Some(schema.to_owned()), ..name }.sql())
}

/// One table of one database.
pub(crate) struct Target {
    config: SinkConfig,
    name: TableName,
    database: Database,
    tables: OnceCell<Tables>,
    plan: Mutex<Option<Arc<Plan>>>,
    /// What is written to, as it was when the plan was made.
    written: Mutex<Option<Arc<Written>>>,
    /// Sessions that nobody uses now, without a transaction.
    idle: Mutex<Vec<Session>>,
    /// How long the ledger remembers an identity, if not for ever.
    retention: Option<Window>,
    /// Where readers leave their transactions, if they do.
    desks: Option<Desks>,
}

impl Target {
    /// Connects to nothing.
    pub(crate) fn of(config: SinkConfig, desks: Option<Desks>) -> Result<Arc<Self>, SinkError> {
        if config.table.is_empty() {
            return Err(WriteFault::Config("`table` is empty").into());
        }
        let name = TableName::read(&config.table)?;
        for name in name.schema.iter().chain([&name.table]) {
            plan::short(name)?;
        }
        let no_time = WriteFault::Config("`ledger_retention` is a length of time: 12h, 30d");
        let retention = match config.ledger_retention.as_deref() {
            Some(text) => Some(Window::parse(text).ok_or(no_time)?),
            None => None,
        };
        let database = Database::new(&config.url)?;
        Ok(Arc::new(Self {
            config,
            name,
            database,
            tables: OnceCell::new(),
            plan: Mutex::new(None),
            written: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
            retention,
            desks,
        }))
    }

    pub(crate) fn sink(self: Arc<Self>) -> Sink {
        let keeps = self.keeps();
        let handle = Arc::new(Handle(self));
        if keeps { Sink::CoCommit(handle) } else { Sink::Append(handle) }
    }

    /// Whether `_hapax_*` tables are kept.
    fn keeps(&self) -> bool {
        self.config.positions.unwrap_or(true)
    }

    fn written(&self) -> Option<Arc<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session without a transaction.
    pub(crate) async fn session(&self) -> Result<Session, ServerFault> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if session.is_closed() => {}
                Some(session) => return Ok(session),
                None => return self.database.session().await,
            }
        }
    }

    /// Leaves a session without a transaction to whoever needs one next.
    pub(crate) fn leave(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !session.is_closed() && idle.len() < IDLE_MAX {
            idle.push(session);
        }
    }

    /// The tables of Hapax: in the schema of the table, or where it would be created.
    async fn tables(&self) -> Result<Tables, SinkError> {
        let tables = self.tables.get_or_try_init(async || {
            let session = self.session().await?;
            let schema = self.schema(&session).await.map_err(session.fault("looking for the table"))?;
            let Some(schema) = schema else {
                let schema = self.name.schema.clone().unwrap_or_else(|| "to create tables in".to_owned());
                let server = session.server().clone();
                return Err(SinkError::from(WriteFault::NoSchema { server, schema }));
            };
            self.leave(session);
            Ok(Tables { schema })
        });
        tables.await.cloned()
    }

    async fn schema(&self, session: &Session) -> Result<Option<String>, tokio_postgres::Error> {
        if let Some(schema) = &self.name.schema {
            let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname = $1";
            let row = session.query_opt(sql, &[schema]).await?;
            return row.map(|row| row.try_get(0)).transpose();
        }
        if let Some(table) = Table::load(session, &self.name).await? {
            return Ok(Some(table.schema));
        }
        session.query_one("SELECT current_schema()::text", &[]).await?.try_get(0)
    }

    /// The name of the table in SQL, whether it is there or not.
    fn full_name(&self, tables: &Tables) -> TableName {
        TableName { schema: Some(tables.schema.clone()), table: self.name.table.clone() }
    }

    async fn check(&self, shape: &Shape) -> Result<Vec<String>, SinkError> {
        let tables = self.tables().await?;
        let session = self.session().await?;
        let looked = session.fault("looking at the table");
        let name = self.full_name(&tables);
        let table = Table::load(&session, &name).await.map_err(&looked)?;
        let fields = shape.schema.fields().iter().map(AsRef::as_ref);
        let known = Known::look_up(&session, fields).await.map_err(&looked)?;
        let mut preparation = plan::prepare(&self.config, shape, &known, &name.sql(), table.as_ref())?;
        let missing = match self.keeps() {
            true => tables.missing(&session).await.map_err(&looked)?,
            false => Vec::new(),
        };
        let staged = match &table {
            Some(table) if preparation.statements.is_empty() => {
                Plan::make(&self.config, shape, &known, table)?.stage.is_some()
            }
            _ => self.config.write != Write::Append,
        };
        privilege::check(&session, &tables, table.as_ref(), &self.config, staged, !missing.is_empty())
            .await?;
        if !missing.is_empty() {
            preparation.words.push(format!("create the tables {} in the same schema", missing.join(", ")));
        }
        drop(looked);
        self.leave(session);
        Ok(preparation.words)
    }

    /// The bytes that the table takes as they are, or would if it were created now.
    async fn wire(&self, shape: &Shape) -> Result<Option<WireFormat>, SinkError> {
        let tables = self.tables().await?;
        let session = self.session().await?;
        let looked = session.fault("looking at the table");
        let table = Table::load(&session, &self.full_name(&tables)).await.map_err(&looked)?;
        let format = match table {
            Some(table) => {
                // A key that may be NULL has to be looked at.
                let by_key = self.config.write != Write::Append;
                let looked_at = |name: &String| table.column(name).is_none_or(|column| !column.not_null);
                let column = |field: &Arc<Field>| Some(&table.column(field.name())?.of);
                let types: Option<Vec<_>> = shape.schema.fields().iter().map(column).collect();
                types.filter(|_| !by_key || !shape.key.iter().any(looked_at)).and_then(wire)
            }
            None => {
                let fields = shape.schema.fields().iter().map(AsRef::as_ref);
                Known::look_up(&session, fields).await.map_err(&looked)?.wire(&shape.schema)
            }
        };
        drop(looked);
        self.leave(session);
        Ok(format)
    }

    async fn prepare(&self, shape: &Shape) -> Result<(), SinkError> {
        // Refuses what the privileges do not allow, with the statement that gives them.
        self.check(shape).await?;
        let tables = self.tables().await?;
        let session = self.session().await?;
        let made = session.fault("making the table ready");
        let name = self.full_name(&tables);
        let fields = shape.schema.fields().iter().map(AsRef::as_ref);
        let known = Known::look_up(&session, fields).await.map_err(&made)?;
        session.batch_execute(ONE_AT_A_TIME).await.map_err(&made)?;
        let table = Table::load(&session, &name).await.map_err(&made)?;
        let preparation = plan::prepare(&self.config, shape, &known, &name.sql(), table.as_ref())?;
        for statement in &preparation.statements {
            session.batch_execute(statement).await.map_err(&made)?;
        }
        if self.keeps() {
            tables.create(&session).await.map_err(&made)?;
        }
        if self.keeps() && self.retention.is_some() && !tables.finds_by_age(&session).await.map_err(&made)? {
            tables.index_by_age(&session).await.map_err(&made)?;
        }
        let none = || WriteFault::NoTable { table: name.sql() };
        let table = Table::load(&session, &name).await.map_err(&made)?.ok_or_else(none)?;
        let columns = shape.schema.fields().iter().map(|field| field.name().clone()).collect();
        // What is altered between this look and the plan is noticed at the first commit.
        let written = Written::look(&session, &table, columns).await.map_err(&made)?;
        let table = Table::load(&session, &name).await.map_err(&made)?.ok_or_else(none)?;
        let plan = Plan::make(&self.config, shape, &known, &table)?;
        session.batch_execute("COMMIT").await.map_err(&made)?;
        drop(made);
        self.leave(session);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(written));
        Ok(())
    }

    async fn acquire(&self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        if !self.keeps() {
            return Ok(Lease { pipeline: applicant.pipeline.clone(), token: FencingToken::NOBODY.next() });
        }
        let tables = self.tables().await?;
        let session = self.session().await?;
        let failed = session.fault("acquiring the lease");
        session.batch_execute(ONE_AT_A_TIME).await.map_err(&failed)?;
        tables.create(&session).await.map_err(&failed)?;
        match tables.acquire(&session, applicant, tenure).await.map_err(&failed)? {
            Application::Granted(lease) => {
                session.batch_execute("COMMIT").await.map_err(&failed)?;
                drop(failed);
                self.leave(session);
                Ok(lease)
            }
            Application::OtherDefinition => {
                let pipeline = applicant.pipeline.to_string();
                Err(WriteFault::OtherDefinition { pipeline, server: session.server().clone() }.into())
            }
        }
    }

    /// Lets identities go that are too old, step by step, each in a transaction of its own.
    async fn prune(&self, lease: &Lease) -> Result<(), SinkError> {
        let Some(retention) = self.retention.filter(|_| self.keeps()) else { return Ok(()) };
        let tables = self.tables().await?;
        let session = self.session().await?;
        let failed = session.fault("shortening the ledger");
        loop {
            let gone = tables.prune(&session, &lease.pipeline, retention, PRUNED_MAX).await;
            if gone.map_err(&failed)? < u64::from(PRUNED_MAX) {
                break;
            }
        }
        drop(failed);
        self.leave(session);
        Ok(())
    }

    async fn remembered(
        &self,
        pipeline: &PipelineName,
        places: &[Place],
    ) -> Result<Vec<Remembered>, SinkError> {
        let tables = self.tables().await?;
        let session = self.session().await?;
        let failed = session.fault("reading the history");
        // One picture of all tables, whoever commits meanwhile.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        session.batch_execute(begin).await.map_err(&failed)?;
        let remembered = tables.remembered(&session, pipeline, places).await.map_err(&failed)?;
        session.batch_execute("COMMIT").await.map_err(&failed)?;
        drop(failed);
        self.leave(session);
        Ok(remembered)
    }
}

struct Handle(Arc<Target>);

/// Asks the tables in a session of its own, and leaves that to the next.
macro_rules! ask {
    ($target:expr, $doing:literal, $method:ident, $($argument:expr),+) => {
        Box::pin(async move {
            let tables = $target.tables().await?;
            let session = $target.session().await?;
            let asked = tables.$method(&session, $($argument),+).await.map_err(session.fault($doing))?;
            $target.leave(session);
            Ok(asked)
        })
    };
}

impl Destination for Handle {
    fn traits(&self) -> Traits {
        let effect = match self.0.config.write {
            Write::Append => Effect::Insert,
            Write::Upsert | Write::Ignore => Effect::ByKey,
        };
        let ledger = LedgerFacts {
            place: LedgerPlace::InsideCommit,
            retention: self.0.retention.map_or(Retention::Unbounded, Retention::For),
            in_doubt: InDoubt::Resend,
        };
        Traits {
            effect,
            replaces: self.0.config.write == Write::Upsert,
            fencing: if self.0.keeps() { Fencing::Token } else { Fencing::None },
            durability: Durability::Durable,
            readers: None,
            ledger: self.0.keeps().then_some(ledger),
        }
    }

    fn commit_size(&self) -> CommitSize {
        if self.0.desks.is_some() { JOINT } else { COMMIT }
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(self.0.check(shape))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(self.0.prepare(shape))
    }

    fn wire<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Option<WireFormat>, SinkError> {
        Box::pin(self.0.wire(shape))
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.0.acquire(applicant, Tenure::Sole))
    }

    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.0.acquire(applicant, Tenure::Group))
    }

    /// Each commit is visible as it is made: only identities that are too old are left to let go.
    fn finish<'a>(&'a self, lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(self.0.prune(lease))
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        ask!(self.0, "reading positions", standings, pipeline)
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        ask!(self.0, "reading dead letters", dead_letters, pipeline, letters_max)
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        ask!(self.0, "reading settled letters", settled_letters, pipeline, letters_max)
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(self.0.remembered(pipeline, places))
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        ask!(self.0, "reading the ledger", claimant, pipeline, id)
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        ask!(self.0, "reading the ledger", ledger_holds, pipeline)
    }

    /// A transaction is over or never was.
    fn unfinished<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let session = self.0.session().await?;
            let table = Table::load(&session, &self.0.name).await;
            let is_there = table.map_err(session.fault("looking at the table"))?.is_some();
            self.0.leave(session);
            if !is_there {
                let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
                return Ok(nothing);
            }
            let SinkConfig { url, table, .. } = &self.0.config;
            let source = Postgres::with_schema(SourceConfig::of_table(url.clone(), table), schema).await;
            let source: Arc<dyn Source> = Arc::new(source.map_err(|error| SinkError {
                kind: hapax_engine::fault::SinkErrorKind::Stop,
                fault: error.fault,
            })?);
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

impl AppendSink for Handle {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Append>, SinkError> {
        let writer: Box<dyn Append> = Box::new(SplitWriter::new(Arc::clone(&self.0), split.clone()));
        Box::pin(std::future::ready(Ok(writer)))
    }
}
