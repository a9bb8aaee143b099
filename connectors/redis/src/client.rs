//! Addresses and connections. No library's own retries: a connection that ended is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisError, TlsCertificates, Value,
};

use hapax_engine::tls::Tls;

use crate::fault::ServerFault;
use crate::server::{Persistence, Server};

/// How long a connection may take to be made, in seconds.
const CONNECT_TIMEOUT_S: u64 = 10;

/// How long an answer is waited for, in seconds. A script may keep the server for some of them.
const ANSWER_TIMEOUT_S: u64 = 30;

/// How long a server that answered before is waited for when it does not answer any more, in seconds.
const PATIENCE_S: u64 = 60;

/// How long between two attempts to connect to it, in milliseconds.
const PAUSE_MS: u64 = 250;

/// How often a node of a cluster may send us on to another one.
const MOVES_MAX: usize = 5;

/// Where a server is and how it is entered. It never shows its password.
#[derive(Clone)]
pub(crate) struct Address {
    client: Client,
    place: String,
    /// Whether it answered once.
    answered: Arc<AtomicBool>,
}

impl Address {
    /// Reads `redis://user:password@host:port/0`.
    pub(crate) fn read(url: &str, tls: Option<&Tls>) -> Result<Self, ServerFault> {
        let bad = |reason: &str| ServerFault::BadUrl(reason.to_owned());
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(bad("it does not begin with redis:// or rediss://"));
        }
        // The library's words may repeat a part of the URL.
        let info =
            url.into_connection_info().map_err(|_| bad("it is no redis://user:password@host:port/0"))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                format!("{host}:{port}/{}", info.redis_settings().db())
            }
            _ => return Err(bad("it names no host")),
        };
        let wrong = |reason: String| ServerFault::Tls { place: place.clone(), reason };
        let pem = Tls::read(tls, url.starts_with("rediss://")).map_err(|error| wrong(error.to_string()))?;
        let client = match tls {
            None => Client::open(info).map_err(|_| bad("it cannot be used"))?,
            Some(_) => {
                let client =
                    pem.client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
                let certificates = TlsCertificates { client_tls: client, root_cert: pem.ca };
                Client::build_with_tls(info, certificates).map_err(|error| wrong(error.to_string()))?
            }
        };
        Ok(Self { client, place, answered: Arc::default() })
    }

    /// Connects. A server that answered before is waited for, at most [`PATIENCE_S`].
    pub(crate) async fn connect(&self) -> Result<Session, ServerFault> {
        let until = Instant::now() + Duration::from_secs(PATIENCE_S);
        loop {
            match self.enter().await {
                Err(fault)
                    if fault.is_away() && self.answered.load(Ordering::Relaxed) && Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
                Ok(session) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Connects to the node of a cluster that has a key, which is this server where there is no cluster.
    pub(crate) async fn connect_for(&self, key: &str) -> Result<Session, ServerFault> {
        let mut session = self.connect().await?;
        for _ in 0..MOVES_MAX {
            if !session.server.cluster {
                return Ok(session);
            }
            let doing = "looking for the node of a key";
            let asked: Result<Value, RedisError> =
                redis::cmd("EXISTS").arg(key).query_async(&mut session.connection).await;
            let Err(source) = asked else { return Ok(session) };
            let Some((host, port)) = source.redirect_node() else {
                return Err(session.fault(doing, source));
            };
            let info = self.client.get_connection_info().clone();
            let address = match info.addr() {
                ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                    host: host.to_owned(),
                    port,
                    insecure: *insecure,
                    tls_params: tls_params.clone(),
                },
                _ => ConnectionAddr::Tcp(host.to_owned(), port),
            };
            let place = format!("{host}:{port}/0");
            let moved = Client::open(info.set_addr(address));
            let client = moved.map_err(|source| ServerFault::of(&place, doing, source))?;
            session = Self { client, place, answered: Arc::clone(&self.answered) }.enter().await?;
        }
        Ok(session)
    }

    /// Connects once, and asks the server what it is.
    async fn enter(&self) -> Result<Session, ServerFault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(CONNECT_TIMEOUT_S)))
            .set_response_timeout(Some(Duration::from_secs(ANSWER_TIMEOUT_S)));
        let dialled = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = dialled.map_err(|source| ServerFault::of(&self.place, "connecting", source))?;
        let mut session = Session { connection, place: self.place.clone(), server: Server::default() };
        let doing = "looking at the server";
        let info = session.ask(doing, &redis::cmd("INFO")).await?;
        session.server = Server::of(&info).ok_or_else(|| session.misunderstood(doing))?;
        if !session.server.is_enough() {
            let (major, minor) = session.server.version;
            return Err(ServerFault::TooOld {
                place: self.place.clone(),
                version: format!("{major}.{minor}"),
            });
        }
        Ok(session)
    }
}

