//! What a pipeline file says of an HTTP API.

use std::collections::BTreeMap;

use hapax_engine::columns::Columns;
use hapax_engine::message::UnknownFields;
use hapax_engine::sink::Past;
use hapax_engine::tls::Tls;
use hapax_protocol::guarantee;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An API to write to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Where each record goes: `https://host/orders/{id}`, with columns in braces behind the host. What a URL cannot hold
    /// of a value is written as `%2F`.
    pub url: String,
    /// How it goes there.
    pub method: Method,
    /// More headers, by name; columns in braces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The JSON object that is sent, by field: `"{column}"` is the value of a column, any other text is text with columns
    /// in it. Without it the record itself is sent, as an object of all columns. DELETE sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, AnyValue>>")]
    pub body: Option<serde_json::Map<String, serde_json::Value>>,
    /// The API takes arrays of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// POST or PATCH: a record that is sent again takes the place of the one of its key, and adds none.
    #[serde(default)]
    pub idempotent: bool,
    /// The API drops repeats of a token that comes in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// The API refuses a value that is older than the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// A URL by which GET tells whether a record that a POST added is there: 200, or 404. It names the identity, of which
    /// each is sent once. It is asked for records in doubt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// What happens to records of which nobody knows whether the API took them, where sending again adds another: `resend`
    /// (default: one may be there twice), or `hold`, which sets them aside (one may be missing).
    #[serde(default)]
    pub in_doubt: InDoubt,
    /// How many requests are under way at once: 8 by default, at most 256. Those of one key go one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u16>,
    /// At most this many requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How long an answer is waited for: `30s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Bodies are sent compressed. The API must take them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Who Hapax is to the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whether the host may be at a private, loopback or link-local address.
    #[serde(default)]
    pub allow_private: bool,
    /// Files of certificates (PEM): of authorities that are believed instead of those of the system, and Hapax's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What references in the section stand for: nobody is shown it. Hapax itself sets it.
    #[serde(skip)]
    #[schemars(skip)]
    pub secrets: Vec<String>,
    /// Where the API lists what it holds, for `hapax verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadBack>,
    /// Where a drill may send records instead. They stay there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
    /// The place of a drill, which Hapax itself sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub place: Option<String>,
}

/// Any JSON value.
struct AnyValue;

impl JsonSchema for AnyValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "a JSON value; columns in braces in its texts" })
    }
}

/// How a record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Puts the record at its URL.
    Put,
    /// Changes what is at its URL.
    Patch,
    /// Adds it.
    Post,
    /// Removes what is at its URL.
    Delete,
}

impl Method {
    pub(crate) fn http(self) -> hyper::Method {
        match self {
            Self::Put => hyper::Method::PUT,
            Self::Patch => hyper::Method::PATCH,
            Self::Post => hyper::Method::POST,
            Self::Delete => hyper::Method::DELETE,
        }
    }
}

/// An API that takes arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How many records one array holds at most, 1 to 10000.
    pub records: u16,
}

/// How an API drops repeats.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The header that the token comes in: `Idempotency-Key` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// How long the API remembers a token, by its documentation: `24h`.
    pub window: String,
    /// What happens to records that may have been sent longer ago than that: `stop` (default), or `hold`, which sets them
    /// aside as in doubt.
    #[serde(default)]
    pub past_window: PastWindow,
}

/// How an API refuses older values.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The column that says which of two values of a key is newer. The API gets it in the body, or in a header.
    pub column: String,
    /// The statuses by which the API says that what it has is not older: 409 and 412 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_with: Option<Vec<u16>>,
}

/// What happens to records that may have been sent too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PastWindow {
    /// The run stops before them.
    #[default]
    Stop,
    /// They are set aside.
    Hold,
}

impl From<PastWindow> for Past {
    fn from(past: PastWindow) -> Self {
        match past {
            PastWindow::Stop => Self::Stop,
            PastWindow::Hold => Self::Hold,
        }
    }
}

/// What happens to records in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InDoubt {
    /// They are sent again.
    #[default]
    Resend,
    /// They are set aside.
    Hold,
}

impl From<InDoubt> for guarantee::InDoubt {
    fn from(in_doubt: InDoubt) -> Self {
        match in_doubt {
            InDoubt::Resend => Self::Resend,
            InDoubt::Hold => Self::Hold,
        }
    }
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// `Content-Encoding: gzip`.
    Gzip,
}

/// Who Hapax is to an API. One of them.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// A user and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A token that is sent as it is: `${env:API_TOKEN}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub bearer: Option<String>,
    /// Tokens that an authorization server gives to this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user.
    pub user: String,
    /// The password: `${env:API_PASSWORD}`.
    #[schemars(extend("writeOnly" = true))]
    pub password: String,
}

/// OAuth 2.0 client credentials.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// Where tokens are given out.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// Its secret: `${env:API_SECRET}`.
    #[schemars(extend("writeOnly" = true))]
    pub client_secret: String,
    /// What is asked for, by the API's own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Where a drill sends records. `{place}` stands for the name of the drill's own place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// As `url`: `https://host/scratch/{place}/orders/{id}`.
    pub url: String,
    /// As `read.url`, if there is one: the drill counts what arrived there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// As `probe`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

/// Where an API lists what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadBack {
    /// The first page.
    pub url: String,
    /// Where in a page its records are: a JSON pointer, `/data`. The page itself by default.
    #[serde(default)]
    pub records: String,
    /// How pages follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paging: Option<Paging>,
}

/// An API to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The first page.
    pub url: String,
    /// Where in a page its records are: a JSON pointer, `/data`. The page itself by default.
    #[serde(default)]
    pub records: String,
    /// How pages follow each other. Without it there is one page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paging: Option<Paging>,
    /// Only what has changed is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_since: Option<UpdatedSince>,
    /// The API promises that a record that was listed keeps its place and its content, and that new ones come behind it.
    #[serde(default)]
    pub immutable: bool,
    /// Column names and their types.
    pub schema: Columns,
    /// What becomes of a field that `schema` does not name: `reject` (default) sets its record aside, `ignore` leaves the
    /// field out.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// More headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// At most this many requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How long an answer is waited for: `30s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Who Hapax is to the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whether the host may be at a private, loopback or link-local address.
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

/// How pages follow each other. One of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Each page holds what names the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// Pages are numbered. One without records is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
    /// Records are numbered from 0. A page without records is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// Each page has a header `Link: <…>; rel="next"`.
    #[serde(default)]
    pub link: bool,
}

/// Pages that name the next.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The parameter of the URL by which the next page is asked for.
    pub param: String,
    /// Where in a page that is: a JSON pointer, `/meta/next`. Null, or nothing there, is the end.
    pub from: String,
}

/// Numbered pages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The parameter of the URL that holds the number.
    pub param: String,
    /// The number of the first page: 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

/// Numbered records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// The parameter of the URL that holds how many records are passed over.
    pub param: String,
    /// The parameter that holds how many are asked for.
    pub limit_param: String,
    /// How many are asked for.
    pub limit: u32,
}

/// An API that lists what has changed since a moment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatedSince {
    /// The parameter of the URL that holds the moment, in UTC: `2026-01-31T12:00:00Z`.
    pub param: String,
    /// How late a change may appear at most behind the time that it bears: `5m`. So far each run looks back.
    pub lateness: String,
}
