//! The sink: records, positions, dead letters and the ledger in one transaction.

mod bind;
mod desk;
mod history;
mod ledger;
mod plan;
mod tables;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::{
    Append, AppendSink, CoCommit, CoCommitSink, CommitSize, Destination, Shape, Sink, Tenure, Traits,
};
use hapax_engine::source::{Nothing, Source};
use hapax_protocol::guarantee::{Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{SplitId, Standing};

use crate::config::{Read, SinkConfig, SourceConfig, Write};
use crate::connection::{self, aside};
use crate::fault::{DatabaseFault, WriteFault};
use crate::source::Sqlite;
use crate::table::Table;
use desk::{Desk, Seat};
use plan::Plan;
use writer::SplitWriter;

/// How much belongs into one commit.
const COMMIT: CommitSize =
    CommitSize { records_max: 500_000, bytes_max: 32 * 1024 * 1024, interval_ms: 1_000 };

/// A database that records are written to. Touches nothing before it is prepared or asked for the lease.
pub async fn open(config: SinkConfig) -> Result<Sink, SinkError> {
    if config.table.is_empty() {
        return Err(WriteFault::Config("`table` is empty").into());
    }
    let positions = config.positions.unwrap_or(true);
    let handle = Arc::new(Handle(Arc::new(Database::new(config, positions)?)));
    Ok(if positions { Sink::CoCommit(handle) } else { Sink::Append(handle) })
}

/// A database that keeps positions, claims and dead letters for a destination that keeps none. It has no table and is
/// given no records. Touches nothing before it is prepared or asked for the lease.
pub fn keeper(path: &Path) -> Result<Arc<dyn CoCommitSink>, SinkError> {
    let config =
        SinkConfig { path: path.to_owned(), table: String::new(), write: Write::Append, positions: None };
    Ok(Arc::new(Handle(Arc::new(Database::new(config, true)?))))
}

/// One database file with the table that is written.
pub(crate) struct Database {
    config: SinkConfig,
    /// Whether `_hapax_*` tables are kept.
    positions: bool,
    /// SQLite has one writer: so has this process. Held from the first write of a commit to its end.
    desk: Arc<tokio::sync::Mutex<Desk>>,
    plan: Mutex<Option<Arc<Plan>>>,
}

impl Database {
    fn new(config: SinkConfig, positions: bool) -> Result<Self, SinkError> {
        let path = config.path.as_os_str();
        if path.is_empty() || path == ":memory:" {
            return Err(WriteFault::Config("`path` must name a file").into());
        }
        let desk = Arc::new(tokio::sync::Mutex::new(Desk::new(&config.path)));
        Ok(Self { config, positions, desk, plan: Mutex::new(None) })
    }

    /// Whether it only keeps what another destination does not: it has no table.
    fn is_keeper(&self) -> bool {
        self.config.table.is_empty()
    }

    fn path(&self) -> &Path {
        &self.config.path
    }

    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Works at the desk, outside any commit of a writer.
    async fn at_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut desk = Seat::wait(&self.desk).await;
        aside(self.path(), move || work(&mut desk)).await?
    }

    /// Reads, beside whoever writes; `None` if there is no file yet.
    async fn beside<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<Option<T>, SinkError> {
        let path = self.path().to_owned();
        let read = aside(self.path(), move || {
            if !path.exists() {
                return Ok(None);
            }
            let connection = connection::reading(&path)?;
            work(&connection).map(Some).map_err(|source| DatabaseFault::of(&path, doing, source))
        });
        Ok(read.await??)
    }
}

struct Handle(Arc<Database>);

impl Handle {
    async fn plan_for(&self, shape: &Shape) -> Result<Vec<String>, SinkError> {
        let Self(database) = self;
        connection::creatable(database.path())?;
        let name = database.config.table.clone();
        let found = database.beside("looking at the table", move |connection| {
            Ok((Table::load(connection, &name)?, tables::missing(connection)?))
        });
        let found = found.await?;
        let mut lines = Vec::new();
        if found.is_none() {
            lines.push(format!("create the database {}", database.path().display()));
        }
        let (table, missing) = found.unwrap_or_else(|| (None, tables::NAMES.to_vec()));
        if database.is_keeper() {
            lines.push(format!("keep positions, claims and dead letters in {}", database.path().display()));
            return Ok(lines);
        }
        lines.extend(Plan::make(&database.config, shape, table.as_ref())?.words);
        if database.positions && !missing.is_empty() {
            lines.push(format!("create the tables {} in the same database", missing.join(", ")));
        }
        Ok(lines)
    }

