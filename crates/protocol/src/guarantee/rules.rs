use super::facts::{
    Completeness, Durability, Effect, Facts, Fencing, Guard, IdentityKind, InDoubt, LedgerFacts, LedgerPlace,
    LookUp, Mechanism, Memory, Order, Replay, Retention, Settle, SinkFacts,
};
use super::level::{Level, Window};
use super::words;

/// The rule of `guarantees.md` that gave a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// 1: the source is not complete.
    SourceIncomplete,
    /// 2: exact replay, co-commit.
    CoCommit,
    /// 3: exact replay, staged publication that can be looked up.
    Staged,
    /// 4: identified replay, ledger inside the commit.
    LedgerInCommit,
    /// 5: mark and effect in one transaction.
    MarkWithEffect,
    /// 6: keyed sink, stable identity, order or guard.
    Keyed,
    /// 7: tokened sink.
    Tokened,
    /// 8: ledger outside the commit.
    LedgerOutside,
    /// 9: acknowledge after the effect.
    AcknowledgeAfter,
}

impl Rule {
    /// Its number in the list of rules, 1 to 9.
    pub fn number(self) -> u8 {
        match self {
            Self::SourceIncomplete => 1,
            Self::CoCommit => 2,
            Self::Staged => 3,
            Self::LedgerInCommit => 4,
            Self::MarkWithEffect => 5,
            Self::Keyed => 6,
            Self::Tokened => 7,
            Self::LedgerOutside => 8,
            Self::AcknowledgeAfter => 9,
        }
    }
}

/// Something the level rests on that Hapax cannot check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assumption {
    /// No record appears later than the declared bound.
    LatenessHolds(Window),
    /// Records with equal content are the same record.
    EqualContentIsOneRecord,
    /// The key tells records apart.
    KeyIsUnique,
    /// Whoever feeds the source feeds it again, from its start, after a failure.
    FedAgain,
    /// A condition on the source.
    Source(&'static str),
    /// A condition on readers.
    Readers(String),
    /// The destination keeps what it committed, whatever becomes of its server.
    SinkKeeps,
    /// Each key has one fixed writer.
    OneWriterPerKey,
    /// No request takes effect after its connection was given up.
    NoLateRequest,
    /// No request takes effect later than the sink declares.
    RequestsInTime,
    /// Nothing on the way sends a request twice.
    NobodyRepeats,
}

/// The fact that keeps a pipeline from a better level, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakestLink {
    /// The link in words.
    pub words: &'static str,
    /// The one change that would raise the level, and to what; `None` if no single change does.
    pub raise: Option<(&'static str, Level)>,
}

/// Why a pipeline may not run at all, whatever level it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The source keeps its records for a shorter time than the pipeline may stand still.
    RetentionShorterThanOutage {
        /// How long the source keeps them.
        retention: Window,
        /// How long the pipeline may stand still.
        outage: Window,
    },
}

/// What may be promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The level.
    pub level: Level,
    /// The rule that gave it.
    pub rule: Rule,
    /// What it rests on.
    pub assumptions: Vec<Assumption>,
    /// What keeps it from exactly-once; `None` at exactly-once.
    pub weakest: Option<WeakestLink>,
    /// Why it may not run at all.
    pub refusal: Option<Refusal>,
}

/// What caps a level after a rule gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cap {
    Incomplete,
    Lookback,
    NoIdentity,
    Unfenced,
    Forgetful,
    DeadLetters,
}

/// Where a level came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub level: Level,
    pub rule: Rule,
    pub cap: Option<Cap>,
}

/// Derives what may be promised.
///
/// Of all rules that hold, the one with the best level counts (the first of equals): so that no added
/// fault-tolerance can lower a level. Then the minimum is taken over the caps.
pub fn derive(facts: &Facts) -> Verdict {
    let reached = reach(facts);
    let weakest = (reached.level != Level::ExactlyOnce)
        .then(|| WeakestLink { words: words::weakest(facts, reached), raise: raise(facts, reached.level) });
    Verdict {
        level: reached.level,
        rule: reached.rule,
        assumptions: assumptions(facts, reached),
        weakest,
        refusal: refusal(facts),
    }
}

