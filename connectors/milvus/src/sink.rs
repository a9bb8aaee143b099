//! The sink: entities that stand in the place of the ones before of their keys.

mod entities;
mod plan;
mod sender;

use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CommitSize, Repeat, Sender, Shape, Target};
use hapax_engine::source::{Nothing, Source};
use hapax_protocol::guarantee::{Durability, Guard};
use hapax_protocol::position::SplitId;

use crate::client::{Address, Line};
use crate::collection::{Collection, Kind};
use crate::config::{Create, SinkConfig};
use crate::fault::{ServerFault, WriteFault};
use crate::proto::{self, kind, load};
use crate::source::Entities as Reading;
use crate::vector;
use plan::{Plan, is_text};
use sender::Upserter;

/// How much one commit takes.
const COMMIT: CommitSize =
    CommitSize { records_max: 20_000, bytes_max: 64 * 1024 * 1024, interval_ms: 1_000 };

/// What readers have to do to see what was written, and what the server has to.
const READERS: &str = "they ask with Strong consistency: with another, what was acknowledged last may not be seen for a while; and the server's log keeps what it took (a standalone server with RocksMQ does through a kill, and Hapax knows no promise of it for a power loss)";

/// A collection that is written.
pub struct Milvus {
    address: Address,
    config: SinkConfig,
    plan: Mutex<Option<Arc<Plan>>>,
}

/// Opens the sink. Nothing is asked of the server yet.
pub fn open(config: SinkConfig) -> Result<Arc<dyn Target>, SinkError> {
    let (token, ca, database) = (config.token.as_deref(), config.ca.as_deref(), config.database.as_deref());
    let address = Address::read(&config.url, token, ca, database)?;
    Ok(Arc::new(Milvus { address, config, plan: Mutex::default() }))
}

impl Milvus {
    /// The collection as it is, or as it would be made.
    async fn planned(
        &self,
        line: &mut Line,
        shape: &Shape,
    ) -> Result<(Plan, Option<proto::CollectionSchema>), SinkError> {
        let name = &self.config.collection;
        let (schema, new) = match (line.describe(name).await, &self.config.create) {
            (Ok(schema), create) => {
                create.as_ref().map_or(Ok(()), |create| is_made(name, create, &schema))?;
                (schema, None)
            }
            (Err(ServerFault::NoCollection { .. }), Some(create)) => {
                let schema = made(name, create, shape)?;
                (schema.clone(), Some(schema))
            }
            (Err(fault), _) => return Err(fault.into()),
        };
        Ok((Plan::make(Collection::read(name, &schema), shape, &self.config)?, new))
    }

    async fn checked(&self, shape: &Shape) -> Result<Vec<String>, SinkError> {
        let mut line = self.address.connect().await?;
        let (plan, new) = self.planned(&mut line, shape).await?;
        let mut lines = Vec::new();
        if let (Some(_), Some(create)) = (&new, &self.config.create) {
            let (index, metric) = (create.index.parameters().0, create.metric.name());
            lines.push(format!(
                "make the collection {:?}: key `{}`, vector `{}` of {} numbers ({index}, {metric}), all else in the dynamic field",
                plan.collection.name, plan.collection.key.name, create.vector, create.dimension
            ));
        }
        lines.push(format!("upsert into {:?} {}", plan.collection.name, plan.key_words()));
        Ok(lines)
    }

    async fn made_ready(&self, shape: &Shape) -> Result<(), SinkError> {
        let mut line = self.address.connect().await?;
        let (plan, new) = self.planned(&mut line, shape).await?;
        if let Some(create) = &self.config.create {
            if let Some(schema) = &new {
                line.create(schema).await?;
                // A new collection of Milvus Lite is loaded, and has no index: loading it would not miss one.
                self.indexed(&mut line, create).await?;
            }
            self.loaded(&mut line, create).await?;
        }
        if let Ok(mut slot) = self.plan.lock() {
            *slot = Some(Arc::new(plan));
        }
        Ok(())
    }

    /// Makes the index and loads the collection, as far as that is not done.
    async fn loaded(&self, line: &mut Line, create: &Create) -> Result<(), ServerFault> {
        let name = &self.config.collection;
        if line.load_state(name).await? == load::LOADED {
            return Ok(());
        }
        match line.load(name).await {
            Err(fault) if fault.is_missing_index() => {
                self.indexed(line, create).await?;
                line.load(name).await
            }
            loaded => loaded,
        }
    }

    async fn indexed(&self, line: &mut Line, create: &Create) -> Result<(), ServerFault> {
        let (index, parameters) = create.index.parameters();
        let parameters =
            [("index_type", index), ("metric_type", create.metric.name()), ("params", parameters)];
        line.index(&self.config.collection, &create.vector, &parameters).await
    }

    fn plan(&self) -> Result<Arc<Plan>, WriteFault> {
        let plan = self.plan.lock().ok().and_then(|plan| plan.clone());
        plan.ok_or_else(|| WriteFault::Config("it was not made ready before it was written".to_owned()))
    }

