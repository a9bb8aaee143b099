//! The file of amendments: claims that were taken back, and what became of their identities since.
//!
//! Segments hold what was claimed and are never changed. Few records are refused after their claim, so those identities
//! stand in memory and in this file, which is asked first. It begins with `HxAmendments\0\0\x02\n`; then each call's
//! amendments follow together. All numbers are little-endian:
//!
//! | Bytes | |
//! |---|---|
//! | 4 | how many amendments |
//! | 4 | CRC-32 of them |
//! | 4 | CRC-32 of the 8 bytes before and of the place in the file (8 bytes) |
//! | 4 | zeros |
//! | 32 each | identity (16), number of the record (8) and of the split (4), 1 if somebody holds it or 0 (1), zeros (3) |
//!
//! Each call's are on the disk before the next begin. So what a crash can leave is one call's, the last: cut off, or with
//! any of its sectors not written. It is cut away on opening, because nobody was told of it. The first 16 bytes never
//! cross the end of a sector: they are whole, or zeros, or damaged.
//!
//! The file is also the ledger's marker: a directory without it has never been a ledger.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hapax_protocol::identity::RecordId;
use hapax_protocol::position::Ordinal;

use crate::directory::disk;
use crate::directory::{Action, StoreError};
use crate::store::SplitNumber;

const MAGIC: [u8; 16] = *b"HxAmendments\0\0\x02\n";

/// How many bytes an amendment takes, and what stands before those of one call.
const BYTES: usize = 32;
const HEAD_BYTES: usize = 16;

/// Who holds an identity: a place, or nobody.
pub(super) type Holder = Option<(SplitNumber, Ordinal)>;

/// What was amended.
#[derive(Debug)]
pub(super) struct Amended {
    path: PathBuf,
    file: File,
    end: u64,
    holders: HashMap<RecordId, Holder>,
    /// No more once something could not be written: what stands behind `end` then is anyone's guess.
    usable: bool,
}

impl Amended {
    /// Whether a directory has such a file.
    pub(super) fn is_there(folder: &Path) -> bool {
        file(folder).is_file()
    }

