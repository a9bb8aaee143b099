//! Positions: how many records lie before, in which collection, and the key of the last of them.

use hapax_protocol::position::{Ordinal, Position};

use crate::collection::Key;

/// The first byte of a position of this encoding.
const VERSION: u8 = 2;

/// A place behind a record.
///
/// Its encoding begins with the number of records before it, eight bytes, most significant first: it grows with every
/// record, so the order of the bytes is the order of reading whatever the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many records lie before it.
    pub ordinal: Ordinal,
    /// The number that the server has given the collection: one that is made anew under the same name has another.
    pub collection: i64,
    /// The key of the last one.
    pub key: Key,
}

impl Mark {
    pub fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
        bytes.extend_from_slice(&self.collection.to_be_bytes());
        match &self.key {
            Key::Int(key) => {
                bytes.push(b'i');
                bytes.extend_from_slice(&key.to_be_bytes());
            }
            Key::Text(key) => {
                bytes.push(b't');
                bytes.extend_from_slice(key.as_bytes());
            }
        }
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub fn decode(position: &Position) -> Option<Self> {
        let (version, rest) = position.as_bytes().split_first()?;
        let (ordinal, rest) = rest.split_first_chunk::<8>().filter(|_| *version == VERSION)?;
        let (collection, rest) = rest.split_first_chunk::<8>()?;
        let key = match rest.split_first()? {
            (b'i', key) => Key::Int(i64::from_be_bytes(key.try_into().ok()?)),
            (b't', key) => Key::Text(String::from_utf8(key.to_vec()).ok()?),
            _ => return None,
        };
        Some(Self { ordinal: u64::from_be_bytes(*ordinal), collection: i64::from_be_bytes(*collection), key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_say_what_was_put_into_them() {
        for key in [Key::Int(i64::MIN), Key::Int(7), Key::Text(String::new()), Key::Text("ü/\0".to_owned())]
        {
            let mark = Mark { ordinal: 3, collection: 451_234, key };
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        for wrong in [&[][..], &[2], &[1; 26], &[2; 17], &[2; 20]] {
            assert_eq!(Mark::decode(&Position::new(wrong)), None, "{wrong:?}");
        }
    }
}