    async fn reading(&self, schema: SchemaRef) -> Result<Arc<dyn Source>, SinkError> {
        let mut line = self.address.connect().await?;
        let name = &self.config.collection;
        let described = match line.describe(name).await {
            Ok(described) => described,
            Err(ServerFault::NoCollection { .. }) => return Ok(Arc::new(Nothing(schema))),
            Err(fault) => return Err(fault.into()),
        };
        let collection = Collection::read(name, &described);
        let unread = |reason: String| WriteFault::NoReadBack { collection: name.clone(), reason };
        for field in schema.fields() {
            let kind = collection.field(field.name()).map(|field| field.kind);
            if matches!(kind, Some(Kind::Vector { .. })) && is_text(field.data_type()) {
                return Err(unread(format!(
                    "the vectors of `{}` were text, of which there are many for one vector",
                    field.name()
                ))
                .into());
            }
        }
        let reading = Reading::back(self.address.clone(), collection, schema, self.config.delete.as_deref());
        Ok(Arc::new(reading.map_err(|error| unread(error.to_string()))?))
    }
}

/// Whether a collection that is there has the vectors that `create` says.
fn is_made(name: &str, create: &Create, schema: &proto::CollectionSchema) -> Result<(), WriteFault> {
    let (field, dimension) = (&create.vector, create.dimension);
    let found = match Collection::read(name, schema).field(field).map(|field| field.kind) {
        Some(Kind::Vector { dimension: found }) if u32::try_from(found) == Ok(dimension) => return Ok(()),
        Some(Kind::Vector { dimension: found }) => format!("its vectors `{field}` have {found} numbers"),
        Some(kind) => format!("its field `{field}` is {kind}"),
        None => format!("it has no field `{field}`"),
    };
    let wanted = format!("vectors `{field}` of {dimension} numbers");
    Err(WriteFault::Made { collection: name.to_owned(), found, wanted })
}

/// The schema of a collection that is made for records of this shape.
fn made(name: &str, create: &Create, shape: &Shape) -> Result<proto::CollectionSchema, WriteFault> {
    let column = |name: &str| shape.schema.field_with_name(name).ok();
    let config = |reason: String| WriteFault::Config(format!("`create`: {reason}"));
    let vector = column(&create.vector).ok_or_else(|| {
        config(format!("`vector` names the column `{}`, which the records do not have", create.vector))
    })?;
    match vector::fits(vector.data_type()) {
        None => {
            return Err(config(format!(
                "`{}` is {}, which holds no vectors",
                create.vector,
                vector.data_type()
            )));
        }
        Some(Some(size)) if size != i64::from(create.dimension) => {
            let (collection, field) = (name.to_owned(), create.vector.clone());
            return Err(WriteFault::Dimension {
                collection,
                field,
                wanted: i64::from(create.dimension),
                found: size,
            });
        }
        Some(_) => {}
    }
    let (key, data_type) = match shape.key.as_slice() {
        [] => {
            let (collection, reason) =
                (name.to_owned(), "the records are not identified by columns".to_owned());
            return Err(WriteFault::Key { collection, reason });
        }
        [one] => match column(one).map(|field| field.data_type()) {
            Some(found) if found.is_integer() && *found != DataType::UInt64 => (one.as_str(), kind::INT64),
            Some(found) if is_text(found) => (one.as_str(), kind::VARCHAR),
            _ => (create.key.as_deref().unwrap_or("hapax_key"), kind::VARCHAR),
        },
        _ => (create.key.as_deref().unwrap_or("hapax_key"), kind::VARCHAR),
    };
    let pair = |key: &str, value: String| proto::Pair { key: key.to_owned(), value };
    let length = match data_type {
        kind::VARCHAR => vec![pair("max_length", create.key_bytes_max.unwrap_or(1_024).to_string())],
        _ => Vec::new(),
    };
    let key = proto::FieldSchema {
        name: key.to_owned(),
        is_primary_key: true,
        data_type,
        type_params: length,
        ..proto::FieldSchema::default()
    };
    let vector = proto::FieldSchema {
        name: create.vector.clone(),
        data_type: kind::FLOAT_VECTOR,
        type_params: vec![pair("dim", create.dimension.to_string())],
        ..proto::FieldSchema::default()
    };
    Ok(proto::CollectionSchema {
        name: name.to_owned(),
        description: String::new(),
        fields: vec![key, vector],
        enable_dynamic_field: true,
    })
}

impl Target for Milvus {
    fn repeat(&self) -> Repeat {
        Repeat::Replaces { guard: Guard::None }
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn readers(&self) -> Option<String> {
        Some(READERS.to_owned())
    }

    fn commit_size(&self) -> CommitSize {
        COMMIT
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(self.checked(shape))
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(self.made_ready(shape))
    }

    fn deletes(&self) -> Option<&str> {
        self.config.delete.as_deref()
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(self.reading(schema))
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        Box::pin(async move {
            let sender: Box<dyn Sender> = Box::new(Upserter::begin(&self.address, self.plan()?).await?);
            Ok(sender)
        })
    }
}
