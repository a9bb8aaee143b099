//! Scratch destinations: inside a directory that a drill made, or on the server of the real one under a name that is
//! drawn from that directory's.

use std::path::Path;

use hapax_config::{Mistake, Section};
use hapax_engine::fault::SinkError;

#[cfg(feature = "milvus")]
use super::MILVUS;
use super::{FILES, HTTP, KAFKA, MYSQL, NATS, OpenError, POSTGRES, RABBITMQ, REDIS, SQLITE, unknown};

/// The section of a scratch destination of the same kind, for the place `place` of a scratch directory. Touches
/// nothing.
pub fn section(sink: &Section, place: &Path) -> Result<Section, OpenError> {
    match sink.system.as_str() {
        FILES => {
            let config: hapax_files::sink_config::SinkConfig = sink.read()?;
            let path = config.path_within(place).map_err(OpenError::Sink)?;
            Ok(sink.with_text("path", path))
        }
        SQLITE => Ok(sink.with_text("path", place.join("destination.db").display().to_string())),
        POSTGRES => {
            let config: hapax_postgres::config::SinkConfig = sink.read()?;
            let table = hapax_postgres::sink::table_in(&config, &name(place)).map_err(OpenError::Sink)?;
            Ok(sink.with_text("table", table))
        }
        KAFKA => {
            let (topic, state) = hapax_kafka::scratch::names(&name(place));
            Ok(sink.with_text("topic", topic).with_text("state", state))
        }
        #[cfg(feature = "milvus")]
        MILVUS => {
            let config: hapax_milvus::config::SinkConfig = sink.read()?;
            Ok(sink.with_text("collection", hapax_milvus::scratch::name(&config, &name(place))))
        }
        MYSQL => {
            let config: hapax_mysql::config::SinkConfig = sink.read()?;
            let url = hapax_mysql::scratch::url(&config.url, &name(place)).map_err(OpenError::Sink)?;
            Ok(sink.with_text("url", url))
        }
        REDIS => {
            let config: hapax_redis::config::SinkConfig = sink.read()?;
            let (key, state) = hapax_redis::scratch::names(&config, &name(place));
            Ok(sink.with_text("key", key).with_text("state", state))
        }
        HTTP => match sink.text_at(&["scratch", "url"]) {
            // The connector itself writes nowhere else then.
            Some(url) => Ok(sink.with_text("url", url).with_text("place", name(place))),
            None => {
                let message = "an HTTP API has no scratch destination of its own";
                let help = "Name one in `sink.http`: `scratch: { url: \"https://host/scratch/{place}/orders/{id}\", \
                            read: … }`; `{place}` is the drill's own.";
                Err(Mistake::new(crate::codes::NO_SCRATCH, sink.span, message).helped(help).into())
            }
        },
        NATS | RABBITMQ => {
            let message = format!("there is no scratch destination beside one of {}", sink.system);
            let help = "Drill a pipeline of the same source into a database or into files.";
            Err(Mistake::new(crate::codes::NO_SCRATCH, sink.span, message).helped(help).into())
        }
        _ => Err(unknown(sink).into()),
    }
}

/// The same source, to be read by a drill: nobody is told that it was.
pub fn source(source: &Section) -> Section {
    match source.system.as_str() {
        // Offsets would be published to the group of the real pipeline, and its partitions shared.
        KAFKA => source.without("group"),
        _ => source.clone(),
    }
}

/// Makes what the scratch destination of a place stands in, where that is on a server.
pub async fn make(sink: &Section, place: &Path) -> Result<(), OpenError> {
    let made = match sink.system.as_str() {
        POSTGRES => {
            let config: hapax_postgres::config::SinkConfig = sink.read()?;
            hapax_postgres::scratch::create(&config.url, &name(place)).await
        }
        #[cfg(feature = "milvus")]
        MILVUS => hapax_milvus::scratch::create(&sink.read()?, &name(place)).await,
        KAFKA => hapax_kafka::scratch::create(&sink.read()?, &name(place)).await,
        MYSQL => {
            let config: hapax_mysql::config::SinkConfig = sink.read()?;
            hapax_mysql::scratch::create(&config.url, &name(place)).await
        }
        _ => Ok(()),
    };
    made.map_err(OpenError::Sink)
}

/// Removes what was made for a place.
pub async fn remove(sink: &Section, place: &Path) -> Result<(), OpenError> {
    removed(sink, &name(place)).await
}

/// Removes what was made for all places of a scratch directory.
pub async fn remove_all(sink: &Section, root: &Path) -> Result<(), OpenError> {
    removed(sink, &prefix(root)).await
}

async fn removed(sink: &Section, prefix: &str) -> Result<(), OpenError> {
    let removed: Result<(), SinkError> = match sink.system.as_str() {
        POSTGRES => {
            let config: hapax_postgres::config::SinkConfig = sink.read()?;
            hapax_postgres::scratch::remove(&config.url, prefix).await
        }
        KAFKA => hapax_kafka::scratch::remove(&sink.read()?, prefix).await,
        MYSQL => {
            let config: hapax_mysql::config::SinkConfig = sink.read()?;
            hapax_mysql::scratch::remove(&config.url, prefix).await
        }
        #[cfg(feature = "milvus")]
        MILVUS => hapax_milvus::scratch::remove(&sink.read()?, prefix).await,
        REDIS => {
            let config: hapax_redis::config::SinkConfig = sink.read()?;
            hapax_redis::scratch::remove(&config, prefix).await
        }
        _ => Ok(()),
    };
    removed.map_err(OpenError::Sink)
}

/// What stands for a place on a server: no two drills have the same. The sign behind the round's number keeps `1` from
/// being the beginning of `10`.
fn name(place: &Path) -> String {
    let root = place.parent().unwrap_or(place);
    let round = place.file_name().map(|name| name.to_string_lossy().replace('-', "_")).unwrap_or_default();
    format!("{}{round}_", prefix(root))
}

/// What all names of a scratch directory begin with.
fn prefix(root: &Path) -> String {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digest: String = blake3::hash(name.as_bytes()).to_hex().chars().take(20).collect();
    format!("hapax_drill_{digest}_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_is_no_member_of_the_real_pipelines_group() {
        let text = "name: p\nsource:\n  kafka: { brokers: 'h:1', topic: t, group: real, format: raw }\n\
                    sink:\n  sqlite: { path: a.db, table: t }\n";
        let file = hapax_config::File::new("p.yaml", text.to_owned());
        let read = hapax_config::read(&file, &crate::registry::schema(), &crate::environment::Process);
        let real = read.unwrap().source;
        assert_eq!(real.text("group"), Some("real"));
        let drilled = source(&real);
        assert_eq!((drilled.text("group"), drilled.text("topic")), (None, Some("t")));
    }

    #[test]
    fn places_have_names_of_their_own() {
        let of = |place: &str| name(Path::new(place));
        let (one, ten) = (of("/tmp/.hapax-drill-a-1x1/round-1"), of("/tmp/.hapax-drill-a-1x1/round-10"));
        assert!(one.ends_with("_round_1_") && !ten.starts_with(&one));
        assert!(one.starts_with(&prefix(Path::new("/elsewhere/.hapax-drill-a-1x1"))));
        assert_ne!(one, of("/tmp/.hapax-drill-a-2x2/round-1"));
        assert!(one.len() <= 63, "PostgreSQL cuts longer names off");
    }
}
