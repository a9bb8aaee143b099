//! A cluster, and what is asked of it. librdkafka waits in threads of its own; nothing here blocks the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hapax_engine::tls::Tls;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::util::Timeout;

use crate::config::Security;
use crate::fault::ClusterFault;

/// How long a question to the cluster may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Settings that the guarantee rests on, and those that have a key of their own.
const OWNED: [&str; 29] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "debug",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "compression.codec",
    "compression.type",
    "request.required.acks",
    "retries",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "transactional.id",
    "allow.auto.create.topics",
];

/// What a topic has for an id before the cluster has said one, as librdkafka writes it.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA ";

/// What librdkafka said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// The last that was bad: a question that was not answered does not say why.
    heard: Arc<Mutex<Option<String>>>,
    anew: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
}

impl Watch {
    /// Whether a topic was made anew while a client had it that [tells](Cluster::telling) so. Of what was polled until then
    /// nothing is of the new topic: it is fetched by its id (KIP-516).
    pub(crate) fn is_made_anew(&self) -> bool {
        self.anew.load(Ordering::Acquire)
    }

    fn hear(&self, words: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // That a user is not known, or a certificate, is said once, and drowned by what follows from it.
        if !heard.as_deref().is_some_and(|heard| is_about_credentials(heard) || is_about_tls(heard)) {
            *heard = Some(words.to_owned());
        }
    }

    pub(crate) fn heard(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// librdkafka goes on where it was in the new topic, and says so in a line for people alone.
fn is_about_another_id(words: &str) -> bool {
    words.split_once(" changed id from ").is_some_and(|(_, ids)| !ids.starts_with(NO_ID))
}

pub(crate) fn is_about_credentials(words: &str) -> bool {
    words.contains("uthentication failed") || words.contains("SASL authentication error")
}

pub(crate) fn is_about_tls(words: &str) -> bool {
    words.contains("SSL handshake failed") || words.contains("certificate")
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, _fac: &str, message: &str) {
        self.lines.fetch_add(1, Ordering::AcqRel);
        if is_about_another_id(message) {
            self.anew.store(true, Ordering::Release);
        }
        if matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
        ) {
            // Behind the name of the thread: `[thrd:…]: `.
            self.hear(message.split_once("]: ").map_or(message, |(_, words)| words));
        }
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.hear(reason);
    }
}

impl ConsumerContext for Watch {}

/// A consumer.
pub(crate) type Reads = BaseConsumer<Watch>;

/// A cluster, as the pipeline file names it.
#[derive(Clone)]
pub(crate) struct Cluster {
    place: Arc<str>,
    settings: ClientConfig,
    watch: Watch,
    /// Made once: one that is dropped takes a tenth of a second to end.
    admin: Arc<OnceLock<AdminClient<Watch>>>,
}

/// What a cluster says of its topics: their partitions.
pub(crate) type Topics = BTreeMap<String, Vec<i32>>;

impl Cluster {
    /// Reads how the cluster is reached. Connects to nothing.
    pub(crate) fn read(
        brokers: &str,
        security: Option<&Security>,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, ClusterFault> {
        if brokers.trim().is_empty() {
            return Err(ClusterFault::config("brokers", "it is empty"));
        }
        let mut settings = ClientConfig::new();
        // What may be set otherwise.
        settings.set("socket.keepalive.enable", "true").set("reconnect.backoff.max.ms", "2000");
        for (key, value) in options {
            if OWNED.contains(&key.as_str()) {
                return Err(ClusterFault::option(key, "Hapax sets it, or it has a key of its own"));
            }
            settings.set(key, value);
        }
        settings.set("bootstrap.servers", brokers).set("allow.auto.create.topics", "false");
        settings.set("client.id", options.get("client.id").map_or("hapax", String::as_str));
        if let Some(security) = security {
            enter(&mut settings, security)?;
        }
        settings.set_log_level(RDKafkaLogLevel::Error);
        let (watch, admin) = (Watch::default(), Arc::default());
        let cluster = Self { place: brokers.into(), settings, watch, admin };
        // What librdkafka does not take is known before anything is asked.
        cluster.settings.create_native_config().map_err(|error| bad_setting(&error))?;
        Ok(cluster)
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The settings of the file and these. What the file says of things that nothing rests on is kept.
    fn with(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut all = self.settings.clone();
        for (key, value) in settings {
            if OWNED.contains(key) || all.get(key).is_none() {
                all.set(*key, *value);
            }
        }
        all
    }

    /// Who hears what goes wrong.
    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The same cluster, whose clients say what becomes of topics.
    pub(crate) fn telling(mut self) -> Self {
        self.settings.set("debug", "topic").set_log_level(RDKafkaLogLevel::Debug);
        self
    }

    /// What a consumer has now, without waiting. A line of its log takes the place of a message, and is passed.
    pub(crate) fn poll<'a>(&self, consumer: &'a Reads) -> Option<KafkaResult<BorrowedMessage<'a>>> {
        loop {
            let lines = self.watch.lines.load(Ordering::Acquire);
            let polled = consumer.poll(Duration::ZERO);
            if polled.is_some() || self.watch.lines.load(Ordering::Acquire) == lines {
                return polled;
            }
        }
    }

