//! What the sections of a pipeline file look like, as the connectors say.

use hapax_config::schema::{Beside, System, compose};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;

#[cfg(feature = "milvus")]
use super::MILVUS;
use super::{EMBEDDED, FILES, HTTP, KAFKA, MYSQL, NATS, POSTGRES, RABBITMQ, REDIS, SQLITE, embed};

/// The JSON Schema of a pipeline file.
pub fn schema() -> serde_json::Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let systems = [
        System {
            name: FILES,
            summary: "Files: CSV, JSON Lines or Parquet.",
            source: Some(generator.subschema_for::<hapax_files::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_files::sink_config::SinkConfig>().to_value()),
        },
        System {
            name: SQLITE,
            summary: "A SQLite database.",
            source: Some(generator.subschema_for::<hapax_sqlite::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_sqlite::config::SinkConfig>().to_value()),
        },
        System {
            name: HTTP,
            summary: "An HTTP API.",
            source: Some(generator.subschema_for::<hapax_http::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_http::config::SinkConfig>().to_value()),
        },
        System {
            name: KAFKA,
            summary: "Topics of a Kafka cluster.",
            source: Some(generator.subschema_for::<hapax_kafka::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_kafka::config::SinkConfig>().to_value()),
        },
        #[cfg(feature = "milvus")]
        System {
            name: MILVUS,
            summary: "A collection of Milvus or Zilliz Cloud.",
            source: Some(generator.subschema_for::<hapax_milvus::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_milvus::config::SinkConfig>().to_value()),
        },
        System {
            name: MYSQL,
            summary: "A table of a MySQL or MariaDB database.",
            source: Some(generator.subschema_for::<hapax_mysql::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_mysql::config::SinkConfig>().to_value()),
        },
        System {
            name: NATS,
            summary: "A stream of NATS JetStream.",
            source: Some(generator.subschema_for::<hapax_nats::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_nats::config::SinkConfig>().to_value()),
        },
        System {
            name: RABBITMQ,
            summary: "A queue or an exchange of RabbitMQ.",
            source: Some(generator.subschema_for::<hapax_rabbitmq::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_rabbitmq::config::SinkConfig>().to_value()),
        },
        System {
            name: POSTGRES,
            summary: "A PostgreSQL database.",
            source: Some(generator.subschema_for::<hapax_postgres::source_config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_postgres::config::SinkConfig>().to_value()),
        },
        System {
            name: REDIS,
            summary: "Redis: streams as a source; hashes, strings, JSON or a stream as a destination.",
            source: Some(generator.subschema_for::<hapax_redis::config::SourceConfig>().to_value()),
            sink: Some(generator.subschema_for::<hapax_redis::config::SinkConfig>().to_value()),
        },
    ];
    let mut ledgers = serde_json::Map::new();
    ledgers.insert(REDIS.into(), generator.subschema_for::<hapax_redis::ledger::LedgerConfig>().to_value());
    ledgers.insert(EMBEDDED.into(), embedded_schema());
    let embedders = embed::schema(&mut generator);
    let definitions = generator.take_definitions(true);
    compose(&systems, Beside { ledgers, embedders }, definitions)
}

fn embedded_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object", "additionalProperties": false, "required": ["path"],
        "description": "A ledger in a directory of this machine.",
        "properties": {
            "path": {
                "type": "string", "x-expected": "a path",
                "description": "The directory. Created if it is missing; the one above it must exist. Losing it is losing what was remembered.",
            },
            "retention": {
                "type": "string", "default": "unbounded", "x-expected": "`unbounded` or a time such as `7d`",
                "description": "How long identities are remembered: `unbounded`, or a time such as `7d`, by this machine's clock.",
            },
        },
    })
}