/// The level, without words.
pub(super) fn reach(facts: &Facts) -> Reached {
    let mut best = unfenced(facts, Level::AtLeastOnce, Rule::AcknowledgeAfter);
    // From the last rule to the first, so that the first of equals stays.
    for rule in [hold_or_resend, tokened, keyed, mark_with_effect, ledger_in_commit, staged, co_commit] {
        if let Some((level, rule)) = rule(facts) {
            let reached = unfenced(facts, level, rule);
            if reached.level >= best.level {
                best = reached;
            }
        }
    }
    // A user who asks to hold what is in doubt gives up repeats for losses on purpose.
    if best.rule == Rule::AcknowledgeAfter
        && let Some(LedgerFacts { place: LedgerPlace::Outside, in_doubt: InDoubt::Hold, .. }) = facts.ledger
    {
        best = Reached { level: Level::AtMostOnce, rule: Rule::LedgerOutside, cap: None };
    }
    for (cap, level) in caps(facts) {
        if level < best.level {
            let rule = if matches!(cap, Cap::Incomplete | Cap::Lookback) {
                Rule::SourceIncomplete
            } else {
                best.rule
            };
            best = Reached { level, rule, cap: Some(cap) };
        }
    }
    best
}

/// What a rule gives where an earlier holder may write late. A version guard refuses its older values, and a
/// destination that drops repeats drops its own.
fn unfenced(facts: &Facts, level: Level, rule: Rule) -> Reached {
    let guarded = facts.sink.mechanism == (Mechanism::Keyed { guard: Guard::Version });
    let harmless = rule == Rule::Tokened || (rule == Rule::Keyed && guarded);
    match facts.sink.fencing {
        Fencing::None if !harmless && level > Level::AtLeastOnce => {
            Reached { level: Level::AtLeastOnce, rule, cap: Some(Cap::Unfenced) }
        }
        _ => Reached { level, rule, cap: None },
    }
}

fn caps(facts: &Facts) -> Vec<(Cap, Level)> {
    let mut caps = Vec::new();
    match facts.source.completeness {
        Completeness::Complete => {}
        Completeness::Late { lateness, lookback } if lookback >= lateness && absorbs_repeats(facts) => {
            caps.push((Cap::Lookback, Level::EffectivelyOnce));
        }
        Completeness::Late { .. } | Completeness::Incomplete => caps.push((Cap::Incomplete, Level::Lossy)),
    }
    if !has_identity(facts) {
        caps.push((Cap::NoIdentity, Level::AtLeastOnce));
    }
    let forgets = match facts.sink.durability {
        Durability::MayForget => true,
        // The position goes with the write, but the source was told that it may forget the record.
        Durability::WithPosition => forgets_when_told(facts.source.settle),
        Durability::Durable => false,
    };
    if forgets {
        caps.push((Cap::Forgetful, Level::Lossy));
    }
    if let Some(letters) = &facts.dead_letters {
        let there = Facts { sink: letters.clone(), dead_letters: None, ..facts.clone() };
        caps.push((Cap::DeadLetters, reach(&there).level));
    }
    caps
}

/// Whether the source gives up a record once it was told that its effect is durable.
fn forgets_when_told(settle: Settle) -> bool {
    match settle {
        Settle::PerMessage | Settle::Mark => true,
        // A mark that shares the effect's transaction is forgotten with it.
        Settle::None | Settle::Seek | Settle::MarkWithEffect => false,
    }
}

/// Whether a record that is read again leaves the sink as it was.
fn absorbs_repeats(facts: &Facts) -> bool {
    let carried = facts.identity != IdentityKind::Position;
    carried && (facts.sink.effect == Effect::ByKey || keyed(facts).is_some() || ledger_inside(facts))
}

fn ledger_inside(facts: &Facts) -> bool {
    facts.ledger.is_some_and(|ledger| {
        ledger.place == LedgerPlace::InsideCommit && ledger.retention >= facts.source.retention
    })
}

