//! What every source must do that gives a message again, at another place, until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use futures::FutureExt;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::canonical::Rows;
use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, RunError, Stop, Summary, Until};
use hapax_engine::sink::Sink;
use hapax_engine::source::{Extent, Source, SplitReader};
use hapax_protocol::guarantee::{Order, Replay, Settle};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use hapax_protocol::position::{Ordinal, Position};

use crate::memory::Memory;

/// One queue under test.
pub trait Subject {
    /// Makes an empty queue of this name, which no earlier call made.
    fn create(&self, name: &str) -> impl Future<Output = ()>;
    /// Puts messages in: each is told by its number, which is its only column `id`.
    fn publish(&self, name: &str, ids: std::ops::Range<i64>) -> impl Future<Output = ()>;
    /// Puts in a message that is no record, under an id of its own.
    fn spoil(&self, name: &str) -> impl Future<Output = ()>;
    /// Opens the queue, with so many workers.
    fn open(&self, name: &str, workers: u16) -> impl Future<Output = Arc<dyn Source>>;
    /// How many messages it holds that nobody acknowledged, once nobody consumes from it.
    fn holds(&self, name: &str) -> impl Future<Output = u64>;
    /// How many messages it has given to nobody, while somebody consumes from it.
    fn waits(&self, name: &str) -> impl Future<Output = u64>;
    /// How many messages it gives out at most to a source of one worker before one is acknowledged: less than 1,000.
    fn in_hand_max(&self) -> u64;
}

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };
const NARROW: ReadLimit = ReadLimit { records_max: 3, bytes_max: 1 << 20 };
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs every check.
pub async fn suite(subject: &impl Subject) {
    what_is_not_acknowledged_comes_again_elsewhere(subject).await;
    what_took_effect_is_acknowledged_and_never_comes_again(subject).await;
    a_storm_of_redeliveries_takes_effect_once(subject).await;
    workers_share_a_queue(subject).await;
    a_dropped_read_loses_nothing(subject).await;
    the_end_is_not_the_end_of_a_queue_that_grows(subject).await;
    a_message_that_is_no_record_is_set_aside_and_acknowledged(subject).await;
    a_commit_goes_by_bytes_too(subject).await;
    a_slow_destination_leaves_the_rest_in_the_queue(subject).await;
}

/// Moves what is there into `memory`, in commits of a few records.
pub async fn moved(
    source: Arc<dyn Source>,
    memory: &Memory,
    duplicates: Duplicates,
    until: Until,
    stop: Stop,
) -> Result<Summary, RunError> {
    moved_to(source, Sink::CoCommit(Arc::new(memory.clone())), duplicates, until, stop).await
}

/// Moves what is there into a sink, in commits of a few records.
pub async fn moved_to(
    source: Arc<dyn Source>,
    sink: Sink,
    duplicates: Duplicates,
    until: Until,
    stop: Stop,
) -> Result<Summary, RunError> {
    let commit = CommitLimit { interval_ms: Some(50), records_max: Some(70), ..CommitLimit::default() };
    moved_in(commit, source, sink, duplicates, until, stop).await
}

/// Moves what is there into a sink, in commits of this size.
pub async fn moved_in(
    commit: CommitLimit,
    source: Arc<dyn Source>,
    sink: Sink,
    duplicates: Duplicates,
    until: Until,
    stop: Stop,
) -> Result<Summary, RunError> {
    let run = Run {
        source,
        transform: None,
        sink,
        ledger: None,
        identity: Identity::Key(vec!["id".to_owned()]),
        duplicates,
        on_error: OnError::SetAside,
        until,
        parallel: 4,
        applicant: Applicant {
            pipeline: PipelineName::new("queue").unwrap(),
            holder: "test".to_owned(),
            definition: "queue".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop,
        limits: Limits { batch_records_max: 50, commit, ..Limits::default() },
    };
    run.run().await
}

/// The `id` of every record, as they came.
pub fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let mut ids = Vec::new();
    for batch in batches {
        let column = batch.column_by_name("id").expect("a column `id`");
        let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Int64).unwrap();
        let column = column.as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
        ids.extend((0..column.len()).map(|row| column.value(row)));
    }
    ids
}

