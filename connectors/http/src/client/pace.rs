//! How fast requests may follow each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hapax_engine::exact;
use tokio::time::Instant;

/// How long is waited at most before one request, if the API asks for it.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Keeps all requests to an API at its rate, and waits when it asks.
pub(super) struct Pace {
    /// Between two requests, if there is a limit.
    every: Option<Duration>,
    /// Whether somebody may have to wait.
    waits: AtomicBool,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        let every = rate.and_then(|rate| Duration::from_secs(1).checked_div(rate));
        Self { every, waits: AtomicBool::new(every.is_some()), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of one request.
    pub(super) async fn turn(&self) {
        if !self.waits.load(Ordering::SeqCst) {
            return;
        }
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            match self.every {
                Some(every) => *next = at + every,
                // Nobody asked to wait.
                None if at <= Instant::now() => {
                    self.waits.store(false, Ordering::SeqCst);
                    return;
                }
                None => {}
            }
            at
        };
        tokio::time::sleep_until(at).await;
    }

    /// Lets no request leave for so long, at most [`PAUSE_MAX`].
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause.min(PAUSE_MAX);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(until);
        self.waits.store(true, Ordering::SeqCst);
    }
}

/// Reads `Retry-After`: seconds, or a date, of which `now_unix_ms` is taken away.
pub(super) fn retry_after(value: &str, now_unix_ms: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = date(value)?;
    Some(Duration::from_millis(then.saturating_sub(now_unix_ms)))
}

/// Reads a date of HTTP, `Sun, 06 Nov 1994 08:49:37 GMT`, as milliseconds since 1970.
pub(crate) fn date(text: &str) -> Option<u64> {
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.split(' ');
    let (day, month, year, time, zone) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)?.checked_add(1)?;
    let moment =
        exact::moment(format!("{year}-{month:02}-{day}T{time}Z").as_bytes()).filter(|_| zone == "GMT")?;
    u64::try_from(moment.micros / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_seconds_and_as_dates() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        let after = |value: &str| retry_after(value, 784_111_770_000);
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for wrong in ["", "soon", "-1", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 36 Nov 1994 08:49:37 GMT"] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn requests_keep_their_distance() {
        let pace = Pace::new(Some(100));
        let before = Instant::now();
        for _ in 0..5 {
            pace.turn().await;
        }
        assert!(before.elapsed() >= Duration::from_millis(40));
        pace.pause(Duration::from_millis(100));
        let before = Instant::now();
        pace.turn().await;
        assert!(before.elapsed() >= Duration::from_millis(90));
    }
}
