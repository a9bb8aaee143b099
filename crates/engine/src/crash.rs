//! Named places at which a process can be made to die or to stall, and answers to commits that can be made to
//! get lost, to prove that all of it is harmless.
//!
//! `HAPAX_CRASH=commit-before` kills the process with SIGKILL the first time it passes that point,
//! `commit-before:3` the third time, `commit-before:3=stop` stalls it there with SIGSTOP until somebody sends
//! SIGCONT. `answer-lost-before:3` loses the third commit on its way, `answer-lost-after:3` the answer to it:
//! nothing dies, and the run has to look. Several have commas between them. When the variable is not set a point
//! costs one load of a static. It is a real SIGKILL, not a panic: no destructor runs, no buffer is flushed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hapax_protocol::code::Code;
use rustix::process::{Signal, getpid, kill_process};

use crate::codes;
use crate::fault::{CommitError, Fault, SinkError};

/// A place in the run at which a crash must be harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The destination is prepared, the lease was not asked for.
    Prepared,
    /// The lease was acquired.
    LeaseAcquired,
    /// The position of a split was read.
    PositionRead,
    /// A batch was read from the source.
    BatchRead,
    /// It was announced what is about to be sent, nothing was sent.
    Announced,
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
    pub const ALL: [Self; 18] = [
        Self::Prepared,
        Self::LeaseAcquired,
        Self::PositionRead,
        Self::BatchRead,
        Self::Announced,
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
            Self::Prepared => "prepared",
            Self::LeaseAcquired => "lease-acquired",
            Self::PositionRead => "position-read",
            Self::BatchRead => "batch-read",
            Self::Announced => "announced",
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

/// An answer to a commit that is made to get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The commit never arrived.
    Before,
    /// The commit took effect.
    After,
}

impl Lost {
    /// Both outcomes.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    /// The name that `HAPAX_CRASH` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "answer-lost-before",
            Self::After => "answer-lost-after",
        }
    }
}

/// The answer to a commit was lost on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer to a commit was lost on purpose, because HAPAX_CRASH asks for it")]
pub struct AnswerLost;

impl Fault for AnswerLost {
    fn code(&self) -> Code {
        codes::ANSWER_LOST
    }

    fn help(&self) -> String {
        "Unset HAPAX_CRASH and run again.".to_owned()
    }
}

/// What happens, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    Kill(Point),
    Stop(Point),
    Lose(Lost),
}

struct Armed {
    trap: Trap,
    /// How many passings are left, this one included.
    left: AtomicU64,
}

impl Armed {
    fn parse(text: &str) -> Option<Self> {
        let (place, deed) = text.split_once('=').unwrap_or((text, "kill"));
        let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        let lost = Lost::ALL.into_iter().find(|lost| lost.name() == name);
        let trap = match (point, lost, deed) {
            (Some(point), _, "kill") => Trap::Kill(point),
            (Some(point), _, "stop") => Trap::Stop(point),
            (None, Some(lost), _) => Trap::Lose(lost),
            _ => return None,
        };
        Some(Self { trap, left: AtomicU64::new(nth.parse().ok()?) })
    }

    fn is_due(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

fn armed() -> &'static [Armed] {
    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| {
        let wanted = std::env::var("HAPAX_CRASH").unwrap_or_default();
        wanted.split(',').filter_map(Armed::parse).collect()
    })
}

/// Passes a crash point: returns, returns late, or is the last thing this process does.
pub fn point(point: Point) {
    for armed in armed() {
        if armed.trap == Trap::Kill(point) && armed.is_due() {
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        if armed.trap == Trap::Stop(point) && armed.is_due() {
            let _ = kill_process(getpid(), Signal::STOP);
            // Another thread may be the one that takes the signal: this one must not get ahead of it.
            std::thread::sleep(STOP_ARRIVES);
        }
    }
}

/// How long a stop may take to reach all threads of this process.
const STOP_ARRIVES: Duration = Duration::from_millis(500);

/// Fails as a commit whose answer never came, if that is asked for here and now.
pub fn answer(lost: Lost) -> Result<(), CommitError> {
    match armed().iter().any(|armed| armed.trap == Trap::Lose(lost) && armed.is_due()) {
        true => Err(CommitError::Unknown(SinkError::unavailable(AnswerLost))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_armed_and_nothing_else() {
        let armed = |text| Armed::parse(text).map(|armed| (armed.trap, armed.left.into_inner()));
        assert_eq!(armed("commit-before"), Some((Trap::Kill(Point::CommitBefore), 1)));
        assert_eq!(armed("recovery:3=stop"), Some((Trap::Stop(Point::Recovery), 3)));
        assert_eq!(armed("answer-lost-after:2"), Some((Trap::Lose(Lost::After), 2)));
        for wrong in ["", "commit", "commit-before:x", "commit-before=panic"] {
            assert_eq!(armed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn it_is_due_once() {
        let armed = Armed::parse("mid-write:2").unwrap();
        assert_eq!([armed.is_due(), armed.is_due(), armed.is_due()], [false, true, false]);
    }
}
