//! Which fields become which columns, and answers of the server as records.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use hapax_engine::columns::{Columns, parse_type, type_name};
use hapax_engine::message::{Bodies, Format, UnknownFields};
use serde_json::{Value, json};

use crate::collection::{Collection, Field, Key, Kind, META};
use crate::fault::ReadFault;
use crate::proto::{self, Scalar};

/// How entities become records.
pub(super) struct Layout {
    pub collection: Collection,
    pub schema: SchemaRef,
    /// Fields, each with its column.
    fields: Vec<(Field, usize)>,
    /// Keys of the dynamic field, and their columns.
    bodies: Option<(Bodies, Vec<usize>)>,
    /// The column of the whole dynamic field.
    whole: Option<usize>,
    /// The column that says which records were removed: none that is there.
    deletes: Option<usize>,
}

/// Some entities, in the order of their keys.
pub(super) struct Page {
    pub keys: Vec<Key>,
    /// Those that are records.
    pub records: RecordBatch,
    /// The row among the keys of each record.
    pub good: Vec<usize>,
    /// Those that are not: which, why, and what is kept of it.
    pub rejected: Vec<(usize, String, String)>,
}

fn column_type(field: &Field) -> Option<DataType> {
    Some(match field.kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int8 => DataType::Int8,
        Kind::Int16 => DataType::Int16,
        Kind::Int32 => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Text { .. } | Kind::Json => DataType::Utf8,
        Kind::Vector { dimension } => {
            DataType::FixedSizeList(item(), i32::try_from(dimension).unwrap_or(i32::MAX))
        }
        Kind::Other(_) => return None,
    })
}

fn item() -> Arc<Column> {
    Arc::new(Column::new("item", DataType::Float32, true))
}

impl Layout {
    /// All of a collection.
    pub fn whole(
        collection: Collection,
        named: Option<&Columns>,
        unknown: UnknownFields,
    ) -> Result<Self, ReadFault> {
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for field in std::iter::once(&collection.key).chain(&collection.fields) {
            let data_type = column_type(field).ok_or_else(|| ReadFault::Type {
                collection: collection.name.clone(),
                field: field.name.clone(),
                kind: field.kind.to_string(),
            })?;
            fields.push((field.clone(), columns.len()));
            columns.push(Column::new(&field.name, data_type, true));
        }
        let (mut bodies, mut whole) = (None, None);
        match named {
            Some(named) => {
                if let Some((name, _)) =
                    named.0.iter().find(|(name, _)| columns.iter().any(|c| c.name() == name))
                {
                    return Err(ReadFault::Config(format!("`schema` names `{name}`, which is a field")));
                }
                if !collection.is_dynamic {
                    return Err(ReadFault::Config(
                        "`schema` needs a collection with a dynamic field".to_owned(),
                    ));
                }
                let some = Bodies::new(Format::Json, Some(named), unknown);
                let some = some.map_err(|error| ReadFault::Config(error.to_string()))?;
                let at = (columns.len()..).take(named.0.len()).collect();
                columns.extend(named.0.iter().map(|(name, kind)| Column::new(name, kind.clone(), true)));
                bodies = Some((some, at));
            }
            None if collection.is_dynamic => {
                whole = Some(columns.len());
                columns.push(Column::new(META, DataType::Utf8, true));
            }
            None => {}
        }
        let schema = Arc::new(Schema::new(columns));
        Ok(Self { collection, schema, fields, bodies, whole, deletes: None })
    }

    /// What was written as records of this schema.
    pub fn back(collection: Collection, schema: SchemaRef, deletes: Option<&str>) -> Result<Self, ReadFault> {
        let deletes = deletes.and_then(|name| schema.index_of(name).ok());
        // Somebody else may have put an entity there that lacks what all of ours have.
        let columns = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        let (mut fields, mut named, mut at, mut whole) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (column, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            if deletes == Some(column) {
                continue;
            }
            let of_collection = std::iter::once(&collection.key).chain(&collection.fields);
            if let Some(there) = of_collection.into_iter().find(|there| there.name == *name) {
                fields.push((there.clone(), column));
            } else if name == META {
                whole = Some(column);
            } else if parse_type(&type_name(field.data_type())).is_ok() {
                named.push((name.clone(), plain(field.data_type())));
                at.push(column);
            } else {
                let reason =
                    format!("the column `{name}` is {}, which is not read out of JSON", field.data_type());
                return Err(ReadFault::Config(reason));
            }
        }
        let bodies = match named.is_empty() {
            true => None,
            false => {
                let bodies = Bodies::new(Format::Json, Some(&Columns(named)), UnknownFields::Ignore);
                Some((bodies.map_err(|error| ReadFault::Config(error.to_string()))?, at))
            }
        };
        Ok(Self { collection, schema, fields, bodies, whole, deletes })
    }

