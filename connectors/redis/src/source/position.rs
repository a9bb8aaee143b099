//! Places in a stream, and what tells that it is still the same stream with nothing missing.

use std::fmt;
use std::str::FromStr;

use hapax_protocol::identity::RecordId;
use hapax_protocol::position::{Ordinal, Position};

/// The first byte of a position of this encoding.
const VERSION: u8 = 2;

/// How many bits of a record's number hold the number of its id; the milliseconds stand in the bits above.
const SEQ_BITS: u32 = 21;

/// The greatest milliseconds that fit above them, in the year 2109. The topmost bit stays free: destinations keep numbers
/// of records as they keep other numbers, with a sign.
const MS_MAX: u64 = (1 << 42) - 1;

/// The id of an entry: milliseconds and a number. A stream's ids ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Id {
    pub ms: u64,
    pub seq: u64,
}

impl Id {
    /// The number of the entry's record: its id, in one number. So it is the same whenever it is read, whatever was
    /// removed before it. `None` for an id that is too large.
    pub(crate) fn ordinal(self) -> Option<Ordinal> {
        let fits = self.ms <= MS_MAX && self.seq < 1 << SEQ_BITS;
        fits.then_some((self.ms << SEQ_BITS) | self.seq)
    }

    /// The greatest id below this one.
    fn before(self) -> Self {
        match self.seq.checked_sub(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_sub(1), seq: u64::MAX },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for Id {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.trim().split_once('-').unwrap_or((text.trim(), "0"));
        Ok(Self { ms: ms.parse()?, seq: seq.parse()? })
    }
}

/// A place behind an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last entry that was read.
    pub id: Id,
    /// How many entries the stream had been given, in all its life, when this one was its last.
    pub added: u64,
    /// What it held.
    pub digest: RecordId,
}

impl Mark {
    /// It begins with the id: the order of the bytes is the order of reading.
    pub(crate) fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        for number in [self.id.ms, self.id.seq, self.added] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.digest.0);
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub(crate) fn decode(position: &Position) -> Option<Self> {
        let (version, mut rest) = position.as_bytes().split_first()?;
        let mut next = || {
            let (number, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            Some(u64::from_be_bytes(*number))
        };
        let (ms, seq, added) = (next()?, next()?, next()?);
        let digest = RecordId(rest.try_into().ok()?);
        (*version == VERSION).then_some(Self { id: Id { ms, seq }, added, digest })
    }
}

/// A stream as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// How many entries it has.
    pub length: u64,
    /// How many it was ever given.
    pub added: u64,
    /// The first one it has.
    pub first: Option<Id>,
    /// The last one it was given.
    pub last: Id,
    /// The greatest one that was deleted by its id.
    pub deleted: Id,
}

impl State {
    /// How many entries are gone.
    pub(crate) fn removed(&self) -> u64 {
        self.added.saturating_sub(self.length)
    }
}

/// What is wrong with a stream that is read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is another one.
    Recreated(String),
    /// Entries behind the place, through this one, were removed.
    Trimmed { through: Id },
}

/// Where reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Before the first entry of a stream that was like this when it was seen first.
    Start(State),
    /// Behind an entry.
    Behind(Mark),
}

