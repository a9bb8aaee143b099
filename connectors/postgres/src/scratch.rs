//! Schemas that somebody makes for a while, and removes with all that is in them.

use hapax_engine::fault::SinkError;

use crate::address::Url;
use crate::client::Database;
use crate::name::quoted;

/// Makes a schema. One of this name that is there stays as it is.
pub async fn create(url: &Url, schema: &str) -> Result<(), SinkError> {
    let session = Database::new(url)?.session().await?;
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
    Ok(session.batch_execute(&sql).await.map_err(session.fault("making a scratch schema"))?)
}

/// Removes every schema whose name begins so, with all that is in it.
pub async fn remove(url: &Url, prefix: &str) -> Result<(), SinkError> {
    let session = Database::new(url)?.session().await?;
    let failed = session.fault("removing a scratch schema");
    let sql = "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, $1)";
    for row in session.query(sql, &[&prefix]).await.map_err(&failed)? {
        let schema: &str = row.try_get(0).map_err(&failed)?;
        let sql =
            format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema));
        session.batch_execute(&sql).await.map_err(&failed)?;
    }
    Ok(())
}
