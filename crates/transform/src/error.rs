//! Why a `SELECT` cannot be a transform.

use datafusion_sql::sqlparser::tokenizer::{Location, Span};
use hapax_engine::fault::Fault;
use hapax_protocol::code::Code;
use thiserror::Error;

use crate::codes;

/// A piece of the SQL text.
///
/// Lines and columns count from 1, columns in characters; `start..end` are bytes and always lie within the
/// text on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line of its first character.
    pub line: u64,
    /// Column of its first character.
    pub column: u64,
    /// Where it starts in the text, in bytes.
    pub start: usize,
    /// Where it ends in the text, in bytes, not included. Equal to `start` where only a point is known.
    pub end: usize,
}

impl Place {
    /// The place of a span the parser reports; `None` for its empty span.
    pub(crate) fn of(sql: &str, span: Span) -> Option<Self> {
        let mut place = Self::at(sql, span.start)?;
        place.end = Self::at(sql, span.end).map_or(place.start, |end| end.start.max(place.start));
        Some(place)
    }

    /// The point behind the last character that is not white space.
    pub(crate) fn end_of(sql: &str) -> Self {
        let text = sql.trim_end();
        let line = text.matches('\n').count();
        let last = text.rsplit('\n').next().unwrap_or(text);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).saturating_add(1);
        Self { line: count(line), column: count(last.chars().count()), start: text.len(), end: text.len() }
    }

    pub(crate) fn at(sql: &str, at: Location) -> Option<Self> {
        let line_index = usize::try_from(at.line.checked_sub(1)?).ok()?;
        let column_index = usize::try_from(at.column.checked_sub(1)?).ok()?;
        let before: usize = sql.split_inclusive('\n').take(line_index).map(str::len).sum();
        let rest = sql.get(before..)?;
        let start = rest.char_indices().nth(column_index).map_or(sql.len(), |(offset, _)| before + offset);
        Some(Self { line: at.line, column: at.column, start, end: start })
    }
}

/// Why a `SELECT` cannot be a transform. Nothing was moved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectError {
    /// The text is not SQL.
    #[error("the SQL of the transform cannot be read: {message}")]
    Syntax {
        /// What the parser expected and found.
        message: String,
        /// Where.
        place: Option<Place>,
    },
    /// Not one `SELECT`, or not from `input`.
    #[error("the transform must be one SELECT … FROM input, but it has {found}")]
    NotASelect {
        /// What stands there instead.
        found: String,
        /// Where.
        place: Option<Place>,
    },
    /// A column that the records do not have.
    #[error("the transform names the column `{name}`, which the records do not have")]
    UnknownColumn {
        /// As it is written.
        name: String,
        /// The column that was probably meant, as it must be written.
        suggestion: Option<String>,
        /// Whether it is written in double quotes, where text needs single ones.
        quoted: bool,
        /// Where.
        place: Option<Place>,
    },
    /// A function that does not exist.
    #[error("the transform calls the function `{name}`, which does not exist")]
    UnknownFunction {
        /// As it is written.
        name: String,
        /// What was probably meant, as it must be written.
        suggestion: Option<String>,
        /// Where.
        place: Option<Place>,
    },
    /// A function that would give another value on a replay.
    #[error(
        "the transform calls `{function}`, which {why}: after a crash the same record would get another value"
    )]
    NotDeterministic {
        /// Its name.
        function: String,
        /// What it depends on.
        why: &'static str,
        /// Where.
        place: Option<Place>,
    },
    /// Something that needs more than one record.
    #[error("the transform has {what}, but it sees one record at a time")]
    AcrossRecords {
        /// The clause or function.
        what: String,
        /// Where.
        place: Option<Place>,
    },
    /// Types that do not fit each other, or a wrong number of arguments.
    #[error("an expression of the transform does not fit the types of the columns: {message}")]
    Type {
        /// Which types, in the words of the evaluator.
        message: String,
        /// The expression.
        place: Option<Place>,
    },
    /// Two columns of the result have one name.
    #[error("the transform gives two columns the name `{name}`")]
    NamedTwice {
        /// The name.
        name: String,
        /// The second of them.
        place: Option<Place>,
    },
    /// An expression that fails whatever the record is.
    #[error("an expression of the transform fails on every record: {message}")]
    AlwaysFails {
        /// How it fails.
        message: String,
        /// The expression.
        place: Option<Place>,
    },
    /// SQL that is understood but not evaluated here.
    #[error("the transform uses {what}, which Hapax does not evaluate")]
    NotSupported {
        /// What.
        what: String,
        /// Where.
        place: Option<Place>,
    },
}

