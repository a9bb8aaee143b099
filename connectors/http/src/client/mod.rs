//! Requests to one host.

mod answer;
mod auth;
mod guard;
mod line;
mod pace;
mod secrets;
#[cfg(test)]
mod tests;
mod trust;
mod wire;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hapax_engine::sink::Deadline;
use hapax_engine::tls::Tls;
use hapax_protocol::guarantee::Window;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use crate::config;
use crate::fault::HostFault;
pub(crate) use answer::{Answer, SHORT};
use auth::Auth;
use guard::Guard;
use pace::Pace;
use secrets::Secrets;
pub(crate) use secrets::without_keys;
use wire::Wire;
pub(crate) use wire::path_of;

/// How often a request follows the API to another path of its own.
const HOPS_MAX: u32 = 5;

/// A host, and how it is spoken to.
pub(crate) struct Host {
    wire: Wire,
    auth: Auth,
    secrets: Secrets,
    pace: Pace,
    lines: Semaphore,
}

/// What a host is opened with.
pub(crate) struct Manner<'a> {
    pub auth: Option<&'a config::Auth>,
    /// The headers of the file: each may hold a secret.
    pub headers: &'a BTreeMap<String, String>,
    pub rate: Option<u32>,
    pub timeout: Duration,
    pub concurrency: u16,
    pub allow_private: bool,
    /// Files of certificates.
    pub tls: Option<&'a Tls>,
    /// What references of the file stand for.
    pub secrets: &'a [String],
}

/// One request.
#[derive(Clone)]
pub(crate) struct Request {
    pub method: Method,
    pub path: PathAndQuery,
    /// All of them: [`Host::dressed`] makes them whole.
    pub headers: Arc<HeaderMap>,
    pub body: Option<Bytes>,
}

/// Why nothing came back.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The request never left.
    Unsent(String),
    /// Nobody knows what it did.
    Unknown(String),
    /// It is too late to send it, and nothing that left before had an effect.
    Late,
    /// It cannot be sent at all.
    Never(HostFault),
}

impl Lost {
    pub(crate) fn into_fault(self, place: &str) -> HostFault {
        match self {
            Self::Unsent(reason) | Self::Unknown(reason) => {
                HostFault::Gone { place: place.to_owned(), reason }
            }
            Self::Late => HostFault::Gone { place: place.to_owned(), reason: "it is too late".to_owned() },
            Self::Never(fault) => fault,
        }
    }
}

/// Reads a URL of an API.
pub(crate) fn address(text: &str) -> Result<Url, HostFault> {
    let bad = |reason: &str| HostFault::BadUrl { url: shown(text), reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it does not begin with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("user and password stand in `auth: { basic: … }`"));
    }
    Ok(url)
}

/// A URL without what may be secret in it: a password, and parameters.
fn shown(text: &str) -> String {
    let (behind, parameters) = text.split_once('?').map_or((text, ""), |(before, _)| (before, "?…"));
    match (behind.find("://"), behind.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!(
            "{}://…@{}{parameters}",
            behind.get(..scheme).unwrap_or_default(),
            behind.get(at + 1..).unwrap_or_default()
        ),
        _ => format!("{behind}{parameters}"),
    }
}

