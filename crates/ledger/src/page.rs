//! The bytes of a page: sorted entries with a header that proves them whole.
//!
//! | Bytes | What |
//! |---|---|
//! | 4 | `HxP1` |
//! | 4 | number of entries, little-endian |
//! | 4 | CRC-32 of segment number, page number, number of entries and the entries, little-endian |
//! | 28 each | entries by key (see `entry`), ascending, none twice |
//!
//! The checksum covers where the page belongs, so a page in the wrong place is damage too.

use crate::entry::{ENTRY_BYTES, Entry, Key, Spot};
use crate::error::{Broken, Damage};
use crate::store::SegmentId;

const MAGIC: [u8; 4] = *b"HxP1";

/// Bytes before the first entry.
pub const HEADER_BYTES: usize = 12;

/// How many entries fit into a page of so many bytes; at least one.
pub fn capacity(page_bytes: usize) -> usize {
    (page_bytes.saturating_sub(HEADER_BYTES) / ENTRY_BYTES).max(1)
}

fn checksum(segment: SegmentId, page: u32, count: [u8; 4], entries: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment.0.to_le_bytes());
    crc.update(&page.to_le_bytes());
    crc.update(&count);
    crc.update(entries);
    crc.finalize().to_le_bytes()
}

/// A page being filled.
#[derive(Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    entries: u32,
}

impl Draft {
    pub fn push(&mut self, entry: Entry) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        }
        self.bytes.extend_from_slice(&entry.to_bytes());
        self.entries = self.entries.saturating_add(1);
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        usize::try_from(self.entries).unwrap_or(usize::MAX)
    }

    /// Its bytes, whole; the draft must be [cleared](Self::clear) before it is filled again.
    pub fn finish(&mut self, segment: SegmentId, page: u32) -> &[u8] {
        let count = self.entries.to_le_bytes();
        if let Some((header, entries)) = self.bytes.split_first_chunk_mut::<HEADER_BYTES>() {
            let crc = checksum(segment, page, count, entries);
            header[0..4].copy_from_slice(&MAGIC);
            header[4..8].copy_from_slice(&count);
            header[8..12].copy_from_slice(&crc);
        }
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
    }
}

/// Checks the bytes of a page and returns its entries.
pub fn entries(segment: SegmentId, page: u32, bytes: &[u8]) -> Result<&[[u8; ENTRY_BYTES]], Broken> {
    let damaged = |what| Broken::Page { segment, page, what };
    let Some(([m0, m1, m2, m3, c0, c1, c2, c3, s0, s1, s2, s3], body)) =
        bytes.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(damaged(Damage::Length));
    };
    if [*m0, *m1, *m2, *m3] != MAGIC {
        return Err(damaged(Damage::Format));
    }
    let count = [*c0, *c1, *c2, *c3];
    let (entries, rest) = body.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() || u32::try_from(entries.len()) != Ok(u32::from_le_bytes(count)) {
        return Err(damaged(Damage::Length));
    }
    if checksum(segment, page, count, body) != [*s0, *s1, *s2, *s3] {
        return Err(damaged(Damage::Checksum));
    }
    Ok(entries)
}

/// The entries of a page that was checked before.
pub fn checked_entries(bytes: &[u8]) -> &[[u8; ENTRY_BYTES]] {
    bytes.get(HEADER_BYTES..).unwrap_or_default().as_chunks().0
}

/// Finds an identity among the entries of a page.
pub fn find(entries: &[[u8; ENTRY_BYTES]], key: Key) -> Option<Spot> {
    let at = entries.binary_search_by_key(&key, |bytes| Entry::from_bytes(bytes).key).ok()?;
    entries.get(at).map(|bytes| Entry::from_bytes(bytes).spot)
}

#[cfg(test)]
mod tests;
