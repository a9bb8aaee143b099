//! Waiting between two looks at a source that grows.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How often is looked unless the file says otherwise, in milliseconds.
pub(super) const POLL_MS: u64 = 1_000;

/// When to look again.
#[derive(Debug)]
pub(super) struct Poll {
    every: Duration,
    /// The end of a wait that was begun. It stays where the future that began it was dropped.
    until: Option<Instant>,
}

impl Poll {
    pub(super) fn every(poll_ms: u64) -> Self {
        Self { every: Duration::from_millis(poll_ms), until: None }
    }

    /// Waits for the next look. Cancel-safe: whoever waits again waits for the rest.
    pub(super) async fn wait(&mut self) {
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.every);
        sleep_until(until).await;
        self.until = None;
    }
}
