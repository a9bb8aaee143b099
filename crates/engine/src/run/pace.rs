//! When a split commits, and how long it waits for a system that is away.

use std::time::Duration;

use tokio::time::Instant;

use crate::sink::CommitSize;

/// How often is committed.
pub(super) struct Pace {
    interval: Duration,
    /// How long the last commit took.
    pub took: Duration,
}

impl Pace {
    pub fn of(size: CommitSize) -> Self {
        Self { interval: Duration::from_millis(size.interval_ms), took: Duration::ZERO }
    }

    /// When a commit is due whose first record was read then. It waited already where the commit before was still
    /// under way; but as long as that one took is written first, so that a slow destination does not get commits with
    /// hardly anything in them.
    pub fn due(&self, read_at: Instant) -> Instant {
        (read_at + self.interval).max(Instant::now() + self.took.min(self.interval))
    }
}

/// A time in which nothing went through.
pub(super) struct Outage {
    since: Option<Instant>,
    failures: u32,
}

impl Outage {
    pub fn none() -> Self {
        Self { since: None, failures: 0 }
    }

    /// How long to wait after one more failure; `None` once it has lasted for too long. The last attempt is made when
    /// the time is over.
    pub fn pause(&mut self, outage_ms: u64) -> Option<Duration> {
        const PAUSE_MAX_MS: u64 = 5_000;
        let lasted = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = Duration::from_millis(outage_ms).checked_sub(lasted).filter(|left| !left.is_zero())?;
        self.failures = self.failures.saturating_add(1);
        let pause_ms = 100_u64.saturating_mul(1 << self.failures.min(6)).min(PAUSE_MAX_MS);
        Some(Duration::from_millis(pause_ms).min(left))
    }
}
