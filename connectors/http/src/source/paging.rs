//! How pages follow each other.

use hyper::header::LINK;
use url::Url;

use super::json::{Document, is_pointer};
use super::link::next_link;
use super::position::Page;
use crate::client::Answer;
use crate::config;
use crate::fault::ReadFault;

/// How pages follow each other.
#[derive(Debug)]
pub(super) enum Paging {
    /// There is one.
    One,
    /// Each names the next.
    Cursor(config::Cursor),
    /// They are numbered.
    Number { param: String, first: u64 },
    /// Records are.
    Offset(config::Offset),
    /// Each has a link to the next.
    Link,
}

impl Paging {
    pub(super) fn read(config: Option<&config::Paging>) -> Result<Self, ReadFault> {
        let wrong = |what: &str| Err(ReadFault::Config(what.to_owned()));
        let Some(config) = config else { return Ok(Self::One) };
        match (&config.cursor, &config.page, &config.offset, config.link) {
            (Some(cursor), None, None, false) if is_pointer(&cursor.from) => Ok(Self::Cursor(cursor.clone())),
            (Some(_), None, None, false) => wrong("`paging.cursor.from` is a JSON pointer: `/meta/next`"),
            (None, Some(page), None, false) => {
                Ok(Self::Number { param: page.param.clone(), first: page.first.unwrap_or(1) })
            }
            (None, None, Some(offset), false) if offset.limit > 0 => Ok(Self::Offset(offset.clone())),
            (None, None, Some(_), false) => wrong("`paging.offset.limit` is at least 1"),
            (None, None, None, true) => Ok(Self::Link),
            _ => wrong("`paging` is one of `cursor`, `page`, `offset` and `link: true`"),
        }
    }

    /// Whether the last page gets more records, at the same number, while others follow it.
    pub(super) fn fills_up(&self) -> bool {
        matches!(self, Self::Number { .. })
    }

    /// The URL of a page.
    pub(super) fn url(&self, first: &Url, page: &Page) -> Option<Url> {
        let mut url = first.clone();
        match (self, page) {
            (Self::One | Self::Cursor(_) | Self::Link, Page::First) => {}
            (Self::Cursor(cursor), Page::Cursor(text)) => set(&mut url, &cursor.param, text),
            (Self::Number { param, first }, Page::First) => set(&mut url, param, &first.to_string()),
            (Self::Number { param, .. }, Page::Number(number)) => set(&mut url, param, &number.to_string()),
            (Self::Offset(offset), Page::First) => {
                set(&mut url, &offset.limit_param, &offset.limit.to_string());
                set(&mut url, &offset.param, "0");
            }
            (Self::Offset(offset), Page::Number(number)) => {
                set(&mut url, &offset.limit_param, &offset.limit.to_string());
                set(&mut url, &offset.param, &number.to_string());
            }
            (Self::Link, Page::Link(to)) => {
                let mut to = first.join(to).ok()?;
                let given: Vec<String> = to.query_pairs().map(|(name, _)| name.into()).collect();
                for (name, value) in
                    first.query_pairs().filter(|(name, _)| !given.iter().any(|given| given == name))
                {
                    to.query_pairs_mut().append_pair(&name, &value);
                }
                return Some(to);
            }
            _ => return None,
        }
        Some(url)
    }

    /// What the page behind this one is asked by; `None` at the end.
    pub(super) fn next(
        &self,
        first: &Url,
        url: &Url,
        page: &Page,
        answer: &Answer,
        document: &Document<'_>,
        records: u64,
    ) -> Result<Option<Page>, ReadFault> {
        let wrong = |reason: String| ReadFault::NoNext { page: shown(url, page), reason };
        let next = match self {
            Self::One => None,
            Self::Cursor(cursor) => match document.at(&cursor.from) {
                None | Some("null" | "\"\"" | "false") => None,
                Some(text) if text.starts_with('"') => {
                    let text = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
                    Some(Page::Cursor(text))
                }
                Some(text) if text.starts_with(['{', '[']) => {
                    return Err(wrong(format!("{:?} is no text and no number", cursor.from)));
                }
                Some(text) => Some(Page::Cursor(text.to_owned())),
            },
            Self::Number { first, .. } => {
                let number = if let Page::Number(number) = page { *number } else { *first };
                (records > 0).then(|| Page::Number(number.saturating_add(1)))
            }
            Self::Offset(_) => {
                let number = if let Page::Number(number) = page { *number } else { 0 };
                (records > 0).then(|| Page::Number(number.saturating_add(records)))
            }
            Self::Link => {
                // What cannot be read may lead on.
                let unread = |reason: String| wrong(format!("its header `Link` cannot be read: {reason}"));
                let mut found = None;
                for link in answer.headers.get_all(LINK) {
                    let next = next_link(&String::from_utf8_lossy(link.as_bytes())).map_err(unread)?;
                    found = found.or(next);
                }
                let Some(to) = found else { return Ok(None) };
                if to.contains(char::REPLACEMENT_CHARACTER) {
                    return Err(unread("its URL is not UTF-8".to_owned()));
                }
                let mut to =
                    url.join(&to).map_err(|error| wrong(format!("its link to the next: {error}")))?;
                if to.origin() != url.origin() {
                    return Err(wrong(format!(
                        "its link leads to another host, {}",
                        crate::client::place(&to)
                    )));
                }
                without(&mut to, first);
                let path = to.as_str().get(to.origin().ascii_serialization().len()..).unwrap_or_default();
                Some(Page::Link(path.to_owned()))
            }
        };
        match next {
            Some(next) if next == *page => Err(wrong("it names itself as the next".to_owned())),
            next => Ok(next),
        }
    }
}

