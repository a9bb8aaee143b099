//! Positions: how many records lie before, and the key of the last of them.

use hapax_protocol::position::{Ordinal, Position};
use mysql_async::Value;

/// The first byte of a position of this encoding.
const VERSION: u8 = 1;

/// A place behind a record.
///
/// Its encoding begins with the number of records before it, eight bytes, most significant first: it grows
/// with every record, so the order of the bytes is the order of reading whatever the keys are and however
/// MySQL collates them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// How many records lie before it.
    pub ordinal: Ordinal,
    /// The key of the last one.
    pub key: Vec<Value>,
}

impl Mark {
    pub(crate) fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
        for value in &self.key {
            push(&mut bytes, value);
        }
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub(crate) fn decode(position: &Position) -> Option<Self> {
        let (version, rest) = position.as_bytes().split_first()?;
        if *version != VERSION {
            return None;
        }
        let (ordinal, mut rest) = rest.split_first_chunk::<8>()?;
        let mut key = Vec::new();
        while !rest.is_empty() {
            let (value, left) = pull(rest)?;
            key.push(value);
            rest = left;
        }
        Some(Self { ordinal: u64::from_be_bytes(*ordinal), key })
    }
}

fn push(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::NULL => bytes.push(b'n'),
        Value::Int(value) => {
            bytes.push(b'i');
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Value::UInt(value) => {
            bytes.push(b'u');
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Value::Float(value) => {
            bytes.push(b'f');
            bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Value::Double(value) => {
            bytes.push(b'd');
            bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Value::Bytes(value) => {
            bytes.push(b'b');
            bytes.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        Value::Date(year, month, day, hour, minute, second, micros) => {
            bytes.push(b'm');
            bytes.extend_from_slice(&year.to_be_bytes());
            bytes.extend_from_slice(&[*month, *day, *hour, *minute, *second]);
            bytes.extend_from_slice(&micros.to_be_bytes());
        }
        Value::Time(negative, days, hour, minute, second, micros) => {
            bytes.push(b't');
            bytes.push(u8::from(*negative));
            bytes.extend_from_slice(&days.to_be_bytes());
            bytes.extend_from_slice(&[*hour, *minute, *second]);
            bytes.extend_from_slice(&micros.to_be_bytes());
        }
    }
}

fn pull(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    Some(match tag {
        b'n' => (Value::NULL, rest),
        b'i' => {
            let (value, rest) = rest.split_first_chunk::<8>()?;
            (Value::Int(i64::from_be_bytes(*value)), rest)
        }
        b'u' => {
            let (value, rest) = rest.split_first_chunk::<8>()?;
            (Value::UInt(u64::from_be_bytes(*value)), rest)
        }
        b'f' => {
            let (value, rest) = rest.split_first_chunk::<4>()?;
            (Value::Float(f32::from_bits(u32::from_be_bytes(*value))), rest)
        }
        b'd' => {
            let (value, rest) = rest.split_first_chunk::<8>()?;
            (Value::Double(f64::from_bits(u64::from_be_bytes(*value))), rest)
        }
        b'b' => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            let (content, rest) =
                rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            (Value::Bytes(content.to_vec()), rest)
        }
        b'm' => {
            let (year, rest) = rest.split_first_chunk::<2>()?;
            let ([month, day, hour, minute, second], rest) = rest.split_first_chunk::<5>()?;
            let (micros, rest) = rest.split_first_chunk::<4>()?;
            let (year, micros) = (u16::from_be_bytes(*year), u32::from_be_bytes(*micros));
            (Value::Date(year, *month, *day, *hour, *minute, *second, micros), rest)
        }
        b't' => {
            let (negative, rest) = rest.split_first()?;
            let (days, rest) = rest.split_first_chunk::<4>()?;
            let ([hour, minute, second], rest) = rest.split_first_chunk::<3>()?;
            let (micros, rest) = rest.split_first_chunk::<4>()?;
            let (days, micros) = (u32::from_be_bytes(*days), u32::from_be_bytes(*micros));
            (Value::Time(*negative == 1, days, *hour, *minute, *second, micros), rest)
        }
        _ => return None,
    })
}

/// A value in words, cut short.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Double(number) => format!("{number:?}"),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => {
                let head: String = text.chars().take(60).collect();
                if head.len() < text.len() { format!("{head:?} and more") } else { format!("{head:?}") }
            }
            Err(_) => format!("{} bytes", bytes.len()),
        },
        Value::Date(year, month, day, hour, minute, second, micros) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
        }
        Value::Time(negative, days, hour, minute, second, micros) => {
            let sign = if *negative { "-" } else { "" };
            let hours = u64::from(*days) * 24 + u64::from(*hour);
            format!("{sign}{hours:02}:{minute:02}:{second:02}.{micros:06}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_grow() {
        let key = vec![
            Value::NULL,
            Value::Int(-1),
            Value::UInt(u64::MAX),
            Value::Float(0.5),
            Value::Double(-1.5e300),
            Value::Bytes(b"a\0b".to_vec()),
            Value::Date(2024, 2, 29, 23, 59, 58, 999_999),
            Value::Time(true, 34, 22, 59, 59, 1),
        ];
        let mark = Mark { ordinal: 255, key };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark.clone()));
        assert!(Mark { ordinal: 256, key: Vec::new() }.encode() > mark.encode());
        for wrong in
            [&b""[..], &[2, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, b'x'], &[1, 0, 0, 0, 0, 0, 0, 0, 0, b'i', 1]]
        {
            assert_eq!(Mark::decode(&Position::new(wrong)), None);
        }
    }
}
