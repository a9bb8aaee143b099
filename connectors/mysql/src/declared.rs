//! Column types: which Arrow type a column holds, and what it does to values put there.

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::server::Server;

/// The key of an Arrow field's metadata under which the column's own type stands, as MySQL writes it.
pub(crate) const METADATA: &str = "hapax:mysql";

/// The most digits a DECIMAL has.
const DIGITS_MAX: u8 = 65;

/// A column type in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    /// The bare name, in lower case: `decimal`.
    pub name: String,
    /// The numbers in its brackets.
    pub numbers: Vec<u32>,
    /// The texts in its brackets: the members of an ENUM or a SET.
    pub members: Vec<String>,
    pub unsigned: bool,
}

impl Declared {
    /// Reads `decimal(12,2) unsigned` or `enum('a','b')`.
    pub(crate) fn read(column_type: &str) -> Self {
        let (name, rest) = column_type.split_once('(').unwrap_or((column_type, ""));
        let mut words = name.split_whitespace();
        let bare = words.next().unwrap_or_default().to_ascii_lowercase();
        let (inside, behind) = rest.rsplit_once(')').unwrap_or(("", ""));
        let unsigned =
            words.chain(behind.split_whitespace()).any(|word| word.eq_ignore_ascii_case("unsigned"));
        let members = if inside.starts_with('\'') { members(inside) } else { Vec::new() };
        let numbers = if members.is_empty() {
            inside.split(',').filter_map(|number| number.trim().parse().ok()).collect()
        } else {
            Vec::new()
        };
        Self { name: bare, numbers, members, unsigned }
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.numbers.get(index).copied()
    }

    fn is_text(&self) -> bool {
        matches!(
            self.name.as_str(),
            "char"
                | "varchar"
                | "tinytext"
                | "text"
                | "mediumtext"
                | "longtext"
                | "json"
                | "uuid"
                | "inet4"
                | "inet6"
        )
    }

    fn is_integer(&self) -> bool {
        matches!(self.name.as_str(), "tinyint" | "smallint" | "mediumint" | "int" | "bigint")
    }

    fn is_bytes(&self) -> bool {
        matches!(self.name.as_str(), "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob")
    }

    /// Whether values of it compare in SQL the way they are sorted, so that it can be part of a key.
    pub(crate) fn is_ordered(&self) -> bool {
        let others = ["decimal", "float", "double", "date", "datetime", "timestamp", "time", "year"];
        let texts = ["char", "varchar", "binary", "varbinary"];
        self.is_integer() || others.contains(&self.name.as_str()) || texts.contains(&self.name.as_str())
    }

    /// Digits and places of a DECIMAL.
    pub(crate) fn decimal(&self) -> Option<(u8, u8)> {
        (self.name == "decimal").then(|| {
            let number = |index, default| {
                self.number(index).and_then(|number| u8::try_from(number).ok()).unwrap_or(default)
            };
            (number(0, 10), number(1, 0))
        })
    }

    /// The Arrow type that values of it are read as.
    pub(crate) fn arrow_type(&self) -> DataType {
        match (self.name.as_str(), self.unsigned) {
            ("tinyint", false) if self.number(0) == Some(1) => DataType::Boolean,
            ("tinyint", false) => DataType::Int8,
            ("tinyint", true) => DataType::UInt8,
            ("smallint", false) | ("year", _) => DataType::Int16,
            ("smallint", true) => DataType::UInt16,
            ("mediumint" | "int", false) => DataType::Int32,
            ("mediumint" | "int", true) => DataType::UInt32,
            ("bigint", false) => DataType::Int64,
            ("bigint", true) => DataType::UInt64,
            ("bit", _) if self.number(0).unwrap_or(1) == 1 => DataType::Boolean,
            ("bit", _) => DataType::UInt64,
            ("float", _) => DataType::Float32,
            ("double", _) => DataType::Float64,
            ("date", _) => DataType::Date32,
            ("datetime", _) => DataType::Timestamp(TimeUnit::Microsecond, None),
            ("timestamp", _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ("time", _) => DataType::Time64(TimeUnit::Microsecond),
            ("decimal", _) => match self.decimal().unwrap_or((10, 0)) {
                (precision, scale) if precision <= 38 => {
                    DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(0))
                }
                (precision, scale) => DataType::Decimal256(precision, i8::try_from(scale).unwrap_or(0)),
            },
            ("enum" | "set", _) => DataType::Utf8,
            _ if self.is_text() => DataType::Utf8,
            // Spatial types and vectors have a binary form of their own.
            _ => DataType::Binary,
        }
    }
}

/// The members of `'a','it''s'`.
fn members(inside: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut member: Option<String> = None;
    let mut rest = inside.chars().peekable();
    while let Some(c) = rest.next() {
        match (&mut member, c) {
            (None, '\'') => member = Some(String::new()),
            (Some(text), '\'') if rest.peek() == Some(&'\'') => {
                rest.next();
                text.push('\'');
            }
            (Some(_), '\'') => members.extend(member.take()),
            (Some(text), c) => text.push(c),
            (None, _) => {}
        }
    }
    members
}

