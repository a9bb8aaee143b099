use crate::codes;
use crate::file::{File, Span};
use crate::mistake::Mistake;
use crate::secret::{Secret, Secrets};
use crate::tree::{Node, Text, Value};

/// Where references are looked up.
pub trait Environment {
    /// The value of an environment variable, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file, or why it cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// Resolves `${env:NAME}` and `${file:PATH}` in every text of the tree. `$${` stands for `${`.
pub fn resolve(
    node: &mut Node,
    file: &File,
    environment: &dyn Environment,
    secrets: &mut Secrets,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    match &mut node.value {
        Value::Text(text) if text.written.contains("${") => {
            let mut reader = Reader { file, within: node.span, environment, secrets, mistakes: Vec::new() };
            reader.text(text);
            mistakes.append(&mut reader.mistakes);
        }
        Value::List(items) => {
            for item in items {
                mistakes.extend(resolve(item, file, environment, secrets));
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                mistakes.extend(resolve(&mut entry.node, file, environment, secrets));
            }
        }
        _ => {}
    }
    mistakes
}

struct Reader<'a> {
    file: &'a File,
    within: Span,
    environment: &'a dyn Environment,
    secrets: &'a mut Secrets,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn text(&mut self, text: &mut Text) {
        let written = text.written.clone();
        let mut meant = String::with_capacity(written.len());
        let mut rest = written.as_str();
        while let Some((before, behind)) = rest.split_once("${") {
            if let Some(literal) = before.strip_suffix('$') {
                meant.push_str(literal);
                meant.push_str("${");
                rest = behind;
                continue;
            }
            meant.push_str(before);
            let Some((inside, behind)) = behind.split_once('}') else {
                self.malformed("${", "this reference has no closing brace", "Close it with `}`.");
                return;
            };
            if let Some(value) = self.value(inside) {
                meant.push_str(&value);
                let value = Secret::new(value);
                self.secrets.add(value.clone(), &format!("${{{inside}}}"));
                text.values.push(value);
            }
            rest = behind;
        }
        meant.push_str(rest);
        text.resolved = Some(Secret::new(meant));
    }

    fn value(&mut self, inside: &str) -> Option<String> {
        let reference = format!("${{{inside}}}");
        match inside.split_once(':') {
            Some(("env", name)) if !name.is_empty() => {
                let value = self.environment.variable(name);
                if value.is_none() {
                    let message = format!("the environment variable `{name}` is not set");
                    self.missing(&reference, message, format!("Set it first: `export {name}=…`."));
                }
                value
            }
            Some(("file", path)) if !path.is_empty() => match self.environment.file(path) {
                Ok(text) => Some(text.strip_suffix('\n').unwrap_or(&text).to_owned()),
                Err(reason) => {
                    let message = format!("the file `{path}` of this reference cannot be read: {reason}");
                    self.missing(
                        &reference,
                        message,
                        "Write the value into that file, or correct the path.".into(),
                    );
                    None
                }
            },
            _ => {
                let name = inside.rsplit(':').next().unwrap_or_default();
                let name = if name.is_empty() { "NAME" } else { name };
                let message = format!("`{reference}` is not a reference that Hapax knows");
                let help = format!(
                    "Write `${{env:{name}}}` or `${{file:/path/to/it}}`; `$${{` stands for a plain `${{`."
                );
                self.malformed(&reference, &message, &help);
                None
            }
        }
    }

    fn missing(&mut self, reference: &str, message: String, help: String) {
        let span = self.find(reference);
        self.mistakes
            .push(Mistake::new(codes::REFERENCE_MISSING, span, message).labelled("needed here").helped(help));
    }

    fn malformed(&mut self, reference: &str, message: &str, help: &str) {
        let span = self.find(reference);
        self.mistakes.push(Mistake::new(codes::REFERENCE_FORM, span, message).helped(help));
    }

    /// The reference inside the value, or the whole value where the file spells it differently.
    fn find(&self, reference: &str) -> Span {
        match self.file.slice(self.within).find(reference) {
            Some(at) => {
                let start = self.within.start.saturating_add(at);
                Span::new(start, start.saturating_add(reference.len()))
            }
            None => self.within,
        }
    }
}