    /// What is asked of the server.
    pub fn output_fields(&self) -> Vec<String> {
        let key = &self.collection.key.name;
        let fields = self.fields.iter().map(|(field, _)| &field.name).filter(|name| *name != key);
        let mut names: Vec<String> = std::iter::once(key).chain(fields).cloned().collect();
        if self.bodies.is_some() || self.whole.is_some() {
            names.push(META.to_owned());
        }
        names
    }

    fn misunderstood(&self, reason: impl Into<String>) -> ReadFault {
        ReadFault::Misunderstood { collection: self.collection.name.clone(), reason: reason.into() }
    }

    /// Reads an answer.
    pub fn page(&self, mut answer: Vec<proto::FieldData>) -> Result<Page, ReadFault> {
        let mut taken = |name: &str| {
            let at = answer
                .iter()
                .position(|field| field.field_name == name || (name == META && field.is_dynamic))?;
            Some(answer.swap_remove(at))
        };
        let Some(keys) = taken(&self.collection.key.name) else {
            if !answer.is_empty() {
                return Err(self.misunderstood("it has fields, and no key"));
            }
            // An answer without entities may have no fields either.
            let records = RecordBatch::new_empty(SchemaRef::clone(&self.schema));
            return Ok(Page { keys: Vec::new(), records, good: Vec::new(), rejected: Vec::new() });
        };
        let (key_column, keys) = self.keys(keys)?;
        let rows = keys.len();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (field, at) in &self.fields {
            let column = if field.name == self.collection.key.name {
                Arc::clone(&key_column)
            } else {
                let data = taken(&field.name);
                let data = data.ok_or_else(|| self.misunderstood(format!("it has no {}", field.name)))?;
                self.column(field, data, rows)?
            };
            if let Some(slot) = columns.get_mut(*at) {
                *slot = Some(self.shaped(column, *at)?);
            }
        }
        let dynamic = match self.bodies.is_some() || self.whole.is_some() {
            true => self.objects(taken(META), rows)?,
            false => Vec::new(),
        };
        if let Some(slot) = self.whole.and_then(|at| columns.get_mut(at)) {
            let texts = dynamic.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            *slot = Some(Arc::new(StringArray::from_iter_values(texts)));
        }
        if let Some(slot) = self.deletes.and_then(|at| columns.get_mut(at)) {
            *slot = Some(Arc::new(BooleanArray::from(vec![false; rows])));
        }
        let (good, rejected) = self.named(&keys, &dynamic, &mut columns)?;
        let all: Option<Vec<ArrayRef>> = columns.into_iter().collect();
        let all = all.ok_or_else(|| self.misunderstood("a column is missing"))?;
        let records = RecordBatch::try_new(SchemaRef::clone(&self.schema), all)?;
        Ok(Page { keys, records, good, rejected })
    }

    /// Fills the columns that come out of the dynamic field, and takes the rows out of all others where that fails.
    #[allow(clippy::type_complexity)]
    fn named(
        &self,
        keys: &[Key],
        dynamic: &[Vec<u8>],
        columns: &mut [Option<ArrayRef>],
    ) -> Result<(Vec<usize>, Vec<(usize, String, String)>), ReadFault> {
        let Some((bodies, at)) = &self.bodies else { return Ok(((0..keys.len()).collect(), Vec::new())) };
        let (mut rows, mut good, mut rejected) = (bodies.rows(), Vec::new(), Vec::new());
        for (row, (body, key)) in dynamic.iter().zip(keys).enumerate() {
            match rows.push(body) {
                Ok(()) => good.push(row),
                Err(reason) => rejected.push((row, reason, self.raw(key, body))),
            }
        }
        if !rejected.is_empty() {
            let wanted = good.iter().map(|row| u64::try_from(*row).unwrap_or(u64::MAX));
            let wanted = UInt64Array::from_iter_values(wanted);
            for column in columns.iter_mut().flatten() {
                *column = take(column, &wanted, None)?;
            }
        }
        for (at, column) in at.iter().zip(rows.finish()) {
            if let Some(slot) = columns.get_mut(*at) {
                *slot = Some(self.shaped(column, *at)?);
            }
        }
        Ok((good, rejected))
    }

    /// What is kept of an entity that is no record.
    fn raw(&self, key: &Key, body: &[u8]) -> String {
        let key = match key {
            Key::Int(key) => Value::from(*key),
            Key::Text(key) => Value::from(key.as_str()),
        };
        json!({ (self.collection.key.name.as_str()): key, META: String::from_utf8_lossy(body) }).to_string()
    }

    /// A column as its type in the schema.
    fn shaped(&self, column: ArrayRef, at: usize) -> Result<ArrayRef, ReadFault> {
        let wanted = self.schema.field(at).data_type();
        if column.data_type() == wanted {
            return Ok(column);
        }
        if let (DataType::FixedSizeList(..), true) = (column.data_type(), is_bytes(wanted)) {
            return Ok(cast(&packed(&column), wanted)?);
        }
        Ok(cast(&column, wanted)?)
    }

