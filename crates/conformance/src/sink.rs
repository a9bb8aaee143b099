//! What every sink must do that keeps positions: co-commit and staged.

mod memory;

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hapax_engine::canonical::Rows;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::{CommitError, SinkError, SinkErrorKind};
use hapax_engine::sink::{Arrival, CoCommit, CommitId, Shape, Sink, Staged, Writer};
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};

use crate::types;

/// One destination under test.
pub trait Subject {
    /// Opens an empty destination under a name of its own; the same name opens the same destination, as
    /// another process would.
    fn open(&self, name: &str) -> impl Future<Output = Sink>;
    /// The ids that a reader of the destination sees now, sorted, read by other means than Hapax. It is
    /// called before anything exists, too.
    fn ids(&self, name: &str) -> Vec<i64>;
}

/// Runs every check.
pub async fn suite(subject: &impl Subject) {
    Case::new(subject, "invisible").uncommitted_work_is_invisible().await;
    Case::new(subject, "committed").a_commit_is_visible_and_found_again().await;
    Case::new(subject, "fenced").an_earlier_holder_is_refused().await;
    Case::new(subject, "late").a_holder_that_wakes_up_late_is_refused().await;
    Case::new(subject, "backwards").positions_never_move_back().await;
    Case::new(subject, "in-place").a_commit_may_leave_the_position().await;
    Case::new(subject, "gone").what_is_not_there_holds_nothing().await;
    Case::new(subject, "letters").dead_letters_share_the_commit().await;
    Case::new(subject, "twins").claims_share_the_commit_or_are_safe_to_replay().await;
    Case::new(subject, "withdrawn").a_withdrawn_claim_leaves_the_identity_free().await;
    Case::new(subject, "history").what_was_done_is_remembered_with_the_commit().await;
    Case::new(subject, "again").what_is_moved_again_is_remembered().await;
    Case::new(subject, "idle").a_restart_with_nothing_to_do_changes_nothing().await;
    Case::new(subject, "definition").another_definition_is_refused().await;
    Case::new(subject, "splits").splits_stand_by_themselves().await;
    Case::new(subject, "types").every_type_survives_the_round_trip().await;
}

struct Case<'a, S> {
    subject: &'a S,
    name: &'static str,
}

/// A writer of either mechanism, seen as one.
enum Pen {
    CoCommit(Box<dyn CoCommit>),
    Staged(Box<dyn Staged>),
}

impl Pen {
    async fn of(sink: &Sink, split: &SplitId) -> Self {
        match sink {
            Sink::CoCommit(sink) => Self::CoCommit(sink.writer(split).await.unwrap()),
            Sink::Staged(sink) => Self::Staged(sink.writer(split).await.unwrap()),
            Sink::Append(_) | Sink::Kept(_) => panic!("a sink that keeps no positions itself"),
        }
    }

    fn effects(&mut self) -> &mut dyn Writer {
        match self {
            Self::CoCommit(pen) => pen.as_mut(),
            Self::Staged(pen) => pen.as_mut(),
        }
    }

    async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        match self {
            Self::CoCommit(pen) => pen.commit(checkpoint).await,
            Self::Staged(pen) => {
                let commit = pen.stage(checkpoint).await.map_err(CommitError::Refused)?;
                assert_eq!(commit, CommitId { split: split(), epoch: checkpoint.epoch });
                pen.publish(&commit).await
            }
        }
    }
}

fn split() -> SplitId {
    SplitId::new("some/file.csv#0")
}

fn at(place: u8) -> Position {
    Position::new([place].as_slice())
}

fn checkpoint(standing: &Standing, through: u8, records: u64) -> Checkpoint {
    Checkpoint {
        after: standing.position.clone(),
        through: at(through),
        epoch: standing.epoch.next(),
        totals: standing.totals.plus(Totals { read: records, moved: records, ..Totals::default() }),
        again: Vec::new(),
        made_unix_ms: 1_700_000_000_000,
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]))
}

fn records(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let text: Vec<String> = ids.iter().map(|id| format!("record {id}")).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(text))])
        .unwrap()
}

fn letter(ordinal: u64) -> DeadLetter {
    DeadLetter {
        place: Place { split: split(), ordinal },
        code: Code(299),
        reason: "a \"reason\"\nof two lines".to_owned(),
        raw: "raw,\"bytes\"\n\u{FFFD}".to_owned(),
        set_aside_unix_ms: 1_700_000_000_000,
    }
}

fn arrival(id: u8, ordinal: u64) -> Arrival {
    Arrival { id: RecordId([id; 16]), ordinal }
}

