//! Reads the header `Link` (RFC 8288).

/// What is left of a header.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Whether this sign comes next, behind spaces; then it is passed over.
    fn takes(&mut self, sign: char) -> bool {
        self.skip_spaces();
        match self.0.strip_prefix(sign) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// What stands before this sign, which is passed over, too.
    fn until(&mut self, sign: char) -> Option<&'a str> {
        let (before, rest) = self.0.split_once(sign)?;
        self.0 = rest;
        Some(before)
    }

    fn token(&mut self) -> &'a str {
        self.skip_spaces();
        let end = self.0.find([' ', '\t', ';', ',', '=', '"', '<', '>']).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at_checked(end).unwrap_or_default();
        self.0 = rest;
        token
    }

    /// A text in quotes, of which the first is passed over.
    fn quoted(&mut self) -> Option<String> {
        let (mut text, mut escaped) = (String::new(), false);
        for (at, c) in self.0.char_indices() {
            match c {
                '"' if !escaped => {
                    self.0 = self.0.get(at + 1..).unwrap_or_default();
                    return Some(text);
                }
                '\\' if !escaped => escaped = true,
                c => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        None
    }
}

/// The URL of the first link of which the relation is `next`; an error says why the header cannot be read.
pub(super) fn next_link(header: &str) -> Result<Option<String>, String> {
    let mut rest = Rest(header);
    let mut found = None;
    loop {
        while rest.takes(',') {}
        if rest.0.is_empty() {
            return Ok(found);
        }
        if !rest.takes('<') {
            return Err("a link does not begin with `<`".to_owned());
        }
        let url = rest.until('>').ok_or("a link has no `>`")?;
        if relation(&mut rest)?.is_some_and(|relation| is_next(&relation)) && found.is_none() {
            found = Some(url.to_owned());
        }
        rest.skip_spaces();
        if !rest.0.is_empty() && !rest.0.starts_with(',') {
            return Err("behind a link stands neither `;` nor `,`".to_owned());
        }
    }
}

/// Reads the parameters of a link, and returns its first `rel`.
fn relation(rest: &mut Rest<'_>) -> Result<Option<String>, String> {
    let mut relation = None;
    while rest.takes(';') {
        let name = rest.token();
        let is_given = rest.takes('=');
        if name.is_empty() && is_given {
            return Err("a parameter has no name".to_owned());
        }
        let value = match is_given {
            false => String::new(),
            true if rest.takes('"') => rest.quoted().ok_or("a text does not end")?,
            true => rest.token().to_owned(),
        };
        if name.eq_ignore_ascii_case("rel") {
            relation.get_or_insert(value);
        }
    }
    Ok(relation)
}

fn is_next(relation: &str) -> bool {
    relation.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_to_the_next_page_is_found() {
        for (header, expected) in [
            (
                r#"<https://h/a?p=1>; rel="prev", </a?p=3,4>; title="x"; rel="last next", </z>; rel=first"#,
                "/a?p=3,4",
            ),
            ("</b>;rel=next", "/b"),
            ("</b> ; rel = next", "/b"),
            ("</b>\t;\tREL\t=\t\"NEXT\"", "/b"),
            ("</b>; Rel=Next", "/b"),
            (r#"</b>; title="a; rel=\"prev\", <x>"; rel=next"#, "/b"),
            (r#"</a>; title="<b>; rel=next", </c>; rel="next""#, "/c"),
            (", ,</a>; rel=prev,,</b>; x; rel=next;,", "/b"),
            (r#"</b>; title*=UTF-8''%e2%82%ac; rel="next""#, "/b"),
            ("</b>; rel=\"  up \t next \"", "/b"),
        ] {
            assert_eq!(next_link(header), Ok(Some(expected.to_owned())), "{header}");
        }
        // The first `rel` of a link is the one that counts.
        for none in [
            "",
            " , ",
            "</b>; rel=prev",
            "</b>; rel=\"nextone\"",
            "</b>",
            "</b>; rel=prev; rel=next",
            "</b>; xrel=next",
        ] {
            assert_eq!(next_link(none), Ok(None), "{none}");
        }
        for unread in
            ["<b", "/b; rel=next", "</b>; rel=\"next", "</b> rel=next", "</b>; rel=next </c>", "</b>; =next"]
        {
            assert!(next_link(unread).is_err(), "{unread}");
        }
    }
}
