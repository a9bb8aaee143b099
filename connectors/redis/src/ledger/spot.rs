//! A place as a claim keeps it: the number of its split, and its own.

use hapax_protocol::position::Ordinal;

/// Where a claimant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub split: u32,
    pub ordinal: Ordinal,
}

impl Spot {
    /// How many bytes it takes.
    pub(crate) const BYTES: usize = 12;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (split, ordinal) = bytes.split_at_mut(4);
        split.copy_from_slice(&self.split.to_be_bytes());
        ordinal.copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    /// `None` if it is not such an encoding.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (split, ordinal) = bytes.split_first_chunk::<4>()?;
        let ordinal = u64::from_be_bytes(ordinal.try_into().ok()?);
        Some(Self { split: u32::from_be_bytes(*split), ordinal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_come_back() {
        let spot = Spot { split: 7, ordinal: u64::MAX - 1 };
        assert_eq!(Spot::decode(&spot.encode()), Some(spot));
        assert_eq!((Spot::decode(b""), Spot::decode(&[0; 13])), (None, None));
    }
}
