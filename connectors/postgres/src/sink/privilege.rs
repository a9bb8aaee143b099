//! What the role must be allowed to do, asked for before anything moves.

use hapax_engine::fault::SinkError;

use super::tables::Tables;
use crate::client::Session;
use crate::config::{SinkConfig, Write};
use crate::fault::ServerFault;
use crate::name::quoted;
use crate::table::Table;

/// One privilege on one object.
struct Wanted {
    /// A question to the server that has one answer.
    question: String,
    privilege: &'static str,
    object: String,
}

/// Refuses a role that lacks a privilege that a run needs in any case.
pub(crate) async fn check(
    session: &Session,
    tables: &Tables,
    table: Option<&Table>,
    config: &SinkConfig,
    staged: bool,
    creates: bool,
) -> Result<(), SinkError> {
    let mut wanted = Vec::new();
    if creates || table.is_none() {
        wanted.push(Wanted {
            question: "has_schema_privilege($1, 'CREATE')".to_owned(),
            privilege: "CREATE",
            object: format!("SCHEMA {}", quoted(&tables.schema)),
        });
    }
    if staged {
        wanted.push(Wanted {
            question: "has_database_privilege(current_database(), 'TEMPORARY') AND $1::text IS NOT NULL"
                .to_owned(),
            privilege: "TEMPORARY",
            object: format!("DATABASE {}", quoted(&database(session).await?)),
        });
    }
    if let Some(table) = table {
        let privileges: &[&'static str] = match config.write {
            Write::Append => &["INSERT"],
            Write::Ignore => &["INSERT", "SELECT"],
            Write::Upsert => &["INSERT", "SELECT", "UPDATE"],
        };
        // On some of its columns is enough; the server says if it is on the wrong ones.
        wanted.extend(privileges.iter().map(|privilege| Wanted {
            question: format!(
                "has_any_column_privilege({}::oid, '{privilege}') AND $1::text IS NOT NULL",
                table.oid
            ),
            privilege,
            object: table.sql(),
        }));
    }
    for Wanted { question, privilege, object } in wanted {
        let asked = session.query_one(&format!("SELECT {question}"), &[&tables.schema]).await;
        let granted = asked.and_then(|row| row.try_get::<_, bool>(0));
        if !granted.map_err(session.fault("looking at privileges"))? {
            let server = session.server().clone();
            let grant = format!("GRANT {privilege} ON {object} TO {}", quoted(&server.user));
            return Err(ServerFault::Lacking { server, privilege, object, grant }.into());
        }
    }
    Ok(())
}

async fn database(session: &Session) -> Result<String, ServerFault> {
    let row = session.query_one("SELECT current_database()::text", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(session.fault("looking at privileges"))
}
