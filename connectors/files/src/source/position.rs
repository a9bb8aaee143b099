//! The encoding of a position: offset and ordinal in byte order, then the evidence that the bytes before it are
//! still the same.

use hapax_protocol::position::Position;

/// How much of a file's beginning, and of what stands before an offset, is remembered as a checksum, in bytes.
pub(super) const WINDOW_BYTES: usize = 4096;

const VERSION: u8 = 1;
const OPEN: u8 = 1;
const QUOTED: u8 = 2;
const AT_END: u8 = 4;

/// A place in one split of a file, and what the file looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of the decompressed file before it; rows of the row group for Parquet.
    pub offset: u64,
    /// Records of the split before it.
    pub ordinal: u64,
    /// How what was read last ended.
    pub tail: Tail,
    /// Nothing but blank lines followed it.
    pub at_end: bool,
    /// The file as it was opened.
    pub seen: Seen,
    /// What was consumed.
    pub consumed: Consumed,
}

/// How the bytes before an offset end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// With a newline.
    Closed,
    /// At the end of the file, without a newline.
    Open,
    /// At the end of the file, inside quotes.
    Quoted,
}

/// A file as it was when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its size in bytes, compressed if it is.
    pub size: u64,
    /// A digest of what the storage says of its version.
    pub stamp: [u8; 16],
    /// CRC-32 of its beginning (of its footer for Parquet).
    pub head_crc: u32,
    /// How long that beginning is.
    pub head_bytes: u16,
}

/// Checksums over what was consumed of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Consumed {
    /// Where the split starts in the decompressed file.
    pub from: u64,
    /// CRC-32 from there to the offset.
    pub crc: u32,
    /// CRC-32 of the last bytes before the offset.
    pub window_crc: u32,
    /// How many those are.
    pub window_bytes: u16,
}

impl Mark {
    pub(super) fn encode(&self) -> Position {
        let mut bytes = Vec::with_capacity(72);
        bytes.extend(self.offset.to_be_bytes());
        bytes.extend(self.ordinal.to_be_bytes());
        bytes.push(VERSION);
        let tail = match self.tail {
            Tail::Closed => 0,
            Tail::Open => OPEN,
            Tail::Quoted => OPEN | QUOTED,
        };
        bytes.push(if self.at_end { tail | AT_END } else { tail });
        bytes.extend(self.seen.size.to_be_bytes());
        bytes.extend(self.seen.stamp);
        bytes.extend(self.seen.head_crc.to_be_bytes());
        bytes.extend(self.seen.head_bytes.to_be_bytes());
        bytes.extend(self.consumed.from.to_be_bytes());
        bytes.extend(self.consumed.crc.to_be_bytes());
        bytes.extend(self.consumed.window_crc.to_be_bytes());
        bytes.extend(self.consumed.window_bytes.to_be_bytes());
        Position::new(bytes)
    }

    /// `None` if the bytes are not such a position.
    pub(super) fn decode(position: &Position) -> Option<Self> {
        let mut rest = Rest(position.as_bytes());
        let (offset, ordinal) = (rest.u64()?, rest.u64()?);
        let [version, flags] = rest.take()?;
        if version != VERSION {
            return None;
        }
        let tail = match flags & (OPEN | QUOTED) {
            0 => Tail::Closed,
            OPEN => Tail::Open,
            _ => Tail::Quoted,
        };
        let seen =
            Seen { size: rest.u64()?, stamp: rest.take()?, head_crc: rest.u32()?, head_bytes: rest.u16()? };
        let consumed = Consumed {
            from: rest.u64()?,
            crc: rest.u32()?,
            window_crc: rest.u32()?,
            window_bytes: rest.u16()?,
        };
        rest.0.is_empty().then_some(Self {
            offset,
            ordinal,
            tail,
            at_end: flags & AT_END != 0,
            seen,
            consumed,
        })
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
}
