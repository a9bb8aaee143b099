//! The URL of a database: what PostgreSQL's own programs take, and nothing of it that may not be shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::fault::ServerFault;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// `postgres://user:password@host:port/database`. It holds a password, so it does not show itself.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// Wraps a URL. It is looked at when it is used.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which server, in words that hold no secret: `db.example.com:5432/shop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Host, port and database.
    pub place: String,
    /// Who connects.
    pub user: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// What is checked of the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing: whoever answers is believed.
    Nothing,
    /// That an authority signed it.
    Authority(Roots),
    /// That an authority signed it for this host.
    Full(Roots),
}

/// Whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Whoever this system trusts.
    System,
    /// The certificates of a file.
    File(PathBuf),
}

/// A URL that was read.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub config: Config,
    pub check: Check,
    pub server: Server,
}

impl Address {
    /// Reads a URL.
    pub(crate) fn read(url: &Url) -> Result<Self, ServerFault> {
        let Url(text) = url;
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(ServerFault::Url("it does not begin with postgres://"))?;
        let (credentials, behind) = match rest.split_once('@') {
            Some((credentials, behind)) => (Some(credentials), behind),
            None => (None, rest),
        };
        let (place, parameters) = behind.split_once('?').unwrap_or((behind, ""));
        if place.contains('@') {
            // Half a password would be taken for the host, and be shown.
            return Err(ServerFault::Url("user and password contain an @, which is written %40 there"));
        }
        let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => roots = Some(decoded(value)),
                _ => kept.push(parameter),
            }
        }
        let credentials = credentials.map(|credentials| format!("{credentials}@")).unwrap_or_default();
        let plain = format!("postgres://{credentials}{place}?{}", kept.join("&"));
        let mut config = Config::from_str(&plain).map_err(|source| ServerFault::UrlPart { source })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_application_name().is_none() {
            config.application_name("hapax");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        let (mode, check) = security(mode.as_deref(), roots)?;
        config.ssl_mode(mode);
        let server = named(&config);
        Ok(Self { config, check, server })
    }
}

/// What `sslmode` means, as PostgreSQL's own programs understand it.
fn security(mode: Option<&str>, roots: Option<String>) -> Result<(SslMode, Check), ServerFault> {
    let given = roots.map(|roots| if roots == "system" { Roots::System } else { Roots::File(roots.into()) });
    Ok(match mode.unwrap_or("prefer") {
        "disable" => (SslMode::Disable, Check::Nothing),
        "prefer" => (SslMode::Prefer, Check::Nothing),
        "require" => (SslMode::Require, given.map_or(Check::Nothing, Check::Authority)),
        "verify-ca" => (SslMode::Require, Check::Authority(given.unwrap_or(Roots::System))),
        "verify-full" => (SslMode::Require, Check::Full(given.unwrap_or(Roots::System))),
        _ => return Err(ServerFault::Url("sslmode is disable, prefer, require, verify-ca or verify-full")),
    })
}

fn named(config: &Config) -> Server {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(host)), _) => host.clone(),
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    };
    let user = config.get_user().unwrap_or("whoever runs Hapax").to_owned();
    let database = config.get_dbname().unwrap_or(&user);
    Server { place: format!("{host}:{port}/{database}"), user }
}

/// Text with its `%XX` resolved.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let byte = match behind {
            [high, low, ..] if *first == b'%' => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = behind.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, ServerFault> {
        Address::read(&Url::new(url))
    }

    #[test]
    fn a_url_is_read_as_psql_reads_it() {
        let address = read("postgresql://me:p%40ss@db.example.com:6000/shop?application_name=x").unwrap();
        assert_eq!(address.server.to_string(), "db.example.com:6000/shop");
        assert_eq!(address.server.user, "me");
        assert_eq!(address.config.get_password(), Some(b"p@ss".as_slice()));
        assert_eq!(address.config.get_application_name(), Some("x"));
        assert_eq!((address.config.get_ssl_mode(), address.check), (SslMode::Prefer, Check::Nothing));
        assert_eq!(read("postgres://u@h").unwrap().server.to_string(), "h:5432/u");
    }

    #[test]
    fn what_is_checked_of_a_certificate_is_what_sslmode_says() {
        let check = |parameters: &str| read(&format!("postgres://u@h/d?{parameters}")).unwrap().check;
        let file = Roots::File("/a b.pem".into());
        assert_eq!(check("sslmode=require"), Check::Nothing);
        assert_eq!(check("sslmode=require&sslrootcert=/a%20b.pem"), Check::Authority(file.clone()));
        assert_eq!(check("sslrootcert=/a%20b.pem&sslmode=verify-full"), Check::Full(file));
        assert_eq!(check("sslmode=verify-full"), Check::Full(Roots::System));
        assert!(read("postgres://u@h/d?sslmode=maybe").is_err());
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        let wrong =
            ["postgres://u:se@cret@h/d", "postgres://u:secret@h:port/d", "postgres://u:secret@h/d?x=1"];
        for url in wrong {
            let said = format!("{:?}", read(url).unwrap_err());
            assert!(!said.contains("cret"), "{said}");
        }
        let shown =
            format!("{:?}", (Url::new("postgres://u:secret@h/d"), read("postgres://u:secret@h/d").unwrap()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