/// The `id`s, sorted.
pub fn sorted(batches: &[RecordBatch]) -> Vec<i64> {
    let mut ids = ids(batches);
    ids.sort_unstable();
    ids
}

/// Places and what stands there.
#[derive(Default)]
struct Seen {
    records: BTreeMap<Ordinal, Vec<u8>>,
    stood: Option<Position>,
}

impl Seen {
    fn take(&mut self, batch: &Batch) {
        assert_eq!(batch.after, self.stood, "a batch does not start where the last one ended");
        let forward = self.stood.as_ref().is_none_or(|stood| batch.through > *stood);
        assert!(forward, "a position does not move forward");
        self.stood = Some(batch.through.clone());
        let columns: Vec<usize> = (0..batch.records.num_columns()).collect();
        let rows = Rows::new(&batch.records, &columns).unwrap();
        for row in 0..batch.records.num_rows() {
            let mut bytes = Vec::new();
            rows.encode(row, &mut bytes).unwrap();
            let twice = self.records.insert(batch.ordinals.of(row), bytes);
            assert!(twice.is_none(), "two messages stand at one place");
        }
    }

    fn contents(&self) -> BTreeSet<&Vec<u8>> {
        self.records.values().collect()
    }
}

async fn rest(reader: &mut dyn SplitReader, seen: &mut Seen, records_max: usize, limit: ReadLimit) {
    while seen.records.len() < records_max {
        let read = tokio::time::timeout(PATIENCE, reader.read(limit)).await.expect("a read does not end");
        let Some(batch) = read.unwrap() else { break };
        seen.take(&batch);
    }
}

async fn opened(source: &dyn Source, after: Option<&Position>) -> Box<dyn SplitReader> {
    let splits = source.splits().await.unwrap();
    source.open(&splits[0].id, after).await.unwrap()
}

async fn what_is_not_acknowledged_comes_again_elsewhere(subject: &impl Subject) {
    subject.create("again").await;
    subject.publish("again", 0..40).await;
    let source = subject.open("again", 1).await;
    let facts = source.facts();
    assert_eq!(
        (facts.replay, facts.settle, facts.order, source.extent()),
        (Replay::Identified, Settle::PerMessage, Order::None, Extent::Growing)
    );
    let mut places = BTreeSet::new();
    let (mut after, mut contents): (Option<Position>, Option<BTreeSet<Vec<u8>>>) = (None, None);
    for round in 0..3 {
        let mut reader = opened(source.as_ref(), after.as_ref()).await;
        let mut seen = Seen { stood: after.clone(), ..Seen::default() };
        rest(reader.as_mut(), &mut seen, usize::MAX, NARROW).await;
        assert_eq!(seen.records.len(), 40, "round {round}: what nobody acknowledged comes again");
        let now: BTreeSet<Vec<u8>> = seen.contents().into_iter().cloned().collect();
        assert_eq!(*contents.get_or_insert(now.clone()), now, "round {round}: other records came again");
        for place in seen.records.keys() {
            assert!(places.insert(*place), "round {round}: a message came again at its old place");
            assert!(i64::try_from(*place).is_ok(), "a place that databases cannot hold");
        }
        // The second round begins without a position, as a run that never committed.
        after = if round == 0 { None } else { seen.stood };
    }
    assert_eq!(subject.holds("again").await, 40);
}

async fn what_took_effect_is_acknowledged_and_never_comes_again(subject: &impl Subject) {
    subject.create("acknowledged").await;
    subject.publish("acknowledged", 0..300).await;
    let memory = Memory::default();
    for (records, duplicates) in [(300_u64, Duplicates::Drop), (0, Duplicates::Keep)] {
        let source = subject.open("acknowledged", 1).await;
        let summary = moved(source, &memory, duplicates, Until::End, Stop::default()).await.unwrap();
        assert_eq!((summary.totals.read, summary.totals.moved), (records, records));
        assert_eq!(subject.holds("acknowledged").await, 0, "what took effect was not acknowledged");
    }
    subject.publish("acknowledged", 300..310).await;
    let source = subject.open("acknowledged", 1).await;
    let summary = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.suppressed), (10, 0));
    assert_eq!(sorted(&memory.batches()), (0..310).collect::<Vec<_>>());
}

