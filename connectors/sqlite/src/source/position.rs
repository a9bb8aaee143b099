//! Positions: how many records lie before, and the key of the last of them.

use hapax_protocol::position::{Ordinal, Position};
use rusqlite::types::Value;

/// The first byte of a position of this encoding.
const VERSION: u8 = 1;

/// A place behind a record.
///
/// Its encoding begins with the number of records before it, eight bytes, most significant first: it grows
/// with every record, so the order of the bytes is the order of reading whatever the keys are and however
/// SQLite collates them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// How many records lie before it.
    pub ordinal: Ordinal,
    /// The key of the last one.
    pub key: Vec<Value>,
    /// A digest of the last one, where its row id may come to name another row.
    pub digest: Option<u64>,
}

impl Mark {
    pub(crate) fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
        match self.digest {
            None => bytes.push(0),
            Some(digest) => {
                bytes.push(1);
                bytes.extend_from_slice(&digest.to_be_bytes());
            }
        }
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
        let (ordinal, rest) = rest.split_first_chunk::<8>()?;
        let (digested, rest) = rest.split_first()?;
        let (digest, mut rest) = match digested {
            0 => (None, rest),
            _ => {
                let (digest, rest) = rest.split_first_chunk::<8>()?;
                (Some(u64::from_be_bytes(*digest)), rest)
            }
        };
        let mut key = Vec::new();
        while !rest.is_empty() {
            let (value, left) = pull(rest)?;
            key.push(value);
            rest = left;
        }
        Some(Self { ordinal: u64::from_be_bytes(*ordinal), key, digest })
    }
}

fn push(bytes: &mut Vec<u8>, value: &Value) {
    let mut long = |tag: u8, content: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(content);
    };
    match value {
        Value::Null => bytes.push(b'n'),
        Value::Integer(value) => {
            bytes.push(b'i');
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Value::Real(value) => {
            bytes.push(b'r');
            bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Value::Text(value) => long(b't', value.as_bytes()),
        Value::Blob(value) => long(b'b', value),
    }
}

fn pull(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    if *tag == b'n' {
        return Some((Value::Null, rest));
    }
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    match tag {
        b'i' => Some((Value::Integer(i64::from_be_bytes(number.to_be_bytes())), rest)),
        b'r' => Some((Value::Real(f64::from_bits(number)), rest)),
        b't' | b'b' => {
            let (content, rest) = rest.split_at_checked(usize::try_from(number).ok()?)?;
            let value = if *tag == b't' {
                Value::Text(String::from_utf8(content.to_vec()).ok()?)
            } else {
                Value::Blob(content.to_vec())
            };
            Some((value, rest))
        }
        _ => None,
    }
}

/// A value in words.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::Blob(value) => format!("{} bytes", value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_grow_with_the_records() {
        let values = [
            Value::Integer(i64::MIN),
            Value::Real(-1.5),
            Value::Text("é\0".into()),
            Value::Blob(vec![0, 255]),
            Value::Null,
        ];
        let mut last = None;
        for (ordinal, value) in [1, 2, 255, 256, u64::MAX].into_iter().zip(values) {
            let mark = Mark { ordinal, key: vec![value, Value::Integer(7)], digest: Some(ordinal) };
            let position = mark.encode();
            assert_eq!(Mark::decode(&position), Some(mark));
            assert!(last < Some(position.clone()));
            last = Some(position);
        }
        assert_eq!(Mark::decode(&Position::new([9].as_slice())), None);
        assert_eq!(Mark::decode(&Position::new([1, 0].as_slice())), None);
    }
}
