//! How fast requests may follow each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    turns: Mutex<Turns>,
}

/// Who may leave when.
struct Turns {
    next: Instant,
    paused_until: Instant,
    /// How often a pause was asked for: a turn that was given before is none any more.
    pauses: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        let every = rate.and_then(|rate| Duration::from_secs(1).checked_div(rate));
        let now = Instant::now();
        let turns = Mutex::new(Turns { next: now, paused_until: now, pauses: 0 });
        Self { every, waits: AtomicBool::new(every.is_some()), turns }
    }

    /// Waits for the turn of one request. Whoever waits already waits for a pause that is asked for meanwhile, too.
    pub(super) async fn turn(&self) {
        if !self.waits.load(Ordering::SeqCst) {
            return;
        }
        loop {
            let (at, pauses) = {
                let mut turns = self.turns();
                let now = Instant::now();
                let at = turns.next.max(now);
                match self.every {
                    Some(every) => turns.next = at + every,
                    // Nobody asked to wait.
                    None if at == now => {
                        self.waits.store(false, Ordering::SeqCst);
                        return;
                    }
                    None => {}
                }
                (at, turns.pauses)
            };
            tokio::time::sleep_until(at).await;
            if self.turns().pauses == pauses {
                return;
            }
        }
    }

    /// Lets no request leave for so long, at most [`PAUSE_MAX`].
    pub(super) fn pause(&self, pause: Duration) {
        let mut turns = self.turns();
        let now = Instant::now();
        turns.paused_until = turns.paused_until.max(now + pause.min(PAUSE_MAX));
        turns.next = turns.paused_until.max(now + self.every.unwrap_or_default());
        turns.pauses = turns.pauses.wrapping_add(1);
        self.waits.store(true, Ordering::SeqCst);
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::sync::Arc;

    use tokio::task::JoinSet;

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

    #[tokio::test]
    async fn who_waits_already_waits_for_a_later_pause() {
        // Turns that were given out, and a line that nobody has to wait in.
        for rate in [Some(5), None] {
            let pace = Arc::new(Pace::new(rate));
            pace.pause(Duration::from_millis(100));
            let mut waiting = JoinSet::new();
            for _ in 0..6 {
                let pace = Arc::clone(&pace);
                waiting.spawn(async move {
                    pace.turn().await;
                    Instant::now()
                });
            }
            // Until each waits for a turn that it has.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let (asked, pause) = (Instant::now(), Duration::from_millis(700));
            pace.pause(pause);
            let mut left = waiting.join_all().await;
            left.retain(|left| *left > asked);
            let first = left.iter().min();
            assert!(first.is_none_or(|first| *first >= asked + pause), "{rate:?}: one left in the pause");
        }
    }
}