    async fn make_ready(&self, shape: &Shape) -> Result<(), SinkError> {
        let Self(database) = self;
        if database.is_keeper() {
            return database.at_desk(Desk::prepare_keeper).await;
        }
        let (config, shape, positions) = (database.config.clone(), shape.clone(), database.positions);
        let plan = database.at_desk(move |desk| desk.prepare(&config, &shape, positions)).await?;
        *database.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        Ok(())
    }

    async fn lease_for(&self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        let applicant = applicant.clone();
        if !self.0.positions {
            return Ok(Lease { pipeline: applicant.pipeline, token: FencingToken::NOBODY.next() });
        }
        self.0.at_desk(move |desk| desk.acquire(&applicant, tenure)).await
    }
}

impl Destination for Handle {
    fn traits(&self) -> Traits {
        let Self(database) = self;
        let effect = match database.config.write {
            Write::Append => Effect::Insert,
            Write::Upsert | Write::Ignore => Effect::ByKey,
        };
        let ledger = LedgerFacts {
            place: LedgerPlace::InsideCommit,
            retention: Retention::Unbounded,
            in_doubt: InDoubt::Resend,
        };
        Traits {
            effect,
            replaces: database.config.write == Write::Upsert,
            fencing: if database.positions { Fencing::Token } else { Fencing::None },
            durability: Durability::Durable,
            readers: None,
            ledger: database.positions.then_some(ledger),
        }
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(self.plan_for(shape))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(self.make_ready(shape))
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.lease_for(applicant, Tenure::Sole))
    }

    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(self.lease_for(applicant, Tenure::Group))
    }

    fn finish<'a>(&'a self, _lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(self.0.at_desk(|desk| {
            desk.fold_log();
            Ok(())
        }))
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            if !self.0.positions {
                return Ok(Vec::new());
            }
            let pipeline = pipeline.clone();
            let read = self
                .0
                .beside("reading positions", move |connection| tables::standings(connection, &pipeline));
            Ok(read.await?.unwrap_or_default())
        })
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async move {
            if !self.0.positions {
                return Ok(Vec::new());
            }
            let pipeline = pipeline.clone();
            let read = self.0.beside("reading dead letters", move |connection| {
                tables::dead_letters(connection, &pipeline, letters_max)
            });
            Ok(read.await?.unwrap_or_default())
        })
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async move {
            let pipeline = pipeline.clone();
            let read = self.0.beside("reading settled letters", move |connection| {
                history::settled_letters(connection, &pipeline, letters_max)
            });
            Ok(read.await?.unwrap_or_default())
        })
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            let (pipeline, asked) = (pipeline.clone(), places.to_vec());
            let read = self.0.beside("reading the history", move |connection| {
                history::remembered(connection, &pipeline, &asked)
            });
            let nothing = || places.iter().map(|_| Remembered::default()).collect();
            Ok(read.await?.unwrap_or_else(nothing))
        })
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move {
            let (path, pipeline, id) = (self.0.path().to_owned(), pipeline.clone(), *id);
            let found = aside(self.0.path(), move || match path.exists() {
                true => ledger::claimant(connection::reading(&path)?, &path, &pipeline, &id),
                false => Ok(None),
            });
            found.await?
        })
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        Box::pin(async move {
            let (path, pipeline) = (self.0.path().to_owned(), pipeline.clone());
            let held = aside(self.0.path(), move || match path.exists() {
                true => ledger::holds(connection::reading(&path)?, &path, &pipeline),
                false => Ok(None),
            });
            held.await?
        })
    }

    /// A transaction is over or never was.
    fn unfinished<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            let name = self.0.config.table.clone();
            let found =
                self.0.beside("looking at the table", move |connection| Table::load(connection, &name));
            if found.await?.flatten().is_none() {
                let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
                return Ok(nothing);
            }
            let config = SourceConfig {
                path: self.0.config.path.clone(),
                table: Some(self.0.config.table.clone()),
                query: None,
                read: Read::Snapshot,
                cursor: None,
                schema: None,
            };
            let source = Sqlite::with_schema(config, schema).await;
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
