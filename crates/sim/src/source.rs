//! The simulated source, as the engine sees it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_checker::{Event, Record};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::durable::Durable;
use hapax_engine::fault::{Fault as Described, SinkError, SourceError};
use hapax_engine::identify::digest;
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_engine::wire::{WireBatch, WireFormat, WireReader, WireSource};
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Position, SplitId};

use crate::fault::Site;
use crate::plan::{Row, SourceKind};
use crate::process::{Lost, Process};
use crate::random::Random;
use crate::sink::records;
use crate::world::{Inner, split_name, split_number};

/// Why something did not work in the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Simulated {
    /// A request was not answered.
    #[error("a simulated request was not answered: {0:?}")]
    Lost(Lost),
    /// A later holder has the split.
    #[error("a later holder has it")]
    Fenced,
    /// The destination stands elsewhere.
    #[error("the destination stands elsewhere")]
    Diverged,
    /// It is too late to send anything.
    #[error("it is too late to send it")]
    Late,
    /// There is no such thing in the simulated world.
    #[error("the simulated world has no such thing")]
    Absent,
}

impl Described for Simulated {
    fn code(&self) -> Code {
        Code(199)
    }

    fn help(&self) -> String {
        "Replay the seed.".to_owned()
    }
}

impl From<Lost> for SourceError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disk => Self::stop(Simulated::Lost(lost)),
            Lost::Request | Lost::Answer | Lost::Refused => Self::unavailable(Simulated::Lost(lost)),
        }
    }
}

impl From<Lost> for SinkError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disk => Self::stop(Simulated::Lost(lost)),
            Lost::Request | Lost::Answer | Lost::Refused => Self::unavailable(Simulated::Lost(lost)),
        }
    }
}

/// The columns of a record.
pub fn schema() -> SchemaRef {
    let column = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("writer"), column("sequence"), column("hash")]))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn columns(records: &[Record]) -> Result<RecordBatch, SourceError> {
    let column = |of: fn(&Record) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(records.iter().map(|record| signed(of(record)))))
    };
    let columns =
        vec![column(|record| record.writer), column(|record| record.sequence), column(|record| record.hash)];
    RecordBatch::try_new(schema(), columns).map_err(|_| SourceError::stop(Simulated::Absent))
}

/// Two numbers as a position: in their order.
fn position(first: u64, second: u64) -> Position {
    let mut bytes = [0; 16];
    let (high, low) = bytes.split_at_mut(8);
    high.copy_from_slice(&first.to_be_bytes());
    low.copy_from_slice(&second.to_be_bytes());
    Position::new(bytes.as_slice())
}

fn numbers(position: &Position) -> (u64, u64) {
    let half =
        |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    let bytes = position.as_bytes();
    (half(bytes.get(..8)), half(bytes.get(8..)))
}

/// The source as one process sees it.
pub struct SimSource(pub Process);

impl SimSource {
    fn reader(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Reader, SourceError> {
        let (split, stood) = (split.clone(), after.cloned());
        Box::pin(async move {
            let order = self.0.call(Site::Look, |world| delivery(world, &split, stood.as_ref())).await?;
            let first = order.first;
            Ok(Reader { process: self.0.clone(), split, order, next: first, stood })
        })
    }
}

impl Source for SimSource {
    fn facts(&self) -> SourceFacts {
        let queue = self.0.world.now().plan.source == SourceKind::Queue;
        SourceFacts {
            completeness: Completeness::Complete,
            replay: if queue { Replay::Identified } else { Replay::Exact },
            retention: Retention::Unbounded,
            order: if queue { Order::None } else { Order::PerKey },
            settle: if queue { Settle::PerMessage } else { Settle::Seek },
            condition: None,
        }
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(async move {
            let count = self.0.call(Site::Look, |world| world.plan.splits.len()).await?;
            Ok((0..count).map(|number| Split { id: split_name(number), source_bytes: None }).collect())
        })
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let reader = self.reader(split, after);
        Box::pin(async move {
            let reader: Box<dyn SplitReader> = Box::new(reader.await?);
            Ok(reader)
        })
    }

    fn wire(&self) -> Option<&dyn WireSource> {
        self.0.world.now().plan.wire.then_some(self)
    }

    fn describe(&self, position: &Position) -> String {
        format!("{:?}", numbers(position))
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == Code(198)
    }

