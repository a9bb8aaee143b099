//! What writes to a destination by key, whether it keeps positions itself or is sent records only.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_engine::sink::{CoCommit, Sender, Sending, Shape, Sink};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::guarantee::Guard;
use hapax_protocol::lease::{Applicant, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};

/// One record: id, version, text.
pub(super) type Record<'a> = (Option<i64>, i64, &'a str);

fn schema(guard: Guard) -> SchemaRef {
    let mut fields = vec![Field::new("id", DataType::Int64, true)];
    if guard == Guard::Version {
        fields.push(Field::new("version", DataType::Int64, true));
    }
    fields.push(Field::new("text", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn of(rows: &[Record<'_>], guard: Guard) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))];
    if guard == Guard::Version {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))));
    }
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))));
    RecordBatch::try_new(schema(guard), columns).unwrap()
}

/// Records that all have a key.
pub(super) fn records(rows: &[(i64, i64, &str)], guard: Guard) -> RecordBatch {
    of(&rows.iter().map(|(id, version, text)| (Some(*id), *version, *text)).collect::<Vec<_>>(), guard)
}

/// A writer of one split.
pub(super) struct Pen {
    /// It lives as long as what writes to it.
    _sink: Sink,
    guard: Guard,
    means: Means,
}

enum Means {
    Commits(Box<dyn CoCommit>, Standing),
    Sends(Box<dyn Sender>),
}

impl Pen {
    /// Begins as a new run does.
    pub(super) async fn begin(sink: Sink, guard: Guard) -> Self {
        let shape = Shape { schema: schema(guard), key: vec!["id".to_owned()] };
        let split = SplitId::new("keyed");
        let planned = sink.destination().check(&shape).await.unwrap();
        assert!(!planned.is_empty(), "a plan says nothing");
        sink.destination().prepare(&shape).await.unwrap();
        let pipeline = PipelineName::new("keyed").unwrap();
        let applicant = Applicant { pipeline, holder: "keyed".to_owned(), definition: "one".to_owned() };
        let lease = sink.destination().acquire(&applicant).await.unwrap();
        let means = match &sink {
            Sink::CoCommit(sink) => {
                let mut writer = sink.writer(&split).await.unwrap();
                let standing = writer.take_over(&lease).await.unwrap();
                Means::Commits(writer, standing)
            }
            Sink::Kept(kept) => Means::Sends(kept.target.sender(&split).await.unwrap()),
            Sink::Staged(_) | Sink::Append(_) => panic!("a sink that replaces nothing by key"),
        };
        Self { _sink: sink, guard, means }
    }

    /// Writes records; returns the rows that were refused.
    pub(super) async fn apply(&mut self, records: &RecordBatch) -> Vec<usize> {
        self.put(records, false).await
    }

    /// Writes records of which none may replace another; returns the rows that were refused.
    pub(super) async fn apply_absent(&mut self, records: &RecordBatch) -> Vec<usize> {
        self.put(records, true).await
    }

    /// Writes records; returns the rows that were refused.
    pub(super) async fn applied(&mut self, rows: &[Record<'_>]) -> Vec<usize> {
        self.apply(&of(rows, self.guard)).await
    }

    /// Writes records of which none may be refused.
    pub(super) async fn takes(&mut self, rows: &[(i64, i64, &str)]) {
        let refused = self.apply(&records(rows, self.guard)).await;
        assert!(refused.is_empty(), "records were refused that fit: rows {refused:?} of {rows:?}");
    }

    async fn put(&mut self, records: &RecordBatch, absent: bool) -> Vec<usize> {
        let refused = match &mut self.means {
            Means::Commits(writer, standing) => {
                let refused = match absent {
                    true => writer.write_absent(records).await.unwrap(),
                    false => writer.write(records).await.unwrap(),
                };
                let checkpoint = following(standing);
                writer.commit(&checkpoint).await.unwrap();
                *standing = checkpoint.standing();
                refused
            }
            Means::Sends(sender) => {
                let sending = Sending { records, tokens: &[], deadline: None };
                let sent = match absent {
                    true => sender.send_absent(sending).await.unwrap(),
                    false => sender.send(sending).await.unwrap(),
                };
                assert!(sent.unknown.is_empty(), "a healthy server left ends unknown: {:?}", sent.unknown);
                sent.refused
            }
        };
        rows(&refused)
    }
}

/// Each refused row once, in order, with a reason.
fn rows(refused: &[RefusedRow]) -> Vec<usize> {
    assert!(refused.iter().all(|row| !row.reason.is_empty()), "a row was refused for no reason: {refused:?}");
    let rows: Vec<usize> = refused.iter().map(|refused| refused.row).collect();
    assert!(rows.is_sorted_by(|one, two| one < two), "refused rows come in order, each once: {rows:?}");
    rows
}

fn following(standing: &Standing) -> Checkpoint {
    Checkpoint {
        after: standing.position.clone(),
        through: Position::new(standing.epoch.next().get().to_be_bytes().as_slice()),
        epoch: standing.epoch.next(),
        totals: standing.totals.plus(Totals { read: 1, moved: 1, ..Totals::default() }),
        again: Vec::new(),
        made_unix_ms: 1_700_000_000_000,
    }
}
