//! Values in their text form: for people, for dead letters, and as literals of SQL.

use serde_json::Value as Json;

use super::civil;
use super::numeric::Numeric;
use crate::column::{Base, Type};

/// A value as JSON: its text form, but for booleans, small numbers and arrays.
pub(super) fn json(of: &Type, bytes: Option<&[u8]>) -> Json {
    let Some(bytes) = bytes else { return Json::Null };
    if of.element.is_some() && of.base != Base::Other {
        let elements = elements(bytes);
        return elements.map_or(Json::Null, |all| all.into_iter().map(|one| plain(of.base, one)).collect());
    }
    plain(of.base, Some(bytes))
}

fn plain(base: Base, bytes: Option<&[u8]>) -> Json {
    let Some(bytes) = bytes else { return Json::Null };
    match base {
        Base::Bool => (bytes == [1]).into(),
        Base::Int2 | Base::Int4 => number(bytes).into(),
        Base::Bytea => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        _ => text(base, bytes).into(),
    }
}

/// A value in the words of PostgreSQL.
pub(super) fn text(base: Base, bytes: &[u8]) -> String {
    match base {
        Base::Bool => (if bytes == [1] { "true" } else { "false" }).to_owned(),
        Base::Int2 | Base::Int4 | Base::Int8 => number(bytes).to_string(),
        Base::Float4 => bytes.try_into().map_or_else(|_| String::new(), |b| float(f32::from_be_bytes(b))),
        Base::Float8 => bytes.try_into().map_or_else(|_| String::new(), |b| float(f64::from_be_bytes(b))),
        Base::Numeric(_) => {
            let mut text = String::new();
            if let Some(number) = Numeric::read(bytes) {
                number.write(&mut text);
            }
            text
        }
        Base::Bytea => {
            let mut text = String::from("\\x");
            bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
            text
        }
        Base::Date => civil::date(i32::try_from(number(bytes)).unwrap_or(i32::MAX)),
        Base::Time => civil::time(number(bytes)),
        Base::Timestamp => civil::moment(number(bytes), ""),
        Base::Timestamptz => civil::moment(number(bytes), "+00"),
        Base::Interval => interval(bytes),
        Base::Uuid => {
            let mut text = String::new();
            uuid(bytes, &mut text);
            text
        }
        Base::Jsonb => String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned(),
        Base::Text | Base::Json | Base::Enum | Base::Other => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A whole number of two, four or eight bytes.
pub(super) fn number(bytes: &[u8]) -> i64 {
    match bytes {
        [a, b] => i64::from(i16::from_be_bytes([*a, *b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([*a, *b, *c, *d])),
        _ => bytes.try_into().map_or(0, i64::from_be_bytes),
    }
}

fn float<F: std::fmt::Debug + Into<f64> + Copy>(value: F) -> String {
    let wide: f64 = value.into();
    if wide.is_nan() {
        "NaN".to_owned()
    } else if wide.is_infinite() {
        (if wide > 0.0 { "Infinity" } else { "-Infinity" }).to_owned()
    } else {
        // The shortest digits that are read back as the same number.
        format!("{value:?}")
    }
}

fn interval(bytes: &[u8]) -> String {
    let Some((us, rest)) = bytes.split_first_chunk::<8>() else { return String::new() };
    let Some((days, months)) = rest.split_first_chunk::<4>() else { return String::new() };
    let (us, days) = (i64::from_be_bytes(*us), i32::from_be_bytes(*days));
    format!("{} months {days} days {us} microseconds", number(months))
}

/// Appends a UUID as its 36 signs.
pub(super) fn uuid(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().map_or('0', char::from);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
}

/// The elements of an array of one dimension that counts from 1; `None` if it is none.
pub(super) fn elements(bytes: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (dimensions, rest) = bytes.split_first_chunk::<4>()?;
    let (_flags, rest) = rest.split_first_chunk::<4>()?;
    let (_oid, rest) = rest.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*dimensions) {
        0 => return Some(Vec::new()),
        1 => {}
        _ => return None,
    }
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (first, mut rest) = rest.split_first_chunk::<4>()?;
    if i32::from_be_bytes(*first) != 1 {
        return None;
    }
    let mut elements = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (size, behind) = rest.split_first_chunk::<4>()?;
        let (element, behind) = match usize::try_from(i32::from_be_bytes(*size)) {
            Ok(size) => {
                let (element, behind) = behind.split_at_checked(size)?;
                (Some(element), behind)
            }
            Err(_) => (None, behind),
        };
        elements.push(element);
        rest = behind;
    }
    Some(elements)
}