/// Every message published twice, and given out three times.
async fn a_storm_of_redeliveries_takes_effect_once(subject: &impl Subject) {
    subject.create("storm").await;
    subject.publish("storm", 0..200).await;
    subject.publish("storm", 0..200).await;
    let memory = Memory::default();
    for _ in 0..2 {
        let source = subject.open("storm", 1).await;
        let mut reader = opened(source.as_ref(), None).await;
        let mut seen = Seen::default();
        rest(reader.as_mut(), &mut seen, 400, WIDE).await;
        assert_eq!(seen.records.len(), 400);
    }
    let source = subject.open("storm", 1).await;
    let summary = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.suppressed), (200, 200));
    assert_eq!(sorted(&memory.batches()), (0..200).collect::<Vec<_>>());
    assert_eq!(subject.holds("storm").await, 0);
}

async fn workers_share_a_queue(subject: &impl Subject) {
    subject.create("shared").await;
    subject.publish("shared", 0..500).await;
    subject.publish("shared", 0..500).await;
    let (memory, source) = (Memory::default(), subject.open("shared", 2).await);
    assert_eq!(source.splits().await.unwrap().len(), 2);
    let summary = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!(summary.totals.moved, 500);
    assert_eq!(sorted(&memory.batches()), (0..500).collect::<Vec<_>>());
    assert_eq!(subject.holds("shared").await, 0);
}

async fn a_dropped_read_loses_nothing(subject: &impl Subject) {
    subject.create("dropped").await;
    subject.publish("dropped", 0..60).await;
    let source = subject.open("dropped", 1).await;
    let mut reader = opened(source.as_ref(), None).await;
    let mut seen = Seen::default();
    loop {
        for _ in 0..3 {
            if let Some(read) = reader.read(NARROW).now_or_never()
                && let Some(batch) = read.unwrap()
            {
                seen.take(&batch);
            }
        }
        let before = seen.records.len();
        rest(reader.as_mut(), &mut seen, before + 1, NARROW).await;
        if seen.records.len() == before {
            break;
        }
    }
    assert_eq!(seen.contents().len(), 60, "a read that was dropped lost or repeated messages");
    assert_eq!(seen.records.len(), 60, "a read that was dropped repeated messages");
}

async fn the_end_is_not_the_end_of_a_queue_that_grows(subject: &impl Subject) {
    subject.create("growing").await;
    let source = subject.open("growing", 1).await;
    let mut reader = opened(source.as_ref(), None).await;
    assert!(reader.read(WIDE).await.unwrap().is_none(), "an empty queue has a record");
    assert!(reader.more().now_or_never().is_none(), "nothing came, and there is more");
    subject.publish("growing", 0..1).await;
    tokio::time::timeout(PATIENCE, reader.more()).await.expect("what came is not noticed").unwrap();
    let batch = reader.read(WIDE).await.unwrap().expect("there is more, and nothing is read");
    assert_eq!(ids(&[batch.records]), [0]);
    drop(reader);

    let (memory, stop) = (Memory::default(), Stop::default());
    let source = subject.open("growing", 1).await;
    let run = moved(source, &memory, Duplicates::Drop, Until::Stopped, stop.clone());
    let feeding = async {
        for id in 1..30 {
            subject.publish("growing", id..id + 1).await;
        }
        while memory.rows() < 30 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.request();
    };
    let both = async { futures::future::join(run, feeding).await };
    let (summary, ()) = tokio::time::timeout(PATIENCE, both).await.expect("not all of it arrives");
    assert_eq!(summary.unwrap().totals.moved, 30);
    assert_eq!(sorted(&memory.batches()), (0..30).collect::<Vec<_>>());
    assert_eq!(subject.holds("growing").await, 0);
}

