use serde_json::Value as Json;

use super::words;
use crate::codes;
use crate::file::Span;
use crate::mistake::Mistake;
use crate::suggest::{closest, one_of};
use crate::tree::{Node, Value};

/// Every mistake that `tree` has against `schema`.
pub fn check(schema: &Json, tree: &Node) -> Vec<Mistake> {
    Check { root: schema }.node(tree, schema, &At { path: String::new(), anchor: Span::new(0, 0) })
}

struct Check<'a> {
    root: &'a Json,
}

/// Where the check stands: the path in words, and the key to point at when something is missing.
struct At {
    path: String,
    anchor: Span,
}

impl At {
    fn below(&self, key: &str, anchor: Span) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, anchor }
    }

    fn place(&self) -> String {
        if self.path.is_empty() { "a pipeline file".into() } else { format!("`{}`", self.path) }
    }
}

impl Check<'_> {
    fn node(&self, node: &Node, schema: &Json, at: &At) -> Vec<Mistake> {
        let own = schema;
        let schema = words::resolved(self.root, schema);
        if self.allows_nothing(schema) && matches!(node.value, Value::Null) {
            return Vec::new();
        }
        if let Some(constants) = words::constants(self.root, schema) {
            return self.constant(node, &constants, own, at);
        }
        if let Some(all) = words::alternatives(schema) {
            let mistakes = self.alternative(node, &all, own, at);
            if !mistakes.is_empty() || schema.get("properties").is_none() {
                return mistakes;
            }
        }
        if let Some(only) = schema.get("enum").and_then(Json::as_array) {
            return self.number_of(node, only, own, at);
        }
        let types = words::types(schema);
        if !types.is_empty() && !types.iter().any(|name| has_type(node, name)) {
            return vec![self.wrong_type(node, own, at)];
        }
        let mut mistakes = limits(node, schema, at);
        mistakes.extend(self.entries(node, schema, at));
        if let Some(items) = schema.get("items") {
            for item in node.items() {
                mistakes.extend(self.node(item, items, &At { path: at.path.clone(), anchor: item.span }));
            }
        }
        mistakes
    }

    fn allows_nothing(&self, schema: &Json) -> bool {
        let nested = |key| {
            schema.get(key).and_then(Json::as_array).is_some_and(|all| {
                all.iter().any(|one| words::types(words::resolved(self.root, one)).contains(&"null"))
            })
        };
        words::types(schema).contains(&"null") || nested("oneOf") || nested("anyOf")
    }

    fn constant(&self, node: &Node, constants: &[&str], own: &Json, at: &At) -> Vec<Mistake> {
        let Some(found) = node.text() else {
            return vec![self.wrong_type(node, own, at)];
        };
        if constants.contains(&found) {
            return Vec::new();
        }
        let all = one_of(constants.iter().copied());
        let message = format!("`{}` cannot be {}", last(&at.path), node.words());
        let mistake = Mistake::new(codes::NOT_ONE_OF, node.span, message);
        vec![match closest(found, constants.iter().copied()) {
            Some(meant) => {
                mistake.labelled(format!("did you mean `{meant}`?")).helped(format!("It is one of {all}."))
            }
            None => mistake.labelled("not one of those allowed").helped(format!("Write {all}.")),
        }]
    }

    fn number_of(&self, node: &Node, only: &[Json], own: &Json, at: &At) -> Vec<Mistake> {
        let found = node.json(true);
        if only.contains(&found) {
            return Vec::new();
        }
        let all: Vec<String> = only.iter().map(Json::to_string).collect();
        if !matches!(node.value, Value::Integer(_)) {
            return vec![self.wrong_type(node, own, at)];
        }
        let message = format!("`{}` cannot be {}", last(&at.path), node.words());
        vec![
            Mistake::new(codes::NOT_ONE_OF, node.span, message)
                .helped(format!("Write {}.", all.join(" or "))),
        ]
    }

    /// The mistakes against the alternative that was most probably meant.
    fn alternative(&self, node: &Node, all: &[&Json], own: &Json, at: &At) -> Vec<Mistake> {
        if let [only] = all {
            return self.node(node, only, at);
        }
        let mut closest: Option<Vec<Mistake>> = None;
        for one in all {
            let resolved = words::resolved(self.root, one);
            let mistakes = self.node(node, one, at);
            if mistakes.is_empty() {
                return mistakes;
            }
            let types = words::types(resolved);
            let plausible =
                types.iter().any(|name| has_type(node, name)) && self.shares_a_key(node, resolved);
            if plausible && closest.as_ref().is_none_or(|best| mistakes.len() < best.len()) {
                closest = Some(mistakes);
            }
        }
        if let Some(mistakes) = closest {
            return mistakes;
        }
        if let (Value::Map(_), Some(mistake)) = (&node.value, self.unknown_choice(node, all)) {
            return vec![mistake];
        }
        let constants: Vec<&str> =
            all.iter().filter_map(|one| words::constants(self.root, one)).flatten().collect();
        let mistake = self.wrong_type(node, own, at);
        match node.text().and_then(|text| closest_text(text, &constants)) {
            Some(meant) => vec![mistake.labelled(format!("did you mean `{meant}`?"))],
            None => vec![mistake],
        }
    }

    fn shares_a_key(&self, node: &Node, schema: &Json) -> bool {
        match schema.get("properties").and_then(Json::as_object) {
            Some(properties) => node.entries().iter().any(|entry| properties.contains_key(&entry.key)),
            None => true,
        }
    }

    /// A map whose keys belong to none of the alternatives that are maps.
    fn unknown_choice(&self, node: &Node, all: &[&Json]) -> Option<Mistake> {
        let keys: Vec<&str> = all
            .iter()
            .filter_map(|one| words::resolved(self.root, one).get("properties")?.as_object())
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        let entry = node.entries().first()?;
        Some(unknown(&entry.key, entry.key_span, "key", &keys))
    }

    fn wrong_type(&self, node: &Node, own: &Json, at: &At) -> Mistake {
        let expected = words::expected(self.root, own);
        let message = format!("`{}`: expected {expected}, found {}", last(&at.path), node.words());
        let span = if node.span.length() == 0 { at.anchor } else { node.span };
        let mistake = Mistake::new(codes::WRONG_TYPE, span, message).labelled(format!("expected {expected}"));
        let types = words::types(words::resolved(self.root, own));
        let help = match &node.value {
            Value::Text(text) if types.contains(&"array") => {
                format!("Write it as a list: `[{}]`.", text.written)
            }
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) if types.contains(&"string") => {
                "Put it in quotes if it is a text.".to_owned()
            }
            Value::Text(text) if types.contains(&"integer") && text.written.parse::<i64>().is_ok() => {
                "Remove the quotes: it is a number.".to_owned()
            }
            _ => words::description(self.root, own).unwrap_or("Correct the value.").to_owned(),
        };
        mistake.helped(help)
    }

    fn entries(&self, node: &Node, schema: &Json, at: &At) -> Vec<Mistake> {
        let Value::Map(entries) = &node.value else { return Vec::new() };
        let mut mistakes = self.how_many(node, schema, at);
        let none = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let noun = schema.get("x-noun").and_then(Json::as_str).unwrap_or("key");
        let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
        for entry in entries {
            let below = at.below(&entry.key, entry.key_span);
            match (properties.get(&entry.key), schema.get("additionalProperties")) {
                (Some(property), _) if is_secret(property) && entry.node.is_written_out() => {
                    let instead = format!("{}: \"${{env:NAME}}\"", entry.key);
                    mistakes.push(Mistake::written_out(&entry.key, &instead, entry.node.span));
                }
                (Some(property), _) => mistakes.extend(self.node(&entry.node, property, &below)),
                (None, Some(Json::Bool(false))) => {
                    mistakes.push(unknown(&entry.key, entry.key_span, noun, &keys))
                }
                (None, Some(other)) if other.is_object() => {
                    mistakes.extend(self.node(&entry.node, other, &below))
                }
                (None, _) => {}
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
        for key in required.filter_map(Json::as_str).filter(|key| node.get(key).is_none()) {
            let message = format!("{} needs `{key}`", at.place());
            let mut help = format!("Add `{key}: …`.");
            if let Some(words) = properties.get(key).and_then(|one| words::description(self.root, one)) {
                help = format!("{help} {words}");
            }
            mistakes.push(
                Mistake::new(codes::MISSING_KEY, at.anchor, message)
                    .labelled(format!("`{key}` is missing"))
                    .helped(help),
            );
        }
        mistakes
    }

    /// Exactly one of the keys, where the schema says so.
    fn how_many(&self, node: &Node, schema: &Json, at: &At) -> Vec<Mistake> {
        let limit = |key: &str| schema.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        let noun = schema.get("x-noun").and_then(Json::as_str).unwrap_or("key");
        let entries = node.entries();
        if limit("minProperties").is_some_and(|min| entries.len() < min) {
            let keys = schema.get("properties").and_then(Json::as_object);
            let keys = one_of(keys.into_iter().flat_map(|keys| keys.keys().map(String::as_str)));
            let message = format!("{} names no {noun}", at.place());
            return vec![
                Mistake::new(codes::ONE_SYSTEM, at.anchor, message)
                    .helped(format!("Write one below it: {keys}.")),
            ];
        }
        let Some(max) = limit("maxProperties") else { return Vec::new() };
        let message = format!("{} names more than one {noun}", at.place());
        entries
            .iter()
            .skip(max)
            .map(|entry| {
                Mistake::new(codes::ONE_SYSTEM, entry.key_span, message.clone())
                    .labelled("one too many")
                    .helped("Keep one; the other belongs into a pipeline of its own.")
            })
            .collect()
    }
}

fn is_secret(schema: &Json) -> bool {
    schema.get("writeOnly").and_then(Json::as_bool).unwrap_or_default()
}

fn unknown(key: &str, span: Span, noun: &str, keys: &[&str]) -> Mistake {
    let mistake = Mistake::new(codes::UNKNOWN_KEY, span, format!("unknown {noun} `{key}`"));
    let all = format!(
        "The {noun}s here are {}.",
        keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
    );
    match closest(key, keys.iter().copied()) {
        Some(meant) => mistake.labelled(format!("did you mean `{meant}`?")).helped(all),
        None => mistake.labelled(format!("no such {noun}")).helped(all),
    }
}

fn closest_text<'a>(text: &str, constants: &[&'a str]) -> Option<&'a str> {
    closest(text, constants.iter().copied())
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn has_type(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Integer(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::Text(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
    }
}

fn limits(node: &Node, schema: &Json, at: &At) -> Vec<Mistake> {
    let mistake = |what: String, help: String| vec![Mistake::new(codes::LIMIT, node.span, what).helped(help)];
    let key = last(&at.path);
    let number = match &node.value {
        Value::Integer(number) => *number,
        Value::List(items) => {
            let min = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
            if u64::try_from(items.len()).unwrap_or(u64::MAX) < min {
                return mistake(format!("`{key}` is an empty list"), format!("Name at least {min}."));
            }
            return Vec::new();
        }
        Value::Text(text) => {
            let min = schema.get("minLength").and_then(Json::as_u64).unwrap_or(0);
            if u64::try_from(text.meant().chars().count()).unwrap_or(u64::MAX) < min {
                return mistake(format!("`{key}` is an empty text"), "Write a value.".into());
            }
            return Vec::new();
        }
        _ => return Vec::new(),
    };
    let bound = |key: &str| schema.get(key).and_then(Json::as_i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(min), _) if number < min => {
            mistake(format!("`{key}` is {number}, which is too small"), format!("The least is {min}."))
        }
        (_, Some(max)) if number > max => {
            mistake(format!("`{key}` is {number}, which is too large"), format!("The most is {max}."))
        }
        _ => Vec::new(),
    }
}
