use std::fmt;

/// A length of time after which a promise ends, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window(pub u64);

impl Window {
    /// Reads a length of time as people write it: a number and `ms`, `s`, `m`, `h` or `d`. `None` for anything else,
    /// and for no time at all.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
        let unit_ms = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit_ms).filter(|ms| *ms > 0).map(Self)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms % 3_600_000 == 0 && ms > 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 && ms > 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 && ms > 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// What a pipeline promises. The order is the order of worth: the best is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The source itself cannot be read without missing records, or the sink may forget them.
    Lossy,
    /// No repeats; what is in doubt is listed, not resent.
    AtMostOnce,
    /// Nothing lost, repeats possible.
    AtLeastOnce,
    /// As exactly-once while a retry is younger than the window; past it Hapax stops, it does not send.
    ExactlyOnceWithin(Window),
    /// The final keyed state is as if each record took effect once; a reader may briefly see a repeat.
    EffectivelyOnce,
    /// Every reader sees each record's effect once, always.
    ExactlyOnce,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lossy => f.write_str("lossy"),
            Self::AtMostOnce => f.write_str("at-most-once"),
            Self::AtLeastOnce => f.write_str("at-least-once"),
            Self::ExactlyOnceWithin(window) => write!(f, "exactly-once within {window}"),
            Self::EffectivelyOnce => f.write_str("effectively-once"),
            Self::ExactlyOnce => f.write_str("exactly-once"),
        }
    }
}
