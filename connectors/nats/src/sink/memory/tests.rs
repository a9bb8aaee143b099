use async_nats::jetstream::stream::{Source, SubjectTransform};
use hapax_engine::fault::Fault;
use hapax_protocol::code::Code;
use serde_json::json;

use super::*;
use crate::codes;

const HOUR: Duration = Duration::from_secs(3_600);
const FOR_GOOD: Repeat = Repeat::Refused { for_good: true };
const UNTIL_FULL: Repeat = Repeat::Refused { for_good: false };

fn sink(once: &str, past_window: &str) -> SinkConfig {
    let keys = json!({ "url": "nats://h", "stream": "S", "subject": "s.{id}", "once": once, "past_window": past_window });
    serde_json::from_value(keys).unwrap()
}

/// A stream as servers describe one that has no limits.
fn stream() -> Config {
    let none = Config { max_messages: -1, max_bytes: -1, max_messages_per_subject: -1, ..Config::default() };
    Config { duplicate_window: Duration::from_secs(120), deny_delete: true, deny_purge: true, ..none }
}

fn within(ms: u64, past: Past) -> Repeat {
    Repeat::Dropped { window: Window(ms), under_way: UNDER_WAY, past }
}

#[test]
fn by_subject_a_stream_refuses_for_as_long_as_it_keeps() {
    let aged = Config { max_age: HOUR, ..stream() };
    let counted = Config { max_messages: 10, ..stream() };
    let sized = Config { max_bytes: 10, ..stream() };
    let new = DiscardPolicy::New;
    for (kept, past_window, repeat, words) in [
        (stream(), "stop", FOR_GOOD, "for good"),
        (Config { max_messages: 10, max_bytes: 10, discard: new, ..stream() }, "stop", FOR_GOOD, "for good"),
        (Config { max_messages_per_subject: 1, ..stream() }, "stop", FOR_GOOD, "for good"),
        (aged.clone(), "stop", within(3_600_000, Past::Stop), "`max_age`"),
        (aged.clone(), "hold", within(3_600_000, Past::Hold), "for 1h"),
        (aged.clone(), "resend", UNTIL_FULL, "`max_age`"),
        (Config { max_bytes: 10, discard: new, ..aged.clone() }, "stop", within(3_600_000, Past::Stop), "1h"),
        (counted.clone(), "stop", UNTIL_FULL, "`max_msgs`"),
        (sized.clone(), "resend", UNTIL_FULL, "`max_bytes`"),
        (Config { max_age: HOUR, ..sized }, "stop", UNTIL_FULL, "`max_bytes`"),
        (counted, "hold", Repeat::Adds { in_doubt: InDoubt::Hold }, "not sent again"),
    ] {
        let memory = Memory::of(&sink("subject", past_window), &kept).map_err(|fault| fault.to_string());
        let memory = memory.unwrap();
        assert_eq!(memory.repeat, repeat, "{kept:?}");
        assert!(memory.says.contains(words), "{}", memory.says);
        assert_eq!((memory.durability, memory.conditions.len()), (Durability::Durable, 0));
    }
    let open = Config { deny_purge: false, ..stream() };
    let memory = Memory::of(&sink("subject", "stop"), &open).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(memory.repeat == FOR_GOOD && memory.conditions[0].contains("deny_purge"));
}

#[test]
fn by_id_a_stream_drops_within_its_window() {
    for (past_window, repeat) in [
        ("stop", within(120_000, Past::Stop)),
        ("hold", within(120_000, Past::Hold)),
        ("resend", Repeat::Adds { in_doubt: InDoubt::Resend }),
    ] {
        let memory = Memory::of(&sink("message_id", past_window), &stream());
        assert_eq!(memory.unwrap_or_else(|fault| panic!("{fault}")).repeat, repeat);
    }
}

#[test]
fn what_is_in_memory_may_be_forgotten() {
    let memory =
        |kept: Config| Memory::of(&sink("subject", "stop"), &kept).unwrap_or_else(|fault| panic!("{fault}"));
    let held = Config { storage: StorageType::Memory, num_replicas: 1, ..stream() };
    assert_eq!(memory(held.clone()).durability, Durability::MayForget);
    let later = Config { persist_mode: Some(PersistenceMode::Async), ..stream() };
    assert_eq!(memory(later).durability, Durability::MayForget);
    let replicated = memory(Config { num_replicas: 3, ..held });
    assert_eq!(replicated.durability, Durability::Durable);
    assert!(replicated.conditions[0].contains("replicas"));
}

#[test]
fn what_cannot_be_written_once_is_refused() {
    let by = |once: &str, kept: Config| -> Option<Code> {
        Memory::of(&sink(once, "stop"), &kept).err().map(|fault| fault.code())
    };
    let work = Config { retention: RetentionPolicy::WorkQueue, ..stream() };
    let interest = Config { retention: RetentionPolicy::Interest, ..stream() };
    let mirror = Config { mirror: Some(Source::default()), ..stream() };
    let renamed = SubjectTransform { source: ">".to_owned(), destination: "x".to_owned() };
    let renamed = Config { subject_transform: Some(renamed), ..stream() };
    let short = Config { max_age: Duration::from_secs(10), ..stream() };
    for (once, kept, expected) in [
        ("subject", work.clone(), Some(codes::STREAM_UNFIT)),
        ("subject", interest, Some(codes::STREAM_UNFIT)),
        ("message_id", work, None),
        ("subject", mirror.clone(), Some(codes::STREAM_UNFIT)),
        ("message_id", mirror, Some(codes::STREAM_UNFIT)),
        ("subject", renamed.clone(), Some(codes::STREAM_UNFIT)),
        ("message_id", renamed, None),
        ("subject", short, Some(codes::NO_WINDOW)),
        ("message_id", Config { sealed: true, ..stream() }, Some(codes::STREAM_UNFIT)),
        ("message_id", Config { no_ack: true, ..stream() }, Some(codes::STREAM_UNFIT)),
    ] {
        assert_eq!(by(once, kept.clone()), expected, "{once} {kept:?}");
    }
}
