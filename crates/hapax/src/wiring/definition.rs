//! What positions and identities of a pipeline mean.

use hapax_config::{Pipeline, Section};
use hapax_protocol::identity::Duplicates;

use crate::registry;

/// Keys that may change while positions and identities keep their meaning: how a value is read, and how
/// records are written. Without them a dead letter whose cause is the schema could never be replayed.
const MAY_CHANGE: &[&str] = &[
    "schema",
    "null_values",
    "record_bytes_max",
    "write",
    "positions",
    "create",
    "schema_changes",
    "accept_collation",
    "ledger_retention",
    "outage_max",
    "poll_ms",
    "workers",
    // Of queues: how much is in hand, and what is given up.
    "management",
    "on_gap",
    "prefetch",
    // Of Kafka: how a cluster is entered, and what is given up.
    "accept_gap",
    "brokers",
    "compression",
    "group",
    "options",
    "security",
    "unknown_fields",
    // Of APIs and vector databases: who asks, how fast, and what they are looked into by.
    "allow_private",
    "auth",
    "ca",
    "compress",
    "concurrency",
    "probe",
    "rate",
    "scratch",
    "timeout",
    "tls",
    "token",
];

/// A digest of what positions and identities mean: where records come from and go to, and what tells them
/// apart. References stand in it as written: a new password is no new meaning, and no secret ends up in a
/// destination.
pub(super) fn definition(pipeline: &Pipeline, duplicates: Duplicates) -> String {
    let sink = decided_later(&registry::without_password(&pipeline.sink));
    let text = format!(
        "source {}\nidentity {}\nledger {}{}\nsink {}\n",
        registry::without_password(&pipeline.source).canonical(MAY_CHANGE),
        pipeline.identity.value,
        duplicates.need_ledger(),
        if pipeline.ledger.is_some() { " beside" } else { "" },
        sink.canonical(MAY_CHANGE),
    );
    blake3::hash(text.as_bytes()).to_hex().chars().take(32).collect()
}

/// What is done past the window of tokens is decided when a run has met it: all that may be in doubt was announced, to be
/// stopped before or to be held. Not so where it is sent again, and where a stream goes by subjects and has no window.
fn decided_later(sink: &Section) -> Section {
    let announced = sink.text("past_window").is_none_or(|past| matches!(past, "stop" | "hold"));
    match sink.system.as_str() {
        "nats" if announced && sink.text("once") != Some("subject") => sink.without("past_window"),
        _ => sink.without_inner("idempotency", "past_window"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defined(sink: &str) -> String {
        let text = format!(
            "version: 1\nname: p\nsource:\n  sqlite: {{ path: a.db, table: t }}\nsink:\n  {sink}\nidentity: {{ key: [id] }}\n"
        );
        let file = hapax_config::File::new("p.yaml", text);
        let pipeline = hapax_config::read(&file, &registry::schema(), &crate::environment::Process).unwrap();
        definition(&pipeline, Duplicates::Keep)
    }

    #[test]
    fn what_is_done_past_a_window_may_change_where_all_was_announced() {
        let nats = |more: &str| defined(&format!("nats: {{ url: 'nats://h', stream: S, subject: s{more} }}"));
        assert_eq!(nats(""), nats(", past_window: hold"));
        assert_eq!(nats(", past_window: stop"), nats(", past_window: hold"));
        assert_ne!(nats(""), nats(", past_window: resend"));
        assert_ne!(nats(", once: subject"), nats(", once: subject, past_window: hold"));
        let http = |more: &str| {
            defined(&format!(
                "http: {{ url: 'https://h/t', method: POST, idempotency: {{ window: 1h{more} }} }}"
            ))
        };
        assert_eq!(http(""), http(", past_window: hold"));
    }
}
