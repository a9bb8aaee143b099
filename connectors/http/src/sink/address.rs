//! URLs and headers made of columns.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use hapax_engine::template::{Names, Template};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use url::Url;

use crate::client;
use crate::fault::{HostFault, WriteFault};
use hapax_engine::fault::SinkError;

/// What may stand between two columns of a URL: no value that is written into one holds any of it.
const SEPARATORS: [char; 10] = ['/', '?', '&', '=', ',', ';', ':', '@', '+', '!'];

/// A URL with columns behind its host.
pub(super) struct Address {
    /// What stands behind the host.
    path: Template,
    text: String,
}

/// The URLs of some records.
pub(super) struct Paths<'a>(Names<'a>);

impl Address {
    /// Reads one. Its host has no columns.
    pub(super) fn read(key: &'static str, text: &str) -> Result<Self, SinkError> {
        Template::read(text).map_err(WriteFault::template(key))?;
        let bad = |reason: &str| HostFault::BadUrl { url: text.to_owned(), reason: reason.to_owned() };
        let behind_scheme = text.find("://").map_or(0, |at| at + 3);
        let behind = text.get(behind_scheme..).unwrap_or_default();
        let host_ends = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        if text.get(..behind_scheme + host_ends).unwrap_or_default().contains('{') {
            client::address(&text.replace(['{', '}'], "x"))?;
            return Err(bad("columns may stand behind the host only").into());
        }
        let path = path_of(behind.get(host_ends..).unwrap_or_default());
        let path = Template::read(&path).map_err(WriteFault::template(key))?;
        let address = Self { path, text: text.to_owned() };
        let sample = client::address(&address.sample())?;
        if sample.fragment().is_some() {
            return Err(bad("what stands behind `#` is never sent").into());
        }
        if !kept(&sample, &address.sample()) {
            return Err(
                bad("what a URL cannot hold is written as %20, and no `.` or `..` stands alone").into()
            );
        }
        Ok(address)
    }

    /// With a value in the place of each column.
    fn sample(&self) -> String {
        let mut sample = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            sample.push_str(before);
            sample.push('x');
            rest = behind.split_once('}').map_or("", |(_, after)| after);
        }
        sample.push_str(rest);
        sample
    }

    /// A URL of the host.
    pub(super) fn host(&self) -> Result<Url, HostFault> {
        client::address(&self.sample())
    }

    /// Whether a column is in it.
    pub(super) fn holds(&self, column: &str) -> bool {
        self.path.columns().any(|name| name == column)
    }

    /// Whether there are columns in its path.
    pub(super) fn has_path_of_columns(&self) -> bool {
        self.text.split('?').next().is_some_and(|path| path.contains('{'))
    }

    pub(super) fn check(&self, key: &'static str, schema: &Schema) -> Result<(), WriteFault> {
        self.path.check(schema).map_err(WriteFault::template(key))
    }

    /// Whether it names these columns and no others, so that each choice of values makes another URL.
    pub(super) fn names(&self, key: &[String]) -> bool {
        let named: std::collections::BTreeSet<&str> = self.path.columns().collect();
        let key: std::collections::BTreeSet<&str> = key.iter().map(String::as_str).collect();
        !key.is_empty() && named == key && self.path.separates(&SEPARATORS)
    }

    /// Made ready for the URLs of many rows.
    pub(super) fn over<'a>(&'a self, records: &'a RecordBatch) -> Result<Paths<'a>, String> {
        self.path.over(records).map(Paths)
    }
}

impl Paths<'_> {
    /// What a row's URL asks for; an error says why it has none.
    pub(super) fn of(&self, row: usize) -> Result<PathAndQuery, String> {
        let empty = std::cell::Cell::new(false);
        let escape = |value: &str, url: &mut String| {
            if value.is_empty() {
                empty.set(true);
            }
            escaped(value, url);
        };
        let path = self.0.name(row, escape)?;
        if empty.get() {
            return Err("a column that the URL needs is empty: that is another URL".to_owned());
        }
        if leads_up(&path) {
            return Err("a column that the URL needs is `.` or `..`: that is another URL".to_owned());
        }
        PathAndQuery::from_maybe_shared(Bytes::from(path))
            .map_err(|_| "no URL holds the columns that it needs".to_owned())
    }
}

/// Whether a part of a path is `.` or `..`, which whoever reads it takes out.
fn leads_up(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/').skip(1).any(|part| {
        let dots = match part.contains('%') {
            true => part.replace("%2e", ".").replace("%2E", "."),
            false => return matches!(part, "." | ".."),
        };
        matches!(dots.as_str(), "." | "..")
    })
}

/// What stands behind the host of a URL, as it is asked for.
fn path_of(behind: &str) -> String {
    match behind.strip_prefix('?') {
        Some(query) => format!("/?{query}"),
        None if behind.is_empty() => "/".to_owned(),
        None => behind.to_owned(),
    }
}

/// Whether reading a URL has left its path and query as they were written.
fn kept(url: &Url, text: &str) -> bool {
    let mut read = url.path().to_owned();
    if let Some(query) = url.query() {
        read.push('?');
        read.push_str(query);
    }
    let behind = text.find("://").and_then(|at| text.get(at + 3..)).unwrap_or_default();
    let written = behind.find(['/', '?']).and_then(|at| behind.get(at..)).unwrap_or_default();
    read == path_of(written)
}

