//! A filter that proves an identity new.
//!
//! A Bloom filter in blocks of one cache line (Putze, Sanders, Singler: "Cache-, Hash- and
//! Space-Efficient Bloom Filters", 2007): all bits of an identity are in one block, so a question costs
//! one miss of the cache at most. It may say "maybe" of an identity that is not there; it never says
//! "no" of one that is.

use crate::entry::Key;

/// Bits of filter for each identity: about 0.1 % wrong "maybe".
const BITS_PER_IDENTITY: u64 = 16;
const BLOCK_BITS: u64 = 512;
/// Bits set for each identity.
const PROBES: u32 = 7;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Block([u64; 8]);

/// A filter over the identities of one segment. Its size is fixed when it is made.
#[derive(Debug)]
pub struct Filter {
    blocks: Box<[Block]>,
}

/// What a filter needs to know of an identity; computed once for all filters.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    block: u64,
    bits: u64,
}

impl Probe {
    pub fn of(key: Key) -> Self {
        let [high, low] = key.halves();
        Self { block: high >> 32, bits: low }
    }

    /// The `n`th bit, as the word of the block and the mask in the word.
    #[inline(always)]
    fn bit(self, n: u32) -> (usize, u64) {
        let nine = self.bits >> (n * 9);
        (usize::try_from(nine >> 6 & 7).unwrap_or(0), 1 << (nine & 63))
    }
}

impl Filter {
    /// An empty filter for at most `identities`; with more it answers "maybe" more often.
    pub fn with_capacity(identities: u64) -> Self {
        let blocks = identities.saturating_mul(BITS_PER_IDENTITY).div_ceil(BLOCK_BITS);
        // A block is chosen by the first 32 bits of a key.
        let blocks = usize::try_from(blocks.clamp(1, u64::from(u32::MAX))).unwrap_or(1);
        Self { blocks: vec![Block([0; 8]); blocks].into_boxed_slice() }
    }

    fn block_number(&self, probe: Probe) -> usize {
        let blocks = u64::try_from(self.blocks.len()).unwrap_or(u64::MAX);
        usize::try_from(probe.block.wrapping_mul(blocks) >> 32).unwrap_or(0)
    }

    pub fn insert(&mut self, probe: Probe) {
        let number = self.block_number(probe);
        if let Some(Block(words)) = self.blocks.get_mut(number) {
            for n in 0..PROBES {
                let (word, mask) = probe.bit(n);
                if let Some(word) = words.get_mut(word) {
                    *word |= mask;
                }
            }
        }
    }

    /// `false`: certainly not inserted. `true`: maybe.
    #[inline]
    pub fn may_contain(&self, probe: Probe) -> bool {
        let Some(Block(words)) = self.blocks.get(self.block_number(probe)) else { return true };
        let missing = |n: u32| {
            let (word, mask) = probe.bit(n);
            words.get(word).map_or(0, |word| !word & mask)
        };
        // Three at once, then the rest: a new identity rarely passes the first three, and a branch after
        // each bit would be one that the processor cannot guess.
        (missing(0) | missing(1) | missing(2)) == 0
            && (missing(3) | missing(4) | missing(5) | missing(6)) == 0
    }

    pub fn bytes(&self) -> u64 {
        u64::try_from(std::mem::size_of_val(&*self.blocks)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
