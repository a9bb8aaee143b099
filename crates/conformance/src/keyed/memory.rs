//! The suite by a target in memory, right and with each mistake that it must find.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use futures::FutureExt;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CommitSize, Kept, Repeat, Sender, Sending, Sent, Shape, Sink, Target};
use hapax_engine::source::{Nothing, Source};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, Guard};
use hapax_protocol::position::SplitId;
use tokio::sync::Notify;

use super::Scene;
use crate::memory::Memory;

/// What is wrong with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Nothing.
    None,
    /// Each record is added.
    Inserts,
    /// Of a key that is in a batch twice both stay.
    TwinsOfABatch,
    /// Of a key that is in a batch twice the first stays.
    FirstOfABatch,
    /// A key that is there stays as it is.
    NeverReplaces,
    /// Batches are applied backwards.
    Backwards,
    /// It says that it has a guard, and has none.
    NoGuard,
    /// What is older is refused as if it were wrong.
    OlderIsRefused,
    /// One refused record refuses its batch.
    AllOrNothing,
    /// What does not fit is left out and nobody is told.
    Silent,
    /// A replay replaces.
    ReplayReplaces,
    /// It is another destination each time it is opened.
    Forgets,
    /// Removing removes all.
    RemovesAll,
}

type Rows = Arc<Mutex<Vec<(i64, i64, String)>>>;

struct InMemory {
    flaw: Flaw,
    guard: Guard,
    rows: Mutex<BTreeMap<String, Rows>>,
    road: Arc<Road>,
}

/// Where requests are held back.
#[derive(Default)]
struct Road {
    holds: Mutex<bool>,
    held: Mutex<Option<RecordBatch>>,
    reached: Notify,
}

impl InMemory {
    fn new(flaw: Flaw, guard: Guard) -> Self {
        Self { flaw, guard, rows: Mutex::default(), road: Arc::default() }
    }

    fn rows(&self, name: &str) -> Rows {
        Arc::clone(self.rows.lock().unwrap().entry(name.to_owned()).or_default())
    }

    fn table(&self, name: &str, removes: bool) -> Table {
        if self.flaw == Flaw::Forgets {
            self.rows(name).lock().unwrap().clear();
        }
        let (rows, road) = (self.rows(name), Arc::clone(&self.road));
        Table { flaw: self.flaw, guard: self.guard, rows, road, removes }
    }

    fn kept(&self, name: &str, removes: bool) -> Sink {
        let target = Arc::new(self.table(name, removes));
        Sink::Kept(Kept { target, keeper: Arc::new(Memory::default()) })
    }
}

impl Scene for InMemory {
    async fn open(&self, name: &str) -> Sink {
        self.kept(name, false)
    }

