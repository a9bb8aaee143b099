//! What of a record goes where: the key, fields by name, and the dynamic field for everything else.

use arrow::datatypes::DataType;
use hapax_engine::sink::Shape;
use hapax_engine::template::Template;

use crate::collection::{Collection, Field, Kind, META};
use crate::config::SinkConfig;
use crate::fault::WriteFault;
use crate::vector;

/// How records become entities: decided once.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub collection: Collection,
    pub key: KeyRule,
    /// Fields, each with its column.
    pub fields: Vec<(Field, usize)>,
    pub dynamic: Dynamic,
    /// The column that says whether a record deletes.
    pub delete: Option<usize>,
}

/// Where the primary key comes from.
#[derive(Debug, Clone)]
pub(crate) enum KeyRule {
    /// A column of whole numbers.
    Int(usize),
    /// A column of text.
    Text { column: usize, bytes_max: usize },
    /// The values of columns, as text, with a `/` between them: no two choices of values are written alike.
    Made { template: Template, bytes_max: usize },
}

/// What the dynamic field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dynamic {
    /// There is none.
    None,
    /// These columns.
    Columns(Vec<usize>),
    /// A column of JSON text, as it is.
    Whole(usize),
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl Plan {
    /// Decides, and refuses what does not fit.
    pub(crate) fn make(
        collection: Collection,
        shape: &Shape,
        config: &SinkConfig,
    ) -> Result<Self, WriteFault> {
        if collection.auto_id {
            return Err(WriteFault::AutoId { collection: collection.name });
        }
        let delete = delete_column(shape, config)?;
        let key = key_rule(&collection, shape)?;
        let (mut fields, mut rest, mut whole) = (Vec::new(), Vec::new(), None);
        for (at, column) in shape.schema.fields().iter().enumerate() {
            if delete == Some(at) || *column.name() == collection.key.name {
                continue;
            }
            if column.name() == META {
                whole = Some(at);
            } else if let Some(field) = collection.field(column.name()) {
                fits(&collection, field, column.data_type())?;
                fields.push((field.clone(), at));
            } else {
                rest.push(at);
            }
        }
        let unfit = |reason: String| WriteFault::Column { collection: collection.name.clone(), reason };
        let names = |columns: &[usize]| {
            let name = |at: &usize| format!("`{}`", shape.schema.field(*at).name());
            columns.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let dynamic = match (collection.is_dynamic, whole) {
            (false, None) if rest.is_empty() => Dynamic::None,
            (false, Some(_)) => {
                return Err(unfit(format!("it has no dynamic field, which the column `{META}` holds")));
            }
            (false, None) => {
                return Err(unfit(format!("it has no field for {}, and no dynamic field", names(&rest))));
            }
            (true, None) => Dynamic::Columns(rest),
            (true, Some(at)) if !is_text(shape.schema.field(at).data_type()) => {
                return Err(unfit(format!("the column `{META}` holds the dynamic field, and is no text")));
            }
            (true, Some(at)) if rest.is_empty() => Dynamic::Whole(at),
            (true, Some(_)) => {
                return Err(unfit(format!(
                    "the column `{META}` is the whole dynamic field, and {} would go there, too",
                    names(&rest)
                )));
            }
        };
        for field in &collection.fields {
            let is_given = fields.iter().any(|(given, _)| given.name == field.name);
            if !is_given && !field.is_optional && !field.is_computed {
                return Err(unfit(format!("its field `{}` ({}) has no column", field.name, field.kind)));
            }
        }
        Ok(Self { collection, key, fields, dynamic, delete })
    }

    /// What the key is made of, for people.
    pub(crate) fn key_words(&self) -> String {
        match &self.key {
            KeyRule::Int(_) | KeyRule::Text { .. } => {
                format!("by the primary key `{}`", self.collection.key.name)
            }
            KeyRule::Made { template, .. } => format!(
                "by the primary key `{}`, a text of {}",
                self.collection.key.name,
                template.columns().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

fn delete_column(shape: &Shape, config: &SinkConfig) -> Result<Option<usize>, WriteFault> {
    let Some(name) = &config.delete else { return Ok(None) };
    let wrong = |why: &str| WriteFault::Config(format!("`delete` names the column `{name}`, {why}"));
    let at = shape.schema.index_of(name).map_err(|_| wrong("which the records do not have"))?;
    if shape.key.contains(name) {
        return Err(wrong("which is part of the identity"));
    }
    match shape.schema.field(at).data_type() {
        DataType::Boolean => Ok(Some(at)),
        _ => Err(wrong("which is not a boolean")),
    }
}

fn key_rule(collection: &Collection, shape: &Shape) -> Result<KeyRule, WriteFault> {
    let unfit = |reason: String| WriteFault::Key { collection: collection.name.clone(), reason };
    let field = &collection.key;
    let is_whole = |data_type: &DataType| data_type.is_integer();
    if shape.key.is_empty() {
        return Err(unfit("the records are not identified by columns".to_owned()));
    }
    let find = |name: &str| {
        let at = shape.schema.index_of(name).map_err(|_| unfit(format!("there is no column `{name}`")))?;
        Ok::<_, WriteFault>((at, shape.schema.field(at).data_type()))
    };
    if let [name] = shape.key.as_slice()
        && *name == field.name
    {
        let (column, found) = find(name)?;
        return match field.kind {
            Kind::Int64 if is_whole(found) => Ok(KeyRule::Int(column)),
            Kind::Text { bytes_max } if is_text(found) => Ok(KeyRule::Text { column, bytes_max }),
            Kind::Text { bytes_max } => made(std::slice::from_ref(name), bytes_max, &unfit),
            kind => Err(unfit(format!("`{name}` is {found}, and the primary key is {kind}"))),
        };
    }
    let identity = shape.key.join(", ");
    if shape.schema.index_of(&field.name).is_ok() {
        return Err(unfit(format!(
            "the primary key is the column `{}`, and the identity is {identity}",
            field.name
        )));
    }
    let Kind::Text { bytes_max } = field.kind else {
        let (name, kind) = (&field.name, field.kind);
        return Err(unfit(format!(
            "the primary key `{name}` is {kind}, and a text of {identity} needs a VARCHAR"
        )));
    };
    for name in &shape.key {
        find(name)?;
    }
    made(&shape.key, bytes_max, &unfit)
}

fn made(
    columns: &[String],
    bytes_max: usize,
    unfit: &impl Fn(String) -> WriteFault,
) -> Result<KeyRule, WriteFault> {
    let text = columns.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join("/");
    let template = Template::read(&text).map_err(|error| unfit(error.to_string()))?;
    Ok(KeyRule::Made { template, bytes_max })
}

/// Whether values of a column can stand in a field.
fn fits(collection: &Collection, field: &Field, found: &DataType) -> Result<(), WriteFault> {
    let is_whole = found.is_integer();
    let is_float = found.is_floating();
    let good = match field.kind {
        Kind::Bool => *found == DataType::Boolean,
        Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 => is_whole,
        Kind::Float | Kind::Double => is_float,
        Kind::Text { .. } | Kind::Json => is_text(found),
        Kind::Vector { dimension } => match vector::fits(found) {
            Some(Some(size)) if usize::try_from(size) != Ok(dimension) => {
                return Err(WriteFault::Dimension {
                    collection: collection.name.clone(),
                    field: field.name.clone(),
                    wanted: i64::try_from(dimension).unwrap_or(i64::MAX),
                    found: size,
                });
            }
            fit => fit.is_some(),
        },
        Kind::Other(_) => {
            return Err(WriteFault::Type {
                collection: collection.name.clone(),
                field: field.name.clone(),
                kind: field.kind.to_string(),
            });
        }
    };
    match good {
        true => Ok(()),
        false => Err(WriteFault::Column {
            collection: collection.name.clone(),
            reason: format!("its field `{}` is {}, and the column is {found}", field.name, field.kind),
        }),
    }
}

#[cfg(test)]
mod tests;
