//! Dates and times as MySQL writes them. Proleptic Gregorian calendar, years 0000 to 9999.

/// Seconds in a day.
pub(crate) const DAY_SECONDS: i64 = 86_400;

/// Days since 1970-01-01 of a date; `None` if there is no such date.
pub(crate) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day last; a cycle of 400 of them has 146,097 days.
    let shifted = if month <= 2 { year - 1 } else { year };
    let cycle = shifted.div_euclid(400);
    let of_cycle = shifted.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    Some(cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468)
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

/// Year, month and day of days since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
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
    let mut digits = [b'0'; 6];
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

/// Appends `05:00:00.000001`; no fraction if it is zero.
pub(crate) fn push_time(out: &mut Vec<u8>, of_day: i64, micros: i64) {
    push_digits(out, of_day / 3_600, 2);
    out.push(b':');
    push_digits(out, of_day / 60 % 60, 2);
    out.push(b':');
    push_digits(out, of_day % 60, 2);
    if micros != 0 {
        out.push(b'.');
        push_digits(out, micros, 6);
    }
}

/// Appends `2013-01-01 05:00:00.000001`. False, with nothing appended, outside the years 0000 to 9999.
pub(crate) fn push_moment(out: &mut Vec<u8>, seconds: i64, micros: i64) -> bool {
    if !push_date(out, seconds.div_euclid(DAY_SECONDS)) {
        return false;
    }
    out.push(b' ');
    push_time(out, seconds.rem_euclid(DAY_SECONDS), micros);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_years_0_to_9999_comes_back() {
        let (first, last) = (days(0, 1, 1).unwrap(), days(9999, 12, 31).unwrap());
        for expected in first..=last {
            let (year, month, day) = date(expected);
            assert_eq!(days(year, month, day), Some(expected));
        }
        assert!(!push_date(&mut Vec::new(), last + 1) && !push_date(&mut Vec::new(), first - 1));
        assert_eq!(days(1970, 1, 1), Some(0));
        for (year, month, day) in [(2013, 2, 29), (1900, 2, 29), (0, 0, 0), (2013, 4, 31), (2013, 13, 1)] {
            assert_eq!(days(year, month, day), None);
        }
    }

    #[test]
    fn moments_are_written_with_all_their_digits() {
        for (seconds, micros, text) in
            [(1_357_016_400, 0, "2013-01-01 05:00:00"), (-1, 999_999, "1969-12-31 23:59:59.999999")]
        {
            let mut out = Vec::new();
            assert!(push_moment(&mut out, seconds, micros));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
