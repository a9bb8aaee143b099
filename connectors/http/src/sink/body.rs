//! What is sent of each record.

use std::io::Write as _;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use hapax_engine::message::{Format, as_objects, encode};
use hapax_engine::template::Template;
use serde_json::{Map, Value};

use crate::fault::WriteFault;

/// The JSON of a body, with columns in it.
pub(super) enum Body {
    /// The record itself.
    Record,
    /// An object that the file gives.
    Object(Vec<Piece>),
}

/// A part of a body.
pub(super) enum Piece {
    /// As it is.
    Json(String),
    /// The value of a column.
    Column(String),
    /// A text with columns in it.
    Text(Template),
}

impl Body {
    pub(super) fn read(config: Option<&Map<String, Value>>) -> Result<Self, WriteFault> {
        let Some(object) = config else { return Ok(Self::Record) };
        let mut pieces = Vec::new();
        object_pieces(object, &mut pieces)?;
        Ok(Self::Object(pieces))
    }

    /// Whether a column is in it.
    pub(super) fn holds(&self, column: &str) -> bool {
        let Self::Object(pieces) = self else { return true };
        pieces.iter().any(|piece| match piece {
            Piece::Json(_) => false,
            Piece::Column(name) => name == column,
            Piece::Text(template) => template.columns().any(|name| name == column),
        })
    }

    pub(super) fn check(&self, schema: &Schema) -> Result<(), WriteFault> {
        let Self::Object(pieces) = self else { return Ok(()) };
        let wrong = WriteFault::template("body");
        pieces.iter().try_for_each(|piece| match piece {
            Piece::Json(_) => Ok(()),
            Piece::Column(name) => {
                Template::read(&format!("{{{name}}}")).and_then(|one| one.check(schema)).map_err(&wrong)
            }
            Piece::Text(template) => template.check(schema).map_err(&wrong),
        })
    }

    /// The body of each row; an error says why a row has none.
    pub(super) fn of(&self, records: &RecordBatch) -> Result<Vec<Result<Bytes, String>>, ArrowError> {
        let whole = encode(records, Format::Json)?;
        let Self::Object(pieces) = self else { return Ok(whole) };
        // The text of each column that is asked for by itself.
        let mut columns = Vec::new();
        for piece in pieces {
            if let Piece::Column(name) = piece {
                columns.push(Values::of(records, name)?);
            }
        }
        let body = |(row, whole): (usize, Result<Bytes, String>)| {
            whole?;
            let mut body = BytesMut::new();
            let mut columns = columns.iter();
            for piece in pieces {
                match piece {
                    Piece::Json(text) => body.put_slice(text.as_bytes()),
                    Piece::Column(_) => {
                        body.put_slice(columns.next().map(|values| values.row(row)).unwrap_or_default());
                    }
                    Piece::Text(template) => {
                        let text = template.render(records, row, |value, text| text.push_str(value))?;
                        body.put_slice(Value::String(text).to_string().as_bytes());
                    }
                }
            }
            Ok(body.freeze())
        };
        Ok(whole.into_iter().enumerate().map(body).collect())
    }
}

/// The JSON of one column.
struct Values {
    objects: hapax_engine::message::Objects,
    /// What stands before a value in its object.
    before: usize,
}

impl Values {
    fn of(records: &RecordBatch, name: &str) -> Result<Self, ArrowError> {
        let column = records.project(&[records.schema_ref().index_of(name)?])?;
        let before = Value::String(name.to_owned()).to_string().len() + 2;
        Ok(Self { objects: as_objects(&column)?, before })
    }

    fn row(&self, row: usize) -> &[u8] {
        let object = self.objects.of(row);
        object.get(self.before..object.len().saturating_sub(1)).unwrap_or_default()
    }
}

fn object_pieces(object: &Map<String, Value>, pieces: &mut Vec<Piece>) -> Result<(), WriteFault> {
    let mut before = "{";
    for (name, value) in object {
        pieces.push(Piece::Json(format!("{before}{}:", Value::String(name.clone()))));
        value_pieces(value, pieces)?;
        before = ",";
    }
    pieces.push(Piece::Json(if object.is_empty() { "{}" } else { "}" }.to_owned()));
    Ok(())
}

fn value_pieces(value: &Value, pieces: &mut Vec<Piece>) -> Result<(), WriteFault> {
    match value {
        Value::Object(object) => object_pieces(object, pieces)?,
        Value::Array(all) => {
            let mut before = "[";
            for one in all {
                pieces.push(Piece::Json(before.to_owned()));
                value_pieces(one, pieces)?;
                before = ",";
            }
            pieces.push(Piece::Json(if all.is_empty() { "[]" } else { "]" }.to_owned()));
        }
        Value::String(text) => {
            let template = Template::read(text).map_err(WriteFault::template("body"))?;
            let only = template.columns().next().filter(|name| *text == format!("{{{name}}}"));
            pieces.push(match only {
                Some(name) => Piece::Column(name.to_owned()),
                None => Piece::Text(template),
            });
        }
        other => pieces.push(Piece::Json(other.to_string())),
    }
    Ok(())
}

/// Bodies as one array.
pub(super) fn array(bodies: &[Bytes]) -> Bytes {
    let length: usize = bodies.iter().map(|body| body.len() + 1).sum();
    let mut array = BytesMut::with_capacity(length + 2);
    array.put_u8(b'[');
    for (at, body) in bodies.iter().enumerate() {
        if at > 0 {
            array.put_u8(b',');
        }
        array.put_slice(body);
    }
    array.put_u8(b']');
    array.freeze()
}

/// A body for `Content-Encoding: gzip`.
pub(super) fn gzip(body: &[u8]) -> Result<Bytes, std::io::Error> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, StringArray};

    use super::*;

    #[test]
    fn a_body_is_made_of_columns_as_they_are() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a \"name\"", Arc::new(StringArray::from(vec![Some("x\"y"), None]))),
            ("price", Arc::new(Decimal128Array::from(vec![12, 5]).with_precision_and_scale(38, 1).unwrap())),
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
        ];
        let records =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let config = serde_json::json!({
            "name": "{a \"name\"}", "nested": { "all": ["{price}", 7, "it costs {price}", {}, []] }, "z": null,
        });
        let body = Body::read(config.as_object()).unwrap();
        body.check(&records.schema()).unwrap();
        let bodies = body.of(&records).unwrap();
        let first: Value = serde_json::from_slice(bodies[0].as_ref().unwrap()).unwrap();
        assert_eq!(first["name"], "x\"y");
        assert_eq!(first["nested"]["all"][2], "it costs 1.2");
        assert_eq!(first["nested"]["all"][0].to_string().trim_matches('"'), "1.2");
        assert!(bodies[1].is_err(), "a number that JSON cannot say");
        let wrong = Body::read(serde_json::json!({ "a": "{none}" }).as_object()).unwrap();
        assert!(wrong.check(&records.schema()).is_err());
        assert_eq!(&array(&["1".into(), "2".into()])[..], b"[1,2]");
    }
}
