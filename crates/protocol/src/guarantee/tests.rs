use proptest::prelude::*;

use super::rules::reach;
use super::*;

const WINDOWS: [Window; 2] = [Window(60_000), Window(3_600_000)];

fn completeness() -> Vec<Completeness> {
    let [short, long] = WINDOWS;
    vec![
        Completeness::Incomplete,
        Completeness::Late { lateness: long, lookback: short },
        Completeness::Late { lateness: short, lookback: long },
        Completeness::Complete,
    ]
}

fn retentions() -> Vec<Retention> {
    vec![Retention::For(WINDOWS[0]), Retention::For(WINDOWS[1]), Retention::Unbounded]
}

fn sources() -> Vec<SourceFacts> {
    let mut all = Vec::new();
    for completeness in completeness() {
        for replay in [Replay::Unidentified, Replay::Identified, Replay::Exact] {
            for retention in retentions() {
                for order in [Order::None, Order::PerKey] {
                    for settle in
                        [Settle::None, Settle::Seek, Settle::PerMessage, Settle::Mark, Settle::MarkWithEffect]
                    {
                        all.push(SourceFacts {
                            completeness,
                            replay,
                            retention,
                            order,
                            settle,
                            condition: None,
                        });
                    }
                }
            }
        }
    }
    all
}

fn mechanisms() -> Vec<Mechanism> {
    let [short, long] = WINDOWS;
    vec![
        Mechanism::Append,
        Mechanism::Tokened { memory: Memory::UntilFull },
        Mechanism::Tokened { memory: Memory::Within(short) },
        Mechanism::Tokened { memory: Memory::Within(long) },
        Mechanism::Tokened { memory: Memory::Unbounded },
        Mechanism::Keyed { guard: Guard::None },
        Mechanism::Keyed { guard: Guard::Version },
        Mechanism::Staged { look_up: LookUp::Within(short) },
        Mechanism::Staged { look_up: LookUp::Within(long) },
        Mechanism::Staged { look_up: LookUp::Unbounded },
        Mechanism::CoCommit,
    ]
}

fn sinks() -> Vec<SinkFacts> {
    let mut all = Vec::new();
    for mechanism in mechanisms() {
        for effect in [Effect::Insert, Effect::ByKey] {
            for fencing in [Fencing::None, Fencing::FixedOwnership, Fencing::Token] {
                for durability in [Durability::MayForget, Durability::WithPosition, Durability::Durable] {
                    all.push(SinkFacts { mechanism, effect, fencing, durability, readers: None });
                }
            }
        }
    }
    all
}

fn ledgers() -> Vec<Option<LedgerFacts>> {
    let mut all = vec![None];
    for place in [LedgerPlace::Outside, LedgerPlace::InsideCommit] {
        for retention in retentions() {
            for in_doubt in [InDoubt::Hold, InDoubt::Resend] {
                all.push(Some(LedgerFacts { place, retention, in_doubt }));
            }
        }
    }
    all
}

const IDENTITIES: [IdentityKind; 3] = [IdentityKind::Position, IdentityKind::Hash, IdentityKind::Key];

/// Calls `check` for every combination of facts (dead letters in the sink, no declared outage).
fn every(mut check: impl FnMut(&Facts)) -> u64 {
    let mut combinations = 0;
    for source in sources() {
        for sink in sinks() {
            for identity in IDENTITIES {
                for ledger in ledgers() {
                    let facts = Facts {
                        source: source.clone(),
                        identity,
                        sink: sink.clone(),
                        ledger,
                        dead_letters: None,
                        longest_outage: None,
                    };
                    check(&facts);
                    combinations += 1;
                }
            }
        }
    }
    combinations
}

