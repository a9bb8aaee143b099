//! The source: streams, by id. A consumer group would keep a position of its own, apart from the effects.

mod entry;
mod position;
mod reader;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Arrangement, Extent, Numbers, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};

use crate::client::Address;
use crate::codes;
use crate::config::SourceConfig;
use crate::fault::ReadFault;
use crate::sink::objects;
use entry::{Entry, Shape};
use position::{Id, Mark};
use reader::{Reader, look};

/// Streams of one server.
pub struct Streams {
    address: Address,
    names: Vec<String>,
    shape: Shape,
    accepted: Option<Id>,
}

impl Streams {
    /// Opens them. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        let address = Address::read(&config.url, config.tls.as_ref())?;
        let shape = match (&config.fields, &config.schema) {
            (None, None) => return Err(unshaped(&address, &names(&config)?).await),
            _ => Shape::read(&config)?,
        };
        Self::make(config, address, shape).await
    }

    /// Opens them, to read the fields that have the names of these columns.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        let address = Address::read(&config.url, config.tls.as_ref())?;
        Self::make(config, address, Shape::of(schema)).await
    }

    async fn make(config: SourceConfig, address: Address, shape: Shape) -> Result<Self, SourceError> {
        let names = names(&config)?;
        let accepted = match config.accept_gap.as_deref().map(str::parse) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                return Err(
                    ReadFault::Config("`accept_gap` is no id such as 1700000000000-0".to_owned()).into()
                );
            }
        };
        for name in &names {
            let mut session = address.connect_for(name).await?;
            session.may_take_steps().await?;
            look(&mut session, name, None, 1).await?;
        }
        Ok(Self { address, names, shape, accepted })
    }

    fn begin(&self, split: SplitId, after: Option<Position>) -> Result<Box<dyn SplitReader>, SourceError> {
        let foreign = || SourceError::from(ReadFault::ForeignPosition { split: split.clone() });
        if !self.names.iter().any(|name| name == split.as_str()) {
            return Err(foreign());
        }
        let after = match after {
            None => None,
            Some(position) => {
                let mark = Mark::decode(&position).ok_or_else(foreign)?;
                Some((position, mark))
            }
        };
        let (address, shape) = (self.address.clone(), self.shape.clone());
        Ok(Box::new(Reader::new(address, shape, split, self.accepted, after)))
    }
}

fn names(config: &SourceConfig) -> Result<Vec<String>, ReadFault> {
    let refuse = |reason: &str| Err(ReadFault::Config(reason.to_owned()));
    let mut names = match (&config.stream, &config.streams) {
        (Some(stream), None) => vec![stream.clone()],
        (None, Some(streams)) => streams.clone(),
        (Some(_), Some(_)) => return refuse("`stream` and `streams` exclude each other"),
        (None, None) => return refuse("it names no `stream`"),
    };
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.iter().any(String::is_empty) {
        return refuse("a stream has no name");
    }
    Ok(names)
}

/// What is said where the file does not say which fields there are: those of the first entries.
async fn unshaped(address: &Address, names: &[String]) -> SourceError {
    let mut fields: Vec<String> = Vec::new();
    for name in names {
        let looked = match address.connect_for(name).await {
            Ok(mut session) => match session.may_take_steps().await {
                Ok(()) => look(&mut session, name, None, 100).await,
                Err(fault) => return fault.into(),
            },
            Err(fault) => return fault.into(),
        };
        match looked {
            Ok(found) => {
                let seen = found.entries.iter().flat_map(|entry| &entry.fields);
                fields.extend(seen.map(|(name, _)| String::from_utf8_lossy(name).into_owned()));
            }
            Err(error) => return error,
        }
        fields.sort_unstable();
        fields.dedup();
    }
    let seen = fields.iter().take(40).cloned().collect::<Vec<_>>().join(", ");
    ReadFault::Config(format!("it says neither `fields` nor `schema`; the first entries have [{seen}]"))
        .into()
}

/// What an exact replay rests on.
const CONDITION: &str = "a failover does not take back entries that were read, and nobody sets a stream's ids by hand (an entry that is removed before it was read is noticed, and stops the run)";

impl Source for Streams {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            // Ids ascend, so nothing appears behind one that was read.
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: Settle::Seek,
            condition: Some(CONDITION),
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shape.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let split = |name: &String| Split { id: SplitId::new(name.as_str()), source_bytes: None };
        Box::pin(std::future::ready(Ok(self.names.iter().map(split).collect())))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(std::future::ready(self.begin(split.clone(), after.cloned())))
    }

    fn arrangement(&self) -> Arrangement {
        Arrangement::Partitions
    }

    fn numbers(&self) -> Numbers {
        Numbers::Ascending
    }

    fn extent(&self) -> Extent {
        Extent::Growing
    }

    fn lag<'a>(
        &'a self,
        split: &'a SplitId,
        after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(async move {
            let mut session = self.address.connect_for(split.as_str()).await?;
            let state = look(&mut session, split.as_str(), None, 1).await?.state;
            let behind = after.and_then(Mark::decode).map(|mark| state.added.saturating_sub(mark.added));
            Ok(Some(behind.unwrap_or(state.length)))
        })
    }

    fn describe(&self, position: &Position) -> String {
        match Mark::decode(position) {
            Some(mark) => format!("behind entry {}", mark.id),
            None => format!("{position:?}, not a position of a stream"),
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::VALUE_MISFIT
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move {
            let refuse =
                |reason: String| SourceError::from(ReadFault::Letter { place: letter.place.clone(), reason });
            let (records, misfits) = match Entry::of_raw(&letter.raw) {
                Some(kept) => {
                    let now = self.entry(&letter, kept.id).await?;
                    self.shape.records(&[now.unwrap_or(kept)])?
                }
                None => objects(&self.shape.schema, &[letter.raw.clone().into_bytes()])
                    .map_err(|error| refuse(error.to_string()))?,
            };
            match misfits.into_iter().next() {
                Some(misfit) => Err(refuse(misfit.reason)),
                None => Ok(records),
            }
        })
    }
}

impl Streams {
    /// An entry as it is in its stream now.
    async fn entry(&self, letter: &DeadLetter, id: Id) -> Result<Option<Entry>, SourceError> {
        let stream = letter.place.split.as_str();
        let mut session = self.address.connect_for(stream).await?;
        let mut ask = redis::cmd("XRANGE");
        ask.arg(stream).arg(id.to_string()).arg(id.to_string());
        let found = session.ask("reading a dead letter again", &ask).await?;
        Ok(Entry::all(&found).and_then(|mut entries| entries.pop()))
    }
}
