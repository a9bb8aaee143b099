//! The systems there are. Nothing else in the binary names a connector.

pub mod address;
mod check;
pub mod embed;
mod schema;
pub mod scratch;
pub mod secrets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_config::{Mistake, Section, codes};
use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::{Kept, Sink, Target};
use hapax_engine::source::Source;
use hapax_ledger::embedded::Embedded;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{InDoubt, Retention};
use hapax_protocol::lease::PipelineName;

pub use check::check;
pub use schema::schema;

const EMBEDDED: &str = "embedded";
const FILES: &str = "files";
const HTTP: &str = "http";
const KAFKA: &str = "kafka";
#[cfg(feature = "milvus")]
const MILVUS: &str = "milvus";
const MYSQL: &str = "mysql";
const NATS: &str = "nats";
const POSTGRES: &str = "postgres";
const REDIS: &str = "redis";
const RABBITMQ: &str = "rabbitmq";
const SQLITE: &str = "sqlite";

/// Opens a ledger that stands beside a destination. Nothing is created yet.
pub fn open_ledger(section: &Section) -> Result<Arc<dyn Ledger>, OpenError> {
    if section.system != REDIS {
        let retention = Retention::parse(section.text("retention").unwrap_or("unbounded"));
        let retention = retention.ok_or_else(|| {
            let message = "`retention` is neither `unbounded` nor a time such as `7d`";
            Mistake::new(codes::SECTION, section.span, message.to_owned())
        })?;
        return Ok(embedded_ledger(Path::new(section.text("path").unwrap_or_default()), retention));
    }
    let ledger = hapax_redis::ledger::open(section.read()?, InDoubt::Resend);
    Ok(Arc::new(ledger.map_err(OpenError::Sink)?))
}

/// A ledger in a directory of this machine.
pub fn embedded_ledger(path: &Path, retention: Retention) -> Arc<dyn Ledger> {
    Arc::new(Embedded::new(path, retention, InDoubt::Resend))
}

/// The name of a type, as `schema:` takes it.
pub fn type_name(data_type: &arrow::datatypes::DataType) -> String {
    hapax_files::config::type_name(data_type)
}

/// A system could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file is wrong.
    Mistake(Mistake),
    /// The source says no.
    Source(SourceError),
    /// The sink says no.
    Sink(SinkError),
}

