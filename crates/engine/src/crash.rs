//! Named places at which a process can be made to die, to prove that it may.
//!
//! `HAPAX_CRASH=commit-sent` kills the process with SIGKILL the first time it passes that point,
//! `HAPAX_CRASH=commit-sent:3` the third time. When the variable is not set a point costs one load of
//! a static. It is a real SIGKILL, not a panic: no destructor runs, no buffer is flushed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A place in the run at which a crash must be harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The lease was acquired.
    LeaseAcquired,
    /// The position of a split was read.
    PositionRead,
    /// A batch was read from the source.
    BatchRead,
    /// Identities were claimed, nothing was written.
    Claimed,
    /// Part of a commit's effects were written.
    MidWrite,
    /// A staged commit is durable but not published.
    StageDone,
    /// The commit is about to be sent.
    CommitBefore,
    /// Inside a commit of several steps: decided, not everything visible yet.
    CommitDecided,
    /// The commit took effect, its answer was not seen.
    CommitAfter,
    /// The source is about to be told.
    AcknowledgeBefore,
    /// The source was told.
    AcknowledgeAfter,
    /// A split ended.
    SplitDone,
    /// The run is finishing: a whole file is about to be assembled.
    FinishBefore,
    /// A whole file was assembled and made durable, but is not visible.
    FinishStaged,
    /// The whole file is visible, nothing was tidied.
    FinishAfter,
    /// In the middle of recovery: an earlier run's work is being completed.
    Recovery,
}

impl Point {
    /// Every point, in the order a run passes them.
    pub const ALL: [Self; 16] = [
        Self::LeaseAcquired,
        Self::PositionRead,
        Self::BatchRead,
        Self::Claimed,
        Self::MidWrite,
        Self::StageDone,
        Self::CommitBefore,
        Self::CommitDecided,
        Self::CommitAfter,
        Self::AcknowledgeBefore,
        Self::AcknowledgeAfter,
        Self::SplitDone,
        Self::FinishBefore,
        Self::FinishStaged,
        Self::FinishAfter,
        Self::Recovery,
    ];

    /// The name that `HAPAX_CRASH` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaseAcquired => "lease-acquired",
            Self::PositionRead => "position-read",
            Self::BatchRead => "batch-read",
            Self::Claimed => "claimed",
            Self::MidWrite => "mid-write",
            Self::StageDone => "stage-done",
            Self::CommitBefore => "commit-before",
            Self::CommitDecided => "commit-decided",
            Self::CommitAfter => "commit-after",
            Self::AcknowledgeBefore => "acknowledge-before",
            Self::AcknowledgeAfter => "acknowledge-after",
            Self::SplitDone => "split-done",
            Self::FinishBefore => "finish-before",
            Self::FinishStaged => "finish-staged",
            Self::FinishAfter => "finish-after",
            Self::Recovery => "recovery",
        }
    }
}

struct Armed {
    point: Point,
    left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let wanted = std::env::var("HAPAX_CRASH").ok()?;
            let (name, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
            let point = Point::ALL.into_iter().find(|point| point.name() == name)?;
            Some(Armed { point, left: AtomicU64::new(nth.parse().ok()?) })
        })
        .as_ref()
}

/// Passes a crash point: returns, or is the last thing this process does.
pub fn point(point: Point) {
    if let Some(armed) = armed()
        && armed.point == point
        && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
