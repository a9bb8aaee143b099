//! Databases that somebody makes for a while, and removes with all that is in them.

use hapax_engine::fault::SinkError;

use crate::client::{Address, quoted, text};
use crate::fault::DatabaseFault;

/// The same URL with another database.
pub fn url(url: &str, database: &str) -> Result<String, SinkError> {
    Address::read(url)?;
    let mut url = url::Url::parse(url).map_err(|error| DatabaseFault::BadUrl(error.to_string()))?;
    url.set_path(database);
    Ok(url.into())
}

/// Makes a database beside the one of this URL. One of this name that is there stays as it is.
pub async fn create(url: &str, database: &str) -> Result<(), SinkError> {
    let mut session = Address::read(url)?.connect().await?;
    let sql = format!("CREATE DATABASE IF NOT EXISTS {}", quoted(database));
    Ok(session.say("making a scratch database", &sql).await?)
}

/// Removes every database whose name begins so, with all that is in it.
pub async fn remove(url: &str, prefix: &str) -> Result<(), SinkError> {
    let mut session = Address::read(url)?.connect().await?;
    let doing = "removing a scratch database";
    let sql =
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LEFT(SCHEMA_NAME, CHAR_LENGTH(?)) = ?";
    for row in session.rows(doing, sql, (prefix, prefix)).await? {
        let database = text(&row, 0).unwrap_or_default();
        session.say(doing, &format!("DROP DATABASE IF EXISTS {}", quoted(&database))).await?;
    }
    Ok(())
}
