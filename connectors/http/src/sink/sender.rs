//! Sends requests: those of one key one after the other, others at the same time, until each has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{Deadline, Sender, Sending, Sent};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hyper::header::HeaderMap;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode};

use super::crew::Crew;
use super::plan::{Parcel, Parcels, Plan};
use super::verdict::{Verdict, forbids, verdict};
use crate::client::{Answer, Host, Lost, Request, SHORT};
use crate::codes;
use crate::fault::{HostFault, WriteFault};

/// How often a request is tried before the engine looks.
const ATTEMPTS_MAX: u32 = 6;

/// How often, where whoever comes next holds what was announced and may have been sent.
const PATIENT_ATTEMPTS_MAX: u32 = 60;

/// The first wait before a request is sent again, doubled each time.
const BACKOFF_MS: u64 = 50;

/// The longest.
const BACKOFF_MAX_MS: u64 = 5_000;

/// Sends the records of one split.
#[derive(Clone)]
pub(super) struct Poster {
    pub host: Arc<Host>,
    pub plan: Arc<Plan>,
    pub concurrency: usize,
}

/// What a dead letter says beside the answer, of a record that replaces: what is there may be what it was refused for.
const IN_DOUBT: &str = " (an earlier attempt got no answer, and may have taken effect)";

/// How the records of a parcel ended.
enum Ended {
    Taken,
    Refused(Refusal),
    /// Nobody knows.
    Unknown,
}

/// Why records are refused.
struct Refusal {
    code: Code,
    reason: String,
    /// Whether an earlier attempt may have taken effect.
    in_doubt: bool,
}

impl Refusal {
    fn of(self, row: usize) -> RefusedRow {
        let doubt = if self.in_doubt { IN_DOUBT } else { "" };
        RefusedRow { row, code: self.code, reason: format!("{}{doubt}", self.reason) }
    }
}

/// One call.
struct Round {
    poster: Poster,
    deadline: Option<Deadline>,
    records: RecordBatch,
    /// What is sent, one lane after the other by whoever has nothing to do.
    lanes: Mutex<Lanes>,
    /// By the row that takes its place: what is sent only if the API refuses that one.
    older: HashMap<usize, Parcel>,
    /// One request failed: no other leaves any more.
    failed: AtomicBool,
}

/// Parcels that go one after the other, many times.
enum Lanes {
    /// Each parcel by itself.
    Single(std::vec::IntoIter<Parcel>),
    /// Some together.
    Lines(std::vec::IntoIter<Vec<Parcel>>),
}

impl Lanes {
    fn lines(lines: Vec<Vec<Parcel>>) -> Self {
        Self::Lines(lines.into_iter())
    }

    fn len(&self) -> usize {
        match self {
            Self::Single(all) => all.len(),
            Self::Lines(all) => all.len(),
        }
    }
}

/// A lane.
enum Lane {
    Single(Parcel),
    Line(Vec<Parcel>),
}

/// What a call made.
#[derive(Default)]
struct Made {
    refused: Vec<RefusedRow>,
    unknown: Vec<usize>,
    error: Option<SinkError>,
}

impl Poster {
    async fn deliver(&self, sending: Sending<'_>) -> Result<Sent, SinkError> {
        if sending.records.num_rows() == 0 {
            return Ok(Sent::default());
        }
        let Parcels { newest, older, refused } =
            self.plan.parcels(sending.records, sending.tokens, &self.host)?;
        let lanes = self.lanes(newest);
        let hands = self.concurrency.min(lanes.len());
        let round = Arc::new(Round {
            poster: self.clone(),
            deadline: sending.deadline.cloned(),
            records: sending.records.clone(),
            lanes: Mutex::new(lanes),
            older,
            failed: AtomicBool::new(false),
        });
        let mut crew = Crew::default();
        for _ in 0..hands {
            crew.add(Arc::clone(&round).work());
        }
        let mut made = Made { refused, ..Made::default() };
        // What is under way when one fails is waited for: what is given up may still arrive.
        while let Some(done) = crew.next().await {
            made.refused.extend(done.refused);
            made.unknown.extend(done.unknown);
            made.error = made.error.or(done.error);
        }
        if let Some(error) = made.error {
            return Err(error);
        }
        made.refused.sort_unstable_by_key(|refused| refused.row);
        made.unknown.sort_unstable();
        Ok(Sent { refused: made.refused, unknown: made.unknown })
    }

