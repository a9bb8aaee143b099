//! The topic that a pipeline keeps its state in, and what is read of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_engine::fault::SinkError;
use hapax_protocol::position::SplitId;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::Timeout;
use rdkafka::{Message, Offset};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::pen::Pen;
use super::state::{Entry, View};
use crate::client::{Cluster, PATIENCE, Reads};
use crate::fault::{ClusterFault, WriteFault};
use crate::source::{NO_GROUP, assign};

/// How long brokers may take until each knows a topic that was made.
const MAKING_MAX: Duration = Duration::from_secs(60);

/// After which time the transactions of earlier holders are ended, which may hide the end of the topic.
const HIDDEN_SOME: Duration = Duration::from_secs(3);
/// How long the end of the topic may be hidden.
const HIDDEN_MAX: Duration = Duration::from_secs(90);
/// How long the topic may be read without coming to its end.
const READING_MAX: Duration = Duration::from_secs(60);

/// A topic with state, and what was read of it.
pub(super) struct Desk {
    pub cluster: Cluster,
    /// Its name.
    pub topic: String,
    looker: Arc<Reads>,
    /// Sees what is not committed.
    looker_ahead: Arc<Reads>,
    seen: Arc<Mutex<Seen>>,
}

/// What was read of the topic.
#[derive(Default)]
pub(super) struct Seen {
    pub view: View,
    /// The offset behind it.
    next: i64,
}

/// How far the topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Far {
    /// To where nothing is undecided.
    Decided,
    /// To its end as it is now, which has to be decided first.
    End,
    /// As [`Far::End`] at the first look, but what is undecided is waited for a little while only, and nobody's transaction
    /// is ended. Brokers answer a commit before those who read may see it.
    Soon,
}

impl Desk {
    pub(super) fn new(cluster: Cluster, topic: String) -> Result<Self, ClusterFault> {
        let looker: Reads = cluster.client(&[("isolation.level", "read_committed")])?;
        let looker_ahead: Reads = cluster.client(&[("isolation.level", "read_uncommitted")])?;
        Ok(Self {
            cluster,
            topic,
            looker: Arc::new(looker),
            looker_ahead: Arc::new(looker_ahead),
            seen: Arc::new(Mutex::new(Seen::default())),
        })
    }

    pub(super) fn looker(&self) -> &Arc<Reads> {
        &self.looker
    }

    /// Whether the topic is there.
    pub(super) async fn is_there(&self) -> Result<bool, SinkError> {
        Ok(self.cluster.topics(&self.looker, Some(&self.topic)).await?.contains_key(&self.topic))
    }

    /// Whether the topic is there. Refuses one that does not do.
    pub(super) async fn exists(&self) -> Result<bool, SinkError> {
        let topics = self.cluster.topics(&self.looker, Some(&self.topic)).await?;
        let Some(partitions) = topics.get(&self.topic) else { return Ok(false) };
        let unfit = |why: String| WriteFault::StateUnfit { state: self.topic.clone(), why };
        if partitions.len() != 1 {
            return Err(unfit(format!("it has {} partitions", partitions.len())).into());
        }
        let settings = self.cluster.settings(&[&self.topic]).await?.into_iter().next().flatten();
        match self::unfit(settings.as_ref()) {
            Some(why) => Err(unfit(why).into()),
            None => Ok(true),
        }
    }

    /// Makes the topic if it is missing.
    pub(super) async fn make(&self) -> Result<(), SinkError> {
        if self.exists().await? {
            return Ok(());
        }
        // Small segments: what is not compacted yet is read at each take-over.
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        create(&self.cluster, &self.looker, &topic).await?;
        Ok(())
    }

    /// Reads on. With [`Far::End`] every commit whose answer was given, or whose producer is fenced, is in what this
    /// returns.
    pub(super) async fn look(&self, far: Far) -> Result<OwnedMutexGuard<Seen>, SinkError> {
        self.look_beside(far, None).await
    }