/// Whether records can be told apart when they come back.
fn has_identity(facts: &Facts) -> bool {
    facts.identity != IdentityKind::Position || facts.source.replay > Replay::Unidentified
}

fn co_commit(facts: &Facts) -> Option<(Level, Rule)> {
    let holds = facts.source.replay == Replay::Exact && facts.sink.mechanism == Mechanism::CoCommit;
    holds.then_some((Level::ExactlyOnce, Rule::CoCommit))
}

fn staged(facts: &Facts) -> Option<(Level, Rule)> {
    match (facts.source.replay, facts.sink.mechanism) {
        (Replay::Exact, Mechanism::Staged { look_up: LookUp::Unbounded }) => {
            Some((Level::ExactlyOnce, Rule::Staged))
        }
        (Replay::Exact, Mechanism::Staged { look_up: LookUp::Within(window) }) => {
            Some((Level::ExactlyOnceWithin(window), Rule::Staged))
        }
        _ => None,
    }
}

fn ledger_in_commit(facts: &Facts) -> Option<(Level, Rule)> {
    // A place is another one when a record comes back, unless replay is exact.
    let known_again = facts.identity != IdentityKind::Position || facts.source.replay == Replay::Exact;
    (known_again && ledger_inside(facts)).then_some((Level::ExactlyOnce, Rule::LedgerInCommit))
}

fn mark_with_effect(facts: &Facts) -> Option<(Level, Rule)> {
    (facts.source.settle == Settle::MarkWithEffect).then_some((Level::ExactlyOnce, Rule::MarkWithEffect))
}

fn keyed(facts: &Facts) -> Option<(Level, Rule)> {
    let by_key = match facts.sink.mechanism {
        Mechanism::Keyed { .. } => true,
        _ => facts.sink.effect == Effect::ByKey,
    };
    let guarded = matches!(facts.sink.mechanism, Mechanism::Keyed { guard: Guard::Version });
    let holds = by_key
        && facts.identity != IdentityKind::Position
        && (guarded || facts.source.order == Order::PerKey);
    holds.then_some((Level::EffectivelyOnce, Rule::Keyed))
}

fn tokened(facts: &Facts) -> Option<(Level, Rule)> {
    let Mechanism::Tokened { memory } = facts.sink.mechanism else { return None };
    let exact = facts.source.replay == Replay::Exact;
    match memory {
        // The token is the same wherever the record comes back: it is the identity, or the place, which does not change.
        Memory::Unbounded if exact || facts.identity != IdentityKind::Position => {
            Some((Level::ExactlyOnce, Rule::Tokened))
        }
        // What may have been sent is known by its place: it must come back at the same.
        Memory::Within(window) if exact => Some((Level::ExactlyOnceWithin(window), Rule::Tokened)),
        Memory::Unbounded | Memory::Within(_) | Memory::UntilFull => None,
    }
}

fn hold_or_resend(facts: &Facts) -> Option<(Level, Rule)> {
    let ledger = facts.ledger?;
    let resend = ledger.place == LedgerPlace::Outside && ledger.in_doubt == InDoubt::Resend;
    resend.then_some((Level::AtLeastOnce, Rule::LedgerOutside))
}

