//! The writer of one split. It holds what is open in memory; a commit is one call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Arrival, CoCommit, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use redis::{RedisError, Value};

use super::open::{Committer, Open, Record};
use super::plan::{Plan, kind};
use super::state::{self, Keys};
use super::{Store, history};
use crate::client::{Session, bytes, list, number, text};
use crate::codes;
use crate::config::Write;
use crate::fault::{ServerFault, WriteFault};
use crate::ledger::Spot;

/// How much one call may carry, in bytes. A server takes 1 GiB from a client.
const CALL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How many identities, or keys, one command names.
const ASK_MAX: usize = 1_000;

/// A split that was taken over.
struct Hold {
    session: Session,
    keys: Keys,
    lease: Lease,
    holder: String,
    take: u64,
    number: u32,
    stood: Standing,
}

/// Writes one split.
pub(crate) struct SplitWriter {
    store: Arc<Store>,
    split: SplitId,
    /// `None` before a take-over, after a failure, and while a call is on its way: a future that was dropped leaves
    /// nothing that could go on.
    hold: Option<Hold>,
    open: Open,
}

impl SplitWriter {
    pub(crate) fn new(store: Arc<Store>, split: SplitId) -> Self {
        Self { store, split, hold: None, open: Open::default() }
    }

    fn not_held(&self) -> SinkError {
        WriteFault::NotHeld { split: self.split.clone() }.into()
    }

    fn plan(&self) -> Result<Arc<Plan>, SinkError> {
        let unprepared = || WriteFault::Config("it was not prepared before it was written to".into()).into();
        self.store.plan().ok_or_else(unprepared)
    }

    async fn seize(&mut self, lease: &Lease) -> Result<Standing, SinkError> {
        // What a connection before was told may be on its way still: a new one takes over, and that one is refused.
        let (mut session, keys) = self.store.enter(&lease.pipeline).await?;
        self.store.refuse_unfit(&session)?;
        match state::take(&mut session, &keys, lease, &self.split).await? {
            Err(by) => Err(fenced(lease, by).into()),
            Ok(taken) => {
                let holder = history::holder(&mut session, &keys).await?;
                let (lease, stood) = (lease.clone(), taken.standing.clone());
                let (take, number) = (taken.take, taken.number);
                self.hold = Some(Hold { session, keys, lease, holder, take, number, stood });
                Ok(taken.standing)
            }
        }
    }

    /// Who claimed these identities, as far as commits took effect.
    async fn claimants(&mut self, arrivals: &[Arrival]) -> Result<HashMap<RecordId, Place>, SinkError> {
        let doing = "looking identities up";
        let mut hold = self.hold.take().ok_or_else(|| self.not_held())?;
        let mut known: HashMap<RecordId, Spot> = HashMap::new();
        for arrivals in arrivals.chunks(ASK_MAX) {
            let keys: Vec<Vec<u8>> = arrivals.iter().map(|arrival| hold.keys.claim(&arrival.id)).collect();
            let found = hold.session.ask(doing, redis::cmd("MGET").arg(keys)).await?;
            let spots = arrivals.iter().zip(list(&found));
            known.extend(spots.filter_map(|(arrival, spot)| Some((arrival.id, Spot::decode(bytes(spot)?)?))));
        }
        let mut numbers: Vec<u32> = known.values().map(|spot| spot.split).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut names: HashMap<u32, SplitId> = HashMap::new();
        if !numbers.is_empty() {
            let ask = hold
                .session
                .ask(doing, redis::cmd("HMGET").arg(hold.keys.of("split-names")).arg(&numbers))
                .await?;
            names.extend(
                numbers.iter().zip(list(&ask)).filter_map(|(n, name)| Some((*n, SplitId::new(text(name)?)))),
            );
        }
        let mut places = HashMap::with_capacity(known.len());
        for (id, spot) in known {
            let split = names.get(&spot.split).cloned().ok_or_else(|| hold.session.misunderstood(doing))?;
            places.insert(id, Place { split, ordinal: spot.ordinal });
        }
        self.hold = Some(hold);
        Ok(places)
    }

    /// What stands at keys. Looked at before a commit only where one was refused because of it, or a record must not
    /// take another's place.
    async fn found(&mut self, keys: &[&[u8]]) -> Result<Vec<String>, SinkError> {
        let doing = "looking at keys";
        let mut hold = self.hold.take().ok_or_else(|| self.not_held())?;
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(ASK_MAX) {
            let mut ask = redis::pipe();
            for key in keys {
                ask.cmd("TYPE").arg(*key);
            }
            let answers = hold.session.all(doing, &ask).await?;
            found.extend(answers.iter().map(|answer| text(answer).unwrap_or_default()));
        }
        self.hold = Some(hold);
        Ok(found)
    }

