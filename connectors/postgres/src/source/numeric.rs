//! The binary form of `numeric`: groups of four decimal digits.

use arrow::datatypes::i256;

/// A number as the server sends it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric<'a> {
    /// The power of 10,000 of the first group.
    weight: i32,
    sign: u16,
    /// How many digits behind the point are shown.
    shown: usize,
    /// Two bytes each, below 10,000.
    groups: &'a [u8],
}

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// A whole number that can be built digit by digit.
pub(super) trait Whole: Copy {
    /// Nothing.
    const ZERO: Self;
    /// `self * factor + digits`, if it has room for that.
    fn then(self, factor: i128, digits: i128) -> Option<Self>;
    /// The other sign.
    fn negated(self) -> Self;
}

impl Whole for i128 {
    const ZERO: Self = 0;

    fn then(self, factor: i128, digits: i128) -> Option<Self> {
        self.checked_mul(factor)?.checked_add(digits)
    }

    fn negated(self) -> Self {
        -self
    }
}

impl Whole for i256 {
    const ZERO: Self = i256::ZERO;

    fn then(self, factor: i128, digits: i128) -> Option<Self> {
        self.checked_mul(i256::from_i128(factor))?.checked_add(i256::from_i128(digits))
    }

    fn negated(self) -> Self {
        self.wrapping_neg()
    }
}

impl<'a> Numeric<'a> {
    /// Reads the header; `None` if it is none.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<2>()?;
        let (weight, rest) = rest.split_first_chunk::<2>()?;
        let (sign, rest) = rest.split_first_chunk::<2>()?;
        let (shown, groups) = rest.split_first_chunk::<2>()?;
        let count = usize::from(u16::from_be_bytes(*count));
        (groups.len() == count * 2).then_some(Self {
            weight: i32::from(i16::from_be_bytes(*weight)),
            sign: u16::from_be_bytes(*sign),
            shown: usize::from(u16::from_be_bytes(*shown)),
            groups,
        })
    }

    /// What it is if it is no number.
    pub(super) fn word(&self) -> Option<&'static str> {
        match self.sign {
            NAN => Some("NaN"),
            INFINITY => Some("Infinity"),
            NEGATIVE_INFINITY => Some("-Infinity"),
            _ => None,
        }
    }

    fn groups(&self) -> impl Iterator<Item = i128> + use<'a> {
        self.groups.chunks_exact(2).map(|pair| match pair {
            [high, low] => i128::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        })
    }

    /// The number times 10 to the `scale`; `None` if that is not whole, or has no room.
    pub(super) fn scaled<T: Whole>(&self, scale: i32) -> Option<T> {
        let mut whole = T::ZERO;
        // The power of ten that the last group taken up stands for.
        let mut exponent = None;
        for (index, group) in self.groups().enumerate() {
            let power = (self.weight - i32::try_from(index).ok()?) * 4 + scale;
            match power {
                0.. => {
                    whole = whole.then(10_000, group)?;
                    exponent = Some(power);
                }
                -3..=-1 => {
                    let cut = ten_to(-power);
                    if group % cut != 0 {
                        return None;
                    }
                    whole = whole.then(ten_to(4 + power), group / cut)?;
                    exponent = Some(0);
                }
                _ if group == 0 => {}
                _ => return None,
            }
        }
        for _ in 0..exponent.unwrap_or(0) {
            whole = whole.then(10, 0)?;
        }
        Some(if self.sign == NEGATIVE { whole.negated() } else { whole })
    }

    /// Appends it as the server writes it.
    pub(super) fn write(&self, text: &mut String) {
        if let Some(word) = self.word() {
            text.push_str(word);
            return;
        }
        if self.sign == NEGATIVE {
            text.push('-');
        }
        let group = |power: i32| -> u32 {
            let index = usize::try_from(self.weight - power).ok();
            let group = index.and_then(|index| self.groups().nth(index)).unwrap_or(0);
            u32::try_from(group).unwrap_or(0)
        };
        if self.weight < 0 {
            text.push('0');
        }
        for power in (0..=self.weight).rev() {
            let digits = group(power);
            text.push_str(&if power == self.weight { digits.to_string() } else { format!("{digits:04}") });
        }
        if self.shown == 0 {
            return;
        }
        text.push('.');
        let end = text.len() + self.shown;
        let mut power = -1;
        while text.len() < end {
            text.push_str(&format!("{:04}", group(power)));
            power -= 1;
        }
        text.truncate(end);
    }
}

fn ten_to(power: i32) -> i128 {
    (0..power).fold(1, |product, _| product * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(weight: i16, sign: u16, shown: u16, groups: &[u16]) -> Vec<u8> {
        let mut bytes = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend([sign, shown].iter().flat_map(|half| half.to_be_bytes()));
        bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        bytes
    }

    fn text(bytes: &[u8]) -> String {
        let mut text = String::new();
        Numeric::read(bytes).unwrap().write(&mut text);
        text
    }

    fn scaled(bytes: &[u8], scale: i32) -> Option<i128> {
        Numeric::read(bytes).unwrap().scaled(scale)
    }

    #[test]
    fn groups_become_digits() {
        // 12345.678
        let number = bytes(1, 0, 3, &[1, 2345, 6780]);
        assert_eq!((text(&number).as_str(), scaled(&number, 3)), ("12345.678", Some(12_345_678)));
        assert_eq!(scaled(&number, 2), None);
        assert_eq!(scaled(&number, 5), Some(1_234_567_800));
        // -0.0001, 0.00, 10000, 1e8
        let small = bytes(-1, NEGATIVE, 4, &[1]);
        assert_eq!((text(&small).as_str(), scaled(&small, 4)), ("-0.0001", Some(-1)));
        let nothing = bytes(0, 0, 2, &[]);
        assert_eq!((text(&nothing).as_str(), scaled(&nothing, 2)), ("0.00", Some(0)));
        let round = bytes(1, 0, 0, &[1]);
        assert_eq!((text(&round).as_str(), scaled(&round, 1)), ("10000", Some(100_000)));
        let tiny = bytes(-3, 0, 12, &[7]);
        assert_eq!((text(&tiny).as_str(), scaled(&tiny, 12)), ("0.000000000007", Some(7)));
        assert_eq!(text(&bytes(0, NAN, 0, &[])), "NaN");
    }

    #[test]
    fn thirty_eight_digits_fit_though_their_last_group_is_not_full() {
        // 9 in 37 places before the point and 1 behind.
        let groups = [9].into_iter().chain([9999; 9]).chain([9000]).collect::<Vec<_>>();
        let number = bytes(9, 0, 1, &groups);
        assert_eq!(scaled(&number, 1), Some(10_i128.pow(38) - 1));
        assert_eq!(scaled(&number, 2), None);
        let wide: Option<i256> = Numeric::read(&number).unwrap().scaled(2);
        assert_eq!(wide.unwrap().to_string(), format!("{}0", "9".repeat(38)));
    }
}
