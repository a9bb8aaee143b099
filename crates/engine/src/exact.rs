//! Texts read as values, exactly: what would lose a digit does not fit.

/// Which texts of numbers are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Only as the number itself would be written: the type was inferred, so `007` is not 7.
    Canonical,
    /// Also with leading zeros or a plus sign: the type was declared.
    Declared,
}

const POWERS: [u32; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

/// A decimal integer.
#[inline]
pub fn int(text: &[u8], strictness: Strictness) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] if strictness == Strictness::Declared => (false, rest),
        _ => (false, text),
    };
    if strictness == Strictness::Canonical && !canonical(digits, negative) {
        return None;
    }
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    if digits.len() <= 18 {
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    for byte in digits {
        let digit = i64::from(digit(*byte)?);
        let tens = value.checked_mul(10)?;
        value = if negative { tens.checked_sub(digit)? } else { tens.checked_add(digit)? };
    }
    Some(value)
}

/// A decimal integer that is not negative.
pub fn uint(text: &[u8], strictness: Strictness) -> Option<u64> {
    let digits = match text {
        [b'+', rest @ ..] if strictness == Strictness::Declared => rest,
        _ => text,
    };
    if digits.is_empty() || strictness == Strictness::Canonical && !canonical(digits, false) {
        return None;
    }
    let add = |value: u64, byte: &u8| value.checked_mul(10)?.checked_add(u64::from(digit(*byte)?));
    digits.iter().try_fold(0, add)
}

/// No leading zero, and no minus before a zero.
fn canonical(digits: &[u8], negative: bool) -> bool {
    match digits {
        [b'0'] => !negative,
        [b'0', ..] => false,
        _ => true,
    }
}

fn digit(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(digit)
}

/// A JSON number that is whole, written with a fraction or exponent: `1.0`, `2e3`.
pub fn whole(text: &[u8]) -> Option<i64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.fract() != 0.0 || value.abs() >= 9_007_199_254_740_992.0 {
        return None;
    }
    format!("{value:.0}").parse().ok()
}

/// A floating point number; also `NaN`, `inf` and `-inf`. Too large a number, or a whole one that the type cannot
/// hold exactly, does not fit.
pub fn float64(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_infinite() && text.iter().any(u8::is_ascii_digit) {
        return None;
    }
    if text.len() > 15 && text.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
        let whole = int(text, Strictness::Declared)?;
        if format!("{value:.0}") != whole.to_string() {
            return None;
        }
    }
    Some(value)
}

/// As [`float64`], in single precision.
pub fn float32(text: &[u8]) -> Option<f32> {
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_infinite() || !text.iter().any(u8::is_ascii_digit)).then_some(value)
}

/// `true` or `false`; capitals only where the type was declared.
pub fn boolean(text: &[u8], strictness: Strictness) -> Option<bool> {
    match text {
        b"true" => Some(true),
        b"false" => Some(false),
        _ if strictness == Strictness::Canonical => None,
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

fn two(text: [u8; 2]) -> Option<u32> {
    let [a, b] = text;
    Some(u32::from(digit(a)?) * 10 + u32::from(digit(b)?))
}

/// `YYYY-MM-DD` as days since 1970, by the Gregorian calendar.
pub fn date(text: &[u8]) -> Option<i32> {
    let &[a, b, c, d, b'-', e, f, b'-', g, h] = text else { return None };
    let (year, month, day) = (two([a, b])? * 100 + two([c, d])?, two([e, f])?, two([g, h])?);
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let since = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    i32::try_from(since).ok().map(|days| days - 719_468)
}

/// `HH:MM`, `HH:MM:SS` or with up to nine digits of a fraction of which at most six matter, in microseconds.
/// Returns what stands behind it.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let &[a, b, b':', c, d, ref rest @ ..] = text else { return None };
    let (hours, minutes) = (two([a, b])?, two([c, d])?);
    let (seconds, rest) = match rest {
        &[b':', e, f, ref rest @ ..] => (two([e, f])?, rest),
        rest => (0, rest),
    };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => {
            let count = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, rest) = rest.split_at(count);
            let (kept, cut) = digits.split_at(digits.len().min(6));
            if kept.is_empty() || digits.len() > 9 || cut.iter().any(|b| *b != b'0') {
                return None;
            }
            let value = kept.iter().fold(0, |sum, b| sum * 10 + u32::from(b - b'0'));
            (value * POWERS.get(kept.len()).copied().unwrap_or(1), rest)
        }
        rest => (0, rest),
    };
    let seconds = i64::from(hours * 3600 + minutes * 60 + seconds);
    Some((seconds * 1_000_000 + i64::from(fraction), rest))
}

/// A time of day in microseconds.
pub fn time(text: &[u8]) -> Option<i64> {
    clock(text).filter(|(_, rest)| rest.is_empty()).map(|(micros, _)| micros)
}

/// An ISO 8601 date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970, in UTC if it is zoned.
    pub micros: i64,
    /// Whether it says a zone.
    pub zoned: bool,
}

/// A date and time: `2026-11-24T08:00:00.25+02:00`, a space instead of `T`, with or without a zone.
pub fn moment(text: &[u8]) -> Option<Moment> {
    let (day, rest) = text.split_at_checked(10)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let days = i64::from(date(day)?);
    let (micros, rest) = clock(rest)?;
    let local = days * 86_400_000_000 + micros;
    let (behind, zoned) = match rest {
        [] => (0, false),
        [b'Z' | b'z'] => (0, true),
        [b' ', b'U', b'T', b'C'] => (0, true),
        &[sign @ (b'+' | b'-'), a, b, ref rest @ ..] => {
            let minutes = match rest {
                [] => 0,
                &[c, d] | &[b':', c, d] => two([c, d])?,
                _ => return None,
            };
            let hours = two([a, b])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = i64::from(hours * 60 + minutes) * 60_000_000;
            (if sign == b'-' { -offset } else { offset }, true)
        }
        _ => return None,
    };
    Some(Moment { micros: local - behind, zoned })
}

/// A decimal number with at most `scale` digits behind the point that matter and `precision` in all.
pub fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let point = memchr::memchr(b'.', rest).unwrap_or(rest.len());
    let (whole, fraction) = rest.split_at(point);
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = usize::from(u8::try_from(scale).ok()?);
    let (kept, cut) = fraction.split_at(fraction.len().min(scale));
    if cut.iter().any(|b| *b != b'0') {
        return None;
    }
    let add = |value: i128, byte: &u8| value.checked_mul(10)?.checked_add(i128::from(digit(*byte)?));
    let value = whole.iter().chain(kept).try_fold(0, add)?;
    let missing = u32::try_from(scale - kept.len()).ok()?;
    let value = value.checked_mul(10_i128.checked_pow(missing)?)?;
    let bound = 10_i128.checked_pow(u32::from(precision))?;
    (value < bound).then_some(if negative { -value } else { value })
}

/// Hexadecimal digits, two a byte.
pub fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

/// Part of a URL with its `%40` read as what they stand for. `None` if that is not UTF-8, or a `%` stands alone.
pub fn url_part(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || u8::try_from(char::from(rest.next()?).to_digit(16)?).ok();
        bytes.push(digit()? * 16 + digit()?);
    }
    String::from_utf8(bytes).ok()
}