    /// The same cluster with what went wrong heard apart.
    pub(crate) fn apart(&self) -> Self {
        Self { watch: Watch::default(), ..self.clone() }
    }

    /// A client with these settings beside those of the file.
    pub(crate) fn client<T: FromClientConfigAndContext<Watch>>(
        &self,
        settings: &[(&str, &str)],
    ) -> Result<T, ClusterFault> {
        self.client_with(settings, self.watch.clone())
    }

    /// As [`client`](Self::client), with the client's own words for what fails.
    pub(crate) fn native<T: FromClientConfigAndContext<Watch>>(
        &self,
        settings: &[(&str, &str)],
    ) -> Result<T, KafkaError> {
        let all = self.with(settings);
        all.create_with_context(self.watch.clone())
    }

    /// As [`client`](Self::client), that tells somebody else.
    pub(crate) fn client_with<C: ClientContext, T: FromClientConfigAndContext<C>>(
        &self,
        settings: &[(&str, &str)],
        context: C,
    ) -> Result<T, ClusterFault> {
        let all = self.with(settings);
        all.create_with_context(context).map_err(|error| match &error {
            KafkaError::ClientConfig(..) => bad_setting(&error),
            _ => self.fault("making a client", error),
        })
    }

    /// Who looks at topics and makes them.
    pub(crate) fn admin(&self) -> Result<&AdminClient<Watch>, ClusterFault> {
        match self.admin.get() {
            Some(admin) => Ok(admin),
            None => {
                let admin = self.client(&[])?;
                Ok(self.admin.get_or_init(|| admin))
            }
        }
    }

    /// What a failure was.
    pub(crate) fn fault(&self, doing: &'static str, error: KafkaError) -> ClusterFault {
        ClusterFault::of(self.place(), doing, error, self.watch.heard())
    }

    /// The topics there are, or one of them, with their partitions.
    pub(crate) async fn topics(
        &self,
        looker: &Arc<Reads>,
        topic: Option<&str>,
    ) -> Result<Topics, ClusterFault> {
        let (looker, topic) = (Arc::clone(looker), topic.map(str::to_owned));
        let metadata = self
            .ask("looking for topics", move || {
                let metadata = looker.fetch_metadata(topic.as_deref(), PATIENCE);
                let metadata = metadata.map_err(|error| cause(&looker, error))?;
                let mut topics = Topics::new();
                for topic in metadata.topics() {
                    match topic.error().map(RDKafkaErrorCode::from) {
                        None => {
                            let partitions = topic.partitions().iter().map(|partition| partition.id());
                            topics.insert(topic.name().to_owned(), partitions.collect());
                        }
                        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
                        Some(code) => return Err(KafkaError::MetadataFetch(code)),
                    }
                }
                Ok(topics)
            })
            .await?;
        Ok(metadata)
    }

    /// The first offset of a partition, and the one behind its last message, as this consumer may see it.
    pub(crate) async fn watermarks(
        &self,
        looker: &Arc<Reads>,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), ClusterFault> {
        let (looker, topic) = (Arc::clone(looker), topic.to_owned());
        self.ask("looking for the ends of a partition", move || {
            let watermarks = looker.fetch_watermarks(&topic, partition, PATIENCE);
            watermarks.map_err(|error| cause(&looker, error))
        })
        .await
    }

