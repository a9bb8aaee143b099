//! The messages: JSON objects of 1 KiB.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a value is, in bytes.
const BYTES: usize = 1024;
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";

/// Makes the messages of one run. The same id has the same value, but for the time it was sent at.
pub struct Messages {
    noise: Vec<u8>,
    value: Vec<u8>,
}

impl Messages {
    pub fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state & 63).ok().and_then(|at| LETTERS.get(at)).copied().unwrap_or(b'a')
        };
        Self { noise: (0..1 << 16).map(&mut letter).collect(), value: Vec::with_capacity(BYTES) }
    }

    /// The value of a message.
    pub fn value(&mut self, id: u64, partition: i32, sent_us: i64) -> &[u8] {
        self.value.clear();
        let (cents, customer, active) = (id % 1_000_000, id % 50_000, id.is_multiple_of(2));
        // Writing to memory does not fail.
        let _ = write!(
            self.value,
            "{{\"id\":{id},\"part\":{partition},\"sent\":{sent_us},\"amount\":{}.{:02},\
             \"customer\":\"customer {customer}\",\"active\":{active},\"note\":\"",
            cents / 100,
            cents % 100
        );
        let room = BYTES.saturating_sub(self.value.len()).saturating_sub(2);
        let last = self.noise.len().saturating_sub(room);
        let start = usize::try_from(id.wrapping_mul(7919)).unwrap_or(0).checked_rem(last).unwrap_or(0);
        self.value.extend_from_slice(self.noise.get(start..start.saturating_add(room)).unwrap_or_default());
        self.value.extend_from_slice(b"\"}");
        &self.value
    }
}

/// A number in a value, by the name of its field.
pub fn field(value: &[u8], name: &str) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    rest.get(..end)?.trim().parse().ok()
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
