//! Connections to a server.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

use crate::address::{Address, Server, Url};
use crate::fault::ServerFault;
use crate::tls;

/// The temporary table of a session, where a batch waits on its way into a table that takes it by key or by a cast.
pub(crate) const STAGE: &str = "pg_temp._hapax_batch";

/// The oldest version of the server that has what is needed: 64-bit transaction ids (`xid8`,
/// `pg_current_xact_id`), and scans of a range of pages.
pub(crate) const VERSION_MIN: u32 = 14;

/// What is set for each session: values in one form, whatever the server's defaults; no timeouts that are meant
/// for people at a prompt; a batch on its way through a temporary table stays in memory; a commit that was confirmed
/// is on the disk.
const SETTINGS: &str = "\
    SET client_min_messages = warning; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1; \
    SET temp_buffers = '32MB'; SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT current_setting('server_version_num'), current_setting('server_version')";

/// One database, and how to get there.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    address: Arc<Address>,
}

impl Database {
    /// Reads the URL. Connects to nothing.
    pub(crate) fn new(url: &Url) -> Result<Self, ServerFault> {
        Ok(Self { address: Arc::new(Address::read(url)?) })
    }

    /// Opens a session. Whoever wants to wait for a server that does not answer tries again: the engine does.
    pub(crate) async fn session(&self) -> Result<Session, ServerFault> {
        let Address { config, check, server } = &*self.address;
        let connector = tls::connector(check)?;
        let connected = config.connect(connector).await;
        let (client, connection) = connected.map_err(|source| ServerFault::of_connecting(server, source))?;
        // Ends by itself when the session is dropped, after it told the server.
        let connection = tokio::spawn(connection).abort_handle();
        let (server, prepared) = (server.clone(), Mutex::default());
        let session = Session { client, server, connection, prepared, stage: None };
        let said = session.client.simple_query(SETTINGS).await;
        session.check_version(
            &said.map_err(|source| ServerFault::of(&session.server, "opening a session", source))?,
        )?;
        Ok(session)
    }
}

/// One connection. Dropping it takes an open transaction back, as soon as the server notices.
pub(crate) struct Session {
    client: Client,
    server: Server,
    connection: AbortHandle,
    /// What was prepared on it, by its text.
    prepared: Mutex<HashMap<String, Statement>>,
    /// The statement that created its temporary table.
    stage: Option<String>,
}

impl Session {
    /// Sorts what the server said.
    pub(crate) fn fault(&self, doing: &'static str) -> impl Fn(Error) -> ServerFault + use<'_> {
        move |source| ServerFault::of(&self.server, doing, source)
    }

    /// Which server it is.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Ends the connection at once, in the middle of what is being sent. A session that is only dropped receives the
    /// rest of it first.
    pub(crate) fn hang_up(&self) {
        self.connection.abort();
    }

    /// Prepares a statement once. Only for texts of which there are few.
    pub(crate) async fn prepared(&self, sql: String) -> Result<Statement, Error> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let statement = self.client.prepare(&sql).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    /// Creates the temporary table of this session, if it has not this one already. Not in a transaction.
    pub(crate) async fn stage(&mut self, create: &str) -> Result<(), ServerFault> {
        if self.stage.as_deref() == Some(create) {
            return Ok(());
        }
        let sql = format!("DROP TABLE IF EXISTS {STAGE}; {create}");
        let made = self.client.batch_execute(&sql).await;
        made.map_err(|source| ServerFault::of(&self.server, "creating a temporary table", source))?;
        // What was prepared for another one of this name.
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stage = Some(create.to_owned());
        Ok(())
    }

    fn check_version(&self, said: &[SimpleQueryMessage]) -> Result<(), ServerFault> {
        let row = said.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() == 2 => Some(row),
            _ => None,
        });
        let text = |index| row.and_then(|row| row.get(index)).unwrap_or_default();
        let number: u32 = text(0).parse().unwrap_or(0);
        if number / 10_000 >= VERSION_MIN {
            return Ok(());
        }
        Err(ServerFault::TooOld { server: self.server.clone(), version: text(1).to_owned() })
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
