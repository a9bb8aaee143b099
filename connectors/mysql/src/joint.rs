//! Source and sink in one database: the mark of a row and its effect in one transaction.

use std::sync::Arc;

use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::sink::Sink;

use crate::client::{Session, number, text};
use crate::config::{Read, SinkConfig, SourceConfig};
use crate::fault::DatabaseFault;
use crate::sink::Database;
use crate::sink::desk::Desks;
use crate::source::Mysql;

/// One of both ends could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The source says no.
    Source(SourceError),
    /// The sink says no.
    Sink(SinkError),
}

/// Opens both ends of a pipeline within MySQL or MariaDB.
///
/// Where the source marks its rows, and the sink writes to the same database as a user that may mark them, each batch is
/// locked, marked, written and committed with its position in one transaction of the sink's user. Elsewhere the ends are
/// those that [`Mysql::open`] and [`crate::sink::open`] give.
pub async fn open(source: SourceConfig, sink: SinkConfig) -> Result<(Mysql, Sink), OpenError> {
    let is_marked = source.read == Read::Marked;
    let mut source = Mysql::open(source).await.map_err(OpenError::Source)?;
    let desks = is_marked.then(Desks::default);
    let database = Database::of(sink.clone(), desks).map_err(OpenError::Sink)?;
    if is_marked && share(&source, &database).await.map_err(|fault| OpenError::Sink(fault.into()))? {
        source.join(Arc::clone(&database));
        return Ok((source, database.sink()));
    }
    let apart = Database::of(sink, None).map_err(OpenError::Sink)?;
    Ok((source, apart.sink()))
}

/// Whether the sink's user may mark the rows of the source, in the same database.
async fn share(source: &Mysql, database: &Database) -> Result<bool, DatabaseFault> {
    let Some(attempts) = source.marking_attempts() else { return Ok(false) };
    if source.address().database() != database.address().database() {
        return Ok(false);
    }
    let mut here = database.address().connect().await?;
    let mut there = source.address().connect().await?;
    if !is_same(&mut here, &mut there).await? {
        return Ok(false);
    }
    // They find no row, but ask for what finding one would.
    for attempt in attempts {
        match here.say("looking at privileges", &attempt).await {
            Ok(()) => {}
            Err(DatabaseFault::Denied { .. }) => return Ok(false),
            Err(fault) => return Err(fault),
        }
    }
    Ok(true)
}

/// Whether two sessions are at one running server: what one of them locks by name, the other sees.
async fn is_same(here: &mut Session, there: &mut Session) -> Result<bool, DatabaseFault> {
    let doing = "asking which server it is";
    let row = here.first(doing, "SELECT CONCAT('hapax:', UUID()), CONNECTION_ID()", ()).await?;
    let found = row.and_then(|row| Some((text(&row, 0)?, number(&row, 1)?)));
    let (name, connection) = found.ok_or_else(|| here.misunderstood(doing))?;
    here.first(doing, "SELECT GET_LOCK(?, 0)", (name.as_str(),)).await?;
    let row = there.first(doing, "SELECT IS_USED_LOCK(?)", (name.as_str(),)).await?;
    here.run(doing, "DO RELEASE_LOCK(?)", (name.as_str(),)).await?;
    Ok(row.and_then(|row| number(&row, 0)) == Some(connection))
}
