//! The suite by a target in memory, right and with each mistake that it must find.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use futures::FutureExt;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CommitSize, Past, Repeat, Sender, Sending, Sent, Shape, Target};
use hapax_engine::source::{Nothing, Source};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, InDoubt, Window};
use hapax_protocol::position::SplitId;

use super::{Arrived, Scene};

/// What is wrong with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// A repeat is added, whatever it says.
    Adds,
    /// Only the sender that sent a record drops its repeat.
    DropsItsOwn,
    /// A repeat has a token of its own.
    NewTokens,
    /// All have the same token.
    OneToken,
    /// The last one is sent first.
    Backwards,
    /// Other content under a token is dropped as if it were a repeat.
    Unseen,
    /// One refused record refuses its batch.
    AllOrNothing,
    /// What does not fit is left out and nobody is told.
    Silent,
    /// What was being sent when it was given up counts as sent.
    GivenUpIsDone,
    /// A replay goes in whatever is there.
    ReplayAdds,
    /// Readers are not told to drop repeats.
    Mute,
}

type Rows = Arc<Mutex<Vec<Arrived>>>;

struct InMemory {
    flaw: Flaw,
    repeat: Repeat,
    rows: Mutex<BTreeMap<String, Rows>>,
}

impl Scene for InMemory {
    async fn open(&self, name: &str) -> Arc<dyn Target> {
        let rows = Arc::clone(self.rows.lock().unwrap().entry(name.to_owned()).or_default());
        Arc::new(Table { flaw: self.flaw, repeat: self.repeat, rows })
    }

    async fn state(&self, name: &str) -> Vec<Arrived> {
        self.rows.lock().unwrap().get(name).map(|rows| rows.lock().unwrap().clone()).unwrap_or_default()
    }

    fn unfit(&self) -> Option<String> {
        Some("unfit".to_owned())
    }
}

#[derive(Clone)]
struct Table {
    flaw: Flaw,
    repeat: Repeat,
    rows: Rows,
}

impl Target for Table {
    fn repeat(&self) -> Repeat {
        self.repeat
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn readers(&self) -> Option<String> {
        (self.flaw != Flaw::Mute).then(|| "they drop repeats".to_owned())
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 10, bytes_max: 10, interval_ms: 10 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(std::future::ready(Ok(vec!["send".to_owned()])))
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
        Box::pin(std::future::ready(Ok(nothing)))
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let sender: Box<dyn Sender> = Box::new(Pen { table: self.clone(), sent: Vec::new() });
        Box::pin(std::future::ready(Ok(sender)))
    }
}

struct Pen {
    table: Table,
    /// The tokens of what this one sent, or began to.
    sent: Vec<String>,
}

impl Pen {
    fn put(&mut self, one: Arrived, row: usize, absent: bool) -> Option<RefusedRow> {
        let flaw = self.table.flaw;
        let mut rows = self.table.rows.lock().unwrap();
        let known = rows.iter().find(|known| known.token == one.token).cloned();
        let own = self.sent.contains(&one.token);
        match (self.table.repeat, known) {
            _ if absent && flaw == Flaw::ReplayAdds => rows.push(one),
            (Repeat::Adds { .. }, _) if absent => return Some(RefusedRow::key_is_there(row)),
            (Repeat::Adds { .. }, _) | (_, None) => rows.push(one),
            (..) if flaw == Flaw::Adds || (flaw == Flaw::DropsItsOwn && !own) => rows.push(one),
            (Repeat::Refused { .. }, Some(known)) if known.text != one.text && flaw != Flaw::Unseen => {
                return Some(RefusedRow::key_is_there(row));
            }
            _ => {}
        }
        None
    }

    async fn deliver(&mut self, sending: Sending<'_>, absent: bool) -> Result<Sent, SinkError> {
        let flaw = self.table.flaw;
        let ids = sending.records.column(0).as_primitive::<Int64Type>();
        let texts = sending.records.column(1).as_string::<i32>();
        let mut sent = Sent::default();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        if flaw == Flaw::Backwards {
            order.reverse();
        }
        let fits = |row: usize| ids.is_valid(row) && texts.value(row) != "unfit";
        for row in order {
            if row % 50 == 49 {
                tokio::task::yield_now().await;
            }
            let token = match flaw {
                Flaw::OneToken => "one".to_owned(),
                Flaw::NewTokens => {
                    format!("{} {}", sending.tokens[row], self.table.rows.lock().unwrap().len())
                }
                _ => sending.tokens[row].to_string(),
            };
            if flaw == Flaw::GivenUpIsDone && row == 0 && self.sent.contains(&token) && ids.len() == 400 {
                return Ok(sent);
            }
            if !fits(row) || (flaw == Flaw::AllOrNothing && (0..ids.len()).any(|row| !fits(row))) {
                let reason = "it does not fit".to_owned();
                sent.refused.push(RefusedRow { row, code: Code(799), reason });
                continue;
            }
            let one = Arrived { id: ids.value(row), text: texts.value(row).to_owned(), token: token.clone() };
            sent.refused.extend(self.put(one, row, absent));
            self.sent.push(token);
        }
        if flaw == Flaw::Silent {
            sent.refused.clear();
        }
        sent.refused.sort_by_key(|refused| refused.row);
        Ok(sent)
    }
}

impl Sender for Pen {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending, false))
    }

    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending, true))
    }
}

const ADDS: Repeat = Repeat::Adds { in_doubt: InDoubt::Resend };
const REFUSED: Repeat = Repeat::Refused { for_good: true };
const DROPPED: Repeat =
    Repeat::Dropped { window: Window(100_000), under_way: Window(1_000), past: Past::Stop };

async fn passes(flaw: Flaw, repeat: Repeat) -> bool {
    let scene = InMemory { flaw, repeat, rows: Mutex::default() };
    AssertUnwindSafe(super::suite(&scene)).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn the_right_ones_pass_and_each_mistake_is_found() {
    for repeat in [ADDS, REFUSED, DROPPED] {
        assert!(passes(Flaw::None, repeat).await, "{repeat:?}");
        for flaw in [Flaw::Backwards, Flaw::AllOrNothing, Flaw::Silent, Flaw::OneToken, Flaw::GivenUpIsDone] {
            assert!(!passes(flaw, repeat).await, "{flaw:?} of {repeat:?} passed");
        }
    }
    for repeat in [REFUSED, DROPPED] {
        for flaw in [Flaw::Adds, Flaw::DropsItsOwn, Flaw::ReplayAdds] {
            assert!(!passes(flaw, repeat).await, "{flaw:?} of {repeat:?} passed");
        }
    }
    for (flaw, repeat) in
        [(Flaw::NewTokens, ADDS), (Flaw::Mute, ADDS), (Flaw::ReplayAdds, ADDS), (Flaw::Unseen, REFUSED)]
    {
        assert!(!passes(flaw, repeat).await, "{flaw:?} of {repeat:?} passed");
    }
}
