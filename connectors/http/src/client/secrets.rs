//! What nobody is shown.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use url::{Url, form_urlencoded};

/// Headers whose values are no secrets.
const PUBLIC: [&str; 4] = ["accept", "accept-encoding", "content-type", "user-agent"];

/// What the name of a parameter holds whose value is a secret.
const TELLING: [&str; 8] = ["key", "token", "secret", "pass", "sig", "auth", "credential", "code"];

/// A shorter text is in too many others.
const LENGTH_MIN: usize = 4;

/// How much of an answer is searched.
const SEARCHED: usize = 16 * 1024;

/// How much of an answer is shown.
const SHOWN: usize = 1024;

/// Whether a parameter of this name holds a secret.
fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|telling| name.contains(telling))
}

/// A URL without parameters that are named like a secret.
pub(crate) fn without_keys(url: &Url) -> Url {
    let kept: Vec<_> = url.query_pairs().filter(|(name, _)| !is_telling(name)).collect();
    let mut public = url.clone();
    public.set_query(None);
    if !kept.is_empty() {
        public.query_pairs_mut().extend_pairs(kept);
    }
    public
}

/// Every form in which a secret was sent, those of earlier tokens too.
#[derive(Default)]
pub(super) struct Secrets(RwLock<Vec<String>>);

impl Secrets {
    /// Remembers a secret, and the forms that it has in a JSON text and in a URL.
    pub(super) fn add(&self, secret: &str) {
        let json = serde_json::Value::from(secret).to_string();
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let strict = form.replace('+', "%20");
        // As a URL writes what it does not have to change.
        let mut url = Url::parse("http://h/").ok();
        if let Some(url) = &mut url {
            url.set_path(secret);
            url.set_query(Some(secret));
        }
        let path = url.as_ref().map(|url| url.path().trim_start_matches('/').to_owned());
        let query = url.as_ref().and_then(Url::query).map(str::to_owned);
        let small = [&form, &strict].map(|form| small_digits(form));
        // One that stands in the file as a URL has it.
        let text = format!("x={}", secret.replace('&', "%26").replace('+', "%2B"));
        let read = form_urlencoded::parse(text.as_bytes()).next().map(|(_, read)| read.into_owned());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let written = [secret.to_owned(), json, form, strict].into_iter().chain(small);
        for one in written.chain(path).chain(query).chain(read) {
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

    /// Remembers the values of parameters of a URL that are secrets by their names. Others come from the file as references,
    /// or are none.
    pub(super) fn add_parameters(&self, url: &Url) {
        url.query_pairs().filter(|(name, _)| is_telling(name)).for_each(|(_, value)| self.add(&value));
    }

    /// A text without secrets.
    pub(super) fn hidden(&self, text: &str) -> String {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), "***"),
            false => text,
        })
    }

    /// The beginning of what an API sent, as text on one line, without secrets. They go first: half of one is found by nobody.
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
        let searched = body.get(..SEARCHED).unwrap_or(body);
        let text = self.hidden(&String::from_utf8_lossy(searched));
        // The last of what was searched may be half of one.
        let longest = self.0.read().unwrap_or_else(PoisonError::into_inner).first().map_or(0, String::len);
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

/// A text of a URL with small hexadecimal digits.
fn small_digits(form: &str) -> String {
    let mut parts = form.split('%');
    let mut small = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        small.push('%');
        small.push_str(&digits.to_ascii_lowercase());
        small.push_str(rest);
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_secret_is_hidden() {
        let secrets = Secrets::default();
        secrets.add("a/b \"ü+=");
        for form in [
            "a/b \"ü+=",
            "a/b \\\"ü+=",
            "a%2Fb+%22%C3%BC%2B%3D",
            "a%2Fb%20%22%C3%BC%2B%3D",
            "a%2fb%20%22%c3%bc%2b%3d",
            "a/b%20%22%C3%BC+=",
        ] {
            assert_eq!(secrets.hidden(&format!("<{form}>")), "<***>", "{form}");
        }
        let url = Url::parse("https://h/x?api_key=k%2Fy-1&per=1000&X-Signature=abcd&q=name").unwrap();
        secrets.add_parameters(&url);
        assert_eq!(secrets.hidden("k/y-1 k%2Fy-1 1000 abcd name"), "*** *** 1000 *** name");
        secrets.add("in%2Fa%20URL");
        assert_eq!(secrets.hidden("in%2Fa%20URL in/a URL"), "*** ***");
        let of = |text: &str| without_keys(&Url::parse(text).unwrap()).to_string();
        assert_eq!(of("http://h/e?api_key=s&deployment=a"), "http://h/e?deployment=a");
        assert_eq!(of("http://h/e?sig=s"), "http://h/e");
        // A text that is too short to be told from others stays.
        secrets.add("abc");
        assert_eq!(secrets.hidden("abc"), "abc");
    }
}
