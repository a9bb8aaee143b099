//! What nobody is shown.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use url::form_urlencoded;

/// Headers whose values are no secrets.
const PUBLIC: [&str; 4] = ["accept", "accept-encoding", "content-type", "user-agent"];

/// A shorter text is in too many others.
const LENGTH_MIN: usize = 4;

/// How much of an answer is searched.
const SEARCHED: usize = 16 * 1024;

/// How much of an answer is shown.
const SHOWN: usize = 1024;

/// Every form in which a secret was sent, those of earlier tokens too.
#[derive(Default)]
pub(super) struct Secrets(RwLock<Vec<String>>);

impl Secrets {
    /// Remembers a secret, and the forms that it has in a JSON text and in a URL.
    pub(super) fn add(&self, secret: &str) {
        let json = serde_json::Value::from(secret).to_string();
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for one in [secret.to_owned(), json, form] {
            if one.len() >= LENGTH_MIN && !all.contains(&one) {
                all.push(one);
            }
        }
        // One may be in another.
        all.sort_by_key(|one| std::cmp::Reverse(one.len()));
    }

    /// Remembers the values of headers that a file gives; of one with columns in it, what stands between them.
    pub(super) fn add_headers(&self, headers: &BTreeMap<String, String>) {
        for (name, value) in headers {
            if PUBLIC.iter().any(|public| name.eq_ignore_ascii_case(public)) {
                continue;
            }
            if value.contains('{') {
                value
                    .split(['{', '}'])
                    .step_by(2)
                    .filter(|part| part.len() >= 8)
                    .for_each(|part| self.add(part));
                continue;
            }
            self.add(value);
            // `Bearer` and the like.
            if let Some((_, secret)) = value.split_once(' ') {
                self.add(secret);
            }
        }
    }

    /// The beginning of what an API sent, as text on one line, without secrets. They go first: half of one is found by nobody.
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
        let searched = body.get(..SEARCHED).unwrap_or(body);
        let mut text = String::from_utf8_lossy(searched).into_owned();
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for secret in all.iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "***");
            }
        }
        // The last of what was searched may be half of one.
        let longest = all.first().map_or(0, String::len);
        let whole = if body.len() >= SEARCHED { text.len().saturating_sub(longest) } else { text.len() };
        let mut shown = String::new();
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if shown.len() + c.len_utf8() > whole.min(SHOWN) {
                break;
            }
            shown.push(c);
        }
        shown.trim().to_owned()
    }
}
