//! Time as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a run takes its time from.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment. It never goes back.
    fn monotonic(&self) -> Duration;
    /// The date, for people, in milliseconds since 1970. Two things alone are decided by it, since they must hold across
    /// runs: whether a record that may have been sent is too old to be sent again
    /// ([`Repeat::Dropped`](crate::sink::Repeat::Dropped)), and what a ledger with a window forgets.
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
