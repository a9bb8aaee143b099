use super::level::Window;

/// Everything the calculus looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the source can do.
    pub source: SourceFacts,
    /// What tells records apart.
    pub identity: IdentityKind,
    /// What the sink can do.
    pub sink: SinkFacts,
    /// The ledger, where one is kept.
    pub ledger: Option<LedgerFacts>,
    /// Where dead letters go, if that is not the sink itself. Setting aside is an effect too.
    pub dead_letters: Option<SinkFacts>,
    /// The longest time the pipeline may stand still, as the user declares it.
    pub longest_outage: Option<Window>,
}

/// What a source declares of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// Whether something may still appear behind a passed position.
    pub completeness: Completeness,
    /// How its records come back after a crash.
    pub replay: Replay,
    /// How long they can come back.
    pub retention: Retention,
    /// Whether two records of one key arrive in the order they were written.
    pub order: Order,
    /// How it is told that a record may be forgotten.
    pub settle: Settle,
    /// What the facts above rest on and the source cannot check, in words that follow "provided that".
    pub condition: Option<&'static str>,
}

/// Whether nothing can appear later at or behind a position that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Nothing can.
    Complete,
    /// Something can, but by declaration no later than `lateness`, and `lookback` is read again each time.
    Late {
        /// The bound the user declares.
        lateness: Window,
        /// How far back each run reads again.
        lookback: Window,
    },
    /// Something can, and nobody knows how late.
    Incomplete,
}

/// How records come back after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replay {
    /// They come back, if at all, without anything that tells them apart.
    Unidentified,
    /// They come back in any order, each with a stable identity.
    Identified,
    /// The same records in the same order, from a position.
    Exact,
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retention {
    /// At least this long.
    For(Window),
    /// As long as nobody removes it.
    Unbounded,
}

impl Retention {
    /// Reads `unbounded` or a length of time as [`Window::parse`] takes it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "unbounded" => Some(Self::Unbounded),
            text => Window::parse(text).map(Self::For),
        }
    }
}

/// The order in which records of one key arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// None.
    None,
    /// As written, per key.
    PerKey,
}

/// How a source is told that a record may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It cannot be told: whoever feeds it must feed it again after a failure.
    None,
    /// It forgets nothing; a position is enough.
    Seek,
    /// Message by message.
    PerMessage,
    /// A mark in the row, in a transaction of the source's own.
    Mark,
    /// A mark in the row, in the same transaction as the effect (one database holds both).
    MarkWithEffect,
}

/// What tells records apart, for the calculus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// Only the place in the source.
    Position,
    /// A digest of the content: merges genuine twins.
    Hash,
    /// Columns of the record, or a UUID in it.
    Key,
}

/// What a sink declares of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkFacts {
    /// How effect and progress meet.
    pub mechanism: Mechanism,
    /// What writing a record again does.
    pub effect: Effect,
    /// What keeps an earlier holder from writing.
    pub fencing: Fencing,
    /// Whether an acknowledged write stays.
    pub durability: Durability,
    /// A condition on readers, in words, for instance that they read committed data only.
    pub readers: Option<String>,
}

/// How effect and progress meet at the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// None of the others.
    Append,
    /// The sink drops or refuses repeats of a token, whoever sends them; the token is a function of the record.
    Tokened {
        /// How long it tells a repeat.
        memory: Memory,
    },
    /// Upsert by record key.
    Keyed {
        /// Whether older values are refused.
        guard: Guard,
    },
    /// Staged invisibly, published atomically under a commit identity that can be looked up later.
    Staged {
        /// How long it can be looked up.
        look_up: LookUp,
    },
    /// Effects and position in one atomic commit, conditional on fencing token and expected position.
    CoCommit,
}

/// How long a sink tells a repeat from something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// Until a limit of its size makes it forget, which no clock tells.
    UntilFull,
    /// This long.
    Within(Window),
    /// As long as the destination exists.
    Unbounded,
}

/// How long a commit identity can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookUp {
    /// This long.
    Within(Window),
    /// As long as the destination exists.
    Unbounded,
}

/// Whether a keyed sink refuses a value older than the one it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// It does not.
    None,
    /// By a version column.
    Version,
}

/// What writing the same record again does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It adds another.
    Insert,
    /// It replaces, or leaves, the one that is there.
    ByKey,
}

/// What keeps an earlier holder from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fencing {
    /// Nothing.
    None,
    /// Each key has one fixed writer.
    FixedOwnership,
    /// The sink compares fencing tokens.
    Token,
}

/// Whether a write that was acknowledged stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It may be forgotten while the position, kept elsewhere, lives on.
    MayForget,
    /// It may be forgotten, but only together with the position.
    WithPosition,
    /// It stays.
    Durable,
}

/// What a ledger declares of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerFacts {
    /// Where a claim becomes durable.
    pub place: LedgerPlace,
    /// How long it remembers.
    pub retention: Retention,
    /// What is done about an effect whose end is unknown (only for a ledger outside the commit).
    pub in_doubt: InDoubt,
}

/// Where a claim becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerPlace {
    /// In a store of its own, before the effect.
    Outside,
    /// In the sink's commit.
    InsideCommit,
}

/// What is done about an effect whose end is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InDoubt {
    /// Listed, not sent again.
    Hold,
    /// Sent again.
    Resend,
}
