//! The source: tables by row id or cursor, and queries.

mod cells;
mod letter;
mod plan;
mod position;
mod reader;
mod rows;

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::codes;
use crate::config::SourceConfig;
use crate::connection::{aside, reading};
use crate::fault::ReadFault;
use cells::Range;
use plan::{Failure, Plan, Walk};
use position::{Mark, words};
use reader::Reader;

/// A table or a query of a SQLite database.
pub struct Sqlite {
    config: Arc<SourceConfig>,
    plan: Arc<Plan>,
}

impl Sqlite {
    /// Opens it, with the columns and types that it has. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        Self::make(config, None).await
    }

    /// Opens it, to read these columns as these types.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        Self::make(config, Some(schema)).await
    }

    async fn make(config: SourceConfig, schema: Option<SchemaRef>) -> Result<Self, SourceError> {
        let config = Arc::new(config);
        let plan = on(&config, "opening it", {
            let config = Arc::clone(&config);
            move |connection| Plan::make(connection, &config, schema)
        });
        Ok(Self { plan: Arc::new(plan.await?), config })
    }

    async fn on<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection, &Plan) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, SourceError> {
        let plan = Arc::clone(&self.plan);
        on(&self.config, doing, move |connection| work(connection, &plan)).await
    }

    async fn list(&self) -> Result<Vec<Split>, SourceError> {
        let splits = self.on("listing splits", |connection, plan| match (plan.walk, &plan.rowid) {
            (Walk::RowIds { .. }, Some(rowid)) => Ok(cells::occupied(connection, plan, rowid)?),
            _ => Ok(vec![SplitId::new(plan.name.as_str())]),
        });
        Ok(splits.await?.into_iter().map(|id| Split { id, source_bytes: None }).collect())
    }

    async fn begin(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let foreign = || {
            SourceError::from(ReadFault::ForeignPosition { split: split.clone(), of: self.plan.name.clone() })
        };
        let range = match self.plan.walk {
            Walk::RowIds { .. } => cells::of_split(&self.plan, &split).ok_or_else(foreign)?,
            _ if split.as_str() == self.plan.name => Range::default(),
            _ => return Err(foreign()),
        };
        let mark = match &after {
            Some(position) => {
                Some(Mark::decode(position).filter(|mark| fits(mark, &self.plan)).ok_or_else(foreign)?)
            }
            None => None,
        };
        let (path, plan) = (self.config.path.clone(), Arc::clone(&self.plan));
        let (name, check) = (split.clone(), mark.clone());
        let connection = aside(&self.config.path, move || -> Result<Connection, SourceError> {
            let connection = reading(&path)?;
            if let Some(mark) = check {
                still_there(&connection, &plan, &name, &mark)
                    .map_err(|failure| failure.at(&path, "resuming"))?;
            }
            Ok(connection)
        });
        let shared = Arc::new(Mutex::new(connection.await??));
        let (config, plan) = (Arc::clone(&self.config), Arc::clone(&self.plan));
        Ok(Box::new(Reader { config, plan, split, range, shared, after, mark }))
    }
}

async fn on<T: Send + 'static>(
    config: &Arc<SourceConfig>,
    doing: &'static str,
    work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
) -> Result<T, SourceError> {
    let path = config.path.clone();
    let done = aside(&config.path, move || -> Result<T, SourceError> {
        let connection = reading(&path)?;
        work(&connection).map_err(|failure| failure.at(&path, doing))
    });
    done.await?
}

/// Whether a position can be one of this reading.
fn fits(mark: &Mark, plan: &Plan) -> bool {
    mark.key.len() == plan.keys.len() && mark.digest.is_some() == (plan.walk == Walk::RowIds { loose: true })
}

/// Refuses to go on where row ids may have come to name other rows.
fn still_there(connection: &Connection, plan: &Plan, split: &SplitId, mark: &Mark) -> Result<(), Failure> {
    if mark.digest.is_none() || reader::digest(connection, plan, mark.key.last())? == mark.digest {
        return Ok(());
    }
    let rowid = match mark.key.last() {
        Some(Value::Integer(rowid)) => *rowid,
        _ => 0,
    };
    Err(ReadFault::RowsMoved { split: split.clone(), rowid }.into())
}

/// What an incremental read cannot check.
const GROWS: &str = "each commit gives the rows it writes a greater cursor than any before (equal ones: a greater row id), and rows are not deleted";

/// What a query without a cursor cannot check.
const REPEATS: &str = "the query gives the same rows in the same order whenever it is asked, because it has no cursor to go on from";

/// What a snapshot cannot check.
const STAYS: &str = "rows behind the position stay as they were read: a later run moves only rows with greater keys (`read: incremental` follows changes, `hapax verify` finds those that were missed)";

impl Source for Sqlite {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            completeness: Completeness::Complete,
            // A query without a cursor has only the numbers of its rows, which a write may shift.
            replay: if self.plan.walk == Walk::Numbered { Replay::Unidentified } else { Replay::Exact },
            retention: Retention::Unbounded,
            order: if self.plan.incremental { Order::PerKey } else { Order::None },
            settle: Settle::Seek,
            condition: Some(match (self.plan.incremental, self.plan.walk) {
                (true, _) => GROWS,
                (false, Walk::Numbered) => REPEATS,
                (false, _) => STAYS,
            }),
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(self.list())
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(self.begin(split.clone(), after.cloned()))
    }

    fn describe(&self, position: &Position) -> String {
        let Some(mark) = Mark::decode(position) else {
            return format!("{position:?}, not a position of SQLite");
        };
        if mark.key.is_empty() {
            return format!("behind record {}", mark.ordinal);
        }
        let key: Vec<_> = self
            .plan
            .keys
            .iter()
            .zip(&mark.key)
            .map(|(name, value)| format!("{name} {}", words(value)))
            .collect();
        format!("behind record {}, {}", mark.ordinal, key.join(", "))
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::VALUE_MISFIT
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(self.on("reading a dead letter again", move |connection, plan| {
            letter::reread(connection, plan, &letter)
        }))
    }
}
