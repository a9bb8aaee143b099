//! Declared column types: which Arrow type a column holds, and what SQLite does to a value put there.

use arrow::datatypes::{DataType, TimeUnit};

/// What a column does to the values it is given, after SQLite's rules on type affinity
/// (<https://www.sqlite.org/datatype3.html>, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// Turns text and reals that are integers into integers.
    Integer,
    /// Turns integers into reals.
    Real,
    /// Turns numbers into text.
    Text,
    /// Turns text that is a number into the number.
    Numeric,
    /// Takes every value as it is.
    Open,
    /// Takes blobs only (a STRICT table).
    BlobOnly,
}

/// The affinity of a declared type.
pub(crate) fn affinity(declared: &str, strict: bool) -> Affinity {
    let upper = declared.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    if strict && upper == "ANY" {
        Affinity::Open
    } else if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") {
        if strict { Affinity::BlobOnly } else { Affinity::Open }
    } else if upper.is_empty() {
        Affinity::Open
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// The form in which values of an Arrow type are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Integer,
    Boolean,
    Real,
    /// Any text, also one that looks like a number.
    Text,
    /// Text that never looks like a number: dates, times, JSON of nested values.
    Moment,
    Blob,
}

impl Stored {
    /// Whether a column of this affinity keeps the values as they are.
    pub(crate) fn kept_by(self, affinity: Affinity) -> bool {
        match self {
            Self::Integer | Self::Boolean => {
                matches!(affinity, Affinity::Integer | Affinity::Numeric | Affinity::Open)
            }
            Self::Real => matches!(affinity, Affinity::Real | Affinity::Numeric | Affinity::Open),
            Self::Text => matches!(affinity, Affinity::Text | Affinity::Open),
            Self::Moment => matches!(affinity, Affinity::Text | Affinity::Numeric | Affinity::Open),
            Self::Blob => matches!(affinity, Affinity::Open | Affinity::BlobOnly),
        }
    }
}

/// How an Arrow type is stored and what its column is declared as; `None` if SQLite cannot hold it.
///
/// Decimals are text: a column declared `DECIMAL` would turn `1.10` into the binary number 1.1.
pub(crate) fn column(data_type: &DataType) -> Option<(String, Stored)> {
    let plain = |name: &str, stored| Some((name.to_owned(), stored));
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => plain("INTEGER", Stored::Integer),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => plain("REAL", Stored::Real),
        DataType::Boolean => plain("BOOLEAN", Stored::Boolean),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            plain("TEXT", Stored::Text)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            plain("BLOB", Stored::Blob)
        }
        DataType::Date32 | DataType::Date64 => plain("DATE", Stored::Moment),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => plain("TIMESTAMP(9)", Stored::Moment),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => plain("TIMESTAMPTZ(9)", Stored::Moment),
        DataType::Timestamp(_, None) => plain("TIMESTAMP", Stored::Moment),
        DataType::Timestamp(_, Some(_)) => plain("TIMESTAMPTZ", Stored::Moment),
        DataType::Time32(_) | DataType::Time64(_) => plain("TIME", Stored::Moment),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            Some((format!("DECIMAL_TEXT({precision},{scale})"), Stored::Text))
        }
        DataType::Dictionary(_, values) => column(values),
        DataType::RunEndEncoded(_, values) => column(values.data_type()),
        DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Map(_, _) => plain("JSON", Stored::Moment),
        _ => None,
    }
}

/// The Arrow type that a declared type carries; `None` where only the values can tell.
pub(crate) fn arrow_type(declared: &str) -> Option<DataType> {
    let upper = declared.trim().to_ascii_uppercase();
    let (name, arguments) = upper.split_once('(').unwrap_or((&upper, ""));
    let unit = if matches!(arguments.trim(), "7)" | "8)" | "9)") {
        TimeUnit::Nanosecond
    } else {
        TimeUnit::Microsecond
    };
    match name.trim() {
        "BOOLEAN" | "BOOL" => return Some(DataType::Boolean),
        "DATE" => return Some(DataType::Date32),
        "DATETIME" | "TIMESTAMP" => return Some(DataType::Timestamp(unit, None)),
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => {
            return Some(DataType::Timestamp(unit, Some("UTC".into())));
        }
        "DECIMAL_TEXT" | "DECIMAL" | "NUMERIC" => return decimal(arguments),
        "JSON" | "TIME" => return Some(DataType::Utf8),
        _ => {}
    }
    match affinity(declared, false) {
        Affinity::Integer => Some(DataType::Int64),
        Affinity::Real => Some(DataType::Float64),
        Affinity::Text => Some(DataType::Utf8),
        Affinity::Open if !upper.is_empty() => Some(DataType::Binary),
        _ => None,
    }
}

/// The type of `12,2)`: at most 38 digits.
fn decimal(arguments: &str) -> Option<DataType> {
    let (precision, scale) =
        arguments.trim_end().strip_suffix(')')?.split_once(',').unwrap_or((arguments, "0"));
    let precision = precision.trim().trim_end_matches(')').parse().ok()?;
    let scale: i8 = scale.trim().parse().ok()?;
    let fits = (1..=38).contains(&precision) && scale.unsigned_abs() <= precision;
    fits.then_some(DataType::Decimal128(precision, scale))
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
        other => decimal(other.strip_prefix("decimal")?.trim().strip_prefix('(')?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_column_keeps_its_values_and_carries_its_type() {
        for data_type in [
            DataType::Int64,
            DataType::Float64,
            DataType::Boolean,
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Decimal128(12, 2),
        ] {
            let (declared, stored) = column(&data_type).unwrap();
            assert!(stored.kept_by(affinity(&declared, false)), "{declared}");
            assert_eq!(arrow_type(&declared), Some(data_type));
        }
        assert!(!Stored::Text.kept_by(affinity("DECIMAL(12,2)", false)));
        assert!(!Stored::Text.kept_by(affinity("BLOB", true)));
        assert!(!Stored::Integer.kept_by(affinity("VARCHAR(10)", false)));
        assert!(!Stored::Real.kept_by(affinity("INTEGER", false)));
    }

    #[test]
    fn names_of_types() {
        assert_eq!(named("decimal(12,2)"), Some(DataType::Decimal128(12, 2)));
        assert_eq!(named("decimal(12)"), Some(DataType::Decimal128(12, 0)));
        assert_eq!(named("decimal(99,2)"), None);
        assert_eq!(named("varchar"), None);
    }
}
