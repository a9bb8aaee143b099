//! Requests to one host.

mod auth;
mod guard;
mod pace;
mod secrets;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hapax_engine::sink::Deadline;
use hapax_protocol::guarantee::Window;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use url::Url;

use crate::config;
use crate::fault::HostFault;
use auth::Auth;
use guard::{Guard, Private};
use pace::Pace;
pub(crate) use pace::date;
use secrets::Secrets;

/// How long a connection may take to be made.
const CONNECT_S: u64 = 10;

/// How often a request follows the API to another path of its own.
const HOPS_MAX: u32 = 5;

/// A host, and how it is spoken to.
pub(crate) struct Host {
    client: Client,
    origin: Url,
    auth: Auth,
    secrets: Secrets,
    pace: Pace,
    lines: Semaphore,
    allow_private: bool,
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
}

/// One request.
#[derive(Clone)]
pub(crate) struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// What came back.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
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

/// A URL without what may be secret in it.
fn shown(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!(
                "{}://…@{}",
                text.get(..scheme).unwrap_or_default(),
                text.get(at + 1..).unwrap_or_default()
            )
        }
        _ => text.to_owned(),
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
        let auth = Auth::read(manner.auth)?;
        let literals = [Some(url), auth.server()].into_iter().flatten().find_map(guard::literal);
        if let Some(private) = literals.filter(|_| !manner.allow_private) {
            return Err(HostFault::Private { what: private.to_string() });
        }
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_S).min(manner.timeout))
            .timeout(manner.timeout)
            .redirect(reqwest::redirect::Policy::none())
            // A library that sends again by itself would hide what is not known.
            .retry(reqwest::retry::never())
            // A proxy would look names up by itself.
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(Guard { allow_private: manner.allow_private }))
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_nodelay(true)
            .user_agent(concat!("hapax/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HostFault::Config(format!("no client can be made: {}", cause(&error))))?;
        let secrets = Secrets::default();
        auth.add_to(&secrets, &client);
        secrets.add_headers(manner.headers);
        let mut origin = url.clone();
        origin.set_path("");
        origin.set_query(None);
        let lines = Semaphore::new(usize::from(manner.concurrency));
        Ok(Self {
            client,
            origin,
            auth,
            secrets,
            pace: Pace::new(manner.rate),
            lines,
            allow_private: manner.allow_private,
        })
    }

    /// Host and port, for people.
    pub(crate) fn place(&self) -> String {
        place(&self.origin)
    }

    /// Whether a connection can be made at all.
    pub(crate) async fn reach(&self) -> Result<(), HostFault> {
        let gone = |reason: String| HostFault::Gone { place: self.place(), reason };
        let host = self.origin.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.origin.port_or_known_default().unwrap_or(80);
        let connect = async {
            let found = guard::find(&host, port, self.allow_private).await?;
            TcpStream::connect(found.as_slice()).await
        };
        match tokio::time::timeout(Duration::from_secs(CONNECT_S), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(match find::<Private>(&error) {
                Some(private) => HostFault::Private { what: private.to_string() },
                None => gone(error.to_string()),
            }),
            Err(_) => Err(gone("no connection within 10s".to_owned())),
        }
    }

    /// The first kilobyte of what an API sent, as text on one line, without secrets that it sent back.
    pub(crate) fn excerpt(&self, answer: &Answer) -> String {
        self.secrets.excerpt(&answer.body)
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
        let mut url = request.url.clone();
        let mut renewed = false;
        let mut hops = 0;
        loop {
            let mut one = self.client.request(request.method.clone(), url.clone());
            one = one.headers(request.headers.clone());
            if let Some(body) = &request.body {
                one = one.body(body.clone());
            }
            let one =
                self.auth.sign(&self.client, one, &self.secrets).await.map_err(|fault| match fault {
                    HostFault::Gone { reason, .. } => Lost::Unsent(reason),
                    other => Lost::Never(other),
                })?;
            if deadline.is_some_and(Deadline::is_past) {
                return Err(Lost::Late);
            }
            let answer = one.send().await.map_err(|error| lost(&self.place(), &error))?;
            if answer.status() == StatusCode::UNAUTHORIZED && !renewed && self.auth.forget().await {
                renewed = true;
                continue;
            }
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return self.read(answer, bytes_max).await;
            }
            hops += 1;
            url = self.hop(&url, &answer, &request.method, hops).map_err(Lost::Never)?;
        }
    }

    /// Where a redirect leads, if it may be followed: to the same host, by the same method.
    fn hop(&self, from: &Url, answer: &Response, method: &Method, hops: u32) -> Result<Url, HostFault> {
        let said = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let refused = |why: &'static str| HostFault::Redirect {
            place: self.place(),
            status: answer.status().as_u16(),
            to: from.join(said).map_or_else(|_| "nowhere".to_owned(), |to| place(&to)),
            why,
        };
        let to = from.join(said).map_err(|_| refused("it names no URL"))?;
        if to.origin() != self.origin.origin() {
            return Err(refused("that is another host, port or scheme"));
        }
        let keeps =
            matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps && *method != Method::GET {
            return Err(refused("it would be asked for by GET there, and nothing be written"));
        }
        if hops > HOPS_MAX {
            return Err(refused("one leads to the next"));
        }
        Ok(to)
    }

    async fn read(&self, mut answer: Response, bytes_max: usize) -> Result<Answer, Lost> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let (mut body, mut is_whole) = (Vec::new(), true);
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    let room = bytes_max.saturating_sub(body.len());
                    body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                    if chunk.len() > room {
                        is_whole = false;
                        break;
                    }
                }
                Ok(None) => break,
                // The status is known, and so is what the request did.
                Err(_) if status.is_success() && bytes_max <= SHORT => {
                    is_whole = false;
                    break;
                }
                Err(error) => return Err(lost(&self.place(), &error)),
            }
        }
        Ok(Answer { status, headers, body, is_whole })
    }
}

/// How much of an answer is read of which only the status counts.
pub(crate) const SHORT: usize = 16 * 1024;

impl Answer {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the API asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        // A wait that is given as a date is counted by the API's own clock, if it says the time.
        let now = self.header(&DATE).and_then(date).unwrap_or_else(unix_ms);
        pace::retry_after(self.header(&RETRY_AFTER)?, now)
    }

    /// When the API answered, by its own clock.
    pub(crate) fn date_unix_ms(&self) -> Option<u64> {
        self.header(&DATE).and_then(date)
    }
}

/// This machine's date.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a failure of the client means.
fn lost(place: &str, error: &reqwest::Error) -> Lost {
    if let Some(private) = find::<Private>(error) {
        return Lost::Never(HostFault::Private { what: private.to_string() });
    }
    if let Some(tls) = find::<rustls::Error>(error).filter(|_| error.is_connect()) {
        return Lost::Never(HostFault::Tls { place: place.to_owned(), reason: tls.to_string() });
    }
    if error.is_builder() {
        return Lost::Never(HostFault::Config(cause(error)));
    }
    match error.is_connect() {
        true => Lost::Unsent(cause(error)),
        false if error.is_timeout() => Lost::Unknown("no answer in time".to_owned()),
        false => Lost::Unknown(cause(error)),
    }
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