    async fn state(&self, name: &str) -> Vec<(i64, String)> {
        self.rows(name).lock().unwrap().iter().map(|(id, _, text)| (*id, text.clone())).collect()
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    fn unfit(&self) -> Option<String> {
        Some("unfit".to_owned())
    }

    async fn removing(&self, name: &str) -> Option<Sink> {
        Some(self.kept(name, true))
    }

    async fn hold_back(&self, _: &str) -> bool {
        *self.road.holds.lock().unwrap() = true;
        true
    }

    async fn held(&self, _: &str) {
        self.road.reached.notified().await;
    }

    async fn let_go(&self, name: &str) {
        let late = self.road.held.lock().unwrap().take().unwrap();
        Table {
            flaw: self.flaw,
            guard: self.guard,
            rows: self.rows(name),
            road: Arc::clone(&self.road),
            removes: false,
        }
        .apply(&late, false);
    }
}

#[derive(Clone)]
struct Table {
    flaw: Flaw,
    guard: Guard,
    rows: Rows,
    road: Arc<Road>,
    removes: bool,
}

impl Table {
    fn apply(&self, records: &RecordBatch, absent: bool) -> Vec<RefusedRow> {
        let wrong = |row, reason: &str| RefusedRow { row, code: Code(1), reason: reason.to_owned() };
        let ids = records.column_by_name("id").unwrap().as_primitive::<Int64Type>();
        let versions = records.column_by_name("version").map(|column| column.as_primitive::<Int64Type>());
        let texts = records.column_by_name("text").unwrap().as_string::<i32>();
        let mut table = self.rows.lock().unwrap();
        let (before, there) = (table.clone(), table.len());
        let mut refused = Vec::new();
        let mut order: Vec<usize> = (0..records.num_rows()).collect();
        if self.flaw == Flaw::Backwards {
            order.reverse();
        }
        for row in order {
            if ids.is_null(row) || texts.value(row) == "unfit" {
                if self.flaw != Flaw::Silent {
                    refused.push(wrong(row, "does not fit"));
                }
                continue;
            }
            let (id, text) = (ids.value(row), texts.value(row).to_owned());
            let version = versions.map_or(0, |versions| versions.value(row));
            if self.removes {
                table.retain(|(other, _, _)| *other != id && self.flaw != Flaw::RemovesAll);
                continue;
            }
            let at = table.iter().position(|(other, _, _)| *other == id);
            let at = match self.flaw {
                Flaw::Inserts => None,
                Flaw::TwinsOfABatch => at.filter(|at| *at < there),
                _ => at,
            };
            match at {
                None => table.push((id, version, text)),
                Some(_) if absent && self.flaw != Flaw::ReplayReplaces => {
                    refused.push(RefusedRow::key_is_there(row));
                }
                Some(_) if self.flaw == Flaw::NeverReplaces => {}
                Some(at) if self.flaw == Flaw::FirstOfABatch && at >= there => {}
                Some(at)
                    if self.guard == Guard::Version
                        && table[at].1 > version
                        && self.flaw != Flaw::NoGuard =>
                {
                    if self.flaw == Flaw::OlderIsRefused {
                        refused.push(wrong(row, "older"));
                    }
                }
                Some(at) => table[at] = (id, version, text),
            }
        }
        if self.flaw == Flaw::AllOrNothing && !refused.is_empty() {
            *table = before;
        }
        refused.sort_by_key(|refused| refused.row);
        refused
    }
}

impl Target for Table {
    fn repeat(&self) -> Repeat {
        Repeat::Replaces { guard: self.guard }
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 1_000, bytes_max: 1 << 20, interval_ms: 50 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(std::future::ready(Ok(vec!["write to memory".to_owned()])))
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
        Box::pin(std::future::ready(Ok(nothing)))
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let sender: Box<dyn Sender> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(sender)))
    }
}

impl Sender for Table {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(async move {
            if std::mem::take(&mut *self.road.holds.lock().unwrap()) {
                *self.road.held.lock().unwrap() = Some(sending.records.clone());
                self.road.reached.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(Sent { refused: self.apply(sending.records, false), unknown: Vec::new() })
        })
    }

    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        let refused = self.apply(sending.records, true);
        Box::pin(std::future::ready(Ok(Sent { refused, unknown: Vec::new() })))
    }
}

#[tokio::test]
async fn a_right_target_passes() {
    for guard in [Guard::None, Guard::Version] {
        super::suite(&InMemory::new(Flaw::None, guard)).await;
    }
}

#[tokio::test]
async fn each_mistake_is_found() {
    let everywhere = [
        Flaw::Inserts,
        Flaw::TwinsOfABatch,
        Flaw::FirstOfABatch,
        Flaw::NeverReplaces,
        Flaw::AllOrNothing,
        Flaw::Silent,
        Flaw::ReplayReplaces,
        Flaw::Forgets,
        Flaw::RemovesAll,
    ];
    let unguarded = everywhere.into_iter().chain([Flaw::Backwards]).map(|flaw| (flaw, Guard::None));
    let guarded = everywhere.into_iter().chain([Flaw::NoGuard, Flaw::OlderIsRefused]);
    for (flaw, guard) in unguarded.chain(guarded.map(|flaw| (flaw, Guard::Version))) {
        let scene = InMemory::new(flaw, guard);
        let ended = AssertUnwindSafe(super::suite(&scene)).catch_unwind().await;
        assert!(ended.is_err(), "{flaw:?} with {guard:?} passes");
    }
}