/// A connection.
pub(crate) struct Session {
    connection: MultiplexedConnection,
    place: String,
    pub server: Server,
}

impl Session {
    /// The same connection once more.
    pub(crate) fn again(&self) -> Self {
        Self { connection: self.connection.clone(), place: self.place.clone(), server: self.server.clone() }
    }

    /// What went wrong, as a fault of this server.
    pub(crate) fn fault(&self, doing: &'static str, source: RedisError) -> ServerFault {
        ServerFault::of(&self.place, doing, source)
    }

    pub(crate) fn misunderstood(&self, doing: &'static str) -> ServerFault {
        ServerFault::Misunderstood { place: self.place.clone(), doing }
    }

    /// Host, port and database, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// One command and its answer, with the library's own words if there is none.
    pub(crate) async fn tell(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        command.query_async(&mut self.connection).await
    }

    /// One command and its answer.
    pub(crate) async fn ask(&mut self, doing: &'static str, command: &Cmd) -> Result<Value, ServerFault> {
        self.tell(command).await.map_err(|source| self.fault(doing, source))
    }

    /// Commands that are sent together, and their answers.
    pub(crate) async fn all(
        &mut self,
        doing: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, ServerFault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        commands.query_async(&mut self.connection).await.map_err(|source| self.fault(doing, source))
    }

    /// Refuses a user who may not send commands that are one step: within them the library does not hear of it.
    pub(crate) async fn may_take_steps(&mut self) -> Result<(), ServerFault> {
        for step in ["MULTI", "EXEC"] {
            self.ask("taking one step of several commands", &redis::cmd(step)).await?;
        }
        Ok(())
    }

    /// When what is written is on the disk.
    pub(crate) async fn persistence(&mut self) -> Result<Persistence, ServerFault> {
        let mut settings = [None, None, None];
        for (setting, name) in settings.iter_mut().zip(["appendfsync", "save", "no-appendfsync-on-rewrite"]) {
            match self.tell(redis::cmd("CONFIG").arg("GET").arg(name)).await {
                Ok(answer) => *setting = pairs(&answer).into_iter().find_map(|(_, value)| text(value)),
                Err(error) if error.is_io_error() => return Err(self.fault("looking at the server", error)),
                Err(_) => {}
            }
        }
        let [fsync, save, waives] = settings.each_ref().map(Option::as_deref);
        Ok(Persistence::of(self.server.appends, fsync, save, waives))
    }
}

/// An answer that holds bytes.
pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

/// An answer that holds text.
pub(crate) fn text(value: &Value) -> Option<String> {
    bytes(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// An answer that holds a number which is not negative.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => std::str::from_utf8(bytes(other)?).ok()?.parse().ok(),
    }
}

/// The parts of an answer; none if it is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(parts) | Value::Set(parts) => parts,
        _ => &[],
    }
}

/// The pairs of an answer: of a map, or of a list that stands for one.
pub(crate) fn pairs(value: &Value) -> Vec<(&Value, &Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        other => list(other)
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((name, value)),
                _ => None,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_show_no_password() {
        let address = Address::read("redis://ann:p%40ss%2Fword@db.example:6380/3", None).unwrap();
        assert_eq!(address.place, "db.example:6380/3");
        for wrong in
            ["mysql://h", "redis://", "redis://u:secret@h:port/0", "redis://:secret@h/x", "unix:///s"]
        {
            let fault = Address::read(wrong, None).err().unwrap_or_else(|| panic!("{wrong} was read"));
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
    }
}
