//! Time as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a run takes its time from.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment. It never goes back.
    fn monotonic(&self) -> Duration;
    /// The date, for people, in milliseconds since 1970. Nothing is ever decided by it.
    fn unix_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