/// The rules of guarantees.md written down a second time, as a table from the worst upward: what a
/// reader of the document would expect of a combination.
fn expected(facts: &Facts) -> Level {
    use Level::{AtLeastOnce, AtMostOnce, EffectivelyOnce, ExactlyOnce, ExactlyOnceWithin, Lossy};
    let source = &facts.source;
    let named = facts.identity != IdentityKind::Position;
    let told_apart = named || source.replay != Replay::Unidentified;
    let inside = matches!(facts.ledger, Some(LedgerFacts { place: LedgerPlace::InsideCommit, retention, .. })
        if retention >= source.retention);
    let held = matches!(
        facts.ledger,
        Some(LedgerFacts { place: LedgerPlace::Outside, in_doubt: InDoubt::Hold, .. })
    );
    let replaces =
        matches!(facts.sink.mechanism, Mechanism::Keyed { .. }) || facts.sink.effect == Effect::ByKey;
    let guarded = facts.sink.mechanism == Mechanism::Keyed { guard: Guard::Version };
    let ordered = source.order == Order::PerKey || guarded;
    let exact = source.replay == Replay::Exact;

    let fenced = facts.sink.fencing != Fencing::None;
    let fence = |level: Level| if fenced { level } else { level.min(AtLeastOnce) };
    let given = match facts.sink.mechanism {
        Mechanism::CoCommit if exact => ExactlyOnce,
        Mechanism::Staged { look_up: LookUp::Unbounded } if exact => ExactlyOnce,
        _ if (named || exact) && inside => ExactlyOnce,
        _ if source.settle == Settle::MarkWithEffect => ExactlyOnce,
        Mechanism::Tokened { memory: Memory::Unbounded } if named || exact => ExactlyOnce,
        _ if replaces && named && ordered => EffectivelyOnce,
        Mechanism::Staged { look_up: LookUp::Within(window) } if exact => ExactlyOnceWithin(window),
        Mechanism::Tokened { memory: Memory::Within(window) } if exact => ExactlyOnceWithin(window),
        _ if held => AtMostOnce,
        _ => AtLeastOnce,
    };
    // Two mechanisms need no fence: what a late writer sends is refused as older, or dropped as a repeat.
    let unfenced = match facts.sink.mechanism {
        Mechanism::Keyed { guard: Guard::Version } if named => EffectivelyOnce,
        Mechanism::Tokened { memory: Memory::Within(window) } if exact => ExactlyOnceWithin(window),
        Mechanism::Tokened { memory: Memory::Unbounded } if named || exact => ExactlyOnce,
        _ => Lossy,
    };
    let given = fence(given).max(unfenced);
    let by_source = match source.completeness {
        Completeness::Complete => ExactlyOnce,
        Completeness::Late { lateness, lookback } => {
            let absorbed = named && (facts.sink.effect == Effect::ByKey || (replaces && ordered) || inside);
            if lookback >= lateness && absorbed { EffectivelyOnce } else { Lossy }
        }
        Completeness::Incomplete => Lossy,
    };
    let by_identity = if told_apart { ExactlyOnce } else { AtLeastOnce };
    let by_memory = match (facts.sink.durability, source.settle) {
        (Durability::MayForget, _) | (Durability::WithPosition, Settle::PerMessage | Settle::Mark) => Lossy,
        _ => ExactlyOnce,
    };
    given.min(by_source).min(by_identity).min(by_memory)
}

#[test]
fn a_length_of_time_is_read_as_people_write_it() {
    for (text, ms) in
        [("90s", 90_000), ("5m", 300_000), (" 2 h ", 7_200_000), ("30d", 2_592_000_000), ("50ms", 50)]
    {
        assert_eq!(Window::parse(text), Some(Window(ms)), "{text}");
    }
    for text in ["", "5", "m", "0s", "-1s", "1.5h", "5 minutes", "99999999999999999999d"] {
        assert_eq!(Window::parse(text), None, "{text}");
    }
}

#[test]
fn every_combination_has_the_level_of_the_table() {
    let combinations = every(|facts| assert_eq!(reach(facts).level, expected(facts), "{facts:#?}"));
    assert_eq!(combinations, 360 * 198 * 3 * 13);
}

#[test]
fn a_level_below_exactly_once_names_its_weakest_link_and_a_raise_really_raises() {
    let mut seen = 0_u64;
    every(|facts| {
        // The words are derived from far fewer facts than there are combinations: every 37th will do.
        seen += 1;
        if !seen.is_multiple_of(37) {
            return;
        }
        let verdict = derive(facts);
        match (verdict.level, &verdict.weakest) {
            (Level::ExactlyOnce, None) => {}
            (level, Some(weakest)) if level < Level::ExactlyOnce => {
                assert!(!weakest.words.is_empty());
                assert!(weakest.raise.is_none_or(|(words, raised)| !words.is_empty() && raised > level));
            }
            other => panic!("{other:?} for {facts:#?}"),
        }
        assert!(verdict.refusal.is_none());
    });
}

fn files() -> SourceFacts {
    SourceFacts {
        completeness: Completeness::Complete,
        replay: Replay::Exact,
        retention: Retention::Unbounded,
        order: Order::PerKey,
        settle: Settle::Seek,
        condition: None,
    }
}

