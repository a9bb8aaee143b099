//! An endpoint that computes vectors of texts.
//!
//! It is asked as embedding APIs commonly are: `POST {"model": …, "input": [texts]}`. It answers with
//! `{"data": [{"index": 0, "embedding": [numbers]}, …]}` or `{"embeddings": [[numbers], …]}`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hapax_engine::fault::SourceError;
use hapax_engine::tls::Tls;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::{Answer, Host, Lost, Manner, Request, address, headers, path_of, timeout, without_keys};
use crate::config::Auth;
use crate::fault::{EndpointFault, HostFault};

/// How many texts are sent together, unless the file says otherwise.
const TEXTS_MAX: u16 = 64;

/// The largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often a request is sent before the engine looks.
const ATTEMPTS_MAX: u32 = 6;

/// The first wait before a request is sent again, doubled each time.
const BACKOFF_MS: u64 = 50;

/// The `http:` section of `embed`.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedConfig {
    /// The column of the vectors. It is added if the records have none of the name; if they have, only NULLs are filled.
    pub column: String,
    /// The column of the texts. Where it is NULL, the vector is NULL.
    pub from: String,
    /// How many numbers a vector has.
    pub dimension: u32,
    /// Where texts are sent: `https://HOST/v1/embeddings`, for instance.
    pub url: String,
    /// The model that is asked for. The vectors of another model are kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many texts are sent together: 64 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<u16>,
    /// The file in which vectors are kept: NAME.vectors.db beside the pipeline file by default. Losing it is computing
    /// them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// More headers of each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Requests a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How long an answer may take: 30s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Who Hapax is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whether the endpoint may be at a private address: this machine, or a network of one's own.
    #[serde(default)]
    pub allow_private: bool,
    /// Files of certificates (PEM): of authorities that are believed instead of those of the system, and Hapax's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What references in the section stand for: nobody is shown it. Hapax itself sets it.
    #[serde(skip)]
    #[schemars(skip)]
    pub secrets: Vec<String>,
}

/// An endpoint.
pub struct Endpoint {
    host: Host,
    url: Url,
    path: PathAndQuery,
    headers: Arc<HeaderMap>,
    model: Option<String>,
    texts_max: u16,
}

/// What is sent.
#[derive(Serialize)]
struct Asked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    input: &'a [String],
}

