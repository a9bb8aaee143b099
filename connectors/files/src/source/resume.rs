//! Whether what a position passed is still there, byte for byte as far as that can be known.

use crc32fast::Hasher;

use super::fault::FilesFault;
use super::feed::Feed;
use super::position::{Mark, Seen, Tail, WINDOW_BYTES};
use crate::client::Object;

const CHUNK_BYTES: usize = 1024 * 1024;

/// What a file looks like now. Its beginning is looked at only where `head` is asked for.
pub(super) async fn look(object: &Object, head: bool) -> Result<Seen, FilesFault> {
    let bytes = if head { object.range(0, WINDOW_BYTES).await? } else { bytes::Bytes::new() };
    let head_bytes = u16::try_from(bytes.len()).unwrap_or(0);
    Ok(Seen { size: object.size, stamp: object.stamp, head_crc: crc32fast::hash(&bytes), head_bytes })
}

/// Checks an uncompressed file against a position in it.
///
/// Unchanged size and version are trusted. A file that grew must begin as it did and have the same bytes before
/// the offset. A file that was only touched, or lost bytes behind the offset, is read again up to it.
pub(super) async fn check(object: &Object, mark: &Mark) -> Result<(), FilesFault> {
    if object.size < mark.offset {
        return Err(FilesFault::Truncated {
            name: object.name.clone(),
            read: mark.offset,
            size: object.size,
        });
    }
    if object.size == mark.seen.size && object.stamp == mark.seen.stamp {
        return Ok(());
    }
    let replaced = |what: &str| FilesFault::Replaced { name: object.name.clone(), what: what.to_owned() };
    let head = object.range(0, usize::from(mark.seen.head_bytes)).await?;
    if crc32fast::hash(&head) != mark.seen.head_crc {
        return Err(replaced("it begins with other bytes"));
    }
    if object.size > mark.seen.size {
        let window = usize::from(mark.consumed.window_bytes);
        let from = mark.offset.saturating_sub(u64::from(mark.consumed.window_bytes));
        if crc32fast::hash(&object.range(from, window).await?) != mark.consumed.window_crc {
            return Err(replaced("it has other bytes before the place that was reached"));
        }
    } else if checksum(object, mark.consumed.from, mark.offset).await? != mark.consumed.crc {
        return Err(replaced("its version changed, and so did the bytes that were read"));
    }
    let next = object.range(mark.offset, 1).await?;
    continued(&object.name, mark, next.first().copied())
}

async fn checksum(object: &Object, from: u64, until: u64) -> Result<u32, FilesFault> {
    let mut crc = Hasher::new();
    let mut at = from;
    while at < until {
        let wanted = usize::try_from(until - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let bytes = object.range(at, wanted).await?;
        if bytes.is_empty() {
            break;
        }
        crc.update(&bytes);
        at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(crc.finalize())
}

/// Refuses a last line that went on behind the place at which it was read as a record.
fn continued(name: &str, mark: &Mark, next: Option<u8>) -> Result<(), FilesFault> {
    let went_on = match (mark.tail, next) {
        (Tail::Closed, _) | (_, None) | (Tail::Open, Some(b'\n' | b'\r')) => false,
        (Tail::Open | Tail::Quoted, Some(_)) => true,
    };
    if went_on { Err(FilesFault::Continued { name: name.to_owned(), at: mark.offset }) } else { Ok(()) }
}

/// Reads a compressed file again up to a position, checks every byte on the way, and returns the bytes that were
/// read behind it. `early` was read already, from the start of the content.
pub(super) async fn repeat(
    object: &Object,
    mark: &Mark,
    feed: &mut Feed,
    early: Vec<u8>,
) -> Result<Vec<u8>, FilesFault> {
    let mut crc = Hasher::new();
    let mut left = usize::try_from(mark.offset).unwrap_or(usize::MAX);
    let mut rest = early;
    loop {
        let (passed, behind) = rest.split_at(rest.len().min(left));
        crc.update(passed);
        left -= passed.len();
        if left == 0 {
            rest = behind.to_vec();
            break;
        }
        rest.clear();
        rest.resize(CHUNK_BYTES, 0);
        let read = feed.read(&mut rest).await?;
        rest.truncate(read);
        if read == 0 {
            let size = mark.offset.saturating_sub(u64::try_from(left).unwrap_or(u64::MAX));
            return Err(FilesFault::Truncated { name: object.name.clone(), read: mark.offset, size });
        }
    }
    if crc.finalize() != mark.consumed.crc {
        let what = "its content differs from what was read of it".to_owned();
        return Err(FilesFault::Replaced { name: object.name.clone(), what });
    }
    if rest.is_empty() && mark.tail != Tail::Closed {
        rest.resize(CHUNK_BYTES, 0);
        let read = feed.read(&mut rest).await?;
        rest.truncate(read);
    }
    continued(&object.name, mark, rest.first().copied())?;
    Ok(rest)
}
