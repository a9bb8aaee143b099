//! What a query returns, as the server describes it.

use hapax_engine::fault::SourceError;
use tokio_postgres::types::Oid;

use super::plan::Found;
use crate::client::Session;
use crate::column::{Base, Column, Type};
use crate::fault::ReadFault;

/// For each type and modifier: its name, the base behind its domains, and the element of an array.
const SQL: &str = "\
    WITH RECURSIVE asked AS ( \
      SELECT n, oid, modifier FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS a(oid, modifier, n)), \
    base AS ( \
      SELECT n, oid, modifier, 0 AS depth FROM asked UNION ALL \
      SELECT b.n, t.typbasetype, t.typtypmod, b.depth + 1 FROM base b JOIN pg_type t ON t.oid = b.oid \
      WHERE t.typtype = 'd') \
    SELECT format_type(a.oid, a.modifier), t.oid, t.typtype::text, b.modifier, e.oid, e.typtype::text, \
      format_type(t.oid, -1) \
    FROM asked a JOIN LATERAL (SELECT * FROM base WHERE base.n = a.n ORDER BY depth DESC LIMIT 1) b ON true \
    JOIN pg_type t ON t.oid = b.oid LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' ORDER BY a.n";

/// Describes a query without running it.
pub(super) async fn describe(session: &Session, sql: &str) -> Result<Found, SourceError> {
    let bare = sql.trim().trim_end_matches(';').trim_end();
    let from = format!("({bare}\n)");
    let bad = |reason: String| ReadFault::BadQuery { reason };
    let prepared = session.prepare(&format!("SELECT * FROM {from} AS t")).await;
    let statement = match prepared {
        Ok(statement) => statement,
        Err(error) if error.as_db_error().is_some() && error.code().is_some_and(is_of_the_query) => {
            return Err(bad(crate::fault::words(&error)).into());
        }
        Err(error) => return Err(session.fault("describing the query")(error).into()),
    };
    if !statement.params().is_empty() {
        return Err(bad("it has parameters".to_owned()).into());
    }
    let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    let twice = |(at, name): (usize, &&str)| names.iter().skip(at + 1).any(|other| other == name);
    if let Some((_, name)) = names.iter().enumerate().find(|pair| twice(*pair)) {
        return Err(bad(format!("two of its columns are called {name}: name one with AS")).into());
    }
    let oids: Vec<Oid> = statement.columns().iter().map(|column| column.type_().oid()).collect();
    let modifiers: Vec<i32> = statement.columns().iter().map(tokio_postgres::Column::type_modifier).collect();
    let rows =
        session.query(SQL, &[&oids, &modifiers]).await.map_err(session.fault("describing the query"))?;
    let columns: Result<Vec<Column>, _> =
        names.iter().zip(&rows).map(|(name, row)| column(name, row)).collect();
    let columns = columns.map_err(session.fault("describing the query"))?;
    Ok(Found { name: "query".to_owned(), from, columns, table: None })
}

/// Whether the mistake is in the query, and not in what it may see or in the server.
fn is_of_the_query(code: &tokio_postgres::error::SqlState) -> bool {
    code.code().starts_with("42") && *code != tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE
}

fn column(name: &str, row: &tokio_postgres::Row) -> Result<Column, tokio_postgres::Error> {
    let element: Option<Oid> = row.try_get(4)?;
    let (oid, kind): (Oid, &str) = match element {
        Some(element) => (element, row.try_get(5)?),
        None => (row.try_get(1)?, row.try_get(2)?),
    };
    Ok(Column {
        name: name.to_owned(),
        of: Type {
            base: Base::of(oid, kind, row.try_get(3)?),
            element,
            name: row.try_get(0)?,
            plain: row.try_get(6)?,
        },
        not_null: false,
        default: false,
        generated: false,
        numbered: false,
    })
}