    /// As [`look`](Self::look), for the writer of a split, whose own producer stays.
    pub(super) async fn look_beside(
        &self,
        far: Far,
        own: Option<&SplitId>,
    ) -> Result<OwnedMutexGuard<Seen>, SinkError> {
        let since = Instant::now();
        // Somebody who commits again and again keeps nobody waiting.
        let mut wanted = None;
        loop {
            let guard = Arc::clone(&self.seen).lock_owned().await;
            let (looker, ahead, cluster) =
                (Arc::clone(&self.looker), Arc::clone(&self.looker_ahead), self.cluster.clone());
            let topic = self.topic.clone();
            let read = tokio::task::spawn_blocking(move || {
                read_on(guard, &cluster, &looker, &ahead, &topic, (far, wanted))
            })
            .await;
            let (guard, outcome) = read.map_err(|_| self.cluster.fault(READING, KafkaError::Canceled))?;
            let outcome = match outcome {
                // A topic that somebody has just made has no leader yet, or this client has not heard of it.
                Err(error) if is_new(&error) && since.elapsed() < MAKING_MAX => {
                    drop(guard);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                outcome => outcome.map_err(|error| self.cluster.fault(READING, error))?,
            };
            match outcome {
                Outcome::Read => return Ok(guard),
                Outcome::Foreign(why) | Outcome::Lost(why) => {
                    return Err(WriteFault::StateUnfit { state: self.topic.clone(), why }.into());
                }
                Outcome::Hidden(end) if far == Far::Soon => {
                    wanted = Some(end);
                    if since.elapsed() > HIDDEN_SOME {
                        return Ok(guard);
                    }
                    drop(guard);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Outcome::Hidden(_) if since.elapsed() > HIDDEN_MAX => {
                    return Err(WriteFault::StateHidden { state: self.topic.clone() }.into());
                }
                Outcome::Hidden(_) => {
                    let mut splits = guard.view.split_names();
                    splits.retain(|split| Some(split) != own);
                    drop(guard);
                    if since.elapsed() > HIDDEN_SOME {
                        self.end_transactions(&splits).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// What was read so far.
    pub(super) async fn look_back(&self) -> OwnedMutexGuard<Seen> {
        Arc::clone(&self.seen).lock_owned().await
    }

    /// Ends what producers of these splits have open. One of a run that goes on begins anew.
    async fn end_transactions(&self, splits: &[SplitId]) {
        for split in splits {
            // Where it does not work the brokers end it in time.
            let _ = Pen::take(&self.cluster, (&self.topic, &self.name_of(split)), &[]).await;
        }
    }

    /// The name of the producer of a split: the same in every run.
    pub(super) fn name_of(&self, split: &SplitId) -> String {
        format!("{}/{split}", self.topic)
    }

    /// The name of the producer that gives the lease.
    pub(super) fn name_of_lease(&self) -> String {
        format!("{}#lease", self.topic)
    }

    /// Sends entries within the open transaction.
    pub(super) async fn send(&self, pen: &Pen, entries: &[Entry]) -> Result<(), super::pen::Torn> {
        for entry in entries {
            let (key, value) = (entry.key_bytes(), entry.value_bytes());
            pen.send(&self.topic, Some(0), Some(&key), value.as_deref()).await?;
        }
        Ok(())
    }
}

const READING: &str = "reading the positions";

/// Whether the brokers, or the client, do not know a partition that is there.
fn is_new(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        error.rdkafka_error_code(),
        Some(C::UnknownPartition | C::UnknownTopic | C::UnknownTopicOrPartition | C::LeaderNotAvailable)
    )
}

enum Outcome {
    Read,
    /// Something undecided stands before this offset, the wanted end.
    Hidden(i64),
    /// A message is none of ours.
    Foreign(String),
    /// The topic is shorter than it was.
    Lost(String),
}

type ReadOn = (OwnedMutexGuard<Seen>, Result<Outcome, KafkaError>);

fn read_on(
    mut seen: OwnedMutexGuard<Seen>,
    cluster: &Cluster,
    looker: &Reads,
    ahead: &Reads,
    topic: &str,
    how: (Far, Option<i64>),
) -> ReadOn {
    let outcome = read(&mut seen, cluster, looker, ahead, topic, how);
    (seen, outcome)
}

fn read(
    seen: &mut Seen,
    cluster: &Cluster,
    looker: &Reads,
    ahead: &Reads,
    topic: &str,
    (far, wanted): (Far, Option<i64>),
) -> Result<Outcome, KafkaError> {
    let end = match (far, wanted) {
        (Far::Decided, _) => 0,
        (Far::Soon, Some(wanted)) => wanted,
        (Far::End | Far::Soon, _) => ahead.fetch_watermarks(topic, 0, PATIENCE)?.1,
    };
    let (_, decided) = looker.fetch_watermarks(topic, 0, PATIENCE)?;
    if decided < seen.next {
        return Ok(Outcome::Lost(format!("it ends at offset {decided}, and was read to {}", seen.next)));
    }
    if seen.next < decided
        && let Some(why) = messages(seen, cluster, topic, decided)?
    {
        return Ok(Outcome::Foreign(why));
    }
    Ok(if decided < end { Outcome::Hidden(end) } else { Outcome::Read })
}

/// Reads the messages to an offset. Says what is none of ours.
fn messages(seen: &mut Seen, cluster: &Cluster, topic: &str, to: i64) -> Result<Option<String>, KafkaError> {
    let settings = [
        ("group.id", NO_GROUP),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "10"),
    ];
    let reads: Reads = cluster.native(&settings)?;
    assign(&reads, topic, 0, seen.next)?;
    let mut confirmed = false;
    let until = Instant::now() + READING_MAX;
    while Instant::now() < until {
        match reads.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let key = message.key().unwrap_or_default();
                if let Err(error) = seen.view.read(key, message.payload()) {
                    return Ok(Some(format!("its message at offset {}: {error}", message.offset())));
                }
                seen.next = message.offset().saturating_add(1);
                if seen.next >= to {
                    return Ok(None);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let position = reads.position()?;
                let element = position.find_partition(topic, 0);
                match at_end(element.map(|element| element.offset()), to, confirmed) {
                    AtEnd::There => {
                        seen.next = seen.next.max(to);
                        return Ok(None);
                    }
                    AtEnd::Ask => {
                        // A broker that does not know yet how far the partition goes does not answer this.
                        confirmed = reads.fetch_watermarks(topic, 0, PATIENCE).is_ok_and(|ends| ends.1 >= to);
                        assign(&reads, topic, 0, seen.next)?;
                    }
                }
            }
            // Waiting gives nobody a right.
            Some(Err(error))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) =>
            {
                return Err(error);
            }
            Some(Err(_)) | None => {}
        }
    }
    Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
}

/// What an end that the client reports is.
#[derive(Debug, PartialEq, Eq)]
enum AtEnd {
    /// Everything before the wanted offset was given.
    There,
    /// Perhaps only the end that this broker knows of: one that has just begun to lead may not know all yet.
    Ask,
}

/// Looks at an end by what the client has passed. Markers of transactions are counted there; what compaction left nothing
/// of is not, so where the broker has `confirmed` before this reading that it knows the wanted offset, nothing is left.
fn at_end(passed: Option<Offset>, to: i64, confirmed: bool) -> AtEnd {
    match passed {
        Some(Offset::Offset(passed)) if passed >= to => AtEnd::There,
        _ if confirmed => AtEnd::There,
        _ => AtEnd::Ask,
    }
}

/// Why the topic does not do, by its settings as far as they may be read.
fn unfit(settings: Option<&BTreeMap<String, String>>) -> Option<String> {
    match settings.and_then(|settings| settings.get("cleanup.policy")).map(String::as_str) {
        Some("compact") => None,
        Some(policy) => Some(format!("its cleanup.policy is {policy}")),
        None => Some(
            "whether it is compacted may not be looked at (the user needs `DescribeConfigs` on it)"
                .to_owned(),
        ),
    }
}

/// Makes a topic, and waits until the brokers know it. One that is there is left as it is.
pub(crate) async fn create(
    cluster: &Cluster,
    looker: &Arc<Reads>,
    topic: &NewTopic<'_>,
) -> Result<(), ClusterFault> {
    let doing = "making a topic";
    let admin = cluster.admin()?;
    let patience = Some(Timeout::After(PATIENCE));
    let options = AdminOptions::new().request_timeout(patience).operation_timeout(patience);
    let made = admin.create_topics([topic], &options).await.map_err(|error| cluster.fault(doing, error))?;
    for topic in made {
        match topic {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(cluster.fault(doing, KafkaError::AdminOp(code))),
        }
    }
    let since = Instant::now();
    loop {
        let found = cluster.topics(looker, Some(topic.name)).await?;
        let is_led = match found.get(topic.name).filter(|partitions| !partitions.is_empty()) {
            Some(_) => cluster.watermarks(looker, topic.name, 0).await.is_ok(),
            None => false,
        };
        if is_led {
            return Ok(());
        }
        if since.elapsed() > MAKING_MAX {
            return Err(ClusterFault::NoTopic {
                place: cluster.place().to_owned(),
                topic: topic.name.to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_counts_where_the_client_or_the_broker_knows_of_all() {
        assert_eq!(at_end(Some(Offset::Offset(7)), 7, false), AtEnd::There);
        // A new leader whose high watermark lags reports an end before what was asked for.
        assert_eq!(at_end(Some(Offset::Offset(6)), 7, false), AtEnd::Ask);
        assert_eq!(at_end(Some(Offset::Invalid), 7, false), AtEnd::Ask);
        assert_eq!(at_end(None, 7, false), AtEnd::Ask);
        assert_eq!(at_end(Some(Offset::Offset(6)), 7, true), AtEnd::There);
    }

    #[test]
    fn a_topic_that_may_not_be_looked_at_is_not_taken_for_compacted() {
        let of = |policy: &str| BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        assert_eq!(unfit(Some(&of("compact"))), None);
        assert!(unfit(Some(&of("delete"))).unwrap().contains("delete"));
        assert!(unfit(Some(&of("compact,delete"))).is_some());
        assert!(unfit(Some(&BTreeMap::new())).unwrap().contains("DescribeConfigs"));
        assert!(unfit(None).unwrap().contains("DescribeConfigs"));
    }
}