async fn a_message_that_is_no_record_is_set_aside_and_acknowledged(subject: &impl Subject) {
    subject.create("spoiled").await;
    subject.publish("spoiled", 0..3).await;
    subject.spoil("spoiled").await;
    subject.publish("spoiled", 3..5).await;
    let source = subject.open("spoiled", 1).await;
    let mut reader = opened(source.as_ref(), None).await;
    let mut ids_of_rejected = BTreeSet::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        ids_of_rejected.extend(batch.rejected.iter().map(|rejected| rejected.id));
    }
    drop(reader);
    assert_eq!(ids_of_rejected.len(), 1);
    assert!(ids_of_rejected.first().unwrap().is_some(), "what was rejected is not told from others");
    let memory = Memory::default();
    let summary =
        moved(Arc::clone(&source), &memory, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (5, 1));
    assert_eq!(subject.holds("spoiled").await, 0, "what was set aside comes again");
    let letters = memory.letters();
    assert_eq!(letters.len(), 1);
    assert!(source.rejects_with(letters[0].code) && !letters[0].reason.is_empty());
    assert!(source.reread(&letters[0]).await.is_err(), "no record was read out of it");
}

/// A commit that neither time nor records would end for long.
const ENDLESS: CommitLimit =
    CommitLimit { records_max: Some(u64::MAX), bytes_max: Some(u64::MAX), interval_ms: Some(3_600_000) };

async fn a_commit_goes_by_bytes_too(subject: &impl Subject) {
    subject.create("bytes").await;
    subject.publish("bytes", 0..200).await;
    let source = subject.open("bytes", 1).await;
    let (memory, stop) = (Memory::default(), Stop::default());
    let sink = Sink::CoCommit(Arc::new(memory.clone()));
    let by_bytes = CommitLimit { bytes_max: Some(4_096), ..ENDLESS };
    let run = moved_in(by_bytes, source, sink, Duplicates::Drop, Until::Stopped, stop.clone());
    let looking = async {
        // What is open when it is asked to stop is committed, too.
        while memory.rows() < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.request();
    };
    let both = futures::future::join(run, looking);
    let (summary, ()) =
        tokio::time::timeout(PATIENCE, both).await.expect("nothing is committed by its bytes");
    let by_bytes = summary.unwrap().commits;

    subject.create("bytes-never").await;
    subject.publish("bytes-never", 0..200).await;
    let source = subject.open("bytes-never", 1).await;
    let sink = Sink::CoCommit(Arc::new(Memory::default()));
    let run = moved_in(ENDLESS, source, sink, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!((run.totals.moved, run.commits), (200, 1), "nothing ends this commit but the end");
    assert!(by_bytes > 1, "only {by_bytes} commits by bytes");
    assert_eq!(subject.holds("bytes-never").await, 0);
}

async fn a_slow_destination_leaves_the_rest_in_the_queue(subject: &impl Subject) {
    const MESSAGES: u64 = 1_200;
    let in_hand_max = subject.in_hand_max();
    subject.create("slow").await;
    subject.publish("slow", 0..1_200).await;
    let (memory, source) = (Memory::default(), subject.open("slow", 1).await);
    memory.shut();
    let run = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default());
    // What is acknowledged took effect before; so this many at most are not, at any time.
    let given = async || {
        let given = MESSAGES - subject.waits("slow").await;
        let acknowledged_max = u64::try_from(memory.rows()).unwrap();
        let open = given.saturating_sub(acknowledged_max);
        assert!(open <= in_hand_max, "{open} messages are given out and not acknowledged, not {in_hand_max}");
        given
    };
    let looking = async {
        while given().await < in_hand_max {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..20 {
            given().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(memory.rows(), 0, "a destination that is shut took something");
        memory.open();
        while given().await < MESSAGES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let both = futures::future::join(run, looking);
    let (summary, ()) = tokio::time::timeout(PATIENCE * 2, both).await.expect("it does not go on");
    assert_eq!(summary.unwrap().totals.moved, MESSAGES);
    assert_eq!(sorted(&memory.batches()), (0..1_200).collect::<Vec<_>>());
    assert_eq!(subject.holds("slow").await, 0);
}
