//! The file that gives splits their numbers: their names, one after the other.
//!
//! It begins with `HxSpl\0\x01\n`. Each name has its length (4 bytes, little-endian), the CRC-32 of
//! that length, the CRC-32 of its bytes, and its bytes. A crash can leave the last one cut off, or with zeros where
//! the disk did not come to write it: no segment refers to it, because its number was not given out before it was
//! durable, so it is cut away on opening.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hapax_protocol::position::SplitId;

use super::disk;
use super::error::{Action, StoreError};
use crate::store::SplitNumber;

const MAGIC: [u8; 8] = *b"HxSpl\0\x01\n";

/// The names of splits, in the order of their numbers.
#[derive(Debug)]
pub struct Splits {
    path: PathBuf,
    file: File,
    end: u64,
    numbers: HashMap<SplitId, SplitNumber>,
    names: Vec<SplitId>,
}

impl Splits {
    /// Reads the file, and makes it if it is not there. Its directory has to be synchronised after.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let bytes = read(&path)?;
        let (names, end) = parse(&path, &bytes)?;
        let mut file = File::options();
        let file = file.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io(Action::Write, &path))?;
        let numbers = names.iter().cloned().zip((0..).map(SplitNumber)).collect();
        let mut splits = Self { path, file, end: u64::try_from(end).unwrap_or(u64::MAX), numbers, names };
        splits.cut(bytes.len())?;
        Ok(splits)
    }

    /// Removes what follows the last whole name.
    fn cut(&mut self, length: usize) -> Result<(), StoreError> {
        if u64::try_from(length) != Ok(self.end) {
            self.file.set_len(self.end).map_err(StoreError::io(Action::Write, &self.path))?;
        }
        if self.end == 0 {
            return self.append(&MAGIC);
        }
        // A process that was killed may have written what is read here and not made it durable.
        disk::sync_file(&self.file, &self.path)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.end).map_err(StoreError::io(Action::Write, &self.path))?;
        disk::sync_file(&self.file, &self.path)?;
        self.end = self.end.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// The number of a split; a new one is on the disk when this returns.
    pub fn number(&mut self, split: &SplitId) -> Result<SplitNumber, StoreError> {
        if let Some(number) = self.numbers.get(split) {
            return Ok(*number);
        }
        let number = SplitNumber(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let name = split.as_str().as_bytes();
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = length.to_vec();
        bytes.extend(crc32fast::hash(&length).to_le_bytes());
        bytes.extend(crc32fast::hash(name).to_le_bytes());
        bytes.extend(name);
        self.append(&bytes)?;
        self.numbers.insert(split.clone(), number);
        self.names.push(split.clone());
        Ok(number)
    }

    /// The split that has a number.
    pub fn name(&self, number: SplitNumber) -> Result<SplitId, StoreError> {
        let place = usize::try_from(number.0).unwrap_or(usize::MAX);
        self.names.get(place).cloned().ok_or(StoreError::NoSuchSplit(number))
    }
}

/// The names in the file, without touching it; none if it is not there.
pub fn names(path: &Path) -> Result<Vec<SplitId>, StoreError> {
    Ok(parse(path, &read(path)?)?.0)
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(StoreError::io(Action::Read, path)),
    }
}

/// The whole names, and where the last one ends.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<SplitId>, usize), StoreError> {
    let damaged = || StoreError::Damaged { path: path.to_owned() };
    let mut names = Vec::new();
    // A file that was made and never written may be of zeros.
    if bytes.len() < MAGIC.len() || zeros(bytes) {
        return Ok((names, 0));
    }
    let mut rest = bytes.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    while let Some((name, after)) = next(rest) {
        names.push(SplitId::new(name.ok_or_else(damaged)?));
        rest = after;
    }
    Ok((names, bytes.len().saturating_sub(rest.len())))
}

fn zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The next name and what follows it. The name is `None` if it is damaged; there is no next one if the
/// bytes end too early, or turn into zeros before its end and stay so, as some file systems leave after a crash.
fn next(bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    let (name_crc, rest) = rest.split_first_chunk::<4>()?;
    if crc32fast::hash(length).to_le_bytes() != *length_crc {
        return (!zeros(rest)).then_some((None, rest));
    }
    let (name, after) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let whole = crc32fast::hash(name).to_le_bytes() == *name_crc;
    if !whole && name.ends_with(&[0]) && zeros(after) {
        return None;
    }
    Some((whole.then(|| std::str::from_utf8(name).ok()).flatten(), after))
}
