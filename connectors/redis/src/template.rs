//! Key templates: `orders:{id}`. Two records have the same key only if their columns are the same, and a key can be read
//! back.

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error(
        "a brace is opened and not closed, or closed and not opened (`{{{{` and `}}}}` are braces themselves)"
    )]
    Brace,
    #[error("the columns {{{0}}} and {{{1}}} stand beside each other with nothing between them")]
    Adjacent(String, String),
    #[error("the column {{{0}}} stands in it twice")]
    Twice(String),
    #[error("`{{}}` names no column")]
    Nameless,
}

/// A template: text, then a column and the text behind it, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    head: String,
    /// Columns, each with the text behind it.
    parts: Vec<(String, String)>,
}

impl Template {
    pub(crate) fn read(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self { head: String::new(), parts: Vec::new() };
        let mut rest = text.chars().peekable();
        while let Some(sign) = rest.next() {
            match (sign, rest.peek()) {
                ('{', Some('{')) | ('}', Some('}')) => {
                    rest.next();
                    template.tail().push(sign);
                }
                ('{', _) => {
                    let mut column = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            None | Some('{') => return Err(TemplateError::Brace),
                            Some(sign) => column.push(sign),
                        }
                    }
                    template.add(column.trim().to_owned())?;
                }
                ('}', _) => return Err(TemplateError::Brace),
                (sign, _) => template.tail().push(sign),
            }
        }
        Ok(template)
    }

    fn tail(&mut self) -> &mut String {
        match self.parts.last_mut() {
            Some((_, tail)) => tail,
            None => &mut self.head,
        }
    }

    fn add(&mut self, column: String) -> Result<(), TemplateError> {
        if column.is_empty() {
            return Err(TemplateError::Nameless);
        }
        if self.parts.iter().any(|(known, _)| *known == column) {
            return Err(TemplateError::Twice(column));
        }
        if let Some((before, tail)) = self.parts.last()
            && tail.is_empty()
        {
            return Err(TemplateError::Adjacent(before.clone(), column));
        }
        self.parts.push((column, String::new()));
        Ok(())
    }

    /// The columns, in their order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().map(|(column, _)| column)
    }

    /// The text before the first column: every key begins with it.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }

    /// The hash tag that all keys share: what stands in the first braces of the text before the first column.
    pub(crate) fn tag(&self) -> Option<&str> {
        let (_, behind) = self.head.split_once('{')?;
        behind.split_once('}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
    }

    /// The key of these values, one per column. `Err` with the place of a value that would make two keys one: it holds
    /// the text that ends its column.
    pub(crate) fn key<'a>(&self, value: impl Fn(usize) -> Option<&'a [u8]>) -> Result<Vec<u8>, usize> {
        let mut key = self.head.clone().into_bytes();
        for (place, (_, tail)) in self.parts.iter().enumerate() {
            let value = value(place).ok_or(place)?;
            let is_last = place.saturating_add(1) == self.parts.len();
            let begins = key.len();
            key.extend_from_slice(value);
            key.extend_from_slice(tail.as_bytes());
            // Where the text is found first is where the column ends.
            if !is_last && find(key.get(begins..).unwrap_or_default(), tail.as_bytes()) != Some(value.len()) {
                return Err(place);
            }
        }
        Ok(key)
    }

    /// The values of a key, one per column; `None` if no record has this key.
    pub(crate) fn values(&self, key: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut rest = key.strip_prefix(self.head.as_bytes())?;
        let mut values = Vec::with_capacity(self.parts.len());
        for (place, (_, tail)) in self.parts.iter().enumerate() {
            let is_last = place.saturating_add(1) == self.parts.len();
            let value = if is_last {
                rest.strip_suffix(tail.as_bytes())?
            } else {
                rest.get(..find(rest, tail.as_bytes())?)?
            };
            rest = rest.get(value.len().saturating_add(tail.len())..)?;
            values.push(value.to_vec());
        }
        rest.is_empty().then_some(values)
    }

    /// A pattern that every key matches, for SCAN.
    pub(crate) fn pattern(&self) -> String {
        let mut pattern = String::new();
        let literal = |text: &str, pattern: &mut String| {
            for sign in text.chars() {
                if matches!(sign, '*' | '?' | '[' | ']' | '\\' | '^') {
                    pattern.push('\\');
                }
                pattern.push(sign);
            }
        };
        literal(&self.head, &mut pattern);
        for (_, tail) in &self.parts {
            pattern.push('*');
            literal(tail, &mut pattern);
        }
        pattern
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len().max(1)).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &Template, values: &[&str]) -> Result<String, usize> {
        let key = template.key(|place| values.get(place).map(|value| value.as_bytes()));
        key.map(|key| String::from_utf8(key).unwrap())
    }

    #[test]
    fn keys_come_back_as_the_values_they_were_made_of() {
        let one = Template::read("orders:{id}").unwrap();
        assert_eq!(key(&one, &["a:b"]).unwrap(), "orders:a:b");
        assert_eq!(one.values(b"orders:a:b").unwrap(), [b"a:b".to_vec()]);
        assert_eq!(one.values(b"order:1"), None);
        let two = Template::read("{{shop}}:{region}:{id}#").unwrap();
        assert_eq!((two.tag(), two.head()), (Some("shop"), "{shop}:"));
        assert_eq!(key(&two, &["eu", "7:8"]).unwrap(), "{shop}:eu:7:8#");
        assert_eq!(two.values(b"{shop}:eu:7:8#").unwrap(), [b"eu".to_vec(), b"7:8".to_vec()]);
        // These would be the key of ("eu", "1:7").
        assert_eq!(key(&two, &["eu:1", "7"]), Err(0));
        assert_eq!(two.pattern(), "{shop}:*:*#");
        // The end of a value and the text behind it must not look like an earlier end.
        let long = Template::read("{a}::{b}").unwrap();
        assert_eq!(key(&long, &["x:", "y"]), Err(0));
    }

    #[test]
    fn templates_that_say_nothing_clear_are_refused() {
        for (text, error) in [
            ("a{b", TemplateError::Brace),
            ("a}b", TemplateError::Brace),
            ("{}", TemplateError::Nameless),
            ("{a}{b}", TemplateError::Adjacent("a".into(), "b".into())),
            ("{a}:{a}", TemplateError::Twice("a".into())),
        ] {
            assert_eq!(Template::read(text), Err(error), "{text}");
        }
        assert_eq!(Template::read("a[*]:{id}").unwrap().pattern(), "a\\[\\*\\]:*");
        assert_eq!(Template::read("orders:{id}").unwrap().tag(), None);
    }
}
