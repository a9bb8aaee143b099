//! Connections to a broker.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hapax_engine::tls::{Pem, Tls};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use url::Url;

use crate::fault::{BrokerFault, CONNECTING};

/// How long a connection may take.
const CONNECT_TIMEOUT_S: u64 = 10;

/// How often both ends say that they live, in seconds, unless the URL says otherwise.
const HEARTBEAT_S: u16 = 10;

/// Where a broker is and how it is entered. It never shows its password.
#[derive(Clone)]
pub(crate) struct Address {
    uri: AMQPUri,
    place: String,
    pem: Pem,
}

/// A connection and a channel in it.
pub(crate) struct Line {
    pub channel: Channel,
    connection: Connection,
}

impl Line {
    /// Goes on with a new channel: what the broker refuses ends the one it was asked on.
    pub(crate) async fn renew(&mut self) -> lapin::Result<()> {
        self.channel = self.connection.create_channel().await?;
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Address {
    /// Reads `amqp://user:password@host:port/vhost`.
    pub(crate) fn read(url: &str, tls: Option<&Tls>) -> Result<Self, BrokerFault> {
        let bad = |reason: &str| BrokerFault::BadUrl(reason.to_owned());
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(parsed.scheme(), "amqp" | "amqps") {
            return Err(bad("it does not begin with amqp:// or amqps://"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad("it names no host"))?;
        let mut uri = AMQPUri::from_str(url).map_err(|_| bad("a part of it means nothing"))?;
        if parsed.path() == "/" {
            // Everybody who writes the slash means the virtual host of that name.
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let default = if parsed.scheme() == "amqps" { 5671 } else { 5672 };
        let vhost = uri.vhost.trim_start_matches('/');
        let place = format!("{host}:{}/{vhost}", parsed.port().unwrap_or(default));
        let pem = Tls::read(tls, parsed.scheme() == "amqps")
            .map_err(|error| BrokerFault::Tls { place: place.clone(), reason: error.to_string() })?;
        Ok(Self { uri, place, pem })
    }

    /// Host, port and virtual host, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// How the user of it is named over HTTP.
    pub(crate) fn authorization(&self) -> String {
        let info = &self.uri.authority.userinfo;
        format!("Basic {}", BASE64.encode(format!("{}:{}", info.username, info.password)))
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Line, BrokerFault> {
        // It does not recover by itself: what was not acknowledged must come again at another place.
        let properties = ConnectionProperties::default().with_connection_name("hapax".into());
        let fault = |error| BrokerFault::of(&self.place, CONNECTING, error);
        let entering = async {
            let runtime = lapin::runtime::default_runtime().map_err(fault)?;
            let certificates = OwnedTLSConfig {
                identity: self.pem.client.clone().map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
                cert_chain: self.pem.ca.as_deref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
            };
            let connection =
                Connection::connect_uri_with_config(self.uri.clone(), properties, certificates, runtime);
            let connection = connection.await.map_err(fault)?;
            let channel = connection.create_channel().await.map_err(fault)?;
            Ok(Line { channel, connection })
        };
        match tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_S), entering).await {
            Ok(entered) => entered,
            Err(_) => Err(BrokerFault::Silent {
                place: self.place.clone(),
                doing: CONNECTING,
                waited_s: CONNECT_TIMEOUT_S,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password_and_the_slash_is_a_virtual_host() {
        for (url, place, vhost) in [
            ("amqp://u:secret@h", "h:5672/", "/"),
            ("amqp://u:secret@h:1/", "h:1/", "/"),
            ("amqp://u:secret@h:1/%2f", "h:1/", "/"),
            ("amqps://u:secret@h/shop?heartbeat=3", "h:5671/shop", "shop"),
        ] {
            let address = Address::read(url, None).unwrap();
            assert_eq!((address.place(), address.uri.vhost.as_str()), (place, vhost), "{url}");
            assert!(!format!("{address:?}").contains("secret"));
        }
        for wrong in ["http://u:secret@h", "amqp://", "amqp", "amqp://u:secret@h?heartbeat=often"] {
            let said = Address::read(wrong, None).map(|_| ()).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
