//! Days and moments of PostgreSQL, in numbers and in words.

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;

const DAY_US: i64 = 86_400_000_000;

/// A date, as PostgreSQL writes it; `days` since 2000-01-01.
pub(super) fn date(days: i32) -> String {
    match days {
        i32::MAX => return "infinity".to_owned(),
        i32::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (year, month, day) = civil(i64::from(days) + i64::from(EPOCH_DAYS));
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{:04}-{month:02}-{day:02} BC", 1 - year)
    }
}

/// A time of day; microseconds since midnight.
pub(super) fn time(us: i64) -> String {
    let (seconds, fraction) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 {
        return clock;
    }
    format!("{clock}.{fraction:06}").trim_end_matches('0').to_owned()
}

/// A moment; `us` since 2000-01-01, `zone` what is written behind it.
pub(super) fn moment(us: i64, zone: &str) -> String {
    match us {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (days, rest) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
    let date = date(i32::try_from(days).unwrap_or(i32::MAX));
    match date.strip_suffix(" BC") {
        Some(before) => format!("{before} {}{zone} BC", time(rest)),
        None => format!("{date} {}{zone}", time(rest)),
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years, each beginning with a March.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_written_as_postgresql_writes_them() {
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(-EPOCH_DAYS), "1970-01-01");
        assert_eq!(date(59), "2000-02-29");
        assert_eq!(date(2_921_939), "9999-12-31");
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(i32::MIN), "-infinity");
        assert_eq!(moment(0, "+00"), "2000-01-01 00:00:00+00");
        assert_eq!(moment(-1, ""), "1999-12-31 23:59:59.999999");
        assert_eq!(moment(i64::MAX, ""), "infinity");
        assert_eq!(moment(1_500_000, ""), "2000-01-01 00:00:01.5");
        assert_eq!(time(DAY_US), "24:00:00");
    }
}