    fn reread(&self, _: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        Box::pin(async { Err(SourceError::stop(Simulated::Absent)) })
    }
}

impl WireSource for SimSource {
    fn format(&self) -> WireFormat {
        wire_format()
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn WireReader>, SourceError> {
        let reader = self.reader(split, after);
        Box::pin(async move {
            let reader: Box<dyn WireReader> = Box::new(Bare(reader.await?));
            Ok(reader)
        })
    }
}

/// The bytes of a record: its three numbers.
pub fn wire_format() -> WireFormat {
    WireFormat("three numbers".to_owned())
}

/// A reader that gives bytes.
struct Bare(Reader);

impl WireReader for Bare {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<WireBatch>, SourceError> {
        Box::pin(async move {
            let Some(batch) = self.0.read(limit).await? else { return Ok(None) };
            let records = records(&batch.records);
            let numbers = records.iter().flat_map(|record| [record.writer, record.sequence, record.hash]);
            let bytes: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
            let rows = u64::try_from(records.len()).unwrap_or(u64::MAX);
            let Batch { split, after, through, .. } = batch;
            Ok(Some(WireBatch { split, after, through, rows, bytes: vec![bytes.into()] }))
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        self.0.acknowledge(through)
    }
}

/// What a reader is given, in order: each record with its place and the position behind it.
struct Delivery {
    records: Vec<(u64, Row, Position)>,
    first: usize,
}

fn delivery(world: &mut Inner, split: &SplitId, after: Option<&Position>) -> Delivery {
    let rows = world.rows(split).to_vec();
    let each = (0_u64..).zip(rows);
    match world.plan.source {
        SourceKind::Log => {
            let records =
                each.map(|(place, row)| (place, row, position(place.saturating_add(1), 0))).collect();
            let first = after.map_or(0, |after| usize::try_from(numbers(after).0).unwrap_or(usize::MAX));
            Delivery { records, first }
        }
        SourceKind::Cursor => {
            let records: Vec<_> =
                each.map(|(place, row)| (place, row, position(row.cursor, place))).collect();
            let first = after.map_or(0, |after| {
                let is_passed = |at: &Position| match planted(Mistake::BareCursor) {
                    true => numbers(at).0 <= numbers(after).0,
                    false => at <= after,
                };
                records.partition_point(|(_, _, at)| is_passed(at))
            });
            Delivery { records, first }
        }
        SourceKind::Queue => {
            let session = world.session();
            let forgotten = world.forgotten.get(&split_number(split)).cloned().unwrap_or_default();
            let mut waiting: Vec<_> = each.filter(|(place, _)| !forgotten.contains(place)).collect();
            // Redelivered in another order.
            let mut random = Random::new(session ^ world.plan.seed);
            for last in (1..waiting.len()).rev() {
                let other = random.below(u64::try_from(last).unwrap_or(0).saturating_add(1));
                waiting.swap(last, usize::try_from(other).unwrap_or(0));
            }
            let records = (1_u64..).zip(waiting).map(|(n, (place, row))| (place, row, position(session, n)));
            Delivery { records: records.collect(), first: 0 }
        }
    }
}

struct Reader {
    process: Process,
    split: SplitId,
    order: Delivery,
    next: usize,
    stood: Option<Position>,
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            let is_queue =
                self.process.call(Site::Look, |world| world.plan.source == SourceKind::Queue).await?;
            let end = self.next.saturating_add(limit.records_max).min(self.order.records.len());
            let taken = self.order.records.get(self.next..end).unwrap_or_default();
            let Some((_, _, through)) = taken.last() else { return Ok(None) };
            let place = |place: u64, at: &Position| match is_queue {
                // A redelivered message stands at another place.
                true => numbers(at).0 << 32 | numbers(at).1,
                false => place,
            };
            if is_queue {
                let split = &self.split;
                let moved = taken.iter().map(|(at, _, behind)| {
                    (Place { split: split.clone(), ordinal: place(*at, behind) }, *at)
                });
                self.process.world.now().redelivered.extend(moved);
            }
            let good = taken.iter().filter(|(_, row, _)| !row.spoiled);
            let records: Vec<Record> = good.clone().map(|(_, row, _)| row.record).collect();
            let rejected = taken.iter().filter(|(_, row, _)| row.spoiled).map(|(at, _, behind)| Rejected {
                ordinal: place(*at, behind),
                code: Code(198),
                reason: "spoiled".to_owned(),
                id: is_queue.then(|| digest(format!("{} {at}", self.split).as_bytes())),
                raw: "?".to_owned(),
            });
            let batch = Batch {
                split: self.split.clone(),
                after: self.stood.clone(),
                through: through.clone(),
                records: columns(&records)?,
                ordinals: Ordinals::Each(good.map(|(at, _, behind)| place(*at, behind)).collect()),
                rejected: rejected.collect(),
                source_bytes: 0,
            };
            self.stood = Some(batch.through.clone());
            self.next = end;
            Ok(Some(batch))
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let through = through.get().clone();
            let passed = self.order.records.iter().filter(|(_, _, at)| *at <= through);
            let places: Vec<u64> = passed.map(|(place, _, _)| *place).collect();
            let number = split_number(&self.split);
            self.process
                .call(Site::Acknowledge, move |world| {
                    if world.plan.source == SourceKind::Queue {
                        world.forgotten.entry(number).or_default().extend(&places);
                    }
                    let split = u32::try_from(number).unwrap_or(u32::MAX);
                    world.log.events.push(Event::Acknowledged { split, places });
                })
                .await?;
            Ok(())
        })
    }
}