    async fn put(&mut self, records: &RecordBatch, absent: bool) -> Result<Vec<RefusedRow>, SinkError> {
        let plan = self.plan()?;
        if self.hold.is_none() {
            return Err(self.not_held());
        }
        let encoded = plan.encode(records).map_err(|error| WriteFault::Config(error.to_string()))?;
        let mut refused = Vec::new();
        let mut rows = Vec::with_capacity(encoded.len());
        for (row, encoded) in encoded.into_iter().enumerate() {
            match encoded {
                Ok((key, encoded)) => rows.push((row, Record { key, encoded, absent })),
                Err(row) => refused.push(row),
            }
        }
        let by_key = plan.write != Write::Stream;
        if by_key && (absent || self.store.looks_first.load(Ordering::Relaxed)) {
            let keys: Vec<&[u8]> = rows.iter().map(|(_, record)| record.key.as_slice()).collect();
            let found = self.found(&keys).await?;
            let mut found = found.into_iter();
            rows.retain(|(row, record)| {
                let found = found.next().unwrap_or_default();
                if found != "none" && found != kind(plan.write) {
                    refused.push(wrong_type(*row, &record.key, &found, kind(plan.write)));
                    return false;
                }
                // An earlier row of this call counts, too: it is not open yet.
                if absent && found != "none" {
                    refused.push(RefusedRow::key_is_there(*row));
                    return false;
                }
                true
            });
        }
        for (row, record) in rows {
            if by_key && absent && self.open.has(&record.key) {
                refused.push(RefusedRow::key_is_there(row));
                continue;
            }
            self.open.add(plan.write, record);
        }
        if self.open.bytes() > CALL_BYTES_MAX {
            let (bytes, bytes_max) = (self.open.bytes(), CALL_BYTES_MAX);
            return Err(WriteFault::TooLarge { split: self.split.clone(), bytes, bytes_max }.into());
        }
        refused.sort_by_key(|refused| refused.row);
        Ok(refused)
    }

    /// What the script said, if it said something.
    fn answered(&self, hold: &Hold, answer: &Value) -> Result<(), CommitError> {
        let split = self.split.clone();
        let words: Vec<String> = list(answer).iter().filter_map(text).collect();
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let fault = match word(0) {
            "done" => return Ok(()),
            "fenced" => {
                let by = list(answer).get(1).and_then(number).unwrap_or(0);
                fenced(&hold.lease, FencingToken::new(by))
            }
            "diverged" => WriteFault::Diverged { split },
            "retaken" => WriteFault::Retaken { split },
            "claimed" => WriteFault::Overtaken {
                split,
                reason: "an identity was claimed by another split meanwhile".into(),
            },
            "there" => {
                WriteFault::Overtaken { split, reason: format!("key {:?} appeared meanwhile", word(1)) }
            }
            "type" => {
                let wanted = self.store.plan().map_or("", |plan| kind(plan.write));
                // From now on keys are looked at while there is time to set their records aside.
                let looked = self.store.looks_first.swap(true, Ordering::Relaxed);
                let is_stream = wanted == "stream";
                match looked || is_stream {
                    true => WriteFault::WrongType { key: word(1).into(), found: word(2).into(), wanted },
                    false => {
                        let reason = format!("key {:?} is a {}, not a {wanted}", word(1), word(2));
                        WriteFault::Overtaken { split, reason }
                    }
                }
            }
            _ => return Err(self.unknown(hold.session.misunderstood("committing"))),
        };
        Err(CommitError::Refused(fault.into()))
    }

    /// What became of a commit that was not answered by the script.
    fn unanswered(&self, hold: &Hold, source: RedisError) -> CommitError {
        let refused = says_no(&source);
        let fault = hold.session.fault("committing", source);
        if refused { CommitError::Refused(fault.into()) } else { self.unknown(fault) }
    }

    fn unknown(&self, source: ServerFault) -> CommitError {
        let source = Box::new(source);
        CommitError::Unknown(SinkError::unavailable(WriteFault::CommitUnknown {
            split: self.split.clone(),
            source,
        }))
    }
}

/// Whether the server refused a call before the script wrote anything. What a script that runs is told does not count:
/// it is looked up.
fn says_no(source: &RedisError) -> bool {
    const BEFORE: [&str; 14] = [
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "READONLY",
        "NOAUTH",
        "NOPERM",
        "LOADING",
        "BUSY",
        "MOVED",
        "ASK",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "TRYAGAIN",
        "CROSSSLOT",
    ];
    source.code().is_some_and(|code| BEFORE.contains(&code))
}

fn wrong_type(row: usize, key: &[u8], found: &str, wanted: &str) -> RefusedRow {
    let key = String::from_utf8_lossy(key);
    let reason = format!("key {key:?} is there and is a {found}, not a {wanted}: it was left as it is");
    RefusedRow { row, code: codes::WRONG_TYPE, reason }
}

fn fenced(lease: &Lease, by: FencingToken) -> WriteFault {
    WriteFault::Fenced { pipeline: lease.pipeline.to_string(), token: lease.token.get(), by: by.get() }
}

impl Writer for SplitWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            (self.hold, self.open) = (None, Open::default());
            self.seize(lease).await
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let known = self.claimants(arrivals).await?;
            Ok(self.open.claim(&self.split, arrivals, &known))
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        self.open.withdraw(arrivals);
        Box::pin(std::future::ready(Ok(())))
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(self.put(records, false))
    }

    fn write_absent<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(self.put(records, true))
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        self.open.set_aside(letters);
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        self.open.settle(places, settlement);
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        self.open = Open::default();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl CoCommit for SplitWriter {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let mut hold = self.hold.take().ok_or_else(|| CommitError::Refused(self.not_held()))?;
            let open = std::mem::take(&mut self.open);
            let plan = self.store.plan();
            let committer = Committer {
                keys: &hold.keys,
                split: &self.split,
                lease: &hold.lease,
                holder: &hold.holder,
                take: hold.take,
                number: hold.number,
                stood: &hold.stood,
                plan: plan.as_deref(),
                ledger: self.store.settings.ledger,
            };
            let call = open.call(&committer, checkpoint);
            drop(open);
            match hold.session.tell(&call).await {
                Ok(answer) => self.answered(&hold, &answer)?,
                Err(source) => return Err(self.unanswered(&hold, source)),
            }
            hold.stood = checkpoint.standing();
            self.hold = Some(hold);
            Ok(())
        })
    }
}