/// A page for people: without its parameters, of which one may be a secret.
pub(super) fn shown(url: &Url, page: &Page) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    match page {
        Page::First => format!("the first page of {bare}"),
        Page::Cursor(text) => format!("the page of cursor {text:?} of {bare}"),
        Page::Number(number) => format!("the page of number {number} of {bare}"),
        Page::Link(_) => format!("a page of {bare}"),
    }
}

/// Takes out of a URL the parameters that the first one has, too: they are put in again, and a position holds none that is
/// a secret.
fn without(url: &mut Url, first: &Url) {
    let known: Vec<(String, String)> = first.query_pairs().map(|(n, v)| (n.into(), v.into())).collect();
    let own =
        |(n, v): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| (n.into_owned(), v.into_owned());
    let others: Vec<(String, String)> =
        url.query_pairs().map(own).filter(|pair| !known.contains(pair)).collect();
    match others.is_empty() {
        true => url.set_query(None),
        false => {
            url.query_pairs_mut().clear().extend_pairs(others);
        }
    }
}

/// Sets a parameter of a URL.
pub(super) fn set(url: &mut Url, name: &str, value: &str) {
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(other, _)| other != name).map(|(n, v)| (n.into(), v.into())).collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_links_that_cannot_be_read_is_no_end() {
        let url = Url::parse("http://h/x").unwrap();
        let next = |links: &[&[u8]]| {
            let mut headers = hyper::header::HeaderMap::new();
            for link in links {
                headers.append(LINK, hyper::header::HeaderValue::from_bytes(link).unwrap());
            }
            let answer = Answer { status: hyper::StatusCode::OK, headers, body: Vec::new(), is_whole: true };
            let document = Document::read(b"[]").unwrap();
            Paging::Link.next(&url, &url, &Page::First, &answer, &document, 0)
        };
        let link = |path: &str| Some(Page::Link(path.to_owned()));
        assert_eq!(next(&[]).unwrap(), None);
        assert_eq!(next(&[b"</x?p=0>; rel=prev", b"</x?p=2>; rel=\"next\""]).unwrap(), link("/x?p=2"));
        assert_eq!(next(&[b"</x?p=2>; title=\"\xfc\"; rel=next"]).unwrap(), link("/x?p=2"));
        for unread in [&b"</x?p=2; rel=next"[..], b"nonsense"] {
            assert!(matches!(next(&[unread]), Err(ReadFault::NoNext { .. })));
        }
    }

    #[test]
    fn a_link_is_kept_without_the_parameters_of_the_first_page() {
        let first = Url::parse("http://h/x?key=secret&page=1").unwrap();
        let mut to = Url::parse("http://h/x?key=secret&page=2").unwrap();
        without(&mut to, &first);
        assert_eq!(to.as_str(), "http://h/x?page=2");
        let again = Paging::Link.url(&first, &Page::Link("/x?page=2".to_owned())).unwrap();
        assert_eq!(again.as_str(), "http://h/x?page=2&key=secret");
    }

    #[test]
    fn parameters_are_set_and_others_kept() {
        let mut url = Url::parse("http://h/x?a=1&page=9&b=%26").unwrap();
        set(&mut url, "page", "1 2");
        assert_eq!(url.as_str(), "http://h/x?a=1&b=%26&page=1+2");
    }
}
