//! Lengths of time as a file says them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use hapax_protocol::guarantee::Window;

/// Reads a length of time: `250ms`, `90s`, `5m`, `2h`, `30d`. `None` if it is none, or nothing long.
pub(crate) fn window(text: &str) -> Option<Window> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).filter(|ms| *ms > 0).map(Window)
}

/// The same, where nothing said is `usual`.
pub(crate) fn duration(text: Option<&str>, usual: Duration) -> Option<Duration> {
    let Some(text) = text else { return Some(usual) };
    window(text).map(|Window(ms)| Duration::from_millis(ms))
}