    fn keys(&self, data: proto::FieldData) -> Result<(ArrayRef, Vec<Key>), ReadFault> {
        match data.field {
            Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Longs(longs)), .. })) => {
                let keys = longs.data.iter().copied().map(Key::Int).collect();
                Ok((Arc::new(Int64Array::from(longs.data)), keys))
            }
            Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Texts(texts)), .. })) => {
                let column = Arc::new(StringArray::from_iter_values(&texts.data));
                Ok((column, texts.data.into_iter().map(Key::Text).collect()))
            }
            // Nothing is written where there is nothing.
            Some(proto::Field::Scalars(proto::Scalars { data: None, .. })) | None => {
                Ok((Arc::new(Int64Array::from(Vec::<i64>::new())), Vec::new()))
            }
            Some(_) => Err(self.misunderstood("its key is neither a number nor a text")),
        }
    }

    fn objects(&self, data: Option<proto::FieldData>, rows: usize) -> Result<Vec<Vec<u8>>, ReadFault> {
        let objects = match data.and_then(|data| data.field) {
            Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Jsons(jsons)), .. })) => {
                jsons.data
            }
            None => vec![b"{}".to_vec(); rows],
            Some(_) => return Err(self.misunderstood("its dynamic field is no JSON")),
        };
        match objects.len() == rows {
            true => Ok(objects),
            false => Err(self.misunderstood("its dynamic field has another number of rows")),
        }
    }

    fn column(&self, field: &Field, data: proto::FieldData, rows: usize) -> Result<ArrayRef, ReadFault> {
        let beside = data.valid_data;
        let (column, valid): (ArrayRef, Vec<bool>) = match data.field {
            Some(proto::Field::Vectors(vectors)) => {
                let Kind::Vector { dimension } = field.kind else {
                    return Err(self.misunderstood(format!("{} is no vector", field.name)));
                };
                let numbers = Arc::new(Float32Array::from(vectors.floats.unwrap_or_default().data));
                let size = i32::try_from(dimension).unwrap_or(i32::MAX);
                (Arc::new(FixedSizeListArray::try_new(item(), size, numbers, None)?), beside)
            }
            Some(proto::Field::Scalars(scalars)) => {
                let column: ArrayRef = match scalars.data {
                    Some(Scalar::Bools(values)) => Arc::new(BooleanArray::from(values.data)),
                    Some(Scalar::Ints(values)) => Arc::new(Int32Array::from(values.data)),
                    Some(Scalar::Longs(values)) => Arc::new(Int64Array::from(values.data)),
                    Some(Scalar::Floats(values)) => Arc::new(Float32Array::from(values.data)),
                    Some(Scalar::Doubles(values)) => Arc::new(Float64Array::from(values.data)),
                    Some(Scalar::Texts(values)) => Arc::new(StringArray::from(values.data)),
                    Some(Scalar::Jsons(values)) => {
                        let texts = values.data.iter().map(|bytes| String::from_utf8_lossy(bytes));
                        Arc::new(StringArray::from_iter_values(texts))
                    }
                    None => Arc::new(StringArray::new_null(rows)),
                };
                (column, if scalars.valid_data.is_empty() { beside } else { scalars.valid_data })
            }
            None => (Arc::new(StringArray::new_null(rows)), Vec::new()),
        };
        let column = match valid.is_empty() || column.null_count() == rows {
            true => column,
            false => with_nulls(&column, &valid)?,
        };
        match (column.len() == rows, column_type(field)) {
            (true, Some(data_type)) => Ok(cast(&column, &data_type)?),
            _ => Err(self.misunderstood(format!("{} has another number of rows", field.name))),
        }
    }
}

/// Puts nulls where values are not valid, whether they stand between the others or were left out.
fn with_nulls(column: &ArrayRef, valid: &[bool]) -> Result<ArrayRef, ReadFault> {
    let is_whole = column.len() == valid.len();
    let mut next = 0_u64;
    let at: UInt64Array = valid
        .iter()
        .enumerate()
        .map(|(row, valid)| match (*valid, is_whole) {
            (false, _) => None,
            (true, true) => u64::try_from(row).ok(),
            (true, false) => {
                next = next.saturating_add(1);
                next.checked_sub(1)
            }
        })
        .collect();
    Ok(take(column, &at, None)?)
}

fn is_bytes(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_))
}

/// Vectors as bytes, the least of each number first.
fn packed(column: &ArrayRef) -> ArrayRef {
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;
    let list = column.as_fixed_size_list();
    let nulls: Option<&NullBuffer> = list.nulls();
    let rows = (0..list.len()).map(|row| {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let numbers = list.value(row);
        let numbers = numbers.as_primitive::<Float32Type>();
        Some(numbers.values().iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    });
    Arc::new(rows.collect::<BinaryArray>())
}

/// The type in which a value is read out of JSON, before it is made what it was.
fn plain(data_type: &DataType) -> DataType {
    parse_type(&type_name(data_type)).unwrap_or_else(|_| data_type.clone())
}