fn sink(mechanism: Mechanism) -> SinkFacts {
    SinkFacts {
        mechanism,
        effect: Effect::Insert,
        fencing: Fencing::Token,
        durability: Durability::Durable,
        readers: None,
    }
}

fn pipeline(source: SourceFacts, sink: SinkFacts) -> Facts {
    Facts {
        source,
        identity: IdentityKind::Position,
        sink,
        ledger: None,
        dead_letters: None,
        longest_outage: None,
    }
}

#[test]
fn the_rules_carry_their_numbers() {
    let rule = |facts: &Facts| (derive(facts).rule.number(), derive(facts).level);
    assert_eq!(rule(&pipeline(files(), sink(Mechanism::CoCommit))), (2, Level::ExactlyOnce));
    let staged = Mechanism::Staged { look_up: LookUp::Unbounded };
    assert_eq!(rule(&pipeline(files(), sink(staged))), (3, Level::ExactlyOnce));
    assert_eq!(rule(&pipeline(files(), sink(Mechanism::Append))), (9, Level::AtLeastOnce));
    let incomplete = SourceFacts { completeness: Completeness::Incomplete, ..files() };
    assert_eq!(rule(&pipeline(incomplete, sink(Mechanism::CoCommit))), (1, Level::Lossy));

    let queue =
        SourceFacts { replay: Replay::Identified, order: Order::None, settle: Settle::PerMessage, ..files() };
    let mut from_queue = pipeline(queue, sink(Mechanism::CoCommit));
    from_queue.identity = IdentityKind::Key;
    from_queue.ledger = Some(LedgerFacts {
        place: LedgerPlace::InsideCommit,
        retention: Retention::Unbounded,
        in_doubt: InDoubt::Resend,
    });
    assert_eq!(rule(&from_queue), (4, Level::ExactlyOnce));
    let marked = SourceFacts { settle: Settle::MarkWithEffect, replay: Replay::Identified, ..files() };
    assert_eq!(rule(&pipeline(marked, sink(Mechanism::Append))), (5, Level::ExactlyOnce));

    let mut keyed = pipeline(files(), sink(Mechanism::Keyed { guard: Guard::None }));
    keyed.identity = IdentityKind::Key;
    assert_eq!(rule(&keyed), (6, Level::EffectivelyOnce));
    keyed.source.order = Order::None;
    assert_eq!(rule(&keyed), (9, Level::AtLeastOnce));
    let tokened = pipeline(files(), sink(Mechanism::Tokened { memory: Memory::Within(WINDOWS[1]) }));
    assert_eq!(rule(&tokened), (7, Level::ExactlyOnceWithin(WINDOWS[1])));

    let mut outside = pipeline(files(), sink(Mechanism::Append));
    let ledger = |in_doubt| {
        Some(LedgerFacts { place: LedgerPlace::Outside, retention: Retention::Unbounded, in_doubt })
    };
    outside.ledger = ledger(InDoubt::Hold);
    assert_eq!(rule(&outside), (8, Level::AtMostOnce));
    outside.ledger = ledger(InDoubt::Resend);
    assert_eq!(rule(&outside), (8, Level::AtLeastOnce));
}