impl From<Mistake> for OpenError {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

/// Opens the source of a section.
pub async fn open_source(section: &Section) -> Result<Arc<dyn Source>, OpenError> {
    match section.system.as_str() {
        FILES => {
            let source =
                hapax_files::source::Files::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        SQLITE => {
            let source =
                hapax_sqlite::source::Sqlite::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        HTTP => {
            let source = hapax_http::source::Pages::open(hapax_http::config::SourceConfig {
                secrets: section.secrets(),
                ..section.read()?
            })
            .await
            .map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        KAFKA => {
            let source =
                hapax_kafka::source::Kafka::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        #[cfg(feature = "milvus")]
        MILVUS => {
            let config = section.read()?;
            let source = hapax_milvus::source::Entities::open(config).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        MYSQL => {
            let source =
                hapax_mysql::source::Mysql::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        NATS => {
            let source = hapax_nats::source::Nats::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        RABBITMQ => {
            let config = section.read()?;
            let source = hapax_rabbitmq::source::Rabbitmq::open(config).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        POSTGRES => {
            let config = section.read()?;
            let source = hapax_postgres::source::Postgres::open(config).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        REDIS => {
            let source =
                hapax_redis::source::Streams::open(section.read()?).await.map_err(OpenError::Source)?;
            Ok(Arc::new(source))
        }
        _ => Err(unknown(section).into()),
    }
}

/// Opens the sink of a section. Nothing is created yet. `keeper` is the database that keeps positions for a system that
/// keeps none.
pub async fn open_sink(section: &Section, name: &PipelineName, keeper: &Path) -> Result<Sink, OpenError> {
    let keeps = |target: Arc<dyn Target>| {
        let keeper = hapax_sqlite::sink::keeper(keeper).map_err(OpenError::Sink)?;
        Ok::<_, OpenError>(Sink::Kept(Kept { target, keeper }))
    };
    match section.system.as_str() {
        FILES => {
            let config: hapax_files::sink_config::SinkConfig = section.read()?;
            hapax_files::sink::open(config, name).map_err(OpenError::Sink)
        }
        SQLITE => hapax_sqlite::sink::open(section.read()?).await.map_err(OpenError::Sink),
        HTTP => keeps(
            hapax_http::sink::open(hapax_http::config::SinkConfig {
                secrets: section.secrets(),
                ..section.read()?
            })
            .await
            .map_err(OpenError::Sink)?,
        ),
        KAFKA => hapax_kafka::sink::open(section.read()?, name).map_err(OpenError::Sink),
        #[cfg(feature = "milvus")]
        MILVUS => keeps(hapax_milvus::sink::open(section.read()?).map_err(OpenError::Sink)?),
        MYSQL => hapax_mysql::sink::open(section.read()?).await.map_err(OpenError::Sink),
        NATS => keeps(hapax_nats::sink::open(section.read()?).await.map_err(OpenError::Sink)?),
        RABBITMQ => keeps(hapax_rabbitmq::sink::open(section.read()?).await.map_err(OpenError::Sink)?),
        POSTGRES => hapax_postgres::sink::open(section.read()?).await.map_err(OpenError::Sink),
        REDIS => hapax_redis::sink::open(section.read()?).await.map_err(OpenError::Sink),
        _ => Err(unknown(section).into()),
    }
}

/// Opens both ends of a pipeline that moves within one system, where they may share its transactions; `None` if each is
/// opened by itself.
pub async fn open_joint(
    source: &Section,
    sink: &Section,
    name: &PipelineName,
) -> Result<Option<(Arc<dyn Source>, Sink)>, OpenError> {
    if source.system != sink.system {
        return Ok(None);
    }
    let is_marked = source.text("read") == Some("marked");
    match source.system.as_str() {
        KAFKA if source.text("group").is_some() => {
            let opened = hapax_kafka::joint::open(source.read()?, sink.read()?, name).await;
            let (source, sink) = opened.map_err(|error| match error {
                hapax_kafka::joint::OpenError::Source(error) => OpenError::Source(error),
                hapax_kafka::joint::OpenError::Sink(error) => OpenError::Sink(error),
            })?;
            Ok(Some((Arc::new(source), sink)))
        }
        MYSQL if is_marked => {
            let opened = hapax_mysql::joint::open(source.read()?, sink.read()?).await;
            let (source, sink) = opened.map_err(|error| match error {
                hapax_mysql::joint::OpenError::Source(error) => OpenError::Source(error),
                hapax_mysql::joint::OpenError::Sink(error) => OpenError::Sink(error),
            })?;
            Ok(Some((Arc::new(source), sink)))
        }
        POSTGRES if is_marked => {
            let opened = hapax_postgres::joint::open(source.read()?, sink.read()?).await;
            let (source, sink) = opened.map_err(|error| match error {
                hapax_postgres::joint::OpenError::Source(error) => OpenError::Source(error),
                hapax_postgres::joint::OpenError::Sink(error) => OpenError::Sink(error),
            })?;
            Ok(Some((Arc::new(source), sink)))
        }
        _ => Ok(None),
    }
}

/// The same section as written, without the password in its URL.
pub fn without_password(section: &Section) -> Section {
    let written = section.written();
    match written.get("url").and_then(|url| url.as_str()) {
        Some(url) => section.with_text("url", address::without_password(url)),
        None => section.clone(),
    }
}

/// The directory that holds the destination of a section; `None` if it stands in none.
pub fn home(sink: &Section) -> Option<PathBuf> {
    location(sink)?.parent().map(Path::to_owned)
}

/// Where a destination in the file system is, from the root; `None` if it is elsewhere.
pub fn location(sink: &Section) -> Option<PathBuf> {
    let path = sink.text("path").filter(|path| *path != "-")?;
    let path = path.strip_prefix("file://").unwrap_or(path);
    if path.contains("://") { None } else { std::path::absolute(path).ok() }
}

/// Whether the destination is a file that is there.
pub fn is_file(sink: &Section) -> bool {
    location(sink).is_some_and(|path| path.is_file())
}

/// Whether what a sink is asked to write shows in its section and the columns alone, so that it is a mistake of the file
/// if they do not fit.
pub fn fits_by_file(sink: &Section) -> bool {
    sink.system == HTTP
}

/// Whether opening the source already takes away what it reads.
pub fn reads_stream(source: &Section) -> bool {
    source.system == FILES && source.text("path") == Some("-")
}

/// The kind of one end, for people: `files (csv)`.
pub fn kind(section: &Section) -> String {
    let path = section.text("path").unwrap_or_default();
    let bare = path.trim_end_matches(".gz").trim_end_matches(".zst");
    let extension = Path::new(bare).extension().and_then(|extension| extension.to_str());
    match section.text("format").or(extension).filter(|_| section.system == FILES) {
        Some(format) if path.ends_with('/') => format!("{} ({format} directory)", section.system),
        Some(format) => format!("{} ({format})", section.system),
        None => section.system.clone(),
    }
}

/// The key of a section that a failure to open is about, if it is the file's fault rather than the system's.
pub fn blamed_key(code: Code, section: &Section) -> Option<&'static str> {
    match code {
        hapax_files::codes::COLUMNS => section.place("schema").map(|_| "schema"),
        hapax_files::codes::SOURCE_CONFIG => Some("path"),
        hapax_files::sink::codes::REMOTE_DESTINATION | hapax_files::sink::codes::FORMAT_UNKNOWN => {
            Some("path")
        }
        hapax_files::sink::codes::UNFITTING => Some("format"),
        hapax_http::codes::BAD_URL
        | hapax_http::codes::PRIVATE_ADDRESS
        | hapax_http::codes::TEMPLATE
        | hapax_http::codes::CONFIG => Some("url"),
        hapax_http::codes::NO_WINDOW => Some("idempotency"),
        hapax_embed::codes::COLUMN => section.place("column").map(|_| "column"),
        hapax_kafka::codes::NO_TOPIC => section.place("topic").map(|_| "topic"),
        hapax_kafka::codes::NO_SCHEMA => Some("schema"),
        hapax_kafka::codes::NO_COLUMN => section.place("key").map(|_| "key"),
        #[cfg(feature = "milvus")]
        hapax_milvus::codes::NO_COLLECTION | hapax_milvus::codes::AUTO_ID => Some("collection"),
        #[cfg(feature = "milvus")]
        hapax_milvus::codes::MADE_OTHERWISE => Some("create"),
        #[cfg(feature = "milvus")]
        hapax_milvus::codes::BAD_URL => Some("url"),
        #[cfg(feature = "milvus")]
        hapax_milvus::codes::NO_DATABASE => section.place("database").map(|_| "database"),
        hapax_mysql::codes::NO_TABLE => Some("table"),
        hapax_mysql::codes::NO_COLUMN | hapax_mysql::codes::NO_HORIZON => Some("cursor"),
        hapax_mysql::codes::NO_TYPE => Some("schema"),
        hapax_mysql::codes::BAD_QUERY => Some("query"),
        hapax_mysql::codes::BAD_URL | hapax_mysql::codes::CONFIG => Some("url"),
        hapax_nats::codes::NO_STREAM | hapax_nats::codes::WORK_QUEUE => Some("stream"),
        hapax_nats::codes::NO_WINDOW | hapax_nats::codes::STREAM_UNFIT => Some("stream"),
        hapax_nats::codes::CONSUMER_UNFIT => Some("consumer"),
        hapax_nats::codes::BAD_URL => Some("url"),
        hapax_rabbitmq::codes::NO_QUEUE | hapax_rabbitmq::codes::STREAM => Some("queue"),
        hapax_rabbitmq::codes::BAD_URL | hapax_rabbitmq::codes::NO_VHOST => Some("url"),
        hapax_sqlite::codes::NO_TABLE => Some("table"),
        hapax_sqlite::codes::NO_COLUMN => Some("cursor"),
        hapax_sqlite::codes::NO_TYPE => Some("schema"),
        hapax_sqlite::codes::BAD_QUERY => Some("query"),
        hapax_sqlite::codes::CONFIG => Some("path"),
        hapax_postgres::codes::NO_TABLE => Some("table"),
        hapax_postgres::source::codes::BAD_QUERY => Some("query"),
        hapax_postgres::source::codes::CONFIG => Some("read"),
        hapax_postgres::source::codes::NO_COLUMN
        | hapax_postgres::source::codes::NULL_CURSOR
        | hapax_postgres::source::codes::COLUMN_UNFIT => Some("cursor"),
        hapax_redis::codes::NO_STREAM | hapax_redis::codes::NOT_A_STREAM => {
            section.place("stream").map(|_| "stream")
        }
        hapax_redis::codes::TEMPLATE | hapax_redis::codes::NO_SHARED_SLOT => Some("key"),
        hapax_redis::codes::BAD_URL => Some("url"),
        _ => None,
    }
}

fn unknown(section: &Section) -> Mistake {
    Mistake::new(codes::UNKNOWN_KEY, section.span, format!("unknown system `{}`", section.system))
        .helped("`hapax schema` prints the systems there are.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Process;

    #[test]
    fn a_scratch_destination_names_nothing_outside_of_its_place() {
        let place = Path::new("/scratch/place");
        for (sink, path, kind_of, stands_in) in [
            ("sqlite: { path: /real/a.db, table: t }", "destination.db", "sqlite", Some("/real")),
            ("files: { path: /real/a.csv.gz }", "a.csv.gz", "files (csv)", Some("/real")),
            (
                "files: { path: /real/a/, format: jsonl }",
                "records/",
                "files (jsonl directory)",
                Some("/real"),
            ),
            ("files: { path: '-', format: csv }", "records.csv", "files (csv)", None),
        ] {
            let text = format!("name: p\nsource:\n  files: {{ path: x.csv }}\nsink:\n  {sink}\n");
            let file = hapax_config::File::new("p.yaml", text);
            let real = hapax_config::read(&file, &schema(), &Process).unwrap().sink;
            assert_eq!((kind(&real).as_str(), home(&real)), (kind_of, stands_in.map(PathBuf::from)));
            let moved = scratch::section(&real, place).unwrap();
            assert_eq!(moved.text("path").map(Path::new), Some(place.join(path).as_path()));
            assert!(!moved.written().to_string().contains("/real"), "{sink}");
            assert_eq!(real.canonical(&["path"]), moved.canonical(&["path"]), "{sink}");
        }
        for (sink, key) in [
            ("postgres: { url: 'postgres://u@h/real', table: precious.t }", "table"),
            ("mysql: { url: 'mysql://u@h/precious', table: t }", "url"),
            ("kafka: { brokers: 'h:9092', topic: precious, state: precious }", "topic"),
        ] {
            let text = format!("name: p\nsource:\n  files: {{ path: x.csv }}\nsink:\n  {sink}\n");
            let file = hapax_config::File::new("p.yaml", text);
            let real = hapax_config::read(&file, &schema(), &Process).unwrap().sink;
            let moved = scratch::section(&real, place).unwrap();
            assert!(moved.text(key).unwrap().contains("hapax_drill_"), "{moved:?}");
            assert!(!moved.written().to_string().contains("precious"), "{sink}");
            assert_eq!(real.canonical(&[key, "state"]), moved.canonical(&[key, "state"]), "{sink}");
        }
    }
}
