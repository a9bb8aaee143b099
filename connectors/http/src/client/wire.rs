//! Connections to one host: made, kept, and used again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hapax_engine::tls::Tls;
use http_body_util::Full;
use hyper::Uri;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::answer::Answer;
use super::guard::{Guard, Private};
use super::line::{Failed, Many, One, many, send_among};
use super::{Lost, Request, find, place, trust};
use crate::fault::HostFault;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A host that is spoken to.
pub(super) struct Wire {
    pub origin: Url,
    host: String,
    port: u16,
    authority: Authority,
    guard: Guard,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    /// What every request says that does not say it otherwise.
    common: Vec<(HeaderName, HeaderValue)>,
    /// Connections that carry one request at a time, and none now. The last that came back is used first.
    idle: Mutex<Vec<One>>,
    /// The connection that carries many.
    many: Mutex<Option<Many>>,
}

/// A new connection.
enum Line {
    One(One),
    Many(Many),
}

impl Wire {
    /// A host, by a URL of it. Nothing is sent.
    pub(super) fn to(
        url: &Url,
        guard: Guard,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, HostFault> {
        let mut origin = url.clone();
        origin.set_path("");
        origin.set_query(None);
        let bad = |reason: &str| HostFault::BadUrl { url: origin.to_string(), reason: reason.to_owned() };
        let host = origin.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = origin.port_or_known_default().unwrap_or(80);
        let authority: Authority = place(&origin).parse().map_err(|_| bad("its host is none"))?;
        let is_encrypted = origin.scheme() == "https";
        let files = Tls::read(tls, is_encrypted).map_err(|error| HostFault::Config(error.to_string()))?;
        let tls = match is_encrypted {
            true => {
                let name = ServerName::try_from(host.clone());
                Some((trust::connector(&files)?, name.map_err(|_| bad("no certificate can name its host"))?))
            }
            false => None,
        };
        let common = [
            (HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| bad("its host is none"))?),
            (USER_AGENT, HeaderValue::from_static(concat!("hapax/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT, HeaderValue::from_static("*/*")),
            (ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
        ];
        let (idle, many) = (Mutex::default(), Mutex::default());
        Ok(Self { host, port, authority, guard, tls, timeout, common: common.into(), idle, many, origin })
    }

    /// Host and port, for people.
    pub(super) fn place(&self) -> String {
        place(&self.origin)
    }

    /// Makes a connection, and keeps it for the next request.
    pub(super) async fn reach(&self) -> Result<(), Lost> {
        match self.connect().await? {
            Line::One(one) => self.keep(one),
            Line::Many(many) => *self.many.lock().unwrap_or_else(PoisonError::into_inner) = Some(many),
        }
        Ok(())
    }

    /// These headers, and what every request says that does not say it otherwise.
    pub(super) fn dressed(&self, mut headers: HeaderMap) -> HeaderMap {
        for (name, value) in &self.common {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        headers
    }

    /// Sends a request, and returns the answer with at most so many bytes of its body.
    pub(super) async fn exchange(
        &self,
        request: &Request,
        authorization: Option<HeaderValue>,
        bytes_max: usize,
    ) -> Result<Answer, Lost> {
        let mut headers = HeaderMap::clone(&request.headers);
        if let Some(authorization) = authorization {
            headers.insert(hyper::header::AUTHORIZATION, authorization);
        }
        let mut touched = false;
        let exchange = self.exchange_over(request, &headers, bytes_max, &mut touched);
        match timeout(self.timeout, exchange).await {
            Ok(exchanged) => exchanged,
            Err(_) if touched => Err(Lost::Unknown("no answer in time".to_owned())),
            Err(_) => Err(Lost::Unsent("no connection in time".to_owned())),
        }
    }

    async fn exchange_over(
        &self,
        request: &Request,
        headers: &HeaderMap,
        bytes_max: usize,
        touched: &mut bool,
    ) -> Result<Answer, Lost> {
        loop {
            *touched = false;
            let (line, is_new) = match self.kept() {
                Some(line) => (line, false),
                None => (self.connect().await?, true),
            };
            *touched = true;
            let failed = match line {
                Line::One(one) => match one.send(self.request(request, headers.clone()), bytes_max).await {
                    Ok((answer, one)) => {
                        one.into_iter().for_each(|one| self.keep(one));
                        return Ok(answer);
                    }
                    Err(failed) => failed,
                },
                Line::Many(many) => {
                    if is_new {
                        *self.many.lock().unwrap_or_else(PoisonError::into_inner) = Some(many.clone());
                    }
                    let request = self.request_among(request, headers.clone());
                    match send_among(many, request, bytes_max).await {
                        Ok(answer) => return Ok(answer),
                        Err(failed) => {
                            // It may say that it is open and take nothing: the next request makes another one.
                            if matches!(failed, Failed::Untouched(_)) {
                                *self.many.lock().unwrap_or_else(PoisonError::into_inner) = None;
                            }
                            failed
                        }
                    }
                }
            };
            if let Failed::Untouched(reason) | Failed::Lost(reason) = &failed
                && self.tls.is_some()
                && is_unknown_client(reason)
            {
                return Err(Lost::Never(HostFault::Tls { place: self.place(), reason: reason.clone() }));
            }
            match failed {
                // The server ended it before.
                Failed::Untouched(_) if !is_new => {}
                Failed::Untouched(reason) => return Err(Lost::Unsent(reason)),
                Failed::Lost(reason) => return Err(Lost::Unknown(reason)),
            }
        }
    }

    fn request(&self, request: &Request, headers: HeaderMap) -> hyper::Request<Full<Bytes>> {
        let mut one = hyper::Request::new(Full::new(request.body.clone().unwrap_or_default()));
        *one.method_mut() = request.method.clone();
        *one.uri_mut() = Uri::from(request.path.clone());
        *one.headers_mut() = headers;
        one
    }

    /// A request of HTTP/2, which names its host in the URL.
    fn request_among(&self, request: &Request, mut headers: HeaderMap) -> hyper::Request<Full<Bytes>> {
        headers.remove(HOST);
        let mut one = self.request(request, headers);
        let mut parts = hyper::http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(request.path.clone());
        // With all three of them there is one.
        *one.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        one
    }

    /// A connection that may still be used.
    fn kept(&self) -> Option<Line> {
        let mut many = self.many.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = many.as_ref().filter(|many| !many.is_closed()) {
            return Some(Line::Many(open.clone()));
        }
        *many = None;
        drop(many);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.pop() {
            Some(one) if one.is_fresh() => Some(Line::One(one)),
            // The others were used before it.
            _ => {
                idle.clear();
                None
            }
        }
    }

    fn keep(&self, one: One) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    /// Makes a connection, to an address that was looked at.
    async fn connect(&self) -> Result<Line, Lost> {
        let until = Instant::now() + CONNECT.min(self.timeout);
        let late = |_| Lost::Unsent(format!("no connection within {:?}", CONNECT.min(self.timeout)));
        let stream = timeout_at(until, self.reached(until)).await.map_err(late)??;
        let Some((tls, name)) = &self.tls else {
            return One::over(stream).await.map(Line::One).map_err(Lost::Unsent);
        };
        let secured = timeout_at(until, tls.connect(name.clone(), stream)).await.map_err(late)?;
        let stream = secured.map_err(|error| match find::<rustls::Error>(&error) {
            Some(tls) => Lost::Never(HostFault::Tls { place: self.place(), reason: tls.to_string() }),
            None => Lost::Unsent(error.to_string()),
        })?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => many(stream).await.map(Line::Many).map_err(Lost::Unsent),
            _ => One::over(stream).await.map(Line::One).map_err(Lost::Unsent),
        }
    }

    async fn reached(&self, until: Instant) -> Result<TcpStream, Lost> {
        let found = self.guard.find(&self.host, self.port).await;
        let found = found.map_err(|error| match find::<Private>(&error) {
            Some(private) => Lost::Never(HostFault::Private { what: private.to_string() }),
            None => Lost::Unsent(error.to_string()),
        })?;
        let mut why = "its name leads to no address".to_owned();
        let mut left = u32::try_from(found.len()).unwrap_or(u32::MAX);
        for address in found {
            // One that says nothing leaves time for the next.
            let share = until.saturating_duration_since(Instant::now()).checked_div(left).unwrap_or_default();
            left = left.saturating_sub(1);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("{address} does not answer"),
            }
        }
        Err(Lost::Unsent(why))
    }
}

/// Whether a server says that it does not know this client: with TLS 1.3 it does so once the connection stands, and takes
/// nothing that came over it.
fn is_unknown_client(reason: &str) -> bool {
    let alert = reason.split_once("fatal alert: ").map(|(_, alert)| alert);
    alert.is_some_and(|alert| {
        ["Certificate", "UnknownCA", "AccessDenied"].iter().any(|word| alert.contains(word))
    })
}

/// What a request asks for, of a URL.
pub(crate) fn path_of(url: &Url) -> Result<PathAndQuery, HostFault> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map_err(|error| HostFault::BadUrl { url: place(url), reason: error.to_string() })
}
