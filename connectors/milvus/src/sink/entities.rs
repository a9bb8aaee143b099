//! Records as entities, and those that can be none.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hapax_engine::message::{Objects, as_objects, not_finite};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;

use super::plan::{Dynamic, KeyRule, Plan};
use crate::codes;
use crate::collection::{Field, JSON_BYTES_MAX, Key, Kind, META};
use crate::proto::{self, Scalar, kind};
use crate::vector::Vectors;

/// From how many vectors of another size on, and none of the right one, the column is taken for a wrong one.
const MISFITS_MIN: usize = 10;

/// The records of a batch, ready to be sent.
pub(crate) struct Entities {
    /// The key of each row; `None` where it was refused.
    pub keys: Vec<Option<Key>>,
    /// Whether a row deletes its key.
    pub deletes: Vec<bool>,
    /// Those that cannot be sent.
    pub refused: Vec<RefusedRow>,
    /// A field whose vectors all have another size than it takes, where there are many: its name, what it takes, and theirs.
    pub misfit: Option<(String, usize, usize)>,
    columns: Vec<(Field, Cells)>,
    dynamic: Option<Json>,
}

/// The values of one field.
enum Cells {
    Bools(BooleanArray),
    Whole(Int64Array),
    Singles(Float32Array),
    Doubles(Float64Array),
    Texts(StringArray),
    /// One vector after the other, also where a row has none.
    Vectors {
        numbers: Vec<f32>,
        dimension: usize,
    },
}

/// What the dynamic field holds.
enum Json {
    Objects(Objects),
    Texts(StringArray),
}

impl Json {
    fn of(&self, row: usize) -> &[u8] {
        match self {
            Self::Objects(objects) => objects.of(row),
            Self::Texts(texts) if texts.is_valid(row) => texts.value(row).as_bytes(),
            Self::Texts(_) => b"{}",
        }
    }
}

impl Entities {
    /// Reads the records of a batch.
    pub(crate) fn read(plan: &Plan, records: &RecordBatch) -> Result<Self, ArrowError> {
        let rows = records.num_rows();
        let deletes = match plan.delete.and_then(|at| records.columns().get(at)) {
            Some(column) => {
                let column = column.as_boolean();
                (0..rows).map(|row| column.is_valid(row) && column.value(row)).collect()
            }
            None => vec![false; rows],
        };
        let entities = Self {
            keys: vec![None; rows],
            deletes,
            refused: Vec::new(),
            misfit: None,
            columns: Vec::new(),
            dynamic: None,
        };
        entities.keyed(plan, records)?.filled(plan, records)?.with_rest(plan, records)
    }

    fn refuse(&mut self, row: usize, code: Code, reason: String) {
        if let Some(key) = self.keys.get_mut(row)
            && key.take().is_some()
        {
            self.refused.push(RefusedRow { row, code, reason });
        }
    }

    fn keyed(mut self, plan: &Plan, records: &RecordBatch) -> Result<Self, ArrowError> {
        let field = &plan.collection.key.name;
        let keys: Vec<Result<Key, String>> = match &plan.key {
            KeyRule::Int(column) => {
                let values = whole(column_of(records, *column)?)?;
                let number = |row: usize| match values.is_valid(row) {
                    // The server cannot name the one in a condition, and shows nobody the other.
                    true if matches!(values.value(row), i64::MIN | i64::MAX) => Err(format!(
                        "is {}, which the server takes and does not find again",
                        values.value(row)
                    )),
                    true => Ok(Key::Int(values.value(row))),
                    false => Err("is NULL, or too large".to_owned()),
                };
                (0..records.num_rows()).map(number).collect()
            }
            KeyRule::Text { column, bytes_max } => {
                let values = text(column_of(records, *column)?)?;
                let value = |row: usize| match values.is_valid(row) {
                    true => held(values.value(row).to_owned(), *bytes_max),
                    false => Err("is NULL".to_owned()),
                };
                (0..records.num_rows()).map(value).collect()
            }
            KeyRule::Made { template, bytes_max } => {
                let alone = template.columns().count() == 1;
                let escape = |value: &str, name: &mut String| match alone {
                    true => name.push_str(value),
                    false => escaped(value, name),
                };
                let made = |row: usize| held(template.render(records, row, escape)?, *bytes_max);
                (0..records.num_rows()).map(made).collect()
            }
        };
        for (row, key) in keys.into_iter().enumerate() {
            match key {
                Ok(key) => {
                    if let Some(slot) = self.keys.get_mut(row) {
                        *slot = Some(key);
                    }
                }
                Err(reason) => {
                    let reason = format!("the primary key `{field}` {reason}");
                    self.refused.push(RefusedRow { row, code: codes::KEY_UNHELD, reason });
                }
            }
        }
        Ok(self)
    }

