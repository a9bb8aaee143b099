//! Positions: how many records lie before, and where the last of them stood.

use hapax_protocol::position::{Ordinal, Position};

/// The first byte of a position of this encoding.
const VERSION: u8 = 1;

/// A place behind a record.
///
/// Its encoding begins with the number of records before it, eight bytes, most significant first: it grows
/// with every record, so the order of the bytes is the order of reading whatever the keys are and however the
/// server collates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many records lie before it.
    pub ordinal: Ordinal,
    /// Where the last one stood.
    pub at: At,
}

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// Nowhere that could be found again: its number is all there is.
    Number,
    /// On a page of a table.
    Page {
        /// The file the table was in. It changes when the table is written anew.
        file: u32,
        /// Which page.
        page: u32,
        /// Which row of the page, from 1.
        row: u16,
    },
    /// In the order of a key.
    Key {
        /// When this pass began, in microseconds since 2000, where late rows are looked for again; else 0.
        began_us: i64,
        /// The key, in the text form of its columns.
        key: Vec<String>,
    },
}

impl Mark {
    pub(super) fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
        match &self.at {
            At::Number => bytes.push(b'n'),
            At::Page { file, page, row } => {
                bytes.push(b'p');
                bytes.extend_from_slice(&file.to_be_bytes());
                bytes.extend_from_slice(&page.to_be_bytes());
                bytes.extend_from_slice(&row.to_be_bytes());
            }
            At::Key { began_us, key } => {
                bytes.push(b'k');
                bytes.extend_from_slice(&began_us.to_be_bytes());
                for value in key {
                    bytes.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
                    bytes.extend_from_slice(value.as_bytes());
                }
            }
        }
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub(super) fn decode(position: &Position) -> Option<Self> {
        let (version, rest) = position.as_bytes().split_first()?;
        if *version != VERSION {
            return None;
        }
        let (ordinal, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let at = match kind {
            b'n' if rest.is_empty() => At::Number,
            b'p' => {
                let (file, rest) = rest.split_first_chunk::<4>()?;
                let (page, rest) = rest.split_first_chunk::<4>()?;
                At::Page {
                    file: u32::from_be_bytes(*file),
                    page: u32::from_be_bytes(*page),
                    row: u16::from_be_bytes(rest.try_into().ok()?),
                }
            }
            b'k' => {
                let (began, mut rest) = rest.split_first_chunk::<8>()?;
                let mut key = Vec::new();
                while !rest.is_empty() {
                    let (length, behind) = rest.split_first_chunk::<8>()?;
                    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
                    let (value, behind) = behind.split_at_checked(length)?;
                    key.push(String::from_utf8(value.to_vec()).ok()?);
                    rest = behind;
                }
                At::Key { began_us: i64::from_be_bytes(*began), key }
            }
            _ => return None,
        };
        Some(Self { ordinal: u64::from_be_bytes(*ordinal), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_grow_with_the_records() {
        let places = [
            At::Number,
            At::Page { file: u32::MAX, page: 9, row: 291 },
            At::Key { began_us: -5, key: vec!["2024-01-01 00:00:00+00".to_owned(), "é\0".to_owned()] },
            At::Key { began_us: 0, key: vec![String::new()] },
        ];
        let mut last = None;
        for (ordinal, at) in [1, 255, 256, u64::MAX].into_iter().zip(places) {
            let mark = Mark { ordinal, at };
            let position = mark.encode();
            assert_eq!(Mark::decode(&position), Some(mark));
            assert!(last < Some(position.clone()));
            last = Some(position);
        }
        for wrong in
            [&[9_u8][..], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, b'x'], &[1, 0, 0, 0, 0, 0, 0, 0, 0, b'p', 1]]
        {
            assert_eq!(Mark::decode(&Position::new(wrong)), None);
        }
    }
}