fn is_fenced(error: &SinkError) -> bool {
    error.kind == SinkErrorKind::Fenced
}

impl<S: Subject> Case<'_, S> {
    fn new<'a>(subject: &'a S, name: &'static str) -> Case<'a, S> {
        Case { subject, name }
    }

    fn applicant(&self, definition: &str) -> Applicant {
        Applicant {
            pipeline: PipelineName::new("conformance").unwrap(),
            holder: "conformance".to_owned(),
            definition: definition.to_owned(),
        }
    }

    /// A new run: the destination opened anew, prepared, the lease acquired.
    async fn run(&self) -> (Sink, Lease) {
        let sink = self.subject.open(self.name).await;
        sink.destination().prepare(&Shape { schema: schema(), key: Vec::new() }).await.unwrap();
        let lease = sink.destination().acquire(&self.applicant("one")).await.unwrap();
        (sink, lease)
    }

    async fn pen(&self, sink: &Sink, lease: &Lease) -> (Pen, Standing) {
        let mut pen = Pen::of(sink, &split()).await;
        let standing = pen.effects().take_over(lease).await.unwrap();
        (pen, standing)
    }

    /// Finishes a run, so that what becomes visible as a whole is visible.
    async fn ids(&self, sink: &Sink, lease: &Lease) -> Vec<i64> {
        sink.destination().finish(lease).await.unwrap();
        self.subject.ids(self.name)
    }

    async fn uncommitted_work_is_invisible(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        assert_eq!(standing, Standing::default(), "{}: a new split stands somewhere", self.name);
        assert!(pen.effects().write(&records(0..100)).await.unwrap().is_empty());
        pen.effects().set_aside(&[letter(5)]).await.unwrap();
        assert!(self.subject.ids(self.name).is_empty(), "uncommitted records are visible");
        pen.effects().abort().await.unwrap();
        assert!(pen.effects().write(&records(100..200)).await.unwrap().is_empty());
        drop(pen);
        drop(sink);

        let (sink, lease) = self.run().await;
        let (_, standing) = self.pen(&sink, &lease).await;
        assert_eq!(standing, Standing::default(), "an uncommitted position was kept");
        assert!(self.ids(&sink, &lease).await.is_empty(), "uncommitted records became visible");
        let letters = sink.destination().dead_letters(&lease.pipeline, 10).await.unwrap();
        assert!(letters.is_empty(), "an uncommitted dead letter was kept");
    }

    async fn a_commit_is_visible_and_found_again(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        assert!(pen.effects().write(&records(0..100)).await.unwrap().is_empty());
        assert!(pen.effects().write(&records(100..150)).await.unwrap().is_empty());
        let first = checkpoint(&standing, 1, 150);
        pen.commit(&first).await.unwrap();
        // The answer may be lost now: a new take-over must find the commit.
        let (mut pen, found) = self.pen(&sink, &lease).await;
        assert_eq!(found, first.standing(), "a commit is not found again by the same run");
        assert!(pen.effects().write(&records(150..160)).await.unwrap().is_empty());
        let second = checkpoint(&found, 2, 10);
        pen.commit(&second).await.unwrap();
        assert_eq!(self.ids(&sink, &lease).await, (0..160).collect::<Vec<_>>());
        drop((pen, sink));

        let (sink, lease) = self.run().await;
        let (_, found) = self.pen(&sink, &lease).await;
        assert_eq!(found, second.standing(), "a commit is not found again by the next run");
        let standings = sink.destination().standings(&lease.pipeline).await.unwrap();
        assert_eq!(standings, [(split(), second.standing())]);
    }

    async fn an_earlier_holder_is_refused(&self) {
        let (old, old_lease) = self.run().await;
        let (mut old_pen, standing) = self.pen(&old, &old_lease).await;
        let (new, new_lease) = self.run().await;
        assert!(new_lease.token > old_lease.token, "a later lease has no greater token");
        let (mut new_pen, _) = self.pen(&new, &new_lease).await;
        // Whatever the old one tries now, at the latest its commit is refused.
        let commit = checkpoint(&standing, 1, 50);
        let wrote = old_pen.effects().write(&records(1000..1050)).await;
        let refused = match wrote {
            Err(error) => error,
            Ok(_) => match old_pen.commit(&commit).await {
                Err(CommitError::Refused(error)) => error,
                other => panic!("an earlier holder's commit ended as {other:?}"),
            },
        };
        assert!(is_fenced(&refused), "an earlier holder was refused, but not as fenced: {refused}");
        let _ = old_pen.effects().abort().await;
        let mut again = Pen::of(&old, &split()).await;
        let error = again.effects().take_over(&old_lease).await.unwrap_err();
        assert!(is_fenced(&error), "an earlier holder could take over again");
        drop((old_pen, again));

        assert!(new_pen.effects().write(&records(0..50)).await.unwrap().is_empty());
        new_pen.commit(&commit).await.unwrap();
        assert_eq!(self.ids(&new, &new_lease).await, (0..50).collect::<Vec<_>>());
    }

    async fn a_holder_that_wakes_up_late_is_refused(&self) {
        let (old, old_lease) = self.run().await;
        let (mut old_pen, standing) = self.pen(&old, &old_lease).await;
        let commit = checkpoint(&standing, 1, 50);
        let staged = match &mut old_pen {
            Pen::Staged(pen) => {
                assert!(pen.write(&records(1000..1050)).await.unwrap().is_empty());
                Some(pen.stage(&commit).await.unwrap())
            }
            // In a transaction nothing can be between staging and publishing: the lock is held, or nothing is.
            Pen::CoCommit(_) => None,
        };
        let unfinished = old.destination().unfinished(&old_lease.pipeline).await.unwrap();
        assert_eq!(unfinished, [], "what is staged and not decided is no commit");
        let (new, new_lease) = self.run().await;
        let (mut new_pen, _) = self.pen(&new, &new_lease).await;
        assert!(new_pen.effects().write(&records(0..50)).await.unwrap().is_empty());
        new_pen.commit(&commit).await.unwrap();
        if let (Pen::Staged(pen), Some(staged)) = (&mut old_pen, staged) {
            match pen.publish(&staged).await {
                Err(CommitError::Refused(error)) if is_fenced(&error) => {}
                other => panic!("a late holder published, or was not fenced: {other:?}"),
            }
        } else {
            let wrote = old_pen.effects().write(&records(1000..1050)).await;
            let refused = match wrote {
                Err(error) => is_fenced(&error),
                Ok(_) => {
                    matches!(old_pen.commit(&commit).await, Err(CommitError::Refused(e)) if is_fenced(&e))
                }
            };
            assert!(refused, "a late holder's commit was not refused as fenced");
        }
        let _ = old_pen.effects().abort().await;
        drop((old_pen, old));
        assert_eq!(self.ids(&new, &new_lease).await, (0..50).collect::<Vec<_>>());
    }

    async fn positions_never_move_back(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..10)).await.unwrap();
        let first = checkpoint(&standing, 5, 10);
        pen.commit(&first).await.unwrap();
        // The same step again, from a position the sink no longer holds.
        pen.effects().write(&records(0..10)).await.unwrap();
        let stale = Checkpoint { through: at(3), ..first.clone() };
        assert!(
            matches!(pen.commit(&stale).await, Err(CommitError::Refused(_))),
            "a commit from a position that the sink does not hold was accepted"
        );
        let _ = pen.effects().abort().await;
        let (_, found) = self.pen(&sink, &lease).await;
        assert_eq!(found, first.standing());
        assert_eq!(self.ids(&sink, &lease).await, (0..10).collect::<Vec<_>>());
    }

    async fn a_commit_may_leave_the_position(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..20)).await.unwrap();
        let mut stands = checkpoint(&standing, 1, 20).standing();
        pen.commit(&checkpoint(&standing, 1, 20)).await.unwrap();
        // What a destination lost is moved again behind the position.
        for id in [20, 21] {
            pen.effects().write(&records([id])).await.unwrap();
            let in_place = checkpoint(&stands, 1, 0);
            pen.commit(&in_place).await.unwrap();
            stands = in_place.standing();
        }
        assert!(!sink.destination().is_waiting(&lease.pipeline).await.unwrap() || self.is_whole(0..20));
        assert_eq!(self.ids(&sink, &lease).await, (0..22).collect::<Vec<_>>());
        assert!(!sink.destination().is_waiting(&lease.pipeline).await.unwrap(), "finished, and waits");
        let (mut pen, found) = self.pen(&sink, &lease).await;
        assert_eq!(found, stands, "the position moved, or the epoch did not");
        pen.effects().write(&records([22])).await.unwrap();
        let again = Checkpoint { epoch: stands.epoch, ..checkpoint(&stands, 1, 0) };
        assert!(pen.commit(&again).await.is_err(), "a commit that leaves the position passes twice");
        let (_, found) = self.pen(&sink, &lease).await;
        assert_eq!(found, stands);
    }

    /// Whether the destination shows nothing of these records yet, because it is published as a whole.
    fn is_whole(&self, ids: std::ops::Range<i64>) -> bool {
        !self.subject.ids(self.name).iter().any(|id| ids.contains(id))
    }

    async fn what_is_not_there_holds_nothing(&self) {
        let sink = self.subject.open(self.name).await;
        let there = sink.destination().read_back(schema()).await.unwrap();
        assert_eq!(there.splits().await.unwrap(), [], "records of nowhere");
    }

    async fn a_restart_with_nothing_to_do_changes_nothing(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..20)).await.unwrap();
        let first = checkpoint(&standing, 1, 20);
        pen.commit(&first).await.unwrap();
        assert_eq!(self.ids(&sink, &lease).await, (0..20).collect::<Vec<_>>());
        drop((pen, sink));
        for _ in 0..2 {
            let (sink, lease) = self.run().await;
            let (_, found) = self.pen(&sink, &lease).await;
            assert_eq!(found, first.standing());
            assert_eq!(self.ids(&sink, &lease).await, (0..20).collect::<Vec<_>>());
        }
    }

    async fn another_definition_is_refused(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..5)).await.unwrap();
        pen.commit(&checkpoint(&standing, 1, 5)).await.unwrap();
        drop((pen, sink));
        let sink = self.subject.open(self.name).await;
        let refused = sink.destination().acquire(&self.applicant("two")).await.unwrap_err();
        assert_eq!(refused.kind, SinkErrorKind::Stop, "{refused}");
        self.run().await;
    }

    async fn splits_stand_by_themselves(&self) {
        let (sink, lease) = self.run().await;
        let other = SplitId::new("some/file.csv#10");
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..5)).await.unwrap();
        pen.commit(&checkpoint(&standing, 1, 5)).await.unwrap();
        let mut second = Pen::of(&sink, &other).await;
        let standing = second.effects().take_over(&lease).await.unwrap();
        assert_eq!(standing, Standing::default(), "a split stands where another one does");
        second.effects().write(&records(5..9)).await.unwrap();
        second.effects().abort().await.unwrap();
        drop(second);
        let standings = sink.destination().standings(&lease.pipeline).await.unwrap();
        let committed: Vec<_> =
            standings.iter().filter(|(_, standing)| standing.position.is_some()).collect();
        assert_eq!(committed.len(), 1);
        assert_eq!(self.ids(&sink, &lease).await, (0..5).collect::<Vec<_>>());
    }

    async fn every_type_survives_the_round_trip(&self) {
        let difficult = types::difficult();
        let shape = Shape { schema: difficult.schema(), key: vec!["id".to_owned()] };
        let sink = self.subject.open(self.name).await;
        sink.destination().check(&shape).await.unwrap();
        sink.destination().prepare(&shape).await.unwrap();
        let lease = sink.destination().acquire(&self.applicant("one")).await.unwrap();
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        let refused = pen.effects().write(&difficult).await.unwrap();
        assert!(refused.is_empty(), "refused: {refused:?}");
        pen.commit(&checkpoint(&standing, 1, 5)).await.unwrap();
        sink.destination().finish(&lease).await.unwrap();
        let back = sink.destination().read_back(difficult.schema()).await.unwrap();
        let mut found = Vec::new();
        for split in back.splits().await.unwrap() {
            let mut reader = back.open(&split.id, None).await.unwrap();
            let limit = hapax_engine::batch::ReadLimit { records_max: 100, bytes_max: 1 << 24 };
            while let Some(batch) = reader.read(limit).await.unwrap() {
                assert!(batch.rejected.is_empty(), "read back: {:?}", batch.rejected);
                found.extend(encoded(&batch.records));
            }
        }
        found.sort();
        let mut expected = encoded(&difficult);
        expected.sort();
        for (found, expected) in found.iter().zip(&expected) {
            for ((column, found), (_, expected)) in found.iter().zip(expected) {
                assert_eq!(found, expected, "column `{column}` did not survive the round trip");
            }
        }
        assert_eq!(found.len(), expected.len());
    }
}

/// Each record as (column, canonical bytes), in the order of the columns; `id` first.
fn encoded(records: &RecordBatch) -> Vec<Vec<(String, Vec<u8>)>> {
    let schema = records.schema();
    let ids = records.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    assert_eq!(ids.null_count(), 0);
    (0..records.num_rows())
        .map(|row| {
            let columns = schema.fields().iter().enumerate().map(|(column, field)| {
                let mut bytes = Vec::new();
                Rows::new(records, &[column]).unwrap().encode(row, &mut bytes).unwrap();
                (field.name().clone(), bytes)
            });
            columns.collect()
        })
        .collect()
}
