//! Source and sink in one database: the mark of a row and its effect in one transaction.

use std::sync::Arc;

use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::sink::Sink;
use tokio_postgres::error::SqlState;

use crate::client::Session;
use crate::config::SinkConfig;
use crate::fault::ServerFault;
use crate::sink::Target;
use crate::sink::desk::Desks;
use crate::source::Postgres;
use crate::source_config::{Read, SourceConfig};

/// One of both ends could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The source says no.
    Source(SourceError),
    /// The sink says no.
    Sink(SinkError),
}

/// Opens both ends of a pipeline within PostgreSQL.
///
/// Where the source marks its rows, and the sink writes to the same database as a role that may mark them, each batch is
/// locked, marked, written and committed with its position in one transaction of the sink's role. Elsewhere the ends are
/// those that [`Postgres::open`] and [`crate::sink::open`] give.
pub async fn open(source: SourceConfig, sink: SinkConfig) -> Result<(Postgres, Sink), OpenError> {
    // Without positions there is no lease that one transaction could stand under.
    let is_marked = source.read == Read::Marked && sink.positions != Some(false);
    let mut source = Postgres::open(source).await.map_err(OpenError::Source)?;
    let desks = is_marked.then(Desks::default);
    let target = Target::of(sink.clone(), desks).map_err(OpenError::Sink)?;
    if is_marked && share(&source, &target).await.map_err(|fault| OpenError::Sink(fault.into()))? {
        source.join(Arc::clone(&target));
        return Ok((source, target.sink()));
    }
    let apart = Target::of(sink, None).map_err(OpenError::Sink)?;
    Ok((source, apart.sink()))
}

/// Whether the sink's role may mark the rows of the source, in the same database.
async fn share(source: &Postgres, target: &Target) -> Result<bool, ServerFault> {
    let Some(marked) = source.marked() else { return Ok(false) };
    let here = target.session().await?;
    let there = source.database().session().await?;
    let same = place(&here).await? == place(&there).await?;
    // Reads what a claim reads, and asks for the mark.
    let may = "SELECT has_column_privilege($1::text::regclass, $2::text, 'UPDATE')";
    let is_allowed = same && {
        match here.batch_execute(&marked.look).await {
            Ok(()) => {
                let asked = here.query_one(may, &[&marked.table, &marked.column]).await;
                asked.and_then(|row| row.try_get(0)).map_err(here.fault("looking at privileges"))?
            }
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => false,
            Err(error) => return Err(here.fault("looking at what is to be read")(error)),
        }
    };
    target.leave(here);
    Ok(is_allowed)
}

/// Which database of which running server a session is in: no other server, nor a copy of this one, was started in the
/// same microsecond.
async fn place(session: &Session) -> Result<(String, u32), ServerFault> {
    let sql =
        "SELECT pg_postmaster_start_time()::text, oid FROM pg_database WHERE datname = current_database()";
    let row = session.query_one(sql, &[]).await;
    let place = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    place.map_err(session.fault("asking which database it is"))
}
