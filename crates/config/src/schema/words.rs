use serde_json::Value;

use crate::suggest::one_of;

/// Follows `$ref` into the definitions of `root`, a bounded number of times.
pub fn resolved<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    const REFERENCES_MAX: usize = 32;
    for _ in 0..REFERENCES_MAX {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| reference.strip_prefix('#'))
            .and_then(|pointer| root.pointer(pointer));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The alternatives of a schema, `null` left out.
pub fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let all = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    Some(all.iter().filter(|one| one.get("type").and_then(Value::as_str) != Some("null")).collect())
}

/// Every text that the schema allows, if it allows nothing else.
pub fn constants<'a>(root: &'a Value, schema: &'a Value) -> Option<Vec<&'a str>> {
    let schema = resolved(root, schema);
    if let Some(one) = schema.get("const") {
        return one.as_str().map(|one| vec![one]);
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return all.iter().filter(|one| !one.is_null()).map(Value::as_str).collect();
    }
    let all = alternatives(schema)?;
    let nested: Option<Vec<Vec<&str>>> = all.into_iter().map(|one| constants(root, one)).collect();
    nested.map(|nested| nested.into_iter().flatten().collect())
}

/// The type names that a schema allows.
pub fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What a value should be, in words.
pub fn expected(root: &Value, schema: &Value) -> String {
    if let Some(words) = schema.get("x-expected").and_then(Value::as_str) {
        return words.to_owned();
    }
    if schema.get("$ref").is_some() {
        return expected(root, resolved(root, schema));
    }
    if let Some(constants) = constants(root, schema) {
        return one_of(constants);
    }
    if let Some(all) = alternatives(schema) {
        let words: Vec<String> = all.into_iter().map(|one| expected(root, one)).collect();
        return words.join(" or ");
    }
    let words: Vec<String> = types(schema)
        .into_iter()
        .filter(|name| *name != "null")
        .map(|name| type_words(root, schema, name))
        .collect();
    if words.is_empty() { "something else".into() } else { words.join(" or ") }
}

fn type_words(root: &Value, schema: &Value, name: &str) -> String {
    match name {
        "string" => "a text".into(),
        "integer" => "a whole number".into(),
        "number" => "a number".into(),
        "boolean" => "`true` or `false`".into(),
        "array" => match schema.get("items").map(|items| types(resolved(root, items))).as_deref() {
            Some(["string"]) => "a list of texts".into(),
            _ => "a list".into(),
        },
        "object" => {
            let keys: Vec<&str> = schema
                .get("properties")
                .and_then(Value::as_object)
                .map(|properties| properties.keys().map(String::as_str).collect())
                .unwrap_or_default();
            if keys.is_empty() { "a map of keys".into() } else { format!("a map with {}", one_of(keys)) }
        }
        other => other.to_owned(),
    }
}

/// The first sentence of a schema's description.
pub fn description<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a str> {
    let own = |schema: &'a Value| schema.get("description").and_then(Value::as_str);
    let text = own(schema).or_else(|| own(resolved(root, schema)))?;
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    Some(paragraph.trim())
}