    fn filled(mut self, plan: &Plan, records: &RecordBatch) -> Result<Self, ArrowError> {
        for (field, at) in &plan.fields {
            let column = column_of(records, *at)?;
            let cells = match field.kind {
                Kind::Bool => Cells::Bools(column.as_boolean().clone()),
                Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 => Cells::Whole(whole(column)?),
                Kind::Float => Cells::Singles(cast(column, &DataType::Float32)?.as_primitive().clone()),
                Kind::Double => Cells::Doubles(cast(column, &DataType::Float64)?.as_primitive().clone()),
                Kind::Vector { dimension } => {
                    let cells = self.vectors(field, dimension, column)?;
                    self.columns.push((field.clone(), cells));
                    continue;
                }
                Kind::Text { .. } | Kind::Json | Kind::Other(_) => Cells::Texts(text(column)?),
            };
            let doubles = match field.kind {
                Kind::Float => Some(cast(column, &DataType::Float64)?.as_primitive().clone()),
                _ => None,
            };
            for row in 0..records.num_rows() {
                if self.deletes.get(row) == Some(&false)
                    && let Err(reason) = fits(field, &cells, doubles.as_ref(), row, column)
                {
                    self.refuse(row, codes::VALUE_UNHELD, format!("column {}: {reason}", field.name));
                }
            }
            self.columns.push((field.clone(), cells));
        }
        Ok(self)
    }

    fn vectors(&mut self, field: &Field, dimension: usize, column: &ArrayRef) -> Result<Cells, ArrowError> {
        let vectors = Vectors::read(column)?;
        let mut numbers = Vec::with_capacity(column.len().saturating_mul(dimension));
        for row in 0..column.len() {
            let appended = match self.deletes.get(row) {
                Some(false) => vectors.append(row, dimension, &mut numbers),
                _ => Ok(()),
            };
            if let Err((code, reason)) = appended {
                self.refuse(row, code, format!("the vector in column {}: {reason}", field.name));
            }
            numbers.resize(row.saturating_add(1).saturating_mul(dimension), 0.0);
        }
        let written: Vec<usize> =
            (0..column.len()).filter(|row| self.deletes.get(*row) == Some(&false)).collect();
        if let (Some(first), true) = (written.first(), written.len() >= MISFITS_MIN)
            && let Some(size) = vectors.size(*first).filter(|size| *size != dimension)
            && written.iter().all(|row| vectors.size(*row) == Some(size))
        {
            self.misfit = Some((field.name.clone(), dimension, size));
        }
        Ok(Cells::Vectors { numbers, dimension })
    }

