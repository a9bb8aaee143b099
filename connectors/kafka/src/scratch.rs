//! Topics that somebody makes for a while, and removes.

use std::sync::Arc;

use hapax_engine::fault::SinkError;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::Timeout;

use crate::client::{Cluster, PATIENCE, Reads};
use crate::config::SinkConfig;
use crate::sink::desk::create as create_topic;

/// The names of topic and state that stand in for those of a sink, beginning with `prefix`.
pub fn names(prefix: &str) -> (String, String) {
    (format!("{prefix}topic"), format!("{prefix}state"))
}

/// Makes the topic that stands in for that of a sink, with its name beginning with `prefix`. One that is there stays as
/// it is.
pub async fn create(config: &SinkConfig, prefix: &str) -> Result<(), SinkError> {
    let cluster = Cluster::read(&config.brokers, config.security.as_ref(), &config.options)?;
    let looker: Arc<Reads> = Arc::new(cluster.client(&[])?);
    let partitions = config.create.map_or(3, |create| create.partitions);
    let (topic, _) = names(prefix);
    let topic = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1));
    Ok(create_topic(&cluster, &looker, &topic).await?)
}

/// Removes every topic whose name begins so.
pub async fn remove(config: &SinkConfig, prefix: &str) -> Result<(), SinkError> {
    let doing = "removing a scratch topic";
    let cluster = Cluster::read(&config.brokers, config.security.as_ref(), &config.options)?;
    let looker: Arc<Reads> = Arc::new(cluster.client(&[])?);
    let topics = cluster.topics(&looker, None).await?;
    let names: Vec<&str> =
        topics.keys().map(String::as_str).filter(|name| name.starts_with(prefix)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let admin = cluster.admin()?;
    let options = AdminOptions::new().operation_timeout(Some(Timeout::After(PATIENCE)));
    let deleted = admin.delete_topics(&names, &options).await.map_err(|error| cluster.fault(doing, error))?;
    for topic in deleted {
        match topic {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((_, code)) => return Err(cluster.fault(doing, KafkaError::AdminOp(code)).into()),
        }
    }
    Ok(())
}
