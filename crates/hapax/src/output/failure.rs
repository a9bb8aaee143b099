use std::fmt;

use hapax_config::{File, Mistake};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan,
};
use serde_json::{Value, json};

use crate::exit::{Failure, Report};

/// A failure for people.
pub fn words(failure: &Failure, colours: bool) -> String {
    match failure {
        Failure::Mistakes { file, mistakes } => mistakes_words(file, mistakes, colours),
        Failure::Report(report) => report_words(report),
    }
}

/// A failure as a JSON object.
pub fn json(failure: &Failure) -> Value {
    let exit = failure.exit().number();
    match failure {
        Failure::Mistakes { file, mistakes } => {
            json!({"error": {"exit": exit, "file": file.name(), "mistakes": mistakes_json(file, mistakes)}})
        }
        Failure::Report(report) => json!({"error": {
            "exit": exit,
            "code": report.code.to_string(),
            "message": report.message,
            "causes": report.causes,
            "place": report.place,
            "kept": report.kept,
            "help": report.help,
            "page": page(&report.code.to_string()),
        }}),
    }
}

pub fn mistakes_json(file: &File, mistakes: &[Mistake]) -> Value {
    let one = |mistake: &Mistake| {
        let (start, end) = (file.place(mistake.span.start), file.place(mistake.span.end));
        json!({
            "code": mistake.code.to_string(),
            "message": mistake.message,
            "help": mistake.help,
            "line": start.line,
            "column": start.column,
            "end_line": end.line,
            "end_column": end.column,
            "page": page(&mistake.code.to_string()),
        })
    };
    mistakes.iter().map(one).collect()
}

fn page(code: &str) -> String {
    format!("docs/errors/{code}.md")
}

fn report_words(report: &Report) -> String {
    let mut lines = vec![format!("error {}: {}", report.code, report.message)];
    lines.extend(report.causes.iter().map(|cause| format!("  because: {cause}")));
    lines.extend(report.place.iter().map(|place| format!("  where: {place}")));
    lines.extend(report.kept.iter().map(|kept| format!("  {kept}")));
    if !report.help.is_empty() {
        lines.push(format!("  help: {}", report.help));
    }
    lines.push(format!("  see: {}", page(&report.code.to_string())));
    lines.join("\n")
}

fn mistakes_words(file: &File, mistakes: &[Mistake], colours: bool) -> String {
    const WIDTH: usize = 110;
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    for mistake in mistakes {
        let place = file.place(mistake.span.start);
        text.push_str(&format!("error {}: {}:{place}: {}\n", mistake.code, file.name(), mistake.message));
        let handler =
            GraphicalReportHandler::new_themed(theme.clone()).with_width(WIDTH).with_context_lines(1);
        let mut drawn = String::new();
        if handler.render_report(&mut drawn, &Drawn::new(file, mistake)).is_ok() {
            // The handler begins with a header of its own; the line above says more.
            text.extend(drawn.lines().skip_while(|line| !line.contains('╭')).flat_map(|line| [line, "\n"]));
        }
        text.push_str(&format!("  see: {}\n\n", page(&mistake.code.to_string())));
    }
    match mistakes {
        [_] => text.push_str("1 mistake; nothing was moved.\n"),
        all => text.push_str(&format!("{} mistakes; nothing was moved.\n", all.len())),
    }
    text
}

/// A mistake as the library that draws it wants it.
#[derive(Debug)]
struct Drawn<'a> {
    mistake: &'a Mistake,
    source: NamedSource<String>,
}

impl<'a> Drawn<'a> {
    fn new(file: &File, mistake: &'a Mistake) -> Self {
        Self { mistake, source: NamedSource::new(file.name(), file.text().to_owned()) }
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Drawn<'_> {}

impl Diagnostic for Drawn<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        if self.mistake.help.is_empty() {
            return None;
        }
        Some(Box::new(&self.mistake.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = SourceSpan::new(self.mistake.span.start.into(), self.mistake.span.length());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.mistake.label.clone()), span))))
    }
}