    fn with_rest(mut self, plan: &Plan, records: &RecordBatch) -> Result<Self, ArrowError> {
        match &plan.dynamic {
            Dynamic::None => {}
            Dynamic::Columns(columns) if columns.is_empty() => {
                let nothing = StringArray::new_null(records.num_rows());
                self.dynamic = Some(Json::Texts(nothing));
            }
            Dynamic::Columns(columns) => {
                let rest = records.project(columns)?;
                for refused in not_finite(&rest, codes::VALUE_UNHELD) {
                    if self.deletes.get(refused.row) == Some(&false) {
                        self.refuse(refused.row, refused.code, refused.reason);
                    }
                }
                self.dynamic = Some(Json::Objects(as_objects(&rest)?));
            }
            Dynamic::Whole(at) => {
                let texts = text(column_of(records, *at)?)?;
                for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
                    let read =
                        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(texts.value(row));
                    if let Err(error) = read {
                        let reason = format!("column {META} is no JSON object: {error}");
                        self.refuse(row, codes::VALUE_UNHELD, reason);
                    }
                }
                self.dynamic = Some(Json::Texts(texts));
            }
        }
        let Some(dynamic) = &self.dynamic else { return Ok(self) };
        let long: Vec<(usize, usize)> = (0..records.num_rows())
            .map(|row| (row, dynamic.of(row).len()))
            .filter(|(row, bytes)| *bytes > JSON_BYTES_MAX && self.deletes.get(*row) == Some(&false))
            .collect();
        for (row, bytes) in long {
            let reason =
                format!("the dynamic field would have {bytes} bytes of JSON, and takes {JSON_BYTES_MAX}");
            self.refuse(row, codes::VALUE_UNHELD, reason);
        }
        self.refused.sort_unstable_by_key(|refused| refused.row);
        Ok(self)
    }

    /// About how many bytes a row is when it is sent.
    pub(crate) fn bytes(&self, row: usize) -> usize {
        let dynamic = self.dynamic.as_ref().map_or(0, |dynamic| dynamic.of(row).len());
        let cells = self.columns.iter().map(|(_, cells)| match cells {
            Cells::Vectors { dimension, .. } => dimension.saturating_mul(4),
            Cells::Texts(texts) => texts.value_length(row).try_into().unwrap_or(0),
            _ => 8,
        });
        cells.sum::<usize>().saturating_add(dynamic).saturating_add(32)
    }

    /// These rows as the server takes them.
    pub(crate) fn fields(&self, plan: &Plan, rows: &[usize]) -> Vec<proto::FieldData> {
        let key = &plan.collection.key;
        let mut fields = Vec::with_capacity(self.columns.len().saturating_add(2));
        let keys = || rows.iter().filter_map(|row| self.keys.get(*row)?.as_ref());
        let keys = match key.kind {
            Kind::Text { .. } => {
                let texts = keys().filter_map(|key| match key {
                    Key::Text(text) => Some(text.clone()),
                    Key::Int(_) => None,
                });
                Scalar::Texts(proto::Texts { data: texts.collect() })
            }
            _ => {
                let numbers = keys().filter_map(|key| match key {
                    Key::Int(number) => Some(*number),
                    Key::Text(_) => None,
                });
                Scalar::Longs(proto::Longs { data: numbers.collect() })
            }
        };
        fields.push(scalars(key, keys));
        for (field, cells) in &self.columns {
            fields.push(cells.taken(field, rows));
        }
        if let Some(dynamic) = &self.dynamic {
            let data = rows.iter().map(|row| dynamic.of(*row).to_vec()).collect();
            let field =
                Field { name: META.to_owned(), kind: Kind::Json, is_optional: true, is_computed: false };
            let data = scalars(&field, Scalar::Jsons(proto::Jsons { data }));
            fields.push(proto::FieldData { is_dynamic: true, ..data });
        }
        fields
    }
}

impl Cells {
    fn taken(&self, field: &Field, rows: &[usize]) -> proto::FieldData {
        let all = rows.iter().copied();
        let taken = match self {
            Self::Bools(values) => {
                Scalar::Bools(proto::Bools { data: all.map(|row| values.value(row)).collect() })
            }
            Self::Whole(values) if field.kind == Kind::Int64 => {
                Scalar::Longs(proto::Longs { data: all.map(|row| values.value(row)).collect() })
            }
            Self::Whole(values) => {
                let small = all.map(|row| i32::try_from(values.value(row)).unwrap_or_default());
                Scalar::Ints(proto::Ints { data: small.collect() })
            }
            Self::Singles(values) => {
                Scalar::Floats(proto::Floats { data: all.map(|row| values.value(row)).collect() })
            }
            Self::Doubles(values) => {
                Scalar::Doubles(proto::Doubles { data: all.map(|row| values.value(row)).collect() })
            }
            Self::Texts(values) if field.kind == Kind::Json => {
                let data = all.map(|row| values.value(row).as_bytes().to_vec()).collect();
                Scalar::Jsons(proto::Jsons { data })
            }
            Self::Texts(values) => {
                Scalar::Texts(proto::Texts { data: all.map(|row| values.value(row).to_owned()).collect() })
            }
            Self::Vectors { numbers, dimension } => {
                let mut data = Vec::with_capacity(rows.len().saturating_mul(*dimension));
                for row in all {
                    let from = row.saturating_mul(*dimension);
                    let vector = numbers.get(from..from.saturating_add(*dimension));
                    data.extend_from_slice(vector.unwrap_or_default());
                }
                let dim = i64::try_from(*dimension).unwrap_or(i64::MAX);
                let vectors = proto::Vectors { dim, floats: Some(proto::Floats { data }) };
                return proto::FieldData {
                    kind: kind::FLOAT_VECTOR,
                    field_name: field.name.clone(),
                    field: Some(proto::Field::Vectors(vectors)),
                    ..proto::FieldData::default()
                };
            }
        };
        scalars(field, taken)
    }
}

