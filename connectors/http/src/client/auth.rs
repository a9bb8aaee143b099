//! Who Hapax is to an API.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::secrets::Secrets;
use super::{cause, lost};
use crate::config;
use crate::fault::HostFault;

/// A token is renewed so long before it ends.
const BEFORE_END: Duration = Duration::from_secs(30);

/// How long a token is used whose answer does not say.
const UNSAID: Duration = Duration::from_secs(300);

/// Credentials. Nothing shows them.
pub(super) enum Auth {
    None,
    Basic { user: String, password: String },
    Bearer(HeaderValue),
    OAuth2 { server: Box<Server>, token: Mutex<Option<Token>> },
}

/// An authorization server.
pub(super) struct Server {
    pub url: Url,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
}

/// What an authorization server gave.
#[derive(Clone)]
pub(super) struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn read(config: Option<&config::Auth>) -> Result<Self, HostFault> {
        let Some(config) = config else { return Ok(Self::None) };
        match (&config.basic, &config.bearer, &config.oauth2) {
            (Some(basic), None, None) => {
                Ok(Self::Basic { user: basic.user.clone(), password: basic.password.clone() })
            }
            (None, Some(token), None) => Ok(Self::Bearer(bearer(token)?)),
            (None, None, Some(oauth)) => Ok(Self::OAuth2 {
                server: Box::new(Server {
                    url: super::address(&oauth.token_url)?,
                    client_id: oauth.client_id.clone(),
                    client_secret: oauth.client_secret.clone(),
                    scope: oauth.scope.clone(),
                }),
                token: Mutex::new(None),
            }),
            _ => Err(HostFault::Config("`auth` is one of `basic`, `bearer` and `oauth2`".to_owned())),
        }
    }

    /// The server that tokens come from, if they come from one.
    pub(super) fn server(&self) -> Option<&Url> {
        match self {
            Self::OAuth2 { server, .. } => Some(&server.url),
            _ => None,
        }
    }

    /// Puts the credentials into a request.
    pub(super) async fn sign(
        &self,
        client: &Client,
        request: RequestBuilder,
        secrets: &Secrets,
    ) -> Result<RequestBuilder, HostFault> {
        Ok(match self {
            Self::None => request,
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer(header) => request.header(AUTHORIZATION, header.clone()),
            Self::OAuth2 { server, token } => {
                let mut token = token.lock().await;
                let fresh = token.as_ref().filter(|token| token.until > Instant::now()).cloned();
                let fresh = match fresh {
                    Some(fresh) => fresh,
                    None => {
                        let given = server.give(client).await?;
                        secrets.add(secret_of(&given.header));
                        token.insert(given).clone()
                    }
                };
                request.header(AUTHORIZATION, fresh.header)
            }
        })
    }

    /// Forgets a token that the API does not take any more. False if there is none to forget.
    pub(super) async fn forget(&self) -> bool {
        match self {
            Self::OAuth2 { token, .. } => token.lock().await.take().is_some(),
            _ => false,
        }
    }

    /// Remembers what nobody is to be shown.
    pub(super) fn add_to(&self, secrets: &Secrets, client: &Client) {
        match self {
            Self::None => {}
            Self::Basic { user, password } => secrets.add_basic(client, user, password),
            Self::Bearer(header) => secrets.add(secret_of(header)),
            Self::OAuth2 { server, .. } => {
                secrets.add_basic(client, &server.client_id, &server.client_secret);
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, HostFault> {
    let header = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut header = header
        .map_err(|_| HostFault::Config("the bearer token has signs that no header holds".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn secret_of(header: &HeaderValue) -> &str {
    header.to_str().unwrap_or_default().trim_start_matches("Bearer ")
}

impl Server {
    async fn give(&self, client: &Client) -> Result<Token, HostFault> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let place = super::place(&self.url);
        let request = client.post(self.url.clone()).basic_auth(&self.client_id, Some(&self.client_secret));
        let asked_at = Instant::now();
        let answer = request.form(&form).send().await;
        let answer = answer.map_err(|error| lost(&place, &error).into_fault(&place))?;
        let refused = |said: String| HostFault::NoToken { place: place.clone(), said };
        match answer.status() {
            status if status.is_success() => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                let reason = format!("HTTP status {status}");
                return Err(HostFault::Gone { place, reason });
            }
            status => return Err(refused(format!("HTTP status {status}"))),
        }
        let given: Given = answer.json().await.map_err(|error| refused(cause(&error.without_url())))?;
        let lasts = given.expires_in.map_or(UNSAID, Duration::from_secs);
        Ok(Token { header: bearer(&given.access_token)?, until: asked_at + lasts.saturating_sub(BEFORE_END) })
    }
}
