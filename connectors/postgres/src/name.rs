//! Names of tables and columns, in SQL and as a person writes them.

use crate::fault::ServerFault;

/// An identifier in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Identifiers in SQL, with commas.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Text in SQL.
pub(crate) fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The name of a table as the file gives it: `orders`, `sales.orders`, `"a.b"."c"`.
///
/// No letter is folded to lower case. What stands in double quotes is one name, in which `""` is a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    pub schema: Option<String>,
    pub table: String,
}

impl TableName {
    /// Reads a name.
    pub(crate) fn read(text: &str) -> Result<Self, ServerFault> {
        let unread = || ServerFault::TableName { text: text.to_owned() };
        let (first, rest) = part(text).ok_or_else(unread)?;
        if rest.is_empty() {
            return Ok(Self { schema: None, table: first });
        }
        let (second, rest) = rest.strip_prefix('.').and_then(part).ok_or_else(unread)?;
        if rest.is_empty() { Ok(Self { schema: Some(first), table: second }) } else { Err(unread()) }
    }

    /// In SQL.
    pub(crate) fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }
}

/// The first name of a text and what stands behind it; `None` if there is none.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty() && !name.contains('"')).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return (!name.is_empty()).then_some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let read = |text: &str| TableName::read(text).ok().map(|name| (name.schema, name.table));
        let in_schema = |schema: &str, table: &str| Some((Some(schema.to_owned()), table.to_owned()));
        assert_eq!(read("Orders"), Some((None, "Orders".to_owned())));
        assert_eq!(read("sales.orders of May"), in_schema("sales", "orders of May"));
        assert_eq!(read(r#""a.b"."c""d""#), in_schema("a.b", "c\"d"));
        assert_eq!(read(r#""""; DROP TABLE x; --""#), Some((None, "\"; DROP TABLE x; --".to_owned())));
        for wrong in ["", ".", "a.", ".b", "a.b.c", r#"""#, r#""a"b"#, r#""; DROP TABLE x; --"#, r#"a"b"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'"), r"E'\\'''");
    }
}
