//! Reading by a cursor: pass after pass, each up to its horizon.

use std::sync::Arc;

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_planted::{Mistake, planted};
use hapax_protocol::position::{Position, SplitId};
use tokio::task::JoinHandle;

use super::horizon::Bounds;
use super::plan::{Horizon, Plan};
use super::position::{At, Mark};
use super::reader::{Reader, Start};
use super::snapshot::LOCK_TIMEOUT;
use crate::client::{Database, Session};
use crate::fault::ReadFault;
use crate::name::{literal, quoted};

/// A source whose cursor grows, seen from one of its readers.
#[derive(Clone)]
pub(super) struct Cursor {
    pub plan: Arc<Plan>,
    pub database: Database,
    pub horizon: Horizon,
    pub split: SplitId,
}

impl Cursor {
    /// Begins a pass behind a position that is one of this reading.
    pub(super) async fn pass(
        self,
        session: Option<Session>,
        after: Option<Position>,
    ) -> Result<Reader, SourceError> {
        let session = match session.filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.database.session().await?,
        };
        let mark = after.as_ref().and_then(Mark::decode);
        let ordinal = mark.as_ref().map_or(0, |mark| mark.ordinal);
        // The COPY is a transaction of its own, and over with its last row: an open one holds horizons back.
        let bounds = self.bounds(&session, mark.as_ref().map(|mark| &mark.at)).await?;
        let select = in_order(&self.plan, bounds.conditions);
        steady(&session, &self.plan).await?;
        let began_us = bounds.began_us;
        let start = Start { split: self.split, after, ordinal, page: 0, pages: None, began_us };
        Reader::begin(self.plan, session, &select, start).await
    }

    async fn bounds(&self, session: &Session, at: Option<&At>) -> Result<Bounds, SourceError> {
        if !planted(Mistake::BareCursor) {
            return Bounds::find(session, &self.plan, self.horizon, &self.split, at).await;
        }
        // The mistake that nearly everybody makes: what is greater than the greatest, and nothing else.
        let mut bare = Bounds::default();
        if let (Some(At::Key { key, .. }), Some(column)) = (at, self.plan.key_columns().next()) {
            let last = key.first().map(|value| literal(value)).unwrap_or_default();
            bare.conditions.push(format!("t.{} > {last}::{}", quoted(&column.name), column.of.name));
        }
        Ok(bare)
    }
}

/// Rows in the order of their key, under these conditions.
pub(super) fn in_order(plan: &Plan, conditions: impl IntoIterator<Item = String>) -> String {
    let conditions: Vec<_> = conditions.into_iter().collect();
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {} FROM {} AS t{filter} ORDER BY {}", plan.select(), plan.from, plan.order())
}

/// Rows come in the order they stand in, and by one process: what their place is counted from.
pub(super) async fn steady(session: &Session, plan: &Plan) -> Result<(), SourceError> {
    let steady = format!(
        "{LOCK_TIMEOUT}; SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; \
         SET default_transaction_read_only = on"
    );
    session.batch_execute(&steady).await.map_err(session.fault("reading"))?;
    plan.unchanged(session).await
}

/// A reader that goes on behind its end.
pub(super) struct Passes {
    cursor: Cursor,
    stood: Option<Position>,
    reader: Option<Reader>,
    session: Option<Session>,
    /// A pass that is being begun. It goes on by itself, whoever stops waiting for it.
    beginning: Option<JoinHandle<Result<Reader, SourceError>>>,
}

impl Passes {
    pub(super) fn new(cursor: Cursor, stood: Option<Position>, first: Reader) -> Self {
        Self { cursor, stood, reader: Some(first), session: None, beginning: None }
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        if self.reader.is_none() {
            let (cursor, session, stood) = (self.cursor.clone(), &mut self.session, &self.stood);
            let begin = || tokio::spawn(cursor.pass(session.take(), stood.clone()));
            let begun = self.beginning.get_or_insert_with(begin).await;
            self.beginning = None;
            let interrupted = |_| ReadFault::Malformed { of: self.cursor.plan.name.clone() };
            self.reader = Some(begun.map_err(interrupted)??);
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let read = reader.read(limit).await?;
        match &read {
            Some(batch) => self.stood = Some(batch.through.clone()),
            None => self.session = self.reader.take().and_then(Reader::give_back),
        }
        Ok(read)
    }
}

impl SplitReader for Passes {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            tokio::time::sleep(self.cursor.plan.poll).await;
            Ok(())
        })
    }

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        // A table forgets nothing.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for Passes {
    fn drop(&mut self) {
        if let Some(beginning) = &self.beginning {
            beginning.abort();
        }
    }
}
