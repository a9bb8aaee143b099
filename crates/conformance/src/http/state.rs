//! What the API holds, and what a request does to it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::listing;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers, with small names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it came over HTTP/2.
    pub is_http2: bool,
    /// When it came.
    pub at: Instant,
}

impl Recorded {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What a token was used for.
struct Used {
    at: Instant,
    request: (String, Vec<u8>),
}

/// What the API holds, and how it behaves.
#[derive(Default)]
pub struct State {
    /// What was put, by path.
    pub resources: BTreeMap<String, Value>,
    /// Everything that a POST added, with its path.
    pub posted: Vec<(String, Value)>,
    /// Every request, in the order in which they came.
    pub requests: Vec<Recorded>,
    /// Whether an older `version` is refused with 409.
    pub guarded: bool,
    /// Bodies that hold this text are refused with this status, and never take effect.
    pub refuses: Vec<(u16, String)>,
    /// What `Authorization` has to be.
    pub authorization: Option<String>,
    /// How long tokens are remembered, if they are.
    pub window: Option<Duration>,
    /// A POST of an array puts each record at the path and its `id`.
    pub upserts: bool,
    /// Where else a path leads to: a status and a location.
    pub redirects: BTreeMap<String, (u16, String)>,
    /// Records that are listed at a path: when each changed, in milliseconds since 1970, and its JSON.
    pub lists: BTreeMap<String, Vec<(u64, String)>>,
    /// Whether planned failures also meet GET.
    pub fails_reads: bool,
    /// The secret that the authorization server wants, and for how many seconds it gives tokens.
    pub client: Option<(String, u64)>,
    /// How many tokens it gave.
    pub given: u64,
    /// Whether each request is answered with this status, and with all that it held.
    pub echoes: Option<u16>,
    /// Whether answers are compressed for whoever takes that.
    pub gzips: bool,
    /// How many connections were made.
    pub connections: usize,
    /// How many requests are under way.
    pub under_way: usize,
    /// The most that ever were at once.
    pub peak: usize,
    /// No request is answered before so many were under way at once.
    pub gathers: usize,
    /// The header that tokens come in, if not `idempotency-key`; with small letters.
    pub token_header: Option<String>,
    /// What is said of what is refused, if not a few words.
    pub refusal: Option<String>,
    tokens: HashMap<String, Used>,
}

impl State {
    /// How many requests of this method came.
    pub fn count(&self, method: &str) -> usize {
        self.requests.iter().filter(|request| request.method == method).count()
    }

    /// What comes of a request, as it is sent.
    pub(super) fn answer(&mut self, request: &Recorded) -> Reply {
        let mut reply = self.apply(request);
        let takes = request.header("accept-encoding").is_some_and(|coding| coding.contains("gzip"));
        if self.gzips && takes {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&reply.body).unwrap();
            reply.body = encoder.finish().unwrap();
            reply.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        }
        reply
    }

    fn apply(&mut self, request: &Recorded) -> Reply {
        if let Some(status) = self.echoes {
            let (path, headers) = (&request.path, &request.headers);
            return plain(status, &format!("{path} {} {headers:?}", unescaped(path)));
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/token" {
            return self.token(request);
        }
        if self.authorization.as_deref().is_some_and(|wanted| request.header("authorization") != Some(wanted))
        {
            return plain(401, "who are you");
        }
        if let Some((status, to)) = self.redirects.get(path) {
            let mut reply = plain(*status, "elsewhere");
            reply.headers.push(("location".to_owned(), to.clone()));
            return reply;
        }
        if request.method == "GET" {
            return match self.resources.get(&unescaped(path)) {
                Some(value) => json(200, value),
                None => listing::page(self, path, query).unwrap_or_else(|| plain(404, "nothing there")),
            };
        }
        let body = match request.header("content-encoding") {
            Some("gzip") => {
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(request.body.as_slice()).read_to_end(&mut body).unwrap();
                body
            }
            _ => request.body.clone(),
        };
        let text = String::from_utf8_lossy(&body);
        if let Some((status, _)) = self.refuses.iter().find(|(_, unfit)| text.contains(unfit.as_str())) {
            let words = self.refusal.as_deref().unwrap_or("this does not fit, and never will");
            return plain(*status, words);
        }
        let path = unescaped(path);
        if request.method == "DELETE" {
            return match self.resources.remove(&path) {
                Some(_) => plain(204, ""),
                None => plain(404, "nothing there"),
            };
        }
        let Ok(value) = serde_json::from_slice::<Value>(&body) else { return plain(400, "not JSON") };
        match request.method.as_str() {
            "PUT" => self.put(path, value),
            "PATCH" => match (self.resources.get_mut(&path), value) {
                (Some(Value::Object(there)), Value::Object(change)) => {
                    there.extend(change);
                    plain(200, "changed")
                }
                _ => plain(404, "nothing there"),
            },
            _ => self.post(&path, value, request),
        }
    }

    fn put(&mut self, path: String, value: Value) -> Reply {
        let version = |value: &Value| value["version"].as_i64();
        let older = self.resources.get(&path).is_some_and(|there| version(there) > version(&value));
        if self.guarded && older {
            return plain(409, "a newer one is there");
        }
        match self.resources.insert(path, value) {
            Some(_) => plain(200, "replaced"),
            None => plain(201, "made"),
        }
    }

    fn post(&mut self, path: &str, value: Value, request: &Recorded) -> Reply {
        let header = self.token_header.as_deref().unwrap_or("idempotency-key");
        if let (Some(window), Some(token)) = (self.window, request.header(header)) {
            let used = (request.path.clone(), request.body.clone());
            match self.tokens.get(token) {
                Some(first) if first.at.elapsed() <= window && first.request != used => {
                    return plain(422, "this token was used for something else");
                }
                Some(first) if first.at.elapsed() <= window => return plain(201, "as before"),
                _ => {
                    self.tokens.insert(token.to_owned(), Used { at: Instant::now(), request: used });
                }
            }
        }
        match value {
            Value::Array(all) if self.upserts => {
                for one in all {
                    let at = format!("{path}/{}", one["id"]);
                    self.resources.insert(at, one);
                }
            }
            Value::Array(all) => self.posted.extend(all.into_iter().map(|one| (path.to_owned(), one))),
            one => self.posted.push((path.to_owned(), one)),
        }
        plain(201, "made")
    }

    fn token(&mut self, request: &Recorded) -> Reply {
        let Some((secret, seconds)) = self.client.clone() else { return plain(404, "no tokens here") };
        let form = String::from_utf8_lossy(&request.body).into_owned();
        if request.header("authorization") != Some(&secret) || !form.contains("grant_type=client_credentials")
        {
            return plain(401, "wrong secret");
        }
        self.given += 1;
        let token = format!("token-{}", self.given);
        self.authorization = Some(format!("Bearer {token}"));
        json(
            200,
            &serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds }),
        )
    }
}

pub(super) fn plain(status: u16, words: &str) -> Reply {
    Reply { status, headers: Vec::new(), body: words.as_bytes().to_vec() }
}

pub(super) fn json(status: u16, value: &Value) -> Reply {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Reply { status, headers, body: value.to_string().into_bytes() }
}

/// A path without `%20` and the like.
pub(super) fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
