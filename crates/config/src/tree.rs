use crate::file::Span;
use crate::secret::Secret;

/// A value of the file with its place.
#[derive(Debug, Clone)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

/// What JSON knows, which is all the file may say.
#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

/// A text as written and, where it holds references, as meant.
#[derive(Debug, Clone)]
pub struct Text {
    pub written: String,
    pub resolved: Option<Secret>,
    /// What its references stand for.
    pub values: Vec<Secret>,
}

impl Text {
    pub fn meant(&self) -> &str {
        self.resolved.as_ref().map_or(&self.written, Secret::expose)
    }
}

impl Node {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text.meant()),
            _ => None,
        }
    }

    /// Whether something stands there without any reference.
    pub fn is_written_out(&self) -> bool {
        match &self.value {
            Value::Null => false,
            // `$${` stands for a plain `${`.
            Value::Text(text) => !text.written.replace("$${", "").contains("${"),
            _ => true,
        }
    }

    /// All texts in it as written, with their places.
    pub fn texts(&self) -> Vec<(&str, Span)> {
        match &self.value {
            Value::Text(text) => vec![(&text.written, self.span)],
            Value::List(items) => items.iter().flat_map(Self::texts).collect(),
            Value::Map(entries) => entries.iter().flat_map(|entry| entry.node.texts()).collect(),
            _ => Vec::new(),
        }
    }

    /// Gives a key of a map a text without references.
    pub fn set_text(&mut self, key: &str, written: String) {
        let span = self.span;
        let Value::Map(entries) = &mut self.value else { return };
        let value = Value::Text(Text { written, resolved: None, values: Vec::new() });
        match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.node.value = value,
            None => entries.push(Entry { key: key.to_owned(), key_span: span, node: Node { span, value } }),
        }
    }

    /// Takes a key out of a map.
    pub fn remove(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != key);
        }
    }

    pub fn has_reference(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.resolved.is_some(),
            Value::List(items) => items.iter().any(Self::has_reference),
            Value::Map(entries) => entries.iter().any(|entry| entry.node.has_reference()),
            _ => false,
        }
    }

    /// What the references inside stand for.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.value {
            Value::Text(text) => text.values.iter().map(Secret::expose).collect(),
            Value::List(items) => items.iter().flat_map(Self::secrets).collect(),
            Value::Map(entries) => entries.iter().flat_map(|entry| entry.node.secrets()).collect(),
            _ => Vec::new(),
        }
    }

    /// As JSON: as meant, or as written.
    pub fn json(&self, meant: bool) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) if meant => text.meant().into(),
            Value::Text(text) => text.written.clone().into(),
            Value::List(items) => items.iter().map(|item| item.json(meant)).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|e| (e.key.clone(), e.node.json(meant))).collect(),
            ),
        }
    }

    pub fn canonical(&self) -> String {
        match &self.value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => format!("{:?}", text.written),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Self::canonical).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|e| format!("{:?}:{}", e.key, e.node.canonical())).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    /// What was found, in words. Shows the file's own text only.
    pub fn words(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) => format!("the text {:?}", shortened(&text.written)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map of keys".into(),
        }
    }
}

fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    if text.chars().count() <= CHARACTERS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARACTERS_MAX).chain(['…']).collect()
}