/// Writes a value into a URL. Two values are never written alike.
fn escaped(value: &str, url: &mut String) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if value.bytes().all(is_plain) {
        url.push_str(value);
        return;
    }
    for byte in value.bytes() {
        match byte {
            byte if is_plain(byte) => url.push(char::from(byte)),
            byte => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
}

/// Headers with columns in them.
pub(super) struct Headers(Vec<(HeaderName, Template)>);

impl Headers {
    pub(super) fn read<'a>(
        headers: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, WriteFault> {
        let read = |(name, text): (&String, &String)| {
            let key = format!("headers.{name}");
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_| WriteFault::Config(format!("`{name}` is no header")))?;
            let ours = ["content-length", "transfer-encoding", "host", "connection", "content-encoding"];
            if ours.contains(&parsed.as_str()) {
                return Err(WriteFault::Config(format!("the header `{name}` is set by Hapax itself")));
            }
            let template = Template::read(text).map_err(WriteFault::template(key))?;
            if template.columns().next().is_none() && HeaderValue::from_str(text).is_err() {
                return Err(WriteFault::Config(format!("the header `{name}` has signs that none holds")));
            }
            Ok((parsed, template))
        };
        headers.map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn check(&self, schema: &Schema) -> Result<(), WriteFault> {
        self.0.iter().try_for_each(|(name, template)| {
            template.check(schema).map_err(WriteFault::template(format!("headers.{name}")))
        })
    }

    /// Whether a column is in one of them.
    pub(super) fn hold(&self, column: &str) -> bool {
        self.0.iter().any(|(_, template)| template.columns().any(|name| name == column))
    }

    /// Whether each record has its own.
    pub(super) fn vary(&self) -> bool {
        self.0.iter().any(|(_, template)| template.columns().next().is_some())
    }

    /// Made ready for the headers of many rows.
    pub(super) fn over<'a>(&'a self, records: &'a RecordBatch) -> Result<HeadersOf<'a>, String> {
        let all = self.0.iter().map(|(name, template)| Ok((name, template.over(records)?)));
        all.collect::<Result<_, String>>().map(HeadersOf)
    }
}

/// The headers of some records.
pub(super) struct HeadersOf<'a>(Vec<(&'a HeaderName, Names<'a>)>);

impl HeadersOf<'_> {
    /// The headers of a row; an error says why it has none.
    pub(super) fn of(&self, row: usize) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.0 {
            let text = values.name(row, |value, text| text.push_str(value))?;
            let value = HeaderValue::from_str(&text);
            let value = value.map_err(|_| format!("the header {name} cannot hold its value"))?;
            headers.insert(HeaderName::clone(name), value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn values_become_parts_of_a_url_and_no_two_the_same() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a-1"),
            Some("a/b?c#d"),
            Some("ü %"),
            Some(""),
            Some("."),
            Some(".."),
            None,
            Some("..."),
        ]));
        let records = RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap();
        let address = Address::read("url", "http://h:1/orders/{id}?x=1").unwrap();
        let of = |row| address.over(&records)?.of(row).map(|path| path.to_string());
        assert_eq!(of(0).unwrap(), "/orders/a-1?x=1");
        assert_eq!(of(1).unwrap(), "/orders/a%2Fb%3Fc%23d?x=1");
        assert_eq!(of(2).unwrap(), "/orders/%C3%BC%20%25?x=1");
        assert_eq!(of(7).unwrap(), "/orders/...?x=1");
        for row in 3..7 {
            assert!(of(row).is_err(), "{row}");
        }
        for (url, row) in [("http://h/.{id}", 4), ("http://h/%2e{id}/x", 4), ("http://h/{id}%2E?x", 4)] {
            let address = Address::read("url", url).unwrap();
            assert!(address.over(&records).unwrap().of(row).is_err(), "{url}");
            assert!(address.over(&records).unwrap().of(0).is_ok(), "{url}");
        }
        let bare =
            |url| Address::read("url", url).unwrap().over(&records).unwrap().of(0).unwrap().to_string();
        assert_eq!((bare("http://h"), bare("http://h?q={id}")), ("/".to_owned(), "/?q=a-1".to_owned()));
    }

    #[test]
    fn urls_that_cannot_be_are_refused() {
        let read = |text: &str| Address::read("url", text).err().map(|error| error.fault.code());
        for good in
            ["https://h/{a}/{b}", "http://h", "http://h/?q={a}", "http://h:80/x/{a}", "http://[::1]:3/{a}"]
        {
            assert_eq!(read(good), None, "{good}");
        }
        for bad in [
            "ftp://h/{a}",
            "h/{a}",
            "http://{a}/",
            "http://u:p@h/{a}",
            "http://h/a b",
            "http://h/{a}#f",
            "http://h/../{a}",
            "http:///{a}",
            "http://h:{a}/",
        ] {
            assert_eq!(read(bad), Some(crate::codes::BAD_URL), "{bad}");
        }
        assert_eq!(read("http://h/{a"), Some(crate::codes::TEMPLATE));
        let names = |text: &str, key: &[&str]| {
            let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
            Address::read("url", text).map(|address| address.names(&key)).unwrap()
        };
        assert!(names("http://h/{a}/{b}", &["b", "a"]) && names("http://h/{a}?v={b}", &["a", "b"]));
        assert!(!names("http://h/{a}{b}", &["a", "b"]) && !names("http://h/{a}-{b}", &["a", "b"]));
        assert!(!names("http://h/{a}", &["a", "b"]) && !names("http://h/{a}/{b}", &["a"]));
        assert!(!names("http://h/x", &[]));
    }
}
