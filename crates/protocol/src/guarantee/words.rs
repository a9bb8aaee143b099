use std::fmt;

use super::facts::{Completeness, Durability, Effect, Facts, IdentityKind, Mechanism, Memory, Order, Replay};
use super::level::Level;
use super::rules::{Assumption, Cap, Reached, Refusal, Rule};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceIncomplete => "records may appear behind a position that was already passed",
            Self::CoCommit => {
                "the source replays exactly from a position, and the sink commits effects and position in one transaction"
            }
            Self::Staged => {
                "the source replays exactly from a position, and the sink publishes staged files under a commit identity that can be looked up"
            }
            Self::LedgerInCommit => {
                "records come back with a stable identity, and the ledger of identities is part of the sink's commit"
            }
            Self::MarkWithEffect => "the mark at the source and the effect at the sink are one transaction",
            Self::Keyed => "the sink replaces by key, so writing a record again leaves the same state",
            Self::Tokened => "the sink itself drops or refuses repeats of a token",
            Self::LedgerOutside => "a ledger outside the sink's commit surrounds each effect",
            Self::AcknowledgeAfter => "a record is acknowledged only after its effect",
        })
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LatenessHolds(window) => write!(f, "no record appears more than {window} late"),
            Self::EqualContentIsOneRecord => {
                f.write_str("records with equal content are one and the same record")
            }
            Self::KeyIsUnique => f.write_str("two records with the same key are the same record"),
            Self::FedAgain => {
                f.write_str("whoever feeds the input feeds it again, from its start, after a failure")
            }
            Self::Source(condition) => f.write_str(condition),
            Self::Readers(condition) => f.write_str(condition),
            Self::SinkKeeps => f.write_str(
                "the destination keeps what it committed (no failover to a replica that lags, no return to an older backup): the source forgets what it was told is done",
            ),
            Self::OneWriterPerKey => f.write_str("each key is written by one worker only"),
            Self::NoLateRequest => {
                f.write_str("the destination carries out no request after its connection was given up")
            }
            Self::NobodyRepeats => {
                f.write_str("nothing between Hapax and the destination sends a request twice")
            }
            Self::RequestsInTime => f.write_str(
                "no request arrives later after it left than the sink's timeout allows for, and this machine's date does not go back unnoticed",
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RetentionShorterThanOutage { retention, outage } => write!(
                f,
                "the source keeps its records for {retention}, but the pipeline may stand still for {outage}: records would be gone"
            ),
        }
    }
}

/// The link that keeps `facts` at the level that was reached.
pub(super) fn weakest(facts: &Facts, reached: Reached) -> &'static str {
    if let Some(cap) = reached.cap {
        return match cap {
            Cap::Incomplete => match facts.source.completeness {
                Completeness::Late { lateness, lookback } if lookback < lateness => {
                    "the source reads back less far than records may be late"
                }
                Completeness::Late { .. } => {
                    "the source reads back, but the sink would repeat what it reads twice"
                }
                _ => {
                    "the source: records can appear behind a position that was already passed, and are never read"
                }
            },
            Cap::Lookback => "the source: late records are found only within the declared bound",
            Cap::NoIdentity => "identity: when records come back, nothing tells them from new ones",
            Cap::Unfenced => "the sink: nothing keeps an earlier run that wakes up late from writing",
            Cap::Forgetful if facts.sink.durability == Durability::WithPosition => {
                "the sink: it may forget its last writes, and the source was told to forget their records"
            }
            Cap::Forgetful => "the sink: it may forget a write it acknowledged, while the position lives on",
            Cap::DeadLetters => "the destination of dead letters",
        };
    }
    if facts.sink.mechanism == (Mechanism::Tokened { memory: Memory::UntilFull })
        && reached.level <= Level::AtLeastOnce
    {
        return "the sink: it tells a repeat only until a limit of its size has removed what is repeated";
    }
    if facts.source.replay < Replay::Exact {
        return "the source: it cannot be read again from a position, so a repeat cannot be told by its place";
    }
    match (facts.sink.mechanism, reached.level) {
        (Mechanism::Append, Level::AtLeastOnce | Level::AtMostOnce)
            if facts.sink.effect == Effect::Insert =>
        {
            "the sink: it only appends, so a record whose commit was not seen is either sent twice or not at all"
        }
        (_, Level::EffectivelyOnce) => "the sink: a reader may see a record again while it is being replaced",
        (Mechanism::Keyed { .. }, _) if facts.identity == IdentityKind::Position => {
            "identity: the sink replaces by key, but the records have none"
        }
        (Mechanism::Keyed { .. }, _) if facts.source.order == Order::None => {
            "order: the sink keeps the last value it was sent, and a late retry can bring an old one back"
        }
        (_, Level::ExactlyOnceWithin(_)) => "the sink: it can tell a repeat only within its window",
        _ => "the sink: effect and progress are not one atomic step",
    }
}
