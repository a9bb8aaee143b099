//! Destinations that keep nothing, with a table as keeper.

use std::sync::Mutex;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use hapax_protocol::guarantee::{Durability, Guard, InDoubt, Window};
use hapax_protocol::identity::Token;
use hapax_protocol::position::SplitId;

use super::*;
use crate::Fut;
use crate::codes;
use crate::fault::SinkError;
use crate::sink::{CommitSize, Kept, Past, Repeat, Sender, Sending, Sent, Shape, Target};

/// Values that were sent, each with its token.
type Seen = Vec<(i64, Option<Token>)>;

/// A service that writes down what it was sent.
#[derive(Clone)]
struct Service {
    repeat: Repeat,
    sent: Arc<Mutex<Seen>>,
    /// From how many records on it answers no more.
    silent_from: Arc<Mutex<usize>>,
    /// Which of the values that it has it is asked for, and finds.
    finds: Option<fn(i64) -> bool>,
}

impl Service {
    fn new(repeat: Repeat) -> Self {
        Self { repeat, sent: Arc::default(), silent_from: Arc::new(Mutex::new(usize::MAX)), finds: None }
    }

    fn values(&self) -> Vec<i64> {
        self.sent.lock().unwrap().iter().map(|(value, _)| *value).collect()
    }
}

impl Target for Service {
    fn repeat(&self) -> Repeat {
        self.repeat
    }
    fn durability(&self) -> Durability {
        Durability::Durable
    }
    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 30, bytes_max: 1 << 20, interval_ms: 10_000 }
    }
    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }
    fn read_back(&self, _: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async { panic!("nobody asked for it") })
    }
    fn looks(&self) -> bool {
        self.finds.is_some()
    }
    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let sender: Box<dyn Sender> = Box::new(self.clone());
        Box::pin(async move { Ok(sender) })
    }
}

impl Sender for Service {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        let records: &RecordBatch = sending.records;
        let values = records.column(0).as_primitive::<Int64Type>().values().to_vec();
        let tokens = sending.tokens.to_vec();
        Box::pin(async move {
            let mut sent = self.sent.lock().unwrap();
            let is_silent = sent.len() >= *self.silent_from.lock().unwrap();
            let of = |row: usize| tokens.get(row).copied();
            sent.extend(values.iter().enumerate().map(|(row, value)| (*value, of(row))));
            let unknown = if is_silent { (0..values.len()).collect() } else { Vec::new() };
            Ok(Sent { refused: Vec::new(), unknown })
        })
    }

    fn look<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Vec<bool>, SinkError> {
        let values = sending.records.column(0).as_primitive::<Int64Type>().values().to_vec();
        let (known, finds) = (self.values(), self.finds);
        let found = |value: &i64| known.contains(value) && finds.is_some_and(|finds| finds(*value));
        let all = values.iter().map(found).collect();
        Box::pin(async { Ok(all) })
    }
}

const HOLD: Repeat = Repeat::Adds { in_doubt: InDoubt::Hold };

fn dropped(past: Past) -> Repeat {
    Repeat::Dropped { window: Window(60_000), under_way: Window(1_000), past }
}

/// A clock that stands where it is put.
struct Standing(u64);

impl Clock for Standing {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn unix_ms(&self) -> u64 {
        self.0
    }
}

fn run_at(tape: &Tape, keeper: &Table, service: &Service, unix_ms: u64) -> Run {
    Run {
        sink: Sink::Kept(Kept { target: Arc::new(service.clone()), keeper: Arc::new(keeper.clone()) }),
        clock: Arc::new(Standing(unix_ms)),
        limits: Limits { batch_records_max: 10, outage_ms: 0, ..Limits::default() },
        ..run_of(tape, keeper)
    }
}

#[tokio::test]
async fn records_go_to_the_target_and_positions_to_the_keeper() {
    for repeat in [Repeat::Replaces { guard: Guard::None }, dropped(Past::Stop), HOLD] {
        let (tape, keeper, service) =
            (Tape::of(&[("a", 0..45), ("b", 100..107)]), Table::default(), Service::new(repeat));
        let summary = run_at(&tape, &keeper, &service, 1_000_000).run().await.unwrap();
        assert_eq!(summary.totals.moved, 52);
        assert_eq!(service.values().len(), 52);
        assert!(keeper.values().is_empty(), "the keeper is given no records");
        let kept = run_at(&tape, &keeper, &service, 1_000_000);
        let pipeline = &kept.applicant.pipeline;
        let splits = kept.sink.destination().standings(pipeline).await.unwrap();
        let names: Vec<&str> = splits.iter().map(|(split, _)| split.as_str()).collect();
        assert_eq!(names, ["a", "b"], "announcements are no splits");
        run_at(&tape, &keeper, &service, 1_000_000).run().await.unwrap();
        assert_eq!(service.values().len(), 52, "nothing is sent again");
    }
}

