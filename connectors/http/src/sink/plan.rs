//! What is written where, and what sending it again does.

use arrow::array::RecordBatch;
use bytes::Bytes;
use hapax_engine::fault::SinkError;
use hapax_engine::identify::digest;
use hapax_engine::sink::{Repeat, Shape};
use hapax_engine::template::Template;
use hapax_engine::transform::RefusedRow;
use hapax_protocol::guarantee::{Guard, InDoubt, Window};
use hapax_protocol::identity::Token;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::address::{Address, Headers};
use super::body::{Body, array, gzip};
use crate::client::{Host, Request};
use crate::codes;
use crate::config::{Method, SinkConfig};
use crate::fault::WriteFault;

/// What the network adds to the time that a request may be under way, in milliseconds.
const NETWORK_MS: u64 = 5_000;

/// A sink as its section says it.
pub(super) struct Plan {
    pub url: Address,
    pub method: Method,
    headers: Headers,
    body: Body,
    pub batch: Option<usize>,
    token: Option<HeaderName>,
    /// The place of a drill: its requests are no repeats of those of the pipeline, nor of another place.
    place: Option<String>,
    version: Option<Template>,
    /// The statuses that say that the API has what is not older.
    pub overtaken: Vec<u16>,
    pub probe: Option<Address>,
    pub repeat: Repeat,
    compress: bool,
    /// The columns of the identity, once they are known.
    key: RwLock<Vec<String>>,
}

/// Whose requests go one after the other.
enum Order {
    /// Those to one URL: it is a name of the identity.
    Url,
    /// Those of one identity.
    Key(Template),
    /// Nobody's: there is no identity.
    None,
}

/// What is sent of some records.
pub(super) struct Parcels {
    /// What is sent.
    pub newest: Vec<Parcel>,
    /// By the row that takes its place: what is sent only if the API refuses that one.
    pub older: HashMap<usize, Parcel>,
    /// The rows that cannot be a request.
    pub refused: Vec<RefusedRow>,
}

/// One request and the records that it carries.
#[derive(Clone)]
pub(super) struct Parcel {
    pub rows: Vec<usize>,
    pub bodies: Vec<Bytes>,
    pub request: Request,
    /// Whose requests go one after the other: those of one number.
    pub lane: usize,
}

