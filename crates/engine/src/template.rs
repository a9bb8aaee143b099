//! Names made of text and columns: `orders.{region}.{id}`.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A name with columns in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

/// Why a text is no template, or none for these columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without the other, or nothing between them.
    #[error("`{0}`: a column stands between `{{` and `}}`")]
    Braces(String),
    /// No such column.
    #[error("there is no column `{name}`; the columns are {known}")]
    NoColumn {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
}

impl Template {
    /// Reads one.
    pub fn read(text: &str) -> Result<Self, TemplateError> {
        let wrong = || TemplateError::Braces(text.to_owned());
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or_else(wrong)?;
            if before.contains('}') || name.is_empty() || name.contains('{') {
                return Err(wrong());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Column(name.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(wrong());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The columns it names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Whether text with one of these in it stands between every two columns: with values that never hold any of them,
    /// each choice of values makes another name.
    pub fn separates(&self, separators: &[char]) -> bool {
        let mut open = false;
        self.0.iter().all(|piece| match piece {
            Piece::Column(_) => !std::mem::replace(&mut open, true),
            Piece::Text(text) => {
                open &= !text.contains(separators);
                true
            }
        })
    }

    /// Refuses columns that are not there.
    pub fn check(&self, schema: &Schema) -> Result<(), TemplateError> {
        match self.columns().find(|name| schema.index_of(name).is_err()) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Err(TemplateError::NoColumn { name: name.to_owned(), known: known.join(", ") })
            }
        }
    }

    /// The name of one row; `escape` writes a value into it. An error says which column has no value.
    pub fn render(
        &self,
        records: &RecordBatch,
        row: usize,
        escape: impl Fn(&str, &mut String),
    ) -> Result<String, String> {
        self.over(records)?.name(row, escape)
    }

    /// Made ready for the names of many rows. An error says which column has no text.
    pub fn over<'a>(&'a self, records: &'a RecordBatch) -> Result<Names<'a>, String> {
        let part = |piece: &'a Piece| {
            let column = match piece {
                Piece::Text(text) => return Ok(Part::Text(text)),
                Piece::Column(column) => column,
            };
            // What is not there is NULL in every row.
            let Some(values) = records.column_by_name(column) else { return Ok(Part::Column(column, None)) };
            let shown = ArrayFormatter::try_new(values, &FormatOptions::default());
            let shown = shown.map_err(|error| format!("column {column}: {error}"))?;
            Ok(Part::Column(column, Some((values, shown))))
        };
        Ok(Names(self.0.iter().map(part).collect::<Result<_, String>>()?))
    }
}

/// The names of the rows of some records.
pub struct Names<'a>(Vec<Part<'a>>);

enum Part<'a> {
    Text(&'a str),
    Column(&'a str, Option<(&'a ArrayRef, ArrayFormatter<'a>)>),
}

impl Names<'_> {
    /// The name of one row; `escape` writes a value into it. An error says which column has no value.
    pub fn name(&self, row: usize, escape: impl Fn(&str, &mut String)) -> Result<String, String> {
        let mut name = String::with_capacity(64);
        let mut value = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Column(column, values) => {
                    let there = values.as_ref().filter(|(values, _)| values.is_valid(row));
                    let (_, shown) =
                        there.ok_or_else(|| format!("column {column} is NULL, and the name needs it"))?;
                    value.clear();
                    write!(value, "{}", shown.value(row))
                        .map_err(|_| format!("column {column} has no text"))?;
                    escape(&value, &mut name);
                }
            }
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_name_is_made_of_its_columns() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        let regions: ArrayRef = Arc::new(StringArray::from(vec!["eu", "us"]));
        let records = RecordBatch::try_from_iter([("id", ids), ("region", regions)]).unwrap();
        let template = Template::read("orders.{region}.{id}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["region", "id"]);
        let plain = |value: &str, name: &mut String| name.push_str(value);
        assert_eq!(template.render(&records, 0, plain), Ok("orders.eu.7".to_owned()));
        assert!(template.render(&records, 1, plain).unwrap_err().contains("column id is NULL"));
        assert!(template.check(&records.schema()).is_ok());
        let unknown = Template::read("{id}{other}").unwrap();
        assert!(matches!(unknown.check(&records.schema()), Err(TemplateError::NoColumn { .. })));
        assert!(
            template.separates(&['.'])
                && !unknown.separates(&['.'])
                && !Template::read("{a}-{b}").unwrap().separates(&['.', '/'])
        );
        for wrong in ["a{", "a}", "{}", "{a{b}}", "}{a}"] {
            assert!(Template::read(wrong).is_err(), "{wrong}");
        }
    }
}
