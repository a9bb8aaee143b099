//! A place between two records of an API.

use hapax_protocol::position::Position;

/// Where a reader is: which pass through the pages, which page, and how much of it was read.
///
/// Encoded so that bytes are ordered as records are: the pass and the number of the next record stand first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Spot {
    /// Which pass, from 0. Only a source that looks back makes more than one.
    pub pass: u64,
    /// The number of the next record.
    pub ordinal: u64,
    /// The moment since which this pass asks, in milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
    /// When this pass began, by the clock of the API.
    pub begun_unix_ms: Option<u64>,
    /// Whether the pass is over.
    pub is_over: bool,
    /// What the page is asked by.
    pub page: Page,
    /// How many of its records were read.
    pub read: u64,
    /// A digest of those.
    pub digest: [u8; 8],
}

/// What one page is asked by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Page {
    /// The first one.
    #[default]
    First,
    /// What the page before named.
    Cursor(String),
    /// A number: of the page, or of records that are passed over.
    Number(u64),
    /// The path that the page before named.
    Link(String),
}

/// The form of the encoding.
const VERSION: u8 = 1;

impl Spot {
    pub(super) fn encoded(&self) -> Position {
        let (kind, number, text) = match &self.page {
            Page::First => (0_u8, 0, ""),
            Page::Cursor(text) => (1, 0, text.as_str()),
            Page::Number(number) => (2, *number, ""),
            Page::Link(text) => (3, 0, text.as_str()),
        };
        let mut bytes = Vec::with_capacity(64 + text.len());
        bytes.extend(self.pass.to_be_bytes());
        bytes.extend(self.ordinal.to_be_bytes());
        // A pass that is over lies behind its last record.
        bytes.extend([u8::from(self.is_over), VERSION]);
        bytes.extend(self.since_unix_ms.unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(self.begun_unix_ms.unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(self.read.to_be_bytes());
        bytes.extend(self.digest);
        bytes.push(kind);
        bytes.extend(number.to_be_bytes());
        bytes.extend(text.as_bytes());
        Position::new(bytes)
    }

    pub(super) fn decoded(position: &Position) -> Option<Self> {
        let mut rest = position.as_bytes();
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_be_bytes(*head))
        };
        let (pass, ordinal) = (number()?, number()?);
        let ([is_over, VERSION], tail) = rest.split_first_chunk::<2>()? else { return None };
        rest = tail;
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_be_bytes(*head))
        };
        let (since, begun, read, digest) = (number()?, number()?, number()?, number()?.to_be_bytes());
        let ([kind], tail) = rest.split_first_chunk::<1>()?;
        let (bytes, text) = tail.split_first_chunk::<8>()?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        let page = match kind {
            0 => Page::First,
            1 => Page::Cursor(text),
            2 => Page::Number(u64::from_be_bytes(*bytes)),
            3 => Page::Link(text),
            _ => return None,
        };
        let known = |moment: u64| Some(moment).filter(|moment| *moment != u64::MAX);
        let (since_unix_ms, begun_unix_ms) = (known(since), known(begun));
        Some(Self { pass, ordinal, since_unix_ms, begun_unix_ms, is_over: *is_over == 1, page, read, digest })
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let page = match &self.page {
            _ if self.is_over => {
                return format!("behind record {}, the end of pass {}", self.ordinal, self.pass + 1);
            }
            Page::First => "the first page".to_owned(),
            Page::Cursor(text) => format!("the page of cursor {text:?}"),
            Page::Number(number) => format!("the page of number {number}"),
            Page::Link(path) => format!("the page {path}"),
        };
        format!("record {}, {} records into {page}", self.ordinal, self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_keep_their_order() {
        let spot = |pass, ordinal, page: Page| Spot {
            pass,
            ordinal,
            since_unix_ms: Some(7),
            begun_unix_ms: None,
            is_over: false,
            page,
            read: 3,
            digest: [9; 8],
        };
        let all = [
            spot(0, 1, Page::Number(9)),
            spot(0, 2, Page::Cursor("ü=&".to_owned())),
            spot(0, 300, Page::First),
            Spot { is_over: true, ..spot(0, 300, Page::First) },
            Spot { since_unix_ms: None, ..spot(1, 300, Page::Link("/x?y".to_owned())) },
        ];
        for spot in &all {
            assert_eq!(Spot::decoded(&spot.encoded()).as_ref(), Some(spot));
            assert!(!spot.words().is_empty());
        }
        assert!(all.iter().map(Spot::encoded).is_sorted_by(|one, two| one < two));
        assert_eq!(Spot::decoded(&Position::new([1, 2, 3].as_slice())), None);
    }
}
