//! The file of one segment.
//!
//! Pages of one length (the last may be shorter), then the numbers of the segments it replaces (8 bytes
//! each), then the footer. All numbers are little-endian.
//!
//! | Bytes | Footer |
//! |---|---|
//! | 8 | number of the segment |
//! | 8 | entries |
//! | 8 | bytes of all pages together |
//! | 4 | pages |
//! | 4 | bytes of a page |
//! | 4 | how many segments it replaces |
//! | 4 | level |
//! | 4 | CRC-32 of everything behind the pages up to here |
//! | 8 | `HxSeg\0\x01\n` |

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk;
use super::error::{Action, StoreError};
use crate::store::{SegmentId, SegmentInfo};

const MAGIC: [u8; 8] = *b"HxSeg\0\x01\n";
const FOOTER_BYTES: u64 = 52;
const BUFFER_BYTES: usize = 256 * 1024;

/// The name of a sealed segment's file.
pub fn name(info: SegmentInfo) -> String {
    format!("seg-{}-l{}.led", info.id.0, info.level)
}

/// A sealed segment, open for reading.
#[derive(Debug)]
pub struct SegmentFile {
    path: PathBuf,
    file: File,
    info: SegmentInfo,
    extent: Extent,
}

/// Where pages lie.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    page_bytes: u32,
    bytes: u64,
}

impl SegmentFile {
    /// Opens a sealed segment; returns it with those it replaces.
    pub fn open(path: PathBuf) -> Result<(Self, Vec<SegmentId>), StoreError> {
        let file = File::open(&path).map_err(StoreError::io(Action::Read, &path))?;
        let length = file.metadata().map_err(StoreError::io(Action::Read, &path))?.len();
        let Some((info, extent, replaces)) =
            read_footer(&file, length).map_err(StoreError::io(Action::Read, &path))?
        else {
            return Err(StoreError::Damaged { path });
        };
        if path.file_name().and_then(|name| name.to_str()) != Some(&name(info)) {
            return Err(StoreError::Damaged { path });
        }
        Ok((Self { path, file, info, extent }, replaces))
    }

    pub fn info(&self) -> SegmentInfo {
        self.info
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a page into `into`, which is cleared first.
    pub fn read(&self, page: u32, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let start = u64::from(page).saturating_mul(u64::from(self.extent.page_bytes));
        let length = self.extent.bytes.saturating_sub(start).min(u64::from(self.extent.page_bytes));
        if page >= self.info.pages || length == 0 {
            return Err(StoreError::NoSuchPage { segment: self.info.id, page });
        }
        // Not cleared first: what is overwritten need not be zeroed.
        into.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.file.read_exact_at(into, start).map_err(StoreError::io(Action::Read, &self.path))
    }
}

type Footer = (SegmentInfo, Extent, Vec<SegmentId>);

/// `None`: it is no whole footer.
fn read_footer(file: &File, length: u64) -> io::Result<Option<Footer>> {
    let Some(at) = length.checked_sub(FOOTER_BYTES) else { return Ok(None) };
    let mut footer = [0; 52];
    file.read_exact_at(&mut footer, at)?;
    let mut rest = &footer[..];
    let (Some(id), Some(entries), Some(bytes)) = (long(&mut rest), long(&mut rest), long(&mut rest)) else {
        return Ok(None);
    };
    let (Some(pages), Some(page_bytes), Some(replaced)) =
        (short(&mut rest), short(&mut rest), short(&mut rest))
    else {
        return Ok(None);
    };
    let (Some(level), Some(crc)) = (short(&mut rest), short(&mut rest)) else { return Ok(None) };
    let numbers = u64::from(replaced).saturating_mul(8);
    let whole = rest == MAGIC && bytes.saturating_add(numbers).saturating_add(FOOTER_BYTES) == length;
    let Some(level) = u8::try_from(level).ok().filter(|_| whole) else { return Ok(None) };
    let mut numbers = vec![0; usize::try_from(numbers).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut numbers, bytes)?;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&numbers);
    checksum.update(&footer[..40]);
    if checksum.finalize() != crc {
        return Ok(None);
    }
    let replaces = numbers.as_chunks().0.iter().map(|number| SegmentId(u64::from_le_bytes(*number)));
    let info = SegmentInfo { id: SegmentId(id), level, entries, pages };
    Ok(Some((info, Extent { page_bytes, bytes }, replaces.collect())))
}

fn long(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn short(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

/// A segment being written, under a temporary name that is removed if it is never published.
#[derive(Debug)]
pub struct Draft {
    id: SegmentId,
    path: PathBuf,
    file: BufWriter<File>,
    pages: u32,
    extent: Extent,
}

impl Draft {
    pub fn create(directory: &Path, id: SegmentId) -> Result<Self, StoreError> {
        for attempt in 0..16 {
            let path = directory.join(format!("tmp-{}-{}-{attempt}.led", id.0, std::process::id()));
            match File::create_new(&path) {
                Ok(file) => {
                    return Ok(Self {
                        id,
                        path,
                        file: BufWriter::with_capacity(BUFFER_BYTES, file),
                        pages: 0,
                        extent: Extent::default(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io(Action::Create, &path)(error)),
            }
        }
        Err(StoreError::OtherWriter { path: directory.join(format!("tmp-{}", id.0)) })
    }

    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Appends a page.
    pub fn write(&mut self, page: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if page == 0 {
            self.extent.page_bytes = length;
        }
        let even = u64::from(page).saturating_mul(u64::from(self.extent.page_bytes)) == self.extent.bytes;
        if page != self.pages || !even || length > self.extent.page_bytes {
            return Err(StoreError::NoSuchPage { segment: self.id, page });
        }
        self.append(bytes)?;
        self.pages = page.saturating_add(1);
        self.extent.bytes = self.extent.bytes.saturating_add(u64::from(length));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io(Action::Write, &self.path))
    }

    /// Makes it durable and gives it its name. The directory is not synchronised yet.
    pub fn publish(
        mut self,
        info: SegmentInfo,
        replaces: &[SegmentId],
        path: PathBuf,
    ) -> Result<SegmentFile, StoreError> {
        if info.pages != self.pages {
            return Err(StoreError::NoSuchPage { segment: self.id, page: info.pages });
        }
        self.append(&footer(info, self.extent, replaces))?;
        self.file.flush().map_err(StoreError::io(Action::Write, &self.path))?;
        disk::sync_file(self.file.get_ref(), &self.path)?;
        // Renaming alone would silently take the place of a file that somebody else made: the name is
        // reserved first, with an empty file that nobody takes for a segment.
        File::create_new(&path).map_err(StoreError::create_new(&path))?;
        if let Err(error) = disk::rename(&self.path, &path) {
            let _ = fs::remove_file(&path);
            return Err(match error.kind() {
                io::ErrorKind::NotFound => StoreError::OtherWriter { path: self.path.clone() },
                _ => StoreError::io(Action::Write, &path)(error),
            });
        }
        let (file, _) = SegmentFile::open(path)?;
        Ok(file)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After publishing, nothing has this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

fn footer(info: SegmentInfo, extent: Extent, replaces: &[SegmentId]) -> Vec<u8> {
    let mut bytes: Vec<u8> = replaces.iter().flat_map(|id| id.0.to_le_bytes()).collect();
    bytes.extend(info.id.0.to_le_bytes());
    bytes.extend(info.entries.to_le_bytes());
    bytes.extend(extent.bytes.to_le_bytes());
    bytes.extend(info.pages.to_le_bytes());
    bytes.extend(extent.page_bytes.to_le_bytes());
    bytes.extend(u32::try_from(replaces.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(u32::from(info.level).to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}