/// What comes back, in one of two forms.
#[derive(Deserialize)]
struct Given {
    data: Option<Vec<Embedded>>,
    embeddings: Option<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Embedded {
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// How a request ended.
enum Ended {
    Vectors(Vec<Vec<f32>>),
    /// The texts are not taken, and why.
    Refused(String),
}

impl Endpoint {
    /// Reads what it is told. Asks for nothing.
    pub fn open(config: &EmbedConfig) -> Result<Self, SourceError> {
        let wrong = |what: &str| EndpointFault::Config(what.to_owned());
        let url = address(&config.url)?;
        if config.rate == Some(0) || config.texts == Some(0) {
            return Err(wrong("`rate` and `texts` are at least 1").into());
        }
        let mut sent = headers(&config.headers)
            .ok_or_else(|| wrong("`headers` has a name or a value that no header holds"))?;
        sent.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let manner = Manner {
            auth: config.auth.as_ref(),
            headers: &config.headers,
            rate: config.rate,
            timeout: timeout(config.timeout.as_deref())?,
            concurrency: 4,
            allow_private: config.allow_private,
            tls: config.tls.as_ref(),
            secrets: &config.secrets,
        };
        let host = Host::open(&url, manner)?;
        let texts_max = config.texts.unwrap_or(TEXTS_MAX);
        let (path, headers) = (path_of(&url)?, Arc::new(host.dressed(sent)));
        Ok(Self { host, url, path, headers, model: config.model.clone(), texts_max })
    }

    /// What makes the vectors of equal texts equal: the endpoint and the model. Without what may be secret in the URL.
    pub fn name(&self) -> String {
        format!("{} {}", without_keys(&self.url), self.model.as_deref().unwrap_or_default())
    }

    /// How many texts it takes at once.
    pub fn texts_max(&self) -> usize {
        usize::from(self.texts_max)
    }

    /// One answer for each text, in their order: its vector, or why it has none. Where texts are refused together, each
    /// is sent by itself.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Result<Vec<f32>, String>>, SourceError> {
        match (self.ask(texts).await?, texts) {
            (Ended::Vectors(vectors), _) => Ok(vectors.into_iter().map(Ok).collect()),
            (Ended::Refused(reason), [_]) => Ok(vec![Err(reason)]),
            (Ended::Refused(_), texts) => {
                let mut each = Vec::with_capacity(texts.len());
                for text in texts {
                    each.push(match self.ask(std::slice::from_ref(text)).await? {
                        Ended::Vectors(vectors) => {
                            vectors.into_iter().next().ok_or("no vector came".to_owned())
                        }
                        Ended::Refused(reason) => Err(reason),
                    });
                }
                Ok(each)
            }
        }
    }

    /// Sends texts, again and again while nothing comes.
    async fn ask(&self, texts: &[String]) -> Result<Ended, SourceError> {
        let asked = Asked { model: self.model.as_deref(), input: texts };
        let body = serde_json::to_vec(&asked).map_err(|error| self.unread(error.to_string()))?;
        let (path, headers) = (self.path.clone(), Arc::clone(&self.headers));
        let request = Request { method: Method::POST, path, headers, body: Some(body.into()) };
        let mut attempts = 0;
        loop {
            let line = self.host.turn().await;
            let answer = self.host.send(&request, ANSWER_BYTES_MAX).await;
            drop(line);
            attempts += 1;
            let away = match answer {
                Ok(answer) if answer.status.is_success() => return self.read(&answer, texts.len()),
                Ok(answer) => match self.refused(&answer)? {
                    Some(away) => away,
                    None => return Ok(Ended::Refused(self.said(&answer))),
                },
                Err(Lost::Never(fault)) => return Err(fault.into()),
                Err(lost @ (Lost::Unsent(_) | Lost::Unknown(_) | Lost::Late)) => {
                    lost.into_fault(&self.host.place())
                }
            };
            if attempts >= ATTEMPTS_MAX {
                return Err(away.into());
            }
            tokio::time::sleep(Duration::from_millis(BACKOFF_MS << attempts)).await;
        }
    }

    fn said(&self, answer: &Answer) -> String {
        format!("HTTP status {}: {}", answer.status.as_u16(), self.host.excerpt(answer))
    }

    fn unread(&self, reason: String) -> EndpointFault {
        let reason = self.host.hidden(&reason);
        EndpointFault::Unread { place: self.host.place(), reason }
    }

    /// What a status means that is no success: an error of every text, `Some` if it may pass, `None` if these texts alone
    /// are not taken.
    fn refused(&self, answer: &Answer) -> Result<Option<HostFault>, SourceError> {
        let (place, status) = (self.host.place(), answer.status);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(HostFault::WrongCredentials { place, status: status.as_u16() }.into())
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(None)
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                self.host.pause(answer.retry_after().unwrap_or(Duration::from_secs(1)));
                Ok(Some(HostFault::Gone { place, reason: self.said(answer) }))
            }
            status if status.is_server_error() => {
                if let Some(pause) = answer.retry_after() {
                    self.host.pause(pause);
                }
                Ok(Some(HostFault::Gone { place, reason: self.said(answer) }))
            }
            status => {
                let said = self.host.excerpt(answer);
                Err(EndpointFault::Refused { place, status: status.as_u16(), said }.into())
            }
        }
    }

    fn read(&self, answer: &Answer, texts: usize) -> Result<Ended, SourceError> {
        if !answer.is_whole {
            return Err(self.unread(format!("it is larger than {ANSWER_BYTES_MAX} bytes")).into());
        }
        let given: Given =
            serde_json::from_slice(&answer.body).map_err(|error| self.unread(error.to_string()))?;
        let vectors = match (given.data, given.embeddings) {
            (Some(data), _) => ordered(data, texts)
                .ok_or_else(|| self.unread("its `index` is not that of a text".to_owned()))?,
            (None, Some(vectors)) => vectors,
            (None, None) => {
                return Err(self.unread("there is neither `data` nor `embeddings`".to_owned()).into());
            }
        };
        Ok(Ended::Vectors(vectors))
    }
}

/// The vectors in the order of the texts; `None` if two are of one text, or one of none.
fn ordered(data: Vec<Embedded>, texts: usize) -> Option<Vec<Vec<f32>>> {
    let mut places: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (at, embedded) in data.into_iter().enumerate() {
        let place = places.get_mut(embedded.index.unwrap_or(at))?;
        if place.replace(embedded.embedding).is_some() {
            return None;
        }
    }
    // One that is missing shortens the list, which whoever counts them notices.
    Some(places.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_their_texts_whatever_the_order_of_the_answer() {
        let of = |index: Option<usize>, number: f32| Embedded { index, embedding: vec![number] };
        let both = Some(vec![vec![0.0], vec![1.0]]);
        assert_eq!(ordered(vec![of(Some(1), 1.0), of(Some(0), 0.0)], 2), both);
        assert_eq!(ordered(vec![of(None, 0.0), of(None, 1.0)], 2), both);
        assert_eq!(ordered(vec![of(Some(0), 0.0), of(Some(0), 1.0)], 2), None);
        assert_eq!(ordered(vec![of(Some(2), 0.0)], 2), None);
        assert_eq!(ordered(vec![of(Some(1), 1.0)], 2), Some(vec![vec![1.0]]));
    }
}
