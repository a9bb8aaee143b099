//! One claimed identity and the place that claimed it.

use hapax_protocol::identity::RecordId;
use hapax_protocol::position::Ordinal;

use crate::store::SplitNumber;

/// Bytes of an entry in a page: key 16, split 4, ordinal 8, all big-endian.
pub const ENTRY_BYTES: usize = 28;

/// Where an identity was claimed first, with the split as the store numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub split: SplitNumber,
    pub ordinal: Ordinal,
}

/// An identity, scrambled: a number that stands for it and is uniform whatever identities look like
/// (UUIDs of version 7 are nearly sequential).
///
/// Segments are sorted by it, so the blocks of a filter, which are chosen by its first bits, are filled one
/// after the other. The scrambling loses nothing and is part of the format of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u128);

impl Key {
    pub fn of(id: &RecordId) -> Self {
        let [mut high, mut low] = halves(u128::from_be_bytes(id.0));
        high ^= scramble(low);
        low ^= scramble(high);
        high ^= scramble(low);
        Self(u128::from(high) << 64 | u128::from(low))
    }

    pub fn id(self) -> RecordId {
        let [mut high, mut low] = self.halves();
        high ^= scramble(low);
        low ^= scramble(high);
        high ^= scramble(low);
        RecordId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// Its first and its last 64 bits.
    pub fn halves(self) -> [u64; 2] {
        halves(self.0)
    }
}

fn halves(whole: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = whole.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p])]
}

/// Every bit of the result depends on every bit of the argument.
fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [_, low] = self.halves();
        state.write_u64(low);
    }
}

/// Passes a [`Key`] through: it is uniform already.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyHasher(u64);

impl std::hash::Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(8) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

/// An identity and where it was claimed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub spot: Spot,
}

impl Entry {
    pub fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let (id, rest) = bytes.split_at_mut(16);
        let (split, ordinal) = rest.split_at_mut(4);
        id.copy_from_slice(&self.key.0.to_be_bytes());
        split.copy_from_slice(&self.spot.split.0.to_be_bytes());
        ordinal.copy_from_slice(&self.spot.ordinal.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (id, rest) = bytes.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let (split, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let ordinal = rest.first_chunk().unwrap_or(&[0; 8]);
        Self {
            key: Key(u128::from_be_bytes(*id)),
            spot: Spot {
                split: SplitNumber(u32::from_be_bytes(*split)),
                ordinal: Ordinal::from_be_bytes(*ordinal),
            },
        }
    }
}

#[cfg(test)]
mod tests;
