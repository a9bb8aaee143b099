//! Dates and times as ISO 8601 text. Proleptic Gregorian calendar, years 0000 to 9999.

/// Seconds in a day.
pub(crate) const DAY_SECONDS: i64 = 86_400;

/// A moment as text had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970-01-01T00:00:00, in UTC if the text had a zone, else as the clock showed.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: i64,
    /// Whether the text had a zone.
    pub zoned: bool,
}

/// Days since 1970-01-01 of a date.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day last; a cycle of 400 of them has 146,097 days.
    let shifted = if month <= 2 { year - 1 } else { year };
    let cycle = shifted.div_euclid(400);
    let of_cycle = shifted.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    let from_march = days.saturating_add(719_468);
    let cycle = from_march.div_euclid(146_097);
    let of_cycle = from_march.rem_euclid(146_097);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut digits = [b'0'; 9];
    let mut left = value;
    for digit in digits.iter_mut().take(width).rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
    out.extend(digits.iter().take(width));
}

/// Appends `2013-01-01`. False, with nothing appended, outside the years 0000 to 9999.
pub(crate) fn push_date(out: &mut Vec<u8>, since_1970: i64) -> bool {
    let (year, month, day) = date(since_1970);
    if !(0..=9999).contains(&year) {
        return false;
    }
    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    true
}

/// Appends `2013-01-01T05:00:00.123`, with `Z` if `zoned`; the fraction without trailing zeros, none if it
/// is zero. False outside the years 0000 to 9999.
pub(crate) fn push_moment(out: &mut Vec<u8>, seconds: i64, nanos: i64, zoned: bool) -> bool {
    if !push_date(out, seconds.div_euclid(DAY_SECONDS)) {
        return false;
    }
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    out.push(b'T');
    push_digits(out, of_day / 3_600, 2);
    out.push(b':');
    push_digits(out, of_day / 60 % 60, 2);
    out.push(b':');
    push_digits(out, of_day % 60, 2);
    if nanos != 0 {
        out.push(b'.');
        push_digits(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if zoned {
        out.push(b'Z');
    }
    true
}

fn digits(text: &[u8], from: usize, width: usize) -> Option<i64> {
    let field = text.get(from..from + width)?;
    field.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Days since 1970-01-01 of `2013-01-01`; `None` for anything else.
pub(crate) fn parse_date(text: &[u8]) -> Option<i64> {
    if text.len() != 10 || text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') {
        return None;
    }
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    let exists = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    exists.then(|| days(year, month, day))
}

/// How many days a month has.
fn month_days(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// The moment of `2013-01-01T05:00:00.123Z`: `T` or a space, seconds and fraction optional, zone optional
/// (`Z`, `+01:00`, `+0100`, `+01`); a date alone is its midnight.
pub(crate) fn parse_moment(text: &[u8]) -> Option<Moment> {
    let midnight = parse_date(text.get(..10)?)?.checked_mul(DAY_SECONDS)?;
    if text.len() == 10 {
        return Some(Moment { seconds: midnight, nanos: 0, zoned: false });
    }
    if !matches!(text.get(10), Some(b'T' | b't' | b' ')) || text.get(13) != Some(&b':') {
        return None;
    }
    let (hour, minute) = (digits(text, 11, 2)?, digits(text, 14, 2)?);
    let mut rest = text.get(16..)?;
    let mut second = 0;
    let mut nanos = 0;
    if rest.first() == Some(&b':') {
        second = digits(rest, 1, 2)?;
        rest = rest.get(3..)?;
        if rest.first() == Some(&b'.') {
            let width = rest.get(1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if width == 0 || width > 9 {
                return None;
            }
            nanos = digits(rest, 1, width)? * 10_i64.pow(9 - u32::try_from(width).ok()?);
            rest = rest.get(1 + width..)?;
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = zone(rest)?;
    let seconds = midnight + hour * 3_600 + minute * 60 + second - offset.unwrap_or(0);
    Some(Moment { seconds, nanos, zoned: offset.is_some() })
}

/// The offset of a zone in seconds; `Some(None)` if there is no zone, `None` if it is not one.
fn zone(text: &[u8]) -> Option<Option<i64>> {
    let text = match text {
        [b' ', rest @ ..] => rest,
        other => other,
    };
    let sign = match text.first() {
        None => return Some(None),
        Some(b'Z' | b'z') if text.len() == 1 => return Some(Some(0)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let hours = digits(text, 1, 2)?;
    let minutes = match text.len() {
        3 => 0,
        5 => digits(text, 3, 2)?,
        6 if text.get(3) == Some(&b':') => digits(text, 4, 2)?,
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some(Some(sign * (hours * 3_600 + minutes * 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_years_0_to_9999_comes_back() {
        let mut expected = days(0, 1, 1);
        while expected <= days(9999, 12, 31) {
            let mut text = Vec::new();
            assert!(push_date(&mut text, expected));
            assert_eq!(parse_date(&text), Some(expected));
            expected += 1;
        }
        assert!(!push_date(&mut Vec::new(), expected));
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
    }

    #[test]
    fn moments_come_back_and_what_is_none_is_refused() {
        for (text, seconds, nanos, zoned) in [
            ("2013-01-01T05:00:00", 1_357_016_400, 0, false),
            ("2013-01-01T05:00:00.000001Z", 1_357_016_400, 1_000, true),
            ("1969-12-31T23:59:59.5", -1, 500_000_000, false),
        ] {
            assert_eq!(parse_moment(text.as_bytes()), Some(Moment { seconds, nanos, zoned }));
            let mut out = Vec::new();
            assert!(push_moment(&mut out, seconds, nanos, zoned));
            assert_eq!(out, text.as_bytes());
        }
        let shifted = parse_moment(b"2013-01-01 06:00+01:00").unwrap();
        assert_eq!((shifted.seconds, shifted.zoned), (1_357_016_400, true));
        for wrong in [
            "2013-02-29",
            "1900-02-29",
            "2013-04-31",
            "2013-01-00",
            "2013-13-01",
            "2013-01-01T24:00:00",
            "2013-01-01T05:00:00.",
            "2013-1-1",
            "",
            "x",
        ] {
            assert_eq!(parse_moment(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
