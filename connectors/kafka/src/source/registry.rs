//! A schema registry, over HTTP.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use crate::config;
use crate::fault::ReadFault;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often one is asked.
const ATTEMPTS_MAX: u32 = 5;

/// A schema registry.
#[derive(Clone)]
pub(super) struct Registry {
    url: Url,
    user: Option<(String, Option<String>)>,
    client: Client,
}

/// A registered schema.
pub(super) struct Registered {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub schema: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: Option<u32>,
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
}

/// What a registry says beside a status.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

impl Registry {
    pub(super) fn read(config: &config::Registry) -> Result<Self, ReadFault> {
        let wrong = |what: String| ReadFault::Config { key: "registry", what };
        let mut url: Url = config.url.parse().map_err(|error| wrong(format!("its `url`: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("its `url` is not one of http or https".to_owned()));
        }
        let mut user = config.user.clone().map(|user| (user, config.password.clone()));
        if !url.username().is_empty() && user.is_none() {
            user = Some((url.username().to_owned(), url.password().map(str::to_owned)));
        }
        // What is shown has no secret in it.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(wrong("its `url` cannot hold a user".to_owned()));
        }
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| wrong(format!("no client can be made: {error}")))?;
        Ok(Self { url, user, client })
    }

    /// The newest schema of a subject.
    pub(super) async fn newest(&self, subject: &str) -> Result<Registered, ReadFault> {
        let answer = self.ask(&["subjects", subject, "versions", "latest"]).await?;
        let id = answer.id.ok_or_else(|| ReadFault::RegistryRefused {
            url: self.url.to_string(),
            what: subject.to_owned(),
            reason: "its answer has no id".to_owned(),
        })?;
        registered(id, answer)
    }

    /// The schema of an id.
    pub(super) async fn schema(&self, id: u32) -> Result<Registered, ReadFault> {
        registered(id, self.ask(&["schemas", "ids", &id.to_string()]).await?)
    }

    /// Asks, again and again while nobody answers.
    async fn ask(&self, path: &[&str]) -> Result<Answer, ReadFault> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut attempt = 0;
        loop {
            let away = match self.once(url.clone(), path).await {
                Err(away @ ReadFault::RegistryAway { .. }) => away,
                other => return other,
            };
            attempt += 1;
            if attempt >= ATTEMPTS_MAX {
                return Err(away);
            }
            tokio::time::sleep(Duration::from_millis(100_u64.saturating_mul(1 << attempt))).await;
        }
    }

    async fn once(&self, url: Url, path: &[&str]) -> Result<Answer, ReadFault> {
        let away = |reason: String| ReadFault::RegistryAway { url: self.url.to_string(), reason };
        let refused = |reason: String| ReadFault::RegistryRefused {
            url: self.url.to_string(),
            what: path.join("/"),
            reason,
        };
        let mut request = self.client.get(url);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, password.as_ref());
        }
        let answer = request.send().await.map_err(|error| away(cause(&error.without_url())))?;
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(away(format!("HTTP status {status}")));
        }
        // A connection that ends in the middle of an answer says nothing.
        let body = answer.bytes().await.map_err(|error| away(cause(&error.without_url())))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| away(format!("no answer of a registry: {error}")));
        }
        if status != StatusCode::NOT_FOUND {
            return Err(refused(format!("HTTP status {status}")));
        }
        // Whoever stands before a registry also says 404 while there is none.
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(Refusal { error_code: 40401..=40403 }) => {
                Err(ReadFault::SchemaMissing { url: self.url.to_string(), what: path.join("/") })
            }
            _ => Err(away("HTTP status 404, without the words of a registry".to_owned())),
        }
    }
}

fn registered(id: u32, answer: Answer) -> Result<Registered, ReadFault> {
    let unfit = |reason: &str| ReadFault::SchemaUnfit { id, reason: reason.to_owned() };
    match answer.schema_type.as_deref() {
        None | Some("AVRO") => {}
        Some(_) => return Err(unfit("it is not one of Avro")),
    }
    if !answer.references.is_empty() {
        return Err(unfit("it refers to other schemas"));
    }
    Ok(Registered { id, schema: answer.schema })
}

/// The innermost cause: the outer words say only that a request failed.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => cause(source),
        None => error.to_string(),
    }
}