/// Host and port, for people.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Reads `headers`; `None` if a name or a value is none.
pub(crate) fn headers(given: &BTreeMap<String, String>) -> Option<HeaderMap> {
    let read = |(name, value): (&String, &String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    given.iter().map(read).collect()
}

/// Reads a `timeout`.
pub(crate) fn timeout(text: Option<&str>) -> Result<Duration, HostFault> {
    let wrong =
        || HostFault::Config("`timeout` is a length of time up to an hour: 500ms, 30s, 2m".to_owned());
    let Some(text) = text else { return Ok(Duration::from_secs(30)) };
    let window = Window::parse(text).filter(|window| window.0 <= 3_600_000).ok_or_else(wrong)?;
    Ok(Duration::from_millis(window.0))
}

impl Host {
    pub(crate) fn open(url: &Url, manner: Manner<'_>) -> Result<Self, HostFault> {
        Self::guarded(url, manner, Guard::new)
    }

    /// A host whose name is looked up by a guard of this making.
    fn guarded(url: &Url, manner: Manner<'_>, guard: impl Fn(bool) -> Guard) -> Result<Self, HostFault> {
        let guard = || guard(manner.allow_private);
        // The authorization server may be one without TLS, on this machine.
        let tls_of = |url: &Url| manner.tls.filter(|_| url.scheme() == "https");
        let auth = Auth::read(manner.auth, |url| Wire::to(url, guard(), tls_of(url), manner.timeout))?;
        let literals = [Some(url), auth.server()].into_iter().flatten().find_map(|url| guard().literal(url));
        if let Some(private) = literals {
            return Err(HostFault::Private { what: private.to_string() });
        }
        let wire = Wire::to(url, guard(), manner.tls, manner.timeout)?;
        let secrets = Secrets::default();
        auth.add_to(&secrets);
        secrets.add_headers(manner.headers);
        secrets.add_parameters(url);
        manner.secrets.iter().for_each(|secret| secrets.add(secret));
        let lines = Semaphore::new(usize::from(manner.concurrency));
        Ok(Self { wire, auth, secrets, pace: Pace::new(manner.rate), lines })
    }

    /// Host and port, for people.
    pub(crate) fn place(&self) -> String {
        self.wire.place()
    }

    /// Makes a connection, which the next request is sent over: what cannot be reached is not asked.
    pub(crate) async fn reach(&self) -> Result<(), HostFault> {
        self.wire.reach().await.map_err(|lost| lost.into_fault(&self.place()))
    }

    /// Headers with what every request to this host says beside them.
    pub(crate) fn dressed(&self, headers: HeaderMap) -> HeaderMap {
        self.wire.dressed(headers)
    }

    /// The first kilobyte of what an API sent, as text on one line, without secrets that it sent back.
    pub(crate) fn excerpt(&self, answer: &Answer) -> String {
        self.secrets.excerpt(&answer.body)
    }

    /// A text without secrets.
    pub(crate) fn hidden(&self, text: &str) -> String {
        self.secrets.hidden(text)
    }

    /// Lets no request leave for a while.
    pub(crate) fn pause(&self, pause: Duration) {
        self.pace.pause(pause);
    }

    /// Waits until a request may leave: for a line, and for its turn. What is sent is decided after that.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let line = self.lines.acquire().await.ok();
        self.pace.turn().await;
        line
    }

    /// Sends a request, and returns the answer with at most so many bytes of its body.
    pub(crate) async fn send(&self, request: &Request, bytes_max: usize) -> Result<Answer, Lost> {
        self.send_until(request, bytes_max, None).await
    }

    /// Sends a request, of which nothing leaves behind a deadline: not once a token was asked for, and not to the place
    /// that an answer leads to.
    pub(crate) async fn send_until(
        &self,
        request: &Request,
        bytes_max: usize,
        deadline: Option<&Deadline>,
    ) -> Result<Answer, Lost> {
        let mut elsewhere: Option<Request> = None;
        let (mut renewed, mut hops, mut exchanges) = (false, 0, 0_u32);
        loop {
            exchanges += 1;
            if exchanges > 1 {
                // Where an answer leads is asked for in its turn, too.
                self.pace.turn().await;
            }
            let request = elsewhere.as_ref().unwrap_or(request);
            let signature = self.auth.sign(&self.secrets).await.map_err(|fault| match fault {
                HostFault::Gone { reason, .. } => Lost::Unsent(reason),
                other => Lost::Never(other),
            })?;
            if deadline.is_some_and(Deadline::is_past) {
                return Err(Lost::Late);
            }
            let answer = self.wire.exchange(request, signature.clone(), bytes_max).await?;
            let refused = answer.status == StatusCode::UNAUTHORIZED;
            if refused && !renewed && self.auth.forget(signature.as_ref()).await {
                renewed = true;
                continue;
            }
            if !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            hops += 1;
            let path = self.hop(request, &answer, hops).map_err(Lost::Never)?;
            elsewhere = Some(Request { path, ..request.clone() });
        }
    }

    /// Where a redirect leads, if it may be followed: to the same host, by the same method.
    fn hop(&self, request: &Request, answer: &Answer, hops: u32) -> Result<PathAndQuery, HostFault> {
        let said = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let from = self.wire.origin.join(request.path.as_str());
        let to = from.and_then(|from| from.join(said));
        let refused = |why: &'static str| HostFault::Redirect {
            place: self.place(),
            status: answer.status.as_u16(),
            to: to.as_ref().map_or_else(|_| "nowhere".to_owned(), place),
            why,
        };
        let Ok(to) = &to else { return Err(refused("it names no URL")) };
        if to.origin() != self.wire.origin.origin() {
            return Err(refused("that is another host, port or scheme"));
        }
        let keeps = matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps && request.method != Method::GET {
            return Err(refused("it would be asked for by GET there, and nothing be written"));
        }
        if hops > HOPS_MAX {
            return Err(refused("one leads to the next"));
        }
        path_of(to)
    }
}

/// This machine's date.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The cause of a failure that is of this kind.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    // What an I/O error wraps is not among its causes.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    if let Some(found) = wrapped.and_then(|wrapped| find::<E>(wrapped)) {
        return Some(found);
    }
    error.source().and_then(find::<E>)
}

/// The innermost cause: the outer words say only that a request failed.
fn cause(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => cause(source),
        None => error.to_string(),
    }
}