#[tokio::test]
async fn a_record_whose_end_is_not_known_is_held_and_not_sent_again() {
    let (tape, keeper, service) = (Tape::of(&[("a", 0..45)]), Table::default(), Service::new(HOLD));
    *service.silent_from.lock().unwrap() = 30;
    let summary = run_at(&tape, &keeper, &service, 1).run().await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (30, 15));
    let letters = keeper.letters();
    assert!(letters.iter().all(|letter| letter.code == codes::IN_DOUBT));
    assert_eq!(letters.len(), 15);
    let error = replay_letters(run_at(&tape, &keeper, &service, 1), &letters).await.unwrap_err();
    assert!(matches!(error, RunError::NoReplay), "{error}");
    assert_eq!(service.values().len(), 45);
    let dropped = drop_letters(run_at(&tape, &keeper, &service, 1), &letters).await.unwrap();
    assert_eq!(dropped.dropped.len(), 15);
}

#[tokio::test]
async fn what_was_announced_and_not_committed_is_held_by_the_next_run() {
    let (tape, keeper, service) = (Tape::of(&[("a", 0..45)]), Table::default(), Service::new(HOLD));
    // Of each batch the announcement is one commit and the position another: the second batch loses the latter.
    keeper.plan(4, Planned::Unavailable);
    run_at(&tape, &keeper, &service, 1).run().await.unwrap_err();
    assert_eq!(service.values().len(), 20);
    keeper.heal();
    let summary = run_at(&tape, &keeper, &service, 1).run().await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (25, 10));
    let held: Vec<u64> = keeper.letters().iter().map(|letter| letter.place.ordinal).collect();
    assert_eq!(held, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_announced_and_is_found_is_neither_held_nor_sent_again() {
    const RESEND: Repeat = Repeat::Adds { in_doubt: InDoubt::Resend };
    let all: fn(i64) -> bool = |_| true;
    let even: fn(i64) -> bool = |value| value % 2 == 0;
    for (repeat, finds, moved, held, sent) in
        [(HOLD, all, 35, 0, 45), (HOLD, even, 30, 5, 45), (RESEND, all, 35, 0, 45), (RESEND, even, 35, 0, 50)]
    {
        let (tape, keeper) = (Tape::of(&[("a", 0..45)]), Table::default());
        let service = Service { finds: Some(finds), ..Service::new(repeat) };
        // Announced, committed, announced, and not committed.
        keeper.plan(4, Planned::Unavailable);
        run_at(&tape, &keeper, &service, 1).run().await.unwrap_err();
        assert_eq!(service.values().len(), 20);
        keeper.heal();
        let summary = run_at(&tape, &keeper, &service, 1).run().await.unwrap();
        let of_run = (summary.totals.moved, summary.totals.set_aside);
        assert_eq!((of_run, service.values().len()), ((moved, held), sent), "{repeat:?}");
        let mut values = service.values();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values, (0..45).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_retry_carries_the_same_tokens_and_past_the_window_nothing_is_sent() {
    for (later, past, ends_well) in [
        (59_000, Past::Stop, true),
        (59_001, Past::Stop, false),
        (59_001, Past::Hold, true),
        // The date went back: nobody knows how old it is.
        (-1, Past::Stop, false),
    ] {
        let (tape, keeper) = (Tape::of(&[("a", 0..25)]), Table::default());
        let service = Service::new(dropped(past));
        keeper.plan(4, Planned::Unavailable);
        run_at(&tape, &keeper, &service, 1_000_000).run().await.unwrap_err();
        keeper.heal();
        let then = 1_000_000_u64.checked_add_signed(later).unwrap();
        let ended = run_at(&tape, &keeper, &service, then).run().await;
        let sent = service.sent.lock().unwrap().clone();
        assert!(sent.iter().all(|(_, token)| token.is_some()));
        if ends_well && past == Past::Stop {
            ended.unwrap();
            assert_eq!(sent[10..20], sent[20..30], "the same tokens");
            assert_eq!(sent.len(), 35);
        } else if ends_well {
            assert_eq!(ended.unwrap().totals.set_aside, 10);
            assert_eq!(sent.len(), 25);
        } else {
            let error = ended.unwrap_err();
            assert_eq!(error.code(), codes::PAST_WINDOW, "{error}");
            assert_eq!(sent.len(), 20);
        }
    }
}

#[tokio::test]
async fn what_goes_beyond_an_unfinished_announcement_keeps_its_date() {
    let (tape, keeper, service) =
        (Tape::of(&[("a", 0..30)]), Table::default(), Service::new(dropped(Past::Stop)));
    // Announced at 1,000,000: records 10 to 20. The next run takes smaller batches and dies behind the first.
    keeper.plan(4, Planned::Unavailable);
    run_at(&tape, &keeper, &service, 1_000_000).run().await.unwrap_err();
    keeper.plan(6, Planned::Unavailable);
    let mut run = run_at(&tape, &keeper, &service, 1_050_000);
    run.limits.batch_records_max = 5;
    run.run().await.unwrap_err();
    keeper.heal();
    // 15 to 20 may have been sent at 1,000,000, whatever was committed since.
    let error = run_at(&tape, &keeper, &service, 1_070_000).run().await.unwrap_err();
    assert_eq!(error.code(), codes::PAST_WINDOW, "{error}");
}
