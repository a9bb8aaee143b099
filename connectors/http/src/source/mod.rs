//! The source: pages of JSON records, one after the other.

mod json;
mod link;
mod paging;
mod position;
mod reader;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::message::{Bodies, Format, Layout};
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts, Window};
use hapax_protocol::position::{Position, SplitId};
use hyper::header::HeaderMap;
use url::Url;

use crate::client::{self, Host, Manner};
use crate::codes;
use crate::config::SourceConfig;
use crate::fault::ReadFault;
use json::is_pointer;
use paging::Paging;
use position::Spot;
use reader::Reader;

/// The one split.
const SPLIT: &str = "pages";

/// What an API that changes cannot promise.
const SHIFTS: &str = "no record moves from one page to another while they are read, and none changes";

/// What `immutable` says.
const IMMUTABLE: &str =
    "a record that was listed keeps its place and its content, and new ones come behind it (`immutable`)";

/// What a listing by time cannot check.
const SINCE: &str = "each change of a record is listed no later than `lateness` behind the time that it bears, no page of one listing leaves out a record that does not change, and records are not deleted";

/// An API that is read.
pub struct Pages {
    host: Arc<Host>,
    plan: Arc<Plan>,
}

/// What is read, and how.
struct Plan {
    url: Url,
    headers: Arc<HeaderMap>,
    records: String,
    paging: Paging,
    since: Option<Since>,
    immutable: bool,
    layout: Layout,
}

/// A listing by time.
struct Since {
    param: String,
    lateness: Window,
}

impl Pages {
    /// Opens the source: reads what it is told. Asks for nothing.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        let wrong = |what: String| ReadFault::Config(what);
        let url = client::address(&config.url)?;
        if !is_pointer(&config.records) {
            return Err(wrong("`records` is a JSON pointer: `/data`, or nothing".to_owned()).into());
        }
        let since = config.updated_since.as_ref().map(|since| {
            let lateness = Window::parse(&since.lateness);
            let lateness = lateness
                .ok_or_else(|| wrong("`lateness` is a length of time: 90s, 5m, 2h, 1d".to_owned()))?;
            Ok::<_, ReadFault>(Since { param: since.param.clone(), lateness })
        });
        if config.updated_since.is_some() && config.immutable {
            let what = "`immutable` and `updated_since` exclude each other: a listing by time is another one each time";
            return Err(wrong(what.to_owned()).into());
        }
        if config.rate == Some(0) {
            return Err(wrong("`rate` is at least 1 request a second".to_owned()).into());
        }
        let headers = client::headers(&config.headers);
        let headers = headers
            .ok_or_else(|| wrong("`headers` has a name or a value that no header holds".to_owned()))?;
        let bodies = Bodies::new(Format::Json, Some(&config.schema), config.unknown_fields);
        let bodies = bodies.map_err(|error| wrong(error.to_string()))?;
        let plan = Plan {
            headers: Arc::default(),
            records: config.records.clone(),
            paging: Paging::read(config.paging.as_ref())?,
            since: since.transpose()?,
            immutable: config.immutable,
            layout: Layout::new(bodies, Vec::new()),
            url,
        };
        let manner = Manner {
            auth: config.auth.as_ref(),
            headers: &config.headers,
            rate: config.rate,
            timeout: client::timeout(config.timeout.as_deref())?,
            concurrency: 1,
            allow_private: config.allow_private,
            tls: config.tls.as_ref(),
            secrets: &config.secrets,
        };
        let host = Arc::new(Host::open(&plan.url, manner)?);
        let headers = Arc::new(host.dressed(headers));
        Ok(Self { host, plan: Arc::new(Plan { headers, ..plan }) })
    }
}

impl Source for Pages {
    fn facts(&self) -> SourceFacts {
        let facts = SourceFacts {
            completeness: Completeness::Incomplete,
            replay: Replay::Unidentified,
            retention: Retention::Unbounded,
            order: Order::None,
            settle: Settle::Seek,
            condition: Some(SHIFTS),
        };
        match &self.plan.since {
            // What is read again has another number than before: only a key tells that it is the same.
            Some(since) => SourceFacts {
                completeness: Completeness::Late { lateness: since.lateness, lookback: since.lateness },
                order: Order::PerKey,
                condition: Some(SINCE),
                ..facts
            },
            None if self.plan.immutable => SourceFacts {
                completeness: Completeness::Complete,
                replay: Replay::Exact,
                order: Order::PerKey,
                condition: Some(IMMUTABLE),
                ..facts
            },
            None => facts,
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.layout.schema())
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let only = Split { id: SplitId::new(SPLIT), source_bytes: None };
        Box::pin(std::future::ready(Ok(vec![only])))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let spot = match after {
            None => Ok(Spot::default()),
            Some(position) => {
                Spot::decoded(position).ok_or_else(|| ReadFault::ForeignPosition(split.clone()))
            }
        };
        let opened = spot.map_err(SourceError::from).map(|spot| {
            let (host, plan) = (Arc::clone(&self.host), Arc::clone(&self.plan));
            let reader: Box<dyn SplitReader> =
                Box::new(Reader::begin(host, plan, split.clone(), spot, after.cloned()));
            reader
        });
        Box::pin(std::future::ready(opened))
    }

    fn describe(&self, position: &Position) -> String {
        Spot::decoded(position).map_or_else(|| format!("{position:?}"), |spot| spot.words())
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::UNDECODABLE
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let read = self.plan.layout.reread(&letter.raw, self.rejects_with(letter.code));
        let read =
            read.map_err(|reason| ReadFault::LetterUnreadable { place: letter.place.clone(), reason }.into());
        Box::pin(std::future::ready(read))
    }
}
