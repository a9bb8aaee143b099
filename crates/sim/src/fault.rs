//! What can go wrong in the simulated world.

/// One thing that goes wrong at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The process dies before a request leaves it.
    CrashBefore,
    /// The process dies after a request took effect, before it sees the answer.
    CrashAfter,
    /// A request never arrives.
    RequestLost,
    /// A request takes effect, its answer never arrives.
    AnswerLost,
    /// A commit is thought lost and arrives late.
    Delayed,
    /// A commit arrives, is answered, and arrives once more later.
    Repeated,
    /// A commit is refused for a reason that passes: a deadlock, a lock that somebody else has.
    Refused,
    /// A disk or a ledger fails: the process may not go on.
    DiskError,
    /// The process stands still for longer than anybody waits, another one is started, and then it goes on.
    Stall,
    /// Another process is started on the same pipeline.
    SecondHolder,
    /// The machine fails, and the destination comes back in an older state, position and all.
    RolledBack,
    /// The process is asked to stop.
    Stop,
    /// Somebody mends what the destination refused, and replays the dead letters meanwhile.
    Replay,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::RequestLost,
        Self::AnswerLost,
        Self::Delayed,
        Self::Repeated,
        Self::Refused,
        Self::DiskError,
        Self::Stall,
        Self::SecondHolder,
        Self::RolledBack,
        Self::Stop,
        Self::Replay,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash before a request",
            Self::CrashAfter => "crash after its effect",
            Self::RequestLost => "request lost",
            Self::AnswerLost => "answer lost",
            Self::Delayed => "commit arrives late",
            Self::Repeated => "commit arrives twice",
            Self::Refused => "commit refused for now",
            Self::DiskError => "disk or ledger error",
            Self::Stall => "stall past a take-over",
            Self::SecondHolder => "second holder",
            Self::RolledBack => "destination falls back",
            Self::Stop => "asked to stop",
            Self::Replay => "letters replayed beside",
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// To the source, of which it changes nothing.
    Look,
    /// To the source, which is told to forget.
    Acknowledge,
    /// To the destination, outside a commit: lease, take-over, finish.
    Holder,
    /// To the destination, inside an open commit.
    Write,
    /// The commit itself.
    Commit,
    /// To a destination that keeps nothing: records, one request. Its sender looks at the clock last before.
    Send,
}

impl Site {
    /// Whether a fault can happen there.
    pub fn allows(self, fault: Fault) -> bool {
        match fault {
            Fault::Delayed | Fault::Repeated | Fault::Refused => matches!(self, Self::Commit | Self::Send),
            Fault::DiskError => matches!(self, Self::Write | Self::Commit),
            Fault::CrashBefore
            | Fault::CrashAfter
            | Fault::RequestLost
            | Fault::AnswerLost
            | Fault::SecondHolder
            | Fault::Stop
            | Fault::Replay => true,
            Fault::Stall | Fault::RolledBack => self != Self::Send,
        }
    }
}

/// How often each fault happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    /// Counts one.
    pub fn add(&mut self, fault: Fault) {
        for (count, other) in self.0.iter_mut().zip(Fault::ALL) {
            *count = count.saturating_add(u64::from(other == fault));
        }
    }

    /// Adds those of another schedule.
    pub fn add_all(&mut self, others: &Self) {
        for (count, other) in self.0.iter_mut().zip(others.0) {
            *count = count.saturating_add(other);
        }
    }

    /// Each fault with how often it happened.
    pub fn each(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().zip(self.0)
    }

    /// How many there were.
    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}
