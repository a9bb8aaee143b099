//! Addresses and connections. No library's own retries: a connection that ended is gone.

use std::time::Duration;

use hapax_engine::exact::url_part;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Params, Row, Value};
use url::Url;

use crate::fault::DatabaseFault;
use crate::server::Server;
use crate::tls::Encryption;

/// How long a connection may take to be made, in seconds.
const CONNECT_TIMEOUT_S: u64 = 10;

/// How long a statement waits for a lock, in seconds.
pub(crate) const LOCK_TIMEOUT_S: u64 = 10;

/// When the operating system begins to ask a silent server whether it is still there, in milliseconds.
const KEEPALIVE_MS: u32 = 15_000;

/// How a session must behave, whatever the server's defaults are: what does not fit is an error, zero is a number
/// and not a request for the next one, times are in UTC, and a reader sees what is committed.
const SETTINGS: &str = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
                        ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', \
                        character_set_client = utf8mb4, character_set_connection = utf8mb4, \
                        character_set_results = utf8mb4, time_zone = '+00:00', autocommit = 1, sql_notes = 1, foreign_key_checks = 1, \
                        unique_checks = 1, sql_safe_updates = 0, sql_auto_is_null = 0, sql_big_selects = 1";

/// An identifier in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Identifiers in SQL, with commas.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Where a database is and how it is entered. It never shows its password.
#[derive(Clone)]
pub(crate) struct Address {
    options: OptsBuilder,
    encryption: Encryption,
    authority: Option<String>,
    database: String,
    place: String,
}

impl Address {
    /// Reads `mysql://user:password@host:port/database?ssl-mode=…&ssl-ca=…`.
    pub(crate) fn read(url: &str) -> Result<Self, DatabaseFault> {
        let bad = |reason: &str| DatabaseFault::BadUrl(reason.to_owned());
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(parsed.scheme(), "mysql" | "mariadb") {
            return Err(bad("it does not begin with mysql://"));
        }
        let host =
            parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = |part: &str| url_part(part).ok_or_else(|| bad("a part of it is not UTF-8"));
        let database = plain(parsed.path().trim_start_matches('/'))?;
        if database.is_empty() || database.contains('/') {
            return Err(bad("behind the host stands `/` and the name of a database"));
        }
        let mut address = Self {
            options: OptsBuilder::default(),
            encryption: Encryption::Preferred,
            authority: None,
            place: format!("{host}:{}/{database}", parsed.port().unwrap_or(3306)),
            database: database.clone(),
        };
        for (key, value) in parsed.query_pairs() {
            match (key.to_ascii_lowercase().replace('_', "-").as_str(), Encryption::named(&value)) {
                ("ssl-mode", Some(encryption)) => address.encryption = encryption,
                ("ssl-ca", _) => address.authority = Some(value.into_owned()),
                _ => return Err(bad(&format!("`{key}={value}` means nothing in it"))),
            }
        }
        let user = plain(parsed.username())?;
        let password = parsed.password().map(plain).transpose()?;
        address.options = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(parsed.port().unwrap_or(3306))
            .user((!user.is_empty()).then_some(user))
            .pass(password)
            .db_name(Some(database))
            // What a proxy or a tunnel stands before must not be gone around.
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_millis(KEEPALIVE_MS.into())));
        Ok(address)
    }

    /// Host, port and database, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    async fn dial(&self) -> Result<Conn, Error> {
        self.encryption.dial(&self.options, self.authority.as_deref()).await
    }

    /// Connects, and makes the session behave. A server that is away is waited for by whoever tries again.
    pub(crate) async fn connect(&self) -> Result<Session, DatabaseFault> {
        let dialled = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_S), self.dial()).await;
        let dialled = dialled
            .map_err(|_| DatabaseFault::Silent { place: self.place.clone(), waited_s: CONNECT_TIMEOUT_S })?;
        let connection = dialled.map_err(|source| DatabaseFault::of(&self.place, "connecting", source))?;
        let unknown = Server { mariadb: true, version: (0, 0, 0) };
        let mut session = Session {
            connection,
            place: self.place.clone(),
            server: unknown,
            takes_files: false,
            packet_bytes_max: 0,
        };
        let doing = "looking at the server";
        let sql = "SELECT VERSION(), @@local_infile, @@max_allowed_packet";
        let row = session.first(doing, sql, ()).await?.ok_or_else(|| session.misunderstood(doing))?;
        let version = text(&row, 0).unwrap_or_default();
        session.server = Server::of(&version).ok_or_else(|| session.misunderstood(doing))?;
        if !session.server.is_enough() {
            return Err(DatabaseFault::TooOld { place: self.place.clone(), version });
        }
        session.takes_files = number(&row, 1) == Some(1);
        session.packet_bytes_max = number(&row, 2).unwrap_or(0);
        session.say("setting up the session", SETTINGS).await?;
        let limit =
            format!("SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}, lock_wait_timeout = 60");
        session.say("setting up the session", &limit).await?;
        let level = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
        session.say("setting up the session", level).await?;
        Ok(session)
    }
}

