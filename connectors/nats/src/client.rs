//! Connections to a server.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::context::{GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::stream::{ConsumerErrorKind, Info, Stream};
use async_nats::jetstream::{self, Context, Message};
use async_nats::{ConnectOptions, Event};
use futures::StreamExt;
use hapax_engine::exact::url_part;
use hapax_engine::tls::Tls;
use tokio::sync::watch;
use url::Url;

use crate::fault::ServerFault;

/// How long a connection, and an answer, may take.
const TIMEOUT_S: u64 = 5;

/// How many messages are asked for at once.
const PULL_MESSAGES: usize = 2_000;

/// How many bytes of messages are asked for at once. The client asks again when half of it is there, so up to twice that is
/// on its way.
const PULL_BYTES: usize = 8 << 20;

/// How long a request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server says that it is there while it has no message for one.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where a server is and how it is entered. It never shows its password.
#[derive(Clone)]
pub(crate) struct Address {
    server: String,
    user: String,
    password: Option<String>,
    place: String,
    tls: Tls,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Address {
    /// Reads `nats://user:password@host:port`.
    pub(crate) fn read(url: &str, tls: Option<&Tls>) -> Result<Self, ServerFault> {
        let bad = |reason: &str| ServerFault::BadUrl(reason.to_owned());
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(parsed.scheme(), "nats" | "tls") {
            return Err(bad("it does not begin with nats:// or tls://"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad("it names no host"))?;
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err(bad("behind host and port stands nothing"));
        }
        let plain = |part: &str| url_part(part).ok_or_else(|| bad("a part of it is not UTF-8"));
        if !parsed.username().is_empty() && parsed.password().is_none() {
            // Nothing would hide it.
            return Err(bad("a token stands where a password does: nats://:TOKEN@host"));
        }
        let place = format!("{host}:{}", parsed.port().unwrap_or(4222));
        // The client reads the files itself, and does not say which of them is wrong.
        Tls::read(tls, parsed.scheme() == "tls")
            .map_err(|error| ServerFault::Tls { place: place.clone(), reason: error.to_string() })?;
        Ok(Self {
            server: format!("{}://{place}", parsed.scheme()),
            user: plain(parsed.username())?,
            password: parsed.password().map(plain).transpose()?,
            place,
            tls: tls.cloned().unwrap_or_default(),
        })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Line, ServerFault> {
        self.connect_for(Duration::from_secs(TIMEOUT_S)).await
    }

    /// Connects, to wait for each answer no longer than this.
    pub(crate) async fn connect_for(&self, answer: Duration) -> Result<Line, ServerFault> {
        let timeout = Duration::from_secs(TIMEOUT_S);
        let (ended, has_ended) = watch::channel(false);
        let options = ConnectOptions::new()
            .name("hapax")
            .connection_timeout(timeout)
            .request_timeout(Some(timeout))
            .ping_interval(Duration::from_secs(10))
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    ended.send_replace(true);
                }
                std::future::ready(())
            });
        let options = match (&self.user, &self.password) {
            (_, None) => options,
            (user, Some(token)) if user.is_empty() => options.token(token.clone()),
            (user, Some(password)) => options.user_and_password(user.clone(), password.clone()),
        };
        let options = match &self.tls.ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        };
        let options = match (&self.tls.certificate, &self.tls.key) {
            (Some(certificate), Some(key)) => {
                options.add_client_certificate(certificate.clone(), key.clone())
            }
            _ => options,
        };
        let client = options.connect(self.server.as_str()).await;
        let client = client.map_err(|error| ServerFault::connecting(&self.place, &error))?;
        let mut context = jetstream::new(client);
        context.set_timeout(answer);
        Ok(Line { context, place: self.place.clone(), has_ended })
    }
}

/// A connection.
pub(crate) struct Line {
    pub context: Context,
    place: String,
    /// The client makes another connection by itself; what was on its way in this one is lost.
    has_ended: watch::Receiver<bool>,
}

impl Line {
    /// The connection is gone, or as good as gone.
    pub(crate) fn gone(&self, doing: &'static str, reason: &dyn fmt::Display) -> ServerFault {
        ServerFault::Gone { place: self.place.clone(), doing, reason: reason.to_string() }
    }