impl Plan {
    pub(super) fn read(
        config: &SinkConfig,
        timeout_ms: u64,
        place: Option<String>,
    ) -> Result<Self, SinkError> {
        let wrong = |what: &str| WriteFault::Config(what.to_owned());
        let url = Address::read("url", &config.url)?;
        let probe = config.probe.as_deref().map(|probe| Address::read("probe", probe)).transpose()?;
        if let Some(probe) = &probe
            && probe.host()?.origin() != url.host()?.origin()
        {
            return Err(wrong("`probe` is at another host than `url`").into());
        }
        let repeat = repeat(config, timeout_ms)?;
        let batch = config.batch.map(|batch| usize::from(batch.records));
        if batch.is_some_and(|records| records == 0 || records > 10_000) {
            return Err(wrong("`batch.records` is 1 to 10000").into());
        }
        let headers = Headers::read(config.headers.iter())?;
        if batch.is_some() {
            batch_fits(config, &headers)?;
        }
        if config.method == Method::Delete && config.body.is_some() {
            return Err(wrong("DELETE sends no `body`").into());
        }
        let token = config.idempotency.as_ref().map(|idempotency| {
            let name = idempotency.header.as_deref().unwrap_or("Idempotency-Key");
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("`idempotency.header` is no header"))
        });
        let overtaken = match &config.version {
            None => Vec::new(),
            Some(version) => version.refused_with.clone().unwrap_or_else(|| vec![409, 412]),
        };
        if overtaken.iter().any(|status| !(400..500).contains(status) || matches!(status, 401 | 403 | 429)) {
            return Err(wrong(
                "`version.refused_with` are statuses from 400 to 499, without 401, 403 and 429",
            )
            .into());
        }
        let version = config.version.as_ref().map(|version| {
            let column = format!("{{{}}}", version.column);
            Template::read(&column).map_err(WriteFault::template("version.column"))
        });
        Ok(Self {
            url,
            method: config.method,
            headers,
            body: Body::read(config.body.as_ref())?,
            batch,
            token: token.transpose()?,
            place,
            version: version.transpose()?,
            overtaken,
            probe,
            repeat,
            compress: config.compress.is_some(),
            key: RwLock::default(),
        })
    }

    /// Refuses columns and an identity that do not fit, and remembers the identity.
    pub(super) fn check(&self, shape: &Shape) -> Result<(), WriteFault> {
        self.url.check("url", &shape.schema)?;
        self.headers.check(&shape.schema)?;
        self.body.check(&shape.schema)?;
        if let Some(probe) = &self.probe {
            probe.check("probe", &shape.schema)?;
            // What is found may be an older value, or what a PATCH was to change.
            if self.method != Method::Post || self.is_harmless() {
                let what = "`probe` is for POST without `idempotent` and `idempotency`: elsewhere a record that is there may be an older one";
                return Err(WriteFault::Config(what.to_owned()));
            }
            if !probe.names(&shape.key) {
                return Err(WriteFault::ProbeWithoutIdentity);
            }
        }
        if let Some(version) = &self.version {
            version.check(&shape.schema).map_err(WriteFault::template("version.column"))?;
            let by_body = |column: &str| self.method != Method::Delete && self.body.holds(column);
            let is_sent =
                |column: &str| by_body(column) || self.headers.hold(column) || self.url.holds(column);
            if !version.columns().all(is_sent) {
                let what =
                    "the API never gets the column of `version`: write it into `body`, a header or `url`";
                return Err(WriteFault::Config(what.to_owned()));
            }
        }
        if matches!(self.repeat, Repeat::Replaces { .. }) {
            let by_url = matches!(self.method, Method::Put | Method::Delete);
            if by_url && !self.url.names(&shape.key) {
                return Err(WriteFault::NoIdentity { method: self.word() });
            }
            if shape.key.is_empty() {
                let what = "`idempotent: true` says that a record replaces the one of its key: write `identity: { key: [...] }`";
                return Err(WriteFault::Config(what.to_owned()));
            }
        }
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = shape.key.clone();
        Ok(())
    }

    pub(super) fn word(&self) -> &'static str {
        match self.method {
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }

    /// Whether sending again replaces, and the last of a key is as good as all of them.
    pub(super) fn only_last(&self) -> bool {
        self.repeat == Repeat::Replaces { guard: Guard::None }
    }

    /// Whether what is in doubt may be sent again.
    pub(super) fn may_resend(&self) -> bool {
        self.repeat.in_doubt() == InDoubt::Resend
    }

    /// Whether a repeat harms nobody.
    pub(super) fn is_harmless(&self) -> bool {
        !matches!(self.repeat, Repeat::Adds { .. })
    }

    /// Whether the API drops repeats of a token.
    pub(super) fn has_tokens(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a status would come back for any record.
    pub(super) fn is_no_fault_of_a_record(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::PAYMENT_REQUIRED
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::UPGRADE_REQUIRED
            | StatusCode::PRECONDITION_REQUIRED => true,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => !self.headers.vary(),
            StatusCode::NOT_FOUND | StatusCode::GONE => !self.url.has_path_of_columns(),
            _ => false,
        }
    }

    /// Whose turn each record waits for.
    fn order(&self) -> Order {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        if self.url.names(&key) {
            return Order::Url;
        }
        let names: Vec<String> = key.iter().map(|name| format!("{{{name}}}")).collect();
        let template = Template::read(&names.join("/")).ok().filter(|_| !names.is_empty());
        template.map_or(Order::None, Order::Key)
    }

    /// A token as the API gets it.
    fn written(&self, token: &Token) -> String {
        match &self.place {
            None => token.to_string(),
            Some(place) => Token(digest(format!("{place}\0{token}").as_bytes())).to_string(),
        }
    }

    /// What every request says in the same way.
    fn settled(&self, mut headers: HeaderMap) -> HeaderMap {
        if self.method != Method::Delete {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            if self.compress {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        headers
    }

    /// The requests of some records.
    pub(super) fn parcels(
        &self,
        records: &RecordBatch,
        tokens: &[Token],
        host: &Host,
    ) -> Result<Parcels, WriteFault> {
        let rows = records.num_rows();
        let bodies = match self.method {
            Method::Delete => vec![Ok(Bytes::new()); rows],
            _ => self.body.of(records)?,
        };
        let wrong = |reason: String| WriteFault::Config(reason);
        let paths = self.url.over(records).map_err(wrong)?;
        let headers = self.headers.over(records).map_err(wrong)?;
        let version =
            self.version.as_ref().map(|version| version.over(records)).transpose().map_err(wrong)?;
        let order = self.order();
        let keys = if let Order::Key(key) = &order { Some(key.over(records).map_err(wrong)?) } else { None };
        let same = match self.headers.vary() || self.token.is_some() {
            true => None,
            false => headers.of(0).ok().map(|headers| Arc::new(host.dressed(self.settled(headers)))),
        };
        let (mut parcels, mut refused) = (Vec::with_capacity(rows), Vec::new());
        let mut numbers = Numbers::default();
        for (row, body) in bodies.into_iter().enumerate() {
            let made = (|| {
                let (path, body) = (paths.of(row)?, body?);
                let headers = match &same {
                    Some(same) => Arc::clone(same),
                    None => {
                        let mut headers = self.settled(headers.of(row)?);
                        if let (Some(name), Some(token)) = (&self.token, tokens.get(row)) {
                            let value = HeaderValue::from_str(&self.written(token));
                            headers.insert(name.clone(), value.map_err(|error| error.to_string())?);
                        }
                        Arc::new(host.dressed(headers))
                    }
                };
                if let Some(version) = &version {
                    version.name(row, |_, _| ()).map_err(|why| format!("`version`: {why}"))?;
                }
                let lane = match (&keys, &order) {
                    (Some(keys), _) => numbers.of(&keys.name(row, lane)?),
                    (None, Order::Url) => numbers.of(path.as_str()),
                    (None, _) => row,
                };
                let request = Request { method: self.method.http(), path, headers, body: None };
                Ok(Parcel { rows: vec![row], bodies: vec![body], request, lane })
            })();
            match made {
                Ok(parcel) => parcels.push(parcel),
                Err(reason) => refused.push(RefusedRow { row, code: codes::UNHELD, reason }),
            }
        }
        let mut older = HashMap::new();
        if self.only_last() && numbers.0.len() < parcels.len() {
            (parcels, older) = newest_of(parcels);
        }
        Ok(Parcels { newest: parcels, older, refused })
    }

    /// Puts the body of its records into a request.
    pub(super) fn seal(&self, parcel: &mut Parcel) -> Result<(), WriteFault> {
        if self.method == Method::Delete {
            return Ok(());
        }
        let body = match (self.batch, parcel.bodies.as_slice()) {
            (None, [only]) => only.clone(),
            (_, all) => array(all),
        };
        parcel.request.body = Some(match self.compress {
            true => gzip(&body)?,
            false => body,
        });
        Ok(())
    }

    /// As a plan says it.
    pub(super) fn says(&self, place: &str) -> String {
        let word = self.word();
        let what = match self.batch {
            Some(records) => format!("{word} to {place}, arrays of up to {records} records"),
            None => format!("{word} to {place}, one request a record"),
        };
        match self.repeat {
            // No API that is described here refuses for good.
            Repeat::Replaces { guard: Guard::Version } | Repeat::Refused { .. } => {
                format!("{what}, by key: the API refuses a value that is older than the one it has")
            }
            Repeat::Replaces { guard: Guard::None } => {
                format!("{what}, by key: a repeat replaces, requests of one key go one after the other")
            }
            Repeat::Dropped { window, .. } => {
                format!("{what}, each with a token of which the API drops repeats for {window}")
            }
            Repeat::Adds { in_doubt: InDoubt::Resend } => format!("{what}: a repeat adds another"),
            Repeat::Adds { in_doubt: InDoubt::Hold } => {
                format!("{what}: what is in doubt is set aside and not sent again")
            }
        }
    }
}

/// Writes a value of an identity: no two identities make one name.
fn lane(value: &str, lane: &mut String) {
    for c in value.chars() {
        if matches!(c, '/' | '\\') {
            lane.push('\\');
        }
        lane.push(c);
    }
}

/// Numbers for names, from 0.
#[derive(Default)]
struct Numbers(HashMap<String, usize>);

impl Numbers {
    fn of(&mut self, name: &str) -> usize {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(name.to_owned(), number);
        number
    }
}

/// The last parcel of each lane, and by its row the one before it, and so on.
fn newest_of(parcels: Vec<Parcel>) -> (Vec<Parcel>, HashMap<usize, Parcel>) {
    let (mut newest, mut older) = (Vec::<Parcel>::with_capacity(parcels.len()), HashMap::new());
    // Where the last of each lane stands.
    let mut known: Vec<Option<usize>> = Vec::new();
    for parcel in parcels {
        if known.len() <= parcel.lane {
            known.resize(parcel.lane.saturating_add(1), None);
        }
        let Some(place) = known.get_mut(parcel.lane) else { continue };
        match place.and_then(|place| newest.get_mut(place)) {
            Some(last) => {
                let row = parcel.rows.first().copied().unwrap_or_default();
                older.insert(row, std::mem::replace(last, parcel));
            }
            None => {
                *place = Some(newest.len());
                newest.push(parcel);
            }
        }
    }
    (newest, older)
}

fn repeat(config: &SinkConfig, timeout_ms: u64) -> Result<Repeat, WriteFault> {
    let wrong = |what: &str| Err(WriteFault::Config(what.to_owned()));
    let by_key = matches!(config.method, Method::Put | Method::Delete);
    let replaces = by_key || config.idempotent;
    if by_key && config.idempotent {
        return wrong("PUT and DELETE are idempotent by themselves: leave `idempotent` out");
    }
    if let Some(idempotency) = &config.idempotency {
        if replaces || config.version.is_some() {
            return wrong("`idempotency` is for requests that add: leave it out where a repeat replaces");
        }
        let Some(window) = Window::parse(&idempotency.window) else {
            return wrong("`idempotency.window` is a length of time: 90s, 5m, 24h");
        };
        let under_way = Window(timeout_ms.saturating_add(NETWORK_MS));
        if window.0 <= under_way.0.saturating_mul(2) {
            return Err(WriteFault::NoWindow { window, under_way });
        }
        return Ok(Repeat::Dropped { window, under_way, past: idempotency.past_window.into() });
    }
    match (replaces, &config.version) {
        (true, None) => Ok(Repeat::Replaces { guard: Guard::None }),
        (true, Some(_)) => Ok(Repeat::Replaces { guard: Guard::Version }),
        (false, None) => Ok(Repeat::Adds { in_doubt: config.in_doubt.into() }),
        (false, Some(_)) => wrong("`version` is for requests by key: PUT, DELETE, or `idempotent: true`"),
    }
}

/// An array has one URL, one set of headers, and one answer.
fn batch_fits(config: &SinkConfig, headers: &Headers) -> Result<(), WriteFault> {
    let wrong = |what: &str| Err(WriteFault::Config(what.to_owned()));
    if matches!(config.method, Method::Put | Method::Delete) {
        return wrong("`batch` is for POST and PATCH: PUT and DELETE name one record");
    }
    if Template::read(&config.url).is_ok_and(|url| url.columns().next().is_some()) || headers.vary() {
        return wrong("with `batch`, `url` and `headers` have no columns: an array has one of each");
    }
    if config.idempotency.is_some() {
        return wrong(
            "`batch` and `idempotency` exclude each other: after a failure records go in other arrays, which would have other tokens",
        );
    }
    if config.version.is_some() || config.probe.is_some() {
        return wrong("`batch` excludes `version` and `probe`: an array has one answer");
    }
    Ok(())
}
