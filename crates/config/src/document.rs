use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};

use crate::codes;
use crate::file::{File, Span};
use crate::mistake::Mistake;
use crate::tree::{Entry, Node, Text, Value};

/// Reads YAML into a tree whose nodes know their bytes.
pub fn parse(file: &File) -> Result<Node, Mistake> {
    let bytes = Bytes::of(file.text());
    let documents = MarkedYaml::load_from_str(file.text()).map_err(|error| {
        let at = bytes.at(error.marker());
        let message = format!("this is not valid YAML: {}", error.info());
        Mistake::new(codes::YAML, character_at(file, at), message)
            .labelled("not understood from here")
            .helped(
                "Look at this line and the one above it: indentation, quotes, brackets, a key written twice.",
            )
    })?;
    let mut documents = documents.into_iter();
    let first = documents.next();
    if let Some(second) = documents.next() {
        let span = character_at(file, bytes.at(&second.span.start));
        return Err(Mistake::new(codes::YAML, span, "the file holds more than one document")
            .labelled("the second one starts here")
            .helped("Put each pipeline in a file of its own."));
    }
    match first {
        Some(document) => node(file, &bytes, &document),
        None => Ok(Node { span: Span::default(), value: Value::Null }),
    }
}

fn node(file: &File, bytes: &Bytes, yaml: &MarkedYaml<'_>) -> Result<Node, Mistake> {
    let span = trimmed(file, Span::new(bytes.at(&yaml.span.start), bytes.at(&yaml.span.end)));
    let value = match &yaml.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => Value::Bool(*value),
            Scalar::Integer(value) => Value::Integer(*value),
            Scalar::FloatingPoint(value) => Value::Float(value.into_inner()),
            Scalar::String(text) => {
                Value::Text(Text { written: text.to_string(), resolved: None, values: Vec::new() })
            }
        },
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| node(file, bytes, item)).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let entry = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let key = node(file, bytes, key)?;
                let name = match &key.value {
                    Value::Text(text) => text.written.clone(),
                    _ => file.slice(key.span).to_owned(),
                };
                Ok(Entry { key: name, key_span: key.span, node: node(file, bytes, value)? })
            };
            Value::Map(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        YamlData::Tagged(tag, _) => {
            return Err(Mistake::new(codes::YAML, span, format!("the tag `{tag}` means nothing here"))
                .helped("Remove the tag; put a text in quotes if it must stay a text."));
        }
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            return Err(Mistake::new(codes::YAML, span, "this value cannot be read")
                .helped("Put it in quotes if it is a text."));
        }
    };
    Ok(Node { span, value })
}

/// Byte offsets by character: the parser counts characters.
struct Bytes(Vec<usize>);

impl Bytes {
    fn of(text: &str) -> Self {
        Self(text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
    }

    fn at(&self, marker: &Marker) -> usize {
        self.0.get(marker.index()).or(self.0.last()).copied().unwrap_or_default()
    }
}

/// The span without the white space and comments that the parser lets trail behind a block.
fn trimmed(file: &File, span: Span) -> Span {
    let text = file.slice(span).trim_end();
    Span::new(span.start, span.start.saturating_add(text.len()))
}

fn character_at(file: &File, at: usize) -> Span {
    let length = file.text().get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    Span::new(at, at.saturating_add(length))
}