    /// Parcels that go one after the other.
    fn lanes(&self, parcels: Vec<Parcel>) -> Lanes {
        if let Some(records) = self.plan.batch {
            let mut batches: Vec<Parcel> = Vec::new();
            for mut parcel in parcels {
                match batches.last_mut().filter(|batch| batch.rows.len() < records) {
                    Some(batch) => {
                        batch.rows.append(&mut parcel.rows);
                        batch.bodies.append(&mut parcel.bodies);
                    }
                    None => batches.push(parcel),
                }
            }
            // A key that is in no two arrays has no order between them.
            return match self.plan.is_harmless() {
                true => Lanes::Single(batches.into_iter()),
                false => Lanes::lines(vec![batches]),
            };
        }
        if self.plan.only_last() {
            // One of each key is left.
            return Lanes::Single(parcels.into_iter());
        }
        let mut lanes: Vec<Vec<Parcel>> = Vec::with_capacity(parcels.len());
        let mut known: HashMap<usize, usize> = HashMap::with_capacity(parcels.len());
        for parcel in parcels {
            match known.get(&parcel.lane).and_then(|lane| lanes.get_mut(*lane)) {
                Some(lane) => lane.push(parcel),
                None => {
                    known.insert(parcel.lane, lanes.len());
                    lanes.push(vec![parcel]);
                }
            }
        }
        Lanes::lines(lanes)
    }

    /// Where the API is asked for each of some records: rows and paths.
    fn asked(&self, records: &RecordBatch) -> Vec<(usize, PathAndQuery)> {
        let Some(probe) = &self.plan.probe else { return Vec::new() };
        let Ok(paths) = probe.over(records) else { return Vec::new() };
        (0..records.num_rows()).filter_map(|row| Some((row, paths.of(row).ok()?))).collect()
    }

    /// Which records are there, where the API can be asked.
    async fn found(&self, records: &RecordBatch) -> Result<Vec<bool>, SinkError> {
        let mut found = vec![false; records.num_rows()];
        let paths = Arc::new(Mutex::new(self.asked(records).into_iter()));
        let mut crew = Crew::default();
        for _ in 0..self.concurrency {
            let (poster, paths) = (self.clone(), Arc::clone(&paths));
            crew.add(async move {
                let mut there = Vec::new();
                let next = || paths.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some((row, path)) = next() {
                    if poster.is_there(path).await? == Some(true) {
                        there.push(row);
                    }
                }
                Ok::<_, HostFault>(there)
            });
        }
        while let Some(there) = crew.next().await {
            for row in there? {
                if let Some(found) = found.get_mut(row) {
                    *found = true;
                }
            }
        }
        Ok(found)
    }

    /// Whether something is there; `None` if the API does not say.
    async fn is_there(&self, path: PathAndQuery) -> Result<Option<bool>, HostFault> {
        let host = &self.host;
        let headers = Arc::new(host.dressed(HeaderMap::new()));
        let request = Request { method: Method::GET, path, headers, body: None };
        let mut reason = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            let line = host.turn().await;
            let answer = host.send(&request, SHORT).await;
            drop(line);
            match answer {
                Ok(answer) if answer.status.is_success() => return Ok(Some(true)),
                Ok(answer) if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
                    return Ok(Some(false));
                }
                Ok(answer) if passes(answer.status) => {
                    reason = format!("HTTP status {}", answer.status.as_u16());
                    if let Some(pause) = answer.retry_after() {
                        host.pause(pause);
                    }
                }
                Ok(answer) if forbids(answer.status) => {
                    let status = answer.status.as_u16();
                    return Err(HostFault::WrongCredentials { place: host.place(), status });
                }
                Ok(_) => return Ok(None),
                Err(Lost::Never(fault)) => return Err(fault),
                Err(Lost::Unsent(why) | Lost::Unknown(why)) => reason = why,
                Err(Lost::Late) => {}
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        Err(HostFault::Gone { place: host.place(), reason })
    }

    fn attempts_max(&self) -> u32 {
        if self.plan.may_resend() { ATTEMPTS_MAX } else { PATIENT_ATTEMPTS_MAX }
    }
}