/// How a column takes the values of a record's column without changing them. What the server itself refuses, a
/// number out of range for instance, is left to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Numbers, as digits.
    Number,
    /// Numbers, as bits.
    Bit,
    /// Years, which MySQL writes out if they have two digits.
    Year,
    /// Text.
    Text,
    /// Text whose trailing spaces would be cut off.
    Padded,
    /// One of these texts; a number would mean its place in the list.
    OneOf(Vec<String>),
    /// Some of these texts, with commas.
    SomeOf(Vec<String>),
    /// Bytes; exactly so many, if that is given, or zeros would be put behind them.
    Bytes(Option<u32>),
    /// Dates.
    Date,
    /// Dates and times with so many digits of the second's fraction; more would be rounded.
    Moment(u32),
    /// Times of day, likewise.
    Time(u32),
}

/// How a column of type `column_type` takes values of an Arrow type; `None` if it would change them.
pub(crate) fn takes(column_type: &str, data_type: &DataType) -> Option<Takes> {
    let declared = Declared::read(column_type);
    let name = declared.name.as_str();
    let digits = || declared.number(0).unwrap_or(0);
    let integer = |bits: u32| match name {
        _ if declared.is_integer() => Some(Takes::Number),
        "decimal" => Some(Takes::Number),
        "double" if bits <= 32 => Some(Takes::Number),
        "float" if bits <= 16 => Some(Takes::Number),
        "bit" => Some(Takes::Bit),
        "year" => Some(Takes::Year),
        _ => None,
    };
    match data_type {
        DataType::Int8 | DataType::UInt8 => integer(8),
        DataType::Int16 | DataType::UInt16 => integer(16),
        DataType::Int32 | DataType::UInt32 => integer(32),
        DataType::Int64 | DataType::UInt64 => integer(64),
        DataType::Boolean if declared.is_integer() => Some(Takes::Number),
        DataType::Boolean => (name == "bit").then_some(Takes::Bit),
        DataType::Float16 | DataType::Float32 => matches!(name, "float" | "double").then_some(Takes::Number),
        DataType::Float64 => (name == "double").then_some(Takes::Number),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => {
            let places = declared.decimal().map(|(_, places)| places);
            let places = places.or(declared.is_integer().then_some(0))?;
            (i16::from(places) >= i16::from(*scale)).then_some(Takes::Number)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match name {
            "char" => Some(Takes::Padded),
            "enum" => Some(Takes::OneOf(declared.members.clone())),
            "set" => Some(Takes::SomeOf(declared.members.clone())),
            _ => declared.is_text().then_some(Takes::Text),
        },
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let exact = (name == "binary").then(|| declared.number(0).unwrap_or(1));
            declared.is_bytes().then_some(Takes::Bytes(exact))
        }
        DataType::Date32 | DataType::Date64 => (name == "date").then_some(Takes::Date),
        DataType::Timestamp(_, None) => (name == "datetime").then(|| Takes::Moment(digits())),
        DataType::Timestamp(_, Some(_)) => {
            matches!(name, "datetime" | "timestamp").then(|| Takes::Moment(digits()))
        }
        DataType::Time32(_) | DataType::Time64(_) => (name == "time").then(|| Takes::Time(digits())),
        DataType::Dictionary(_, values) => takes(column_type, values),
        DataType::RunEndEncoded(_, values) => takes(column_type, values.data_type()),
        DataType::Null => Some(Takes::Text),
        nested if nested.is_nested() => declared.is_text().then_some(Takes::Text),
        _ => None,
    }
}

/// What a new column for a field is declared as; `None` if MySQL cannot hold it. `key_chars` is how many characters
/// a text may have that is part of the key.
pub(crate) fn column(field: &Field, server: &Server, key_chars: Option<u32>) -> Option<String> {
    let data_type = field.data_type();
    let own = field.metadata().get(METADATA).filter(|own| takes(own, data_type).is_some());
    match (own, key_chars) {
        (Some(own), None) => Some(exact(own, server)),
        // A TEXT cannot be part of a key.
        (Some(own), Some(_)) if Declared::read(own).is_ordered() => Some(exact(own, server)),
        _ => created(data_type, server, key_chars),
    }
}

/// A type as another database has it, with the collation that tells all texts apart: the name of the type does not say
/// which one it has there, and the default of a database takes `a` and `A` for one key.
fn exact(own: &str, server: &Server) -> String {
    const TEXTS: [&str; 6] = ["char", "varchar", "tinytext", "text", "mediumtext", "longtext"];
    let name = own.split('(').next().unwrap_or(own).trim().to_ascii_lowercase();
    match TEXTS.contains(&name.as_str()) {
        true => format!("{own} CHARACTER SET utf8mb4 COLLATE {}", server.exact_collation()),
        false => own.to_owned(),
    }
}