/// Whether reading can go on: it is the same stream, and nothing that was not read is gone. `found` is what the entry
/// of the place holds, if it is still there.
pub(crate) fn judge(stand: &Stand, now: &State, found: Option<RecordId>) -> Result<(), Wrong> {
    // Trimming takes the first entries, so it took unread ones only if more are gone than were read. Deleting takes any.
    let (id, added, deleted) = match stand {
        Stand::Start(then) => (Id::default(), then.removed(), then.deleted),
        Stand::Behind(mark) => (mark.id, mark.added, mark.id),
    };
    if now.last < id {
        return Err(Wrong::Recreated(format!("its last id is {}, and {id} was read", now.last)));
    }
    if now.added < added {
        return Err(Wrong::Recreated(format!("it was given {} entries, and there were {added}", now.added)));
    }
    if let Stand::Behind(mark) = stand {
        match found {
            Some(found) if found == mark.digest => {}
            Some(_) => return Err(Wrong::Recreated(format!("entry {id} holds something else"))),
            None if now.deleted >= id || now.removed() >= added => {}
            None => return Err(Wrong::Recreated(format!("entry {id} is not there, and was not removed"))),
        }
    }
    let trimmed =
        (now.removed() > added).then(|| now.first.map_or(now.last, Id::before)).filter(|last| *last > id);
    let deleted = (now.deleted > deleted).then_some(now.deleted);
    match trimmed.max(deleted) {
        None => Ok(()),
        Some(through) => Err(Wrong::Trimmed { through }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    fn behind(read: u64) -> Stand {
        Stand::Behind(Mark { id: id(read), added: read, digest: RecordId([7; 16]) })
    }

    /// A stream of `added` entries with the ids 1, 2, …, of which the first `gone` are gone.
    fn stream(added: u64, gone: u64) -> State {
        let first = (gone < added).then(|| id(gone + 1));
        State { length: added - gone, added, first, last: id(added), deleted: Id::default() }
    }

    const SAME: Option<RecordId> = Some(RecordId([7; 16]));

    #[test]
    fn marks_come_back_and_grow() {
        let mark = Mark { id: Id { ms: 5, seq: 255 }, added: 300, digest: RecordId([9; 16]) };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        assert!(Mark { id: Id { ms: 5, seq: 256 }, added: 0, ..mark }.encode() > mark.encode());
        for wrong in [&b""[..], &[2, 0], &[1; 41], &[2; 40], &[2; 42]] {
            assert_eq!(Mark::decode(&Position::new(wrong)), None);
        }
        assert_eq!("5-7".parse(), Ok(Id { ms: 5, seq: 7 }));
        assert_eq!(Id { ms: 5, seq: 0 }.before(), Id { ms: 4, seq: u64::MAX });
    }

    #[test]
    fn an_id_is_a_number_and_the_order_stays() {
        let ids =
            [(0, 1), (0, (1 << SEQ_BITS) - 1), (1, 0), (1_795_884_850_492, 3), (MS_MAX, (1 << SEQ_BITS) - 1)];
        let numbers = ids.map(|(ms, seq)| Id { ms, seq }.ordinal().unwrap());
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert!(i64::try_from(numbers[4]).is_ok());
        for (ms, seq) in [(MS_MAX + 1, 0), (0, 1 << SEQ_BITS)] {
            assert_eq!(Id { ms, seq }.ordinal(), None);
        }
    }

    #[test]
    fn what_was_read_may_go_and_nothing_else() {
        for gone in 0..=20 {
            let found = if gone < 5 { SAME } else { None };
            let judged = judge(&behind(5), &stream(20, gone), found);
            match gone {
                0..=5 => assert_eq!(judged, Ok(()), "{gone} gone"),
                20 => assert_eq!(judged, Err(Wrong::Trimmed { through: id(20) })),
                _ => {
                    assert_eq!(judged, Err(Wrong::Trimmed { through: id(gone + 1).before() }), "{gone} gone")
                }
            }
        }
        // An unread entry in the middle was deleted by its id; then one that was read.
        let deleted = |deleted| State { length: 19, deleted: id(deleted), ..stream(20, 0) };
        assert_eq!(judge(&behind(5), &deleted(9), SAME), Err(Wrong::Trimmed { through: id(9) }));
        assert_eq!(judge(&behind(5), &deleted(5), None), Ok(()));
        assert_eq!(judge(&behind(5), &deleted(2), SAME), Ok(()));
        // Before anything was read, what was gone at the first look does not count.
        assert_eq!(judge(&Stand::Start(stream(9, 9)), &stream(9, 9), None), Ok(()));
        assert_eq!(judge(&Stand::Start(stream(9, 9)), &stream(12, 9), None), Ok(()));
        let trimmed = judge(&Stand::Start(stream(9, 9)), &stream(12, 11), None);
        assert_eq!(trimmed, Err(Wrong::Trimmed { through: id(12).before() }));
    }

    #[test]
    fn another_stream_of_the_name_is_noticed() {
        let recreated =
            |now: &State, found| matches!(judge(&behind(5), now, found), Err(Wrong::Recreated(_)));
        assert!(recreated(&stream(3, 0), None), "its ids are lower");
        let later = State { first: Some(id(100)), last: id(103), ..stream(4, 0) };
        assert!(recreated(&later, None), "fewer entries than were read");
        let later = State { first: Some(id(100)), last: id(130), ..stream(30, 0) };
        assert!(recreated(&later, None), "the entry is neither there nor removed");
        assert!(recreated(&stream(20, 0), Some(RecordId([8; 16]))), "the entry holds something else");
    }
}
