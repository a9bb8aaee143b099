//! The source: the entities of a collection, by primary key.

mod layout;
mod mark;
mod reader;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};
use serde_json::Value;

use crate::client::{Address, Line};
use crate::codes;
use crate::collection::{Collection, Key, Kind};
use crate::config::SourceConfig;
use crate::fault::{ReadFault, ServerFault};
use crate::proto::load;
use layout::Layout;
use mark::Mark;
use reader::Reader;

/// What a reading by key cannot check.
const STAYS: &str = "the collection is not written while it is read: an entity whose key is put at or behind a passed one is missed, and one that is replaced later is moved as it was (`hapax verify` finds both)";

/// The entities of a collection, in the order of their primary keys.
pub struct Entities {
    address: Address,
    layout: Arc<Layout>,
    split: SplitId,
    /// Whether it is an error that more entities are there than keys.
    counts: bool,
}

impl Entities {
    /// Opens it, with the fields that it has. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        let (token, ca, database) =
            (config.token.as_deref(), config.ca.as_deref(), config.database.as_deref());
        let address = Address::read(&config.url, token, ca, database)?;
        let mut line = address.connect().await?;
        let described = line.describe(&config.collection).await?;
        let collection = Collection::read(&config.collection, &described);
        readable(&mut line, &config.collection).await?;
        let layout = Layout::whole(collection, config.schema.as_ref(), config.unknown_fields)?;
        Ok(Self::new(address, layout, false))
    }

    /// What was written to a collection, as records of the schema that was written.
    pub(crate) fn back(
        address: Address,
        collection: Collection,
        schema: SchemaRef,
        deletes: Option<&str>,
    ) -> Result<Self, ReadFault> {
        Ok(Self::new(address, Layout::back(collection, schema, deletes)?, true))
    }

    fn new(address: Address, layout: Layout, counts: bool) -> Self {
        let split = SplitId::new(layout.collection.name.as_str());
        Self { address, layout: Arc::new(layout), split, counts }
    }

    async fn begin(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let mark = self.mark(&split, after.as_ref())?;
        let mut line = self.address.connect().await?;
        let name = &self.layout.collection.name;
        readable(&mut line, name).await?;
        let id = line.described(name).await?.collection_id;
        if mark.as_ref().is_some_and(|mark| mark.collection != id) {
            return Err(ReadFault::Recreated { collection: name.clone() }.into());
        }
        Ok(Box::new(Reader::new(line, Arc::clone(&self.layout), split, after, (id, mark), self.counts)))
    }

    fn mark(&self, split: &SplitId, after: Option<&Position>) -> Result<Option<Mark>, ReadFault> {
        let collection = &self.layout.collection;
        let foreign =
            || ReadFault::ForeignPosition { split: split.clone(), collection: collection.name.clone() };
        if *split != self.split {
            return Err(foreign());
        }
        let is_text = matches!(collection.key.kind, Kind::Text { .. });
        let fits = |mark: &Mark| matches!(mark.key, Key::Text(_)) == is_text;
        after.map(|after| Mark::decode(after).filter(fits).ok_or_else(foreign)).transpose()
    }

    async fn behind(&self, split: &SplitId, after: Option<&Position>) -> Result<Option<u64>, SourceError> {
        let mark = self.mark(split, after)?;
        let collection = &self.layout.collection;
        let Some(expr) = collection.behind(mark.as_ref().map(|mark| &mark.key)) else { return Ok(Some(0)) };
        let mut line = self.address.connect().await?;
        let count = reader::count(&mut line, &collection.name, expr).await?;
        Ok(count.and_then(|count| u64::try_from(count).ok()))
    }

    async fn read_again(&self, letter: &DeadLetter) -> Result<RecordBatch, SourceError> {
        let failed =
            |reason: &str| ReadFault::Letter { place: letter.place.clone(), reason: reason.to_owned() };
        let object: Value =
            serde_json::from_str(&letter.raw).map_err(|_| failed("only its beginning was kept"))?;
        let collection = &self.layout.collection;
        let key = match (object.get(&collection.key.name), collection.key.kind) {
            (Some(Value::String(key)), Kind::Text { .. }) => Key::Text(key.clone()),
            (Some(Value::Number(key)), Kind::Int64) => {
                Key::Int(key.as_i64().ok_or_else(|| failed("its key is no whole number"))?)
            }
            _ => return Err(failed("its key was not kept").into()),
        };
        let mut line = self.address.connect().await?;
        let expr = collection.one_of(std::iter::once(&key));
        let fields = line.query(&collection.name, expr, self.layout.output_fields(), None).await?;
        let page = self.layout.page(fields)?;
        match page.rejected.first() {
            Some((_, reason, _)) => Err(failed(reason).into()),
            None if page.keys.len() == 1 => Ok(page.records),
            None => Err(failed("the entity is not there any more").into()),
        }
    }
}

/// Refuses a collection that cannot be read yet.
async fn readable(line: &mut Line, collection: &str) -> Result<(), ServerFault> {
    let (place, name) = (line.place().to_owned(), collection.to_owned());
    match line.load_state(collection).await? {
        load::LOADED => Ok(()),
        load::LOADING => Err(ServerFault::Loading { place, collection: name }),
        _ => Err(ServerFault::NotLoaded { place, collection: name }),
    }
}

impl Source for Entities {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            // A key is there once.
            order: Order::PerKey,
            settle: Settle::Seek,
            condition: Some(STAYS),
        }
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.layout.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let split = Split { id: self.split.clone(), source_bytes: None };
        Box::pin(std::future::ready(Ok(vec![split])))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(self.begin(split.clone(), after.cloned()))
    }

    fn lag<'a>(
        &'a self,
        split: &'a SplitId,
        after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(self.behind(split, after))
    }

    fn describe(&self, position: &Position) -> String {
        match Mark::decode(position) {
            Some(mark) => {
                let name = &self.layout.collection.key.name;
                format!("behind record {}, {name} {}", mark.ordinal, mark.key)
            }
            None => format!("{position:?}, not a position of Milvus"),
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::UNDECODABLE
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move { self.read_again(&letter).await })
    }
}
