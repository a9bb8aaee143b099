//! Sends records: the last version of each key, and never two of one key at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{Sender, Sending, Sent};
use hapax_engine::transform::RefusedRow;
use tokio::task::JoinSet;

use super::entities::Entities;
use super::plan::Plan;
use crate::client::{Address, Line};
use crate::codes;
use crate::collection::Key;
use crate::fault::WriteFault;
use crate::proto::{self, Scalar};

/// How large a request is. The server cuts it into pieces itself, and takes 64 MiB at most.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many entities a request has.
const REQUEST_ROWS_MAX: usize = 10_000;

/// How many keys one expression names, and about how many bytes they have: one may have 65,535.
const KEYS_MAX: usize = 1_000;
const KEYS_BYTES_MAX: usize = 1024 * 1024;

/// How many requests are on their way at once. No two of them have a key in common.
const UNDER_WAY_MAX: usize = 2;

/// How long a rate that is used up is waited for, each time.
const WAITS_MS: [u64; 8] = [250, 500, 1_000, 2_000, 4_000, 4_000, 8_000, 8_000];

/// Sends the records of one split.
pub(super) struct Upserter {
    line: Line,
    plan: Arc<Plan>,
    /// Whether the server has taken an entity of it.
    has_sent: bool,
}

impl Upserter {
    pub(super) async fn begin(address: &Address, plan: Arc<Plan>) -> Result<Self, SinkError> {
        Ok(Self { line: address.connect().await?, plan, has_sent: false })
    }

    async fn deliver(&mut self, records: &RecordBatch, absent: bool) -> Result<Sent, SinkError> {
        let mut entities = Entities::read(&self.plan, records).map_err(WriteFault::Arrow)?;
        if let (false, Some((field, wanted, found))) = (self.has_sent, entities.misfit.take()) {
            let number = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
            let collection = self.plan.collection.name.clone();
            let (wanted, found) = (number(wanted), number(found));
            return Err(WriteFault::Dimension { collection, field, wanted, found }.into());
        }
        let mut refused = std::mem::take(&mut entities.refused);
        let rows = match absent {
            true => self.absent(&entities, &mut refused).await?,
            false => last_of_each(&entities),
        };
        let is_delete = |row: &usize| entities.deletes.get(*row) == Some(&true);
        let (deletes, upserts): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(is_delete);
        let keys: Vec<&Key> = deletes.iter().filter_map(|row| entities.keys.get(*row)?.as_ref()).collect();
        for keys in named_at_once(&keys, |key| key) {
            let collection = &self.plan.collection;
            let expr = collection.one_of(keys.iter().copied());
            sent(self.line.clone(), collection.name.clone(), Request::Delete { expr }).await?;
        }
        self.upsert(&entities, &upserts).await?;
        self.has_sent |= !upserts.is_empty();
        refused.sort_unstable_by_key(|refused| refused.row);
        Ok(Sent { refused, unknown: Vec::new() })
    }

    async fn upsert(&self, entities: &Entities, rows: &[usize]) -> Result<(), SinkError> {
        let mut under_way: JoinSet<Result<(), SinkError>> = JoinSet::new();
        let (mut rest, mut failed) = (rows, None);
        loop {
            if rest.is_empty() || under_way.len() >= UNDER_WAY_MAX {
                match under_way.join_next().await {
                    Some(Ok(Ok(()))) => {}
                    // The others are waited for: one that was given up could be carried out behind a newer value of its
                    // key, which the next attempt may send.
                    Some(Ok(Err(error))) => {
                        failed.get_or_insert(error);
                        rest = &[];
                    }
                    Some(Err(defect)) => std::panic::resume_unwind(defect.into_panic()),
                    None => return failed.map_or(Ok(()), Err),
                }
                continue;
            }
            let (now, later) = rest.split_at(request(entities, rest));
            rest = later;
            let fields = entities.fields(&self.plan, now);
            let request = Request::Upsert { rows: now.len(), fields };
            under_way.spawn(sent(self.line.clone(), self.plan.collection.name.clone(), request));
        }
    }

