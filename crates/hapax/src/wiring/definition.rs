//! What positions and identities of a pipeline mean.

use hapax_config::Pipeline;
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
    // What is done past the window of an API's tokens is decided when a run has met it.
    let sink = registry::without_password(&pipeline.sink).without_inner("idempotency", "past_window");
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