impl Round {
    /// Sends lanes until there are none, or one request failed.
    async fn work(self: Arc<Self>) -> Made {
        let mut made = Made::default();
        while let Some(lane) = self.next() {
            if let Err(error) = self.lane(lane, &mut made).await {
                self.failed.store(true, Ordering::Relaxed);
                made.error = Some(error);
            }
        }
        made
    }

    fn next(&self) -> Option<Lane> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        match &mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) {
            Lanes::Single(all) => all.next().map(Lane::Single),
            Lanes::Lines(all) => all.next().map(Lane::Line),
        }
    }

    /// Sends parcels one after the other.
    async fn lane(&self, lane: Lane, made: &mut Made) -> Result<(), SinkError> {
        let parcels = match lane {
            Lane::Single(parcel) => return self.parcel(parcel, made).await,
            Lane::Line(parcels) => parcels,
        };
        for parcel in parcels {
            if self.failed.load(Ordering::Relaxed) {
                break;
            }
            self.parcel(parcel, made).await?;
        }
        Ok(())
    }

    async fn parcel(&self, mut parcel: Parcel, made: &mut Made) -> Result<(), SinkError> {
        self.poster.plan.seal(&mut parcel)?;
        match self.request(&parcel, false).await? {
            Ended::Taken => {}
            Ended::Unknown => made.unknown.extend(parcel.rows),
            Ended::Refused(refusal) => match parcel.rows.as_slice() {
                [row] => self.refused_one(refusal.of(*row), made).await?,
                // Each by itself, to find those that are meant.
                _ => {
                    for (row, body) in parcel.rows.into_iter().zip(parcel.bodies) {
                        let request = Request { body: None, ..parcel.request.clone() };
                        let one = Parcel { rows: vec![row], bodies: vec![body], request, lane: 0 };
                        if let Some(refused) = self.alone(one, refusal.in_doubt, made).await? {
                            self.refused_one(refused, made).await?;
                        }
                    }
                }
            },
        }
        Ok(())
    }

    /// Sends one record by itself, which may have been sent in an array, and says whether it is refused.
    async fn alone(
        &self,
        mut one: Parcel,
        in_doubt: bool,
        made: &mut Made,
    ) -> Result<Option<RefusedRow>, SinkError> {
        self.poster.plan.seal(&mut one)?;
        let row = one.rows.first().copied().unwrap_or_default();
        Ok(match self.request(&one, in_doubt).await? {
            Ended::Taken => None,
            Ended::Unknown => {
                made.unknown.push(row);
                None
            }
            Ended::Refused(refusal) => Some(refusal.of(row)),
        })
    }

    /// A record is refused, and has taken no place: the one that it was to replace is sent, and so on.
    async fn refused_one(&self, refused: RefusedRow, made: &mut Made) -> Result<(), SinkError> {
        let mut next = Some(refused);
        while let Some(refused) = next.take() {
            let older = self.older.get(&refused.row).cloned();
            made.refused.push(refused);
            if let Some(older) = older {
                next = self.alone(older, false, made).await?;
            }
        }
        Ok(())
    }

    /// Sends one request until it is known how it ended, or nobody may ask again.
    async fn request(&self, parcel: &Parcel, mut in_doubt: bool) -> Result<Ended, SinkError> {
        let (host, plan) = (&self.poster.host, &self.poster.plan);
        let mut attempts = 0;
        loop {
            let line = host.turn().await;
            let sent = host.send_until(&parcel.request, SHORT, self.deadline.as_ref()).await;
            drop(line);
            attempts += 1;
            let is_last = attempts >= self.poster.attempts_max();
            match sent {
                Err(Lost::Never(fault)) => return Err(fault.into()),
                Err(Lost::Late) => return Err(WriteFault::Late { place: host.place() }.into()),
                Err(Lost::Unsent(reason)) if is_last => {
                    return Err(HostFault::Gone { place: host.place(), reason }.into());
                }
                Err(Lost::Unsent(_)) => {}
                Err(Lost::Unknown(reason)) => match self.in_doubt(parcel).await? {
                    Some(ended) => return Ok(ended),
                    None if is_last => {
                        return Err(HostFault::Gone { place: host.place(), reason }.into());
                    }
                    None => in_doubt = true,
                },
                Ok(answer) => match verdict(plan, &answer) {
                    Verdict::Taken => return Ok(Ended::Taken),
                    // What is refused now may be what took effect before.
                    Verdict::Refused | Verdict::Conflict if in_doubt => {
                        return self.doubted(parcel, &answer).await;
                    }
                    Verdict::Refused => return Ok(self.refused(&answer, false)),
                    Verdict::Conflict => return self.conflict(parcel, &answer).await,
                    Verdict::Stop(fault) => return Err(fault(host, &answer).into()),
                    Verdict::Forbidden => {
                        let status = answer.status.as_u16();
                        return Err(HostFault::WrongCredentials { place: host.place(), status }.into());
                    }
                    Verdict::Later if is_last => {
                        let status = answer.status.as_u16();
                        return Err(WriteFault::Busy { place: host.place(), status }.into());
                    }
                    Verdict::Later => {
                        // One that asks for no pause is not asked without one.
                        if let Some(pause) = answer.retry_after().filter(|pause| !pause.is_zero()) {
                            host.pause(pause);
                            continue;
                        }
                    }
                    Verdict::Unknown => match self.in_doubt(parcel).await? {
                        Some(ended) => return Ok(ended),
                        None if is_last => return Err(failed(host, &answer).into()),
                        None => in_doubt = true,
                    },
                },
            }
            tokio::time::sleep(backoff(attempts)).await;
        }
    }

    /// A request may have taken effect. `None` where it is sent again.
    async fn in_doubt(&self, parcel: &Parcel) -> Result<Option<Ended>, SinkError> {
        let plan = &self.poster.plan;
        if plan.is_harmless() {
            return Ok(None);
        }
        match self.probe(parcel).await? {
            Some(true) => Ok(Some(Ended::Taken)),
            // What is not there yet may be on its way still.
            _ if !plan.may_resend() => Ok(Some(Ended::Unknown)),
            _ => Ok(None),
        }
    }

    /// A request is refused whose first attempt may have taken effect. One that replaces may be refused for good and what it
    /// did before stays, which its letter says; of one that adds nobody knows, unless the API can be asked.
    async fn doubted(&self, parcel: &Parcel, answer: &Answer) -> Result<Ended, SinkError> {
        if self.poster.plan.is_harmless() {
            return Ok(self.refused(answer, true));
        }
        Ok(match self.probe(parcel).await? {
            Some(true) => Ended::Taken,
            _ => Ended::Unknown,
        })
    }

    /// The API says that something stands in the way. What is found by key may be an older value, and proves nothing.
    async fn conflict(&self, parcel: &Parcel, answer: &Answer) -> Result<Ended, SinkError> {
        if self.poster.plan.is_harmless() {
            return Ok(self.refused(answer, false));
        }
        match self.probe(parcel).await? {
            Some(true) => Ok(Ended::Taken),
            _ => Ok(self.refused(answer, false)),
        }
    }

    /// Whether the record of a request is there, if the API can be asked.
    async fn probe(&self, parcel: &Parcel) -> Result<Option<bool>, SinkError> {
        let (Some(probe), [row]) = (&self.poster.plan.probe, parcel.rows.as_slice()) else { return Ok(None) };
        let Ok(path) = probe.over(&self.records).and_then(|paths| paths.of(*row)) else { return Ok(None) };
        match self.poster.is_there(path).await {
            Err(HostFault::Gone { .. } | HostFault::WrongCredentials { .. }) => Ok(None),
            asked => Ok(asked?),
        }
    }

    fn refused(&self, answer: &Answer, in_doubt: bool) -> Ended {
        let (status, said) = (answer.status.as_u16(), self.poster.host.excerpt(answer));
        let reason = format!("HTTP status {status}: {said}");
        Ended::Refused(Refusal { code: codes::REFUSED, reason, in_doubt })
    }
}

fn failed(host: &Host, answer: &Answer) -> WriteFault {
    let (place, status) = (host.place(), answer.status.as_u16());
    WriteFault::Failed { place, status, said: host.excerpt(answer) }
}

/// Whether another answer may follow later.
fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 423 | 425 | 429)
}

fn backoff(attempts: u32) -> Duration {
    let wait = BACKOFF_MS.saturating_mul(1_u64.checked_shl(attempts.min(20)).unwrap_or(u64::MAX));
    Duration::from_millis(wait.min(BACKOFF_MAX_MS))
}

impl Sender for Poster {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending))
    }

    fn look<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Vec<bool>, SinkError> {
        Box::pin(self.found(sending.records))
    }
}