/// A connection with settings of ours.
pub(crate) struct Session {
    pub connection: Conn,
    place: String,
    pub server: Server,
    /// Whether LOAD DATA LOCAL is allowed.
    pub takes_files: bool,
    /// The largest statement or row it takes, in bytes.
    pub packet_bytes_max: u64,
}

impl Session {
    /// What went wrong, as a fault of this database.
    pub(crate) fn fault(&self, doing: &'static str, source: Error) -> DatabaseFault {
        DatabaseFault::of(&self.place, doing, source)
    }

    pub(crate) fn misunderstood(&self, doing: &'static str) -> DatabaseFault {
        DatabaseFault::Misunderstood { place: self.place.clone(), doing }
    }

    /// Host, port and database, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// A statement without parameters whose answer is not looked at.
    pub(crate) async fn say(&mut self, doing: &'static str, sql: &str) -> Result<(), DatabaseFault> {
        let said = self.connection.query_drop(sql).await;
        said.map_err(|source| self.fault(doing, source))
    }

    /// A statement that changes rows: how many.
    pub(crate) async fn run(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<u64, DatabaseFault> {
        let done = self.connection.exec_drop(sql, params).await;
        done.map_err(|source| self.fault(doing, source))?;
        Ok(self.connection.affected_rows())
    }

    /// A statement that finds rows.
    pub(crate) async fn rows(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Vec<Row>, DatabaseFault> {
        let found = self.connection.exec(sql, params).await;
        found.map_err(|source| self.fault(doing, source))
    }

    /// A statement that finds at most one row.
    pub(crate) async fn first(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Option<Row>, DatabaseFault> {
        Ok(self.rows(doing, sql, params).await?.into_iter().next())
    }
}

/// A cell that holds a number which is not negative.
pub(crate) fn number(row: &Row, index: usize) -> Option<u64> {
    match row.as_ref(index)? {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::UInt(number) => Some(*number),
        Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// A cell that holds text.
pub(crate) fn text(row: &Row, index: usize) -> Option<String> {
    bytes(row, index).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A cell that holds bytes.
pub(crate) fn bytes(row: &Row, index: usize) -> Option<&[u8]> {
    match row.as_ref(index)? {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::Opts;

    use super::*;

    #[test]
    fn addresses_are_read_and_show_no_password() {
        let address =
            Address::read("mysql://ann:p%40ss%2Fword@db.example:3307/shop?ssl-mode=required").unwrap();
        assert_eq!((address.place(), address.database()), ("db.example:3307/shop", "shop"));
        assert_eq!(Opts::from(address.options.clone()).pass(), Some("p@ss/word"));
        assert_eq!(address.encryption, Encryption::Required);
        for wrong in [
            "postgres://h/d",
            "mysql://h",
            "mysql://h/",
            "mysql://h/a/b",
            "mysql://u:secret@h/d?ssl-mode=maybe",
            "mysql://u:secret@h:port/d",
        ] {
            let fault = Address::read(wrong).err().unwrap_or_else(|| panic!("{wrong} was read"));
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
    }

    #[test]
    fn names_cannot_end_their_quotes() {
        assert_eq!(quoted("a`; DROP TABLE x; --"), "`a``; DROP TABLE x; --`");
    }
}
