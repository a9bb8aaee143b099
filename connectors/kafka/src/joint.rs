//! Source and sink in one cluster: the group's offsets in the transaction of the records.

use std::sync::Arc;

use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::sink::Sink;
use hapax_protocol::lease::PipelineName;

use crate::client::{Cluster, PATIENCE, Reads};
use crate::config::{SinkConfig, SourceConfig};
use crate::fault::ClusterFault;
use crate::sink;
use crate::source::Kafka;
use rdkafka::consumer::Consumer;

/// One of both ends could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The source says no.
    Source(SourceError),
    /// The sink says no.
    Sink(SinkError),
}

/// Opens both ends of a pipeline from Kafka to Kafka.
///
/// Where they are in one cluster and the source has a `group`, its offsets are published in the transaction of the records:
/// lag tools and other readers of the group see exactly what is committed. Elsewhere the ends are those that [`Kafka::open`]
/// and [`crate::sink::open`] give. Positions are at the sink in any case.
pub async fn open(
    source: SourceConfig,
    sink: SinkConfig,
    name: &PipelineName,
) -> Result<(Kafka, Sink), OpenError> {
    let there = Cluster::read(&sink.brokers, sink.security.as_ref(), &sink.options)
        .map_err(|fault| OpenError::Sink(fault.into()))?;
    let mut source = Kafka::open(source).await.map_err(OpenError::Source)?;
    let same = one_cluster(&source, &there).await.map_err(|fault| OpenError::Sink(fault.into()))?;
    let offsets = if same { source.hand_over() } else { None };
    let sink = sink::with_offsets(sink, name, offsets).map_err(OpenError::Sink)?;
    Ok((source, sink))
}

/// Whether both ends are in one cluster, by the name that it has given itself.
async fn one_cluster(source: &Kafka, there: &Cluster) -> Result<bool, ClusterFault> {
    let looker: Reads = there.client(&[])?;
    let here = id(source.cluster(), source.looker()).await?;
    Ok(here.is_some() && here == id(there, &Arc::new(looker)).await?)
}

async fn id(cluster: &Cluster, looker: &Arc<Reads>) -> Result<Option<String>, ClusterFault> {
    let looker = Arc::clone(looker);
    cluster.ask("looking for the cluster", move || Ok(looker.client().fetch_cluster_id(PATIENCE))).await
}
