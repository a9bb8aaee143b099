//! Who Hapax is to an API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::secrets::Secrets;
use super::wire::Wire;
use super::{Request, path_of};
use crate::config;
use crate::fault::HostFault;

/// A token is renewed so long before it ends.
const BEFORE_END: Duration = Duration::from_secs(30);

/// How long a token is used whose answer does not say.
const UNSAID: Duration = Duration::from_secs(300);

/// The longest answer with a token, in bytes.
const TOKEN_BYTES_MAX: usize = 1024 * 1024;

/// Credentials. Nothing shows them.
pub(super) enum Auth {
    None,
    Basic { password: String, header: HeaderValue },
    Bearer(HeaderValue),
    OAuth2 { server: Box<Server>, token: Mutex<Option<Token>> },
}

/// An authorization server.
pub(super) struct Server {
    url: Url,
    wire: Wire,
    client_secret: String,
    /// The client and its secret, as they are sent.
    header: HeaderValue,
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
    /// Reads what a file says. An authorization server is spoken to over a wire of its own.
    pub(super) fn read(
        config: Option<&config::Auth>,
        wire_to: impl Fn(&Url) -> Result<Wire, HostFault>,
    ) -> Result<Self, HostFault> {
        let Some(config) = config else { return Ok(Self::None) };
        match (&config.basic, &config.bearer, &config.oauth2) {
            (Some(basic), None, None) => {
                let header = self::basic(&basic.user, &basic.password)?;
                Ok(Self::Basic { password: basic.password.clone(), header })
            }
            (None, Some(token), None) => Ok(Self::Bearer(bearer(token)?)),
            (None, None, Some(oauth)) => {
                let url = super::address(&oauth.token_url)?;
                let server = Server {
                    wire: wire_to(&url)?,
                    url,
                    client_secret: oauth.client_secret.clone(),
                    header: self::basic(&oauth.client_id, &oauth.client_secret)?,
                    scope: oauth.scope.clone(),
                };
                Ok(Self::OAuth2 { server: Box::new(server), token: Mutex::new(None) })
            }
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

    /// What says in a request who Hapax is.
    pub(super) async fn sign(&self, secrets: &Secrets) -> Result<Option<HeaderValue>, HostFault> {
        Ok(match self {
            Self::None => None,
            Self::Basic { header, .. } | Self::Bearer(header) => Some(header.clone()),
            Self::OAuth2 { server, token } => {
                let mut token = token.lock().await;
                if let Some(fresh) = token.as_ref().filter(|token| token.until > Instant::now()) {
                    return Ok(Some(fresh.header.clone()));
                }
                let given = server.give(secrets).await?;
                secrets.add(secret_of(&given.header));
                Some(token.insert(given).header.clone())
            }
        })
    }

    /// Forgets a token that the API did not take, unless another request has had it renewed since. False where
    /// credentials do not change.
    pub(super) async fn forget(&self, refused: Option<&HeaderValue>) -> bool {
        let Self::OAuth2 { token, .. } = self else { return false };
        let mut token = token.lock().await;
        if token.as_ref().map(|token| &token.header) == refused {
            *token = None;
        }
        true
    }

    /// Remembers what nobody is to be shown.
    pub(super) fn add_to(&self, secrets: &Secrets) {
        let add = |password: &str, header: &HeaderValue| {
            secrets.add(password);
            secrets.add(secret_of(header));
        };
        match self {
            Self::None => {}
            Self::Basic { password, header } => add(password, header),
            Self::Bearer(header) => secrets.add(secret_of(header)),
            Self::OAuth2 { server, .. } => add(&server.client_secret, &server.header),
        }
    }
}

/// The value of a header that nobody is shown.
fn hidden(text: String, what: &str) -> Result<HeaderValue, HostFault> {
    let header = HeaderValue::try_from(text);
    let mut header =
        header.map_err(|_| HostFault::Config(format!("the {what} has signs that no header holds")))?;
    header.set_sensitive(true);
    Ok(header)
}

fn bearer(token: &str) -> Result<HeaderValue, HostFault> {
    hidden(format!("Bearer {token}"), "bearer token")
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, HostFault> {
    hidden(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), "password")
}

/// A header without `Bearer` and the like.
fn secret_of(header: &HeaderValue) -> &str {
    let text = header.to_str().unwrap_or_default();
    text.split_once(' ').map_or(text, |(_, secret)| secret)
}

impl Server {
    /// What is asked for.
    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        form.finish()
    }

    async fn give(&self, secrets: &Secrets) -> Result<Token, HostFault> {
        let place = self.wire.place();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = Request {
            method: Method::POST,
            path: path_of(&self.url)?,
            headers: self.wire.dressed(HeaderMap::from_iter([(CONTENT_TYPE, form_type)])).into(),
            body: Some(self.form().into()),
        };
        let asked_at = Instant::now();
        let answer = self.wire.exchange(&request, Some(self.header.clone()), TOKEN_BYTES_MAX).await;
        let answer = answer.map_err(|lost| lost.into_fault(&place))?;
        let refused = |said: String| HostFault::NoToken { place: place.clone(), said };
        match answer.status {
            status if status.is_success() => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                let reason = format!("HTTP status {}", status.as_u16());
                return Err(HostFault::Gone { place, reason });
            }
            status => {
                let said = secrets.excerpt(&answer.body);
                return Err(refused(format!("HTTP status {}: {said}", status.as_u16())));
            }
        }
        let given: Given = serde_json::from_slice(&answer.body)
            .map_err(|_| refused("its answer holds no `access_token`".to_owned()))?;
        let lasts = given.expires_in.map_or(UNSAID, Duration::from_secs);
        Ok(Token { header: bearer(&given.access_token)?, until: asked_at + lasts.saturating_sub(BEFORE_END) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_that_another_request_had_renewed_stays() {
        let guard = || super::super::guard::Guard::new(true);
        let config: config::Auth = serde_json::from_value(serde_json::json!({
            "oauth2": { "token_url": "http://127.0.0.1:1/token", "client_id": "c", "client_secret": "s" }
        }))
        .unwrap();
        let auth =
            Auth::read(Some(&config), |url| Wire::to(url, guard(), None, Duration::from_secs(1))).unwrap();
        let Auth::OAuth2 { token, .. } = &auth else { panic!("another kind") };
        let until = Instant::now() + Duration::from_secs(60);
        let of = |text: &str| Token { header: bearer(text).unwrap(), until };
        let (first, second) = (of("first").header, of("second").header);
        // Three requests were refused with the first token: one forgets it, and has it renewed.
        *token.lock().await = Some(of("first"));
        assert!(auth.forget(Some(&first)).await && token.lock().await.is_none());
        assert!(auth.forget(Some(&first)).await);
        *token.lock().await = Some(of("second"));
        assert!(auth.forget(Some(&first)).await);
        assert_eq!(token.lock().await.as_ref().map(|token| token.header.clone()), Some(second));
        assert!(!Auth::None.forget(None).await);
    }
}