    /// When the file of a directory was made, in milliseconds since 1970, if the file system says so.
    pub(super) fn made_unix_ms(folder: &Path) -> Option<u64> {
        let made = fs::metadata(file(folder)).and_then(|data| data.created()).ok()?;
        u64::try_from(made.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// Opens the file of a directory, made if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = file(folder);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(StoreError::io(Action::Write, &path))?;
        let bytes = fs::read(&path).map_err(StoreError::io(Action::Read, &path))?;
        let mut amended = Self { path, file, end: 0, holders: HashMap::new(), usable: true };
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
        self.append(&encode(amendments, self.end))?;
        self.holders.extend(amendments.iter().copied());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.usable {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        self.usable = false;
        self.file.write_all_at(bytes, self.end).map_err(StoreError::io(Action::Write, &self.path))?;
        disk::sync_file(&self.file, &self.path)?;
        self.end = self.end.saturating_add(count(bytes.len()));
        self.usable = true;
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
    loop {
        let at = count(bytes.len().saturating_sub(rest.len()));
        let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() else { return Ok((holders, at)) };
        if *head == [0; HEAD_BYTES] {
            return Ok((holders, at));
        }
        let (length, checksum) = read_head(head, at).ok_or_else(damaged)?;
        match behind.split_at_checked(length) {
            Some((body, behind)) if crc32fast::hash(body) == checksum => {
                holders.extend(body.as_chunks::<BYTES>().0.iter().filter_map(decode));
                rest = behind;
            }
            Some((_, [_, ..])) => return Err(damaged()),
            // The last ones, torn.
            Some((_, [])) | None => return Ok((holders, at)),
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("amended.led")
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What is appended at this place of the file.
fn encode(amendments: &[(RecordId, Holder)], at: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(amendments.len().saturating_mul(BYTES));
    for (id, holder) in amendments {
        let (split, ordinal) = holder.unwrap_or((SplitNumber(0), 0));
        body.extend(id.0);
        body.extend(ordinal.to_le_bytes());
        body.extend(split.0.to_le_bytes());
        body.extend([u8::from(holder.is_some()), 0, 0, 0]);
    }
    let number = u32::try_from(amendments.len()).unwrap_or(u32::MAX);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(head_checksum(&bytes, at).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn head_checksum(numbers: &[u8], at: u64) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(numbers);
    checksum.update(&at.to_le_bytes());
    checksum.finalize()
}

/// How many bytes of amendments follow, and their checksum; `None` if that is not what was written.
fn read_head(head: &[u8; HEAD_BYTES], at: u64) -> Option<(usize, u32)> {
    let (numbers, rest) = head.split_first_chunk::<8>()?;
    let (checksum, zeros) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*checksum) != head_checksum(numbers, at) || zeros != [0; 4] {
        return None;
    }
    let (number, of_body) = numbers.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*number)).ok()?.checked_mul(BYTES)?;
    Some((length, u32::from_le_bytes(of_body.try_into().ok()?)))
}

fn decode(bytes: &[u8; BYTES]) -> Option<(RecordId, Holder)> {
    let (id, rest) = bytes.split_first_chunk::<16>()?;
    let (ordinal, rest) = rest.split_first_chunk::<8>()?;
    let (split, rest) = rest.split_first_chunk::<4>()?;
    let place = (SplitNumber(u32::from_le_bytes(*split)), u64::from_le_bytes(*ordinal));
    Some((RecordId(*id), (rest.first() == Some(&1)).then_some(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Holder = Some((SplitNumber(7), u64::MAX));

    fn id(n: u8) -> RecordId {
        RecordId([n; 16])
    }

    /// A file of one amendment, and three of one call behind it.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Amended::is_there(folder.path()));
        let mut amended = Amended::open(folder.path()).unwrap();
        amended.amend(&[(id(9), PLACE)]).unwrap();
        amended.amend(&[(id(1), PLACE), (id(2), None), (id(1), None)]).unwrap();
        let path = file(folder.path());
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), MAGIC.len() + 2 * HEAD_BYTES + 4 * BYTES);
        (folder, path, whole)
    }

    #[test]
    fn the_amendments_of_one_call_are_there_together_or_not_at_all() {
        let (folder, path, whole) = written();
        let last = MAGIC.len() + HEAD_BYTES + BYTES;
        let torn = (last..whole.len()).map(|length| whole[..length].to_vec());
        // Sectors that were not written, wherever they lie.
        let holes = (last..whole.len()).step_by(4).map(|from| {
            let mut bytes = whole.clone();
            let hole = if from == last { from..from + HEAD_BYTES } else { from..whole.len().min(from + 40) };
            bytes[hole].fill(0);
            bytes
        });
        let holes = holes.enumerate().filter(|(n, bytes)| *bytes != whole && !(1..4).contains(n));
        for bytes in torn.chain(holes.map(|(_, bytes)| bytes)) {
            fs::write(&path, &bytes).unwrap();
            let amended = Amended::open(folder.path()).unwrap();
            assert_eq!([1, 2, 3, 9].map(|n| amended.get(&id(n))), [None, None, None, Some(PLACE)]);
            assert_eq!(fs::metadata(&path).unwrap().len(), amended.end);
        }
        fs::write(&path, &whole).unwrap();
        let mut amended = Amended::open(folder.path()).unwrap();
        assert_eq!([1, 2, 3].map(|n| amended.get(&id(n))), [Some(None), Some(None), None]);
        assert_eq!(amended.free(), 2);
        amended.amend(&[(id(2), PLACE)]).unwrap();
        assert_eq!(Amended::open(folder.path()).unwrap().get(&id(2)), Some(PLACE));
    }

    #[test]
    fn damage_is_no_torn_end() {
        let (folder, path, whole) = written();
        let damage = (0..MAGIC.len() + HEAD_BYTES + BYTES)
            .chain(whole.len() - 3 * BYTES - HEAD_BYTES..whole.len() - 3 * BYTES);
        for at in damage {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(Amended::open(folder.path()), Err(StoreError::Damaged { .. })), "byte {at}");
        }
        fs::write(&path, b"something else, and long").unwrap();
        assert!(matches!(Amended::open(folder.path()), Err(StoreError::Damaged { .. })));
    }
}
