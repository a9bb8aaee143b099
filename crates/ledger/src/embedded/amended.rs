//! The file of amendments: claims that were taken back, and what became of their identities since.
//!
//! Segments hold what was claimed and are never changed. Few records are refused after their claim, so those identities
//! stand in memory and in this file, which is asked first. It begins with `HxAmd\0\x01\n`; each amendment is the
//! identity, the number of the split and of the record (zeros where nobody holds it), one byte that says whether
//! somebody does, and the CRC-32 of all of it. A crash can leave the last one cut off: it is cut away on opening, because
//! nobody was told of it.
//!
//! The file is also the ledger's marker: a directory without it has never been a ledger.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hapax_protocol::identity::RecordId;
use hapax_protocol::position::Ordinal;

use crate::directory::disk;
use crate::directory::{Action, StoreError};
use crate::store::SplitNumber;

const MAGIC: [u8; 8] = *b"HxAmd\0\x01\n";

/// How many bytes an amendment takes.
const BYTES: usize = 33;

/// Who holds an identity: a place, or nobody.
pub(super) type Holder = Option<(SplitNumber, Ordinal)>;

/// What was amended.
#[derive(Debug)]
pub(super) struct Amended {
    path: PathBuf,
    file: File,
    end: u64,
    holders: HashMap<RecordId, Holder>,
}

impl Amended {
    /// Whether a directory has such a file.
    pub(super) fn is_there(folder: &Path) -> bool {
        file(folder).is_file()
    }

    /// Opens the file of a directory, made if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = file(folder);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(StoreError::io(Action::Write, &path))?;
        let bytes = fs::read(&path).map_err(StoreError::io(Action::Read, &path))?;
        let mut amended = Self { path, file, end: 0, holders: HashMap::new() };
        (amended.holders, amended.end) = parse(&amended.path, &bytes)?;
        amended.file.set_len(amended.end).map_err(StoreError::io(Action::Write, &amended.path))?;
        match amended.end {
            0 => amended.append(&MAGIC)?,
            // A process that was killed may have written what is read here and not made it durable.
            _ => disk::sync_file(&amended.file, &amended.path)?,
        }
        disk::sync_directory(folder)?;
        Ok(amended)
    }

    /// Who holds an identity, if that was amended.
    pub(super) fn get(&self, id: &RecordId) -> Option<Holder> {
        self.holders.get(id).copied()
    }

    /// How many identities were amended to be held by nobody.
    pub(super) fn free(&self) -> u64 {
        count(self.holders.values().filter(|holder| holder.is_none()).count())
    }

    /// Amends. It is on the disk when this returns.
    pub(super) fn amend(&mut self, amendments: &[(RecordId, Holder)]) -> Result<(), StoreError> {
        if amendments.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = amendments.iter().flat_map(|(id, holder)| encode(id, *holder)).collect();
        self.append(&bytes)?;
        self.holders.extend(amendments.iter().copied());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.end).map_err(StoreError::io(Action::Write, &self.path))?;
        disk::sync_file(&self.file, &self.path)?;
        self.end = self.end.saturating_add(count(bytes.len()));
        Ok(())
    }
}

/// What was amended, without touching it; nothing if there is no file.
pub(super) fn look(folder: &Path) -> Result<HashMap<RecordId, Holder>, StoreError> {
    let path = file(folder);
    let bytes = fs::read(&path).map_err(StoreError::io(Action::Read, &path))?;
    Ok(parse(&path, &bytes)?.0)
}

/// The whole amendments, and where the last one ends.
fn parse(path: &Path, bytes: &[u8]) -> Result<(HashMap<RecordId, Holder>, u64), StoreError> {
    let damaged = || StoreError::Damaged { path: path.to_owned() };
    let mut holders = HashMap::new();
    if bytes.len() < MAGIC.len() || bytes.iter().all(|byte| *byte == 0) {
        return Ok((holders, 0));
    }
    let mut rest = bytes.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    while let Some((entry, behind)) = rest.split_at_checked(BYTES) {
        match decode(entry) {
            Some((id, holder)) => holders.insert(id, holder),
            // Only the last one may be torn, and what the disk did not come to write.
            None if behind.len() < BYTES || rest.iter().all(|byte| *byte == 0) => break,
            None => return Err(damaged()),
        };
        rest = behind;
    }
    Ok((holders, count(bytes.len().saturating_sub(rest.len()))))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("amended.led")
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn encode(id: &RecordId, holder: Holder) -> Vec<u8> {
    let (split, ordinal) = holder.unwrap_or((SplitNumber(0), 0));
    let mut bytes = id.0.to_vec();
    bytes.extend(split.0.to_le_bytes());
    bytes.extend(ordinal.to_le_bytes());
    bytes.push(u8::from(holder.is_some()));
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(RecordId, Holder)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content).to_le_bytes() != *crc {
        return None;
    }
    let (id, rest) = content.split_first_chunk::<16>()?;
    let (split, rest) = rest.split_first_chunk::<4>()?;
    let (ordinal, held) = rest.split_first_chunk::<8>()?;
    let place = (SplitNumber(u32::from_le_bytes(*split)), u64::from_le_bytes(*ordinal));
    Some((RecordId(*id), (held == [1]).then_some(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amendments_survive_a_torn_end_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Amended::is_there(folder.path()));
        let id = |n: u8| RecordId([n; 16]);
        let place = Some((SplitNumber(7), u64::MAX));
        Amended::open(folder.path()).unwrap().amend(&[(id(1), place), (id(2), None), (id(1), None)]).unwrap();
        let path = file(folder.path());
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), MAGIC.len() + 3 * BYTES);
        for cut in 0..BYTES {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let amended = Amended::open(folder.path()).unwrap();
            assert_eq!(amended.get(&id(1)), Some(if cut == 0 { None } else { place }), "{cut}");
            assert_eq!((amended.get(&id(2)), amended.get(&id(3))), (Some(None), None));
            assert_eq!(fs::metadata(&path).unwrap().len(), amended.end);
        }
        let mut damaged = whole.clone();
        damaged[MAGIC.len() + 3] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(matches!(Amended::open(folder.path()), Err(StoreError::Damaged { .. })));
        fs::write(&path, b"something else").unwrap();
        assert!(matches!(Amended::open(folder.path()), Err(StoreError::Damaged { .. })));
    }
}