fn scalars(field: &Field, data: Scalar) -> proto::FieldData {
    let scalars = proto::Scalars { data: Some(data), valid_data: Vec::new() };
    proto::FieldData {
        kind: field.kind.number(),
        field_name: field.name.clone(),
        field: Some(proto::Field::Scalars(scalars)),
        ..proto::FieldData::default()
    }
}

/// Whether the value of a row can stand in its field.
fn fits(
    field: &Field,
    cells: &Cells,
    doubles: Option<&Float64Array>,
    row: usize,
    column: &ArrayRef,
) -> Result<(), String> {
    if column.is_null(row) {
        return Err("it is NULL, and a field takes none".to_owned());
    }
    let within = |value: i64, from: i64, to: i64| match (from..=to).contains(&value) {
        true => Ok(()),
        false => Err(format!("{value} is no {}", field.kind)),
    };
    match (cells, field.kind) {
        (Cells::Whole(values), _) if values.is_null(row) => Err("it is too large for INT64".to_owned()),
        (Cells::Whole(values), Kind::Int8) => within(values.value(row), -128, 127),
        (Cells::Whole(values), Kind::Int16) => within(values.value(row), -32_768, 32_767),
        (Cells::Whole(values), Kind::Int32) => {
            within(values.value(row), i64::from(i32::MIN), i64::from(i32::MAX))
        }
        (Cells::Singles(values), _) => {
            let (single, double) =
                (f64::from(values.value(row)), doubles.map_or(0.0, |doubles| doubles.value(row)));
            match single.is_finite() && single.to_bits() == double.to_bits() {
                true => Ok(()),
                false => Err(format!("{double} is no FLOAT: single precision does not hold it")),
            }
        }
        (Cells::Doubles(values), _) if !values.value(row).is_finite() => {
            Err(format!("{} is no finite number", values.value(row)))
        }
        (Cells::Texts(values), Kind::Json) => {
            let value = values.value(row);
            if value.len() > JSON_BYTES_MAX {
                return Err(format!(
                    "it has {} bytes of JSON, and the field takes {JSON_BYTES_MAX}",
                    value.len()
                ));
            }
            let read: Result<serde::de::IgnoredAny, _> = serde_json::from_str(value);
            read.map(drop).map_err(|error| format!("it is no JSON: {error}"))
        }
        (Cells::Texts(values), Kind::Text { bytes_max }) if values.value(row).len() > bytes_max => {
            Err(format!("it has {} bytes, and the field takes {bytes_max}", values.value(row).len()))
        }
        _ => Ok(()),
    }
}

fn held(key: String, bytes_max: usize) -> Result<Key, String> {
    match key.len() > bytes_max {
        true => Err(format!("has {} bytes, and takes {bytes_max}", key.len())),
        false => Ok(Key::Text(key)),
    }
}

/// Writes a value so that it holds no `/`. Two values are never written alike.
fn escaped(value: &str, name: &mut String) {
    for c in value.chars() {
        match c {
            '%' => name.push_str("%25"),
            '/' => name.push_str("%2F"),
            c => name.push(c),
        }
    }
}

fn column_of(records: &RecordBatch, at: usize) -> Result<&ArrayRef, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("there is no column {at}"));
    records.columns().get(at).ok_or_else(missing)
}

/// Whole numbers; what is too large is NULL.
fn whole(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(cast(column, &DataType::Int64)?.as_primitive().clone())
}

fn text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_written_alike() {
        let made = |values: &[&str]| {
            let one = |value: &&str| {
                let mut name = String::new();
                escaped(value, &mut name);
                name
            };
            values.iter().map(one).collect::<Vec<_>>().join("/")
        };
        assert_eq!(made(&["a", "1"]), "a/1");
        let all = [["a/", "b"], ["a", "/b"], ["a%2F", "b"], ["", "a/b"], ["a/b", ""], ["%", ""], ["%25", ""]];
        let written: std::collections::BTreeSet<String> = all.iter().map(|values| made(values)).collect();
        assert_eq!(written.len(), all.len(), "{written:?}");
    }
}
