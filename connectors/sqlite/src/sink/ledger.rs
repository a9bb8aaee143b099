//! The ledger of identities, kept in tables inside the commit.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hapax_engine::fault::SinkError;
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::Arrival;
use hapax_ledger::store::{SegmentId, SegmentInfo, SegmentStore, Segments, SplitNumber};
use hapax_ledger::{Error, Ledger};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;
use rusqlite::{Connection, OptionalExtension, params};

use super::tables::{present, stored};
use crate::connection::{Shared, lock};
use crate::fault::{DatabaseFault, WriteFault};

/// The ledger of one pipeline.
pub(crate) struct Kept {
    pipeline: PipelineName,
    ledger: Ledger<TableStore>,
}

impl Kept {
    /// Opens it on what the tables hold. A transaction must be open.
    pub(crate) fn open(shared: Shared, pipeline: &PipelineName) -> Result<Self, SinkError> {
        let store = TableStore { shared, pipeline: pipeline.to_string() };
        Ok(Self { pipeline: pipeline.clone(), ledger: Ledger::open(store).map_err(failed)? })
    }

    pub(crate) fn is_of(&self, pipeline: &PipelineName) -> bool {
        self.pipeline == *pipeline
    }

    pub(crate) fn claim(
        &mut self,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, SinkError> {
        let arrivals: Vec<_> = arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
        self.ledger.claim(split, &arrivals).map_err(failed)
    }

    pub(crate) fn withdraw(&mut self, split: &SplitId, arrivals: &[Arrival]) -> Result<(), SinkError> {
        let arrivals: Vec<_> = arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
        self.ledger.withdraw(split, &arrivals).map_err(failed)
    }

    /// Puts what was claimed into the open transaction.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        self.ledger.flush().map_err(failed)
    }

    /// The transaction took effect.
    pub(crate) fn committed(&mut self) {
        self.ledger.committed();
    }

    /// The transaction was taken back. False if the ledger cannot go on.
    pub(crate) fn roll_back(&mut self) -> bool {
        self.ledger.rollback().is_ok()
    }
}

/// The place that claimed an identity, as the last commit left it.
pub(crate) fn claimant(
    connection: Connection,
    path: &Path,
    pipeline: &PipelineName,
    id: &RecordId,
) -> Result<Option<Place>, SinkError> {
    match looking(connection, path, pipeline)? {
        Some(mut store) => hapax_ledger::find(&mut store, id).map_err(failed),
        None => Ok(None),
    }
}

/// What it holds, as the last commit left it.
pub(crate) fn holds(
    connection: Connection,
    path: &Path,
    pipeline: &PipelineName,
) -> Result<Option<Statistics>, SinkError> {
    let Some(mut store) = looking(connection, path, pipeline)? else { return Ok(None) };
    let (identities, bytes) = hapax_ledger::size(&mut store).map_err(failed)?;
    let held = Statistics { identities: Some(identities), bytes: Some(bytes), oldest_unix_ms: None };
    Ok((identities > 0).then_some(held))
}

/// One picture of all tables, whoever commits meanwhile. It ends with the connection.
fn looking(
    connection: Connection,
    path: &Path,
    pipeline: &PipelineName,
) -> Result<Option<TableStore>, SinkError> {
    let reading = |source| SinkError::from(DatabaseFault::of(path, "reading the ledger", source));
    connection.execute_batch("BEGIN").map_err(reading)?;
    if !present(&connection, "_hapax_ledger_splits").map_err(reading)? {
        return Ok(None);
    }
    let shared = Arc::new(Mutex::new(connection));
    Ok(Some(TableStore { shared, pipeline: pipeline.to_string() }))
}

fn failed(error: Error<rusqlite::Error>) -> SinkError {
    WriteFault::Ledger { reason: error.to_string() }.into()
}

/// Segments in tables, seen through the connection whose transaction is the commit.
pub(crate) struct TableStore {
    shared: Shared,
    pipeline: String,
}

impl Segments for TableStore {
    type Error = rusqlite::Error;

    fn segments(&mut self) -> Result<Vec<SegmentInfo>, Self::Error> {
        let connection = lock(&self.shared);
        let sql = "SELECT segment, level, entries, pages FROM _hapax_ledger_segments WHERE pipeline = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([&self.pipeline], |row| {
            Ok(SegmentInfo {
                id: SegmentId(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)),
                level: row.get(1)?,
                entries: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                pages: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    fn read_page(&mut self, segment: SegmentId, page: u32, into: &mut Vec<u8>) -> Result<(), Self::Error> {
        let connection = lock(&self.shared);
        let sql = "SELECT bytes FROM _hapax_ledger_pages WHERE pipeline = ?1 AND segment = ?2 AND page = ?3";
        into.clear();
        connection.prepare_cached(sql)?.query_row(params![self.pipeline, stored(segment.0), page], |row| {
            into.extend_from_slice(row.get_ref(0)?.as_blob()?);
            Ok(())
        })
    }

    fn split(&mut self, number: SplitNumber) -> Result<SplitId, Self::Error> {
        let connection = lock(&self.shared);
        let sql = "SELECT split FROM _hapax_ledger_splits WHERE pipeline = ?1 AND number = ?2";
        let params = params![self.pipeline, number.0];
        connection.prepare_cached(sql)?.query_row(params, |row| Ok(SplitId::new(row.get::<_, String>(0)?)))
    }
}

impl SegmentStore for TableStore {
    fn write_page(&mut self, segment: SegmentId, page: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let connection = lock(&self.shared);
        let sql = "INSERT OR REPLACE INTO _hapax_ledger_pages (pipeline, segment, page, bytes) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![self.pipeline, stored(segment.0), page, bytes])?;
        Ok(())
    }

    fn seal(&mut self, info: SegmentInfo, replaces: &[SegmentId]) -> Result<(), Self::Error> {
        let connection = lock(&self.shared);
        let sql = "INSERT INTO _hapax_ledger_segments (pipeline, segment, level, entries, pages) VALUES (?1, ?2, ?3, ?4, ?5)";
        let numbers = params![self.pipeline, stored(info.id.0), info.level, stored(info.entries), info.pages];
        connection.prepare_cached(sql)?.execute(numbers)?;
        for replaced in replaces {
            for sql in [
                "DELETE FROM _hapax_ledger_segments WHERE pipeline = ?1 AND segment = ?2",
                "DELETE FROM _hapax_ledger_pages WHERE pipeline = ?1 AND segment = ?2",
            ] {
                connection.prepare_cached(sql)?.execute(params![self.pipeline, stored(replaced.0)])?;
            }
        }
        Ok(())
    }

    fn number(&mut self, split: &SplitId) -> Result<SplitNumber, Self::Error> {
        let connection = lock(&self.shared);
        let known = "SELECT number FROM _hapax_ledger_splits WHERE pipeline = ?1 AND split = ?2";
        let params = params![self.pipeline, split.as_str()];
        let number = connection.prepare_cached(known)?.query_row(params, |row| row.get(0)).optional()?;
        if let Some(number) = number {
            return Ok(SplitNumber(number));
        }
        let new = "INSERT INTO _hapax_ledger_splits (pipeline, number, split) \
                   SELECT ?1, coalesce(max(number) + 1, 0), ?2 FROM _hapax_ledger_splits WHERE pipeline = ?1 RETURNING number";
        connection.prepare_cached(new)?.query_row(params, |row| Ok(SplitNumber(row.get(0)?)))
    }
}