    /// The settings of topics, by name; `None` where the user may not read them.
    pub(crate) async fn settings(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Option<BTreeMap<String, String>>>, ClusterFault> {
        let doing = "reading the settings of a topic";
        let admin = self.admin()?;
        let asked: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(Timeout::After(PATIENCE)));
        let answers =
            admin.describe_configs(&asked, &options).await.map_err(|error| self.fault(doing, error))?;
        let mut settings = Vec::with_capacity(answers.len());
        for answer in answers {
            settings.push(match answer {
                // The client library gives no error for one topic of several: there is no topic without settings.
                Ok(resource) if resource.entries.is_empty() => None,
                Ok(resource) => {
                    let entries = resource.entries.into_iter();
                    Some(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
                }
                Err(
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
                ) => None,
                Err(code) => return Err(self.fault(doing, KafkaError::AdminOp(code))),
            });
        }
        Ok(settings)
    }

    /// Asks something that waits, on a thread that may.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ClusterFault> {
        match tokio::task::spawn_blocking(question).await {
            Ok(answer) => answer.map_err(|error| self.fault(doing, error)),
            Err(_) => Err(self.fault(doing, KafkaError::Canceled)),
        }
    }
}

/// What a question was not answered for. The client says it beside the answer.
fn cause(looker: &Reads, error: KafkaError) -> KafkaError {
    let mut cause = error;
    for _ in 0..100 {
        match looker.poll(Duration::from_millis(1)) {
            Some(Err(said)) if said.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) => {
                cause = said
            }
            Some(_) => {}
            None => break,
        }
    }
    cause
}

fn enter(settings: &mut ClientConfig, security: &Security) -> Result<(), ClusterFault> {
    let tls =
        security.tls || security.ca.is_some() || security.certificate.is_some() || security.key.is_some();
    let protocol = match (&security.user, tls) {
        (None, false) => "plaintext",
        (None, true) => "ssl",
        (Some(_), false) => "sasl_plaintext",
        (Some(_), true) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    match (&security.user, &security.password) {
        (Some(user), Some(password)) => {
            let mechanism = security.mechanism.as_deref().unwrap_or("PLAIN");
            settings
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", user)
                .set("sasl.password", password);
        }
        (None, None) => {}
        _ => return Err(ClusterFault::config("security", "`user` and `password` need each other")),
    }
    match &security.ca {
        Some(ca) => settings.set("ssl.ca.location", ca),
        // librdkafka comes with its own OpenSSL, which does not know where this system keeps them.
        None if tls => settings.set("ssl.ca.location", "probe"),
        None => settings,
    };
    // librdkafka does not say which of the files is wrong.
    let path = |text: &Option<String>| text.as_deref().map(PathBuf::from);
    let files =
        Tls { ca: path(&security.ca), certificate: path(&security.certificate), key: path(&security.key) };
    Tls::read(Some(&files).filter(|_| tls), tls)
        .map_err(|error| ClusterFault::config("security", &error.to_string()))?;
    if let (Some(certificate), Some(key)) = (&security.certificate, &security.key) {
        settings.set("ssl.certificate.location", certificate).set("ssl.key.location", key);
    }
    Ok(())
}

/// The value is left out: it may be a secret.
fn bad_setting(error: &KafkaError) -> ClusterFault {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => ClusterFault::option(key, "librdkafka does not take it"),
        _ => ClusterFault::config("options", "librdkafka does not take them together"),
    }
}

/// What is dropped where it may take its time.
pub(crate) struct Aside<T: Send + 'static> {
    what: Option<T>,
    waited_for: bool,
}

impl<T: Send + 'static> Aside<T> {
    /// Nobody waits for its end: it has nothing left to do.
    pub(crate) fn new(what: T) -> Self {
        Self { what: Some(what), waited_for: false }
    }

    /// It may still have something to send when it is dropped: the end of the runtime waits for it, as long as it waits
    /// for anything.
    pub(crate) fn waited_for(what: T) -> Self {
        Self { what: Some(what), waited_for: true }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.what.as_ref()
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let Some(what) = self.what.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.waited_for => drop(runtime.spawn_blocking(move || drop(what))),
            _ => {
                let thread = std::thread::Builder::new().name("hapax-kafka-drop".to_owned());
                // Without a thread for it, it is dropped here after all.
                let _ = thread.spawn(move || drop(what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_gets_its_first_id_is_none_that_was_made_anew() {
        let line =
            |from: &str| format!("[thrd:main]: Topic t changed id from {from} to LhJZRp2dRWOTFSHR1xFG-Q");
        let watch = Watch::default();
        watch.log(RDKafkaLogLevel::Debug, "METADATA", &line("AAAAAAAAAAAAAAAAAAAAAA"));
        assert!(!watch.is_made_anew() && watch.heard().is_none());
        watch.log(RDKafkaLogLevel::Debug, "METADATA", &line("AAAAAAAAAAAAAAAAAAAAAQ"));
        assert!(watch.is_made_anew() && watch.heard().is_none());
    }
}
