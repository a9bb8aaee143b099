//! Numbers in the binary form of `numeric`: digits to the base of ten thousand.

use bytes::{BufMut, BytesMut};

use super::Misfit;
use crate::sink::way::Limit;

/// How many digits the largest 128-bit number has.
const DIGITS: usize = 39;

/// The most digits that are written at either side of the point. PostgreSQL itself has a limit above that.
const PLACES_MAX: usize = 16_383;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// Writes `value` over ten to the power of `scale`.
pub(super) fn put_decimal(out: &mut BytesMut, value: i128, scale: i32, limit: Limit) -> Result<(), Misfit> {
    let mut digits = [b'0'; DIGITS];
    let used = fill(&mut digits, value.unsigned_abs());
    let digits = digits.get(DIGITS.saturating_sub(used)..).unwrap_or_default();
    put(out, value < 0, digits, scale, limit)
}

/// Writes a number of more than 128 bits, given its digits, over ten to the power of `scale`.
pub(super) fn put_long(out: &mut BytesMut, digits: &str, scale: i32, limit: Limit) -> Result<(), Misfit> {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    put(out, negative, digits.as_bytes(), scale, limit)
}

/// Writes a number as people and programs write it: `-1.50`, `1e-7`, `NaN`, `inf`.
pub(super) fn put_text(out: &mut BytesMut, text: &str, limit: Limit) -> Result<(), Misfit> {
    let text = text.trim_ascii();
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if rest.eq_ignore_ascii_case(b"nan") {
        return special(out, NAN);
    }
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return special(out, if negative { MINUS_INFINITY } else { INFINITY });
    }
    let exponent_at = rest.iter().position(|sign| matches!(sign, b'e' | b'E'));
    let (number, exponent) = rest.split_at(exponent_at.unwrap_or(rest.len()));
    let exponent: i32 = match exponent {
        [] => 0,
        [_, exponent @ ..] => {
            std::str::from_utf8(exponent).ok().and_then(|e| e.parse().ok()).ok_or(Misfit::NotANumber)?
        }
    };
    let point = number.iter().position(|sign| *sign == b'.').unwrap_or(number.len());
    let (whole, fraction) = number.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let digits: Vec<u8> = whole.iter().chain(fraction).copied().collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Misfit::NotANumber);
    }
    let places = i32::try_from(fraction.len()).map_err(|_| Misfit::Large)?;
    put(out, negative, &digits, places.checked_sub(exponent).ok_or(Misfit::Large)?, limit)
}

fn special(out: &mut BytesMut, sign: u16) -> Result<(), Misfit> {
    out.put_i32(8);
    out.put_i16(0);
    out.put_i16(0);
    out.put_u16(sign);
    out.put_i16(0);
    Ok(())
}

/// Writes the digits of a number at the end of zeros, and returns how many they are.
fn fill(digits: &mut [u8; DIGITS], number: u128) -> usize {
    let mut used = 0;
    // Almost every decimal fits 64 bits, where division costs a tenth.
    if let Ok(mut left) = u64::try_from(number) {
        for digit in digits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit += u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            used += 1;
        }
    } else {
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit += u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            used += 1;
        }
    }
    used
}

/// Writes decimal digits, `scale` of which stand behind the point; zeros follow if it is below zero.
fn put(out: &mut BytesMut, negative: bool, digits: &[u8], scale: i32, limit: Limit) -> Result<(), Misfit> {
    let (digits, scale) = kept(digits, scale, limit)?;
    let zeros_behind = usize::try_from(scale.saturating_neg()).unwrap_or(0);
    let places = usize::try_from(scale).unwrap_or(0);
    if zeros_behind > PLACES_MAX || places > PLACES_MAX || digits.len() > 2 * PLACES_MAX {
        return Err(Misfit::Large);
    }
    // The digits before the point in groups of four, and those behind it.
    let before = (digits.len() + zeros_behind).saturating_sub(places);
    let groups_before = before.div_ceil(4);
    let groups = groups_before + places.div_ceil(4);
    // Where the first digit of the number stands among all places of the groups.
    let first = (groups_before * 4 + places).saturating_sub(digits.len() + zeros_behind);
    let group = |index: usize| {
        (0..4).fold(0_i16, |group, place| {
            let digit = (index * 4 + place)
                .checked_sub(first)
                .and_then(|at| digits.get(at))
                .map_or(0, |digit| digit - b'0');
            group * 10 + i16::from(digit)
        })
    };
    let leading = (0..groups).take_while(|index| group(*index) == 0).count();
    let trailing = (leading..groups).rev().take_while(|index| group(*index) == 0).count();
    let count = groups - leading - trailing;
    let narrow = |number: usize| i16::try_from(number).map_err(|_| Misfit::Large);
    let weight = if count == 0 { 0 } else { narrow(groups_before)? - 1 - narrow(leading)? };
    out.put_i32(i32::try_from(8 + count * 2).map_err(|_| Misfit::Large)?);
    out.put_i16(narrow(count)?);
    out.put_i16(weight);
    out.put_u16(if negative && count > 0 { NEGATIVE } else { POSITIVE });
    out.put_i16(narrow(places)?);
    (leading..leading + count).for_each(|index| out.put_i16(group(index)));
    Ok(())
}