    /// Whether the connection ended, and the client has made another.
    pub(crate) fn has_ended(&self) -> bool {
        *self.has_ended.borrow()
    }

    /// What a consumer gives, as it is asked for: so much that it does not wait, and no more than a reader may hold.
    pub(crate) async fn messages(
        &self,
        consumer: &Consumer<pull::Config>,
    ) -> Result<pull::Stream, ServerFault> {
        // A request that takes fewer bytes than one message has would never end.
        let message_bytes_max = self.context.client().server_info().max_payload.saturating_mul(2);
        // A consumer that somebody else made may take no larger requests than it says.
        let limits = &consumer.cached_info().config;
        let within = |wanted: usize, limit: i64| match usize::try_from(limit) {
            Ok(limit) if limit > 0 => wanted.min(limit),
            _ => wanted,
        };
        let expires =
            Some(limits.max_expires).filter(|most| !most.is_zero()).map_or(EXPIRES, |most| most.min(EXPIRES));
        let asked = consumer
            .stream()
            .max_messages_per_batch(within(PULL_MESSAGES, limits.max_batch))
            .max_bytes_per_batch(within(PULL_BYTES.max(message_bytes_max), limits.max_bytes))
            .expires(expires)
            .heartbeat(HEARTBEAT.min(expires / 3));
        asked.messages().await.map_err(|error| self.gone("asking for messages", &error))
    }

    /// The next message of some. Cancel-safe.
    pub(crate) async fn next(&mut self, messages: &mut pull::Stream) -> Result<Message, String> {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(Ok(message)) => Ok(message),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the messages ended".to_owned()),
            },
            _ = self.has_ended.wait_for(|ended| *ended) => Err("the connection ended".to_owned()),
        }
    }

    /// A stream as it is now.
    pub(crate) async fn stream(&self, name: &str) -> Result<Stream, ServerFault> {
        let doing = "looking at the stream";
        self.context.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(said) => ServerFault::answered(&self.place, name, doing, &said),
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                ServerFault::NoStream { place: self.place.clone(), stream: name.to_owned() }
            }
            GetStreamErrorKind::Request => self.gone(doing, &error),
        })
    }

    /// What a stream is now.
    pub(crate) async fn info(&self, stream: &Stream) -> Result<Info, ServerFault> {
        let doing = "looking at the stream";
        let name = &stream.cached_info().config.name;
        stream.get_info().await.map_err(|error| match error.kind() {
            RequestErrorKind::Other | RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => {
                self.gone(doing, &error)
            }
            _ => ServerFault::NoStream { place: self.place.clone(), stream: name.clone() },
        })
    }

    /// Makes a consumer, or finds the one of this name.
    pub(crate) async fn consumer(
        &self,
        stream: &Stream,
        config: pull::Config,
    ) -> Result<jetstream::consumer::Consumer<pull::Config>, ConsumerFault> {
        let doing = "asking for a consumer";
        let name = &stream.cached_info().config.name;
        let made = match config.durable_name.clone() {
            Some(durable) => stream.get_or_create_consumer(&durable, config).await,
            None => stream.create_consumer(config).await,
        };
        made.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(said) if said.code() == 400 => {
                ConsumerFault::Unfit(said.to_string())
            }
            ConsumerErrorKind::JetStream(said) => {
                ConsumerFault::Server(ServerFault::answered(&self.place, name, doing, &said))
            }
            ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => {
                ConsumerFault::Unfit(error.to_string())
            }
            _ => ConsumerFault::Server(self.gone(doing, &error)),
        })
    }
}

/// A consumer could not be had.
pub(crate) enum ConsumerFault {
    Server(ServerFault),
    Unfit(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        let address = Address::read("nats://u%40x:s%2fecret@h", None).unwrap();
        assert_eq!((address.place.as_str(), address.user.as_str()), ("h:4222", "u@x"));
        assert_eq!(address.password.as_deref(), Some("s/ecret"));
        assert!(!format!("{address:?}").contains("ecret"));
        for wrong in [
            "http://u:secret@h",
            "nats://",
            "nats",
            "nats://u:secret@h/stream",
            "nats://u:%ff@h",
            "nats://secret@h",
        ] {
            let said = Address::read(wrong, None).map(|_| ()).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
