//! Places of messages that a queue gives out, and gives out again where nobody acknowledged them.

use std::sync::atomic::{AtomicU32, Ordering};

use hapax_protocol::position::{Ordinal, Position};

/// The first byte of a position of this encoding.
const VERSION: u8 = 1;

/// 2026-01-01, in seconds since 1970. Counted from here a session fits 31 bits for as long as a signed number of 64
/// bits holds the place, which is how databases keep it.
const SINCE_UNIX_S: u64 = 1_767_225_600;

/// Numbers messages in the order in which a queue gives them out.
///
/// A message that comes again stands at another place: the number of the session, and its number in it. A session's
/// number is greater than that of every session whose positions were committed, and of every other one of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    session: u32,
    number: u32,
}

impl Session {
    /// Begins behind a position. `None` if that is not one of a session.
    ///
    /// `unix_ms` is the date. It keeps sessions apart whose positions nobody keeps, and nothing else: a clock that goes
    /// back is outvoted by the position.
    pub fn begin(after: Option<&Position>, unix_ms: u64) -> Option<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let stored = match after {
            Some(position) => u32::try_from(ordinal(position)? >> 32).ok()?,
            None => 0,
        };
        let seconds = (unix_ms / 1000).saturating_sub(SINCE_UNIX_S);
        let least = stored.max(u32::try_from(seconds).unwrap_or(0)).saturating_add(1);
        let last = LAST
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(least.max(last.saturating_add(1))));
        let last = last.unwrap_or_default();
        Some(Self { session: least.max(last.saturating_add(1)), number: 0 })
    }

    /// The number of the next message.
    pub fn number(&mut self) -> Ordinal {
        match self.number.checked_add(1) {
            Some(number) => self.number = number,
            None => (self.session, self.number) = (self.session.saturating_add(1), 1),
        }
        u64::from(self.session) << 32 | u64::from(self.number)
    }
}

/// The position behind the message of this number.
pub fn position(ordinal: Ordinal) -> Position {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&ordinal.to_be_bytes());
    Position::new(bytes)
}

/// The number of the message that a position stands behind; `None` if it is not one of a session.
pub fn ordinal(position: &Position) -> Option<Ordinal> {
    let (version, number) = position.as_bytes().split_first()?;
    let number = <[u8; 8]>::try_from(number).ok().filter(|_| *version == VERSION)?;
    Some(u64::from_be_bytes(number))
}

/// A position in words.
pub fn words(position: &Position) -> String {
    match ordinal(position) {
        Some(ordinal) => format!("behind message {} of session {}", ordinal & 0xffff_ffff, ordinal >> 32),
        None => format!("{position:?}, not a position of a queue"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_behind_every_committed_one_whatever_the_clock_says() {
        let mut first = Session::begin(None, 0).unwrap();
        let (one, two) = (first.number(), first.number());
        assert!(position(one) < position(two));
        let committed = position(two);
        for unix_ms in [0, 1_800_000_000_000] {
            let mut next = Session::begin(Some(&committed), unix_ms).unwrap();
            let again = next.number();
            assert!(position(again) > committed, "{unix_ms}");
            assert_eq!(ordinal(&position(again)), Some(again));
            assert!(i64::try_from(again).is_ok());
        }
        let mut other = Session::begin(None, 0).unwrap();
        assert_ne!(other.number() >> 32, one >> 32, "two sessions of one process share a place");
        let mut full = Session { session: 7, number: u32::MAX };
        assert_eq!(full.number(), 8 << 32 | 1);
        for wrong in [&b""[..], &[1, 0], &[2, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Session::begin(Some(&Position::new(wrong)), 0), None);
        }
    }
}
