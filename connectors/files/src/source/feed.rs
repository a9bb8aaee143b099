//! The bytes of a file in order, decompressed.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use tokio::io::AsyncReadExt;

use super::fault::FilesFault;
use crate::client::{Object, Place, read_at};
use crate::config::Compression;

const CHUNK_BYTES: usize = 256 * 1024;

/// The bytes of one file from some offset on, decompressed. Cancel-safe: what a dropped future had not handed
/// over comes again.
pub(super) struct Feed {
    name: String,
    kind: Kind,
    /// How many decompressed bytes were handed over, counted from the start of the file.
    at: u64,
}

enum Kind {
    Plain(Raw),
    Gzip(Raw, Box<MultiGzDecoder<Fed>>),
    Zstd(Raw, Box<zstd::stream::read::Decoder<'static, Fed>>),
}

impl Feed {
    /// The content of a file from a decompressed offset on. A compressed one is only ever opened at 0.
    pub(super) fn open(object: &Object, compression: Compression, from: u64) -> Result<Self, FilesFault> {
        let raw = Raw::open(object, from)?;
        Self::over(raw, object.name.clone(), compression, from)
    }

    /// The content of standard input.
    pub(super) fn stdin(compression: Compression) -> Result<Self, FilesFault> {
        Self::over(Raw::Stdin(tokio::io::stdin()), "standard input".to_owned(), compression, 0)
    }

    fn over(raw: Raw, name: String, compression: Compression, at: u64) -> Result<Self, FilesFault> {
        let kind = match compression {
            Compression::None => Kind::Plain(raw),
            Compression::Gzip => Kind::Gzip(raw, Box::new(MultiGzDecoder::new(Fed::default()))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(Fed::default())
                    .map_err(|source| FilesFault::Compressed { name: name.clone(), at, source })?;
                Kind::Zstd(raw, Box::new(decoder))
            }
        };
        Ok(Self { name, kind, at })
    }

    /// Reads on, into the beginning of `buffer`. 0 is the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FilesFault> {
        let read = match &mut self.kind {
            Kind::Plain(raw) => raw.read(&self.name, buffer).await?,
            Kind::Gzip(raw, decoder) => {
                unpack(&self.name, self.at, raw, decoder.as_mut(), MultiGzDecoder::get_mut, buffer).await?
            }
            Kind::Zstd(raw, decoder) => {
                unpack(&self.name, self.at, raw, decoder.as_mut(), |d| d.get_mut(), buffer).await?
            }
        };
        self.at = self.at.saturating_add(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

async fn unpack<D: Read>(
    name: &str,
    at: u64,
    raw: &mut Raw,
    decoder: &mut D,
    fed: fn(&mut D) -> &mut Fed,
    buffer: &mut [u8],
) -> Result<usize, FilesFault> {
    loop {
        match decoder.read(buffer) {
            Ok(read) => return Ok(read),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let fed = fed(decoder);
                fed.room.resize(CHUNK_BYTES, 0);
                let read = raw.read(name, &mut fed.room).await?;
                fed.start = 0;
                fed.end = read;
                fed.last = read == 0;
            }
            Err(source) => return Err(FilesFault::Compressed { name: name.to_owned(), at, source }),
        }
    }
}

/// A reader that is filled from outside, and says `WouldBlock` when it wants to be.
#[derive(Default)]
struct Fed {
    room: Vec<u8>,
    start: usize,
    end: usize,
    last: bool,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let read = Read::read(&mut ready, buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Fed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && !self.last {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.room.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, read: usize) {
        self.start = self.start.saturating_add(read).min(self.end);
    }
}

/// The bytes of a file as they are stored.
enum Raw {
    Local { file: std::fs::File, at: u64, size: u64 },
    Remote { object: Box<Object>, at: u64 },
    Stdin(tokio::io::Stdin),
}

impl Raw {
    fn open(object: &Object, from: u64) -> Result<Self, FilesFault> {
        match &object.place {
            Place::Local(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|source| FilesFault::Unreadable { name: object.name.clone(), source })?;
                Ok(Self::Local { file, at: from, size: object.size })
            }
            Place::Remote { .. } => Ok(Self::Remote { object: Box::new(object.clone()), at: from }),
        }
    }

    async fn read(&mut self, name: &str, buffer: &mut [u8]) -> Result<usize, FilesFault> {
        let unreadable = |source| FilesFault::Unreadable { name: name.to_owned(), source };
        match self {
            Self::Local { file, at, size } => {
                let left = usize::try_from(size.saturating_sub(*at)).unwrap_or(usize::MAX);
                let wanted = left.min(buffer.len());
                let read =
                    read_at(file, buffer.get_mut(..wanted).unwrap_or_default(), *at).map_err(unreadable)?;
                *at += u64::try_from(read).unwrap_or(0);
                if read < wanted {
                    return Err(FilesFault::Truncated { name: name.to_owned(), read: *size, size: *at });
                }
                Ok(read)
            }
            Self::Remote { object, at } => {
                let bytes = object.range(*at, buffer.len()).await?;
                if bytes.is_empty() && *at < object.size {
                    return Err(FilesFault::Truncated {
                        name: name.to_owned(),
                        read: object.size,
                        size: *at,
                    });
                }
                if let Some(room) = buffer.get_mut(..bytes.len()) {
                    room.copy_from_slice(&bytes);
                }
                *at += u64::try_from(bytes.len()).unwrap_or(0);
                Ok(bytes.len())
            }
            Self::Stdin(stdin) => stdin.read(buffer).await.map_err(unreadable),
        }
    }
}