/// The digits that the column keeps. Those that it would round away must be zeros.
fn kept(digits: &[u8], scale: i32, limit: Limit) -> Result<(&[u8], i32), Misfit> {
    let Some((_, places)) = limit else { return Ok((digits, scale)) };
    let over = scale.saturating_sub(i32::from(places));
    let Ok(over) = usize::try_from(over) else { return Ok((digits, scale)) };
    let (kept, dropped) = digits.split_at(digits.len().saturating_sub(over));
    if dropped.iter().all(|digit| *digit == b'0') {
        Ok((kept, i32::from(places)))
    } else {
        Err(Misfit::Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups, the weight, the sign, and the digits behind the point.
    fn read(out: &BytesMut) -> (Vec<i16>, i16, u16, i16) {
        let words: Vec<i16> =
            out[4..].chunks(2).map(|word| i16::from_be_bytes(word.try_into().unwrap())).collect();
        assert_eq!(i32::from_be_bytes(out[..4].try_into().unwrap()), i32::try_from(out.len()).unwrap() - 4);
        (words[4..].to_vec(), words[1], u16::from_be_bytes(out[8..10].try_into().unwrap()), words[3])
    }

    fn text(text: &str, limit: Limit) -> Result<(Vec<i16>, i16, u16, i16), Misfit> {
        let mut out = BytesMut::new();
        put_text(&mut out, text, limit).map(|()| read(&out))
    }

    #[test]
    fn digits_stand_where_postgres_looks_for_them() {
        assert_eq!(text("0", None).unwrap(), (vec![], 0, POSITIVE, 0));
        assert_eq!(text("-0.00", None).unwrap(), (vec![], 0, POSITIVE, 2));
        assert_eq!(text("1.10", None).unwrap(), (vec![1, 1000], 0, POSITIVE, 2));
        assert_eq!(text("-12345.678", None).unwrap(), (vec![1, 2345, 6780], 1, NEGATIVE, 3));
        assert_eq!(text("0.00001", None).unwrap(), (vec![1000], -2, POSITIVE, 5));
        assert_eq!(text("1e8", None).unwrap(), (vec![1], 2, POSITIVE, 0));
        assert_eq!(text("1.5E-3", None).unwrap(), (vec![15], -1, POSITIVE, 4));
        assert_eq!(text("10000", None).unwrap(), (vec![1], 1, POSITIVE, 0));
        assert_eq!(text("-inf", None).unwrap().2, MINUS_INFINITY);
        assert_eq!(text("NaN", None).unwrap().2, NAN);
        for wrong in ["", "-", ".", "1.2.3", "1e", "0x10", "1 2", "e5"] {
            assert_eq!(text(wrong, None), Err(Misfit::NotANumber), "{wrong}");
        }
        assert_eq!(text("1e999999999", None), Err(Misfit::Large));
    }

    #[test]
    fn what_the_column_would_round_away_is_refused() {
        assert_eq!(text("1.50", Some((10, 1))).unwrap(), (vec![1, 5000], 0, POSITIVE, 1));
        assert_eq!(text("1.55", Some((10, 1))), Err(Misfit::Digits));
        assert_eq!(text("1200", Some((2, -2))).unwrap(), (vec![1200], 0, POSITIVE, 0));
        assert_eq!(text("1250", Some((2, -2))), Err(Misfit::Digits));
        assert_eq!(text("0.004", Some((5, 2))), Err(Misfit::Digits));
    }

    #[test]
    fn decimals_and_their_texts_have_the_same_bytes() {
        for (value, scale, written) in [
            (110, 2, "1.10"),
            (-5, 2, "-0.05"),
            (i128::MAX, 10, "17014118346046923173168730371.5884105727"),
            (12, -2, "1200"),
        ] {
            let (mut decimal, mut long, mut text) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
            put_decimal(&mut decimal, value, scale, None).unwrap();
            put_long(&mut long, &value.to_string(), scale, None).unwrap();
            put_text(&mut text, written, None).unwrap();
            assert_eq!((&decimal, &long), (&text, &text), "{written}");
        }
    }
}