impl SelectError {
    /// Where in the SQL it is, if that is known.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Syntax { place, .. }
            | Self::NotASelect { place, .. }
            | Self::UnknownColumn { place, .. }
            | Self::UnknownFunction { place, .. }
            | Self::NotDeterministic { place, .. }
            | Self::AcrossRecords { place, .. }
            | Self::Type { place, .. }
            | Self::NamedTwice { place, .. }
            | Self::AlwaysFails { place, .. }
            | Self::NotSupported { place, .. } => *place,
        }
    }

    /// The same, placed there unless a place is known already.
    pub(crate) fn placed(mut self, there: Option<Place>) -> Self {
        let (Self::Syntax { place, .. }
        | Self::NotASelect { place, .. }
        | Self::UnknownColumn { place, .. }
        | Self::UnknownFunction { place, .. }
        | Self::NotDeterministic { place, .. }
        | Self::AcrossRecords { place, .. }
        | Self::Type { place, .. }
        | Self::NamedTwice { place, .. }
        | Self::AlwaysFails { place, .. }
        | Self::NotSupported { place, .. }) = &mut self;
        *place = place.or(there);
        self
    }
}

impl Fault for SelectError {
    fn code(&self) -> Code {
        match self {
            Self::Syntax { .. } => codes::SYNTAX,
            Self::NotASelect { .. } => codes::NOT_A_SELECT,
            Self::UnknownColumn { .. } => codes::UNKNOWN_COLUMN,
            Self::UnknownFunction { .. } => codes::UNKNOWN_FUNCTION,
            Self::NotDeterministic { .. } => codes::NOT_DETERMINISTIC,
            Self::AcrossRecords { .. } => codes::ACROSS_RECORDS,
            Self::Type { .. } => codes::WRONG_TYPE,
            Self::NamedTwice { .. } => codes::NAMED_TWICE,
            Self::AlwaysFails { .. } => codes::ALWAYS_FAILS,
            Self::NotSupported { .. } => codes::NOT_SUPPORTED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Syntax { .. } => "Write one statement of the form: SELECT expressions FROM input WHERE condition.".into(),
            Self::NotASelect { .. } => {
                "Read from the one table `input`: it is the record that the source has read.".into()
            }
            Self::UnknownColumn { suggestion: Some(name), .. } => {
                format!("Write `{name}`. Names are matched as the source writes them, upper and lower case included.")
            }
            Self::UnknownColumn { quoted: true, .. } => {
                "Text stands in single quotes: 'like this'. Double quotes are for names of columns.".into()
            }
            Self::UnknownColumn { .. } => {
                "Look at the columns with `hapax schema`. Names are matched as the source writes them, upper and lower case included.".into()
            }
            Self::UnknownFunction { suggestion: Some(name), .. } => format!("Write `{name}`."),
            Self::UnknownFunction { .. } => "docs/transform.md lists the functions there are.".into(),
            Self::NotDeterministic { .. } => {
                "Take the value from the record, or let the target fill it in with a default of its column.".into()
            }
            Self::AcrossRecords { .. } => {
                "Move the records as they are and do this with a query in the target.".into()
            }
            Self::Type { .. } => "Convert with CAST(… AS …) where the types differ; docs/transform.md lists types and functions.".into(),
            Self::NamedTwice { .. } => "Give one of them another name with AS.".into(),
            Self::AlwaysFails { .. } => {
                "Correct the expression, or use TRY_CAST if NULL is what a value that does not convert shall become.".into()
            }
            Self::NotSupported { .. } => "docs/transform.md lists what a transform may contain.".into(),
        }
    }
}