#[test]
fn a_sink_that_refuses_repeats_for_good_is_exact_from_any_source_with_a_key() {
    let refusing = |memory| SinkFacts {
        effect: if memory == Memory::Unbounded { Effect::ByKey } else { Effect::Insert },
        fencing: Fencing::None,
        ..sink(Mechanism::Tokened { memory })
    };
    let queue =
        SourceFacts { replay: Replay::Identified, order: Order::None, settle: Settle::PerMessage, ..files() };
    let short = WINDOWS[0];
    for (source, identity, memory, level) in [
        (files(), IdentityKind::Key, Memory::Unbounded, Level::ExactlyOnce),
        (files(), IdentityKind::Position, Memory::Unbounded, Level::ExactlyOnce),
        (queue.clone(), IdentityKind::Key, Memory::Unbounded, Level::ExactlyOnce),
        (queue.clone(), IdentityKind::Hash, Memory::Unbounded, Level::ExactlyOnce),
        (queue.clone(), IdentityKind::Position, Memory::Unbounded, Level::AtLeastOnce),
        (files(), IdentityKind::Key, Memory::Within(short), Level::ExactlyOnceWithin(short)),
        (queue.clone(), IdentityKind::Key, Memory::Within(short), Level::AtLeastOnce),
        (files(), IdentityKind::Key, Memory::UntilFull, Level::AtLeastOnce),
        (queue, IdentityKind::Key, Memory::UntilFull, Level::AtLeastOnce),
    ] {
        let facts = Facts { identity, ..pipeline(source, refusing(memory)) };
        let verdict = derive(&facts);
        assert_eq!(verdict.level, level, "{facts:#?}");
        assert_eq!(verdict.rule == Rule::Tokened, level > Level::AtLeastOnce);
        // What no clock bounds rests on no clock.
        assert_eq!(
            verdict.assumptions.contains(&Assumption::RequestsInTime),
            level < Level::ExactlyOnce && level > Level::AtLeastOnce
        );
        let named = identity == IdentityKind::Key && level == Level::ExactlyOnce;
        assert_eq!(verdict.assumptions.contains(&Assumption::KeyIsUnique), named);
        let Some(weakest) = verdict.weakest else { continue };
        let (words, raised) = weakest.raise.unwrap();
        assert_eq!(raised, Level::ExactlyOnce, "{facts:#?}");
        match memory {
            Memory::Unbounded => assert!(words.contains("an identity of their own"), "{words}"),
            _ => assert!(words.contains("refuses repeats for good"), "{words}"),
        }
        if memory == Memory::UntilFull {
            assert!(weakest.words.contains("a limit of its size"), "{}", weakest.words);
        }
    }
    // What may forget as a whole is as lossy as any other.
    let forgetful = SinkFacts { durability: Durability::MayForget, ..refusing(Memory::Unbounded) };
    assert_eq!(derive(&pipeline(files(), forgetful)).level, Level::Lossy);
}

#[test]
fn what_a_source_cannot_check_is_printed() {
    let watched = SourceFacts { condition: Some("nobody looks away"), ..files() };
    let verdict = derive(&pipeline(watched, sink(Mechanism::CoCommit)));
    assert_eq!(verdict.level, Level::ExactlyOnce);
    assert_eq!(verdict.assumptions, [Assumption::Source("nobody looks away")]);
}

#[test]
fn retention_shorter_than_the_longest_outage_is_refused() {
    let short = SourceFacts { retention: Retention::For(WINDOWS[0]), ..files() };
    let mut facts = pipeline(short, sink(Mechanism::CoCommit));
    assert_eq!(derive(&facts).refusal, None);
    facts.longest_outage = Some(WINDOWS[1]);
    assert!(derive(&facts).refusal.is_some());
    facts.longest_outage = Some(WINDOWS[0]);
    assert_eq!(derive(&facts).refusal, None);
}

#[test]
fn dead_letters_elsewhere_can_only_lower() {
    let mut facts = pipeline(files(), sink(Mechanism::CoCommit));
    facts.dead_letters = Some(sink(Mechanism::Append));
    let verdict = derive(&facts);
    assert_eq!(verdict.level, Level::AtLeastOnce);
    assert_eq!(verdict.weakest.unwrap().words, "the destination of dead letters");
    facts.dead_letters = Some(sink(Mechanism::Staged { look_up: LookUp::Unbounded }));
    assert_eq!(derive(&facts).level, Level::ExactlyOnce);
}

