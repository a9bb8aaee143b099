//! Mistakes of a file that its schema cannot find.

use hapax_config::{Mistake, Pipeline, Section, codes};

#[cfg(feature = "milvus")]
use super::MILVUS;
use super::{FILES, HTTP, KAFKA, MYSQL, NATS, POSTGRES, RABBITMQ, REDIS, SQLITE, address, secrets};

/// What the schema cannot say: keys of one section that exclude or need each other, and what only the
/// connector's own reading finds.
pub fn check(pipeline: &Pipeline) -> Vec<Mistake> {
    let source = match pipeline.source.system.as_str() {
        FILES => pipeline.source.read::<hapax_files::config::SourceConfig>().err(),
        HTTP => pipeline.source.read::<hapax_http::config::SourceConfig>().err(),
        KAFKA => pipeline.source.read::<hapax_kafka::config::SourceConfig>().err(),
        #[cfg(feature = "milvus")]
        MILVUS => pipeline.source.read::<hapax_milvus::config::SourceConfig>().err(),
        MYSQL => pipeline.source.read::<hapax_mysql::config::SourceConfig>().err(),
        NATS => pipeline.source.read::<hapax_nats::config::SourceConfig>().err(),
        RABBITMQ => pipeline.source.read::<hapax_rabbitmq::config::SourceConfig>().err(),
        SQLITE => pipeline.source.read::<hapax_sqlite::config::SourceConfig>().err(),
        POSTGRES => pipeline.source.read::<hapax_postgres::source_config::SourceConfig>().err(),
        REDIS => pipeline.source.read::<hapax_redis::config::SourceConfig>().err(),
        _ => None,
    };
    let sink = match pipeline.sink.system.as_str() {
        FILES => pipeline.sink.read::<hapax_files::sink_config::SinkConfig>().err(),
        HTTP => pipeline.sink.read::<hapax_http::config::SinkConfig>().err(),
        KAFKA => pipeline.sink.read::<hapax_kafka::config::SinkConfig>().err(),
        #[cfg(feature = "milvus")]
        MILVUS => pipeline.sink.read::<hapax_milvus::config::SinkConfig>().err(),
        MYSQL => pipeline.sink.read::<hapax_mysql::config::SinkConfig>().err(),
        NATS => pipeline.sink.read::<hapax_nats::config::SinkConfig>().err(),
        RABBITMQ => pipeline.sink.read::<hapax_rabbitmq::config::SinkConfig>().err(),
        SQLITE => pipeline.sink.read::<hapax_sqlite::config::SinkConfig>().err(),
        POSTGRES => pipeline.sink.read::<hapax_postgres::config::SinkConfig>().err(),
        REDIS => pipeline.sink.read::<hapax_redis::config::SinkConfig>().err(),
        _ => None,
    };
    let mut mistakes: Vec<Mistake> = source.into_iter().chain(sink).collect();
    if matches!(pipeline.source.system.as_str(), MYSQL | SQLITE | POSTGRES) {
        mistakes.extend(database_source(&pipeline.source));
    }
    let beside = [pipeline.ledger.as_ref(), pipeline.embed.as_ref()].into_iter().flatten();
    mistakes
        .extend([&pipeline.source, &pipeline.sink].into_iter().chain(beside).flat_map(secrets::written_out));
    mistakes.extend(same_place(pipeline));
    mistakes.sort_by_key(|mistake| mistake.span.start);
    mistakes
}

/// A pipeline that reads what it writes would never end, or move each record onto itself.
fn same_place(pipeline: &Pipeline) -> Option<Mistake> {
    let (source, sink) = (&pipeline.source, &pipeline.sink);
    if let (Some(from), Some(to)) = (source.text("url"), sink.text("url"))
        && address::without_password(from) == address::without_password(to)
        && source.text("table").is_some()
        && source.text("table") == sink.text("table")
    {
        return Some(onto_itself(sink, "table"));
    }
    if source.system == sink.system
        && let (Some(from), Some(to)) = (source.text("url"), sink.text("url"))
        && address::without_password(from) == address::without_password(to)
    {
        let by_queue = sink.text("exchange").is_none() && source.text("queue").is_some();
        if source.text("stream").is_some() && source.text("stream") == sink.text("stream") {
            return Some(onto_itself(sink, "stream"));
        }
        if source.text("collection").is_some()
            && source.text("collection") == sink.text("collection")
            && source.text("database") == sink.text("database")
        {
            return Some(onto_itself(sink, "collection"));
        }
        if by_queue && source.text("queue") == sink.text("routing_key") {
            return Some(onto_itself(sink, "routing_key"));
        }
    }
    if source.system == KAFKA
        && sink.system == KAFKA
        && source.text("brokers") == sink.text("brokers")
        && source.text("topic").is_some()
        && source.text("topic") == sink.text("topic")
    {
        return Some(onto_itself(sink, "topic"));
    }
    if let (Some(from), Some(to), REDIS) = (source.text("url"), sink.text("url"), sink.system.as_str())
        && address::without_password(from) == address::without_password(to)
        && source.text("stream").is_some()
        && source.text("stream") == sink.text("key")
    {
        return Some(onto_itself(sink, "key"));
    }
    let path = |section: &Section| section.text("path").and_then(|path| std::path::absolute(path).ok());
    let (from, to) = (path(source)?, path(sink)?);
    let same = source.system == sink.system
        && from == to
        && source.text("path") != Some("-")
        && (source.system != SQLITE || source.text("table") == sink.text("table"));
    same.then(|| onto_itself(sink, "path"))
}

fn onto_itself(sink: &Section, key: &str) -> Mistake {
    let span = sink.place(key).unwrap_or(sink.span);
    Mistake::new(codes::CONFLICT, span, "the destination is the source itself")
        .labelled("the same as in `source`")
        .helped("Write to another file or table.")
}

fn database_source(section: &Section) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    match (section.key_place("table"), section.key_place("query")) {
        (Some(table), Some(query)) => mistakes.push(
            Mistake::new(
                codes::CONFLICT,
                if table.start > query.start { table } else { query },
                "`table` and `query` exclude each other",
            )
            .labelled("one too many")
            .helped("Keep one: `table` reads all of it, `query` is a SELECT of your own."),
        ),
        (None, None) => mistakes.push(
            Mistake::new(
                codes::MISSING_KEY,
                section.span,
                format!("`source.{}` needs `table` or `query`", section.system),
            )
            .labelled("which records?")
            .helped("Add `table: NAME`, or `query: SELECT …`."),
        ),
        _ => {}
    }
    if section.text("read") == Some("incremental")
        && section.key_place("cursor").is_none()
        && let Some(read) = section.place("read")
    {
        mistakes.push(
            Mistake::new(codes::MISSING_KEY, read, "`read: incremental` needs `cursor`")
                .labelled("by which column?")
                .helped("Add `cursor: COLUMN`, a column that grows with every write."),
        );
    }
    mistakes
}
