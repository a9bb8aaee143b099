//! The source: tables by key or cursor, and queries.

mod cells;
mod horizon;
mod letter;
mod marked;
mod plan;
mod poll;
mod position;
mod reader;
mod rows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Arrangement, Extent, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};

use crate::client::{Address, quoted};
use crate::codes;
use crate::config::SourceConfig;
use crate::fault::ReadFault;
use crate::sink::Database;
use crate::sink::desk::Seat;
use cells::Range;
use marked::{Side, Worker};
use plan::{Plan, Walk};
use position::{Mark, words};
use reader::Reader;

/// A table or a query of a MySQL or MariaDB database.
pub struct Mysql {
    address: Arc<Address>,
    plan: Arc<Plan>,
    /// The sink whose transactions mark the rows, where it writes to the same database.
    joint: Option<Arc<Database>>,
}

impl Mysql {
    /// Opens it, with the columns and types that it has. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        Self::make(config, None).await
    }

    /// Opens it, to read these columns as these types.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        Self::make(config, Some(schema)).await
    }

    async fn make(config: SourceConfig, schema: Option<SchemaRef>) -> Result<Self, SourceError> {
        let address = Address::read(&config.url)?;
        let address = Arc::new(address);
        let mut session = address.connect().await?;
        let plan = Arc::new(Plan::make(&mut session, &config, schema).await?);
        Ok(Self { address, plan, joint: None })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Statements that touch no row, and that only who may read and mark the rows may say; `None` if none are marked.
    pub(crate) fn marking_attempts(&self) -> Option<[String; 2]> {
        let marking = self.plan.marking.as_ref()?;
        let columns = self.plan.schema.fields().iter().map(|field| quoted(field.name()));
        let columns: Vec<_> = columns.chain(self.plan.keys.iter().map(|key| key.sql.clone())).collect();
        let from = &self.plan.from;
        Some([
            format!("SELECT {} FROM {from} WHERE false FOR UPDATE", columns.join(", ")),
            format!("UPDATE {from} SET {} WHERE false AND {}", marking.set, marking.waits),
        ])
    }

    /// Marks rows in the transactions of a sink from here on.
    pub(crate) fn join(&mut self, sink: Arc<Database>) {
        self.joint = Some(sink);
    }

    async fn list(&self) -> Result<Vec<Split>, SourceError> {
        let splits = match self.plan.walk {
            Walk::Ranges => cells::occupied(&mut self.address.connect().await?, &self.plan).await?,
            Walk::Marked => marked::splits(&self.plan),
            _ => vec![SplitId::new(self.plan.name.as_str())],
        };
        Ok(splits.into_iter().map(|id| Split { id, source_bytes: None }).collect())
    }

    fn begin(&self, split: SplitId, after: Option<Position>) -> Result<Box<dyn SplitReader>, SourceError> {
        let foreign = || {
            SourceError::from(ReadFault::ForeignPosition { split: split.clone(), of: self.plan.name.clone() })
        };
        let range = match self.plan.walk {
            Walk::Ranges => cells::of_split(&self.plan, &split).ok_or_else(foreign)?,
            Walk::Marked if marked::splits(&self.plan).contains(&split) => Range::default(),
            _ if split.as_str() == self.plan.name => Range::default(),
            _ => return Err(foreign()),
        };
        let mark = match &after {
            Some(position) => {
                // Rows that wait have no place behind others.
                let parts = if self.plan.walk == Walk::Marked { 0 } else { self.plan.keys.len() };
                let mark = Mark::decode(position).filter(|mark| mark.key.len() == parts);
                Some(mark.ok_or_else(foreign)?)
            }
            None => None,
        };
        let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
        if plan.walk == Walk::Marked {
            let ordinal = mark.map_or(0, |mark| mark.ordinal);
            let seat = self.joint.as_ref().and_then(|sink| Seat::take(sink, &split));
            let side = seat.map_or(Side::Own(address), Side::Joint);
            return Ok(Box::new(Worker::new(side, plan, split, after, ordinal)));
        }
        Ok(Box::new(Reader::new(address, plan, split, range, after, mark)))
    }
}

/// What an incremental read rests on where the database sets the cursor.
const SET_BY_DATABASE: &str = "the database sets the cursor to the time of the statement at each insert and update, no statement waits longer than a second between its start and its first row, the server's clock does not go back, and rows are not deleted";

/// What an incremental read rests on where a program sets the cursor.
const SET_BY_APPLICATION: &str =
    "the cursor is in UTC by a clock that agrees with the server's, and rows are not deleted";

/// What a query without a cursor, or a table without a key, cannot check.
const REPEATS: &str = "the query gives the same rows in the same order whenever it is asked, because it has no key to go on from";

/// What a mark cannot check.
const MARKED: &str = "nobody but Hapax marks a row that waits, and a row that is marked does not wait again";

/// What a snapshot cannot check.
const STAYS: &str = "rows behind the position stay as they were read: a later run moves only rows with greater keys (`read: incremental` follows changes, `hapax verify` finds those that were missed)";

impl Source for Mysql {
    fn facts(&self) -> SourceFacts {
        let lateness = self.plan.horizon.as_ref().map(|horizon| horizon.lateness);
        SourceFacts {
            // What may still come late is left alone until it is settled.
            completeness: match lateness.flatten() {
                Some(lateness) => Completeness::Late { lateness, lookback: lateness },
                None => Completeness::Complete,
            },
            // Without a key, or a place, there are only the numbers of rows, which a write may shift.
            replay: match self.plan.walk {
                Walk::Numbered | Walk::Marked => Replay::Unidentified,
                _ => Replay::Exact,
            },
            retention: Retention::Unbounded,
            order: if self.plan.incremental { Order::PerKey } else { Order::None },
            settle: match (self.plan.walk, &self.joint) {
                (Walk::Marked, Some(_)) => Settle::MarkWithEffect,
                (Walk::Marked, None) => Settle::Mark,
                _ => Settle::Seek,
            },
            condition: Some(match (lateness, self.plan.walk) {
                (Some(None), _) => SET_BY_DATABASE,
                (Some(Some(_)), _) => SET_BY_APPLICATION,
                (None, Walk::Numbered) => REPEATS,
                (None, Walk::Marked) => MARKED,
                (None, _) => STAYS,
            }),
        }
    }

    /// A row that waits is with one worker, wherever it stands.
    fn arrangement(&self) -> Arrangement {
        if self.plan.walk == Walk::Marked { Arrangement::Partitions } else { Arrangement::Sequence }
    }

    /// Rows come at any time to where they are followed by a cursor or a mark.
    fn extent(&self) -> Extent {
        if self.plan.incremental || self.plan.walk == Walk::Marked {
            Extent::Growing
        } else {
            Extent::Bounded
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(self.list())
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(std::future::ready(self.begin(split.clone(), after.cloned())))
    }

    fn describe(&self, position: &Position) -> String {
        let Some(mark) = Mark::decode(position) else {
            return format!("{position:?}, not a position of MySQL");
        };
        if mark.key.is_empty() {
            return format!("behind record {}", mark.ordinal);
        }
        let keys = self.plan.keys.iter().zip(&mark.key);
        let keys: Vec<_> = keys.map(|(key, value)| format!("{} {}", key.sql, words(value))).collect();
        format!("behind record {}, {}", mark.ordinal, keys.join(", "))
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::VALUE_MISFIT
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move {
            let mut session = self.address.connect().await?;
            letter::reread(&mut session, &self.plan, &letter).await
        })
    }
}