fn assumptions(facts: &Facts, reached: Reached) -> Vec<Assumption> {
    let mut all = Vec::new();
    // Also where the rule alone gives no more than that.
    if reached.level > Level::Lossy
        && let Completeness::Late { lateness, .. } = facts.source.completeness
    {
        all.push(Assumption::LatenessHolds(lateness));
    }
    let for_good = facts.sink.mechanism == Mechanism::Tokened { memory: Memory::Unbounded };
    let identity_counts = facts.ledger.is_some()
        || matches!(reached.rule, Rule::Keyed | Rule::LedgerInCommit)
        || (reached.rule == Rule::Tokened && for_good);
    match facts.identity {
        IdentityKind::Hash if identity_counts => all.push(Assumption::EqualContentIsOneRecord),
        IdentityKind::Key if identity_counts => all.push(Assumption::KeyIsUnique),
        _ => {}
    }
    if facts.source.settle == Settle::None && facts.source.replay < Replay::Exact {
        all.push(Assumption::FedAgain);
    }
    all.extend(facts.source.condition.map(Assumption::Source));
    if reached.level > Level::Lossy && forgets_when_told(facts.source.settle) {
        all.push(Assumption::SinkKeeps);
    }
    if facts.sink.fencing == Fencing::FixedOwnership {
        all.push(Assumption::OneWriterPerKey);
    }
    match (reached.rule, facts.sink.mechanism) {
        (Rule::Keyed, Mechanism::Keyed { guard: Guard::None }) => all.push(Assumption::NoLateRequest),
        (Rule::Tokened, _) if !for_good => all.push(Assumption::RequestsInTime),
        (Rule::LedgerOutside, _) if reached.level == Level::AtMostOnce => all.push(Assumption::NobodyRepeats),
        _ => {}
    }
    if let Some(readers) = &facts.sink.readers {
        all.push(Assumption::Readers(readers.clone()));
    }
    all
}

fn refusal(facts: &Facts) -> Option<Refusal> {
    match (facts.source.retention, facts.longest_outage) {
        (Retention::For(retention), Some(outage)) if retention < outage => {
            Some(Refusal::RetentionShorterThanOutage { retention, outage })
        }
        _ => None,
    }
}

/// The first single change of facts that raises the level the most.
fn raise(facts: &Facts, level: Level) -> Option<(&'static str, Level)> {
    let mut best: Option<(&'static str, Level)> = None;
    for (words, changed) in changes(facts) {
        let raised = reach(&changed).level;
        if raised > best.map_or(level, |(_, best)| best) {
            best = Some((words, raised));
        }
    }
    best
}

/// Single changes a person can make, the cheapest first.
fn changes(facts: &Facts) -> Vec<(&'static str, Facts)> {
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut changed = facts.clone();
        change(&mut changed);
        changed
    };
    let sink = |change: &dyn Fn(&mut SinkFacts)| {
        let mut changed = facts.clone();
        change(&mut changed.sink);
        changed
    };
    let inside = LedgerFacts {
        place: LedgerPlace::InsideCommit,
        retention: Retention::Unbounded,
        in_doubt: InDoubt::Resend,
    };
    let commits = matches!(facts.sink.mechanism, Mechanism::CoCommit);
    let mut all = vec![("give the records an identity of their own (`identity: { key: [...] }`)", {
        with(&|f| f.identity = IdentityKind::Key)
    })];
    if commits {
        all.push(("keep a ledger in the sink's commit (`duplicates: drop` with a key)", {
            with(&|f| {
                f.ledger = Some(inside);
                f.identity = IdentityKind::Key;
            })
        }));
    }
    all.push(("declare a lookback as long as the lateness", {
        with(&|f| {
            if let Completeness::Late { lateness, .. } = f.source.completeness {
                f.source.completeness = Completeness::Late { lateness, lookback: lateness };
            }
        })
    }));
    all.push((
        "a source that can be read again from a position (a file instead of a stream, for instance)",
        with(&|f| f.source.replay = Replay::Exact),
    ));
    all.push((
        "a source in which nothing appears behind a passed position",
        with(&|f| f.source.completeness = Completeness::Complete),
    ));
    all.push(("a sink that compares fencing tokens", sink(&|s| s.fencing = Fencing::Token)));
    all.push(("a sink that keeps what it acknowledged", sink(&|s| s.durability = Durability::Durable)));
    if let Mechanism::Tokened { memory: Memory::UntilFull | Memory::Within(_) } = facts.sink.mechanism {
        all.push((
            "a sink that refuses repeats for good (in NATS `once: subject`, into a stream that removes nothing by itself)",
            sink(&|s| s.mechanism = Mechanism::Tokened { memory: Memory::Unbounded }),
        ));
    }
    all.push((
        "a sink that commits effects and position together (SQLite, PostgreSQL), or one that publishes staged files",
        sink(&|s| s.mechanism = Mechanism::CoCommit),
    ));
    all.push(("dead letters in the sink itself", with(&|f| f.dead_letters = None)));
    all
}
