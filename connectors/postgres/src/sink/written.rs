//! The columns that are written, as they were when it was decided how.

use hapax_engine::fault::SinkError;
use tokio_postgres::Error;

use crate::client::Session;
use crate::fault::WriteFault;
use crate::table::Table;

/// What the catalog says of the columns that are written: what decides which values they keep.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// In SQL.
    name: String,
    table: u32,
    names: Vec<String>,
    said: String,
}

const SQL: &str = "\
    SELECT coalesce(string_agg(attname || ' ' || atttypid || ' ' || atttypmod || ' ' || attnotnull \
      || ' ' || attgenerated::text || attidentity::text, ', ' ORDER BY attnum), '') \
    FROM pg_attribute WHERE attrelid = $1 AND attrelid = to_regclass($3) AND attname = ANY ($2::text[]) \
      AND NOT attisdropped";

async fn said(session: &Session, name: &str, table: u32, names: &[String]) -> Result<String, Error> {
    let sql = session.prepared(SQL.to_owned()).await?;
    session.query_one(&sql, &[&table, &names, &name]).await?.try_get(0)
}

impl Written {
    /// Looks at them. What is altered after this is noticed.
    pub(crate) async fn look(session: &Session, table: &Table, names: Vec<String>) -> Result<Self, Error> {
        let said = said(session, &table.sql(), table.oid, &names).await?;
        Ok(Self { name: table.sql(), table: table.oid, names, said })
    }

    /// Refuses to commit what was written to columns that were altered since. In a transaction that has written to the
    /// table nobody can alter it any more.
    pub(crate) async fn unchanged(&self, session: &Session) -> Result<(), SinkError> {
        let now = said(session, &self.name, self.table, &self.names).await;
        match now.map_err(session.fault("looking at the table"))? == self.said {
            true => Ok(()),
            false => Err(WriteFault::Altered { table: self.name.clone() }.into()),
        }
    }
}