/// Every single step by which a fact can get better.
fn better(facts: &Facts) -> Vec<Facts> {
    let [short, long] = WINDOWS;
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Facts)| {
        let mut changed = facts.clone();
        change(&mut changed);
        all.push(changed);
    };
    match facts.source.completeness {
        Completeness::Incomplete => {
            push(&|f| f.source.completeness = Completeness::Late { lateness: long, lookback: short });
        }
        Completeness::Late { lateness, lookback } if lookback < lateness => {
            push(&|f| f.source.completeness = Completeness::Late { lateness: short, lookback: long });
        }
        Completeness::Late { .. } => push(&|f| f.source.completeness = Completeness::Complete),
        Completeness::Complete => {}
    }
    match facts.source.replay {
        Replay::Unidentified => push(&|f| f.source.replay = Replay::Identified),
        Replay::Identified => push(&|f| f.source.replay = Replay::Exact),
        Replay::Exact => {}
    }
    push(&|f| f.source.order = Order::PerKey);
    // A mark in the effect's own transaction is the best way to settle; the others are of equal worth.
    push(&|f| f.source.settle = Settle::MarkWithEffect);
    if facts.identity == IdentityKind::Position {
        push(&|f| f.identity = IdentityKind::Hash);
        push(&|f| f.identity = IdentityKind::Key);
    }
    match facts.sink.mechanism {
        Mechanism::Append => {
            push(&|f| f.sink.mechanism = Mechanism::Tokened { memory: Memory::UntilFull });
        }
        Mechanism::Tokened { memory } => {
            let memory = match memory {
                Memory::UntilFull => Memory::Within(short),
                Memory::Within(window) if window == short => Memory::Within(long),
                Memory::Within(_) | Memory::Unbounded => Memory::Unbounded,
            };
            push(&|f| f.sink.mechanism = Mechanism::Tokened { memory });
        }
        Mechanism::Keyed { guard: Guard::None } => {
            push(&|f| f.sink.mechanism = Mechanism::Keyed { guard: Guard::Version });
        }
        Mechanism::Staged { look_up: LookUp::Within(window) } => {
            let look_up = if window == short { LookUp::Within(long) } else { LookUp::Unbounded };
            push(&|f| f.sink.mechanism = Mechanism::Staged { look_up });
        }
        Mechanism::Staged { look_up: LookUp::Unbounded } => push(&|f| f.sink.mechanism = Mechanism::CoCommit),
        Mechanism::Keyed { .. } | Mechanism::CoCommit => {}
    }
    push(&|f| f.sink.effect = Effect::ByKey);
    match facts.sink.fencing {
        Fencing::None => push(&|f| f.sink.fencing = Fencing::FixedOwnership),
        Fencing::FixedOwnership => push(&|f| f.sink.fencing = Fencing::Token),
        Fencing::Token => {}
    }
    match facts.sink.durability {
        Durability::MayForget => push(&|f| f.sink.durability = Durability::WithPosition),
        Durability::WithPosition => push(&|f| f.sink.durability = Durability::Durable),
        Durability::Durable => {}
    }
    match facts.ledger {
        None => {
            let resend = |place| {
                Some(LedgerFacts { place, retention: Retention::Unbounded, in_doubt: InDoubt::Resend })
            };
            push(&|f| f.ledger = resend(LedgerPlace::Outside));
            push(&|f| f.ledger = resend(LedgerPlace::InsideCommit));
        }
        Some(ledger) => {
            push(&|f| f.ledger = Some(LedgerFacts { retention: Retention::Unbounded, ..ledger }));
            push(&|f| f.ledger = Some(LedgerFacts { place: LedgerPlace::InsideCommit, ..ledger }));
        }
    }
    all
}

fn any_facts() -> impl Strategy<Value = Facts> {
    (
        prop::sample::select(sources()),
        prop::sample::select(IDENTITIES.to_vec()),
        prop::sample::select(sinks()),
        prop::sample::select(ledgers()),
        prop::option::of(prop::sample::select(sinks())),
    )
        .prop_map(|(source, identity, sink, ledger, dead_letters)| Facts {
            source,
            identity,
            sink,
            ledger,
            dead_letters,
            longest_outage: None,
        })
}

#[test]
fn no_single_step_for_the_better_lowers_a_level() {
    every(|facts| {
        let level = reach(facts).level;
        for better in better(facts) {
            let raised = reach(&better).level;
            assert!(raised >= level, "{level} fell to {raised}:\n{facts:#?}\n{better:#?}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_added_fault_tolerance_lowers_a_level_with_dead_letters_elsewhere(facts in any_facts()) {
        let level = reach(&facts).level;
        for better in better(&facts) {
            prop_assert!(reach(&better).level >= level);
        }
    }

    #[test]
    fn no_missing_fact_raises_a_level(facts in any_facts(), forget in 0_usize..8) {
        let level = reach(&facts).level;
        let mut less = facts;
        match forget {
            0 => less.source.completeness = Completeness::Incomplete,
            1 => less.source.replay = Replay::Unidentified,
            2 => less.source.order = Order::None,
            3 => less.sink.fencing = Fencing::None,
            4 => less.sink.durability = Durability::MayForget,
            5 if less.ledger.is_some_and(|ledger| ledger.in_doubt == InDoubt::Resend) => less.ledger = None,
            6 => less.sink.effect = Effect::Insert,
            _ => less.identity = IdentityKind::Position,
        }
        prop_assert!(reach(&less).level <= level);
    }
}