    /// The rows whose key is neither there nor in a row before; the others are refused.
    async fn absent(
        &self,
        entities: &Entities,
        refused: &mut Vec<RefusedRow>,
    ) -> Result<Vec<usize>, SinkError> {
        let collection = &self.plan.collection;
        let keyed: Vec<(usize, &Key)> = keyed(entities).collect();
        let mut there: HashSet<Key> = HashSet::new();
        for some in named_at_once(&keyed, |(_, key)| key) {
            let expr = collection.one_of(some.iter().map(|(_, key)| *key));
            let mut line = self.line.clone();
            let fields = line.query(&collection.name, expr, vec![collection.key.name.clone()], None).await?;
            there.extend(fields.into_iter().flat_map(keys_in));
        }
        let mut rows = Vec::new();
        for (row, key) in keyed {
            match there.insert(key.clone()) {
                true => rows.push(row),
                false => refused.push(RefusedRow::key_is_there(row)),
            }
        }
        Ok(rows)
    }
}

/// How many of these rows go into one request.
fn request(entities: &Entities, rows: &[usize]) -> usize {
    let mut bytes = 0_usize;
    let fit = rows.iter().take(REQUEST_ROWS_MAX).take_while(|row| {
        bytes = bytes.saturating_add(entities.bytes(**row));
        bytes <= REQUEST_BYTES_MAX
    });
    fit.count().max(1)
}

/// Cuts keys into pieces of which each fits into one expression.
fn named_at_once<T>(mut rest: &[T], key: impl Fn(&T) -> &Key) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fit = rest.iter().take(KEYS_MAX).take_while(|one| {
            bytes = bytes.saturating_add(match key(one) {
                Key::Int(_) => 20,
                Key::Text(text) => text.len(),
            });
            bytes <= KEYS_BYTES_MAX
        });
        let (now, later) = rest.split_at_checked(fit.count().max(1))?;
        rest = later;
        Some(now)
    })
}

/// What is asked of the server.
enum Request {
    Upsert { rows: usize, fields: Vec<proto::FieldData> },
    Delete { expr: String },
}

/// Sends a request, and again where the server refused it because a rate was used up: then nothing took effect.
async fn sent(mut line: Line, collection: String, request: Request) -> Result<(), SinkError> {
    let mut waits = WAITS_MS.into_iter();
    loop {
        let ended = match &request {
            Request::Upsert { rows, fields } => upserted(&mut line, &collection, *rows, fields.clone()).await,
            Request::Delete { expr } => line.delete(&collection, expr.clone()).await.map_err(Into::into),
        };
        match (ended, waits.next()) {
            (Err(error), Some(wait_ms)) if error.fault.code() == codes::QUOTA => {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            (ended, _) => return ended,
        }
    }
}

async fn upserted(
    line: &mut Line,
    collection: &str,
    rows: usize,
    fields: Vec<proto::FieldData>,
) -> Result<(), SinkError> {
    let said = match line.upsert(collection, rows, fields).await {
        Err(fault) if fault.is_refusal() => fault.to_string(),
        Err(fault) => return Err(fault.into()),
        Ok(answer) if !answer.err_index.is_empty() => format!("{} of them failed", answer.err_index.len()),
        Ok(answer) if usize::try_from(answer.upsert_cnt) != Ok(rows) => {
            format!("it took {}", answer.upsert_cnt)
        }
        Ok(_) => return Ok(()),
    };
    Err(WriteFault::NotTaken { collection: collection.to_owned(), rows, said }.into())
}

fn keyed(entities: &Entities) -> impl Iterator<Item = (usize, &Key)> {
    entities.keys.iter().enumerate().filter_map(|(row, key)| Some((row, key.as_ref()?)))
}

/// Two versions of a key in one request would both stay, and the older one be found.
fn last_of_each(entities: &Entities) -> Vec<usize> {
    let last: HashMap<&Key, usize> = keyed(entities).map(|(row, key)| (key, row)).collect();
    let mut rows: Vec<usize> = last.into_values().collect();
    rows.sort_unstable();
    rows
}

/// The keys that an answer holds, whose one field is the key.
fn keys_in(field: proto::FieldData) -> Vec<Key> {
    match field.field {
        Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Longs(longs)), .. })) => {
            longs.data.into_iter().map(Key::Int).collect()
        }
        Some(proto::Field::Scalars(proto::Scalars { data: Some(Scalar::Texts(texts)), .. })) => {
            texts.data.into_iter().map(Key::Text).collect()
        }
        _ => Vec::new(),
    }
}

impl Sender for Upserter {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending.records, false))
    }

    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending.records, true))
    }
}