fn created(data_type: &DataType, server: &Server, key_chars: Option<u32>) -> Option<String> {
    let plain = |name: &str| Some(name.to_owned());
    match data_type {
        DataType::Boolean => plain("tinyint(1)"),
        DataType::Int8 => plain("tinyint"),
        DataType::Int16 => plain("smallint"),
        DataType::Int32 => plain("int"),
        DataType::Int64 => plain("bigint"),
        DataType::UInt8 => plain("tinyint unsigned"),
        DataType::UInt16 => plain("smallint unsigned"),
        DataType::UInt32 => plain("int unsigned"),
        DataType::UInt64 => plain("bigint unsigned"),
        DataType::Float16 | DataType::Float32 => plain("float"),
        DataType::Float64 => plain("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            let name = key_chars.map_or("longtext".to_owned(), |chars| format!("varchar({chars})"));
            Some(format!("{name} CHARACTER SET utf8mb4 COLLATE {}", server.exact_collation()))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            Some(key_chars.map_or("longblob".to_owned(), |chars| format!("varbinary({chars})")))
        }
        DataType::FixedSizeBinary(bytes @ 1..=255) => Some(format!("binary({bytes})")),
        DataType::FixedSizeBinary(_) => plain("longblob"),
        DataType::Date32 | DataType::Date64 => plain("date"),
        // A TIMESTAMP ends in 2038 and cannot hold 1970-01-01 00:00:00.
        DataType::Timestamp(_, _) => plain("datetime(6)"),
        DataType::Time32(_) | DataType::Time64(_) => plain("time(6)"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => decimal(*precision, *scale, server),
        DataType::Dictionary(_, values) => created(values, server, key_chars),
        DataType::RunEndEncoded(_, values) => created(values.data_type(), server, key_chars),
        DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Map(_, _) => plain("json"),
        _ => None,
    }
}

fn decimal(precision: u8, scale: i8, server: &Server) -> Option<String> {
    let places = u8::try_from(scale.max(0)).ok()?;
    let zeros = scale.min(0).unsigned_abs();
    let digits = precision.checked_add(zeros)?.max(places);
    (digits <= DIGITS_MAX && places <= server.scale_max()).then(|| format!("decimal({digits},{places})"))
}

/// The Arrow type of a name in the pipeline file.
pub(crate) fn named(name: &str) -> Option<DataType> {
    match name.trim().to_ascii_lowercase().as_str() {
        "boolean" => Some(DataType::Boolean),
        "int64" => Some(DataType::Int64),
        "float64" => Some(DataType::Float64),
        "string" => Some(DataType::Utf8),
        "binary" => Some(DataType::Binary),
        "date" => Some(DataType::Date32),
        "timestamp" => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        "timestamptz" => Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        other => {
            let inside = other.strip_prefix("decimal")?.trim().strip_prefix('(')?.strip_suffix(')')?;
            let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse::<i8>().ok()?);
            let fits = (1..=38).contains(&precision) && scale.unsigned_abs() <= precision;
            fits.then_some(DataType::Decimal128(precision, scale))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_column_keeps_its_values_and_carries_its_type() {
        let server = Server { mariadb: true, version: (10, 11, 0) };
        for data_type in [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt8,
            DataType::Int16,
            DataType::UInt16,
            DataType::Int32,
            DataType::UInt32,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Decimal128(12, 2),
            DataType::Decimal256(60, 20),
        ] {
            let declared = created(&data_type, &server, None).unwrap();
            assert!(takes(&declared, &data_type).is_some(), "{declared}");
            assert_eq!(Declared::read(&declared).arrow_type(), data_type, "{declared}");
        }
        assert_eq!(created(&DataType::Decimal256(70, 2), &server, None), None);
        assert_eq!(decimal(5, -2, &server).as_deref(), Some("decimal(7,0)"));
    }

    #[test]
    fn a_column_that_would_change_values_does_not_take_them() {
        for (declared, data_type) in [
            ("int(11)", DataType::Utf8),
            ("varchar(10)", DataType::Int64),
            ("decimal(10,2)", DataType::Decimal128(10, 3)),
            ("float", DataType::Float64),
            ("double", DataType::Int64),
            ("date", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("blob", DataType::Utf8),
            ("point", DataType::Binary),
        ] {
            assert_eq!(takes(declared, &data_type), None, "{declared}");
        }
        assert_eq!(
            takes("datetime", &DataType::Timestamp(TimeUnit::Microsecond, None)),
            Some(Takes::Moment(0))
        );
    }

    #[test]
    fn types_are_read_in_their_parts() {
        let of = Declared::read("enum('a','it''s','(x, y)')");
        assert_eq!(of.members, ["a", "it's", "(x, y)"]);
        let of = Declared::read("decimal(12,2) unsigned");
        assert_eq!((of.decimal(), of.unsigned), (Some((12, 2)), true));
        assert_eq!(Declared::read("bigint(20) unsigned").arrow_type(), DataType::UInt64);
        assert_eq!(named("decimal(12,2)"), Some(DataType::Decimal128(12, 2)));
        assert_eq!(named("varchar"), None);
    }
}
